"""What a query asks for: concepts, each with the terms that may stand for it, and what should be done with them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Final, NamedTuple

from lllm.search.synonyms import Line, thesaurus
from lllm.search.words import STOP, stem, terms, words

LITERAL: Final = 1.15
"""What the word itself counts, beside a term that it may mean."""
KIN: Final = 0.7
"""What another word of the same line counts."""

MAY: Final = 0.6
"""What a term counts that may be meant by a line of words."""
INSIDE: Final = 0.3
"""What the words of a phrase count alone."""
UNKNOWN: Final = 0.8
"""What a word counts that is not in the tables: mostly it is the content of something."""
COMMON: Final = 0.3
"""What a verb counts that nearly every service has."""
FAINT: Final = 0.4
"""What the words count that seldom tell anything."""
AGAIN: Final = 0.5
"""What a concept counts that was there before."""
LONGEST: Final = 60
"""Words of a query that are read."""
CHARACTERS: Final = 600
"""And characters: some shapes take the square of a word's length."""
ABOUT: Final = 0.5
"""What the words behind "about" count."""

Phrase = tuple[str, ...]


class Query(NamedTuple):
    """What is asked for.

    Attributes:
        concepts: of each, what it counts, and its terms with what they count. actions: verbs that are meant, likewise.
        negated: whether something should not be, or no longer.
    """

    concepts: list[tuple[float, dict[str, float]]]
    actions: dict[str, float]
    negated: bool


@cache
def phrases() -> dict[Phrase, str]:
    """Phrases of several words that descriptions use: their stems in alphabetical order, and the term that they make."""
    known = thesaurus()
    those = [one for line in known.nouns for one in line.terms]
    those += [one for line in known.words for one, _ in line.said]
    each = (tuple(sorted(terms(one))) for one in those)
    return {phrase: " ".join(phrase) for phrase in each if len(phrase) > 1}


def within(stems: list[str]) -> Iterator[str]:
    """The known phrases in stems, in any order, each as one term: `pull request`."""
    known = phrases()
    for size in (2, 3, 4):
        for start in range(len(stems) - size + 1):
            term = known.get(tuple(sorted(stems[start : start + size])))
            if term is not None:
                yield term


@cache
def _table(part: str) -> tuple[dict[Phrase, dict[str, float]], int]:
    """Phrases, as stems of all their words, with the terms that they may mean; and the length of the longest."""
    table: dict[Phrase, dict[str, float]] = {}
    lines: tuple[Line, ...] = getattr(thesaurus(), part)
    for left, said in lines:
        means = {" ".join(sorted(terms(one))): 1.0 for one in left}
        for one, weight in said:
            phrase = tuple(stem(word) for word in words(one))
            found = table.setdefault(phrase, {})
            for term in means:
                found[term] = max(found.get(term, 0.0), weight)
        kin = {
            alone[0]: KIN * weight for one, weight in said if len(alone := terms(one)) == 1 == len(words(one))
        }
        for one in left:
            found = table.setdefault(tuple(stem(word) for word in words(one)), {})
            for term in means:
                found[term] = max(found.get(term, 0.0), 1.0)
            for term, weight in kin.items():
                found[term] = max(found.get(term, 0.0), weight)
    for left, meant in thesaurus().words:
        means = {" ".join(sorted(terms(one))): MAY * weight for one, weight in meant}
        if part == "verbs":
            means = {term: weight for term, weight in means.items() if " " not in term}
        else:
            means = {term: weight for term, weight in means.items() if term not in _COMMON}
        for one in left if means else ():
            found = table.setdefault(tuple(stem(word) for word in words(one)), {})
            for term, weight in means.items():
                found[term] = max(found.get(term, 0.0), weight)
    return table, max(len(phrase) for phrase in table)


