"""Parses answers of the Responses API: events into deltas, a response into a Reply. Does no network I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lllm.backends.openai.families import origin
from lllm.backends.openai.faults import ErrorObject, error_within
from lllm.backends.openai.fields import (
    arguments_text,
    as_list,
    as_object,
    as_text,
    kept,
    side_object,
    side_text,
    tokens,
)
from lllm.backends.openai.tool_search import CALL
from lllm.backends.openai.usage import read_usage
from lllm.backends.tagged_calls import UNFINISHED
from lllm.backends.thinking import Mode, Splitter
from lllm.errors import ProtocolError
from lllm.models import finish
from lllm.models.message import FunctionCall
from lllm.models.reply import Reply
from lllm.ports import Delta, Request, Restart, TextDelta, ThinkingDelta, ToolCallDelta

_END: Final = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
REASONING: Final = "reasoning_items"
"""Key of a message's `extra` with its encrypted reasoning, as items of this API."""
NAMESPACE: Final = "namespace"
"""Key of a call's `extra`, and of its item: where a tool was found that is not in the list."""


class Following:
    """Converts a stream's events to deltas.

    Attributes:
        last: the complete response, once the last event has brought it.
    """

    def __init__(self, request: Request, mode: Mode) -> None:
        self._splitter = splitter_for(request, mode)
        self._calls: dict[Any, int] = {}
        self._part: tuple[Any, Any] | None = None
        self._items: dict[int, Any] = {}
        self._finder = request.finder
        self.last: dict[str, Any] | None = None

    @property
    def partial(self) -> str:
        return self._splitter.content

    def event(self, event: Any) -> Sequence[Delta]:
        """Returns the deltas of one event. Raises ErrorObject for an error, ProtocolError for an invalid event."""
        event = as_object(event, "event")
        kind = event.get("type")
        if kind == "error" or (event.get("error") and kind not in _END):
            raise ErrorObject(event.get("error") or event)
        if kind in _END:
            response = as_object(event.get("response"), f"{kind}.response")
            if not response.get("output") and self._items:  # some servers omit it at the end
                response = {**response, "output": [self._items[at] for at in sorted(self._items)]}
            self.last = response
            return ()
        place, index = f"{kind}.delta", _number(event.get("output_index"))
        if kind == "response.output_text.delta":
            return self._splitter.feed(as_text(event.get("delta"), place))
        if kind in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
            part = (index, _number(event.get("summary_index")))
            gap = "\n\n" if self._part is not None and self._part != part else ""
            self._part = part
            return self._splitter.thought(gap + as_text(event.get("delta"), place))
        if kind == "response.output_item.done" and event.get("item"):
            self._items[len(self._items) if index is None else index] = event["item"]
            return self._searched(side_object(event["item"]), index)
        if kind == "response.output_item.added":
            return self._added(side_object(event.get("item")), index)
        if kind == "response.function_call_arguments.delta" and index in self._calls:
            return (ToolCallDelta(self._calls[index], arguments=as_text(event.get("delta"), place)),)
        return ()

    def _added(self, item: Mapping[str, Any], index: int | None) -> Sequence[Delta]:
        if item.get("type") != "function_call":
            return ()
        number = self._calls.setdefault(index, len(self._calls))
        ident, name = side_text(item.get("call_id")), as_text(item.get("name"), "item.name")
        return (ToolCallDelta(number, ident, name, arguments_text(item.get("arguments"), "item.arguments")),)

    def _searched(self, item: Mapping[str, Any], index: int | None) -> Sequence[Delta]:
        """A search for deferred tools comes in one piece."""
        if item.get("type") != CALL or self._finder is None:
            return ()
        number = self._calls.setdefault(index, len(self._calls))
        call = _search(item, self._finder, "item")
        return (ToolCallDelta(number, call.id, call.name, call.arguments),)

    def close(self) -> Sequence[Delta]:
        return [
            piece
            for piece in self._splitter.finish(cut=_is_cut(side_object(self.last)))
            if isinstance(piece, TextDelta | ThinkingDelta | Restart)
        ]


def _number(value: Any) -> int | None:
    return value if type(value) is int else None


def splitter_for(request: Request, mode: Mode) -> Splitter:
    """The Splitter that separates reasoning from text in the replies to a request."""
    return Splitter(
        mode,
        tools=bool(request.tools),
        literal=request.literal_tags,
        structured=request.format is not None,
    )


