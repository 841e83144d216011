"""F10, T13, T25, T30: a stream and a call say the same; what a stream can be used as."""

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lllm import LLM, Agent, FunctionCall, Reply, ScriptedBackend
from lllm.deltas import aggregate
from lllm.errors import ConfigError, ProviderFailed, RepairExhausted, ServerError, StreamInterrupted
from lllm.llm.streaming import Stream
from lllm.models.reply import Usage
from lllm.ports import Completed, Delta, Request, Restart, TextDelta, ThinkingDelta, ToolCallDelta

ADD = FunctionCall("call_1", "add", '{"a":1,"b":2}')
FORM = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
DOWN = ServerError("down", status=500)

# replies of the model, and settings of the call
SCRIPTS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "text": (["to be or not to be"], {}),
    "a letter": (["a"], {}),
    "nothing": ([""], {}),
    "blanks": (["  \n a \n "], {}),
    "not Latin": (["naïve 日本語 \U0001f600 text"], {}),
    "lines": (["one\r\ntwo\n\nthree\n"], {}),
    "thinking": ([{"content": "yes", "thinking": "hm, let me see"}], {}),
    "only thinking": ([{"content": "", "thinking": "hm"}], {}),
    "a call": ([ADD], {}),
    "two calls": ([[ADD, FunctionCall("call_2", "add", "{}")]], {}),
    "text and a call": ([{"content": "I add.", "tool_calls": [ADD]}], {}),
    "all three": ([{"content": "I add.", "thinking": "hm", "tool_calls": [ADD]}], {}),
    "cut off": ([{"content": "to be or", "finish_reason": "length"}], {}),
    "filtered": ([{"content": "", "finish_reason": "content_filter"}], {}),
    "refused": ([{"content": "", "refusal": "I will not."}], {}),
    "usage": ([{"content": "yes", "usage": Usage(3, 4, 1, 2)}], {}),
    "log-probabilities": ([{"content": "yes", "logprobs": [{"token": "yes", "logprob": -1.0}]}], {}),
    "token ids": ([{"content": "yes", "token_ids": [1, 2], "prompt_token_ids": [3]}], {}),
    "raw": ([{"content": "yes", "thinking": "hm", "raw": "<think>hm</think>yes"}], {}),
    "a form": (['{"n": 1}'], {"format": FORM}),
    "a form at the second try": (['{"n": "one"}', '{"n": 1}'], {"format": FORM}),
    "a fault first": ([DOWN, "to be"], {"backoff_base": 0}),
    "a fault in between": (
        [[TextDelta("to be"), Completed(Reply("to be"))], "not read"],
        {},
    ),
    "its own pieces": ([[ThinkingDelta("h"), TextDelta("to "), ThinkingDelta("m"), TextDelta("be")]], {}),
}


def plain(reply: Reply) -> Reply:
    return reply.with_(session=None, call=None)


def llm_of(items: list[Any], **more: Any) -> LLM:
    return LLM(ScriptedBackend(items, chunk=3, model="m"), **more)


@pytest.mark.parametrize("name", SCRIPTS)
async def test_the_reply_is_the_same_both_ways(name: str) -> None:
    items, more = SCRIPTS[name]
    whole = await llm_of(items).acall("x", **more)
    stream = llm_of(items).astream("x", **more)
    deltas: list[Delta] = [delta async for delta in stream]
    assert stream.reply is not None
    assert plain(stream.reply) == plain(whole)
    assert deltas[-1] == Completed(stream.reply)
    kept = deltas[max([at + 1 for at, delta in enumerate(deltas) if type(delta) is Restart], default=0) :]
    assert "".join(delta.text for delta in kept if type(delta) is TextDelta) == whole.content
    assert "".join(delta.text for delta in kept if type(delta) is ThinkingDelta) == (whole.thinking or "")
    assert {type(delta) for delta in deltas} <= {
        TextDelta, ThinkingDelta, ToolCallDelta, Restart, Completed
    }  # fmt: skip
    # what the pieces add up to, without their end
    parts = aggregate(deltas[:-1])
    assert (parts.content, parts.thinking, parts.tool_calls) == (
        whole.content,
        whole.thinking,
        whole.tool_calls,
    )
    assert aggregate(deltas) == stream.reply


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != "a form at the second try"])
def test_the_text_is_the_same_in_blocking_code(name: str) -> None:
    items, more = SCRIPTS[name]
    whole = llm_of(items)("x", **more)
    stream = llm_of(items)("x", stream=True, **more)
    pieces = list(stream.text())
    assert all(type(piece) is str for piece in pieces)
    assert "".join(pieces) == whole.content
    assert plain(stream.reply) == plain(whole)
    assert plain(llm_of(items).stream("x", **more).collect()) == plain(whole)


