"""YAML as JSON's values, for documents of other people: the core schema of YAML 1.2, and nothing that runs code.

`no`, `on`, `12:30` and `2024-01-01` are texts, as their authors mean them; keys are texts as they are written. Tags other than
those of JSON's types are refused, and so are keys that stand twice, aliases within their own anchor, and documents whose
aliases grow to too many values.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

_CORE: Final = (
    # YAML 1.2.2, section 10.3.2
    (re.compile(r"~|null|Null|NULL|"), lambda text: None),
    (re.compile(r"true|True|TRUE"), lambda text: True),
    (re.compile(r"false|False|FALSE"), lambda text: False),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"0o[0-7]+"), lambda text: int(text[2:], 8)),
    (re.compile(r"0x[0-9a-fA-F]+"), lambda text: int(text[2:], 16)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
)
_SPECIAL: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_YAML: Final = "tag:yaml.org,2002:"
_TEXTS: Final = frozenset(_YAML + name for name in ("str", "timestamp", "binary"))
_SCALARS: Final = frozenset(_YAML + name for name in ("int", "float", "bool", "null"))
_MERGE: Final = "<<"


class TooLarge(ValueError):
    """More values, or deeper ones, than a document may have."""


class _Open:
    """A mapping or sequence whose end is still to come."""

    __slots__ = ("anchor", "key", "line", "merged", "merging", "seen", "size", "value")

    def __init__(self, value: dict[str, Any] | list[Any], anchor: str | None, line: int) -> None:
        self.value, self.anchor, self.line = value, anchor, line
        self.key: str | None = None
        self.merging = False
        self.seen: set[str] = set()
        self.merged: list[Any] = []
        self.size = 1


def read_yaml(text: str, max_depth: int, max_values: int) -> Any:
    """The first document of a text.

    Raises:
        ValueError: it is not YAML, or has what is refused here; says the line. TooLarge: see there.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _build(yaml.parse(text, Loader=loader), max_depth, max_values)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else "at some line: "
        raise ValueError(f"{place}{getattr(error, 'problem', None) or error}") from None


def _build(events: Any, max_depth: int, max_values: int) -> Any:
    import yaml

    stack: list[_Open] = []
    anchors: dict[str, tuple[Any, int]] = {}
    pending: set[str] = set()
    result: list[Any] = []

    def add(value: Any, size: int, line: int) -> None:
        """Puts a finished value into what holds it."""
        if not stack:
            result.append(value)
            return
        top = stack[-1]
        top.size += size
        if top.size > max_values:
            raise TooLarge(f"it is too large: aliases repeat more than {max_values:,} values")
        if isinstance(top.value, list):
            top.value.append(value)
        elif top.key is None:
            raise ValueError(f"line {line}: a key must be text")
        else:
            if top.key == _MERGE and top.merging:
                top.merged.append((value, line))
            else:
                top.value[top.key] = value
            top.key = None

    for total, event in enumerate(events):
        line = event.start_mark.line + 1
        if total > max_values:
            raise TooLarge(f"it is too large: more than {max_values:,} values")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in pending:
                raise ValueError(f"line {line}: the alias *{event.anchor} refers to itself")
            if event.anchor not in anchors:
                raise ValueError(f"line {line}: no anchor &{event.anchor}")
            if _wants_key(stack):
                raise ValueError(f"line {line}: a key must be text, not an alias")
            value, size = anchors[event.anchor]
            add(value, size, line)
        elif isinstance(event, yaml.ScalarEvent):
            if _wants_key(stack):
                _begin_entry(stack[-1], event, line)
            else:
                value = _scalar(event, line)
                if event.anchor:
                    anchors[event.anchor] = (value, 1)
                add(value, 1, line)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            if _wants_key(stack):
                raise ValueError(f"line {line}: a key must be text")
            if event.tag not in (None, "!", _YAML + "map", _YAML + "seq"):
                raise ValueError(f"line {line}: unknown tag {event.tag!r}")
            if len(stack) >= max_depth:
                raise TooLarge(f"it is nested too deep: more than {max_depth} levels")
            stack.append(_Open({} if isinstance(event, yaml.MappingStartEvent) else [], event.anchor, line))
            if event.anchor:
                pending.add(event.anchor)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            done = stack.pop()
            if done.merged:
                _merge(done)
            if done.anchor:
                pending.discard(done.anchor)
                anchors[done.anchor] = (done.value, done.size)
            add(done.value, done.size, done.line)
        elif isinstance(event, yaml.DocumentStartEvent) and result:
            raise ValueError(f"line {line}: a second document begins")
    return result[0] if result else None


def _wants_key(stack: list[_Open]) -> bool:
    return bool(stack) and isinstance(stack[-1].value, dict) and stack[-1].key is None


def _begin_entry(top: _Open, event: Any, line: int) -> None:
    key = event.value
    plain_merge = key == _MERGE and event.implicit[0]
    if key in top.seen and not plain_merge:
        raise ValueError(f"line {line}: the key {key[:80]!r} stands twice in one mapping")
    if event.tag is not None and event.tag not in _TEXTS | _SCALARS | {"!"}:
        raise ValueError(f"line {line}: unknown tag {event.tag!r}")
    top.seen.add(key)
    top.key, top.merging = key, plain_merge


def _merge(done: _Open) -> None:
    """The merge key: what a mapping has itself wins, then what stands first."""
    assert isinstance(done.value, dict)
    for given, line in done.merged:
        for one in given if isinstance(given, list) else [given]:
            if not isinstance(one, dict):
                raise ValueError(f"line {line}: '<<' must be a mapping, or a list of mappings")
            for key, value in one.items():
                done.value.setdefault(key, value)


def _scalar(event: Any, line: int) -> Any:
    text: str = event.value
    if event.tag is not None and event.tag not in _TEXTS | _SCALARS | {"!"}:
        raise ValueError(f"line {line}: unknown tag {event.tag!r}")
    if event.tag in _TEXTS or event.tag == "!" or (event.tag is None and not event.implicit[0]):
        return text
    for form, make in _CORE:
        if form.fullmatch(text):
            value: Any = make(text)
            if isinstance(value, float) and math.isinf(value):
                raise ValueError(f"line {line}: the number {text[:40]} is too large")
            return value
    if _SPECIAL.fullmatch(text):
        raise ValueError(f"line {line}: {text} (NaN or infinite) is not a value of JSON")
    return text
