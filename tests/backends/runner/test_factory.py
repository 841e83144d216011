"""Which runner a config gives, and how others join: R6, R9, R10, R25, R26, R27, R33."""

import asyncio
import logging
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from lllm import (
    LLM,
    BackendType,
    LlamaCppRunner,
    LLMRunner,
    LLMRunnerFactory,
    ModelConfig,
    TransformersRunner,
)
from lllm.backends.runner import BackendRunner, BaseLLMRunner, RunnerBackend, kinds
from lllm.errors import ConfigError, DependencyError, NameTakenError, UnknownNameError
from lllm.models.message import Message
from lllm.ports import Backend, Request, TextDelta
from lllm.registry import registry
from lllm.sync import in_thread, run
from tests.backends.runner.strangers import Echo, Gate


@pytest.fixture
def scope() -> Any:
    with registry.scope():
        yield
    Echo.backend = Gate.backend = ""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


TABLE: list[tuple[dict[str, Any], type[BaseLLMRunner], str]] = [
    ({"model_path": "m.gguf"}, LlamaCppRunner, "llama_cpp"),
    ({"model_path": "M.GGUF", "backend": "auto"}, LlamaCppRunner, "llama_cpp"),
    ({"model_path": "FOLDER"}, TransformersRunner, "transformers"),
    ({"model_path": "m.gguf", "backend": BackendType.TRANSFORMERS}, TransformersRunner, "transformers"),
    ({"model_path": "x", "backend": "llama.cpp"}, LlamaCppRunner, "llama_cpp"),
    ({}, BackendRunner, "embedded"),
    ({"backend": "embedded"}, BackendRunner, "embedded"),
    ({"backend": "scripted"}, BackendRunner, "scripted"),
]


@pytest.mark.parametrize(("settings", "kind", "name"), TABLE)
def test_the_runner_for_a_config(
    settings: dict[str, Any], kind: type[BaseLLMRunner], name: str, folder: Path
) -> None:
    """R9: from the config, or the kind of file; the same for all forms of a config."""
    if settings.get("model_path") == "FOLDER":
        settings = {**settings, "model_path": str(folder)}
    for config in (settings, {"llm": settings}, ModelConfig(**settings)):
        runner = LLMRunnerFactory.create_runner(config)
        assert type(runner) is kind
        assert runner.name == name


@pytest.mark.parametrize("path", ["nothing-here", "FILE", "FOLDER"])
def test_a_path_that_says_nothing(path: str, tmp_path: Path) -> None:
    """R9."""
    (tmp_path / "FILE").write_text("x")
    (tmp_path / "FOLDER").mkdir()
    with pytest.raises(ConfigError, match="no backend can be told") as caught:
        LLMRunnerFactory.create_runner(str(tmp_path / path))
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model_path": "/no/where/gone.gguf"}, "there is no file gone.gguf"),
        ({"model_path": "gone.gguf", "backend": "llama_cpp"}, "In that folder: "),
        ({"model_path": "m", "backend": "llama_cpp"}, "there is no file m"),
        ({"model_path": "text.gguf"}, "text.gguf is no GGUF file"),
        ({"model_path": "gone.gguf", "backend": "embedded"}, "there is no file gone.gguf"),
        ({"model_path": "/no/where/gone", "backend": "transformers"}, "there is no model 'gone'"),
        ({"model_path": "empty", "backend": "transformers"}, "config.json is missing"),
        ({"model_path": "someone/gone", "backend": "transformers"}, "lllm models pull someone/gone"),
        ({"model_path": "gone.gguf", "backend": ["llama_cpp", "transformers"]}, "there is no file gone.gguf"),
    ],
)
def test_a_model_that_is_not_there_is_an_error_at_once(settings: dict[str, Any], words: str) -> None:
    """R10, R32: the same for a mapping, a config and the old constructor; nothing is loaded."""
    Path("text.gguf").write_text("no model")
    Path("empty").mkdir()
    for make in (
        lambda: LLMRunnerFactory.create_runner(settings),
        lambda: LLMRunnerFactory.create_runner(ModelConfig.from_dict(settings)),
        lambda: LLMRunnerFactory.create_runner({"llm": settings}),
        lambda: LLMRunnerFactory.create_runner({}, **settings),
    ):
        with pytest.raises(ConfigError) as caught:
            make()
        assert "model_path: " in str(caught.value)
        assert words in str(caught.value)
        assert "/no/where" not in str(caught.value)


