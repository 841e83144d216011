"""Values that are nested as deeply as one likes: a result or an error of ours, and a log that can be read again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lllm.backends.scripted import ScriptedBackend
from lllm.config import load_config
from lllm.core import canonical, jsonable
from lllm.core import events as ev
from lllm.core.parsing import parse_json
from lllm.core.redact import Redactor
from lllm.errors import CallError, ConfigError, LLMError, ParseError
from lllm.llm import bind
from lllm.llm.agent import Agent
from lllm.llm.dialog import Dialog
from lllm.llm.model import LLM
from lllm.llm.sessions import record
from lllm.llm.system import AgentBase
from lllm.log import views
from lllm.log.memory import MemoryLog
from lllm.models.function import tool
from lllm.models.message import Message
from lllm.models.prompt import Prompt
from lllm.replay.again import areplay_session, replay_session
from lllm.tools.prompt_files import load_prompt_file
from lllm.utils import StreamWrapper

DEPTHS = [1, 95, 100, 101, 201, 251, 999, 50_000]


def nest(depth: int, kind: str) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind == "list" else {"a": value}
    return value


def text(depth: int, kind: str) -> str:
    return "[" * depth + "1" + "]" * depth if kind == "list" else '{"a":' * depth + "1" + "}" * depth


Door = Callable[[int, str, MemoryLog], Any]
DOORS: dict[str, Door] = {}


def door(made: Door) -> Door:
    DOORS[made.__name__] = made
    return made


def agent_of(replies: Any, store: MemoryLog, **more: Any) -> Agent:
    return Agent("a", ScriptedBackend(replies), store=store, **more)


def calling(depth: int, kind: str, times: int = 1) -> list[Any]:
    call = {"name": "f", "arguments": '{"x":' + text(depth, kind) + "}"}
    return [{"tool_calls": [call] * times}, "done", "done"]


@tool
def f(x: Any = None) -> str:
    """Takes anything."""
    return "ok"


@door
def arguments_of_a_prompt(depth: int, kind: str, store: MemoryLog) -> None:
    agent_of(["ok"], store).call(Prompt("p/x", "Say {x}"), {"x": nest(depth, kind)})


@door
def arguments_of_a_parser(depth: int, kind: str, store: MemoryLog) -> None:
    prompt = Prompt("p/x", "Say", parser=lambda content, y: content)
    agent_of(["ok"], store).call(prompt, parser_args={"y": nest(depth, kind)})


@door
def what_a_session_is_said_to_be(depth: int, kind: str, store: MemoryLog) -> None:
    with record("x", store=store, meta={"m": nest(depth, kind)}):
        agent_of(["ok"], store).call("hi")


@door
def sampling(depth: int, kind: str, store: MemoryLog) -> None:
    agent_of(["ok"], store).call("hi", model_args={"extra_body": {"x": nest(depth, kind)}})


@door
def parts_of_a_message(depth: int, kind: str, store: MemoryLog) -> None:
    part = {"type": "text", "text": "x", "more": nest(depth, kind)}
    agent_of(["ok"], store).call([{"role": "user", "content": [part]}])


@door
def arguments_of_a_tool(depth: int, kind: str, store: MemoryLog) -> None:
    agent_of(calling(depth, kind), store, tools=[f]).call("hi")


@door
def arguments_of_a_tool_twice(depth: int, kind: str, store: MemoryLog) -> None:
    agent_of(calling(depth, kind, 2), store, tools=[f]).call("hi")


@door
def arguments_that_somebody_approves(depth: int, kind: str, store: MemoryLog) -> None:
    gated = f.with_(approval=True)
    agent_of(calling(depth, kind), store, tools=[gated], approve=lambda call: True).call("hi")


@door
def the_result_of_a_tool(depth: int, kind: str, store: MemoryLog) -> None:
    gives = tool(name="f")(lambda: nest(depth, kind))
    agent_of([{"tool_calls": [{"name": "f", "arguments": {}}]}, "done"], store, tools=[gives]).call("hi")


@door
def a_reply_with_a_schema(depth: int, kind: str, store: MemoryLog) -> None:
    form = {"type": "array" if kind == "list" else "object"}
    agent_of(lambda request: text(depth, kind), store, format=form).call("hi")


@door
def a_payload(depth: int, kind: str, store: MemoryLog) -> None:
    agent_of(["x"], store).call(Prompt("p/x", "Say", parser=lambda content: nest(depth, kind)))


@door
def what_a_handler_says(depth: int, kind: str, store: MemoryLog) -> None:
    part = {"type": "text", "text": "x", "more": nest(depth, kind)}
    prompt = Prompt(
        "p/x", "Say", required_xml_tags=["q"], exception_prompt=lambda context: [Message("user", (part,))]
    )
    agent_of(["x", "<q>1</q>"], store).call(prompt)


@door
def what_is_shown(depth: int, kind: str, store: MemoryLog) -> None:
    with record("x", store=store):
        StreamWrapper().write(nest(depth, kind), more=nest(depth, kind))


@door
def the_result_of_a_system(depth: int, kind: str, store: MemoryLog) -> None:
    class System(AgentBase, register=False):
        agent_type = "deep"

        def call(self, task: str, **more: Any) -> Any:
            return nest(depth, kind)

    System({"agent_configs": {}}, log_base=store)("task", more=nest(depth, kind))


@door
def the_schema_of_a_tool(depth: int, kind: str, store: MemoryLog) -> None:
    schema = {"type": "object", "properties": {"x": {"default": nest(depth, kind)}}}
    agent_of(["ok"], store, tools=[{"name": "f", "parameters": schema}]).call("hi")


@door
def a_dialog(depth: int, kind: str, store: MemoryLog) -> None:
    dialog = Dialog([Message("user", "x")])
    dialog.args = {"x": nest(depth, kind)}
    agent_of(["ok"], store).call(dialog)
    dialog.to_dict()


@pytest.mark.parametrize("kind", ["list", "dict"])
@pytest.mark.parametrize("name", DOORS)
def test_any_depth(name: str, kind: str) -> None:
    for depth in DEPTHS:
        store = MemoryLog()
        try:
            DOORS[name](depth, kind, store)
            fits = True
        except LLMError:
            fits = False
        assert fits or depth > 90, (depth, "a depth that people use")
        for info in store.sessions():
            events = views.load(store, info.id)
            kinds = [event["kind"] for event in events]
            assert kinds.count(ev.CALL_STARTED) == kinds.count(ev.CALL_ENDED), depth
            assert kinds[-1] == ev.SESSION_ENDED, depth

            def program(depth: int = depth) -> None:
                DOORS[name](depth, kind, MemoryLog())

            report = replay_session(info.id, store=store, entry=program)
            assert report.divergence is None, (depth, report.divergence)


def files(tmp_path: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    deep = text(5000, "list")

    def file(name: str, content: str) -> Path:
        (tmp_path / name).write_text(content)
        return tmp_path / name

    prompt = file("prompt.md", f"---\nxml_tags: {deep}\n---\nHello")
    yield "prompt", lambda: load_prompt_file(prompt)
    dialog = file("dialog.json", '{"lllm": "dialog", "format": 1, "messages": [], "args": ' + deep + "}")
    yield "dialog", lambda: Dialog.load(dialog)
    system = file("system.yaml", f"agent_configs: {deep}")
    yield "system", lambda: load_config(str(system))
    yield "mapping", lambda: load_config({"agent_configs": nest(5000, "dict")})
    yield "override", lambda: load_config({}, overrides=["a." * 2000 + "b=1"])
    yield "value of an override", lambda: load_config({}, overrides={"agent_configs": nest(5000, "dict")})
    yield "keyword", lambda: LLM(ScriptedBackend(["x"]))("hi", stop=nest(5000, "list"))
    yield "reply", lambda: parse_json(deep)


def test_files_and_settings_of_any_depth(tmp_path: Path) -> None:
    for name, read in files(tmp_path):
        with pytest.raises((ConfigError, ParseError)) as caught:
            read()
        assert "recursion" not in str(caught.value), name


def test_secrets_in_an_environment_of_any_depth() -> None:
    """Every command reads it."""
    redactor = Redactor.from_environment(
        {"DATABASE": text(50_000, "list"), "API_KEY": '{"a":' * 300 + '"sk-0123456789abcdef"' + "}" * 300}
    )
    assert "sk-0123456789abcdef" not in redactor.text("it is sk-0123456789abcdef")
    deep = "[" * 5000 + '"sk-0123456789abcdef"' + "]" * 5000
    assert b"sk-0123456789abcdef" not in redactor.blob(deep.encode())


@pytest.mark.parametrize("leaf", [1, 1.0, 2**70, "\U0001f600"])
@pytest.mark.parametrize("kind", ["list", "dict"])
def test_canonical_json_has_one_limit(kind: str, leaf: Any) -> None:
    """Whatever the value holds, and however deep the caller's own stack is."""

    def at_depth(frames: int, act: Callable[[], Any]) -> Any:
        return act() if frames == 0 else at_depth(frames - 1, act)

    def build(depth: int) -> Any:
        value: Any = leaf
        for _ in range(depth):
            value = [value] if kind == "list" else {"a": value}
        return value

    def written(depth: int) -> str:
        before, after = ("[", "]") if kind == "list" else ('{"a":', "}")
        return before * depth + json.dumps(leaf) + after * depth

    most = canonical.DEEPEST
    whole = build(most)
    for frames in (0, 600):
        encoded = at_depth(frames, partial(canonical.encode, whole))
        assert at_depth(frames, partial(canonical.decode, encoded)) == whole
        assert at_depth(frames, partial(canonical.decode, written(most))) == whole
        for deeper in (most + 1, 300, 1500, 100_000):
            for act in (partial(canonical.encode, build(deeper)), partial(canonical.decode, written(deeper))):
                with pytest.raises(ValueError, match="nested too deeply"):
                    at_depth(frames, act)


