"""What a log holds."""

import json
from typing import Any

import lllm


def events(store: lllm.MemoryLog, session: str, kind: str = "") -> list[dict[str, Any]]:
    """The events of a session, of one kind."""
    found = [json.loads(line) for line in store.read(session)]
    return [event for event in found if not kind or event["kind"] == kind]


def notes(store: lllm.MemoryLog, session: str) -> list[dict[str, Any]]:
    """The remarks about endpoints."""
    return [one["data"] for one in events(store, session, "Note") if one["data"].get("of") == "proxy"]
