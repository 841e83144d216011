"""Ids of sessions."""

from __future__ import annotations

import os
import time
from functools import lru_cache


def new_id(name: str = "") -> str:
    """A session id: time, a name made safe for files and shells, and randomness. At most 80 characters."""
    return f"{_stamp(int(time.time()))}{_word(name[:60])}-{os.urandom(4).hex()}"


@lru_cache(maxsize=1)
def _stamp(second: int) -> str:
    """The time, as it stands in an id."""
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime(second))


@lru_cache(maxsize=64)
def _word(name: str) -> str:
    """The part of a session id that is made of a name, with a dash before it; empty where nothing of the name is safe."""
    word = "".join(char if char.isascii() and char.isalnum() else "-" for char in name).strip("-").lower()
    while "--" in word:
        word = word.replace("--", "-")
    word = word[:40].strip("-")
    return f"-{word}" if word else ""
