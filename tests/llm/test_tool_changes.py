"""Tools are added to an agent and taken away: the next call is offered others, a running one is not."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lllm.backends.scripted import ScriptedBackend
from lllm.errors import ConfigError, FixedSettingError, NameTakenError, UnknownNameError
from lllm.llm import preparing
from lllm.llm.agent import Agent
from lllm.llm.sessions import record
from lllm.log.memory import MemoryLog
from lllm.models.function import tool
from lllm.models.message import FunctionCall
from lllm.models.prompt import Prompt
from lllm.ports import Request
from lllm.proxies import BaseProxy
from lllm.registry import registry
from lllm.replay import fork_session, replay_session
from lllm.replay.resume import resume_session
from tests.llm.test_dialog_turns import Gate
from tests.replay.test_resume import cut


@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@tool(effect="pure")
def double(a: int) -> int:
    """Double."""
    return 2 * a


def triple(a: int) -> int:
    """Triple."""
    return 3 * a


class Weather(BaseProxy, register=False):
    """Weather."""

    _proxy_path = "weather"

    @BaseProxy.endpoint(effect="pure")
    def daily(self, city: str) -> str:
        """The weather of a day."""
        return f"sun in {city}"

    @BaseProxy.endpoint(effect="pure")
    def hourly(self, city: str) -> str:
        """The weather of an hour."""
        return f"rain in {city}"


def ok() -> ScriptedBackend:
    return ScriptedBackend(lambda request: "ok")


def agent_of(backend: Any = None, **more: Any) -> Agent:
    return Agent("a", backend or ok(), store=MemoryLog(), **more)


def offered(agent: Agent, request: int = -1) -> list[str]:
    backend: Any = agent._settings.backend
    return [spec["function"]["name"] for spec in backend.requests[request].tools]


def test_the_next_call_is_offered_it() -> None:
    agent = agent_of(tools=[add])
    agent("x")
    assert offered(agent) == ["add"]
    assert agent.add_tool(triple, double) is agent
    agent("x")
    assert offered(agent) == ["add", "triple", "double"]
    assert agent.remove_tool("add", triple) is agent
    agent("x")
    assert offered(agent) == ["double"]
    assert [one.name for one in agent.tools] == ["double"]


def test_it_is_run() -> None:
    agent = agent_of(ScriptedBackend([FunctionCall("t", "triple", '{"a":3}'), "nine"])).add_tool(triple)
    assert agent("3 times 3?").messages[2].text == "9"


def test_prompts_that_were_used_before_are_offered_it_too() -> None:
    ask = Prompt("tools/ask", "Say {it}.", functions=[add])
    agent = agent_of(prompt=ask)
    agent(None, {"it": "x"})
    agent.add_tool(double)
    agent(None, {"it": "x"})
    assert offered(agent) == ["double", "add"]


async def test_a_running_call_keeps_its_tools() -> None:
    gate = Gate(FunctionCall("t", "add", '{"a":1,"b":2}'), "3", "after")  # type: ignore[arg-type]
    agent = agent_of(gate.backend, tools=[add])
    call = asyncio.create_task(agent.acall("1 + 2?"))
    await gate.wait()
    agent.remove_tool("add").add_tool(double)
    gate.open.release(3)
    reply = await call
    assert [m.text for m in reply.messages if m.role == "tool"] == ["3"]
    assert offered(agent, 1) == ["add"]
    await agent.acall("x")
    assert offered(agent) == ["double"]


def test_a_tool_may_change_the_tools_of_the_next_call() -> None:
    @tool(effect="pure")
    def learn() -> str:
        """Learn."""
        agent.add_tool(double)
        return "learnt"

    agent = agent_of(ScriptedBackend([FunctionCall("t", "learn", "{}"), "ok", "ok"]), tools=[learn])
    agent("x")
    assert offered(agent) == ["learn"]
    agent("x")
    assert offered(agent) == ["learn", "double"]


def test_all_kinds_of_tools() -> None:
    helper = agent_of().with_(name="helper")
    with registry.scope():
        registry.add("tool", "registered", double.with_(name="registered"))
        registry.add("proxy", "weather", Weather)
        agent = agent_of(activate_proxies=["weather"], tools=[])
        agent.add_tool(triple, helper, "registered", "weather.daily")
        agent("x")
        assert offered(agent) == ["triple", "helper", "registered", "weather__daily"]
        agent.add_tool("weather.*")
        agent("x")
        assert offered(agent)[3:] == ["weather__daily", "weather__hourly"]
        agent.remove_tool(helper, "weather.*", "registered")
        agent("x")
        assert offered(agent) == ["triple"]


def test_the_same_tool_again_changes_nothing_and_another_is_refused() -> None:
    agent = agent_of(tools=[add, triple])
    agent.add_tool(add, triple)
    assert [one.name for one in agent.tools] == ["add", "triple"]
    other = double.with_(name="add")
    with pytest.raises(NameTakenError, match="replace=True"):
        agent.add_tool(double, other)
    assert [one.name for one in agent.tools] == ["add", "triple"], "nothing is changed"
    agent.add_tool(other, replace=True)
    assert agent.tools[0].description == "Double."
    front = agent_of(handoffs=[agent.with_(name="billing")])
    with pytest.raises(NameTakenError, match="hands over"):
        front.add_tool(double.with_(name="transfer_to_billing"), replace=True)


@pytest.mark.parametrize("wrong", [3, "no_such_tool", {"name": 3}, object()])
def test_what_is_no_tool_is_refused(wrong: Any) -> None:
    agent = agent_of(tools=[add])
    for change in (agent.add_tool, agent.remove_tool):
        with pytest.raises(ConfigError):
            change(wrong)
    assert [one.name for one in agent.tools] == ["add"]


def test_removing_what_is_not_there() -> None:
    agent = agent_of(tools=[add, double])
    with pytest.raises(UnknownNameError, match="Did you mean 'double'"):
        agent.remove_tool("add", "duble")
    assert len(agent.tools) == 2
    with pytest.raises(FixedSettingError, match="add_tool"):
        agent.tools = ()  # type: ignore[misc]


def test_a_copy_is_left_alone() -> None:
    agent = agent_of(tools=[add])
    twin = agent.with_()
    agent.add_tool(double)
    twin("x")
    assert offered(twin) == ["add"]


def test_whoever_holds_the_agent_sees_it() -> None:
    helper = agent_of(ScriptedBackend(lambda request: str(len(request.tools)))).with_(name="helper")
    calls = [FunctionCall("t", "helper", '{"task":"how many?"}')]
    boss = agent_of(ScriptedBackend([calls, "done"]), tools=[helper])
    helper.add_tool(add)
    assert boss("x").messages[2].text == "1"


def test_changes_at_once_are_all_made() -> None:
    agent = agent_of()
    tools = [double.with_(name=f"tool_{n}") for n in range(60)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(agent.add_tool, tools))
    assert {one.name for one in agent.tools} == {one.name for one in tools}


def test_a_change_while_a_call_begins_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = agent_of(tools=[add])
    make = preparing.Binding

    def slow(*args: Any) -> Any:
        made = make(*args)
        monkeypatch.setattr(preparing, "Binding", make)
        agent.add_tool(double)  # another thread's, in the middle of this one
        return made

    monkeypatch.setattr(preparing, "Binding", slow)
    agent("x")
    agent("x")
    assert offered(agent) == ["add", "double"]


def program(store: MemoryLog, agent: Agent) -> Any:
    def main() -> str:
        with record("changes", store=store):
            first = agent("first").content
            agent.add_tool(double)
            second = agent("second").content
            agent.remove_tool(double)
            return f"{first} {second} {agent('third').content}"

    return main


def model(request: Request) -> Any:
    names = [spec["function"]["name"] for spec in request.tools]
    if "double" in names and request.messages[-1].role == "user":
        return FunctionCall("t", "double", '{"a":4}')
    return "+".join([*names, request.messages[-1].text])


def test_it_is_replayed_resumed_and_forked() -> None:
    store = MemoryLog()
    agent = Agent("a", ScriptedBackend(model), tools=[add])
    assert program(store, agent)() == "add+first add+double+8 add+third"
    (session,) = [info.id for info in store.sessions()]
    assert replay_session(session, store=store, entry=program(store, agent)).verified
    for at in range(1, len(list(store.read(session)))):
        there = cut(store, session, at)
        fresh = Agent("a", ScriptedBackend(model), tools=[add])
        assert resume_session(session, store=there, entry=program(there, fresh)).result.endswith("add+third")
        assert replay_session(session, store=there, entry=program(there, fresh)).verified
        fork = fork_session(session, at=at, store=store, into=MemoryLog(), entry=program(store, fresh))
        assert fork.result == "add+first add+double+8 add+third"

    def without() -> None:
        with record("changes", store=store):
            agent("first")
            agent("second")

    report = replay_session(session, store=store, entry=without)
    assert report.divergence is not None
    assert "tool" in report.divergence.cause
