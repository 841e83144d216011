"""An agent with memory goes on with its conversation; one without stands by itself each time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import lllm
from lllm.backends.scripted import ScriptedBackend
from lllm.config import load_config
from lllm.core import events as ev
from lllm.errors import ConfigError, DialogBusyError, FixedSettingError, ProviderFailed, ServerError
from lllm.llm.agent import Agent
from lllm.llm.model import LLM
from lllm.llm.sessions import arecord, record
from lllm.log.memory import MemoryLog
from lllm.log.views import load
from lllm.models.function import tool
from lllm.models.message import FunctionCall, Message
from lllm.models.prompt import Prompt
from lllm.ports import Request
from lllm.replay import fork_session, replay_session
from lllm.replay.resume import resume_session
from tests.llm.test_dialog_turns import Gate
from tests.replay.test_resume import cut

MEMORIES = (True, "session")


def echo() -> ScriptedBackend:
    """Says how many messages it was sent, and the last of them."""
    return ScriptedBackend(lambda request: f"{len(request.messages)}: {request.messages[-1].text}")


def agent_of(backend: Any = None, **more: Any) -> Agent:
    more = {"memory": True, "store": MemoryLog(), **more}
    return Agent("ada", echo() if backend is None else backend, "You are Ada.", **more)


def sent(agent: Agent, request: int = -1) -> list[str]:
    backend: Any = agent._settings.backend
    return [message.text for message in backend.requests[request].messages]


def said(agent: Agent) -> list[str]:
    return [message.text for message in agent.history]


# --- calls by themselves


def test_the_second_call_contains_the_first() -> None:
    agent = agent_of()
    agent("I am Bob.")
    assert said(agent) == ["You are Ada.", "I am Bob.", "2: I am Bob."]
    agent("Who am I?")
    assert sent(agent) == ["You are Ada.", "I am Bob.", "2: I am Bob.", "Who am I?"]
    assert len(agent.history) == 5


def test_an_agent_stands_by_itself_by_default() -> None:
    agent = agent_of(memory=None)
    agent("I am Bob.")
    agent("Who am I?")
    assert sent(agent) == ["You are Ada.", "Who am I?"]
    assert (agent.memory, agent.history) == (None, ())
    agent.clear()


def test_clear_begins_anew() -> None:
    agent = agent_of()
    agent("one")
    agent.clear()
    assert agent.history == ()
    agent("two")
    assert sent(agent) == ["You are Ada.", "two"]


async def test_async_calls_and_streams_are_remembered_too() -> None:
    agent = agent_of()
    await agent.acall("one")
    assert "".join([text async for text in agent.astream("two").text()]) == "4: two"
    await agent.acall(Message("user", "three"))
    assert sent(agent)[1::2] == ["one", "two", "three"]


def test_tools_and_their_results_are_remembered() -> None:
    @tool(effect="pure")
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    agent = agent_of(
        ScriptedBackend([FunctionCall("t", "add", '{"a":1,"b":2}'), "3", "again 3"]), tools=[add]
    )
    agent("1 + 2?")
    agent("Once more.")
    assert [m.role for m in agent.history] == "system user assistant tool assistant user assistant".split()
    assert sent(agent)[3:] == ["3", "3", "Once more."]


def test_a_failed_call_leaves_the_history() -> None:
    replies: list[Any] = ["one", ServerError("down", status=500), "three"]
    agent = agent_of(ScriptedBackend(replies), max_provider_retry=0)
    agent("first")
    before = agent.history
    with pytest.raises(ProviderFailed):
        agent("second")
    assert agent.history == before
    with pytest.raises(ConfigError):
        agent("third", temprature=1)
    assert agent.history == before
    agent("fourth")
    assert sent(agent) == ["You are Ada.", "first", "one", "fourth"]


async def test_a_cancelled_call_leaves_the_history() -> None:
    gate = Gate("one", "two")
    agent = agent_of(gate.backend)
    call = asyncio.create_task(agent.acall("first"))
    await gate.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert agent.history == ()
    gate.open.release(2)
    await agent.acall("second")
    assert said(agent)[:2] == ["You are Ada.", "second"]


async def test_a_second_call_at_once_is_refused() -> None:
    gate = Gate("one", "two")
    agent = agent_of(gate.backend)
    first = asyncio.create_task(agent.acall("first"))
    await gate.wait()
    with pytest.raises(DialogBusyError, match="agent 'ada' has not ended"):
        await agent.acall("second")
    with pytest.raises(DialogBusyError):
        agent.clear()
    gate.open.release(2)
    await first
    await agent.acall("third")
    assert sent(agent) == ["You are Ada.", "first", "one", "third"]


def test_prompts_and_their_arguments() -> None:
    system = Prompt("memory/system", "You serve {customer}.")
    agent = Agent("a", echo(), system, memory=True, store=MemoryLog())
    ask = Prompt("memory/ask", "Where is {thing}?")
    agent(ask, {"customer": "Bob", "thing": "it"})
    agent(ask, {"thing": "the other"})  # the conversation has its system prompt already
    assert sent(agent)[0] == "You serve Bob."
    assert sent(agent)[-1] == "Where is the other?"


def test_a_dialog_and_a_list_of_messages_stand_by_themselves() -> None:
    agent = agent_of()
    agent("one")
    before = agent.history
    agent([{"role": "user", "content": "alone"}])
    assert sent(agent) == ["You are Ada.", "alone"]
    dialog = agent.init_dialog()
    agent(dialog.append("in a dialog"))
    assert sent(agent) == ["You are Ada.", "in a dialog"]
    assert agent.history == before


def test_a_classification_reads_the_memory_and_adds_nothing() -> None:
    scores = {"token": "yes", "logprob": -0.1, "top": ()}
    agent = agent_of(ScriptedBackend(["one", {"content": "yes", "logprobs": [scores]}, "two"]))
    agent("first")
    before = agent.history
    assert agent.binary_classify("Is it?") == 1.0
    assert sent(agent) == ["You are Ada.", "first", "one", "Is it?"]
    assert agent.history == before


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_batch_is_refused(memory: Any) -> None:
    agent = agent_of(memory=memory)
    with pytest.raises(ConfigError, match=r"with_\(memory=False"):
        agent(["one", "two"])
    replies = agent.with_(memory=False)(["one", "two"])
    assert [str(reply) for reply in replies] == ["2: one", "2: two"]


def test_settings_of_one_call_keep_the_conversation() -> None:
    agent = agent_of()
    agent("one", temperature=0)
    agent("two", system_prompt="You are Eve.")
    assert sent(agent) == ["You are Eve.", "one", "2: one", "two"]
    agent("three")
    assert sent(agent)[0] == "You are Ada."
    assert sent(agent)[1::2] == ["one", "two", "three"]


def test_a_copy_has_a_past_in_common_and_a_future_of_its_own() -> None:
    agent = agent_of()
    agent("one")
    twin = agent.with_(temperature=0)
    twin("two")
    assert sent(twin) == ["You are Ada.", "one", "2: one", "two"]
    assert said(agent) == ["You are Ada.", "one", "2: one"]
    agent("three")
    assert "two" not in sent(agent)
    eve = agent.with_(system_prompt="You are Eve.")
    eve("four")
    assert sent(eve)[0] == "You are Eve."
    assert "three" in sent(eve)
    assert agent.with_(memory=False).history == ()
    assert agent.with_(memory="session").memory == "session"


@pytest.mark.parametrize("wrong", ["yes", 1, "agents", []])
def test_other_values_are_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="memory must be True, False or 'session'"):
        agent_of(memory=wrong)


def test_it_is_no_setting_of_a_call_or_an_llm() -> None:
    with pytest.raises(ConfigError, match=r"with_\(memory=True"):
        agent_of()("x", memory=False)
    for name in ("memory", "history"):
        with pytest.raises(FixedSettingError, match=name):
            setattr(agent_of(), name, ())
    with pytest.raises(ConfigError, match="An Agent may"):
        LLM("scripted", memory=True)


def test_a_subclass_may_have_a_history_of_its_own() -> None:
    class Own(Agent):
        def __init__(self) -> None:
            super().__init__("own", echo(), memory=True, store=MemoryLog())
            self.history = self.memory = ["mine"]

    agent = Own()
    agent("one")
    agent("two")
    assert sent(agent)[::2] == ["one", "two"]
    assert agent.history == ["mine"]


def test_an_agent_as_a_tool_is_asked_in_turn() -> None:
    helper = Agent("helper", echo(), memory="session", store=MemoryLog())
    calls = [FunctionCall(f"t{n}", "helper", f'{{"task":"question {n}"}}') for n in (1, 2)]
    boss = Agent("boss", ScriptedBackend([calls, "done"]), tools=[helper], store=MemoryLog())
    reply = boss("go")
    assert [m.text for m in reply.messages if m.role == "tool"] == ["1: question 1", "3: question 2"]


# --- in sessions


def test_a_session_goes_on_with_what_was_said_before() -> None:
    agent = agent_of()
    agent("one")
    with record("a", store=MemoryLog()):
        agent("two")
        assert sent(agent)[1::2] == ["one", "two"]
        assert len(agent.history) == 5
    agent("three")
    with record("b", store=MemoryLog()):
        agent("four")
    assert sent(agent)[1::2] == ["one", "two", "three", "four"]


def test_a_memory_of_the_session_ends_with_it() -> None:
    agent = agent_of(memory="session")
    agent("by itself")
    for _ in range(2):
        with record("a", store=MemoryLog()):
            agent("one")
            agent("two")
            assert sent(agent) == ["You are Ada.", "one", "2: one", "two"]
    agent("by itself")
    assert sent(agent) == ["You are Ada.", "by itself"]
    assert agent.history == ()


async def test_sessions_side_by_side_do_not_hear_of_one_another() -> None:
    agent = agent_of(memory="session")
    requests: Any = agent._settings.backend

    async def work(name: str) -> None:
        async with arecord(name, store=MemoryLog()):
            for n in range(3):
                await agent.acall(f"{name} {n}")
                await asyncio.sleep(0)

    await asyncio.gather(*(work(f"s{n}") for n in range(10)))
    for request in requests.requests:
        users = [message.text for message in request.messages if message.role == "user"]
        assert users == [f"{users[0].split()[0]} {n}" for n in range(len(users))]


@pytest.mark.parametrize("system", ["You are Ada.", None])
def test_a_conversation_is_written_once_in_a_session(system: str | None) -> None:
    agent, store = Agent("ada", echo(), system, memory=True, store=MemoryLog()), MemoryLog()
    agent("before")
    with record("turns", store=store) as session:
        for n in range(3):
            agent(f"turn {n}")
    started = [e["data"] for e in load(store, session.id) if e["kind"] == ev.CALL_STARTED]
    assert [len(data["add"]) for data in started] == [3 + (system is not None), 1, 1]
    assert len({e["dialog"] for e in load(store, session.id) if e["call"]}) == 1


# --- run again


def program(store: MemoryLog, ada: Agent, log: list[list[str]]) -> Any:
    """Ada remembers from before; `helper` within the session: asked by a model, by code, and within a plain tool."""

    def model(request: Request) -> Any:
        log.append([message.text for message in request.messages])
        return f"{len(request.messages)}: {request.messages[-1].text}"

    def boss_model(request: Request) -> Any:
        rounds = sum(1 for message in request.messages if message.tool_calls)
        names = ("helper", "look", "helper", "look")
        if rounds < len(names):
            return FunctionCall(f"t{rounds}", names[rounds], f'{{"task":"question {rounds}"}}')
        return "done"

    helper = Agent("helper", ScriptedBackend(model), "You help.", memory="session")
    watcher = Agent("watcher", ScriptedBackend(model), "You watch.", memory=True)

    @tool(effect="pure")
    def look(task: str) -> str:
        """Looks."""
        return watcher(task).content

    boss = Agent("boss", ScriptedBackend(boss_model), tools=[helper, look])

    def main() -> str:
        with record("work", store=store):
            ada("first")
            boss("go")
            helper("by code")
            watcher("by code")
            ada("second")
            ada.clear()
            return ada("third").content + str(len(watcher.history))

    return main


def ran() -> tuple[MemoryLog, str, Agent, list[list[str]], str]:
    store, log = MemoryLog(), list[list[str]]()
    ada = agent_of(ScriptedBackend(lambda request: f"{len(request.messages)}"))
    ada("before the session")
    result = program(store, ada, log)()
    (info,) = store.sessions()
    return store, info.id, ada, log, result


def test_what_the_program_asks() -> None:
    _, _, ada, log, result = ran()
    assert log[-1] == [
        *("You watch.", "question 1", "2: question 1", "question 3", "4: question 3", "by code"),
    ]
    assert log[-2] == [
        *("You help.", "question 0", "2: question 0", "question 2", "4: question 2", "by code"),
    ]
    assert result == "27"
    assert said(ada) == ["You are Ada.", "third", "2"]


def test_it_is_replayed_whatever_the_agent_was_told_since() -> None:
    store, session, ada, _, _ = ran()
    ada("since")
    before = ada.history
    report = replay_session(session, store=store, entry=program(store, ada, []))
    assert report.verified, report.divergence
    assert ada.history == before, "a replay tells the agent nothing"
    report = replay_session(session, store=store, entry=program(store, agent_of(), []))
    assert report.verified, report.divergence


def test_a_replay_sees_that_the_conversation_is_another_one() -> None:
    store, session, ada, _, _ = ran()

    def main() -> None:
        with record("work", store=store):
            ada("first")
            ada.clear()
            ada("second")

    report = replay_session(session, store=store, entry=main)
    assert report.divergence is not None


def test_it_is_resumed_wherever_it_was_cut() -> None:
    store, session, _, whole, result = ran()
    events = len(list(store.read(session)))
    for at in range(1, events):
        log: list[list[str]] = []
        there = cut(store, session, at)
        resumed = resume_session(
            session,
            store=there,
            entry=program(there, agent_of(ScriptedBackend(lambda r: f"{len(r.messages)}")), log),
        )
        assert resumed.result == result, at
        assert log == whole[len(whole) - len(log) :], at  # what was asked again is what was asked at first
        report = replay_session(session, store=there, entry=program(there, agent_of(), []))
        assert report.verified, (at, report.divergence)


def test_it_is_forked_anywhere() -> None:
    store, session, ada, _, result = ran()
    before = ada.history
    for event in load(store, session):
        if event["kind"] not in (ev.CALL_STARTED, ev.MODEL_REPLIED, ev.TOOL_RETURNED):
            continue
        fork = fork_session(
            session, at=event["seq"], store=store, into=MemoryLog(), entry=program(store, ada, [])
        )
        assert fork.result == result, event["seq"]
    assert ada.history == before


def test_an_edited_reply_is_remembered_in_a_fork() -> None:
    store, session, ada, _, _ = ran()
    reply = next(e["seq"] for e in load(store, session) if e["kind"] == ev.MODEL_REPLIED)
    into = MemoryLog()
    fork = fork_session(
        session, at=reply, edit="another reply", store=store, into=into, entry=program(store, ada, [])
    )
    assert "another reply" in sent(ada)  # the last that was sent: the others are as they were
    assert replay_session(fork.session, store=into, entry=program(into, agent_of(), [])).verified


@pytest.mark.parametrize("ask", ["plain", "prompt"])
def test_a_call_with_a_session_of_its_own_is_replayed(ask: str) -> None:
    store = MemoryLog()
    prompt: Any = Prompt("memory/own", "Say {it}.") if ask == "prompt" else "again"
    args = {"it": "so"} if ask == "prompt" else None
    agent = agent_of(store=store)
    agent("one")
    agent(prompt, args)
    session = agent_of_last(store)
    agent("since")
    report = replay_session(session, store=store, entry=lambda: agent(prompt, args))
    assert report.verified, report.divergence
    assert sent(agent)[-1] == "since", "no model was asked"
    report = replay_session(session, store=store, entry=lambda: agent_of(store=store)(prompt, args))
    assert report.verified, report.divergence
    assert len(agent.history) == 7


def agent_of_last(store: MemoryLog) -> str:
    return max(store.sessions(), key=lambda info: info.started).id


# --- from YAML

YAML = """
name: pair
model: scripted
agent_configs:
  ada:
    system_prompt: You are Ada.
    memory: {}
"""


def built(tmp_path: Path, memory: str) -> Any:
    file = tmp_path / "pair.yaml"
    file.write_text(YAML.format(memory))
    return lllm.build_agent(load_config(file), model=echo(), log_base=MemoryLog())


@pytest.mark.parametrize(
    ("memory", "sizes"), [("true", ["2", "4"]), ("session", ["2", "2"]), ("false", ["2", "2"])]
)
def test_from_yaml(tmp_path: Path, memory: str, sizes: list[str]) -> None:
    system = built(tmp_path, memory)
    assert [system("one").partition(":")[0], system("two").partition(":")[0]] == sizes


def test_a_session_of_a_system_is_replayed(tmp_path: Path) -> None:
    system = built(tmp_path, "true")
    system("one")
    system("two")
    (session,) = [i.id for i in system.store.sessions() if i.meta["task"] == "two"]
    report = replay_session(session, store=system.store, config=load_config(tmp_path / "pair.yaml"))
    assert report.verified, report.divergence


def test_a_wrong_value_in_yaml_has_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pair\.yaml:7.*true, false or session"):
        built(tmp_path, "sometimes")