def test_all_problems_of_a_config_are_told_at_once() -> None:
    """R32."""
    with pytest.raises(ConfigError, match="3 settings of the model are wrong") as caught:
        LLMRunnerFactory.create_runner({"model_path": "/no/where/gone.gguf", "temprature": 1, "top_p": 2})
    for words in (
        "model_path: no such file or folder: gone.gguf",
        "did you mean 'temperature'",
        "top_p is 2",
    ):
        assert words in str(caught.value)
    with pytest.raises(ConfigError, match="2 settings of the model are wrong"):
        LLMRunnerFactory.create_runner({"model_path": "/no/where/gone.gguf"}, top_p=2)


def test_the_name_of_a_cached_model_is_a_path(nobodys_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **more: str(nobodys_machine / "m"))
    runner = LLMRunnerFactory.create_runner({"backend": "transformers", "model_path": "someone/small"})
    assert runner.config.model_path == "someone/small"


def test_a_model_of_another_backend_is_its_own_matter(scope: Any) -> None:
    LLMRunnerFactory.register("new", Echo)
    assert LLMRunnerFactory.create_runner({"backend": "new", "model_path": "/no/where"}).state == "created"


def test_a_name_that_is_no_backend() -> None:
    with pytest.raises(UnknownNameError, match="llama_cpp"):
        LLMRunnerFactory.create_runner({"backend": "llama_cp", "model_path": "m.gguf"})


def test_a_backend_without_a_path_says_what_to_type() -> None:
    with pytest.raises(ConfigError, match=r"model_path='model\.gguf'"):
        LLMRunnerFactory.create_runner({"backend": "llama_cpp"})


# --- missing packages ------------------------------------------------------------------------------------------------


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Any:
    def block(*packages: str) -> None:
        monkeypatch.setattr(kinds, "find_spec", lambda name: None if name in packages else find_spec(name))

    return block


def test_the_next_backend_is_used_and_it_says_so(without: Any, caplog: pytest.LogCaptureFixture) -> None:
    """R33."""
    without("llama_cpp", "xllamacpp")
    with caplog.at_level(logging.WARNING):
        runner = LLMRunnerFactory.create_runner(
            {"backend": ["llama_cpp", "transformers"], "model_path": "m.gguf"}
        )
    assert isinstance(runner, TransformersRunner)
    (told,) = caplog.messages
    assert "'llama_cpp' needs the package 'xllamacpp'" in told
    assert "using transformers" in told
    assert runner.get_model_info()["passed_over"] == [told.partition(";")[0]]


def test_the_first_is_used_where_it_can(without: Any, caplog: pytest.LogCaptureFixture) -> None:
    """R33: one engine of llama.cpp is enough."""
    without("xllamacpp")
    runner = LLMRunnerFactory.create_runner(
        {"backend": ["llama_cpp", "transformers"], "model_path": "m.gguf"}
    )
    assert isinstance(runner, LlamaCppRunner)
    assert caplog.messages == []
    assert LLMRunnerFactory.create_runner({"backend": "embedded"}).name == "embedded"


@pytest.mark.parametrize(
    ("backend", "extra"), [("llama_cpp", "local"), ("transformers", "transformers"), (["llama_cpp"], "local")]
)
def test_the_error_names_the_extra(backend: Any, extra: str, without: Any) -> None:
    """R33."""
    without("llama_cpp", "xllamacpp", "torch")
    with pytest.raises(DependencyError, match=rf"The extra lllm\[{extra}\] brings it. Type: pip install "):
        LLMRunnerFactory.create_runner({"backend": backend, "model_path": "m"})


def test_none_of_the_list_is_there(without: Any) -> None:
    """R33."""
    without("llama_cpp", "xllamacpp", "torch")
    with pytest.raises(ConfigError, match=r"lllm\[local\].*lllm\[transformers\]"):
        LLMRunnerFactory.create_runner({"backend": ["llama_cpp", "transformers"], "model_path": "m.gguf"})


