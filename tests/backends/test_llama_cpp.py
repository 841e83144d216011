"""GGUF files on xllamacpp: real weights, real inference."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from lllm.backends.embedded import WEIGHTS, EmbeddedBackend
from lllm.backends.llama_cpp import LlamaCppBackend
from lllm.backends.llama_cpp.grammar import express
from lllm.backends.llama_cpp.options import Options
from lllm.errors import (
    BadRequestError,
    ConfigError,
    ContextLengthError,
    DependencyError,
    LLMError,
    LLMInitializationError,
    ProviderError,
    ProviderTimeout,
    UnknownKeyError,
    UnsupportedError,
)
from lllm.models.message import Message, user
from lllm.models.reply import Reply
from lllm.ports import Completed, Request, TextDelta, ToolCallDelta
from tests.backends.helpers import ask, collect, joined, limits, reply

MODEL = str(WEIGHTS)
QUESTION = "What is 17 times 23?"
GREEDY = {"temperature": 0, "max_tokens": 64}


def tool(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}


CALCULATE = tool("calculate", expression={"type": "string"})
WEATHER = tool(
    "weather", city={"enum": ["Oslo", "Rome"]}, days={"type": "integer", "minimum": 1, "maximum": 7}
)


def of(text: str = QUESTION, **more: Any) -> Request:
    more["sampling"] = {**GREEDY, **more.get("sampling", {})}
    return ask(text, model=MODEL, **more)


@pytest.fixture(scope="module")
def shared() -> LlamaCppBackend:
    return LlamaCppBackend(context=1024, threads=1)


@pytest.fixture
async def backend() -> AsyncIterator[LlamaCppBackend]:
    one = LlamaCppBackend(context=1024, threads=1)
    yield one
    await one.aclose()


# --- options


class Refused(Exception):
    """Ends the loading where the parameters have been seen."""


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The parameters that the library is loaded with."""
    import xllamacpp

    seen: list[Any] = []

    def server(parameters: Any) -> Any:
        seen.append(parameters)
        raise Refused("seen")

    monkeypatch.setattr(xllamacpp, "Server", server)
    return seen


def parameters(given: list[Any], **options: Any) -> Any:
    with pytest.raises(LLMInitializationError, match="seen"):
        LlamaCppBackend(**options).load(MODEL)
    return given[-1]


