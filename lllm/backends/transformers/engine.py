"""One loaded model with what decodes it."""

from __future__ import annotations

import gc
import os
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from lllm.backends.local.fast_path import report_loss
from lllm.backends.local.packages import version_of
from lllm.backends.transformers import load as loading
from lllm.backends.transformers.alone import Alone
from lllm.backends.transformers.constrained import Grammars
from lllm.backends.transformers.load import Loaded, LoadOptions
from lllm.backends.transformers.request import Wanted, is_quick, row_of
from lllm.backends.transformers.row import Mail, Row
from lllm.errors import ProviderError, text_of
from lllm.models.message import FunctionCall
from lllm.models.reply import Reply
from lllm.ports import Request
from lllm.sync import in_thread, spawn

if TYPE_CHECKING:
    from lllm.backends.transformers.batch import Batcher
    from lllm.backends.transformers.room import Shape

ALONE: Final = "is decoded one request at a time, without batches and without kept prefixes"
"""Description of a model that cannot be batched."""
SMALL: Final = 200_000_000
"""Bytes of weights below which one CPU thread is the fastest."""
_KEPT_BYTES: Final = 1 << 30


class Engine:
    """A model in this process. The constructor loads it: call it in a worker thread.

    Args:
        path: see `lllm.backends.transformers.load.load`, which says what it raises; or a model that is loaded already.
        options: how it is loaded.
        batch: the most requests that are decoded together.
        prefix_tokens: tokens of earlier requests whose keys and values are kept; None: eight contexts, at most 1 GiB.
    """

    def __init__(
        self, path: str | Loaded, options: LoadOptions, *, batch: int, prefix_tokens: int | None
    ) -> None:
        self.loaded = loaded = path if isinstance(path, Loaded) else loading.load(path, options)
        self.name = loaded.name
        self._grammars: Grammars | None = None
        self._making = threading.Lock()
        self.alone = Alone(loaded)
        shapes, self.reason = fit(loaded)
        self.batcher: Batcher | None = None
        if self.reason:
            if not options.compile and options.attn is None:  # otherwise the user chose it
                report_loss(f"transformers: {loaded.name} {ALONE}: {self.reason}")
        else:
            from lllm.backends.transformers.batch import Batcher

            kept = prefix_tokens if prefix_tokens is not None else _kept(loaded, shapes)
            self.batcher = Batcher(
                loaded, shapes, batch=batch, prefix_tokens=kept, threads=_threads(loaded, options)
            )

    def grammars(self) -> Grammars:
        """The tables of the grammar, made when they are first needed."""
        with self._making:
            if self._grammars is None:
                self._grammars = Grammars(self.loaded)
            return self._grammars

    async def wanted(self, request: Request, mail: Mail) -> Wanted:
        """What a request means for this model: rendered at once where that is quick, else in a thread."""
        work = partial(row_of, self.loaded, self.grammars, request, mail)
        return work() if is_quick(self.loaded, request) else await in_thread(work)

    def submit(self, row: Row) -> None:
        """Begins to decode a row, from the loop that waits for it."""
        if self.batcher is not None and not row.options:
            self.batcher.submit(row)
        else:
            spawn(partial(self.alone.run, row))  # a task that outlives its loop would keep the model

    def reply(self, row: Row, *, tools: bool) -> Reply:
        """The whole reply; calls in a form of the model's own are read by its tokenizer."""
        reply = row.speech.reply()
        tokenizer = self.loaded.tokenizer
        own = getattr(tokenizer, "response_template", None) or getattr(tokenizer, "response_schema", None)
        if not tools or reply.tool_calls or not own:
            return reply
        try:
            read = tokenizer.parse_response(row.reply, prefix=list(row.prompt))
        except (ValueError, TypeError, KeyError):
            return reply  # not in the form: text
        calls = [_call(entry) for entry in (read.get("tool_calls") or ())]
        if not calls:
            return reply
        return reply.with_(
            content=str(read.get("content") or ""),
            thinking=read.get("thinking") or read.get("reasoning_content") or reply.thinking,
            tool_calls=tuple(
                FunctionCall(f"call_{row.turn}_{number + 1}", name, arguments)
                for number, (name, arguments) in enumerate(calls)
            ),
            finish_reason="tool_calls" if reply.finish_reason == "stop" else reply.finish_reason,
        )

    def embed(self, texts: list[str]) -> list[list[float]]:
        """The mean of the last layer's states over the tokens of each text."""
        loaded, out = self.loaded, []
        for start in range(0, len(texts), 16):
            ids = [
                loaded.tokenizer(text)["input_ids"][: loaded.context] or [min(loaded.eos)]
                for text in texts[start : start + 16]
            ]
            widest = max(map(len, ids))
            padded = torch.tensor([row + row[-1:] * (widest - len(row)) for row in ids], device=loaded.device)
            lengths = torch.tensor([len(row) for row in ids], device=loaded.device)
            mask = torch.arange(widest, device=loaded.device) < lengths[:, None]
            with torch.inference_mode():
                states = loaded.model.base_model(
                    input_ids=padded, attention_mask=mask.long(), use_cache=False
                ).last_hidden_state.float()
                mean = (states * mask[:, :, None]).sum(1) / lengths[:, None]
            out += mean.tolist()
        return out

    def info(self) -> dict[str, Any]:
        """What the model is, and how it is decoded."""
        return {**self.loaded.info(), "batching": f"off: {self.reason}" if self.reason else "on"}

    def forget(self) -> None:
        """In a forked child: no thread decodes here yet."""
        self._making = threading.Lock()
        self.alone = Alone(self.loaded)
        if self.batcher is not None:
            self.batcher.forget()

    def __getattr__(self, name: str) -> Any:
        if name in ("loaded", "alone"):  # `close` has removed them
            raise ProviderError(f"{self.name} was closed")
        raise AttributeError(name)

    def close(self) -> None:
        """Releases the model and its memory. Idempotent; later requests raise a ProviderError."""
        if "loaded" not in vars(self):
            return
        if self.batcher is not None:
            self.batcher.close()
        self.alone.close()
        device = self.loaded.device
        del self.loaded, self.alone
        self._grammars = self.batcher = None
        gc.collect()
        if device.startswith("cuda"):
            torch.cuda.empty_cache()


