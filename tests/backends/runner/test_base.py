"""What every runner has from two methods: R2, R4, R15, R18, R23, R24, R25, R35, R39."""

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lllm import (
    BaseLLMRunner,
    LLMInferenceError,
    LLMInitializationError,
    LLMRunnerFactory,
    ModelConfig,
)
from lllm.backends.runner import OutOfMemory, State
from lllm.errors import (
    CallCancelled,
    ConfigError,
    LLMError,
    ProviderTimeout,
    UnknownKeyError,
    UnsupportedError,
)
from tests.backends.runner.strangers import Echo, Gate, Model
from training.embedded.forms import Forms


def echo(name: str = "m", **settings: Any) -> Echo:
    return Echo({"model_path": name, **settings})


def test_two_methods_are_enough() -> None:
    """R25: and one is not."""
    assert BaseLLMRunner.__abstractmethods__ == {"_initialize_model", "_run_streaming"}
    assert echo().generate_text("hello you") == "m 0.7 hello you"


def test_zero_is_a_temperature() -> None:
    """R2: from the config and for one call."""
    assert echo(temperature=0).generate_text("x") == "m 0 x"
    assert echo(temperature=1).generate_text("x", temperature=0) == "m 0 x"
    assert echo(temperature=0).run("x", temperature=1.5).content == "m 1.5 x"


def test_a_reply_that_is_cut_says_so() -> None:
    """R19."""
    assert echo().run("a b c d e", max_tokens=3).finish_reason == "length"
    assert echo().run("a b c d e").finish_reason == "stop"


def test_stop_strings_only_when_asked() -> None:
    """R7: paragraphs, headings and turns are text."""

    class Paragraphs(Echo):
        def _run_streaming(self, prompt: str, max_tokens: int, temperature: float) -> Iterator[str]:
            yield from ("One.\n\n", "User: two\n", "###", " three</s>")

    assert Paragraphs("m").generate_text("x") == "One.\n\nUser: two\n### three</s>"
    assert Paragraphs("m").generate_text("x", stop="##") == "One.\n\nUser: two\n"


def test_the_states() -> None:
    """R4."""
    runner = echo()
    assert runner.state is State.CREATED
    runner.run("x")
    assert runner.state is State.READY
    runner.close()
    runner.close()
    assert str(runner.state) == "closed"
    for ask in (lambda: runner.run("x"), runner.load, runner.reload_model, lambda: runner.set_device("cpu")):
        with pytest.raises(LLMInferenceError, match="closed"):
            ask()


def test_a_failed_load_is_tried_again() -> None:
    """R4, R24."""
    runner = echo()
    runner.fail = OSError("no such block")
    with pytest.raises(LLMInitializationError, match="no such block") as caught:
        runner.run("x")
    assert isinstance(caught.value.__cause__, OSError)
    assert runner.state is State.FAILED
    runner.fail = None
    assert runner.generate_text("x") == "m 0.7 x"


def test_one_load_for_concurrent_first_calls() -> None:
    """R4."""

    class Slow(Echo):
        loads = 0
        begun = threading.Barrier(8)

        def _initialize_model(self) -> None:
            threading.Event().wait(0.05)
            super()._initialize_model()

    runner = Slow("m")

    def ask(_: int) -> str:
        Slow.begun.wait(120)
        return runner.generate_text("x")

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {"m 0.7 x"}
    assert Slow.loads == 1


def test_the_first_piece_comes_before_the_last_is_made() -> None:
    """R15, R18."""
    runner = Gate("m")
    pieces = runner.generate_text_streaming("x")
    assert next(pieces) == "first"
    assert not runner.go.is_set()
    runner.go.set()
    assert list(pieces) == [" last"]


def test_closing_the_generator_stops_the_model() -> None:
    """R15."""
    runner = Gate("m")
    pieces = runner.generate_text_streaming("x")
    next(pieces)
    pieces.close()
    assert runner.closed.is_set()
    assert runner.cancel() == 0


