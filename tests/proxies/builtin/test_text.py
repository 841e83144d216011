"""Pages of any text, put together, are the text."""

import codecs
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lllm.proxies.builtin import text
from lllm.proxies.builtin.diffs import unified
from lllm.proxies.builtin.folder import Opened

TEXTS = st.text(st.sampled_from("ab\n\r\t\f\u00e9\u20ac\U0001d11e\u2028"), max_size=60)
MARKS = st.sampled_from(
    [
        ("utf-8", b""),
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-32-be", codecs.BOM_UTF32_BE),
    ]
)


@contextmanager
def opened(data: bytes) -> Iterator[Opened]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield Opened(file.fileno(), os.fstat(file.fileno()))


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "PAGE", 16)
        yield


def whole(file: Opened, lines: int) -> str:
    """What somebody reads who goes on as each page says."""
    found, page = [], text.page_of_lines(file, 1, lines)
    for _ in range(500):
        assert page is not None
        found.append(page["text"])
        if "next_line" in page:
            page = text.page_of_lines(file, page["next_line"], lines)
        elif "next_byte" in page:
            page = text.page_of_bytes(file, page["next_byte"], 16)
        else:
            return "".join(found)
    raise AssertionError("it never ends")


@given(TEXTS, MARKS, st.integers(1, 5))
@example("a" * 40 + "\n" + "b\n" * 3, ("utf-8", b""), 2)
def test_pages_of_a_file(content: str, encoding: tuple[str, bytes], lines: int) -> None:
    name, mark = encoding
    with opened(mark + content.encode(name)) as file:
        known = text.decoded(file.at(0, 10_000))
        assert known is not None
        assert mark + known.encoded(known.text)[len(mark) :] == mark + content.encode(name)
        read = whole(file, lines)
        # behind a line that is longer than a page it goes on by bytes, which are as they are
        assert re.sub(r"\r+\n", "\n", read) == re.sub(r"\r+\n", "\n", content)


@given(TEXTS, st.integers(1, 5))
def test_pages_of_a_large_file(content: str, lines: int) -> None:
    with pytest.MonkeyPatch.context() as patch, opened(content.encode()) as file:
        patch.setattr(text, "WHOLE", -1)
        assert whole(file, lines) == content


@given(TEXTS, MARKS, st.integers(0, 40))
def test_bytes_from_anywhere(content: str, encoding: tuple[str, bytes], start: int) -> None:
    name, mark = encoding
    with opened(mark + content.encode(name)) as file:
        start = min(start, file.size)
        page = text.page_of_bytes(file, start, 16)
        assert page is not None
        assert page["text"] in content
        assert "\ufffd" not in page["text"]
        assert page.get("next_byte", file.size) > start or start == file.size


@given(
    st.lists(st.sampled_from(["a\n", "b\n", "c\n", "\n"]), max_size=12),
    st.lists(st.sampled_from(["a\n", "b\n", "d\n"]), max_size=12),
)
def test_a_diff_has_every_line(old: list[str], new: list[str]) -> None:
    lines = unified("x", "".join(old), "".join(new)).split("\n")[2:]
    kept = [f"{line[1:]}\n" for line in lines if line[:1] in (" ", "-")]
    made = [f"{line[1:]}\n" for line in lines if line[:1] in (" ", "+")]
    assert "".join(kept) in "".join(old)
    assert "".join(made) in "".join(new)
    assert len(old) - len(new) == sum(line[:1] == "-" for line in lines) - sum(
        line[:1] == "+" for line in lines
    )
