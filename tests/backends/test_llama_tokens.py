"""The engine on llama-cpp-python, with the embedded weights."""

import asyncio
import json
import math
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lllm.backends.embedded import WEIGHTS, EmbeddedBackend
from lllm.backends.llama_cpp.options import Options
from lllm.backends.llama_cpp.tokens import TokenEngine
from lllm.errors import (
    BadRequestError,
    ContextLengthError,
    LLMInitializationError,
    ProviderError,
    ProviderTimeout,
    UnknownKeyError,
    UnsupportedError,
)
from lllm.models.message import FunctionCall, Message, user
from lllm.models.reply import Reply
from lllm.ports import Completed, Request, TextDelta
from tests.backends.helpers import ask, collect, gone, joined, limits, reply

QUESTIONS = [
    "What is 17 times 23?", "What is 40 plus 2?", "What is 9 minus 4?", "What is 144 divided by 12?",
    "Compute 5 + 6 * 7.", "What is the sum of 3 and 8?", "How much is 12 times 12?", "What is 100 minus 1?",
    "What is 2 to the power of 10?", "Please add 250 and 750.",
]  # fmt: skip
CALCULATE: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "calculate",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string"}},
            "required": ["expression"],
        },
    },
}
GREEDY = {"temperature": 0, "max_tokens": 48}
LONG = {"temperature": 0.0, "logit_bias": {2: -100.0}}
"""Never ends by itself: the token that ends a reply is forbidden."""
WILD = {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "max_tokens": 24}


@pytest.fixture(scope="module")
def engine() -> TokenEngine:
    return TokenEngine(WEIGHTS)


async def test_the_same_replies_as_the_embedded_model(engine: TokenEngine) -> None:
    embedded = EmbeddedBackend()
    for question in QUESTIONS:
        request = ask(question, tools=(CALCULATE,), sampling=GREEDY)
        mine, theirs = await reply(engine, request), await reply(embedded, request)
        assert [(call.name, call.parsed()) for call in mine.tool_calls] == [
            (call.name, call.parsed()) for call in theirs.tool_calls
        ]
        assert (mine.content, mine.finish_reason) == (theirs.content, theirs.finish_reason)
        assert mine.usage is not None
        assert theirs.usage is not None
        assert mine.usage[:2] == theirs.usage[:2]
    call = FunctionCall("c", "calculate", '{"expression":"17 * 23"}')
    dialog = (
        user("What is 17 times 23?"),
        Message("assistant", tool_calls=(call,)),
        Message("tool", "391", tool_call_id="c"),
    )
    request = ask(messages=dialog, tools=(CALCULATE,), sampling=GREEDY)
    mine, theirs = await reply(engine, request), await reply(embedded, request)
    assert mine.content == theirs.content != ""
    await embedded.aclose()


@pytest.mark.parametrize("sampling", [GREEDY, {**WILD, "seed": 5}, {**GREEDY, "stop": ["tool to"]}])
@pytest.mark.parametrize("tools", [(), (CALCULATE,)])
async def test_streamed_as_whole(
    sampling: dict[str, Any], tools: tuple[Any, ...], engine: TokenEngine
) -> None:
    for question in QUESTIONS[:4]:
        wanted = {**sampling, "token_ids": True, "logprobs": True}
        request = ask(question, tools=tools, sampling=wanted)
        whole = await reply(engine, request)
        deltas = await collect(engine, request._replace(stream=True))
        assert isinstance(deltas[-1], Completed)
        streamed = deltas[-1].reply
        assert joined(deltas) == (streamed.content, streamed.thinking or "", list(streamed.tool_calls))
        assert (streamed.content, streamed.tool_calls, streamed.token_ids) == (
            whole.content,
            whole.tool_calls,
            whole.token_ids,
        )
        assert len(streamed.logprobs or ()) == len(streamed.token_ids or ())


