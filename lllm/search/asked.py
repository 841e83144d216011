"""How people ask, by example: questions, and the titles of what they asked for. See `asked.txt`."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import pairwise
from typing import Final, NamedTuple

from lllm.search.words import STOP, stem, terms, words

FILE: Final = "asked.txt"
NEAREST: Final = 30
"""Titles that are told of."""
LEAST: Final = 0.1
"""How alike they are at least."""
PAIR: Final = 0.6
"""What two words beside each other count, in terms of a word of the same rarity."""
_TELLING: Final = frozenset("who when how where again all out off i my we our".split())
"""Words that say nothing of a thing, but something of a question."""


class Title(NamedTuple):
    """Attributes: verb, nouns: the stems of what a documentation calls it. said: stems of all that is asked for it."""

    verb: str
    nouns: tuple[str, ...]
    said: tuple[str, ...]


class Asked:
    """Questions that can be compared with another: by their words, and by words beside each other."""

    def __init__(self, text: str) -> None:
        self.titles: list[Title] = []
        each: list[tuple[int, dict[str, float]]] = []
        for line in text.splitlines():
            name, _, said = line.partition(" | ")
            if not said or line.startswith("#"):
                continue
            verb, *nouns = terms(name)
            each += [(len(self.titles), _marks(question)) for question in said.split(";")]
            self.titles.append(Title(verb, tuple(dict.fromkeys(nouns)), tuple(terms(said))))
        counts = Counter(mark for _, marks in each for mark in marks)
        self._rare = {mark: math.log(1 + len(each) / (1 + count)) for mark, count in counts.items()}
        self._unknown = math.log(1 + len(each))
        together: list[Counter[str]] = [Counter() for _ in self.titles]
        for title, marks in each:
            together[title].update(marks)
        self._one = self._postings(each)
        self._all = self._postings(enumerate(together))

    def _postings(
        self, each: Iterable[tuple[int, Mapping[str, float]]]
    ) -> dict[str, list[tuple[int, int, float]]]:
        """Of each mark, where it is: a number, the title, and what it adds to the likeness of a query."""
        found: dict[str, list[tuple[int, int, float]]] = {}
        for number, (title, marks) in enumerate(each):
            length = self._length(marks)
            for mark, weight in marks.items():
                found.setdefault(mark, []).append((number, title, weight * self._rare[mark] ** 2 / length))
        return found

    def _length(self, marks: Mapping[str, float]) -> float:
        return math.sqrt(
            sum((weight * self._rare.get(mark, self._unknown)) ** 2 for mark, weight in marks.items())
        )

    def nearest(self, query: str) -> list[tuple[float, int]]:
        """The titles that are asked for most like this: how alike, from 0 to 1, and the number. It is the mean of how alike the
        most similar question is, and all of them together."""
        marks = _marks(query)
        length = self._length(marks)
        likeness: dict[int, float] = {}
        for postings in (self._one, self._all):
            alike: dict[int, float] = {}
            titles: dict[int, int] = {}
            for mark, weight in marks.items():
                for number, title, value in postings.get(mark, ()):
                    alike[number] = alike.get(number, 0.0) + weight * value
                    titles[number] = title
            best: dict[int, float] = {}
            for number, value in alike.items():
                title = titles[number]
                best[title] = max(best.get(title, 0.0), value)
            for title, value in best.items():
                likeness[title] = likeness.get(title, 0.0) + value / length / 2
        found = [(-value, title) for title, value in likeness.items() if value >= LEAST]
        return [(-value, title) for value, title in heapq.nsmallest(NEAREST, found)]


@cache
def asked() -> Asked:
    """Reads the questions, once."""
    from importlib import resources

    return Asked((resources.files("lllm.search") / FILE).read_text(encoding="utf-8"))


def _marks(question: str) -> dict[str, float]:
    """What a question is compared by, and what each counts; nothing where no word of it says anything."""
    each = [(word, stem(word)) for word in words(question)[:60]]
    # in the order of the words: sums of floats depend on it
    said = dict.fromkeys(
        (one for word, one in each if not word.isdigit() and (word not in STOP or word in _TELLING)), 1.0
    )
    if _TELLING.issuperset(said):
        return {}
    return said | {f"{one} {two}": PAIR for (_, one), (_, two) in pairwise(each)}
