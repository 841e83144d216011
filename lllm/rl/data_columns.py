"""The columns of data sets for training, with their types.

A reader of JSON lines that looks at the first ones alone takes a column that is null there for one that is always null, and a
message without tool calls for one that cannot have any: it fails at the first line that has more. So the types are written
down, in the card of a data set, and given to `datasets`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

Column = dict[str, Any]
"""A column as `dataset_info` in the card of a data set has it."""


def _text(name: str) -> Column:
    return {"name": name, "dtype": "string"}


_CALL: Final = [
    _text("id"),
    _text("type"),
    {"name": "function", "struct": [_text("name"), _text("arguments")]},
]
_MESSAGE: Final = [
    _text("role"),
    _text("content"),
    _text("name"),
    _text("thinking"),
    {"name": "tool_calls", "list": _CALL},
    _text("tool_call_id"),
]
_KEYS: Final = frozenset(one["name"] for one in _MESSAGE)
CONVERSATIONS: Final = ("prompt", "completion", "chosen", "rejected")
"""Columns of messages; or of texts, in data of people."""
_KNOWN: Final[Mapping[str, Mapping[str, Any]]] = {
    **{name: {"dtype": "string"} for name in ("tools", "session", "call", "model")},
    **{name: {"dtype": "float64"} for name in ("reward",)},
    "label": {"dtype": "bool"},
    "scores": {"list": "float64"},
    "logprobs": {"list": "float64"},
    "sessions": {"list": "string"},
    **{name: {"list": "int64"} for name in ("input_ids", "prompt_ids", "completion_ids")},
    **{name: {"list": "int64"} for name in ("chosen_ids", "rejected_ids")},
    **{name: {"list": "int8"} for name in ("assistant_masks", "completion_mask")},
    **{name: {"list": "int8"} for name in ("chosen_mask", "rejected_mask")},
}


def column_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of all columns that a row has, in order of appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


def column_types(rows: Sequence[Mapping[str, Any]]) -> list[Column] | None:
    """Returns the columns of rows with their types; None where a type is not known, as in rows that were written by hand."""
    found: list[Column] = []
    for name in column_names(rows):
        if name in CONVERSATIONS:
            kind = _conversation([row.get(name) for row in rows])
        else:
            kind = _KNOWN.get(name)
        if kind is None:
            return None
        found.append({"name": name, **kind})
    return found or None


def as_features(columns: Sequence[Column]) -> Any:
    """The same as `Features` of `datasets`."""
    from datasets import Features

    return Features({one["name"]: _feature(one) for one in columns})


def _conversation(values: Sequence[Any]) -> Mapping[str, Any] | None:
    given = [one for one in values if one is not None]
    if given and all(isinstance(one, str) for one in given):
        return {"dtype": "string"}
    if all(isinstance(one, list) and all(_is_message(each) for each in one) for one in given):
        return {"list": _MESSAGE}
    return None


def _is_message(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and value.keys() <= _KEYS
        and isinstance(value.get("content"), str | None)
        and all(
            isinstance(call, Mapping)
            and call.keys() <= {"id", "type", "function"}
            and isinstance(call.get("function"), Mapping)
            and call["function"].keys() <= {"name", "arguments"}
            and isinstance(call["function"].get("arguments"), str | None)
            for call in value.get("tool_calls") or ()
        )
    )


def _feature(column: Column) -> Any:
    from datasets import List, Value

    if "dtype" in column:
        return Value(column["dtype"])
    if "struct" in column:
        return {one["name"]: _feature(one) for one in column["struct"]}
    of = column["list"]
    return List(Value(of) if isinstance(of, str) else {one["name"]: _feature(one) for one in of})
