"""Makes foreign text (from models, tools, files, other people's logs) safe to print on a terminal.

A terminal obeys control characters: they move the cursor, recolour the screen, set the window's title, reverse the
direction of writing. All foreign text is printed through one of these functions, which escape such characters.
"""

from __future__ import annotations

import re
from typing import Final

_ACTING: Final = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls of ASCII and of Latin-1 (\x9b begins a sequence as \x1b[ does)
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that change the direction of writing
    "\u2028\u2029"  # line and paragraph separators: some programs break the line there
    "\ufff9-\ufffb"  # annotations
    "\ud800-\udfff"  # lone surrogates: no terminal encoding has them
    "\U000e0000-\U000e007f"  # tags: invisible text
)
_FLAG: Final = "\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,6}\U000e007f"  # flags written in tags, as of Wales
_FOREIGN: Final = re.compile(f"({_FLAG})|\r\n|[{_ACTING}]")
_FOREIGN_LINE: Final = re.compile(f"({_FLAG})|[\t\n{_ACTING}]")


def visible(text: str) -> str:
    """Escapes everything that a terminal would obey. Newlines and tabs stay; a CR before a newline is removed."""
    return _FOREIGN.sub(_escaped, text)


def visible_line(text: str) -> str:
    """The same for text that must stay on one line (a name, a table cell): newlines and tabs are escaped too."""
    return _FOREIGN_LINE.sub(_escaped, text)


def visible_json(text: str) -> str:
    """The same for JSON, by JSON's own escapes: the value does not change."""
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