@pytest.mark.parametrize(
    ("options", "reads", "value"),
    [
        ({}, lambda p: p.n_ctx, 4 * 1024),  # what the file was trained for
        ({"context": 300}, lambda p: p.n_ctx, 1200),
        ({"context": 300, "slots": 2}, lambda p: (p.n_ctx, p.n_parallel), (600, 2)),
        ({}, lambda p: p.cpuparams.n_threads, 1),
        ({"threads": 3}, lambda p: (p.cpuparams.n_threads, p.cpuparams_batch.n_threads), (3, 3)),
        ({}, lambda p: p.n_gpu_layers, 0),
        ({"gpu_layers": 7}, lambda p: p.n_gpu_layers, 7),
        ({"gpu_layers": -1}, lambda p: p.n_gpu_layers > 1000, True),
        ({"seed": 5}, lambda p: p.sampling.seed, 5),
        ({"chat_template": "{{ 1 }}"}, lambda p: p.chat_template, "{{ 1 }}"),
        ({"flash_attention": True}, lambda p: int(p.flash_attn_type), 1),
        ({"flash_attention": False}, lambda p: int(p.flash_attn_type), 0),
        ({}, lambda p: int(p.flash_attn_type), -1),
        ({"lora": [(MODEL, 0.5), MODEL]}, lambda p: [(a.path, a.scale) for a in p.lora_adapters],
         [(MODEL, 0.5), (MODEL, 1.0)]),
        ({"lora": MODEL}, lambda p: len(p.lora_adapters), 1),
        ({"embedding": True}, lambda p: (p.embedding, int(p.pooling_type)), (True, 1)),
        ({}, lambda p: (p.cache_prompt, p.embedding, len(p.api_keys)), (True, False, 1)),
    ],
)  # fmt: skip
def test_each_option_reaches_the_library(
    options: dict[str, Any], reads: Any, value: Any, given: list[Any]
) -> None:
    assert reads(parameters(given, **options)) == value


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": "xlamacpp"}, ["engine is 'xlamacpp'", "Did you mean 'xllamacpp'?"]),
        ({"slots": 0}, ["slots is 0; it is a whole number, 1 or more"]),
        ({"slots": True}, ["slots is True"]),
        ({"context": float("nan")}, ["context is nan"]),
        ({"threads": 1.5}, ["threads is 1.5"]),
        ({"gpu_layers": -2}, ["gpu_layers is -2"]),
        ({"gpu_layers": None}, ["gpu_layers is None"]),
        ({"seed": -1}, ["seed is -1"]),
        ({"lora": [("a", float("nan"))]}, ["lora is"]),
        ({"lora": 5}, ["lora is 5"]),
        ({"chat_template": " "}, ["chat_template is ' '"]),
        ({"flash_attention": "yes"}, ["flash_attention is 'yes'"]),
        ({"contxt": 5}, ["unknown key 'contxt'", "Did you mean 'context'?"]),
        ({"slots": -1, "context": 0, "gpu_layer": 1}, ["3 problems", "slots is -1", "context is 0", "'gpu_layers'"]),
    ],
)  # fmt: skip
def test_options_that_make_no_sense(options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        LlamaCppBackend(**options)
    for word in words:
        assert word in str(caught.value)


def test_making_one_imports_no_library() -> None:
    import subprocess

    program = (
        "import sys; from lllm.backends.llama_cpp import LlamaCppBackend as B; B(slots=2)\n"
        "assert not {'xllamacpp', 'llama_cpp', 'numpy', 'torch', 'gguf'} & set(sys.modules)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


async def test_what_it_is(shared: LlamaCppBackend) -> None:
    info = await asyncio.to_thread(shared.info, MODEL)
    assert info["architecture"] == "llama"
    assert info["parameters"] == 3475712
    assert info["quantisation"] == "Q8_0"
    assert (info["context"], info["slots"], info["threads"], info["gpu_layers"]) == (1024, 4, 1, 0)
    assert "<tool_call>" in info["template"]
    assert info["engine"] == "xllamacpp"
    assert info["engine_version"]
    engine = shared.load(MODEL)
    assert engine.tokenize("Hello <|im_end|>") != engine.tokenize("Hello ")
    assert len(engine.tokenize("1234")) == 4  # this vocabulary has a token for each digit
    await reply(shared, of())
    speed = shared.speed()[WEIGHTS.name]
    assert speed["tokens_per_second"] > 1
    assert speed["prompt_per_second"] > 1


async def test_nobody_else_can_ask_over_the_port(shared: LlamaCppBackend) -> None:
    from urllib.error import HTTPError
    from urllib.request import urlopen

    address = shared.load(MODEL)._server.listening_address
    assert "127.0.0.1" in address
    with pytest.raises(HTTPError) as caught:
        await asyncio.to_thread(urlopen, f"{address}/props")
    assert caught.value.code == 401
    caught.value.close()


# --- loading


async def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "tiny-q8_0.gguf").write_bytes(b"GGUF")
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    for name, hint in (
        ("tiny-q4_0.gguf", "tiny-q8_0.gguf"),
        (".", "other.gguf"),
        ("no/x.gguf", "path of a .gguf"),
    ):
        with pytest.raises(LLMInitializationError) as caught:
            LlamaCppBackend().load(str(tmp_path / name))
        assert hint in str(caught.value)
        assert str(tmp_path) not in str(caught.value)
        with pytest.raises(ProviderError, match="there is no file") as failed:
            await collect(LlamaCppBackend(), ask(model=str(tmp_path / name)))
        assert hint in str(failed.value)


@pytest.mark.parametrize("engine", ["xllamacpp", "llama-cpp-python"])
def test_files_that_are_no_models(engine: str, tmp_path: Path) -> None:
    text, broken = tmp_path / "text.gguf", tmp_path / "broken.gguf"
    text.write_text("Hello.")
    broken.write_bytes(WEIGHTS.read_bytes()[:200_000])
    for file, words in ((text, "is no GGUF file"), (broken, "could not be loaded")):
        with pytest.raises(LLMInitializationError, match=words) as caught:
            LlamaCppBackend(engine=engine, context=512).load(str(file))
        assert file.name in str(caught.value)
        assert str(tmp_path) not in str(caught.value)


def test_an_adapter_that_is_missing_or_none(tmp_path: Path) -> None:
    with pytest.raises(LLMInitializationError, match=r"adapter tone\.gguf"):
        LlamaCppBackend(lora=tmp_path / "tone.gguf").load(MODEL)
    with pytest.raises(LLMInitializationError):
        LlamaCppBackend(lora=MODEL).load(MODEL)


async def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nobodys_machine: Path) -> None:
    shutil.copyfile(WEIGHTS, nobodys_machine / "tiny.gguf")
    backend = LlamaCppBackend(context=256, slots=1)
    for name in ("tiny.gguf", "~/tiny.gguf"):
        assert (await reply(backend, ask(QUESTION, model=name))).model == name
    await backend.aclose()


