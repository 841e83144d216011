"""The prompts of a proposer: asked for once, and logged where a search has a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import ConfigError, UnknownNameError
from lllm.llm.project import default_store
from lllm.llm.sessions import fail, open_session
from lllm.rl.selection.result import Tried
from lllm.sync import maybe_async


async def propose(
    proposer: Any, tried: Sequence[Tried], *, id: str | None, name: str, store: Any
) -> list[str]:
    """Returns the texts of the proposer; in a resumed search, those that it gave before.

    Args:
        id: of the session that logs them; None: they are not logged. name: of that session.
    """
    if id is None:
        return _texts(await maybe_async(proposer, tried))
    store = default_store() if store is None else store
    if (known := _ended(store, id)) is not None:
        return known
    live = open_session(name, store=store, id=_free(store, id))
    await live.start({"name": name})
    try:
        found = _texts(await maybe_async(proposer, tried))
    except BaseException as error:
        await fail(live, error)
        raise
    await live.end("done", result={"prompts": found})
    return found


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        value = [value]
    try:
        found = list(value)
    except TypeError:
        found = [value]
    if wrong := [one for one in found if not isinstance(one, str) or not one.strip()]:
        raise ConfigError(f"the proposer gave {wrong[0]!r:.60}, and must give texts")
    return found


def _events(store: Any, id: str) -> list[Mapping[str, Any]]:
    try:
        return [open_event(body) for body in store.read(id)]
    except UnknownNameError:
        return []


def _ended(store: Any, id: str) -> list[str] | None:
    """Returns the prompts that a finished session proposed."""
    number, name = 1, id
    while events := _events(store, name):
        last = events[-1]
        if last["kind"] == ev.SESSION_ENDED and last["data"].get("status") == "done":
            return list(last["data"]["result"]["prompts"])
        number += 1
        name = f"{id}~{number}"
    return None


def _free(store: Any, id: str) -> str:
    number, name = 1, id
    while _events(store, name):
        number += 1
        name = f"{id}~{number}"
    return name
