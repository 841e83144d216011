"""Roles, modalities, providers, API types; what well-known models can do and cost; counting tokens.

Prices are list prices in US dollars per million tokens, standard tier, without batch or volume discounts, as of
PRICES_VERSION: as far as they were publicly known then. Models of which no price is written here have an unknown cost,
never a cost of zero. Later prices belong into this file, with a new version; a project's own go into `register_price`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

from lllm.models.reply import Usage
from lllm.tokens import TokenCount as TokenCount
from lllm.tokens import count_tokens as count_tokens

PRICES_VERSION: Final = "2025-12"


class Roles(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Modalities(StrEnum):
    """What a model reads or writes."""

    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"
    FILE = "file"


class Providers(StrEnum):
    """Who answers: the part of a model name before its first slash, where it is one of these."""

    OPENAI = "openai"
    AZURE = "azure"
    ANTHROPIC = "anthropic"
    GOOGLE = "google"
    DEEPSEEK = "deepseek"
    MISTRAL = "mistral"
    XAI = "xai"
    GROQ = "groq"
    TOGETHER = "together"
    OPENROUTER = "openrouter"
    MOONSHOT = "moonshot"
    QWEN = "qwen"
    VLLM = "vllm"
    OLLAMA = "ollama"
    LLAMA_CPP = "llama_cpp"
    TRANSFORMERS = "transformers"
    EMBEDDED = "embedded"
    SCRIPTED = "scripted"


class APITypes(StrEnum):
    """The two APIs of OpenAI, by their present and their older names."""

    CHAT = "chat"
    RESPONSES = "responses"
    COMPLETION = CHAT
    RESPONSE = RESPONSES

    @classmethod
    def _missing_(cls, value: object) -> APITypes | None:
        return {"completion": cls.CHAT, "response": cls.RESPONSES}.get(str(value))


class Price(NamedTuple):
    """US dollars per million tokens: fresh prompt, prompt that the provider had cached, completion."""

    prompt: Decimal
    cached: Decimal
    completion: Decimal


class ModelCard(NamedTuple):
    """What is known of a model. `context` and `output` in tokens; None is unknown."""

    provider: Providers
    context: int | None = None
    output: int | None = None
    reads: tuple[Modalities, ...] = (Modalities.TEXT,)
    reasoning: bool = False
    tools: bool = True


_SEES: Final = (Modalities.TEXT, Modalities.IMAGE)
_HEARS: Final = (Modalities.TEXT, Modalities.IMAGE, Modalities.AUDIO, Modalities.VIDEO)
_O, _A, _G, _D, _M, _X = (
    Providers.OPENAI,
    Providers.ANTHROPIC,
    Providers.GOOGLE,
    Providers.DEEPSEEK,
    Providers.MISTRAL,
    Providers.XAI,
)

MODEL_CARDS: Final[Mapping[str, ModelCard]] = {
    "gpt-5.1": ModelCard(_O, 400_000, 128_000, _SEES, True),
    "gpt-5": ModelCard(_O, 400_000, 128_000, _SEES, True),
    "gpt-5-mini": ModelCard(_O, 400_000, 128_000, _SEES, True),
    "gpt-5-nano": ModelCard(_O, 400_000, 128_000, _SEES, True),
    "gpt-5-pro": ModelCard(_O, 400_000, 272_000, _SEES, True),
    "gpt-5-chat-latest": ModelCard(_O, 128_000, 16_384, _SEES),
    "gpt-4.1": ModelCard(_O, 1_047_576, 32_768, _SEES),
    "gpt-4.1-mini": ModelCard(_O, 1_047_576, 32_768, _SEES),
    "gpt-4.1-nano": ModelCard(_O, 1_047_576, 32_768, _SEES),
    "gpt-4o": ModelCard(_O, 128_000, 16_384, _SEES),
    "gpt-4o-mini": ModelCard(_O, 128_000, 16_384, _SEES),
    "gpt-4-turbo": ModelCard(_O, 128_000, 4_096, _SEES),
    "gpt-4": ModelCard(_O, 8_192, 8_192),
    "gpt-3.5-turbo": ModelCard(_O, 16_385, 4_096),
    "o1": ModelCard(_O, 200_000, 100_000, _SEES, True),
    "o1-mini": ModelCard(_O, 128_000, 65_536, reasoning=True, tools=False),
    "o1-pro": ModelCard(_O, 200_000, 100_000, _SEES, True),
    "o3": ModelCard(_O, 200_000, 100_000, _SEES, True),
    "o3-pro": ModelCard(_O, 200_000, 100_000, _SEES, True),
    "o3-mini": ModelCard(_O, 200_000, 100_000, reasoning=True),
    "o4-mini": ModelCard(_O, 200_000, 100_000, _SEES, True),
    "claude-opus-4-5": ModelCard(_A, 200_000, 64_000, _SEES, True),
    "claude-opus-4-1": ModelCard(_A, 200_000, 32_000, _SEES, True),
    "claude-opus-4": ModelCard(_A, 200_000, 32_000, _SEES, True),
    "claude-sonnet-4-5": ModelCard(_A, 200_000, 64_000, _SEES, True),
    "claude-sonnet-4": ModelCard(_A, 200_000, 64_000, _SEES, True),
    "claude-haiku-4-5": ModelCard(_A, 200_000, 64_000, _SEES, True),
    "claude-3-7-sonnet": ModelCard(_A, 200_000, 64_000, _SEES, True),
    "claude-3-5-sonnet": ModelCard(_A, 200_000, 8_192, _SEES),
    "claude-3-5-haiku": ModelCard(_A, 200_000, 8_192, _SEES),
    "claude-3-haiku": ModelCard(_A, 200_000, 4_096, _SEES),
    "gemini-3-pro-preview": ModelCard(_G, 1_048_576, 65_536, _HEARS, True),
    "gemini-2.5-pro": ModelCard(_G, 1_048_576, 65_536, _HEARS, True),
    "gemini-2.5-flash": ModelCard(_G, 1_048_576, 65_536, _HEARS, True),
    "gemini-2.5-flash-lite": ModelCard(_G, 1_048_576, 65_536, _HEARS, True),
    "gemini-2.0-flash": ModelCard(_G, 1_048_576, 8_192, _HEARS),
    "deepseek-chat": ModelCard(_D, 128_000, 8_192),
    "deepseek-reasoner": ModelCard(_D, 128_000, 65_536, reasoning=True),
    "mistral-large-latest": ModelCard(_M, 128_000),
    "mistral-small-latest": ModelCard(_M, 128_000, reads=_SEES),
    "grok-4": ModelCard(_X, 256_000, reads=_SEES, reasoning=True),
    "grok-3": ModelCard(_X, 131_072),
    "grok-3-mini": ModelCard(_X, 131_072, reasoning=True),
}

# Three numbers per model: prompt, cached prompt, completion. Gemini's and Claude's prices are those of prompts up to
# 200,000 tokens; writing to Anthropic's cache costs more than its prompt price, and is not counted apart.
PRICES: Final[Mapping[str, tuple[str, str, str]]] = {
    "gpt-5.1": ("1.25", "0.125", "10"),
    "gpt-5": ("1.25", "0.125", "10"),
    "gpt-5-mini": ("0.25", "0.025", "2"),
    "gpt-5-nano": ("0.05", "0.005", "0.40"),
    "gpt-5-pro": ("15", "15", "120"),
    "gpt-5-chat-latest": ("1.25", "0.125", "10"),
    "gpt-4.1": ("2", "0.50", "8"),
    "gpt-4.1-mini": ("0.40", "0.10", "1.60"),
    "gpt-4.1-nano": ("0.10", "0.025", "0.40"),
    "gpt-4o": ("2.50", "1.25", "10"),
    "gpt-4o-2024-05-13": ("5", "5", "15"),
    "gpt-4o-mini": ("0.15", "0.075", "0.60"),
    "gpt-4-turbo": ("10", "10", "30"),
    "gpt-4": ("30", "30", "60"),
    "gpt-3.5-turbo": ("0.50", "0.50", "1.50"),
    "o1": ("15", "7.50", "60"),
    "o1-mini": ("1.10", "0.55", "4.40"),
    "o1-pro": ("150", "150", "600"),
    "o3": ("2", "0.50", "8"),
    "o3-pro": ("20", "20", "80"),
    "o3-mini": ("1.10", "0.55", "4.40"),
    "o4-mini": ("1.10", "0.275", "4.40"),
    "claude-opus-4-5": ("5", "0.50", "25"),
    "claude-opus-4-1": ("15", "1.50", "75"),
    "claude-opus-4": ("15", "1.50", "75"),
    "claude-sonnet-4-5": ("3", "0.30", "15"),
    "claude-sonnet-4": ("3", "0.30", "15"),
    "claude-haiku-4-5": ("1", "0.10", "5"),
    "claude-3-7-sonnet": ("3", "0.30", "15"),
    "claude-3-5-sonnet": ("3", "0.30", "15"),
    "claude-3-5-haiku": ("0.80", "0.08", "4"),
    "claude-3-haiku": ("0.25", "0.03", "1.25"),
    "gemini-2.5-pro": ("1.25", "0.125", "10"),
    "gemini-2.5-flash": ("0.30", "0.03", "2.50"),
    "gemini-2.5-flash-lite": ("0.10", "0.01", "0.40"),
    "gemini-2.0-flash": ("0.10", "0.025", "0.40"),
    "deepseek-chat": ("0.28", "0.028", "0.42"),
    "deepseek-reasoner": ("0.28", "0.028", "0.42"),
    "grok-4": ("3", "0.75", "15"),
    "grok-3": ("3", "0.75", "15"),
    "grok-3-mini": ("0.30", "0.075", "0.50"),
}

_MILLION: Final = Decimal(1_000_000)
# gpt-4o-2024-08-06, claude-sonnet-4-5-20250929, claude-3-5-haiku-latest, gemini-2.5-pro-preview-05-06
_DATED: Final = re.compile(
    r"(?:[-@](?:20\d{6}|20\d\d-\d\d-\d\d|latest|\d{3})|-preview-\d\d-(?:\d\d|20\d\d))$"
)
# What runs on one's own machine costs nothing per token, whatever it is called.
_FREE: Final = ("embedded", "scripted", "llama_cpp", "transformers", "ollama", "vllm", "replay")

_own: dict[str, Price] = {}


def base_name(model: str) -> str:
    """A model's name without provider and date: `openai/gpt-4o-2024-08-06` is `gpt-4o`."""
    return _DATED.sub("", model.rpartition("/")[2].lower())


