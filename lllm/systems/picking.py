"""Picks one of several answers to the same question: by vote, or the best."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final

from lllm.errors import ConfigError

Pick = Callable[[list[str]], Awaitable[str]]

_NUMBER: Final = re.compile(r"-?\d+(?:[.,]\d+)*")
_SCORE: Final = re.compile(r"-?\d+(?:\.\d+)?")


def vote(key: Callable[[str], Hashable | None] | None = None) -> Pick:
    """A function that picks the answer that was given most often; of several, the one that was given first.

    Args:
        key: what counts as the same answer; None for a text that has none. By default the text without capitals, spaces and
            punctuation around it.
    """
    same = _plain if key is None else key

    async def voted(texts: list[str]) -> str:
        keys = [same(text) for text in texts]
        votes = Counter(one for one in keys if one is not None)
        if not votes:
            raise ConfigError(
                f"none of {len(texts)} answers has a key to vote by; the first is {texts[0][:80]!r}",
                hint="Ask for what the key finds (last_number: a number), or give vote another key=; without one whole texts "
                "are compared (in YAML: pick: vote).",
            )
        return texts[keys.index(votes.most_common(1)[0][0])]

    return voted


def last_number(text: str) -> str | None:
    """The last number of a text, as a key of `vote`: self-consistency over worked sums."""
    found = _NUMBER.findall(text)
    return found[-1].replace(",", "") if found else None


def best_of(score: Any) -> Pick:
    """A function that picks the answer with the highest score; of several, the first.

    Args:
        score: a function of a text that gives a number, plain or async; or an agent or any other step: the first number in its
            reply counts.
    """
    from lllm.steps.coercing import step_of

    judge = step_of(score)

    async def best(texts: list[str]) -> str:
        scores = [_score(one, judge.name) for one in await judge.abatch(texts, errors="raise")]
        return texts[scores.index(max(scores))]

    return best


def _score(value: Any, name: str) -> float:
    if isinstance(value, bool | int | float):
        return float(value)
    found = _SCORE.search(str(getattr(value, "content", value)))
    if found is None:
        raise ConfigError(f"'{name}' scores answers, and gave no number: {str(value)[:80]!r}")
    return float(found[0])


def _plain(text: str) -> str:
    words = unicodedata.normalize("NFKC", text).casefold().split()
    return " ".join(words).strip(" .,;:!?\"'`*()[]")
