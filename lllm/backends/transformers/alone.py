"""One request at a time, by the library's own `generate`: for models and options that our batches do not decode."""

from __future__ import annotations

import threading
from typing import Any, Final

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.generation.stopping_criteria import StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from lllm.backends.transformers.faults import fault
from lllm.backends.transformers.load import Loaded
from lllm.backends.transformers.row import DONE, Row
from lllm.backends.transformers.sampling import entry, logprobs, lower, processors
from lllm.errors import (
    BadRequestError,
    ConfigError,
    LLMInferenceError,
    ProviderError,
    UnknownKeyError,
    UnsupportedError,
)

_OURS: Final = {
    # what has a sampling key of ours
    "max_new_tokens": "max_tokens",
    "max_length": "max_tokens",
    "stop_strings": "stop",
    "output_logits": "logprobs",
    "output_scores": "logprobs",
    "do_sample": "temperature",
    **{name: name for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")},
}
_NONE: Final = ("num_return_sequences", "return_dict_in_generate", "eos_token_id", "pad_token_id", "streamer")

_NEUTRAL: Final = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": None}


def check(options: dict[str, Any]) -> None:
    """Raises for options that are not `generate`'s, or not to be set here."""
    if not options:
        return
    known = [name for name in GenerationConfig().to_dict() if not name.startswith("_")]
    for key in options:
        if key in _OURS:
            raise ConfigError(f"generate has '{key}'", hint=f"Set '{_OURS[key]}' beside generate.")
        if key in _NONE:
            raise UnsupportedError(f"generate cannot have '{key}': a request has one reply")
        if key not in known:
            raise UnknownKeyError(f"generate.{key}", known)


class Alone:
    """Runs rows through `model.generate`, the whole of the model's own cache and options with them.

    A token is streamed as it comes, but with beams, which are known at the end alone. A row that is cancelled ends at the
    next token.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._loaded: Loaded | None = loaded
        self._name = loaded.name
        self._one = threading.Lock()
        self._rows: set[Row] = set()
        self._closed = False

    def run(self, row: Row) -> None:
        """Blocks until the reply is whole; what comes of it is in the row's mail. Raises nothing."""
        self._rows.add(row)
        with self._one:
            try:
                if self._closed or self._loaded is None:
                    raise ProviderError(f"{self._name} was closed")
                if not row.cancelled:
                    self._run(self._loaded, row)
            except Exception as error:
                if isinstance(error, (ValueError, TypeError)) and not isinstance(error, LLMInferenceError):
                    error = BadRequestError(f"generate refused the request: {error}")
                _post(row, fault(error, self._name))
            finally:
                self._rows.discard(row)

    def close(self) -> None:
        """Fails running requests, waits until they have stopped (at the next token), and releases the model."""
        self._closed = True
        for row in list(self._rows):
            row.cancelled = True
            _post(row, ProviderError(f"{self._name} was closed"))
        with self._one:
            self._loaded = None

    def _run(self, loaded: Loaded, row: Row) -> None:
        beams = int(row.options.get("num_beams") or 1) > 1
        if beams and (row.matcher is not None or row.logprobs is not None):
            raise UnsupportedError("beams go with neither a format nor logprobs", hint="Leave num_beams out.")
        ears = _Ears(loaded, row)
        ids = torch.tensor([row.prompt], device=loaded.device)
        sampled = row.settings.temperature != 0
        with torch.random.fork_rng(enabled=sampled):
            if sampled and row.seed is not None:
                torch.manual_seed(row.seed)
            elif sampled:
                torch.seed()
            out = loaded.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=row.limit,
                do_sample=sampled,
                # ours come in a known order, behind the one that listens
                **(_NEUTRAL if sampled else {}),
                repetition_penalty=1.0,
                eos_token_id=sorted(row.eos),
                pad_token_id=loaded.tokenizer.pad_token_id,
                logits_processor=LogitsProcessorList(
                    ([] if beams else [ears.processor]) + list(processors(row.settings))
                ),
                stopping_criteria=StoppingCriteriaList([_Stop(row, ears)]),
                streamer=None if beams else ears,
                **row.options,
            )
        if beams:
            for token in out[0, len(row.prompt) :].tolist():
                if not ears.ended:
                    ears.take(token)
        if row.cancelled:
            return
        ears.end_of_text()
        _post(row, DONE)


class _Ears(BaseStreamer):  # type: ignore[misc]
    """Hears each token as `generate` chooses it, and the logits that it came from."""

    def __init__(self, loaded: Loaded, row: Row) -> None:
        self.ended = False
        self.processor = _Before(row)
        self._loaded, self._row = loaded, row
        self._prompt = True

    def put(self, value: torch.Tensor) -> None:
        if self._prompt:
            self._prompt = False
            return
        for token in value.flatten().tolist():
            if not self.ended:
                self.take(token)

    def end(self) -> None:
        """Nothing: the reply ends where `generate` returns."""

    def end_of_text(self) -> None:
        """`generate` has stopped for a reason of its own (an option such as max_time)."""
        if not self.ended:
            deltas = self._row.end("length")
            if deltas:
                _post(self._row, deltas)

    def take(self, token: int) -> None:
        row = self._row
        told = None
        if row.logprobs is not None and self.processor.logits is not None:
            found = logprobs(self.processor.logits, [token], [row.logprobs])[0]
            told = entry(lambda one: str(self._loaded.tokenizer.decode([one])), token, *found)
        deltas, self.ended = row.take(token, told)
        if deltas:
            _post(row, deltas)


class _Before(LogitsProcessor):  # type: ignore[misc]
    """First in the line: keeps the model's own logits where they are wanted, then the grammar, then the penalties."""

    def __init__(self, row: Row) -> None:
        self._row = row
        self.logits: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        row = self._row
        scores = scores.clone()
        if row.logprobs is not None:
            self.logits = scores.clone()
        if row.matcher is not None:
            row.matcher.mask(scores[0])
        lower(scores[0], row.reply, row.settings)
        return scores


class _Stop(StoppingCriteria):  # type: ignore[misc]
    def __init__(self, row: Row, ears: _Ears) -> None:
        self._row, self._ears = row, ears

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        stop = self._row.cancelled or self._ears.ended
        return torch.full((input_ids.shape[0],), stop, device=input_ids.device, dtype=torch.bool)


def _post(row: Row, item: Any) -> None:
    try:
        row.mail.loop.call_soon_threadsafe(row.mail.deliver, item)
    except RuntimeError:  # the loop is closed: nobody waits any more
        row.cancelled = True
