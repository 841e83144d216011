"""Prices, cards and token counts."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from lllm import const
from lllm.const import (
    MODEL_CARDS,
    PRICES,
    APITypes,
    Modalities,
    Price,
    Providers,
    Roles,
    card,
    cost,
    price,
)
from lllm.models.message import ROLES
from lllm.models.reply import Usage


@pytest.mark.parametrize(
    ("model", "prompt"),
    [
        ("gpt-4o", "2.50"),
        ("openai/gpt-4o", "2.50"),
        ("openrouter/openai/gpt-4o-mini", "0.15"),
        ("gpt-4o-2024-08-06", "2.50"),
        ("gpt-4o-2024-05-13", "5"),
        ("GPT-4o", "2.50"),
        ("claude-sonnet-4-5-20250929", "3"),
        ("claude-sonnet-4-5@20250929", "3"),
        ("claude-3-5-haiku-latest", "0.80"),
        ("gemini-2.0-flash-001", "0.10"),
        ("gemini-2.5-pro-preview-05-06", "1.25"),
        ("o3-mini-2025-01-31", "1.10"),
    ],
)
def test_a_price_is_found(model: str, prompt: str) -> None:
    found = price(model)
    assert found is not None
    assert found.prompt == Decimal(prompt)


@pytest.mark.parametrize(
    "model", ["", "gpt-4o-audio-preview", "gpt-4oo", "my-model", "vendor/llama-3-8b", "gpt-99"]
)
def test_an_unknown_price_is_none_and_not_zero(model: str) -> None:
    assert price(model) is None
    assert cost(model, Usage(10, 10)) is None


@pytest.mark.parametrize(
    "model", ["embedded", "ollama/llama3", "vllm/deepseek-chat", "llama_cpp/x.gguf", "scripted"]
)
def test_what_runs_here_costs_nothing(model: str) -> None:
    assert cost(model, Usage(10, 10)) == 0


def test_cost_counts_cached_tokens_at_their_own_price() -> None:
    assert cost("gpt-4o", Usage(prompt=1_000_000, completion=100_000, cached=400_000)) == Decimal("3.00")
    assert cost("gpt-4o", Usage(1, 1)) == Decimal("0.0000125")
    assert cost("gpt-4o", None) is None


def test_a_project_may_set_its_own_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(const, "_own", {})
    const.register_price("acme/Special", prompt="1", completion="2")
    assert price("special") == Price(Decimal(1), Decimal(1), Decimal(2))
    const.register_price("special", prompt="1", completion="2", cached="0.5")
    assert cost("acme/special", Usage(2_000_000, 0, 1_000_000)) == Decimal("1.5")


@pytest.mark.parametrize("model", PRICES)
def test_the_price_table_is_sane(model: str) -> None:
    found = price(model)
    assert found is not None
    assert 0 < found.cached <= found.prompt <= found.completion
    assert card(model) is not None


@pytest.mark.parametrize("model", MODEL_CARDS)
def test_cards(model: str) -> None:
    found = card(f"anybody/{model}")
    assert found is MODEL_CARDS[model]
    assert found.output is None or found.context is None or found.output <= found.context


def test_names() -> None:
    assert tuple(Roles) == ROLES
    assert f"{Roles.USER}" == "user"
    assert APITypes("completion") is APITypes.COMPLETION is APITypes.CHAT
    assert APITypes("response") is APITypes.RESPONSE is APITypes.RESPONSES
    with pytest.raises(ValueError, match="assistants"):
        APITypes("assistants")
    assert Modalities("text") is Modalities.TEXT
    assert Providers("openai") is Providers.OPENAI


def test_only_what_python_brings_is_imported() -> None:
    code = "import sys, lllm.const; print(*{m.split('.')[0] for m in sys.modules} - sys.stdlib_module_names)"
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    assert sorted(done.stdout.split()) == ["__main__", "lllm"]