async def test_a_file_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import xllamacpp

    loads: list[Any] = []
    real = xllamacpp.Server

    def server(given: Any) -> Any:
        loads.append(threading.current_thread())
        time.sleep(0.05)
        return real(given)

    monkeypatch.setattr(xllamacpp, "Server", server)
    backend = LlamaCppBackend(context=512)
    said = await asyncio.gather(*(reply(backend, of(stream=bool(n % 2))) for n in range(8)))
    assert len({one.content for one in said}) == 1
    assert len(loads) == 1
    assert loads[0] is not threading.current_thread()
    await backend.aclose()
    assert (await reply(backend, of())).content == said[0].content
    assert len(loads) == 2
    await backend.aclose()


async def test_the_time_to_load_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    import xllamacpp

    real = xllamacpp.Server

    def slow(given: Any) -> Any:
        time.sleep(0.3)
        return real(given)

    monkeypatch.setattr(xllamacpp, "Server", slow)
    backend = LlamaCppBackend(context=512)
    with pytest.raises(ProviderTimeout) as caught:
        await collect(backend, of(timeouts=limits(total=0.05)))
    assert caught.value.stage == "total"
    assert (await reply(backend, of())).content
    await backend.aclose()


@pytest.mark.parametrize(
    ("missing", "engine", "used"),
    [
        ((), None, "xllamacpp"),
        ((), "llama-cpp-python", "llama-cpp-python"),
        (("xllamacpp",), None, "llama-cpp-python"),
        (("xllamacpp",), "xllamacpp", "llama-cpp-python"),
        (("llama_cpp",), "llama-cpp-python", "xllamacpp"),
    ],
)
def test_the_engine_that_is_there_is_used(
    missing: tuple[str, ...], engine: str | None, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in missing:
        monkeypatch.setitem(sys.modules, module, None)
    backend = LlamaCppBackend(engine=engine, context=256, slots=1)
    assert backend.info(MODEL)["engine"] == used
    asyncio.run(backend.aclose())


@pytest.mark.parametrize(("engine", "extra"), [(None, "local"), ("llama-cpp-python", "llama-cpp")])
def test_without_any_engine(engine: str | None, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("xllamacpp", "llama_cpp"):
        monkeypatch.setitem(sys.modules, module, None)
    assert importlib.util.find_spec("xllamacpp") is None
    with pytest.raises(DependencyError) as caught:
        asyncio.run(collect(LlamaCppBackend(engine=engine), of()))
    assert f"lllm[{extra}]" in str(caught.value)


@pytest.mark.parametrize("engine", ["xllamacpp", "llama-cpp-python", "transformers"])
async def test_the_embedded_model_on_each_engine(engine: str) -> None:
    backend = EmbeddedBackend(engine=engine)
    got = await reply(backend, ask(QUESTION, tools=(CALCULATE,), stream=True))
    assert got.tool_calls[0].parsed() == {"expression": "17 * 23"}
    assert got.model == "embedded"
    info = await asyncio.to_thread(backend.info)
    assert info["engine"] == engine
    await backend.aclose()


# --- a request


@pytest.mark.parametrize(
    ("request_", "kind", "words"),
    [
        (of(sampling={"temprature": 1}), UnknownKeyError, "temperature"),
        (of(sampling={"reasoning_effort": "low"}), UnsupportedError, "reasoning_effort"),
        (of(messages=(Message("user", [{"type": "image_url", "image_url": {"url": "data:,"}}]),)),
         UnsupportedError, "image"),
        (of(tools=(CALCULATE,), sampling={"tool_choice": "sometimes"}), BadRequestError, "tool_choice is 'sometimes'"),
        (of(tools=(CALCULATE,), sampling={"tool_choice": {"function": {"name": "calc"}}}), BadRequestError, "calculate"),
        (of(sampling={"temperature": float("nan")}), BadRequestError, "temperature"),
        (of(sampling={"temperature": "hot"}), BadRequestError, "refused the request"),
        (of("a lone surrogate \ud800"), BadRequestError, "refused the request"),
        (of("one two " * 3000), ContextLengthError, "1024"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
async def test_requests_that_cannot_be_met(
    request_: Request, kind: type[LLMError], words: str, stream: bool, shared: LlamaCppBackend
) -> None:
    with pytest.raises(kind, match=words) as caught:
        await collect(shared, request_._replace(stream=stream))
    assert str(WEIGHTS.parent) not in str(caught.value)
    assert (await reply(shared, of())).content


@pytest.mark.parametrize("stream", [False, True])
async def test_stop_strings(stream: bool, shared: LlamaCppBackend) -> None:
    got = await reply(shared, of(sampling={"stop": ["culator to", "zzz"]}, stream=stream))
    assert (got.content, got.finish_reason) == ("I need a cal", "stop")


async def test_a_seed_makes_chance_repeatable(shared: LlamaCppBackend) -> None:
    async def said(backend: LlamaCppBackend, **more: Any) -> str:
        hot = {"temperature": 3.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "max_tokens": 24, **more}
        return (await reply(backend, of(sampling=hot))).content

    assert await said(shared, seed=1) == await said(shared, seed=1)
    assert len({await said(shared, seed=seed) for seed in range(4)}) > 1
    seeded = LlamaCppBackend(context=256, slots=1, seed=1)
    assert await said(seeded) == await said(seeded) == await said(shared, seed=1)
    await seeded.aclose()


async def test_penalties_and_biases(shared: LlamaCppBackend) -> None:
    plain = await reply(shared, of(sampling={"token_ids": True}))
    assert plain.token_ids is not None
    biased = await reply(shared, of(sampling={"logit_bias": {str(plain.token_ids[0]): -100}}))
    assert not biased.content.startswith(plain.content[0])
    many = {"name": "a", "schema": {"type": "array", "items": {"type": "integer"}, "minItems": 9}}
    free = await reply(shared, of(format=many))
    for key in ("repetition_penalty", "presence_penalty", "frequency_penalty"):
        assert (await reply(shared, of(format=many, sampling={key: 1.9}))).content != free.content


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("tools", [(), (CALCULATE,)])
async def test_token_ids_and_log_probabilities(
    stream: bool, tools: tuple[Any, ...], shared: LlamaCppBackend
) -> None:
    sampling = {"token_ids": True, "logprobs": True, "top_logprobs": 2}
    got = await reply(shared, of(sampling=sampling, tools=tools, stream=stream))
    assert got.usage is not None
    assert got.token_ids is not None
    assert got.prompt_token_ids is not None
    assert got.logprobs is not None
    assert (len(got.prompt_token_ids), len(got.token_ids)) == got.usage[:2]
    assert [entry["id"] for entry in got.logprobs] == got.token_ids
    assert all(len(entry["top"]) == 2 and entry["logprob"] <= 0 for entry in got.logprobs)
    if not tools:
        engine = shared.load(MODEL)
        assert got.token_ids[:-1] == engine.tokenize(got.content)
        assert got.prompt_token_ids == engine._tokens(
            f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n", special=True
        )
    assert (await reply(shared, of())).token_ids is None


async def test_log_probabilities_without_others(shared: LlamaCppBackend) -> None:
    for stream in (False, True):
        got = await reply(shared, of(sampling={"logprobs": True, "max_tokens": 3}, stream=stream))
        assert got.logprobs is not None
        assert [entry["top"] for entry in got.logprobs] == [[]] * 3


async def test_a_template_of_ones_own() -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\nSay this: {{ m.content }}<|im_end|>\n{% endfor %}"
        "<|im_start|>assistant{{ '\n' }}"
    )
    backend = LlamaCppBackend(context=256, slots=1, chat_template=template)
    got = await reply(backend, of("Hi.", sampling={"token_ids": True}))
    engine = backend.load(MODEL)
    said = "<|im_start|>user\nSay this: Hi.<|im_end|>\n<|im_start|>assistant\n"
    assert got.prompt_token_ids == engine._tokens(said, special=True)
    with pytest.raises(UnsupportedError, match="cannot be made to call"):
        await collect(backend, of(tools=(CALCULATE,), sampling={"tool_choice": "required"}))
    await backend.aclose()


# --- tools


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", {"calculate", "weather"}),
        ({"type": "function", "function": {"name": "weather"}}, {"weather"}),
        ({"type": "function", "function": {"name": "calculate"}}, {"calculate"}),
    ],
)
async def test_a_call_can_be_required(
    choice: Any, names: set[str], stream: bool, shared: LlamaCppBackend
) -> None:
    tools = (CALCULATE, WEATHER)
    by_name = {one["function"]["name"]: one["function"]["parameters"] for one in tools}
    for text in ("Hello!", "How are you?", QUESTION):
        request = of(text, tools=tools, sampling={"tool_choice": choice, "max_tokens": 200}, stream=stream)
        deltas = await collect(shared, request)
        assert isinstance(deltas[-1], Completed)
        got = deltas[-1].reply
        (call,) = got.tool_calls
        assert call.name in names
        assert jsonschema_rs.is_valid(by_name[call.name], call.parsed())
        assert (got.finish_reason, got.content) == ("tool_calls", "")
        if stream:
            assert joined(deltas)[2] == [call]
    assert not (await reply(shared, of("Hello!", tools=tools))).tool_calls


async def test_tools_with_a_format_are_validated_afterwards(shared: LlamaCppBackend) -> None:
    given = {"name": "a", "schema": {"type": "object"}}
    got = await reply(shared, of(tools=(CALCULATE,), format=given))
    assert got.tool_calls
    assert got.enforced == "validation"


# --- structured replies

NODE = {
    "type": "object",
    "properties": {"v": {"type": "integer", "minimum": 1, "maximum": 5}, "kids": {"type": "array",
                   "items": {"$ref": "#/$defs/node"}, "maxItems": 2}},
    "required": ["v"],
}  # fmt: skip
HELD: dict[str, Any] = {
    "anything": {},
    "true": True,
    "integer": {"type": "integer"},
    "boolean or null": {"type": ["boolean", "null"]},
    "from 100": {"type": "integer", "minimum": 100},
    "below 0": {"type": "integer", "exclusiveMaximum": 0},
    "between": {"type": "integer", "exclusiveMinimum": -7, "maximum": 12},
    "length": {"type": "string", "minLength": 3, "maxLength": 5},
    "date": {"type": "string", "format": "date"},
    "uuid": {"type": "string", "format": "uuid"},
    "pattern": {"type": "string", "pattern": r"^\d{3}-[A-Z]+(\.x|,)?$"},
    "words": {"type": "string", "pattern": "^(yes|no) (sir|madam)$"},
    "enum": {"enum": ["a\"b", "tab\t", "back\\slash", "é", 1, 2.5, None, True, {"x": [1]}]},
    "enum of one type": {"type": "string", "enum": ["a", 1, "b"]},
    "const": {"const": {"k": [1, "v"]}},
    "object": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["x"]}}, "required": ["b"]},
    "closed": {"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": False},
    "required and not declared": {"type": "object", "required": ["a"], "additionalProperties": {"type": "integer"}},
    "names that clash": {"type": "object", "properties": {n: {"type": "integer", "minimum": i, "maximum": i} for i, n in
                         enumerate(("root", "space", "value", "a-b", "a b", "string", "é", "char", "ref"))},
                         "required": ["root", "space", "a-b", "a b", "é", "char"]},
    "map": {"type": "object", "additionalProperties": {"type": "boolean"}},
    "array": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3},
    "array of anything": {"type": "array", "minItems": 1, "maxItems": 2},
    "tuple": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "boolean"}], "items": False},
    "tuple and more": {"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "null"}, "minItems": 3},
    "old tuple": {"$schema": "http://json-schema.org/draft-07/schema#",
                  "type": "array", "items": [{"type": "integer"}, {"enum": ["x"]}], "minItems": 2},
    "union": {"anyOf": [{"type": "integer"}, {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}]},
    "union within": {"type": "object", "required": ["a"], "anyOf": [{"properties": {"a": {"type": "integer"}}},
                     {"properties": {"a": {"type": "null"}}}]},
    "one of": {"oneOf": [
        {"type": "object", "properties": {"kind": {"const": "a"}, "n": {"type": "integer"}}, "required": ["kind", "n"]},
        {"type": "object", "properties": {"kind": {"const": "b"}, "s": {"enum": ["x", "y"]}}, "required": ["kind"]}]},
    "all of": {"allOf": [{"$ref": "#/$defs/p"}, {"properties": {"p": {"maximum": 9}, "q": {"type": "null"}},
               "required": ["q"]}], "$defs": {"p": {"type": "object", "properties": {"p": {"type": "integer",
               "minimum": 2}}, "required": ["p"]}}},
    "recursive": {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
    "itself": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["next"]},
    "escaped reference": {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "boolean"}}},
    "nested": {"type": "object", "required": ["rows"], "properties": {"rows": {"type": "array", "minItems": 1, "maxItems": 2,
               "items": {"type": "object", "properties": {"id": {"type": "integer", "minimum": 10, "maximum": 99},
               "tags": {"type": "array", "items": {"enum": ["x", "y"]}, "maxItems": 2}}, "required": ["id", "tags"]}}}},
}  # fmt: skip
LEFT: dict[str, tuple[Any, str]] = {
    "least number": ({"type": "number", "minimum": 3}, "minimum"),
    "multiples": ({"type": "integer", "multipleOf": 5, "minimum": 0}, "multipleOf"),
    "unique": ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, "uniqueItems"),
    "contains": ({"type": "array", "contains": {"const": 1}, "maxItems": 2}, "contains"),
    "loose pattern": ({"type": "string", "pattern": "a.*b", "maxLength": 9}, "pattern"),
    "lookahead": ({"type": "string", "pattern": "^(?!a)b$", "maxLength": 9}, "pattern"),
    "format": ({"type": "string", "format": "email", "maxLength": 9}, "format"),
    "not": ({"not": {"type": "string"}}, "not"),
    "if": ({"type": "integer", "if": {"minimum": 5}, "then": {"maximum": 9}}, "if"),
    "dependent": ({"type": "object", "properties": {"a": {"type": "null"}}, "dependentRequired": {"a": ["b"]}},
                  "dependentRequired"),
    "names": ({"type": "object", "patternProperties": {"^a": {"type": "null"}}, "propertyNames": {"maxLength": 3},
               "maxProperties": 1}, "maxProperties, patternProperties, propertyNames"),
    "overlap": ({"oneOf": [{"type": "integer"}, {"type": "number", "maximum": 3}]}, "maximum, oneOf"),
    "enum and more": ({"enum": [1, 2, 3], "minimum": 2}, "minimum"),
}  # fmt: skip
IMPOSSIBLE: dict[str, Any] = {
    "elsewhere": {"$ref": "https://example.com/schema.json"},
    "never": False,
    "nothing listed": {"enum": []},
    "nothing but itself": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
    "no number": {"type": "integer", "minimum": 5, "maximum": 4},
    "no type": {"allOf": [{"type": "string"}, {"type": "integer"}]},
    "dynamic": {"$dynamicRef": "#node"},
}


