"""Budgets of chains and batches: the names of those of agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any, Final

from lllm.budgets import Ledger, budget_exceeded
from lllm.core.spec import Limits
from lllm.core.use import NONE, Exceeded, exceeded
from lllm.errors import BudgetExceeded, DeadlineExceeded, UnknownKeyError
from lllm.llm.checks import limits_of
from lllm.session import Session, current

NAMES: Final = ("max_cost", "max_tokens_total", "max_model_calls", "deadline")
_OF_CALL: Final = ("store", "name")


def budget_of(given: Mapping[str, Any], base: Limits | None = None) -> Limits | None:
    """The budget of some keywords, in place of parts of another one; None where none of it is left."""
    for key in given:
        if key not in NAMES:
            raise UnknownKeyError(key, (*NAMES, *_OF_CALL))
    if not given:
        return base
    before = {} if base is None else {name: getattr(base, name) for name in NAMES}
    made = limits_of({**before, **given})
    return made if made.counted or made.deadline is not None else None


class BatchBudget:
    """The budget of a whole batch: no item is begun once it is used up. Items that are under way are finished.

    Args:
        session: the batch's, or the one that it is in. place: of the batch in it. owns: the session is there for the batch.

    Attributes:
        ledger: counts what all items use; None where nothing is limited.
    """

    def __init__(
        self, session: Session, limits: Limits | None, name: str, place: str, *, owns: bool = False
    ) -> None:
        scope = current.get()
        around = scope.ledger if scope is not None and scope.session is session else None
        self.ledger = None if limits is None else Ledger(around)
        self._limits = limits
        self._session = session
        self._owner = f"batch '{name}'"
        self._place = place
        self._owns = owns and session.logs
        self._began = session.clock()

    def check(self, index: int) -> None:
        """BudgetExceeded where item `index` is not to be begun. That it is begun is in the log, so that a replay and a resumed
        batch do so too, whatever order their items come in; where the session goes on after it, that it is not."""
        if self._limits is None:
            return
        said = self._session.learn_now("budget", self._said, f"{self._place}.{index}")
        if "limit" in said:
            raise self._error(Exceeded(said["limit"], said["words"]))

    def _said(self) -> dict[str, Any]:
        over = self._over()
        if over is None:
            return {"begins": True}
        if self._owns:
            raise self._error(over)
        return {"limit": over.limit, "words": over.words}

    def _over(self) -> Exceeded | None:
        assert self._limits is not None
        assert self.ledger is not None
        if (left := self._left()) is not None and left <= 0:
            words = f"the deadline of {self._limits.deadline:g} s of {self._owner} has passed"
            return Exceeded("deadline", words)
        over = exceeded(self._limits, self.ledger.total, NONE)
        return None if over is None else over._replace(words=f"a budget of {self._owner}: {over.words}")

    def _error(self, over: Exceeded) -> BudgetExceeded:
        over = over._replace(words=f"not begun: {over.words}", halts=self._owns)
        return budget_exceeded(over, self._session.id)

    def _left(self) -> float | None:
        """Seconds that the batch has left."""
        deadline = None if self._limits is None else self._limits.deadline
        return None if deadline is None else deadline - (self._session.clock() - self._began) / 1_000_000

    def counting(self) -> AbstractContextManager[None]:
        """Around an item in the batch's own session: what it uses is counted."""
        return _counting(self.ledger)


@contextmanager
def _counting(ledger: Ledger | None) -> Iterator[None]:
    scope = current.get()
    if ledger is None or scope is None:
        yield
        return
    token = current.set(scope._replace(ledger=ledger))
    try:
        yield
    finally:
        current.reset(token)


@asynccontextmanager
async def within(session: Session, limits: Limits | None, owner: str, *, halts: bool) -> AsyncIterator[None]:
    """Around what a budget covers. Its agents stop before the request after it is used up.

    Args:
        owner: whose it is, for messages. halts: whether the session is left open then.

    Raises:
        DeadlineExceeded: its time has passed; what was under way was stopped.
    """
    if limits is None:
        yield
        return
    scope = current.get()
    assert scope is not None
    around = scope.ledger if scope.session is session else None
    token = current.set(scope._replace(ledger=Ledger(around, limits, owner, halts=halts and session.logs)))
    try:
        async with asyncio.timeout(limits.deadline) as clock:
            yield
    except TimeoutError as error:
        if not clock.expired():
            raise
        raise DeadlineExceeded(
            f"{owner} has not ended within its deadline of {limits.deadline:g} s",
            reason="deadline",
            session=session.id,
            hint="Raise the deadline, or fork the session.",
        ) from error
    finally:
        current.reset(token)
