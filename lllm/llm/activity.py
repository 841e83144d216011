"""What the program's own code learns from the world, recorded in the running session and given again in a replay.

    @lllm.activity(effect="idempotent", timeout=10)
    async def charge(order: str, context: lllm.ToolContext) -> dict: ...

    lllm.now()       lllm.random().choice(...)       lllm.uuid()

Outside of a session they just do it.
"""

from __future__ import annotations

import functools
import inspect
import os
import random as _random
import uuid as _uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import CodeType
from typing import Any, Final, ParamSpec, TypeVar, overload

from lllm.errors import ConfigError, listing
from lllm.models.function import EFFECTS, Effect, ToolContext
from lllm.recorded_value import ACTIVITY, pack_request
from lllm.session import acting, recording
from lllm.session_effects import Asked, Recalled, check_timeout, context_parameters
from lllm.sync import is_async, run

P = ParamSpec("P")
R = TypeVar("R")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def now(*, key: str | None = None) -> datetime:
    """The time, in UTC. In a replay, and where a session is resumed or forked, the recorded time.

    Arguments:
        key: tells apart what several threads ask at once.
    """
    session = acting()
    if session is None:
        return datetime.now(UTC)
    clock = session.clock
    text = session.learn_now("now", lambda: (_EPOCH + timedelta(microseconds=clock())).isoformat(), key)
    return datetime.fromisoformat(text)


class RecordedRandom(_random.Random):
    """A generator whose seed is recorded."""


def random(*, key: str | None = None) -> _random.Random:
    """A new generator of random numbers. Its seed is recorded, and its draws follow from that: keep it for all draws of
    a task or a loop."""
    session = acting()
    if session is None:
        return _random.Random()
    return _random.Random(int(session.learn_now("random", lambda: os.urandom(16).hex(), key), 16))


def uuid(*, key: str | None = None) -> _uuid.UUID:
    """A random UUID (version 4), recorded."""
    session = acting()
    if session is None:
        return _uuid.uuid4()
    return _uuid.UUID(session.learn_now("uuid", lambda: str(_uuid.uuid4()), key))


