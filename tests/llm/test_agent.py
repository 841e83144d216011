"""What an agent takes, and what it says to somebody who slipped."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest

from lllm.backends.scripted import ScriptedBackend
from lllm.errors import ConfigError, UnknownNameError
from lllm.llm.agent import Agent
from lllm.llm.bind import Bindings
from lllm.llm.model import LLM
from lllm.log import MemoryLog
from lllm.log.none import NoLog
from lllm.models.function import tool
from lllm.models.message import FunctionCall
from lllm.models.prompt import Prompt
from lllm.registry import registry


@tool
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


def test_a_tool_can_be_named() -> None:
    with registry.scope():
        registry.add("tool", "add", add)
        backend = ScriptedBackend([FunctionCall("c", "add", '{"a":1,"b":2}'), "3"])
        assert Agent("a", backend, tools=["add"], store=MemoryLog())("1 + 2?").content == "3"
        assert backend.requests[0].tools[0]["function"]["name"] == "add"


@pytest.mark.parametrize("tools", ["add", add, {"name": "add"}, 3])
def test_tools_are_a_list(tools: Any) -> None:
    with pytest.raises(ConfigError, match=r"it is a list of tools"):
        Agent("a", ScriptedBackend([]), tools=tools)


@pytest.mark.parametrize(
    ("wrong", "right"), [("tool", "tools"), ("system", "system_prompt"), ("timeout", "timeouts")]
)
def test_a_slip_of_a_keyword_is_not_sent_to_the_model(wrong: str, right: str) -> None:
    with pytest.raises(ConfigError, match=f"Did you mean '{right}'"):
        Agent("a", ScriptedBackend([]), **{wrong: 1})
    with pytest.raises(ConfigError, match=f"Did you mean '{right}'"):
        Agent("a", ScriptedBackend(["x"]), store=MemoryLog())("hi", **{wrong: 1})


def test_a_template_in_place_of_a_prompt_is_explained() -> None:
    with pytest.raises(UnknownNameError, match=r"Prompt\(\"name\", 'Hello \{name\}'\)"):
        Agent("a", ScriptedBackend([]))("Hello {name}", {"name": "Bob"})


def test_text_for_a_model_is_text() -> None:
    with registry.scope():
        registry.add("prompt", "house/secret", Prompt("house/secret", "What nobody asked for."))
        backend = ScriptedBackend(["one", "two"])
        model = LLM(backend, store=MemoryLog())
        model("house/secret")
        model(["house/secret"])
    assert [request.messages[-1].text for request in backend.requests] == ["house/secret", "house/secret"]


def test_a_store_of_ones_own() -> None:
    store = MemoryLog()
    reply = Agent("a", ScriptedBackend(["yes"]), store=store)("?")
    assert [info.id for info in store.sessions()] == [reply.session]


def test_a_backend_with_one_model_has_no_other() -> None:
    with pytest.raises(ConfigError, match="has one model"):
        Agent("a", "embedded/big")


def test_a_prompt_for_every_call_is_not_kept() -> None:
    agent = Agent("a", ScriptedBackend(lambda request: '{"n": 1}'), store=NoLog())
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    often = Prompt("p/often", "Say.", format=schema)
    agent(often)
    bound = agent._bindings.get(often)
    made = []
    for number in range(3 * Bindings.MOST):
        prompt = Prompt("p/x", "Say.", format=dict(schema))
        made.append(weakref.ref(prompt))
        agent(prompt)
        if number % 10 == 0:
            agent(often)
    del prompt
    agent._settings.backend.requests.clear()  # type: ignore[attr-defined]
    gc.collect()
    assert sum(ref() is not None for ref in made) < Bindings.MOST
    assert len(agent._bindings) <= Bindings.MOST
    assert agent._bindings.get(often) is bound, "what is used often is bound once"


def test_prompts_of_many_threads_are_bound_right() -> None:
    agent = Agent("a", ScriptedBackend(lambda request: "<n>1</n>"), store=NoLog())
    shared = [
        Prompt(f"p/{number}", str(number), required_xml_tags=["n"]) for number in range(2 * Bindings.MOST)
    ]
    wrong: list[Any] = []

    def work(step: int) -> None:
        for number in range(0, 400, step):
            prompt = shared[number % len(shared)]
            if agent._binding(prompt, {}).prompt is not prompt:
                wrong.append(prompt)

    threads = [threading.Thread(target=work, args=(step,)) for step in (1, 1, 3, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(agent._bindings) <= Bindings.MOST + len(threads)
