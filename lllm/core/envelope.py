"""The envelope of one event: how it is written, sealed, and checked.

    {"at":…,"call":…,"data":…,"dialog":…,"hash":"sha256:…","kind":…,"prev":"sha256:…","seq":…,"session":…,"v":1}

canonical JSON, one line. `prev` is the hash of the event before it ("" for seq 0), so one hash vouches for everything
that came before. Two rules hold in every format to come, so that an old log can always be checked: `hash` is the sha256
of these very bytes without the `hash` member, and what stands behind `hash` are plain strings and numbers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

import orjson

from lllm.core import canonical
from lllm.errors import LogCorrupt, LogError
from lllm.hints import update_hint


class Record(NamedTuple):
    """One event as a store keeps it. `body` is the whole event in canonical JSON; the rest is there to look it up."""

    session: str
    seq: int
    at: int
    kind: str
    call: str | None
    hash: str
    body: bytes


Upgrade = Callable[[dict[str, Any]], dict[str, Any]]

UPGRADES: Final[list[Upgrade]] = []
"""UPGRADES[n] turns an event of format n + 1 into one of format n + 2."""

FORMAT: Final = len(UPGRADES) + 1
"""The format that is written: `v` of every event."""

_sha256 = hashlib.sha256
_dumps = orjson.dumps
_new = tuple.__new__
_QUOTED: Final[dict[str | None, bytes]] = {}
_MOST: Final = 4096
_HASH: Final = b'"hash":"sha256:'
_DIGITS: Final = 64


def seal(
    session: str,
    seq: int,
    at: int,
    call: str | None,
    dialog: str | None,
    kind: str,
    data: Any,
    prev: str,
    encoded: bytes | None = None,
) -> Record:
    """Returns the event as a store keeps it, encoded once. `encoded` is `data` in canonical JSON, if already computed.

    Raises:
        TypeError, ValueError: `data` is not JSON (see `lllm.core.canonical.encode`).
    """
    # `hash` sorts between `dialog` and `kind`: the event without it is exactly front + back.
    if encoded is None:
        encoded = canonical.encode(data)
    known = _QUOTED
    front = b'{"at":%d,"call":%b,"data":%b,"dialog":%b,' % (
        at,
        known.get(call) or _quoted(call),
        encoded,
        known.get(dialog) or _quoted(dialog),
    )
    back = b'"kind":%b,"prev":"%b","seq":%d,"session":%b,"v":%d}' % (
        known.get(kind) or _quoted(kind), prev.encode(), seq, known.get(session) or _quoted(session), FORMAT,
    )  # fmt: skip
    digest = _sha256(front + back).hexdigest()
    body = b'%b"hash":"sha256:%b",%b' % (front, digest.encode(), back)
    return _new(Record, (session, seq, at, kind, call, "sha256:" + digest, body))


def _quoted(text: str | None) -> bytes:
    """JSON of what stands in many events of a session."""
    if len(_QUOTED) >= _MOST:
        _QUOTED.clear()
    quoted = _QUOTED[text] = bytes(memoryview(_dumps(text)))  # a copy: the original holds some kilobytes more
    return quoted


def open_event(body: bytes) -> dict[str, Any]:
    """The event of a stored body, its hash checked, brought to the present format.

    Raises:
        LogCorrupt: not one byte of a body may differ from what `seal` wrote.
        LogError: a later lllm wrote it.
    """
    start = body.rfind(_HASH)
    end = start + len(_HASH) + _DIGITS + 2
    sha = _sha256(body[: max(start, 0)])
    sha.update(body[end:])
    if start < 0 or body[start + len(_HASH) : end] != b'%b",' % sha.hexdigest().encode():
        raise LogCorrupt("an event was changed after it was written, or torn", seq=_claimed(body))
    try:
        event: Any = canonical.decode(body)
        version = event["v"]
    except canonical.TooDeep as error:
        raise _too_deep(body) from error
    except (ValueError, LookupError, TypeError) as error:
        raise LogCorrupt("a record is not an event of lllm") from error
    return event if version == FORMAT else _upgrade(event)


def verify_chain(bodies: Iterable[bytes], *, session: str | None = None, events: int | None = None) -> str:
    """Verifies a whole log from its first event. Returns the hash of its last event ("" for an empty log). Arguments and
    errors as for `open_chain`."""
    head = ""
    for event in open_chain(bodies, session=session, events=events):
        head = event["hash"]
    return str(head)


def open_chain(
    bodies: Iterable[bytes], *, session: str | None = None, events: int | None = None
) -> Iterator[dict[str, Any]]:
    """Yields the events of a whole log, oldest first, each verified before it is yielded.

    Arguments:
        session: the session that all events must belong to; by default the session of the first event.
        events: the expected number of events, if known: a chain alone does not show that its end is missing.

    Raises:
        LogCorrupt: an event is changed, missing, out of order, duplicated or of another session. `seq` is the first
        position where the log differs from what was written.
        LogError: the log was written by a later lllm.
    """
    seq, head = 0, ""
    for body in bodies:
        try:
            event = open_event(body)
        except LogCorrupt as error:
            if error.context:
                raise  # it says which event of which session
            raise LogCorrupt(f"event {seq}: {error.message}", seq=seq) from error
        session = event["session"] if session is None else session
        if event["session"] != session:
            raise LogCorrupt(f"event {seq} belongs to session '{event['session']}', not '{session}'", seq=seq)
        if event["seq"] != seq:
            what = "missing" if event["seq"] > seq else "twice there, or out of order"
            raise LogCorrupt(f"event {min(seq, event['seq'])} of session '{session}' is {what}", seq=seq)
        if event["prev"] != head:
            raise LogCorrupt(f"event {seq} of session '{session}' does not follow the one before it", seq=seq)
        head = event["hash"]
        seq += 1
        yield event
    if events is not None and seq != events:
        raise LogCorrupt(f"session '{session or ''}' has {seq} of its {events} events", seq=seq)


def _upgrade(event: dict[str, Any]) -> dict[str, Any]:
    version = event["v"]
    if version > FORMAT:
        raise LogError(
            f"session '{event.get('session')}' is written in log format {version}; "
            f"this lllm reads formats up to {FORMAT}",
            hint=update_hint(),
        )
    for upgrade in UPGRADES[version - 1 :]:
        event = upgrade(event)
    return event


def _too_deep(body: bytes) -> LogCorrupt:
    """The error for an event that is as it was written, and that this version does not read."""
    found = _PLACE.search(body)
    seq, session = (int(found[1]), canonical.decode(found[2])) if found else (None, None)
    place = "an event" if found is None else f"event {seq} of session '{session}'"
    error = LogCorrupt(
        f"{place} cannot be read: its JSON is nested more than {canonical.DEEPEST} lists and objects deep",
        seq=seq,
        hint="An older lllm wrote it, which took any depth. The events before it can be read: lllm show.",
    )
    error.context = {"session": session, "seq": seq}
    return error


_PLACE: Final = re.compile(rb'"seq":([0-9]+),"session":("(?:[^"\\]|\\.)*"),"v":[0-9]+\}\Z')
"""The end of a body, where `seal` writes what event it is."""


def _claimed(body: bytes) -> int | None:
    """The sequence number that a bad body claims: a pointer for the reader of the message, no more."""
    try:
        event = canonical.decode(body)
    except ValueError:
        return None
    seq = event.get("seq") if isinstance(event, dict) else None
    return seq if type(seq) is int else None
