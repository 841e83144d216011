"""States of rollouts: as JSON, and closing them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from lllm.core.canonical import encode
from lllm.core.jsonable import jsonable, unicode_only
from lllm.errors import text_of
from lllm.rl.own_code import call
from lllm.session import Session

BYTES: Final = 65_536
"""Bytes of JSON from which on the state is not kept in the log."""
_JSON: Final = (str, int, float, bool, list, tuple, Mapping)


def state_record(state: Any) -> Any:
    """Returns the record of a state for a rollout's log: its JSON, where that has at most BYTES bytes."""
    found = plain(state)
    return found if len(encode(found)) <= BYTES else {"$repr": repr(found)[:200]}


def plain(state: Any) -> Any:
    """Returns a state as JSON; of an object, its attributes. A state of the user's code that cannot be read is described as
    such."""
    try:
        return unicode_only(jsonable(state_attributes(state)))
    except Exception as error:
        why = f"{type(error).__name__}: {text_of(error)}"
        return {"$repr": f"a {type(state).__name__} that cannot be read: {why}"[:200]}


def state_attributes(state: Any) -> Any:
    """Returns a JSON value unchanged, and the attributes of an object, also of one with slots; None where it has none."""
    if isinstance(state, _JSON):
        return state
    slots = [name for kind in type(state).__mro__ for name in _slots(vars(kind).get("__slots__", ()))]
    found = {name: getattr(state, name) for name in slots if hasattr(state, name)}
    own = getattr(state, "__dict__", None)
    return {**found, **own} if isinstance(own, Mapping) else found or None


def _slots(value: Any) -> list[str]:
    names = [value] if isinstance(value, str) else list(value)
    return [name for name in names if name not in ("__dict__", "__weakref__")]


async def close(state: Any, limit: float | None) -> str | None:
    """Calls the `aclose` or `close` of a state, if it has one. Returns the problem."""
    try:
        closing = getattr(state, "aclose", None) or getattr(state, "close", None)
        if callable(closing):
            with Session.outside():
                async with asyncio.timeout(limit):
                    await call(closing)
    except TimeoutError as error:
        words = text_of(error)
        return f"it did not close within {limit:g} s" if limit is not None and not str(error) else words
    except Exception as error:
        return f"{type(error).__name__}: {text_of(error)}"
    return None
