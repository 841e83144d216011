"""Verifies that a session is unchanged since it was written: each event, the chain, and the named blobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lllm.core.blobs import blobs_in
from lllm.core.envelope import open_chain
from lllm.errors import ConfigError, LogCorrupt, LogError, UnknownNameError
from lllm.plug_ins import guarded
from lllm.ports import LogStore


def prove(store: LogStore, session: str, *, head: str | None = None) -> list[dict[str, Any]]:
    """Returns the events of a session, oldest first, after verifying everything that the log itself can prove.

    The hash chain shows that nothing was changed, removed or added between two events. But anyone who can write the store
    can write a new chain, or cut off its end: `head`, the hash of an event noted elsewhere, guards against that.

    Args:
        head: `sha256:...` of the session's last event at some time (`lllm sessions --json` prints it); later events are
            allowed.

    Raises:
        UnknownNameError: no such session. LogCorrupt: the log was changed, a blob is changed or missing, or no event has
            the hash `head`. ConfigError: `head` is not such a hash.
    """
    wanted = None if head is None else check_head(head)
    with guarded("the log store", LogError):
        events = list(open_chain(store.read(session), session=session))
        prove_blobs(store, events)
    if wanted is not None and all(event["hash"] != wanted for event in events):
        raise LogCorrupt(
            f"session '{session}' does not hold the event {wanted}",
            hint="It was rewritten or its end is missing: this is not the session whose hash was noted.",
        )
    return events


def prove_blobs(store: LogStore, events: Iterable[Mapping[str, Any]]) -> None:
    """Raises LogCorrupt unless every blob that events name exists and matches its digest."""
    seen: set[str] = set()
    for event in events:
        kind, data = event["kind"], event["data"]
        for digest in blobs_in(kind, data) if isinstance(data, Mapping) else ():
            if digest in seen:
                continue
            seen.add(digest)
            try:
                store.blob(digest)
            except UnknownNameError:
                raise LogCorrupt(
                    f"event {event['seq']} ({kind}) names the blob {digest}, which is missing",
                    seq=event["seq"],
                ) from None


def head_of(store: LogStore, session: str, events: int) -> str | None:
    """The hash of a session's last event, read without verification; None if there is none."""
    last = None
    for body in store.read(session, max(events - 2, -1)):
        last = body
    return None if last is None else hash_in(last)


def hash_in(body: bytes) -> str | None:
    """The hash stored in an event."""
    from lllm.core import canonical

    try:
        found = canonical.decode(body)["hash"]
    except (ValueError, LookupError, TypeError):
        return None
    return found if isinstance(found, str) else None


def check_head(head: str) -> str:
    """Validates a hash and returns it as the log writes it; the algorithm's name may be omitted."""
    digits = head.strip().lower().removeprefix("sha256:")
    if len(digits) != 64 or any(digit not in "0123456789abcdef" for digit in digits):
        raise ConfigError(
            f"head must be sha256: and 64 hexadecimal digits, got {head!r}",
            hint="lllm sessions --json prints the head of each session.",
        )
    return f"sha256:{digits}"
