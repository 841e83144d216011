"""Searches the files of a folder for a text or a regular expression."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from lllm.errors import EndpointError, EndpointRejected
from lllm.proxies.builtin import regex_worker
from lllm.proxies.builtin.folder import Folder, Found
from lllm.proxies.builtin.text import encoding_of
from lllm.proxies.builtin.worker import Worker

SECONDS: Final = 10.0
FILES: Final = 50_000
"""Names that one search, or one listing, looks at."""
LARGEST: Final = 10 * 2**20
"""Bytes of a file that is searched; larger ones are skipped, and counted."""
TOTAL: Final = 512 * 2**20
LONGEST: Final = 1000
"""Characters of a pattern."""

Look = Callable[[bytes, str, int], list[dict[str, Any]]]


def search(
    folder: Folder,
    found: Iterable[Found],
    pattern: str,
    glob: str,
    *,
    regex: bool,
    ignore_case: bool,
    context: int,
    most: int,
) -> dict[str, Any]:
    """The matches in files whose path fits `glob`, and what was left out.

    Raises:
        EndpointRejected: not a pattern. EndpointTimeout: a regular expression that takes too long.
    """
    if not pattern or len(pattern) > LONGEST:
        raise EndpointRejected(f"pattern must have 1 to {LONGEST} characters, got {len(pattern)}")
    matches: list[dict[str, Any]] = []
    searched = size = looked = 0
    skipped = {"binary": 0, "too large": 0, "unreadable": 0}
    stopped = ""
    deadline = time.monotonic() + SECONDS
    with ExitStack() as stack:
        if regex or ignore_case:  # without the case, Python looks for a text as slowly as for an expression
            look = _by_regex(stack, pattern, regex, ignore_case, context)
        else:
            look = _by_text(pattern, context)
        for entry in found:
            looked += 1
            if time.monotonic() > deadline or looked > FILES or size > TOTAL:
                stopped = "there are too many files: name a folder, or a narrower glob"
                break
            if entry.kind != "file" or not fits(entry.path, glob):
                continue
            if entry.info.st_size > LARGEST:
                skipped["too large"] += 1
                continue
            try:
                with folder.file(entry.path) as opened:
                    data = opened.at(0, LARGEST)
            except EndpointError:
                skipped["unreadable"] += 1
                continue
            encoding = encoding_of(data[:8192])
            if encoding is None:
                skipped["binary"] += 1
                continue
            searched, size = searched + 1, size + len(data)
            mark = len(encoding[1])
            matches += [
                {"path": entry.path, **one} for one in look(data[mark:], encoding[0], most + 1 - len(matches))
            ]
            if len(matches) > most:
                stopped = f"there are more than {most} matches"
                break
    made: dict[str, Any] = {"matches": matches[:most], "files_searched": searched}
    if left := {name: count for name, count in skipped.items() if count}:
        made["files_skipped"] = left
    if stopped:
        made["stopped"] = stopped
    return made


def _by_text(pattern: str, context: int) -> Look:
    wanted = regex_worker.compiled(re.escape(pattern), ignore_case=False)  # takes linear time

    def look(data: bytes, encoding: str, most: int) -> list[dict[str, Any]]:
        return regex_worker.matches(wanted, data.decode(encoding, "replace"), most, context)

    return look


def _by_regex(stack: ExitStack, pattern: str, regex: bool, ignore_case: bool, context: int) -> Look:
    what = f"the {'regular expression' if regex else 'search for'} {pattern[:80]!r}"
    worker = stack.enter_context(Worker(Path(regex_worker.__file__), SECONDS, what))
    written = pattern if regex else re.escape(pattern)
    if wrong := worker.ask({"pattern": written, "ignore_case": ignore_case, "context": context}):
        raise EndpointRejected(
            f"{pattern[:80]!r} is not a regular expression: {wrong}", hint="For plain text, leave regex out."
        )

    def look(data: bytes, encoding: str, most: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = worker.ask(
            {"bytes": len(data), "encoding": encoding, "most": most}, data
        )
        return found

    return look


def fits(path: str, glob: str) -> bool:
    """True if a path fits a pattern: one without `/` is that of a name, `**` is any number of folders."""
    if not glob:
        return True
    if "/" not in glob:
        return fnmatchcase(path.rpartition("/")[2], glob)
    return _fits(tuple(path.split("/")), tuple(part for part in glob.split("/") if part))


@lru_cache(4096)
def _fits(names: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    if not patterns:
        return not names
    if patterns[0] == "**":
        return _fits(names, patterns[1:]) or (bool(names) and _fits(names[1:], patterns))
    return bool(names) and fnmatchcase(names[0], patterns[0]) and _fits(names[1:], patterns[1:])


def check_glob(glob: str) -> str:
    """Raises EndpointRejected for one that is too long to be looked for."""
    if len(glob) > 300 or glob.count("**") > 4 or "\0" in glob:
        raise EndpointRejected("glob must have at most 300 characters, and '**' at most four times")
    return glob
