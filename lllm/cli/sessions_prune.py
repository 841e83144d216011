"""`lllm sessions prune`: takes old sessions out of the log."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from lllm.cli import output
from lllm.cli.options import ConfigFile, Json, configuration, store_of
from lllm.cli.sessions import columns, iso
from lllm.errors import ConfigError

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


def prune(
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="30d", help="Last event longer ago: s, m, h, d, w.")
    ] = None,
    keep: Annotated[
        int | None, typer.Option("--keep", metavar="N", min=0, help="All but the newest N.")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option("--max-size", metavar="2GB", help="The oldest, until the rest fits.")
    ] = None,
    status: Annotated[
        str | None,
        typer.Option("--status", help="Only sessions that are done, failed, cancelled or interrupted."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")
    ] = False,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Remove old sessions, for good. A session that is being written stays."""
    from lllm.log.base import ReplayableLogBase
    from lllm.log.prune import Limits
    from lllm.log.prune import prune as take_out

    store = store_of(configuration(config))
    if not isinstance(store, ReplayableLogBase):
        raise ConfigError(f"the store {type(store).__name__} cannot be pruned")
    limits = Limits(
        None if older_than is None else seconds(older_than),
        keep,
        None if max_size is None else size(max_size),
        status,
    )
    done = take_out(store, limits, dry_run=dry_run)
    if json:
        told: dict[str, Any] = {
            "dry_run": dry_run,
            "sessions": [{"session": info.id, "status": info.status, "updated": iso(info.updated)} for info in done.sessions],
            "held": [info.id for info in done.held],
            "blobs": done.blobs,
            "bytes": done.bytes,
        }  # fmt: skip
        output.data(told)
        return 0
    if dry_run and done.sessions:
        header, rows = columns(done.sessions)
        output.table(header, rows, cut=["TASK"], below=["TASK"])
    for info in done.held:
        output.say(f"{info.id} stays: it is being written")
    word = "would be removed" if dry_run else "removed"
    output.say(f"{len(done.sessions)} sessions and {done.blobs} blobs {word}, {done.bytes:,} bytes")
    return 0


def seconds(text: str) -> float:
    """A length of time such as 30d or 12h, in seconds."""
    number, unit = _parts(text, "--older-than", SECONDS, "30d or 12h")
    return number * SECONDS[unit]


def size(text: str) -> int:
    """A size such as 2GB, in bytes."""
    number, unit = _parts(text, "--max-size", BYTES, "2GB or 500MB")
    return int(number * BYTES[unit])


def _parts(text: str, option: str, units: dict[str, int], example: str) -> tuple[float, str]:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if found is None or found[2] not in units:
        raise ConfigError(f"{option} {text}", hint=f"Write it like {example}.")
    return float(found[1]), found[2]
