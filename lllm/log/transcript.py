"""A session as a list of rows, one for each thing that happened: what `lllm show` and the viewer print."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from lllm.core import events as ev
from lllm.core.events import error_class
from lllm.core.state import State
from lllm.log.folding import UNREADABLE, Folding
from lllm.models.message import FunctionCall, Message
from lllm.models.parts import content_text
from lllm.recorded_value import arguments_of, name_of, unpack

ROWS: Final[Mapping[str, str]] = {
    "session": "the session begins",
    "resumed": "another process resumes the session or a call",
    "call": "an agent call begins",
    "message": "a system, user, assistant or tool message that a call began with",
    "reply": "what a model answered; `detail['verdict']` is accepted, rejected or open",
    "rejected": "why a reply was not accepted",
    "prompt": "what a handler said: `detail['handler']` is exception (a repair), interrupt or final",
    "fault": "a provider fault",
    "wait": "a back-off wait is over",
    "approval": "somebody approved or denied a tool call",
    "tool": "a tool is run: its name and arguments",
    "result": "what a tool gave, or what an equal call gave before: then `detail['reused']` names it",
    "stop": "a limit, a cancellation or the project's own code ended the call",
    "end": "an agent call ends",
    "stage": "a stage of a chain begins, or ends: then `detail['status']` says how",
    "item": "an item of a batch begins, or ends",
    "frontend": "something was shown to the user",
    "artifact": "a file or value was kept",
    "note": "a remark",
    "effect": "the program's own code acts on the world: name and request",
    "outcome": "what came of that",
    "learned": "what the program's own code learned in passing: `now`, `random`, `uuid`",
    "ended": "the session ends",
}
"""Every kind of row of a transcript."""


class Row(NamedTuple):
    """One line of a transcript. `kind` is one of ROWS; `who` is the speaker: an agent, a tool, a role, `session`."""

    seq: int
    at: int
    kind: str
    call: str | None
    who: str
    text: str
    detail: dict[str, Any]


def transcript(events: Iterable[Mapping[str, Any]]) -> list[Row]:
    """All that happened, in order: one row per message, reply, tool run, result, repair, fault, wait and so on."""
    writer = Transcript()
    for event in events:
        writer.take(event)
    return writer.rows


class Transcript:
    """Writes the rows of a transcript, event by event, for who cannot wait for the last one.

    What a later event says about a row (a reply's verdict) is written into its detail."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._folding = Folding()
        self._replies: dict[str, int] = {}  # the row of each call's last reply
        self._effects: dict[int, str] = {}  # the name of each effect

    def take(self, event: Mapping[str, Any]) -> None:
        folding, call = self._folding, event["call"]
        before = folding.calls.get(call, State()) if call is not None else State()
        after = folding.take(event)
        agent = folding.infos[call].agent if call in folding.infos else ""
        if event["kind"] in (ev.EFFECT_REQUESTED, ev.EFFECT_RETURNED):
            self._effect(event)
            return
        for kind, who, text, detail in _rows(event, agent, before, after):
            if kind == "verdict":
                self._judge(call, detail)
                continue
            if kind == "reply":
                self._replies[call] = len(self.rows)
            self.rows.append(Row(event["seq"], event["at"], kind, call, who, text, detail))

    def _effect(self, event: Mapping[str, Any]) -> None:
        data = dict(event["data"])
        number = data["n"]
        if event["kind"] == ev.EFFECT_REQUESTED:
            kind, request = "effect", data.get("request")
            name = self._effects[number] = data.get("name") or name_of(data["kind"], request)
            denied = " (not approved)" if data.get("approved") is False else ""
            text = effect_in_words(name, arguments_of(data["kind"], request), data) + denied
        else:
            kind, name = (
                ("learned", data["kind"]) if "kind" in data else ("outcome", self._effects.get(number, ""))
            )
            text = outcome_in_words(data)
        self.rows.append(Row(event["seq"], event["at"], kind, event["call"], name, text, data))

    def _judge(self, call: str, detail: Mapping[str, Any]) -> None:
        """An accepted or rejected reply is marked on its own row, where a reader looks for it."""
        if (index := self._replies.get(call)) is not None:
            self.rows[index].detail.update(detail)


def _rows(
    event: Mapping[str, Any], agent: str, before: State, after: State
) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Kind, speaker, text and detail of the rows that one event makes. `verdict` is about an earlier reply's row."""
    kind, data = event["kind"], dict(event["data"])
    match kind:
        case ev.SESSION_STARTED:
            yield "session", "session", str(data.get("task") or data.get("name") or ""), data
        case ev.SESSION_RESUMED:
            unsure = ", ".join(f"{item['key']} {item['decision']}" for item in data.get("uncertain", ()))
            yield "resumed", "session", f"uncertain: {unsure}" if unsure else "", data
        case ev.CALL_RESUMED:
            yield "resumed", agent, f"after {max(0, data['down']) / 1_000_000:.1f} s", data
        case ev.SESSION_ENDED:
            text = data["status"] + (f": {data['error']}" if data.get("error") else "")
            yield "ended", "session", text, data
        case ev.CALL_STARTED:
            added = data.pop("add", ())
            yield "call", agent, " ".join(filter(None, (agent, data.get("model")))), data
            for record in added:
                yield _message("message", record)
        case ev.MODEL_REPLIED:
            message = Message.from_dict(data["message"])
            wanted = "; ".join(_written(call) for call in message.tool_calls)
            text = "\n".join(filter(None, (message.text, f"asks for {wanted}" if wanted else "")))
            yield "reply", agent, text or (data.get("refusal") or ""), {"verdict": "open", **data}
        case ev.REPLY_ACCEPTED:
            value = {"value": data["value"]} if "value" in data else {}
            yield "verdict", "", "", {"verdict": "accepted", **value}
        case ev.REPLY_REJECTED:
            yield "verdict", "", "", {"verdict": "rejected", "errors": data["errors"]}
            yield "rejected", agent, "; ".join(data["errors"]), data
        case ev.HANDLER_RETURNED:
            for record in data.get("add", ()):
                _, who, text, detail = _message("prompt", record)
                yield "prompt", who, text, {"handler": data.get("handler"), **detail}
        case ev.MODEL_FAILED:
            yield "fault", agent, f"{data['error']}: {data['message']}", data
        case ev.WAIT_ENDED:
            yield "wait", agent, f"waited {data['seconds']:g} s", data
        case ev.APPROVAL_GIVEN:
            call = asked(before, data["id"])
            note = f": {data['note']}" if data.get("note") else ""
            yield "approval", call.name, ("approved" if data["approved"] else "not approved") + note, data
        case ev.TOOL_REQUESTED:
            call = asked(before, data["id"])
            yield "tool", call.name, _written(call), {**data, "arguments": call.arguments}
        case ev.TOOL_RETURNED:
            call = asked(before, data["id"])
            detail = {"name": call.name, "arguments": call.arguments, "ok": data.get("ok", True), **data}
            if "error" in data:
                detail["error"] = error_class(event["data"])
            yield "result", call.name, content_of(after, data), detail
        case ev.HANDLER_FAILED | ev.LIMIT_REACHED:
            yield "stop", agent, str(data.get("message", "")), data
        case ev.CANCELLED:
            yield "stop", agent, str(data.get("reason", "cancelled")), data
        case ev.CALL_ENDED:
            text = data["status"] + (f": {data['error']}" if data.get("error") else "")
            yield "end", agent, text, data
        case ev.FRONTEND:
            yield "frontend", "frontend", _shown(data), data
        case ev.ARTIFACT:
            kept = (
                f" ({data['media_type']}, {data['size']} bytes)"
                if {"media_type", "size"} <= data.keys()
                else ""
            )
            yield "artifact", "session", f"{data.get('name', '')}{kept}", data
        case ev.STAGE_STARTED:
            yield "stage", data["name"], f"stage {data['stage']}", data
        case ev.STAGE_ENDED:
            yield "stage", "session", f"stage {data['stage']} {_stage_end(data)}", data
        case ev.ITEM_STARTED:
            yield "item", "session", f"item {data['item']}: session {data['session']}", data
        case ev.ITEM_ENDED:
            yield "item", "session", f"item {data['item']} {data['status']}", data
        case ev.NOTE if data.get("of") != "inputs":  # those are for replays
            yield "note", "session", str(data.get("text", "")), data


def _stage_end(data: Mapping[str, Any]) -> str:
    """How a stage ended, and what it used."""
    words = str(data["status"]) + (f": {data['error']}" if data.get("error") else "")
    if (used := data.get("used")) is None:
        return words
    told = [f"{used['model_calls']} requests"]
    if used["tokens"] is not None:
        told.append(f"{used['tokens']} tokens")
    if used["cost"] is not None and float(used["cost"]):
        told.append(f"${used['cost']}")
    return f"{words} ({', '.join(told)})"


def effect_in_words(name: str, request: Any, data: Mapping[str, Any]) -> str:
    """An effect as one reads it: `fetch(url='...')`."""
    if "blob" in data:
        return f"{name}({data['blob']})"
    if isinstance(request, Mapping):
        return f"{name}({', '.join(f'{key}={_read(value)!r}' for key, value in request.items())})"
    return name if request is None else f"{name}({_read(request)!r})"


def _read(value: Any) -> Any:
    try:
        return unpack(value)
    except UNREADABLE:  # not written by lllm
        return value


def outcome_in_words(data: Mapping[str, Any]) -> str:
    """What came of an effect, as one reads it."""
    said = [f"uncertain: {data['uncertain']}"] if "uncertain" in data else []
    if data.get("cancelled"):
        said.insert(0, "cancelled")
    if "error" in data:
        said.insert(0, f"{data['error']}: {data.get('message', '')}")
    elif "blob" in data:
        said.insert(0, f"{data.get('as')} {data['blob']}")
    elif "value" in data:
        value = _read(data["value"])
        said.insert(0, value if isinstance(value, str) else repr(value))
    return "; ".join(said)


def _message(kind: str, record: Mapping[str, Any]) -> tuple[str, str, str, dict[str, Any]]:
    message = Message.from_dict(record)
    return kind, message.role, content_text(message.content), {"message": dict(record)}


def asked(state: State, id: str) -> FunctionCall:
    """The tool call of that id in the present round."""
    found = [item.call for item in state.pending if item.call.id == id]
    return found[-1] if found else FunctionCall(id, "")


def content_of(after: State, data: Mapping[str, Any]) -> str:
    """The content of a tool result; of one that was given again, the earlier content."""
    if "reused" not in data:
        return str(data.get("content", ""))
    for item in after.pending:
        if item.call.id == data["id"]:
            return content_text(item.content)
    node = after.trunk  # the round is over: its results stand at the end of the dialog
    while node is not None and node.message.tool_call_id != data["id"]:
        node = node.parent
    return "" if node is None else content_text(node.message.content)


def _written(call: FunctionCall) -> str:
    """A tool call as one reads it: `add(a=1, b=2)`, or with the raw text where that is not an object."""
    try:
        arguments = call.parsed()
    except ValueError:
        return f"{call.name}({call.arguments})"
    return f"{call.name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def _shown(data: Mapping[str, Any]) -> str:
    """A frontend event as one reads it: `write('hello')`, `exit spinner`."""
    method = str(data.get("method", ""))
    if data.get("phase") == "exit":
        return f"exit {method}"
    given = [repr(value) for value in data.get("args", ())]
    given += [f"{key}={value!r}" for key, value in data.get("kwargs", {}).items()]
    return f"{'enter ' if data.get('phase') == 'enter' else ''}{method}({', '.join(given)})"
