"""Decides whether today's code produces what was recorded, although secrets were removed from the record.

The replaying machine may know other secrets than the recording one, or none. So a replay redacts nothing: a recorded
`[redacted:NAME]` matches any text, and the replayed machine continues with the recorded value. The verdict thus depends
only on the record and the code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from lllm.core import events as ev
from lllm.core.canonical import decode, digest, encode
from lllm.core.redact import Redactor, agrees
from lllm.errors import LLMError
from lllm.log.folding import Folding
from lllm.plan import fixed_of

MARKED = b"[redacted:"

Blob = Callable[[str], bytes]
"""Returns the bytes of a digest. Raises LLMError or KeyError if there are none."""


def adopt(recorded: Any, present: Any) -> Any:
    """`present`, with every part that agrees with the recorded one replaced by it."""
    if agrees(recorded, present):
        return recorded
    if isinstance(recorded, Mapping) and isinstance(present, Mapping):
        return {key: adopt(recorded[key], item) if key in recorded else item for key, item in present.items()}
    if isinstance(recorded, list) and isinstance(present, list | tuple) and len(recorded) == len(present):
        return [adopt(old, new) for old, new in zip(recorded, present, strict=True)]
    return present


def as_recorded(
    kind: str, recorded: Mapping[str, Any], present: Mapping[str, Any], old: Blob, new: Blob
) -> Mapping[str, Any]:
    """The data of a re-executed event, with everything that agrees replaced by the recorded value. Hashes agree if the
    hashed content does: `old` and `new` return the blobs of both sides."""
    if kind == ev.CALL_STARTED:
        present = _opening(recorded, present, old, new)
    elif kind == ev.ARTIFACT and _same_blobs("digest", recorded, present, old, new):
        present = {**present, "digest": recorded["digest"], "size": recorded["size"]}
    return dict(adopt(recorded, present)) if MARKED in encode(recorded) else present


def marked(data: Any) -> bool:
    """True if secrets were removed from recorded JSON."""
    return MARKED in encode(data)


def _opening(
    recorded: Mapping[str, Any], present: Mapping[str, Any], old: Blob, new: Blob
) -> Mapping[str, Any]:
    out = dict(present)
    if "key" not in recorded:
        out.pop("key", None)  # the program was given keys since
    if "overrides" not in recorded:
        out.pop("overrides", None)  # recorded before they were noted
    free = {"template"} if marked([*recorded.get("add", []), recorded.get("edited")]) else set()
    if _same_blobs("specs", recorded, present, old, new):
        out |= {"specs": recorded["specs"], "tools": recorded["tools"]}
        free.add("functions")
    for key in ("prompt", "system"):
        before, now = recorded.get(key), present.get(key)
        if free and isinstance(before, Mapping) and isinstance(now, Mapping):
            # a text that contains a secret: its rendered form is compared
            parts, known = dict(now.get("parts", {})), before.get("parts", {})
            out[key] = {
                **now,
                "parts": parts | {part: known[part] for part in free & known.keys() & parts.keys()},
            }
    return out


def _same_blobs(
    key: str, recorded: Mapping[str, Any], present: Mapping[str, Any], old: Blob, new: Blob
) -> bool:
    """True if two events name different blobs by `key` that are equal except for secrets."""
    if key not in recorded or key not in present or recorded[key] == present[key]:
        return False
    try:
        sides = old(recorded[key]), new(present[key])
    except (KeyError, LLMError):
        return False
    if MARKED not in sides[0]:
        return _masked(*sides)
    for read in (decode, bytes.decode):
        with suppress(ValueError):
            return agrees(*map(read, sides))
    return False


def _masked(recorded: bytes, present: bytes) -> bool:
    """True if both are equal except for bytes replaced by `*` (see `lllm.core.redact.Redactor.blob`)."""
    first, *rest = re.split(rb"\*{8,}", recorded)
    form = b".*".join(map(re.escape, (first, *rest)))
    return bool(rest) and re.fullmatch(form, present, re.DOTALL) is not None


def without_secrets(
    record: Sequence[Mapping[str, Any]], redactor: Redactor, blob: Blob
) -> list[Mapping[str, Any]]:
    """The events of a session as if recorded with the secrets of `redactor` known: hashes of dialogs, tools and requests
    are recomputed for the cleaned content. `blob` returns the session's blobs."""
    cleaned = [redactor.clean(_with_specs(event, redactor, blob)) for event in record]
    if all(new is event["data"] for new, event in zip(cleaned, record, strict=True)):
        return list(record)
    before, after = Folding(), Folding()
    heads: dict[str, str] = {}
    fixed: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {}
    out: list[Mapping[str, Any]] = []
    for event, data in zip(record, cleaned, strict=True):
        old, kind, call = event["data"], event["kind"], event["call"]
        for key in ("base", "head"):
            if data.get(key) in heads:
                data = {**data, key: heads[data[key]]}
        if kind == ev.CALL_STARTED:
            fixed[call] = fixed_of(old), fixed_of(data)
        elif kind == ev.MODEL_REQUESTED and (data.get("head") != old.get("head") or len({*fixed[call]}) > 1):
            which = 0 if data.get("tools") else 1
            parts = (side[which] for side in fixed[call])
            data = {**data, "request": _request_again(old, data["head"], *parts)}
        out.append({**event, "data": data})
        states = before.take(event), after.take(out[-1])
        for was, now in ((side.trunk for side in states), (side.branch for side in states)):
            if was is not None and now is not None:
                heads[was.id] = now.id
    return out


def _request_again(recorded: Mapping[str, Any], head: str, before: str, after: str) -> str:
    """The hash of a request after its fixed part and dialog changed (see `lllm.runtime`)."""
    for more in ("", " free"):
        if recorded.get("request") == digest(f"{before}{more} {recorded.get('head')}".encode()):
            return digest(f"{after}{more} {head}".encode())
    return str(recorded.get("request"))


def _with_specs(event: Mapping[str, Any], redactor: Redactor, blob: Blob) -> Mapping[str, Any]:
    data: Mapping[str, Any] = event["data"]
    if event["kind"] == ev.CALL_STARTED and "specs" in data:
        with suppress(LLMError, KeyError):
            content = blob(data["specs"])
            if (clean := redactor.blob(content)) is not content:
                return {**data, "specs": digest(clean)}
    return data
