"""F23: an agent gives the same reply, streamed or not: after tools, with reasoning, after a repair."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lllm import Agent, MemoryLog, Prompt, Reply, VLLMModel
from lllm.log.views import load
from lllm.ports import TextDelta, ThinkingDelta
from tests.servers.openai_server import OpenAIServer, Script

CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "lookup", "arguments": '{"word": "fig & <b>\\u00e9"}'},
}
RUNS: dict[str, list[Script]] = {
    "text": [Script("It is a fruit.")],
    "tags": [Script("<think>A fig.</think>It is a fruit.")],
    "a field": [Script("It is a fruit.", thinking="A fig.")],
    "a tool": [Script(tool_calls=[CALL]), Script("<think>So.</think>It is a fruit.")],
    "a tool after words": [Script("<think>Hm.</think>Let me look.", tool_calls=[CALL]), Script("A fruit.")],
    "a repair": [Script("none"), Script("<answer>fruit</answer>")],
    "a fault": [Script(status=500, raw=b"{}"), Script("It is a fruit.")],
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[OpenAIServer]:
    monkeypatch.chdir(tmp_path)
    with OpenAIServer() as running:
        yield running


def lookup(word: str) -> str:
    """Looks a word up."""
    return f"{word}: <think>no reasoning</think> a fruit\n\n"


def plain(reply: Reply) -> dict[str, Any]:
    messages = [(message.role, message.text, message.tool_calls) for message in reply.messages]
    return {
        "content": reply.content,
        "think": reply.think,
        "parsed": str(reply.parsed),
        "finish": reply.finish_reason,
        "usage": reply.usage,
        "messages": messages,
    }


@pytest.mark.parametrize("name", RUNS)
async def test_the_reply_of_a_stream_is_that_of_a_call(server: OpenAIServer, name: str) -> None:
    store = MemoryLog()
    asked: Any = "A fig?"
    if name == "a repair":
        asked = Prompt("fig", "A fig? In <answer> tags.", required_xml_tags=["answer"])
    async with VLLMModel("m", server.url, backoff_base=0) as model:
        agent = Agent("botanist", model, "Be brief.", tools=[lookup], store=store)
        server.scripts.extend(RUNS[name])
        whole = await agent.acall(asked)
        server.scripts.extend(RUNS[name])
        stream = agent.astream(asked)
        deltas = [delta async for delta in stream]
    assert stream.reply is not None
    assert plain(stream.reply) == plain(whole)
    assert "<think>" not in whole.content
    last = max((at for at, one in enumerate(deltas) if type(one).__name__ == "Restart"), default=-1)
    said = "".join(one.text for one in deltas[last + 1 :] if isinstance(one, TextDelta))
    assert said.endswith(whole.content)
    assert "<think>" not in said
    assert all("no reasoning" not in one.text for one in deltas if isinstance(one, TextDelta | ThinkingDelta))
    half = len(server.requests) // 2
    first, second = server.requests[:half], server.requests[half:]
    assert [one.json["messages"] for one in first] == [one.json["messages"] for one in second]
    results = [
        [event["data"] for event in load(store, info.id) if event["kind"] == "ToolReturned"]
        for info in store.sessions()
    ]
    assert len(results) == 2
    assert len(results[0]) == len(results[1]) == ("tool" in name)
    if "tool" in name:
        [tool] = [message for message in whole.messages if message.role == "tool"]
        assert tool.text == lookup("fig & <b>\u00e9")
