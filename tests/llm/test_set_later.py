"""Attributes that are set after an object was made take effect, or are refused."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest

from lllm import LLM, Agent, Proxy
from lllm.backends.scripted import ScriptedBackend
from lllm.core import events as ev
from lllm.errors import ConfigError, FixedSettingError
from lllm.llm.settings import KEYWORDS, SAMPLING
from lllm.llm.system import AgentBase
from lllm.log import views
from lllm.log.memory import MemoryLog
from lllm.models.function import tool
from lllm.models.message import FunctionCall
from lllm.models.prompt import Prompt
from lllm.models.reply import Reply
from lllm.utils import StreamWrapper


@tool(approval=True, effect="pure")
def pay(amount: int) -> str:
    """Pays."""
    return f"paid {amount}"


def payer() -> Agent:
    def model(request: Any) -> Any:
        last = request.messages[-1]
        call = FunctionCall("p", "pay", '{"amount":5}')
        return last.text if last.role == "tool" else Reply("", tool_calls=(call,))

    return Agent("payer", ScriptedBackend(model), tools=[pay])


def test_approve_can_be_set_later() -> None:
    agent = payer()
    assert "not approved" in agent("go").content
    agent.approve = lambda call: call.name == "pay"
    assert agent("go").content == "paid 5"
    assert agent.approve is not None
    agent.approve = None
    assert "not approved" in agent("go").content


def test_a_copy_keeps_what_was_set() -> None:
    agent = payer()
    agent.approve = lambda call: True
    for twin in (agent.with_(temperature=0), copy.copy(agent)):
        assert twin("go").content == "paid 5"
    twin = agent.with_(name="other")
    twin.approve = lambda call: "no"
    assert (agent("go").content, twin.name, agent.name) == ("paid 5", "other", "payer")
    assert "no" in twin("go").content


@pytest.mark.parametrize("given", [True, "yes", 3, ["pay"]])
def test_approve_is_a_function(given: Any) -> None:
    agent = payer()
    for give in (
        lambda: setattr(agent, "approve", given),
        lambda: agent.with_(approve=given),
        lambda: Agent("a", ScriptedBackend(["x"]), approve=given),
    ):
        with pytest.raises(ConfigError, match="approve must be a function"):
            give()


READ_ONLY = ["name", "limits", "prompt", "activate_proxies", "system_prompt", "why"]


@pytest.mark.parametrize(
    "name", sorted({*KEYWORDS, *SAMPLING, *READ_ONLY, "temprature", "memory"} - {"approve", "store"})
)
def test_other_settings_of_an_agent_are_refused(name: str) -> None:
    agent = payer()
    with pytest.raises(FixedSettingError, match=f"'{name}' of Agent cannot be set") as caught:
        setattr(agent, name, 1)
    assert isinstance(caught.value, AttributeError)
    assert caught.value.hint
    assert name not in vars(agent)


def test_store_and_description_can_be_set_later() -> None:
    agent = payer()
    agent.store = store = MemoryLog()
    agent.description = "Pays bills."
    agent("go")
    assert len(store.sessions()) == 1
    assert "Pays bills." in agent.as_tool().description


def test_a_subclass_has_attributes_of_its_own() -> None:
    class Remembering(Agent):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            self.memory: list[str] = []

    agent = Remembering("a", ScriptedBackend(["x"]))
    agent.memory = ["y"]
    with pytest.raises(FixedSettingError):
        agent.temperature = 0.5


def test_methods_can_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = payer()
    monkeypatch.setattr(agent, "call", lambda *args: "replaced")
    assert agent.call("x") == "replaced"  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    "name", ["temperature", "tools", "system", "model", "max_cost", "options", "anything"]
)
def test_settings_of_an_llm_are_refused(name: str) -> None:
    llm = LLM(ScriptedBackend(["x"]))
    with pytest.raises(FixedSettingError, match=f"'{name}' of LLM cannot be set"):
        setattr(llm, name, 1)
    llm.workers = 2
    assert llm.workers == 2


@pytest.mark.parametrize(
    "name",
    ["cutoff_date", "use_cache", "variables", "cache", "options", "activate_proxies", "proxies", "timeout"],
)
def test_settings_of_a_proxy_are_refused(name: str) -> None:
    proxy = Proxy([])
    with pytest.raises(FixedSettingError, match=f"'{name}' of Proxy cannot be set"):
        setattr(proxy, name, {})
    proxy.deploy_mode = True
    assert pickle.loads(pickle.dumps(proxy)).deploy_mode is True


def test_settings_of_a_prompt_are_refused() -> None:
    with pytest.raises(AttributeError, match="cannot assign to field 'prompt'"):
        Prompt("a", "text").prompt = "other"  # type: ignore[misc]


def test_what_a_stream_is_set_to_later_is_in_the_session() -> None:
    class Screen:
        shown = io.StringIO()

        def write(self, text: str) -> None:
            self.shown.write(text)

    class Showing(AgentBase):
        async def call(self, task: str, **more: Any) -> str:
            self.stream.write(f"at {task}")
            return task

    store = MemoryLog()
    system = Showing({"agent_configs": {}}, log_base=store)
    system.stream = Screen()
    assert isinstance(system.stream, StreamWrapper)
    system("work")
    events = list(views.load(store, store.sessions()[0].id))
    assert [event["data"]["args"] for event in events if event["kind"] == ev.FRONTEND] == [["at work"]]
    assert Screen.shown.getvalue() == "at work"
