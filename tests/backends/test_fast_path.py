"""A local model without its fast path says so, once; a library that is unusable is named before a model is loaded."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lllm.backends.llama_cpp import LlamaCppBackend, llama_cpp_python, xllamacpp
from lllm.backends.llama_cpp.options import Options
from lllm.backends.local import fast_path
from lllm.backends.local.packages import open_library
from lllm.backends.transformers import TransformersBackend, engine, library, llguidance, probe
from lllm.backends.transformers.loaded import Loaded
from lllm.errors import DependencyError, LLMInitializationError
from lllm.hints import replace_hint
from training.embedded.forms import Forms


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    fast_path.forget()
    yield
    fast_path.forget()


@pytest.fixture
def tiny() -> Loaded:
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    return Loaded(
        model=model, tokenizer=None, device="cpu", why="a test", dtype="float32", context=64,
        eos=frozenset({2}), name="tiny", seconds=0.0,
    )  # fmt: skip


def test_a_release_that_renames_the_cache_again_is_reported_once(
    forms: Forms, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(library, "CACHE", ("kv_store",))
    backend = TransformersBackend(device="cpu", threads=1)
    for _ in range(2):
        assert backend.info(str(forms.folder))["batching"] == "off: it takes no kv_store"
        asyncio.run(backend.aclose())
    (said,) = caplog.messages
    assert said == (
        f"transformers: {forms.folder.name} is decoded one request at a time, without batches and without kept"
        " prefixes: it takes no kv_store"
    )
    assert caplog.records[0].levelno == logging.WARNING
    assert caplog.records[0].name == "lllm.backends"
    assert fast_path.losses() == [said]


def test_what_was_asked_for_is_not_reported(
    forms: Forms, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def compiler(forward: Any, **_: Any) -> Any:
        return lambda *args, **more: forward(*args, **more)

    monkeypatch.setattr(torch, "compile", compiler)
    backend = TransformersBackend(device="cpu", threads=1, compile=True)
    assert backend.info(str(forms.folder))["batching"].startswith("off: it is compiled")
    asyncio.run(backend.aclose())
    backend = LlamaCppBackend(engine="llama-cpp-python", context=256)
    assert backend.info(str(forms.gguf_q8))["engine"] == "llama-cpp-python"
    asyncio.run(backend.aclose())
    assert caplog.messages == []


def test_a_release_without_a_part_of_batches_is_a_reason(
    tiny: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine.fit(tiny)[1] == ""
    monkeypatch.setitem(sys.modules, "lllm.backends.transformers.fit", None)
    shapes, reason = engine.fit(tiny)
    assert shapes == []
    assert "lacks a part that batches need" in reason


def test_our_attention_gives_way_to_the_librarys(
    tiny: Loaded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import AttentionInterface

    from lllm.backends.transformers import attention

    def broken(*_: Any, **__: Any) -> Any:
        raise TypeError("attend() takes another form")

    monkeypatch.setitem(AttentionInterface._global_mapping, attention.NAME, broken)
    shapes, reason = engine.fit(tiny)
    assert (len(shapes), reason) == (2, "")
    (said,) = caplog.messages
    assert said.startswith(
        "transformers: tiny decodes batches a tenth slower, with sdpa: a trial failed: attend()"
    )


SLOW = """
import asyncio, sys
sys.modules["xllamacpp"] = None
from lllm.backends.llama_cpp import LlamaCppBackend

for _ in range(2):
    backend = LlamaCppBackend(context=256)
    assert backend.info(sys.argv[1])["engine"] == "llama-cpp-python"
    asyncio.run(backend.aclose())
"""


def test_the_other_engine_of_llama_cpp_says_on_stderr_that_it_is_slower(forms: Forms) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SLOW, str(forms.gguf_q8)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        f"llama_cpp: xllamacpp is not installed; llama-cpp-python runs {forms.gguf_q8.name}, one request after another."
        " The extra lllm[local] brings it. Type: pip install gguf xllamacpp\n"
    )


# --- libraries that lack something


def test_the_installed_libraries_offer_what_is_used() -> None:
    assert xllamacpp.open_xllamacpp("a test")
    assert llama_cpp_python.open_llama_cpp("a test")
    assert llguidance.quiet_limits(llguidance.open_llguidance()).verbose_errors is False
    assert probe.batching() == ""


@pytest.mark.parametrize(
    ("module", "name", "made"),
    [
        ("xllamacpp", "json_schema_to_grammar", lambda path: LlamaCppBackend(engine="xllamacpp")),
        ("llama_cpp", "llama_get_memory", lambda path: LlamaCppBackend(engine="llama-cpp-python")),
    ],
)
def test_a_release_that_lacks_what_is_used_is_named(
    module: str, name: str, made: Any, forms: Forms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(__import__(module), name)
    with pytest.raises(LLMInitializationError, match=rf"lacks {name}, which lllm uses") as caught:
        made(forms).load(str(forms.gguf_q8))
    package = {"llama_cpp": "llama-cpp-python"}.get(module, module)
    assert caught.value.hint == replace_hint(package)


def test_a_server_without_a_method_is_named() -> None:
    made = SimpleNamespace(Server=lambda _: SimpleNamespace(handle_embeddings=1, listening_address=""))
    with pytest.raises(LLMInitializationError, match="lacks handle_chat_completions"):
        xllamacpp.open_server(made, None)


@pytest.mark.parametrize("page", ["ui", "webui", None])
def test_parameters_of_other_releases(
    page: str | None, forms: Forms, caplog: pytest.LogCaptureFixture
) -> None:
    """The page for browsers is off under either name; what only saves time may be missing, and is reported."""

    def params() -> Any:
        made = SimpleNamespace(
            model=SimpleNamespace(),
            cpuparams=SimpleNamespace(),
            cpuparams_batch=SimpleNamespace(),
            cache_prompt=False,
        )
        if page:
            setattr(made, page, True)
        return made

    made = xllamacpp.parameters(
        SimpleNamespace(CommonParams=params), forms.gguf_q8, Options(context=64), threads=1, key="k"
    )
    assert {name: getattr(made, name, None) for name in ("ui", "webui")} == {
        name: False if name == page else None for name in ("ui", "webui")
    }
    assert made.cache_prompt is True
    assert made.api_keys == ["k"]
    (said,) = caplog.messages
    assert "has no cache_ram_mib, so each request computes its whole dialog again" in said


def test_a_parser_without_the_quiet_form() -> None:
    class Limits:
        pass

    assert isinstance(llguidance.quiet_limits(SimpleNamespace(LLParserLimits=Limits)), Limits)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise OSError('libgomp.so.1: cannot open shared object file')", "libgomp.so.1: cannot open"),
        (
            "raise ImportError('huggingface-hub>=1.5 is required\\nTry: x')",
            "huggingface-hub>=1.5 is required",
        ),
        ("import lllm_no_such_module", "No module named 'lllm_no_such_module'"),
    ],
)
def test_a_package_that_cannot_be_imported_is_named(
    source: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lllm_broken_library.py").write_text(source + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LLMInitializationError) as caught:
        open_library("lllm_broken_library", package="broken", extra="local", purpose="a test")
    assert caught.value.message.startswith("broken unknown is installed, but cannot be imported: ")
    assert words in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint == replace_hint("broken")


def test_a_package_that_is_not_installed_is_another_error() -> None:
    with pytest.raises(DependencyError, match="a test needs the package 'nowhere', which is not installed"):
        open_library("lllm_no_such_module", package="nowhere", extra="local", purpose="a test")
