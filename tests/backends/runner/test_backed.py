"""Runners over backends, with real weights: R11, R17, R20, R21, R23, R35, R36, R38, R39."""

import asyncio
import builtins
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lllm import (
    BaseLLMRunner,
    LlamaCppRunner,
    LLMInferenceError,
    LLMInitializationError,
    LLMRunnerFactory,
)
from lllm.backends.embedded import WEIGHTS
from lllm.backends.runner import BackendRunner, State
from lllm.backends.runner import backed as backed_module
from lllm.errors import CallCancelled, ConfigError, UnsupportedError
from lllm.models.reply import Reply, Usage
from lllm.ports import Capabilities, Completed, Delta, Request, TextDelta
from lllm.registry import registry


@pytest.fixture(scope="module")
def runner() -> Iterator[BaseLLMRunner]:
    with LLMRunnerFactory.create_runner({"backend": "embedded"}) as made:
        yield made


class Slow:
    """Says one word, then waits until it is cancelled."""

    capabilities = Capabilities()

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        try:
            yield TextDelta("first")
            await asyncio.sleep(300)
            raise AssertionError("nobody stopped it")
        finally:
            self.cancelled.set()

    async def aclose(self) -> None:
        """Nothing is open."""


@pytest.fixture
def slow() -> Iterator[BackendRunner]:
    with registry.scope():
        registry.add("backend", "slow", Slow)
        while at_work():  # of the test before
            threading.Event().wait(0.01)
        yield BackendRunner({"backend": "slow"})


def at_work() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "lllm-runner"]


def test_text_whole_and_in_pieces(runner: BaseLLMRunner) -> None:
    """R2, R18."""
    whole = runner.generate_text("Hello, world!", temperature=0)
    pieces = list(runner.generate_text_streaming("Hello, world!", temperature=0))
    assert "".join(pieces) == whole != ""
    assert len(pieces) > 3


def test_many_threads_get_their_own_replies(runner: BaseLLMRunner) -> None:
    """R4."""
    asked = [f"What is {n} plus {n}?" for n in range(12)]
    alone = [runner.generate_text(text, max_tokens=12) for text in asked]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda text: runner.generate_text(text, max_tokens=12), asked)) == alone


async def test_it_works_where_a_loop_runs(runner: BaseLLMRunner) -> None:
    """As in a notebook."""
    assert runner.generate_text("Hello, world!", max_tokens=3)


def test_one_load_for_concurrent_first_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """R4."""
    loads = []
    initialize = BackendRunner._initialize_model

    def counted(self: BackendRunner) -> None:
        loads.append(1)
        initialize(self)

    monkeypatch.setattr(BackendRunner, "_initialize_model", counted)
    with LLMRunnerFactory.create_runner({"backend": "embedded"}) as made, ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: made.generate_text("x", max_tokens=2), range(6)))
    assert loads == [1]


def test_closing_the_generator_ends_the_backends_thread(slow: BackendRunner) -> None:
    """R15: the backend is cancelled, and no thread is left."""
    pieces = slow.generate_text_streaming("x")
    assert next(pieces) == "first"
    backend: Any = slow._backend
    pieces.close()
    assert backend.cancelled.is_set()
    assert at_work() == []


