"""Tables: fitted to a terminal's width, complete in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from lllm.cli import screen
from lllm.core.visible import visible_line

GAP: Final = 2
NARROW: Final = 14
"""Minimum width of a folded column: below it, every row becomes a block of lines."""
SHORT: Final = 24
"""Minimum width of a cut column."""


def lines(
    header: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    cut: Sequence[str] = (),
    below: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> list[str]:
    """The lines of a table. A pipe gets every character, one line per row. On a terminal, cells that do not fit are
    folded within their column.

    Args:
        cut: columns that end in an ellipsis instead: summaries of text that another command shows in full.
        below: columns that move to lines of their own, under their row, if the table is too wide.
        whole: columns that are never folded; the first one, which identifies the row, never is.
    """
    cells = [[visible_line("" if cell is None else str(cell)) for cell in row] for row in rows]
    widths = [max(map(screen.columns, column)) for column in zip(header, *cells, strict=True)]
    room = screen.width() if screen.is_terminal(sys.stdout) else sum(widths) + GAP * len(widths)
    cuts = {header.index(name) for name in cut}
    _shrink(widths, cuts, room, SHORT)
    if below and _total(widths) > room:
        return _below(header, cells, {header.index(name) for name in below}, cuts, room)
    for row in cells:
        for index in cuts:
            row[index] = screen.cut(row[index], widths[index])
    fixed = {0, *cuts, *(header.index(name) for name in whole)}
    _shrink(widths, set(range(len(widths))) - fixed, room, NARROW)
    if _total(widths) > room:
        return _blocks(header, cells, room)
    shown = [screen.paint(_line([[name] for name in header], widths)[0], "bold", sys.stdout)]
    for row in cells:
        shown += _line([screen.wrap(cell, wide) for cell, wide in zip(row, widths, strict=True)], widths)
    return shown


def _below(
    header: Sequence[str], cells: Sequence[Sequence[str]], places: set[int], cuts: set[int], room: int
) -> list[str]:
    """Rows with some of their cells moved to lines below them."""
    beside = [index for index in range(len(header)) if index not in places]
    first, *rest = lines(
        [header[index] for index in beside], [[row[index] for index in beside] for row in cells]
    )
    if len(rest) != len(cells):
        return _blocks(header, cells, room)
    out = [first]
    for row, line in zip(cells, rest, strict=True):
        out.append(line)
        together = "  ".join(row[index] for index in sorted(places - cuts) if row[index])
        out += [f"    {part}" for part in screen.wrap(together, room - 4) if part]
        out += [f"    {screen.cut(row[index], room - 4)}" for index in sorted(places & cuts) if row[index]]
    return out


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _shrink(widths: list[int], among: Iterable[int], room: int, least: int) -> None:
    """Narrows the widest columns until the table fits or they reach the minimum."""
    among = list(among)
    while (over := _total(widths) - room) > 0 and among:
        *_, next_, widest = [0, *sorted(among, key=lambda index: widths[index])]
        floor = max(least, widths[next_] - 1 if len(among) > 1 else 0, widths[widest] - over)
        if widths[widest] <= least:
            return
        widths[widest] = max(least, min(floor, widths[widest] - 1))


def _line(cells: Sequence[Sequence[str]], widths: Sequence[int]) -> list[str]:
    """One row, as many lines as its tallest cell."""
    out = []
    for number in range(max(map(len, cells))):
        parts = [cell[number] if number < len(cell) else "" for cell in cells]
        out.append(
            (" " * GAP).join(map(screen.pad, parts, widths)).rstrip()  # trailing spaces would wrap on resize
        )
    return out


def _blocks(header: Sequence[str], cells: Sequence[Sequence[str]], room: int) -> list[str]:
    """One block of lines per row, if there is no room for columns."""
    label = max(map(screen.columns, header))
    out: list[str] = []
    for row in cells:
        if out:
            out.append("")
        for name, cell in zip(header, row, strict=True):
            if cell:
                first, *rest = screen.wrap(cell, max(8, room - label - GAP))
                out.append(f"{screen.pad(name, label)}{' ' * GAP}{first}")
                out += [f"{' ' * (label + GAP)}{line}" for line in rest]
    return out