async def said(backend: LlamaCppBackend, schema: Any, temperature: float, seed: int, stream: bool) -> Reply:
    hot = {
        "temperature": temperature,
        "seed": seed,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.01,
        "max_tokens": 300,
    }
    return await reply(
        backend, of("Give me one.", format={"name": "a", "schema": schema}, sampling=hot, stream=stream)
    )


@pytest.mark.parametrize("name", HELD)
async def test_a_grammar_holds(name: str, shared: LlamaCppBackend) -> None:
    whole = 0
    asked = [(0.0, 0), *((2.5, seed) for seed in range(6))]
    got = await asyncio.gather(
        *(said(shared, HELD[name], heat, seed, bool(seed % 2)) for heat, seed in asked)
    )
    for one in got:
        assert one.enforced == "grammar"
        if one.finish_reason == "stop":  # the others are cut off in the middle
            whole += 1
            assert jsonschema_rs.is_valid(HELD[name], json.loads(one.content)), one.content
    assert whole


@pytest.mark.parametrize("name", LEFT)
async def test_a_grammar_says_what_it_does_not_hold(name: str, shared: LlamaCppBackend) -> None:
    schema, words = LEFT[name]
    got = await said(shared, schema, 1.0, 1, False)
    assert got.enforced == f"grammar except {words}"
    if got.finish_reason == "stop":
        json.loads(got.content)


