"""Errors while a model decodes, as errors of lllm."""

from __future__ import annotations

from lllm.backends.local.memory import exhausted
from lllm.errors import LLMError, OutOfMemory, ProviderError, text_of


def fault(error: BaseException, name: str) -> ProviderError:
    """The error that whoever asked `name` gets. One that is a ProviderError already stays."""
    if isinstance(error, ProviderError):
        return error
    if isinstance(error, LLMError):
        return ProviderError(error.message, hint=error.hint)
    told = (text_of(error).strip() or type(error).__name__).splitlines()[0]
    if exhausted(error):
        return OutOfMemory(
            f"{name} ran out of memory: {told}",
            hint="Lower batch, prefix_tokens or max_tokens, shorten the prompt, or load in a smaller dtype.",
        )
    return ProviderError(f"{name} failed: {type(error).__name__}: {told}")
