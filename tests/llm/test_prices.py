"""Cost of replies: the table, the project's own prices, and models on the user's own machine."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lllm import LLM, Agent, Reply, ScriptedBackend
from lllm.config import load_project
from lllm.errors import BudgetExceeded, ConfigError
from lllm.models.function import tool
from lllm.models.reply import Usage
from lllm.ports import Capabilities
from lllm.registry import registry

if TYPE_CHECKING:
    from training.embedded.forms import Forms

TOML = """
[prices."acme/writer-2"]
prompt = "1"
cached = 0.25
completion = 2

[prices.gpt-4o]
prompt = 0
completion = 0
"""


def scripted(model: str, usage: Usage | None, *, local: bool = False) -> ScriptedBackend:
    return ScriptedBackend([Reply("ok", usage=usage, model=model)], capabilities=Capabilities(local=local))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "lllm.toml").write_text(TOML)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_project_sets_its_own_prices(project: Path) -> None:
    million = Usage(1_000_000, 1_000_000, 400_000)
    assert LLM(scripted("acme/writer-2", million))("x").cost == Decimal("2.70")
    assert LLM(scripted("writer-2", million))("x").cost is None  # the whole name was priced
    assert LLM(scripted("gpt-4o-2024-08-06", million))("x").cost == 0
    assert LLM(scripted("gpt-4o-mini", million))("x").cost == Decimal("0.72")


@pytest.mark.parametrize("usage", [Usage(1000, 1000), None])
def test_tokens_of_a_local_model_cost_nothing(usage: Usage | None) -> None:
    backend = scripted("any-file.gguf", usage, local=True)
    reply = Agent("a", backend, max_cost=0.01)("x")
    assert (reply.content, reply.cost) == ("ok", 0)
    listed = LLM(scripted("deepseek-chat", Usage(1000, 1000), local=True))("x")
    assert listed.cost == 0  # the price of a provider is not that of one's own server


def test_a_model_file_costs_nothing(forms: Forms) -> None:
    """A budget is looked at before the second request, so a tool is called."""

    @tool
    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        return a + b

    agent = Agent("a", f"llama_cpp/{forms.gguf_q8}", tools=[add], max_cost=0.01)
    reply = agent("What is 2 plus 2?")
    assert len(reply.messages) > 2
    assert reply.cost == 0


@pytest.mark.parametrize("name", ["embedded", "llama_cpp", "transformers", "ollama", "vllm", "lmstudio"])
def test_engines_on_this_machine_are_local(name: str) -> None:
    assert registry.get("backend", name)().capabilities.local


def test_an_unknown_price_ends_a_call_with_a_budget() -> None:
    again = ScriptedBackend(
        [Reply("<a>", model="unknown-model", usage=Usage(1, 1)), Reply("ok")], capabilities=Capabilities()
    )
    with pytest.raises(BudgetExceeded, match="price of the model is unknown") as caught:
        Agent("a", again, max_cost=1)("x", format={"type": "integer"})
    assert caught.value.hint is not None
    assert "Raise" not in caught.value.hint, "a larger budget would not help"
    assert "[prices] in lllm.toml" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[prices.x]\nprompt = "1"', "prices.x has no completion"),
        ('[prices.x]\nprompt = "-1"\ncompletion = 1', "prices.x.prompt"),
        ("[prices.x]\nprompt = true\ncompletion = 1", "prices.x.prompt"),
        ('[prices.x]\nprompt = "a"\ncompletion = 1', "prices.x.prompt"),
        ("[prices.x]\nprompt = 1\ncompletion = 1\nouput = 2", "unknown key .prices.x.ouput"),
    ],
)
def test_a_wrong_price_is_an_error_with_its_key(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lllm.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said):
        load_project()