def reply_of(response: Any, request: Request, mode: Mode, place: str | None = None) -> Reply:
    """A finished response as a Reply. `place`: the origin of its own keys.

    Raises ErrorObject, ProtocolError, and the ProviderError of an interrupted response.
    """
    response = as_object(response, "response")
    if response.get("error"):
        raise ErrorObject(response["error"])
    if "output" not in response:
        if (error := error_within(response)) is not None:
            raise ErrorObject(error)
        raise ProtocolError("the answer is not a response: 'output' is missing")
    splitter = splitter_for(request, mode)
    thoughts: list[str] = []
    calls: list[FunctionCall] = []
    refusal: list[str] = []
    reasoning: list[Any] = []
    logprobs: list[dict[str, Any]] | None = None
    for number, item in enumerate(as_list(response["output"], "output")):
        at = f"output[{number}]"
        item = as_object(item, at)
        kind = item.get("type")
        if kind == "message":
            for part_number, part in enumerate(as_list(item.get("content"), f"{at}.content")):
                part_at = f"{at}.content[{part_number}]"
                part = as_object(part, part_at)
                if part.get("type") == "output_text":
                    splitter.feed(as_text(part.get("text"), f"{part_at}.text"))
                    logprobs = _more(logprobs, part.get("logprobs"))
                elif part.get("type") == "refusal":
                    refusal.append(as_text(part.get("refusal"), f"{part_at}.refusal"))
        elif kind == "reasoning":
            texts = item.get("summary") or item.get("content")
            found = [
                side_text(side_object(p).get("text")) for p in (texts if isinstance(texts, list) else ())
            ]
            thoughts += [text for text in found if text]
            if item.get(
                "encrypted_content"
            ):  # it was requested, and must be sent back with the call after it
                reasoning.append(item)
        elif kind == "function_call":
            space = side_text(item.get(NAMESPACE))
            calls.append(
                FunctionCall(
                    side_text(item.get("call_id")) or side_text(item.get("id")) or "",
                    as_text(item.get("name"), f"{at}.name"),
                    arguments_text(item.get("arguments"), f"{at}.arguments"),
                    {NAMESPACE: space} if space else None,
                )
            )
        elif kind == CALL and request.finder is not None:
            calls.append(_search(item, request.finder, at))
    if thoughts:
        splitter.thought("\n\n".join(thoughts))
    cut = _is_cut(response)
    splitter.finish(cut=cut)
    content, raw = splitter.content, splitter.raw
    reason = _reason(response)
    ours = finish.meaning(reason)
    if ours is None:
        raise finish.fault(reason, content)
    if cut and calls and kind == "function_call" and not calls[-1].arguments:
        calls[-1] = calls[-1].with_arguments(UNFINISHED)
    calls = [call if call.arguments else call.with_arguments("{}") for call in calls] or splitter.calls
    extra = kept({REASONING: reasoning}) if reasoning else None
    return Reply(
        content=content,
        thinking=splitter.thinking,
        tool_calls=tuple(calls),
        finish_reason="tool_calls" if calls and ours == "stop" else ours,
        refusal="".join(refusal) or None,
        usage=read_usage(response.get("usage")),
        model=side_text(response.get("model")),
        id=side_text(response.get("id")),
        logprobs=logprobs,
        raw=None if raw == content else raw,
        extra=extra or None,
        extra_from=origin(place, request.model, side_text(response.get("model")))
        if place and (extra or any(call.extra for call in calls))
        else None,
    )


def _search(item: Mapping[str, Any], finder: str, at: str) -> FunctionCall:
    """A search for deferred tools as a call of the tool that finds them."""
    return FunctionCall(
        side_text(item.get("call_id")) or side_text(item.get("id")) or "",
        finder,
        arguments_text(item.get("arguments"), f"{at}.arguments") or "{}",
    )


def _reason(response: Mapping[str, Any]) -> Any:
    """The response's own word for why it ended."""
    status = response.get("status") or "completed"
    if status == "incomplete":
        return side_object(response.get("incomplete_details")).get("reason") or "length"
    return status


def _is_cut(response: Mapping[str, Any]) -> bool:
    """Whether the token limit ended the response."""
    return finish.meaning(_reason(response)) == "length"


def _more(logprobs: list[dict[str, Any]] | None, found: Any) -> list[dict[str, Any]] | None:
    """The log-probabilities so far plus those of one more part; unreadable ones are left out."""
    return (logprobs or []) + (tokens(found) or []) if found else logprobs
