"""Chat completions in OpenAI's shape, held against OpenAI's own types: R16, R19."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from lllm import BaseLLMRunner, LLMRunnerFactory
from lllm.errors import ConfigError, LLMInferenceError, UnsupportedError
from tests.backends.runner.strangers import Echo

HELLO = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is AI?"},
]
TOOL = {
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
SCHEMA = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}


@pytest.fixture(scope="module")
def runner() -> Iterator[BaseLLMRunner]:
    with LLMRunnerFactory.create_runner({"backend": "embedded", "temperature": 0}) as made:
        yield made


def scripted(*replies: Any) -> BaseLLMRunner:
    return LLMRunnerFactory.create_runner(
        {"backend": "scripted", "options": {"replies": replies, "chunk": 3}}
    )


def whole(body: dict[str, Any]) -> ChatCompletion:
    made = ChatCompletion.model_validate(body, strict=True)
    assert made.id.startswith("chatcmpl-")
    assert made.created > 1_700_000_000
    assert made.object == "chat.completion"
    return made


def pieces(chunks: Iterator[dict[str, Any]]) -> list[ChatCompletionChunk]:
    """The chunks, after what holds for all streams: one id, the role first, the reason in the last one alone."""
    made = [ChatCompletionChunk.model_validate(chunk, strict=True) for chunk in chunks]
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in made}) == 1
    with_choices = [chunk.choices[0] for chunk in made if chunk.choices]
    assert with_choices[0].delta.role == "assistant"
    assert [choice.finish_reason for choice in with_choices[:-1]] == [None] * (len(with_choices) - 1)
    assert with_choices[-1].finish_reason is not None
    return made


def text(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_the_whole_shape(runner: BaseLLMRunner) -> None:
    """R16: with real usage and a real reason (R19)."""
    body = runner.create_chat_completion(HELLO)
    made = whole(body)
    assert body["choices"][0]["message"]["content"] == made.choices[0].message.content != ""
    assert made.choices[0].finish_reason == "stop"
    assert made.model == "embedded"
    assert made.usage is not None
    assert made.usage.total_tokens == made.usage.prompt_tokens + made.usage.completion_tokens > 10


def test_a_limit_of_five_tokens(runner: BaseLLMRunner) -> None:
    """R16, R19: `length`, whole and streamed, under both names of the limit."""
    made = whole(runner.create_chat_completion(HELLO, max_tokens=5))
    assert made.choices[0].finish_reason == "length"
    assert made.usage is not None
    assert made.usage.completion_tokens == 5
    assert whole(runner.create_chat_completion(HELLO, max_completion_tokens=5)).choices == made.choices
    streamed = pieces(runner.create_chat_completion(HELLO, max_tokens=5, stream=True))
    assert streamed[-1].choices[0].finish_reason == "length"
    assert text(streamed) == made.choices[0].message.content


def test_chunks_add_up_and_end_with_the_usage(runner: BaseLLMRunner) -> None:
    """R16: the role chunk first, the reason last, then the count."""
    one = whole(runner.create_chat_completion(HELLO))
    chunks = pieces(runner.create_chat_completion(HELLO, stream=True, stream_options={"include_usage": True}))
    assert text(chunks) == one.choices[0].message.content
    assert len(chunks) > 5
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert one.usage is not None
    assert chunks[-1].usage.completion_tokens == one.usage.completion_tokens


def test_a_tool_call(runner: BaseLLMRunner) -> None:
    """R16: whole, in pieces, and answered in the next turn."""
    asked = [{"role": "user", "content": "What is 17 times 23?"}]
    made = whole(runner.create_chat_completion(asked, tools=[TOOL]))
    (call,) = made.choices[0].message.tool_calls or ()
    assert made.choices[0].finish_reason == "tool_calls"
    assert call.type == "function"
    assert call.function.name == "calculate"
    assert json.loads(call.function.arguments)["expression"]

    chunks = pieces(runner.create_chat_completion(asked, tools=[TOOL], stream=True))
    deltas = [part for chunk in chunks for part in chunk.choices[0].delta.tool_calls or ()]
    assert deltas[0].id == call.id
    assert (
        "".join(part.function.arguments or "" for part in deltas if part.function) == call.function.arguments
    )
    assert chunks[-1].choices[0].finish_reason == "tool_calls"

    message = made.choices[0].message.model_dump(exclude_none=True)
    answer = {"role": "tool", "tool_call_id": call.id, "content": "391"}
    told = whole(runner.create_chat_completion([*asked, message, answer], tools=[TOOL]))
    assert "391" in (told.choices[0].message.content or "")


def test_a_reply_in_a_format(runner: BaseLLMRunner) -> None:
    """R16."""
    made = whole(runner.create_chat_completion(HELLO, response_format=FORMAT))
    assert isinstance(json.loads(made.choices[0].message.content or "")["answer"], int)


def test_a_reply_that_breaks_its_format_is_an_error() -> None:
    for wrong in ("no JSON", '{"answer": "text"}'):
        with pytest.raises(LLMInferenceError, match=r"not JSON|does not fit"):
            scripted(wrong).create_chat_completion(HELLO, response_format=FORMAT)
    assert scripted('{"answer": 1}').run("x", response_format=FORMAT).content == '{"answer": 1}'


def test_thinking_and_log_probabilities_have_a_place() -> None:
    logprobs = [{"token": "Hi", "logprob": -0.5, "top": [{"token": "Hi", "logprob": -0.5}]}]
    reply = {"content": "Hi", "thinking": "A greeting.", "logprobs": logprobs}
    made = whole(scripted(reply).create_chat_completion(HELLO, logprobs=True))
    assert made.choices[0].logprobs is not None
    assert made.choices[0].message.model_dump()["reasoning_content"] == "A greeting."
    chunks = pieces(scripted(reply).create_chat_completion(HELLO, stream=True))
    thought = "".join(chunk.choices[0].delta.model_dump().get("reasoning_content") or "" for chunk in chunks)
    assert thought == "A greeting."
    assert chunks[-1].choices[0].logprobs is not None


def test_two_methods_give_the_whole_shape_too() -> None:
    """R16, R25: a stranger's runner has it without a line."""
    made = whole(Echo("m").create_chat_completion(HELLO, max_tokens=5))
    assert made.choices[0].finish_reason == "length"
    chunks = pieces(Echo("m").create_chat_completion(HELLO, max_tokens=5, stream=True))
    assert text(chunks) == made.choices[0].message.content


