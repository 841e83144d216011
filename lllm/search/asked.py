"""How people ask, by example: questions, and the titles of what they asked for. See `asked.txt`."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from functools import cache
from itertools import pairwise
from typing import Final, NamedTuple

from lllm.search.words import STOP, stem, terms, words

FILE: Final = "asked.txt"
NEAREST: Final = 16
"""Questions that are compared with."""
LEAST: Final = 0.12
"""How alike they are at least."""
PAIR: Final = 0.6
"""What two words beside each other count, in terms of a word of the same rarity."""
_TELLING: Final = frozenset("who when how where again all out off".split())
"""Words that say nothing of a thing, but something of a question."""


class Title(NamedTuple):
    """Attributes: verb, nouns: the stems of what a documentation calls it. said: stems of all that is asked for it."""

    verb: str
    nouns: frozenset[str]
    said: tuple[str, ...]


class Asked:
    """Questions that can be compared with another: by their words, and by words beside each other."""

    def __init__(self, text: str) -> None:
        self.titles: list[Title] = []
        self._of: list[int] = []
        """Of each question, the number of its title."""
        each: list[dict[str, float]] = []
        for line in text.splitlines():
            name, _, said = line.partition(" | ")
            if not said or line.startswith("#"):
                continue
            verb, *nouns = terms(name)
            self.titles.append(Title(verb, frozenset(nouns), tuple(terms(said))))
            for question in said.split(";"):
                each.append(_marks(question))
                self._of.append(len(self.titles) - 1)
        counts = Counter(mark for marks in each for mark in marks)
        self._rare = {mark: math.log(1 + len(each) / (1 + count)) for mark, count in counts.items()}
        self._unknown = math.log(1 + len(each))
        self._found: dict[str, list[tuple[int, float]]] = {}
        for number, marks in enumerate(each):
            length = self._length(marks)
            for mark, weight in marks.items():
                value = (weight * self._rare[mark]) ** 2 / length
                self._found.setdefault(mark, []).append((number, value))

    def _length(self, marks: dict[str, float]) -> float:
        return math.sqrt(
            sum((weight * self._rare.get(mark, self._unknown)) ** 2 for mark, weight in marks.items())
        )

    def nearest(self, query: str) -> list[tuple[float, int]]:
        """The questions most like a query: how alike, from 0 to 1, and the number of their title."""
        marks = _marks(query)
        alike: dict[int, float] = {}
        for mark in marks:
            for number, value in self._found.get(mark, ()):
                alike[number] = alike.get(number, 0.0) + value
        least = LEAST * self._length(marks)
        best = heapq.nsmallest(
            NEAREST, ((-value, number) for number, value in alike.items() if value >= least)
        )
        return [(-value * LEAST / least, self._of[number]) for value, number in best]


@cache
def asked() -> Asked:
    """Reads the questions, once."""
    from importlib import resources

    return Asked((resources.files("lllm.search") / FILE).read_text(encoding="utf-8"))


def _marks(question: str) -> dict[str, float]:
    """What a question is compared by, and what each counts; nothing where no word of it says anything."""
    each = [(word, stem(word)) for word in words(question)[:60]]
    said = {one for word, one in each if not word.isdigit() and (word not in STOP or word in _TELLING)}
    if not said - _TELLING:
        return {}
    pairs = {f"{one} {two}" for (_, one), (_, two) in pairwise(each)}
    return {**dict.fromkeys(said, 1.0), **dict.fromkeys(pairs, PAIR)}
