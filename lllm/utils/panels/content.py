"""The panels that the events of a session make: for a log and for a session that runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from lllm.core import events as ev
from lllm.core.spent import Spending, reused
from lllm.log.layout import used_in_words
from lllm.log.transcript import effect_in_words, outcome_in_words
from lllm.models.message import FunctionCall, Message
from lllm.models.parts import content_text
from lllm.recorded_value import arguments_of, name_of

REPLY: Final = "reply"
THINKING: Final = "thinking"
TASK: Final = "task"
_STREAM: Final = "write_stream"


class Panel(NamedTuple):
    """A box with a title, or a line across where it has no body.

    Attributes:
        kind: a key of `lllm.utils.panels.drawing.STYLES`.
        foot: what it took: time, tokens, cost.
    """

    kind: str
    title: str
    body: str = ""
    foot: str = ""


class Content:
    """Makes the panels of one session. It may begin in the middle: what it has not seen it does not name."""

    def __init__(self) -> None:
        self._agents: dict[str, str] = {}
        self._wanted: dict[tuple[str, str], FunctionCall] = {}
        self._begun: dict[Any, int] = {}
        self._names: dict[str, str] = {}  # of stages
        self._effects: dict[int, str] = {}
        self._shown: set[str] = set()  # texts that need not be shown once more
        self._errors: set[str] = set()
        self._spending = Spending()
        self._count = {"agent call": 0, "model call": 0, "tool call": 0}
        self._items: Counter[str] = Counter()  # of a batch, by status

    def take(self, event: Mapping[str, Any]) -> list[Panel]:
        """The panels of the next event."""
        make = _PANELS.get(event["kind"])
        return [] if make is None else make(self, event["call"] or "", event["data"], event["at"])

    def agent(self, call: str) -> str:
        """The agent of a call, or the call where that is not known."""
        return self._agents.get(call, call)

    def _took(self, key: Any, at: int) -> str:
        """The time since something began."""
        begun = self._begun.pop(key, None)
        return "" if begun is None else f"{max(0, at - begun) / 1_000_000:.3f} s"

    # --- the session

    def _session_started(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        self._begun["session"] = at
        task = data.get("task")
        text = task if isinstance(task, str) else "" if task is None else json.dumps(task, ensure_ascii=False)
        self._shown.add(text)
        name = str(data.get("name") or "")
        return [Panel(TASK, f"task of {name}" if text and name else name or "session", text)]

    def _session_resumed(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        self._begun.setdefault("session", at)
        return [Panel("note", "resumed", foot=f"after {data['events']} events")]

    def _session_ended(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        status = str(data["status"])
        saved = self._spending.saved
        lines = [self._items_in_words()] if self._items else []
        if not lines or any(self._count.values()):
            lines.append(self._totals())
        if saved.replies:
            lines.append(
                f"{saved.replies} {'reply' if saved.replies == 1 else 'replies'} from the log or the cache"
            )
        error = data.get("error")
        if error and error not in self._errors:
            lines.insert(0, str(error))
        kind = "done" if status == "done" else "error"
        return [Panel(kind, f"session {status}", "\n".join(lines), self._took("session", at))]

    def _totals(self) -> str:
        told = [f"{number} {noun}{'' if number == 1 else 's'}" for noun, number in self._count.items()]
        paid = self._spending.paid
        told.append(f"{paid.used[0]} tokens in, {paid.used[1]} out")
        told.append("cost unknown" if paid.unpriced else f"cost ${paid.cost:f}")
        return ", ".join(told)

    def _items_in_words(self) -> str:
        """The items that have ended, each of which has a session with its calls and its cost."""
        count = self._items.total()
        by_status = ", ".join(f"{number} {status}" for status, number in sorted(self._items.items()))
        return f"{count} item{'' if count == 1 else 's'}: {by_status}. Each has a session of its own."

    # --- stages and items

    def _stage_started(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        place, name, step = str(data["stage"]), str(data["name"]), str(data["step"])
        self._names[place] = name
        self._begun["stage", place] = at
        return [Panel("stage", f"stage {place}: {name}", foot="" if name.startswith(step) else step)]

    def _stage_ended(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        place, status = str(data["stage"]), str(data["status"])
        name = self._names.get(place, "")
        foot = ", ".join(filter(None, (self._took(("stage", place), at), used_in_words(data.get("used")))))
        title = f"stage {place}{f': {name}' if name else ''} {status}"
        return [Panel("stage" if status == "done" else "error", title, self._new_error(data), foot)]

    def _item_started(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        self._begun["item", data["item"]] = at
        return [Panel("stage", f"item {data['item']}", foot=f"session {data['session']}")]

    def _item_ended(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        status = str(data["status"])
        self._items[status] += 1
        kind = "stage" if status == "done" else "error"
        return [Panel(kind, f"item {data['item']} {status}", foot=self._took(("item", data["item"]), at))]

    # --- agent calls

    def _call_started(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        agent = self._agents[call] = str(data["agent"])
        self._count["agent call"] += 1
        parent = data.get("parent")
        by = f"{self.agent(parent)} → " if parent else ""
        model = f" on {data['model']}" if data.get("model") else ""
        stage = f"stage {data['stage']}" if data.get("stage") else ""
        panels = [Panel("call", f"{by}{agent}{model}", foot=stage)]
        added = [Message.from_dict(record) for record in data.get("add", ())]
        for message in (one for one in added if one.role == "system"):
            panels += self._message(message, agent)
        others = [one for one in added if one.role != "system"]
        if len(others) > 1:
            panels.append(Panel("note", f"{len(others) - 1} earlier messages"))
        for message in others[-1:]:
            panels += self._message(message, agent)
        return panels

    def _message(self, message: Message, agent: str) -> list[Panel]:
        text = content_text(message.content)
        if not text.strip() or text in self._shown:
            return []
        if message.role == "system":
            self._shown.add(text)  # of an agent that is called often
        return [Panel("message", f"{message.role} → {agent}", text)]

    def _call_resumed(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        return [
            Panel(
                "note", f"{self.agent(call)} resumed", foot=f"after {max(0, data['down']) / 1_000_000:.1f} s"
            )
        ]

    def _requested(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        self._begun["request", call] = at
        return []

    def _replied(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        self._spending.add(data)
        self._count["model call"] += not reused(data)
        agent, message = self.agent(call), Message.from_dict(data["message"])
        took, usage, cost = self._took(("request", call), at), data.get("usage") or {}, data.get("cost")
        told = [f"from {'the cache' if data['from'] == 'cache' else 'the log'}" if data.get("from") else took]
        if usage:
            told.append(f"{usage.get('prompt', 0)} tokens in, {usage.get('completion', 0)} out")
        if cost is not None and float(cost):
            told.append(f"${cost}")
        if (finish := data.get("finish")) not in ("stop", "tool_calls", None):
            told.append(f"ended by {finish}")
        foot = ", ".join(filter(None, told))
        panels = []
        if message.thinking:
            panels.append(Panel(THINKING, f"{agent} thinks", message.thinking))
        text = message.text or data.get("refusal") or ""
        if text.strip() or not message.tool_calls:
            panels.append(Panel(REPLY, agent, text, foot))
            foot = ""
        for wanted in message.tool_calls:
            self._wanted[call, wanted.id] = wanted
            panels.append(Panel("tool", f"{agent} calls {wanted.name}", _arguments(wanted), foot))
            foot = ""
        return panels

    def _rejected(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        return [Panel("error", f"{self.agent(call)}: reply rejected", "\n".join(data["errors"]))]

    def _handled(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        handler, agent = data["handler"], self.agent(call)
        kind, who = ("repair", "repair") if handler == "exception" else ("message", f"{handler} prompt")
        texts = [content_text(Message.from_dict(record).content) for record in data.get("add", ())]
        return [Panel(kind, f"{who} → {agent}", text) for text in texts if text.strip()]

    def _failed(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        if not reused(data):
            self._count["model call"] += 1
        (self._spending.saved if reused(data) else self._spending.paid).add_broken(data)
        status = data.get("status")
        number = f" ({status})" if status is not None and str(status) not in data["message"] else ""
        words = "\n".join(filter(None, (f"{data['message']}{number}", data.get("hint"))))
        self._errors.add(data["message"])
        return [
            Panel("error", f"{self.agent(call)}: {data['error']}", words, self._took(("request", call), at))
        ]

    def _waited(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        return [Panel("note", f"{self.agent(call)} asks again", foot=f"after {data['seconds']:.3g} s")]

    def _ended(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        if data["status"] == "done":
            return []
        reason = data.get("reason")
        title = f"{self.agent(call)} {data['status']}{f': {reason}' if reason else ''}"
        return [Panel("error", title, self._new_error(data))]

    def _new_error(self, data: Mapping[str, Any]) -> str:
        """An error's words, unless they have just been shown."""
        error = str(data.get("error") or "")
        if error in self._errors:
            return ""
        self._errors.add(error)
        return error

    # --- tools

    def _approval(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        wanted = self._tool(call, data["id"])
        if data["approved"]:
            return [Panel("note", f"{wanted.name} approved")]
        return [Panel("error", f"{wanted.name} not approved", str(data.get("note") or ""))]

    def _tool_requested(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        self._begun["tool", call, data["id"]] = at
        return []

    def _tool_returned(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        wanted, agent = self._tool(call, data["id"]), self.agent(call)
        took = self._took(("tool", call, data["id"]), at)
        if "reused" in data:
            return [
                Panel("note", f"{wanted.name} → {agent}", foot="given again: an equal call was made before")
            ]
        self._count["tool call"] += 1
        if "final" in data:
            return [Panel("handoff", f"{agent} handed over to {data['final']['agent']}", foot=took)]
        ok = data.get("ok", True)
        title = f"{wanted.name} → {agent}" if ok else f"{wanted.name} failed → {agent}"
        told = [took, "from the log" if "from" in data else "", "late" if data.get("late") else ""]
        if "uncertain" in data:
            told.append("it may have taken effect")
        body = str(data.get("content", "")) or ("(nothing)" if ok else "")
        return [Panel("result" if ok else "error", title, body, ", ".join(filter(None, told)))]

    def _tool(self, call: str, id: str) -> FunctionCall:
        return self._wanted.get((call, id), FunctionCall(id, "a tool"))

    # --- what the program does

    def _frontend(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        method, phase = str(data.get("method", "")), data.get("phase")
        if phase == "value":
            value = data.get("value")
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            if method == _STREAM:
                return [Panel("frontend", method, text)]
            return [] if value is None else [Panel("note", f"{method}: answered", foot=text)]
        if phase == "error":
            return [Panel("error", f"{method}: {data.get('error', '')}", str(data.get("message", "")))]
        if phase is not None or method == _STREAM:  # the text of a stream is known at its end
            return []
        given = [*data.get("args", ()), *data.get("kwargs", {}).values()]
        texts = [one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in given]
        return [Panel("frontend", method, "\n".join(texts))]

    def _artifact(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        foot = f"{data.get('media_type', '')}, {data.get('size', 0)} bytes"
        return [Panel("note", f"kept {data.get('name', '')}", foot=foot)]

    def _note(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        return [] if data.get("of") == "inputs" else [Panel("note", "note", str(data.get("text", "")))]

    def _effect(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        request = data.get("request")
        name = self._effects[data["n"]] = data.get("name") or name_of(data["kind"], request)
        self._begun["effect", data["n"]] = at
        words = effect_in_words(name, arguments_of(data["kind"], request), data)
        return [Panel("tool", f"effect {name}", words)]

    def _outcome(self, call: str, data: Mapping[str, Any], at: int) -> list[Panel]:
        if "kind" in data:
            return []  # the time, a random number
        name = self._effects.get(data["n"], "effect")
        kind = "error" if "error" in data else "result"
        return [
            Panel(kind, f"outcome of {name}", outcome_in_words(data), self._took(("effect", data["n"]), at))
        ]


def _arguments(call: FunctionCall) -> str:
    """One argument per line; the raw text where it is no object."""
    try:
        given = call.parsed()
    except ValueError:
        return call.arguments
    return "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in given.items())


_PANELS: Final[Mapping[str, Callable[[Content, str, Any, int], list[Panel]]]] = {
    ev.SESSION_STARTED: Content._session_started,
    ev.SESSION_RESUMED: Content._session_resumed,
    ev.SESSION_ENDED: Content._session_ended,
    ev.STAGE_STARTED: Content._stage_started,
    ev.STAGE_ENDED: Content._stage_ended,
    ev.ITEM_STARTED: Content._item_started,
    ev.ITEM_ENDED: Content._item_ended,
    ev.CALL_STARTED: Content._call_started,
    ev.CALL_RESUMED: Content._call_resumed,
    ev.MODEL_REQUESTED: Content._requested,
    ev.MODEL_REPLIED: Content._replied,
    ev.MODEL_FAILED: Content._failed,
    ev.WAIT_ENDED: Content._waited,
    ev.REPLY_REJECTED: Content._rejected,
    ev.HANDLER_RETURNED: Content._handled,
    ev.APPROVAL_GIVEN: Content._approval,
    ev.TOOL_REQUESTED: Content._tool_requested,
    ev.TOOL_RETURNED: Content._tool_returned,
    ev.CALL_ENDED: Content._ended,
    ev.FRONTEND: Content._frontend,
    ev.ARTIFACT: Content._artifact,
    ev.NOTE: Content._note,
    ev.EFFECT_REQUESTED: Content._effect,
    ev.EFFECT_RETURNED: Content._outcome,
}