ENDS: dict[str, Callable[[BaseLLMRunner], Any]] = {
    "cancel": lambda runner: runner.cancel(),
    "close": lambda runner: runner.close(),
    "reload": lambda runner: runner.reload_model(),
    "swap": lambda runner: runner.reload_model(swap=True),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_runs_is_stopped(end: str) -> None:
    """R35: cancelled."""
    runner = Gate("m")
    pieces = runner.generate_text_streaming("x")
    next(pieces)
    closed = runner.closed
    ENDS[end](runner)
    assert closed.is_set()
    with pytest.raises(CallCancelled):
        next(pieces)
    with pytest.raises(StopIteration):
        next(pieces)


def test_settings_of_one_call_are_checked_at_once() -> None:
    """R2, R3."""
    runner = echo()
    with pytest.raises(UnknownKeyError, match="temperature"):
        runner.generate_text_streaming("x", temprature=1)
    with pytest.raises(ConfigError, match="max_tokens is 0"):
        runner.run("x", max_tokens=0)
    with pytest.raises(ConfigError, match="messages"):
        runner.create_chat_completion([])
    assert runner.state is State.CREATED


@pytest.mark.parametrize("more", [{"tools": [{"type": "function"}]}, {"top_p": 0.5}])
def test_what_two_methods_cannot_do(more: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError):
        echo().run("x", **more)


def test_a_dialog_becomes_a_prompt() -> None:
    asked = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert echo().run(asked).content == "m 0.7 System: s User: u Assistant:"


# --- loading again ---------------------------------------------------------------------------------------------------


def test_a_reload_says_what_differs() -> None:
    """R23."""
    runner = echo(temperature=0)
    runner.load()
    changes = runner.reload_model({"model_path": "other", "temperature": 0})
    assert changes == {"model_path": ("m", "other")}
    assert runner.generate_text("x") == "other 0 x"


def test_a_reload_reports_only_what_differs(forms: Forms, monkeypatch: pytest.MonkeyPatch) -> None:
    """R23: the same settings in another spelling, or without the backend that the runner has, are the same."""
    path = forms.gguf_q8
    settings = {"model_path": str(path), "temperature": 0, "n_ctx": 256}
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("HOME", str(path.parent))
    with LLMRunnerFactory.create_runner(settings) as runner:
        runner.load()
        for same in (
            settings,
            ModelConfig.from_dict(settings),
            {**settings, "backend": "llama_cpp"},
            {**settings, "backend": ["transformers", "llama_cpp"]},
            {**settings, "backend": "auto", "device": "auto", "lora": [], "options": {}, "temperature": 0.0},
            {**settings, "model_path": f"./{path.name}"},
            {**settings, "model_path": f"~/{path.name}"},
        ):
            assert runner.reload_model(same, swap=True) == {}
        assert runner.reload_model({**settings, "n_ctx": 128, "temperature": 1}) == {
            "n_ctx": (256, 128),
            "temperature": (0.0, 1.0),
        }
        assert runner.config.backend == "llama_cpp"


def test_a_reload_refuses_what_the_runner_cannot_do(forms: Forms) -> None:
    """Before anything happens: another backend, and settings that this one has not."""
    with LLMRunnerFactory.create_runner({"model_path": str(forms.gguf_q8), "temperature": 0}) as runner:
        before = runner.generate_text("Hi.")
        with pytest.raises(ConfigError, match=r"keeps the backend, which is 'llama_cpp'; got transformers"):
            runner.reload_model({"backend": "transformers", "model_path": str(forms.folder)})
        with pytest.raises(ConfigError, match="has no compile"):
            runner.reload_model({"model_path": str(forms.gguf_q8), "compile": True})
        with pytest.raises(ConfigError, match="needs a model_path"):
            runner.reload_model({"temperature": 0})
        assert runner.generate_text("Hi.") == before


def test_free_first_frees_first_and_a_failure_says_gone() -> None:
    """R23: the old model is dead before the new one is loaded; when that fails nothing is left."""
    seen: list[object] = []

    class Watched(Echo):
        def _initialize_model(self) -> None:
            gc.collect()
            seen.append(old() if old is not None else None)
            super()._initialize_model()

    old: weakref.ref[Model] | None = None
    runner = Watched("m")
    runner.load()
    old = weakref.ref(runner.model)
    runner.reload_model()
    assert seen == [None, None]
    runner.fail = RuntimeError("gone")
    with pytest.raises(LLMInitializationError):
        runner.reload_model()
    assert runner.state is State.FAILED
    assert not hasattr(runner, "model")


def test_a_failed_swap_leaves_the_old_model_answering() -> None:
    """R23."""
    runner = echo(temperature=0)
    runner.load()
    model = runner.model
    runner.fail = RuntimeError("no")
    with pytest.raises(LLMInitializationError, match="no"):
        runner.reload_model({"model_path": "other"}, swap=True)
    assert (runner.state, runner.config.model_path) == (State.READY, "m")
    assert runner.model is model
    assert runner.generate_text("x") == "m 0 x"
    runner.fail = None
    runner.reload_model({"model_path": "other"}, swap=True)
    assert runner.generate_text("x").startswith("other")


def test_a_closed_runner_holds_nothing() -> None:
    """R39: also at the end of a with block."""
    with echo() as runner:
        assert isinstance(runner, Echo)
        runner.run("x")
        model = weakref.ref(runner.model)
    gc.collect()
    assert model() is None


# --- faults ----------------------------------------------------------------------------------------------------------

AT_LOAD: list[tuple[BaseException, type[LLMError]]] = [
    (OSError("cannot read"), LLMInitializationError),
    (MemoryError("no"), OutOfMemory),
    (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), OutOfMemory),
    (type("OutOfMemoryError", (RuntimeError,), {})("tried too much"), OutOfMemory),
    (ModuleNotFoundError("No module named 'exotic'", name="exotic"), LLMInitializationError),
    (ConfigError("that is no model"), ConfigError),
]
AT_REPLY: list[tuple[BaseException, type[LLMError]]] = [
    (RuntimeError("broken"), LLMInferenceError),
    (MemoryError(), OutOfMemory),
    (TimeoutError(), ProviderTimeout),
    (UnsupportedError("not this"), UnsupportedError),
]


