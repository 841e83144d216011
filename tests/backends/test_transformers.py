"""The transformers backend on the embedded model: real weights, real batches."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from lllm.backends.transformers import TransformersBackend
from lllm.backends.transformers import load as loading
from lllm.backends.transformers.engine import Engine
from lllm.backends.transformers.prefix import Prefixes, common, packed
from lllm.backends.transformers.sampling import History, Settings, choose
from lllm.backends.transformers.schemas import LARGEST, bounded, without
from lllm.backends.transformers.template import render
from lllm.errors import (
    BadRequestError,
    ConfigError,
    OutOfMemory,
    ProviderError,
    ProviderTimeout,
    UnknownKeyError,
    UnsupportedError,
)
from lllm.models.message import Message, user
from lllm.models.reply import Reply
from lllm.ports import Completed, Request, TextDelta
from tests.backends.helpers import ADD, ask, collect, gone, joined, limits, reply, schema
from training.embedded.forms import Forms

GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 40}
QUESTIONS = (
    [f"What is {n * 7} times {n + 3}?" for n in range(12)]
    + [f"Tell me about {n} trams and the hats they ate, at length." for n in range(12)]
    + [
        "Hi.",
        "Hello there, how are you today?",
        "Thanks!",
        "What can you do?",
        "Sing.",
        "2",
        "Why?",
        "Go on.",
    ]
)


@pytest.fixture(scope="module")
def shared(forms: Forms) -> Iterator[TransformersBackend]:
    backend = TransformersBackend(device="cpu", threads=1)
    backend.load(str(forms.folder))
    yield backend
    asyncio.run(backend.aclose())


@pytest.fixture
async def fresh(forms: Forms) -> AsyncIterator[TransformersBackend]:
    backend = TransformersBackend(device="cpu", threads=1)
    yield backend
    await backend.aclose()


@pytest.fixture
def name(forms: Forms) -> str:
    return str(forms.folder)


@pytest.fixture
def engine(shared: TransformersBackend, name: str) -> Engine:
    return shared.load(name)


@pytest.fixture
def endless(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Replies end by their length alone."""
    monkeypatch.setattr(engine.loaded, "eos", frozenset())
    return engine


def generated(engine: Engine, request: Request, **options: Any) -> list[int]:
    """What the library's own `generate` says, alone."""
    ids = torch.tensor([render(engine.loaded, request.messages, request.tools)])
    out = engine.loaded.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=request.sampling["max_tokens"],
        pad_token_id=0,
        **{"do_sample": False, **options},
    )
    return list(out[0, ids.shape[1] :].tolist())


def with_ids(text: str, model: str, **sampling: Any) -> Request:
    return ask(text, model=model, sampling={**GREEDY, "token_ids": True, **sampling})


# --- together


async def test_together_they_say_what_each_says_alone(
    shared: TransformersBackend, engine: Engine, name: str
) -> None:
    requests = [with_ids(text, name) for text in QUESTIONS]
    assert len(requests) == 32
    together = await asyncio.gather(*(reply(shared, request) for request in requests))
    assert engine.batcher is not None
    assert engine.batcher.speed()["most_rows"] == 16
    assert shared.speed() == {Path(name).name: engine.batcher.speed()}
    for request, got in zip(requests, together, strict=True):
        assert got.token_ids == generated(engine, request), request.messages[0].text
        assert got.prompt_token_ids == render(engine.loaded, request.messages)
    alone = [await reply(shared, request) for request in requests]
    assert [got.token_ids for got in alone] == [got.token_ids for got in together]
    assert [got.content for got in alone] == [got.content for got in together]


