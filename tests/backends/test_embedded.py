"""The embedded model: real weights, real inference."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lllm import Agent, LLMError, MemoryLog, record, replay_session
from lllm.backends.embedded import WEIGHTS, EmbeddedBackend
from lllm.errors import (
    BadRequestError,
    ConfigError,
    ContextLengthError,
    DependencyError,
    ProviderError,
    ProviderTimeout,
    UnknownKeyError,
    UnsupportedError,
)
from lllm.models.message import Message
from lllm.ports import Completed, Request, TextDelta
from tests.backends.helpers import ask, at_some_pace, collect, joined, limits, reply

ROOT = Path(__file__).parents[2]
QUESTION = "What is 17 times 23?"
CALCULATE: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "calculate",
        "description": "Evaluates an arithmetic expression.",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string"}},
            "required": ["expression"],
        },
    },
}
ENDLESS: dict[str, Any] = {
    "format": {"name": "long", "schema": {"type": "array", "items": {"type": "integer"}, "minItems": 400}},
    "sampling": {"max_tokens": 900},
}
"""Makes it write several hundred tokens, whatever the weights."""


def calculate(expression: str) -> int:
    """Evaluates an arithmetic expression."""
    assert expression == "17 * 23"
    return 17 * 23


@pytest.fixture
async def backend() -> AsyncIterator[EmbeddedBackend]:
    backend = EmbeddedBackend()
    yield backend
    await backend.aclose()


def test_the_weights_are_in_the_package_and_small() -> None:
    assert WEIGHTS.is_file()
    assert sum(file.stat().st_size for file in WEIGHTS.parent.iterdir()) < 8_000_000


# --- what it is for


async def test_a_tool_call_and_the_answer_after_its_result(backend: EmbeddedBackend) -> None:
    first = await reply(backend, ask(QUESTION, tools=(CALCULATE,)))
    (call,) = first.tool_calls
    assert (call.name, call.parsed()) == ("calculate", {"expression": "17 * 23"})
    assert (first.content, first.finish_reason, first.model) == ("", "tool_calls", "embedded")
    assert first.usage is not None
    assert first.usage.prompt > 20
    assert first.usage.completion > 5
    dialog = (
        Message("user", QUESTION),
        Message("assistant", "", tool_calls=first.tool_calls),
        Message("tool", "391", tool_call_id=call.id, name="calculate"),
    )
    second = await reply(backend, ask(messages=dialog, tools=(CALCULATE,)))
    assert "391" in second.content
    assert (second.tool_calls, second.finish_reason) == ((), "stop")


@pytest.mark.parametrize("stream", [False, True])
async def test_greedy_says_the_same_again(stream: bool, backend: EmbeddedBackend) -> None:
    request = ask(QUESTION, tools=(CALCULATE,), stream=stream)
    first, second = [await reply(backend, request) for _ in range(2)]
    assert first.tool_calls == second.tool_calls  # ids as well
    assert first.content == second.content
    other = EmbeddedBackend()
    assert (await reply(other, request)).tool_calls == first.tool_calls


@pytest.mark.parametrize("tools", [(), (CALCULATE,)])
@pytest.mark.parametrize("logprobs", [{}, {"logprobs": True, "top_logprobs": 2}])
async def test_the_pieces_add_up_to_the_reply(
    tools: tuple[Any, ...], logprobs: Any, backend: EmbeddedBackend
) -> None:
    whole = await reply(backend, ask(QUESTION, tools=tools, sampling=logprobs))
    deltas = await collect(backend, ask(QUESTION, tools=tools, sampling=logprobs, stream=True))
    assert isinstance(deltas[-1], Completed)
    streamed = deltas[-1].reply
    assert joined(deltas) == (streamed.content, "", list(streamed.tool_calls))
    assert (streamed.content, streamed.tool_calls) == (whole.content, whole.tool_calls)
    assert (streamed.finish_reason, streamed.model) == (whole.finish_reason, "embedded")
    assert len(deltas) > 1
    assert bool(whole.logprobs) is bool(streamed.logprobs) is bool(logprobs)


async def test_a_format_is_enforced_while_decoding(backend: EmbeddedBackend) -> None:
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "integer"}, "sure": {"type": "boolean"}},
        "required": ["answer", "sure"],
        "additionalProperties": False,
    }
    given = {"name": "answer", "schema": schema, "strict": True}
    for stream in (False, True):
        got = json.loads((await reply(backend, ask("Say hello.", format=given, stream=stream))).content)
        assert isinstance(got["answer"], int)
        assert isinstance(got["sure"], bool)
        assert len(got) == 2


async def test_log_probabilities(backend: EmbeddedBackend) -> None:
    got = await reply(backend, ask(QUESTION, sampling={"logprobs": True, "top_logprobs": 3, "max_tokens": 4}))
    assert got.logprobs is not None
    assert len(got.logprobs) == 4
    assert got.finish_reason == "length"
    for entry in got.logprobs:
        assert entry["logprob"] <= 0
        assert len(entry["top"]) == 3
        assert entry["top"][0]["token"] == entry["token"]  # greedy


def test_classification() -> None:
    agent = Agent("judge", EmbeddedBackend())
    with record(store=MemoryLog()):
        got = agent.classify(QUESTION, ["I", "Hello"])
    assert got["I"] + got["Hello"] == pytest.approx(1)
    assert got["I"] > 0.5  # "I need a calculator tool to answer that."


async def test_a_seed_makes_chance_repeatable(backend: EmbeddedBackend) -> None:
    def hot(seed: int) -> Request:
        chance = {"temperature": 5.0, "min_p": 0.0, "top_k": 0, "top_p": 1.0}
        return ask(QUESTION, sampling={**chance, "seed": seed, "max_tokens": 40})

    first, second = await reply(backend, hot(1)), await reply(backend, hot(1))
    assert first.content == second.content
    assert len({(await reply(backend, hot(seed))).content for seed in range(6)}) > 1


async def test_tools_can_be_held_back(backend: EmbeddedBackend) -> None:
    got = await reply(backend, ask(QUESTION, tools=(CALCULATE,), sampling={"tool_choice": "none"}))
    assert got.tool_calls == ()
    assert got.content == (await reply(backend, ask(QUESTION))).content


# --- what it cannot do


@pytest.mark.parametrize(
    ("request_", "kind", "words"),
    [
        (ask(sampling={"temprature": 1}), UnknownKeyError, "temperature"),
        (ask(sampling={"reasoning_effort": "low"}), UnsupportedError, "reasoning_effort"),
        (ask(messages=(Message("user", [{"type": "image_url", "image_url": {"url": "data:,"}}]),)),
         UnsupportedError, "image"),
    ],
)  # fmt: skip
async def test_it_refuses_before_anything_is_loaded(
    request_: Request, kind: type[LLMError], words: str
) -> None:
    backend = EmbeddedBackend("nowhere.gguf")
    with pytest.raises(kind) as caught:
        await collect(backend, request_)
    assert words in str(caught.value)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "bad",
    [
        {"sampling": {"temperature": "hot"}},
        {"sampling": {"max_tokens": -5}},
        {"text": "a lone surrogate \ud800"},
        {"format": {"name": "x", "schema": {"type": "nonsense"}}},
    ],
)
async def test_what_the_engine_refuses(bad: dict[str, Any], stream: bool, backend: EmbeddedBackend) -> None:
    with pytest.raises(BadRequestError, match="refused the request"):
        await collect(backend, ask(stream=stream, **bad))
    assert (await reply(backend, ask(QUESTION))).content


@pytest.mark.parametrize("stream", [False, True])
async def test_too_much_to_read(stream: bool, backend: EmbeddedBackend) -> None:
    with pytest.raises(ContextLengthError) as caught:
        await collect(backend, ask("seven " * 3000, stream=stream))
    assert "1024" in str(caught.value)
    assert "openai/" in str(caught.value.hint)


async def test_missing_engines_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("xllamacpp", "llama_cpp", "torch"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DependencyError) as caught:
        await collect(EmbeddedBackend(), ask())
    assert "lllm[local] brings it. Type: pip install gguf xllamacpp\n" in str(caught.value)
    assert "LLLM_MODEL=openai/" in str(caught.value)


async def test_missing_and_broken_weights_name_no_folder(tmp_path: Path) -> None:
    for file, content in (("missing.gguf", None), ("broken.gguf", b"GGUF, but no")):
        path = tmp_path / file
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ProviderError, match=file) as caught:
            await collect(EmbeddedBackend(path), ask())
        assert str(tmp_path) not in str(caught.value)


def test_no_slots() -> None:
    with pytest.raises(ConfigError, match="slots is 0"):
        EmbeddedBackend(slots=0)


# --- stopping


class Watched:
    """The library, with a note of when it began and when it came back. It says three pieces, and no more until `go`."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.go = threading.Event()
        self.began = threading.Event()
        self.ended = threading.Event()
        self.chunks = 0

    def handle_chat_completions(self, body: Any, on_chunk: Any = None) -> Any:
        def counted(chunk: Any) -> Any:
            self.chunks += 1
            if self.chunks == 3:
                assert self.go.wait(120)
            return on_chunk(chunk)

        self.began.set()
        try:
            return self.engine.handle_chat_completions(body, *([counted] if on_chunk else []))
        finally:
            self.ended.set()


