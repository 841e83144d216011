"""A reply reads as attributes, mapping, text and OpenAI's response; the log gives back what it was."""

import dataclasses
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from lllm.models.message import FunctionCall
from lllm.models.reply import Reply, Usage

TOKEN = {"token": "é", "logprob": -0.5, "top": [{"token": "e", "logprob": -1.0}]}
FULL = Reply(
    "Hello.",
    thinking="Hm.",
    tool_calls=(FunctionCall("call_1", "add", '{"a":1}'),),
    finish_reason="tool_calls",
    refusal="no",
    usage=Usage(10, 5, 3, 2),
    model="m",
    id="chatcmpl-1",
    logprobs=[TOKEN],
    token_ids=[1, 2],
    prompt_token_ids=[3],
    raw="<think>Hm.</think>Hello.",
    enforced="grammar except minimum",
)
REPLIES = {
    "empty": Reply(),
    "text": Reply("Hello."),
    "full": FULL,
    "call alone": Reply(tool_calls=FULL.tool_calls, finish_reason="tool_calls"),
    "refusal": Reply(refusal="no"),
    "cut off": Reply("Hel", finish_reason="length", usage=Usage(1, 1)),
    "stuck": Reply("ha ha ha", finish_reason="repetition"),
    "a word of the provider": Reply("Hello.", finish_reason="eos_token"),
    "log-probabilities": Reply("é", logprobs=[TOKEN, {"token": "", "logprob": -9.0}]),
}


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
def test_it_is_a_response_of_the_official_client(reply: Reply) -> None:
    body = reply.to_openai()
    response = ChatCompletion.model_validate(body, strict=True)
    [choice] = response.choices
    assert (choice.message.content or "") == reply.content
    assert choice.message.refusal == reply.refusal
    calls: Any = choice.message.tool_calls or []
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [
        (call.id, call.name, call.arguments) for call in reply.tool_calls
    ]
    usage = response.usage
    assert (usage and (usage.prompt_tokens, usage.completion_tokens)) == (
        reply.usage and (reply.usage.prompt, reply.usage.completion)
    )
    tokens = choice.logprobs and choice.logprobs.content
    assert [(t.token, t.logprob, bytes(t.bytes or b"").decode()) for t in tokens or []] == [
        (entry["token"], entry["logprob"], entry["token"]) for entry in reply.logprobs or []
    ]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("content_filter", "content_filter"),
        ("repetition", "length"),
        ("eos_token", "stop"),
    ],
)
def test_why_it_ended_in_words_of_openai(ours: str, theirs: str) -> None:
    assert Reply(finish_reason=ours).to_openai()["choices"][0]["finish_reason"] == theirs


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
def test_the_log_gives_it_back(reply: Reply) -> None:
    assert Reply.from_record(reply.record()) == reply
    assert Reply.from_record(reply.record()).enforced == reply.enforced


def test_keys_and_attributes_agree() -> None:
    fields = {field.name for field in dataclasses.fields(Reply)}
    assert fields <= set(FULL)
    assert {key: getattr(FULL, key) for key in FULL} == dict(FULL)
    assert (FULL["think"], FULL["enforced"], str(FULL), len(FULL)) == (
        "Hm.",
        "grammar except minimum",
        "Hello.",
        len(list(FULL)),
    )
    with pytest.raises(KeyError, match="a Reply has"):
        FULL["contents"]
