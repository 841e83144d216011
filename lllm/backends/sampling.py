"""The sampling options that a request may have, under the names that callers use, and the errors for others."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from lllm.errors import ConfigError, nearest

SAMPLING: Final[dict[str, str]] = {
    name: name
    for name in (
        "temperature",
        "top_p",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "seed",
        "logprobs",
        "top_logprobs",
        "tool_choice",
        "parallel_tool_calls",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "reasoning_effort",
        "verbosity",
        "user",
        "metadata",
        "store",
        "service_tier",
        "prediction",
        "prompt_cache_key",
        "safety_identifier",
        "web_search_options",
    )
} | {"token_ids": "return_token_ids"}
"""Options a caller may set -> their name in OpenAI's API."""

EXTENSIONS: Final = ("top_k", "min_p", "repetition_penalty")
"""Refused by OpenAI itself; supported by vLLM, llama-server, SGLang, OpenRouter and others."""

LOCAL: Final = ("generate",)
"""Options only of models that run in this process."""

RESERVED: Final[dict[str, str]] = {
    "stream": "Stream with the call's stream=True; it is not a sampling option.",
    "stream_options": "Usage is always requested; there is nothing to set.",
    "messages": "Messages are the dialog; pass them as the first argument.",
    "model": "Name the model in the call or in model_name.",
    "tools": "Pass tools=[...] to the call.",
    "response_format": "Pass format=... to the call: a pydantic model, a dataclass or a JSON schema.",
    **dict.fromkeys(
        ("base_url", "api_key", "concurrency", "requests_per_minute", "tokens_per_minute", "connections"),
        "It is an option of the backend: options={...} of an Agent, a keyword of an LLM, a key of an agent in YAML.",
    ),
    "n": "A reply is one answer; call several times, or pass a list of inputs.",
}
"""Fields that the backend itself sets, and how a caller controls them instead."""


def check_names(given: Iterable[str], known: Collection[str]) -> None:
    """Raises ConfigError for an unknown name, except `extra_body`."""
    for key in given:
        if key in RESERVED:
            raise ConfigError(f"'{key}' is not a sampling option", hint=RESERVED[key])
        if key not in known and key != "extra_body":
            close = nearest(key, [*known, "extra_body"])
            suggestion = f"Did you mean '{close}'? " if close else ""
            raise ConfigError(
                f"unknown sampling option '{key}'",
                hint=f"{suggestion}For an option that only this provider knows, use extra_body={{'{key}': ...}}.",
            )
