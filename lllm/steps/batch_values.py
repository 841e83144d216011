"""The values that a batch is given: any iterable, read once, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import Any, Final

from lllm.errors import ConfigError


class BatchValues:
    """The values of a batch with their positions, read as they are needed.

    Attributes:
        count: the number of values; None where it is not known before they are read (a generator).

    Raises ConfigError: a single text, an async iterable, a mapping or a table, a generator that another batch has read.
    """

    def __init__(self, values: Any) -> None:
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            what = "an async iterable" if isinstance(values, AsyncIterable) else type(values).__name__
            raise ConfigError(f"a batch was given {what}", hint="Give it a list of values, or any iterable.")
        if isinstance(values, Mapping) or hasattr(
            values, "itertuples"
        ):  # their iteration gives keys, and names of columns
            rows = "values.items()" if isinstance(values, Mapping) else "values.to_dict('records')"
            raise ConfigError(
                f"a batch was given {type(values).__name__}: its keys, its values or its rows may be meant",
                hint=f"Say which, as in batch({rows}).",
            )
        self.count = len(values) if hasattr(values, "__len__") else None  # type: ignore[arg-type]
        if self.count is None and iter(values) is values:
            if id(values) in _used and _used[id(values)]() is values:
                raise ConfigError(
                    "a batch was given a generator that another batch has read",
                    hint="A generator gives its values once: make a list of it, or a new one.",
                )
            _note(values)
        self._values = enumerate(values)

    def __iter__(self) -> Any:
        return self._values


def _note(values: Any) -> None:
    """Remembers an iterator that is read. Some of Python's own are held for that, the last few."""
    import weakref

    key = id(values)
    try:
        _used[key] = weakref.ref(values, lambda _: _used.pop(key, None))
    except TypeError:
        if len(_held) == _held.maxlen:
            _used.pop(id(_held[0]), None)
        _held.append(values)
        _used[key] = lambda: values


_used: Final[dict[int, Callable[[], Any]]] = {}
_held: Final[deque[Any]] = deque(maxlen=8)
