"""Suggests what to do after Ctrl-C, based on the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lllm.cli import screen

if TYPE_CHECKING:
    from lllm.models.message import FunctionCall
    from lllm.ports import LogStore


def next_steps(store: LogStore, session: str, way: str = "") -> str:
    """The commands to show a stopped session and to continue it, and the tools that a fork would run again although they
    may have taken effect. `way`: a prefix with which a command finds the session."""
    from lllm.log.views import load

    lines = [
        f"What happened until then: {way}lllm show {session}",
        f"  To continue from there in a new session: {way}lllm fork {session}",
    ]
    try:
        begun = begun_tools(load(store, session))
    except Exception:  # the store may be the cause
        begun = []
    for call in begun:
        shown = screen.cut(f"{call.name}({call.arguments})", 100)
        lines.append(
            f"  {shown} had started and may have taken effect: the fork runs it again, unless --tools refuse"
        )
    return "\n".join(lines)


def begun_tools(events: Sequence[Mapping[str, Any]]) -> list[FunctionCall]:
    """The tool calls without a result that may have effects: all but those of tools with effect="pure"."""
    from lllm.core import events as ev
    from lllm.core.spec import ToolRule
    from lllm.models.message import Message

    rules: dict[str, Mapping[str, Any]] = {}
    asked: dict[tuple[str, str], FunctionCall] = {}
    begun: dict[tuple[str, str], FunctionCall] = {}
    for event in events:
        kind, call, data = event["kind"], event["call"], event["data"]
        if kind == ev.CALL_STARTED:
            rules[call] = data.get("spec", {}).get("tools", {})
        elif kind == ev.MODEL_REPLIED:
            asked.update({(call, item.id): item for item in Message.from_dict(data["message"]).tool_calls})
        elif kind == ev.TOOL_REQUESTED and (item := asked.get((call, data["id"]))) is not None:
            if ToolRule(**rules.get(call, {}).get(item.name, {})).effect != "pure":
                begun[call, item.id] = item
        elif kind == ev.TOOL_RETURNED:
            begun.pop((call, data["id"]), None)
    return list(begun.values())
