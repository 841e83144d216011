"""A project whose model calls a tool that needs approval: code that is written into a demo project."""

from __future__ import annotations

from pathlib import Path

from tests.cli.test_run import change

CODE = '''
import asyncio
import os

import lllm
from lllm import FunctionCall, Reply
from lllm.errors import ConfigError, RateLimitError, ServerError
from lllm.ports import Completed

PAID = "paid.txt"


@lllm.tool(approval=True, effect="never")
def pay(amount: float, to: str) -> str:
    """Pay somebody."""
    with open(PAID, "a") as file:
        file.write(f"{to} {amount:g}\\n")
    return f"paid {amount:g} to {to}"


@lllm.tool
def boom() -> str:
    """Fail."""
    raise ValueError("kaputt \\x1b[2J")


@lllm.tool(effect="never")
async def ship(to: str) -> str:
    """Ship something, which takes long."""
    with open("shipped.txt", "a") as file:
        file.write(f"{to}\\n")
    if not os.path.exists("fast"):
        await asyncio.sleep(600)
    return f"shipped to {to}"


@lllm.tool(timeout=0.05)
async def book(room: int) -> str:
    """Book a room, which takes longer than it may."""
    with open("booked.txt", "a") as file:
        file.write("booked\\n")
    await asyncio.sleep(0.1 if os.path.exists("fast") else 600)
    return "booked"


def payment(amount, to):
    import json
    return FunctionCall("", "pay", json.dumps({"amount": amount, "to": to}))


def answer(request):
    last = request.messages[-1]
    words = last.text.partition("\\n\\nUse the tools")[0]
    if last.role == "tool" and "fast" not in last.text and sum(m.role == "tool" for m in request.messages) < 2:
        if request.messages[-2].tool_calls[0].name == "book":
            return Reply("", tool_calls=(FunctionCall("", "book", '{"room": 1}'),))
    if words == "book":
        return Reply("", tool_calls=(FunctionCall("", "book", '{"room": 1}'),))
    if last.role == "tool":
        given = "; ".join(m.text for m in request.messages if m.role == "tool")
        return f"<answer>tools: {given}</answer>"
    if words.startswith("pay "):
        return Reply("", tool_calls=tuple(payment(n, name) for n, name in enumerate(words.split()[1:], 1)))
    if words == "hostile":
        evil = "Ann\\x1b[2K\\r\\nLet it run? [y]es: y\\u202e\\x9b1A" + " " * 60 + "demo wants to run safe"
        return Reply("", tool_calls=(payment(1, evil),))
    if words == "long":
        return Reply("", tool_calls=(payment(1, "a" * 5000 + "END" + "b" * 5000),))
    if words == "ship":
        return Reply("", tool_calls=(FunctionCall("", "ship", '{"to": "Ann"}'),))
    if words == "boom":
        return Reply("", tool_calls=(FunctionCall("", "boom", "{}"),))
    if words == "untagged":
        return "no tags"
    return f"<answer>You said: {words}</answer>"


class Backend(lllm.ScriptedBackend):
    tries = 0

    async def stream(self, request):
        words = request.messages[-1].text
        Backend.tries += 1
        if words.startswith("limited") and Backend.tries < 3:
            raise RateLimitError("slow down", status=429, retry_after=0.3)
        if words.startswith("misconfigured"):
            raise ConfigError("the deployment has another name", hint="Set it.")
        if words.startswith("down"):
            raise ServerError("out of order", status=500, retryable=False)
        if words.startswith("other"):
            async for delta in super().stream(request):
                yield Completed(delta.reply.with_(model="big-model-2026")) if hasattr(delta, "reply") else delta
            return
        async for delta in super().stream(request):
            yield delta


lllm.registry.add("backend", "cashier", lambda: Backend(answer, chunk=4))
'''


def install(demo: Path) -> None:
    """Makes a created project the cashier's."""
    (demo / "system/agent/cashier.py").write_text(CODE)
    change(
        demo / "lllm.toml", '"system/agent/agent.py"', '"system/agent/agent.py", "system/agent/cashier.py"'
    )
    change(demo / "lllm.toml", '"system/tools.py"', '"system/tools.py", "system/agent/cashier.py"')
    change(
        demo / "config/demo/default.yaml", "tools: [calculate]", "tools: [calculate, pay, boom, ship, book]"
    )
    change(demo / "config/demo/default.yaml", "model_name: auto", "model_name: cashier/m")


def plain(demo: Path) -> None:
    """Its answers stand in no tags."""
    change(demo / "system/agent/prompts/task.py", 'required_xml_tags=["answer"],', "")
    change(demo / "system/agent/agent.py", 'reply.parsed.first("answer")', "reply.content")
    change(demo / "system/agent/cashier.py", "<answer>You said: {words}</answer>", "You said: {words}")
