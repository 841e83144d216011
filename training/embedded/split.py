"""Which phrasings and numbers are kept for evaluation and never trained on.

A template (the string as it stands in its pool) belongs to one side for good: a hash of its text decides, so neither
the order of a pool nor the seed can move it. Expressions are divided in the same way, so held-out questions have
unseen numbers as well.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

HELD_ONE_IN = 12
"""One template in so many is held out."""


class Source(random.Random):
    """A random source that counts the held-out templates which were drawn with it."""

    unseen = 0


_CHOICE = re.compile(r"\[([^\[\]]*)\]")


def is_held(text: str) -> bool:
    """True if this template or expression is reserved for evaluation."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % HELD_ONE_IN == 0


def expand(rng: random.Random, template: str) -> str:
    """Replace every `[one|two|]` by one of its alternatives; brackets may be nested."""
    while True:
        expanded = _CHOICE.sub(lambda match: rng.choice(match.group(1).split("|")), template)
        if expanded == template:
            return expanded
        template = expanded


Item = TypeVar("Item", str, tuple[str, str])


class Pool(Generic[Item]):
    """Templates of one kind, divided into a trained and a held-out part.

    Items are strings, or tuples whose first member is the template text.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self.items: Sequence[Item] = list(dict.fromkeys(items))
        self.held = [item for item in self.items if is_held(self.key(item)) and self._has_numbers(item)]
        self.trained = [item for item in self.items if item not in self.held]

    @staticmethod
    def _has_numbers(item: Item) -> bool:
        """False for a question without slots, which could not be asked with unseen numbers."""
        return isinstance(item, str) or "{" in item[1]

    @staticmethod
    def key(item: Item) -> str:
        return item if isinstance(item, str) else item[0]

    def pick(self, rng: random.Random, held: bool = False) -> Item:
        """One item; with `held` an unseen one where the pool has any."""
        if held and self.held:
            if isinstance(rng, Source):
                rng.unseen += 1
            return rng.choice(self.held)
        return rng.choice(self.trained)
