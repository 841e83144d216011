"""Finds sessions by what is typed at a terminal: a short id, the beginning of an id, or the newest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from lllm.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from lllm.ports import LogStore, SessionInfo

_MADE: Final = re.compile(r"\d{8}-\d{6}-(?:.+-)?([0-9a-f]{8})")
"""An id as lllm generates it: time, name, and eight random digits, the short id."""
SHORT: Final = 12
"""Longer input is taken for a full id."""
MOST: Final = 8
"""Candidates listed in an error."""


def tail(id: str) -> str:
    """The short id; for an id that the program chose, the whole id."""
    found = _MADE.fullmatch(id)
    return id if found is None else found[1]


def short_ids(ids: Iterable[str]) -> dict[str, str]:
    """Maps ids to the form shown in lists: short ids, unless two are the same."""
    out = {id: tail(id) for id in ids}
    taken = list(out.values())
    return {id: short if taken.count(short) == 1 else id for id, short in out.items()}


def session_of(store: LogStore, given: str | None, last: int | None = None) -> str:
    """The id of the one session that is meant; by default the newest.

    Args:
        given: an id, a short id, or the beginning or end of one, if it is unique.
        last: the value of `--last`, which must be 1 here.

    Raises:
        UnknownNameError: no such session; the message suggests the nearest.
        ConfigError: several match; the message lists them. Or both an id and --last were given.
    """
    if last is not None and given is not None:
        raise ConfigError("an id and --last exclude each other; give one")
    if last not in (None, 1):
        raise ConfigError(
            f"--last {last} names {last} sessions, but this command takes one", hint="Type --last alone."
        )
    if given is None:
        newest = store.sessions(1)
        if not newest:
            raise ConfigError("there are no sessions yet", hint='Type: lllm run "..."')
        return newest[0].id
    if not given:
        raise ConfigError("the session's id is empty", hint="An unset variable? All ids: lllm sessions")
    found = candidates(store, given)
    if len(found) == 1:
        return found[0].id
    if found:
        verb = "begin with" if all(info.id.startswith(given) for info in found) else "match"
        raise ConfigError(f"{len(found)} sessions {verb} '{given}'", hint=_listed(found))
    known = [info.id for info in store.sessions(200)]
    names = known if len(given) > SHORT else [tail(id) for id in known]
    raise UnknownNameError("session", given, names, hint="All: lllm sessions")


def candidates(store: LogStore, given: str) -> list[SessionInfo]:
    """The sessions that a full or partial id may mean, newest first; one if it is unambiguous."""
    begin = store.sessions(prefix=given)
    if exact := [info for info in begin if info.id == given]:
        return exact
    every = store.sessions()
    if exact := [info for info in every if tail(info.id) == given]:
        return exact
    return [
        info
        for info in every
        if info.id.startswith(given) or tail(info.id).startswith(given) or info.id.endswith(given)
    ]


def _listed(found: Sequence[SessionInfo]) -> str:
    """Candidates, one per line."""
    names = short_ids(info.id for info in found)
    rows = [f"{names[info.id]}  {when(info.started)}  {summary(info, 40)}".rstrip() for info in found[:MOST]]
    if len(found) > MOST:
        rows.append(f"and {len(found) - MOST} more: lllm sessions")
    return "\n  ".join(["Which one?", *rows])


def when(at: int) -> str:
    """A time to the minute, if there is one."""
    return datetime.fromtimestamp(at / 1_000_000).astimezone().strftime("%Y-%m-%d %H:%M")


def summary(info: SessionInfo, limit: int | None = None) -> str:
    """One line about a session: its task, else its name."""
    words = " ".join(str(info.meta.get("task") or info.meta.get("name") or "").split())
    return words if limit is None or len(words) <= limit else words[: limit - 1] + "…"