@pytest.mark.parametrize("name", IMPOSSIBLE)
async def test_what_no_grammar_says_is_validated(name: str, shared: LlamaCppBackend) -> None:
    assert express(IMPOSSIBLE[name]) is None
    got = await said(shared, IMPOSSIBLE[name], 0, 1, False)
    assert got.enforced == "validation"


@pytest.mark.parametrize(
    ("given", "bounds"),
    [
        ({"minimum": 3, "exclusiveMinimum": True, "maximum": 9}, (4, 9)),
        ({"minimum": 3, "maximum": 9, "exclusiveMaximum": True}, (3, 8)),
        ({"minimum": 3, "exclusiveMinimum": False, "maximum": 9}, (3, 9)),
    ],
)
def test_exclusive_bounds_of_draft_4(given: dict[str, Any], bounds: tuple[int, int]) -> None:
    made = express({"type": "integer", **given})
    assert made is not None
    assert (made.schema["minimum"], made.schema["maximum"]) == bounds
    assert made.enforced == "grammar"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"type": "object", "properties": 5},
        {"$ref": "#/nowhere"},
        {"properties": {"a": 1}},
        7,
    ],
)
async def test_what_is_no_schema(schema: Any, shared: LlamaCppBackend) -> None:
    with pytest.raises(BadRequestError, match="refused the request"):
        await said(shared, schema, 0, 1, False)


