"""`replay/...`: a model whose replies are those of a recorded session."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lllm.backends.scripted import ScriptedBackend
from lllm.core.envelope import open_event
from lllm.errors import CallError, LogCorrupt, NotRecorded, UnknownNameError
from lllm.llm.agent import Agent
from lllm.llm.sessions import record
from lllm.log.copy import save_session
from lllm.log.memory import MemoryLog
from lllm.models import FunctionCall, tool
from lllm.ports import Completed, TextDelta
from lllm.replay import replay_session
from lllm.replay.backend import ReplayBackend
from tests.cli.conftest import Terminal, demo, lllm  # noqa: F401  fixtures


@tool(effect="pure")
def double(n: int) -> int:
    """Doubles."""
    return 2 * n


FORM = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def program(model: Any, store: MemoryLog, say: str = "double 4", **more: Any) -> list[str]:
    """Tools, a repair of a malformed reply, and two samples of one prompt."""
    with record("work", store=store):
        first = Agent("one", model, "You double.", tools=[double], temperature=0.5, **more)(say)
        form = Agent("two", model, format=FORM)("a number")
        samples = [Agent("three", model)("say something").content for _ in range(2)]
        return [first.content, form.content, *samples]


REPLIES = [FunctionCall("t1", "double", '{"n": 4}'), "8", "no JSON", '{"n": 8}', "red", "green"]
RESULT = ["8", '{"n": 8}', "red", "green"]


class Played(ReplayBackend):
    """A replay backend that an Agent is given, and that names its session itself."""

    def __init__(self, store: MemoryLog, model: str) -> None:
        super().__init__(store)
        self.model = model


@pytest.fixture
def log() -> MemoryLog:
    store = MemoryLog()
    assert program(ScriptedBackend(REPLIES), store) == RESULT
    return store


def session_of(store: MemoryLog) -> str:
    return store.sessions(1)[0].id


def test_a_program_gets_the_same_replies_whatever_its_model_was(log: MemoryLog) -> None:
    old = session_of(log)
    new = MemoryLog()
    assert program(Played(log, old), new) == RESULT
    replies = [
        event["data"]
        for event in map(open_event, new.read(session_of(new)))
        if event["kind"] == "ModelReplied"
    ]
    recorded = [event["seq"] for event in map(open_event, log.read(old)) if event["kind"] == "ModelReplied"]
    assert [one["from"] for one in replies] == [f"{old}#{seq}" for seq in recorded]
    assert {one["cost"] for one in replies} == {"0"}
    report = replay_session(session_of(new), store=new, entry=lambda: program(Played(log, old), MemoryLog()))
    assert report.verified, report.divergence


def test_it_knows_a_request_again_on_a_machine_with_other_secrets(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", "something")
    monkeypatch.setenv("OTHER_TOKEN", "You double")
    assert program(Played(log, session_of(log)), MemoryLog()) == RESULT


def test_every_session_begins_anew(log: MemoryLog) -> None:
    model = Played(log, session_of(log))
    assert program(model, MemoryLog()) == program(model, MemoryLog()) == RESULT


def miss(call: Any) -> NotRecorded:
    with pytest.raises(CallError) as caught:
        call()
    assert isinstance(caught.value.__cause__, NotRecorded)
    return caught.value.__cause__


def test_a_miss_names_the_nearest_request_and_what_differs(log: MemoryLog) -> None:
    model = Played(log, session_of(log))
    error = miss(lambda: program(model, MemoryLog(), say="double 5"))
    assert error.differs == ["message 2: recorded user 'double 4', now user 'double 5'"]
    assert "a request of 2 messages that ends with user 'double 5'" in error.message
    assert f"lllm fork {session_of(log)}" in str(error)
    event = next(one for one in map(open_event, log.read(session_of(log))) if one["kind"] == "ModelRequested")
    assert error.nearest == event["seq"]


DIFFERENCES: dict[str, tuple[dict[str, Any], str]] = {
    "sampling": ({"temperature": 0.7}, "temperature: recorded 0.5, now 0.7"),
    "more sampling": ({"max_tokens": 9}, "max_tokens: recorded None, now 9"),
    "tools": ({"tools": []}, "tools: recorded double, now others"),
    "format": ({"format": FORM}, "format: another form of the reply is asked for"),
}


@pytest.mark.parametrize("case", DIFFERENCES)
def test_tools_sampling_and_format_are_part_of_a_request(log: MemoryLog, case: str) -> None:
    changes, words = DIFFERENCES[case]
    given = {"tools": [double], "temperature": 0.5, "store": MemoryLog(), **changes}
    agent = Agent("one", Played(log, session_of(log)), "You double.", **given)
    assert miss(lambda: agent("double 4")).differs == [words]


def test_more_often_than_recorded_is_a_miss(log: MemoryLog) -> None:
    model = Played(log, session_of(log))
    with record("s", store=MemoryLog()):
        agent = Agent("three", model)
        assert [agent("say something").content for _ in range(2)] == ["red", "green"]
        error = miss(lambda: agent("say something"))
    assert "has 2 replies to a request of 1 message that ends with user 'say something'" in error.message


def test_replies_are_streamed_in_pieces(tmp_path: Path) -> None:
    store = MemoryLog()
    text = "a long answer, " * 10
    Agent("a", ScriptedBackend([text]), store=store)("q")
    agent = Agent("a", Played(store, session_of(store)), store=MemoryLog())
    deltas = list(agent.stream("q"))
    said = [delta.text for delta in deltas if isinstance(delta, TextDelta)]
    assert "".join(said) == text
    assert len(said) > 3
    assert isinstance(deltas[-1], Completed)


def test_sessions_of_the_log_and_of_files_by_name(lllm: Terminal, demo: Path) -> None:  # noqa: F811
    task = "What is 17 times 23?"
    session = lllm("run", task, "--json").json["session"]
    asked = len(lllm.backends)
    again = lllm("run", task, "--model", f"replay/{session}", "--json")
    assert (again.json["result"], again.json["cost"]) == ("391", "0")
    assert lllm("test", "keep", session, "--name", "sums").code == 0
    again = lllm("run", task, "--model", "replay/tests/sessions/sums.lllm", "--json")
    assert again.json["result"] == "391"
    assert len(lllm.backends) == asked
    assert lllm("replay", again.json["session"]).code == 0
    other = lllm("run", "What is 18 times 23?", "--model", f"replay/{session}")
    assert other.code == 1
    assert "now user 'What is 18 times 23?" in other.err
    missing = lllm("run", task, "--model", "replay/nobody")
    assert missing.code == 2
    assert "no session named 'nobody'" in missing.err
    assert lllm("run", task, "--model", "replay").code == 2


def test_what_cannot_be_read(log: MemoryLog, tmp_path: Path) -> None:
    async def ask(name: str) -> None:
        from lllm.models import Message
        from lllm.ports import Request

        async for _ in ReplayBackend(log).stream(Request(name, (Message("user", "q"),))):
            pass

    with pytest.raises(UnknownNameError):
        asyncio.run(ask("nobody"))
    file = tmp_path / "x.lllm"
    save_session(log, session_of(log), file)
    file.write_bytes(file.read_bytes().replace(b"double 4", b"double 5", 1))
    with pytest.raises(LogCorrupt):
        asyncio.run(ask(str(file)))
