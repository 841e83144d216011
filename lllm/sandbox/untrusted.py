"""What code inside a sandbox has made, taken with care: its JSON and its sockets."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from lllm.errors import SandboxError

_TEXTS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""A text, also one without an end: it is not looked through again from each of its quotes."""
_MARKS: Final = (b",", b":", b"[", b"{")
"""Each value but the first has one of them before it."""


class TooMany(SandboxError):
    """A JSON text holds more values than are made of it."""


def parse(data: bytes, most: int) -> Any:
    """The value of a JSON text. Raises TooMany for more than `most` values, as a value may take 80 times the memory of its
    text; ValueError and RecursionError for what is no JSON, or nested too deep."""
    if len(data) > most and _marks(data) > most and _marks(_TEXTS.sub(b"", data)) > most:
        raise TooMany(f"a message holds more than {most:,} values")
    return json.loads(data)


def _marks(data: bytes) -> int:
    return sum(map(data.count, _MARKS))


@contextmanager
def socket_at(path: str | os.PathLike[str]) -> Iterator[str]:
    """A name by which a unix socket is connected to, and nothing else: code inside may put a link in its place, which leads to
    a socket of another program. Raises OSError where there is none."""
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise FileNotFoundError(f"no socket: '{os.fspath(path)}'")
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
