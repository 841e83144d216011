"""Text from elsewhere (models, tools, files, other people's logs) on its way to a terminal.

A terminal obeys control characters: they move the cursor, recolour the screen, set the window's title, turn the direction
of writing. Every print of foreign text goes through one of these functions, which show such characters as escapes.
"""

from __future__ import annotations

import re
from typing import Final

_ACTING: Final = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls of ASCII and of Latin-1 (\x9b begins a sequence as \x1b[ does)
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that turn the direction of writing
    "\u2028\u2029"  # line and paragraph separators: a line of their own in some programs
    "\ufff9-\ufffb"  # annotations
    "\ud800-\udfff"  # halves of a pair: no terminal's encoding has them
    "\U000e0000-\U000e007f"  # tags: text that nobody sees
)
_FLAG: Final = "\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,6}\U000e007f"  # of Wales, in tags
_FOREIGN: Final = re.compile(f"({_FLAG})|\r\n|[{_ACTING}]")
_FOREIGN_LINE: Final = re.compile(f"({_FLAG})|[\t\n{_ACTING}]")


def visible(text: str) -> str:
    """Text that does nothing to a terminal but stand there. Newlines and tabs stay; a CR before a newline is left out."""
    return _FOREIGN.sub(_escaped, text)


def visible_line(text: str) -> str:
    """The same for text that must stay on its line (a name, a cell of a table): newlines and tabs are escapes too."""
    return _FOREIGN_LINE.sub(_escaped, text)


def visible_json(text: str) -> str:
    """The same for JSON: its own escapes, so that it stays the same value."""
    return _FOREIGN.sub(_escaped_json, text)


def _escaped(found: re.Match[str]) -> str:
    char = found.group()
    return char if found[1] else "\n" if char == "\r\n" else repr(char)[1:-1]


def _escaped_json(found: re.Match[str]) -> str:
    char = found.group()
    if found[1] or char == "\r\n":
        return char
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
