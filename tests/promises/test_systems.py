"""L6, L22: a system from configuration, and one session that holds everything it did."""

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lllm import AgentBase, FunctionCall, MemoryLog, Prompt, ScriptedBackend, build_agent
from lllm.errors import ConfigError, LLMError
from lllm.log import NoLog
from lllm.log.views import collections, load, summary
from lllm.registry import registry


class Kind(Enum):
    PAIR = "pair"


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


ASK = Prompt("pair/ask", "{task} In <answer> tags.", required_xml_tags=["answer"], functions=[add])


@pytest.fixture(autouse=True)
def names() -> Iterator[None]:
    with registry.scope():

        class Pair(AgentBase):
            """Two agents, one after the other."""

            agent_type = Kind.PAIR
            agent_group: ClassVar = ["first", "second"]

            def call(self, task: str, **more: Any) -> str:
                self.stream.write(f"thinking about {task}")
                with self.stream.spinner("asking"):
                    answer = self.agents["first"].call("pair/ask", {"task": task}).parsed.first("answer")
                return self.agents["second"].call(f"Say {answer} nicely.").content

        registry.add("prompt", "pair/ask", ASK)
        registry.add("tool", "add", add)
        yield


SYSTEM = {
    "name": "a pair",
    "agent_type": "pair",
    "agent_configs": {"first": {"system_prompt": "You add."}, "second": {}},
}
SCRIPT = [
    FunctionCall("", "add", '{"a": 1, "b": 2}'),
    "It is 3.",
    "<answer>3</answer>",
    "Three, with pleasure.",
]


class Recorder:
    """A frontend that keeps what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def write(self, *words: Any) -> None:
        self.said.append(" ".join(map(str, words)))


# --- L6 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pair", Kind.PAIR, None])
def test_a_system_is_found_by_text_or_enum_and_gets_all_it_is_given(kind: Any, tmp_path: Path) -> None:
    shown = Recorder()
    system = build_agent(SYSTEM, tmp_path, shown, kind, model=ScriptedBackend(SCRIPT), log_base=MemoryLog())
    assert system.name == "pair"
    assert system.config.name == "a pair"
    assert system.ckpt_dir == tmp_path
    assert system("1 + 2?") == "Three, with pleasure."
    assert shown.said == ["thinking about 1 + 2?"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"agent_configs": {"first": {"model_name": "openai"}, "second": {}}}, "openai"),
        ({"agent_type": "pear"}, "pair"),
        ({"agent_confgs": {}}, "agent_configs"),
        ({"agent_configs": {"first": {}}}, "second"),
        ({"agent_configs": {"first": {"promt": "x"}, "second": {}}}, "agent_configs.first.promt"),
        ({"agent_configs": {"first": {"prompt": "pair/aks"}, "second": {}}}, "pair/ask"),
        ({"agent_configs": {"first": {"system_prompt_path": "no"}, "second": {}}}, "system_prompt_path"),
        ({"agent_configs": {"first": {"tools": ["ad"]}, "second": {}}}, "add"),
        ({"agent_configs": {"first": {"model_name": "opnai/gpt"}, "second": {}}}, "openai"),
        ({"agent_configs": {"first": {"max_exception_retry": -1}, "second": {}}}, "max_exception_retry"),
    ],
)
def test_what_is_wrong_is_said_before_any_model_is_asked(changes: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_agent({**SYSTEM, **changes}, log_base=NoLog())
    assert words in str(caught.value)


# --- L22 ----------------------------------------------------------------------------------------------------


def test_one_session_holds_everything_in_order() -> None:
    log = MemoryLog()
    system = build_agent(SYSTEM, model=ScriptedBackend(SCRIPT), log_base=log)
    system("a/b\\c .. 🚀 " + "x" * 10_000)
    (info,) = log.sessions()
    assert info.id == system.session.id
    assert len(info.id) <= 80
    assert not set(info.id) - set("abcdefghijklmnopqrstuvwxyz0123456789-")
    events = load(log, info.id)
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)
    kinds = [event["kind"] for event in events]
    assert kinds[0] == "SessionStarted"
    assert kinds[-1] == "SessionEnded"
    assert kinds.count("CallStarted") == 2  # the sub-agents
    assert kinds.count("ReplyRejected") == 1  # the repair
    assert kinds.count("ToolReturned") == 1
    shown = [
        (event["data"]["method"], event["data"].get("phase"))
        for event in events
        if event["kind"] == "Frontend"
    ]
    assert shown == [("write", None), ("spinner", None), ("spinner", "enter"), ("spinner", "exit")]
    said = [event["data"]["message"]["content"] for event in events if event["kind"] == "ModelReplied"]
    assert said[1:] == ["It is 3.", "<answer>3</answer>", "Three, with pleasure."]
    told = summary(events)
    assert (told.status, told.calls, told.model_calls, told.tool_calls) == ("done", 2, 4, 1)
    messages = [
        part for event in events for part in event["data"].get("add", ()) if event["kind"] == "CallStarted"
    ]
    assert [message["role"] for message in messages] == ["system", "user", "user"]
    assert set(collections(events)) >= {"dialogs", "messages", "frontend"}


def test_no_log_writes_nothing_and_changes_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = ScriptedBackend(SCRIPT)
    assert build_agent(SYSTEM, model=model, log_base=NoLog())("1 + 2?") == "Three, with pleasure."
    other = ScriptedBackend(SCRIPT)
    assert build_agent(SYSTEM, model=other, log_base=MemoryLog())("1 + 2?") == "Three, with pleasure."
    assert [request.messages for request in model.requests] == [
        request.messages for request in other.requests
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_failed_system_says_so_in_its_session() -> None:
    log = MemoryLog()
    system = build_agent(SYSTEM, model=ScriptedBackend(["no"] * 9), log_base=log)
    with pytest.raises(LLMError):
        system("1 + 2?")
    assert [info.status for info in log.sessions()] == ["failed"]
