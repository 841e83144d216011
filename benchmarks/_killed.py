"""The program that `kill_test.py` kills: three tool rounds (two with parallel tools), one repair, one sub-agent, and an outside
world that remembers everything that was done to it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lllm.backends.scripted import ScriptedBackend
from lllm.errors import ParseError
from lllm.llm.agent import Agent
from lllm.llm.sessions import open_session
from lllm.models.function import ToolContext, tool
from lllm.models.message import FunctionCall
from lllm.models.prompt import Prompt
from lllm.ports import LogStore, Request
from lllm.session import Scope, current

RESULT = "42: a story"
ROUNDS = (
    (FunctionCall("a1", "add", '{"a":1,"b":2}'), FunctionCall("a2", "charge", '{"amount":3}')),
    (FunctionCall("b1", "writer", '{"task":"write"}'),),
    (FunctionCall("d1", "mail", '{"text":"hello"}'), FunctionCall("d2", "charge", '{"amount":5}')),
)


class World:
    """A file to which every tool adds a line when it takes effect. `dies` may end the process before or after that."""

    def __init__(self, file: Path, dies: Callable[[str], None] = lambda _: None) -> None:
        self.file = file
        self.dies = dies

    def act(self, what: str, key: str | None) -> None:
        self.dies(f"before {what}")
        handle = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(handle, f"{what} {key}\n".encode())
        os.close(handle)
        self.dies(f"after {what}")

    def deeds(self) -> list[str]:
        """What was done, oldest first: `tool key`."""
        return self.file.read_text().splitlines() if self.file.exists() else []


def tools(world: World) -> list[Any]:
    """add (pure), charge (idempotent), mail (never)."""

    @tool(effect="pure")
    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    @tool(effect="idempotent")
    def charge(amount: int, context: ToolContext) -> str:
        """Charges a card, once per key."""
        world.act("charge", context.idempotency_key)
        return f"charged {amount}"

    @tool(effect="never")
    def mail(text: str, context: ToolContext) -> str:
        """Sends a mail."""
        world.act("mail", context.idempotency_key)
        return "sent"

    return [add, charge, mail]


def model(request: Request) -> Any:
    """What the scripted model says: it depends on the request alone."""
    if request.messages[0].text == "You write.":
        return "a story"
    rounds = sum(1 for message in request.messages if message.tool_calls)
    if rounds < len(ROUNDS):
        return list(ROUNDS[rounds])
    return "answer = 42" if "no equals sign" in request.messages[-1].text else "forty-two"


def strict(content: str) -> str:
    """Takes `answer = VALUE`; anything else is asked for again."""
    if "=" not in content:
        raise ParseError("no equals sign")
    return content.partition("=")[2].strip()


ASK = Prompt("killed/ask", "Solve {task}.", parser=strict)


def program(store: LogStore, world: World, session: str) -> Callable[[], Any]:
    """The program, as `lllm.resume_session(entry=...)` takes it."""
    backend = ScriptedBackend(model)

    async def main() -> str:
        writer = Agent("writer", backend, "You write.", description="Writes.")
        boss = Agent("boss", backend, "You rule.", tools=[*tools(world), writer])
        live = open_session("work", store=store, id=session, seed=1)
        await live.start({"name": "work"})
        token = current.set(Scope(live))
        try:
            reply = await boss.acall(ASK, {"task": "it"})
            more = await writer.acall(f"About {reply.parsed}")
            await live.end("done")
        finally:
            current.reset(token)
        return f"{reply.parsed}: {more.content}"

    return main
