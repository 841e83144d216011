"""The calls of `CALL_API`, made where the cell was run from: in that loop, as effects within the effect that the cell is."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine, Mapping
from typing import Any, Protocol, runtime_checkable

from lllm.errors import EndpointDenied
from lllm.sandbox.broker import Perform
from lllm.session import Session, own_code


class Api(Protocol):
    """What cells may call: a `lllm.Proxy`, say."""

    async def acall(self, address: str, params: Mapping[str, Any] | None = None, /) -> Any:
        """Calls the endpoint of an address. Raises an LLMError for one that is not active, or fails."""

    def needs_approval(self, address: str) -> bool:
        """True if somebody must approve each call of an endpoint. Raises UnknownNameError for one that is not active."""


@runtime_checkable
class Catalogued(Protocol):
    """One that lists its endpoints."""

    def api_catalog(self, *, max_tokens: int | None = None) -> str:
        """The endpoints, as a text for models."""


def perform_in(api: Api, session: Session | None, effect: int | None) -> Perform:
    """Makes the calls of a cell. To be called in the loop and context of its caller.

    Args:
        effect: the number of the effect that the cell is.
    """
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    place = None if session is None else session.where()._replace(inside=effect)

    async def call(address: str, params: Mapping[str, Any]) -> Any:
        if session is None or place is None:
            if api.needs_approval(address):  # it is asked for in sessions only, and this is a model's code
                raise EndpointDenied(
                    f"'{address}' must be approved, and nobody can be asked outside of a session",
                    hint="Run the notebook within a session: with lllm.record(): ...",
                )
            return await api.acall(address, params)
        with own_code(session, place):
            return await api.acall(address, params)

    async def perform(address: str, params: Mapping[str, Any]) -> Any:
        return await _elsewhere(call(address, params), loop, context)

    return perform


async def _elsewhere(
    work: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, context: contextvars.Context
) -> Any:
    """Awaits work that runs in another loop and context. Where this is cancelled, so is that."""
    here = asyncio.get_running_loop()
    answered: asyncio.Future[Any] = here.create_future()
    tasks: list[asyncio.Task[Any]] = []

    def ended(task: asyncio.Task[Any]) -> None:
        here.call_soon_threadsafe(settle, task)

    def settle(task: asyncio.Task[Any]) -> None:
        if answered.done():
            return
        if task.cancelled():
            answered.cancel()
        elif (error := task.exception()) is not None:
            answered.set_exception(error)
        else:
            answered.set_result(task.result())

    def start() -> None:
        tasks.append(loop.create_task(work, context=context.copy()))
        tasks[0].add_done_callback(ended)

    try:
        loop.call_soon_threadsafe(start)
    except RuntimeError:  # the loop has been closed
        work.close()
        raise
    try:
        return await answered
    except asyncio.CancelledError:
        loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])
        raise
