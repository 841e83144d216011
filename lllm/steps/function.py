"""Functions as steps."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import typing
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from lllm.errors import ConfigError, LLMError
from lllm.models.reply import Reply
from lllm.ports import TextDelta
from lllm.steps.base import Step
from lllm.steps.fitting import UNKNOWN, allows, classes_of, lists
from lllm.steps.threads import Threads
from lllm.sync import is_async

if TYPE_CHECKING:
    from lllm.steps.running import Here

THREADS: Final = 64
"""Plain functions that run side by side; those that run in a chain that a function runs are counted by themselves."""


class FunctionStep(Step):
    """A function as a step: plain (it runs in a thread), async, or a generator, whose pieces are shown as they come and make a
    text, or a list, together."""

    kind = "function"

    def __init__(self, function: Callable[..., Any]) -> None:
        from lllm.steps.coercing import name_of

        self.function = function
        self.name = name_of(function)
        self.description = (getattr(function, "__doc__", None) or "").strip().partition("\n")[0].strip()
        self.takes, self.gives = _annotations(function, self.name)
        self.takes_list = lists(self.takes)
        made = inspect.isgeneratorfunction(function), inspect.isasyncgenfunction(function)
        if any(made):
            self.gives = Any
        self.streams = any(made)
        self._is_lazy = is_async(function) or any(made)  # a call of it runs nothing yet

    def receive(self, value: Any) -> Any:
        if not isinstance(value, Reply):
            return value
        wanted = classes_of(self.takes)
        if wanted is not None and any(issubclass(Reply, one) for one in wanted):
            return value
        for one in (value.parsed, value.content):
            if one is not None and (wanted is None or allows(self.takes, type(one))):
                return one
        return value.content if value.parsed is None else value.parsed

    async def _run(self, value: Any, here: Here) -> Any:
        try:
            result = self.function(value) if self._is_lazy else await in_pool(self.function, value)
            if inspect.isawaitable(result):
                return await result
            if inspect.isasyncgen(result):
                return await self._all(result, here)
            if inspect.isgenerator(result):
                return await self._all(_in_steps(result), here)
            return result
        except SystemExit as error:  # as in a tool: the function has failed, not the program
            raise exited(self.name, error) from error

    async def _all(self, pieces: AsyncIterator[Any], here: Here) -> Any:
        found = []
        async for piece in pieces:
            found.append(piece)
            if here.follow is not None and isinstance(piece, str):
                here.follow(here.path, self.name, TextDelta(piece))
        return "".join(found) if found and all(isinstance(piece, str) for piece in found) else found


async def in_pool(function: Callable[..., Any], *args: Any) -> Any:
    """Calls a plain function in a thread, by the running loop: so the log has when it came back."""
    context = contextvars.copy_context()
    level = _level.get()
    context.run(_level.set, level + 1)
    return await asyncio.get_running_loop().run_in_executor(
        _pool(level), lambda: _guarded(context, function, args)
    )


def _guarded(context: contextvars.Context, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    try:
        return context.run(function, *args)
    except StopIteration as error:  # a Future refuses it
        raise RuntimeError(f"StopIteration raised: {error}") from error


def exited(name: str, error: SystemExit) -> LLMError:
    """The error of a function that called sys.exit()."""
    return LLMError(
        f"the function '{name}' called sys.exit({error.code!r})",
        hint="Raise an error that says what is wrong.",
    )


_level: Final = contextvars.ContextVar("lllm_step_level", default=0)
"""The number of functions in threads that the running code is nested in."""


@cache
def _pool(level: int) -> Threads:
    """The threads of one level: functions that wait for a chain of their own leave others to that."""
    return Threads(THREADS)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of the threads


_END: Final = object()


async def _in_steps(pieces: Iterator[Any]) -> AsyncIterator[Any]:
    while (piece := await in_pool(next, pieces, _END)) is not _END:
        yield piece


def _annotations(function: Callable[..., Any], name: str) -> tuple[Any, Any]:
    """The types of a function's first parameter and of what it gives."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of some built-in ones nothing is known
        return UNKNOWN, UNKNOWN
    _check(signature, name)
    try:
        hints = typing.get_type_hints(function if inspect.isroutine(function) else type(function).__call__)
    except Exception:  # names that are not there, or of a later Python
        hints = {}
    first = next(iter(signature.parameters.values()), None)
    takes = UNKNOWN if first is None else hints.get(first.name, first.annotation)
    gives = hints.get("return", signature.return_annotation)
    return (UNKNOWN if isinstance(takes, str) else takes), (UNKNOWN if isinstance(gives, str) else gives)


def _check(signature: inspect.Signature, name: str) -> None:
    """ConfigError where a function cannot be called with one value."""
    try:
        signature.bind(None)
    except TypeError:
        raise ConfigError(
            f"the function '{name}' cannot be a stage: it is called with one value, and is {name}{signature}",
            hint="Give its other parameters defaults, or fix them: functools.partial(f, other=...).",
        ) from None
