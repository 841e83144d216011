"""`lllm sessions copy`: sessions into another store, or into files, and back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lllm.cli import output
from lllm.cli.files import can_be_written
from lllm.cli.options import ConfigFile, Json, configuration, session_of, store_of
from lllm.errors import ConfigError, LogError, LogWriteError

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.log.copy import Copied
    from lllm.ports import LogStore

PLACES = "sqlite:FOLDER, localfile:FOLDER, postgres:URL (without a URL, that of log.url), or FILE.lllm"


def copy(
    sessions: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Sessions, or the beginnings of their ids.")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="TYPE:PLACE", help=PLACES + ".")] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="TYPE:PLACE", help="The same; by default the project's log."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All sessions.")] = False,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Copy sessions between stores, or to and from a file, byte for byte. What is there already is left alone."""
    from lllm.log.copy import Copied, blobs_of, copy_session, read_session, save_session

    for option, given in (("--to", to), ("--from", source)):
        if given is not None and not given.strip():
            raise ConfigError(f"{option} is empty", hint=f"It is TYPE:PLACE: {PLACES}.")
    settings = configuration(config)
    if to is not None and _is_file(to):
        can_be_written(Path(to))
    origin: LogStore
    if source is not None and _is_file(source):
        origin, _ = read_session(Path(source))
        everything = everything or not sessions
    else:
        origin = _store(source, settings) if source else store_of(settings)
    if everything == bool(sessions):
        raise ConfigError(
            "name sessions, or give --all", hint="Type: lllm sessions copy --all --to TYPE:PLACE"
        )
    ids = (
        [info.id for info in reversed(origin.sessions())]
        if everything
        else [session_of(origin, given) for given in sessions or ()]
    )
    done: list[Copied] = []
    broken: list[LogError] = []
    if to is not None and _is_file(to):
        if len(ids) != 1:
            raise ConfigError(f"a file holds one session, not {len(ids)}", hint="Copy them one by one.")
        head = save_session(origin, ids[0], Path(to))
        bodies = list(origin.read(ids[0]))
        done.append(Copied(ids[0], "copied", len(bodies), len(blobs_of(origin, bodies)), head))
    elif to is not None or source is not None:
        target = _store(to, settings) if to else store_of(settings)
        for id in ids:
            try:
                done.append(copy_session(origin, target, id))
            except LogWriteError:
                raise  # the next one could not be written either
            except LogError as error:  # this one is not as it was written: the others are copied
                output.belongs(error, id)
                if len(ids) == 1:
                    raise
                output.warn(f"session {id} is left out: {error.message}", error.hint)
                broken.append(error)
                continue
            if not json:
                output.say(f"{id}: {_told(done[-1])}")
        if to:
            target.close()
    else:
        raise ConfigError("say where to: --to TYPE:PLACE", hint=f"TYPE:PLACE is {PLACES}.")
    if json:
        output.data([each._asdict() for each in done])
    return broken[0].exit_code if broken else 0


def _told(done: Copied) -> str:
    if done.outcome == "there":
        return "is there already"
    return f"{done.outcome}, {done.events} events and {done.blobs} blobs"


def _is_file(text: str) -> bool:
    """True if FILE.lllm is meant, not TYPE:PLACE whose place has that ending; TYPE may be misspelt."""
    from lllm.log.copy import SUFFIX

    kind, colon, _ = text.partition(":")
    a_type = colon and re.fullmatch(r"\s*[\w-]{2,}\s*", kind)  # of one letter it is a drive
    return text.endswith(SUFFIX) and (not a_type or Path(text).is_file())


def _store(text: str, settings: Config) -> LogStore:
    """The store that TYPE:PLACE means. What is left out is as the configuration says."""
    from lllm.config.secret import passwords_in
    from lllm.handles import is_addressed, place_below
    from lllm.log import open_store
    from lllm.registry import registry

    kind, _, place = text.partition(":")
    output.hide(passwords_in(place))
    made = registry.get("store", kind.strip().lower())
    if place_below(made) is None and not is_addressed(made):
        raise ConfigError(
            f"the store '{kind}' does not keep sessions after this command", hint=f"One of {PLACES}."
        )
    if place and not is_addressed(made) and Path(place).is_file():
        raise ConfigError(
            f"{place} is a file, but the store '{kind}' needs a folder",
            hint=f"Type: {kind}:FOLDER. For a file with one session: FILE.lllm.",
        )
    return open_store(kind, place or settings.log.dir, url=place or settings.log.url)
