"""What goes wrong with a model, as typed errors that say which model it was.

Every error of a runner has `context`: path, backend, device, and the versions of what was involved. Its message names the
file and not the folders of this machine, because messages reach logs.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from lllm.backends.local.memory import exhausted
from lllm.errors import (
    CallCancelled,
    ConfigError,
    LLMError,
    LLMInferenceError,
    LLMInitializationError,
    OutOfMemory,
    ProviderError,
    ProviderTimeout,
    text_of,
)
from lllm.hints import install_hint

E = TypeVar("E", bound=LLMError)

PACKAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "llama_cpp": ("xllamacpp", "llama-cpp-python"),
    "transformers": ("torch", "transformers"),
    "embedded": ("xllamacpp", "llama-cpp-python"),
}
"""The packages whose versions matter to a backend."""


def context(backend: str, path: str | None, device: str) -> dict[str, Any]:
    """What an error says about the model it comes from. Imports none of the packages."""
    from importlib.metadata import PackageNotFoundError, version

    from lllm._version import __version__

    versions = {"lllm": __version__, "python": platform.python_version()}
    for package in PACKAGES.get(backend, ()):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"path": path, "backend": backend, "device": device, "versions": versions}


def told(about: Mapping[str, Any]) -> str:
    """The context as a line of a message."""
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    return f"backend {about['backend']}, device {about['device']}, {versions}"


def loading(error: BaseException, about: Mapping[str, Any]) -> LLMError:
    """The error of a load that failed. The first one is its cause."""
    if isinstance(error, ProviderError) and isinstance(error.__cause__, LLMError):
        error = error.__cause__  # the port knows no other fault than a provider's
    if isinstance(error, ConfigError | CallCancelled):  # also a missing package
        return _with(error, about)
    if exhausted(error):
        made: LLMError = OutOfMemory(
            f"{_prefix(about)} does not fit into memory: {_clean(error, about)}",
            hint=f"Use a smaller file, a smaller n_ctx, or dtype.\n  {told(about)}",
        )
    else:
        hint = (
            f"{install_hint(None, package=str(error.name))}\n  "
            if isinstance(error, ModuleNotFoundError)
            else ""
        )
        if isinstance(error, LLMError) and error.hint:
            hint = f"{error.hint}\n  "
        made = LLMInitializationError(
            f"{_prefix(about)} could not be loaded: {_clean(error, about)}", hint=f"{hint}{told(about)}"
        )
    made.__cause__ = error
    return _with(made, about)


def answering(error: BaseException, about: Mapping[str, Any], timeout: float | None = None) -> LLMError:
    """The error of a reply that failed. The first one is its cause."""
    if isinstance(error, ProviderError) and isinstance(error.__cause__, LLMInitializationError):
        return loading(error.__cause__, about)
    if exhausted(error):
        made: LLMError = OutOfMemory(
            f"{_prefix(about)} ran out of memory: {_clean(error, about)}",
            hint=f"Ask for less at a time: n_ctx, slots, batch.\n  {told(about)}",
        )
    elif isinstance(error, LLMError):
        return _with(error, about)
    elif isinstance(error, asyncio.CancelledError):
        made = cancelled(about, "it was cancelled")
    elif isinstance(error, TimeoutError):
        made = late(about, timeout or 0.0)
    else:
        made = LLMInferenceError(f"{_prefix(about)} did not answer: {_clean(error, about)}", hint=told(about))
    made.__cause__ = error
    return _with(made, about)


def late(about: Mapping[str, Any], seconds: float) -> ProviderTimeout:
    """A reply that took longer than it may."""
    message = f"{_prefix(about)} did not finish within {seconds:g} s"
    return _with(ProviderTimeout(message, stage="total", seconds=seconds), about)


def cancelled(about: Mapping[str, Any], why: str) -> CallCancelled:
    """A reply that somebody stopped."""
    return _with(CallCancelled(f"{_prefix(about)} was stopped: {why}", reason="cancelled"), about)


def _prefix(about: Mapping[str, Any]) -> str:
    return f"{about['backend']}: {Path(about['path']).name if about['path'] else 'the model'}"


def _clean(error: BaseException, about: Mapping[str, Any]) -> str:
    text = error.message if isinstance(error, LLMError) else text_of(error)
    path = about["path"]
    if path:
        for known in {str(Path(path).absolute()), str(path)}:
            text = text.replace(known, Path(path).name)
    return text


def _with(error: E, about: Mapping[str, Any]) -> E:
    error.context = error.context or dict(about)
    return error
