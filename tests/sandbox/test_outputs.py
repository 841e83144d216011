"""Folding of a kernel's messages to one normal form, within limits, in time proportional to what came."""

import itertools
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lllm.core.cell_record import pack_outputs, unpack_outputs
from lllm.core.terminal_text import as_shown, plain, shown_with
from lllm.sandbox.engine import _clean
from lllm.sandbox.outputs import DEEPEST, Displays, Outputs, cut, finite, normal, weight
from lllm.sandbox.result import text_of_output
from lllm.sandbox.tracebacks import short


def folded(*messages: tuple[str, dict[str, Any]], limit: int = 10**6) -> list[dict[str, Any]]:
    outputs = Outputs(limit)
    for kind, content in messages:
        outputs.add(kind, content)
    return outputs.normal()


@given(*[st.text("ab\r\b\n", max_size=12)] * 2)
def test_more_is_shown_as_all_of_it(before: str, text: str) -> None:
    shown = as_shown(before)
    assert shown_with(shown, text) == as_shown(shown + text)


@pytest.mark.parametrize("first", ["x" * 500_000, "line\n" * 100_000])
@pytest.mark.parametrize("then", ["\b", "a\r", "ab\b\r"])
def test_small_texts_after_a_large_one(first: str, then: str) -> None:
    outputs = Outputs(10**6)
    for text in (first, *[then] * 20_000):  # each folded with all that came before: an hour
        outputs.add(*out(text))
    assert len(outputs.items[0]["text"]) <= len(first) + 2


def out(text: str, name: str = "stdout") -> tuple[str, dict[str, Any]]:
    return "stream", {"name": name, "text": text}


def shown(text: str, display: str = "", **more: Any) -> tuple[str, dict[str, Any]]:
    return "display_data", {
        "data": {"text/plain": text},
        "metadata": {},
        "transient": {"display_id": display},
        **more,
    }


def texts(outputs: list[dict[str, Any]]) -> list[str]:
    return [text_of_output(output) for output in outputs]


def test_streams_are_joined_at_their_first_piece() -> None:
    assert texts(folded(out("a"), shown("d"), out("b"), out("e", "stderr"), out("c"))) == ["abc", "d", "e"]
    assert [one["name"] for one in folded(out("e", "stderr"), out("o"))] == ["stdout", "stderr"]


@given(st.text(alphabet="ab\n\r\b", max_size=40), st.lists(st.integers(0, 40)))
def test_pieces_do_not_matter(text: str, cuts: list[int]) -> None:
    places = sorted({0, len(text), *(place % (len(text) + 1) for place in cuts)})
    pieces = [out(text[a:b]) for a, b in itertools.pairwise(places)]
    assert folded(*pieces) == folded(*([out(text)] if text else []))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10%\r20%\r30%", "30%"),
        ("10%\r20%\n", "20%\n"),
        ("kept\r\nnext", "kept\r\nnext"),
        ("end\r", "end\r"),
        ("ab\bc", "ac"),
        ("a\b\b\bb", "b"),
        ("x\n\by", "x\ny"),
        ("\r\r\n", "\r\n"),
        ("a,b\r\r\nc,d\r\r\n", "a,b\r\nc,d\r\n"),  # `!cat` of a CRLF file
        ("1%\r2%\r\r\n", "2%\r\n"),
        ("a\rb\rc\nd\re", "c\ne"),
    ],
)
def test_terminal_effects(text: str, expected: str) -> None:
    assert as_shown(text) == expected


def test_plain_removes_escapes() -> None:
    assert plain("\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b]8;;u\x1b\\link\x1b[2K") == "red  link"


