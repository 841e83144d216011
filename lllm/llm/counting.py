"""`count_tokens`: by the model's own tokenizer where that is on this machine."""

from __future__ import annotations

from contextlib import suppress

from lllm import tokens
from lllm.errors import ConfigError
from lllm.llm.connect import Offline, open_backend
from lllm.llm.project import configured_model
from lllm.plug_ins import backend_named, capabilities_of, guarded
from lllm.ports import Backend, Tokenizer
from lllm.sync import in_thread, run
from lllm.tokens import TokenCount


def count_tokens(text: str, model: str | Backend | None = None) -> TokenCount:
    """How many tokens a text has for a model, without special tokens and without what a chat format adds. Nothing is ever
    downloaded.

    Exact for OpenAI's models (with the package tiktoken, which the extra `openai` brings) and for models that run in this
    process, which are loaded for it; the result's `exact` is True then. Else an estimate of one token per 4 bytes of UTF-8,
    whose `exact` is False.

    Args:
        text: the text.
        model: `provider/model`, a backend, or None for the model that `auto` means.

    Raises:
        ConfigError: `text` is not text, or no such model. LLMInitializationError: its file cannot be loaded.
    """
    return run(acount_tokens(text, model))


async def acount_tokens(text: str, model: str | Backend | None = None) -> TokenCount:
    """`count_tokens` for async code."""
    if not isinstance(text, str):
        raise ConfigError(f"count_tokens takes text, got {type(text).__name__}")
    options = None
    if model is None or model == "auto":
        choice = configured_model()
        model, options = choice.model, choice.options
    return await count_with(*open_backend(model, options), text)


async def count_with(backend: Backend, name: str, asked: str, text: str) -> TokenCount:
    """The tokens of a text for a model by what `connect` gives of it."""
    if isinstance(backend, Offline):  # a replay asks no model; a tokenizer may be asked
        with suppress(ConfigError):
            backend, name, asked = open_backend(name)
    who = f"{backend_named(backend, name)}: tokenize"
    with guarded(who):
        if isinstance(backend, Tokenizer):
            found = await in_thread(backend.tokenize, asked, text)
            return TokenCount(len(found), exact=True, by=name)
    local = getattr(capabilities_of(backend), "local", False)
    return tokens.count_tokens(text, None if local else asked)
