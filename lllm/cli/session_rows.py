"""What `lllm show` prints of a session: its rows, one under another, and what it came to."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lllm.cli import output, screen
from lllm.core.visible import visible, visible_line

if TYPE_CHECKING:
    from lllm.log.views import Row, Summary
    from lllm.utils.panels import Panels

STYLES = {
    "session": "bold",
    "call": "bold",
    "stage": "bold",
    "reply": "green",
    "tool": "cyan",
    "result": "cyan",
    "rejected": "red",
    "fault": "red",
    "stop": "red",
    "prompt": "yellow",
    "approval": "yellow",
    "end": "dim",
    "wait": "dim",
    "frontend": "dim",
}


class Printer:
    """Prints rows, one under another. `began` is when the session did, in microseconds since the epoch; `blob` reads blobs of
    its log."""

    def __init__(self, began: int, full: bool, blob: Callable[[str], bytes]) -> None:
        from lllm.log.cell_rows import CellRows
        from lllm.log.layout import Layout

        self._cells = CellRows(blob)
        self._began = began
        self._full = full
        self._wide = screen.width() if screen.is_terminal(sys.stdout) else None
        self._layout = Layout()

    def row(self, row: Row) -> None:
        depth, row, hidden = self._layout.place(self._cells.read(row))
        if hidden:
            return
        inner = "  " * depth
        begin = f"{row.seq:>4} {(row.at - self._began) / 1_000_000:8.3f}  {inner}"
        title = visible_line(_title(row))
        body = visible(row.text if self._full else _cut(row.text)).removesuffix("\n")
        indent = f"{'':15}{inner}  "
        first, rest = "", []
        if "\n" in body:
            rest = self._fit(body, len(indent))
        elif body:
            # folded with an indent: a line of the text must not look like a row
            first, *rest = self._fit(body, screen.columns(begin + title) + 2, len(indent))
        shown = screen.paint(title, STYLES.get(row.kind), sys.stdout)
        output.write(f"{begin}{shown}{f'  {first}' if first else ''}")
        for line in rest:
            output.write(f"{indent}{line}")

    def _fit(self, text: str, indent: int, then: int | None = None) -> list[str]:
        """Wraps a text with `indent` columns before each line (`then`: before all but the first)."""
        if self._wide is None:
            return text.split("\n")
        room = max(20, self._wide - indent)
        if then is None or screen.columns(text) <= room:
            return screen.wrap(text, room)
        first = screen.wrap(text, room)[0]
        return [first, *screen.wrap(text[len(first) :].lstrip(), max(20, self._wide - then))]


def panels_on_stdout(full: bool) -> Panels:
    """Panels as the output of a command."""
    from lllm.utils.panels import Board, Panels, drawing_for

    # cleaned before it is folded
    return Panels(board=Board(output.write, lambda: drawing_for(sys.stdout), clean=output.clean, full=full))


def print_rows(rows: Sequence[Row], told: Summary, full: bool, blob: Callable[[str], bytes]) -> None:
    """Prints all rows of a session, and what it came to."""
    printer = Printer(told.started, full, blob)
    for row in rows:
        printer.row(row)
    end(told)


def end(told: Summary) -> None:
    """Prints what a session came to."""
    from lllm.log.views import saving

    tokens = f"{told.usage.get('prompt', 0)} tokens in, {told.usage.get('completion', 0)} out"
    cost = "cost unknown" if told.cost is None else f"cost ${told.cost}"
    counted = (("agent call", told.calls), ("model call", told.model_calls), ("tool call", told.tool_calls))
    counts = ", ".join(output.counted(number, noun) for noun, number in counted)
    _paragraph(f"\n{visible_line(told.session)}: {told.status}; {counts}; {tokens}; {cost}")
    if (words := saving(told)) is not None:
        _paragraph(words)
    if told.error and told.status != "done":
        _paragraph(visible(told.error), "red")


def _paragraph(text: str, style: str | None = None) -> None:
    wide = screen.width() if screen.is_terminal(sys.stdout) else None
    for line in text.split("\n") if wide is None else screen.wrap(text, wide):
        output.write(screen.paint(line, style, sys.stdout))


def _title(row: Row) -> str:
    """The kind of a row and who speaks."""
    mark = ""
    if row.detail.get("verdict") == "rejected":
        mark = " (rejected)"
    elif row.kind == "result":
        mark = (
            " (given again)" if "reused" in row.detail else "" if row.detail.get("ok", True) else " (error)"
        )
    who = row.who if row.who not in ("session", "frontend") else ""
    if row.kind in ("message", "prompt"):
        return f"{who}{' (repair)' if row.detail.get('handler') == 'exception' else ''}"
    if row.kind == "call":
        return f"call {row.call}"
    if row.kind in ("tool", "result"):
        return f"{row.kind}{mark}" if row.kind == "tool" else f"{who} gives{mark}"
    return f"{row.kind}{mark}" + (f" {who}" if who else "")


def _cut(text: str, lines: int = 20, width: int = 2000) -> str:
    """A long text's beginning, with how much is left out."""
    parts = text.splitlines()
    if len(parts) <= lines and len(text) <= width:
        return text
    kept = "\n".join(parts[:lines])[:width]
    return f"{kept}\n... ({len(text) - len(kept)} more characters: --full)"
