"""Deferred tools in the Responses API's own form. The service is a server of ours, written after its documentation and the
types of the `openai` package, by which requests and answers are judged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai.types.responses import Response, ResponseCreateParams
from pydantic import TypeAdapter

from lllm import Agent
from lllm.backends.openai import OpenAIBackend
from lllm.core import events as ev
from lllm.errors import ConfigError
from lllm.llm.sessions import arecord
from lllm.log import views
from lllm.log.memory import MemoryLog
from lllm.models.function import tool
from lllm.replay import replay_session
from tests.backends.helpers import ask, collect, joined
from tests.backends.test_faults import KEY
from tests.servers.openai_server import OpenAIServer, Script, call


@tool(effect="pure", deferred=True)
def weather(city: str) -> str:
    """The weather of a city."""
    return f"sun in {city}"


@tool(effect="pure")
def clock() -> str:
    """The time."""
    return "noon"


OTHERS = [weather.with_(name=f"thing_{n}", description=f"Does thing number {n}.") for n in range(20)]


def search(query: Any, id: str = "s1") -> dict[str, Any]:
    """An item of the API, as its documentation shows it."""
    arguments = {"query": query}
    return {
        "type": "tool_search_call",
        "call_id": id,
        "execution": "client",
        "status": "completed",
        "arguments": arguments,
    }


def found(name: str, arguments: Any, id: str = "w1") -> dict[str, Any]:
    """A call of a tool that a search has loaded."""
    entry = call(name, arguments, id)
    return {**entry, "function": {**entry["function"], "namespace": name}}


@pytest.fixture
async def backend(server: OpenAIServer) -> AsyncIterator[OpenAIBackend]:
    backend = OpenAIBackend(server.url, KEY, api="responses", tool_search=True)
    yield backend
    await backend.aclose()


def agent(backend: OpenAIBackend, **more: Any) -> Agent:
    return Agent("forecaster", backend, tools=[clock, *OTHERS, weather], **more)


def sent(server: OpenAIServer, n: int) -> dict[str, Any]:
    """A request, judged by the package's types."""
    body: dict[str, Any] = server.requests[n].json
    TypeAdapter(ResponseCreateParams).validate_python(body)
    return body


@pytest.mark.parametrize("stream", [False, True])
async def test_a_search_and_what_it_finds(server: OpenAIServer, backend: OpenAIBackend, stream: bool) -> None:
    server.say("", tool_calls=[search("will it rain in a city?")])
    server.say("", tool_calls=[found("weather", {"city": "Bern"})])
    server.say("Sun.")
    for script in server.scripts:
        Response.model_validate(script.response())
    store = MemoryLog()

    async def program() -> str:
        async with arecord("weather", store=store):
            follow = (lambda *_: None) if stream else None
            return (await agent(backend).acall("How is it in Bern?", follow=follow)).content

    assert await program() == "Sun."

    first, second, third = (sent(server, n) for n in range(3))
    assert [one["type"] for one in first["tools"]] == ["function", "tool_search"]
    offered = first["tools"][1]
    assert offered["execution"] == "client"
    assert "Finds tools by what they do, among 21" in offered["description"]
    assert list(offered["parameters"]["properties"]) == ["query", "offset"]

    asked, output = second["input"][-2:]
    assert asked == search("will it rain in a city?")
    assert (output["type"], output["call_id"], output["execution"]) == ("tool_search_output", "s1", "client")
    loaded = {one["name"]: one for one in output["tools"]}
    assert loaded["weather"]["defer_loading"] is True
    assert loaded["weather"]["parameters"]["required"] == ["city"]
    assert second["tools"] == first["tools"]  # nothing before the result has changed
    assert second["input"][:-2] == first["input"]

    assert third["input"][:-2] == second["input"]
    made, result = third["input"][-2:]
    assert made == {
        "type": "function_call",
        "call_id": "w1",
        "name": "weather",
        "arguments": '{"city": "Bern"}',
        "namespace": "weather",
    }
    assert result == {"type": "function_call_output", "call_id": "w1", "output": "sun in Bern"}

    events = list(views.load(store, store.sessions()[0].id))
    tools = [event["data"]["name"] for event in events if event["kind"] == ev.TOOL_REQUESTED]
    assert tools == ["find_tools", "weather"]
    report = await asyncio.to_thread(replay_session, store.sessions()[0].id, store=store, entry=program)
    assert report.verified, report
    assert len(server.requests) == 3


