"""What a fork shares with its parent: how many events, and the time in them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lllm.clock import Clock
from lllm.core import events as ev
from lllm.replay.order import Order


def shared_until(record: Sequence[Mapping[str, Any]], until: int) -> int:
    """The event before which the shared part ends, `until` at the latest.

    What ended the parent from outside is not shared: a stop, or a failure of a provider or a deadline after which the
    program began nothing new. Neither is a yes to a tool whose result is not: that tool is run now, and asked about now.
    """
    until = min(until, _end(record))
    while (yes := _stale_yes(record[:until])) is not None:
        until = yes
    return max(1, until)  # the session's own beginning is not compared


def _end(record: Sequence[Mapping[str, Any]]) -> int:
    """The event with which the end of a session begins that was stopped or has failed."""
    at = len(record)
    ended: Mapping[str, Any] = next(
        (event["data"] for event in record if event["kind"] == ev.SESSION_ENDED), {}
    )
    if ended.get("status") == "cancelled":
        while at and _winds_up(record[at - 1]):
            at -= 1
    elif ended.get("status") == "failed":
        failed: set[str] = set()
        for event in reversed(record):
            if event["kind"] in (ev.CALL_STARTED, ev.EFFECT_REQUESTED):
                break
            if event["kind"] == ev.CALL_ENDED and event["data"]["status"] == "failed":
                failed.add(event["call"])
            elif event["call"] in failed:
                if event["kind"] in (ev.MODEL_FAILED, ev.LIMIT_REACHED):
                    at = event["seq"]
                elif event["kind"] not in _ASKED_AGAIN:
                    failed.discard(event["call"])
    return at


def _winds_up(event: Mapping[str, Any]) -> bool:
    """Whether an event is one of those that a stop brings about."""
    kind, data = event["kind"], event["data"]
    if kind == ev.EFFECT_RETURNED:
        return bool(data.get("cancelled"))
    return kind in _WINDING_UP or (kind in _PARTS_END and data["status"] == "cancelled")


def _stale_yes(record: Sequence[Mapping[str, Any]]) -> int | None:
    """The first approval of a tool call that has no result."""
    found: dict[tuple[str, str], int] = {}
    for event in record:
        if event["kind"] == ev.APPROVAL_GIVEN and event["data"]["approved"]:
            found[event["call"], event["data"]["id"]] = event["seq"]
        elif event["kind"] == ev.TOOL_RETURNED:
            found.pop((event["call"], event["data"]["id"]), None)
    return min(found.values(), default=None)


_WINDING_UP: Final = (ev.CANCELLED, ev.CALL_ENDED, ev.SESSION_ENDED, ev.NOTE)
_PARTS_END: Final = (ev.STAGE_ENDED, ev.ITEM_ENDED)
_ASKED_AGAIN: Final = (ev.MODEL_REQUESTED, ev.WAIT_ENDED)
"""What comes between two failures of the same request."""


class SharedClock(Clock):
    """The record's time, counted from the fork's beginning, while that lasts. Afterwards it goes on from there."""

    __slots__ = ("_ahead", "_order", "_zero")

    def __init__(self, order: Order) -> None:
        super().__init__()
        self._order = order
        self._zero = super().__call__()
        self._ahead: int | None = None

    def __call__(self) -> int:
        order = self._order
        alive = order.alive
        if alive is None:
            return self._zero + int(order.now)
        now = super().__call__()
        if self._ahead is None:
            self._ahead = self._zero + int(order.now) - now + int(1e6 * (time.monotonic() - alive))
        return now + self._ahead
