"""The parts that games of other packages share: rows that are seeds, a live object in the state, and global random numbers."""

from __future__ import annotations

import random
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Self

from lllm.rl.environment import RLEnv
from lllm.rl.environments.splits import HELD_OUT, size_of

_HELD_SEEDS: Final = 1_000_000
"""The seeds of held-out rows begin here."""
_COLOURS: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_LOCK: Final = threading.Lock()


class Game(dict[str, Any]):
    """The state of a rollout: JSON for rewards and the log, and beside it the game itself.

    Attributes:
        game: the object of the other package. drawn: the state of its random generators.
    """

    def __init__(self, game: Any, seed: int, **values: Any) -> None:
        super().__init__(values)
        self.game = game
        self.drawn: tuple[Any, Any] | None = None
        self.seed = seed

    def close(self) -> None:
        """Closes the game, if it can be closed."""
        game, self.game = self.game, None
        closing = getattr(game, "close", None)
        if callable(closing):
            closing()


class SeededGame(RLEnv):
    """A game whose rows are seeds (the column `game_seed`): 0, 1, ... to train on, and from a million on held out.

    Args:
        game: names the game in the other package. split, size: see `size_of`. prompt: of every row. name: of the environment.
        given: all other arguments of the subclass, by name; `arguments` among them are those of RLEnv.
    """

    max_turns = 50

    def __init__(
        self, game: Any, split: str, size: int | None, *, prompt: str, name: str, given: Mapping[str, Any]
    ) -> None:
        count = size_of(split, size)
        self.game, self.split = game, split
        self._given = dict(given)
        start = _HELD_SEEDS if split == HELD_OUT else 0
        rows = [{"prompt": prompt, "game_seed": start + place} for place in range(count)]
        super().__init__(rows, **{"name": name, **(given["arguments"] or {})})

    @property
    def held_out(self) -> Self:
        """The same game with the seeds that are held out."""
        return self if self.split == HELD_OUT else type(self)(self.game, HELD_OUT, **self._given)

    def remade(self) -> dict[str, Any]:
        """See RLEnv."""
        given = {name: value for name, value in self._given.items() if name != "arguments"}
        return {"game": self.game, "split": self.split, "size": 1, **given}


@contextmanager
def own_random(state: Game) -> Iterator[None]:
    """Gives the code of a block global random generators of the game's own, and restores the program's afterwards. In a
    process, one block runs at a time."""
    with _LOCK:
        numpy = getattr(sys.modules.get("numpy"), "random", None)
        before = random.getstate(), None if numpy is None else numpy.get_state()
        if state.drawn is None:
            random.seed(state.seed)
            if numpy is not None:
                numpy.seed(state.seed & 0xFFFFFFFF)
        else:
            random.setstate(state.drawn[0])
            if numpy is not None and state.drawn[1] is not None:
                numpy.set_state(state.drawn[1])
        try:
            yield
        finally:
            state.drawn = random.getstate(), None if numpy is None else numpy.get_state()
            random.setstate(before[0])
            if numpy is not None and before[1] is not None:
                numpy.set_state(before[1])


def plain_text(value: Any) -> str:
    """A text without colours."""
    return _COLOURS.sub("", str(value)).strip()