async def test_a_stream_adds_up_to_the_whole(server: OpenAIServer, backend: OpenAIBackend) -> None:
    calls = [search("a"), call("clock", {}, "c2"), search("b", "s3")]
    server.scripts.append(Script("Let me see.", tool_calls=calls))
    deltas = await collect(backend, ask(stream=True, finder="find_tools"))
    text, _, made = joined(deltas)
    assert text == "Let me see."
    assert [(one.id, one.name, json.loads(one.arguments)) for one in made] == [
        ("s1", "find_tools", {"query": "a"}),
        ("c2", "clock", {}),
        ("s3", "find_tools", {"query": "b"}),
    ]


@pytest.mark.parametrize("query", ["zxqv", "", 5])
async def test_a_search_that_finds_nothing_says_why(
    server: OpenAIServer, backend: OpenAIBackend, query: Any
) -> None:
    server.say("", tool_calls=[search(query)])
    server.say("No.")
    assert (await agent(backend).acall("x")).content == "No."
    items = sent(server, 1)["input"]
    at = next(n for n, item in enumerate(items) if item.get("type") == "tool_search_call")
    asked, output, words = items[at : at + 3]
    assert (asked["arguments"], output["tools"]) == ({"query": query}, [])
    assert words["role"] == "developer"
    assert "tool" in words["content"] or "query" in words["content"]


async def test_a_dialog_goes_on_with_what_was_found(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say("", tool_calls=[search("weather of a city")])
    server.say("Ready.")
    server.say("", tool_calls=[found("weather", {"city": "Bern"})])
    server.say("Sun.")
    one = agent(backend)
    dialog = one.init_dialog()
    dialog.append("Look for the weather.")
    await one.acall(dialog)
    dialog.append("And in Bern?")
    assert (await one.acall(dialog)).content == "Sun."
    kinds = [item.get("type", item.get("role")) for item in sent(server, 2)["input"]]
    assert kinds == ["user", "tool_search_call", "tool_search_output", "assistant", "user"]
    assert [item["type"] for item in sent(server, 2)["tools"]] == ["function", "tool_search"]


async def test_without_tools_a_search_is_a_function(server: OpenAIServer, backend: OpenAIBackend) -> None:
    """In the last round tools are withdrawn: what was found could not be said."""
    server.say("", tool_calls=[search("weather of a city")])
    server.say("Ready.")
    await agent(backend, max_interrupt_times=1).acall("x")
    last = sent(server, 1)
    assert "tools" not in last
    assert [item["type"] for item in last["input"] if "type" in item] == [
        "function_call",
        "function_call_output",
    ]


async def test_a_forced_search_is_a_function(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say("", tool_calls=[call("find_tools", {"query": "weather of a city"})])
    server.say("Ready.")
    await agent(backend, tool_choice="find_tools").acall("x")
    first = sent(server, 0)
    assert first["tool_choice"] == {"type": "function", "name": "find_tools"}
    assert {one["type"] for one in first["tools"]} == {"function"}
    assert (
        sent(server, 1)["input"][-1]["type"] == "tool_search_output"
    )  # the choice holds for the first round alone


async def test_it_is_chosen_by_configuration(server: OpenAIServer) -> None:
    plain = OpenAIBackend(server.url, KEY, api="responses")
    server.say("", tool_calls=[call("find_tools", {"query": "weather of a city"})])
    server.say("Ready.")
    await agent(plain).acall("x")
    assert {one["type"] for one in sent(server, 0)["tools"]} == {"function"}
    assert "weather" in {one["name"] for one in sent(server, 1)["tools"]}
    await plain.aclose()
    with pytest.raises(ConfigError, match="tool_search is for api='responses'"):
        OpenAIBackend(server.url, KEY, tool_search=True)
    with pytest.raises(ConfigError, match="tool_search must be true or false"):
        OpenAIBackend(server.url, KEY, api="responses", tool_search="yes")  # type: ignore[arg-type]