@pytest.mark.parametrize(
    "text", ["a\b", "ab\b\bx", "\b", "x\r", "\r", "a" * 50 + "\b", "\x1b]", "\x1b[1", "x"]
)
def test_hostile_text_takes_linear_time(text: str) -> None:
    """A quadratic fold would take minutes."""
    since = time.process_time()
    long = text * (400_000 // len(text))
    as_shown(long + "\n" + "y" * 400_000 + "\r.")
    plain(long)
    assert time.process_time() - since < 5


def test_many_displays_of_one_id_take_linear_time() -> None:
    since = time.process_time()
    outputs = Outputs(10**6)
    for n in range(20_000):
        outputs.add(*shown(str(n), "one"))
    assert time.process_time() - since < 10
    assert set(texts(outputs.normal())) == {"19999"}
    assert len(outputs.items) < 10**6 / 64


def test_clear_output() -> None:
    assert texts(folded(out("a"), ("clear_output", {"wait": False}), out("b"))) == ["b"]
    assert texts(folded(out("a"), ("clear_output", {"wait": True}))) == ["a"]
    assert texts(folded(shown("a"), ("clear_output", {"wait": True}), out("b"), out("c"))) == ["bc"]


def test_display_ids() -> None:
    displays = Displays()
    first, second = Outputs(10**6, displays), Outputs(10**6, displays)
    first.add(*shown("1", "x"))
    kept = first.normal()
    second.add(*shown("2", "x"))
    assert second.changed == [first]
    assert texts(first.normal()) == ["2"]
    second.add("update_display_data", {"data": {"text/plain": "3"}, "transient": {"display_id": "x"}})
    assert texts(first.normal()) == texts(second.normal()) == ["3"]
    assert texts(kept) == ["1"]
    first.add("clear_output", {})
    second.add("update_display_data", {"data": {"text/plain": "4"}, "transient": {"display_id": "x"}})
    assert (first.normal(), texts(second.normal()), second.changed) == ([], ["4"], [])


def test_limit_keeps_the_beginning_and_gives_the_rest() -> None:
    outputs = Outputs(1000)
    rest = [outputs.add(*out("ü" * 300)) for _ in range(4)]
    text = outputs.normal()[0]["text"]
    assert len(text.encode()) <= 1000
    assert text + "".join(rest) == "ü" * 1200
    assert outputs.dropped == len("".join(rest).encode())
    assert (
        outputs.add("display_data", {"data": {"image/png": "x" * 2000, "text/html": "h"}, "metadata": {}})
        != "x" * 2000
    )


def test_cleared_and_overwritten_outputs_do_not_use_up_the_limit() -> None:
    outputs = Outputs(100_000)
    for n in range(50):
        outputs.add("clear_output", {"wait": True})
        outputs.add(*shown("x" * 20_000 + str(n)))
    assert texts(outputs.normal())[0].endswith("49")
    assert outputs.dropped == 0
    bar = Outputs(100_000)
    for n in range(5_000):
        bar.add(*out("\r" + "#" * 100 + str(n)))
    assert texts(bar.normal()) == ["#" * 100 + "4999"]
    assert bar.dropped == 0


def test_updates_are_within_the_limit() -> None:
    outputs = Outputs(10_000)
    for _ in range(20):
        outputs.add(*shown("small", "x"))
    outputs.add(
        "update_display_data", {"data": {"text/plain": "y" * 5_000}, "transient": {"display_id": "x"}}
    )
    assert weight(outputs.normal()) < 20_000
    assert "not kept" in texts(outputs.normal())[0]


def test_floods_of_nothing_are_counted() -> None:
    message: tuple[str, dict[str, Any]]
    for message in (
        shown(""),
        out(""),
        ("clear_output", {}),
        ("update_display_data", {"data": {}}),
        ("comm_msg", {}),
    ):
        outputs = Outputs(10**5)
        for _ in range(5_000):
            outputs.add(*message)
        assert outputs.size >= 5_000 * 64
        assert len(outputs.items) <= 10**5 / 64


HOSTILE: list[Any] = [
    None,
    [],
    {},
    "text",
    5,
    True,
    [["x"]],
    {"a": {"b": []}},
    "\ud800",
    2**300,
    float("nan"),
]


@given(
    st.sampled_from(
        ["stream", "display_data", "execute_result", "error", "clear_output", "update_display_data", "x"]
    ),
    st.dictionaries(
        st.sampled_from(
            [
                "name",
                "text",
                "data",
                "metadata",
                "transient",
                "traceback",
                "ename",
                "evalue",
                "wait",
                "execution_count",
            ]
        ),
        st.one_of(
            st.sampled_from(HOSTILE),
            st.dictionaries(st.text(max_size=9), st.sampled_from(HOSTILE), max_size=3),
        ),
    ),
)
def test_any_content_is_folded(kind: str, content: dict[str, Any]) -> None:
    found = finite(folded((kind, content)))
    assert weight(found) < 10_000
    texts(found)
    if "\\ud800" not in repr(found):
        assert unpack_outputs(pack_outputs(found)) == found


def test_deep_json_becomes_text() -> None:
    deep: Any = 1
    for _ in range(DEEPEST + 5):
        deep = [deep]
    (found,) = folded(("display_data", {"data": {"application/json": deep}, "metadata": {"m": deep}}))
    assert found["data"]["application/json"] == "[" * (DEEPEST + 5) + "1" + "]" * (DEEPEST + 5)
    assert isinstance(found["metadata"]["m"], str)


def test_long_errors_keep_their_ends() -> None:
    lines = [f"line {n} " + "x" * 500 for n in range(1_000)]
    (found,) = folded(("error", {"ename": "E", "evalue": "v" * 10**6, "traceback": lines}), limit=20_000)
    assert found["traceback"][0].startswith("line 0 ")
    assert found["traceback"][-1].startswith("line 999 ")
    assert weight([found]) < 30_000


@given(st.text(max_size=50), st.integers(0, 60))
def test_cut_is_the_longest_beginning(text: str, size: int) -> None:
    kept = cut(text, size)
    assert text.startswith(kept)
    assert len(kept.encode()) <= size
    if kept != text:
        assert len((kept + text[len(kept)]).encode()) > size


def test_normal_form_of_notebooks_with_lines() -> None:
    found = list(normal([{"output_type": "stream", "name": "stdout", "text": ["a\n", "b"]}]))
    assert found[0]["text"] == "a\nb"


def test_short_traceback_keeps_every_message() -> None:
    library = [f"File /lib/x{n}.py:{n}, in f()\n---> {n} call()\n     {n + 1} more()\n" for n in range(12)]
    traceback = [
        "\x1b[31m---------\x1b[39m",
        "KeyError                 Traceback (most recent call last)",
        "Cell In[4], line 2\n      1 try:\n----> 2     run()\n",
        "KeyError: 'first'\n\nwith a blank line",
        "\nThe above exception was the direct cause of the following exception:\n",
        "ValueError               Traceback (most recent call last)",
        "Cell In[4], line 4\n      3 except KeyError as e:\n----> 4     raise ValueError from e\n",
        *library,
        "ValueError: second\n\nand more",
    ]
    text = short(traceback)
    for part in ("Cell In[4], line 2", "KeyError: 'first'\n\nwith a blank line", "direct cause", "----> 4"):
        assert part in text
    assert text.endswith("ValueError: second\n\nand more")
    assert "[6 frames of libraries]" in text
    assert "more()" not in text
    assert "---> 11 call()" in text
    assert "\x1b" not in text


def test_what_is_no_json_and_no_unicode() -> None:
    """Kernels that check less may send it; a notebook and a log cannot have it."""
    (found,) = _clean(
        folded(("display_data", {"data": {"text/plain": "\ud800", "x/json": [float("nan")]}, "metadata": {}}))
    )
    assert found["data"] == {"text/plain": "\ufffd", "x/json": ["nan"]}
