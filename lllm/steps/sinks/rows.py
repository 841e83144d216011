"""Rows: what a sink writes of a value, as columns and cells.

| value | columns |
|---|---|
| a dict, a pydantic model, a dataclass, a named tuple | its keys or fields |
| a Reply | those of the value that it was parsed into; else `text` |
| a text | `text` |
| anything else: a number, a list, None | `value` |

A cell is None, True or False, a number, a text, bytes, or lists and dicts of these. Dates, UUIDs, paths and decimals become
text, an enum its value, a set a list.
"""

from __future__ import annotations

import base64
import datetime
import json
import math
import uuid
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final

from lllm.core.jsonable import unicode_only
from lllm.errors import SinkError, StageError
from lllm.models.reply import Reply

KEY: Final = "_key"
"""The column by which a row is known again."""
DEEPEST: Final = 100
_TEXTS: Final = (Decimal, uuid.UUID, PurePath)
_DATES: Final = (datetime.date, datetime.time)

Row = dict[str, Any]


def row_of(value: Any) -> Row:
    """The row of a value. SinkError where something in it cannot be written."""
    if isinstance(value, Reply):
        value = value.content if value.parsed is None else value.parsed
    if isinstance(value, StageError):
        return {"error": value.message}
    found = _named(value)
    if found is None:
        found = {"text" if isinstance(value, str) and not isinstance(value, Enum) else "value": value}
    row = {_column(name): cell(one, str(name), DEEPEST) for name, one in found.items()}
    if KEY in row:
        raise SinkError(
            f"a row has a column '{KEY}', which is the sink's own", hint="Call it something else."
        )
    return row


def _column(name: Any) -> str:
    text: str = unicode_only(str(name.value if isinstance(name, Enum) else name))
    if not text or "\0" in text:
        raise SinkError(f"a column cannot be called {text!r}", hint="Give it a name, without NUL characters.")
    return text


def _named(value: Any) -> dict[Any, Any] | None:
    """The named parts of a value; None where it has none."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, type):
        return None
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if callable(dump := getattr(value, "model_dump", None)):
        return dict(dump())
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return dict(value._asdict())
    return None


def cell(value: Any, column: str, left: int) -> Any:
    """A value as a cell."""
    if value is None or value.__class__ in (bool, str, int, float):
        return unicode_only(value) if value.__class__ is str else value
    if left <= 0:
        raise SinkError(
            f"column '{column}' is nested more than {DEEPEST} deep, or contains itself",
            hint="Write a flatter value.",
        )
    if isinstance(value, Reply):
        value = value.content if value.parsed is None else value.parsed
        return cell(value, column, left - 1)
    if isinstance(value, StageError):
        return {"error": value.message}
    if isinstance(value, Enum):
        return cell(value.value, column, left - 1)
    if isinstance(value, str):
        return unicode_only(str.__str__(value))
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, _DATES):
        return value.isoformat()
    if isinstance(value, _TEXTS):
        return str(value)
    if (named := _named(value)) is not None:
        return {_column(name): cell(one, column, left - 1) for name, one in named.items()}
    if isinstance(value, list | tuple):
        return [cell(one, column, left - 1) for one in value]
    if isinstance(value, Set):
        return sorted((cell(one, column, left - 1) for one in value), key=repr)
    raise SinkError(
        f"column '{column}' is a {type(value).__module__}.{type(value).__qualname__}, which cannot be written",
        hint="Put a function before the sink that makes texts, numbers, lists or dicts of it.",
    )


def in_json(value: Any) -> Any:
    """A cell as JSON has it: bytes in base64; a number that is none (NaN, Infinity) as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return number_text(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: in_json(one) for name, one in value.items()}
    if isinstance(value, list):
        return [in_json(one) for one in value]
    return value


def number_text(value: float) -> str:
    """A float that JSON has no number for."""
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def json_text(value: Any) -> str:
    """A cell, or a row, as JSON in one line."""
    return json.dumps(in_json(value), ensure_ascii=False, allow_nan=False)


def is_nested(value: Any) -> bool:
    """Returns True for a cell that has parts, and is JSON in a table."""
    return isinstance(value, dict | list)


def fits_64_bits(value: int) -> bool:
    """Returns True for an integer that fits databases and Parquet."""
    return -(2**63) <= value < 2**63
