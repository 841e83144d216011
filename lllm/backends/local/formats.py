"""The schema that a local grammar holds a reply to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def whole_schema(format: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The full schema of `Request.format` (see `lllm.ports.Request`); None if there is none or it is only for validating
    the finished reply."""
    if format is None or not format.get("sent", True):
        return None
    schema: Mapping[str, Any] = format.get("whole", format["schema"])
    return schema
