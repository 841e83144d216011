"""Kinds of values: what a key may hold, in words and as JSON Schema."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple


class Kind(NamedTuple):
    """What a key may hold. `words` completes the sentence "it wants ..."; `schema` is JSON Schema, of which `fits`
    understands type, enum, minimum, exclusiveMinimum, maximum, minLength, pattern, items, additionalProperties, format
    (date, date-time) and anyOf."""

    words: str
    schema: Mapping[str, Any]


def choice(*values: str) -> Kind:
    return Kind("one of " + ", ".join(values), {"enum": list(values)})


TEXT: Final = Kind("text", {"type": "string"})
NAME: Final = Kind("a name", {"type": "string", "pattern": r"\S"})
NAME_OR_NONE: Final = Kind("a name, or null or an empty text for none", {"type": ["string", "null"]})
NAMES: Final = Kind("a list of names", {"type": "array", "items": NAME.schema})
NAMES_OR_NONE: Final = Kind(
    "a list of names, or null as if left out", {"type": ["array", "null"], "items": NAME.schema}
)
PATH: Final = Kind("a path", {"type": "string", "pattern": r"\S"})
PATHS: Final = Kind("a list of paths", {"type": "array", "items": PATH.schema})
PATH_OR_PATHS: Final = Kind("a path or a list of paths", {"anyOf": [PATH.schema, PATHS.schema]})
STOP: Final = Kind("text", {"type": "string", "minLength": 1})  # an end of line is one
STOPS: Final = Kind(
    "text or a list of texts, none of them empty",
    {"anyOf": [STOP.schema, {"type": "array", "items": STOP.schema}]},
)
TAGS: Final = Kind(
    "a list of two texts, or null for fences",
    {"type": ["array", "null"], "items": {"type": "string", "minLength": 1}},
)
FLAG: Final = Kind("true or false", {"type": "boolean"})
MEMORY: Final = Kind("true, false or session", {"anyOf": [{"type": "boolean"}, {"enum": ["session"]}]})
CONTEXT: Final = Kind("text, or a mapping with text or file", {"anyOf": [NAME.schema, {"type": "object"}]})
WINDOW: Final = Kind(
    "drop, summarise, a mapping with policy, tokens and reserve, or null",
    {"anyOf": [{"enum": ["drop", "summarise"]}, {"type": "object"}, {"type": "null"}]},
)
WHOLE: Final = Kind("a whole number", {"type": "integer"})
SEED: Final = Kind("a whole number, or null", {"type": ["integer", "null"]})
COUNT: Final = Kind("a whole number of 0 or more", {"type": "integer", "minimum": 0})
POSITIVE: Final = Kind("a whole number of 1 or more", {"type": "integer", "minimum": 1})
LIMIT: Final = Kind(
    "a whole number of 0 or more, or null for no limit", {"type": ["integer", "null"], "minimum": 0}
)
MONEY: Final = Kind(
    "an amount of 0 or more in US dollars, or null for no limit", {"type": ["number", "null"], "minimum": 0}
)
PRICE: Final = Kind(
    "US dollars per million tokens: a number of 0 or more, or text such as '0.25'",
    {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"}]},
)
DEPTH: Final = Kind("a whole number of 1 or more, or null", {"type": ["integer", "null"], "minimum": 1})
COPIES: Final = Kind(
    "a whole number of 2 or more, or null for no limit", {"type": ["integer", "null"], "minimum": 2}
)
RESULT: Final = Kind(
    "a whole number of 1000 or more, or null for no limit", {"type": ["integer", "null"], "minimum": 1000}
)
WAIT: Final = Kind("a number of seconds of 0 or more", {"type": "number", "minimum": 0})
TIME_LIMIT: Final = Kind(
    "a number of seconds above 0, or null for no limit", {"type": ["number", "null"], "exclusiveMinimum": 0}
)
HOTTEST: Final = 2
"""The highest temperature for all models: the maximum of the big providers."""
TEMPERATURE: Final = Kind(
    f"a number from 0 to {HOTTEST}", {"type": "number", "minimum": 0, "maximum": HOTTEST}
)
SHARE: Final = Kind("a number from 0 to 1", {"type": "number", "minimum": 0, "maximum": 1})
DATE: Final = Kind(
    "a date like 2024-12-31, or null for none",
    {
        "anyOf": [
            {"type": "string", "format": "date"},
            {"type": "string", "format": "date-time"},
            {"type": "null"},
        ]
    },
)
EXCEPTIONS: Final = Kind(
    "the name of an exception, module:Class, or a list of them",
    {"anyOf": [NAME.schema, {"type": "array", "items": NAME.schema, "minItems": 1}]},
)
SECONDS: Final = Kind("a number of seconds above 0", {"type": "number", "exclusiveMinimum": 0})
VARIABLE: Final[Mapping[str, Any]] = {"type": "string", "pattern": r"^[A-Za-z_][A-Za-z0-9_]*$"}
VARIABLES: Final = Kind(
    "names of variables: each declared one with the one to read instead, never the key itself",
    {"type": "object", "additionalProperties": VARIABLE},
)
NUMBER: Final = Kind("a number", {"type": "number"})
APPROVAL: Final = Kind(
    "true, a list of names of tools, or such lists under `always` and `never`",
    {
        "anyOf": [
            {"type": "boolean"},
            NAMES.schema,
            {"type": "object", "properties": {"always": NAMES.schema, "never": NAMES.schema}},
        ]
    },
)
PROMPT: Final = Kind("text, or the keys of a prompt file", {"anyOf": [NAME.schema, {"type": "object"}]})
FORMAT: Final = Kind("text or a JSON Schema", {"anyOf": [NAME.schema, {"type": "object"}]})
STEPS: Final = Kind("a list of stages", {"type": "array"})
"""Stages of `lllm.config.step_forms`, which are looked at when they are made."""
FREE: Final = Kind("keys and values of your own", {"type": "object"})


_PYTHON: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}

_WORDS: Final = {
    bool: "a truth value",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "keys and values",
    type(None): "nothing",
}


def fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value is of this kind. A truth value is not a number here, and neither is NaN."""
    if "anyOf" in schema:
        return any(fits(value, one) for one in schema["anyOf"])
    if "enum" in schema:
        return isinstance(value, str) and value in schema["enum"]
    types: list[str] = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if isinstance(value, bool):
        return "boolean" in types
    if not any(isinstance(value, _PYTHON[name]) for name in types):
        return False
    if isinstance(value, int | float):
        return bool(
            (isinstance(value, int) or math.isfinite(value))
            and value >= schema.get("minimum", -math.inf)
            and value <= schema.get("maximum", math.inf)
            and value > schema.get("exclusiveMinimum", -math.inf)
        )
    if isinstance(value, str):
        if (form := schema.get("format")) is not None and not _is_time(value, form):
            return False
        return len(value) >= schema.get("minLength", 0) and bool(re.search(schema.get("pattern", ""), value))
    if isinstance(value, list) and "items" in schema:
        return all(fits(item, schema["items"]) for item in value)
    if isinstance(value, dict) and "additionalProperties" in schema:
        return all(fits(item, schema["additionalProperties"]) for item in value.values())
    return True


def _is_time(text: str, form: str) -> bool:
    """Whether a text is a date, or a date with a time, in ISO 8601."""
    from datetime import date, datetime

    try:
        date.fromisoformat(text) if form == "date" else datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def takes_text_only(kind: Kind) -> bool:
    """Whether a value of this kind is text, whatever it looks like."""
    return "enum" in kind.schema or kind.schema.get("type") == "string"


def in_words(value: Any) -> str:
    """A value for an error message: what it is, cut to a readable length."""
    try:
        text = "null" if value is None else repr(value).lower() if isinstance(value, bool) else repr(value)
    except Exception:  # nested too deeply, or a failing __repr__
        return f"a value that cannot be shown ({type(value).__name__})"
    if len(text) > 60:
        text = f"{text[:57]}..."
    return f"{text} ({_WORDS.get(type(value), type(value).__name__)})"
