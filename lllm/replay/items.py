"""Items of a batch that is run again: each has a session of its own, which is gone along, or gone on with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import UnknownNameError
from lllm.ports import LogStore
from lllm.session import Session

if TYPE_CHECKING:
    from lllm.errors import ReplayDivergence


async def item_again(
    store: LogStore, id: str, entry: Callable[[], Any], *, goes_on: bool
) -> tuple[bool, ReplayDivergence | None]:
    """Runs the program of an item in its session: whether it has one, and where it differs from its record.

    Args:
        goes_on: whether one that did not end is resumed. What has ended, or must not be, is replayed.
    """
    from lllm.replay.again import areplay_session
    from lllm.replay.resume import aresume_session

    try:
        kinds = [open_event(body)["kind"] for body in store.read(id)]
    except UnknownNameError:
        return False, None
    with Session.outside():
        if goes_on and ev.SESSION_ENDED not in kinds:
            await aresume_session(id, store=store, entry=entry)
            return True, None
        report = await areplay_session(id, store=store, entry=entry)
        return True, report.divergence
