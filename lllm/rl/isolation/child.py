"""The process of an isolated environment. One rollout at a time runs in it."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import pickle
import random
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from lllm.core.jsonable import jsonable
from lllm.errors import LLMError, ToolError
from lllm.models.function import Function
from lllm.models.parts import Offers, rich
from lllm.models.render import render_result
from lllm.rl import tools
from lllm.rl.isolation.frames import LENGTH, framed
from lllm.rl.isolation.plan import made
from lllm.rl.states import plain


class Child:
    """The environment's hooks and tools in this process, and the state of the running rollout."""

    def __init__(self) -> None:
        self.hooks: Mapping[str, Callable[..., Any]] = {}
        self.tools: dict[str, Function] = {}
        self.state: Any = None
        self.loop = asyncio.new_event_loop()

    def answer(self, message: Mapping[str, Any]) -> Any:
        """Returns the answer to a message."""
        doing: Callable[..., Any] = getattr(self, f"on_{message['do']}")
        return doing(**{name: value for name, value in message.items() if name != "do"})

    def on_plan(self, plan: Any) -> None:
        self.hooks, functions = made(plan)
        self.tools = {one.name: one for one in functions}

    def on_begin(self, seed: int) -> None:
        self.state = None
        random.seed(seed)  # the process is the rollout's own while it runs: so is the global generator
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed(seed & 0xFFFFFFFF)

    def on_hook(self, name: str, arguments: dict[str, Any], seed: int) -> Any:
        own = {"state": self.state, "rng": random.Random(seed)}
        arguments |= {one: value for one, value in own.items() if one in arguments}
        tools.state.set(self.state)
        value = self.called(self.hooks[name], (), arguments)
        if name == "setup":
            self.state = value
            return None
        return value

    def on_tool(self, name: str, args: tuple[Any, ...], arguments: dict[str, Any]) -> Any:
        tools.state.set(self.state)
        call = self.tools[name].call
        assert call is not None
        try:
            value = self.called(call, args, arguments)
        except SystemExit as error:
            raise ToolError(f"'{name}' called sys.exit({error.code!r})") from error
        if rich(value, render_result) is not None or type(value) is Offers:
            raise ToolError(
                f"the tool '{name}' returned {type(value).__name__}; tools of an isolated environment return text or JSON"
            )
        return render_result(value)  # what the model reads: objects do not leave this process

    def on_state(self) -> Any:
        return plain(self.state)

    def on_end(self) -> None:
        state, self.state = self.state, None
        closing = getattr(state, "aclose", None) or getattr(state, "close", None)
        if callable(closing):
            self.called(closing, (), {})

    def called(self, function: Callable[..., Any], args: tuple[Any, ...], arguments: dict[str, Any]) -> Any:
        value = function(*args, **arguments)
        if inspect.isawaitable(value):

            async def whole() -> Any:
                return await value

            value = self.loop.run_until_complete(whole())
        return value


def serve(connection: socket.socket) -> None:
    """Answers messages until the connection closes."""
    child, own = Child(), os.getpid()
    with connection.makefile("rb") as coming:
        while len(head := coming.read(LENGTH.size)) == LENGTH.size:
            message = pickle.loads(coming.read(LENGTH.unpack(head)[0]))  # noqa: S301  of the run that started this process
            try:
                answer: dict[str, Any] = {"value": jsonable(child.answer(message))}
                sent = framed(json.dumps(answer).encode())
            except (Exception, SystemExit) as error:
                words = error.message if isinstance(error, LLMError) else str(error)
                sent = framed(json.dumps({"error": type(error).__name__, "words": words[:4000]}).encode())
            if (
                os.getpid() != own
            ):  # code of the environment has forked, and its copy came back: one of the two answers
                os._exit(0)
            connection.sendall(sent)


def end_with(connection: socket.socket) -> None:
    """Kills this process and all that it started once the connection closes, since a killed run cannot close its processes
    itself."""
    gone = select.poll()
    gone.register(connection, 0)  # a hang-up is always told

    def wait() -> None:
        gone.poll()
        os.killpg(os.getpid(), signal.SIGKILL)  # it leads its group

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Serves the connection whose descriptor is the first argument. Printed text goes to stderr, because stdout belongs to the
    run."""
    sys.stdout.flush()
    os.dup2(2, 1)
    # nobody reads of a connection that the other side has broken off
    with suppress(ConnectionError), socket.socket(fileno=int(sys.argv[1])) as here:
        end_with(here)
        serve(here)
