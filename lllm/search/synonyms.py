"""The thesaurus: what people say for the words in descriptions of services. See `thesaurus.txt`."""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

FILE: Final = "thesaurus.txt"


class Line(NamedTuple):
    """Attributes: terms: what descriptions say. said: what may mean them, with what it counts."""

    terms: tuple[str, ...]
    said: tuple[tuple[str, float], ...]


class Thesaurus(NamedTuple):
    """Attributes: verbs, nouns: its lines. words: lines the other way round: first what is said, then what that may mean.
    names: first names of people.
    """

    verbs: tuple[Line, ...]
    nouns: tuple[Line, ...]
    words: tuple[Line, ...]
    names: frozenset[str]


@cache
def thesaurus() -> Thesaurus:
    """Reads the thesaurus, once."""
    from importlib import resources

    return parsed((resources.files("lllm.search") / FILE).read_text(encoding="utf-8"))


def parsed(text: str) -> Thesaurus:
    """A thesaurus as it is written in the file."""
    parts: dict[str, list[str]] = {"verbs": [], "nouns": [], "words": [], "names": []}
    part: list[str] = []
    for line in text.splitlines():
        if line.startswith("["):
            part = parts[line.strip("[] ")]
        elif line.strip() and not line.startswith("#"):
            part.append(line)
    names = frozenset(name for line in parts["names"] for name in line.split())
    verbs, nouns, words = (tuple(map(_line, parts[part])) for part in ("verbs", "nouns", "words"))
    return Thesaurus(verbs, nouns, words, names)


def _line(text: str) -> Line:
    left, _, right = text.partition("|")
    said = [one.strip() for one in right.split(",")]
    return Line(
        tuple(one.strip() for one in left.split(",")),
        tuple((one.rstrip("~"), 0.5 ** one.count("~")) for one in said if one),
    )