def card(model: str) -> ModelCard | None:
    """What is known of a model, or None."""
    return MODEL_CARDS.get(model.rpartition("/")[2].lower()) or MODEL_CARDS.get(base_name(model))


def price(model: str) -> Price | None:
    """The price of a model, exactly as named or without its date; None when it is not known.

    The provider prefix is ignored, except that models on one's own machine cost nothing."""
    if (own := registered_price(model)) is not None:
        return own
    return _listed(model)


@lru_cache(maxsize=1024)
def _listed(model: str) -> Price | None:
    """The price in the table; looked up for every reply."""
    name = model.rpartition("/")[2].lower()
    undated = _DATED.sub("", name)
    if model.partition("/")[0] in _FREE:
        return Price(Decimal(0), Decimal(0), Decimal(0))
    found = PRICES.get(name) or PRICES.get(undated)
    return Price(*map(Decimal, found)) if found is not None else None


def registered_price(model: str) -> Price | None:
    """The price that `register_price` has set for a model."""
    return find_price(model, _own) if _own else None


def find_price(model: str, prices: Mapping[str, Price]) -> Price | None:
    """The price of a model in a given table: by its full name, without the provider, or without its date."""
    whole = model.lower()
    name = whole.rpartition("/")[2]
    for key in (whole, name, _DATED.sub("", name)):
        if (found := prices.get(key)) is not None:
            return found
    return None


def register_price(model: str, *, prompt: str, completion: str, cached: str | None = None) -> None:
    """Sets a model's price in US dollars per million tokens, as text so that no cent is rounded."""
    fresh = Decimal(prompt)
    _own[model.rpartition("/")[2].lower()] = Price(
        fresh, fresh if cached is None else Decimal(cached), Decimal(completion)
    )


def cost(model: str, usage: Usage | None) -> Decimal | None:
    """US dollars for a usage; None when the price or the usage is not known."""
    found = price(model)
    return None if usage is None or found is None else amount(found, usage)


def amount(found: Price, usage: Usage) -> Decimal:
    """Cost in US dollars of a usage at a price."""
    cached = min(max(usage.cached, 0), max(usage.prompt, 0))  # never a negative cost
    fresh = max(usage.prompt, 0) - cached
    written = max(usage.completion, 0)
    return (fresh * found.prompt + cached * found.cached + written * found.completion) / _MILLION
