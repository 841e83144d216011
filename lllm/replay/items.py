"""Items of a batch that is run again: each has a session of its own, which is gone along, or gone on with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lllm.core import events as ev
from lllm.errors import UnknownNameError
from lllm.log.proof import prove
from lllm.ports import LogStore, Rerun
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
    from lllm.replay.again import replay_unwatched
    from lllm.replay.resume import aresume_session

    try:
        recorded = prove(store, id)
    except UnknownNameError:
        return False, None
    if not recorded:
        return False, None
    with Session.outside():
        if goes_on and all(event["kind"] != ev.SESSION_ENDED for event in recorded):
            await aresume_session(id, store=store, entry=entry)
            return True, None
        report = await replay_unwatched(id, Rerun(recorded, store), entry)
        return True, report.divergence