async def test_each_token_comes_when_it_is_decoded(engine: TokenEngine) -> None:
    deltas = await collect(engine, ask("What is 17 times 23?", sampling=GREEDY, stream=True))
    texts = [delta.text for delta in deltas if isinstance(delta, TextDelta)]
    assert len(texts) > 6
    stream = engine.stream(ask("What is 17 times 23?", sampling=LONG, stream=True))
    await anext(stream)
    busy = engine._turns
    assert busy
    await stream.aclose()
    assert not busy


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stop_string_over_several_tokens(stream: bool, engine: TokenEngine) -> None:
    whole = (await reply(engine, ask("What is 17 times 23?", sampling=GREEDY))).content
    for start in range(1, len(whole) - 6, 3):
        stop = whole[start : start + 6]
        got = await reply(
            engine, ask("What is 17 times 23?", sampling={**GREEDY, "stop": stop}, stream=stream)
        )
        assert (got.content, got.finish_reason) == (whole[: whole.index(stop)], "stop")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_character_over_several_tokens(stream: bool, engine: TokenEngine) -> None:
    text = "Größe 你好 \U0001f600"
    assert len(engine.tokenize("\U0001f600")) > 1
    wanted = {"name": "x", "schema": {"const": text}}
    deltas = await collect(engine, ask(sampling=GREEDY, format=wanted, stream=stream))
    assert isinstance(deltas[-1], Completed)
    assert json.loads(deltas[-1].reply.content) == text
    assert not any("\ufffd" in delta.text for delta in deltas if isinstance(delta, TextDelta))


async def test_a_character_that_is_cut_off_is_marked(engine: TokenEngine) -> None:
    wanted = {"name": "x", "schema": {"const": "\U0001f600"}}
    got = await reply(engine, ask(sampling={"temperature": 0, "max_tokens": 2}, format=wanted))
    assert got.content == '"\ufffd'
    assert got.finish_reason == "length"


async def test_seeds(engine: TokenEngine) -> None:
    odd = "A purple tram ate 3 hats?"
    said = [
        (await reply(engine, ask(odd, sampling={**WILD, "seed": seed}))).content
        for seed in [1, 2, 3, 4, 5] * 2
    ]
    assert said[:5] == said[5:]
    assert len(set(said)) > 1
    free = {(await reply(engine, ask(odd, sampling=WILD))).content for _ in range(6)}
    assert len(free | {said[0]}) > 1
    seeded = TokenEngine(WEIGHTS, Options(seed=1))
    assert (await reply(seeded, ask(odd, sampling=WILD))).content == said[0]


async def test_log_probabilities(engine: TokenEngine) -> None:
    plain = await reply(engine, ask(sampling=GREEDY))
    sampling = {**GREEDY, "logprobs": True, "top_logprobs": 5, "token_ids": True}
    got = await reply(engine, ask(sampling=sampling))
    assert got.content == plain.content
    assert plain.logprobs is None
    assert got.logprobs is not None
    json.dumps(got.record())
    assert [entry["id"] for entry in got.logprobs] == got.token_ids
    assert "".join(entry["token"] for entry in got.logprobs) == got.content
    for entry in got.logprobs:
        values = [top["logprob"] for top in entry["top"]]
        assert len(values) == 5
        assert values == sorted(values, reverse=True)
        assert sum(map(math.exp, values)) <= 1 + 1e-9
        assert entry["top"][0]["id"] == entry["id"]  # greedy
        assert entry["logprob"] == values[0]
    every = await reply(engine, ask(sampling={**sampling, "max_tokens": 1, "top_logprobs": 1000}))
    assert every.logprobs is not None
    assert 0.9 < sum(math.exp(top["logprob"]) for top in every.logprobs[0]["top"]) <= 1 + 1e-9
    hot = await reply(engine, ask(sampling={**sampling, "temperature": 5.0, "max_tokens": 1, "seed": 1}))
    assert hot.logprobs is not None
    assert hot.logprobs[0]["top"] == got.logprobs[0]["top"]  # the model's own, before the temperature


async def test_token_ids(engine: TokenEngine) -> None:
    got = await reply(engine, ask("Hello.", sampling={**GREEDY, "token_ids": True}))
    assert got.token_ids is not None
    assert got.prompt_token_ids is not None
    assert got.usage is not None
    assert (len(got.prompt_token_ids), len(got.token_ids)) == got.usage[:2]
    assert list(got.token_ids[:-1]) == engine.tokenize(got.content)
    weights = engine._weights
    assert weights is not None
    assert b"".join(map(weights.piece, got.prompt_token_ids)).decode() == "user\nHello.\nassistant\n"
    assert engine.tokenize("<|im_start|>") != [got.prompt_token_ids[0]]  # text is text
    unasked = await reply(engine, ask("Hello.", sampling=GREEDY))
    assert (unasked.token_ids, unasked.prompt_token_ids) == (None, None)


