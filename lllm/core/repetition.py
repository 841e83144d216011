"""Whether a text has got stuck: the same stretch again and again at its end."""

from __future__ import annotations

from typing import Final

SHORTEST: Final = 16
"""Characters of a stretch, at least: a shorter one counts by as many copies as fill it. So a rule of dashes, an
indentation, or 0.3333333333 are no loops."""
LONGEST: Final = 1000
"""Characters of a stretch, at most."""


class Repetition:
    """Watches a text as it grows.

    Args:
        limit: how many times in a row the same stretch stands at the end of a text that is stuck; 2 or more.
    """

    __slots__ = ("_limit", "_tail")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tail = ""

    def grew(self, piece: str) -> bool:
        """Takes a piece; says whether the text is stuck."""
        text = self._tail = self._tail + piece
        longest = self._limit * LONGEST
        if len(text) > 2 * longest:
            self._tail = text[-longest:]
        return stuck(text, self._limit)


def stuck(text: str, limit: int) -> bool:
    """Whether a text ends in `limit` copies of one stretch."""
    size = len(text)
    if size < limit * SHORTEST:
        return False
    tail = text[-SHORTEST:]
    lowest = max(0, size - SHORTEST - LONGEST)
    # what repeats has its own end before it, one period earlier: only those distances are looked at
    at = text.rfind(tail, lowest, size - 1)
    while at >= 0:
        period = size - SHORTEST - at
        span = limit * max(period, SHORTEST)
        if span > size:
            return False
        if text[size - span + period :] == text[size - span : size - period]:
            return True
        at = text.rfind(tail, lowest, at + SHORTEST - 1)
    return False
