"""Backends that are opened by name: shared, bounded in number, and never closed while anything uses them."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lllm import LLM, Agent
from lllm.llm import connect, opened
from lllm.models.reply import Reply
from lllm.ports import Capabilities, Completed, Delta, Request, TextDelta
from lllm.registry import registry
from lllm.sync import run

DISTINCT = 2_000


class Counted:
    """A backend that counts how many of its kind are open."""

    capabilities = Capabilities()
    changed = threading.Condition()
    open: set[int] = set()  # noqa: RUF012  of all of them

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.closed = False
        self.go = asyncio.Event()
        self.open.add(number)

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        yield TextDelta("half")
        if request.messages[-1].text == "wait":
            await self.go.wait()
        assert not self.closed
        yield Completed(Reply(f"of {self.number}"))

    async def aclose(self) -> None:
        with self.changed:
            self.closed = True
            self.open.discard(self.number)
            self.changed.notify_all()


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLLM_LOG_TYPE", "none")
    monkeypatch.setattr(connect, "_open", {})
    monkeypatch.setattr(Counted, "open", set())
    with registry.scope():
        registry.add("backend", "counted", Counted)
        yield
        run(connect.close_all())


def ask(number: int) -> str:
    return str(LLM("counted/x", options={"number": number})("hi"))


def test_idle_backends_are_closed_and_bounded() -> None:
    for number in range(DISTINCT):
        assert ask(number) == f"of {number}"
    gc.collect()  # what an agent that is gone refers to is idle from here on
    for number in range(DISTINCT, DISTINCT + 2 * opened.MOST):
        connect.connect("counted/x", {"number": number})
    assert len(connect._open) == opened.MOST
    with Counted.changed:
        few = 8 * opened.MOST
        assert Counted.changed.wait_for(lambda: len(Counted.open) <= few, timeout=60)
    assert number in Counted.open
    assert 0 not in Counted.open


def test_what_an_agent_has_is_never_closed() -> None:
    agent = Agent("a", "counted/x", options={"number": -1})
    backend = agent._settings.backend
    for number in range(3 * opened.MOST):
        ask(number)
    assert not backend.closed
    assert str(agent("hi")) == "of -1"
    assert Agent("b", "counted/x", options={"number": -1})._settings.backend is backend  # still shared


def test_a_reply_that_is_on_its_way_keeps_its_backend() -> None:
    async def main() -> str:
        model = LLM("counted/x", options={"number": -1})
        go = model._agent._settings.backend.go
        asked = asyncio.create_task(model._agent.acall("wait"))
        del model
        await asyncio.sleep(0)
        for number in range(3 * opened.MOST):
            connect.connect("counted/x", {"number": number})
        go.set()
        return str(await asked)

    assert asyncio.run(main()) == "of -1"


def test_a_bound_method_keeps_its_backend() -> None:
    stream = connect.connect("counted/x", {"number": -1})[0].stream
    for number in range(3 * opened.MOST):
        connect.connect("counted/x", {"number": number})
    gc.collect()
    assert not stream.__self__.closed  # type: ignore[attr-defined]


def test_the_one_that_was_asked_for_last_stays() -> None:
    first = id(connect.connect("counted/x", {"number": -1})[0])
    for number in range(3 * opened.MOST):
        connect.connect("counted/x", {"number": number})
        assert id(connect.connect("counted/x", {"number": -1})[0]) == first


def test_closing_all_closes_what_agents_have_too() -> None:
    agent = Agent("a", "counted/x", options={"number": -1})
    for number in range(2 * opened.MOST):
        connect.connect("counted/x", {"number": number})
    run(connect.close_all())
    assert agent._settings.backend.closed


def test_a_backend_that_cannot_be_closed_disturbs_nobody() -> None:
    async def aclose(self: Any) -> None:
        raise RuntimeError("not now")

    registry.add("backend", "stuck", type("Stuck", (Counted,), {"aclose": aclose}))
    for number in range(2 * opened.MOST):
        connect.connect("stuck/x", {"number": number})
    assert len(connect._open) == opened.MOST
    connect._open.clear()
