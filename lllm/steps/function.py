"""Functions as steps."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import typing
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from lllm.errors import ConfigError
from lllm.models.reply import Reply
from lllm.ports import TextDelta
from lllm.steps.base import Step
from lllm.steps.fitting import UNKNOWN, allows, classes_of, lists
from lllm.sync import is_async

if TYPE_CHECKING:
    from lllm.steps.running import Here

THREADS: Final = 64
"""Plain functions that run side by side. A chain whose function calls a chain needs one for each level."""


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
        self._is_plain_generator, self._is_generator = made
        if any(made):
            self.gives = Any
        self.streams = any(made)
        self._is_async = is_async(function)

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
        if self._is_async:
            return await self.function(value)
        if self._is_generator:
            return await self._all(self.function(value), here)
        if self._is_plain_generator:
            return await self._all(_in_steps(self.function(value)), here)
        result = await in_pool(self.function, value)
        return await result if asyncio.iscoroutine(result) or isinstance(result, asyncio.Future) else result

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
    return await asyncio.get_running_loop().run_in_executor(
        _pool(), lambda: _guarded(context, function, args)
    )


def _guarded(context: contextvars.Context, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    try:
        return context.run(function, *args)
    except StopIteration as error:  # a Future refuses it
        raise RuntimeError(f"StopIteration raised: {error}") from error


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="lllm-step")


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