async def test_sampling_reaches_the_model(engine: TokenEngine) -> None:
    async def said(**sampling: Any) -> str:
        return (
            await reply(
                engine, ask("What is 17 times 23?", sampling={**GREEDY, "max_tokens": 24, **sampling})
            )
        ).content

    plain = await said()
    (first, *_) = engine.tokenize(plain)
    for narrow in ({"top_k": 1}, {"top_p": 0.0}, {"min_p": 1.0}):
        assert await said(**{"temperature": 2.0, **WILD, **narrow}) == plain
    assert not (await said(logit_bias={first: -100.0})).startswith(plain[0])
    assert await said(logit_bias={str(first): 100.0}) != plain
    endless = LONG["logit_bias"]
    for penalty in ({"repetition_penalty": 1.8}, {"presence_penalty": 2.0}, {"frequency_penalty": 2.0}):
        assert await said(**penalty, logit_bias=endless) != await said(logit_bias=endless)


@pytest.mark.parametrize(
    ("sampling", "kind"),
    [
        ({"temprature": 1}, UnknownKeyError),
        ({"reasoning_effort": "low"}, UnsupportedError),
        ({"temperature": -1}, BadRequestError),
        ({"temperature": "hot"}, BadRequestError),
        ({"top_p": 2}, BadRequestError),
        ({"max_tokens": 0}, BadRequestError),
        ({"max_tokens": True}, BadRequestError),
        ({"seed": 1.5}, BadRequestError),
        ({"top_logprobs": 3}, BadRequestError),
        ({"logit_bias": ["a"]}, BadRequestError),
    ],
)
async def test_wrong_sampling(sampling: dict[str, Any], kind: type[Exception], engine: TokenEngine) -> None:
    with pytest.raises(kind, match=next(iter(sampling)).replace("temprature", "temperature")):
        await collect(engine, ask(sampling=sampling))


# --- prefixes


async def turn(engine: TokenEngine, dialog: list[Message], text: str) -> Reply:
    dialog.append(user(text))
    got = await reply(
        engine, ask(messages=tuple(dialog), sampling={"temperature": 0, "max_tokens": 12, "token_ids": True})
    )
    dialog.append(Message("assistant", got.content))
    return got


async def test_ten_turns_compute_what_is_new() -> None:
    engine = TokenEngine(WEIGHTS)
    dialog: list[Message] = []
    before = 0
    for number in range(10):
        got = await turn(engine, dialog, f"What is {number} plus {number}?")
        assert got.usage is not None
        new = got.usage.prompt - got.usage.cached
        assert new < 40
        assert got.usage.cached >= before
        before = got.usage.prompt
    assert before > 200
    fresh = TokenEngine(WEIGHTS)
    again = await reply(
        fresh, ask(messages=tuple(dialog[:-1]), sampling={"temperature": 0, "max_tokens": 12})
    )
    assert again.content == got.content
    assert again.usage is not None
    assert again.usage.cached == 0


async def test_dialogs_that_take_turns_keep_their_beginning() -> None:
    engine = TokenEngine(WEIGHTS)
    alone = TokenEngine(WEIGHTS, Options(slots=0))
    dialogs: list[list[Message]] = [[Message("system", f"You are agent {name}. " * 8)] for name in "AB"]
    for number in range(5):
        for dialog in dialogs:
            same = dialog.copy()
            got = await turn(engine, dialog, f"What is {number} plus {number}?")
            assert got.usage is not None
            assert number == 0 or got.usage.prompt - got.usage.cached < 40
            without = await turn(alone, same, f"What is {number} plus {number}?")
            assert (without.content, without.token_ids) == (got.content, got.token_ids)
            assert without.usage is not None
            assert without.usage.cached < 20


