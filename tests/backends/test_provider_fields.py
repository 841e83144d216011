"""Keys that a provider adds to a message: kept, logged, sent back to that provider and to no other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lllm.backends.openai import OpenAIBackend
from lllm.backends.openai.extras import merge, returned
from lllm.backends.openai.families import family
from lllm.backends.openai.sent import Renamed
from lllm.core import events as ev
from lllm.llm import LLM, Dialog
from lllm.llm.agent import Agent
from lllm.llm.sessions import arecord
from lllm.log import views
from lllm.log.memory import MemoryLog
from lllm.models.function import tool
from lllm.models.message import FunctionCall, Message, user
from lllm.models.reply import Reply
from lllm.replay import replay_session
from lllm.replay.fork import fork_session
from lllm.replay.resume import resume_session
from tests.backends.helpers import ADD, ask, reply
from tests.replay.test_resume import cut
from tests.servers.openai_server import OpenAIServer, Script, call

SIGNED = {"google": {"thought_signature": "Cs8BAePx/lz+a=="}}
DETAILS = [
    {"type": "reasoning.text", "text": "Let me see.", "signature": "sig", "format": "anthropic-claude-v1", "index": 0},
    {"type": "reasoning.encrypted", "data": "abc", "id": None, "format": "google-gemini-v1", "index": 1},
]  # fmt: skip
MESSAGE: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {**call("add", {"a": 1, "b": 2}), "extra_content": SIGNED},
        call("add", {"a": 3, "b": 4}, "call_2"),
    ],
    "reasoning_details": DETAILS,
    "annotations": [],
    "audio": None,
    "refusal": None,
}
MESSAGE["tool_calls"][1]["function"]["cache_control"] = {"type": "ephemeral"}


def body(message: Any, finish: str = "tool_calls") -> bytes:
    return json.dumps(
        {"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}
    ).encode()


def stream() -> list[Any]:
    """MESSAGE as a provider streams it."""
    first, second = MESSAGE["tool_calls"]
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": None},
        {"reasoning_details": [{"type": "reasoning.text", "text": "Let me ", "format": "anthropic-claude-v1", "index": 0}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "see.", "format": "anthropic-claude-v1", "index": 0}]},
        {"reasoning_details": [{"type": "reasoning.text", "signature": "sig", "format": "anthropic-claude-v1", "index": 0}]},
        {"reasoning_details": [DETAILS[1]]},
        {"tool_calls": [{**first, "index": 0}]},
        {"tool_calls": [{"index": 1, **second, "function": {**second["function"], "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": second["function"]["arguments"]}}]},
    ]  # fmt: skip
    chunks = [
        {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
    ]
    return [*chunks, {"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}]


@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


def sent(message: dict[str, Any]) -> dict[str, Any]:
    """The non-empty fields of a message as sent back."""
    return {key: value for key, value in message.items() if value not in (None, []) or key == "content"}


@pytest.fixture
def elsewhere() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_the_provider_added_goes_back_to_it(streamed: bool, server: OpenAIServer) -> None:
    store = MemoryLog()
    backend = OpenAIBackend(server.url)

    async def program() -> str:
        async with arecord("work", store=store):
            agent = Agent("a", backend, tools=[add])
            follow = (lambda call, delta: None) if streamed else None
            return (await agent.acall("x", follow=follow)).content

    server.say(**({"chunks": stream()} if streamed else {"raw": body(MESSAGE)}))
    server.say("done")
    assert await program() == "done"
    assert server.requests[0].json.get("stream", False) is streamed
    assert server.requests[1].json["messages"][1] == sent(MESSAGE)
    # it is in the log, and the log replays
    session = store.sessions()[0].id
    (replied, _) = [e["data"]["message"] for e in views.load(store, session) if e["kind"] == ev.MODEL_REPLIED]
    assert replied == {**sent(MESSAGE), "extra_from": server.url}
    assert replay_session(session, store=store, entry=program).verified


async def test_whole_and_streamed_are_the_same(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say(raw=body(MESSAGE))
    server.say(chunks=stream())
    whole = await reply(backend, ask(tools=(ADD,)))
    assert await reply(backend, ask(tools=(ADD,), stream=True)) == whole
    assert (whole.extra, whole.extra_from) == ({"reasoning_details": DETAILS}, server.url)
    assert whole.tool_calls[0].extra == {"extra_content": SIGNED}
    assert whole.tool_calls[1].extra == {"function": {"cache_control": {"type": "ephemeral"}}}


async def test_another_provider_does_not_get_it(server: OpenAIServer, elsewhere: OpenAIServer) -> None:
    dialog = Dialog()
    server.say(raw=body(MESSAGE))
    server.say("one")
    elsewhere.say("two")
    server.say("three")
    agent = Agent("a", OpenAIBackend(server.url), tools=[add])
    other = Agent("b", OpenAIBackend(elsewhere.url), tools=[add])
    dialog.append("x")
    await agent.acall(dialog)
    await other.acall(dialog.append("and?"))
    await agent.acall(dialog.append("and?"))
    plain = {key: MESSAGE[key] for key in ("role", "content")}
    plain["tool_calls"] = [call("add", {"a": 1, "b": 2}), call("add", {"a": 3, "b": 4}, "call_2")]
    assert elsewhere.requests[0].json["messages"][1] == plain
    assert server.requests[-1].json["messages"][1] == sent(MESSAGE)  # its own come back to it


@pytest.mark.parametrize(
    ("first", "answered", "then", "goes"),
    [
        ("gemini-3-pro", None, "gemini-3-flash", True),  # without its signature a tool call is refused
        ("gemini-3-pro", None, "models/gemini-2.5-flash", True),
        ("gemini-3-flash", None, "gemma-4-31b-it", False),  # which refuses a signature
        ("anthropic/claude-sonnet-4-5", None, "google/gemini-3-flash", False),
        ("gpt-5", "gpt-5-2025-08-07", "o3-mini", True),
        ("smart", "gemini-3-pro", "smart", True),  # an alias stands for the same model as before
        ("smart", "gemini-3-pro", "claude-opus", False),
        ("smart", "gemini-3-pro", "fast", True),  # nobody knows what it stands for
        ("smart", None, "claude-opus", True),
        ("gpt-4o", "gemini-3-pro", "gpt-4o", True),  # a gateway that maps names
    ],
)
@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_another_family_at_the_same_root_does_not_get_it(
    server: OpenAIServer, api: Any, first: str, answered: str | None, then: str, goes: bool
) -> None:
    backend = OpenAIBackend(server.url, api=api)
    if api == "chat":
        got = json.loads(body(MESSAGE)) | ({"model": answered} if answered else {})
        server.say(raw=json.dumps(got).encode())
        server.say("done")
    else:
        item = {"type": "function_call", "call_id": "c", "name": "add", "arguments": '{"a": 1, "b": 2}'}
        output = [{"type": "reasoning", "summary": [], "encrypted_content": "secret", "id": "r"}, item]
        got = {"object": "response", "status": "completed", "output": output, "model": answered or first}
        server.say(raw=json.dumps(got).encode())
        done = {"type": "message", "content": [{"type": "output_text", "text": "done"}]}
        server.say(raw=json.dumps({**got, "output": [done]}).encode())
    made = await reply(backend, ask(model=first, tools=(ADD,)))
    answers = tuple(Message("tool", "3", tool_call_id=one.id) for one in made.tool_calls)
    dialog = (user("x"), made.message(), *answers)
    await reply(backend, ask(model=then, messages=dialog, tools=(ADD,)))
    told = json.dumps(server.requests[-1].json)
    assert [word in told for word in ("thought_signature", "encrypted_content")] == [
        goes and api == "chat", goes and api == "responses"
    ]  # fmt: skip


async def test_what_older_versions_wrote_goes_back_to_the_root(server: OpenAIServer) -> None:
    server.say("done")
    made = Message("assistant", "x", extra={"reasoning_details": DETAILS}, extra_from=server.url)
    await reply(OpenAIBackend(server.url), ask(model="gemini-3-pro", messages=(user("x"), made, user("y"))))
    assert server.requests[-1].json["messages"][1]["reasoning_details"] == DETAILS


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("google/gemini-3-pro", "gemini"), ("gemma-4-31b-it", "gemma"), ("o4-mini", "gpt"), ("chatgpt-4o-latest", "gpt"),
        ("us.anthropic.claude-3", "claude"), ("Qwen3-8B", "qwen"), ("kimi-k2", "kimi"), ("moonshot-v1", "kimi"), ("m", None),
        ("auto", None), ("supernova", None), ("foo3", None), ("", None), (None, None), ("llamafile", None),
    ],
)  # fmt: skip
def test_the_family_of_a_name(name: str | None, found: str | None) -> None:
    assert family(name) == found


async def test_a_fork_to_another_model_leaves_it_out(server: OpenAIServer, elsewhere: OpenAIServer) -> None:
    store = MemoryLog()
    where = [server.url]

    async def program() -> str:
        async with arecord("work", store=store):
            return (await Agent("a", OpenAIBackend(where[0]), tools=[add]).acall("x")).content

    server.say(raw=body(MESSAGE))
    server.say("done")
    await program()
    session = store.sessions()[0].id
    asked = [event["seq"] for event in views.load(store, session) if event["kind"] == ev.MODEL_REQUESTED]
    where[0] = elsewhere.url
    elsewhere.say("forked")
    done = fork_session(session, at=asked[1], store=store, entry=program)
    assert done.result == "forked"
    assert "reasoning_details" not in json.dumps(elsewhere.requests[0].json)
    assert "extra_content" not in json.dumps(elsewhere.requests[0].json)


async def test_a_resumed_call_sends_it_back(server: OpenAIServer) -> None:
    store = MemoryLog()
    backend = OpenAIBackend(server.url)

    def program(log: MemoryLog) -> Any:
        async def main() -> str:
            async with arecord("work", store=log):
                return (await Agent("a", backend, tools=[add]).acall("x")).content

        return main

    server.say(raw=body(MESSAGE))
    server.say("done")
    await program(store)()
    session = store.sessions()[0].id
    returned = [event["seq"] for event in views.load(store, session) if event["kind"] == ev.TOOL_RETURNED]
    died = cut(store, session, returned[-1] + 1)
    server.say("resumed")
    assert resume_session(session, store=died, entry=program(died)).result == "resumed"
    assert server.requests[-1].json == server.requests[1].json
    assert server.requests[-1].json["messages"][1] == sent(MESSAGE)


async def test_a_saved_dialog_keeps_it(server: OpenAIServer, elsewhere: OpenAIServer, tmp_path: Path) -> None:
    server.say(raw=body(MESSAGE))
    server.say("done")
    agent = Agent("a", OpenAIBackend(server.url), tools=[add])
    dialog = Dialog()
    dialog.append("x")
    await agent.acall(dialog)
    dialog.save(tmp_path / "dialog.json")
    again = Dialog.load(tmp_path / "dialog.json")
    assert again.messages == dialog.messages
    server.say("more")
    await agent.acall(again.append("and?"))
    assert server.requests[-1].json["messages"][1] == sent(MESSAGE)


async def test_what_the_caller_wrote_is_sent_to_everybody(
    server: OpenAIServer, elsewhere: OpenAIServer
) -> None:
    messages = [
        {"role": "user", "content": "x", "cache_control": {"type": "ephemeral"}, "name": None, "note": ""}
    ]
    for here in (server, elsewhere):
        here.say("ok")
        await LLM(OpenAIBackend(here.url)).acall(messages)
        assert here.requests[0].json["messages"] == [
            {"role": "user", "content": "x", "cache_control": {"type": "ephemeral"}}
        ]


async def test_thinking_goes_along_where_it_is_wanted(server: OpenAIServer) -> None:
    server.say(raw=body({**MESSAGE, "reasoning_content": "Let me see."}))
    server.say("done")
    await Agent("a", OpenAIBackend(server.url, echo_thinking=True), tools=[add]).acall("x")
    assert server.requests[1].json["messages"][1] == {**sent(MESSAGE), "reasoning_content": "Let me see."}


async def test_a_local_engine_is_not_told(server: OpenAIServer) -> None:
    server.say(raw=body(MESSAGE))
    got = await reply(OpenAIBackend(server.url), ask(tools=(ADD,)))
    assert set(got.message().to_dict()) == {"role", "content", "tool_calls"}


@pytest.mark.parametrize("deep", [40, 5000])
async def test_a_key_that_is_too_deep_is_dropped(
    deep: int, server: OpenAIServer, backend: OpenAIBackend
) -> None:
    nested = '{"a":' * deep + "1" + "}" * deep
    text = body({**MESSAGE, "good": 1}).decode().replace('"good": 1', f'"good": 1, "bad": {nested}')
    server.say(raw=text.encode())
    if deep > 1000:
        with pytest.raises(Exception, match="not JSON"):
            await reply(backend, ask(tools=(ADD,)))
        return
    got = await reply(backend, ask(tools=(ADD,)))
    assert got.extra == {"reasoning_details": DETAILS, "good": 1}


def test_sound_is_sent_back_by_its_id() -> None:
    audio = {"id": "audio_1", "data": "AAAA", "transcript": "Hi.", "expires_at": 5}
    assert returned({"audio": audio, "executed_tools": [1], "prefix": False}) == {
        "audio": {"id": "audio_1"},
        "prefix": False,
    }
    assert returned({"audio": {"data": "AAAA"}}) == {}


MERGED: list[tuple[list[Any], Any]] = [
    ([{"a": "x"}, {"a": "x"}], {"a": "x"}),
    ([{"thought_signature": "abc"}, {"thought_signature": ""}], {"thought_signature": "abc"}),
    ([{"x": {"text": "He"}}, {"x": {"text": "llo"}}], {"x": {"text": "Hello"}}),
    ([{"audio": {"id": "a"}}, {"audio": {"data": "AA"}}, {"audio": {"data": "BB", "expires_at": 1}}],
     {"audio": {"id": "a", "data": "AABB", "expires_at": 1}}),
    ([{"thinking_blocks": [{"type": "thinking", "thinking": "a", "signature": None}]},
      {"thinking_blocks": [{"type": "thinking", "thinking": "b"}]},
      {"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "s"}]},
      {"thinking_blocks": [{"type": "thinking", "thinking": "c"}]}],
     {"thinking_blocks": [{"type": "thinking", "thinking": "ab", "signature": "s"}, {"type": "thinking", "thinking": "c"}]}),
    ([{"annotations": [{"type": "url", "url": "a"}]}, {"annotations": [{"type": "url", "url": "b"}]}],
     {"annotations": [{"type": "url", "url": "a"}, {"type": "url", "url": "b"}]}),
    ([{"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "Let me think about"}]},
      {"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "Let me think about it."}]}],
     {"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "Let me think about it."}]}),
    ([{"a": 1}, {"a": 2}, {"a": [1]}, {"a": [2]}, {"a": {"b": None}}], {"a": {"b": None}}),
]  # fmt: skip


@pytest.mark.parametrize(("pieces", "whole"), MERGED)
def test_pieces_are_put_together(pieces: list[Any], whole: Any) -> None:
    into: dict[str, Any] = {}
    for piece in pieces:
        merge(into, json.loads(json.dumps(piece)))
    assert into == whole


# --- ids that others refuse

LONG = "call_" + "x" * 200


async def test_an_id_that_others_refuse_goes_back_to_its_provider_alone(
    server: OpenAIServer, elsewhere: OpenAIServer
) -> None:
    calls = [call("add", {"a": 1, "b": 2}, LONG), call("add", {"a": 3, "b": 4}, "functions.add:1")]
    server.say(raw=body({"role": "assistant", "content": None, "tool_calls": calls}))
    server.say("one")
    elsewhere.say("two")
    dialog = Dialog()
    dialog.append("x")
    await Agent("a", OpenAIBackend(server.url), tools=[add]).acall(dialog)
    await Agent("b", OpenAIBackend(elsewhere.url), tools=[add]).acall(dialog.append("and?"))
    own = server.requests[1].json["messages"]
    assert [made["id"] for made in own[1]["tool_calls"]] == [LONG, "functions.add:1"]
    assert [message["tool_call_id"] for message in own[2:4]] == [LONG, "functions.add:1"]
    theirs = elsewhere.requests[0].json["messages"]
    ids = [made["id"] for made in theirs[1]["tool_calls"]]
    assert ids == [message["tool_call_id"] for message in theirs[2:4]]
    assert all(len(name) <= 40 and name.replace("_", "").isalnum() for name in ids)
    assert len(set(ids)) == 2
    assert [made.id for made in dialog.messages[1].tool_calls] == [LONG, "functions.add:1"]  # as they came


def test_an_id_that_comes_again_means_the_later_call() -> None:
    def turn(place: str | None) -> list[Message]:
        made = Message("assistant", "", tool_calls=(FunctionCall("a.b", "f"),), extra_from=place)
        return [made, Message("tool", "1", tool_call_id="a.b")]

    renamed = Renamed("http://here")
    theirs, answer, own, mine = [
        renamed.message(message) for message in (*turn("http://there"), *turn("http://here"))
    ]
    assert theirs.tool_calls[0].id == answer.tool_call_id != "a.b"
    assert own.tool_calls[0].id == mine.tool_call_id == "a.b"
    assert Renamed(None).message(user("x")) == user("x")


async def test_a_plain_reply_says_nothing_of_its_provider(
    server: OpenAIServer, backend: OpenAIBackend
) -> None:
    server.scripts.append(Script("Yes.", tool_calls=[call("add", {"a": 1})]))
    got = await reply(backend, ask(tools=(ADD,)))
    assert (got.extra, got.extra_from) == (None, None)
    assert isinstance(got, Reply)
    assert set(got.record()["message"]) == {"role", "content", "tool_calls"}
