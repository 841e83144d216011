"""Cuts a long text into chunks that fit: behind sentences, else lines, else words, else characters. The chunks together are the
text, character for character."""

from __future__ import annotations

import re
import unicodedata
from array import array
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

Fits = Callable[[int, int], Awaitable[bool]]
"""Tells whether the text from one offset to another fits."""

_SENTENCE: Final = re.compile(
    r"[.!?…]+[\"'”’»)\]]*\s+"  # the space behind belongs to the sentence before
    r"|[。！？｡]+[」』”’）]*\s*"
    r"|\n[^\S\n]*\n\s*"
)
_LINE: Final = re.compile(r"\n")
_WORD: Final = re.compile(r"\s+")
_ABBREVIATION: Final = re.compile(
    r"(?:^|[\s(\"'“‘])(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|e\.g|i\.e|cf|approx|No|Nos|Fig|Figs|Eq|Vol|pp?|Ch|Sec|Inc|Ltd|"
    r"Co|Corp|Gen|Col|Lt|Capt|Rev|Hon|Mt|ca|z\.B|d\.h|bzw|Nr|bspw)\.\s+$"
)
_LONGEST_ABBREVIATION: Final = 12
_JOINERS: Final = "\u200d\ufe0e\ufe0f"


class LongText:
    """A text and the places at which it may be cut, by how good they are."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._known: dict[int, Sequence[int]] = {}

    def ends(self, level: int) -> Sequence[int]:
        """The offsets behind sentences (0), lines, words, characters as they are seen, or code points (4): from low to high,
        and the last is the end of the text."""
        if level not in self._known:
            self._known[level] = self._found(_ENDS[level](self.text))
        return self._known[level]

    def _found(self, ends: Iterator[int] | None) -> Sequence[int]:
        size = len(self.text)
        if ends is None:
            return range(1, size + 1)
        kept = array("Q", (end for end in ends if end < size))
        kept.append(size)
        return kept

    async def longest(self, start: int, fits: Fits, guess: int = 0) -> int | None:
        """Returns the furthest of the best ends at which the text from `start` still fits; None where not one character does.
        `guess`: about how many characters that may be."""
        stop = len(self.text)
        for level in range(len(_ENDS)):
            ends = self.ends(level)
            first, last = bisect_right(ends, start), bisect_right(ends, stop)
            if first == last:
                continue
            near = bisect_right(ends, start + guess) - 1 if guess else first
            found = await _furthest(ends, first, last, max(near, first), lambda end: fits(start, end))
            if found is not None:
                return found
            stop = ends[first]  # even the first one is too far
        return None

    async def chunks(self, fits: Callable[[int, int, int], Awaitable[bool]]) -> list[tuple[int, int]] | int:
        """The offsets of chunks that fit, together all of the text. `fits` is given the number of the chunk, from 1, and its
        offsets. Where not one character fits, the offset at which that is so."""
        found: list[tuple[int, int]] = []
        start = guess = 0
        while start < len(self.text):
            number = len(found) + 1
            end = await self.longest(start, lambda a, b, n=number: fits(n, a, b), guess)  # type: ignore[misc]
            if end is None:
                return start
            found.append((start, end))
            start, guess = end, end - start
        return found


async def _furthest(
    ends: Sequence[int], first: int, last: int, near: int, fits: Callable[[int], Awaitable[bool]]
) -> int | None:
    """The furthest end that fits, of those from number `first` to before `last`: looked for from `near` on in growing strides,
    then between the last that fitted and the first that did not."""
    low, high = first - 1, last  # `low` fits, `high` does not
    stride, at = 1, min(near, last - 1)
    while low < at < high:
        if await fits(ends[at]):
            low, at = at, at + stride
            if at >= last and low < last - 1:
                at = last - 1
        else:
            high, at = at, at - stride
            if at < first and high > first:
                at = first
        stride *= 2
        if low >= first and high < last:
            break
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if await fits(ends[middle]) else (low, middle)
    return None if low < first else ends[low]


def _sentence_ends(text: str) -> Iterator[int]:
    for match in _SENTENCE.finditer(text):
        end = match.end()
        if text[match.start()] == ".":
            if end < len(text) and text[end].islower():
                continue
            if _ABBREVIATION.search(text[max(0, match.start() - _LONGEST_ABBREVIATION) : end]):
                continue
        yield end


def _character_ends(text: str) -> Iterator[int]:
    """Offsets at which no mark is cut off from its letter, and no emoji into its parts."""
    flags = 0
    for at in range(1, len(text)):
        before, after = text[at - 1], text[at]
        flags = flags + 1 if _is_flag(before) else 0
        joined = before == "\u200d" or (before == "\r" and after == "\n")
        if not joined and (after < "\u0300" or not _continues(after, flags)):
            yield at


def _line_ends(text: str) -> Iterator[int]:
    return (match.end() for match in _LINE.finditer(text))


def _word_ends(text: str) -> Iterator[int]:
    return (match.end() for match in _WORD.finditer(text))


def _every_end(text: str) -> None:
    return None


_ENDS: Final[Sequence[Callable[[str], Iterator[int] | None]]] = (
    _sentence_ends,
    _line_ends,
    _word_ends,
    _character_ends,
    _every_end,
)


def _is_flag(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _continues(char: str, flags: int) -> bool:
    """Returns True if a character belongs to the one before it. `flags`: the number of halves of flags right before it."""
    return (
        char in _JOINERS
        or unicodedata.category(char) in ("Mn", "Me", "Mc")
        or "\U0001f3fb" <= char <= "\U0001f3ff"
        or (_is_flag(char) and flags % 2 == 1)
    )
