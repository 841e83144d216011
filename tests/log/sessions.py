"""Sessions for the tests of what is made of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from lllm.backends.scripted import ScriptedBackend
from lllm.errors import CallError
from lllm.llm.agent import Agent
from lllm.llm.dialog import Dialog
from lllm.llm.sessions import arecord
from lllm.log.memory import MemoryLog
from lllm.models.function import tool
from lllm.models.message import FunctionCall, Message

HOSTILE = (
    '</pre><script>alert(1)</script><img src="http://evil.example/x.png" onerror=x> ``` \x1b[31m \u2028 &amp;'
)
PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool(effect="pure", repeatable=True)
def run_code(code: str) -> str:
    """Run Python."""
    if "raise" in code:
        raise ValueError("it went wrong")
    return f"ran {len(code)} characters of {HOSTILE}"


def full(store: MemoryLog) -> str:
    """A session with everything: two turns of one dialog, tools side by side, code, a tool that fails, a repair, thinking, an
    image, an agent within an agent, a call that fails, and something shown. Gives its id."""

    async def main() -> str:
        helper = Agent(
            "helper", ScriptedBackend([FunctionCall("h1", "add", '{"a":1,"b":1}'), "Two."]), tools=[add]
        )
        backend = ScriptedBackend(
            [
                {
                    "thinking": "Let me think.",
                    "content": "Both.",
                    "tool_calls": [
                        FunctionCall("t1", "add", '{"a": 1, "b": 2}'),
                        FunctionCall("t2", "run_code", '{"code": "print(\'hi\')\\nx = 1"}'),
                    ],
                },
                FunctionCall("t3", "add", "not json"),
                [
                    FunctionCall("t4", "helper", '{"task": "one and one"}'),
                    FunctionCall("t5", "run_code", '{"code": "raise"}'),
                ],
                f"Done. {HOSTILE}",
                "You are welcome.",
            ],
            model="tiny-1",
        )
        agent = Agent("main", backend, "You add.", tools=[add, run_code, helper], temperature=0.5)
        failing = Agent(
            "failing", ScriptedBackend([ConnectionError("secret words of an error")]), "You fail."
        )
        async with arecord("everything", store=store) as session:
            session.emit("Frontend", {"method": "write", "args": ["working"]})
            dialog = agent.init_dialog()
            image = {"type": "image_url", "image_url": {"url": PIXEL}}
            dialog.append(Message("user", ({"type": "text", "text": f"1 + 2? {HOSTILE}"}, image)))
            await agent.acall(dialog)
            await agent.acall(dialog.append("Thanks!"))
            with suppress(CallError):
                await failing.acall("never")
            return session.id

    return asyncio.run(main())


def talk(store: MemoryLog, script: list[list[Any]], name: str = "talk") -> str:
    """A session of one dialog: for each turn what the user says, and the replies. Gives its id."""

    async def main() -> str:
        replies: Iterator[Any] = (reply for turn in script for reply in turn[1:])
        agent = Agent(
            "talker", ScriptedBackend(replies), "You talk.", tools=[add, run_code], max_interrupt_times=None
        )
        async with arecord(name, store=store) as session:
            dialog: Dialog = agent.init_dialog()
            for turn in script:
                await agent.acall(dialog.append(turn[0]))
            return session.id

    return asyncio.run(main())
