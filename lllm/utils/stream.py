"""StreamWrapper: what a system shows its user, shown and written down.

    stream = StreamWrapper(streamlit)          # or PrintSystem(), or nothing
    with stream.spinner("Reading"):
        stream.write("42 pages")

Every call is a Frontend event of the running session, then a call of the wrapped object:

    {"method": "write", "args": ["42 pages"], "kwargs": {}}
    {"method": "spinner", "args": ["Reading"], "kwargs": {}, "id": 1}      what it gave bears a number
    {"method": "spinner", "phase": "enter", "id": 1}
    {"method": "update", "args": [...], "kwargs": {}, "in": 1}             a method of what it gave
    {"method": "spinner", "phase": "exit", "id": 1}                        with `error` after an exception
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from lllm.core import events as ev
from lllm.core.jsonable import jsonable
from lllm.session import Session, current

ELEMENTS: Final = frozenset(
    "chat_message container dialog empty expander form placeholder popover progress spinner status".split()
)
"""Methods that give something to enter or to go on with, also where nothing is wrapped."""

GROUPS: Final = frozenset(("columns", "tabs"))
"""Methods that give several of them."""

PLACES: Final = frozenset(("sidebar",))
"""Attributes that are something to enter or to go on with."""

_numbers: weakref.WeakKeyDictionary[Session, Iterator[int]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


class StreamWrapper:
    """Wraps any object with Streamlit's methods (write, markdown, spinner, expander, status, progress ...).

    A method that the object lacks is written down and does nothing; so is every method of `StreamWrapper()`. Without a
    running session nothing is written down. The event comes first: a stream that raises does not lose it.

    What a user types into a widget is given back and not written down: a replay does not have it.
    """

    def __init__(self, stream: Any = None) -> None:
        # a wrapper of a wrapper would write everything down twice
        self._stream: Any = stream._stream if isinstance(stream, StreamWrapper) else stream

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._stream, name, None)
        if name in PLACES:
            return _Element(name, value, None)
        return value if value is not None and not callable(value) else _Method(name, value, None)

    def __repr__(self) -> str:
        return f"StreamWrapper({self._stream!r})"


class _Method:
    """One method of a stream or of something that it gave."""

    __slots__ = ("_call", "_inside", "_name")

    def __init__(self, name: str, call: Any, inside: int | None) -> None:
        self._name = name
        self._call = call
        self._inside = inside

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self._name
        data: dict[str, Any] = {"method": name, "args": _named(args), "kwargs": _named(kwargs)}
        if self._inside is not None:
            data["in"] = self._inside
        session = _session()
        ids = [next(_count(session)) if session else 0 for _ in range(_gives(name, args, kwargs))]
        if ids:
            data["id"] = ids[0] if name not in GROUPS else ids
        _emit(data)
        result = None if self._call is None else self._call(*_bare(args), **_bare(kwargs))
        if name in GROUPS:
            given = result if isinstance(result, Sequence) else [None] * len(ids)
            return [
                _Element(name, inner, id) for inner, id in itertools.zip_longest(given, ids[: len(given)])
            ]
        if ids:
            return _Element(name, result, ids[0])
        if hasattr(result, "__enter__") or hasattr(result, "write"):
            return _Element(name, result, None)
        return result


class _Element:
    """What a method gave: it can be entered, and has methods of its own."""

    def __init__(self, name: str, inner: Any, id: int | None) -> None:
        self._name = name
        self._inner = inner
        self._id = id

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._inner, name, None)
        return value if value is not None and not callable(value) else _Method(name, value, self._id)

    def __enter__(self) -> Self:
        _emit(self._told("enter"))
        if hasattr(self._inner, "__enter__"):
            self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        told = self._told("exit")
        if kind is not None:
            told["error"] = kind.__name__
        _emit(told)
        if hasattr(self._inner, "__exit__"):
            swallow: bool | None = self._inner.__exit__(kind, error, trace)
            return swallow
        return None

    def _told(self, phase: str) -> dict[str, Any]:
        told: dict[str, Any] = {"method": self._name, "phase": phase}
        return told if self._id is None else {**told, "id": self._id}


def _session() -> Session | None:
    """The running session that still takes events."""
    scope = current.get()
    return None if scope is None or scope.session.ended else scope.session


def _emit(data: Mapping[str, Any]) -> None:
    session = _session()
    if session is not None:
        scope = current.get()
        session.emit(ev.FRONTEND, session.redactor.clean(jsonable(data)), scope.call if scope else None)


def _count(session: Session) -> Iterator[int]:
    """Numbers the elements of a session from 1, so that a replay gives the same numbers."""
    with _lock:
        return _numbers.setdefault(session, itertools.count(1))


def _gives(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """How many elements a method gives."""
    if name in ELEMENTS:
        return 1
    if name not in GROUPS:
        return 0
    wanted = args[0] if args else next(iter(kwargs.values()), 0)
    return wanted if isinstance(wanted, int) else len(wanted)


def _named(given: Any) -> Any:
    """Arguments as the log has them: an element of ours is its number."""
    if isinstance(given, Mapping):
        return {key: _named(value) for key, value in given.items()}
    if isinstance(given, list | tuple):
        return [_named(value) for value in given]
    return {"$element": given._id} if isinstance(given, _Element) else given


def _bare(given: Any) -> Any:
    """Arguments without our wrappers: a stream knows only its own elements."""
    if isinstance(given, Mapping):
        return {key: value._inner if isinstance(value, _Element) else value for key, value in given.items()}
    return [value._inner if isinstance(value, _Element) else value for value in given]