async def test_an_agent_streams_the_same_way(tmp_path: Path) -> None:
    agent = Agent("a", ScriptedBackend(lambda request: "to be or not", chunk=3), "Be brief.")
    assert [piece async for piece in agent.astream("x").text()] == ["to ", "be ", "or ", "not"]
    reply = await agent.astream("x", temperature=0).ato_file(tmp_path / "said.txt")
    assert str(reply) == (tmp_path / "said.txt").read_text() == "to be or not"


async def test_the_text_is_an_async_iterator_too() -> None:
    stream = llm_of(["to be or not"]).astream("x")
    assert [piece async for piece in stream.text()] == ["to ", "be ", "or ", "not"]
    assert str(stream.reply) == "to be or not"
    assert str(await llm_of(["to be"]).astream("x").acollect()) == "to be"


def test_what_was_restarted_does_not_count() -> None:
    call = [
        ToolCallDelta(0, "c", "add", '{"a"'),
        ToolCallDelta(1, "d", "sub", "{}"),
        ToolCallDelta(0, arguments=":1}"),
    ]
    whole = aggregate([TextDelta("no"), ThinkingDelta("no"), Restart("again"), TextDelta("yes"), *call])
    assert (whole.content, whole.thinking, whole.finish_reason, whole.usage) == (
        "yes",
        None,
        "tool_calls",
        None,
    )
    assert whole.tool_calls == (FunctionCall("c", "add", '{"a":1}'), FunctionCall("d", "sub", "{}"))
    assert aggregate([]) == Reply()
    assert str(aggregate(Agent("a", ScriptedBackend(["yes"])).stream("x"))) == "yes"


# --- text is never given twice ------------------------------------------------------------------------------


class Breaking:
    """Breaks off after `before` pieces, the first time."""

    def __init__(self, before: int) -> None:
        self.asked = 0
        self._before = before

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        self.asked += 1
        for number, piece in enumerate(("to ", "be")):
            if self.asked == 1 and number == self._before:
                raise StreamInterrupted("dropped", partial="to ")
            yield TextDelta(piece)
        yield Completed(Reply("to be"))


def test_a_fault_before_the_first_piece_is_not_seen() -> None:
    assert list(LLM(Breaking(0), backoff_base=0)("x", stream=True).text()) == ["to ", "be"]


def test_a_fault_after_it_is_an_error_for_text_and_a_restart_for_deltas() -> None:
    said: list[str] = []
    pieces = LLM(Breaking(1), backoff_base=0)("x", stream=True).text()
    with pytest.raises(StreamInterrupted) as failed:
        said.extend(pieces)
    assert (said, failed.value.partial) == (["to "], "to ")
    kinds = [type(delta) for delta in LLM(Breaking(1), backoff_base=0)("x", stream=True)]
    assert kinds == [TextDelta, Restart, TextDelta, TextDelta, Completed]


# --- closing early stops the model --------------------------------------------------------------------------


class Endless:
    """Never ends; says when it was stopped."""

    def __init__(self) -> None:
        self.asked = self.closed = 0

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        self.asked += 1
        try:
            while True:
                yield TextDelta("more ")
                await asyncio.sleep(0)
        finally:
            self.closed += 1

    async def aclose(self) -> None:
        """Nothing is open."""


async def _with(stream: Stream) -> None:
    async with stream:
        await anext(stream)


async def _aclose(stream: Stream) -> None:
    await anext(stream)
    await stream.aclose()
    await stream.aclose()