def fit(loaded: Loaded) -> tuple[list[Shape], str]:
    """Like `lllm.backends.transformers.fit.fit`; a release that lacks the parts for batches is a reason, too."""
    try:
        from lllm.backends.transformers.fit import fit
    except (ImportError, AttributeError) as error:
        return (
            [],
            f"transformers {version_of('transformers')} lacks a part that batches need: {text_of(error)}",
        )
    return fit(loaded)


def _call(entry: Any) -> tuple[str, str]:
    from lllm.core.canonical import encode

    function = entry.get("function", entry)
    arguments = function.get("arguments") or {}
    return str(function["name"]), arguments if isinstance(arguments, str) else encode(arguments).decode()


def _kept(loaded: Loaded, shapes: list[Shape]) -> int:
    size = torch.finfo(getattr(torch, loaded.dtype)).bits // 8
    each: int = size * sum(shape.heads * (shape.key + shape.value) for shape in shapes)
    return min(8 * loaded.context, _KEPT_BYTES // each)


def _threads(loaded: Loaded, options: LoadOptions) -> int | None:
    if options.threads is not None:
        return options.threads
    if loaded.device != "cpu":
        return None
    return 1 if int(loaded.info()["weight_bytes"]) < SMALL else _cores()


def _cores() -> int:
    """Physical cores that this process may use."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    found = set()
    for cpu in usable:
        try:
            siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
        except OSError:
            return max(1, len(usable))
        found.add(siblings)
    return max(1, len(found))