def test_a_caller_that_waits_can_be_cancelled(slow: BackendRunner) -> None:
    """R35: from another thread, in the middle of a reply."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(slow.generate_text, "x")
        while not slow.cancel():
            threading.Event().wait(0.005)
        with pytest.raises(CallCancelled, match="cancel"):
            waiting.result(120)
    assert at_work() == []
    assert slow.state is State.READY


def test_an_abandoned_generator_stops_too(slow: BackendRunner) -> None:
    """R15."""
    pieces = slow.generate_text_streaming("x")
    next(pieces)
    backend: Any = slow._backend
    del pieces
    gc.collect()
    assert backend.cancelled.wait(120)


def test_a_failed_swap_leaves_the_old_weights_answering(runner: BaseLLMRunner) -> None:
    """R23: on real weights."""
    before = runner.generate_text("Hello, world!")
    with pytest.raises(LLMInitializationError, match=r"missing\.gguf") as caught:
        runner.reload_model({"backend": "embedded", "model_path": "/no/where/missing.gguf"}, swap=True)
    assert "/no/where" not in str(caught.value)
    assert caught.value.context["path"] == "/no/where/missing.gguf"
    assert runner.generate_text("Hello, world!") == before
    assert runner.reload_model(swap=True) == {}
    assert runner.generate_text("Hello, world!") == before


def test_close_frees_the_backend() -> None:
    """R39."""
    made = LLMRunnerFactory.create_runner({"backend": "embedded"})
    list(made.generate_text_streaming("Hello", max_tokens=3))
    freed = threading.Event()
    weakref.finalize(made._backend, freed.set)  # type: ignore[attr-defined]
    made.close()
    for _ in range(2400):  # the engine's own thread may hold it for a moment, and then leave a cycle
        gc.collect()
        if freed.wait(0.05):
            break
    assert freed.is_set()


def test_information_before_and_after_loading() -> None:
    """R36, R38: what it is, where it is and why, and how fast it was."""
    with LLMRunnerFactory.create_runner({"backend": "embedded", "temperature": 0}) as made:
        info = made.get_model_info()
        assert (info["backend"], info["state"], info["performance"]) == ("embedded", "created", {})
        made.run("Hello", max_tokens=4)
        info = made.get_model_info()
        assert (info["state"], info["device"]) == ("ready", "cpu")
        assert info["device_reason"]
        assert info["performance"]["tokens"] == 4
        assert info["performance"]["tokens_per_second"] > 0
        assert 0 < info["performance"]["first_piece_seconds"] <= info["performance"]["seconds"]


def test_memory_with_and_without_psutil(runner: BaseLLMRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """R21: never empty; the process's bytes come from elsewhere where psutil is missing."""
    runner.load()
    real = builtins.__import__

    def without(name: str, *more: Any, **named: Any) -> Any:
        if name == "psutil":
            raise ImportError(name)
        return real(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    usage = runner.get_memory_usage()
    assert usage["measured_by"] in ("/proc", "getrusage (peak)")
    assert usage["process_bytes"] > usage["weight_bytes"] == WEIGHTS.stat().st_size
    assert usage["parameters"] == 3_475_712
    assert usage["device"] == "cpu"
    assert set(usage) == {
        "parameters",
        "weight_bytes",
        "process_bytes",
        "measured_by",
        "device",
        "device_bytes",
    }


def test_memory_of_a_runner_that_has_loaded_nothing() -> None:
    """R21."""
    runner = LLMRunnerFactory.create_runner(str(WEIGHTS))
    usage = runner.get_memory_usage()
    assert (usage["parameters"], usage["weight_bytes"]) == (3_475_712, WEIGHTS.stat().st_size)
    assert usage["process_bytes"] > 0
    info = runner.get_model_info()
    assert (info["architecture"], info["quantization"], info["context"]) == ("llama", "Q8_0", 1024)
    gone = LlamaCppRunner("gone.gguf").get_memory_usage()
    assert (gone["parameters"], gone["weight_bytes"]) == (None, None)
    assert gone["process_bytes"] > 0


# --- devices and load options, on a backend that writes down how it was made -----------------------------------------


class Recorder:
    """A backend that remembers its options."""

    capabilities = Capabilities()
    made: list[dict[str, Any]] = []  # noqa: RUF012
    broken = False

    def __init__(self, **options: Any) -> None:
        if self.broken:
            raise RuntimeError("the compiler failed")
        self.options = options
        self.made.append(options)
        self.seen: list[Request] = []

    def info(self, model: str) -> dict[str, Any]:
        return {"parameters": 3, **{name: value for name, value in self.options.items() if name == "dtype"}}

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        self.seen.append(request)
        yield Completed(Reply("done", usage=Usage(1, 1)))

    async def aclose(self) -> None:
        """Nothing is open."""


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Recorder]]:
    monkeypatch.setattr(Recorder, "made", [])
    with registry.scope():
        for name in ("llama_cpp", "transformers"):
            registry.add("backend", name, Recorder, overwrite=True, where="lllm")
        yield Recorder


