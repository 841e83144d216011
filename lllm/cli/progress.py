"""Shows a session's progress on stderr: requests, tools, and every problem."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from lllm.cli import output, screen
from lllm.cli.approvals import Asking
from lllm.cli.lines import Lines
from lllm.cli.origins import Origins
from lllm.core import events as ev
from lllm.core.events import Event
from lllm.models.message import FunctionCall, Message
from lllm.ports import Completed, Delta, Restart, TextDelta, ThinkingDelta
from lllm.session import WAITING, acting

LONG: Final = 2000
"""Characters shown of a message."""
OFTEN: Final = 0.2
"""Seconds between updates of a status."""


class Progress:
    """Follows and watches one session.

    Args:
        lines: where to write.
        talks: show everything (on a terminal), or only problems: a refused or failed tool, a provider's fault, a wait, a
            rejected reply.
        streams: show the text of replies as it streams.
        beside: the answer is printed on the same screen. Then text for a program (tags, a schema) is not shown, because
            the answer is made from it; its length is.
        names: show which agent calls which model; for agents within others this is always shown.
        label: identifies the session, if there are several.
        silent: show nothing: it is only asked what is known of a tool call.
    """

    def __init__(
        self,
        lines: Lines,
        *,
        talks: bool,
        streams: bool,
        beside: bool,
        names: bool = True,
        label: str = "",
        silent: bool = False,
    ) -> None:
        self.lines = lines
        self._silent = silent
        self._label = label
        self._talks = talks and not silent
        self._streams = self._talks and streams
        self._beside = beside
        self._names = names
        self._lock = threading.RLock()
        self._agents: dict[str, str] = {}
        self._models: dict[str, str] = {}
        self._stages: dict[str, str] = {}
        self._answered: set[str] = set()  # models already named
        self._structured: dict[str, int] = {}  # calls whose text is for a program -> characters so far
        self._wanted: dict[tuple[str, str], FunctionCall] = {}
        self._told = 0.0
        self._unknown: set[tuple[str, str]] = set()  # tools with an unknown outcome, with their arguments
        self._speaking: str | None = None
        self._origins = Origins()
        self._trouble: dict[str, str] = {}  # the last problem of a call, until its consequence is known

    # --- pieces of replies

    def follow(self, call: str, delta: Delta) -> None:
        """Receives the deltas of the session's replies."""
        with self._lock:
            if isinstance(delta, TextDelta | ThinkingDelta):
                self._text(call, delta)
            elif isinstance(delta, Restart):
                if self._talks and delta.reason != "asked again":  # the reason for the new request was shown
                    self.lines.say(f"({delta.reason})", "dim")
                self._begin(None)
                self._structured.update({call: 0} if call in self._structured else {})
            elif isinstance(delta, Completed) and self._speaking == call:
                self.lines.finish()

    def _text(self, call: str, delta: TextDelta | ThinkingDelta) -> None:
        if not self._streams:
            return
        if isinstance(delta, TextDelta) and call in self._structured:
            self._structured[call] += len(delta.text)
            if (now := time.monotonic()) - self._told >= OFTEN:
                self._told = now
                self.lines.status(f"{self._agents[call]} writes: {self._structured[call]:,} characters")
            return
        if self._speaking != call:
            self._begin(call)
        if isinstance(delta, ThinkingDelta):
            self.lines.stream(delta.text, "dim")
            return
        if not self.lines.tail:
            self.lines.finish()  # below the reasoning text
        self.lines.stream(delta.text, reply=True)

    def _begin(self, call: str | None) -> None:
        self._speaking = call
        self.lines.begin()

    # --- events

    def watch(self, event: Event) -> None:
        """Receives the session's events."""
        with self._lock:
            seen = _SEEN.get(event.kind)
            if seen is not None:
                seen(self, event.call or "", event.data)

    def about(self, wanted: FunctionCall) -> Asking:
        """What is known of a tool call that somebody is asked about."""
        call = asking_call() or next(
            (call for (call, _), found in reversed(self._wanted.items()) if found == wanted), ""
        )
        agent = self._agents.get(call, "")
        if agent and (stage := self._stages.get(call)):
            agent = f"{agent} in stage {stage}"  # another branch may have the same agent
        if agent and self._label:
            agent = f"{agent} of {self._label}"
        unknown = (wanted.name, _arguments(wanted)) in self._unknown
        return Asking(agent, unknown, tuple(self._origins.about(call, wanted)))

    def close(self) -> None:
        """Ends the output with the cursor at the beginning of a line. The last problem is reported by the code that it
        stopped."""
        with self._lock:
            self._trouble.clear()
            self.lines.finish()

    def recall(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Records what a session did before it is resumed, without output."""
        for event in events:
            if event["kind"] == ev.CALL_STARTED:
                self._know(event["call"], event["data"])
            elif event["kind"] == ev.MODEL_REPLIED:
                self._want(event["call"], event["data"])
            elif event["kind"] == ev.TOOL_RETURNED:
                self._doubt(event["call"], event["data"])
                self._origins.returned(event["data"])

    def _know(self, call: str, data: Mapping[str, Any]) -> None:
        self._origins.begun(call, data)
        self._agents[call], self._models[call] = str(data["agent"]), str(data.get("model", ""))
        if stage := data.get("stage"):
            self._stages[call] = str(stage)
        if self._beside and _structured(data):
            self._structured[call] = 0

    def _want(self, call: str, data: Mapping[str, Any]) -> None:
        for wanted in Message.from_dict(data["message"]).tool_calls:
            self._wanted[call, wanted.id] = wanted

    def _doubt(self, call: str, data: Mapping[str, Any]) -> None:
        if "uncertain" in data and (wanted := self._wanted.get((call, data["id"]))) is not None:
            self._unknown.add((wanted.name, _arguments(wanted)))

    def _started(self, call: str, data: Mapping[str, Any]) -> None:
        self._know(call, data)
        self._go_on()
        if self._talks and (self._names or data.get("parent")):
            self._say(" on ".join(filter(None, (self._agents[call], self._models[call]))), "dim")

    def _requested(self, call: str, data: Mapping[str, Any]) -> None:
        if (trouble := self._trouble.pop(call, None)) is not None:
            self._say(f"{trouble}; asking again", "yellow")
        if call in self._structured:
            self._structured[call] = 0

    def _replied(self, call: str, data: Mapping[str, Any]) -> None:
        answered, asked = data.get("model"), self._models.get(call, "")
        if self._talks and data.get("from"):
            source = "the cache" if data["from"] == "cache" else "the log"
            self._say(f"{self._agents.get(call, '')}: from {source}", "dim", aside=True)
        elif (
            self._talks and answered and not asked.endswith(str(answered)) and answered not in self._answered
        ):
            self._answered.add(answered)
            self._say(f"{self._agents.get(call, '')}: answered by {answered}", "dim", aside=True)
        self._want(call, data)

    def _failed(self, call: str, data: Mapping[str, Any]) -> None:
        status = data.get("status")
        number = f" ({status})" if status is not None and str(status) not in data["message"] else ""
        self._trouble[call] = f"{self._agents.get(call, '')}: {data['message']}{number}"

    def _waits(self, call: str, data: Mapping[str, Any]) -> None:
        trouble = self._trouble.pop(call, self._agents.get(call, ""))
        self._say(f"{trouble}; waiting {data['seconds']:.3g} s", "yellow")

    def _rejected(self, call: str, data: Mapping[str, Any]) -> None:
        self._trouble[call] = f"{self._agents.get(call, '')}: reply rejected: {'; '.join(data['errors'])}"

    def _approval(self, call: str, data: Mapping[str, Any]) -> None:
        if not data["approved"]:
            note = f": {data['note']}" if data.get("note") else ""
            self._say(f"denied: {self._tool(call, data['id'])}{note}", "red")

    def _tool_begins(self, call: str, data: Mapping[str, Any]) -> None:
        if self._talks:
            self._say(f"→ {self._tool(call, data['id'])}", "cyan")

    def _tool_ends(self, call: str, data: Mapping[str, Any]) -> None:
        wanted = self._wanted.get((call, data["id"]), FunctionCall("", "tool"))
        name = wanted.name
        self._doubt(call, data)
        self._origins.returned(data)
        if "final" in data:
            return  # what the agent that took over said, which was shown
        if not data.get("ok", True):
            self._say(f"failed: {name}: {str(data.get('content', '')).removeprefix('error: ')}", "red")
        elif str(data.get("content", "")).strip() == self.lines.tail.strip() != "":
            self._begin(None)  # an agent's answer, which was just streamed
        elif self._talks and "reused" not in data:
            source = " (from the log)" if "from" in data else ""
            self._say(
                f"← {name}{source}: {' '.join(str(data.get('content', '')).split())}", "dim", short=True
            )

    def _ended(self, call: str, data: Mapping[str, Any]) -> None:
        self._trouble.pop(call, None)
        if data["status"] == "failed":
            self._trouble[call] = f"{self._agents.get(call, '')} failed: {data.get('error', '')}"

    def _go_on(self) -> None:
        """Something new starts: the earlier problem did not stop the program."""
        for call in [call for call in self._trouble if call in self._agents]:
            if " failed: " in self._trouble[call]:
                self._say(self._trouble.pop(call), "red")

    def _tool(self, call: str, id: str) -> str:
        wanted = self._wanted.get((call, id))
        return "a tool" if wanted is None else f"{wanted.name}({wanted.arguments})"

    def _say(self, words: str, style: str, *, short: bool = False, aside: bool = False) -> None:
        if self._silent:
            return
        self._speaking = None
        words = output.clean(f"{self._label}: {words}" if self._label else words)
        if short:
            words = screen.cut(words, screen.width())
        elif len(words) > LONG:
            words = f"{words[:LONG]}... ({len(words) - LONG:,} more characters)"
        self.lines.say(words, style, aside=aside)


_SEEN: Final[Mapping[str, Any]] = {
    ev.CALL_STARTED: Progress._started,
    ev.MODEL_REQUESTED: Progress._requested,
    ev.MODEL_REPLIED: Progress._replied,
    ev.MODEL_FAILED: Progress._failed,
    WAITING: Progress._waits,
    ev.REPLY_REJECTED: Progress._rejected,
    ev.APPROVAL_GIVEN: Progress._approval,
    ev.TOOL_REQUESTED: Progress._tool_begins,
    ev.TOOL_RETURNED: Progress._tool_ends,
    ev.CALL_ENDED: Progress._ended,
}


def asking_call() -> str | None:
    """The agent call whose approval is being asked for by the running code: of two that ask for the same, too."""
    session = acting()
    return None if session is None else session.where().call


def _arguments(call: FunctionCall) -> str:
    try:
        return json.dumps(call.parsed(), sort_keys=True)
    except ValueError:
        return call.arguments


def _structured(data: Mapping[str, Any]) -> bool:
    """True if a program reads the text of a call's replies."""
    if "format" in data:
        return True
    parts = data.get("prompt", {}).get("parts", {})
    return any(parts.get(name) != plain for name, plain in _plain().items()) if parts else False


def _plain() -> dict[str, str]:
    """The fingerprint of a prompt without an output schema."""
    from lllm.models.prompt import Prompt

    known = Prompt(path="plain", prompt="plain").fingerprint()
    return {name: known[name] for name in ("tags", "parser", "format")}
