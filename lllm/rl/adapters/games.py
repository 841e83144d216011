"""What games of other packages have in common: a live object in the state, and random numbers that are global."""

from __future__ import annotations

import random
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_COLOURS: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_LOCK: Final = threading.Lock()


class Game(dict[str, Any]):
    """The state of a rollout: JSON for rewards and the log, and beside it the game itself.

    Attributes:
        game: the object of the other package. drawn: what its next random numbers depend on.
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


@contextmanager
def own_random(state: Game) -> Iterator[None]:
    """Around code that draws from the global generators: it draws as if it were alone, and they are put back afterwards. One
    game at a time, in this process."""
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
