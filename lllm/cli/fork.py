"""`lllm fork`: a new session that begins like an old one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lllm.cli import output
from lllm.cli.approvals import Approve
from lllm.cli.interrupted import next_steps
from lllm.cli.live import Live, Pretty, Quiet, Stream
from lllm.cli.options import (
    ConfigFile,
    Entry,
    Json,
    Last,
    Model,
    SessionId,
    Sets,
    Unmatched,
    configuration,
    naming,
    session_of,
    store_of,
)
from lllm.cli.replay import program_of
from lllm.cli.results import quiet_stdout, readable
from lllm.errors import ConfigError

if TYPE_CHECKING:
    from lllm.ports import LogStore
    from lllm.replay.fork import Fork


def fork(
    session: SessionId = None,
    last: Last = None,
    at: Annotated[
        int | None,
        typer.Option("--at", metavar="N", help="The event from which on things differ; see lllm show."),
    ] = None,
    edit: Annotated[
        str | None,
        typer.Option(
            "--edit", metavar="TEXT", help="What event N says instead: a task, message, reply or tool result."
        ),
    ] = None,
    edit_file: Annotated[
        Path | None, typer.Option("--edit-file", metavar="FILE", help="The same, from a file; - is stdin.")
    ] = None,
    item: Annotated[
        int | None,
        typer.Option(
            "--item", metavar="K", help="Of a batch: --at and --edit are about this item; see lllm show ID-K."
        ),
    ] = None,
    model: Model = None,
    sets: Sets = None,
    args: Annotated[
        list[str] | None,
        typer.Option("--arg", metavar="NAME=TEXT", help="An argument of the program; repeatable."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Ask everything from event N on anew, also what has not changed.")
    ] = False,
    tools: Unmatched = "run",
    approve: Approve = None,
    stream: Stream = None,
    quiet: Quiet = False,
    pretty: Pretty = False,
    config: ConfigFile = None,
    json: Json = False,
    entry: Entry = None,
) -> int:
    """Begin a new session like an old one, and change something: only what has changed is asked again."""
    from lllm.replay.fork import fork_session

    store = store_of(configuration(config))
    id = session_of(store, session, last)
    if edit is not None and edit_file is not None:
        raise ConfigError("give either --edit or --edit-file, not both")
    if edit_file is not None:
        edit = _read(edit_file)
    if edit is not None and at is None:
        raise ConfigError(
            "--edit needs --at N: the event that says something else", hint=f"Events: lllm show {id}"
        )
    if (args or (edit is not None and at == 0 and item is None)) and not _takes_arguments(store, id):
        raise ConfigError(
            f"session '{id}' is no system's: it has no task and no arguments of its own",
            hint="Edit what a call says: --at N, where event N is CallStarted.",
        )
    live = Live(approve=approve, stream=stream, quiet=quiet, json=json, pretty=pretty)
    program = program_of(store, id, config, sets=sets or (), asks=True, program=entry)
    before = {info.id for info in store.sessions(_NEWEST)}
    try:
        with quiet_stdout(json), naming("--model", model):
            done = fork_session(
                id,
                at=at,
                edit=edit,
                item=item,
                store=store,
                model=model,
                overrides=sets or (),
                args=_pairs(args),
                fresh=fresh,
                unmatched=tools,
                **live.hooks,
                **program,
            )
    except KeyboardInterrupt as error:
        # what raised it may not know the session: a signal comes at any moment
        forks = (info for info in store.sessions(_NEWEST) if info.id not in before)
        new = next((info.id for info in forks if (info.meta.get("fork") or {}).get("session") == id), None)
        output.belongs(error, new, next_steps(store, new) if new else None)
        raise
    except Exception as error:
        output.belongs(error, getattr(error, "session", None) or id)
        raise
    finally:
        live.close()
    if json:
        output.data(done.as_dict())
        return 0
    if done.result is not None:
        live.answer(readable(done.result))
    if quiet:
        return 0
    output.say(told(done))
    for note in done.notes:
        output.say(f"note: {note}")
    return 0


_NEWEST: Final = 20
"""Sessions that are looked through for the one that this command has begun."""


def told(done: Fork) -> str:
    """What a fork reused and asked, in a sentence."""
    money = f", ${done.money}" if done.money else ""
    return (
        f"session {done.session}, from {done.parent} at event {done.at}: "
        f"{output.counted(done.reused, 'reply', 'replies')} and {output.counted(done.tools_reused, 'tool result')} from its "
        f"log ({done.saved.total} tokens{money} saved), {done.changed} changed and {output.counted(done.new, 'new request')}"
    )


def _takes_arguments(store: LogStore, id: str) -> bool:
    """Whether a new task and new arguments reach the session's program."""
    from lllm.replay.program import kind_of

    entry = next((info.meta.get("entry") or {} for info in store.sessions(prefix=id) if info.id == id), {})
    return "kind" in entry and kind_of(entry["kind"]).takes_arguments


def _pairs(given: list[str] | None) -> dict[str, str]:
    out = {}
    for item in given or ():
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise ConfigError(f"--arg {item}", hint="Write --arg NAME=TEXT.")
        out[name] = text
    return out


def _read(file: Path) -> str:
    try:
        if str(file) != "-":
            return file.read_text(encoding="utf-8")
        words = sys.stdin.read()
        words.encode()  # stdin lets through what is no text
        return words
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
