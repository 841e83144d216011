"""Fork: a new session from any point of an old one; what is asked in the same words is not asked again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from lllm.backends.scripted import ScriptedBackend
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import ConfigError, ProviderFailed
from lllm.llm import connect
from lllm.llm.agent import Agent
from lllm.llm.sessions import arecord
from lllm.log.memory import MemoryLog
from lllm.models.function import tool
from lllm.models.message import FunctionCall
from lllm.ports import Request
from lllm.replay import replay_session
from lllm.replay.cases import whatif
from lllm.replay.fork import fork_session
from tests.servers.openai_server import MODEL, OpenAIServer, Script, call

STEPS = 20
RAN: list[int] = []


@tool(effect="ask")
def double(n: int) -> int:
    """Doubles."""
    RAN.append(n)
    return 2 * n


def model(request: Request) -> Any:
    """Doubles the last number that it sees, STEPS times."""
    last = request.messages[-1].text
    rounds = sum(1 for message in request.messages if message.tool_calls)
    if rounds == STEPS - 1:
        return f"{last} it is"
    return FunctionCall(f"t{rounds}", "double", f'{{"n":{int(last)}}}')


def program(store: Any, backend: ScriptedBackend, say: str = "1") -> Any:
    async def main() -> str:
        agent = Agent(
            "doubler", backend, "Double it.", tools=[double], max_interrupt_times=None, max_model_calls=100
        )
        async with arecord("work", store=store):
            return (await agent.acall(say)).content

    return main


@pytest.fixture
def old() -> tuple[MemoryLog, str]:
    store = MemoryLog()
    asyncio.run(program(store, ScriptedBackend(model))())
    RAN.clear()
    return store, store.sessions(1)[0].id


def events(store: MemoryLog, session: str) -> list[dict[str, Any]]:
    return [open_event(body) for body in store.read(session)]


def at(store: MemoryLog, session: str, kind: str, number: int) -> int:
    found: int = [event["seq"] for event in events(store, session) if event["kind"] == kind][number]
    return found


@pytest.mark.parametrize("step", [1, 2, 7, 19])
def test_an_edited_tool_result_asks_only_what_follows(old: tuple[MemoryLog, str], step: int) -> None:
    store, session = old
    backend = ScriptedBackend(model)
    seq = at(store, session, ev.TOOL_RETURNED, step - 1)
    done = fork_session(session, at=seq, edit="1000", store=store, entry=program(store, backend))
    assert len(backend.requests) == STEPS - step == done.changed
    assert (done.reused, done.new, done.tools_reused) == (step, 0, step)
    assert done.result == f"{1000 * 2 ** (STEPS - 1 - step)} it is"
    assert len(RAN) == STEPS - 1 - step  # tools of the shared part are not run again
    assert done.session != session
    assert done.saved.total > 0
    assert events(store, done.session)[0]["data"]["fork"] == {
        "session": session, "at": seq, "edit": {"seq": seq, "text": "1000"}
    }  # fmt: skip
    report = replay_session(done.session, store=store, entry=program(store, backend))
    assert report.verified, report.divergence


def test_nothing_changed_asks_nothing(old: tuple[MemoryLog, str]) -> None:
    store, session = old
    backend = ScriptedBackend(model)
    done = fork_session(session, store=store, entry=program(store, backend))
    assert (done.reused, done.changed, done.new, done.tools_reused) == (STEPS, 0, 0, STEPS - 1)
    assert backend.requests == []
    assert RAN == []
    assert done.result == f"{2 ** (STEPS - 1)} it is"


def test_from_a_point_on_all_is_asked_anew(old: tuple[MemoryLog, str]) -> None:
    store, session = old
    backend = ScriptedBackend(model)
    seq = at(store, session, ev.MODEL_REQUESTED, 5)
    done = fork_session(session, at=seq, store=store, entry=program(store, backend))
    assert (done.reused, done.changed, done.new) == (5, 0, STEPS - 5)
    assert len(backend.requests) == STEPS - 5


def test_an_edited_reply(old: tuple[MemoryLog, str]) -> None:
    store, session = old
    seq = at(store, session, ev.MODEL_REPLIED, 3)
    done = fork_session(
        session, at=seq, edit="I stop.", store=store, entry=program(store, ScriptedBackend(model))
    )
    assert done.result == "I stop."
    assert (done.reused, done.changed, done.new) == (4, 0, 0)


def test_an_edited_message(old: tuple[MemoryLog, str]) -> None:
    store, session = old
    backend = ScriptedBackend(model)
    seq = at(store, session, ev.CALL_STARTED, 0)
    done = fork_session(session, at=seq, edit="3", store=store, entry=program(store, backend))
    assert done.result == f"{3 * 2 ** (STEPS - 1)} it is"
    assert (done.reused, done.changed) == (0, STEPS)
    report = replay_session(done.session, store=store, entry=program(store, backend))
    assert report.verified, report.divergence


def test_other_code_reuses_what_is_the_same(old: tuple[MemoryLog, str]) -> None:
    store, session = old
    backend = ScriptedBackend(model)
    done = fork_session(session, store=store, entry=program(store, backend, say="2"))
    assert done.reused == 0
    assert done.tools_reused == STEPS - 2  # all but the first number were doubled before
    assert len(RAN) == 1


@pytest.mark.parametrize(("unmatched", "ran"), [("run", 1), ("pure", 0), ("refuse", 0)])
def test_tools_that_were_not_called_before(old: tuple[MemoryLog, str], unmatched: str, ran: int) -> None:
    store, session = old

    def lazy(request: Request) -> Any:
        if request.messages[-1].role == "tool":
            return request.messages[-1].text
        return FunctionCall("x", "double", '{"n":77}')

    done = fork_session(
        session, store=store, entry=program(store, ScriptedBackend(lazy), say="x"), unmatched=unmatched
    )
    assert len(RAN) == ran
    assert done.result == (
        "154" if ran else "error: 'double' is not run here, and no recorded call of it had these arguments"
    )


def test_without_the_program(old: tuple[MemoryLog, str]) -> None:
    """The calls themselves are made again, with what the log knows of their agent."""
    from lllm.registry import registry

    store, session = old
    backend = ScriptedBackend(model)
    with registry.scope():
        registry.add("backend", "twin", lambda: backend)
        seq = at(store, session, ev.TOOL_RETURNED, STEPS - 3)
        done = fork_session(session, at=seq, edit="5", store=store, model="twin/x", unmatched="refuse")
    assert done.notes
    assert len(backend.requests) >= 1


def test_a_failure_keeps_its_session(old: tuple[MemoryLog, str]) -> None:
    store, session = old
    seq = at(store, session, ev.TOOL_RETURNED, 3)
    broken = ScriptedBackend(lambda _: (_ for _ in ()).throw(ValueError("no")))
    with pytest.raises(ProviderFailed) as caught:
        fork_session(session, at=seq, edit="9", store=store, entry=program(store, broken))
    assert caught.value.session is not None
    done = fork_session(session, at=seq, edit="9", store=store, entry=program(store, broken), raises=False)
    assert done.status == "failed"
    assert done.error is not None
    assert store.sessions(1)[0].status == "failed"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"at": 999}, "event 999 is not in the session"),
        ({"at": 2, "edit": "x"}, r"cannot be edited\n.*the nearest is event"),
        ({"unmatched": "maybe"}, "unmatched is 'maybe'"),
    ],
)
def test_wrong_wishes(old: tuple[MemoryLog, str], more: dict[str, Any], words: str) -> None:
    store, session = old
    before = len(store.sessions())
    with pytest.raises(ConfigError, match=words):
        fork_session(session, store=store, entry=program(store, ScriptedBackend(model)), **more)
    assert len(store.sessions()) == before


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"model": "twin/x"}, "model cannot be given beside entry"),
        ({"overrides": ["temperature=0"]}, "overrides cannot be given beside entry"),
        ({"model": "twin/x", "overrides": ["temperature=0"]}, "model and overrides cannot be given"),
    ],
)
def test_a_program_chooses_its_models_itself(
    old: tuple[MemoryLog, str], more: dict[str, Any], words: str
) -> None:
    store, session = old
    with pytest.raises(ConfigError, match=words):
        fork_session(session, store=store, entry=program(store, ScriptedBackend(model)), **more)
    (case,) = whatif(session, store=store, entry=program(store, ScriptedBackend(model)), **more).cases
    assert words in str(case.error)
    assert len(store.sessions()) == 1


def test_overrides_come_to_declared_agents(
    old: tuple[MemoryLog, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the program is not known: a configuration that is given must have been loaded with them."""
    from lllm.config import load_config
    from lllm.registry import registry

    store, session = old
    monkeypatch.setattr(connect, "_open", {})
    backend = ScriptedBackend(model)
    tree = {"agent_configs": {"doubler": {"model_name": "twin/x", "tools": ["double"]}}}
    unlimited = ["agent_configs.doubler.max_interrupt_times=null"]
    overrides = [*unlimited, "agent_configs.doubler.temperature=0.5"]
    with registry.scope():
        registry.add("backend", "twin", lambda: backend)
        registry.add("tool", "double", double)
        without = load_config(tree, overrides=unlimited)
        with pytest.raises(ConfigError, match=r"not loaded with the override 'agent_configs\.doubler\.temp"):
            fork_session(session, store=store, config=without, overrides=overrides)
        config = load_config(tree, overrides=overrides)
        done = fork_session(session, store=store, config=config, overrides=overrides)
    assert backend.requests[-1].sampling == {"temperature": 0.5}
    assert events(store, done.session)[0]["data"]["fork"]["set"] == overrides


