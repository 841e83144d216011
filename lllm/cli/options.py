"""The options that several commands share, and what they lead to: a Config, a store, a session's id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lllm.cli import output
from lllm.errors import ConfigError, UnknownNameError, listing

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.ports import LogStore

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The system's YAML file; by default the one that lllm.toml names."),
]


def _named(value: str | None) -> str | None:
    if value is not None and not value.strip():
        raise typer.BadParameter("it is empty; an unset variable?")
    return value


Model = Annotated[
    str | None, typer.Option("--model", "-m", callback=_named, help="provider/model, for every agent.")
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="One setting; may be repeated.")
]
Profile = Annotated[str | None, typer.Option("--profile", help="A profile of lllm.toml.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON value on stdout.")]
Last = Annotated[bool, typer.Option("--last", "-l", help="The newest session.")]


def _complete(incomplete: str) -> list[str]:
    """The ids that begin like that, for the shell."""
    from lllm.errors import LLMError

    try:
        return [info.id for info in store_of(configuration()).sessions(50, prefix=incomplete)]
    except LLMError:
        return []


SessionId = Annotated[
    str | None,
    typer.Argument(metavar="[ID]", help="A session's id, or the beginning of one.", autocompletion=_complete),
]

PLAIN = {"agent_configs": {"assistant": {"description": "Answers."}}}
"""The system of a folder that declares none: one agent that is asked."""


def configuration(file: Path | Mapping[str, Any] | None = None, *, overrides: Sequence[str] = ()) -> Config:
    """The configuration of the system that is named, or of the default one. Warnings are said."""
    from lllm.config import load_config

    return _told(load_config(file, overrides=overrides))


def runnable(file: Path | None, *, overrides: Sequence[str] = ()) -> Config:
    """`configuration`, and where nothing at all is declared, a system with one plain agent."""
    return configuration(system_for(file, overrides), overrides=overrides)


def system_for(file: Path | None, overrides: Sequence[str]) -> Path | Mapping[str, Any] | None:
    """What a command reads: the file that is named, else the default one, else the system with one plain agent."""
    if file is None:
        from lllm.config import read_config
        from lllm.llm.build import declares_nothing

        usual, _ = read_config(
            overrides=[item for item in overrides if not item.startswith("agent_configs.")]
        )
        if usual is not None and declares_nothing(usual):
            return PLAIN
    return file


def overrides_of(sets: Sequence[str] | None, profile: str | None) -> list[str]:
    """What the command line says beside the files, as a session's first event keeps it: a profile is a key too."""
    return [*([f"profile={profile}"] if profile is not None else []), *(sets or ())]


def _told(config: Config) -> Config:
    output.hide(config.secrets())
    for note in config.notes:
        output.warn(note.message, note.hint)
    return config


def store_of(config: Config) -> LogStore:
    """The store that the configuration names."""
    from lllm.llm.project import store_of as find

    return find(config)


def way_to(config: Config) -> str:
    """What to type before `lllm show`, which is told neither --set nor --profile nor --config, to have it look into the
    log of this configuration: "" where it does so by itself."""
    from shlex import quote

    from lllm.config import load_config

    log = config.log
    try:
        usual = load_config().log
    except ConfigError:  # of the system that nobody has asked for
        usual = None
    if log == usual:
        return ""
    url = "" if log.url == (usual and usual.url) else "LLLM_LOG_URL=... "  # it may hold a password
    return f"LLLM_LOG_TYPE={quote(log.type)} LLLM_LOG_DIR={quote(str(log.dir))} {url}"


def session_of(store: LogStore, given: str | None, last: bool = False) -> str:
    """The id of the session that is meant: an id, the beginning of one, or the newest.

    Raises:
        UnknownNameError: there is none; names the nearest.
        ConfigError: several begin like that, or both an id and --last are given.
    """
    if given and last:
        raise ConfigError("give either an id or --last, not both")
    if given is not None and not given:
        raise ConfigError("the session's id is empty", hint="An unset variable? All ids: lllm sessions")
    if given is None:
        newest = store.sessions(1)
        if not newest:
            raise ConfigError("there is no session yet", hint='Type: lllm run "..."')
        return newest[0].id
    found = [info.id for info in store.sessions(20, prefix=given)]
    if given in found or len(found) == 1:
        return given if given in found else found[0]
    if found:
        raise ConfigError(f"{len(found)} sessions begin with '{given}'", hint=f"One of {listing(found)}.")
    if any(info.id == given for info in store.sessions(prefix=given)):
        return given
    raise UnknownNameError(
        "session", given, [info.id for info in store.sessions(200)], hint="All: lllm sessions"
    )
