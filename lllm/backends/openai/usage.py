"""Reads token counts from all providers' formats.

The result is uniform: `prompt` is everything read, including `cached`; `completion` is everything written, including
`reasoning`. Providers that count a part separately are recognised by their total. A missing, null or invalid count makes
the usage unknown: never 0, which would mean free.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lllm.models.reply import Usage


def read_usage(usage: object) -> Usage | None:
    """The token counts of one reply; None if unknown."""
    if not isinstance(usage, Mapping):
        return None
    prompt = _count(usage, "prompt_tokens", "input_tokens")
    completion = _count(usage, "completion_tokens", "output_tokens")
    if (
        len(usage) == 3  # nearly always, in an answer without details
        and prompt is not None
        and completion is not None
        and usage.get("total_tokens") == prompt + completion
    ):
        return Usage(prompt, completion)
    total = _count(usage, "total_tokens")
    cached = (
        _count(_part(usage, "prompt_tokens_details", "input_tokens_details"), "cached_tokens")
        or _count(usage, "prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens")
        or 0
    )
    reasoning = (
        _count(_part(usage, "completion_tokens_details", "output_tokens_details"), "reasoning_tokens")
        or _count(usage, "reasoning_tokens")
        or 0
    )
    if prompt is not None and completion is None and total is not None and total >= prompt:
        completion, beside = total - prompt, 0
    elif prompt is None and completion is not None and total is not None and total >= completion:
        prompt, beside = total - completion, 0
    elif prompt is None or completion is None:
        return None
    else:
        beside = 0 if total is None else total - prompt - completion
    if reasoning and (reasoning > completion or beside == reasoning):
        completion += reasoning  # counted separately: Gemini, xAI and others
        beside -= reasoning
    if cached and (cached > prompt or beside == cached):
        prompt += cached  # counted separately: Anthropic
    elif beside > 0 and not reasoning:
        completion, reasoning = completion + beside, beside  # only in the total: Gemini's thoughts
    return Usage(prompt, completion, cached, reasoning)


_MOST = 2**53
"""No reply has this many tokens; larger numbers would overflow in stores."""


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    """The first of these fields that is a valid count."""
    for name in names:
        value = usage.get(name)
        if value is None:
            continue
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST:
            return value
    return None


def _part(usage: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        value = usage.get(name)
        if value is not None and isinstance(value, Mapping):
            return value
    return {}
