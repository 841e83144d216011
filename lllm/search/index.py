"""Finds things by what they do, in the words of the one who asks.

BM25 over the fields of each (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, section
3.6: field weights are applied to counts before saturation). Each concept of a query is one pseudo-term of all the terms that
may stand for it (Pirkola's structured queries, 1998), so that a word with many synonyms is worth no more than one without.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from lllm.search.asked import asked as known
from lllm.search.query import CHARACTERS, read, within
from lllm.search.words import parts, terms

T = TypeVar("T")

K: Final = 1.2
"""Saturation of BM25."""
WEIGHTS: Final = {
    "name": (1.5, 0.7),
    "first": (3.0, 0.3),
    "rest": (0.6, 0.4),
    "takes": (1.0, 0.6),
    "details": (0.7, 0.5),
    "asked": (1.0, 0.5),
}
"""Of the fields: the name's words, the first line of the description, the others, names of parameters, what is said of these,
and what people ask for things of the same title. What a word in one counts, and how much a long field counts less."""
DETAILS: Final = 800
"""Characters of what is said of parameters that count."""
SAME: Final = 0.8
"""How alike titles are that are one."""
ALIKE: Final = 0.35
"""How alike titles are at least for a question about one to tell of the other."""
OTHERWISE: Final = 0.3
"""How alike things are that differ only in what is done with them."""
EXAMPLE: Final = 5.0
"""What counts at most that a question is like another, in terms of a word that only one has."""
BESIDE: Final = 0.3
"""How much of the second best example counts."""
LONGEST: Final = 400
"""Characters of a description behind its first line that count: further on it speaks of other things."""
ACTION: Final = 2.5
"""What the right verb counts."""
SPECIAL: Final = 0.3
"""How much less one counts for what is in its title beside that which was asked for."""
MIX: Final = 0.5
"""How much of the weight of a term is its own rarity, rather than that of all that could stand for it."""
FLOOR: Final = 1.0
"""What a word of a title counts at least: "organization" is in many, and yet says whose thing it is."""
COVER: Final = 0.6
"""How much of the score depends on how much of the query is met, so that one rare word does not do for the others."""
DEAR: Final = 4.0
"""What a concept counts there at most."""
HALF: Final = 2.0
"""A count of terms by which a concept is half met."""
OLD: Final = 0.75
"""What one counts that is on its way out."""


class Described(NamedTuple):
    """What is searched of a thing: its name, the text about it, whose first line counts most, names of what it takes, and
    what is said of these."""

    name: str
    text: str
    takes: Sequence[str] = ()
    details: str = ""


class Index(Generic[T]):
    """Things that are searchable by what they do. Building takes about 0.1 ms for one, a search some milliseconds for
    thousands. It never changes, and two searches for the same words find the same in the same order."""

    def __init__(self, things: Sequence[T], described: Callable[[T], Described]) -> None:
        read("")  # the tables are read now, not by the first search
        self._things = list(things)
        each = [described(one) for one in self._things]
        size = len(each)
        self._size = size
        names = [terms(_first(one)) or terms(parts(one.name)) for one in each]
        self._actions = [
            tuple(some[: 2 if " or " in _first(one)[:20] else 1])
            for one, some in zip(each, names, strict=True)
        ]
        self._names: dict[str, list[int]] = {}
        for place, some in enumerate(names):
            for term in dict.fromkeys(some):
                self._names.setdefault(term, []).append(place)
        self._lengths = [
            sum([self._own(len(self._names[term])) for term in dict.fromkeys(some)]) for some in names
        ]
        self._alike = _alike(names)
        """Of each title that people ask for, what is called the same or nearly so, and how nearly."""
        said: dict[int, list[str]] = {}
        for title, found in zip(known().titles, self._alike, strict=True):
            for place, value in found.items():
                if value >= SAME:
                    said.setdefault(place, []).extend(title.said)
        fields = [{**_fields(one), "asked": _both(said.get(place, []))} for place, one in enumerate(each)]
        means = {
            field: max(1.0, sum(len(one[field]) for one in fields) / size) if size else 1.0
            for field in WEIGHTS
        }
        self._postings: dict[str, dict[int, float]] = {}
        for place, terms_of in enumerate(fields):
            counts: dict[str, float] = {}
            for field, (weight, share) in WEIGHTS.items():
                norm = 1 - share + share * len(terms_of[field]) / means[field]
                for term, count in Counter(terms_of[field]).items():
                    counts[term] = counts.get(term, 0.0) + weight * min(count, 3) / norm
            for term, total in counts.items():
                self._postings.setdefault(term, {})[place] = total
        self._rare = {term: self._idf(len(found)) for term, found in self._postings.items()}
        self._titles: list[dict[str, float]] = []
        """Of each, the terms of its title behind the verb, and how rare they are."""
        for some in names:
            self._titles.append({term: max(FLOOR, self._rare.get(term, 0.0)) for term in some[1:]})
        self._prior = [OLD if _old(one) else 1.0 for one in each]
        self._masses = [sum(one.values()) for one in self._titles]

    def _idf(self, found: float) -> float:
        """How rare something is, less than BM25 says: what many ask for has many tools."""
        found = min(found, self._size)
        return 1.5 * math.sqrt(max(0.01, math.log(1 + (self._size - found + 0.5) / (found + 0.5))))

    def search(self, query: str, limit: int) -> list[T]:
        """Those that fit best, the best first; none where no word of the query means anything here."""
        scores: dict[int, float] = {}
        covered: dict[int, float] = {}
        whole = 0.0
        said: set[str] = set()
        """All stems that the query may mean."""
        asked = read(query)
        for count, concept in asked.concepts:
            means = [(term, weight) for term, weight in concept.items() if term in self._postings]
            if asked.negated:
                means = [pair for one in means for pair in self._negated(*one)]
            if not means:
                continue
            best: dict[int, float] = {}
            by: dict[int, int] = {}
            for n, (term, weight) in enumerate(means):
                said.update(term.split())
                factor = weight * self._rare[term]
                for place, total in self._postings[term].items():
                    value = factor * total
                    if value > best.get(place, 0.0):
                        best[place] = value
                        by[place] = n
            rarities = [self._rare[term] for term, _ in means]
            weights = [weight for _, weight in means]
            idf = self._idf(sum(weights[n] for n in by.values()))
            gains = [count * (MIX * rare + (1 - MIX) * idf) * (K + 1) for rare in rarities]
            worth = count * min(idf, DEAR)
            whole += worth
            shares = [worth * min(1.0, weight) for weight in weights]
            for place, value in best.items():
                n = by[place]
                total = value / rarities[n]
                scores[place] = scores.get(place, 0.0) + gains[n] * total / (total + K)
                covered[place] = covered.get(place, 0.0) + shares[n] * total / (total + HALF)
        examples = self._examples(query)
        for place in examples:
            scores.setdefault(place, 0.0)
        for place in scores:
            title = self._titles[place]
            unmet = self._masses[place] - sum([value for term, value in title.items() if term in said])
            does = max([asked.actions.get(verb, 0.0) for verb in self._actions[place]], default=0.0)
            meets = 1 - COVER + COVER * covered.get(place, 0.0) / (whole or 1.0)
            value = scores[place] * meets + ACTION * does
            scores[place] = (value + examples.get(place, 0.0) - SPECIAL * unmet) * self._prior[place]
        ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
        return [self._things[place] for place, _ in ranked[:limit]]

    def _examples(self, query: str) -> dict[int, float]:
        """What counts that people ask so for other things of that title."""
        nearest = known().nearest(query[:CHARACTERS])
        itself = self._named(terms(query[:CHARACTERS]))
        best = max([*(value for value, _ in nearest), *itself.values()], default=1.0)
        found: dict[int, float] = {}
        # where something else is asked for in nearly these words, an example says less
        for value, number in nearest:
            for place, alike in self._alike[number].items():
                self._add(found, place, value * value / best * alike)
        for place, value in itself.items():
            self._add(found, place, value * value / best)
        most = EXAMPLE * self._idf(1)
        return {place: most * value for place, value in found.items()}

    def _add(self, found: dict[int, float], place: int, new: float) -> None:
        old = found.get(place, 0.0)
        found[place] = max(new, old) + BESIDE * min(new, old)

    def _named(self, said: Sequence[str]) -> dict[int, float]:
        """Things whose titles are like what is said, word for word, and how like."""
        stems = dict.fromkeys(said)
        shared: dict[int, float] = {}
        whole = 0.0
        for term in stems:
            places = self._names.get(term, ())
            rare = self._own(len(places))
            whole += rare
            for place in places:
                shared[place] = shared.get(place, 0.0) + rare
        found = {}
        for place, value in shared.items():
            like = value / (whole + self._lengths[place] - value)
            if like >= ALIKE:
                found[place] = like
        return found

    def _own(self, places: int) -> float:
        return math.sqrt(math.log(1 + self._size / max(1, places)))

    def _negated(self, term: str, weight: float) -> Iterator[tuple[str, float]]:
        """A term that should not be: its opposite, where there is one."""
        if f"un{term}" in self._postings:
            yield f"un{term}", weight
            yield term, 0.5 * weight
        else:
            yield term, weight


def _first(one: Described) -> str:
    return one.text.strip().partition("\n")[0]


def _old(one: Described) -> bool:
    text = one.text[:300].lower()
    return one.name.lower().endswith("legacy") or any(word in text for word in _OLD)


def _alike(names: Sequence[Sequence[str]]) -> list[dict[int, float]]:
    """Of each title that people ask for, the places of those whose names are alike, from 0 to 1."""
    having: dict[str, list[int]] = {}
    for place, some in enumerate(names):
        for term in dict.fromkeys(some[1:]):
            having.setdefault(term, []).append(place)
    rare = {term: math.sqrt(math.log(1 + len(names) / len(places))) for term, places in having.items()}
    unknown = math.sqrt(math.log(1 + len(names)))
    masses = [sum([rare[term] for term in dict.fromkeys(some[1:])]) for some in names]
    each = []
    for title in known().titles:
        shared: dict[int, float] = {}
        for term in title.nouns:
            for place in having.get(term, ()):
                shared[place] = shared.get(place, 0.0) + rare[term]
        mass = sum([rare.get(term, unknown) for term in title.nouns])
        found = {}
        for place, value in shared.items():
            value /= mass + masses[place] - value
            value *= 1.0 if names[place][0] == title.verb else OTHERWISE
            if value >= ALIKE:
                found[place] = value * value
        each.append(found)
    return each


_OLD: Final = ("deprecated", "closing down", "(legacy)", "no longer supported")


def _fields(one: Described) -> dict[str, list[str]]:
    """The terms of a thing, by field."""
    first, _, rest = one.text.strip().partition("\n")
    return {
        "name": _both(terms(parts(one.name))),
        "first": _both(terms(first)),
        "rest": _both(terms(rest[:LONGEST])),
        "takes": _both(terms(" ".join(parts(name) for name in one.takes))),
        "details": _both(terms(one.details[:DETAILS])),
    }


def _both(stems: list[str]) -> list[str]:
    """Stems, and the phrases that they make."""
    return stems + list(within(stems))
