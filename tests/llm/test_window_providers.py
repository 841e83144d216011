"""Requests that are longer than the window: on the engines that run here, and refused in the words of each provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lllm import LLM, Agent, MemoryLog, fitting, pinned
from lllm.core.window import asked_in, limit_in
from lllm.errors import ContextLengthError, ProviderFailed
from lllm.log.views import load
from tests.backends.too_long import OTHERS, REFUSALS, Refusal
from tests.servers.openai_server import OpenAIServer
from training.embedded.forms import Forms

LONG = "The quick brown fox jumps over the lazy dog. " * 12


@pytest.fixture(autouse=True)
def _nothing_learnt() -> Iterator[None]:
    fitting.learnt.clear()
    yield
    fitting.learnt.clear()


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running


def notes(store: Any) -> list[dict[str, Any]]:
    infos = sorted(store.sessions(), key=lambda info: info.started)
    events = [event for info in infos for event in load(store, info.id)]
    return [
        event["data"] for event in events if event["kind"] == "Note" and event["data"].get("of") == "window"
    ]


def refuse(server: OpenAIServer, refusal: Refusal) -> None:
    server.say(status=refusal.status, raw=json.dumps(refusal.body).encode())


def talk(server: OpenAIServer, **more: Any) -> Agent:
    """An agent with six turns behind it, the first of which is pinned."""
    model = LLM("openai/some-model", base_url=server.url, api_key="sk-test-of-the-window")
    agent = Agent("a", model, "Be kind.", **{"memory": True, "window": "drop", "store": MemoryLog(), **more})
    agent(pinned("My name is Ann."))
    for number in range(5):
        agent(f"Question {number}: {LONG}")
    server.requests.clear()
    return agent


def sent(server: OpenAIServer) -> list[list[str]]:
    return [[message["content"] for message in request.json["messages"]] for request in server.requests]


@pytest.mark.parametrize("provider", REFUSALS)
def test_a_refusal_in_the_words_of_a_provider_is_mended_once(provider: str, server: OpenAIServer) -> None:
    refusal = REFUSALS[provider]
    for _ in range(6):
        server.say("Yes.")
    agent = talk(server)
    refuse(server, refusal)
    server.say("Done.")
    assert agent(f"The last question. {LONG}").content == "Done."
    first, second = sent(server)
    assert len(second) < len(first) == 14
    assert second[0].startswith("Be kind.")
    assert any("My name is Ann." in text for text in second)
    assert "The last question." in second[-1]
    (note,) = notes(agent.store)
    assert note["mended"] is True
    assert note["left_out"] >= 2
    assert len(agent.history) == 15, "the conversation keeps all"
    assert list(fitting.learnt.values()) == ([] if refusal.limit is None else [refusal.limit])


@pytest.mark.parametrize("provider", ["OpenAI", "Anthropic", "llama-server", "Groq"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_second_refusal_is_an_error_and_the_conversation_is_as_it_was(
    provider: str, stream: bool, server: OpenAIServer
) -> None:
    for _ in range(6):
        server.say("Yes.")
    agent = talk(server)
    refuse(server, REFUSALS[provider])
    refuse(server, REFUSALS[provider])
    with pytest.raises(ProviderFailed) as caught:
        "".join(agent.stream("The last question.").text()) if stream else agent("The last question.")
    assert isinstance(caught.value.__cause__, ContextLengthError)
    assert len(server.requests) == 2, "mended once, and never waited for"
    assert len(agent.history) == 13


def test_a_summary_where_an_endpoint_refuses(server: OpenAIServer) -> None:
    for _ in range(6):
        server.say("Yes.")
    agent = talk(server, window={"policy": "summarise", "reserve": 100}, max_tokens=100)
    refuse(server, Refusal(400, {"error": {"message": "prompt is too long: 900 tokens > 600 maximum"}}))
    server.say("Done.")  # what is oldest is left out of this one
    assert agent("The last question.").content == "Done."
    for _ in range(40):
        server.say("They asked about a fox.")  # the summary, made in steps, and the answer
    agent("And one more.")
    asked = sent(server)
    assert any("They asked about a fox." in text for text in asked[-1])
    assert any("My name is Ann." in text for text in asked[-1])
    assert len(agent.history) == 17


@pytest.mark.parametrize("provider", REFUSALS)
def test_the_numbers_in_the_words(provider: str) -> None:
    refusal = REFUSALS[provider]
    said = json.dumps(refusal.body)
    assert (limit_in(said), asked_in(said)) == (refusal.limit, refusal.asked)


@pytest.mark.parametrize("provider", OTHERS)
def test_what_is_about_something_else_is_not_mended(provider: str, server: OpenAIServer) -> None:
    for _ in range(6):
        server.say("Yes.")
    agent = talk(server, max_provider_retry=0)
    refuse(server, OTHERS[provider])
    with pytest.raises(ProviderFailed) as caught:
        agent("The last question.")
    assert not isinstance(caught.value.__cause__, ContextLengthError)
    assert len(server.requests) == 1
    assert fitting.learnt == {}


def engine(name: str, forms: Forms) -> LLM:
    if name == "transformers":
        return LLM(f"transformers/{forms.folder}", options={"device": "cpu", "threads": 1})
    return LLM(f"llama_cpp/{forms.gguf_q8}", options={"engine": name})


@pytest.mark.parametrize("policy", ["drop", "summarise"])
@pytest.mark.parametrize("name", ["xllamacpp", "llama-cpp-python", "transformers"])
def test_engines_that_run_here_count_as_they_read(name: str, policy: str, forms: Forms) -> None:
    store = MemoryLog()
    agent = Agent(
        "a",
        engine(name, forms),
        "Be brief.",
        temperature=0,
        max_tokens=8,
        window=policy,
        memory=True,
        store=store,
    )
    agent(pinned("My name is Ann."))
    for number in range(5):
        reply = agent(f"Say {number}. {LONG * 2}")
        assert reply.usage is not None
        assert reply.usage.prompt <= 1024 - 8
    found = notes(store)
    assert found
    assert {(note["limit"], note["exact"], note.get("mended")) for note in found} == {(1024, True, None)}
    assert reply.usage is not None
    assert reply.usage.prompt == found[-1]["tokens"], "counted on the rendered prompt"
    least = {"drop": 500, "summarise": 300}[policy]  # a summary is not made anew with every call
    assert reply.usage.prompt > least, "no more is left out than has to be"
    assert len(agent.history) == 13
    summaries = [
        event["data"]["agent"]
        for info in store.sessions()
        for event in load(store, info.id)
        if event["kind"] == "CallStarted" and event["data"]["agent"].endswith("/summary")
    ]
    assert bool(summaries) is (policy == "summarise")


@pytest.mark.parametrize("name", ["xllamacpp", "llama-cpp-python", "transformers"])
def test_engines_without_a_policy_say_what_is_too_long(name: str, forms: Forms) -> None:
    agent = Agent("a", engine(name, forms), max_tokens=8, store=MemoryLog())
    with pytest.raises(ProviderFailed) as caught:
        agent(LONG * 12)
    assert isinstance(caught.value.__cause__, ContextLengthError)
    assert limit_in(str(caught.value.__cause__)) == 1024
