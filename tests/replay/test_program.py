"""Programs: a kind that is registered is replayed, resumed, forked, compared and tested like those that ship here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lllm.backends.scripted import ScriptedBackend
from lllm.core import events as ev
from lllm.errors import ConfigError, UnknownNameError
from lllm.llm.agent import Agent
from lllm.log.memory import MemoryLog
from lllm.log.views import load
from lllm.ports import Program, Rerun
from lllm.registry import registry
from lllm.replay import replay_session
from lllm.replay.cases import whatif
from lllm.replay.fork import fork_session
from lllm.replay.kept import accept_session, check_session, explained, keep_session
from lllm.replay.resume import resume_session
from lllm.session import Scope, Session, current

ASKED: list[str] = []


def answer(request: Any) -> str:
    word = request.messages[-1].text
    ASKED.append(word)
    return f"{word}!"


class Rollout(Program):
    """Asks an agent `n` times, each time the last answer: as a wing's program would, in a session that it is given."""

    takes_arguments = True

    def __init__(self, rerun: Rerun) -> None:
        args = {**rerun.meta["args"], **(rerun.args or {})}
        self.n = args["n"]
        self.task = rerun.task or rerun.meta["task"]
        self.model = rerun.model or ScriptedBackend(answer)

    async def run(self, session: Session) -> Any:
        entry = {"kind": "rollout"}
        await session.start({"name": "r", "entry": entry, "task": self.task, "args": {"n": self.n}})
        token = current.set(Scope(session))
        try:
            word = self.task
            for _ in range(self.n):
                word = (await Agent("roller", self.model).acall(word)).content
        finally:
            current.reset(token)
        await session.end("done", result=word)
        return word


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    ASKED.clear()
    with registry.scope():
        registry.add("program", "rollout", Rollout)
        yield


def recorded() -> tuple[MemoryLog, str]:
    """A live rollout of three steps."""
    store = MemoryLog()
    session = Session(store, name="r")
    meta = {"data": {"task": "a", "args": {"n": 3}}}
    assert asyncio.run(Rollout(Rerun([meta], store)).run(session)) == "a!!!"
    ASKED.clear()
    return store, session.id


def cut(store: MemoryLog, session: str, events: int) -> MemoryLog:
    """The log as a process leaves it that dies after so many events."""
    other = MemoryLog()
    other._sessions[session] = store._sessions[session][:events]
    other._blobs = dict(store._blobs)
    return other


def test_a_registered_kind_is_replayed_whole() -> None:
    store, id = recorded()
    report = replay_session(id, store=store, raises=True)
    assert report.verified
    assert report.whole
    assert report.reexecuted == 3
    assert ASKED == []


def test_it_is_resumed_after_every_event() -> None:
    store, id = recorded()
    total = len(load(store, id))
    for events in range(1, total - 1):
        ASKED.clear()
        broken = cut(store, id, events)
        left = sum(event["kind"] == ev.MODEL_REPLIED for event in load(store, id)[events:])
        done = resume_session(id, store=broken)
        assert (done.result, len(ASKED)) == ("a!!!", left)
        assert replay_session(id, store=broken, raises=True).whole


def test_it_is_forked_with_arguments() -> None:
    store, id = recorded()
    fork = fork_session(id, store=store, task="b", args={"n": 2})
    assert (fork.result, ASKED) == ("b!!", ["b", "b!"])
    assert fork.notes == []
    assert load(store, fork.session)[0]["data"]["entry"] == {"kind": "rollout"}
    assert replay_session(fork.session, store=store).whole


def test_it_is_asked_what_if() -> None:
    store, id = recorded()
    found = whatif([id], store=store)
    assert (found.same, found.failed) == (1, 0)
    assert ASKED == []


def test_it_is_a_regression_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, id = recorded()
    kept = keep_session(id, store=store, folder=tmp_path)
    assert kept.verdict.passed, explained(kept.verdict)
    assert kept.verdict.report is not None
    assert kept.verdict.report.whole
    older = Rollout.__init__

    def changed(self: Rollout, rerun: Rerun) -> None:
        older(self, rerun)
        self.n = 2

    monkeypatch.setattr(Rollout, "__init__", changed)
    assert not check_session(kept.file).passed
    assert accept_session(kept.file, offline=True).verdict.passed


def test_an_unknown_kind_is_an_error(tmp_path: Path) -> None:
    store, id = recorded()
    registry.remove("program", "rollout")
    for action in (
        lambda: replay_session(id, store=store),
        lambda: resume_session(id, store=cut(store, id, 3)),
        lambda: fork_session(id, store=store),
    ):
        with pytest.raises(UnknownNameError) as raised:
            action()
        words = str(raised.value)
        assert "no program named 'rollout'" in words
        assert "agent, batch, chain, chat, endpoint, import, rl/batch, rl/item, system" in words
        assert "entry=main" in words
        assert 'lllm.registry.add("program", "rollout"' in words
    assert "no program named 'rollout'" in str(whatif([id], store=store).cases[0].error)
    assert "no program named 'rollout'" in explained(keep_session(id, store=store, folder=tmp_path).verdict)


def test_the_program_itself_is_still_taken() -> None:
    store, id = recorded()
    registry.remove("program", "rollout")

    async def main() -> Any:
        scope = current.get()
        assert scope is not None
        meta = {"data": {"task": "a", "args": {"n": 3}}}
        scope.session.unopened = False
        return await Rollout(Rerun([meta], store)).run(scope.session)

    assert replay_session(id, store=store, entry=main, raises=True).whole


@pytest.mark.parametrize("entry", ["main.py", ["x"], {"kind": ["x"]}, {"models": None}])
@pytest.mark.odd_events
def test_an_entry_of_an_old_log(entry: Any) -> None:
    """`meta=` of a program of those days might hold anything there."""
    store = MemoryLog()
    session = Session(store, name="r")

    async def main() -> None:
        await session.start({"entry": entry})
        await Agent("roller", ScriptedBackend(answer)).acall("a", session=session)
        await session.end("done")

    asyncio.run(main())
    report = replay_session(session.id, store=store, raises=True)
    assert (report.whole, report.folded) == (False, 1)


def test_what_is_registered_must_be_a_program() -> None:
    store, id = recorded()
    registry.add("program", "rollout", lambda rerun: None, overwrite=True)
    with pytest.raises(ConfigError, match="which has no notes, opens, run, takes_arguments, whole"):
        replay_session(id, store=store)


def test_a_program_that_cannot_be_built_is_named() -> None:
    class Broken(Rollout):
        def __init__(self, rerun: Rerun) -> None:
            raise KeyError("weights")

    store, id = recorded()
    registry.add("program", "rollout", Broken, overwrite=True)
    with pytest.raises(ConfigError, match="the program 'rollout' raised KeyError: 'weights'"):
        replay_session(id, store=store)
    broken = cut(store, id, 3)
    with pytest.raises(ConfigError, match="the program 'rollout' raised"):
        resume_session(id, store=broken)
    assert len(load(broken, id)) == 3  # nothing was written: it can be resumed once that is fixed