def watch(backend: EmbeddedBackend) -> Watched:
    """Puts it between the engine and its library."""
    engine = backend.load()
    engine._server = watched = Watched(engine._server)
    return watched


@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_stopping_a_stream_stops_the_engine(how: str, backend: EmbeddedBackend) -> None:
    watched = watch(backend)
    stream = backend.stream(ask(QUESTION, stream=True, **ENDLESS))
    assert isinstance(await anext(stream), TextDelta)
    if how == "closed":
        await stream.aclose()
    else:

        async def drain() -> None:
            async for _ in stream:
                pass

        task = asyncio.ensure_future(drain())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    watched.go.set()
    assert watched.ended.wait(120)
    assert watched.chunks < 300  # of 900


@pytest.mark.parametrize("stream", [False, True])
async def test_the_total_time_limit(stream: bool, backend: EmbeddedBackend) -> None:
    watched = watch(backend)
    with pytest.raises(ProviderTimeout) as caught:
        await collect(backend, ask(QUESTION, stream=stream, timeouts=limits(total=0.01), **ENDLESS))
    assert (caught.value.stage, caught.value.seconds) == ("total", 0.01)
    watched.go.set()
    assert watched.ended.wait(120) or not watched.began.is_set()
    assert (await reply(backend, ask(QUESTION))).content