async def _text(stream: Stream) -> None:
    text = stream.text()
    assert await anext(text) == "more "
    await text.aclose()


@pytest.mark.parametrize("leave", [_with, _aclose, _text])
async def test_closed_early(leave: Any) -> None:
    model = Endless()
    stream = LLM(model).astream("x")
    await leave(stream)
    assert (model.asked, model.closed, stream.reply) == (1, 1, None)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_nobody_is_warned_of_what_fails_in_a_stream_that_was_left() -> None:
    """The call had failed when the stream was closed: that error is nobody's any more."""
    warned: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: warned.append(context["message"]))
    stream = LLM(Breaking(1), max_provider_retry=0).astream("x")
    assert await anext(stream) == TextDelta("to ")
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)
    await stream.aclose()
    del stream
    gc.collect()
    await asyncio.sleep(0)
    assert warned == []


def test_left_early_in_blocking_code() -> None:
    model = Endless()
    llm = LLM(model)
    for _ in llm("x", stream=True):
        break
    assert model.closed == 1
    for _ in llm("x", stream=True).text():
        break
    assert model.closed == 2
    with llm("x", stream=True) as stream:
        next(stream)
    assert model.closed == 3
    stream.close()
    assert list(stream) == []
    never = llm("x", stream=True)
    never.close()
    assert (model.asked, model.closed) == (3, 3)
    with pytest.raises(StreamInterrupted, match="has no reply"):
        never.collect()


@pytest.mark.parametrize("given", [["a", "b"], [[{"role": "user", "content": "a"}]]])
def test_a_batch_is_not_streamed(given: Any) -> None:
    for stream in (lambda: LLM(Endless())(given, stream=True), lambda: LLM(Endless()).astream(given)):
        with pytest.raises(ConfigError, match="cannot be streamed"):
            stream()


# --- to a file ----------------------------------------------------------------------------------------------


def test_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "said.txt"
    reply = llm_of([{"content": "naïve\r\n日本語\n", "thinking": "hm"}])("x", stream=True).to_file(path)
    assert path.read_bytes() == "naïve\r\n日本語\n".encode()
    assert reply.thinking == "hm"
    assert os.listdir(path.parent) == ["said.txt"]


async def test_to_a_file_in_async_code(tmp_path: Path) -> None:
    path = tmp_path / "said.txt"
    assert str(await LLM(Breaking(1), backoff_base=0).astream("x").ato_file(path)) == "to be"
    assert path.read_text() == "to be"  # what was restarted is not in it


def test_a_failure_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "said.txt"
    broken = [[TextDelta("half"), TextDelta(" of it")], DOWN]
    llm = LLM(ScriptedBackend(broken), max_provider_retry=0, format=FORM, max_exception_retry=1)
    with pytest.raises(ProviderFailed):
        llm("x", stream=True).to_file(path)
    assert os.listdir(tmp_path) == []
    path.write_text("before")
    with pytest.raises(RepairExhausted):
        llm_of(["half of it"], format=FORM, max_exception_retry=0)("x", stream=True).to_file(path)
    assert (os.listdir(tmp_path), path.read_text()) == (["said.txt"], "before")


CRASH = """
import asyncio, os, sys
from lllm import LLM, NoLog
from lllm.ports import TextDelta

class Crashing:
    async def stream(self, request):
        for number in range(2_000):
            yield TextDelta("half of it ")
            await asyncio.sleep(0)
        os._exit(9)

LLM(Crashing(), store=NoLog())("x", stream=True).to_file(sys.argv[1])
"""


def test_a_crash_in_the_middle_leaves_no_half_file(tmp_path: Path) -> None:
    path = tmp_path / "said.txt"
    path.write_text("before")
    done = subprocess.run([sys.executable, "-c", CRASH, str(path)], check=False, timeout=300)
    assert done.returncode == 9
    assert path.read_text() == "before"
    [left] = [name for name in os.listdir(tmp_path) if name != "said.txt"]
    assert left.startswith(".said.txt.")
    assert (tmp_path / left).stat().st_size > 0  # it was being written
