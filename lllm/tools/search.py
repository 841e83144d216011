"""Finds tools by what they do, in the words of the one who asks.

BM25 over the fields of a tool (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, section
3.6: field weights are applied to counts before saturation), with a table of synonyms. A word of the query counts once, by its
best synonym, so that a long group is worth no more than a short one.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

from lllm.models.function import Function
from lllm.tools.synonyms import groups

K: Final = 1.2
"""Saturation of BM25."""
SYNONYM: Final = 1.0
"""What a synonym counts, beside the word itself."""
WEIGHTS: Final = {"name": (3.0, 0.8), "first": (3.0, 0.8), "rest": (0.8, 0.6), "parameters": (0.1, 0.5)}
"""Of the fields: the name's words, the first line of the description, the others, names of parameters. What a word in one
counts, and how much a long field counts less."""
LONGEST: Final = 400
"""Characters of a description behind its first line that count: further on it speaks of other things."""
_WORD: Final = re.compile(r"[a-z0-9]+")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_STOP: Final = frozenset(
    """
    a an the of for to in on at by with from as and or is are be been was were it its this that these those i me my we us our
    you your he she they them their his her do does did have has had can could should would will may might must not no so if
    then than there here some any somebody something just please want wants need needs like about into out up over who whom
    what which when how why where all every so far too also now yet still only own please let got am
    """.split()
)


class Index:
    """Functions, searchable by what they do. Building takes about 0.2 ms a function, a search some milliseconds for
    thousands."""

    def __init__(self, functions: Sequence[Function]) -> None:
        self._functions = list(functions)
        fields = [_fields(one) for one in self._functions]
        size = len(fields)
        means = {
            field: max(1.0, sum(len(one[field]) for one in fields) / size) if size else 1.0
            for field in WEIGHTS
        }
        self._postings: dict[str, list[tuple[int, float]]] = {}
        for place, one in enumerate(fields):
            counts: dict[str, float] = {}
            for field, (weight, share) in WEIGHTS.items():
                norm = 1 - share + share * len(one[field]) / means[field]
                for term, count in Counter(one[field]).items():
                    counts[term] = counts.get(term, 0.0) + weight * min(count, 3) / norm
            for term, total in counts.items():
                self._postings.setdefault(term, []).append((place, total * (K + 1) / (total + K)))
        self._idf = {
            term: math.log(1 + (size - len(found) + 0.5) / (len(found) + 0.5))
            for term, found in self._postings.items()
        }

    def search(self, query: str, limit: int) -> list[Function]:
        """The functions that fit best, the best first; none where no word of the query means anything here."""
        scores: defaultdict[int, float] = defaultdict(float)
        for concept in _concepts(query):
            best: dict[int, float] = {}
            for term, weight in concept.items():
                idf = self._idf.get(term)
                if idf is None:
                    continue
                for place, score in self._postings[term]:
                    value = weight * idf * score
                    if value > best.get(place, 0.0):
                        best[place] = value
            for place, value in best.items():
                scores[place] += value
        ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
        return [self._functions[place] for place, _ in ranked[:limit]]


def _fields(function: Function) -> dict[str, list[str]]:
    """The terms of a function, by field."""
    first, _, rest = function.description.strip().partition("\n")
    return {
        "name": terms(_CAMEL.sub(" ", function.name)),
        "first": terms(first),
        "rest": terms(rest[:LONGEST]),
        "parameters": terms(" ".join(_names(function.parameters))),
    }


def _names(schema: Mapping[str, Any]) -> Iterator[str]:
    for name, one in (schema.get("properties") or {}).items():
        yield _CAMEL.sub(" ", str(name))
        if isinstance(one, Mapping):
            yield from (str(value) for value in one.get("enum") or () if isinstance(value, str))


def terms(text: str) -> list[str]:
    """The stems of a text's words, without those that say nothing."""
    return [stem(word) for word in _WORD.findall(text.lower().replace("'", "")) if word not in _STOP]


@cache
def stem(word: str) -> str:
    """A word without its ending: a light form of Porter's stemmer, which leaves short words as they are."""
    if len(word) <= 3 or word.isdigit():
        return word
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) + len(instead) >= 3:
            word = word[: len(word) - len(ending)] + instead
            break
    if len(word) > 4 and word[-1] == word[-2] and word[-1] not in "lsz":
        word = word[:-1]
    return word[:-1] if len(word) > 4 and word.endswith("e") else word


_ENDINGS: Final = (
    ("ations", "ate"), ("ation", "ate"), ("ments", "ment"), ("ities", "ity"), ("ies", "y"), ("sses", "ss"), ("xes", "x"),
    ("ches", "ch"), ("shes", "sh"), ("ings", ""), ("ing", ""), ("eed", "eed"), ("ied", "y"), ("ed", ""), ("ss", "ss"),
    ("us", "us"), ("is", "is"), ("s", ""), ("ly", ""),
)  # fmt: skip


@cache
def _table() -> tuple[dict[tuple[str, ...], dict[str, float]], int]:
    """Phrases of the synonyms, as stems, with the terms that they may stand for; and the length of the longest phrase."""
    table: dict[tuple[str, ...], dict[str, float]] = {}
    for group in groups():
        phrases = [tuple(stem(word) for word in _WORD.findall(one.replace("'", ""))) for one in group]
        # the first of a group is what descriptions say; the others count as terms where they are one word
        means = {phrases[0]: 1.0}
        for phrase in phrases:
            if len(phrase) == 1:
                means.setdefault(phrase, 0.8)
        for phrase in phrases:
            found = table.setdefault(phrase, {})
            for other, weight in means.items():
                for term in other:
                    found[term] = max(found.get(term, 0.0), weight * SYNONYM)
    return table, max(len(phrase) for phrase in table)


def _concepts(query: str) -> list[dict[str, float]]:
    """What a query asks for: of each word, or known phrase, the terms that mean it, with what they count."""
    table, longest = _table()
    words = _WORD.findall(query.lower().replace("'", ""))
    stems = [stem(word) for word in words]
    found: list[dict[str, float]] = []
    for place, word in enumerate(words):
        if word not in _STOP:
            found.append({**table.get((stems[place],), {}), stems[place]: 1.0})
    for length in range(2, longest + 1):
        for start in range(len(words) - length + 1):
            means = table.get(tuple(stems[start : start + length]))
            if means is not None:
                found.append({term: weight / SYNONYM for term, weight in means.items()})
    return found
