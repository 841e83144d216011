"""A log replays by the rules that it was written with, also where those of today judge otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from lllm import session_hooks as sessions
from lllm.backends.scripted import ScriptedBackend
from lllm.core import events as ev
from lllm.core.spec import RULES
from lllm.llm.agent import Agent
from lllm.llm.sessions import arecord
from lllm.log import views
from lllm.log.memory import MemoryLog
from lllm.replay import replay_session
from lllm.replay.fork import fork_session
from lllm.replay.resume import resume_session
from tests.replay.test_resume import cut

REFUSED: dict[str, Any] = {"content": "", "thinking": "No.", "refusal": "I will not."}


def program(store: Any, backend: Any) -> Any:
    async def main() -> str:
        async with arecord("work", store=store):
            first = await Agent("one", backend).acall("x")
            second = await Agent("two", backend).acall("y")
            return first.content + second.content

    return main


async def recorded(monkeypatch: pytest.MonkeyPatch) -> tuple[MemoryLog, str]:
    """A session of before, whose plain replies were accepted whatever they were."""
    store = MemoryLog()
    with monkeypatch.context() as before:
        before.setattr(sessions, "RULES", 0)
        await program(store, ScriptedBackend([REFUSED, "yes"]))()
    return store, store.sessions()[0].id


async def test_new_calls_say_their_rules() -> None:
    store = MemoryLog()
    await program(store, ScriptedBackend(["a", "b"]))()
    session = store.sessions()[0].id
    started = [event["data"] for event in views.load(store, session) if event["kind"] == ev.CALL_STARTED]
    assert [data["spec"]["rules"] for data in started] == [RULES, RULES]


async def test_an_old_log_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    store, session = await recorded(monkeypatch)
    events = views.load(store, session)
    assert not any("rules" in event["data"].get("spec", {}) for event in events)
    assert [event["kind"] for event in events].count(ev.REPLY_REJECTED) == 0
    report = replay_session(session, store=store, entry=program(store, ScriptedBackend([])))
    assert report.verified, report


async def test_an_old_log_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its calls keep their rules, also what they do now; calls that begin now follow those of today."""
    store, session = await recorded(monkeypatch)
    asked = [event["seq"] for event in views.load(store, session) if event["kind"] == ev.MODEL_REQUESTED]
    for at, replies, left in ((asked[0], [REFUSED, "yes"], "yes"), (asked[1], ["yes"], "yes")):
        died = cut(store, session, at + 1)
        done = resume_session(session, store=died, entry=program(died, ScriptedBackend(replies)))
        assert done.result == left
        assert replay_session(session, store=died, entry=program(died, ScriptedBackend([]))).verified


async def test_a_fork_of_an_old_log_shares_its_past(monkeypatch: pytest.MonkeyPatch) -> None:
    store, session = await recorded(monkeypatch)
    backend = ScriptedBackend([])
    done = fork_session(session, store=store, entry=program(store, backend))
    assert (done.reused, done.result, backend.requests) == (2, "yes", [])
    assert replay_session(done.session, store=store, entry=program(store, backend)).verified
