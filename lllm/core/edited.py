"""The messages of a call whose last one was edited in a fork."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def program_messages(started: Mapping[str, Any]) -> list[Any]:
    """Returns the records of the messages that the program gives to a call, from the data of its CallStarted: where a fork
    has edited the last one, `add` has the edited message and `edited` the program's own."""
    add = started.get("add") or []
    return [*add[:-1], started["edited"]] if "edited" in started else list(add)
