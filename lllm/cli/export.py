"""`lllm export`: sessions in the formats of other tools.

Needs the log alone: the project that made the session need not be here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lllm.cli import output
from lllm.cli.files import can_be_written, encoded, writing
from lllm.cli.options import ConfigFile, Json, Last, SessionId, configuration, session_of, store_of
from lllm.errors import ConfigError, LogError, listing

if TYPE_CHECKING:
    from lllm.ports import LogStore


def export(
    session: SessionId = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            help="markdown, html, notebook, openai, sharegpt, hf, trl, otel or bundle; else as FILE's name says.",
        ),
    ] = None,
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FILE", help="Where it goes; - is stdout.")
    ] = "-",
    last: Last = None,
    everything: Annotated[bool, typer.Option("--all", help="All sessions, oldest first.")] = False,
    content: Annotated[
        bool, typer.Option("--content", help="otel: messages, arguments and results, too.")
    ] = False,
    tokens: Annotated[
        bool | None,
        typer.Option("--tokens/--no-tokens", help="trl: only rows with token ids, or none of their columns."),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", metavar="URL", help="otel: send to this collector, over OTLP/HTTP."),
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Write sessions as a page, a notebook, training data, spans or a file that lllm import takes."""
    from lllm.log.export import FORMATS, format_of

    if out != "-":
        can_be_written(Path(out))
    if format is None:
        format = "otel" if endpoint is not None else "markdown" if out == "-" else format_of(out)
    store = store_of(configuration(config))
    options: dict[str, Any] = {"content": True} if content else {}
    if tokens is not None:
        options["tokens"] = tokens
    if endpoint is not None:
        if format != "otel" or out != "-":
            raise ConfigError(
                "--endpoint takes spans, and nothing else", hint="Leave --out away; --format otel."
            )
        return _send(store, _ids(store, session, last, everything), endpoint, options, json)
    ids = _ids(store, session, last, everything)
    if len(ids) != 1 and format in FORMATS and not FORMATS[format].many:
        many = [name for name, known in FORMATS.items() if known.many]
        raise ConfigError(
            f"a file of format {format} holds one session, and {len(ids)} are asked for",
            hint=f"Give one id, or one of --format {listing(many)}.",
        )
    return _write(store, ids, format, out, options, json)


def _ids(store: LogStore, session: str | None, last: int | None, everything: bool) -> list[str]:
    if (session is not None) + (last is not None) + everything > 1:
        raise ConfigError("give one of: an id, --last N, --all")
    if last is None and not everything:
        return [session_of(store, session)]
    found = [info.id for info in store.sessions(last)][::-1]
    return found or [session_of(store, None)]  # which says that there is none


def _write(
    store: LogStore, ids: Sequence[str], format: str, out: str, options: dict[str, Any], json: bool
) -> int:
    broken: list[LogError] = []
    empty: list[str] = []
    text = _pieces(store, ids, format, options, broken, empty)
    size = 0
    is_json = format not in ("markdown", "html")
    if out == "-":
        if json:
            whole = "".join(text)
            output.data({"format": format, "sessions": list(ids), "content": whole})
        else:
            for piece in text:
                output.piece(piece, json=is_json)
    else:
        with writing(Path(out)) as file:
            for piece in text:
                size += file.write(encoded(piece, file, json=is_json))
        if json:
            output.data({"format": format, "sessions": list(ids), "file": out, "bytes": size})
        else:
            output.say(f"wrote {out}")
    if empty:
        _say_empty(empty, len(ids), format, options)
    return broken[0].exit_code if broken else 0


def _pieces(
    store: LogStore,
    ids: Sequence[str],
    format: str,
    options: dict[str, Any],
    broken: list[LogError],
    empty: list[str],
) -> Iterator[str]:
    """The text of all sessions. One of many that is not as it was written is left out, and said. `empty` are those of which
    the format has nothing."""
    from lllm.log.export import pieces

    for id in ids:
        try:
            found = pieces(store, id, format, **options)
            if len(ids) > 1:
                found = iter(list(found))  # all of it or nothing
        except LogError as error:
            output.belongs(error, id)
            if len(ids) == 1:
                raise
            output.warn(f"session {id} is left out: {error.message}", error.hint)
            broken.append(error)
            continue
        nothing = True
        for piece in found:
            nothing = nothing and not piece
            yield piece
        if nothing:
            empty.append(id)


def _say_empty(empty: Sequence[str], of: int, format: str, options: dict[str, Any]) -> None:
    """Says that there was nothing to write, and what there is."""
    from lllm.log.export import FORMATS

    tokens = " and that has token ids" if options.get("tokens") else ""
    what = f"no {FORMATS[format].rows or 'dialog'}{tokens}"
    whole = listing(name for name, known in FORMATS.items() if not known.many)
    if of == 1:
        output.warn(
            f"session {empty[0]} holds {what}, so there is nothing to write as {format}",
            f"All that happened in it: --format {whole}.",
        )
    else:
        output.warn(
            f"{len(empty)} of {of} sessions hold {what}, so they add nothing: {listing(empty)}",
            f"All that happened in one: lllm export ID --format {whole}.",
        )


def _send(store: LogStore, ids: Sequence[str], endpoint: str, options: dict[str, Any], json: bool) -> int:
    from lllm.log.export import Source
    from lllm.log.export.otlp import send

    count = sum(send(Source(store, id), endpoint, **options) for id in ids)
    if json:
        output.data({"format": "otel", "sessions": list(ids), "endpoint": endpoint, "spans": count})
    else:
        output.say(f"sent {count} spans of {len(ids)} session{'s' * (len(ids) != 1)}")
    return 0
