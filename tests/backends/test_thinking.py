"""Thinking, text and text-tag calls are told apart wherever the text is cut."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lllm.backends.thinking import Mode, Splitter
from lllm.backends.thinking_forms import MODES, check_mode
from lllm.deltas import aggregate
from lllm.models.message import FunctionCall
from lllm.ports import Restart, TextDelta, ThinkingDelta, ToolCallDelta

Result = tuple[str, str | None, list[FunctionCall]]


def split(pieces: list[str], mode: Mode = "auto", tools: bool = False) -> tuple[Result, list[object]]:
    splitter = Splitter(mode, tools=tools)
    out: list[object] = [delta for piece in pieces for delta in splitter.feed(piece)]
    out += splitter.finish()
    assert splitter.raw == "".join(pieces)
    return (splitter.content, splitter.thinking, splitter.calls), out


def text_of(deltas: list[object]) -> str:
    return aggregate(deltas).content  # type: ignore[arg-type]


def thinking_of(deltas: list[object]) -> str:
    return aggregate(deltas).thinking or ""  # type: ignore[arg-type]


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
    ("<think>a</think>Hello <think>b</think>world", "Hello <think>b</think>world", "a"),
    ("<think>a</think> <think>b</think> x", "x", "a\n\nb"),
    ("<think>a</think><reasoning>b</reasoning>\nx", "x", "a\n\nb"),
    ("<think></think>\n\nHello.", "Hello.", None),
    ("<think>\n\n</think>\n\nHello.", "Hello.", None),
    ("<think>no end", "", "no end"),
    ("Hello.<think>no end\n", "Hello.<think>no end\n", None),
    ("The <think> tag opens a block.", "The <think> tag opens a block.", None),
    ("Wrap it: <think>x</think> and so on", "Wrap it: <think>x</think> and so on", None),
    ("The </think> tag ends a block.", "The </think> tag ends a block.", None),
    ('Say "</think>" at its end.', 'Say "</think>" at its end.', None),
    ("```\n<think>x</think>\n```\nis how", "```\n<think>x</think>\n```\nis how", None),
    ("Like so:\n```\nx\n</think>\n```\n", "Like so:\n```\nx\n</think>\n```\n", None),
    ("So it is 4.</think>4", "4", "So it is 4."),
    ("So it is 4. </think> 4", "4", "So it is 4."),
    ("so it is 4 </think>\n4", "4", "so it is 4"),
    ("```\ny\n```\nso 4\n</think>\n4", "4", "```\ny\n```\nso 4"),
    ("[THINK]hm[/THINK]Yes.", "Yes.", "hm"),
    ("hm\n[/THINK]Yes.", "Yes.", "hm"),
    ("<seed:think>hm</seed:think>Yes.", "Yes.", "hm"),
    ("◁think▷hm◁/think▷Yes.", "Yes.", "hm"),
    ("<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>Yes.<|END_RESPONSE|>", "Yes.", "hm"),
    (
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>",
        "Yes.",
        "hm",
    ),
    ("<|channel|>analysis<|message|>hm", "", "hm"),
    ("<|channel|>final<|message|>1 < 2", "1 < 2", None),
    ("[1] and [2]", "[1] and [2]", None),
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
    ("<<think>a</think>", "<<think>a</think>", None),
    ("`<think>", "`<think>", None),
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
    assert splitter.feed("<th") == []
    assert splitter.feed("ink>why") == [ThinkingDelta("why")]
    assert splitter.feed("?</thi") == [ThinkingDelta("?")]
    assert splitter.feed("nk>so") == [TextDelta("so")]
    assert splitter.feed(" <th") == [TextDelta(" <th")]  # only a block at the beginning is thinking
    assert splitter.finish() == []
    splitter = Splitter()
    assert splitter.feed("<they") == [TextDelta("<they")]
    assert splitter.feed(" </th") == [TextDelta(" ")]
    assert splitter.feed("ey") == [TextDelta("</they")]


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


BEGUN = '<tool_call>\n{"name": "add"'
CUT: list[tuple[str, str, list[tuple[str, str]]]] = [
    ("<tool_call>", "", []),
    ('I add. <tool_call>{"name": "ad', "I add. ", []),
    (BEGUN, "", [("add", "{")]),
    (f'{BEGUN}, "argum', "", [("add", "{")]),
    (f'{BEGUN}, "arguments":', "", [("add", "{")]),
    (f'{BEGUN}, "arguments": {{"a": "x ', "", [("add", '{"a": "x')]),
    (f'{BEGUN}, "parameters": {{"a": "</tool_call>', "", [("add", '{"a": "</tool_call>')]),
    (f'{BEGUN}, "arguments": {{"a": 1}}', "", [("add", '{"a": 1}')]),
    (f'<tool_call>{CALL}</tool_call>{BEGUN}, "arguments": {{', "", [("add", ADD.arguments), ("add", "{")]),
    (f'[{BEGUN}, "arguments": {{}}}}, {{"name"', "[", [("add", '{}}, {"name"')]),
    ('<tool_call>{"arguments": {"a": 1}, "name": "add"', "", []),
    ("<tool_call>{oops}</tool_call>", "<tool_call>{oops}</tool_call>", []),
    ('<tool_call>{"name": ""', "", []),
]


@pytest.mark.parametrize(("text", "content", "calls"), CUT)
def test_calls_that_the_token_limit_cut_off(text: str, content: str, calls: list[tuple[str, str]]) -> None:
    for pieces in ([text], list(text)):
        splitter = Splitter(tools=True)
        out: list[object] = [delta for piece in pieces for delta in splitter.feed(piece)]
        out += splitter.finish(cut=True)
        assert splitter.content == content == text_of(out)
        assert [(call.name, call.arguments) for call in splitter.calls] == calls
        made = [delta for delta in out if isinstance(delta, ToolCallDelta)]
        assert [(delta.name, delta.arguments) for delta in made] == calls
        assert splitter.raw == text


LONE = "Let me see.\n\n2 + 2 is 4.\n</think>\n\nIt is 4."


@pytest.mark.parametrize("expect", [False, True])
def test_a_closing_mark_alone_takes_text_back(expect: bool) -> None:
    for at in range(len(LONE) + 1):
        splitter = Splitter(expect=expect)
        out: list[object] = [*splitter.feed(LONE[:at]), *splitter.feed(LONE[at:]), *splitter.finish()]
        assert (splitter.content, splitter.thinking) == ("It is 4.", "Let me see.\n\n2 + 2 is 4.")
        assert (text_of(out), thinking_of(out)) == (splitter.content, splitter.thinking)
        assert splitter.closed_alone
        if expect:
            assert not any(isinstance(delta, Restart) for delta in out)


def test_expected_reasoning_that_does_not_come_is_given_as_text() -> None:
    for text in ("It is 4.", "\nIt is\n4. \n", "1 <tool_call>no", "<think>hm</think>It"):
        plain = split([text])[0]
        for pieces in ([text], list(text)):
            splitter = Splitter(expect=True)
            out: list[object] = [delta for piece in pieces for delta in splitter.feed(piece)]
            out += splitter.finish()
            assert (splitter.content, splitter.thinking) == plain[:2]
            assert (text_of(out), thinking_of(out)) == (splitter.content, splitter.thinking or "")


def test_tags_that_a_prompt_asks_for_are_text() -> None:
    splitter = Splitter(literal=["reasoning", "answer"])
    text = "<think>hm</think><reasoning>because</reasoning><answer>4</answer>"
    out: list[object] = [delta for piece in text for delta in splitter.feed(piece)]
    out += splitter.finish()
    assert splitter.content == "<reasoning>because</reasoning><answer>4</answer>" == text_of(out)
    assert splitter.thinking == "hm"


STRUCTURED = [
    ('{"a": "<think>x</think>"}', '{"a": "<think>x</think>"}', None),
    ('{"a": "x\\n</think>"}', '{"a": "x\\n</think>"}', None),
    ('<think>hm</think>{"a": "</think>"}', '{"a": "</think>"}', "hm"),
    ('{"a": 1}', '{"a": 1}', None),
]


@pytest.mark.parametrize(("text", "content", "thinking"), STRUCTURED)
def test_tags_in_json_are_text(text: str, content: str, thinking: str | None) -> None:
    for pieces in ([text], list(text)):
        splitter = Splitter(structured=True)
        out: list[object] = [delta for piece in pieces for delta in splitter.feed(piece)]
        out += splitter.finish()
        assert (splitter.content, splitter.thinking) == (content, thinking)
        assert text_of(out) == content
    prefilled = Splitter("prefilled", structured=True)
    for piece in text:
        prefilled.feed(piece)
    prefilled.finish()
    assert prefilled.content == content


CLOSED_BY_CALL: list[tuple[str, str, str | None, int]] = [
    # text, content, thinking, calls
    (f"<think>I need it.\n<tool_call>{CALL}</tool_call>", "", "I need it.", 1),
    (f"<think>I need it.\n<tool_call>{CALL}", "", "I need it.", 1),
    (f"<think>both<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>", "", "both", 2),
    (f"<think>a <tool_call>{CALL}</tool_call> b</think>No.", "No.", f"a <tool_call>{CALL}</tool_call> b", 0),
    ("<think>I could <tool_call>{oops}</tool_call>", "", "I could <tool_call>{oops}</tool_call>", 0),
    (f"<think>x</think><tool_call>{CALL}</tool_call>", "", "x", 1),
]


@pytest.mark.parametrize(("text", "content", "thinking", "count"), CLOSED_BY_CALL)
def test_a_call_ends_thinking_that_is_never_closed(
    text: str, content: str, thinking: str | None, count: int
) -> None:
    for at in range(len(text) + 1):
        (got, thought, calls), out = split([text[:at], text[at:]], tools=True)
        assert (got, thought, calls) == (content, thinking, [ADD] * count)
        assert (text_of(out), thinking_of(out)) == (content, thinking or "")


def test_a_call_in_a_thinking_field_is_a_call_where_there_is_no_answer() -> None:
    for pieces in ([f"hm\n<tool_call>{CALL}</tool_call>"], list(f"hm\n<tool_call>{CALL}</tool_call>")):
        splitter = Splitter(tools=True)
        out: list[object] = [delta for piece in pieces for delta in splitter.thought(piece)]
        out += splitter.finish()
        assert (splitter.thinking, splitter.calls) == ("hm\n", [ADD])
        answered = Splitter(tools=True)
        for piece in pieces:
            answered.thought(piece)
        answered.feed("No need.")
        answered.finish()
        assert (answered.content, answered.calls) == ("No need.", [])
        assert answered.thinking == "".join(pieces)


FAMILIES = [
    ("granite", "Here is my thought process: hm\nHere is my response: Yes.", "Yes.", "hm"),
    ("granite", "<think>hm</think><response>Yes.</response>", "Yes.", "hm"),
    ("hunyuan", "<think>\nhm\n</think>\n<answer>\nYes.</answer>", "Yes.", "hm"),
    ("exaone", "<thought>hm</thought>Yes.", "Yes.", "hm"),
    ("mistral", "[THINK]hm[/THINK]Yes.", "Yes.", "hm"),
    ("mistral", "<think>hm</think>Yes.", "<think>hm</think>Yes.", None),
    ("prefilled", "hm[/THINK]Yes.", "Yes.", "hm"),
    ("auto", "<answer>4</answer>", "<answer>4</answer>", None),
    ("auto", "<thought>hm</thought>Yes.", "<thought>hm</thought>Yes.", None),
]


@pytest.mark.parametrize(("mode", "text", "content", "thinking"), FAMILIES)
def test_other_families(mode: Mode, text: str, content: str, thinking: str | None) -> None:
    for at in range(len(text) + 1):
        (got, thought, _), out = split([text[:at], text[at:]], mode)
        assert (got, thought) == (content, thinking)
        assert (text_of(out), thinking_of(out)) == (content, thinking or "")


HARMONY_CALL = (
    "<|channel|>analysis<|message|>I need it.<|end|><|start|>assistant<|channel|>commentary to=functions.add "
    '<|constrain|>json<|message|>{"a":1}<|call|>'
)


def test_harmony_calls() -> None:
    for at in range(len(HARMONY_CALL) + 1):
        (content, thinking, calls), out = split([HARMONY_CALL[:at], HARMONY_CALL[at:]], tools=True)
        assert (content, thinking, calls) == ("", "I need it.", [FunctionCall("", "add", '{"a":1}')])
        assert thinking_of(out) == thinking
    role_first = HARMONY_CALL.replace(
        "assistant<|channel|>commentary to=functions.add ", "assistant to=functions.add<|channel|>commentary "
    )
    assert split([role_first], tools=True)[0][2] == calls


@pytest.mark.parametrize(
    ("end", "arguments"), [('{"a":', '{"a":'), ("json<|message|>", "{"), ("functions.add", None)]
)
def test_harmony_calls_that_the_token_limit_cut_off(end: str, arguments: str | None) -> None:
    splitter = Splitter(tools=True)
    splitter.feed(HARMONY_CALL[: HARMONY_CALL.index(end) + len(end)])
    splitter.finish(cut=True)
    assert splitter.content == ""
    assert [call.arguments for call in splitter.calls] == ([] if arguments is None else [arguments])


def test_an_unknown_mode_is_refused() -> None:
    from lllm.errors import ConfigError

    with pytest.raises(ConfigError, match="thinking must be one of auto, prefilled, off, think, mistral"):
        check_mode("thinkin")


def test_every_mode_is_in_the_guide() -> None:
    guide = (Path(__file__).parents[2] / "docs/guides/endpoints.md").read_text()
    assert [mode for mode in MODES if f"| `{mode}`" not in guide] == []