async def test_copies_are_bounded() -> None:
    engine = TokenEngine(WEIGHTS, Options(slots=2))
    for number in range(6):
        await reply(engine, ask(f"{number} is a number. " * 12, sampling={**GREEDY, "max_tokens": 2}))
    weights = engine._weights
    assert weights is not None
    assert len(weights.memory._kept) == 2
    weights.memory._budget = 1
    await reply(engine, ask("Something else entirely. " * 12, sampling={**GREEDY, "max_tokens": 2}))
    assert len(weights.memory._kept) <= 2


# --- leaving, waiting, failing


class Pace:
    """Holds an engine at its twentieth step until told to go on, and counts the steps."""

    def __init__(self, engine: TokenEngine) -> None:
        weights = engine._weights
        assert weights is not None
        self.steps = 0
        self.reached = threading.Event()
        self.go = threading.Event()
        compute = weights.compute

        def paced(tokens: Any) -> None:
            self.steps += 1
            if self.steps == 20:
                self.reached.set()
                assert self.go.wait(120)
            compute(tokens)

        weights.compute = paced  # type: ignore[method-assign]

    async def there(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 120)


async def goes_on(engine: TokenEngine, pace: Pace, plain: Reply) -> None:
    """The engine answers the next request, and has not gone on with the one that was left."""
    pace.go.set()
    got = await reply(engine, ask(sampling=GREEDY))
    assert (got.content, got.tool_calls) == (plain.content, plain.tool_calls)
    assert got.usage is not None
    assert pace.steps <= 20 + 1 + got.usage.completion


@pytest.mark.parametrize("way", ["close", "cancel", "cancel whole", "time", "time whole"])
async def test_a_reply_that_is_left_ends_at_the_next_token(way: str) -> None:
    engine = TokenEngine(WEIGHTS)
    plain = await reply(engine, ask(sampling=GREEDY))
    pace = Pace(engine)
    request = ask(sampling=LONG, stream="whole" not in way)
    if way == "close":
        stream = engine.stream(request)
        await anext(stream)
        await pace.there()
        await stream.aclose()
    elif way.startswith("cancel"):
        task = asyncio.ensure_future(collect(engine, request))
        await pace.there()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        with pytest.raises(ProviderTimeout) as caught:
            await collect(engine, request._replace(timeouts=limits(total=0.5)))
        assert (caught.value.stage, caught.value.seconds) == ("total", 0.5)
        assert "embedded-q8_0.gguf" in str(caught.value)
    await goes_on(engine, pace, plain)


@pytest.mark.parametrize(("stage", "seconds"), [("first_token", 1e-6), ("idle", 0.2)])
async def test_time_limits_of_a_stream(stage: str, seconds: float) -> None:
    engine = TokenEngine(WEIGHTS)
    plain = await reply(engine, ask(sampling=GREEDY))
    pace = Pace(engine)
    with pytest.raises(ProviderTimeout) as caught:
        await collect(engine, ask(sampling=LONG, stream=True, timeouts=limits(**{stage: seconds})))
    assert (caught.value.stage, caught.value.seconds) == (stage, seconds)
    await goes_on(engine, pace, plain)


