"""Keys and values of prompts that may come again."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lllm.backends.transformers.room import Pair


def packed(ids: Sequence[int]) -> bytes:
    """Token ids so that many of them compare at once."""
    return array("I", ids).tobytes()


_SIZE = len(packed([0]))


def common(a: bytes, b: bytes) -> int:
    """Returns the number of tokens that two packed sequences share at their start."""
    low, high = 0, min(len(a), len(b)) // _SIZE
    if a[: high * _SIZE] == b[: high * _SIZE]:
        return high
    while low < high:  # the first `low` are equal, the first `high + 1` are not
        middle = (low + high + 1) // 2
        if a[low * _SIZE : middle * _SIZE] == b[low * _SIZE : middle * _SIZE]:
            low = middle
        else:
            high = middle - 1
    return low


class Kept(NamedTuple):
    """What was computed for a sequence: per layer keys and values, (heads, tokens, size)."""

    ids: bytes
    pairs: list[Pair]

    @property
    def tokens(self) -> int:
        return len(self.ids) // _SIZE


class Prefixes:
    """The sequences used last, at most `limit` tokens of them together. Of one that goes on from another, the longer is
    kept: it serves both. For one thread."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.tokens = 0
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, ids: bytes) -> tuple[int, Kept | None]:
        """The longest beginning of `ids` that is kept, and where."""
        best, found = 0, None
        for kept in self._kept.values():
            if (shared := common(kept.ids, ids)) > best:
                best, found = shared, kept
        if found is not None:
            self._kept.move_to_end(found.ids)
        return best, found

    def wants(self, ids: bytes) -> bool:
        """Returns True if keeping it would add anything."""
        return 0 < len(ids) // _SIZE <= self.limit and not any(k.startswith(ids) for k in self._kept)

    def keep(self, ids: bytes, pairs: Iterable[Pair]) -> None:
        """Copies what the views in `pairs` show, and forgets what was used longest ago."""
        for shorter in [known for known in self._kept if ids.startswith(known)]:
            self._forget(shorter)
        made = Kept(ids, [(keys.clone(), values.clone()) for keys, values in pairs])
        while self._kept and self.tokens + made.tokens > self.limit:
            self._forget(next(iter(self._kept)))
        self._kept[ids] = made
        self.tokens += made.tokens

    def clear(self) -> None:
        self._kept.clear()
        self.tokens = 0

    def _forget(self, ids: bytes) -> None:
        self.tokens -= self._kept.pop(ids).tokens
