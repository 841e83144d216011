"""Sampling values that a request may carry, under the names that callers use, and what is said of any other."""

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
"""What a caller may set, and the name that OpenAI's wire has for it."""

EXTENSIONS: Final = ("top_k", "min_p", "repetition_penalty")
"""OpenAI itself refuses these; vLLM, llama-server, SGLang, OpenRouter and others know them."""

LOCAL: Final = ("generate",)
"""What only models in this process know."""

RESERVED: Final[dict[str, str]] = {
    "stream": "Ask for a stream with stream=True of the call, not as a sampling option.",
    "stream_options": "Usage is always asked for; there is nothing to set.",
    "messages": "Messages are the dialog; give them as the first argument.",
    "model": "Name the model in the call or in model_name.",
    "tools": "Give tools=[...] to the call.",
    "response_format": "Give format=... to the call: a pydantic model, a dataclass or a JSON schema.",
    **dict.fromkeys(
        ("base_url", "api_key", "concurrency", "requests_per_minute", "tokens_per_minute", "connections"),
        "It is an option of the backend: options={...} of an Agent, a keyword of an LLM, a key of an agent in YAML.",
    ),
    "n": "A reply is one answer; ask several times, or give a list of inputs.",
}
"""What a backend itself writes, and where a caller says it instead."""


def check_names(given: Iterable[str], known: Collection[str]) -> None:
    """Raises ConfigError for a name that is not among the known ones, `extra_body` aside."""
    for key in given:
        if key in RESERVED:
            raise ConfigError(f"'{key}' is not a sampling option", hint=RESERVED[key])
        if key not in known and key != "extra_body":
            close = nearest(key, [*known, "extra_body"])
            suggestion = f"Did you mean '{close}'? " if close else ""
            raise ConfigError(
                f"unknown sampling option '{key}'",
                hint=f"{suggestion}An option that only this provider knows goes into extra_body={{'{key}': ...}}.",
            )
