"""Batches: a step on many values. Outside of a session, the batch has one and each item has one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from lllm.core import events as ev
from lllm.errors import BudgetExceeded
from lllm.llm.checks import parse_count
from lllm.llm.sessions import SessionScope, open_session, running
from lllm.session import Session
from lllm.steps.batch_values import BatchValues
from lllm.steps.budgets import BatchBudget
from lllm.steps.memories import check_batch
from lllm.steps.side_by_side import ERRORS, checked, together

if TYPE_CHECKING:
    from lllm.core.spec import Limits
    from lllm.steps.base import Step
    from lllm.steps.results import Result

_DROPPED: Final = object()
_TOGETHER: Final = 64
"""Events of a batch that are written together: its items have logs of their own."""


async def batch(
    step: Step,
    values: Any,
    *,
    limit: int,
    errors: str,
    store: Any = None,
    name: str | None = None,
    progress: Callable[[int, int | None], None] | bool | None = None,
    limits: Limits | None = None,
) -> list[Any]:
    """See `Step.abatch`."""
    checked(errors, ERRORS, "errors")
    parse_count("limit", limit)
    items = BatchValues(values)
    scope = running("batch")
    check_batch(step, limit, in_session=scope is not None)
    if scope is not None:
        run = ItemsInSession(step, scope.session, limits)
        return await run_items(run, items, limit, errors, progress)
    live = open_session(name or step.name, store=store)
    meta: dict[str, Any] = {"name": name or step.name, "entry": {"kind": "batch", "chain": step.name}}
    await live.start(meta)
    async with SessionScope(live):
        apart = ItemsWithSessions(step, live, limits)
        try:
            results = await run_items(apart, items, limit, errors, progress)
        finally:
            if apart.stopped is not None:  # it can be resumed with more
                live.halt(apart.stopped)
    await live.end("done")
    return results


class Items(Protocol):
    """The two ways to run the items of a batch.

    Attributes:
        apart: True where each item has a session of its own.
    """

    apart: bool
    step: Step
    session: Session

    def session_of(self, index: int) -> str | None:
        """The id of the session that item `index` is recorded in."""
        ...

    async def item(self, index: int, value: Any) -> Any:
        """Runs the step on a value and returns its result. Raises what the step raises."""
        ...


async def run_items(
    run: Items,
    values: BatchValues,
    limit: int,
    errors: str,
    progress: Callable[[int, int | None], None] | bool | None,
) -> list[Any]:
    """Runs all items, at most `limit` at once, and returns their results in the order of the values.

    Args:
        errors: `raise` stops the batch at the first failed item, `keep` puts its error in the place of the result, `drop`
            leaves the item out. A cancellation and an exception that is not an Exception always stop the batch.
        progress: see `Step.abatch`.

    Raises StageError: an item failed, and `errors` is `raise`.
    """
    from lllm.steps.progress import shown
    from lllm.steps.running import failed

    results: list[Any] = []
    with shown(progress, run.step.name, values.count) as tell:
        done = 0
        stopped: list[Exception] = []

        async def work() -> None:
            nonlocal done
            for index, value in values:
                results.append(_DROPPED)
                try:
                    results[index] = await run.item(index, value)
                except Exception as error:
                    if run.apart and getattr(error, "stops_replay", False):  # others may have gone on
                        stopped.append(error)
                        return
                    if run.session.is_stopped_by(error):
                        raise
                    if errors == "raise":
                        raise failed(
                            error, index, getattr(error, "item_session", run.session_of(index))
                        ) from error
                    if errors == "keep":
                        results[index] = failed(error, index, run.session_of(index))
                done += 1
                tell(done)

        count = limit if values.count is None else min(limit, max(values.count, 1))
        await together([work() for _ in range(count)])
        if stopped:
            raise stopped[0]
    return [result for result in results if result is not _DROPPED]


class ItemsInSession:
    """Runs items as a part of the running session."""

    apart = False

    def __init__(self, step: Step, session: Session, limits: Limits | None = None) -> None:
        self.step = step
        self.session = session
        self._run = session.new_run()
        self._budget = BatchBudget(session, limits, step.name, self._run)

    def session_of(self, index: int) -> str | None:
        return self.session.id

    async def item(self, index: int, value: Any) -> Any:
        from lllm.steps.results import with_stages
        from lllm.steps.running import Here, budgeted

        here = Here(self.session, f"{self._run}.{index}")
        self._budget.check(index)
        with self._budget.counting():
            result = (
                await here.do(self.step, value, "1")
                if self.step.kind != "chain"
                else await budgeted(self.step, value, here)
            )
        return with_stages(result, here.results, texts=False)


class ItemsWithSessions:
    """Runs each item in a session of its own, named by the batch's id and the item's number.

    A subclass changes the name (`session_of`) and how a result is found (`result`).
    """

    apart = True

    def __init__(self, step: Step, session: Session, limits: Limits | None = None) -> None:
        self.step = step
        self.session = session
        self._budget = BatchBudget(session, limits, step.name, "batch", owns=True)
        self.stopped: BudgetExceeded | None = None
        """The error that stopped an item or kept it from starting; the batch can be resumed with a larger budget."""

    def session_of(self, index: int) -> str:
        return f"{self.session.id}-{index}"

    def entry_of(self, index: int) -> dict[str, Any]:
        """Returns the description of an item's program for the first event of its session."""
        return {"kind": "chain", "chain": self.step.name}

    async def item(self, index: int, value: Any) -> Any:
        from lllm.steps.results import with_stages

        live, id = self.session, self.session_of(index)
        try:
            self._budget.check(index)
        except BudgetExceeded as error:
            self.stopped = error if error.resumable else None
            raise
        live.emit(ev.ITEM_STARTED, {"item": index, "session": id})
        if not live.durable:
            await live.flush()  # whoever finds an item must find its batch
        try:
            result = await self.result(index, id, value)
        except BaseException as error:
            if isinstance(error, BudgetExceeded) and error.resumable:
                self.stopped = error
                raise
            stopped = isinstance(error, asyncio.CancelledError) or not isinstance(error, Exception)
            if live.halted is None and not (isinstance(error, Exception) and live.is_stopped_by(error)):
                status = "cancelled" if stopped else "failed"
                live.emit(ev.ITEM_ENDED, {"item": index, "status": status})
            raise
        live.emit(ev.ITEM_ENDED, {"item": index, "status": "done"})
        if live.unwritten >= _TOGETHER:
            await live.flush()
        return with_stages(result.value, result.stages, texts=False)

    async def result(self, index: int, id: str, value: Any) -> Result:
        """Returns the result of an item: from its session, where an interrupted batch has one, else from a new session."""
        if self.session.rerun and (result := await self._again(index, id, value)) is not None:
            return result
        return await self.new_result(index, id, value)

    async def new_result(self, index: int, id: str, value: Any) -> Result:
        """Runs an item in a new session and returns its result."""
        from lllm.steps.running import ended

        with Session.outside():
            own = self.session.new_item(id, self.step.name)
            await own.start({"name": self.step.name, "entry": self.entry_of(index)})
            return await ended(own, self.step, value, ledger=self._budget.ledger)

    async def _again(self, index: int, id: str, value: Any) -> Result | None:
        """The result of an item that has a session already; None where it has none."""
        from lllm.steps.running import one

        found: list[Any] = []

        async def again() -> None:
            try:
                found.append(
                    await one(
                        self.step,
                        value,
                        store=self.session.store,
                        ledger=self._budget.ledger,
                        entry=self.entry_of(index),
                    )
                )
            except BaseException as error:
                found.append(error)
                raise

        if not (await self.session.item_again(id, again) and found):
            return None
        if isinstance(found[-1], BaseException):
            raise found[-1]  # as it did
        return found[-1]  # type: ignore[no-any-return]
