"""The parser contract: tags, code blocks, signals, JSON; and no text that takes long."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lllm.core.parsing import check_tag_names, parse_json, parse_tags
from lllm.errors import ConfigError, ParseError

XML: list[tuple[str, str, list[str], str]] = [
    ("plain", "x", ["1"], "<x>1</x>"),
    ("two", "x", ["1", "2"], "<x>1</x> and <x>2</x>"),
    ("stripped", "x", ["a\n b"], "<x>\n a\n b \n</x>"),
    ("empty", "x", [""], "<x></x>"),
    ("self-closing", "x", ["", ""], "<x/><x />"),
    ("attributes", "x", ["1"], "<x a=\"1>2\" b='</y>' c\n d=3>1</x>".replace("</y>", "")),
    ("space in the closing tag", "x", ["1"], "<x>1</x >"),
    ("case counts", "x", ["1"], "<X>0</X><x>1</x>"),
    ("longer names are others", "x", ["1"], "<xy>0</xy><x-y>0</x-y><x>1</x>"),
    ("nested alike", "x", ["a<x>b</x>c", "d"], "<x>a<x>b</x>c</x><x>d</x>"),
    ("nested others", "x", ["<y>1</y>"], "<x><y>1</y></x>"),
    ("interleaved others", "x", ["a<y>b"], "<x>a<y>b</x>c</y>"),
    ("talk before", "x", ["42"], "I use <x> tags. <x>42</x>"),
    ("stray closing", "x", ["1"], "</x><x>1</x></x>"),
    ("CRLF", "x", ["a\nb"], "<x>\r\na\r\nb\r\n</x>\r\n"),
    ("unicode", "größe", ["日本\U0001f600"], "<größe>日本\U0001f600</größe>"),
    ("regex characters", "a.b*+(c)|[d]?^$", ["1"], "<aXb>0</aXb><a.b*+(c)|[d]?^$>1</a.b*+(c)|[d]?^$>"),
    ("fence inside", "x", ["```py\n</x>\n```"], "<x>\n```py\n</x>\n```\n</x>"),
    ("only within a fence", "x", ["1"], "```xml\n<x>1</x>\n```"),
    ("code is not an answer", "x", ["1"], "```xml\n<x>0</x>\n```\n<x>1</x>"),
    ("open fence hides nothing", "x", ["1"], "```python\n<x>1</x>"),
    ("closing tag behind a torn fence", "x", ["```py\n1"], "<x>```py\n1</x>"),
    ("absent", "x", [], "nothing"),
    ("not a tag", "x", [], "a <x b"),
    ("less-than in between", "x", ["a < b > c"], "<x>a < b > c</x>"),
]


@pytest.mark.parametrize(("name", "bodies", "content"), [c[1:] for c in XML], ids=[c[0] for c in XML])
def test_xml_tags(name: str, bodies: list[str], content: str) -> None:
    found = parse_tags(content, xml_tags=[name])
    assert found == {"raw": content, "xml_tags": {name: bodies}, "md_tags": {}, "signal_tags": {}}
    if bodies:
        assert parse_tags(content, required_xml_tags=[name])["xml_tags"] == {name: bodies}


MD: list[tuple[str, str, list[str], str]] = [
    ("plain", "python", ["x = 1"], "```python\nx = 1\n```"),
    ("two", "python", ["1", "2"], "```python\n1\n```\ntext\n```python\n2\n```\n"),
    (
        "name is exact",
        "python",
        ["1"],
        "```python3\n0\n```\n```py\n0\n```\n```Python\n0\n```\n```python\n1\n```",
    ),
    ("info string", "python", ["1"], "```python title=x\n1\n```"),
    ("space before the name", "python", ["1"], "``` python\n1\n```"),
    ("indentation stays", "python", ["  a\n    b"], "```python\n  a\n    b\n```"),
    ("indented fence", "python", ["  1"], "- item\n  ```python\n  1\n  ```"),
    ("blank lines stay", "python", ["\n1\n"], "```python\n\n1\n\n```"),
    ("empty", "python", [""], "```python\n```"),
    ("no name", "", ["1"], "```python\n0\n```\n```\n1\n```"),
    ("tildes", "python", ["```\n1\n```"], "~~~python\n```\n1\n```\n~~~"),
    ("longer fence", "md", ["```python\n1\n```"], "````md\n```python\n1\n```\n````"),
    ("inner fence is body", "python", [], "````md\n```python\n1\n```\n````"),
    ("CRLF", "python", ["a\nb"], "```python\r\na\r\nb\r\n```\r\n"),
    ("within a tag", "json", ["{}"], "<x>```json\n{}\n```</x>"),
    ("within tags with attributes", "json", ["{}"], '<x a="1"> <y> ```json\n{}\n```</y></x>'),
    ("inline code", "python", [], "```python``` and ```python x```"),
    ("in the middle of a line", "python", [], "see ```python\n1\n```"),
    ("regex characters", "c++", ["1"], "```ccc\n0\n```\n```c++\n1\n```"),
    ("unicode", "日本", ["é"], "```日本\né\n```"),
]


@pytest.mark.parametrize(("name", "bodies", "content"), [c[1:] for c in MD], ids=[c[0] for c in MD])
def test_code_blocks(name: str, bodies: list[str], content: str) -> None:
    if content.startswith("see"):  # the second fence of this text opens a block without a name
        assert parse_tags(content, md_tags=[name])["md_tags"] == {name: []}
        return
    assert parse_tags(content, md_tags=[name])["md_tags"] == {name: bodies}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("<done/>", True),
        ("so <done> it is", True),
        ("<done />", True),
        ("<done></done>", True),
        ("<done reason='x'/>", True),
        ("</done>", False),
        ("<Done/>", False),
        ("<done", False),
        ("<donee/>", False),
        ("```\n<done/>\n```", False),
        ("", False),
    ],
)
def test_signals(content: str, expected: bool) -> None:
    found = parse_tags(content, signal_tags=["done"])
    assert found["signal_tags"] == {"done": expected}
    assert found.signal("done") is expected


def test_all_errors_are_reported_at_once() -> None:
    with pytest.raises(ParseError) as caught:
        parse_tags(
            "<open>1 <hint>2\n```torn\n3",
            xml_tags=["hint", "absent"],
            md_tags=["absent"],
            required_xml_tags=["answer", "open"],
            required_md_tags=["python", "torn"],
        )
    assert caught.value.errors == [
        "tag <hint> is opened and never closed",
        "missing required tag <answer>",
        "tag <open> is opened and never closed",
        "missing required code block ```python",
        "code block ```torn is opened and never closed",
    ]


def test_a_second_answer_that_was_cut_off_is_an_error() -> None:
    with pytest.raises(ParseError, match="tag <item> is opened and never closed"):
        parse_tags("<item>1</item><item>2", xml_tags=["item"])


def test_short_ways() -> None:
    found = parse_tags("<a>1</a><a>2</a>\n```py\nx\n```", xml_tags=["a", "b"], md_tags=["py"])
    assert (found.first("a"), found.all("a"), found.first("b"), found.first("b", "-")) == (
        "1",
        ["1", "2"],
        None,
        "-",
    )
    assert found.first("py") == "x"
    with pytest.raises(KeyError):
        found.first("never declared")


@pytest.mark.parametrize("name", ["", "a b", "<a>", "a/", 'a"', "a\n", 3])
def test_names_that_no_reply_could_hold(name: Any) -> None:
    with pytest.raises(ConfigError, match="is not a tag name"):
        check_tag_names([name])


def test_code_block_names() -> None:
    check_tag_names(["größe", "a.b"], ["", "c++"])
    for name in ("a b", "`", "~x"):
        with pytest.raises(ConfigError, match="is not a code block's name"):
            check_tag_names(md=[name])


# --- JSON ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"a": 1}', {"a": 1}),
        (" \ufeff[1, 2]\n", [1, 2]),
        ("3", 3),
        ('"x"', "x"),
        ("null", None),
        ('Here:\n```json\n{"a": 1}\n```\nDone.', {"a": 1}),
        ("```json\n[1]\n```", [1]),
        ("```json\r\n[1]\r\n```", [1]),
        ('```\n{"a": 1}\n```', {"a": 1}),
        ('```python\nx = {}\n```\n```json\n{"a": 1}\n```', {"a": 1}),
        ('The answer is {"a": {"b": "}"}} as you see.', {"a": {"b": "}"}}),
        ('It\'s 5" wide: {"a": "\\"{"}.', {"a": '"{'}),
        ('{"a": 1} hope this helps', {"a": 1}),
        ('In {braces} there is {"a": 1}', {"a": 1}),
        ('{"n": 123456789012345678901234567890}', {"n": 123456789012345678901234567890}),
        ('{"😀": "\\ud83d\\ude00"}', {"😀": "😀"}),
    ],
)
def test_json_is_found(content: str, expected: Any) -> None:
    assert parse_json(content) == expected


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("", "not valid JSON: the reply is empty"),
        ('{"a" 1}', "not valid JSON: Expecting ':' delimiter at line 1 column 6"),
        ('{"a": 1,\n "b"}', "not valid JSON: Expecting ':' delimiter at line 2 column 5"),
        ("I cannot do that.", "not valid JSON: Expecting value at line 1 column 1"),
        ("[NaN]", "not valid JSON: NaN is not JSON"),
        ('{"a": {"b": 1}', "not valid JSON: Expecting ',' delimiter at line 1 column 15"),
        ('[{"a": 1}, {"a": 2}', "not valid JSON: Expecting ',' delimiter at line 1 column 20"),
        (
            '{"a": 1} or {"a": 2}',
            "not valid JSON: the reply holds more than one JSON object; give exactly one",
        ),
        ("```json\n1\n```\n```json\n2\n```", "the reply holds 2 code blocks with JSON; give exactly one"),
        ("```json\n{,}\n```", "not valid JSON: Expecting property name"),
        ('"\\ud800"', "not valid JSON: a string holds half of a surrogate pair"),
        ("[" * 100_000, "not valid JSON: nested too deeply"),
        ("1" * 5000, "not valid JSON: Exceeds the limit"),
    ],
)
def test_json_is_refused(content: str, error: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_json(content)
    assert error in caught.value.errors[0]
    assert len(caught.value.errors) == 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_json_survives_prose(value: Any) -> None:
    text = json.dumps({"v": value})
    for content in (text, f"Sure!\n```json\n{text}\n```\n", f"The answer: {text} -- done."):
        assert parse_json(content) == {"v": value}


# --- nothing takes long ----------------------------------------------------------------------------------------------

SIZE = 1_000_000
HOSTILE = [
    "<x", "<x ", "<x>", "</x>", "<x/>", "<x a=\"", "<x a='\"", "<x>\n```\n", "```x\n", "```", "`", "a```\n", "~~~`\n",
    "<a><b>```\n", "{", "}", '{"', '{"a":', '{"\\', '"\\"', "{}", "[{", "\n", " ", "<", "{a}", "{{", "\\u", "\r",
    '{"a}"}', '{"a"}',
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE, ids=repr)
def test_hostile_text_is_read_in_linear_time(piece: str) -> None:
    def seconds(size: int) -> float:
        content = (piece * (size // len(piece) + 1))[:size]
        start = time.process_time()
        for read in (
            lambda: parse_tags(content, xml_tags=["x", "a"], md_tags=["x"], signal_tags=["b"]),
            lambda: parse_json(content),
            lambda: parse_json("x" + content + "{"),
        ):
            with suppress(ParseError):
                read()
        return time.process_time() - start

    # quadratic work on a megabyte takes minutes; the bound is generous for slow machines
    assert seconds(SIZE) < 8


@given(st.text(alphabet="<>/x a`\n~\"'{}"))
def test_no_text_breaks_the_parsers(content: str) -> None:
    for read in (lambda: parse_tags(content, xml_tags=["x"], md_tags=["x", ""]), lambda: parse_json(content)):
        with suppress(ParseError):
            read()
