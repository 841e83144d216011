"""VLLMModel: where its values come from, its stream, its client."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from lllm import LLM, Agent, VLLMModel
from lllm.config import load_config
from lllm.errors import (
    AuthenticationError,
    ConfigError,
    ConnectionFailed,
    DeadlineExceeded,
    ModelNotFoundError,
    ProviderFailed,
    RateLimitError,
    StreamInterrupted,
)
from lllm.http.limiter import Limits
from lllm.llm.build import agents_of
from lllm.log import MemoryLog
from tests.servers.openai_server import OpenAIServer, Script

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running


@pytest.fixture
async def model(server: OpenAIServer) -> AsyncIterator[VLLMModel]:
    async with VLLMModel("test-model", server.url, "sk-key-of-the-test", backoff_base=0) as one:
        yield one


async def text(model: VLLMModel, **kwargs: Any) -> str:
    return "".join([piece async for piece in model.call_stream(HELLO, **kwargs)])


async def test_the_snippet_of_the_documents(server: OpenAIServer) -> None:
    model = VLLMModel(model_name="test-model", api_url=server.url, api_key="sk-key-of-the-test")
    server.say("Hello, how are you?")
    pieces = [piece async for piece in model.call_stream(HELLO, max_tokens=50, temperature=0.1)]
    assert len(pieces) > 2
    assert "".join(pieces) == "Hello, how are you?"
    [seen] = server.requests
    assert seen.path == "/v1/chat/completions"
    assert seen.headers["Authorization"] == "Bearer sk-key-of-the-test"
    assert (seen.json["model"], seen.json["max_tokens"], seen.json["temperature"]) == ("test-model", 50, 0.1)
    await model.close_client()


async def test_the_first_piece_comes_before_the_server_ends(server: OpenAIServer, model: VLLMModel) -> None:
    server.say("Hello, how are you?", hang="middle")
    source = model.call_stream(HELLO)
    assert await anext(source)
    await source.aclose()


async def test_it_is_called_like_every_other_llm(server: OpenAIServer, model: VLLMModel) -> None:
    server.answer = lambda body: Script(f"You said {body['messages'][-1]['content']}.")
    assert isinstance(model, LLM)
    assert (await model.acall("this")).content == "You said this."
    assert [str(one) for one in await model.acall(["a", "b"])] == ["You said a.", "You said b."]
    assert str(model("that")) == "You said that."  # blocking, within a running loop
    assert model.model == "openai/test-model"


async def test_thinking_stays_in_the_text_where_wanted(server: OpenAIServer, model: VLLMModel) -> None:
    server.say("<think>Hm.</think>Hello.")
    assert await text(model) == "Hello."
    raw = VLLMModel("test-model", server.url, options={"thinking": "off"})
    server.say("<think>Hm.</think>Hello.")
    assert await text(raw) == "<think>Hm.</think>Hello."
    await raw.close_client()


@pytest.mark.parametrize("given", ["base_url", "apikey", "API_URL", "token", "model", "name"])
def test_another_name_of_the_address_or_the_key_is_not_sent(given: str) -> None:
    with pytest.raises(ConfigError) as caught:
        VLLMModel("m", "http://localhost:1/v1", **{given: "sk-key-of-the-test"})  # type: ignore[arg-type]
    assert f"unknown keyword '{given}'" in str(caught.value)
    assert "api_url=" in str(caught.value)
    assert "sk-key" not in str(caught.value)


# --- where values come from ---

NAMES = {
    "API_URL": "http://localhost:1/v1",
    "API_KEY": "sk-of-the-environment",
    "MODEL_NAME": "named/by-environment",
    "MAX_TOKENS": "32000",
    "TEMPERATURE": "0.7",
}
FILE = {
    "API_URL": "http://localhost:2/v1",
    "API_KEY": "sk-of-the-file",
    "MODEL_NAME": "named/by-file",
    "MAX_TOKENS": "11",
    "TEMPERATURE": "0.2",
}


def sampling(model: VLLMModel) -> dict[str, Any]:
    return dict(model._agent._settings.sampling)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def write_file(folder: Path, **changes: str) -> None:
    (folder / ".env").write_text("".join(f'{name}="{value}"\n' for name, value in (FILE | changes).items()))


def test_from_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NAMES.items():
        monkeypatch.setenv(name, value)
    model = VLLMModel()
    assert (model.api_url, model.model_name) == ("http://localhost:1/v1", "named/by-environment")
    assert "sk-of-the-environment" in model._backend.secrets
    assert sampling(model) == {"max_tokens": 32000, "temperature": 0.7}


def test_from_the_file(folder: Path) -> None:
    write_file(folder)
    model = VLLMModel()
    assert (model.api_url, model.model_name) == ("http://localhost:2/v1", "named/by-file")
    assert "sk-of-the-file" in model._backend.secrets
    assert sampling(model) == {"max_tokens": 11, "temperature": 0.2}
    assert not set(os.environ) & set(NAMES)


def test_argument_before_environment_before_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(folder)
    monkeypatch.setenv("MODEL_NAME", "named/by-environment")
    monkeypatch.setenv("MAX_TOKENS", "22")
    monkeypatch.setenv("TEMPERATURE", "")  # empty is not set, and hides the line of the file
    model = VLLMModel(default_max_tokens=33)
    assert model.model_name == "named/by-environment"
    assert model.api_url == "http://localhost:2/v1"
    assert sampling(model) == {"max_tokens": 33}
    assert sampling(VLLMModel(max_tokens=44)) == {"max_tokens": 44}
    assert os.environ["MAX_TOKENS"] == "22"


def test_nothing_is_sent_that_nobody_said(folder: Path) -> None:
    assert sampling(VLLMModel("m", "localhost:8000")) == {}
    assert VLLMModel("m", "localhost:8000").api_url == "http://localhost:8000/v1"
    assert VLLMModel("m", "https://host/api/v2").api_url == "https://host/api/v2"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model_name": None}, ("model_name", "MODEL_NAME")),
        ({"model_name": " "}, ("model_name", "text")),
        ({"api_url": None}, ("api_url", "API_URL")),
        ({"api_url": "ftp://host"}, ("base_url", "scheme")),
        ({"api_key": 17}, ("api_key", "text")),
        ({"default_max_tokens": 0}, ("default_max_tokens", "whole number")),
        ({"default_max_tokens": True}, ("default_max_tokens", "whole number")),
        ({"default_max_tokens": 1.5}, ("default_max_tokens", "whole number")),
        ({"default_temperature": "hot"}, ("default_temperature", "hot", "0 to 2")),
        ({"default_temperature": 3}, ("default_temperature", "0 to 2")),
        ({"concurrency": 0}, ("concurrency", "whole number")),
        ({"workers": 0}, ("workers",)),
        ({"base_url": "http://localhost:2"}, ("base_url", "api_url=")),
        ({"options": {"thinkin": "off"}}, ("thinkin",)),
        ({"timeouts": {"totl": 3}}, ("timeouts.totl", "total")),
    ],
)
def test_a_bad_value_names_its_field(given: dict[str, Any], words: tuple[str, ...], folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        VLLMModel(**{"model_name": "m", "api_url": "http://localhost:1", **given})
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("MAX_TOKENS", "many"), ("TEMPERATURE", "warm")])
def test_a_bad_variable_is_named_too(
    name: str, value: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        VLLMModel("m", "http://localhost:1")
    assert f"default_{name.lower()}" in str(caught.value)
    assert f"from {name}" in str(caught.value)


# --- the client ---


async def test_closing_twice_and_using_it_again(server: OpenAIServer, model: VLLMModel) -> None:
    server.forever = Script("Hello.")
    assert await text(model) == "Hello."
    assert server.connections == 1
    for _ in range(2):
        await model.close_client()
    assert await text(model) == "Hello."
    assert server.accepted == 2
    while server.connections != 1:
        await asyncio.sleep(0.01)


async def test_a_client_is_its_own(server: OpenAIServer, model: VLLMModel) -> None:
    server.forever = Script("Hello.")
    async with VLLMModel("test-model", server.url, "sk-key-of-the-test") as other:
        assert await text(other) == await text(model) == "Hello."
    while server.connections != 1:
        await asyncio.sleep(0.01)
    assert await text(model) == "Hello."
    assert server.accepted == 2


async def test_left_open_it_warns_when_it_is_collected(server: OpenAIServer) -> None:
    server.forever = Script("Hello.")
    model = VLLMModel("test-model", server.url)
    assert await text(model) == "Hello."
    left = [model]
    del model
    with pytest.warns(ResourceWarning, match="close_client"):
        left.clear()
    gc.collect()
    while server.connections:
        await asyncio.sleep(0.01)


async def test_never_used_or_closed_it_does_not(
    server: OpenAIServer, recwarn: pytest.WarningsRecorder
) -> None:
    server.forever = Script("Hello.")
    VLLMModel("test-model", server.url)
    model = VLLMModel("test-model", server.url)
    await text(model)
    await model.close_client()
    del model
    gc.collect()
    assert not [one for one in recwarn if one.category is ResourceWarning]


# --- faults ---


async def test_a_fault_before_the_first_piece_is_retried(server: OpenAIServer, model: VLLMModel) -> None:
    server.fault(503)
    server.say("Hello.", drop="before")
    server.say("Hello.")
    assert await text(model) == "Hello."
    assert len(server.requests) == 3


async def test_text_is_never_streamed_twice(server: OpenAIServer, model: VLLMModel) -> None:
    server.say("Hello, how are you?", drop="middle")
    server.say("Hello, how are you?")
    seen: list[str] = []

    async def follow() -> None:
        async for piece in model.call_stream(HELLO):
            seen.append(piece)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(StreamInterrupted) as caught:
        await follow()
    assert "".join(seen) == caught.value.partial
    assert caught.value.partial.startswith("Hello")
    assert len(caught.value.partial) < len("Hello, how are you?")
    assert "concurrency=" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, AuthenticationError, ("401", "The key came from api_key")),
        (404, ModelNotFoundError, ("404", "model_name", "/v1")),
    ],
)
async def test_what_is_wrongly_configured_is_tried_once(
    status: int, kind: type[Exception], words: tuple[str, ...], server: OpenAIServer, model: VLLMModel
) -> None:
    server.fault(status)
    with pytest.raises(ProviderFailed) as caught:
        await text(model)
    assert len(server.requests) == 1
    assert [attempt["fault"] for attempt in caught.value.attempts] == [kind.__name__]
    assert isinstance(caught.value.__cause__, kind)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("drop", ["before", "middle"])
async def test_the_last_error_lists_every_attempt(drop: str, server: OpenAIServer) -> None:
    server.forever = Script("Hello, how are you?", drop=drop)
    kind = ConnectionFailed if drop == "before" else StreamInterrupted
    async with VLLMModel("m", server.url, max_provider_retry=3, backoff_base=0) as model:
        with pytest.raises(ProviderFailed) as caught:
            await model.acall("Hello")
    assert [attempt["fault"] for attempt in caught.value.attempts] == [kind.__name__] * 4
    assert len(server.requests) == 4
    assert "after 4 tries" in str(caught.value)


async def test_one_bad_call_of_a_batch_is_an_error_in_its_place(server: OpenAIServer) -> None:
    def answer(body: Any) -> Script:
        if body["messages"][-1]["content"] == "bad":
            return Script(status=401, raw=b'{"error": {"message": "no such key"}}')
        return Script("fine")

    server.answer = answer
    async with VLLMModel("m", server.url) as model:
        one, bad, other = await model.acall(["good", "bad", "good"])
    assert (str(one), str(other)) == ("fine", "fine")
    assert isinstance(bad, ProviderFailed)
    assert isinstance(bad.__cause__, AuthenticationError)


async def test_a_wait_of_hours_is_an_error_at_once(server: OpenAIServer, model: VLLMModel) -> None:
    server.fault(429, retry_after="7200")
    with pytest.raises(ProviderFailed) as caught:
        await model.acall("Hello")
    assert len(server.requests) == 1
    assert "7200 s" in str(caught.value)
    assert isinstance(caught.value.__cause__, RateLimitError)
    assert caught.value.__cause__.retry_after == 7200


async def test_waiting_for_a_turn_counts_against_the_deadline(server: OpenAIServer) -> None:
    server.say("Hello.", hang="before")
    async with VLLMModel("m", server.url, concurrency=1) as model:
        hung = asyncio.ensure_future(model.acall("first"))
        while not server.requests:
            await asyncio.sleep(0.01)
        with pytest.raises(DeadlineExceeded):
            await model.acall("second", deadline=0.1)
        assert model._backend.limiter.waiting == 0
        hung.cancel()
        await asyncio.wait((hung,))
    assert len(server.requests) == 1


# --- limits from configuration ---


def test_limits_of_an_endpoint_from_yaml(server: OpenAIServer, folder: Path) -> None:
    (folder / "lllm.toml").write_text("[log]\ntype = 'none'\n")
    (folder / "a.yaml").write_text(
        f"base_url: {server.url}\nmodel: openai/test-model\nconcurrency: 4\ntokens_per_minute: 9000\n"
        "agent_configs:\n  one: {}\n  two: {concurrency: 2, requests_per_minute: 60}\n"
    )
    config = load_config("a.yaml")
    assert config.agents["one"].endpoint == {"concurrency": 4, "tokens_per_minute": 9000}
    agents = agents_of(config)
    limits = {name: agent._settings.backend._asked for name, agent in agents.items()}  # type: ignore[attr-defined]
    assert limits == {"one": Limits(4, None, 9000), "two": Limits(2, 60, 9000)}


def test_limits_of_an_llm(server: OpenAIServer) -> None:
    llm = LLM("openai/test-model", base_url=server.url, concurrency=3, requests_per_minute=5)
    backend: Any = llm._agent._settings.backend
    assert backend.limiter.limits == Limits(3, 5)


async def test_how_a_form_was_held_to(server: OpenAIServer) -> None:
    server.forever = Script('{"city": "Oslo"}')
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    for told, enforced in ((True, "provider"), (False, "validation")):
        store = MemoryLog()
        async with VLLMModel("m", server.url, options={"json_schema": told}) as model:
            agent = Agent("a", model._backend, format=schema, store=store)
            for more in ({}, {"format": None}):
                reply = await agent.acall("Where?", **more)
                assert reply.enforced == (None if more else enforced)
            assert (await agent.acall("Where?")).parsed == {"city": "Oslo"}
        assert ("response_format" in server.requests[-1].json) is told
