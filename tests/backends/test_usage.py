"""Token counts of all providers, read one way."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from lllm.backends.openai.usage import read_usage
from lllm.const import cost
from lllm.models.reply import Usage

CASES: dict[str, tuple[Any, Usage | None]] = {
    "plain": ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}, Usage(10, 5)),
    "no total": ({"prompt_tokens": 10, "completion_tokens": 5}, Usage(10, 5)),
    "responses": (
        {
            "input_tokens": 10,
            "output_tokens": 5,
            "input_tokens_details": {"cached_tokens": 4},
            "output_tokens_details": {"reasoning_tokens": 3},
        },
        Usage(10, 5, 4, 3),
    ),
    "reasoning within": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 25,
            "total_tokens": 35,
            "completion_tokens_details": {"reasoning_tokens": 20},
        },
        Usage(10, 25, 0, 20),
    ),
    "reasoning beside": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 35,
            "completion_tokens_details": {"reasoning_tokens": 20},
        },
        Usage(10, 25, 0, 20),
    ),
    "reasoning beside, no total": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "completion_tokens_details": {"reasoning_tokens": 20},
        },
        Usage(10, 25, 0, 20),
    ),
    "thoughts in the total alone": (
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 100},
        Usage(10, 90, 0, 85),
    ),
    "more cached than read": (
        {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 100}},
        Usage(110, 5, 100),
    ),
    "cache counted beside": (
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 19, "cache_read_input_tokens": 4},
        Usage(14, 5, 4),
    ),
    "one from the total": ({"prompt_tokens": 10, "total_tokens": 15}, Usage(10, 5)),
    "null": ({"prompt_tokens": None, "completion_tokens": 5}, None),
    "nulls": ({"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}, None),
    "missing": ({"prompt_tokens": 10}, None),
    "only a total": ({"total_tokens": 10}, None),
    "empty": ({}, None),
    "none": (None, None),
    "a list": ([1, 2], None),
    "text": ({"prompt_tokens": "10", "completion_tokens": "5"}, None),
    "truth": ({"prompt_tokens": True, "completion_tokens": 5}, None),
    "negative": ({"prompt_tokens": -10, "completion_tokens": 5}, None),
    "whole floats": ({"prompt_tokens": 10.0, "completion_tokens": 5.0}, Usage(10, 5)),
    "details of a wrong shape": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "prompt_tokens_details": [4],
            "completion_tokens_details": 3,
        },
        Usage(10, 5),
    ),
    "nan": ({"prompt_tokens": float("nan"), "completion_tokens": 5}, None),
}


@pytest.mark.parametrize("name", CASES)
def test_usage_is_read_one_way(name: str) -> None:
    given, usage = CASES[name]
    assert read_usage(given) == usage


@pytest.mark.parametrize("usage", [Usage(10, 5, 100), Usage(0, 0, 50), Usage(-10, -5, 3)])
def test_a_cost_is_never_negative(usage: Usage) -> None:
    found = cost("gpt-4o", usage)
    assert found is not None
    assert found >= Decimal(0)
