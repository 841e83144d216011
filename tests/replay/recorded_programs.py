"""Programs whose sessions an older version has recorded: `tests/replay/recorded/NAME-VERSION.lllm` is one run of each.

    python -m tests.replay.recorded_programs VERSION      # records them anew, under a new version only

What they do must not change: the recorded sessions are replayed by them, with the code of today.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from lllm import Agent, ScriptedBackend, record
from lllm.log.copy import save_session
from lllm.log.memory import MemoryLog
from lllm.models.function import tool
from lllm.models.message import FunctionCall
from lllm.ports import LogStore, Request

FOLDER: Final = Path(__file__).with_name("recorded")


def model(replies: Sequence[Any]) -> ScriptedBackend:
    """Says one after another what is listed, by what the dialog holds already: also where a program goes on with it."""

    def reply(request: Request) -> Any:
        return replies[sum(message.role == "assistant" for message in request.messages)]

    return ScriptedBackend(reply)


def guard(store: LogStore | None = None) -> str:
    """Equal tool calls: of one reply and of several, with calls between them that may have changed something."""
    world = {"text": "old"}

    @tool(effect="pure")
    def read(path: str) -> str:
        return world["text"]

    @tool
    def write(path: str, text: str) -> str:
        world["text"] = text
        return "written"

    @tool(effect="never", approval=True)
    def pay(amount: int) -> str:
        return f"paid {amount}"

    @tool(concurrent=False)
    def step(name: str) -> str:
        return f"did {name}"

    a, b = '{"path": "a"}', '{"path":"a"}'
    text = '{"path":"a","text":"new"}'
    replies = [
        FunctionCall("r1", "read", a),
        FunctionCall("w1", "write", text),
        [FunctionCall("r2", "read", b), FunctionCall("w2", "write", text), FunctionCall("r3", "read", a)],
        [FunctionCall("p1", "pay", '{"amount":1}'), FunctionCall("p2", "pay", '{"amount":1.0}')],
        [FunctionCall(f"s{n}", "step", f'{{"name":"{n % 2}"}}') for n in range(3)],
        "done",
    ]
    agent = Agent(
        "guard",
        model(replies),
        tools=[read, write, pay, step],
        approve=lambda call: call.id == "p1",
        max_interrupt_times=None,
    )
    with record("guard", store=store, seed=1) as session:
        agent("go")
    return session.id


def limits(store: LogStore | None = None) -> str:
    """Tools that are stopped by their time limit, and called again."""
    release = threading.Event()

    @tool(effect="never", timeout=0.05)
    def hang(name: str) -> str:
        release.wait()
        return "late"

    @tool(effect="idempotent", timeout=0.05)
    async def sleep(name: str) -> str:
        await asyncio.Event().wait()
        return "never"

    calls = [
        FunctionCall("h", "hang", '{"name":"x"}'),
        [FunctionCall("s", "sleep", '{"name":"x"}'), FunctionCall("h", "hang", '{"name":"y"}')],
    ]
    agent = Agent("limits", model([*calls, *calls, "done"]), tools=[hang, sleep])
    try:
        with record("limits", store=store, seed=1) as session:
            agent("go")
    finally:
        release.set()
    return session.id


def forced(store: LogStore | None = None) -> str:
    """A model that is told to call a tool, in every request."""

    @tool
    def look(n: int) -> str:
        return f"seen {n}"

    calls = [FunctionCall("", "look", f'{{"n": {n}}}') for n in range(2)]
    agent = Agent("forced", model([*calls, "done"]), tools=[look], tool_choice="required")
    with record("forced", store=store, seed=1) as session:
        agent("go")
    return session.id


def nested(store: LogStore | None = None) -> str:
    """Agents as tools, side by side and called again."""

    @tool(effect="pure")
    def look(n: int) -> str:
        return f"seen {n}"

    writer = Agent("writer", model([FunctionCall("l", "look", '{"n":1}'), "text"]), tools=[look])
    asked = [FunctionCall("t", "writer", '{"task":"a"}'), FunctionCall("u", "look", '{"n":2}')]
    boss = Agent("boss", model([asked, asked, asked[0], "done"]), tools=[writer, look])
    with record("nested", store=store, seed=1) as session:
        boss("go")
    return session.id


PROGRAMS: Final[dict[str, Callable[[LogStore | None], Any]]] = {
    program.__name__: program for program in (guard, limits, forced, nested)
}


def main(version: str) -> None:
    for name, program in PROGRAMS.items():
        file = FOLDER / f"{name}-{version}.lllm"
        assert not file.exists(), file
        store = MemoryLog()
        save_session(store, program(store), file)


if __name__ == "__main__":
    main(*sys.argv[1:])
