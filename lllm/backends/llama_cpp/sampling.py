"""How the next token is chosen: llama.cpp's samplers, and a grammar beside them."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from lllm.errors import BadRequestError, ProviderError, UnsupportedError

LAST: Final = 64
"""The penalties look at so many tokens of the reply, the latest."""
_RANDOM: Final = 0xFFFFFFFF
_NUMBERS: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (0, math.inf),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "repetition_penalty": (1e-6, math.inf),
    "presence_penalty": (-math.inf, math.inf),
    "frequency_penalty": (-math.inf, math.inf),
    "top_k": (-1, math.inf),
    "max_tokens": (1, math.inf),
    "top_logprobs": (0, 1000),
    "seed": (-math.inf, math.inf),
}
"""The least and the greatest value of each."""
_WHOLE: Final = ("top_k", "max_tokens", "top_logprobs", "seed")


class Sampling(NamedTuple):
    """A request's sampling, checked; what it leaves open is as llama.cpp has it.

    Attributes: as their names in a request. `temperature` 0 is greedy, `top_k` 0 or less is all tokens, `seed` None is random,
    `max_tokens` None is what the context has room for, `top_logprobs` None is no log-probabilities.
    """

    temperature: float = 0.8
    top_p: float = 0.95
    top_k: int = 40
    min_p: float = 0.05
    max_tokens: int | None = None
    seed: int | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = {}
    top_logprobs: int | None = None

    @property
    def tempered(self) -> bool:
        """Whether tokens are drawn from the model's distribution at another temperature, and nothing else changes it."""
        neutral = all(getattr(self, name) == value for name, value in _TAKES_AWAY.items())
        return neutral and not self.logit_bias and self.temperature not in (0, 1)

    @classmethod
    def of(cls, given: Mapping[str, Any], *, seed: int | None = None) -> Sampling:
        """Reads a request's sampling, whose keys are known; `seed` stands in where it has none. BadRequestError for a wrong
        value."""
        wanted: dict[str, Any] = {"seed": seed}
        for key, value in given.items():
            if value is not None and key in cls._fields:
                wanted[key] = _bias(value) if key == "logit_bias" else _number(key, value)
        if not given.get("logprobs"):
            if given.get("top_logprobs"):
                raise BadRequestError("top_logprobs is set without logprobs: true")
            wanted["top_logprobs"] = None
        else:
            wanted.setdefault("top_logprobs", 0)
        return cls(**wanted)


def _number(key: str, value: Any) -> float | int:
    least, most = _NUMBERS[key]
    kind: Any = int if key in _WHOLE else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
        span = " and ".join(
            part
            for part in (
                f"{least:g} or more" if least > -math.inf else "",
                f"{most:g} or less" if most < math.inf else "",
            )
            if part
        )
        what = "a whole number" if key in _WHOLE else "a number"
        raise BadRequestError(f"{key} is {value!r}; it is {what}{', ' + span if span else ''}")
    return value  # type: ignore[no-any-return]


def _bias(value: Any) -> dict[int, float]:
    try:
        return {int(token): float(bias) for token, bias in dict(value).items()}
    except (TypeError, ValueError):
        raise BadRequestError("logit_bias is a mapping from token ids to numbers") from None


_TAKES_AWAY: Final = {
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
}
"""Settings that change a distribution beside the temperature, with the values that do not."""


