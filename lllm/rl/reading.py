"""Rollouts as their logs have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.core.use import Use
from lllm.errors import ConfigError, UnknownNameError, listing
from lllm.models.message import Message
from lllm.ports import LogStore
from lllm.rl.items import Item
from lllm.rl.rewards import Score
from lllm.rl.rollout import Rollout


class KeptState(dict[str, Any]):
    """A state as a log has it: what were its attributes, or its keys, by either."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the log has no '{name}' of the state; it has {listing(self)}") from None


def read_result(store: LogStore, session: str) -> Mapping[str, Any] | None:
    """What the end of a rollout's session says; None where it did not end, or there is none of this id."""
    last: Mapping[str, Any] | None = None
    try:
        for body in store.read(session):
            last = open_event(body)
    except UnknownNameError:
        return None
    if last is None or last["kind"] != ev.SESSION_ENDED or last["data"].get("status") != "done":
        return None
    result = last["data"].get("result")
    return result if isinstance(result, Mapping) and "item" in result else None


def read_rollout(store: LogStore, session: str, items: Iterable[Item]) -> Rollout:
    """A rollout from its log, with the row that it was of.

    Raises UnknownNameError: no such session. ConfigError: it is not a rollout that has ended, or its row is not among `items`.
    """
    result = read_result(store, session)
    if result is None:
        raise ConfigError(
            f"session '{session}' is not a rollout that has ended",
            hint="Give the sessions of rollouts: evaluation[0].session.",
        )
    item = next((one for one in items if one.key == result["item"]), None)
    if item is None:
        raise ConfigError(
            f"session '{session}' is a rollout of a row that the environment does not have",
            hint="Rewards need the row's answer and columns: use the environment with the dataset that it was done with.",
        )
    return rollout_of(result, item)


def rollout_of(result: Mapping[str, Any], item: Item) -> Rollout:
    """A Rollout from what its session's end says (`Rollout.record`)."""
    errors: Mapping[str, str] = result.get("errors", {})
    components: Mapping[str, float | None] = result.get("components", {})
    return Rollout(
        item,
        result.get("sample", 0),
        result.get("status", "done"),
        result.get("reason"),
        result.get("detail"),
        result.get("completion", ""),
        tuple(Message.from_record(one) for one in result.get("messages", ())),
        None,
        result.get("turns", 0),
        {name: Score(value, errors.get(name)) for name, value in components.items()},
        result.get("reward"),
        result.get("session"),
        result.get("seed", 0),
        result.get("policy"),
        KeptState(kept) if isinstance(kept := result.get("state"), Mapping) else kept,
        kept,
        versions=result.get("versions", {}),
        use=Use.from_record(result["use"]) if "use" in result else Use(),
    )