def there(**kinds: int) -> Any:
    return lambda: {"cuda": 0, "mps": 0, "cpu": 1, **kinds}


def test_each_option_reaches_llama_cpp(recorder: type[Recorder], monkeypatch: pytest.MonkeyPatch) -> None:
    """R11, R36: and sampling goes with the request (R12)."""
    monkeypatch.setattr(backed_module, "offload", there())
    settings = {
        "backend": "llama_cpp", "model_path": "m.gguf", "n_ctx": 128, "n_gpu_layers": 0, "n_threads": 2, "seed": 7,
        "chat_format": "chatml", "slots": 2, "lora": "a.gguf", "flash_attention": False, "engine": "xllamacpp",
        "temperature": 0.5,
    }  # fmt: skip
    runner = LLMRunnerFactory.create_runner(settings)
    runner.run("x")
    (options,) = recorder.made
    template = options.pop("chat_template")
    assert "<|im_start|>" in template
    assert options == {
        "context": 128, "gpu_layers": 0, "threads": 2, "slots": 2, "lora": (("a.gguf", 1.0),),
        "flash_attention": False, "engine": "xllamacpp",
    }  # fmt: skip
    (request,) = runner._backend.seen  # type: ignore[attr-defined]
    assert dict(request.sampling) == {"seed": 7, "temperature": 0.5}
    assert request.model == "m.gguf"


def test_each_option_reaches_transformers(recorder: type[Recorder]) -> None:
    """R12, R37: load options to the loader, sampling to the request, and nothing that was not set."""
    settings = {
        "backend": "transformers", "model_path": "m", "device": "cpu", "torch_dtype": "bf16", "compile": True,
        "quantization": "int8", "batch": 4, "n_threads": 1, "lora": "adapter", "top_k": 5,
    }  # fmt: skip
    runner = LLMRunnerFactory.create_runner(settings)
    runner.run("x")
    assert recorder.made == [
        {
            "device": "cpu", "dtype": "bfloat16", "compile": True, "quantization": "int8", "batch": 4, "threads": 1,
            "lora": "adapter",
        }
    ]  # fmt: skip
    assert dict(runner._backend.seen[0].sampling) == {"top_k": 5}  # type: ignore[attr-defined]
    LLMRunnerFactory.create_runner({"backend": "transformers", "model_path": "m", "device": "cpu"}).load()
    assert recorder.made[1] == {"device": "cpu"}


def test_an_option_that_a_backend_has_not() -> None:
    with pytest.raises(ConfigError, match="'transformers' has no n_ctx, n_gpu_layers"):
        LLMRunnerFactory.create_runner(
            {"backend": "transformers", "model_path": "m", "n_ctx": 1, "n_gpu_layers": 1}
        )


DEVICES = [
    # asked for, there, used or the error, GPU layers for llama.cpp
    ("auto", {}, "cpu", None),
    ("auto", {"cuda": 1}, "cuda", -1),
    ("auto", {"mps": 1}, "mps", -1),
    ("cpu", {"cuda": 1}, "cpu", None),
    ("cuda", {"cuda": 1}, "cuda", -1),
    ("cuda:1", {"cuda": 2}, "cuda:1", -1),
    ("cuda", {}, None, None),
    ("mps", {"cuda": 1}, None, None),
]


