"""Schema of the data of each kind of event: the types that every reader of a log relies on.

A hash chain proves that an event is unchanged since it was sealed, not that lllm sealed it: a file from elsewhere may
hold anything. So a log is checked against this table before use. Unknown keys are allowed, so that a later lllm may add
some.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from lllm.core import events as ev
from lllm.core.canonical import DEEPEST
from lllm.models.checks import deeper

# A shape is a type; None; a tuple of alternatives; [shape] for a list; {key: shape} for an object, `key?` if optional;
# {"*": shape} for an object with any keys; or a predicate on the value.
Shape = Any


def _money(value: Any) -> bool:
    try:
        return isinstance(value, str) and Decimal(value).is_finite()
    except InvalidOperation:
        return False


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e18 < value < 1e18


def _anything(value: Any) -> bool:
    return True


_TEXT: Final = (str, None)
_NAME: Final = (str, None)
_USAGE: Final = {"prompt?": _count, "completion?": _count, "cached?": _count, "reasoning?": _count}
_CALL: Final = {"id": str, "function": {"name": str, "arguments": str}}
_MESSAGE: Final = {
    "role": lambda value: value in ("system", "developer", "user", "assistant", "tool"),
    "content?": (str, [{}], None),
    "tool_calls?": [_CALL],
    "thinking?": _TEXT,
    "name?": _NAME,
    "tool_call_id?": _TEXT,
}
_PROMPT: Final = {"path?": _TEXT}
_TOKEN: Final = {"token": str, "logprob": _number, "top?": [{"token": str, "logprob": _number}]}
_RULE: Final = {
    "approval?": bool,
    "concurrent?": bool,
    "repeatable?": bool,
    "effect?": str,
    "delegate?": bool,
}
_LIMITS: Final = {"*": (_number, str, None, bool)}
_SPEC: Final = {
    "limits?": _LIMITS,
    "tools?": {"*": _RULE},
    "interrupt?": bool,
    "execute?": bool,
    "seed?": str,
    "rules?": _count,
}

SHAPES: Final[Mapping[str, Shape]] = {
    ev.SESSION_STARTED: {
        "name?": _NAME,
        "entry?": ({"kind?": _TEXT, "set?": [str], "models?": {"*": str}}, None),
        "fork?": ({}, None),
        "lllm?": str,
        "seed?": (str, _number, None),
    },
    ev.SESSION_RESUMED: {"events?": _count, "uncertain?": [{}]},
    ev.SESSION_ENDED: {"status": str, "error?": _TEXT},
    ev.FRONTEND: {
        "method": str,
        "args?": [_anything],
        "kwargs?": {},
        "phase?": _TEXT,
        "error?": _TEXT,
        "id?": (_count, [_count]),
        "in?": (_count, None),
    },
    ev.ARTIFACT: {"name": str, "digest": str, "type?": _TEXT, "size?": _count},
    ev.NOTE: {"of?": _TEXT},
    ev.CALL_STARTED: {
        "add?": [_MESSAGE],
        "agent": str,
        "args?": ({}, None),
        "base?": _TEXT,
        "model?": _TEXT,
        "parent?": _TEXT,
        "via?": _TEXT,
        "prompt?": (_PROMPT, None),
        "system?": (_PROMPT, None),
        "sampling?": ({}, None),
        "tools?": ({"*": str}, None),
        "specs?": _TEXT,
        "spec?": _SPEC,
    },
    ev.CALL_RESUMED: {"down?": _number},
    ev.MODEL_REQUESTED: {"head?": _TEXT, "request?": _TEXT, "tools?": bool},
    ev.MODEL_REPLIED: {
        "message": _MESSAGE,
        "finish?": str,
        "usage?": (_USAGE, None),
        "cost?": (_money, None),
        "model?": _TEXT,
        "refusal?": _TEXT,
        "raw?": _TEXT,
        "enforced?": _TEXT,
        "logprobs?": ([_TOKEN], None),
        "token_ids?": ([_number], None),
        "prompt_token_ids?": ([_number], None),
    },
    ev.MODEL_FAILED: {
        "error": str,
        "message": str,
        "hint?": _TEXT,
        "fatal?": bool,
        "retryable?": bool,
        "retry_after?": (_number, None),
        "told?": str,
        "usage?": _USAGE,
        "unmetered?": bool,
        "cost?": (_money, None),
    },
    ev.WAIT_ENDED: {"seconds": _number},
    ev.REPLY_ACCEPTED: {},
    ev.REPLY_REJECTED: {"errors": [str], "calls?": {"*": str}, "unreadable?": [str]},
    ev.HANDLER_RETURNED: {"handler": str, "add": [_MESSAGE]},
    ev.HANDLER_FAILED: {"handler": str, "message": str},
    ev.APPROVAL_GIVEN: {"id": str, "approved": bool, "note?": _TEXT},
    ev.TOOL_REQUESTED: {"id": str, "name?": str, "n?": _count},
    ev.TOOL_RETURNED: {"id": str, "content?": str, "ok?": bool, "error?": _TEXT, "reused?": str},
    ev.LIMIT_REACHED: {"reason": str, "message": str},
    ev.CANCELLED: {"reason": str},
    ev.CALL_ENDED: {
        "status": str,
        "reason?": _TEXT,
        "error?": _TEXT,
        "usage?": (_USAGE, None),
        "cost?": (_money, None),
        "head?": _TEXT,
    },
}
"""Event kind -> the shape of its data. Kinds not listed (from a later lllm) are allowed."""


def misshapen(event: Mapping[str, Any]) -> str:
    """Says what is wrong with an event's envelope or data; "" if nothing is."""
    if not isinstance(event["kind"], str):
        return "its kind must be text"
    if not _count(event["at"]):
        return "its time must be a whole number"
    if any(not isinstance(event[key], str | None) for key in ("call", "dialog")):
        return "its call must be text or null"
    data = event["data"]
    if not isinstance(data, Mapping):
        return "its data must be an object"
    if (event["call"] is None) != (event["kind"] not in _OF_CALL) and event["kind"] not in _OF_BOTH:
        return "it must belong to a call" if event["call"] is None else "it must belong to no call"
    if deeper(data, DEEPEST):
        return f"its data is nested more than {DEEPEST} deep"
    return _misfit(data, SHAPES.get(event["kind"], {}), "data")


