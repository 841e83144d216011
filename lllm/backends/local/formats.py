"""The schema that a local grammar holds a reply to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def whole_schema(format: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of `Request.format` with everything that it says; see `lllm.ports.Request`."""
    schema: Mapping[str, Any] = format.get("whole", format["schema"])
    return schema
