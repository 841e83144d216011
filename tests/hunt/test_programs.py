"""Whatever a program does around its agent calls, its session says so, and a replay of it agrees."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from typing import Any

import pytest

from lllm import Agent, AgentBase, LLMError, ScriptedBackend, arecord, record, replay_session
from lllm.core.canonical import decode
from lllm.errors import CallError
from lllm.log.memory import MemoryLog
from lllm.models import FunctionCall


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


class Programs:
    """Small programs that keep their sessions in one log."""

    def __init__(self, replies: list[Any]) -> None:
        self.store = MemoryLog()
        self.replies = replies
        self.ran = 0

    def agent(self) -> Agent:
        return Agent("a", ScriptedBackend(list(self.replies)), tools=[add], store=self.store)

    def in_a_record(self) -> None:
        with record("x", store=self.store):
            agent = self.agent()
            agent("one")
            agent("two")

    async def in_an_async_record(self) -> None:
        async with arecord("x", store=self.store):
            agent = self.agent()
            await asyncio.gather(agent.acall("one"), agent.acall("two"))

    def in_a_session_of_its_own(self) -> None:
        self.agent()("one")

    def swallowing(self) -> None:
        agent = self.agent()
        with record("x", store=self.store):
            agent("one")
            agent("two")
            try:
                agent("three")
            except CallError:
                return

    def swallowing_its_own(self) -> None:
        with pytest.raises(CallError):
            Agent("a", ScriptedBackend([]), store=self.store)("one")

    def raising(self) -> None:
        with record("x", store=self.store):
            self.agent()("one")
            raise ValueError("not ours")

    def exiting(self) -> None:
        with record("x", store=self.store):
            self.agent()("one")
            sys.exit(3)

    def odd(self) -> None:
        with record("x", store=self.store):
            self.agent()("half a pair: \udc80")


@pytest.mark.parametrize(
    "name",
    [
        "in_a_record",
        "in_an_async_record",
        "in_a_session_of_its_own",
        "swallowing",
        "swallowing_its_own",
        "raising",
        "exiting",
        "odd",
    ],
)
def test_a_program_is_replayed(name: str) -> None:
    lab = Programs([FunctionCall("", "add", '{"a": 1, "b": 2}'), "Three.", "Four."])
    program: Callable[[], Any] = getattr(lab, name)
    with contextlib.suppress(ValueError, SystemExit):
        asyncio.run(program()) if asyncio.iscoroutinefunction(program) else program()
    (info,) = lab.store.sessions()
    lab.replies = []  # a replay asks no model
    report = replay_session(info.id, store=lab.store, entry=program)
    assert report.verified, report.divergence
    assert report.reexecuted
    assert report.whole
    assert len(lab.store.sessions()) == 1


def test_a_program_that_fails_today_says_why() -> None:
    store = MemoryLog()
    with record("x", store=store) as session:
        Agent("a", ScriptedBackend(["y"]))("z")

    def today() -> None:
        with record("x", store=store):
            raise KeyError("no such thing")

    report = replay_session(session.id, store=store, entry=today)
    assert not report.verified
    assert report.divergence is not None
    assert "no such thing" in str(report.divergence.present)


def test_a_program_stopped_between_two_calls_is_replayed_up_to_there() -> None:
    store = MemoryLog()

    def program(stop: bool) -> None:
        agent = Agent("a", ScriptedBackend(["y", "y"]), store=store)
        with record("x", store=store):
            agent("one")
            if stop:
                raise KeyboardInterrupt
            agent("two")

    with pytest.raises(KeyboardInterrupt):
        program(True)
    report = replay_session(store.sessions()[0].id, store=store, entry=lambda: program(False))
    assert report.verified, report.divergence


@pytest.mark.parametrize(
    "fault", [ValueError("boom"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()]
)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_system_that_raises_is_replayed(
    fault: BaseException, asynchronous: bool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    class Plain(AgentBase):
        agent_type = "raising"

        def call(self, task: str, **more: Any) -> Any:
            raise fault

    class Async(AgentBase, register=False):
        agent_type = "raising"

        async def call(self, task: str, **more: Any) -> Any:
            raise fault

    from lllm.registry import registry

    with registry.scope():
        registry.add("agent", "raising", Async if asynchronous else Plain, overwrite=True)
        store = MemoryLog()
        with pytest.raises(type(fault)):
            (Async if asynchronous else Plain)({"agent_type": "raising"}, log_base=store)("x")
        report = replay_session(store.sessions()[0].id, store=store, config=_config())
    assert report.verified, report.divergence


def _config() -> Any:
    from lllm.config import load_config

    return load_config({"agent_type": "raising"})


def test_a_system_within_a_session_belongs_to_it(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    class Inner(AgentBase, register=False):
        agent_type = "inner"

        def call(self, task: str, **more: Any) -> Any:
            return Agent("a", ScriptedBackend(["y"]))(task).content

    store = MemoryLog()
    system = Inner({}, log_base=store)
    with record("x", store=store) as session:
        assert system("one") == "y"
    assert [info.id for info in store.sessions()] == [session.id]
    assert [decode(body)["kind"] for body in store.read(session.id)].count("CallStarted") == 1


def test_keys_stay_out_of_a_session_s_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "sk-0123456789abcdef")
    store = MemoryLog()

    def program() -> None:
        with record("x", store=store):
            raise LLMError("the key is sk-0123456789abcdef")

    with pytest.raises(LLMError):
        program()
    (info,) = store.sessions()
    assert b"0123456789abcdef" not in b"".join(store.read(info.id))
    assert replay_session(info.id, store=store, entry=program).verified
