"""Thinking, text and text-tag calls are told apart wherever the text is cut."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lllm.backends.thinking import Mode, Splitter
from lllm.models.message import FunctionCall
from lllm.ports import TextDelta, ThinkingDelta, ToolCallDelta

Result = tuple[str, str | None, list[FunctionCall]]


def split(pieces: list[str], mode: Mode = "auto", tools: bool = False) -> tuple[Result, list[object]]:
    splitter = Splitter(mode, tools=tools)
    out: list[object] = [delta for piece in pieces for delta in splitter.feed(piece)]
    out += splitter.finish()
    assert splitter.raw == "".join(pieces)
    return (splitter.content, splitter.thinking, splitter.calls), out


def text_of(deltas: list[object]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


def thinking_of(deltas: list[object]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, ThinkingDelta))


CASES: list[tuple[str, str, str | None]] = [
    # text, content, thinking
    ("Hello.", "Hello.", None),
    ("", "", None),
    ("  Hello. \n", "  Hello. \n", None),
    (" \n", " \n", None),
    ("<think>hm</think>Hello.", "Hello.", "hm"),
    ("<think>\nhm\n\nhm\n</think>\n\nHello.", "Hello.", "hm\n\nhm"),
    ("<thinking>hm</thinking>Hello.", "Hello.", "hm"),
    ("<reasoning>hm</reasoning>Hello.", "Hello.", "hm"),
    ("\n<think>hm</think>\nHello.\n", "Hello.\n", "hm"),
    ("<think>a</think>Hello <think>b</think>world", "Hello world", "a\n\nb"),
    ("<think>a</think><reasoning>b</reasoning>\nx", "x", "a\n\nb"),
    ("<think></think>\n\nHello.", "Hello.", None),
    ("<think>\n\n</think>\n\nHello.", "Hello.", None),
    ("<think>no end", "", "no end"),
    ("Hello.<think>no end\n", "Hello.", "no end"),
    ("no beginning</think>\n\nHello.", "Hello.", "no beginning"),
    ("\nno beginning\n</think>", "", "no beginning"),
    ("<think>a <think> b</think>c", "c", "a <think> b"),
    ("<think>a </thinking> b</think>c", "c", "a </thinking> b"),
    ("<think>a</think>b</think>c", "b</think>c", "a"),
    ("1 < 2 <thin <b>", "1 < 2 <thin <b>", None),
    ("Use the `<think>` tag.", "Use the `<think>` tag.", None),
    ("Close it with `</think>`.", "Close it with `</think>`.", None),
    ("<think>Is `</think>` the end?</think>Yes.", "Yes.", "Is `</think>` the end?"),
    ("<think>run `ls`</think>Done.", "Done.", "run `ls`"),
    ("<think>a</think", "", "a</think"),
    ("a<think", "a<think", None),
    ("<<think>a</think>", "<", "a"),
    ("`<think>", "`", None),
    ("<tool_call>{}</tool_call>", "<tool_call>{}</tool_call>", None),
]


@pytest.mark.parametrize(("text", "content", "thinking"), CASES)
def test_what_is_content_and_what_is_thinking(text: str, content: str, thinking: str | None) -> None:
    (got, thought, calls), _ = split([text])
    assert (got, thought, calls) == (content, thinking, [])


@pytest.mark.parametrize("text", [text for text, _, _ in CASES])
def test_every_split_point_gives_the_same(text: str) -> None:
    whole, _ = split([text])
    for at in range(len(text) + 1):
        assert split([text[:at], text[at:]])[0] == whole
    assert split(list(text))[0] == whole


@pytest.mark.parametrize("mode", ["auto", "prefilled", "off"])
@pytest.mark.parametrize("text", [text for text, _, _ in CASES if len(text) <= 40])
def test_every_pair_of_split_points_gives_the_same(text: str, mode: Mode) -> None:
    whole, _ = split([text], mode)
    for first, second in itertools.combinations_with_replacement(range(len(text) + 1), 2):
        assert split([text[:first], text[first:second], text[second:]], mode)[0] == whole


# one thought and one answer, however a server hands them over: tags, a template that wrote the opening one, a field
THOUGHT, ANSWER = "Let me\n\nsee: 1 < 2.", "Yes,\nit is."
DELIVERED: list[tuple[str, Mode, str, str]] = [
    # name, mode, the thinking field, the content
    ("both tags", "auto", "", f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"),
    ("other tags", "auto", "", f"<reasoning>{THOUGHT}</reasoning>{ANSWER}"),
    ("no opening tag", "auto", "", f"{THOUGHT}\n</think>\n\n{ANSWER}"),
    ("no opening tag, and known", "prefilled", "", f"\n{THOUGHT}\n</think>\n\n{ANSWER}"),
    ("prefilled, and written again", "prefilled", "", f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"),
    ("a field", "auto", THOUGHT, ANSWER),
    ("prefilled, and another tag written", "prefilled", "", f"<thinking>{THOUGHT}</thinking>{ANSWER}"),
    ("a field, and prefilled", "prefilled", THOUGHT, ANSWER),
    ("a field, and its closing tag", "prefilled", THOUGHT, f"</think>\n\n{ANSWER}"),
    ("a field, and an empty block", "auto", THOUGHT, f"<think>\n\n</think>\n\n{ANSWER}"),
]


@pytest.mark.parametrize(
    ("mode", "field", "content"), [row[1:] for row in DELIVERED], ids=[row[0] for row in DELIVERED]
)
def test_missing_tags_and_other_ways_to_hand_it_over(mode: Mode, field: str, content: str) -> None:
    for at in range(len(content) + 1):
        splitter = Splitter(mode)
        out: list[object] = [*splitter.thought(field[:5]), *splitter.thought(field[5:])] if field else []
        for piece in (content[:at], content[at:]):
            out += splitter.feed(piece)
        out += splitter.finish()
        assert (splitter.content, splitter.thinking) == (ANSWER, THOUGHT)
        assert splitter.raw == content
        if mode == "prefilled" or not content.startswith("Let me"):  # only the whole reply can tell
            assert (text_of(out), thinking_of(out)) == (ANSWER, THOUGHT)


@pytest.mark.parametrize("text", [t for t, _, _ in CASES if not t.lstrip().startswith("no beginning")])
def test_the_pieces_add_up_to_the_whole(text: str) -> None:
    (content, thinking, _), _ = split([text])
    for pieces in (list(text), [text], [text[:5], text[5:]]):
        _, deltas = split(pieces)
        assert text_of(deltas) == content
        assert thinking_of(deltas) == (thinking or "")


WORDS = "<think> </think> <thinking> </reasoning> <tool_call> </tool_call> ` < > a é think </"
FRAGMENTS = st.sampled_from([*WORDS.split(), '{"name":"f"}', '{"name"', " ", "\n"])


@settings(deadline=None)
@given(
    st.lists(FRAGMENTS, max_size=12), st.data(), st.sampled_from(["auto", "prefilled", "off"]), st.booleans()
)
def test_any_text_in_any_pieces(fragments: list[str], data: st.DataObject, mode: Mode, tools: bool) -> None:
    text = "".join(fragments)
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=8))
    bounds = [0, *sorted(cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(bounds)]
    assert split(pieces, mode, tools)[0] == split([text], mode, tools)[0]


def test_a_tag_that_may_come_is_held_back_and_nothing_else() -> None:
    splitter = Splitter()
    assert splitter.feed("Hello <th") == [TextDelta("Hello ")]
    assert splitter.feed("ey") == [TextDelta("<they")]
    assert splitter.feed(" <think") == [TextDelta(" ")]
    assert splitter.feed(">why") == [ThinkingDelta("why")]
    assert splitter.feed("?</thi") == [ThinkingDelta("?")]
    assert splitter.feed("nk>so") == [TextDelta("so")]
    assert splitter.finish() == []


def test_a_prefilled_template_is_thinking_from_the_first_piece() -> None:
    (content, thinking, _), deltas = split(["hm", "m</think>", "\nYes"], mode="prefilled")
    assert (content, thinking) == ("Yes", "hmm")
    assert deltas == [ThinkingDelta("hm"), ThinkingDelta("m"), TextDelta("Yes")]


def test_off_leaves_tags_in_the_text() -> None:
    assert split(["<think>a</think>b"], mode="off")[0] == ("<think>a</think>b", None, [])


def test_thinking_in_a_field_and_in_tags() -> None:
    splitter = Splitter()
    out = [*splitter.thought("one"), *splitter.feed("<think>two</think>text"), *splitter.finish()]
    assert splitter.thinking == "one\n\ntwo" == thinking_of(out)
    assert splitter.content == "text"


CALL = '{"name": "add", "arguments": {"a": 1, "b": "</tool_call>"}}'
ADD = FunctionCall("", "add", '{"a":1,"b":"</tool_call>"}')
HERMES: list[tuple[str, str, list[FunctionCall]]] = [
    (f"<tool_call>\n{CALL}\n</tool_call>", "", [ADD]),
    (f"<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>", "", [ADD, ADD]),
    (f"Let me see.\n<tool_call>{CALL}</tool_call>\n", "Let me see.\n", [ADD]),
    (f"<tool_call>{CALL}", "", [ADD]),
    (f"<tool_call>[{CALL},{CALL}]</tool_call>", "", [ADD, ADD]),
    ('<tool_call>{"name": "add", "parameters": {}}</tool_call>', "", [FunctionCall("", "add", "{}")]),
    ('<tool_call>{"name": "add", "arguments": "{}"}</tool_call>', "", [FunctionCall("", "add", "{}")]),
    ("<tool_call>{oops}</tool_call>", "<tool_call>{oops}</tool_call>", []),
    (
        f"<tool_call>{{oops}}</tool_call> <tool_call>{CALL}</tool_call>",
        "<tool_call>{oops}</tool_call> ",
        [ADD],
    ),
    ("<tool_call>", "<tool_call>", []),
    ('<tool_call>{"arguments": {}}</tool_call>', '<tool_call>{"arguments": {}}</tool_call>', []),
    (f"<think>I could <tool_call>{CALL}</tool_call></think>No.", "No.", []),
]


@pytest.mark.parametrize(("text", "content", "calls"), HERMES)
def test_text_tag_calls(text: str, content: str, calls: list[FunctionCall]) -> None:
    for pieces in ([text], list(text), [text[:20], text[20:]]):
        (got, _, found), deltas = split(pieces, tools=True)
        assert (got, found) == (content, calls)
        assert text_of(deltas) == content
        pieces_of_calls = [delta for delta in deltas if isinstance(delta, ToolCallDelta)]
        assert [(d.name, d.arguments) for d in pieces_of_calls] == [(c.name, c.arguments) for c in calls]
