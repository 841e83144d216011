"""`lllm show`: a session as it happened: messages, tools, repairs, what was shown to the user, and what it cost.

Needs the log alone: the project that made the session need not be here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lllm.cli import output, screen
from lllm.cli.options import ConfigFile, Json, Last, SessionId, configuration, session_of, store_of
from lllm.cli.sessions import iso
from lllm.core.visible import visible, visible_line
from lllm.errors import ConfigError, LogCorrupt, LogError

if TYPE_CHECKING:
    from lllm.log.views import Row, Summary
    from lllm.ports import LogStore
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


def show(
    session: SessionId = None,
    last: Last = None,
    events: Annotated[
        bool, typer.Option("--events", help="The events as they are logged, one JSON per line.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="As a Markdown page.")] = False,
    pretty: Annotated[
        bool, typer.Option("--pretty", help="As the panels that `lllm run --pretty` shows.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Long texts whole.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as long as the session is being written.")
    ] = False,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Show a session: messages, tools, repairs and cost, in order. By default the newest."""
    from lllm.log import views

    if markdown and (json or events):
        raise ConfigError(
            f"--markdown and {'--json' if json else '--events'} exclude each other; give one",
            hint="Keep one.",
        )
    if pretty and (json or events or markdown):
        other = "--json" if json else "--events" if events else "--markdown"
        raise ConfigError(f"--pretty and {other} exclude each other; give one", hint="Keep one.")
    store = store_of(configuration(config))
    id = session_of(store, session, last)
    if follow:
        from lllm.cli.following import follow as go_on

        if json or markdown:
            raise ConfigError(
                "--follow prints rows, or events with --events", hint="Leave --json or --markdown away."
            )
        return go_on(store, id, events=events, full=full, pretty=pretty)
    found, broken = readable(store, id)
    if broken is not None and not found:
        output.belongs(broken, id)
        raise broken
    if json:
        output.data(_record(found, broken, events))
    elif events:
        for event in found:
            output.json_line(event)
    elif markdown:
        output.text(views.markdown(found, store.blob))
    elif pretty:
        panels = panels_on_stdout(full)
        for event in found:
            panels.take(event)
    else:
        _print(views.transcript(found), views.summary(found), full, store.blob)
    if broken is not None:
        output.warn(f"the log is shown up to where it is intact: {broken.message}", broken.hint)
        return broken.exit_code
    return 0


def readable(store: LogStore, session: str) -> tuple[list[dict[str, Any]], LogError | None]:
    """The events that are as they were written, and why there are no more of them, where something is wrong."""
    from lllm.core.envelope import open_event
    from lllm.log import views

    try:
        return views.load(store, session), None
    except LogError as error:
        first = error
    events: list[dict[str, Any]] = []
    head = ""
    try:
        for body in store.read(session):
            event = open_event(body)
            if event["seq"] != len(events) or event["prev"] != head or event["session"] != session:
                break
            head = event["hash"]
            events.append(event)
        views.summary(events)  # events that contradict each other cannot be shown
        return events, first
    except LogCorrupt:
        return events, first
    except LogError as error:
        return [], error


def _record(events: list[dict[str, Any]], broken: LogError | None, raw: bool) -> dict[str, Any]:
    from lllm.log import views

    told = views.summary(events)
    out: dict[str, Any] = {
        **told._asdict(),
        "started": iso(told.started),
        "ended": iso(told.ended) if told.ended is not None else None,
        "intact": broken is None,
    }
    if broken is not None:
        out["problem"] = {"message": broken.message, "seq": getattr(broken, "seq", None)}
    if raw:
        out["events"] = events
    else:
        out["transcript"] = [{**row._asdict(), "at": iso(row.at)} for row in views.transcript(events)]
    return out


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


def _print(rows: Sequence[Row], told: Summary, full: bool, blob: Callable[[str], bytes]) -> None:
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
