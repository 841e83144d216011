"""StreamWrapper: what a system shows its user, and what the user answers, shown and written down.

    stream = StreamWrapper(streamlit)          # or PrintSystem(), or nothing
    with stream.spinner("Reading"):
        stream.write("42 pages")
    name = stream.text_input("Your name?")

Every call is a Frontend event of the running session, then a call of the wrapped object, then an event of what that gave:

    {"method": "write", "args": ["42 pages"], "kwargs": {}}
    {"method": "spinner", "args": ["Reading"], "kwargs": {}, "id": 1}      what it gave bears a number
    {"method": "spinner", "phase": "enter", "id": 1}
    {"method": "update", "args": [...], "kwargs": {}, "in": 1}             a method of what it gave
    {"method": "spinner", "phase": "exit", "id": 1}                        with `error` after an exception
    {"method": "text_input", "args": ["Your name?"], "kwargs": {}}
    {"method": "text_input", "phase": "value", "value": "Ada"}             what it gave
    {"method": "error", "phase": "error", "error": "RuntimeError", "message": "..."}    or raised

Where such an answer is in the record (a replay, a session that is resumed, a fork), it is given again and nobody is asked.
"""

from __future__ import annotations

import inspect
import io
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from lllm.core import events as ev
from lllm.core.jsonable import DEEPEST, jsonable
from lllm.errors import LLMError, text_of
from lllm.models.checks import deeper
from lllm.recorded_value import pack, unpack, unpack_error
from lllm.session import Session, current
from lllm.terminals import is_gone
from lllm.utils import widgets

ELEMENTS: Final = frozenset(
    "chat_message container empty expander form placeholder popover progress spinner status".split()
)
"""Methods that give something to enter or to go on with, also where nothing is wrapped."""

GROUPS: Final = frozenset(("columns", "tabs"))
"""Methods that give several of them."""

PLACES: Final = frozenset(("sidebar", "bottom"))
"""Attributes that are something to enter or to go on with."""

WRITES: Final = frozenset(("write", "write_stream"))
"""Methods that may be given an iterator, which somebody has to follow: it may be a model's reply."""

SECRET: Final = "[redacted:password]"
"""What the log has in the place of a typed password."""

_numbers: weakref.WeakKeyDictionary[Session, Iterator[int]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


class StreamWrapper:
    """Wraps any object with Streamlit's methods (write, markdown, spinner, expander, status, progress ...).

    If the stream's terminal or pipe is closed, nothing is shown and nothing raised.

    A method that the object lacks is logged and does nothing; so is every method of `StreamWrapper()`. A missing widget
    returns its default value, as Streamlit does before any input. Without a running session nothing is logged. The event
    is logged first: an exception of the stream does not lose it, and is an event too.

    An answer is recorded if it is JSON, a tuple or a date; of anything else (an uploaded file, a table) the log has the
    type and the beginning of its repr, and a replay returns None. A password is not recorded. An argument that is not
    JSON is logged as its repr. A replay shows nothing.
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
        session = _session()
        password = kwargs.get("type") == "password"
        if password and session is not None:
            _hide(session, kwargs.get("value"))
        data: dict[str, Any] = {
            "method": name,
            "args": [_named(one) for one in args],
            "kwargs": {key: _named(one) for key, one in kwargs.items()},
        }
        if self._inside is not None:
            data["in"] = self._inside
        ids = [_number(session) if session else 0 for _ in range(_gives(name, args, kwargs))]
        if ids:
            data["id"] = ids[0] if name not in GROUPS else ids
        known, result = _do(
            data,
            lambda: self._real(self._call, args, kwargs),
            lambda: self._unseen(args),
            lost=lambda: self._real(None, args, kwargs),
        )
        if known is not None and (_is_known(known) or ("secret" in known and session and not session.shows)):
            return unpack(known["value"])
        if name in GROUPS:
            given = result if isinstance(result, Sequence) else [None] * len(ids)
            return [
                _Element(name, inner, id) for inner, id in itertools.zip_longest(given, ids[: len(given)])
            ]
        if ids:
            return _Element(name, result, ids[0])
        if known is not None and "id" in known:
            assert session is not None
            return _Element(name, result, _number(session))
        if known is None and session is not None and session.shows:
            return self._given(session, result, password)
        return _Element(name, result, None) if _is_element(result) else result

    def _real(self, call: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The result of the real call, or the given default if there is none."""
        if call is not None:
            return call(*_bare(args), **_bare(kwargs))
        return self._unseen(args) if self._name in WRITES else widgets.default(self._name, args, kwargs)

    def _unseen(self, args: Sequence[Any]) -> Any:
        """Does the work of a method without showing anything: an iterator is still consumed."""
        return widgets.follow(self._name, args) if self._name in WRITES else None

    def _given(self, session: Session, result: Any, password: bool) -> Any:
        """Writes down what the stream gave, and gives it."""
        told: dict[str, Any] = {"method": self._name, "phase": "value"}
        if self._inside is not None:
            told["in"] = self._inside
        if _is_element(result):
            told["id"] = _number(session)
            _emit(told)
            return _Element(self._name, result, told["id"])
        if result is None or callable(result) or inspect.isawaitable(result):
            return result  # nothing, or something that is yet to be used
        if password:
            _hide(session, result)
            _emit({**told, "value": SECRET, "secret": True})
            return result
        try:
            told["value"] = pack(result, dates=True)
        except TypeError:
            told |= {"value": _safe(result), "type": type(result).__name__}
        _emit(told)
        return result


class _Element:
    """The result of a method: a context manager with methods of its own."""

    def __init__(self, name: str, inner: Any, id: int | None) -> None:
        self._name = name
        self._inner = inner
        self._entered = inner  # what is gone on with: `with` may give something else than was entered
        self._id = id

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._entered, name, None)
        return value if value is not None and not callable(value) else _Method(name, value, self._id)

    def __repr__(self) -> str:
        return f"<{self._name}>" if self._id is None else f"<{self._name} {self._id}>"

    def __enter__(self) -> Self:
        enter = getattr(self._inner, "__enter__", None)
        _, entered = _do(self._told("enter"), enter or _nothing, _nothing)
        self._entered = self._inner if entered is None else entered
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        told = self._told("exit")
        if kind is not None:
            told["error"] = kind.__name__
        leave = getattr(self._inner, "__exit__", None)
        real = _nothing if leave is None else lambda: leave(kind, error, trace)
        known, swallows = _do(told, real, _nothing, error)
        if known is None and swallows:
            _emit({**self._told("value"), "value": True})
        return bool(swallows if known is None else known.get("value"))

    def _told(self, phase: str) -> dict[str, Any]:
        told: dict[str, Any] = {"method": self._name, "phase": phase}
        return told if self._id is None else {**told, "id": self._id}


