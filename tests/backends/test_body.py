"""What goes over the wire: goldens, and equality with what the official client sends."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from lllm.backends.openai import OpenAIBackend
from lllm.errors import BadRequestError, ConfigError, UnsupportedError
from lllm.models.message import FunctionCall, Message, system, user
from lllm.ports import Capabilities, Request
from tests.backends.helpers import ADD, ask, collect, reply, schema
from tests.servers.openai_server import OpenAIServer

PICTURE = (
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
)
DIALOG = (
    system("Be brief."),
    Message("developer", "Use tools."),
    user("What is 1 + 2?"),
    Message(
        "assistant", "", tool_calls=(FunctionCall("call_1", "add", '{"a": 1, "b": 2}'),), thinking="I add."
    ),
    Message("tool", "3", tool_call_id="call_1"),
    Message("assistant", "It is 3."),
    Message("user", "And é, \U0001f600?", name="ann"),
)

# a request, the arguments of the official client's `create` for the same call, and the body that both send
GOLDEN: dict[str, tuple[Request, dict[str, Any]]] = {
    "plain": (ask("Hi."), {}),
    "sampling": (
        ask(sampling={"temperature": 0, "top_p": 0.5, "max_tokens": 10, "stop": ["a", "b"], "seed": 7}),
        {"temperature": 0, "top_p": 0.5, "max_tokens": 10, "stop": ["a", "b"], "seed": 7},
    ),
    "penalties": (
        ask(
            sampling={"presence_penalty": 0.1, "frequency_penalty": 0.2, "logit_bias": {"5": 1}, "user": "u"}
        ),
        {"presence_penalty": 0.1, "frequency_penalty": 0.2, "logit_bias": {"5": 1}, "user": "u"},
    ),
    "dialog": (ask(messages=DIALOG), {}),
    "image": (ask(messages=(Message("user", PICTURE),)), {}),
    "tools": (ask(tools=(ADD,)), {"tools": [ADD]}),
    "a tool by name": (
        ask(tools=(ADD,), sampling={"tool_choice": "add", "parallel_tool_calls": False}),
        {
            "tools": [ADD],
            "tool_choice": {"type": "function", "function": {"name": "add"}},
            "parallel_tool_calls": False,
        },
    ),
    "some tool": (
        ask(tools=(ADD,), sampling={"tool_choice": "required"}),
        {"tools": [ADD], "tool_choice": "required"},
    ),
    "tools withdrawn": (ask(sampling={"tool_choice": "required"}), {}),
    "format": (
        ask(format=schema("an answer!", x={"type": "integer"})),
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {
                    "name": "an_answer_",
                    "schema": schema(x={"type": "integer"})["schema"],
                    "strict": True,
                },
            }
        },
    ),
    "logprobs": (ask(sampling={"top_logprobs": 5}), {"logprobs": True, "top_logprobs": 5}),
    "reasoning model": (
        ask(model="o3-mini", sampling={"max_tokens": 10, "reasoning_effort": "low", "temperature": 1}),
        {"max_completion_tokens": 10, "reasoning_effort": "low"},
    ),
    "no reasoning": (
        ask(model="gpt-5.1", sampling={"reasoning_effort": "none", "temperature": 0}),
        {"reasoning_effort": "none", "temperature": 0},
    ),
    "not a reasoning model": (
        ask(model="gpt-5-chat-latest", sampling={"max_tokens": 10, "temperature": 0}),
        {"max_tokens": 10, "temperature": 0},
    ),
    "nothing set": (ask(sampling={"temperature": None, "stop": None}), {}),
    "extra": (
        ask(sampling={"extra_body": {"guided_regex": "a+", "temperature": 0.5}}),
        {"extra_body": {"guided_regex": "a+", "temperature": 0.5}},
    ),
    "stream": (ask(stream=True), {"stream": True, "stream_options": {"include_usage": True}}),
}


@pytest.mark.parametrize("name", GOLDEN)
async def test_the_body_is_what_the_official_client_sends(
    name: str, server: OpenAIServer, backend: OpenAIBackend
) -> None:
    request, arguments = GOLDEN[name]
    for _ in range(3):
        server.say("Hello.")
    await collect(backend, request)
    await collect(backend, request)  # from the cache
    async with openai.AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
        messages: Any = [message.to_dict() for message in request.messages]
        answer = await client.chat.completions.create(model=request.model, messages=messages, **arguments)
        if request.stream:
            async for _ in answer:
                pass
    ours, again, theirs = server.requests
    assert ours.json == theirs.json
    assert ours.data == again.data
    assert ours.path == theirs.path == "/v1/chat/completions"
    assert ours.headers["Content-Type"] == theirs.headers["Content-Type"]


async def test_a_body_byte_for_byte(server: OpenAIServer, backend: OpenAIBackend) -> None:
    server.say()
    await reply(backend, ask(messages=(system("é"), user("x")), tools=(ADD,), sampling={"temperature": 0.0}))
    assert (
        server.requests[0].data
        == (
            '{"messages":[{"content":"é","role":"system"},{"content":"x","role":"user"}],"model":"test-model",'
            f'"tools":[{json.dumps(ADD, separators=(",", ":"))}],"temperature":0.0}}'
        ).encode()
    )


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        ({"stream": True}, "the call's stream=True"),
        ({"messages": []}, "first argument"),
        ({"model": "x"}, "model_name"),
        ({"tools": []}, "tools=[...]"),
        ({"response_format": {}}, "format="),
        ({"n": 2}, "one answer"),
        ({"temprature": 1}, "Did you mean 'temperature'?"),
        ({"mirostat": 1}, "extra_body={'mirostat': ...}"),
        ({"extra_body": {"messages": []}}, "extra_body may not hold 'messages'"),
        ({"extra_body": {"stream": False}}, "extra_body may not hold 'stream'"),
        ({"extra_body": 3}, "mapping"),
        ({"temperature": object()}, "JSON"),
    ],
)
async def test_what_is_not_a_sampling_option(
    sampling: dict[str, Any], words: str, server: OpenAIServer, backend: OpenAIBackend
) -> None:
    with pytest.raises(ConfigError) as caught:
        await reply(backend, ask(sampling=sampling))
    assert words in str(caught.value)
    assert not server.requests


async def test_a_tool_choice_that_is_not_offered(backend: OpenAIBackend) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'add'"):
        await reply(backend, ask(tools=(ADD,), sampling={"tool_choice": "ad"}))


@pytest.mark.parametrize(
    "model", ["o1", "o3-mini", "o4-mini-2025-04-16", "gpt-5", "gpt-5.4-nano", "gpt-6-sol"]
)
async def test_a_reasoning_model_takes_no_temperature(model: str, backend: OpenAIBackend) -> None:
    with pytest.raises(UnsupportedError, match="takes no temperature"):
        await reply(backend, ask(model=model, sampling={"temperature": 0}))


@pytest.mark.parametrize(
    ("capabilities", "more"),
    [
        (Capabilities(tools=False), {"tools": (ADD,)}),
        (Capabilities(logprobs=False), {"sampling": {"logprobs": True}}),
        (Capabilities(token_ids=False), {"sampling": {"token_ids": True}}),
        (Capabilities(vision=False), {"messages": (Message("user", PICTURE),)}),
    ],
)
async def test_more_than_the_endpoint_can_do_is_not_sent(
    capabilities: Capabilities, more: dict[str, Any], server: OpenAIServer
) -> None:
    backend = OpenAIBackend(server.url, capabilities=capabilities)
    with pytest.raises(UnsupportedError):
        await reply(backend, ask(**more))
    assert not server.requests


async def test_extensions_go_to_compatible_endpoints_only(server: OpenAIServer) -> None:
    server.say()
    await reply(OpenAIBackend(server.url), ask(sampling={"top_k": 40, "min_p": 0.1}))
    assert server.requests[0].json["top_k"] == 40
    with pytest.raises(ConfigError, match="unknown sampling option 'top_k'"):
        await reply(OpenAIBackend("https://api.openai.com", "k" * 20), ask(sampling={"top_k": 40}))


async def test_token_ids_where_the_endpoint_has_them(server: OpenAIServer) -> None:
    server.say()
    backend = OpenAIBackend(server.url, capabilities=Capabilities(token_ids=True))
    await reply(backend, ask(sampling={"token_ids": True}))
    assert server.requests[0].json["return_token_ids"] is True


async def test_changed_sampling_and_tools_are_not_taken_from_the_cache(
    server: OpenAIServer, backend: OpenAIBackend
) -> None:
    other = ADD | {"function": ADD["function"] | {"name": "sum"}}
    sampling: dict[str, Any] = {"temperature": 0}
    for _ in range(4):
        server.say()
    await reply(backend, ask(tools=(ADD,), sampling=sampling))
    sampling["temperature"] = 1
    await reply(backend, ask(tools=(ADD,), sampling=sampling))
    await reply(backend, ask(tools=(other,), sampling=sampling))
    await reply(backend, ask(tools=(other,), sampling=sampling, model="other"))
    sent = [request.json for request in server.requests]
    assert [body["temperature"] for body in sent] == [0, 1, 1, 1]
    assert [body["tools"][0]["function"]["name"] for body in sent] == ["add", "add", "sum", "sum"]
    assert [body["model"] for body in sent] == ["test-model"] * 3 + ["other"]


async def test_thinking_is_sent_back_only_where_wanted(server: OpenAIServer) -> None:
    for echo in (False, True):
        server.say()
        await reply(OpenAIBackend(server.url, echo_thinking=echo), ask(messages=DIALOG))
    quiet, echoing = (request.json["messages"][3] for request in server.requests)
    assert "reasoning_content" not in quiet
    assert echoing == quiet | {"reasoning_content": "I add."}


async def test_a_large_body_arrives(server: OpenAIServer, backend: OpenAIBackend) -> None:
    url = "data:image/png;base64," + "A" * 2_000_000
    server.say("A picture.")
    content = ({"type": "image_url", "image_url": {"url": url}},)
    await reply(backend, ask(messages=(Message("user", content),)))
    assert server.requests[0].json["messages"][0]["content"][0]["image_url"]["url"] == url


async def test_a_message_that_is_not_json(server: OpenAIServer, backend: OpenAIBackend) -> None:
    with pytest.raises(BadRequestError, match="message"):
        await reply(backend, ask(messages=(user("\ud800"),)))
    assert not server.requests


async def test_headers(server: OpenAIServer) -> None:
    server.say()
    backend = OpenAIBackend(
        server.url,
        "sk-key",
        organization="org",
        project="proj",
        headers={"X-Extra": "1"},
        api_version="preview",
    )
    await reply(backend, ask())
    seen = server.requests[0]
    assert seen.headers["Authorization"] == "Bearer sk-key"
    assert seen.headers["OpenAI-Organization"] == "org"
    assert seen.headers["OpenAI-Project"] == "proj"
    assert seen.headers["X-Extra"] == "1"
    assert "Idempotency-Key" not in seen.headers
    assert seen.headers["User-Agent"].startswith("lllm/")
    assert seen.query == {"api-version": "preview"}


async def test_no_key_is_needed_on_this_machine(server: OpenAIServer) -> None:
    server.say()
    await reply(OpenAIBackend(server.url), ask())
    assert "Authorization" not in server.requests[0].headers


@pytest.mark.parametrize("stream", [False, True])
async def test_elsewhere_a_key_is(stream: bool) -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY") as caught:
        await reply(OpenAIBackend("https://api.example.com"), ask(stream=stream))
    assert "https://api.example.com/v1" in str(caught.value)


@pytest.mark.parametrize(
    ("argument", "variables", "sent"),
    [
        ("sk-1", {"OPENAI_API_KEY": "sk-2", "API_KEY": "sk-3"}, "Bearer sk-1"),
        (None, {"OPENAI_API_KEY": "sk-2", "API_KEY": "sk-3"}, "Bearer sk-2"),
        (None, {"API_KEY": "sk-3"}, "Bearer sk-3"),
    ],
)
async def test_where_the_key_comes_from(
    argument: str | None,
    variables: dict[str, str],
    sent: str,
    server: OpenAIServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    server.say()
    await reply(OpenAIBackend(server.url, argument), ask())
    assert server.requests[0].headers["Authorization"] == sent


async def test_a_key_with_a_line_break_says_where_it_came_from(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret\n")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY") as caught:
        await reply(OpenAIBackend(server.url), ask())
    assert "sk-secret" not in str(caught.value)


def test_azure_takes_its_key_in_its_own_header() -> None:
    backend = OpenAIBackend("https://me.openai.azure.com", "azure-key", api_version="preview")
    url, headers, *_ = backend._prepare()
    assert headers["api-key"] == "azure-key"
    assert "Authorization" not in headers
    assert str(url) == "https://me.openai.azure.com/openai/v1/chat/completions?api-version=preview"


@pytest.mark.parametrize("arguments", [{"api": "assistants"}, {"thinking": "maybe"}, {"base_url": "nowhere"}])
def test_a_wrong_setting_is_refused_at_once(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        OpenAIBackend(**arguments)
