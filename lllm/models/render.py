"""What a tool's return value looks like to a model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from typing import Any, Final

from lllm.errors import ToolError
from lllm.models.parts import File, Image, Offers, Rich, rich
from lllm.models.reply import Reply

_ADDRESS: Final = re.compile(r" at 0x[0-9A-Fa-f]{4,}")
_DEEPEST: Final = 100


def render_result(value: Any) -> str:
    """A tool's return value as the text that the model reads.

    Text stays as it is, None is `null`, a Reply is its content. What can be JSON is compact JSON in its own order:
    numbers, mappings, sequences, sets (sorted), dataclasses, named tuples, pydantic models, enums (by value), arrays.
    Dates are ISO 8601, decimals their digits; a number that JSON lacks is its name (`NaN`). Anything else is `str()`.

    Raises:
        ToolError: an object without a text of its own, an iterator, binary data, a value that contains itself.
    """
    if isinstance(value, str) and not isinstance(value, Enum):
        return _unicode(value)
    try:
        plain = _jsonable(value, 0)
    except ToolError:
        raise
    except Exception as error:  # a __str__ or model_dump of the project's own
        raise ToolError(f"the tool's result cannot be shown: {type(error).__name__}: {error}") from error
    if isinstance(plain, str):
        return _unicode(plain)
    return _unicode(json.dumps(plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def render_value(value: Any) -> str | Rich | Offers:
    """A tool's return value as text, or as parts where it is an Image or a File, or a list with some.

    Raises ToolError as `render_result` does, and for parts that are too large.
    """
    if isinstance(value, str):
        return render_result(value)
    if type(value) is Offers:
        return value
    found = rich(value, render_result)
    return render_result(value) if found is None else found


def _jsonable(value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ToolError(f"the tool's result is nested more than {_DEEPEST} deep, or contains itself")
    deeper = depth + 1
    if isinstance(value, Enum):
        return _jsonable(value.value, deeper)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if value - value == 0.0:
            return float(value)
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Reply):
        return value.content
    if isinstance(value, Mapping):
        return {_key(key): _jsonable(item, deeper) for key, item in value.items()}
    if isinstance(value, type):
        raise ToolError(f"the tool returned the class {value.__name__}; return a value")
    if isinstance(value, Image | File):
        raise ToolError(
            f"the tool returned {type(value).__name__} within other values; return it alone, or in a list with texts"
        )
    if is_dataclass(value):
        shown = [item.name for item in fields(value) if item.repr]
        return {name: _jsonable(getattr(value, name), deeper) for name in shown}
    if callable(dump := getattr(value, "model_dump", None)):
        return _jsonable(dump(mode="json"), deeper)
    if callable(named := getattr(value, "_asdict", None)):
        return _jsonable(named(), deeper)
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value).decode("utf-8")
        except UnicodeDecodeError:
            raise ToolError(
                "the tool returned binary data; return text, lllm.Image(data) or lllm.File(data, name)"
            ) from None
    if isinstance(value, Set):
        items = [_jsonable(item, deeper) for item in value]
        # sets have no order of their own, and a log must not depend on the hash seed of a process
        return sorted(items, key=lambda item: (isinstance(item, str), json.dumps(item, sort_keys=True)))
    if isinstance(value, Sequence):
        return [_jsonable(item, deeper) for item in value]
    if callable(listed := getattr(value, "tolist", None)):
        return _jsonable(listed(), deeper)
    if callable(iso := getattr(value, "isoformat", None)):
        return str(iso())
    return _text(value)


def _key(key: Any) -> str:
    plain = _jsonable(key, 0)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def _text(value: Any) -> str:
    name = type(value).__name__
    if isinstance(value, Iterator):
        raise ToolError(f"the tool returned a {name}, which gives its items only once; return a list")
    text = str(value)
    if _ADDRESS.search(text):
        # the text would differ in every run and tells a model nothing
        raise ToolError(f"the tool returned a {name}, which has no text of its own; return text or JSON")
    return text


def _unicode(text: str) -> str:
    """Halves of surrogate pairs (file names, broken JSON) cannot be written as UTF-8; they become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
