"""An edit of a recorded event: in a fork it says something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from lllm.core import events as ev
from lllm.core.events import Event
from lllm.errors import ConfigError
from lllm.models.message import Message

EDITABLE: Final[Mapping[str, str]] = {
    ev.SESSION_STARTED: "the task",
    ev.CALL_STARTED: "the last message that the call adds to its dialog",
    ev.MODEL_REPLIED: "the model's reply",
    ev.TOOL_RETURNED: "the tool's result",
}
"""What an edit of an event replaces, by the event's kind."""


class Edit(NamedTuple):
    """Event `seq` of the parent says `text` instead. A reply then asks for no tools, and a tool has worked."""

    seq: int
    text: str


def as_edited(event: Event, text: str) -> Event:
    """A recorded answer that says something else."""
    if event.kind == ev.TOOL_RETURNED:
        data = {"id": event.data["id"], "content": text}
        if "final" in event.data:  # still the answer of the agent that took over
            data["final"] = {"agent": event.data["final"]["agent"]}
        return event._replace(data=data)
    gone = ("raw", "logprobs", "token_ids", "cuts")
    data = {key: value for key, value in event.data.items() if key not in gone}
    return event._replace(data={**data, "message": Message("assistant", text).record(), "finish": "stop"})


def with_last(add: Sequence[Message], text: str) -> tuple[Sequence[Message], Message]:
    """The messages of a call whose last one says something else, and the one that it replaces."""
    last = add[-1]
    edited = Message(last.role, text, name=last.name, tool_call_id=last.tool_call_id)
    return (*add[:-1], edited), last


def editable(record: Sequence[Mapping[str, Any]], seq: int) -> None:
    """ConfigError unless event `seq` is there and says something that can be replaced."""
    if not 0 <= seq < len(record):
        raise ConfigError(f"event {seq} is not in the session", hint=f"It has events 0 to {len(record) - 1}.")
    kind = record[seq]["kind"]
    if kind not in EDITABLE:
        near = [event["seq"] for event in record if event["kind"] in EDITABLE]
        nearest = min(near, key=lambda number: abs(number - seq))
        raise ConfigError(
            f"event {seq} is {kind}, which cannot be edited",
            hint=f"Edited can be {', '.join(EDITABLE)}; the nearest is event {nearest} ({record[nearest]['kind']}).",
        )
    if kind == ev.CALL_STARTED and not record[seq]["data"].get("add"):
        raise ConfigError(
            f"event {seq} cannot be edited: call {record[seq]['call']} adds no message to its dialog",
            hint="Edit the call or reply that ends with the dialog's last message.",
        )
    if "reused" in record[seq]["data"]:
        first = _first(record, seq)
        raise ConfigError(
            f"event {seq} gives the result of an earlier tool call again",
            hint=f"Edit that one: event {first}." if first is not None else None,
        )


def _first(record: Sequence[Mapping[str, Any]], seq: int) -> int | None:
    """The event whose result event `seq` gives again."""
    call, name = record[seq]["call"], record[seq]["data"]["reused"]
    for event in reversed(record[:seq]):
        data = event["data"]
        if event["kind"] == ev.TOOL_RETURNED and event["call"] == call and data["id"] == name:
            return None if "reused" in data else int(event["seq"])
    return None
