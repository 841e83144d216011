"""`lllm replay`: runs a session again on its recorded effects and says whether today's code would write the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lllm.cli import output
from lllm.cli.options import (
    ConfigFile,
    Entry,
    Json,
    Last,
    SessionId,
    configuration,
    runnable,
    session_of,
    store_of,
)
from lllm.errors import ConfigError, ReplayDivergence

if TYPE_CHECKING:
    from lllm.ports import LogStore
    from lllm.replay.manifest import Source


def replay(
    session: SessionId = None,
    last: Last = None,
    head: Annotated[
        str | None,
        typer.Option(
            "--head",
            metavar="HASH",
            help="The hash of the session's last event, as noted elsewhere: the log must contain it.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit with 3 if the project's code learns something that is not recorded."
        ),
    ] = False,
    config: ConfigFile = None,
    json: Json = False,
    entry: Entry = None,
) -> int:
    """Re-execute a session on its recorded effects and verify it."""
    from lllm.replay import replay_session

    store = store_of(configuration(config))
    id = session_of(store, session, last)
    try:
        report = replay_session(id, store=store, head=head, **program_of(store, id, config, program=entry))
    except Exception as error:
        output.belongs(error, id)
        raise
    found = report.divergence
    if json:
        output.data(report.as_dict())
    elif found is not None:
        output.say(f"error: {output.divergence(found)}")
        if found.hint:
            output.say(f"  {found.hint}")
    else:
        output.text(f"verified: {report.session}: {output.counted(report.events, 'event')}, {_how(report)}")
    if not json:
        for note in report.notes:
            output.say(f"note: {note}")
        _unrecorded(report.unrecorded)
    if found is not None:
        return found.exit_code
    return ReplayDivergence.exit_code if strict and report.unrecorded else 0


def _unrecorded(sources: Sequence[Source]) -> None:
    """Says what the project's code learns beside the record."""
    if not sources:
        return
    from lllm.replay.manifest import instead

    output.say(
        f"note: not recorded, so not verified: {output.counted(len(sources), 'place')} in the project's code"
    )
    for source in sources:
        output.say(f"  {source}")
    output.say(f"  {instead(sources)}")


def program_of(
    store: LogStore,
    session: str,
    file: Path | None,
    *,
    sets: Sequence[str] = (),
    asks: bool = False,
    program: str | None = None,
) -> dict[str, Any]:
    """The function at `program`, MODULE:FUNCTION, where it is given; else the configuration to build agents from, if it is not
    just the session's own entry: another --config, or the plain agent of a folder that declares none.

    `sets`: changed settings. `asks`: requests will be sent."""
    from lllm.config.overrides import given_again
    from lllm.replay.program import kind_of

    if program is not None:
        if file is not None:
            raise ConfigError("--entry and --config exclude each other: the program builds its agents itself")
        from lllm.config import load_project
        from lllm.llm.python_names import function_at

        return {"entry": function_at(program, load_project())}
    meta = next((info.meta for info in store.sessions(prefix=session) if info.id == session), {})
    entry = meta.get("entry") or meta.get("kept") or {}
    if file is not None or (not entry.get("config") and "kind" in entry and kind_of(entry["kind"]).whole):
        again = given_again(entry.get("set", ()), sets, needed=asks)
        return {"config": runnable(file, overrides=[*again, *sets])}
    return {}


def _how(report: object) -> str:
    again, folded = getattr(report, "reexecuted", 0), getattr(report, "folded", 0)
    words = f"{output.counted(again, 'agent call')} re-executed"
    return words + (f", {folded} folded" if folded else "")
