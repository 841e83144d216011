"""Searches texts for a regular expression, in a process of its own: see worker. Imports the standard library alone.

It is asked for `{"pattern": ..., "ignore_case": ..., "most": ..., "context": ...}` once and answers null, or what is wrong with
the pattern; then for `{"bytes": N, "encoding": ...}` and N bytes each time, and answers a list of matches.
"""

from __future__ import annotations

import json
import re
import sys
from bisect import bisect_right
from contextlib import suppress
from itertools import accumulate
from typing import Any

WIDEST = 240
"""Characters of a line that are shown."""


def compiled(pattern: str, ignore_case: bool) -> re.Pattern[str]:
    """A pattern for lines: `^` and `$` are those of a line."""
    return re.compile(pattern, re.MULTILINE | (re.IGNORECASE if ignore_case else 0))


def matches(pattern: re.Pattern[str], text: str, most: int, context: int) -> list[dict[str, Any]]:
    """The lines in which a match begins: at most `most`, each with `context` lines around it."""
    found: list[dict[str, Any]] = []
    lines: list[str] = []
    starts: list[int] = []
    last = 0
    for match in pattern.finditer(text):
        if not lines:
            lines = text.split("\n")
            starts = list(accumulate((len(one) + 1 for one in lines), initial=0))
        number = bisect_right(starts, match.start())
        if number == last or (number == len(lines) and not lines[-1]):
            continue
        last = number
        at = match.start() - starts[number - 1]
        one: dict[str, Any] = {"line": number, "text": _cut(lines[number - 1], at)}
        if context:
            one["before"] = [_cut(line, 0) for line in lines[max(0, number - 1 - context) : number - 1]]
            one["after"] = [_cut(line, 0) for line in lines[number : number + context]]
        found.append(one)
        if len(found) >= most:
            break
    return found


def _cut(line: str, at: int) -> str:
    """A line, or what is around a place in it."""
    line = line.removesuffix("\r")
    if len(line) <= WIDEST:
        return line
    start = max(0, min(at - WIDEST // 3, len(line) - WIDEST))
    end = start + WIDEST
    return f"{'...' if start else ''}{line[start:end]}{'...' if end < len(line) else ''}"


def main() -> None:
    """Answers until the input ends."""
    import resource
    import signal

    signal.alarm(int(sys.argv[2]))  # ends this process where nobody else does: its parent may be gone
    with suppress(ValueError, OSError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))
    asked = json.loads(sys.stdin.buffer.readline())
    try:
        pattern = compiled(asked["pattern"], asked["ignore_case"])
    except (re.error, RecursionError, OverflowError) as error:
        return _answer(str(error) or type(error).__name__)
    _answer(None)
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        text = sys.stdin.buffer.read(request["bytes"]).decode(request["encoding"], "replace")
        _answer(matches(pattern, text, request["most"], asked["context"]))


def _answer(value: Any) -> None:
    sys.stdout.buffer.write(json.dumps(value).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
