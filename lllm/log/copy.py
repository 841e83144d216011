"""Sessions from one store to another, and to and from a file: byte for byte, proven on both sides.

A file holds one session, as JSON Lines that are the same for the same session:

    {"lllm":"session","format":1,"session":ID,"events":N,"blobs":M}
    N events, as they stand in the log
    {"blob":"sha256:…","data":base64}, M of them, in the order of their digests
"""

from __future__ import annotations

import binascii
import json
import os
import secrets
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, NamedTuple

from lllm.core import canonical
from lllm.core.envelope import open_event, verify_chain
from lllm.core.order import EventOrder
from lllm.core.shapes import misshapen
from lllm.errors import ConfigError, LogCorrupt, LogError, LogWriteError, UnknownNameError
from lllm.handles import claiming, keeps_nothing
from lllm.hints import update_hint
from lllm.log.blobs import check_content, named_in
from lllm.log.folding import Folding
from lllm.log.memory import MemoryLog
from lllm.log.proof import prove_blobs
from lllm.log.summaries import summarise
from lllm.ports import LogStore, Record
from lllm.sync import run

FORMAT: Final = 1
"""The format of files that is written."""
SUFFIX: Final = ".lllm"
LONGEST: Final = 200
"""Of a session's id: some stores make it a folder."""
LATEST: Final = 253_402_300_800_000_000
"""The year 10,000, in microseconds."""
_AGAIN: Final = "Export the session again: lllm sessions copy"
PORTION: Final = 1 << 20
"""About how many bytes of events one append of a copy takes."""


class Copied(NamedTuple):
    """What was done for one session: `events` and `blobs` that were not there before, and the hash of its last event.

    `outcome` is copied; continued (a part of it was there); or there (nothing was left to do)."""

    session: str
    outcome: str
    events: int
    blobs: int
    head: str