@pytest.mark.parametrize(("given", "kind"), AT_LOAD)
def test_a_fault_of_loading(given: BaseException, kind: type[LLMError]) -> None:
    """R24, R35: its type, its cause, and which model it was."""
    runner = echo("folder/tiny.gguf")
    runner.fail = given
    with pytest.raises(kind) as caught:
        runner.load()
    assert type(caught.value) is kind
    assert caught.value is given or caught.value.__cause__ is given
    assert caught.value.context["path"] == "folder/tiny.gguf"


@pytest.mark.parametrize(("given", "kind"), AT_REPLY)
def test_a_fault_of_a_reply(given: BaseException, kind: type[LLMError]) -> None:
    """R24, R35."""

    class Broken(Echo):
        def _run_streaming(self, prompt: str, max_tokens: int, temperature: float) -> Iterator[str]:
            yield "a"
            raise given

    with pytest.raises(kind) as caught:
        Broken("m").run("x")
    assert type(caught.value) is kind
    assert caught.value is given or caught.value.__cause__ is given
    assert caught.value.context["backend"] == "Broken"


def test_a_message_in_full() -> None:
    """R24, R34: one prefix, the file and not its folder, backend, device and versions."""
    import platform

    import lllm

    runner = echo("/some/where/tiny.gguf", device="cpu")
    runner.fail = OSError("bad magic in /some/where/tiny.gguf")
    with pytest.raises(LLMInitializationError) as caught:
        runner.load()
    assert str(caught.value) == (
        "Echo: tiny.gguf could not be loaded: bad magic in tiny.gguf\n"
        f"  backend Echo, device cpu, lllm {lllm.__version__}, python {platform.python_version()}"
    )


def test_a_time_limit() -> None:
    """R35: timeout."""

    class Slow(Echo):
        def _run_streaming(self, prompt: str, max_tokens: int, temperature: float) -> Iterator[str]:
            while True:
                yield "a "

    with pytest.raises(ProviderTimeout) as caught:
        Slow(ModelConfig(model_path="m", timeout=0.01)).run("x")
    assert (caught.value.stage, caught.value.seconds) == ("total", 0.01)


def test_a_method_that_gives_nothing() -> None:
    class Pass(Echo):
        def _run_streaming(self, prompt: str, max_tokens: int, temperature: float) -> Any:
            pass

    with pytest.raises(LLMInferenceError, match="gave None"):
        Pass("m").run("x")
