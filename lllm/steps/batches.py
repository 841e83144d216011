"""Batches: a step on many values. Outside of a session, the batch has one and each item has one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from lllm.core import events as ev
from lllm.errors import BudgetExceeded, ConfigError
from lllm.llm.sessions import fail, open_session, running
from lllm.session import Scope, Session, current
from lllm.steps.budgets import BatchBudget
from lllm.steps.memories import check_batch
from lllm.steps.side_by_side import ERRORS, checked, counted, together

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
    counted("limit", limit)
    items = _Items(values)
    scope = running("batch")
    check_batch(step, limit, in_session=scope is not None)
    if scope is not None:
        run = _InSession(step, scope.session, limits)
        return await _all(run, items, limit, errors, progress)
    live = open_session(name or step.name, store=store)
    meta: dict[str, Any] = {"name": name or step.name, "entry": {"kind": "batch", "chain": step.name}}
    await live.start(meta)
    token = current.set(Scope(live))
    apart = _InSessions(step, live, limits)
    try:
        results = await _all(apart, items, limit, errors, progress)
    except BaseException as error:
        if apart.stopped is not None:
            live.halt(apart.stopped)
        await fail(live, error)
        raise
    finally:
        current.reset(token)
    if apart.stopped is not None:  # it can be resumed with more
        live.halt(apart.stopped)
    await live.end("done")
    return results


class _Items:
    """The values of a batch, read as they are needed."""

    def __init__(self, values: Any) -> None:
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            what = "an async iterable" if isinstance(values, AsyncIterable) else type(values).__name__
            raise ConfigError(f"a batch was given {what}", hint="Give it a list of values, or any iterable.")
        if isinstance(values, Mapping) or hasattr(
            values, "itertuples"
        ):  # their iteration gives keys, and names of columns
            rows = "values.items()" if isinstance(values, Mapping) else "values.to_dict('records')"
            raise ConfigError(
                f"a batch was given {type(values).__name__}: its keys, its values or its rows may be meant",
                hint=f"Say which, as in batch({rows}).",
            )
        self.count = len(values) if hasattr(values, "__len__") else None  # type: ignore[arg-type]
        if self.count is None and iter(values) is values:
            if id(values) in _used and _used[id(values)]() is values:
                raise ConfigError(
                    "a batch was given a generator that another batch has read",
                    hint="A generator gives its values once: make a list of it, or a new one.",
                )
            _note(values)
        self._values = enumerate(values)

    def __iter__(self) -> Any:
        return self._values


def _note(values: Any) -> None:
    """Remembers an iterator that is read. Some of Python's own are held for that, the last few."""
    import weakref

    key = id(values)
    try:
        _used[key] = weakref.ref(values, lambda _: _used.pop(key, None))
    except TypeError:
        if len(_held) == _held.maxlen:
            _used.pop(id(_held[0]), None)
        _held.append(values)
        _used[key] = lambda: values


_used: Final[dict[int, Callable[[], Any]]] = {}
_held: Final[deque[Any]] = deque(maxlen=8)


async def _all(run: Any, items: _Items, limit: int, errors: str, progress: Any) -> list[Any]:
    """Runs all items, `limit` at a time. The first error stops the others where `errors` says so; a cancellation, or what is
    no Exception, always does."""
    from lllm.steps.progress import shown
    from lllm.steps.running import failed

    results: list[Any] = []
    with shown(progress, run.step.name, items.count) as tell:
        done = 0
        stopped: list[Exception] = []

        async def work() -> None:
            nonlocal done
            for index, value in items:
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

        count = limit if items.count is None else min(limit, max(items.count, 1))
        await together([work() for _ in range(count)])
        if stopped:
            raise stopped[0]
    return [result for result in results if result is not _DROPPED]


class _InSession:
    """Items that are a part of the running session."""

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


class _InSessions:
    """Items that have sessions of their own: the batch's id, and their number."""

    apart = True

    def __init__(self, step: Step, session: Session, limits: Limits | None = None) -> None:
        self.step = step
        self.session = session
        self._budget = BatchBudget(session, limits, step.name, "batch", owns=True)
        self.stopped: BudgetExceeded | None = None
        """What stopped an item, or kept it from being begun: the batch can be resumed with more."""

    def session_of(self, index: int) -> str:
        return f"{self.session.id}-{index}"

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
            result = await self._result(id, value)
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

    async def _result(self, id: str, value: Any) -> Result:
        """The result of an item: of its session, where a batch that was interrupted has one, else of a new one."""
        from lllm.steps.running import ended

        if self.session.rerun and (result := await self._again(id, value)) is not None:
            return result
        with Session.outside():
            own = self.session.new_item(id, self.step.name)
            await own.start({"name": self.step.name, "entry": {"kind": "chain", "chain": self.step.name}})
            return await ended(own, self.step, value, ledger=self._budget.ledger)

    async def _again(self, id: str, value: Any) -> Result | None:
        """The result of an item that has a session already; None where it has none."""
        from lllm.steps.running import one

        found: list[Any] = []

        async def again() -> None:
            try:
                found.append(
                    await one(self.step, value, store=self.session.store, ledger=self._budget.ledger)
                )
            except BaseException as error:
                found.append(error)
                raise

        if not (await self.session.item_again(id, again) and found):
            return None
        if isinstance(found[-1], BaseException):
            raise found[-1]  # as it did
        return found[-1]  # type: ignore[no-any-return]
