"""Dialogs as persistent lists."""

import copy
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lllm.core.dialog import Node, extend, messages_of
from lllm.core.state import State
from lllm.models.message import FunctionCall, Message


def user(text: str) -> Message:
    return Message("user", text)


PARTS = st.just(({"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "data:,x"}}))
MESSAGES = st.lists(
    st.builds(
        Message,
        role=st.sampled_from(["system", "user", "assistant", "tool"]),
        content=st.text(st.characters(codec="utf-8"), max_size=5) | PARTS,
        name=st.none() | st.just("ann"),
        tool_calls=st.just(()) | st.just((FunctionCall("x", "add", '{"a":1}'),)),
        tool_call_id=st.none() | st.just("x"),
        thinking=st.none() | st.sampled_from(["", "hm"]),
    ),
    min_size=1,
    max_size=4,
)


def dialog(messages: list[Message]) -> Node:
    head = extend(None, messages)
    assert head is not None
    return head


@given(MESSAGES)
def test_messages_come_back_in_order(messages: list[Message]) -> None:
    head = dialog(messages)
    assert head.messages() == tuple(messages)
    assert head.length == len(messages)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 127, 128, 129, 1000])
def test_long_dialogs_and_their_forks_give_their_own_messages(length: int) -> None:
    trunk = [user(str(number)) for number in range(length)]
    long = begun = dialog(trunk)
    for number in range(200):  # two lines from one past, each asked in turn
        long = Node(user(f"x{number}"), long)
        assert long.messages()[:length] == tuple(trunk)
        assert [message.text for message in long.messages()[length:]] == [f"x{n}" for n in range(number + 1)]
        fork = Node(user("y"), begun)
        assert fork.messages() == (*trunk, user("y"))
    node: Node | None = long
    while node is not None:
        assert len(node.messages()) == node.length
        node = node.parent


@given(MESSAGES, MESSAGES)
def test_two_dialogs_are_equal_exactly_when_their_messages_are(
    one: list[Message], other: list[Message]
) -> None:
    def said(messages: list[Message]) -> list[str]:
        return [json.dumps({**m.to_dict(), "thinking": m.thinking or None}, sort_keys=True) for m in messages]

    assert (dialog(one) == dialog(other)) == (said(one) == said(other))
    assert (dialog(one).id == dialog(other).id) == (said(one) == said(other))


@given(MESSAGES)
def test_a_dialog_survives_the_log(messages: list[Message]) -> None:
    read = [Message.from_dict(json.loads(json.dumps(message.record()))) for message in messages]
    assert dialog(read) == dialog(messages)
    assert hash(dialog(read)) == hash(dialog(messages))


def test_forks_share_their_past() -> None:
    root = dialog([user("a"), user("b")])
    left, right = Node(user("c"), root), Node(user("d"), root)
    assert left.parent is right.parent is root
    assert left != right
    assert left.messages()[:2] == right.messages()[:2] == root.messages()
    assert root.length == 2  # nothing happened to it


def test_where_a_message_stands_matters() -> None:
    assert Node(user("a")).id != Node(user("a"), Node(user("a"))).id
    assert dialog([user("ab")]) != dialog([user("a"), user("b")])


def test_the_id_is_the_same_everywhere() -> None:
    head = dialog(
        [
            Message("system", "s"),
            user("héllo 😀"),
            Message("assistant", "", tool_calls=(FunctionCall("i", "f"),)),
        ]
    )
    assert head.id == "sha256:5d362d5ec7bf3677247ee9efc41323dcd902cdff8027774311f38c40eeefa6db"


def test_a_dialog_may_be_long() -> None:
    head = extend(None, (user(str(n)) for n in range(50_000)))
    assert head is not None
    assert len(head.messages()) == 50_000
    assert head.id.startswith("sha256:")
    del head  # freeing a long chain must not recurse either


def test_nothing_is_no_dialog() -> None:
    assert extend(None, ()) is None
    assert messages_of(None) == ()
    assert Node(user("x")) != "x"


def test_repr_is_short() -> None:
    assert repr(dialog([user("x" * 1000)])) == f"Node(1 messages, last: user {'x' * 40!r})"


def test_a_node_has_no_other_attributes() -> None:
    with pytest.raises(AttributeError):
        Node(user("x")).extra = 1  # type: ignore[attr-defined]


def test_long_dialogs_are_copied_pickled_and_freed() -> None:
    head = dialog([user(str(number)) for number in range(10_000)])
    twin = copy.deepcopy(head)
    assert twin == head
    assert twin.messages() == head.messages()
    assert twin.message is not head.message
    assert pickle.loads(pickle.dumps(head)) == head
    assert copy.copy(head) is head
    assert len({head, twin}) == 1
    assert repr(twin) == repr(head)


def test_copies_share_what_their_originals_share() -> None:
    past = dialog([user("a"), user("b")])
    one, other = Node(user("c"), past), Node(user("d"), past)
    both = copy.deepcopy([one, other, past])
    assert both == [one, other, past]
    assert both[0].parent is both[1].parent is both[2]
    state = State(trunk=past, branch=one)
    assert copy.deepcopy(state) == state
    assert pickle.loads(pickle.dumps(state)) == state
