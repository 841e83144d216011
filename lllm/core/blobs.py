"""Where the data of an event names blobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from lllm.core import events as ev
from lllm.models.parts import blobs_of, swapped

_PARTS: Final = {ev.TOOL_RETURNED: "parts"}
_MESSAGES: Final = {ev.CALL_STARTED: "add", ev.HANDLER_RETURNED: "add"}


def blobs_in(kind: str, data: Mapping[str, Any]) -> Iterator[str]:
    """The digests of the blobs that an event names."""
    if (key := ev.BLOBS.get(kind)) is not None and isinstance(digest := data.get(key), str):
        yield digest
    if isinstance(digest := data.get("deferred"), str) and kind == ev.CALL_STARTED:
        yield digest
    if (key := _PARTS.get(kind)) is not None:
        yield from blobs_of(data.get(key))
        yield from (kept["blob"] for kept in data.get("whole", {}).values())
    elif (key := _MESSAGES.get(kind)) is not None:
        for record in (*(data.get(key) or ()), data.get("edited")):
            if isinstance(record, Mapping) and record.get("role") == "tool":
                yield from blobs_of(record.get("content"))
    elif kind == ev.EFFECT_RETURNED:
        yield from (digest for digest in data.get("blobs", ()) if isinstance(digest, str))


def with_blobs(kind: str, data: Mapping[str, Any], swap: Callable[[str], str]) -> Mapping[str, Any]:
    """The data with other digests: those that `swap` gives. The same object if none differs."""
    changes: dict[str, Any] = {}
    if (key := ev.BLOBS.get(kind)) is not None and isinstance(digest := data.get(key), str):
        changes[key] = swap(digest)
    if kind == ev.CALL_STARTED and isinstance(digest := data.get("deferred"), str):
        changes["deferred"] = swap(digest)
    if "whole" in data:
        kept = data["whole"]
        swapped_too = {name: {**one, "blob": swap(one["blob"])} for name, one in kept.items()}
        same = all(swapped_too[name]["blob"] is one["blob"] for name, one in kept.items())
        changes["whole"] = kept if same else swapped_too
    if (key := _PARTS.get(kind)) is not None and key in data:
        changes[key] = swapped(data[key], swap)
    elif (key := _MESSAGES.get(kind)) is not None and key in data:
        changes[key] = _messages(data[key], swap)
        if "edited" in data:
            changes["edited"] = _message(data["edited"], swap)
    elif kind == ev.EFFECT_RETURNED and "blobs" in data:
        new = {digest: swap(digest) for digest in data["blobs"]}
        if any(new[digest] is not digest for digest in new):
            changes |= {"blobs": list(new.values()), "value": _replaced(data.get("value"), new)}
    if all(data[key] is value for key, value in changes.items()):
        return data
    return {**data, **changes}


def _messages(records: Any, swap: Callable[[str], str]) -> Any:
    out = [_message(record, swap) for record in records]
    return records if all(new is old for new, old in zip(out, records, strict=True)) else out


def _message(record: Any, swap: Callable[[str], str]) -> Any:
    if not isinstance(record, Mapping) or record.get("role") != "tool" or "content" not in record:
        return record
    content = swapped(record["content"], swap)
    return record if content is record["content"] else {**record, "content": content}


def _replaced(value: Any, new: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return new.get(value, value)
    if isinstance(value, Mapping):
        return {key: _replaced(item, new) for key, item in value.items()}
    return [_replaced(item, new) for item in value] if isinstance(value, list) else value