# --- others ----------------------------------------------------------------------------------------------------------


def test_a_registered_runner_is_a_runner_and_a_backend(scope: Any) -> None:
    """R25, R26: one line, and nothing of ours is edited."""
    LLMRunnerFactory.register("new", Echo)
    assert "new" in LLMRunnerFactory.backends()
    runner = LLMRunnerFactory.create_runner({"llm": {"backend": "new", "model_path": "m", "temperature": 0}})
    assert type(runner) is Echo
    assert runner.generate_text("hello") == "m 0 hello"
    llm = LLM("new/m", temperature=0)
    assert llm("hello").content == "m 0 hello"
    assert [delta.text for delta in llm("hello", stream=True) if isinstance(delta, TextDelta)] == [
        "m",
        " 0",
        " hello",
    ]
    assert isinstance(registry.get("backend", "new")(), Backend)


def test_a_subclass_of_the_adapter_can_be_offered_by_a_package(scope: Any) -> None:
    """R26: what an entry point leads to."""

    class EchoBackend(RunnerBackend, runner=Echo):
        pass

    registry.add("backend", "packaged", EchoBackend)
    assert type(LLMRunnerFactory.create_runner({"backend": "packaged"})) is Echo


def test_a_backend_of_the_port_is_a_runner_by_its_name(scope: Any) -> None:
    """R6: what another package registered for agents."""
    from lllm import ScriptedBackend

    registry.add("backend", "mine", lambda: ScriptedBackend(["Hello."]))
    assert LLMRunnerFactory.create_runner({"backend": "mine"}).generate_text("x") == "Hello."


def test_a_stream_that_nobody_follows_is_stopped(scope: Any) -> None:
    """R15, through the adapter."""
    LLMRunnerFactory.register("gate", Gate)
    backend = registry.get("backend", "gate")()

    async def first() -> Any:
        stream = backend.stream(Request("m", (Message("user", "x"),), stream=True))
        delta = await anext(stream)
        await stream.aclose()
        return delta

    assert run(first()) == TextDelta("first")
    assert backend.of("m").closed.wait(120)
    run(backend.aclose())
    assert backend._runners == {}


async def test_a_call_that_is_given_up_while_the_model_loads(scope: Any) -> None:
    """R35, through the adapter: nothing is left running."""
    begun, go = threading.Event(), threading.Event()
    registered: list[Any] = []

    class Late(Gate):
        def _initialize_model(self) -> None:
            begun.set()
            go.wait(120)
            super()._initialize_model()

        def begin(self, request: Request) -> Any:
            registered.append(super().begin(request))
            return registered[-1]

    LLMRunnerFactory.register("late", Late)
    backend = registry.get("backend", "late")()

    async def first() -> Any:
        return await anext(backend.stream(Request("m", (Message("user", "x"),), stream=True)))

    task = asyncio.create_task(first())
    assert await in_thread(begun.wait, 120)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    runner = backend.of("m")
    await in_thread(runner.load)  # waits for the load that is under way
    for _ in range(2400):
        if registered and not runner._running:
            break
        await asyncio.sleep(0.05)
    assert (len(registered), len(runner._running)) == (1, 0)
    await backend.aclose()


def test_what_cannot_be_registered(scope: Any) -> None:
    class Half(BaseLLMRunner):
        def _initialize_model(self) -> None: ...

    with pytest.raises(ConfigError, match="_run_streaming"):
        LLMRunnerFactory.register("half", Half)
    with pytest.raises(ConfigError, match="no subclass"):
        LLMRunnerFactory.register("text", str)  # type: ignore[arg-type]
    with pytest.raises(NameTakenError):
        LLMRunnerFactory.register("openai", Echo)


def test_the_old_constructor_works_and_says_that_it_is_old() -> None:
    """R27."""
    with pytest.warns(DeprecationWarning, match="create_runner"):
        runner = LLMRunner({"llm": {"backend": "embedded", "max_tokens": 4}})
    assert isinstance(runner, LLMRunner)
    assert runner.generate_text("Hello, world!")
    runner.close()