def test_what_is_told_has_one_limit() -> None:
    for kind in ("list", "dict"):
        told = jsonable.jsonable(nest(jsonable.DEEPEST, kind))
        assert canonical.decode(canonical.encode(told)) == nest(jsonable.DEEPEST, kind)
        assert set(jsonable.jsonable(nest(jsonable.DEEPEST + 1, kind))) <= {"$repr", "sha256"}
    endless: list[Any] = []
    endless.append(endless)
    assert jsonable.jsonable(endless) == {"$repr": "[[...]]"}


async def test_a_fault_of_our_own_ends_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows of one; where it is, the log must say so, and the caller must get an error of ours."""

    def broken(*args: Any, **more: Any) -> None:
        raise TypeError("nobody expects this")

    monkeypatch.setattr(bind.Pricer, "__call__", broken)
    store = MemoryLog()
    agent = Agent("a", ScriptedBackend(["one"]), store=store)
    with pytest.raises(CallError, match="TypeError: nobody expects this") as caught:
        await agent.acall("go")
    assert caught.value.reason == "internal_error"
    assert isinstance(caught.value.__cause__, TypeError)
    (session,) = [info.id for info in store.sessions()]
    events = views.load(store, session)
    assert [event["kind"] for event in events][-3:] == [ev.LIMIT_REACHED, ev.CALL_ENDED, ev.SESSION_ENDED]
    assert events[-1]["data"]["status"] == "failed"

    async def program() -> None:
        await agent.acall("go")

    report = await areplay_session(session, store=store, entry=program)
    assert report.verified, report.divergence
