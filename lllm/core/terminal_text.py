"""Text as a terminal shows it: escape sequences, backspaces and carriage returns.

All of it takes time in proportion to the text: code in a sandbox chooses the text.
"""

from __future__ import annotations

import re
from typing import Final

_ANSI: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]")


def plain(text: str) -> str:
    """Returns a text without the escape sequences of terminals."""
    return _ANSI.sub("", text) if "\x1b" in text else text


def as_shown(text: str) -> str:
    """Returns a text with its backspaces and carriage returns applied. A backspace removes the character before it on
    its line; a carriage return that something follows removes its line so far."""
    if "\b" in text:
        text = _erase(text)
    if "\r" in text:
        text = "\n".join(map(_overwrite, text.split("\n")))
    return text


def shown_with(shown: str, text: str) -> str:
    """Returns `as_shown(shown + text)`, where the first is as shown already: in time in proportion to its last line and the
    text."""
    at = shown.rfind("\n") + 1
    line = shown[at:]
    if "\b" in text:
        line, text = _erase_end(line, text)
    if "\r" in text or "\r" in line:
        return shown[:at] + as_shown(line + text)
    return shown[:at] + line + text


def _erase_end(line: str, text: str) -> tuple[str, str]:
    """Applies the backspaces of a text that follows a line: what is left of both."""
    kept: list[str] = []
    end = len(line)
    for char in text:
        if char != "\b":
            kept.append(char)
        elif not kept:
            end = max(end - 1, 0)
        elif kept[-1] != "\n":
            kept.pop()
    return line[:end], "".join(kept)


def _overwrite(line: str) -> str:
    shown = line.rstrip("\r")  # several at the end: a terminal has added one to that of a file
    end = "\r" if len(shown) < len(line) else ""
    return shown[shown.rfind("\r") + 1 :] + end


def _erase(text: str) -> str:
    kept: list[str] = []
    for char in text:
        if char != "\b":
            kept.append(char)
        elif kept and kept[-1] != "\n":
            kept.pop()
    return "".join(kept)
