"""A session as OpenTelemetry spans, in OTLP's JSON form (https://opentelemetry.io/docs/specs/otlp/): no SDK is needed.

One trace per session: the session, in it the agent calls, in these each request to a model (retries are spans of their own)
and each tool run; an agent that is a tool of another stands within that tool's span. Ids come from the session's, so the
same session is the same trace every time. Names are those of `lllm.log.export.conventions`.

What was said is left out unless `content` is True; so are the messages of errors, which may quote it. Then each message is
written once: a request's span has the messages that are new in it, what came before stands on the spans before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from lllm._version import __version__
from lllm.core import events as ev
from lllm.core.events import error_class
from lllm.core.spent import reused
from lllm.core.state import State
from lllm.log.export import conventions as names
from lllm.log.export.lines import text
from lllm.log.export.source import Source
from lllm.log.folding import Folding
from lllm.log.transcript import asked, content_of
from lllm.models.message import Message
from lllm.recorded_value import arguments_of, name_of

if TYPE_CHECKING:
    from lllm.core.records import (
        CallEnded,
        CallStarted,
        EffectRequested,
        ModelReplied,
        SessionEnded,
        ToolRequested,
        ToolReturned,
    )

ERROR: Final = 2


def write(source: Source, *, content: bool = False) -> Iterator[str]:
    """One OTLP document (an ExportTraceServiceRequest), in pieces: one per span."""
    head, tail = envelope()
    yield head
    for number, span in enumerate(spans(source, content=content)):
        yield f"{',' if number else ''}\n{text(span)}"
    yield tail + "\n"


def envelope() -> tuple[str, str]:
    """What stands before and after the spans of a document."""
    resource = {"attributes": attributes({"service.name": "lllm", "service.version": __version__})}
    scope = {"name": "lllm", "version": __version__}
    head = f'{{"resourceSpans":[{{"resource":{text(resource)},"scopeSpans":[{{"scope":{text(scope)},"spans":['
    return head, f'],"schemaUrl":{text(names.SCHEMA_URL)}}}],"schemaUrl":{text(names.SCHEMA_URL)}}}]}}'


def spans(source: Source, *, content: bool = False) -> Iterator[dict[str, Any]]:
    """The spans of a session in OTLP's JSON form, each when it ends."""
    yield from _Tracer(source, content).spans()


class _Span:
    """A span that has begun."""

    __slots__ = ("at", "failed", "id", "kind", "name", "parent", "values")

    def __init__(
        self, kind: str, subject: str, id: str, parent: str, at: int, values: dict[str, Any]
    ) -> None:
        self.kind, self.name, self.id, self.parent, self.at = (
            kind,
            f"{kind} {subject}".strip(),
            id,
            parent,
            at,
        )
        self.values = {names.OPERATION: kind, **values}
        self.failed = ""