@pytest.mark.parametrize(("asked", "here", "used", "layers"), DEVICES)
def test_devices_are_resolved_once_and_explained(
    asked: str,
    here: dict[str, int],
    used: str | None,
    layers: int | None,
    recorder: type[Recorder],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R17, R38: over a table of what is there; a device that is not is an error and never another one."""
    monkeypatch.setattr(backed_module, "offload", there(**here))
    runner = LLMRunnerFactory.create_runner({"backend": "llama_cpp", "model_path": "m.gguf", "device": asked})
    if used is None:
        with pytest.raises((ConfigError, LLMInitializationError), match=asked):
            runner.load()
        assert recorder.made == []
        return
    runner.load()
    assert runner.get_model_info()["device"] == used
    assert asked in runner.get_model_info()["device_reason"]
    assert recorder.made[0].get("gpu_layers") == layers


def test_another_device(recorder: type[Recorder], monkeypatch: pytest.MonkeyPatch) -> None:
    """R20: the model that answers is the one on the new device; a device that is not there changes nothing."""
    monkeypatch.setattr(backed_module, "offload", there(cuda=1))
    runner = LLMRunnerFactory.create_runner({"backend": "llama_cpp", "model_path": "m.gguf", "device": "cpu"})
    runner.load()
    first = runner._backend  # type: ignore[attr-defined]
    assert runner.set_device("cpu") == "cpu"
    assert runner._backend is first  # type: ignore[attr-defined]
    assert runner.set_device("cuda") == "cuda"
    assert runner._backend is not first  # type: ignore[attr-defined]
    runner.run("x")
    assert len(runner._backend.seen) == 1  # type: ignore[attr-defined]
    assert first.seen == []
    with pytest.raises((ConfigError, LLMInitializationError)):
        runner.set_device("mps")
    assert runner.get_model_info()["device"] == "cuda"
    assert runner.run("x").content == "done"


def test_optimising_is_applied_to_what_answers_and_can_be_taken_back(recorder: type[Recorder]) -> None:
    """R20, R37: and a failure is told, with the old model answering."""
    runner = LLMRunnerFactory.create_runner({"backend": "transformers", "model_path": "m", "device": "cpu"})
    runner.load()
    assert runner.optimize_for_inference() == {
        "applied": {},
        "skipped": {"dtype": "half precision gains nothing on cpu"},
    }
    assert len(recorder.made) == 1
    assert runner.optimize_for_inference(dtype="float16", compile=True)["applied"] == {
        "dtype": "float16",
        "compile": True,
    }
    assert recorder.made[1] == {"device": "cpu", "dtype": "float16", "compile": True}
    assert runner.get_model_info()["dtype"] == "float16"
    runner.run("x")
    assert len(runner._backend.seen) == 1  # type: ignore[attr-defined]
    recorder.broken = True
    try:
        with pytest.raises(LLMInitializationError, match="the compiler failed"):
            runner.optimize_for_inference(dtype="bfloat16")
    finally:
        recorder.broken = False
    assert runner.get_model_info()["dtype"] == "float16"
    runner.restore()
    assert recorder.made[-1] == {"device": "cpu"}
    assert runner.run("x").content == "done"


def test_what_a_backend_cannot_do_faster(runner: BaseLLMRunner) -> None:
    """R20: failure reported."""
    with pytest.raises(UnsupportedError, match="'embedded' has no compile"):
        runner.optimize_for_inference(compile=True)
    assert "dtype" in runner.optimize_for_inference()["skipped"]


def test_a_backend_that_ends_without_a_reply() -> None:
    class Mute(Slow):
        async def stream(self, request: Request) -> AsyncIterator[Delta]:
            yield TextDelta("x")

    with registry.scope():
        registry.add("backend", "mute", Mute)
        with pytest.raises(LLMInferenceError, match="without a reply"):
            BackendRunner({"backend": "mute"}).run("x")


def test_embeddings_where_there_are_none() -> None:
    runner = BackendRunner({"backend": "scripted"})
    with pytest.raises(UnsupportedError, match="embeddings"):
        runner.embed(["x"])


def test_a_device_that_the_backend_would_not_be_told() -> None:
    with pytest.raises(ConfigError, match="the backend 'openai' has no device setting, but device is cuda"):
        LLMRunnerFactory.create_runner({"backend": "openai", "model_path": "m", "device": "cuda"})
    LLMRunnerFactory.create_runner({"backend": "openai", "model_path": "m", "device": "auto"})
