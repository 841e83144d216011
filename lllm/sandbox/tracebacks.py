"""Tracebacks as a model can use them: which line of which cell, and without what does not concern the cell.

IPython shows a traceback as blocks, one per frame, each with a head like `Cell In[3], line 2` or `File /usr/lib/x.py:10, in f`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from lllm.core.terminal_text import plain

FRAMES: Final = 6
"""Frames of libraries that are kept between the cell and the error: the last ones."""

_HEAD: Final = re.compile(r"^(Cell In\[\d+\], line \d+|File .+?:\d+, in |File .+?, line \d+)", re.MULTILINE)
_RULE: Final = re.compile(r"^-{8,}\n", re.MULTILINE)
_CHAIN: Final = re.compile(
    r"^(The above exception was the direct cause of the following exception:"
    r"|During handling of the above exception, another exception occurred:)$",
    re.MULTILINE,
)
_CELL: Final = re.compile(r"^Cell In\[\d+\], line \d+")


def short(traceback: Sequence[str]) -> str:
    """A traceback without colours. Frames of cells are whole; of libraries' frames the last are kept, each with its head and
    the line at which it stands."""
    parts = _CHAIN.split(_RULE.sub("", plain("\n".join(traceback))))
    parts[::2] = map(_short, parts[::2])
    return "\n\n".join(part.strip("\n") for part in parts)


def _short(whole: str) -> str:
    """One exception of a chain."""
    starts = [match.start() for match in _HEAD.finditer(whole)]
    if not starts:
        return whole
    frames = [whole[a:b] for a, b in zip(starts, [*starts[1:], len(whole)], strict=True)]
    last, end = _split_end(frames[-1])
    frames[-1] = last
    outside = [n for n, frame in enumerate(frames) if not _CELL.match(frame)]
    dropped = set(outside[:-FRAMES])
    lines = [whole[: starts[0]].rstrip("\n")]
    skipped = 0
    for number, frame in enumerate(frames):
        if number in dropped:
            skipped += 1
            continue
        if skipped:
            lines.append(f"    [{skipped} frames of libraries]")
            skipped = 0
        lines.append(frame.rstrip("\n") if _CELL.match(frame) else _pointed(frame))
    return "\n".join([*lines, "", end.strip("\n")]) if end else "\n".join(lines)


def in_cells(traceback: Sequence[str]) -> list[str]:
    """The frames of a traceback that are in cells, without colours."""
    whole = plain("\n".join(traceback))
    starts = [match.start() for match in _HEAD.finditer(whole)]
    frames = [whole[a:b] for a, b in zip(starts, [*starts[1:], len(whole)], strict=True)]
    return [frame.rstrip("\n") for frame in frames if _CELL.match(frame)]


def _split_end(frame: str) -> tuple[str, str]:
    """The last frame, and the lines of the error itself behind it: those of a frame all have numbers, and none is empty."""
    head, _, end = frame.partition("\n\n")
    return head, end


def _pointed(frame: str) -> str:
    """The head of a frame and the line with the arrow."""
    lines = frame.splitlines()
    arrows = [line for line in lines[1:] if line.lstrip().startswith("--")]
    return "\n".join([lines[0], *arrows[:1]])
