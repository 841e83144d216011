"""The schema that a local grammar holds a reply to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def whole_schema(format: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The schema of `Request.format` with everything that it says; see `lllm.ports.Request`. None where there is none, or it
    is only for the validation of the finished reply."""
    if format is None or not format.get("sent", True):
        return None
    schema: Mapping[str, Any] = format.get("whole", format["schema"])
    return schema
