"""Which session a call belongs to: the running one, a given one, or one of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from lllm.budgets import Ledger
from lllm.core.jsonable import jsonable
from lllm.errors import CallCancelled, ConfigError, EffectFailed, LLMError, text_of
from lllm.llm.project import default_store
from lllm.ports import LogStore
from lllm.session import Scope, Session, current, unscoped
from lllm.sync import finish, run


def open_session(
    name: str = "",
    *,
    store: LogStore | None = None,
    id: str | None = None,
    seed: str | int | None = None,
    **more: Any,
) -> Session:
    """A new session in `store`, or in the log that the configuration names. In a replay, the program that is run again
    opens the recorded one."""
    scope = current.get()
    if scope is not None and scope.session.unopened:
        scope.session.opens(name)
        scope.session.unopened = False
        return scope.session
    if scope is None:
        for look in list(unscoped):
            look()
    else:
        scope.session.opens_another(name)
    if store is None:
        store = default_store()
    live = Session(store, id=id, name=name, seed=seed, **more)
    if scope is not None:
        live.approve = scope.session.approve  # the same person approves
    return live


def running(kind: str) -> Scope | None:
    """Where an agent or a system (`kind`) is called: in whose session, by which call. None where it opens a session of
    its own: nothing is running, or a replay runs what had opened the recorded session."""
    scope = current.get()
    return None if scope is not None and scope.session.opened_by(kind) else scope


def _told(name: str, meta: Mapping[str, Any] | None) -> dict[str, Any]:
    if not meta:
        return {"name": name}
    from lllm.core.records import SessionStarted
    from lllm.core.shapes import misfit

    told = {"name": name, **{str(key): jsonable(value) for key, value in meta.items()}}
    if given := told.keys() & _OURS.keys():
        key = min(given)
        raise ConfigError(f"`meta` cannot have {key!r}, which lllm writes itself", hint=_OURS[key])
    if wrong := misfit(told, SessionStarted):
        raise ConfigError(f"`meta` does not fit SessionStarted: {wrong}", hint="Use another key for it.")
    return told


_OURS: Final = {
    "seed": "Give it as `seed=`, or use another key.",
    "lllm": "Use another key.",
    "fork": "Use another key.",
    "inputs": "Use another key.",
}


@contextmanager
def record(
    name: str = "",
    *,
    store: LogStore | None = None,
    seed: str | int | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Iterator[Session]:
    """`with lllm.record("name") as session:` puts all calls made inside into one session."""
    live = open_session(name, store=store, seed=seed)
    run(live.start(_told(name, meta)))
    token = current.set(Scope(live))
    try:
        yield live
    except BaseException as error:
        finish(fail(live, error))
        raise
    else:
        finish(live.end("done"))
    finally:
        current.reset(token)


@asynccontextmanager
async def arecord(
    name: str = "",
    *,
    store: LogStore | None = None,
    seed: str | int | None = None,
    meta: Mapping[str, Any] | None = None,
) -> AsyncIterator[Session]:
    """`async with lllm.arecord("name") as session:`, the same for async code."""
    live = open_session(name, store=store, seed=seed)
    await live.start(_told(name, meta))
    token = current.set(Scope(live))
    try:
        yield live
    except BaseException as error:
        await fail(live, error)
        raise
    else:
        await live.end("done")
    finally:
        current.reset(token)


class SessionScope:
    """`async with SessionScope(live):` makes a started session the running one. What the block raises ends the session; a block
    that succeeds leaves it open, so that its caller ends it with the result.

    Args:
        ledger: counts what the block uses.
    """

    # a class, because contextlib sets attributes of the exceptions that pass through it, and some have none that can be set

    __slots__ = ("_ledger", "_live", "_token")

    def __init__(self, live: Session, ledger: Ledger | None = None) -> None:
        self._live = live
        self._ledger = ledger

    async def __aenter__(self) -> None:
        self._token = current.set(Scope(self._live, ledger=self._ledger))

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is not None:
                await fail(self._live, error)
        finally:
            current.reset(self._token)


async def fail(live: Session, error: BaseException) -> None:
    """Ends a session with what its program raised. One that is gone on with may stay open."""
    live.left_open(error)
    status, data = ending(error)
    await live.end(status, **data)


def ending(error: BaseException) -> tuple[str, dict[str, Any]]:
    """Status and data of SessionEnded for an exception. A cancelled session says no more than that: what stopped it
    (Ctrl-C, a closed stream) is not there when it is replayed."""
    if isinstance(error, CallCancelled) or not isinstance(error, Exception):
        return "cancelled", {}
    ours = isinstance(error, LLMError) and not isinstance(
        error, EffectFailed
    )  # which may stand for any exception
    message = str(error) if ours else f"{type(error).__name__}: {text_of(error)}"
    return "failed", {"error": message[:2000]}
