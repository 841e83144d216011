"""What a plug-in may raise: whatever it is, the call has an end in the log, and the next one works."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest

from lllm import Agent, ScriptedBackend, errors, record
from lllm.core.canonical import decode
from lllm.core.jsonable import jsonable
from lllm.log.memory import MemoryLog
from lllm.models import FunctionCall, Prompt


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")

    __repr__ = __str__


class Ending(BaseException):
    """As a test framework ends a test: not an Exception."""


def mute() -> str:
    raise Mute


def leave() -> str:
    sys.exit(2)


async def leave_later() -> str:
    await asyncio.sleep(0)
    sys.exit("usage: ...")


async def cancelled() -> str:
    raise asyncio.CancelledError


def interrupt() -> str:
    raise KeyboardInterrupt


async def interrupt_later() -> str:
    await asyncio.sleep(0.01)
    raise KeyboardInterrupt


async def end() -> str:
    await asyncio.sleep(0)
    raise Ending


async def wait() -> str:
    await asyncio.sleep(60)
    return "waited"


def asked(tool: Callable[..., Any], *others: Callable[..., Any]) -> tuple[Agent, list[Any]]:
    calls = [FunctionCall("", each.__name__, "{}") for each in (*others, tool)]
    return Agent("a", ScriptedBackend([calls, "Fine."]), tools=[tool, *others]), calls


def kinds(store: MemoryLog) -> list[str]:
    (session,) = store.sessions()
    return [decode(body)["kind"] for body in store.read(session.id)]


@pytest.mark.parametrize(
    ("tool", "told"),
    [
        (mute, "error: Mute"),
        (leave, "error: 'leave' called sys.exit(2)"),
        (leave_later, "error: 'leave_later' called sys.exit('usage: ...')"),
        (cancelled, "error: CancelledError"),
    ],
)
def test_the_model_hears_of_it(tool: Callable[..., Any], told: str) -> None:
    agent, _ = asked(tool)
    reply = agent("x")
    assert [message.text for message in reply.messages if message.role == "tool"] == [told]


@pytest.mark.parametrize("tool", [interrupt, interrupt_later, end])
@pytest.mark.parametrize("others", [(), (wait,)], ids=["alone", "beside another"])
@pytest.mark.parametrize("within", [False, True], ids=["own loop", "running loop"])
def test_what_ends_the_program_is_a_cancelled_call(
    tool: Callable[..., Any], others: tuple[Callable[..., Any], ...], within: bool
) -> None:
    store = MemoryLog()
    agent, _ = asked(tool, *others)

    def program() -> None:
        with record("x", store=store):
            agent("x")

    async def notebook() -> None:
        program()

    with pytest.raises((KeyboardInterrupt, Ending)):
        asyncio.run(notebook()) if within else program()
    assert kinds(store)[-3:] == ["Cancelled", "CallEnded", "SessionEnded"]
    # and nothing is left in the loop that the next call would stumble over
    assert Agent("b", ScriptedBackend(["Next."]))("x").content == "Next."


def test_a_parser_that_exits_has_failed() -> None:
    prompt = Prompt(path="p", prompt="x", parser=lambda text: sys.exit(1))
    with pytest.raises(errors.HandlerFailed, match="SystemExit: 1"):
        Agent("a", ScriptedBackend(["y"]))(prompt)


def test_a_backend_that_exits_has_failed() -> None:
    with pytest.raises(errors.ProviderFailed, match="SystemExit: 1"):
        Agent("a", ScriptedBackend(lambda request: sys.exit(1)))("x")


def test_a_mute_error_in_a_session_is_named() -> None:
    store = MemoryLog()
    with pytest.raises(Mute), record("x", store=store):
        raise Mute
    assert kinds(store)[-1] == "SessionEnded"


def test_a_payload_that_contains_itself_can_be_logged() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    assert jsonable(ring) == {"$repr": "[1, [...]]"}
    prompt = Prompt(path="p", prompt="x", parser=lambda text: ring)
    assert Agent("a", ScriptedBackend(["y"]))(prompt).parsed is ring


def test_a_value_that_cannot_be_shown_is_named() -> None:
    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert jsonable({"a": Shy(), "b": 1}) == {"a": {"$repr": "<Shy>"}, "b": 1}


def test_asking_for_tools_that_nobody_has_is_repaired() -> None:
    script = ScriptedBackend([FunctionCall("", "search", "{}"), "Fine."])
    assert Agent("a", script)("x").content == "Fine."
    assert "there is no tool named 'search'; there are no tools" in str(script.requests[1].messages)
