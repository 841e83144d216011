"""What the tests of every backend use."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from lllm.errors import ProviderTimeout
from lllm.models.message import FunctionCall, Message, user
from lllm.models.reply import Reply
from lllm.ports import Backend, Completed, Delta, Request, TextDelta, ThinkingDelta, Timeouts, ToolCallDelta

T = TypeVar("T")
ADD: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
            "required": ["a", "b"],
        },
    },
}


def ask(
    text: str = "Hi.", *, model: str = "test-model", messages: tuple[Message, ...] = (), **more: Any
) -> Request:
    """A request; `sampling` and the other fields by name."""
    return Request(model, messages or (user(text),), **more)


def limits(**seconds: float) -> Timeouts:
    """Time limits that a test can wait for; the others are longer than any machine takes."""
    return Timeouts(**(dict.fromkeys(("connect", "first_token", "idle", "total"), 120.0) | seconds))


async def at_some_pace(attempt: Callable[[float], Awaitable[T]]) -> T:
    """What `attempt` gives, once no time limit trips. It is given what to multiply its times with: where a busy machine
    keeps a quick one from being on time, a slower one follows."""
    for pace in (1, 4, 16):
        try:
            return await attempt(pace)
        except ProviderTimeout:
            continue
    return await attempt(64)


async def collect(backend: Backend, request: Request) -> list[Delta]:
    """All deltas of a call."""
    return [delta async for delta in backend.stream(request)]


async def reply(backend: Backend, request: Request) -> Reply:
    """The reply of a call, after checking the protocol: one Completed, at the end."""
    deltas = await collect(backend, request)
    assert [isinstance(delta, Completed) for delta in deltas] == [False] * (len(deltas) - 1) + [True]
    assert isinstance(deltas[-1], Completed)
    return deltas[-1].reply


def gone(held: weakref.ref[Any]) -> bool:
    """Whether nobody holds it any longer: the thread that has just answered may, for a moment."""
    for _ in range(1200):
        gc.collect()
        if held() is None:
            return True
        time.sleep(0.05)
    return False


def joined(deltas: list[Delta]) -> tuple[str, str, list[FunctionCall]]:
    """What the pieces of a stream add up to: text, thinking, tool calls."""
    calls: dict[int, list[str]] = {}
    for delta in deltas:
        if isinstance(delta, ToolCallDelta):
            call = calls.setdefault(delta.index, ["", "", ""])
            assert not (call[0] and delta.id), "an id comes once"
            assert not (call[1] and delta.name), "a name comes once"
            call[0] += delta.id or ""
            call[1] += delta.name or ""
            call[2] += delta.arguments
    text = "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))
    thinking = "".join(delta.text for delta in deltas if isinstance(delta, ThinkingDelta))
    return text, thinking, [FunctionCall(*calls[index]) for index in sorted(calls)]


def schema(name: str = "answer", **properties: Any) -> Mapping[str, Any]:
    """A request's format."""
    body = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"name": name, "schema": body, "strict": True}
