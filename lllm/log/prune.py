"""Which sessions a log need not keep any longer, and taking them out.

Limits are independent: a session goes when it is beyond any of them. One that somebody writes stays, whatever it is.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

from lllm.errors import ConfigError, UnknownNameError
from lllm.log.base import ReplayableLogBase
from lllm.log.blobs import named_in, unnamed
from lllm.ports import SessionInfo

STATUSES: Final = ("done", "failed", "cancelled", "interrupted")
"""What `status` may choose; interrupted is a session without an end that nobody writes."""


class Limits(NamedTuple):
    """What a log keeps.

    Attributes:
        older_than: seconds since a session's last event, beyond which it goes.
        keep: so many of the newest stay.
        max_size: bytes; the newest that fit stay. A session has the bytes of its events, and of its blobs those that no
            newer session has.
        status: only sessions that ended so are looked at, and counted; one of STATUSES. Alone, all of them go.
    """

    older_than: float | None = None
    keep: int | None = None
    max_size: int | None = None
    status: str | None = None


class Pruned(NamedTuple):
    """What went, or would go: sessions from new to old; blobs that nobody names any more; the bytes of both.

    `held` are sessions beyond a limit that stayed, because somebody writes them."""

    sessions: list[SessionInfo]
    held: list[SessionInfo]
    blobs: int
    bytes: int


def prune(
    store: ReplayableLogBase, limits: Limits, *, dry_run: bool = False, now: int | None = None
) -> Pruned:
    """Takes out of a store what is beyond the limits; with `dry_run`, only says what that is.

    `now` is in microseconds since the epoch; the present by default.

    Raises:
        ConfigError: there is no limit, or one cannot be.
        LogWriteError: the store could not be changed, or a session was begun meanwhile; nothing was removed.
    """
    _check(limits)
    beyond = _beyond(store, limits, time.time_ns() // 1000 if now is None else now)
    held = [info for info in beyond if store.held(info.id)]
    going = [info for info in beyond if info not in held]
    if dry_run:
        blobs, size = _room(store, [info.id for info in going])
        return Pruned(going, held, blobs, size)
    done = store.delete([info.id for info in going])
    return Pruned(going, held, done.blobs, done.bytes)


def _check(limits: Limits) -> None:
    if not any(limit is not None for limit in limits):
        raise ConfigError(
            "there is no limit, so nothing is removed",
            hint="Give --older-than 30d, --keep 1000, --max-size 2GB or --status failed.",
        )
    if limits.status is not None and limits.status not in STATUSES:
        raise UnknownNameError("status", limits.status, STATUSES)
    for name in ("older_than", "keep", "max_size"):
        if (value := getattr(limits, name)) is not None and value < 0:
            raise ConfigError(f"{name} cannot be {value}")


def _beyond(store: ReplayableLogBase, limits: Limits, now: int) -> list[SessionInfo]:
    found = [
        info for info in store.sessions() if limits.status is None or _status(store, info) == limits.status
    ]
    if limits.older_than is limits.keep is limits.max_size is None:
        return found
    gone: set[str] = set()
    if limits.older_than is not None:
        gone |= {info.id for info in found if now - info.updated > limits.older_than * 1_000_000}
    if limits.keep is not None:
        gone |= {info.id for info in found[limits.keep :]}
    if limits.max_size is not None:
        gone |= set(_too_much(store, found, limits.max_size))
    return [info for info in found if info.id in gone]


def _status(store: ReplayableLogBase, info: SessionInfo) -> str:
    return "interrupted" if info.status == "running" and not store.held(info.id) else info.status


def _too_much(store: ReplayableLogBase, found: Sequence[SessionInfo], limit: int) -> Iterator[str]:
    """The sessions, from the newest that does not fit on."""
    size = 0
    counted: set[str] = set()
    for info in found:
        if size <= limit:
            named: set[str] = set()
            for body in store.read(info.id):
                size += len(body)
                named |= named_in(body)
            size += sum(_size(store, digest) or 0 for digest in named - counted)
            counted |= named
        if size > limit:
            yield info.id


def _room(store: ReplayableLogBase, ids: Collection[str]) -> tuple[int, int]:
    """How many blobs only these sessions name, and the bytes of both."""
    gone = set(ids)
    size = 0
    named: set[str] = set()
    for id in ids:
        for body in store.read(id):
            size += len(body)
            named |= named_in(body)
    sizes = {digest: found for digest in named if (found := _size(store, digest)) is not None}
    rest = (body for info in store.sessions() if info.id not in gone for body in store.read(info.id))
    unused = unnamed(sizes, rest)
    return len(unused), size + sum(sizes[digest] for digest in unused)


def _size(store: Any, digest: str) -> int | None:
    """The bytes of a blob; None for a digest of something else."""
    try:
        return len(store.blob(digest))
    except UnknownNameError:
        return None
