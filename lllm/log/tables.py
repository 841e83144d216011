"""A session as three tables: dialogs, messages, frontend events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from lllm.core import events as ev
from lllm.core.dialog import Node
from lllm.core.state import REPAIRING, State
from lllm.log.folding import UNFINISHED, Folding
from lllm.log.transcript import asked, content_of

Entry = dict[str, Any]


def collections(events: Iterable[Mapping[str, Any]]) -> dict[str, list[Entry]]:
    """The log as the collections `dialogs`, `messages` and `frontend`. Every entry bears `seq`; no message is there
    twice.

    A dialog is what one agent call made: its agent, status, the call that it serves (`parent`, `via`). Where it goes on
    from another call's dialog, `forked_from` is that call and `prefix` the number of messages that both share.
    A message bears its call, and whether it stayed in the dialog (`kept`): a rejected reply and what was said about it
    did not.
    """
    tables = _Tables()
    for event in events:
        tables.take(event)
    return {
        "dialogs": list(tables.dialogs.values()),
        "messages": tables.messages,
        "frontend": tables.frontend,
    }


class _Tables:
    """Fills the tables event by event."""

    def __init__(self) -> None:
        self.dialogs: dict[str, Entry] = {}
        self.messages: list[Entry] = []
        self.frontend: list[Entry] = []
        self._folding = Folding()
        self._last: dict[str, Entry] = {}  # the last reply of each call: it is kept when it is accepted

    def take(self, event: Mapping[str, Any]) -> None:
        call, data, kind = event["call"], event["data"], event["kind"]
        before = self._folding.calls.get(call, State()) if call is not None else State()
        after = self._folding.take(event)
        if kind == ev.FRONTEND:
            self.frontend.append({"seq": event["seq"], "at": event["at"], "call": call, **data})
        elif kind == ev.CALL_STARTED:
            self.dialogs[call] = self._dialog(event)
            for record in data.get("add", ()):
                self._add(event, record)
        elif kind == ev.MODEL_REPLIED:
            told = {key: data[key] for key in _REPLY if key in data}
            self._last[call] = self._add(event, data["message"], kept=False, **told)
        elif kind == ev.REPLY_ACCEPTED:
            self._last[call]["kept"] = True
        elif kind == ev.HANDLER_RETURNED:
            kept = before.phase != REPAIRING  # a repair is dropped with the reply that it was about
            for record in data.get("add", ()):
                self._add(event, record, kept=kept, handler=data.get("handler"))
        elif kind == ev.TOOL_RETURNED:
            more = {"reused": data["reused"]} if "reused" in data else {}
            self._tool(event, content_of(after, data), before, ok=data.get("ok", True), **more)
        elif kind == ev.APPROVAL_GIVEN and not data["approved"]:
            self._tool(event, content_of(after, {"id": data["id"], "reused": ""}), before, ok=False)
        elif kind == ev.CALL_ENDED:
            self.dialogs[call] |= {key: data[key] for key in _ENDING if key in data}

    def _add(
        self, event: Mapping[str, Any], record: Mapping[str, Any], *, kept: bool = True, **more: Any
    ) -> Entry:
        entry = {key: event[key] for key in ("seq", "at", "call", "dialog")} | {
            "kept": kept,
            **record,
            **more,
        }
        self.messages.append(entry)
        return entry

    def _tool(self, event: Mapping[str, Any], content: str, before: State, **more: Any) -> None:
        id = event["data"]["id"]
        record = {"role": "tool", "content": content, "tool_call_id": id, "name": asked(before, id).name}
        self._add(event, record, **more)

    def _dialog(self, event: Mapping[str, Any]) -> Entry:
        folding = self._folding
        info = folding.infos[event["call"]]
        base = folding.node(info.base) if info.base is not None else None
        origins = (
            call for call, state in folding.calls.items() if call != info.id and _within(base, state.trunk)
        )
        return {
            "seq": event["seq"],
            "at": event["at"],
            "call": info.id,
            "dialog": info.dialog,
            "agent": info.agent,
            "model": info.model,
            "status": UNFINISHED,
            "parent": info.parent,
            "via": info.via,
            "forked_from": None if base is None else next(origins, None),
            "prefix": 0 if base is None else base.length,
        }


_REPLY: Final = ("usage", "cost", "finish", "model", "refusal")
_ENDING: Final = ("status", "reason", "error", "usage", "cost", "head")


def _within(node: Node | None, trunk: Node | None) -> bool:
    while node is not None and trunk is not None and trunk.length > node.length:
        trunk = trunk.parent
    return node is not None and trunk is not None and trunk.id == node.id
