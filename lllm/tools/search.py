"""Finds tools by what they do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from lllm.models.function import Function

_WORD: Final = re.compile(r"[a-z0-9]+")


class Index:
    """Functions, searchable by words of their names, descriptions and parameters."""

    def __init__(self, functions: Sequence[Function]) -> None:
        self._functions = list(functions)
        self._words = [set(_words(_text(one))) for one in functions]

    def search(self, query: str, limit: int) -> list[Function]:
        """The functions that match best, the best first."""
        wanted = set(_words(query))
        scored = [(len(wanted & words), -place) for place, words in enumerate(self._words)]
        best = sorted((score for score in scored if score[0]), reverse=True)[:limit]
        return [self._functions[-place] for _, place in best]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower().replace("_", " "))


def _text(function: Function) -> str:
    return f"{function.name} {function.description} {' '.join(function.parameters.get('properties', {}))}"
