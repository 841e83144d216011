"""The base class of the environments that ship, and the checks of their options."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from lllm.errors import ConfigError, UnknownNameError, listing
from lllm.rl.environment import RLEnv
from lllm.rl.environments.splits import HELD_OUT, SPLITS, Problem, rows_of


class ShippedEnv(RLEnv):
    """An environment whose rows are made from a seed.

    Args:
        split: `train` or `held_out`. No problem is in both, whatever the other arguments.
        size: the number of rows; None: that of `SPLITS`.
        seed: of the rows. options: of the environment (`OPTIONS`); further keywords are those of RLEnv.
    """

    OPTIONS: ClassVar[Mapping[str, Any]] = {}
    """The options that this environment has, with their defaults."""
    rows_name: ClassVar[str] = ""
    """The name of the environment that has the same rows for the same options; by default its own name."""

    def __init__(
        self, split: str = "train", *, size: int | None = None, seed: int = 0, **options: Any
    ) -> None:
        self._given = {"size": size, "seed": seed, **options}
        if type(seed) is not int:
            raise ConfigError(f"seed is {seed!r}, and must be a whole number")
        self.split = split
        own = {name: options.pop(name, default) for name, default in self.OPTIONS.items()}
        self.options = self.checked(own)
        rows = rows_of(self.draw, split, size, seed, self.rows_name or type(self).name)
        super().__init__(rows, **{"tools": self.offered(), **options})

    def checked(self, options: dict[str, Any]) -> dict[str, Any]:
        """Returns the options. Raises ConfigError where one is wrong."""
        return options

    def draw(self, rng: random.Random) -> Problem:
        """Returns a random problem."""
        raise NotImplementedError

    def offered(self) -> list[Any] | None:
        """Returns the tools for these options; None for those of the class."""
        return None

    def with_split(self, split: str, size: int | None = None) -> Self:
        """Returns this environment with the rows of another split. `size`: None for the default of that split."""
        if split not in SPLITS:
            raise UnknownNameError("split", str(split), SPLITS)
        return type(self)(split, **{**self._given, "size": size})

    def remade(self) -> dict[str, Any]:
        """See RLEnv: one row is enough."""
        return {"split": self.split, "size": 1, **self.options}

    @property
    def held_out(self) -> Self:
        """The same environment with the rows that are held out."""
        return self if self.split == HELD_OUT else self.with_split(HELD_OUT)


def one_of(options: Mapping[str, Any], name: str, known: Any) -> None:
    """Raises ConfigError unless an option is one of the known values."""
    if options[name] not in known:
        raise ConfigError(f"{name} is {options[name]!r}; it is one of {listing(map(str, known))}")


def some_of(options: dict[str, Any], name: str, known: Any) -> None:
    """Makes an option a tuple. Raises ConfigError unless it is one or several of the known values."""
    given = options[name]
    found = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list | tuple) else ()
    wrong = [one for one in found if one not in known]
    if wrong or not found:
        what = listing(map(str, wrong)) if wrong else repr(given)
        raise ConfigError(f"{name}: {what}; there are {listing(map(str, known))}")
    options[name] = found


def whole(options: Mapping[str, Any], name: str, least: int, most: int) -> None:
    """Raises ConfigError unless an option is a whole number from `least` to `most`."""
    value = options[name]
    if type(value) is not int or not least <= value <= most:
        raise ConfigError(f"{name} is {value!r}; it is a whole number from {least} to {most}")
