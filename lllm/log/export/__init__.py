"""Sessions in the formats of other tools: one file per format, one table of them.

    from lllm.log.export import export
    print(export(store, "20260101-120000-demo-1a2b3c4d", "html"))

Exports are written from the log alone. A log that was written before a secret was recognised may contain it; an export
does not. A bundle is the log itself, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Final, NamedTuple

from lllm.config.environ import everything
from lllm.core.redact_pieces import Pieces
from lllm.errors import ConfigError, UnknownKeyError, UnknownNameError, listing
from lllm.log.export.source import Source
from lllm.ports import LogStore

__all__ = ["FORMATS", "Format", "Source", "export", "format_of", "pieces"]


class Format(NamedTuple):
    """A format.

    Attributes:
        about: what it is, in a few words.
        suffix: how its files end.
        many: whether one file holds many sessions, one after another.
        options: the options that its writer takes, and what each does.
        rows: what a line of it is made of. A session that holds nothing of the kind gives no text.
    """

    about: str
    suffix: str
    many: bool = False
    options: Mapping[str, str] = {}
    rows: str = ""


FORMATS: Final[Mapping[str, Format]] = {
    "markdown": Format("a page with all that happened", ".md"),
    "html": Format("a page with all that happened, in one file, for any browser", ".html"),
    "notebook": Format("a Jupyter notebook; code that was run stands in code cells", ".ipynb"),
    "openai": Format(
        "JSON Lines of OpenAI messages and tools, one dialog a line", ".jsonl", True, rows="dialog"
    ),
    "sharegpt": Format(
        "JSON Lines of ShareGPT conversations, one dialog a line",
        ".jsonl",
        True,
        rows="dialog whose last call is done",
    ),
    "hf": Format("a session trace for the viewer of the Hugging Face Hub", ".jsonl"),
    "trl": Format(
        "JSON Lines of rows for TRL, with token ids where the log has them",
        ".jsonl",
        True,
        {"tokens": "True: only rows that have their tokens; False: none of their columns"},
        rows="dialog whose last call is done",
    ),
    "otel": Format(
        "OpenTelemetry spans (GenAI conventions) as OTLP JSON",
        ".json",
        options={"content": "the messages, arguments and results, too"},
    ),
    "bundle": Format("the session itself with its blobs: lllm import takes it", ".lllm"),
}
"""Every format. `lllm.log.export.NAME` has its writer: `write(source, **options)`, an iterator of text."""


def export(store: LogStore, session: str, format: str = "markdown", **options: Any) -> str:
    """A session as text in one of `FORMATS`.

    Raises:
        UnknownNameError: no such session, or no such format.
        UnknownKeyError: an option that the format does not have.
        LogCorrupt: the log is not as it was written.
    """
    return "".join(pieces(store, session, format, **options))


def pieces(store: LogStore, session: str, format: str = "markdown", **options: Any) -> Iterator[str]:
    """`export` in pieces, for big sessions. What is wrong with the arguments or the log is raised here, not while reading."""
    known = FORMATS.get(format)
    if known is None:
        raise UnknownNameError("format", format, FORMATS)
    for name in options:
        if name not in known.options:
            raise UnknownKeyError(name, known.options, where=f"format {format}")
    write = import_module(f"{__name__}.{format}").write
    found: Iterator[str] = write(Source(store, session), **options)
    return found if format == "bundle" else _cleaned(found)


def _cleaned(text: Iterator[str]) -> Iterator[str]:
    redactor = everything()
    if not redactor:
        yield from text
        return
    pieces = Pieces(redactor)
    for piece in text:
        if given := pieces.take(piece):
            yield given
    if rest := pieces.rest():
        yield rest


def format_of(file: str) -> str:
    """The format that a file's name means. ConfigError where it means none, or several."""
    found = [name for name, format in FORMATS.items() if file.endswith(format.suffix)]
    if len(found) != 1:
        raise ConfigError(
            f"the name of {file} does not say in which format",
            hint=f"Say it with --format: {listing(found or FORMATS)}.",
        )
    return found[0]
