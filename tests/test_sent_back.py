"""Replies are mended before they are sent back, if the provider would refuse names or arguments. The log keeps the original."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lllm import session_hooks as sessions
from lllm.backends.scripted import ScriptedBackend
from lllm.core import events as ev
from lllm.errors import ProviderError, ProviderFailed
from lllm.llm import LLM
from lllm.llm.agent import Agent
from lllm.llm.sessions import arecord
from lllm.log import views
from lllm.log.memory import MemoryLog
from lllm.models.function import tool
from lllm.models.message import FunctionCall, Message
from lllm.models.prompt import Prompt
from lllm.models.reply import Reply, Usage
from lllm.ports import Capabilities, Completed, Request
from lllm.replay import replay_session


@tool(effect="pure")
def now() -> str:
    """The time."""
    return "noon"


@tool(effect="pure")
def add(a: int, b: int = 1) -> int:
    """Adds."""
    return a + b


async def ran(*replies: Any, **more: Any) -> tuple[ScriptedBackend, Any, MemoryLog]:
    """An agent call with these replies; the log folds and replays."""
    store = MemoryLog()
    backend = ScriptedBackend(list(replies))
    agent = Agent("a", backend, tools=[now, add], **more)

    async def program() -> Any:
        async with arecord("work", store=store):
            return await agent.acall("x")

    reply = await program()
    session = store.sessions()[0].id
    report = replay_session(session, store=store, entry=program)
    assert report.verified, report.divergence
    return backend, reply, store


def recorded_calls(store: MemoryLog) -> list[FunctionCall]:
    events = views.load(store, store.sessions()[0].id)
    replied = [event["data"]["message"] for event in events if event["kind"] == ev.MODEL_REPLIED]
    return [call for message in replied for call in Message.from_record(message).tool_calls]


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("functions.add", "functions_add"),
        ("multi tool", "multi_tool"),
        ("", "unnamed"),
        ("a" * 80, "a" * 64),
        ("größe<|x|>", "gr__e__x__"),
    ],
)
@pytest.mark.parametrize("arguments", ['{"a":1}', "oops"])
async def test_a_name_that_no_provider_takes(name: str, sent: str, arguments: str) -> None:
    backend, reply, store = await ran(FunctionCall("1", name, arguments), "done")
    assert reply.content == "done"
    shown, answer, repair = backend.requests[1].messages[1:]
    assert shown.tool_calls[0].name == sent
    assert shown.tool_calls[0].arguments == ('{"a":1}' if arguments != "oops" else "{}")
    assert f"there is no tool named '{name}'; the tools are: add, now" in answer.text
    assert f"'{name}'" in repair.text
    assert recorded_calls(store) == [FunctionCall("1", name, arguments)]


async def test_a_good_call_beside_it_keeps_its_name() -> None:
    calls = [FunctionCall("1", "add", '{"a":1}'), FunctionCall("2", "functions.add", '{"a":2}')]
    backend, _, _ = await ran(calls, "done")
    assert [call.name for call in backend.requests[1].messages[1].tool_calls] == ["add", "functions_add"]


@pytest.mark.parametrize("arguments", ["", "null", " ", '""', '"{}"', '"null"'])
async def test_no_arguments_are_none(arguments: str) -> None:
    backend, reply, store = await ran(FunctionCall("1", "now", arguments), "done")
    assert [message.text for message in reply.messages] == ["x", "", "noon", "done"]
    # what is sent back is an object; what the model wrote is in the log
    assert backend.requests[1].messages[1].tool_calls[0].arguments == "{}"
    assert recorded_calls(store)[0].arguments == arguments


async def test_arguments_encoded_twice() -> None:
    twice = json.dumps(json.dumps({"a": 2, "b": 3}))
    backend, reply, store = await ran(FunctionCall("1", "add", twice), "done")
    assert reply.messages[2].text == "5"
    assert backend.requests[1].messages[1].tool_calls[0].arguments == '{"a":2,"b":3}'
    assert recorded_calls(store)[0].arguments == twice


@pytest.mark.parametrize("arguments", ["", "null"])
async def test_arguments_that_are_wanted_are_missed(arguments: str) -> None:
    backend, _, _ = await ran(FunctionCall("1", "add", arguments), "done")
    assert "wrong arguments for 'add'" in backend.requests[1].messages[2].text
    assert backend.requests[1].messages[1].tool_calls[0].arguments == "{}"


@pytest.mark.parametrize("depth", [150, 330, 900, 5000, 200_000])
async def test_arguments_nested_deeply_are_repaired(depth: int) -> None:
    deep = '{"a": ' + "[" * depth + "]" * depth + "}"
    backend, reply, store = await ran(FunctionCall("1", "add", deep), "done")
    assert reply.content == "done"
    assert "nested" in backend.requests[1].messages[2].text
    assert backend.requests[1].messages[1].tool_calls[0].arguments == "{}"
    assert views.load(store, store.sessions()[0].id)[-1]["kind"] == ev.SESSION_ENDED


async def test_an_llm_gives_back_what_the_model_wrote() -> None:
    calls = [FunctionCall("1", "functions.add", "oops"), FunctionCall("2", "add", "null")]
    reply = await LLM(ScriptedBackend([calls]), tools=[add]).acall("x")
    assert list(reply.tool_calls) == calls


async def test_keys_of_a_provider_survive_a_repair() -> None:
    signed = FunctionCall(
        "1", "functions.add", "oops", {"extra_content": {"google": {"thought_signature": "s"}}}
    )
    backend, _, _ = await ran(signed, FunctionCall("1", "add", "oops", signed.extra), "done")
    for request in backend.requests[1:]:
        for message in request.messages:
            assert all(call.extra == signed.extra for call in message.tool_calls)


async def test_an_old_log_with_such_calls_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryLog()
    replies = [FunctionCall("1", "functions.add", "{}"), FunctionCall("2", "now", "null"), "done"]
    backend = ScriptedBackend(replies)

    async def program() -> Any:
        async with arecord("work", store=store):
            return await Agent("a", backend, tools=[now]).acall("x")

    with monkeypatch.context() as before:
        before.setattr(sessions, "RULES", 0)
        await program()
    # as it was before: the name goes back as it came, and `null` is no object
    assert backend.requests[1].messages[1].tool_calls[0].name == "functions.add"
    assert "arguments are NoneType, not an object" in backend.requests[2].messages[-2].text
    report = replay_session(store.sessions()[0].id, store=store, entry=program)
    assert report.verified, report.divergence


@pytest.mark.parametrize("ids", [["a", "a", "a"], ["", "", ""], ["x" * 60] * 3, ["y" * 32 + "_3", "z", "y" * 32 + "_3"],
                                 ["a", "a_2", "a"], ["call_2", "", "call_2"]])  # fmt: skip
async def test_ids_are_made_distinct_and_short(ids: list[str]) -> None:
    from lllm.core.replies import with_ids

    made = [
        call.id
        for call in with_ids(Reply(tool_calls=tuple(FunctionCall(id, "now") for id in ids))).tool_calls
    ]
    assert len(set(made)) == 3
    assert all(new == old or len(new) <= 40 for new, old in zip(made, ids, strict=True))
    assert made[0] == (ids[0] or "call_1")


# --- replies nested more deeply than anything can be that is read


def deep(depth: int) -> str:
    return '{"a":' * depth + "{}" + "}" * depth


@pytest.mark.parametrize(
    "schema", [{"type": "object"}, {"type": "object", "additionalProperties": {"$ref": "#"}}]
)
@pytest.mark.parametrize("depth", [101, 330, 500, 900, 1200, 100_000])
async def test_a_structured_reply_nested_deeply_is_repaired(depth: int, schema: Any) -> None:
    backend, reply, _ = await ran(deep(depth), '{"a":{}}', format=schema)
    assert reply.parsed == {"a": {}}
    assert "nested" in backend.requests[1].messages[-1].text


@pytest.mark.parametrize("depth", [101, 330, 900])
async def test_a_payload_nested_deeply_is_logged_as_text(depth: int) -> None:
    store = MemoryLog()
    prompt = Prompt("t/deep", "x", parser=json.loads)

    async def program() -> Any:
        async with arecord("work", store=store):
            return await Agent("a", ScriptedBackend([deep(depth)])).acall(prompt)

    assert (await program()).parsed is not None
    session = store.sessions()[0].id
    (accepted,) = [e["data"] for e in views.load(store, session) if e["kind"] == ev.REPLY_ACCEPTED]
    assert "$repr" in accepted["value"]
    assert replay_session(session, store=store, entry=program).verified


# --- replies that a backend of somebody else made


class Odd:
    """A backend that ends with something."""

    capabilities = Capabilities()

    def __init__(self, *ends: Any) -> None:
        self.ends = list(ends)

    async def stream(self, request: Request) -> Any:
        yield Completed(self.ends.pop(0) if len(self.ends) > 1 else self.ends[0])

    async def aclose(self) -> None: ...


@pytest.mark.parametrize(
    "fields",
    [
        {"content": 5}, {"content": ["x"]}, {"content": {"a": 1}}, {"content": b"x"}, {"tool_calls": 5}, {"tool_calls": ["x"]},
        {"tool_calls": {"a": 1}}, {"refusal": 5}, {"finish_reason": 5}, {"finish_reason": ["stop"]}, {"finish_reason": {}},
        None, "text", {}, 5,
    ],
)  # fmt: skip
async def test_what_is_no_reply_is_a_fault(fields: Any) -> None:
    end = Reply(**({"content": "x"} | fields)) if isinstance(fields, dict) and fields else fields
    store = MemoryLog()
    for stream in (False, True):
        agent = Agent("a", Odd(end), tools=[now], store=store)
        with pytest.raises(ProviderFailed):
            await agent.acall("x", follow=(lambda call, delta: None) if stream else None)
        kinds = [event["kind"] for event in views.load(store, store.sessions()[0].id)]
        assert kinds[-2:] == [ev.CALL_ENDED, ev.SESSION_ENDED]


@pytest.mark.parametrize(
    "fields",
    [
        {"content": None}, {"tool_calls": None}, {"tool_calls": []}, {"finish_reason": None}, {"finish_reason": ""},
        {"model": 5},
        {"id": []}, {"usage": 5}, {"usage": {"prompt": 1}}, {"usage": Usage(None, "x")}, {"usage": Usage(-1, 5)},
        {"usage": Usage(1, 1, 0.5)}, {"logprobs": 5}, {"logprobs": [{"token": b"x"}]}, {"logprobs": [float("nan")]},
        {"logprobs": ["x"]}, {"logprobs": [{"tok": 1}]}, {"logprobs": [{"token": "x", "logprob": "-1"}]},
        {"logprobs": [{"token": "x", "logprob": -1, "top": [1]}]}, {"logprobs": [{"token": "x", "logprob": -1, "top": 1}]},
        {"token_ids": [1.5]}, {"token_ids": [-1]}, {"prompt_token_ids": [True]},
        {"token_ids": "x"}, {"token_ids": {1: 2}}, {"extra": 5}, {"extra": {"x": object()}}, {"extra": {1: 2}},
        {"extra": {"x": float("inf")}}, {"thinking": 5}, {"raw": 5}, {"enforced": 5}, {"extra_from": 5},
    ],
)  # fmt: skip
async def test_what_is_said_about_a_reply_costs_nothing(fields: dict[str, Any]) -> None:
    store = MemoryLog()
    agent = Agent("a", Odd(Reply(**({"content": "x"} | fields))), store=store)
    reply = await agent.acall("x")
    assert reply.content == ("x" if "content" not in fields else "")
    views.load(store, store.sessions()[0].id)


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "429"}, {"status": True}, {"status": 429.5}, {"body": b"x"}, {"body": {"error": "x"}},
        {"retry_after": "5"}, {"retry_after": float("nan")}, {"retry_after": float("inf")}, {"partial": None},
        {"partial": ["x"]},
    ],
)  # fmt: skip
async def test_a_fault_says_what_fits_its_record(fields: dict[str, Any]) -> None:
    store = MemoryLog()
    agent = Agent("a", ScriptedBackend([ProviderError("odd", **fields)]), store=store)
    with pytest.raises(ProviderFailed, match="odd"):
        await agent.acall("x")
    (failed,) = [
        event["data"]
        for event in views.load(store, store.sessions()[0].id)
        if event["kind"] == ev.MODEL_FAILED
    ]
    assert (failed["error"], failed["message"]) == ("ProviderError", "odd")
    assert not failed.keys() & fields.keys()
