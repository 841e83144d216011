"""Answers as of a date: entries that are later are removed, and parameters cannot ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any, Final, NamedTuple

from lllm.errors import ToolError
from lllm.proxies.endpoint import Cutoff, Endpoint

_GONE: Final = object()


class Kept(NamedTuple):
    """An answer without later entries, and how many were removed."""

    value: Any
    removed: int


def bounded(endpoint: Endpoint, arguments: Mapping[str, Any], cutoff: datetime) -> dict[str, Any]:
    """Arguments that ask for nothing later than `cutoff`: the end of a period that was left out becomes it.

    Raises:
        ToolError: a date after the cutoff.
    """
    found = dict(arguments)
    for one in endpoint.parameters:
        if not one.dated:
            continue
        if (value := found.get(one.name)) is None:
            if one.until:
                found[one.name] = (
                    cutoff.isoformat()
                    if one.schema.get("format") == "date-time"
                    else cutoff.date().isoformat()
                )
            continue
        moment = read_date(value)
        if moment is not None and _begins(value, moment) > cutoff:
            raise ToolError(
                f"'{endpoint.address}': {one.name} is {value}, after the cutoff date {cutoff.date().isoformat()}"
            )
    return found


def _begins(value: Any, moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0) if len(str(value)) == 10 else moment


def without_later(value: Any, rules: tuple[Cutoff, ...], cutoff: datetime) -> Kept:
    """Removes every entry that has a date after `cutoff`, or one that cannot be read. An entry is the nearest list item or
    mapping value that holds the date; an answer that is itself later becomes None."""
    removed = 0
    for rule in rules:
        found, gone = _walk(value, rule.path, rule.format, cutoff)
        value, removed = (None if found is _GONE else found), removed + gone
    return Kept(value, removed)


def _walk(value: Any, path: tuple[str, ...], form: str, cutoff: datetime) -> tuple[Any, int]:
    """The value without later entries; `_GONE` where it is one itself."""
    if isinstance(value, list):
        kept, removed = [], 0
        for item in value:
            found, gone = _walk(item, path, form, cutoff)
            removed += gone
            if found is not _GONE:
                kept.append(found)
        return kept, removed
    if not path:
        moment = read_date(value, form)
        return (_GONE, 1) if moment is None or moment > cutoff else (value, 0)
    if not isinstance(value, Mapping):
        return value, 0
    key, *rest = path
    if key == "*":  # each value of a mapping: {"2024-01-01": {...}} has its dates as keys
        return _entries(value, tuple(rest), form, cutoff)
    if key not in value:
        return value, 0
    found, removed = _walk(value[key], tuple(rest), form, cutoff)
    if found is _GONE:
        return _GONE, removed
    return {**value, key: found}, removed


def _entries(value: Mapping[str, Any], rest: tuple[str, ...], form: str, cutoff: datetime) -> tuple[Any, int]:
    kept, removed = {}, 0
    for name, item in value.items():
        found, gone = _walk(item, rest, form, cutoff) if rest else _walk(name, (), form, cutoff)
        removed += gone
        if found is not _GONE:
            kept[name] = item if not rest else found
    return kept, removed


def read_date(value: Any, form: str = "") -> datetime | None:
    """A moment in UTC from ISO 8601 text, seconds since 1970, or text of a format; None where it is none. A day counts from
    its beginning."""
    try:
        if form:
            found: Any = datetime.strptime(str(value), form)
        elif isinstance(value, bool):
            return None
        elif isinstance(value, int | float):
            found = datetime.fromtimestamp(value / 1000 if abs(value) > 1e11 else value, UTC)
        elif isinstance(value, str):
            found = datetime.fromisoformat(value.strip())
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    if isinstance(found, date) and not isinstance(found, datetime):
        found = datetime.combine(found, time.min)
    moment: datetime = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return moment


def without_keys(value: Any, paths: tuple[str, ...]) -> Any:
    """An answer without some keys, wherever lists lie between: `a.b` is the key b of a."""
    for path in paths:
        value = _without(value, path.split("."))
    return value


def _without(value: Any, path: list[str]) -> Any:
    if isinstance(value, list):
        return [_without(item, path) for item in value]
    if not isinstance(value, Mapping) or path[0] not in value:
        return value
    if len(path) == 1:
        return {key: item for key, item in value.items() if key != path[0]}
    return {**value, path[0]: _without(value[path[0]], path[1:])}
