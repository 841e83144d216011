"""`lllm show`: a session as it happened: messages, tools, repairs, what was shown to the user, and what it cost.

Needs the log alone: the project that made the session need not be here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lllm.cli import output
from lllm.cli.options import ConfigFile, Json, Last, SessionId, configuration, session_of, store_of
from lllm.cli.session_rows import panels_on_stdout, print_rows
from lllm.cli.sessions import iso
from lllm.errors import ConfigError, LogCorrupt, LogError

if TYPE_CHECKING:
    from lllm.ports import LogStore


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
        print_rows(views.transcript(found), views.summary(found), full, store.blob)
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