class _Tracer:
    """Reads a session event by event."""

    def __init__(self, source: Source, content: bool) -> None:
        self.source = source
        self.content = content
        self.trace = hashlib.sha256(source.session.encode()).hexdigest()[:32]
        self.open: dict[tuple[str, ...], _Span] = {}
        self.told: dict[str, list[Message]] = {}  # of each call: messages that no request has had yet
        self.count = 0

    def spans(self) -> Iterator[dict[str, Any]]:
        folding = Folding()
        at = 0
        for event in self.source.events:
            call, at = event["call"], event["at"]
            before = folding.calls.get(call, State()) if call is not None else State()
            after = folding.take(event)
            yield from self._take(event, before, after)
        for key in [*(key for key in reversed(self.open) if key), *(key for key in self.open if not key)]:
            yield self._end(key, at, failed="unfinished")

    def _take(self, event: Mapping[str, Any], before: State, after: State) -> Iterator[dict[str, Any]]:
        kind, data, at, call = event["kind"], event["data"], event["at"], event["call"]
        match kind:
            case ev.SESSION_STARTED:
                title = str(data.get("name") or "")
                self._begin((), names.WORKFLOW, title, None, at, {names.WORKFLOW_NAME: title or None})
            case ev.SESSION_ENDED:
                for key in [key for key in reversed(self.open) if key]:
                    yield self._end(key, at, failed="unfinished")
                if () in self.open:
                    yield self._end((), at, **_verdict(data))
            case ev.CALL_STARTED:
                self._call(call, data, at)
            case ev.CALL_ENDED:
                for key in [key for key in reversed(self.open) if key[:1] == (call,) and len(key) > 1]:
                    yield self._end(
                        key, at, failed=data.get("reason") or "unfinished", note=data.get("error", "")
                    )
                yield self._end((call,), at, **_verdict(data))
            case ev.MODEL_REQUESTED:
                if (call, "model") in self.open:  # a resumed session asks again what it had asked
                    yield self._end((call, "model"), at, failed="unfinished")
                self._request(call, at)
            case ev.MODEL_REPLIED:
                yield self._reply(call, data, at)
            case ev.MODEL_FAILED:
                yield self._end((call, "model"), at, failed=data["error"], note=data["message"])
            case ev.REPLY_REJECTED | ev.HANDLER_RETURNED:
                self._news(call, before, after)
            case ev.TOOL_REQUESTED:
                self._tool(call, data, before, at)
            case ev.TOOL_RETURNED:
                if (call, "tool", data["id"]) in self.open:
                    yield self._result(call, data, after, at)
            case ev.EFFECT_REQUESTED:
                self._effect(call, data, at)
            case ev.EFFECT_RETURNED:
                if (key := ("effect", str(data["n"]))) in self.open:
                    failed = data.get("error") or ("cancelled" if data.get("cancelled") else "")
                    if self.content and "value" in data:
                        self._set(key, {names.RESULT: data["value"]})
                    yield self._end(key, at, failed=failed, note=data.get("message", ""))
        if kind in (ev.TOOL_RETURNED, ev.APPROVAL_GIVEN):
            self._news(call, before, after)

    def _call(self, call: str, data: CallStarted, at: int) -> None:
        via = (data.get("parent") or "", "tool", data.get("via") or "")
        provider, _, model = (data.get("model") or "").partition("/")
        values = {
            names.PROVIDER: names.PROVIDERS.get(provider, provider) or "_OTHER",
            names.AGENT_NAME: data["agent"],
            names.REQUEST_MODEL: model or provider or None,
            names.CONVERSATION: self.source.session,
            names.OUTPUT_TYPE: "json" if data.get("format") else None,
            **names.sampling(data.get("sampling") or {}),
        }
        added = [Message.from_dict(item) for item in data["add"]]
        self.told[call] = added
        content: dict[str, Any] = {}
        if self.content and (tools := self.source.tools(data)):
            content[names.DEFINITIONS] = [
                {"type": "function", **tool.get("function", tool)} for tool in tools
            ]
        parent = via if via in self.open else (data["parent"],) if data.get("parent") else ()
        self._begin((call,), names.AGENT, data["agent"], parent, at, {**values, **content})

    def _request(self, call: str, at: int) -> None:
        agent = self.open[(call,)].values
        copied = (names.PROVIDER, names.REQUEST_MODEL, names.CONVERSATION, names.OUTPUT_TYPE)
        values = {name: agent.get(name) for name in copied}
        values |= {name: value for name, value in agent.items() if name.startswith("gen_ai.request.")}
        new, self.told[call] = self.told[call], []
        if self.content:
            system = [message for message in new if message.role in ("system", "developer")]
            rest = [message for message in new if message.role not in ("system", "developer")]
            if system:
                values[names.SYSTEM] = [part for message in system for part in names.parts(message)]
            if rest:
                values[names.INPUT] = names.messages(rest)
        model = str(values.get(names.REQUEST_MODEL) or "")
        self._begin((call, "model"), names.CHAT, model, (call,), at, values)

    def _reply(self, call: str, data: ModelReplied, at: int) -> dict[str, Any]:
        finish = data["finish"]
        values = {
            names.RESPONSE_MODEL: data.get("model"),
            names.RESPONSE_ID: data.get("id"),
            names.FINISH_REASONS: [finish],
            **{
                names.USAGE[key]: count
                for key, count in (data.get("usage") or {}).items()
                if key in names.USAGE and not reused(data)  # its tokens are in the parent's span
            },
        }
        if self.content:
            values[names.OUTPUT] = names.output(Message.from_dict(data["message"]), finish)
        self._set((call, "model"), values)
        return self._end((call, "model"), at)

    def _effect(self, call: str | None, data: EffectRequested, at: int) -> None:
        """An effect of the program's own code: a tool that no model has asked for."""
        request = data.get("request")
        name = data.get("name") or name_of(data["kind"], request)
        values: dict[str, Any] = {
            names.TOOL_NAME: name,
            names.TOOL_ID: f"e{data['n']}",
            names.TOOL_TYPE: "extension",
            names.CONVERSATION: self.source.session,
        }
        if self.content and request is not None:
            values[names.ARGUMENTS] = arguments_of(data["kind"], request)
        above = () if call is None else (call, "tool", data.get("via", ""))
        self._begin(("effect", str(data["n"])), names.TOOL, name, above, at, values)

    def _tool(self, call: str, data: ToolRequested, before: State, at: int) -> None:
        wanted = asked(before, data["id"])
        values: dict[str, Any] = {
            names.TOOL_NAME: data["name"],
            names.TOOL_ID: data["id"],
            names.TOOL_TYPE: "function",
            names.CONVERSATION: self.source.session,
        }
        if self.content:
            values[names.ARGUMENTS] = names.arguments(wanted)
        key = (call, "tool", data["id"])
        if key not in self.open:  # a resumed session goes on with the span of the run that it repeats
            self._begin(key, names.TOOL, values[names.TOOL_NAME], (call,), at, values)

    def _result(self, call: str, data: ToolReturned, after: State, at: int) -> dict[str, Any]:
        key = (call, "tool", data["id"])
        content = content_of(after, data)
        good = data.get("ok", True)
        if self.content and good:
            self._set(key, {names.RESULT: content})
        return self._end(key, at, failed="" if good else error_class(data) or "tool_error", note=content)

    def _news(self, call: str, before: State, after: State) -> None:
        """The messages that came to a dialog, but for the replies: those stand on the span of their request."""
        had, has = before.head, after.head
        new: list[Message] = []
        while has is not None and (had is None or has.length > had.length):
            new.append(has.message)
            has = has.parent
        self.told[call] += [message for message in reversed(new) if message.role != "assistant"]

    # --- spans

    def _begin(
        self,
        key: tuple[str, ...],
        kind: str,
        subject: str,
        parent: tuple[str, ...] | None,
        at: int,
        values: dict[str, Any],
    ) -> None:
        self.count += 1
        id = hashlib.sha256(f"{self.source.session} {self.count}".encode()).hexdigest()[:16]
        above = self.open.get(parent) if parent is not None else None
        self.open[key] = _Span(kind, subject, id, "" if above is None else above.id, at, values)

    def _set(self, key: tuple[str, ...], values: Mapping[str, Any]) -> None:
        self.open[key].values.update(values)

    def _end(self, key: tuple[str, ...], at: int, failed: str = "", note: str = "") -> dict[str, Any]:
        span = self.open.pop(key)
        status: dict[str, Any] = {}
        if failed:
            span.values[names.ERROR_TYPE] = failed
            status = {"code": ERROR, **({"message": note} if note and self.content else {})}
        out: dict[str, Any] = {"traceId": self.trace, "spanId": span.id}
        if span.parent:
            out["parentSpanId"] = span.parent
        return {
            **out,
            "name": span.name,
            "kind": names.KIND[span.kind],
            "startTimeUnixNano": str(span.at * 1000),
            "endTimeUnixNano": str(max(at, span.at) * 1000),
            "attributes": attributes(span.values),
            "status": status,
        }


def _verdict(data: SessionEnded | CallEnded) -> dict[str, str]:
    if data["status"] == "done":
        return {}
    return {"failed": str(data.get("reason") or data["status"]), "note": str(data.get("error") or "")}


def attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Attributes in OTLP's JSON form; those that are None are left out."""
    return [{"key": key, "value": _value(value)} for key, value in values.items() if value is not None]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(one, str) for one in value)
    ):
        return {"arrayValue": {"values": [_value(one) for one in value]}}
    # messages, definitions and arguments: as JSON, which the conventions allow where attributes are not structured
    return {"stringValue": value if isinstance(value, str) else text(value)}