def test_overrides_come_to_the_agents_of_the_project(
    old: tuple[MemoryLog, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lllm.registry import registry

    store, session = old
    (tmp_path / "lllm.toml").write_text('[run]\ndefault = "system.yaml"\n')
    (tmp_path / "system.yaml").write_text("agent_configs: {doubler: {model_name: twin/x, tools: [double]}}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(connect, "_open", {})
    backend = ScriptedBackend(model)
    with registry.scope():
        registry.add("backend", "twin", lambda: backend)
        registry.add("tool", "double", double)
        fork_session(session, store=store, overrides=["temperature=0.5", "max_interrupt_times=null"])
    assert backend.requests[-1].sampling == {"temperature": 0.5}


def test_a_program_that_raises_what_it_likes(old: tuple[MemoryLog, str]) -> None:
    store, session = old

    async def main() -> None:
        async with arecord("work", store=store):
            raise RuntimeError("boom")

    done = fork_session(session, store=store, entry=main, raises=False)
    assert (done.status, done.error) == ("failed", "boom")
    assert store.sessions(1)[0].status == "failed"
    with pytest.raises(RuntimeError, match="boom"):
        fork_session(session, store=store, entry=main)


def test_an_old_approval_is_not_for_a_tool_that_is_run_now() -> None:
    asked: list[str] = []

    @tool(approval=True)
    def launch(where: str) -> str:
        """Launches."""
        return f"launched to {where}"

    def model(request: Request) -> Any:
        if request.messages[-1].role == "tool":
            return request.messages[-1].text
        return FunctionCall("l", "launch", '{"where":"Mars"}')

    def yes(call: FunctionCall) -> bool:
        asked.append(call.id)
        return True

    store = MemoryLog()

    async def main() -> str:
        agent = Agent("pilot", ScriptedBackend(model), tools=[launch], approve=yes)
        async with arecord("fly", store=store):
            return (await agent.acall("go")).content

    asyncio.run(main())
    session = store.sessions(1)[0].id
    asked.clear()
    fork_session(session, store=store, entry=main)
    assert asked == []  # the approval and what came of it are shared
    fork_session(session, at=at(store, session, ev.TOOL_REQUESTED, 0), store=store, entry=main)
    assert asked == ["l"]  # the tool is run anew


@pytest.mark.parametrize("step", [1, 7, 19])
def test_over_the_wire_only_what_follows_is_asked(step: int) -> None:
    """The same, counted where the requests arrive."""

    def say(server: OpenAIServer, first: int) -> None:
        for number in range(first, STEPS - 1):
            server.scripts.append(Script(tool_calls=[call("double", f'{{"n":{number}}}', f"t{number}")]))
        server.scripts.append(Script("done"))

    store = MemoryLog()
    with OpenAIServer() as server:

        async def main() -> str:
            agent = Agent(
                "doubler", f"openai/{MODEL}", "Double it.", tools=[double], max_interrupt_times=None,
                options={"base_url": server.url, "api_key": "k"},
            )  # fmt: skip
            async with arecord("work", store=store):
                return (await agent.acall("1")).content

        say(server, 0)
        assert asyncio.run(main()) == "done"
        session = store.sessions(1)[0].id
        assert len(server.requests) == STEPS
        say(server, step)
        seq = at(store, session, ev.TOOL_RETURNED, step - 1)
        done = fork_session(session, at=seq, edit="1000", store=store, entry=main)
        assert done.result == "done"
        assert len(server.requests) - STEPS == STEPS - step == done.changed
        assert json.loads(server.requests[STEPS].data)["messages"][-1]["content"] == "1000"
