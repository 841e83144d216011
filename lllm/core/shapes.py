"""Checks the data of events against `lllm.core.records`.

A hash chain proves that an event is unchanged since it was sealed, not that lllm sealed it: a file from elsewhere may
hold anything. So a log is checked before use. Unknown keys are allowed there, so that a later lllm may add some.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import UnionType
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NamedTuple,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from lllm.core.canonical import DEEPEST
from lllm.core.record_parts import Count, Fits
from lllm.core.records import OF_CALL, OF_EITHER, OPEN, RECORDS
from lllm.models.checks import deeper


class Field(NamedTuple):
    """A key of a record.

    Attributes:
        required: whether every log has it.
        type: its type hint.
        meaning: what it says, in one line.
    """

    required: bool
    type: Any
    meaning: str


@cache
def fields_of(record: Any) -> Mapping[str, Field]:
    """The keys of a TypedDict of `lllm.core.records`, as it declares them."""
    fields = {}
    for name, hint in get_type_hints(record, include_extras=True).items():
        required = get_origin(hint) is not NotRequired
        inner = hint if required else get_args(hint)[0]
        meaning = next((one for one in getattr(inner, "__metadata__", ()) if isinstance(one, str)), "")
        fields[name] = Field(required, inner, meaning)
    return fields


def misshapen(event: Mapping[str, Any]) -> str:
    """Says what is wrong with an event's envelope or data; "" if nothing is. Kinds and keys of a later lllm are allowed."""
    if not isinstance(event["kind"], str):
        return "its kind must be text"
    if not _COUNT.test(event["at"]):
        return "its time must be a whole number"
    if any(not isinstance(event[key], str | None) for key in ("call", "dialog")):
        return "its call must be text or null"
    data = event["data"]
    if not isinstance(data, Mapping):
        return "its data must be an object"
    record = RECORDS.get(event["kind"])
    if record is not None and record not in OF_EITHER and (record in OF_CALL) != (event["call"] is not None):
        return "it must belong to a call" if event["call"] is None else "it must belong to no call"
    if deeper(data, DEEPEST):
        return f"its data is nested more than {DEEPEST} deep"
    return "" if record is None else misfit(data, record)


def misfit(data: Any, record: Any, *, closed: bool = False) -> str:
    """Says where data differs from a record of `lllm.core.records`; "" if it fits. `closed`: keys that a record does not
    declare are wrong, unless the record is open."""
    wrong = _checker(record, closed)(data)
    return "" if wrong is None else f"data{wrong.path} {wrong.words}"


class _Wrong(NamedTuple):
    path: str
    words: str

    def within(self, key: Any) -> _Wrong:
        return _Wrong(f".{key}{self.path}", self.words)


Check = Callable[[Any], _Wrong | None]


@cache
def _checker(hint: Any, closed: bool) -> Check:
    """The function that checks a value against a type hint."""
    if is_typeddict(hint):
        return _record_checker(hint, closed)
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        condition = next((one for one in hint.__metadata__ if isinstance(one, Fits)), None)
        return _checker(inner[0], closed) if condition is None else _plain_checker(condition.test)
    if origin in (Union, UnionType):
        return _union_checker([_checker(one, closed) for one in inner])
    if origin is list:
        return _list_checker(_checker(inner[0], closed))
    if origin is dict:
        return _object_checker(_checker(inner[1], closed))
    if origin is Literal:
        return _plain_checker(lambda value: value in inner)
    return _plain_checker(lambda value: hint is Any or isinstance(value, hint))


def _plain_checker(fits: Callable[[Any], bool]) -> Check:
    return lambda value: None if fits(value) else _Wrong("", f"cannot be {type(value).__name__} here")


def _union_checker(checks: Sequence[Check]) -> Check:
    def check(value: Any) -> _Wrong | None:
        found: list[_Wrong] = []
        for one in checks:
            if (wrong := one(value)) is None:
                return None
            found.append(wrong)
        # say what is wrong with the alternative that fits best
        return max(found, key=lambda wrong: wrong.path.count("."))

    return check


def _list_checker(check_item: Check) -> Check:
    def check(value: Any) -> _Wrong | None:
        if not isinstance(value, list | tuple):
            return _Wrong("", f"must be a list, got {type(value).__name__}")
        for number, item in enumerate(value):
            if (wrong := check_item(item)) is not None:
                return wrong.within(number)
        return None

    return check


def _object_checker(check_item: Check) -> Check:
    def check(value: Any) -> _Wrong | None:
        if not isinstance(value, Mapping):
            return _Wrong("", f"must be an object, got {type(value).__name__}")
        for key, item in value.items():
            if (wrong := check_item(item)) is not None:
                return wrong.within(key)
        return None

    return check


def _record_checker(record: Any, closed: bool) -> Check:
    checks = {name: _checker(field.type, closed) for name, field in fields_of(record).items()}
    spared = () if closed else _SPARED.get(record.__name__, ())
    required = tuple(
        name for name, field in fields_of(record).items() if field.required and name not in spared
    )
    closed = closed and record not in OPEN

    def check(value: Any) -> _Wrong | None:
        if not isinstance(value, Mapping):
            return _Wrong("", f"must be an object, got {type(value).__name__}")
        for key, item in value.items():
            if (one := checks.get(key)) is None:
                if closed:
                    return _Wrong(f".{key}", f"is not a key of {record.__name__}")
            elif (wrong := one(item)) is not None:
                return wrong.within(key)
        for name in required:
            if name not in value:
                return _Wrong(f".{name}", "is missing")
        return None

    return check


_SPARED: Final[Mapping[str, Sequence[str]]] = {"SessionStarted": ("lllm", "seed")}
"""Required keys that a log from elsewhere may lack: nothing needs them to read it."""
_COUNT: Final[Fits] = get_args(Count)[1]