def test_overrides_reach_the_backend() -> None:
    """R2, R16: 0.0 is not lost, and a call's setting stands before the config's."""
    runner = LLMRunnerFactory.create_runner(
        {"backend": "scripted", "temperature": 0.9, "seed": 7, "options": {"replies": ["a", "b"]}}
    )
    runner.create_chat_completion(HELLO, temperature=0.0, stop=["\n"], top_p=0.5)
    sent = runner._backend.requests[0]  # type: ignore[attr-defined]
    assert dict(sent.sampling) == {"temperature": 0.0, "seed": 7, "stop": ("\n",), "top_p": 0.5}
    assert [message.role for message in sent.messages] == ["system", "user"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": [{"role": "nobody", "content": "x"}]},
        {"messages": ["x"]},
        {"messages": HELLO, "response_format": {"type": "xml"}},
        {"messages": HELLO, "n": 2},
    ],
)
def test_what_is_no_completion_says_so(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        scripted("a").create_chat_completion(**wrong)


def test_a_backend_without_tools_says_so() -> None:
    from lllm.ports import Capabilities

    options = {"replies": ["a"], "capabilities": Capabilities(tools=False)}
    with pytest.raises(UnsupportedError, match="tools"):
        LLMRunnerFactory.create_runner({"backend": "scripted", "options": options}).run("x", tools=[TOOL])
