"""What goes wrong while a model decodes, as one of our errors."""

from __future__ import annotations

from lllm.errors import LLMError, ProviderError, text_of


def fault(error: BaseException, name: str) -> ProviderError:
    """The error that whoever asked `name` gets. One that is a ProviderError already stays."""
    if isinstance(error, ProviderError):
        return error
    if isinstance(error, LLMError):
        return ProviderError(error.message, hint=error.hint)
    told = (text_of(error).strip() or type(error).__name__).splitlines()[0]
    if out_of_memory(error):
        return ProviderError(
            f"{name} ran out of memory: {told}",
            hint="Lower batch, prefix_tokens or max_tokens, shorten the prompt, or load in a smaller dtype.",
        )
    return ProviderError(f"{name} failed: {type(error).__name__}: {told}")


def out_of_memory(error: BaseException) -> bool:
    """Whether a device, or this machine, had no memory left."""
    words = text_of(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in words or "can't allocate memory" in words