async def test_rows_join_and_leave_in_the_middle_of_others(
    shared: TransformersBackend, endless: Engine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = with_ids("Tell me a long story about a tram.", name, max_tokens=300)
    wanted = generated(endless, long, eos_token_id=None)
    began, over = threading.Event(), threading.Event()
    said: list[Any] = []
    batcher = endless.batcher
    assert batcher is not None
    step = batcher._step

    def beside_others() -> None:
        # alone it would be done before others come, where these are slow
        while (
            began.is_set()
            and len(batcher._live) == 1
            and not (batcher._inbox or batcher._waiting or batcher._fill)
        ):
            if over.wait(0.001):
                break
        step()

    monkeypatch.setattr(batcher, "_step", beside_others)

    async def follow() -> Reply:
        async for delta in shared.stream(long._replace(stream=True)):
            said.append(delta)
            began.set()
        last = said[-1]
        assert isinstance(last, Completed)
        return last.reply

    task = asyncio.ensure_future(follow())
    await asyncio.to_thread(began.wait)
    answered: list[tuple[Request, Reply]] = []
    try:
        for wave in range(3):  # of different lengths, so that they leave one by one
            texts = QUESTIONS[wave:][:6]
            short = [with_ids(text, name, max_tokens=3 + 5 * n) for n, text in enumerate(texts)]
            got = await asyncio.gather(*(reply(shared, request) for request in short))
            answered += zip(short, got, strict=True)
        assert not task.done(), "it was meant to outlive them"
    finally:
        over.set()
    for request, one in answered:
        assert one.token_ids == generated(endless, request, eos_token_id=None)
    assert (await task).token_ids == wanted


async def test_a_seed_counts_whoever_is_beside(shared: TransformersBackend, name: str) -> None:
    def asked(seed: int, **more: Any) -> Request:
        return with_ids("A purple tram ate 3 hats?", name, temperature=1.5, seed=seed, **more)

    alone = [(await reply(shared, asked(seed))).token_ids for seed in range(4)]
    assert len({tuple(ids or ()) for ids in alone}) > 1
    mates = [reply(shared, with_ids(text, name, temperature=0.8)) for text in QUESTIONS[:8]]
    together = (await asyncio.gather(*(reply(shared, asked(seed)) for seed in range(4)), *mates))[:4]
    assert [got.token_ids for got in together] == alone


async def test_each_row_has_its_own_settings(shared: TransformersBackend, engine: Engine, name: str) -> None:
    settings: list[dict[str, Any]] = [
        {},
        {"temperature": 1.0, "top_k": 1},
        {"temperature": 1.0, "top_p": 0.0001},
        {"temperature": 1.0, "min_p": 1.0},
        {"repetition_penalty": 1.8},
        {"max_tokens": 4},
    ]
    text = QUESTIONS[14]
    got = await asyncio.gather(*(reply(shared, with_ids(text, name, **one)) for one in settings))
    greedy, top_k, top_p, min_p, repetition, short = [one.token_ids for one in got]
    plain = with_ids(text, name)
    assert greedy == top_k == top_p == min_p == generated(engine, plain)
    assert repetition == generated(engine, plain, repetition_penalty=1.8)
    assert short == (greedy or [])[:4]
    assert got[-1].finish_reason == "length"


def test_what_was_said_is_less_likely() -> None:
    logits = torch.zeros(4, 5)
    logits[:, 1], logits[:, 2] = 3.0, 2.0
    settings = [
        Settings(),
        Settings(presence_penalty=1.5),
        Settings(frequency_penalty=0.6),
        Settings(frequency_penalty=0.4),
    ]
    histories = [History([1, 1, 1, 1], [1, 1])] * 4  # the prompt does not count
    assert choose(logits, settings, histories, [None] * 4) == [1, 2, 2, 1]


async def test_loops_in_several_threads(shared: TransformersBackend, name: str) -> None:
    request = with_ids("What is 12 times 9?", name)
    wanted = (await reply(shared, request)).token_ids

    async def several() -> list[Any]:
        return [one.token_ids for one in await asyncio.gather(*(reply(shared, request) for _ in range(4)))]

    with ThreadPoolExecutor(3) as pool:
        found = await asyncio.gather(
            *(asyncio.wrap_future(pool.submit(asyncio.run, several())) for _ in range(3))
        )
    assert found == [[wanted] * 4] * 3


# --- prefixes


async def test_a_long_talk_computes_what_is_new_in_it(shared: TransformersBackend, name: str) -> None:
    dialog: list[Message] = [Message("system", "You are a calculator that loves red trams."), user("Hi 77.")]
    computed, new, before = [], [], 0
    for turn in range(10):
        request = ask(messages=tuple(dialog), model=name, sampling=GREEDY, tools=(ADD,))
        got = await reply(shared, request)
        assert got.usage is not None
        computed.append(got.usage.prompt - got.usage.cached)
        new.append(got.usage.prompt - before)
        before = got.usage.prompt
        dialog += [got.message(), user(f"What is {turn} plus {turn * 3}?")]
    assert before > 250
    assert all(some <= fresh for some, fresh in zip(computed, new, strict=True)), (computed, new)
    assert max(computed[1:]) < 40


async def test_calls_with_one_system_prompt_compute_it_once(fresh: TransformersBackend, name: str) -> None:
    system = Message("system", "You are a patient teacher of arithmetic. " * 8)
    requests = [ask(messages=(system, user(f"Number {n}?")), model=name, sampling=GREEDY) for n in range(8)]
    got = await asyncio.gather(*(reply(fresh, request) for request in requests))
    computed = sorted(one.usage.prompt - one.usage.cached for one in got if one.usage)
    assert computed[-1] > 60
    assert computed[-2] < 20


async def test_no_prefixes_are_kept_where_none_are_wanted(name: str) -> None:
    backend = TransformersBackend(device="cpu", threads=1, prefix_tokens=0)
    request = ask("What is 1 plus 2?", model=name, sampling=GREEDY)
    first, second = [await reply(backend, request) for _ in range(2)]
    assert first.usage == second.usage
    assert first.usage is not None
    assert first.usage.cached == 0
    await backend.aclose()


def test_how_much_two_sequences_share() -> None:
    a = packed([1, 2, 3, 4, 5])
    for other, wanted in [([], 0), ([1], 1), ([2], 0), ([1, 2, 9, 4, 5], 2), ([1, 2, 3, 4, 5, 6], 5)]:
        assert common(a, packed(other)) == common(packed(other), a) == wanted


def test_what_was_used_longest_ago_is_forgotten() -> None:
    def pairs(tokens: int) -> list[Any]:
        return [(torch.zeros(1, tokens, 2), torch.zeros(1, tokens, 2))]

    kept = Prefixes(10)
    kept.keep(packed([1, 2, 3]), pairs(3))
    kept.keep(packed([1, 2, 3, 4]), pairs(4))
    assert (len(kept), kept.tokens) == (1, 4)  # the longer serves both
    assert not kept.wants(packed([1, 2]))
    kept.keep(packed([5, 6, 7, 8]), pairs(4))
    assert kept.find(packed([1, 2, 9]))[0] == 2  # used: the other one is older now
    kept.keep(packed([9, 9, 9]), pairs(3))
    assert kept.find(packed([5, 6]))[0] == 0
    assert kept.find(packed([1, 2, 3, 4]))[0] == 4
    assert not kept.wants(packed(range(11)))


# --- streams


async def test_a_stream_is_as_it_is_decoded(shared: TransformersBackend, endless: Engine, name: str) -> None:
    assert endless.batcher is not None
    request = with_ids(QUESTIONS[13], name, max_tokens=120)._replace(stream=True)
    before = endless.batcher.speed()["reply_tokens"]
    stream = shared.stream(request)
    first = await anext(stream)
    assert isinstance(first, TextDelta)
    at_first = endless.batcher.speed()["reply_tokens"] - before
    deltas = [first, *[delta async for delta in stream]]
    assert at_first < 120
    assert len(deltas) > 60
    assert isinstance(deltas[-1], Completed)
    assert joined(deltas)[0] == deltas[-1].reply.content


async def test_nobody_is_woken_for_a_token_that_nobody_follows(
    shared: TransformersBackend, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    woken: list[Any] = []
    wake = loop.call_soon_threadsafe

    def count(callback: Any, *args: Any, **more: Any) -> Any:
        woken.append(callback)
        return wake(callback, *args, **more)

    monkeypatch.setattr(loop, "call_soon_threadsafe", count)
    got = await reply(shared, with_ids(QUESTIONS[12], name))
    assert len(got.token_ids or ()) > 6
    assert len(woken) == 1  # done


async def test_who_leaves_stops_and_the_others_go_on(
    shared: TransformersBackend, endless: Engine, name: str
) -> None:
    assert endless.batcher is not None
    stay = with_ids(QUESTIONS[1], name, max_tokens=100)
    wanted = generated(endless, stay, eos_token_id=None)
    before = endless.batcher.speed()["reply_tokens"]
    staying = asyncio.ensure_future(reply(shared, stay))
    leaving = shared.stream(with_ids(QUESTIONS[2], name, max_tokens=900)._replace(stream=True))
    await anext(leaving)
    await leaving.aclose()
    assert (await staying).token_ids == wanted
    assert (await reply(shared, stay)).token_ids == wanted
    assert not endless.batcher._live
    assert endless.batcher.speed()["reply_tokens"] - before < 900


async def test_a_stop_string_over_several_tokens(
    shared: TransformersBackend, engine: Engine, name: str
) -> None:
    whole = await reply(shared, with_ids("What is 17 times 23?", name))
    assert len(whole.content) > 20
    for start in range(0, len(whole.content) - 6, 3):
        stop = whole.content[start : start + 6]
        got = await reply(shared, with_ids("What is 17 times 23?", name, stop=stop))
        assert got.content == whole.content[: whole.content.index(stop)]
        # no token after the one that completes the stop string
        ids = list(got.token_ids or ())
        assert ids == list(whole.token_ids or ())[: len(ids)]
        assert stop in engine.loaded.tokenizer.decode(ids)
        assert stop not in engine.loaded.tokenizer.decode(ids[:-1])


# --- what a reply shows


async def test_log_probabilities_are_the_models_own(
    shared: TransformersBackend, engine: Engine, name: str
) -> None:
    request = with_ids(QUESTIONS[12], name, temperature=1.3, top_k=4, seed=1, logprobs=True, top_logprobs=3)
    mates = [reply(shared, with_ids(text, name)) for text in QUESTIONS[:5]]
    got = (await asyncio.gather(reply(shared, request), *mates))[0]
    ids = [*(got.prompt_token_ids or ()), *(got.token_ids or ())]
    with torch.inference_mode():
        logs = engine.loaded.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    assert got.logprobs is not None
    assert len(got.logprobs) == len(got.token_ids or ())
    for place, told in enumerate(got.logprobs):
        there = logs[len(got.prompt_token_ids or ()) - 1 + place]
        assert told["id"] == (got.token_ids or ())[place]
        assert told["logprob"] == pytest.approx(float(there[told["id"]]), abs=1e-3)
        best = there.topk(3)
        assert [top["logprob"] for top in told["top"]] == pytest.approx(best.values.tolist(), abs=1e-3)
        assert told["token"] == engine.loaded.tokenizer.decode([told["id"]])
    json.dumps(got.logprobs)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
async def test_a_tool_that_must_be_called(choice: Any, shared: TransformersBackend, name: str) -> None:
    sampling = {"temperature": 0, "max_tokens": 80, "tool_choice": choice}
    got = await reply(shared, ask("Hello.", model=name, tools=(ADD,), sampling=sampling))
    assert {call.name for call in got.tool_calls} == {"add"}
    assert set(got.tool_calls[0].parsed()) == {"a", "b"}
    assert got.finish_reason == "tool_calls"


async def test_tools_that_must_not_be_called(shared: TransformersBackend, name: str) -> None:
    asked = ask("What is 1 plus 2?", model=name, tools=(ADD,), sampling=GREEDY)
    assert (await reply(shared, asked)).tool_calls
    none = asked._replace(sampling={**GREEDY, "tool_choice": "none"})
    without = await reply(shared, none)
    assert not without.tool_calls
    assert without.content == (await reply(shared, asked._replace(tools=()))).content


async def test_how_a_format_was_held_to(shared: TransformersBackend, name: str) -> None:
    def asked(body: dict[str, Any], **more: Any) -> Request:
        form = {"name": "answer", "schema": body, "strict": True}
        sampling = {"temperature": 0, "max_tokens": 60}
        return ask("What is 17 times 23?", model=name, format=form, sampling=sampling, **more)

    unit = schema(unit={"enum": ["none", "metres"]})["schema"]
    got = await reply(shared, asked(unit))
    assert (got.enforced, json.loads(got.content)["unit"] in ("none", "metres")) == ("grammar", True)
    some = {"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": True, "maxItems": 3}
    got = await reply(shared, asked(some))
    assert got.enforced == "grammar except uniqueItems"
    assert set(json.loads(got.content)) <= {"a", "b"}
    assert (await reply(shared, asked(unit, tools=(ADD,)))).enforced == "validation"


def test_integers_get_an_end_where_that_narrows_the_schema() -> None:
    most, least = {"maximum": LARGEST}, {"minimum": -LARGEST}
    whole = {"type": "integer"}
    for given, wanted in (
        (whole, {**whole, **most, **least}),
        ({**whole, "minimum": 3}, {**whole, "minimum": 3, **most}),
        ({**whole, "minimum": LARGEST * 10}, {**whole, "minimum": LARGEST * 10}),
        ({**whole, "exclusiveMaximum": 5}, {**whole, "exclusiveMaximum": 5, **least}),
        ({"properties": {"type": whole}}, {"properties": {"type": {**whole, **most, **least}}}),
        ({"anyOf": [whole, True]}, {"anyOf": [{**whole, **most, **least}, True]}),
        *(((same := {key: [whole]}), same) for key in ("oneOf", "enum", "examples")),
        ({"not": whole}, {"not": whole}),
    ):
        assert bounded(given) == wanted
    assert without({"properties": {"not": {"not": {}, "a": 1}}, "not": 1}, ["not"]) == {
        "properties": {"not": {"a": 1}}
    }


async def test_together_with_a_format(shared: TransformersBackend, name: str) -> None:
    form = schema(unit={"enum": ["none", "metres"]}, well={"type": "boolean"})
    held = ask("Hello.", model=name, format=form, sampling=GREEDY)
    plain = with_ids(QUESTIONS[3], name)
    wanted = (await reply(shared, plain)).content
    got = await asyncio.gather(*(reply(shared, one) for one in (held, plain, held, plain)))
    assert [one.content for one in got[1::2]] == [wanted] * 2
    assert set(json.loads(got[0].content)) == {"unit", "well"}
    assert got[0].content == got[2].content


async def test_embeddings(shared: TransformersBackend, engine: Engine, name: str) -> None:
    texts = ["What is 1 plus 2?", "Hello.", "A much longer text about trams and hats, with many words."]
    vectors = await shared.embed(name, texts)
    assert [len(vector) for vector in vectors] == [256] * 3
    for text, vector in zip(texts, vectors, strict=True):
        ids = torch.tensor([engine.loaded.tokenizer(text)["input_ids"]])
        with torch.inference_mode():
            states = engine.loaded.model(ids, output_hidden_states=True).hidden_states[-1]
        assert vector == pytest.approx(states[0].mean(0).tolist(), abs=1e-4)


# --- through the library's generate


async def test_options_reach_generate(shared: TransformersBackend, engine: Engine, name: str) -> None:
    for options in ({"num_beams": 3}, {"no_repeat_ngram_size": 2}, {"suppress_tokens": [731]}):
        request = with_ids(QUESTIONS[14], name, generate=options)
        wanted = generated(engine, request, **options)
        assert (await reply(shared, request)).token_ids == wanted
        streamed = await collect(shared, request._replace(stream=True))
        assert isinstance(streamed[-1], Completed)
        assert streamed[-1].reply.token_ids == wanted
        assert joined(streamed)[0] == streamed[-1].reply.content
    plain = generated(engine, with_ids(QUESTIONS[14], name))
    assert wanted[0] != 731 == plain[0] or wanted == plain


async def test_alone_as_in_a_batch(shared: TransformersBackend, name: str) -> None:
    """The same settings, through `generate`."""
    for settings in (
        {"logprobs": True, "top_logprobs": 2},
        {"repetition_penalty": 1.8},
        {"presence_penalty": 1.5, "frequency_penalty": 1.0},
        {"stop": ["l", "e"]},
        {"max_tokens": 3},
    ):
        request = with_ids(QUESTIONS[13], name, **settings)
        batched = await reply(shared, request)
        alone = await reply(shared, with_ids(QUESTIONS[13], name, **settings, generate={"use_cache": True}))
        assert (alone.token_ids, alone.content) == (batched.token_ids, batched.content), settings
        assert alone.finish_reason == batched.finish_reason
        for one, other in zip(alone.logprobs or (), batched.logprobs or (), strict=True):
            assert one["logprob"] == pytest.approx(other["logprob"], abs=1e-3)


async def test_generate_can_be_left(shared: TransformersBackend, endless: Engine, name: str) -> None:
    request = with_ids(QUESTIONS[13], name, max_tokens=900, generate={"use_cache": True})
    stream = shared.stream(request._replace(stream=True))
    await anext(stream)
    await stream.aclose()
    short = with_ids(QUESTIONS[13], name, max_tokens=4, generate={"use_cache": True})
    assert len((await reply(shared, short)).token_ids or ()) == 4


# --- other models


def other(folder: Path, forms: Forms, config: Any) -> str:
    """Random weights of another architecture, with the embedded model's tokenizer."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for part in model.parameters():
        part.data *= 8.0 if part.dim() > 1 else 1.0  # far from ties
    model.save_pretrained(folder)
    for file in forms.folder.glob("*"):
        if "token" in file.name or file.suffix == ".jinja":
            shutil.copy(file, folder / file.name)
    return str(folder)


SIZE: dict[str, Any] = {"vocab_size": 1024, "eos_token_id": 2, "pad_token_id": 0, "bos_token_id": 0}


def configs() -> dict[str, Any]:
    from transformers import GPT2Config, LlamaConfig, MistralConfig, Qwen3Config

    small = {
        **SIZE, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 256,
    }  # fmt: skip
    return {
        "heads that share": LlamaConfig(**small),
        "normed heads": Qwen3Config(**small, head_dim=16),
        "learned positions": GPT2Config(**SIZE, n_positions=256, n_embd=64, n_layer=2, n_head=4),
        "sliding window": MistralConfig(**small, sliding_window=8),
    }


@pytest.mark.parametrize("kind", ["heads that share", "normed heads", "learned positions", "sliding window"])
async def test_another_architecture(
    kind: str, fresh: TransformersBackend, forms: Forms, tmp_path: Path
) -> None:
    path = other(tmp_path / "other", forms, configs()[kind])
    engine = await asyncio.to_thread(fresh.load, path)
    batching = fresh.info(path)["batching"]
    assert batching == "on" if kind != "sliding window" else "off" in batching
    assert kind != "sliding window" or "Sliding" in batching
    requests = [with_ids(text, path, max_tokens=12) for text in QUESTIONS[::5]]
    got = await asyncio.gather(*(reply(fresh, request) for request in requests))
    for request, one in zip(requests, got, strict=True):
        assert one.token_ids == generated(engine, request)


async def test_half_precision(name: str) -> None:
    backend = TransformersBackend(device="cpu", threads=1, dtype="bfloat16")
    got = await asyncio.gather(*(reply(backend, with_ids(text, name)) for text in QUESTIONS[:3]))
    assert backend.info(name)["batching"] == "on"
    assert all(one.content for one in got)
    await backend.aclose()


async def test_a_gguf_file(fresh: TransformersBackend, shared: TransformersBackend, forms: Forms) -> None:
    one = await reply(fresh, with_ids(QUESTIONS[0], str(forms.gguf_q8)))
    two = await reply(shared, with_ids(QUESTIONS[0], str(forms.folder)))
    assert (one.token_ids, one.model) == (two.token_ids, forms.gguf_q8.name)


# --- what goes wrong


async def test_a_failure_fails_who_was_in_it_and_the_thread_goes_on(
    shared: TransformersBackend, engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = with_ids(QUESTIONS[4], name)
    wanted = (await reply(shared, request)).token_ids
    left = [5]

    def fail(*args: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise RuntimeError("the flux is off")
        return type(engine.loaded.model).forward(engine.loaded.model, *args, **more)

    monkeypatch.setattr(engine.loaded.model, "forward", fail)
    with pytest.raises(ProviderError, match="the flux is off") as caught:
        await reply(shared, request)
    assert not caught.value.retryable
    assert (await reply(shared, request)).token_ids == wanted


@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError("no"), SystemExit(3)]
)
async def test_no_memory_and_a_thread_that_dies(
    error: BaseException,
    step: int,
    shared: TransformersBackend,
    engine: Engine,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = with_ids(QUESTIONS[4], name)
    wanted = (await reply(shared, request)).token_ids
    left = [step]

    def fail(*args: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise error
        return type(engine.loaded.model).forward(engine.loaded.model, *args, **more)

    monkeypatch.setattr(engine.loaded.model, "forward", fail)
    with pytest.raises(ProviderError) as caught:
        await asyncio.gather(*(reply(shared, request) for _ in range(3)))
    assert not caught.value.retryable
    if not isinstance(error, SystemExit):
        assert isinstance(caught.value, OutOfMemory)
        assert "memory" in caught.value.message
        assert "max_tokens" in str(caught.value)
    await asyncio.sleep(0.05)
    assert (await reply(shared, request)).token_ids == wanted


async def test_a_row_that_fails_alone(
    shared: TransformersBackend, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lllm.backends.transformers.constrained import Matcher

    def refuse(*_: Any) -> None:
        raise RuntimeError("no such token")

    monkeypatch.setattr(Matcher, "accept", refuse)
    plain = with_ids(QUESTIONS[5], name)
    held = ask("Hello.", model=name, format=schema(a={"type": "boolean"}), sampling=GREEDY)
    wanted = (await reply(shared, plain)).token_ids
    got = await asyncio.gather(*(reply(shared, one) for one in (plain, held, plain)), return_exceptions=True)
    assert isinstance(got[1], ProviderError)
    assert [one.token_ids for one in got[::2] if isinstance(one, Reply)] == [wanted] * 2


async def test_a_limit_of_time(shared: TransformersBackend, endless: Engine, name: str) -> None:
    assert endless.batcher is not None
    request = with_ids(QUESTIONS[5], name, max_tokens=900)._replace(timeouts=limits(total=0.05))
    with pytest.raises(ProviderTimeout, match=r"did not finish within 0\.05 s") as caught:
        await reply(shared, request)
    assert caught.value.stage == "total"
    assert os.sep not in caught.value.message


@pytest.mark.parametrize(
    ("sampling", "kind", "told"),
    [
        ({"temprature": 1}, UnknownKeyError, "temperature"),
        ({"reasoning_effort": "low"}, UnsupportedError, "reasoning_effort"),
        ({"temperature": -1}, BadRequestError, "temperature is -1"),
        ({"top_p": 2}, BadRequestError, "top_p is 2"),
        ({"temperature": 1, "top_p": 0.0, "top_k": 1.5}, BadRequestError, "top_k is 1.5"),
        ({"max_tokens": 0}, BadRequestError, "max_tokens is 0"),
        ({"seed": "x"}, BadRequestError, "seed"),
        ({"generate": {"numbeams": 2}}, UnknownKeyError, "num_beams"),
        ({"generate": {"max_new_tokens": 2}}, ConfigError, "max_tokens"),
        ({"generate": {"num_return_sequences": 2}}, UnsupportedError, "one reply"),
    ],
)
async def test_settings_that_make_no_sense(
    sampling: dict[str, Any], kind: type[Exception], told: str, shared: TransformersBackend, name: str
) -> None:
    with pytest.raises(kind, match=told):
        await reply(shared, ask(model=name, sampling=sampling))


def test_options_that_make_no_sense() -> None:
    for options, told in (
        ({"batch": 0}, "batch is 0"),
        ({"prefix_tokens": -1}, "prefix_tokens is -1"),
        ({"devise": "cpu"}, "device"),
    ):
        with pytest.raises(ConfigError, match=told):
            TransformersBackend(**options)


async def test_a_model_that_is_not_there(fresh: TransformersBackend, tmp_path: Path) -> None:
    with pytest.raises(ProviderError) as caught:
        await reply(fresh, ask(model=str(tmp_path / "nothing")))
    assert str(tmp_path) not in str(caught.value)


# --- loading and closing


async def test_one_load_however_many_ask(
    fresh: TransformersBackend, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    load = loading.load

    def count(path: str, options: Any) -> Any:
        loads.append(path)
        return load(path, options)

    monkeypatch.setattr(loading, "load", count)
    got = await asyncio.gather(*(reply(fresh, with_ids("Hi.", name)) for _ in range(6)))
    assert len({one.content for one in got}) == 1
    assert loads == [name]


async def test_closing_frees_the_model_and_ends_the_thread(fresh: TransformersBackend, name: str) -> None:
    await asyncio.gather(*(reply(fresh, with_ids(text, name)) for text in QUESTIONS[:3]))
    engine = fresh.load(name)
    assert engine.batcher is not None
    model, thread = weakref.ref(engine.loaded.model), engine.batcher._thread
    assert thread is not None
    del engine
    waiting = asyncio.ensure_future(reply(fresh, with_ids(QUESTIONS[13], name)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await fresh.aclose()
    assert gone(model)
    assert not thread.is_alive()
    assert (await reply(fresh, with_ids("Hi.", name))).content


@pytest.mark.parametrize("options", [{}, {"generate": {"use_cache": True}}])
async def test_closing_under_way_is_an_error_for_who_waits(
    options: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = TransformersBackend(device="cpu", threads=1)
    engine = await asyncio.to_thread(backend.load, name)
    monkeypatch.setattr(engine.loaded, "eos", frozenset())
    request = with_ids(QUESTIONS[13], name, max_tokens=900, **options)
    stream = backend.stream(request._replace(stream=True))
    await anext(stream)
    await backend.aclose()
    with pytest.raises(ProviderError, match="closed"):
        async for _ in stream:
            pass


async def test_a_forked_child_decodes(shared: TransformersBackend, name: str) -> None:
    request = with_ids("What is 3 times 4?", name)
    wanted = (await reply(shared, request)).content
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            loop = asyncio.new_event_loop()
            asyncio._set_running_loop(None)
            said = loop.run_until_complete(reply(shared, request)).content
            os.write(write, said.encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        got = await asyncio.to_thread(pipe.read)
    os.waitpid(child, 0)
    assert got == wanted