def save_session(store: LogStore, id: str, path: str | os.PathLike[str]) -> str:
    """Writes a session into a file, and gives the hash of its last event. The file appears complete, or not at all; one
    that is there is replaced.

    Raises:
        UnknownNameError: the store has no such session.
        LogCorrupt: the session is not as it was written.
        LogWriteError: the file could not be written.
    """
    bodies = list(store.read(id))
    head = verify_chain(bodies, session=id)
    blobs = blobs_of(store, bodies)
    header = {"lllm": "session", "format": FORMAT, "session": id, "events": len(bodies), "blobs": len(blobs)}
    target = Path(path)
    part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    try:
        with open(part, "xb") as file:
            file.write(_line(header))
            file.writelines(body + b"\n" for body in bodies)
            for digest in blobs:
                file.write(_line({"blob": digest, "data": b64encode(store.blob(digest)).decode()}))
        part.replace(target)
    except OSError as error:
        raise LogWriteError(
            f"{target.name} could not be written ({error.strerror or error})",
            hint="Check that its folder exists, that there is room, and that you may write there.",
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return head


def load_session(path: str | os.PathLike[str], store: LogStore) -> str:
    """Puts the session of a file into a store, and gives its id. A session that is there already is left as it is.

    Raises:
        LogCorrupt: the file is not as `save_session` wrote it.
        LogWriteError: the store has another session of that name, or somebody writes it.
    """
    source, id = read_session(path)
    copy_session(source, store, id)
    return id


def read_session(path: str | os.PathLike[str]) -> tuple[MemoryLog, str]:
    """A store that holds the one session of a file, and the session's id. Raises LogCorrupt as `load_session` does."""
    name = Path(path).name
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise LogError(f"{name} could not be read ({error.strerror or error})") from error
    header = _header(lines[0], name)
    id, events, blobs = header["session"], header["events"], header["blobs"]
    if len(lines) != events + blobs + 2 or lines[-1]:
        raise LogCorrupt(f"{name} is cut short, or has lines too many", hint=_AGAIN)
    bodies = lines[1 : events + 1]
    verify_chain(bodies, session=id, events=events)
    opened = [open_event(body) for body in bodies]
    if trouble := _unsound(id, opened) or summarise(bodies, id)["problem"]:
        raise LogCorrupt(f"{name} is not a session that lllm wrote: {trouble}", hint=_AGAIN)
    folding = Folding()
    for event in opened:
        folding.take(event)  # raises LogCorrupt if events contradict each other
    memory = MemoryLog()
    found = dict(_blob(line, name) for line in lines[events + 1 : -1])
    run(memory.append([record_of(body) for body in bodies], found))
    prove_blobs(memory, opened)
    return memory, id


def copy_session(source: LogStore, target: LogStore, id: str) -> Copied:
    """Brings a session into another store. What is there of it already is kept, so a copy that was interrupted goes on.

    Raises:
        UnknownNameError: the source has no such session.
        LogCorrupt: the session is not as it was written, on either side.
        LogWriteError: the target has another session of that name, or somebody writes it there.
    """
    if keeps_nothing(target):
        raise ConfigError("the store to copy to keeps nothing", hint="Copy to sqlite, localfile or postgres.")
    bodies = list(source.read(id))
    head = verify_chain(bodies, session=id)
    there = _common(bodies, target, id)
    left = bodies[there:]
    blobs = [digest for digest in blobs_of(source, bodies) if not _has(target, digest)]
    if left or blobs:
        claims = claiming(target)
        if claims is not None:
            claims.claim(id)
        try:
            # blobs first: an event never names one that is not there
            for digest in blobs:
                run(target.append([], {digest: source.blob(digest)}))
            for records in _portions(left):
                run(target.append(records))
        finally:
            if claims is not None:
                claims.release(id)
    _prove(target, id, bodies, head)
    for digest in blobs:
        target.blob(digest)  # LogCorrupt where it is not what its digest says
    outcome = ("continued" if there else "copied") if left or blobs else "there"
    return Copied(id, outcome, len(left), len(blobs), head)


def record_of(body: bytes) -> Record:
    """A stored event as it was appended. LogCorrupt when its hash does not fit."""
    event = open_event(body)
    return Record(
        event["session"], event["seq"], event["at"], event["kind"], event["call"], event["hash"], body
    )


def blobs_of(store: LogStore, bodies: Iterable[bytes]) -> list[str]:
    """The digests of the blobs that events use, in order."""
    named: set[str] = set()
    for body in bodies:
        named |= named_in(body)
    return sorted(digest for digest in named if _has(store, digest))


def _has(store: LogStore, digest: str) -> bool:
    try:
        store.blob(digest)
    except UnknownNameError:
        return False
    return True


def _common(bodies: Sequence[bytes], target: LogStore, id: str) -> int:
    """How many of the events the target has. LogWriteError where it has others."""
    try:
        stored = target.read(id)
    except UnknownNameError:
        return 0
    count = 0
    for ours, theirs in zip_longest(bodies, stored):
        if theirs is None:
            break
        if ours is not None and ours != theirs:
            raise LogWriteError(
                f"session '{id}' is another one in the store to copy to: they differ from event {count} on",
                hint=f"Keep both: fork one of them with lllm fork {id}, and copy the fork.",
            )
        count += 1
    return count


def _prove(target: LogStore, id: str, bodies: Sequence[bytes], head: str) -> None:
    stored = list(target.read(id))
    if stored[: len(bodies)] != list(bodies) or verify_chain(stored[: len(bodies)], session=id) != head:
        raise LogCorrupt(f"session '{id}' did not arrive as it was sent")


def _portions(bodies: Sequence[bytes]) -> Iterator[list[Record]]:
    portion: list[Record] = []
    size = 0
    for body in bodies:
        portion.append(record_of(body))
        size += len(body)
        if size >= PORTION:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _unsound(id: str, events: Sequence[Mapping[str, Any]]) -> str:
    """What no session of lllm has, though it may be sealed as one: every list of sessions would stumble over it."""
    if not id.strip(". ") or len(id) > LONGEST or "/" in id or not id.isprintable():
        return f"{id[:LONGEST]!r} is not a valid session id"
    order = EventOrder()
    for number, event in enumerate(events):
        if wrong := misshapen(event) or order.misplaced(event):
            return f"event {number}: {wrong}"
        if event["at"] >= LATEST:
            return f"event {number}: its time is after the year 9999"
    return ""


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _header(line: bytes, name: str) -> dict[str, Any]:
    try:
        header = canonical.decode(line)
        if header["lllm"] == "session" and isinstance(header["session"], str) and header["format"] > 0:
            if header["format"] > FORMAT:
                raise LogError(
                    f"{name} is written in format {header['format']}; this lllm reads formats up to {FORMAT}",
                    hint=update_hint(),
                )
            return {
                "session": header["session"],
                "events": int(header["events"]),
                "blobs": int(header["blobs"]),
            }
    except (ValueError, LookupError, TypeError):
        pass
    raise LogCorrupt(
        f"{name} is not a session in a file",
        hint="Such files are made by: lllm sessions copy ID --to FILE.lllm",
    )


def _blob(line: bytes, name: str) -> tuple[str, bytes]:
    try:
        entry = canonical.decode(line)
        digest, data = str(entry["blob"]), b64decode(entry["data"], validate=True)
    except (ValueError, LookupError, TypeError, binascii.Error) as error:
        raise LogCorrupt(f"a blob in {name} cannot be read", hint=_AGAIN) from error
    return digest, check_content(digest, data, name)
