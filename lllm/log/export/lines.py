"""JSON as files hold it: one value a line, characters as they are."""

from __future__ import annotations

import json
from typing import Any


def line(value: Any) -> str:
    """A value as one line of JSON Lines. U+2028 and U+2029 are escaped: some readers take them for line ends."""
    return text(value) + "\n"


def text(value: Any) -> str:
    """A value as JSON on one line."""
    written = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        written.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which arguments may spell out
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    for char, escaped in _BREAKS.items():
        if char in written:
            written = written.replace(char, escaped)
    return written


_BREAKS = {"\u2028": "\\u2028", "\u2029": "\\u2029", "\x85": "\\u0085"}
