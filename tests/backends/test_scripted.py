"""The scripted backend: every kind of item, and what a test may ask of it."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from lllm import LLM
from lllm.backends.scripted import ScriptedBackend
from lllm.errors import (
    ConfigError,
    LLMError,
    LLMInferenceError,
    ProviderError,
    RateLimitError,
    UnknownKeyError,
)
from lllm.models.message import FunctionCall, user
from lllm.models.reply import Reply, Usage
from lllm.ports import Backend, Completed, Delta, Request, TextDelta, ThinkingDelta, ToolCallDelta
from tests.backends.helpers import ask, collect, joined, reply

CALL = FunctionCall("c1", "add", '{"a":1}')


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("Hello.", Reply("Hello.", usage=Usage(1, 2), model="test-model")),
        ("", Reply("", usage=Usage(1, 0), model="test-model")),
        (Reply("x", usage=Usage(5, 6)), Reply("x", usage=Usage(5, 6))),
        (Reply("xxxxx"), Reply("xxxxx", usage=Usage(1, 2))),
        (CALL, Reply(tool_calls=(CALL,), finish_reason="tool_calls", usage=Usage(1, 3), model="test-model")),
        (
            [CALL, FunctionCall("", "now", "{}")],
            Reply(
                tool_calls=(CALL, FunctionCall("call_1_2", "now", "{}")),
                finish_reason="tool_calls",
                usage=Usage(1, 4),
                model="test-model",
            ),
        ),
        (
            {"content": "x", "thinking": "hm", "tool_calls": [{"name": "add", "arguments": {"a": 1}}]},
            Reply(
                "x",
                thinking="hm",
                tool_calls=(FunctionCall("call_1_1", "add", '{"a":1}'),),
                finish_reason="tool_calls",
                usage=Usage(1, 4),
                model="test-model",
            ),
        ),
        (
            {
                "content": "x",
                "finish_reason": "length",
                "usage": {"prompt": 9, "completion": 8},
                "model": "m",
            },
            Reply("x", finish_reason="length", usage=Usage(9, 8), model="m"),
        ),
        (
            {"refusal": "no", "usage": Usage(1, 1), "logprobs": [{"token": "x", "logprob": -1.0, "top": []}]},
            Reply(
                refusal="no",
                usage=Usage(1, 1),
                model="test-model",
                logprobs=[{"token": "x", "logprob": -1.0, "top": []}],
            ),
        ),
    ],
)
async def test_every_kind_of_item(item: Any, expected: Reply) -> None:
    assert await reply(ScriptedBackend([item]), ask()) == expected
    assert await reply(ScriptedBackend([item]), ask(stream=True)) == expected
    assert await reply(ScriptedBackend(lambda _: item), ask()) == expected


async def test_a_wire_call_is_read_too() -> None:
    item = {"tool_calls": [{"id": "x", "type": "function", "function": {"name": "add", "arguments": "{}"}}]}
    assert (await reply(ScriptedBackend([item]), ask())).tool_calls == (FunctionCall("x", "add", "{}"),)


async def test_an_exception_is_raised_every_time_as_new() -> None:
    error = RateLimitError("slow down", retry_after=1.0)
    backend = ScriptedBackend([error, error])
    for _ in range(2):
        with pytest.raises(RateLimitError) as caught:
            await reply(backend, ask())
        assert caught.value is error
        assert error.__context__ is None


async def test_deltas_are_streamed_as_they_are() -> None:
    deltas: list[Delta] = [
        ThinkingDelta("hm"),
        TextDelta("Hel"),
        TextDelta("lo."),
        ToolCallDelta(0, "c1", "add", '{"a"'),
        ToolCallDelta(0, arguments=":1}"),
    ]
    got = await collect(ScriptedBackend([deltas]), ask(stream=True))
    assert got[:-1] == deltas
    assert isinstance(got[-1], Completed)
    whole = got[-1].reply
    assert (whole.content, whole.thinking, whole.tool_calls) == ("Hello.", "hm", (CALL,))
    assert await reply(ScriptedBackend([deltas]), ask()) == whole
    ended = [*deltas, Completed(Reply("other", usage=Usage(1, 1)))]
    assert (await reply(ScriptedBackend([ended]), ask(stream=True))).content == "other"


@pytest.mark.parametrize("chunk", [None, 1, 2, 100])
async def test_pieces_add_up(chunk: int | None) -> None:
    item = {"content": "Hello.", "thinking": "Let me see.", "tool_calls": [CALL, {"name": "now"}]}
    deltas = await collect(ScriptedBackend([item], chunk=chunk), ask(stream=True))
    calls = [CALL, FunctionCall("call_1_2", "now", "{}")]
    assert joined(deltas) == ("Hello.", "Let me see.", calls)
    if chunk:
        assert all(len(delta.text) <= chunk for delta in deltas if isinstance(delta, TextDelta))


async def test_requests_are_kept() -> None:
    backend = ScriptedBackend(["a", "b"])
    first, second = ask("1"), ask("2", stream=True)
    await reply(backend, first)
    await reply(backend, second)
    assert backend.requests == [first, second]
    assert backend.requests[0] is first
    assert backend.remaining == 0


async def test_running_out_says_how_many_there_were() -> None:
    backend = ScriptedBackend(["a"])
    await reply(backend, ask())
    with pytest.raises(LLMInferenceError, match=r"has 1 replies, and reply 2 was asked for"):
        await reply(backend, ask())
    with pytest.raises(LLMInferenceError, match="has 0 replies"):
        await reply(ScriptedBackend(), ask())


async def test_a_function_may_be_async_and_see_the_request() -> None:
    async def answer(request: Request) -> str:
        await asyncio.sleep(0)
        return request.messages[-1].text.upper()

    assert (await reply(ScriptedBackend(answer), ask("hi"))).content == "HI"


@pytest.mark.parametrize("item", [3, None, [], [3], object(), [TextDelta("a"), "b"], [TextDelta("a"), None]])
async def test_an_item_that_is_none(item: Any) -> None:
    with pytest.raises(ConfigError, match="scripted reply 1"):
        await reply(ScriptedBackend([item]), ask())


async def test_a_mistyped_key() -> None:
    with pytest.raises(UnknownKeyError, match="Did you mean 'content'"):
        await reply(ScriptedBackend([{"contents": "x"}]), ask())


@pytest.mark.parametrize("replies", ["Hello.", {"content": "x"}, Reply("x")])
def test_one_reply_is_not_a_list(replies: Any) -> None:
    with pytest.raises(ConfigError, match="not a list"):
        ScriptedBackend(replies)


async def test_delay() -> None:
    started = time.monotonic()
    await reply(ScriptedBackend(["x"], delay=0.05), ask())
    await reply(ScriptedBackend([{"content": "x", "delay": 0.05}]), ask())
    assert 0.1 <= time.monotonic() - started < 60


async def test_a_call_can_be_cancelled_while_it_waits() -> None:
    task = asyncio.ensure_future(reply(ScriptedBackend(["x"], delay=5), ask()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_threads_share_one_script() -> None:
    texts = [str(number) for number in range(200)]
    backend = ScriptedBackend(texts)
    got: list[str] = []

    async def calls() -> None:
        for _ in range(50):
            got.append((await reply(backend, ask())).content)  # noqa: PERF401 - a list per thread would hide a mix-up

    threads = [threading.Thread(target=lambda: asyncio.run(calls())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert sorted(got, key=int) == texts
    assert len(backend.requests) == 200


async def test_usage_counts_the_dialog() -> None:
    got = await reply(ScriptedBackend(["x" * 10]), ask(messages=(user("a" * 4), user("b" * 5))))
    assert got.usage == Usage(3, 3)


def test_it_is_a_backend() -> None:
    backend = ScriptedBackend(["x"])
    assert isinstance(backend, Backend)
    assert repr(backend) == "ScriptedBackend(1 replies, 0 asked for)"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_exception_among_deltas_breaks_the_reply_off(stream: bool) -> None:
    backend = ScriptedBackend(
        [[TextDelta("half"), ProviderError("gone"), TextDelta(" more")], [ProviderError("x")], "ok"]
    )
    got: list[object] = []
    for said in ("gone", "x"):
        stream_of = backend.stream(ask(stream=stream))
        with pytest.raises(ProviderError, match=said):  # noqa: PT012 - it raises in the middle
            async for delta in stream_of:
                got.append(delta)  # noqa: PERF401
    assert got == ([TextDelta("half")] if stream else [])
    assert (await reply(backend, ask())).content == "ok"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("item", [ProviderError, [ProviderError], [TextDelta("half"), ProviderError]])
async def test_a_class_of_exceptions_is_raised_too(item: Any, stream: bool) -> None:
    with pytest.raises(ProviderError):
        await reply(ScriptedBackend([item]), ask(stream=stream))


def test_a_file_is_not_left_half_written(tmp_path: Path) -> None:
    backend = ScriptedBackend([[TextDelta("half"), ProviderError("gone")]])
    target = tmp_path / "out.txt"
    target.write_text("as before")
    with pytest.raises(LLMError, match="gone"):
        LLM(backend).stream("x").to_file(target)
    assert target.read_text() == "as before"
    assert list(tmp_path.iterdir()) == [target]
