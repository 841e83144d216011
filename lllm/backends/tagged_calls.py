"""Reads the JSON of tool calls that a model writes between tags."""

from __future__ import annotations

import re
from typing import Final

from lllm.core.canonical import decode
from lllm.models.message import FunctionCall

UNFINISHED: Final = "{"
"""The arguments of a call that was cut off before them: no JSON, so nothing takes it for a call without arguments."""

_STRING: Final = r'"(?:[^"\\]|\\.)*"'
_CUT: Final = re.compile(
    rf'\s*\[?\s*\{{\s*"name"\s*:\s*(?P<name>{_STRING})'
    r'(?:\s*,\s*"(?:arguments|parameters)"\s*:\s*(?P<arguments>.*))?',
    re.DOTALL,
)


def read_calls(text: str) -> list[FunctionCall] | None:
    """The calls in the JSON between the tags, without ids; None when it is not such JSON."""
    try:
        value = decode(text)
        calls = [read_call(entry) for entry in (value if isinstance(value, list) else [value])]
    except (ValueError, TypeError):
        return None
    return calls or None


def read_call(entry: object) -> FunctionCall:
    """The call that a JSON value is. Raises TypeError and ValueError."""
    if not isinstance(entry, dict):
        raise TypeError("a call is an object")
    if "arguments" not in entry and "parameters" in entry:
        entry = entry | {"arguments": entry["parameters"]}
    call = FunctionCall.from_dict(entry)
    if not call.name:
        raise ValueError("a call has a name")
    return call


def cut_call(text: str) -> list[FunctionCall]:
    """The call whose JSON ends in its middle, with the arguments written up to there; none where its name is not
    whole."""
    found = _CUT.match(text)
    if found is None:
        return []
    name = decode(found["name"])
    written = (found["arguments"] or "").rstrip()
    return [FunctionCall("", name, written or UNFINISHED)] if name else []


def in_string(text: str) -> bool:
    """Whether JSON that ends here ends within a string."""
    return len(re.findall(r'(?<!\\)(?:\\\\)*"', text)) % 2 == 1
