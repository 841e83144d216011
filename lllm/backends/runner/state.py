"""The states of a runner, and which may follow which."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a runner is in its life.

    `created`: nothing is loaded yet; the first call does it. `loading`: a model is being loaded. `ready`: it answers.
    `failed`: the last load failed, nothing is loaded; the next call tries again. `closed`: for good.
    """

    CREATED = "created"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    CLOSED = "closed"


MOVES: Final = {
    State.CREATED: (State.LOADING, State.CLOSED),
    State.LOADING: (State.READY, State.FAILED),
    State.READY: (State.LOADING, State.CLOSED),
    State.FAILED: (State.LOADING, State.CLOSED),
    State.CLOSED: (),
}
