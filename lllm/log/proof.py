"""Proves that a session is as it was written: each event, their chain, and the blobs that they name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lllm.core import events as ev
from lllm.core.envelope import open_chain
from lllm.errors import ConfigError, LogCorrupt, LogError, UnknownNameError
from lllm.plug_ins import guarded
from lllm.ports import LogStore


def prove(store: LogStore, session: str, *, head: str | None = None) -> list[dict[str, Any]]:
    """The events of a session, oldest first, after everything was proven that the log itself can prove.

    A chain of hashes shows that nothing was changed, left out or added between two events. Whoever can write the store can
    write another chain, or leave out its end: against that stands `head`, the hash of an event that was kept elsewhere.

    Args:
        head: `sha256:...` of the session's last event at some time (`lllm sessions --json` prints it); what came later is
            allowed.

    Raises:
        UnknownNameError: no such session. LogCorrupt: it is not as it was written, a blob is changed or missing, or none of
        its events has that hash. ConfigError: `head` is not such a hash.
    """
    wanted = None if head is None else check_head(head)
    with guarded("the log store", LogError):
        events = list(open_chain(store.read(session), session=session))
        prove_blobs(store, events)
    if wanted is not None and all(event["hash"] != wanted for event in events):
        raise LogCorrupt(
            f"session '{session}' does not hold the event {wanted}",
            hint="It was written anew, or its end is missing: it is not the session of which that hash was kept.",
        )
    return events


def prove_blobs(store: LogStore, events: Iterable[Mapping[str, Any]]) -> None:
    """Raises LogCorrupt unless every blob that events name is there and is what its digest says."""
    seen: set[str] = set()
    for event in events:
        digest = blob_of(event)
        if digest is None or digest in seen:
            continue
        seen.add(digest)
        try:
            store.blob(digest)
        except UnknownNameError:
            raise LogCorrupt(
                f"event {event['seq']} ({event['kind']}) names the blob {digest}, which is missing",
                seq=event["seq"],
            ) from None


def blob_of(event: Mapping[str, Any]) -> str | None:
    """The digest of the blob that an event names; None where it names none."""
    key, data = ev.BLOBS.get(event["kind"]), event["data"]
    digest = data.get(key) if key is not None and isinstance(data, Mapping) else None
    return digest if isinstance(digest, str) else None


def head_of(store: LogStore, session: str, events: int) -> str | None:
    """The hash of a session's last event, read and not proven; None where there is none."""
    last = None
    for body in store.read(session, max(events - 2, -1)):
        last = body
    return None if last is None else hash_in(last)


def hash_in(body: bytes) -> str | None:
    """The hash that a stored event carries."""
    from lllm.core import canonical

    try:
        found = canonical.decode(body)["hash"]
    except (ValueError, LookupError, TypeError):
        return None
    return found if isinstance(found, str) else None


def check_head(head: str) -> str:
    """A hash as the log writes it; the algorithm's name may be left out."""
    digits = head.strip().lower().removeprefix("sha256:")
    if len(digits) != 64 or any(digit not in "0123456789abcdef" for digit in digits):
        raise ConfigError(
            f"head must be sha256: and 64 hexadecimal digits, got {head!r}",
            hint="lllm sessions --json prints the head of each session.",
        )
    return f"sha256:{digits}"
