"""One rule for what replies cost: a reply that a fork took from its parent is not paid for twice, wherever one looks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lllm import Agent, MemoryLog, ScriptedBackend, fork_session, record
from lllm.core import events as ev
from lllm.core.spent import Spending
from lllm.log import views
from lllm.log.export import export
from lllm.log.query import find, totals
from lllm.models.reply import Usage
from lllm.replay.cases import whatif

PRICED = {"model": "gpt-4o", "usage": {"prompt": 1000, "completion": 100}}  # $0.0035


def program(store: MemoryLog, second: str) -> Any:
    def main() -> None:
        model = ScriptedBackend(lambda request: {**PRICED, "content": request.messages[-1].text.upper()})
        with record("talk", store=store):
            agent = Agent("scribe", model)
            agent("one")
            agent(second)

    return main


@pytest.fixture
def family() -> tuple[MemoryLog, str, str]:
    """A session of two replies, and a fork of it that took the first."""
    store = MemoryLog()
    program(store, "two")()
    parent = store.sessions(1)[0].id
    done = fork_session(parent, store=store, entry=program(store, "three"))
    assert (done.reused, done.saved, str(done.money)) == (1, Usage(1000, 100), "0.0035")
    return store, parent, done.session


def test_a_reused_reply_costs_nothing(family: tuple[MemoryLog, str, str]) -> None:
    store, parent, fork = family
    old, new = (views.summary(views.load(store, id)) for id in (parent, fork))
    assert (old.cost, old.model_calls, old.usage) == ("0.0070", 2, {"prompt": 2000, "completion": 200})
    assert (old.reused, old.saved, old.saved_cost) == (0, {}, "0")
    assert (new.cost, new.model_calls, new.usage) == ("0.0035", 1, {"prompt": 1000, "completion": 100})
    assert (new.reused, new.saved, new.saved_cost) == (1, {"prompt": 1000, "completion": 100}, "0.0035")
    assert views.saving(old) is None
    assert views.saving(new) == "1 reply given again: 1100 tokens and $0.0035 saved"


def test_sessions_and_totals_count_the_same(family: tuple[MemoryLog, str, str]) -> None:
    store, parent, fork = family
    rows = {row["session"]: row for row in find(store)}
    for id in (parent, fork):
        told = views.summary(views.load(store, id))
        row = rows[id]
        assert (row["cost"], row["model_calls"]) == (float(told.cost or 0), told.model_calls)
        assert (row["tokens_in"], row["tokens_out"]) == (told.usage["prompt"], told.usage["completion"])
        assert (row["reused"], row["saved"]) == (told.reused, float(told.saved_cost or 0))
    assert rows[fork]["tokens_saved"] == 1100
    for by in ("model", "agent", "status", "day"):
        (total,) = totals(store, by)
        assert (total["cost"], total["model_calls"], total["tokens"]) == (0.0105, 3, 3300)
        assert (total["reused"], total["tokens_saved"], total["saved"]) == (1, 1100, 0.0035)


def test_exports_count_the_same(family: tuple[MemoryLog, str, str]) -> None:
    store, parent, fork = family
    for kind in ("markdown", "html"):
        page = "".join(export(store, fork, kind))
        assert "$0.0035" in page
        assert "1 reply given again" in page
        assert "given again" not in "".join(export(store, parent, kind))
    spans = json.dumps(json.loads("".join(export(store, fork, "otel"))))
    assert spans.count("gen_ai.usage.input_tokens") == spans.count("gen_ai.usage.output_tokens") == 1


def test_what_if_compares_what_all_would_cost(family: tuple[MemoryLog, str, str]) -> None:
    store, parent, _ = family
    told = whatif(parent, store=store, entry=program(store, "three"))
    assert (told.before, told.after) == (Usage(2000, 200), Usage(2000, 200))
    assert (str(told.cost_before), str(told.cost_after)) == ("0.0070", "0.0070")


def test_unknown_prices() -> None:
    spending = Spending()
    spending.add({"usage": {"prompt": 1, "completion": 2}, "cost": "0.5"})
    assert (spending.paid.money, spending.paid.unpriced) == (spending.paid.cost, 0)
    spending.add({})
    spending.add({"from": "parent#3"})
    assert (spending.paid.money, spending.paid.replies, str(spending.paid.cost)) == (None, 2, "0.5")
    assert (spending.saved.money, spending.saved.unpriced, spending.saved.usage) == (None, 1, None)


def test_the_rule_is_what_forks_write(family: tuple[MemoryLog, str, str]) -> None:
    store, parent, fork = family
    replied = [event["data"] for event in views.load(store, fork) if event["kind"] == ev.MODEL_REPLIED]
    assert [data.get("from", "").partition("#")[0] for data in replied] == [parent, ""]
