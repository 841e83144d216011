"""Providers with an OpenAI-compatible chat-completions API, by the name before the slash: their addresses, and the
environment variables with their key and address.

The table holds data only: `lllm.backends.openai.providers` makes backends from it. It is also read where no client is
needed (`auto`, `lllm doctor`, hints), so nothing heavy is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple


class Provider(NamedTuple):
    """One line of the table.

    Attributes:
        url: the root of its API.
        keys: environment variables with its key; the first one set is used. None: it needs no key.
        about: a description for lists.
        urls: environment variables with another address.
        local: it runs on the user's own machines, where tokens cost nothing.
        small: its small model, which `auto` uses if the key is set; None: `auto` skips the provider.
    """

    url: str
    keys: tuple[str, ...]
    about: str
    urls: tuple[str, ...] = ()
    local: bool = False
    small: str | None = None


_GOOGLE: Final = "https://generativelanguage.googleapis.com/v1beta/openai"

PROVIDERS: Final[Mapping[str, Provider]] = {
    "anthropic": Provider(
        "https://api.anthropic.com/v1",
        ("ANTHROPIC_API_KEY",),
        "Claude, over Anthropic's OpenAI-compatible API",
        small="claude-haiku-4-5",
    ),
    "gemini": Provider(
        _GOOGLE,
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        "Gemini, over Google's OpenAI-compatible API",
        small="gemini-2.5-flash",
    ),
    "google": Provider(
        _GOOGLE, ("GEMINI_API_KEY", "GOOGLE_API_KEY"), "Gemini, over Google's OpenAI-compatible API"
    ),
    "deepseek": Provider(
        "https://api.deepseek.com/v1", ("DEEPSEEK_API_KEY",), "DeepSeek", small="deepseek-chat"
    ),
    "mistral": Provider(
        "https://api.mistral.ai/v1", ("MISTRAL_API_KEY",), "Mistral", small="mistral-small-latest"
    ),
    "xai": Provider("https://api.x.ai/v1", ("XAI_API_KEY",), "Grok", small="grok-3-mini"),
    "groq": Provider(
        "https://api.groq.com/openai/v1",
        ("GROQ_API_KEY",),
        "Groq's servers",
        small="llama-3.3-70b-versatile",
    ),
    "together": Provider(
        "https://api.together.xyz/v1",
        ("TOGETHER_API_KEY",),
        "Together's servers",
        small="meta-llama/Llama-3.3-70B-Instruct-Turbo",
    ),
    "openrouter": Provider(
        "https://openrouter.ai/api/v1",
        ("OPENROUTER_API_KEY",),
        "OpenRouter, a gateway to many providers",
        small="openai/gpt-5-mini",
    ),
    "qwen": Provider(
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        ("DASHSCOPE_API_KEY",),
        "Qwen, on Alibaba's servers",
        small="qwen-plus",
    ),
    "moonshot": Provider("https://api.moonshot.ai/v1", ("MOONSHOT_API_KEY",), "Kimi, on Moonshot's servers"),
    "fireworks": Provider(
        "https://api.fireworks.ai/inference/v1", ("FIREWORKS_API_KEY",), "Fireworks' servers"
    ),
    "cerebras": Provider("https://api.cerebras.ai/v1", ("CEREBRAS_API_KEY",), "Cerebras' servers"),
    "ollama": Provider(
        "http://localhost:11434/v1", (), "Ollama, on this machine", ("OLLAMA_HOST",), local=True
    ),
    "vllm": Provider(
        "http://localhost:8000/v1",
        ("VLLM_API_KEY",),
        "a vLLM server, on this machine",
        ("VLLM_BASE_URL",),
        local=True,
    ),
    "llama_server": Provider(
        "http://localhost:8080/v1",
        (),
        "llama.cpp's server, on this machine",
        ("LLAMA_SERVER_URL",),
        local=True,
    ),
    "lmstudio": Provider(
        "http://localhost:1234/v1", (), "LM Studio, on this machine", ("LMSTUDIO_BASE_URL",), local=True
    ),
}

SPELLINGS: Final[Mapping[str, str]] = {
    "claude": "anthropic",
    "google_genai": "gemini",
    "google-genai": "gemini",
    "vertex_ai": "gemini",
    "mistralai": "mistral",
    "together_ai": "together",
    "togetherai": "together",
    "fireworks_ai": "fireworks",
    "x-ai": "xai",
    "grok": "xai",
    "dashscope": "qwen",
    "hosted_vllm": "vllm",
    "llama-server": "llama_server",
    "lm_studio": "lmstudio",
    "huggingface": "transformers",
    "hf": "transformers",
    "gguf": "llama_cpp",
    "llamacpp": "llama_cpp",
    "llama.cpp": "llama_cpp",
}
"""Names used by other programs -> the name here, for hints."""

FAMILIES: Final[Mapping[str, str]] = {
    "gpt": "openai",
    "chatgpt": "openai",
    "o1": "openai",
    "o3": "openai",
    "o4": "openai",
    "text-embedding": "openai",
    "claude": "anthropic",
    "gemini": "gemini",
    "deepseek": "deepseek",
    "mistral": "mistral",
    "ministral": "mistral",
    "magistral": "mistral",
    "codestral": "mistral",
    "grok": "xai",
    "kimi": "moonshot",
}
"""Prefixes of the names of a provider's own models, for hints. Open-weight models that many serve are not included."""


def family(model: str) -> str | None:
    """Returns the provider whose models have names that begin like `model`, or None."""
    name = model.lower()
    return next((FAMILIES[start] for start in FAMILIES if re.match(rf"{start}(?![a-z0-9])", name)), None)
