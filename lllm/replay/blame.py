"""Whose fault a difference is, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final

from lllm.core import events as ev
from lllm.core.canonical import encode

_PARTS: Final = {
    # key of CallStarted's data: what a person would call it
    "prompt": "prompt",
    "system": "system prompt",
    "tools": "tool schema",
    "specs": "tool schema",
    "endpoints": "tool schema",
    "sampling": "sampling",
    "model": "model",
    "format": "format",
    "spec": "limits",
    "args": "arguments",
    "add": "messages",
    "edited": "messages",
    "agent": "agent",
}


def blame(found: Mapping[str, Any], kind: str, data: Mapping[str, Any]) -> tuple[str, Any, Any, str | None]:
    """Cause, recorded value, present value and hint for an event that differs."""
    recorded = found["data"]
    if found["kind"] != kind:
        if {found["kind"], kind} <= {ev.REPLY_ACCEPTED, ev.REPLY_REJECTED, ev.HANDLER_FAILED}:
            return (
                "parser: it judges the same reply otherwise",
                _event(found["kind"], recorded),
                _event(kind, data),
                None,
            )
        return "code: another event comes here", _event(found["kind"], recorded), _event(kind, data), None
    differing = [key for key in {*recorded, *data} if encode(recorded.get(key)) != encode(data.get(key))]
    if kind == ev.CALL_STARTED:
        for key, name in _PARTS.items():
            if key in differing:
                cause, before, now, hint = _blame_part(key, name, recorded.get(key), data.get(key))
                if "add" in differing and key in ("prompt", "system", "add"):
                    before, now = _first_difference(recorded.get("add", []), data.get("add", []))
                return cause, before, now, hint
    if kind == ev.REPLY_ACCEPTED or kind == ev.REPLY_REJECTED:
        return "parser: it reads the same reply otherwise", recorded, data, None
    if kind == ev.HANDLER_RETURNED:
        return f"handler: the {data.get('handler')} handler says something else", recorded, data, None
    if kind == ev.MODEL_REQUESTED:
        what = "dialog" if "head" in differing else "settings"
        return f"request: its {what} differ", recorded, data, None
    if kind == ev.SESSION_ENDED and "status" in differing:
        return "code: the program ends otherwise", recorded, data, None
    if kind == ev.FRONTEND:
        return "code: something else is shown", recorded, data, None
    if kind == ev.ARTIFACT and "name" not in differing:
        return f"code: the artifact '{data.get('name')}' has another content", recorded, data, None
    key = differing[0] if differing else ""
    return f"code: '{key}' differs", recorded.get(key), data.get(key), None


def _blame_part(key: str, name: str, recorded: Any, present: Any) -> tuple[str, Any, Any, str | None]:
    if key in ("prompt", "system") and isinstance(recorded, Mapping) and isinstance(present, Mapping):
        path = recorded.get("path")
        if path != present.get("path"):
            return f"{name}: '{path}' was used, now '{present.get('path')}' is", recorded, present, None
        old, new = recorded.get("parts", {}), present.get("parts", {})
        parts = sorted(part for part in {*old, *new} if old.get(part) != new.get(part))
        return (
            f"{name} '{path}' changed: {', '.join(parts)}",
            recorded,
            present,
            f"Look at the prompt '{path}'.",
        )
    if key == "spec":
        recorded, present = _flat(recorded), _flat(present)
    if isinstance(recorded, Mapping) and isinstance(present, Mapping):
        names = sorted(item for item in {*recorded, *present} if recorded.get(item) != present.get(item))
        old, new = ({item: side.get(item) for item in names} for side in (recorded, present))
        return f"{name}: {', '.join(names)} changed", old, new, None
    return f"{name} changed", recorded, present, None


def _flat(spec: Mapping[str, Any] | None) -> dict[str, Any]:
    """A call's settings with its limits among them; all defaults are not in the record at all."""
    settings = dict(spec or {})
    return {**settings.pop("limits", {}), **settings}


def _first_difference(recorded: Sequence[Any], present: Sequence[Any]) -> tuple[Any, Any]:
    """The first message that differs, on both sides: a text says more than a hash."""
    for old, new in zip_longest(recorded, present):
        if old != new:
            return old, new
    return recorded, present


def _event(kind: str, data: Any) -> dict[str, Any]:
    return {"kind": kind, "data": data}
