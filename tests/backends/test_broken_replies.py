"""Tokens and cost of replies that broke off: what was reported counts, and what was not is unknown."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Any

import pytest

from lllm import Agent, ScriptedBackend, const, record
from lllm.backends.openai import OpenAIBackend
from lllm.core import events as ev
from lllm.errors import BudgetExceeded, ConnectionFailed, ProviderFailed, StreamInterrupted
from lllm.log import MemoryLog
from lllm.log.query import totals
from lllm.log.views import load, summary
from lllm.models.reply import Reply, Usage
from lllm.ports import Capabilities, Completed, Delta, Request, TextDelta
from lllm.replay import replay_session
from tests.servers.openai_server import OpenAIServer

QUICK: dict[str, Any] = {"backoff_base": 0.001, "max_provider_retry": 3}


class Breaking:
    """Says something and breaks off, as often as it is told; then it answers."""

    def __init__(self, times: int, usage: Usage | None, *, said: str = "half", local: bool = False) -> None:
        self.capabilities = Capabilities(local=local)
        self.times, self.usage, self.said = times, usage, said

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        if self.times > 0:
            self.times -= 1
            if self.said:
                yield TextDelta(self.said)
            error = StreamInterrupted("cable", partial=self.said)
            error.usage, error.model = self.usage, "gpt-4o"
            raise error
        yield Completed(Reply("whole", usage=Usage(10, 5), model="gpt-4o"))

    async def aclose(self) -> None:
        """Nothing is open."""


def failed(store: MemoryLog) -> Sequence[dict[str, Any]]:
    events = load(store, store.sessions()[0].id)
    return [event["data"] for event in events if event["kind"] == ev.MODEL_FAILED]


def cost(usage: Usage) -> Decimal:
    price = const.price("gpt-4o")
    assert price is not None
    return const.amount(price, usage)


def test_known_usage_counts_everywhere() -> None:
    store = MemoryLog()
    reply = Agent("a", Breaking(2, Usage(100, 20)), store=store, **QUICK)("hi")
    assert reply.total_usage == Usage(210, 45)
    assert reply.cost == cost(Usage(210, 45))
    assert [data["usage"] for data in failed(store)] == [{"prompt": 100, "completion": 20}] * 2
    told = summary(load(store, store.sessions()[0].id))
    assert (told.usage["prompt"], told.usage["completion"], told.model_calls) == (210, 45, 3)
    assert told.cost is not None
    assert Decimal(told.cost) == reply.cost
    (row,) = totals(store, "agent")
    assert (row["tokens_in"], row["tokens_out"], row["model_calls"], row["faults"]) == (210, 45, 3, 2)
    assert row["unpriced"] == 0


def test_a_token_budget_is_held() -> None:
    with pytest.raises(BudgetExceeded, match="240 of 200 tokens are used up"):
        Agent("a", Breaking(5, Usage(100, 20)), max_tokens_total=200, **QUICK)("hi")


def test_a_cost_budget_is_held() -> None:
    with pytest.raises(BudgetExceeded, match="is used up"):
        Agent("a", Breaking(5, Usage(100, 20)), max_cost=str(cost(Usage(100, 20)) * 2), **QUICK)("hi")


@pytest.mark.parametrize("budget", [{"max_tokens_total": 10_000}, {"max_cost": "5"}])
def test_unknown_usage_ends_a_call_with_a_budget(budget: dict[str, Any]) -> None:
    words = "is set, but a reply broke off before it said how many tokens it took"
    with pytest.raises(BudgetExceeded, match=words):
        Agent("a", Breaking(1, None), **budget, **QUICK)("hi")


def test_without_a_budget_it_is_asked_again_and_the_cost_is_unknown() -> None:
    store = MemoryLog()
    reply = Agent("a", Breaking(1, None), store=store, **QUICK)("hi")
    assert (reply.content, reply.cost, reply.total_usage) == ("whole", None, Usage(10, 5))
    assert failed(store)[0]["unmetered"] is True
    assert totals(store, "agent")[0]["unpriced"] == 1


def test_a_local_model_costs_nothing_all_the_same() -> None:
    assert Agent("a", Breaking(1, None, local=True), max_cost="5", **QUICK)("hi").cost == 0


@pytest.mark.parametrize("budget", [{"max_tokens_total": 10_000}, {"max_cost": "5"}])
def test_of_what_never_began_nothing_is_counted(budget: dict[str, Any]) -> None:
    store = MemoryLog()
    reply = Agent("a", Breaking(2, None, said=""), store=store, **budget, **QUICK)("hi")
    assert reply.cost == cost(Usage(10, 5))
    assert all("unmetered" not in data and "usage" not in data for data in failed(store))
    refused = ScriptedBackend([ConnectionFailed("refused"), "fine"])
    assert Agent("a", refused, max_tokens_total=10_000, **QUICK)("hi").content == "fine"


def test_a_broken_reply_replays() -> None:
    store, backends = MemoryLog(), iter([Breaking(2, Usage(100, 20)), Breaking(0, None)])

    def program() -> str:
        with record("work", store=store):
            return Agent("a", next(backends), max_tokens_total=1000, **QUICK)("hi").content

    assert program() == "whole"
    assert replay_session(store.sessions()[0].id, store=store, entry=program).verified


def chunk(**more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": "half"}, "finish_reason": None}
    return {"id": "x", "model": "gpt-4o", "choices": [choice], **more}


USED = {"prompt_tokens": 100, "completion_tokens": 20}


@pytest.mark.parametrize("usage", [USED, None])
@pytest.mark.parametrize("way", ["dropped", "error", "finish"])
async def test_what_an_endpoint_reported_before_it_broke_off(
    server: OpenAIServer, way: str, usage: dict[str, int] | None
) -> None:
    more = {"usage": usage} if usage else {}
    chunks = [chunk(**more)]
    if way == "error":
        chunks.append({"error": {"message": "out of order", "code": 400}})
    if way == "finish":
        chunks.append({**chunk(), "choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]})
    text = "".join(f"data: {json.dumps(one)}\n\n" for one in chunks)
    server.say(raw=text.encode(), content_type="text/event-stream")
    store = MemoryLog()
    agent = Agent("a", OpenAIBackend(server.url), store=store, max_provider_retry=0)
    with pytest.raises(ProviderFailed):
        await agent.acall("hi", follow=lambda call, delta: None)
    (data,) = failed(store)
    if usage is None:
        assert data["unmetered"] is True
    else:
        assert data["usage"] == {"prompt": 100, "completion": 20}


async def test_a_whole_answer_that_says_error_is_paid(server: OpenAIServer) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "half"}, "finish_reason": "error"}
    answer = {"id": "x", "model": "gpt-4o", "choices": [choice], "usage": USED}
    server.say(raw=json.dumps(answer).encode())
    store = MemoryLog()
    agent = Agent("a", OpenAIBackend(server.url), store=store, max_provider_retry=0)
    with pytest.raises(ProviderFailed):
        await agent.acall("hi")
    assert failed(store)[0]["usage"] == {"prompt": 100, "completion": 20}


async def test_a_failed_response_is_paid(server: OpenAIServer) -> None:
    response = {
        "object": "response", "status": "failed", "model": "gpt-4o", "output": [], "error": {"message": "no"},
        "usage": {"input_tokens": 100, "output_tokens": 20},
    }  # fmt: skip
    server.say(raw=json.dumps(response).encode())
    store = MemoryLog()
    agent = Agent("a", OpenAIBackend(server.url, api="responses"), store=store, max_provider_retry=0)
    with pytest.raises(ProviderFailed):
        await agent.acall("hi")
    assert failed(store)[0]["usage"] == {"prompt": 100, "completion": 20}