_SHAPES: Final = (
    (re.compile(r"[\w/.-]*\w\.[a-z]{1,4}\b", re.I), {"content": 1.0, "file": 1.0}),
    (re.compile(r"[\w.+-]+@[\w-]+\.\w+"), {"email": 1.0}),
    (re.compile(r"https?://\S+"), {"url": 1.0}),
    (re.compile(r"\bv?\d+(\.\d+)+\b"), {"releas": 0.7, "version": 0.7, "tag": 0.4}),
    (
        re.compile(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b"),
        {"variabl": 0.7, "secret": 0.7, "environment variable": 0.7},
    ),
    (re.compile(r"\b[0-9a-f]{7,40}\b(?<=\d)"), {"commit": 0.7, "sha": 0.7}),
)
"""How some things look, and what they are."""


def read(text: str) -> Query:
    """Reads a query. Only its beginning counts."""
    text = text[:CHARACTERS]
    concepts: list[tuple[float, dict[str, float]]] = []
    for shape, means in _SHAPES:
        if shape.search(text):
            concepts.append((0.7, means))
            text = shape.sub(" ", text)
    each = words(text)[:LONGEST]
    stems = [stem(word) for word in each]
    actions = _actions(stems)
    table, longest = _table("nouns")
    verbs = _table("verbs")[0]
    covered = [False] * len(each)
    counts = _counts(each)
    for places in _matches(stems, table, longest):
        if any(covered[place] for place in places):
            continue
        concept = dict(table[tuple(stems[place] for place in places)])
        for place in places:
            covered[place] = True
            if each[place] in STOP:
                continue
            # the words of a phrase may mean what they mean alone, too
            share = 1.0 if len(places) == 1 else INSIDE
            alone = {**table.get((stems[place],), {}), stems[place]: LITERAL}
            for term, weight in alone.items():
                concept[term] = max(concept.get(term, 0.0), share * weight)
        concepts.append((max(counts[place] for place in places), concept))
    for place, word in enumerate(each):
        if covered[place] or word in STOP or word.isdigit():
            continue
        if word in thesaurus().names:
            concepts.append((0.5 * counts[place], _PERSON))
        else:
            concept = {stems[place]: LITERAL}
            for term, weight in verbs.get((stems[place],), {}).items():
                share = COMMON if term in _COMMON else KIN
                concept[term] = max(concept.get(term, 0.0), share * weight)
            share = COMMON if stems[place] in _COMMON else UNKNOWN
            concepts.append((share * counts[place], concept))
    negated = not _NOT.isdisjoint(each)
    return Query(_once(concepts), _opposites(actions) if negated else actions, negated)


_COMMON: Final = frozenset(
    stem(one) for one in "create add list get check set update delete remove make show give put".split()
)
"""Verbs that nearly every service has: they only tell which operation on a thing is meant."""


_PERSON: Final = dict.fromkeys(("user", "member", "collaborator", "assignee", "membership"), 1.0)
_ABOUT: Final = frozenset(
    "about named called titled saying says because since mentioning regarding concerning entitled".split()
)
"""What follows is the content of something rather than its kind."""
_FAINT: Final = frozenset(
    """
    last yesterday today tomorrow tonight week month year day hour time old new whole world thing things stuff way work works
    people big small right wrong good bad first else instead more most less many much few lot back again already anymore really
    maybe others other same next previous again right far long later earlier soon once twice finally anyway actually help go
    going went goes come comes came take takes took done doing happen happens happened keep know see seen look looks say says
    """.split()
)
"""Words that seldom tell which operation is meant."""
_NOT: Final = frozenset(
    "not no never nobody stop undo quit without longer dont cannot cant shouldnt isnt wont anymore".split()
)


def _opposites(actions: dict[str, float]) -> dict[str, float]:
    """The verbs of a query that says "not", "stop" or "no longer": they, less, and their opposites."""
    found = {verb: 0.5 * weight for verb, weight in actions.items()}
    for verb, weight in actions.items():
        for other in (f"un{verb}", *_OPPOSITES.get(verb, ())):
            found[other] = max(found.get(other, 0.0), weight)
    return found


_OPPOSITES: Final = {
    "enabl": ("disabl",),
    "add": ("remov",),
    "start": ("stop", "disabl"),
    "run": ("disabl", "stop"),
    "subscrib": ("unsubscrib",),
}


def _once(concepts: list[tuple[float, dict[str, float]]]) -> list[tuple[float, dict[str, float]]]:
    """Concepts, of which what was said before counts less: "from v1 to v2" speaks of versions once."""
    said: set[str] = set()
    found = []
    for count, concept in concepts:
        most = max(concept.values())
        means = {term for term, weight in concept.items() if weight == most}
        found.append((count if said.isdisjoint(means) else AGAIN * count, concept))
        said |= means
    return found


def _counts(each: list[str]) -> list[float]:
    """What the words count: less, where they are the content of something."""
    found, content = [], False
    for word in each:
        if word in _ABOUT:
            content = True
        found.append((ABOUT if content else 1.0) * (FAINT if word in _FAINT else 1.0))
    return found


def _actions(stems: list[str]) -> dict[str, float]:
    """The verbs that are meant. The first words of a query count more, and a phrase covers its words."""
    table, longest = _table("verbs")
    found: dict[str, float] = {}
    covered = [False] * len(stems)
    for places in _matches(stems, table, longest):
        if any(covered[place] for place in places):
            continue
        for place in places:
            covered[place] = True
        share = 1.0 if places[0] < 3 else 0.8
        for term, weight in table[tuple(stems[place] for place in places)].items():
            found[term] = max(found.get(term, 0.0), weight * share)
    return found


_PARTICLES: Final = frozenset("over off in on out up down away back into again".split())
GAP: Final = 4
"""Words between a verb and its particle: "hand this old project over"."""


def _matches(
    stems: list[str], table: dict[Phrase, dict[str, float]], longest: int
) -> Iterator[tuple[int, ...]]:
    """Where phrases of the table stand, the longest first: the places of their words."""
    for size in range(min(longest, len(stems)), 0, -1):
        for start in range(len(stems) - size + 1):
            if tuple(stems[start : start + size]) in table:
                yield tuple(range(start, start + size))
        if size == 2:
            for end, word in enumerate(stems):
                if word in _PARTICLES:
                    for start in range(max(0, end - GAP), end - 1):
                        if (stems[start], word) in table:
                            yield (start, end)
