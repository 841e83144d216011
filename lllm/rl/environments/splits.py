"""The rows of the environments that ship: made from a seed, and divided into a training and a held-out split."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from lllm.errors import ConfigError, UnknownNameError
from lllm.llm.checks import parse_count

TRAIN: Final = "train"
HELD_OUT: Final = "held_out"
SPLITS: Final[Mapping[str, int]] = {TRAIN: 1000, HELD_OUT: 400}
"""The splits, each with its number of rows where none is given."""
HELD_ONE_IN: Final = 5
"""One problem in so many is held out."""
_TRIES: Final = 200
"""Draws per row after which there are no more different problems."""


class Problem(NamedTuple):
    """A random row. Two with an equal `key` are the same problem in other words, and belong to the same split.

    Attributes:
        parts: keys of the problems within it, which are all on its side; empty where there are none.
    """

    key: str
    row: dict[str, Any]
    parts: tuple[str, ...] = ()

    def belongs_to(self, split: str) -> bool:
        """Returns True if it may be a row of a split."""
        return all(is_held_out(key) == (split == HELD_OUT) for key in self.parts or (self.key,))


def is_held_out(key: str) -> bool:
    """Returns True for a problem of the held-out split. A digest of the problem decides, so no seed, size or level moves it to
    the other."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % HELD_ONE_IN == 0


def rows_of(
    draw: Callable[[random.Random], Problem], split: str, size: int | None, seed: int, name: str
) -> list[dict[str, Any]]:
    """Returns `size` different rows of a split: the same for the same split, size, seed and name.

    Raises UnknownNameError: an unknown split. ConfigError: a size below 1, or more than there are different problems.
    """
    wanted = size_of(split, size)
    rng = random.Random(f"{name} {split} {seed}")
    found: dict[str, dict[str, Any]] = {}
    for _ in range(_TRIES * wanted + 1000):
        if len(found) == wanted:
            return list(found.values())
        problem = draw(rng)
        if problem.belongs_to(split):
            found.setdefault(problem.key, problem.row)
    raise ConfigError(
        f"{name}: the split '{split}' has {len(found)} different rows with these options, and size is {wanted}",
        hint="Give a smaller `size`, or options with more variety.",
    )


def size_of(split: str, size: int | None) -> int:
    """Returns the number of rows of a split. Raises what `rows_of` raises."""
    if split not in SPLITS:
        raise UnknownNameError("split", str(split), SPLITS)
    return SPLITS[split] if size is None else parse_count("size", size)
