"""What of a dialog a model is sent: views that leave out more and more, and stay valid."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lllm.core.window import Summary, Views, Window, asked_in, is_pinned, limit_in, pin
from lllm.models.message import FunctionCall, Message


def user(text: str) -> Message:
    return Message("user", text)


def says(text: str) -> Message:
    return Message("assistant", text)


def round_of(name: str) -> list[Message]:
    call = FunctionCall(name, "look", "{}")
    return [
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", f"{name} result", tool_call_id=name),
    ]


SYSTEM = Message("system", "Be kind.")


def texts(messages: Any) -> list[str]:
    return [message.text for message in messages]


def test_the_oldest_turns_are_left_out_first() -> None:
    dialog = [SYSTEM, user("one"), says("1"), user("two"), *round_of("a"), says("2"), user("three")]
    views = Views(dialog)
    assert len(views) == 3
    assert views.view(0) == tuple(dialog)
    assert texts(views.view(1)) == [
        "Be kind.\n\n[2 earlier messages of this conversation are left out here.]",
        *("two", "", "a result", "2", "three"),
    ]
    assert texts(views.view(2)) == [
        "Be kind.\n\n[6 earlier messages of this conversation are left out here.]",
        "three",
    ]
    assert [views.left_out(n) for n in range(3)] == [0, 2, 6]


def test_then_tool_rounds_of_the_last_turn() -> None:
    views = Views([user("go"), *round_of("a"), *round_of("b"), *round_of("c")])
    assert texts(views.view(len(views) - 1)) == [
        "go\n\n[4 earlier messages of this conversation are left out here.]",
        *("", "c result"),
    ]


def test_without_a_system_prompt_it_is_said_in_the_next_question() -> None:
    views = Views([user("one"), says("1"), user("two")])
    assert texts(views.view(1)) == ["[2 earlier messages of this conversation are left out here.]\n\ntwo"]


def test_pinned_messages_stay_with_what_belongs_to_them() -> None:
    call, result = round_of("a")
    dialog = [user("one"), call, pin(result), says("1"), pin(user("two")), says("2"), user("three")]
    last = Views(dialog).view(len(Views(dialog)) - 1)
    assert [message.role for message in last] == ["user", "assistant", "tool", "user", "user"]
    assert {"a result", "two"} <= set("\n".join(texts(last)).split("\n"))
    assert "2" not in texts(last)
    assert any(message.tool_calls for message in last)


def test_a_pin_is_the_runtime_s_own() -> None:
    message = pin(user("x"))
    assert is_pinned(message)
    assert not is_pinned(user("x"))
    assert message.to_dict() == user("x").to_dict(), "no provider is sent it"
    assert is_pinned(Message.from_record(message.record()))
    assert not is_pinned(Message("user", "x", extra={"pinned": True}, extra_from="http://x"))


def test_nothing_can_be_left_out_of_one_question() -> None:
    for dialog in ([], [SYSTEM], [SYSTEM, user("x")], [user("x"), *round_of("a")]):
        assert len(Views(dialog)) == 1


def test_a_summary_stands_where_messages_are_left_out() -> None:
    views = Views([SYSTEM, user("one"), says("1"), user("two")], Summary(3, "They counted."))
    assert views.view(0)[0] == SYSTEM
    assert "<summary>\nThey counted.\n</summary>" in views.view(1)[0].text


MESSAGES = st.lists(
    st.one_of(
        st.builds(lambda t: [user(t)], st.text(max_size=5)),
        st.builds(lambda t: [says(t)], st.text(max_size=5)),
        st.builds(lambda t: [pin(user(t))], st.text(max_size=5)),
        st.builds(lambda n: round_of(f"t{n}"), st.integers(0, 99)),
    ),
    max_size=12,
)


@given(MESSAGES, st.booleans())
def test_every_view_is_a_valid_dialog(pieces: list[list[Message]], system: bool) -> None:
    dialog = [*([SYSTEM] if system else []), *(one for piece in pieces for one in piece)]
    views = Views(dialog)
    before = len(dialog) + 1
    for number in range(len(views)):
        view = views.view(number)
        assert len(dialog) - views.left_out(number) <= len(view) <= len(dialog) - views.left_out(number) + 1
        assert len(dialog) - views.left_out(number) < before
        before = len(dialog) - views.left_out(number)
        asked: list[str] = []
        for message in view:
            if message.role == "tool":
                assert message.tool_call_id in asked
            elif message.tool_calls:
                asked = [call.id for call in message.tool_calls]
        assert sum(map(is_pinned, view)) == sum(map(is_pinned, dialog))
        if dialog:
            assert view[-1].role == dialog[-1].role
            assert view[-1].text.endswith(dialog[-1].text) or view[-1].text.startswith(dialog[-1].text)
        if system:
            assert view[0].role == "system"


def test_room_for_the_reply() -> None:
    assert Window(reserve=100).room(1000, {"max_tokens": 5}) == 900
    assert Window().room(1000, {"max_tokens": 5}) == 995
    assert Window().room(1000, {}) == 875
    assert Window().room(1_000_000, {}) == 995_904


@pytest.mark.parametrize(
    ("text", "limit", "asked"),
    [
        (
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
            *(8192, 9001),
        ),
        (
            "This model's maximum context length is 4096 tokens. However, you requested 5,000 tokens (900 in the messages)",
            *(4096, 5000),
        ),
        ("prompt is too long: 215000 tokens > 200000 maximum", 200000, 215000),
        ("tiny.gguf reads 512 tokens at once; the request has 700", 512, 700),
        ("m reads 64 tokens, prompt and reply together: the prompt has 80", 64, 80),
        (
            "request (1500 tokens) exceeds the available context size (1024 tokens), try increasing it",
            1024,
            1500,
        ),
        ("the dialog is longer than the model's context", None, None),
        (
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            1048576,
            1200000,
        ),
    ],
)
def test_what_providers_say(text: str, limit: int | None, asked: int | None) -> None:
    assert (limit_in(text), asked_in(text)) == (limit, asked)
