"""`lllm show --follow`: a session while it happens."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from lllm.cli import output
from lllm.cli.session_rows import Printer, end, panels_on_stdout
from lllm.errors import ConfigError

if TYPE_CHECKING:
    from lllm.log.base import ReplayableLogBase
    from lllm.ports import LogStore

PATIENCE = 2.0
"""Seconds without news after which it is asked whether somebody writes at all."""


def follow(store: LogStore, session: str, *, events: bool, full: bool, pretty: bool = False) -> int:
    """Prints a session's rows, panels or events, until it ends, or until nobody writes it any more."""
    from lllm.log.base import ReplayableLogBase
    from lllm.log.views import summary
    from lllm.sync import run

    if not isinstance(store, ReplayableLogBase):
        raise ConfigError(f"the store {type(store).__name__} cannot be followed")
    found: list[dict[str, Any]] = []
    alive = run(_follow(store, session, found, events, full, pretty))
    if not events and not pretty:
        end(summary(found))
    if not alive:
        output.say(f"nobody writes it any more. Go on with it: lllm resume {session}")
    return 0


async def _follow(
    store: ReplayableLogBase,
    session: str,
    found: list[dict[str, Any]],
    events: bool,
    full: bool,
    pretty: bool,
) -> bool:
    """Whether the session has ended; else its writer is gone."""
    from lllm.core.envelope import open_event
    from lllm.log.transcript import Transcript

    writer, printer = Transcript(), None
    panels = panels_on_stdout(full) if pretty else None
    bodies = aiter(store.follow(session))
    coming = asyncio.ensure_future(anext(bodies, None))
    try:
        while True:
            done, _ = await asyncio.wait((coming,), timeout=PATIENCE)
            if not done:
                if not store.held(session):
                    return False
                continue
            if (body := coming.result()) is None:
                return True
            event = open_event(body)
            found.append(event)
            if events:
                output.json_line(event)
            elif panels is not None:
                panels.take(event)
            else:
                printer = printer or Printer(event["at"], full, store.blob)
                known = len(writer.rows)
                writer.take(event)
                for row in writer.rows[known:]:
                    printer.row(row)
            sys.stdout.flush()
            coming = asyncio.ensure_future(anext(bodies, None))
    finally:
        coming.cancel()
        await asyncio.wait((coming,))
        await bodies.aclose()  # type: ignore[attr-defined]