async def test_tags_within_a_value_stay(shared: LlamaCppBackend) -> None:
    schema = {"const": "I <think> that <tool_call> is a </think> tag."}
    for stream in (False, True):
        got = await said(shared, schema, 0, 1, stream)
        assert json.loads(got.content) == schema["const"]
        assert got.thinking is None


# --- stopping, and many at once


class Slow:
    """The library, with a count of the chunks. `held` lets it say so many, and no more until `go`."""

    def __init__(self, library: Any, held: int = 0) -> None:
        self.library = library
        self.held = held
        self.go = threading.Event()
        self.ended = threading.Event()
        self.chunks = 0

    def handle_chat_completions(self, body: Any, on_chunk: Any) -> Any:
        def counted(chunk: Any) -> Any:
            self.chunks += 1
            if self.chunks == self.held:
                assert self.go.wait(120)
            return on_chunk(chunk)

        try:
            return self.library.handle_chat_completions(body, counted)
        finally:
            self.ended.set()


LONG: dict[str, Any] = {
    "format": {"name": "a", "schema": {"type": "array", "items": {"type": "integer"}, "minItems": 400}},
    "sampling": {"max_tokens": 900},
}


@pytest.mark.parametrize("followed", [True, False])
async def test_a_cancelled_reply_ends(
    followed: bool, backend: LlamaCppBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a file that is not small ends whether or not its reply is streamed
    monkeypatch.setattr("lllm.backends.llama_cpp.server.SMALL", 1000)
    engine = backend.load(MODEL)
    engine._server = slow = Slow(engine._server, 3)
    task = asyncio.ensure_future(collect(backend, of(stream=followed, **LONG)))
    while slow.chunks < 3 and not task.done():
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    slow.go.set()
    assert slow.ended.wait(120)
    assert slow.chunks < 600
    assert (await reply(backend, of())).content == "I need a calculator tool to answer that."


async def test_pieces_come_as_they_are_said(backend: LlamaCppBackend) -> None:
    engine = backend.load(MODEL)
    engine._server = slow = Slow(engine._server)
    seen = 0
    async for delta in backend.stream(of(stream=True, **LONG)):
        seen += isinstance(delta, TextDelta)
        if seen == 3:
            assert not slow.ended.is_set()
    assert seen > 100


async def test_eight_at_once_say_what_they_say_alone(shared: LlamaCppBackend) -> None:
    asked = [of(f"What is {n} times {n + 7}?", tools=(CALCULATE,), stream=bool(n % 2)) for n in range(11, 19)]
    got = await asyncio.gather(*(reply(shared, request) for request in asked))
    sums = [one.tool_calls[0].parsed()["expression"] for one in got]
    assert sums == [f"{n} * {n + 7}" for n in range(11, 19)]
    assert {one.tool_calls[0].id for one in got} == {"call_1_1"}


async def test_calls_of_a_stream_come_in_pieces(shared: LlamaCppBackend) -> None:
    deltas = await collect(shared, of(tools=(CALCULATE,), stream=True))
    assert sum(isinstance(delta, ToolCallDelta) for delta in deltas) > 3


# --- what is computed once


async def test_ten_turns_compute_only_what_is_new(backend: LlamaCppBackend) -> None:
    dialog = [Message("system", "You help with sums. " * 12)]
    before = 0
    for turn in range(10):
        dialog.append(user(f"What is {turn} plus 3?"))
        got = await reply(backend, of(messages=tuple(dialog), sampling={"max_tokens": 12}))
        dialog.append(got.message())
        assert got.usage is not None
        computed = got.usage.prompt - got.usage.cached
        new = got.usage.prompt - before
        if turn:
            assert computed <= new, f"turn {turn}: {computed} of {got.usage}"
            assert computed < got.usage.prompt / 3
        before = got.usage.prompt


async def test_a_system_prompt_that_others_had_is_not_computed_again(backend: LlamaCppBackend) -> None:
    system = Message("system", "You help with sums. " * 20)
    for number in range(6):  # more than slots
        got = await reply(backend, of(messages=(system, user(f"What is {number} times 5?"))))
        assert got.usage is not None
        assert number == 0 or got.usage.cached > 60


# --- vectors


async def test_texts_become_vectors(shared: LlamaCppBackend) -> None:
    texts = ["What is 3 plus 4?", "The weather in Oslo", "What is 3 plus 5?", "What is 3 plus 4?"]
    vectors = await shared.embed(MODEL, texts)
    assert [len(vector) for vector in vectors] == [256] * 4

    def near(one: list[float], other: list[float]) -> float:
        length = sum(x * x for x in one) ** 0.5 * sum(x * x for x in other) ** 0.5
        return sum(x * y for x, y in zip(one, other, strict=True)) / length

    assert near(vectors[0], vectors[3]) > 0.9999
    assert near(vectors[0], vectors[2]) > near(vectors[0], vectors[1])
    assert await shared.embed(MODEL, []) == []
    with pytest.raises(ContextLengthError):
        await shared.embed(MODEL, ["one two " * 3000])
    with pytest.raises(BadRequestError):
        await shared.embed(MODEL, [""])
    with pytest.raises(UnsupportedError, match="was loaded to write"):
        shared.load(MODEL).embed(["Hi."])


def test_options_have_defaults() -> None:
    assert Options.of({}) == Options()