def _misfit(value: Any, shape: Shape, where: str) -> str:
    """Says where a value differs from a shape; "" if it fits."""
    if isinstance(shape, tuple):
        found = [_misfit(value, one, where) for one in shape]
        return (
            ""
            if "" in found
            else next((text for text in found if text.count(".") > where.count(".")), found[0])
        )
    if isinstance(shape, dict):
        if not isinstance(value, Mapping):
            return f"{where} must be an object, got {type(value).__name__}"
        for key, inner in shape.items():
            for name in value if key == "*" else (key.rstrip("?"),):
                if name not in value:
                    if not key.endswith("?"):
                        return f"{where}.{name} is missing"
                elif wrong := _misfit(value[name], inner, f"{where}.{name}"):
                    return wrong
        return ""
    if isinstance(shape, list):
        if not isinstance(value, list | tuple):
            return f"{where} must be a list, got {type(value).__name__}"
        return next(
            (wrong for n, item in enumerate(value) if (wrong := _misfit(item, shape[0], f"{where}.{n}"))), ""
        )
    if shape is None:
        fits = value is None
    elif isinstance(shape, type):
        fits = isinstance(value, shape)
    else:
        fits = shape(value)
    return "" if fits else f"{where} cannot be {type(value).__name__} here"


_OF_CALL: Final = frozenset(SHAPES) - {
    ev.SESSION_STARTED,
    ev.SESSION_RESUMED,
    ev.SESSION_ENDED,
    ev.FRONTEND,
    ev.ARTIFACT,
    ev.NOTE,
}
_OF_BOTH: Final = frozenset((ev.FRONTEND, ev.ARTIFACT, ev.NOTE))
