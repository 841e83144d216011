"""Documents as text with lines, and in passages that fit a prompt: what a knowledge base is made of."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from lllm.hints import install_hint
from lllm.models.checks import deeper
from lllm.proxies.builtin import pdf_worker
from lllm.proxies.builtin.diffs import lines_of
from lllm.proxies.builtin.markdown import to_markdown
from lllm.proxies.builtin.text import decoded

PASSAGE: Final = 1600
"""Characters of a passage, more or less: it ends with a line."""
OVERLAP: Final = 200
"""Characters that a passage has in common with the one before, of the same section."""
_INDENTED: Final = 10
"""Levels of JSON that is written with an indent. What is nested deeper would become mostly spaces."""
_PDF_SECONDS: Final = 30.0
_HEADING: Final = re.compile(r"(#{1,6})[ \t]+(.*)")
_LONGEST: Final = 300
"""Characters of a heading; what is longer is none."""
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")
_DEFINITION: Final = re.compile(r"(?:async[ \t]+def|def|class)[ \t]+(\w{1,200})")
_UNDERLINE: Final = re.compile(r"([=\-~^\"'*+#])\1{2,}[ \t]*$")


class Passage(NamedTuple):
    """A part of a document: its lines, counted from 1, the headings that it stands under, and its text."""

    first: int
    last: int
    heading: str
    text: str


class Unreadable(Exception):
    """A document that is left out, and why."""


Heading = tuple[int, int, str]
"""A heading: its line, its level from 1, and its text."""


def text_of_document(data: bytes, path: str) -> list[str]:
    """The lines of a document: of HTML, those of its Markdown; of a PDF, those of its pages; of JSON in very long lines,
    those of the same value with an indent, unless it is nested deep.

    Raises:
        Unreadable: it is binary, or cannot be read.
    """
    end = ending(path)
    if end == "pdf":
        return _pdf(data)
    found = decoded(data)
    if found is None:
        raise Unreadable("it is binary")
    text = found.text
    if end in ("html", "htm"):
        page = to_markdown(text)
        title = f"# {page.title}\n\n" if page.title and not page.text.startswith("# ") else ""
        text = title + page.text
    elif end == "json" and max(map(len, text.split("\n"))) > PASSAGE:
        with suppress(ValueError, TypeError, RecursionError):  # all in one line, as programs write it
            value = json.loads(text)
            if not deeper(value, _INDENTED):
                text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    return [line.rstrip("\r\n") for line in lines_of(text)]


def passages(lines: list[str], path: str) -> Iterator[Passage]:
    """The passages of a document: one for each section, several where it is long."""
    find = _HEADINGS.get(ending(path))
    headings = list(find(lines)) if find is not None else []
    above: list[tuple[int, str]] = []
    columns = lines[0][:300] if lines and ending(path) in ("csv", "tsv") else ""
    bounds = [(1, 0, ""), *headings]
    for number, (line, level, text) in enumerate(bounds):
        above = [one for one in above if one[0] < level]
        if level:
            above.append((level, text))
        end = bounds[number + 1][0] - 1 if number + 1 < len(bounds) else len(lines)
        own = " > ".join(title for _, title in above) or columns
        deeper = number + 1 < len(bounds) and bounds[number + 1][1] > level
        if level and deeper and not any(one.strip() for one in lines[line:end]):
            continue  # a heading right above another: it stands in the path of that one
        yield from _cut(lines, line, end, own)


def ending(path: str) -> str:
    """Returns the end of a name, in lower case."""
    return path.rpartition("/")[2].rpartition(".")[2].lower()


def _cut(lines: list[str], first: int, last: int, heading: str) -> Iterator[Passage]:
    """Lines in passages of about PASSAGE characters. A line that is longer is several passages of the same line."""
    start, size = first, 0
    for number in range(first, last + 1):
        line = lines[number - 1]
        if size and size + len(line) > PASSAGE:
            yield from _made(lines, start, number - 1, heading)
            start = _back(lines, start, number)
            size = sum(len(one) + 1 for one in lines[start - 1 : number - 1])
        if len(line) > PASSAGE:
            if number > start:
                yield from _made(lines, start, number - 1, heading)
            for at in range(0, len(line), PASSAGE - OVERLAP):
                if at and at + OVERLAP >= len(line):
                    break
                yield Passage(number, number, heading, line[at : at + PASSAGE])
            start, size = number + 1, 0
            continue
        size += len(line) + 1
    if start <= last:
        yield from _made(lines, start, last, heading)


def _back(lines: list[str], start: int, number: int) -> int:
    """The line at which the next passage begins: OVERLAP characters before, but behind the beginning of this one."""
    size, at = 0, number
    while at - 1 > start and size + len(lines[at - 2]) < OVERLAP:
        at -= 1
        size += len(lines[at - 1]) + 1
    return at


def _made(lines: list[str], first: int, last: int, heading: str) -> Iterator[Passage]:
    while first <= last and not lines[first - 1].strip():
        first += 1
    while last >= first and not lines[last - 1].strip():
        last -= 1
    if first <= last:
        yield Passage(first, last, heading, "\n".join(lines[first - 1 : last]))


# --- headings


def _of_markdown(lines: list[str]) -> Iterator[Heading]:
    fence = ""
    for number, line in enumerate(lines, 1):
        if (mark := _FENCE.match(line)) is not None:
            if not fence:
                fence = mark[1]
            elif mark[1].startswith(fence) and not line.strip(" `~"):
                fence = ""
        elif not fence and (found := _HEADING.match(line)) is not None:
            text = found[2].strip()
            bare = text.rstrip("#")
            text = bare.rstrip() if bare[-1:] in ("", " ", "\t") else text  # closing signs, as in `## A ##`
            if 0 < len(text) <= _LONGEST:
                yield number, len(found[1]), text


def _of_rst(lines: list[str]) -> Iterator[Heading]:
    levels: list[str] = []
    for number, line in enumerate(lines[1:], 2):
        title = lines[number - 2]
        if _UNDERLINE.match(line) and title.strip() and len(line.strip()) >= len(title.strip()) < 300:
            if line[0] not in levels:
                levels.append(line[0])
            yield number - 1, levels.index(line[0]) + 1, title.strip()


def _of_python(lines: list[str]) -> Iterator[Heading]:
    for number, line in enumerate(lines, 1):
        if (found := _DEFINITION.match(line)) is not None:
            yield number, 1, found[1]


def _of_pages(lines: list[str]) -> Iterator[Heading]:
    for number, line in enumerate(lines, 1):
        if line.startswith(_PAGE):
            yield number, 1, line.strip("[]")


_PAGE: Final = "[page "
_HEADINGS: Final[Mapping[str, Callable[[list[str]], Iterator[Heading]]]] = {
    **dict.fromkeys(("md", "markdown", "html", "htm"), _of_markdown),
    "rst": _of_rst,
    "py": _of_python,
    "pdf": _of_pages,
}
KINDS: Final = frozenset({*_HEADINGS, *"txt csv tsv json jsonl yaml yml toml".split()})
"""The ends of names of documents."""


def _pdf(data: bytes) -> list[str]:
    """The text of a PDF, by a process that is stopped in time."""
    if find_spec("pypdf") is None:
        raise Unreadable(f"PDF needs the package pypdf. {install_hint('pdf')}")
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(Path(pdf_worker.__file__))],
            input=data,
            capture_output=True,
            timeout=_PDF_SECONDS,
            check=False,
        )
        pages = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise Unreadable(f"it took longer than {_PDF_SECONDS:g} s to read") from None
    except (OSError, ValueError):
        raise Unreadable("it is not a PDF that can be read") from None
    lines: list[str] = []
    for number, page in enumerate(pages, 1):
        lines += [f"{_PAGE}{number}]", *page.split("\n")]
    if not any(page.strip() for page in pages):
        raise Unreadable("it has no text: it may be scanned")
    return lines