@overload
def activity(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def activity(
    *,
    name: str | None = None,
    effect: Effect = "ask",
    timeout: float | None = 60.0,
    approval: bool = False,
    key: Callable[..., str] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def activity(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Makes a function an effect of the session that calls it: `@activity`, or `@activity(effect="pure", timeout=5)`.

    Its result is recorded. A replay, a resumed session and a fork give it again where the function is called with the
    same arguments, and do not run it. Plain functions stay plain, async ones async; without a running session they are
    called as they are. What a function does besides its result is not done again, and agents that it calls have sessions
    of their own.

    Arguments:
        name: by default the function's.
        effect, timeout, approval: as for `lllm.tool`. A plain function with a timeout runs in a worker thread, one with
            None in the thread that calls it.
        key: a function of the same arguments that gives a text, by which equal calls that run side by side are told
            apart.

    Arguments must be JSON, or bytes; a first parameter `self` or `cls` is left out. The result is JSON or bytes. A
    parameter that is annotated ToolContext, or named `context` without an annotation, is given by the runtime: its
    `idempotency_key` stays the same when the function runs again after a crash.

    Raises:
        ConfigError: an option that is not known, or a generator. The function that is made raises what
            `Session.effect` does.
    """
    if unknown := set(options) - {"name", "effect", "timeout", "approval", "key"}:
        raise ConfigError(
            f"an activity has no option '{min(unknown)}'",
            hint="It has name, effect, timeout, approval, key.",
        )
    if function is None:
        return lambda function: _Activity(function, **options).wrapper
    return _Activity(function, **options).wrapper


class _Activity:
    """A function with what is said of it."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str | None = None,
        effect: Effect = "ask",
        timeout: float | None = 60.0,
        approval: bool = False,
        key: Callable[..., str] | None = None,
    ) -> None:
        if isinstance(function, staticmethod | classmethod) or not callable(function):
            raise ConfigError(
                f"@activity got a {type(function).__name__}, not a function",
                hint="Write @staticmethod or @classmethod above @activity.",
            )
        self.name = name or getattr(function, "__name__", type(function).__name__)
        if not isinstance(self.name, str):
            raise ConfigError(f"the name of an activity must be text, got {self.name!r}")
        inner = inspect.unwrap(function)
        if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
            raise ConfigError(
                f"activity '{self.name}': a generator has no single result",
                hint="Return a list of what it yields.",
            )
        if effect not in EFFECTS:
            raise ConfigError(
                f"activity '{self.name}': unknown effect {effect!r}", hint=f"Known: {listing(EFFECTS)}."
            )
        check_timeout(self.name, timeout)
        self.function = function
        self.effect, self.timeout, self.approval, self.key = effect, timeout, approval, key
        self.signature = inspect.signature(function)
        self.contexts = context_parameters(function)
        first = next(iter(self.signature.parameters), None)
        self.skipped = {*self.contexts, *({first} if first in ("self", "cls") else ())}
        self.wrapper = self._async() if is_async(function) else self._plain()

    def _async(self) -> Callable[..., Any]:
        @functools.wraps(self.function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            session = recording()
            if session is None:
                return await self._work(args, kwargs)(ToolContext())
            return await session.act(
                self._asked(args, kwargs), self._work(args, kwargs), True, self.timeout, self.approval
            )

        return call

    def _plain(self) -> Callable[..., Any]:
        @functools.wraps(self.function)
        def call(*args: Any, **kwargs: Any) -> Any:
            session = recording()
            work = self._work(args, kwargs)
            if session is None:
                return work(ToolContext())
            asked = self._asked(args, kwargs)
            if self.timeout is not None:
                return run(session.act(asked, work, False, self.timeout, self.approval))
            found = run(session.intend(asked, self.approval))
            if isinstance(found, Recalled):
                return run(session.again(asked, found))
            try:
                with session.outside():
                    value = work(session.context(asked.place, found))
            except (Exception, SystemExit) as error:
                return run(session.settle(asked, found, error=error))
            except BaseException as error:
                run(session.cut_short(asked, found, error))
                raise
            return run(session.settle(asked, found, value))

        return call

    def _work(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[ToolContext], Any]:
        def work(context: ToolContext) -> Any:
            bound = self.signature.bind_partial(*args, **kwargs)
            for name in self.contexts:
                if context.session is not None or name not in bound.arguments:
                    bound.arguments[name] = context
            return self.function(*bound.args, **bound.kwargs)

        return work if self.contexts else lambda context: self.function(*args, **kwargs)

    def _asked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Asked:
        """The effect that a call is. TypeError for arguments that the function does not take."""
        session = acting()
        assert session is not None
        bound = self.signature.bind_partial(*args, **kwargs)
        for name in self.contexts:
            bound.arguments.setdefault(name, None)
        bound = self.signature.bind(*bound.args, **bound.kwargs)
        bound.apply_defaults()
        given = {name: value for name, value in bound.arguments.items() if name not in self.skipped}
        # *args as a list: it is one whether the caller or a replay made it
        given = {name: list(value) if self._is_rest(name) else value for name, value in given.items()}
        try:
            packed = pack_request(given)
        except TypeError as error:
            raise ConfigError(
                f"activity '{self.name}': an argument cannot be recorded: {error}",
                hint="Give JSON (texts, numbers, true, false, None, lists and dicts of them), or bytes.",
            ) from None
        key = None if self.key is None else self.key(*args, **kwargs)
        if key is not None and not isinstance(key, str):
            raise ConfigError(f"activity '{self.name}': key must give text, got {type(key).__name__}")
        return Asked(ACTIVITY, {"name": self.name, "arguments": packed}, self.effect, key, session.where())

    def _is_rest(self, name: str) -> bool:
        return self.signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL


WRAPPERS: Final = tuple(
    code
    for maker in (_Activity._async, _Activity._plain)
    for code in maker.__code__.co_consts
    if isinstance(code, CodeType)
)
"""The code of the functions that `activity` makes."""
