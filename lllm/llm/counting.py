"""`count_tokens`: uses the model's own tokenizer if it is on this machine."""

from __future__ import annotations

from contextlib import suppress

from lllm import tokens
from lllm.errors import ConfigError
from lllm.handles import capabilities
from lllm.llm.connect import Offline, open_backend
from lllm.llm.project import project
from lllm.plug_ins import backend_named, guarded
from lllm.ports import Backend, Tokenizer
from lllm.sync import in_thread, run
from lllm.tokens import TokenCount


def count_tokens(text: str, model: str | Backend | None = None) -> TokenCount:
    """Counts the tokens of a text for a model, without special tokens and chat formatting. Never downloads anything.

    Exact for OpenAI's models (with the package tiktoken from the extra `openai`) and for models that run in this process,
    which are loaded for it; then the result's `exact` is True. Otherwise an estimate of one token per 4 bytes of UTF-8,
    with `exact` False.

    Args:
        text: the text.
        model: `provider/model`, a backend, or None for the `auto` model.

    Raises:
        ConfigError: `text` is not text, or there is no such model. LLMInitializationError: its file cannot be loaded.
    """
    return run(acount_tokens(text, model))


async def acount_tokens(text: str, model: str | Backend | None = None) -> TokenCount:
    """`count_tokens` for async code."""
    if not isinstance(text, str):
        raise ConfigError(f"count_tokens needs text, got {type(text).__name__}")
    options = None
    if model is None or model == "auto":
        from lllm.llm.auto import choose

        choice = choose(project())
        model, options = choice.model, choice.options
    return await count_with(*open_backend(model, options), text)


async def count_with(backend: Backend, name: str, asked: str, text: str) -> TokenCount:
    """Counts a text's tokens for a model given by the results of `connect`."""
    if isinstance(backend, Offline):  # a replay sends no requests, but may use a tokenizer
        with suppress(ConfigError):
            backend, name, asked = open_backend(name)
    who = f"{backend_named(backend, name)}: tokenize"
    with guarded(who):
        if isinstance(backend, Tokenizer):
            found = await in_thread(backend.tokenize, asked, text)
            return TokenCount(len(found), exact=True, by=name)
    return tokens.count_tokens(text, None if capabilities(backend).local else asked)