class Sampler:
    """Chooses tokens of one reply. Close it: its memory is the library's.

    With a grammar the token that the samplers choose is tried first; only where the grammar refuses it are all tokens put to
    the grammar. Raises UnsupportedError for a grammar that llama.cpp does not read.
    """

    def __init__(
        self, model: Any, context: Any, size: int, sampling: Sampling, grammar: str | None = None
    ) -> None:
        import llama_cpp

        self._lib = lib = llama_cpp
        self._context = context
        self._size = size
        self._grammar: Any = None
        self._chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        vocab = lib.llama_model_get_vocab(model)
        if grammar is not None:
            self._grammar = lib.llama_sampler_init_grammar(vocab, grammar.encode(), b"root")
            if not self._grammar:
                self.close()
                raise UnsupportedError(
                    "the schema's grammar is one that llama.cpp cannot read: a pattern with \\d, \\w or \\., for example",
                    hint="Write the pattern with character classes such as [0-9], or leave it to the prompt.",
                )
            self._table = _Table(size)
        penalties = (sampling.repetition_penalty, sampling.frequency_penalty, sampling.presence_penalty)
        if sampling.logit_bias:
            bias = (lib.llama_logit_bias * len(sampling.logit_bias))(
                *((token, value) for token, value in sampling.logit_bias.items() if 0 <= token < size)
            )
            self._add(lib.llama_sampler_init_logit_bias(size, len(bias), bias))
        if penalties != (1.0, 0.0, 0.0):
            self._add(lib.llama_sampler_init_penalties(size, LAST, *penalties))
        if sampling.temperature == 0:
            self._add(lib.llama_sampler_init_greedy())
            return
        if sampling.top_k > 0:
            self._add(lib.llama_sampler_init_top_k(sampling.top_k))
        if sampling.top_p < 1:
            self._add(lib.llama_sampler_init_top_p(sampling.top_p, 1))
        if sampling.min_p > 0:
            self._add(lib.llama_sampler_init_min_p(sampling.min_p, 1))
        self._add(lib.llama_sampler_init_temp(sampling.temperature))
        seed = _RANDOM if sampling.seed is None else sampling.seed & _RANDOM
        self._add(lib.llama_sampler_init_dist(seed))

    @property
    def free(self) -> bool:
        """Whether no grammar holds it."""
        return self._grammar is None

    def next(self, *, ruled: bool = True) -> int:
        """The token after those that the context has decoded. `ruled` says whether the grammar counts here."""
        if self._grammar is None or not ruled:
            return int(self._lib.llama_sampler_sample(self._chain, self._context, -1))
        lib, table = self._lib, self._table
        logits = lib.llama_get_logits_ith(self._context, -1)
        token = table.choose(lib, self._chain, logits)
        if not table.allowed(lib, self._grammar, token):
            token = table.choose(lib, self._chain, logits, self._grammar)
            if token is None:
                raise ProviderError("no token of the model goes on where the schema's grammar stands")
        lib.llama_sampler_accept(self._grammar, token)
        lib.llama_sampler_accept(self._chain, token)
        return int(token)

    def close(self) -> None:
        for sampler in (self._chain, self._grammar):
            if sampler:
                self._lib.llama_sampler_free(sampler)
        self._chain = self._grammar = None

    def _add(self, sampler: Any) -> None:
        self._lib.llama_sampler_chain_add(self._chain, sampler)


class _Table:
    """The candidates for the next token, in the library's layout."""

    def __init__(self, size: int) -> None:
        import llama_cpp
        import numpy

        self._lib = llama_cpp
        self._size = size
        self._rows = numpy.zeros(
            size, dtype=[("id", numpy.int32), ("logit", numpy.float32), ("p", numpy.float32)]
        )
        self._ids = numpy.arange(size, dtype=numpy.int32)
        self._data = self._rows.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token_data))
        self._one = llama_cpp.llama_token_data()

    def choose(self, lib: Any, chain: Any, logits: Any, grammar: Any = None) -> Any:
        """The token that the chain selects, among those that the grammar allows where it is given; None for none."""
        import numpy

        self._rows["id"] = self._ids
        self._rows["logit"] = numpy.ctypeslib.as_array(logits, shape=(self._size,))
        held = lib.llama_token_data_array(self._data, self._size, -1, False)
        if grammar is not None:
            lib.llama_sampler_apply(grammar, ctypes.byref(held))
            if numpy.isneginf(self._rows["logit"]).all():
                return None
        lib.llama_sampler_apply(chain, ctypes.byref(held))
        return held.data[held.selected].id

    def allowed(self, lib: Any, grammar: Any, token: int) -> bool:
        one = self._one
        one.id, one.logit, one.p = token, 1.0, 0.0
        held = lib.llama_token_data_array(ctypes.pointer(one), 1, -1, False)
        lib.llama_sampler_apply(grammar, ctypes.byref(held))
        return bool(one.logit == 1.0)
