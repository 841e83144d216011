"""Reading rollouts from their logs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.core.use import Use
from lllm.errors import ConfigError, UnknownNameError, listing
from lllm.models.message import Message
from lllm.models.reply import Reply
from lllm.ports import LogStore
from lllm.rl.items import Item, Items
from lllm.rl.rewards import Score
from lllm.rl.rollout import DONE, Rollout


class KeptState(dict[str, Any]):
    """A state from a log. Its values can be read as attributes and as keys."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the log has no '{name}' of the state; it has {listing(self)}") from None


def read_result(store: LogStore, session: str) -> Mapping[str, Any] | None:
    """Returns the result in the last event of a rollout's session; None where the session has not ended, or does not exist."""
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


def rollout_sessions(store: LogStore, given: Any) -> list[str]:
    """Returns the ids of the rollouts' sessions. Of a batch, it takes the rollouts that have ended.

    Args:
        given: an id, a Rollout, or several of these; an id may be that of a batch.

    Raises ConfigError: another type, or a batch without a rollout that has ended. UnknownNameError: no such session.
    """
    if isinstance(given, str | Rollout):
        given = [given]
    if not isinstance(given, Iterable) or isinstance(given, Mapping | bytes):
        raise ConfigError(f"sessions is {type(given).__name__}", hint=_HINT)
    found: list[str] = []
    for one in given:
        id = one.session if isinstance(one, Rollout) else one
        if not isinstance(id, str):
            what = "a rollout without a session" if isinstance(one, Rollout) else type(one).__name__
            raise ConfigError(f"among the sessions is {what}", hint=_HINT)
        inner = batch_sessions(store, id)
        ended = [name for name in inner or [id] if not inner or read_result(store, name) is not None]
        if not ended:
            raise ConfigError(
                f"no rollout of batch '{id}' has ended: {len(inner)} have begun",
                hint=f"Go on with it: lllm resume {id}",
            )
        found += ended
    return found


def batch_sessions(store: LogStore, batch: str) -> list[str]:
    """Returns the ids of the sessions of a batch's items, in order. Another session has none."""
    events = map(open_event, store.read(batch))
    return [one["data"]["session"] for one in events if one["kind"] == ev.ITEM_STARTED]


_HINT: Final = "Give ids of rollouts or of batches, or the rollouts: env.score(evaluation)."


def read_rollout(store: LogStore, session: str, items: Items) -> Rollout:
    """Reads a rollout from its log, with its row.

    Raises UnknownNameError: no such session. ConfigError: it is not a rollout that has ended, or its row is not among `items`.
    """
    result = read_result(store, session)
    if result is None:
        raise ConfigError(f"session '{session}' is not a rollout that has ended", hint=_HINT)
    item = items.find(result["item"], result.get("row", 0))
    if item is None:
        raise ConfigError(
            f"session '{session}' is a rollout of a row that the environment does not have",
            hint="Rewards need the row's answer and columns: use the environment with the dataset that it was done with.",
        )
    return rollout_of(store, result, item)


def read_reply(store: LogStore, session: str) -> Reply | None:
    """Returns the reply of the policy's last successful call, from its log; None where there was none."""
    found: Reply | None = None
    replies: dict[str, Reply] = {}
    for event in map(open_event, store.read(session)):
        kind, data, call = event["kind"], event["data"], event["call"]
        if kind == ev.CALL_STARTED and data.get("parent") is None:
            replies[call] = Reply()
        elif call not in replies:  # of an agent that the policy has asked
            continue
        elif kind == ev.MODEL_REPLIED:
            replies[call] = Reply.from_record(data)
        elif kind == ev.REPLY_ACCEPTED and "value" in data:
            replies[call] = replace(replies[call], parsed=data["value"])
        elif kind == ev.CALL_ENDED and data.get("status") == "done":
            found = replies[call]
    return found


def rollout_of(store: LogStore, result: Mapping[str, Any], item: Item) -> Rollout:
    """Makes a Rollout of the result of its session (`Rollout.record`) and of its last reply."""
    session = result.get("session")
    reply = None if session is None else read_reply(store, session)
    if reply is None and result.get("turns") and result.get("status") == DONE:
        reply = Reply(content=result.get("completion", ""))  # of a function: it has no calls
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
        reply,
        result.get("turns", 0),
        {name: Score(value, errors.get(name)) for name, value in components.items()},
        result.get("reward"),
        session,
        result.get("seed", 0),
        result.get("policy"),
        KeptState(kept) if isinstance(kept := result.get("state"), Mapping) else kept,
        kept,
        versions=result.get("versions", {}),
        use=Use.from_record(result["use"]) if "use" in result else Use(),
    )
