"""The options that several commands share, and what they lead to: a Config, a store, a session's id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lllm.cli import output
from lllm.cli.ids import session_of as session_of
from lllm.errors import ConfigError

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.ports import LogStore

Entry = Annotated[
    str | None,
    typer.Option(
        "--entry",
        metavar="MODULE:FUNCTION",
        help="The program of a session that no YAML file describes, as of a batch: a function without parameters.",
    ),
]
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


def _tools(value: str) -> str:
    words = ("run", "pure", "refuse")  # lllm.replay.forked.UNMATCHED, which takes time to import
    if value not in words:
        raise ConfigError(f"--tools must be run, pure or refuse, got '{value}'")
    return value


Unmatched = Annotated[
    str,
    typer.Option(
        "--tools",
        metavar="WORD",
        callback=_tools,
        help="How to treat tool calls that the session did not make: run, pure (only tools without effects) or refuse.",
    ),
]
MANY = 10**9
"""More events than any log holds, and within the integer range of databases."""

Last = Annotated[
    int | None,
    typer.Option(
        "--last",
        "-l",
        min=1,
        max=MANY,
        metavar="[N]",
        help="The newest session; for commands that take several, the newest N.",
    ),
]


def _complete(incomplete: str) -> list[tuple[str, str]]:
    """Ids with this beginning, for shell completion, each with its session's task."""
    from lllm.cli.ids import short_ids, summary
    from lllm.errors import LLMError

    try:
        found = store_of(configuration()).sessions(200)
    except LLMError:
        return []
    names = short_ids(info.id for info in found)
    shown = [
        (name, info) for info in found for name in (names[info.id], info.id) if name.startswith(incomplete)
    ]
    return list({name: summary(info, 60) for name, info in shown}.items())


SessionId = Annotated[
    str | None,
    typer.Argument(
        metavar="[ID]",
        help="A session's id, short or full, or the beginning of one.",
        autocompletion=_complete,
    ),
]

PLAIN = {"agent_configs": {"assistant": {"description": "Answers."}}}
"""The system of a folder that declares none: one agent that is asked."""


def configuration(file: Path | Mapping[str, Any] | None = None, *, overrides: Sequence[str] = ()) -> Config:
    """The configuration of the system that is named, or of the default one. Warnings are said."""
    from lllm.config import load_config

    return _told(load_config(file, overrides=overrides))


def runnable(file: Path | None, *, overrides: Sequence[str] = ()) -> Config:
    """`configuration`, or a system with one plain agent if nothing is declared. Runs discovery with it before any name is
    looked up: --set may change discovery."""
    from lllm.discovery import look

    config = configuration(system_for(file, overrides), overrides=overrides)
    look(config)
    return config


def system_for(file: Path | None, overrides: Sequence[str]) -> Path | Mapping[str, Any] | None:
    """The configuration a command reads: the named file, else the default one, else a system with one plain agent."""
    if file is None:
        from lllm.config import read_config
        from lllm.llm.build import declares_nothing

        usual, _ = read_config(
            overrides=[item for item in overrides if not item.startswith("agent_configs.")]
        )
        if usual is not None and declares_nothing(usual):
            return PLAIN
    return file


@contextmanager
def naming(option: str, value: str | None) -> Iterator[None]:
    """Adds the option's name to errors about its value."""
    try:
        yield
    except ConfigError as error:
        if (
            value
            and error.where is None
            and any(part in error.message for part in (value, value.partition("/")[0]))
        ):
            error.where = f"{option} {value}"
        raise


def overrides_of(sets: Sequence[str] | None, profile: str | None) -> list[str]:
    """What the command line says beside the files, as a session's first event keeps it: a profile is a key too."""
    from lllm.config.overrides import Typed

    return [*([Typed(f"profile={profile}", "--profile")] if profile is not None else []), *(sets or ())]


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
