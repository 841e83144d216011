"""A session as HTML for a notebook cell: its totals, and a row for each event."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

from lllm.core.visible import visible, visible_line
from lllm.log.cell_rows import CellRows
from lllm.log.transcript import Row, transcript
from lllm.log.views import Summary, saving, summary

ROWS: Final = 200
"""Maximum number of rows; of more, the first and the last are shown."""
LONG: Final = 400
"""Characters shown of a row's text."""
_CELL: Final = 'style="text-align:left;vertical-align:top;white-space:pre-wrap"'


def html(events: Sequence[Mapping[str, Any]], blob: Callable[[str], bytes] | None = None) -> str:
    """HTML without scripts, styles or external resources; all text of the session is escaped. `blob` reads blobs of the log."""
    told, cells = summary(events), CellRows(blob)
    rows = [cells.read(row) for row in transcript(events) if (row.kind, row.text) != ("end", "done")]
    left_out = max(0, len(rows) - ROWS)
    shown = [*rows[: ROWS // 2], *rows[len(rows) - ROWS // 2 :]] if left_out else rows
    body = "".join(_row(row, told.started) for row in shown)
    note = f"<p>{left_out} rows are left out: lllm show {escape(told.session)}</p>" if left_out else ""
    return f"<div><p>{'<br>'.join(_head(told))}</p><table>{body}</table>{note}</div>"


def _head(told: Summary) -> Iterator[str]:
    tokens = f"{told.usage.get('prompt', 0)} tokens in, {told.usage.get('completion', 0)} out"
    cost = "cost unknown" if told.cost is None else f"cost ${told.cost}"
    calls = f"{told.calls} agent, {told.model_calls} model, {told.tool_calls} tool calls"
    yield f"<b>{escape(visible_line(told.name))}</b> <code>{escape(visible_line(told.session))}</code>"
    yield escape(f"{told.status}; {calls}; {tokens}; {cost}")
    if (words := saving(told)) is not None:
        yield escape(words)
    if told.error and told.status != "done":
        yield escape(visible(told.error))


def _row(row: Row, began: int) -> str:
    mark = " (rejected)" if row.detail.get("verdict") == "rejected" else ""
    who = row.who if row.who not in ("session", "frontend") else ""
    text = (
        row.text
        if len(row.text) <= LONG
        else f"{row.text[:LONG]}… ({len(row.text) - LONG:,} more characters)"
    )
    cells = (str(row.seq), f"{(row.at - began) / 1_000_000:.3f}", f"{row.kind}{mark}", who, text)
    return "<tr>" + "".join(f"<td {_CELL}>{escape(visible(cell))}</td>" for cell in cells) + "</tr>"
