"""Exceptions of a plug-in's hooks become lllm errors that name the plug-in and the cause."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pydantic
import pytest

from lllm import LLM, Agent, ScriptedBackend, build_agent
from lllm.cli import main
from lllm.errors import ConfigError, LLMError, LLMInferenceError, LogError, LogWriteError
from lllm.llm import connect
from lllm.log import MemoryLog, open_store
from lllm.log.views import load
from lllm.models.message import FunctionCall
from lllm.models.reply import Reply
from lllm.ports import Capabilities, Completed, Delta, Request
from lllm.registry import registry


class Kaput(Exception):
    """An exception that lllm does not know."""


class Plain:
    capabilities = Capabilities(logprobs=True)

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        yield Completed(Reply("answer"))

    async def aclose(self) -> None:
        """Nothing is open."""


def kaput(*_: Any, **__: Any) -> Any:
    raise Kaput("the cause")


def leave(*_: Any, **__: Any) -> Any:
    sys.exit("the cause")


def backend(**members: Any) -> type:
    return type("Mine", (Plain,), members)


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(connect, "_open", {})
    with registry.scope():
        yield


def named(kind: Any) -> str:
    registry.add("backend", "mine", kind, overwrite=True)
    return "mine/model"


HOOKS: dict[str, tuple[dict[str, Any], Callable[[type], Any]]] = {
    "the constructor": ({"__init__": kaput}, lambda kind: LLM(named(kind))),
    "a constructor that exits": ({"__init__": leave}, lambda kind: LLM(named(kind))),
    "secrets": ({"secrets": property(kaput)}, lambda kind: LLM(named(kind))),
    "secrets of an object": ({"secrets": property(kaput)}, lambda kind: Agent("a", kind())("x")),
    "needs_model": ({"needs_model": property(kaput)}, lambda kind: named(kind) and LLM("mine")),
    "only_model": ({"only_model": property(kaput)}, lambda kind: LLM(named(kind))),
    "capabilities": ({"capabilities": property(kaput)}, lambda kind: Agent("a", kind())("x")),
    "capabilities of a count": (
        {"capabilities": property(kaput)},
        lambda kind: LLM(kind()).count_tokens("x"),
    ),
    "capabilities to classify": (
        {"capabilities": property(kaput)},
        lambda kind: LLM(kind()).classify("x", ["y", "n"]),
    ),
    "name": ({"name": property(kaput)}, lambda kind: LLM(kind())),
    "model": ({"model": property(kaput)}, lambda kind: LLM(kind())),
    "stream": ({"stream": property(kaput)}, lambda kind: LLM(kind())),
    "embed": ({"embed": kaput}, lambda kind: LLM(kind()).embed(["x"])),
    "embed, looked at": ({"embed": property(kaput)}, lambda kind: LLM(kind()).embed(["x"])),
    "tokenize": ({"tokenize": kaput}, lambda kind: LLM(kind()).count_tokens("x")),
    "aclose": ({"aclose": kaput}, lambda kind: LLM(kind()).close()),
}


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_raises_names_backend_and_cause(hook: str) -> None:
    members, use = HOOKS[hook]
    with pytest.raises(LLMError, match=r"(?s)backend '(mine|Mine).*the cause") as caught:
        use(backend(**members))
    assert isinstance(caught.value.__cause__, Kaput | SystemExit)


@pytest.mark.parametrize("raising", [kaput, leave])
def test_check_request_is_a_problem_of_the_file(raising: Any, tmp_path: Path) -> None:
    registry.add("backend", "mine", backend(check_request=raising))
    file = tmp_path / "agents.yaml"
    file.write_text("agent_configs:\n  a:\n    model_name: mine/model\n")
    with pytest.raises(
        ConfigError, match=r"(?s)agents\.yaml:3.*backend 'mine/model': check_request.*the cause"
    ):
        build_agent(str(file))


def test_check_names_the_cause_of_a_hook(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    registry.add("backend", "mine", backend(check_request=kaput))
    (tmp_path / "agents.yaml").write_text("agent_configs:\n  a:\n    model_name: mine/model\n")
    assert main(["check", "agents.yaml"]) == 2
    out, err = capfd.readouterr()
    assert "agents.yaml:3" in out + err
    assert "Kaput: the cause" in out + err


@pytest.mark.parametrize("given", [5, [None], [b"key"], {1: 2}])
def test_secrets_that_are_no_texts_are_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="backend 'mine': secrets must be a list of texts"):
        LLM(named(backend(secrets=given)))


def test_a_single_secret_is_one_text() -> None:
    store = MemoryLog()
    kind = backend(secrets="hunter2hunter2")
    Agent("a", kind(), store=store)("the key is hunter2hunter2")
    assert b"hunter2hunter2" not in b"".join(store.read(store.sessions()[0].id))


@pytest.mark.parametrize("given", [None, 5, "ab", [1], [[1.0], [2.0]]])
def test_vectors_that_do_not_fit_are_an_error(given: Any) -> None:
    async def embed(self: Any, model: str, texts: Any) -> Any:
        return given

    with pytest.raises(LLMInferenceError, match="backend 'Mine': embed"):
        LLM(backend(embed=embed)()).embed(["one"])


def test_an_option_that_has_no_text_is_refused() -> None:
    class Mute:
        __repr__ = kaput

    kind = backend(__init__=lambda self, **options: None)
    with pytest.raises(ConfigError, match="backend 'mine': an option raised Kaput"):
        LLM(named(kind), options={"thing": Mute()})
    with pytest.raises(ConfigError, match="name of an option must be text"):
        LLM(named(kind), options={1: 2, "a": 3})


def test_what_is_no_backend_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"backend 'mine' is NoneType, which has no stream\(request\)"):
        LLM(named(lambda: None))


def test_one_that_cannot_be_closed_leaves_none_open() -> None:
    closed = []

    async def close(self: Any) -> None:
        closed.append(self)

    registry.add("backend", "first", backend(aclose=kaput))
    registry.add("backend", "second", backend(aclose=close))
    LLM("first/x"), LLM("second/x")
    from lllm.sync import run

    with pytest.raises(LLMError, match="aclose raised Kaput: the cause"):
        run(connect.close_all())
    assert len(closed) == 1


# --- tools


def test_as_tool_that_raises_is_a_config_error() -> None:
    class Thing:
        as_tool = kaput

    with pytest.raises(ConfigError, match="Thing: as_tool raised Kaput: the cause"):
        Agent("a", Plain(), tools=[Thing()])


def test_a_signature_that_raises_is_a_config_error() -> None:
    class Thing:
        __signature__ = property(kaput)

        def __call__(self) -> None: ...

    with pytest.raises(ConfigError, match="the tool Thing raised Kaput: the cause"):
        Agent("a", Plain(), tools=[Thing()])


@pytest.mark.parametrize(
    ("raising", "told"), [(kaput, "Kaput: the cause"), (leave, "could not be checked: SystemExit: the cause")]
)
def test_the_model_hears_of_a_validator_that_raises(raising: Any, told: str) -> None:
    class Size(pydantic.BaseModel):
        width: int

        @pydantic.field_validator("width")
        @classmethod
        def known(cls, width: int) -> int:
            return int(raising())

    def area(size: Size) -> int:
        return size.width

    script = ScriptedBackend([FunctionCall("1", "area", '{"size": {"width": 3}}'), "sorry"])
    assert Agent("a", script, tools=[area])("x").content == "sorry"
    assert told in script.requests[1].messages[-1].text


# --- stores and the registry


@pytest.mark.parametrize(
    ("hook", "kind"), [("append", LogWriteError), ("claim", LogWriteError), ("release", LogWriteError)]
)
def test_a_store_that_raises_is_a_log_error(hook: str, kind: type[LLMError]) -> None:
    store = type("Store", (MemoryLog,), {hook: kaput})()
    with pytest.raises(kind, match=r"the log store.*raised Kaput: the cause"):
        Agent("a", ScriptedBackend(["x"]), store=store)("hi")


def test_figures_that_cannot_be_kept_cost_nothing() -> None:
    store = type("Store", (MemoryLog,), {"keep_summary": kaput})()
    assert Agent("a", ScriptedBackend(["x"]), store=store)("hi").content == "x"


def test_a_store_that_cannot_be_read_is_a_log_error() -> None:
    store = type("Store", (MemoryLog,), {"read": kaput})()
    with pytest.raises(LogError, match=r"the log store.*raised Kaput: the cause"):
        load(store, "any")


def test_a_store_that_cannot_be_made_is_a_config_error(tmp_path: Path) -> None:
    registry.add("store", "mine", type("Store", (MemoryLog,), {"__init__": kaput}))
    with pytest.raises(ConfigError, match="store 'mine' raised Kaput: the cause"):
        open_store("mine", tmp_path)
    registry.add("store", "less", type("Less", (), {"__init__": lambda self, *_: None}))
    with pytest.raises(ConfigError, match="store 'less' has no append"):
        open_store("less", tmp_path)


def test_a_module_that_cannot_be_imported_names_its_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_plug_in.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry.add("backend", "mine", "broken_plug_in:Mine")
    with pytest.raises(
        ConfigError, match=r"the backend 'mine' is registered as 'broken_plug_in:Mine': ZeroDiv"
    ):
        LLM("mine/x")
