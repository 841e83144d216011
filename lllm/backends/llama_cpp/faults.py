"""What goes wrong inside llama.cpp, as one of our errors. Messages name the file and not its folder: they reach the log."""

from __future__ import annotations

from pathlib import Path

from lllm.backends.local.memory import exhausted
from lllm.errors import LLMInitializationError, OutOfMemory, ProviderError, text_of


def not_loaded(path: Path, error: BaseException) -> LLMInitializationError:
    """The error of a load that failed."""
    told = text_of(error).replace(str(path), path.name)
    if exhausted(error):
        return OutOfMemory(
            f"{path.name} does not fit into memory: {told}",
            hint="Lower context and slots, or use a file that is quantised further.",
        )
    return LLMInitializationError(f"{path.name} could not be loaded: {told}")


def failed(name: str, error: BaseException | str) -> ProviderError:
    """The error of a reply that failed, from the library's exception or its message."""
    told = error if isinstance(error, str) else text_of(error)
    if exhausted(error):
        return OutOfMemory(
            f"{name} ran out of memory: {told}", hint="Lower context and slots, or shorten the prompt."
        )
    return ProviderError(f"{name} failed: {told}", body=error if isinstance(error, str) else None)
