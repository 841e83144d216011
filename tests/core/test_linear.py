"""A turn of a long call, or dialog, does no more work than one of a short one. Counted are looks at what is remembered."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from lllm import Agent, ScriptedBackend, arecord, tool
from lllm.core.dialog import Node
from lllm.core.guard import Result
from lllm.log import MemoryLog, NoLog
from lllm.models.message import FunctionCall, user
from lllm.models.reply import Reply
from lllm.ports import Request
from lllm.replay import areplay_session

TURNS = (200, 800)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the messages of nodes, and the effects of results, are looked at."""
    counted: Counter[str] = Counter()

    def count(kind: type, name: str) -> None:
        inner: Any = getattr(kind, name)

        def read(self: Any) -> Any:
            counted[name] += 1
            return inner.__get__(self)

        monkeypatch.setattr(kind, name, property(read, getattr(inner, "__set__", None)))

    count(Node, "message")
    count(Result, "effect")
    count(Result, "key")
    return counted


def rounds(count: int, effect: Any) -> Agent:
    """An agent whose model asks for a tool so many times, each time with other arguments."""

    async def look(n: int) -> str:
        """Look."""
        return str(n)

    def answer(request: Request) -> Any:
        last = request.messages[-1]
        number = int(last.content) + 1 if last.role == "tool" else 0  # type: ignore[arg-type]
        return FunctionCall(f"c{number}", "look", f'{{"n": {number}}}') if number < count else "done"

    tools = [tool(look, effect=effect)]
    return Agent("looker", ScriptedBackend(answer), tools=tools, max_interrupt_times=None)


async def cost(looks: Counter[str], program: Callable[[], Any], store: MemoryLog) -> tuple[int, int]:
    """Looks of a program while it runs, and while it is replayed."""
    looks.clear()
    await program()
    live = looks.total()
    (info,) = store.sessions()
    looks.clear()
    report = await areplay_session(info.id, store=store, entry=program)
    assert report.verified
    return live, looks.total()


@pytest.mark.parametrize("effect", ["pure", "idempotent", "ask", "never"])
async def test_the_rounds_of_a_call(effect: str, looks: Counter[str]) -> None:
    found = []
    for turns in TURNS:
        store = MemoryLog()
        agent = rounds(turns, effect)

        async def program(store: MemoryLog = store, agent: Agent = agent) -> None:
            async with arecord("long", store=store):
                await agent.acall("go")

        found.append(await cost(looks, program, store))
    for few, many in zip(*found, strict=True):
        assert many <= 4.4 * few


async def test_the_calls_of_a_dialog(looks: Counter[str]) -> None:
    found = []
    for turns in TURNS:
        store = MemoryLog()
        agent = Agent("talker", ScriptedBackend(lambda request: "yes"))

        async def program(store: MemoryLog = store, agent: Agent = agent, turns: int = turns) -> None:
            async with arecord("long", store=store):
                dialog = agent.init_dialog()
                for number in range(turns):
                    dialog.append(f"{number}")
                    await agent.acall(dialog)

        found.append(await cost(looks, program, store))
    for few, many in zip(*found, strict=True):
        assert many <= 4.4 * few


async def test_a_scripted_backend_keeps_each_message_once() -> None:
    backend = ScriptedBackend(lambda request: "yes")
    agent = Agent("talker", backend, store=NoLog())
    dialog = agent.init_dialog()
    for number in range(50):
        dialog.append(f"{number}")
        reply = await agent.acall(dialog)
        check(reply, backend)
    assert len(backend.requests._line.messages) == len(backend.requests[-1].messages) == 99
    fork = dialog.fork()
    for one in (dialog, fork, dialog):  # in turns: each is another dialog than the one before
        one.append("and?")
        check(await agent.acall(one), backend)
    assert [len(request.messages) for request in backend.requests] == [*range(1, 100, 2), 101, 101, 103]
    assert [request.messages[-1].content for request in backend.requests[48:51]] == ["48", "49", "and?"]
    assert backend.requests[0].messages == (user("0"),)
    assert backend.requests == list(backend.requests)
    backend.requests.clear()
    assert len(backend.requests) == 0


def check(reply: Reply, backend: ScriptedBackend) -> None:
    """A token is about 4 characters."""
    assert reply.usage is not None
    assert reply.usage.prompt == -(-sum(len(message.text) for message in backend.requests[-1].messages) // 4)


async def test_a_reply_reads_its_dialog_when_it_is_asked_for(looks: Counter[str]) -> None:
    agent = Agent("talker", ScriptedBackend(["yes", "no"]), store=NoLog())
    dialog = agent.init_dialog()
    dialog.append("1")
    one = await agent.acall(dialog)
    dialog.append("2")
    two = await agent.acall(dialog)
    looks.clear()
    assert [message.content for message in two.messages] == ["1", "yes", "2", "no"]
    assert looks["message"]
    looks.clear()
    assert len(two["messages"]) == 4
    assert not looks["message"]
    assert [message.content for message in copy.deepcopy(one).messages] == ["1", "yes"]
    assert one.with_(content="x").messages == one.messages