async def test_who_waits_can_leave() -> None:
    engine = TokenEngine(WEIGHTS)
    plain = await reply(engine, ask(sampling=GREEDY))
    pace = Pace(engine)
    first = asyncio.ensure_future(collect(engine, ask(sampling=LONG)))
    await pace.there()
    waiting = asyncio.ensure_future(collect(engine, ask(sampling=LONG)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not first.done()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await goes_on(engine, pace, plain)


async def test_too_long(engine: TokenEngine) -> None:
    with pytest.raises(ContextLengthError, match=r"reads 1024 tokens at once; the request has 2[0-9]{3}"):
        await reply(engine, ask("one " * 2000))
    small = TokenEngine(WEIGHTS, Options(context=64))
    got = await reply(small, ask(sampling=LONG))
    assert got.usage is not None
    assert (got.finish_reason, got.usage.total) == ("length", small.info()["context"])


async def test_what_it_cannot_read(engine: TokenEngine) -> None:
    image = user(({"type": "image_url", "image_url": {"url": "data:"}},))  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="text only"):
        await reply(engine, ask(messages=(image,)))
    parts = user(({"type": "text", "text": "Hello."},))  # type: ignore[arg-type]
    assert (await reply(engine, ask(messages=(parts,), sampling=GREEDY))).content
    with pytest.raises(BadRequestError, match="Unicode"):
        await reply(engine, ask("\ud800"))


def test_files_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(LLMInitializationError, match=r"no file none\.gguf") as caught:
        TokenEngine(tmp_path / "none.gguf")
    assert str(tmp_path) not in str(caught.value)
    (tmp_path / "bad.gguf").write_bytes(b"GGUF rubbish")
    with pytest.raises(LLMInitializationError, match=r"bad\.gguf could not be loaded") as caught:
        TokenEngine(tmp_path / "bad.gguf")
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(LLMInitializationError, match=r"LoRA adapter none\.gguf"):
        TokenEngine(WEIGHTS, Options(lora=((str(tmp_path / "none.gguf"), 1.0),)))


def adapter(path: Path) -> Path:
    """A LoRA adapter that changes the queries of the first layer."""
    import gguf
    import numpy

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 4.0)
    dice = numpy.random.default_rng(1)
    for side, shape in (("a", (4, 256)), ("b", (256, 4))):
        values = dice.normal(size=shape).astype(numpy.float32)
        writer.add_tensor(f"blk.0.attn_q.weight.lora_{side}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


async def test_lora_adapters(tmp_path: Path, engine: TokenEngine) -> None:
    path = str(adapter(tmp_path / "other.gguf"))
    sampling = {**GREEDY, "logprobs": True, "max_tokens": 1}

    async def first(scale: float) -> float:
        adapted = TokenEngine(WEIGHTS, Options(lora=((path, scale),)))
        got = await reply(adapted, ask(sampling={**sampling, "top_logprobs": 1}))
        await adapted.aclose()
        assert got.logprobs is not None
        return float(got.logprobs[0]["top"][0]["logprob"])

    plain = await reply(engine, ask(sampling={**sampling, "top_logprobs": 1}))
    assert plain.logprobs is not None
    bare = plain.logprobs[0]["top"][0]["logprob"]
    assert await first(0.0) == pytest.approx(bare, abs=1e-3)
    assert await first(1.0) != pytest.approx(bare, abs=1e-3)


async def test_another_template() -> None:
    engine = TokenEngine(WEIGHTS, Options(chat_template="{{ messages[0].content }}|"))
    got = await reply(engine, ask("Hello.", sampling={"max_tokens": 1, "token_ids": True}))
    assert got.prompt_token_ids == engine.tokenize("Hello.|")
    refusing = TokenEngine(WEIGHTS, Options(chat_template="{{ raise_exception('not this') }}"))
    with pytest.raises(BadRequestError, match="refused the dialog: not this"):
        await reply(refusing, ask())
    with pytest.raises(BadRequestError, match="no Jinja template"):
        TokenEngine(WEIGHTS, Options(chat_template="{% if %}"))


@pytest.mark.parametrize("opened", [False, True])
async def test_thinking_that_the_template_opens_is_free_of_the_grammar(opened: bool) -> None:
    template = "{{ messages[0].content }}" + ("<think>\n" if opened else "")
    engine = TokenEngine(WEIGHTS, Options(chat_template=template))
    wanted = {"name": "x", "schema": {"const": 7}}
    got = await reply(engine, ask("Hello.", sampling={**GREEDY, "max_tokens": 12}, format=wanted))
    assert (got.content, bool(got.thinking)) == (("", True) if opened else ("7", False))


# --- several at once


def test_eight_requests_from_three_loops(engine: TokenEngine) -> None:
    asked = [
        ask(question, tools=(CALCULATE,), sampling=GREEDY, stream=bool(n % 2))
        for n, question in enumerate(QUESTIONS[:8])
    ]

    async def together(requests: list[Request]) -> list[Reply]:
        return list(await asyncio.gather(*(reply(engine, request) for request in requests)))

    alone = [asyncio.run(together([request]))[0] for request in asked]
    with ThreadPoolExecutor(3) as pool:
        for got in pool.map(lambda _: asyncio.run(together(asked)), range(3)):
            assert [(one.content, one.tool_calls) for one in got] == [
                (one.content, one.tool_calls) for one in alone
            ]


# --- the rest of the contract


def test_what_it_says_of_itself(engine: TokenEngine) -> None:
    told = engine.info()
    assert told["architecture"] == "llama"
    assert told["parameters"] == 3_475_712
    assert (told["context"], told["quantisation"], told["threads"], told["gpu_layers"]) == (
        1024,
        "Q8_0",
        1,
        0,
    )
    assert (told["engine"], "<|im_start|>" in told["template"]) == ("llama-cpp-python", True)
    assert TokenEngine(WEIGHTS, Options(threads=2)).info()["threads"] == 2


async def test_speed(engine: TokenEngine) -> None:
    fresh = TokenEngine(WEIGHTS)
    assert fresh.speed() == {}
    await reply(fresh, ask(sampling=GREEDY))
    assert set(fresh.speed()) == {"prompt_per_second", "tokens_per_second"}
    assert min(fresh.speed().values()) > 0


async def test_embeddings(engine: TokenEngine) -> None:
    embedding = TokenEngine(WEIGHTS, Options(embedding=True))
    first, second, again = embedding.embed(
        ["What is 2 plus 2?", "Hello there, my friend.", "What is 2 plus 2?"]
    )
    assert len(first) == len(second) == 256
    assert first == pytest.approx(again, abs=1e-4)
    assert first != pytest.approx(second, abs=1e-2)
    json.dumps(first)
    with pytest.raises(UnsupportedError, match="embed"):
        await collect(embedding, ask())
    with pytest.raises(UnsupportedError, match="write"):
        engine.embed(["x"])


async def test_closing_frees_and_the_next_request_loads() -> None:
    engine = TokenEngine(WEIGHTS)
    plain = await reply(engine, ask(sampling=GREEDY))
    assert engine._weights is not None
    held = weakref.ref(engine._weights.llama)
    pace = Pace(engine)
    running = asyncio.ensure_future(collect(engine, ask(sampling=LONG)))
    await pace.there()
    closing = asyncio.ensure_future(engine.aclose())
    with pytest.raises(ProviderError, match="closed while it answered"):
        await running
    pace.go.set()
    await closing
    assert gone(held)
    engine.close()
    assert (await reply(engine, ask(sampling=GREEDY))).content == plain.content


def test_an_engine_that_nobody_holds_is_gone() -> None:
    engine = TokenEngine(WEIGHTS)
    asyncio.run(collect(engine, ask(sampling=GREEDY)))
    name = engine._thread
    held = weakref.ref(engine)
    del engine
    assert gone(held)
    assert name is not None
    name.join(120)
    assert not name.is_alive()
    assert name not in threading.enumerate()


def run(code: str, *flags: str) -> subprocess.CompletedProcess[str]:
    begin = (
        "import asyncio, os\nfrom lllm.backends.embedded import WEIGHTS\n"
        "from lllm.backends.llama_cpp.options import Options\nfrom lllm.backends.llama_cpp.tokens import TokenEngine\n"
        "from tests.backends.helpers import ask, reply, collect\n"
    )
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, *flags, "-c", begin + code], capture_output=True, text=True, timeout=300, check=False, cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip


def test_the_interpreter_ends_quietly() -> None:
    for code in (
        "engine = TokenEngine(WEIGHTS)\nprint(asyncio.run(reply(engine, ask(sampling={'temperature': 0}))).content)",
        "engine = TokenEngine(WEIGHTS)\nasync def go():\n"
        "    async for _ in engine.stream(ask(sampling={'logit_bias': {2: -99}}, stream=True)):\n"
        "        print('x')\n        os.sys.exit()\nasyncio.run(go())",
    ):
        done = run(code, "-W", "always::ResourceWarning")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.strip()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_forked_child_has_a_model_of_its_own(threads: int) -> None:
    done = run(
        f"""
engine = TokenEngine(WEIGHTS, Options(threads={threads}))
def said():
    return asyncio.run(reply(engine, ask(sampling={{'temperature': 0, 'max_tokens': 3}}))).content
first = said()
child = os.fork()
if not child:
    print(said() == first, flush=True)
else:
    print(os.waitpid(child, 0)[1], said() == first)
""",
        "-W",
        "ignore:This process:DeprecationWarning",
    )  # of forking with threads, from Python 3.12 on
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.split("\n")) == ["", "0 True", "True"]
