"""F2, F3, F7, F11, F22, F24: what can be called, with what, and what comes back."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from lllm import LLM, Agent, AgentBase, AsyncAgentBase, Message, Reply, ScriptedBackend, build_agent
from lllm.errors import ConfigError, ServerError
from lllm.log import MemoryLog
from lllm.ports import Completed, Delta, Request
from lllm.registry import registry


def echo(request: Request) -> str:
    return f"{request.model}: {request.messages[-1].text}"


# --- F2: f(x) equals await f.acall(x) -----------------------------------------------------------------------


class Plain(AgentBase, register=False):
    """A system in blocking code."""

    agent_type = "plain"

    def call(self, task: str, **more: Any) -> str:
        return self.agents["a"].call(task).content


class Async(AsyncAgentBase, register=False):
    """The same in async code."""

    agent_type = "async"

    async def call(self, task: str, **more: Any) -> str:
        return (await self.agents["a"].acall(task)).content


def components() -> dict[str, Any]:
    config = {"agent_configs": {"a": {}}}
    model = ScriptedBackend(echo, model="m")
    return {
        "model": LLM(model),
        "agent": Agent("a", model),
        "system": Plain(config, model=model, log_base=MemoryLog()),
        "async system": Async(config, model=model, log_base=MemoryLog()),
    }


@pytest.mark.parametrize("name", components())
def test_a_component_is_a_function(name: str) -> None:
    component = components()[name]
    blocking = component("x")
    awaited = asyncio.run(component.acall("x"))
    assert str(blocking) == str(awaited) == "ScriptedBackend: x"


# --- F3 -----------------------------------------------------------------------------------------------------


def test_a_reply_reads_as_attributes_mapping_and_text() -> None:
    call = {"name": "f", "arguments": "{}"}
    reply = LLM(ScriptedBackend([{"content": "yes", "thinking": "hm", "tool_calls": [call]}]))(
        "x", tools=[{"name": "f"}]
    )
    assert (reply["content"], reply["think"], reply["tool_calls"]) == (
        reply.content,
        reply.think,
        reply.tool_calls,
    )
    assert (reply.content, reply.think, reply.tool_calls[0].name) == ("yes", "hm", "f")
    assert {key: getattr(reply, key) for key in reply} == dict(reply)
    assert str(reply) == reply.text == "yes"
    with pytest.raises(KeyError, match="a Reply has content"):
        reply["contents"]


# --- F7: what is given decides what comes back --------------------------------------------------------------

USER = {"role": "user", "content": "a"}
ONE, BATCH = "m: a", ["m: a", "m: b"]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("a", ONE),
        (Message("user", "a"), ONE),
        ([USER], ONE),
        ([Message("user", "a")], ONE),
        ([{"role": "system", "content": "s"}, USER], ONE),
        (["a", "b"], BATCH),
        (("a", "b"), BATCH),
        (["a"], ["m: a"]),
        ([[USER], [{"role": "user", "content": "b"}]], BATCH),
    ],
)
def test_the_input_decides_what_comes_back(given: Any, wanted: Any) -> None:
    class Named(ScriptedBackend):
        model = "m"

    reply = LLM(Named(echo))(given)
    assert ([str(each) for each in reply] if isinstance(reply, list) else str(reply)) == wanted


@pytest.mark.parametrize(
    "given",
    [
        "",
        [],
        [[]],
        ["a", USER],
        [USER, [USER]],
        [1],
        {"a": 1},
        None,
        3,
        b"a",
        [{"role": "nobody", "content": "a"}],
        [b"a"],
    ],
)
def test_what_is_neither_says_what_there_is(given: Any) -> None:
    with pytest.raises(ConfigError, match="Valid inputs of an LLM"):
        LLM(ScriptedBackend(echo))(given)


def test_a_batch_keeps_its_order_and_gives_an_error_in_its_place() -> None:
    def answer(request: Request) -> Any:
        text = request.messages[-1].text
        return (
            ServerError("down", status=500)
            if text == "b"
            else {"content": text, "delay": 0.01 if text == "a" else 0}
        )

    first, second, third = LLM(ScriptedBackend(answer), max_provider_retry=0)(["a", "b", "c"])
    assert (str(first), str(third)) == ("a", "c")
    assert isinstance(second, Exception)
    assert "down" in str(second)


# --- F11: overrides -----------------------------------------------------------------------------------------


def weather(city: str) -> str:
    """The weather."""
    return city


class Pydantic(BaseModel):
    n: int


@dataclass
class Plainly:
    n: int


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def test_every_setting_can_be_overridden_for_one_call() -> None:
    model = ScriptedBackend(lambda request: "ok")
    other = ScriptedBackend(lambda request: "ok")
    llm = LLM(model, temperature=0.7, max_tokens=9, tools=[weather])
    llm("x", temperature=0, tools=[], stop=["."])
    llm("x")
    llm("x", model=other, timeouts={"total": 3})
    first, second = model.requests
    assert (dict(first.sampling), first.tools) == ({"temperature": 0, "max_tokens": 9, "stop": ["."]}, ())
    assert (dict(second.sampling), second.tools[0]["function"]["name"]) == (
        {"temperature": 0.7, "max_tokens": 9},
        "weather",
    )
    (elsewhere,) = other.requests
    assert elsewhere.timeouts.total == 3


@pytest.mark.parametrize(
    ("format", "value"), [(SCHEMA, {"n": 1}), (Pydantic, Pydantic(n=1)), (Plainly, Plainly(1))]
)
def test_the_form_of_a_reply_can_be_a_schema_a_model_or_a_dataclass(format: Any, value: Any) -> None:
    model = ScriptedBackend(['{"n": "one"}', '{"n": 1}'])
    assert LLM(model)("x", format=format).parsed == value
    wanted = model.requests[0].format
    assert wanted is not None
    assert wanted["schema"]["properties"]["n"]["type"] == "integer"


# --- F22: any object with one method is a model -------------------------------------------------------------


class Fake:
    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        yield Completed(Reply(request.messages[-1].text[::-1]))


def test_five_lines_are_a_model() -> None:
    assert str(LLM(Fake())("abc")) == "cba"
    assert str(Agent("a", Fake(), "Be brief.")("abc")) == "cba"
    assert build_agent({"agent_configs": {"a": {}}}, model=Fake(), log_base=MemoryLog())("abc") == "cba"
    with registry.scope():
        registry.add("backend", "fake", Fake)
        assert str(LLM("fake/any")("abc")) == "cba"


# --- F24 ----------------------------------------------------------------------------------------------------


async def test_blocking_code_works_inside_a_running_loop() -> None:
    llm = LLM(ScriptedBackend(echo, model="m"))
    assert str(llm("x")) == str(await llm.acall("x"))
    system = Plain({"agent_configs": {"a": {}}}, model=ScriptedBackend(echo), log_base=MemoryLog())
    assert system("x") == await system.acall("x")
