"""The unified diff of two texts, in a time that does not depend on what they are."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Final

from lllm.proxies.answer import printable

MOST: Final = 20_000
"""Characters of a diff that are returned."""
_AROUND: Final = 3
_COMPARED: Final = 2000
"""Lines that are compared with each other: difflib may take quadratic time. More are one change."""

Change = tuple[str, int, int, int, int]


def unified(path: str, old: str, new: str) -> str:
    """The unified diff, "" where nothing differs; cut where it is long."""
    if old == new:
        return ""
    a, b = lines_of(old), lines_of(new)
    start = _common(a, b)
    end = _common(a[start:][::-1], b[start:][::-1])
    start, end = max(0, start - _AROUND), max(0, end - _AROUND)
    a, b = a[start : len(a) - end], b[start : len(b) - end]
    path = printable(path)  # a line break in a name would look like a line of the diff
    text = f"--- a/{path}\n+++ b/{path}\n" + "".join(_hunk(group, a, b, start) for group in _groups(a, b))
    return text if len(text) <= MOST else f"{text[:MOST]}\n... ({len(text) - MOST} more characters)"


def lines_of(text: str) -> list[str]:
    """Lines by `\\n` alone: `splitlines` also splits at form feeds and others, and editors do not."""
    found = [f"{one}\n" for one in text.split("\n")]
    found[-1] = found[-1][:-1]
    return found if found[-1] else found[:-1]


def _common(a: list[str], b: list[str]) -> int:
    count = 0
    for one, other in zip(a, b, strict=False):
        if one != other:
            break
        count += 1
    return count


def _groups(a: list[str], b: list[str]) -> Iterable[list[Change]]:
    if len(a) + len(b) > _COMPARED:
        return [[("replace", 0, len(a), 0, len(b))]]
    return SequenceMatcher(None, a, b, autojunk=False).get_grouped_opcodes(_AROUND)


def _hunk(group: list[Change], a: list[str], b: list[str], start: int) -> str:
    first, last = group[0], group[-1]
    before, after = _range(start, first[1], last[2]), _range(start, first[3], last[4])
    made = [f"@@ -{before} +{after} @@\n"]
    for kind, i, j, k, m in group:
        if kind == "equal":
            made += [_line(" ", one) for one in a[i:j]]
            continue
        made += [_line("-", one) for one in a[i:j]]
        made += [_line("+", one) for one in b[k:m]]
    return "".join(made)


def _line(sign: str, line: str) -> str:
    return f"{sign}{line}" if line.endswith("\n") else f"{sign}{line}\n\\ No newline at end of file\n"


def _range(start: int, first: int, last: int) -> str:
    """As in diffutils: of an empty range, the line before it."""
    length = last - first
    if length == 1:
        return f"{start + first + 1}"
    return f"{start + first + (length > 0)},{length}"
