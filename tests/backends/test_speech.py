"""From tokens to deltas and a reply."""

from __future__ import annotations

from typing import Any

import pytest

from lllm.backends.local.speech import Speech
from lllm.models.reply import Reply, Usage
from lllm.ports import Delta
from tests.backends.helpers import ADD, ask, joined

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
TEXTS: dict[str, tuple[str, dict[str, Any]]] = {
    "text": ("Hello, how are you?", {}),
    "thinking": ("<think>\nLet me see.\n</think>\n\nIt is 3.", {}),
    "a call": (CALL, {"tools": (ADD,)}),
    "text and two calls": (f"I add. {CALL}\n{CALL}", {"tools": (ADD,)}),
    "a stop string": ("One. Two. Three. Two.", {"sampling": {"stop": "Two"}}),
    "two stop strings": ("One. Two. Three.", {"sampling": {"stop": ["Three", "Two"]}}),
    "a stop string that never comes whole": ("One. Tw Tw", {"sampling": {"stop": ["Two", "Two Tw"]}}),
    "a stop string in the thinking": ("<think>One. Two.</think> Three.", {"sampling": {"stop": ["Two"]}}),
}


def said(text: str, size: int, **more: Any) -> tuple[list[Delta], Reply, int]:
    """What comes of a text in tokens of `size` characters, and how many of them were taken."""
    speech = Speech(ask(**more), model="tiny", prompt=[1, 2, 3])
    deltas: list[Delta] = []
    taken = 0
    for at in range(0, len(text), size):
        deltas += speech.token(at, text[at : at + size])
        taken += 1
        if speech.stopped:
            break
    deltas += speech.finish("stop")
    return deltas, speech.reply(), taken


@pytest.mark.parametrize("kind", TEXTS)
def test_the_cuts_make_no_difference(kind: str) -> None:
    text, more = TEXTS[kind]
    _, whole, _ = said(text, len(text), **more)
    for size in range(1, len(text)):
        deltas, got, _ = said(text, size, **more)
        assert (got.content, got.thinking, got.tool_calls) == (
            whole.content,
            whole.thinking,
            whole.tool_calls,
        )
        assert joined(deltas) == (got.content, got.thinking or "", list(got.tool_calls))


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("text", "Hello, how are you?"),
        ("a stop string", "One. "),
        ("two stop strings", "One. "),
        ("a stop string that never comes whole", "One. Tw Tw"),
        ("a stop string in the thinking", ""),
        ("thinking", "It is 3."),
    ],
)
def test_what_is_said(kind: str, content: str) -> None:
    text, more = TEXTS[kind]
    assert said(text, 1, **more)[1].content == content


def test_no_token_is_taken_after_a_stop_string() -> None:
    text, more = TEXTS["a stop string"]
    for size in range(1, 12):
        _, got, taken = said(text, size, **more)
        end = text.index("Two") + 3
        assert taken == -(-end // size)
        assert got.usage == Usage(3, taken)
        assert got.finish_reason == "stop"


def test_nothing_of_a_stop_string_is_told() -> None:
    text, more = TEXTS["a stop string"]
    told = ""
    speech = Speech(ask(**more), model="tiny", prompt=[])
    for character in text:
        for delta in speech.token(0, character):
            told += getattr(delta, "text", "")
            assert "One. ".startswith(told)


def test_calls_have_ids_by_their_place() -> None:
    text, more = TEXTS["text and two calls"]
    first, second = said(text, 5, **more)[1].tool_calls
    assert (first.name, first.parsed()) == ("add", {"a": 1, "b": 2})
    assert (first.id, second.id) == ("call_1_1", "call_1_2")
    assert said(text, 7, **more)[1].tool_calls == (first, second)


def test_a_call_is_no_call_where_no_tools_were_offered() -> None:
    _, got, _ = said(CALL, 4)
    assert (got.content, got.tool_calls, got.finish_reason) == (CALL, (), "stop")


def test_how_it_ended() -> None:
    for reason, calls, wanted in (
        ("stop", False, "stop"),
        ("length", False, "length"),
        ("stop", True, "tool_calls"),
        ("length", True, "length"),
    ):
        speech = Speech(ask(tools=(ADD,)), model="tiny", prompt=[])
        speech.token(1, CALL if calls else "Hello")
        speech.finish(reason)
        assert speech.reply().finish_reason == wanted


def test_what_it_shows_when_asked() -> None:
    entry = {"token": "He", "logprob": -0.5, "top": []}
    plain = Speech(ask(), model="tiny", prompt=[1, 2], cached=1)
    asked = Speech(ask(sampling={"token_ids": True, "logprobs": True}), model="tiny", prompt=[1, 2])
    for speech in (plain, asked):
        speech.token(7, "He", entry)
        speech.finish("stop")
    asked.cached = 2
    got = plain.reply()
    assert (got.token_ids, got.prompt_token_ids, got.logprobs) == (None, None, None)
    assert (got.usage, got.model) == (Usage(2, 1, 1), "tiny")
    got = asked.reply()
    assert (got.token_ids, got.prompt_token_ids, got.logprobs) == ([7], [1, 2], [entry])
    assert got.usage == Usage(2, 1, 2)


def test_marks_of_reasoning_that_are_special_tokens_are_read() -> None:
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    from lllm.backends.transformers.decode import Text

    words = ["<s>", "[THINK]", "[/THINK]", "hm", "Yes", "</s>"]
    raw = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<s>"))
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(["<s>", "[THINK]", "[/THINK]", "</s>"])
    for fast in (True, False):
        text = Text(PreTrainedTokenizerFast(tokenizer_object=raw))
        if not fast:
            text._stream = None
        assert (
            "".join(text.step(token) for token in (0, 1, 3, 2, 4, 5)).replace(" ", "")
            == "[THINK]hm[/THINK]Yes"
        )
