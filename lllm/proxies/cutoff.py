"""Answers as of a date: entries at or after it are removed, and parameters cannot ask for them.

An entry is what holds the date: an item of a list, a value of a mapping. It stays only where its date can be read and lies
before the cutoff. A date that names a whole day, month or year stands for all of it: it must have ended by then. Entries
without a date, and answers in which no date is found at all, are removed too: nobody can say what they know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, NamedTuple

from lllm.errors import ToolError
from lllm.proxies.endpoint import Cutoff, Endpoint
from lllm.proxies.parameters import Parameter

_GONE: Final = object()
_YEAR: Final = re.compile(r"\d{4}")
_MONTH: Final = re.compile(r"(\d{4})-?(\d\d)")
_QUARTER: Final = re.compile(r"(\d{4})[- ]?Q([1-4])", re.IGNORECASE)
_DAY: Final = re.compile(r"\d{4}-?\d\d-?\d\d|\d{4}-?W\d\d-?\d")
_WEEK: Final = re.compile(r"(\d{4})-?W(\d\d)")
_TIME: Final = re.compile(r"%[HIMSTXcsfp]")
_OF_DAY: Final = re.compile(r"%[djDxFuwaA]")
_OF_MONTH: Final = re.compile(r"%[mbBh]")
_SCALES: Final = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
"""Numbers from which on they are nanoseconds, microseconds or milliseconds since 1970, rather than seconds."""


class Kept(NamedTuple):
    """An answer without later entries, and how many were removed."""

    value: Any
    removed: int


class Period(NamedTuple):
    """From when to when a date is, in UTC. Of a moment both are the same."""

    begin: datetime
    end: datetime

    def is_before(self, cutoff: datetime) -> bool:
        """True if all of it lies before the cutoff."""
        return self.begin < cutoff and self.end <= cutoff


# --- parameters


def bounded(endpoint: Endpoint, arguments: Mapping[str, Any], cutoff: datetime) -> dict[str, Any]:
    """Arguments that ask for nothing at or after `cutoff`: the end of a period that was left out becomes the last day, or
    moment, before it.

    Raises:
        ToolError: a later date, or one that cannot be read.
    """
    found = dict(arguments)
    last = cutoff - timedelta(microseconds=1)
    for one in endpoint.parameters:
        if not one.dated:
            continue
        if (value := found.get(one.name)) is None:
            if one.until:
                found[one.name] = last.date().isoformat() if _wants_day(one) else last.isoformat()
            continue
        for each in value if isinstance(value, list | tuple) else [value]:
            period = read_date(each)
            where = f"'{endpoint.address}': {one.name} is {str(each)[:80]!r}"
            if period is None:
                raise ToolError(f"{where}, which is not a date like 2024-12-31")
            if period.begin >= cutoff:
                raise ToolError(
                    f"{where}: there is nothing from {_shown(cutoff)} on, ask for an earlier date"
                )
    return found


def _wants_day(one: Parameter) -> bool:
    each = (one.schema, *one.schema.get("anyOf", ()))
    return not any(item.get("format") == "date-time" for item in each if isinstance(item, Mapping))


def _shown(cutoff: datetime) -> str:
    return cutoff.date().isoformat() if cutoff.time() == time.min else cutoff.isoformat()


# --- answers


def reaches(value: Any, rules: Iterable[Cutoff]) -> bool:
    """True if an answer has what a rule names."""
    return any(_has(value, rule.path) for rule in rules)


def _has(value: Any, path: Sequence[str]) -> bool:
    if isinstance(value, list):
        return not value or any(_has(item, path) for item in value)
    if not isinstance(value, Mapping):
        return False
    if path[0] == "*":
        return len(path) == 1 or not value or any(_has(item, path[1:]) for item in value.values())
    return path[0] in value and (len(path) == 1 or _has(value[path[0]], path[1:]))


def without_later(value: Any, rules: tuple[Cutoff, ...], cutoff: datetime) -> Kept:
    """Removes every entry that is not before `cutoff`. An answer that is itself later, or has no dates, becomes None."""
    if value is None:
        return Kept(None, 0)
    groups: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for rule in rules:
        if _has(value, rule.path):
            groups.setdefault(rule.path[:-1], []).append((rule.path[-1], rule.format))
    if not groups:
        return Kept(None, 1)
    removed = 0
    for prefix, leaves in groups.items():
        value, gone = _walk(value, prefix, leaves, cutoff)
        removed += gone
        if value is _GONE:
            return Kept(None, removed)
    return Kept(value, removed)


_Leaves = Sequence[tuple[str, str]]


def _walk(value: Any, prefix: tuple[str, ...], leaves: _Leaves, cutoff: datetime) -> tuple[Any, int]:
    """The value without later entries; `_GONE` where it is one itself."""
    if isinstance(value, list):
        kept, removed = [], 0
        for item in value:
            found, gone = _walk(item, prefix, leaves, cutoff)
            removed += gone
            if found is not _GONE:
                kept.append(found)
        return kept, removed
    if not isinstance(value, Mapping):
        return _GONE, 1
    if not prefix:
        return _entry(value, leaves, cutoff)
    key, rest = prefix[0], prefix[1:]
    if key == "*":
        entries, removed = {}, 0
        for name, item in value.items():
            found, gone = _walk(item, rest, leaves, cutoff)
            removed += gone
            if found is not _GONE:
                entries[name] = found
        return entries, removed
    if key not in value:
        return _GONE, 1
    found, removed = _walk(value[key], rest, leaves, cutoff)
    return (_GONE, removed) if found is _GONE else ({**value, key: found}, removed)


def _entry(value: Mapping[str, Any], leaves: _Leaves, cutoff: datetime) -> tuple[Any, int]:
    """An object that holds dates: under some of its keys, or as its keys (`*`)."""
    found, dated, removed = dict(value), False, 0
    for leaf, form in leaves:
        if leaf == "*":
            dated = True
            kept = {name: item for name, item in found.items() if _is_before(name, form, cutoff)}
            removed, found = removed + len(found) - len(kept), kept
        elif leaf in found:
            dated = True
            if isinstance(found[leaf], list):
                found, gone = _columns(found, leaf, form, cutoff)
                removed += gone
            elif not _is_before(found[leaf], form, cutoff):
                return _GONE, removed + 1
    return (found, removed) if dated else (_GONE, removed + 1)


def _columns(value: dict[str, Any], leaf: str, form: str, cutoff: datetime) -> tuple[dict[str, Any], int]:
    """A list of dates. Lists of the same length beside it are columns of one table: they lose the same rows."""
    dates = value[leaf]
    rows = [n for n, item in enumerate(dates) if _is_before(item, form, cutoff)]
    if len(rows) == len(dates):
        return value, 0
    return {
        key: [item[n] for n in rows] if isinstance(item, list) and len(item) == len(dates) else item
        for key, item in value.items()
    }, len(dates) - len(rows)


def _is_before(value: Any, form: str, cutoff: datetime) -> bool:
    period = read_date(value, form)
    return period is not None and period.is_before(cutoff)


# --- dates


def read_date(value: Any, form: str = "") -> Period | None:
    """When a date is; None where it cannot be read. Without a zone it is UTC.

    Arguments:
        value: ISO 8601 text (also of a year, month, quarter or week), text as in mails, seconds, milliseconds, micro- or
            nanoseconds since 1970, or a number like 20241231, 202412 or 2024.
        form: its format, as of `strptime`, where it is none of these.
    """
    try:
        if form:
            return _formatted(str(value), form)
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return None
        if isinstance(value, str):
            return _from_text(" ".join(value.split()))
        return _from_number(value)
    except (ValueError, OverflowError, OSError, TypeError):
        return None


def _formatted(text: str, form: str) -> Period:
    found = _utc(datetime.strptime(text, form))
    if _TIME.search(form):
        return Period(found, found)
    if _OF_DAY.search(form):
        return Period(found, found + timedelta(days=1))
    return _month(found.year, found.month) if _OF_MONTH.search(form) else _year(found.year)


def _from_number(value: float) -> Period:
    if value == int(value):
        text = str(int(value))
        if len(text) in (4, 6, 8) and "1800" <= text[:4] <= "2999":
            try:
                return _from_text(text)
            except ValueError:
                pass
    scale = next((scale for least, scale in _SCALES if abs(value) >= least), 1.0)
    found = datetime.fromtimestamp(value / scale, UTC)
    return Period(found, found)


def _from_text(text: str) -> Period:
    if _YEAR.fullmatch(text):
        return _year(int(text))
    if (found := _MONTH.fullmatch(text)) is not None:
        return _month(int(found[1]), int(found[2]))
    if (found := _QUARTER.fullmatch(text)) is not None:
        first = _month(int(found[1]), int(found[2]) * 3 - 2)
        return Period(first.begin, _month(int(found[1]), int(found[2]) * 3).end)
    if (found := _WEEK.fullmatch(text)) is not None:
        begin = _utc(datetime.combine(date.fromisocalendar(int(found[1]), int(found[2]), 1), time.min))
        return Period(begin, begin + timedelta(days=7))
    text = text.replace("/", "-")
    if _DAY.fullmatch(text):
        begin = _utc(datetime.fromisoformat(text))
        return Period(begin, begin + timedelta(days=1))
    if text.lstrip("-").replace(".", "", 1).isdigit():
        return _from_number(float(text))
    for end in (" UTC", " GMT", " Z"):
        if text.upper().endswith(end) and text[:4].isdigit():
            text = text[: -len(end)] + "+00:00"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        from email.utils import parsedate_to_datetime

        moment = parsedate_to_datetime(text)
    moment = _utc(moment)
    return Period(moment, moment)


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _year(year: int) -> Period:
    return Period(datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC))


def _month(year: int, month: int) -> Period:
    after = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return Period(datetime(year, month, 1, tzinfo=UTC), after)


# --- keys


def without_keys(value: Any, paths: tuple[str, ...]) -> Any:
    """An answer without some keys, wherever lists lie between: `a.b` is the key b of a, and `*` any key."""
    for path in paths:
        value = _without(value, path.split("."))
    return value


def _without(value: Any, path: list[str]) -> Any:
    if isinstance(value, list):
        return [_without(item, path) for item in value]
    if not isinstance(value, Mapping):
        return value
    if path[0] == "*":
        return {} if len(path) == 1 else {key: _without(item, path[1:]) for key, item in value.items()}
    if path[0] not in value:
        return value
    if len(path) == 1:
        return {key: item for key, item in value.items() if key != path[0]}
    return {**value, path[0]: _without(value[path[0]], path[1:])}
