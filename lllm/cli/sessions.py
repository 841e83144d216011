"""`lllm sessions`: the sessions that the log holds, newest first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lllm.cli import output
from lllm.cli.options import ConfigFile, Json, configuration, store_of

if TYPE_CHECKING:
    from lllm.ports import LogStore, SessionInfo


def sessions(
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="How many; 0 for all.")] = 20,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """List sessions, newest first."""
    store = store_of(configuration(config))
    found = [_alive(store, info) for info in store.sessions(limit or None)]
    if json:
        output.data([_record(info) for info in found])
        return 0
    if not found:
        output.say('no session yet. Type: lllm run "..."')
        return 0
    rows = [
        (info.id, info.status, _when(info.started), info.events, _line(info.meta.get("task")))
        for info in found
    ]
    output.table(("SESSION", "STATUS", "STARTED", "EVENTS", "TASK"), rows)
    return 0


def _alive(store: LogStore, info: SessionInfo) -> SessionInfo:
    """Says of a session without an end whether somebody still writes it."""
    held = getattr(store, "held", None)
    if info.status == "running" and held is not None and not held(info.id):
        return info._replace(status="interrupted")
    return info


def _record(info: SessionInfo) -> dict[str, Any]:
    return {
        "session": info.id,
        "status": info.status,
        "started": iso(info.started),
        "updated": iso(info.updated),
        "events": info.events,
        "name": info.meta.get("name"),
        "task": info.meta.get("task"),
    }


def iso(at: int) -> str:
    """Microseconds since the epoch, as ISO 8601 in UTC."""
    return (
        datetime.fromtimestamp(at / 1_000_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def _when(at: int) -> str:
    return datetime.fromtimestamp(at / 1_000_000).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _line(task: Any, limit: int = 60) -> str:
    words = " ".join(str(task or "").split())
    return words if len(words) <= limit else words[: limit - 1] + "…"