async def test_a_consumer_that_takes_its_time_is_not_interrupted(backend: EmbeddedBackend) -> None:
    async def attempt(pace: float) -> int:
        seen = 0
        short = limits(idle=0.1 * pace, first_token=0.5 * pace)
        async for _ in backend.stream(ask(QUESTION, stream=True, timeouts=short)):
            seen += 1
            if seen == 1:
                await asyncio.sleep(0.3 * pace)
        return seen

    assert await at_some_pace(attempt) > 2


# --- many at once


async def test_several_at_once_say_what_they_say_alone(backend: EmbeddedBackend) -> None:
    questions = [f"What is {number} times {number + 7}?" for number in range(11, 19)]
    requests = [ask(q, tools=(CALCULATE,), stream=bool(n % 2)) for n, q in enumerate(questions)]
    together = await asyncio.gather(*(reply(backend, request) for request in requests))
    expressions = [got.tool_calls[0].parsed()["expression"] for got in together]
    assert expressions == [f"{number} * {number + 7}" for number in range(11, 19)]


async def test_the_weights_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import xllamacpp

    loads: list[Any] = []
    real = xllamacpp.Server

    def server(given: Any) -> Any:
        loads.append(given)
        time.sleep(0.05)
        return real(given)

    monkeypatch.setattr(xllamacpp, "Server", server)
    backend = EmbeddedBackend()
    await asyncio.gather(*(reply(backend, ask(QUESTION)) for _ in range(8)))
    assert len(loads) == 1
    await backend.aclose()
    await backend.aclose()
    assert (await reply(backend, ask(QUESTION))).content
    assert len(loads) == 2


def test_threads_with_event_loops_of_their_own() -> None:
    backend = EmbeddedBackend()
    said: list[str] = []

    def work(stream: bool) -> None:
        said.append(asyncio.run(reply(backend, ask(QUESTION, stream=stream))).content)

    threads = [threading.Thread(target=work, args=(bool(n % 2),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert len(said) == 4
    assert len(set(said)) == 1
    assert said[0]


# --- processes

PROGRAM = """
import asyncio, os, sys
from lllm.backends.embedded import EmbeddedBackend
from lllm.models.message import user
from lllm.ports import Completed, Request

backend = EmbeddedBackend()
many = {"name": "long", "schema": {"type": "array", "items": {"type": "integer"}, "minItems": 400}}
endless = Request("embedded", (user("Count."),), sampling={"max_tokens": 900}, format=many, stream=True)

def ask(stream=False):
    async def go():
        async for delta in backend.stream(Request("embedded", (user("What is 17 times 23?"),), stream=stream)):
            pass
        return delta.reply.content
    return asyncio.run(go())

"""


def run_program(program: str, warnings: str = "error") -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": warnings}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert warnings != "error" or done.stderr == ""
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_loads_its_own() -> None:
    program = """
first = ask()
child = os.fork()
again = ask(True)
assert first == again, (first, again)
if child:
    _, status = os.waitpid(child, 0)
    print("child", os.waitstatus_to_exitcode(status))
else:
    asyncio.run(backend.aclose())
    assert ask() == first
    print("the child ends as any program does")
    sys.exit(3)
"""
    assert run_program(program) == "the child ends as any program does\nchild 3\n"


def test_leaving_in_the_middle_of_a_stream() -> None:
    program = """
async def main():
    stream = backend.stream(endless)
    async for _ in stream:
        print("said")
        break
    return stream
asyncio.run(main())
"""
    assert run_program(program) == "said\n"


def test_leaving_while_a_loop_stands_still() -> None:
    program = """
loop = asyncio.new_event_loop()
stream = backend.stream(endless)
loop.run_until_complete(anext(stream))
print("said", flush=True)
"""
    assert run_program(program, "ignore") == "said\n"  # asyncio complains about the loop, and is right


# --- in a session


def test_a_session_with_it_names_no_folder_and_replays() -> None:
    store = MemoryLog()
    agent = Agent("counter", EmbeddedBackend(), tools=[calculate])
    with record("sums", store=store) as session:
        assert "391" in agent(QUESTION).content
        with pytest.raises(LLMError):
            agent("seven " * 3000)
        with pytest.raises(LLMError):
            agent.with_(model=EmbeddedBackend(WEIGHTS.with_name("missing.gguf")))(QUESTION)
    log = b"".join(store.read(session.id)).decode()
    assert log.count('"ModelReplied"') == 2
    assert log.count('"ModelFailed"') >= 2
    for folder in {str(WEIGHTS.parent), str(ROOT), str(Path.home()), os.getcwd()}:
        assert folder not in log
    assert replay_session(session.id, store=store).verified
