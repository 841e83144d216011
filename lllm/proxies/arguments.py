"""Arguments of endpoints: as code passes them, and as they are checked and recorded."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Mapping
from typing import Any, Final

from lllm.errors import ToolError

_PLAIN: Final = frozenset((str, int, float, bool, type(None), bytes))


def plain(value: Any) -> Any:
    """Arguments as JSON, as code gives them: dates as ISO 8601, enums as their values, models as objects, tuples and sets as
    lists. Files stay as they are. ToolError where they are nested too deep, or in a circle."""
    try:
        return _as_plain(value)
    except RecursionError:
        raise ToolError("an argument is nested too deep, or contains itself") from None


def _as_plain(value: Any) -> Any:
    if value.__class__ in _PLAIN:
        return value
    if value.__class__ is dict or isinstance(value, Mapping):
        return {key: item if item.__class__ in _PLAIN else _as_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_as_plain(item) for item in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, enum.Enum):
        return _as_plain(value.value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_unset=True)
    return value


def as_json(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the arguments as the schema checks them: files count as text, wherever they stand."""
    for value in given.values():
        if value.__class__ not in _SCALARS:
            return {key: _without_files(value) for key, value in given.items()}
    return given


_SCALARS: Final = frozenset((str, int, float, bool, type(None)))


def _without_files(value: Any) -> Any:
    from lllm.models.parts import File, Image

    if isinstance(value, bytes | bytearray | File | Image):
        return ""
    if isinstance(value, Mapping):
        return {key: _without_files(item) for key, item in value.items()}
    return [_without_files(item) for item in value] if isinstance(value, list) else value