def _nothing() -> None: ...


def _do(
    data: Mapping[str, Any],
    real: Callable[[], Any],
    without: Callable[[], Any],
    inside: BaseException | None = None,
    lost: Callable[[], Any] = lambda: None,
) -> tuple[Mapping[str, Any] | None, Any]:
    """Logs what is shown, shows it, and returns the logged outcome and the result of the call. `without` is called if
    nothing is shown, `lost` if the terminal or pipe is closed. An exception is logged as an event, unless it is the one
    (`inside`) that just passed through."""
    data = _emit(data)
    session = _session()
    scope = current.get()
    known = session.gave(scope.call if scope else None, data) if session is not None else None
    asked = known is None or not (_is_known(known) or known["phase"] == "error") or data["method"] in WRITES
    try:
        result = None
        if session is not None and not session.shows:
            result = without()
        elif asked:
            try:
                result = real()
            except (OSError, ValueError) as error:
                if error is inside or not is_gone(error):
                    raise
                result = lost()
    except BaseException as error:
        if error is not inside:
            with suppress(LLMError):  # what went wrong first is what is raised
                _emit(_failure(data, error))
        raise
    if known is not None:
        _emit(known)
        if known["phase"] == "error":
            raise unpack_error(known)
    return known, result


def _failure(data: Mapping[str, Any], error: BaseException) -> dict[str, Any]:
    told = {
        "method": data["method"],
        "phase": "error",
        "error": type(error).__name__,
        "message": text_of(error),
    }
    if not isinstance(error, Exception):
        told["stops"] = True
    return told


def _session() -> Session | None:
    """The running session that still takes events."""
    scope = current.get()
    return None if scope is None or scope.session.ended else scope.session


def _emit(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Logs what is shown; returns it as logged."""
    session = _session()
    if session is None:
        return data
    scope = current.get()
    logged: Mapping[str, Any] = session.emit(ev.FRONTEND, data, scope.call if scope else None).data
    return logged


def _hide(session: Session, value: Any) -> None:
    if isinstance(value, str):
        session.learn("password", (value,))


def _number(session: Session) -> int:
    """The number of the next element of a session, from 1 on. A replay gives the same numbers: those that recorded tools
    had taken are left out."""
    with _lock:
        count = _numbers.setdefault(session, itertools.count(1))
        return next(number for number in count if number not in session.shown)


def _gives(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """Returns the number of elements that a method returns."""
    if name in ELEMENTS:
        return 1
    if name not in GROUPS:
        return 0
    wanted = args[0] if args else next(iter(kwargs.values()), 0)
    return wanted if isinstance(wanted, int) else len(wanted)


def _is_element(value: Any) -> bool:
    return (hasattr(value, "__enter__") or hasattr(value, "write")) and not isinstance(
        value, io.IOBase | type
    )


def _named(given: Any) -> Any:
    """An argument as logged: JSON; an element of ours is logged as its number."""
    if deeper(given, DEEPEST):
        return _safe(given)
    if type(given) is dict and all(type(key) is str for key in given):
        return {key: _named(value) for key, value in given.items()}
    if type(given) is tuple:
        return [_named(value) for value in given]
    return {"$element": given._id} if isinstance(given, _Element) else _safe(given)


def _safe(value: Any) -> Any:
    """Anything as JSON. What cannot even be looked at is its type."""
    try:
        return jsonable(value)
    except Exception:  # anybody's code runs in there
        return {"$repr": f"<{type(value).__name__}>"}


def _bare(given: Any) -> Any:
    """Arguments without our wrappers: a stream knows only its own elements."""
    if isinstance(given, Mapping):
        return {key: value._inner if isinstance(value, _Element) else value for key, value in given.items()}
    return [value._inner if isinstance(value, _Element) else value for value in given]


def _is_known(known: Mapping[str, Any]) -> bool:
    """Returns True if the record has the whole answer."""
    return "value" in known and "type" not in known and "secret" not in known
