"""Runs steps in a session: each stage is two events, and counts what it used."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from lllm.budgets import Ledger
from lllm.core import events as ev
from lllm.core.use import NONE
from lllm.errors import LLMError, StageError, describe_error, text_of
from lllm.llm.sessions import SessionScope, open_session, running
from lllm.session import Scope, Session, current
from lllm.steps.budgets import within
from lllm.steps.results import Result, StageResult, Stages

if TYPE_CHECKING:
    from lllm.core.spec import Limits
    from lllm.ports import Delta
    from lllm.steps.base import Step

Follow = Callable[[str, str, "Delta"], None]
"""Called with the place and the name of a stage, and a delta of it."""

_NOTE: Final = "in stage "
_WORDS: Final = 2000
"""Characters of an error that an event has."""


class Here:
    """The place where a step runs: its session, its path, and the follower of its deltas.

    Attributes:
        path: the place, as in StageStarted. follow: None where nobody wants the deltas.
        results: of the stages that have run here, in order.
    """

    __slots__ = ("follow", "path", "results", "session")

    def __init__(self, session: Session, path: str, follow: Follow | None = None) -> None:
        self.session = session
        self.path = path
        self.follow = follow
        self.results: list[StageResult] = []

    def within(self, part: str, follow: bool = True) -> Here:
        """A place within this one. `follow`: whether its deltas are shown."""
        return Here(self.session, f"{self.path}/{part}", self.follow if follow else None)

    async def stage(
        self,
        step: Step,
        value: Any,
        part: str,
        *,
        follow: bool = True,
        limits: Limits | None = None,
        owns: bool = False,
    ) -> Any:
        """Runs a step as a stage at a place within this one, and gives what it gives."""
        inner = self.within(part, follow)
        session, scope = self.session, current.get()
        call = scope.call if scope is not None and scope.session is session else None
        around = scope.ledger if scope is not None and scope.session is session else None
        ledger = Ledger(around)
        began = time.monotonic()
        session.emit(ev.STAGE_STARTED, {"stage": inner.path, "name": step.name, "step": step.kind}, call)
        inside = Scope(session, call, None if scope is None else scope.tool_call, ledger, inner.path)
        token = current.set(inside)
        status = "done"
        more: dict[str, Any] = {}
        try:
            result = await budgeted(step, value, inner, limits, owns)
        except BaseException as error:
            status, more = _ending(error)
            _say_where(error, session.id, inner.path, step.name)
            raise
        finally:
            current.reset(token)
            used = ledger.take()
            if used != NONE:
                more = {**more, "used": used.record()}
            if session.halted is None:
                with suppress(LLMError) if status != "done" else _nothing:
                    session.emit(ev.STAGE_ENDED, {"stage": inner.path, "status": status, **more}, call)
        self.results.append(StageResult(inner.path, step.name, result, used, time.monotonic() - began))
        return result

    async def do(self, step: Step, value: Any, part: str, *, follow: bool = True) -> Any:
        """Runs a step at a place within this one. One that is made of stages is not a stage itself."""
        if step.members and step.kind == "chain":
            return await budgeted(step, value, self.within(part, follow))
        return await self.stage(step, value, part, follow=follow)


class _Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


_nothing: Final = _Nothing()


def _ending(error: BaseException) -> tuple[str, dict[str, Any]]:
    if isinstance(error, asyncio.CancelledError) or not isinstance(error, Exception):
        return "cancelled", {}
    words = str(error) if isinstance(error, LLMError) else f"{type(error).__name__}: {text_of(error)}"
    return "failed", {"error": words[:_WORDS]}


def _say_where(error: BaseException, session: str, path: str, name: str) -> None:
    """Notes the innermost stage in which an error was raised. One object may be raised again and again, in other stages."""
    if not isinstance(error, Exception) or isinstance(error, StageError):
        return
    mark = getattr(error, "_lllm_stage", None)
    if mark is not None and mark[0] == session and f"{mark[1]}/".startswith((f"{path}/", f"{path}:")):
        return
    if not hasattr(error, "stage") or (mark is not None and error.stage == mark[1]):
        with suppress(Exception):  # of a class that takes no attributes
            error.stage = path  # type: ignore[attr-defined]
    with suppress(Exception):
        error._lllm_stage = session, path  # type: ignore[attr-defined]
    with suppress(Exception):
        if notes := getattr(error, "__notes__", None):
            error.__notes__ = [note for note in notes if mark is None or not note.startswith(_NOTE)]
        error.add_note(f"{_NOTE}{path} '{name}'")


async def budgeted(
    step: Step, value: Any, here: Here, limits: Limits | None = None, owns: bool = False
) -> Any:
    """Runs a step within its budget and returns its result. `limits`: in place of the step's own. `owns`: the session is its
    own."""
    limits = limits or step.limits
    if limits is None:
        return await step._run(step.receive(value), here)
    async with within(here.session, limits, f"{step.kind} '{step.name}'", halts=owns):
        return await step._run(step.receive(value), here)


async def in_session(
    step: Step,
    value: Any,
    session: Session,
    follow: Follow | None = None,
    limits: Limits | None = None,
    owns: bool = False,
) -> Result:
    """Runs a step on one value in a session, as one run of it. `owns`: the session is there for this run, and is left open
    where its budget is used up."""
    here = Here(session, session.new_run(), follow)
    if step.kind == "chain":
        result = await budgeted(step, value, here, limits, owns)
    else:
        result = await here.stage(step, value, "1", limits=limits, owns=owns)
    if session.halted is not None:  # code of the project has caught it
        raise session.halted
    return Result(result, Stages(here.results), session.id)


async def one(
    step: Step,
    value: Any,
    *,
    store: Any = None,
    name: str | None = None,
    follow: Follow | None = None,
    limits: Limits | None = None,
    owns: bool = False,
    ledger: Ledger | None = None,
    entry: dict[str, Any] | None = None,
) -> Result:
    """Runs a step on one value: in the running session, else in one of its own. `ledger`: of the batch whose item it is;
    `entry`: what its session says of its program then."""
    entry = entry or {"kind": "chain", "chain": step.name}
    scope = running(entry["kind"])
    if scope is not None:
        return await in_session(step, value, scope.session, follow, limits, owns)
    live = open_session(name or step.name, store=store)
    await live.start({"name": name or step.name, "entry": entry})
    return await ended(live, step, value, follow, limits, ledger)


async def ended(
    live: Session,
    step: Step,
    value: Any,
    follow: Follow | None = None,
    limits: Limits | None = None,
    ledger: Ledger | None = None,
) -> Result:
    """Runs a step on one value in a session that has been started, and ends that."""
    async with SessionScope(live, ledger):
        result = await in_session(step, value, live, follow, limits, owns=True)
    await live.end("done", result=step.told(result.value))
    return result


def failed(error: Exception, index: int, session: str | None) -> StageError:
    """Returns the error that takes the place of a failed item. `error` may be that of an item within it."""
    words = describe_error(error)
    mark = getattr(error, "_lllm_stage", None)
    stage = mark[1] if mark is not None else error.stage if isinstance(error, StageError) else None
    place = f" in stage {stage}" if stage else ""
    made = StageError(f"item {index} failed{place}: {words}", hint=getattr(error, "hint", None))
    made.stage, made.index, made.session = stage, index, session
    made.retryable = bool(getattr(error, "retryable", False))
    made.__cause__ = error
    return made
