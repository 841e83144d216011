"""Rows of `lllm doctor` for the installed engines of local models, and whether each has its fast path."""

from __future__ import annotations

from importlib.util import find_spec
from typing import NamedTuple

from lllm.errors import DependencyError, LLMError
from lllm.hints import install_hint, replace_hint

TOGETHER = "requests are decoded together, and what dialogs share is computed once"
ALONE = "one request after another"


class EngineState(NamedTuple):
    """State of an engine: ok, slow (it works, without its fast path), problem, or not installed."""

    name: str
    state: str
    detail: str
    hint: str | None = None


def engine_states() -> list[EngineState]:
    """States of llama.cpp and transformers. Imports their libraries, which takes seconds with torch."""
    return [_llama_cpp(), _transformers()]


def _llama_cpp() -> EngineState:
    from lllm.backends.llama_cpp.llama_cpp_python import open_llama_cpp
    from lllm.backends.llama_cpp.xllamacpp import open_xllamacpp
    from lllm.backends.local.packages import version_of

    name = "engine llama_cpp"
    try:
        if find_spec("xllamacpp") is not None:
            open_xllamacpp("of a GGUF file")
            return EngineState(name, "ok", f"xllamacpp {version_of('xllamacpp')}: {TOGETHER}")
        open_llama_cpp("of a GGUF file")
    except DependencyError:
        return EngineState(name, "not installed", "GGUF files cannot be run.", install_hint("local"))
    except LLMError as error:
        return EngineState(name, "problem", f"{error.message}.", error.hint)
    version = version_of("llama-cpp-python")
    return EngineState(
        name,
        "slow",
        f"llama-cpp-python {version}: {ALONE}; xllamacpp is not installed.",
        install_hint("local"),
    )


def _transformers() -> EngineState:
    from lllm.backends.local.packages import version_of
    from lllm.backends.transformers.probe import batching

    name = "engine transformers"
    try:
        reason = batching()
    except DependencyError as error:
        detail = f"Hugging Face models cannot be run: no package '{error.package}'."
        return EngineState(name, "not installed", detail, install_hint("transformers"))
    except LLMError as error:
        return EngineState(name, "problem", f"{error.message}.", error.hint)
    except ImportError as error:  # one of its own dependencies is missing
        return EngineState(
            name, "problem", f"transformers cannot be imported: {error}", install_hint("transformers")
        )
    versions = f"transformers {version_of('transformers')} on torch {version_of('torch')}"
    if reason:
        detail = f"{versions}: {ALONE}, for a plain model: {reason}."
        return EngineState(name, "slow", detail, replace_hint("transformers"))
    return EngineState(name, "ok", f"{versions}: {TOGETHER}")
