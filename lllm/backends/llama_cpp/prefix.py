"""What a context has computed already: the dialog in its memory, and the ones before it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

WORTH: Final = 32
"""Tokens that must be saved before a state is copied: below, computing them again is as fast."""
BUDGET: Final = 512 * 1024 * 1024
"""Bytes of copied states at most."""


class _Kept(NamedTuple):
    tokens: list[int]
    state: Any  # a ctypes array


class Memory:
    """The tokens whose keys and values are in a llama.cpp context (one sequence), and copies of earlier ones.

    Dialogs that take turns find their beginning again: before another one is cut off, it is copied aside. The oldest
    copies go when there are more than `keep`, or when they take more than `budget` bytes.
    """

    def __init__(self, context: Any, keep: int, budget: int = BUDGET) -> None:
        import llama_cpp

        self._lib = llama_cpp
        self._context = context
        self._memory = llama_cpp.llama_get_memory(context)
        self._keep = keep
        self._budget = budget
        self._kept: list[_Kept] = []  # oldest first
        self.live: list[int] = []
        """The tokens in the context. Whoever decodes more appends them here."""

    def recall(self, prompt: Sequence[int]) -> int:
        """Makes the context begin as `prompt` does and says how many of its tokens need no computing: never all, for the
        last one gives the logits."""
        shared = _common(self.live, prompt)
        best = max(self._kept, key=lambda kept: _common(kept.tokens, prompt), default=None)
        found = 0 if best is None else _common(best.tokens, prompt)
        if best is not None and found - shared >= WORTH:
            self._set_aside()
            if self._load(best):
                shared = found
        elif len(self.live) - shared >= WORTH:
            self._set_aside()
        shared = min(shared, len(prompt) - 1)
        if not self._lib.llama_memory_seq_rm(self._memory, 0, shared, -1):
            self.clear()  # a model whose state cannot be cut
            return 0
        del self.live[shared:]
        return shared

    def clear(self) -> None:
        """Forgets the dialog in the context."""
        self._lib.llama_memory_clear(self._memory, False)
        self.live.clear()

    def _set_aside(self) -> None:
        live = self.live
        if (
            not self._keep
            or len(live) < WORTH
            or any(kept.tokens[: len(live)] == live for kept in self._kept)
        ):
            return
        size = self._lib.llama_state_seq_get_size(self._context, 0)
        if not 0 < size <= self._budget:
            return
        state = (ctypes.c_uint8 * size)()
        if self._lib.llama_state_seq_get_data(self._context, state, size, 0) != size:
            return
        self._kept = [kept for kept in self._kept if live[: len(kept.tokens)] != kept.tokens]
        self._kept.append(_Kept(live.copy(), state))
        while len(self._kept) > self._keep or sum(len(kept.state) for kept in self._kept) > self._budget:
            del self._kept[0]

    def _load(self, kept: _Kept) -> bool:
        self._lib.llama_memory_clear(self._memory, False)
        if not self._lib.llama_state_seq_set_data(self._context, kept.state, len(kept.state), 0):
            self.clear()
            return False
        self.live = kept.tokens.copy()
        self._kept = [other for other in self._kept if other is not kept] + [kept]
        return True


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many items both begin with."""
    for at, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return at
    return min(len(first), len(second))
