"""A terminal's width and colours. Needs no package: output must work without `rich`."""

from __future__ import annotations

import shutil
from typing import Any, Final

from lllm.core.text_width import columns as columns
from lllm.core.text_width import cut as cut
from lllm.core.text_width import pad as pad
from lllm.core.text_width import wrap as wrap
from lllm.terminals import capable as capable
from lllm.terminals import has_colours
from lllm.terminals import is_terminal as is_terminal

_CODES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def width() -> int:
    """Columns of the terminal; $COLUMNS, or 80 if unknown."""
    return max(20, shutil.get_terminal_size().columns)


def paint(text: str, style: str | None, stream: Any) -> str:
    """Styles text (bold, dim, a colour) if the stream is a terminal that supports it and NO_COLOR is not set."""
    if not style or not text or not has_colours(stream):
        return text
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m"
