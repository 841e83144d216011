"""What comes back: chunks or a whole body into deltas and one Reply, through the same code for both."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from lllm.backends.openai import fields
from lllm.backends.openai.calls import Calls
from lllm.backends.openai.extras import merge
from lllm.backends.openai.families import origin
from lllm.backends.openai.faults import ErrorObject as ErrorObject
from lllm.backends.openai.faults import error_within
from lllm.backends.openai.fields import as_list, as_object, as_text, side_object, side_text, wrong
from lllm.backends.openai.parts import THINKING_FIELDS, calls_of, grows, part_of, thinking_of
from lllm.backends.openai.sent import TAKEN
from lllm.backends.openai.usage import read_usage
from lllm.backends.tagged_calls import UNFINISHED
from lllm.backends.thinking import Mode, Splitter
from lllm.core.jsonable import unicode_only
from lllm.errors import ProtocolError
from lllm.models import finish
from lllm.models.message import FunctionCall, unknown
from lllm.models.reply import Reply, Usage
from lllm.ports import Delta, Request, Restart, TextDelta, ThinkingDelta, ToolCallDelta

_KNOWN: Final = frozenset(
    ("role", "name", "index", "content", "refusal", "tool_calls", "function_call", *THINKING_FIELDS)
)
_TEXT_COMPLETION: Final = "this is a text completion: the endpoint does not speak chat completions here"


class Assembly:
    """Assembles one reply: call `chunk()` for every chunk of a stream, or `body()` once; then `close()` and `reply()`.

    A streamed answer gives the same reply or error as the unstreamed one. `enforced`: what the reply records if an output
    schema was requested. `expect`: this model's replies begin with reasoning of which only the end is marked. `place`:
    the API root that the provider's own keys belong to; without one they are dropped.

    All methods raise ErrorObject for an error instead of an answer, ProtocolError for an invalid answer; `reply` raises
    the ProviderError of an interrupted reply.
    """

    __slots__ = (
        "_apart", "_begun", "_calls", "_enforced", "_extra", "_full", "_half", "_id", "_index", "_logprobs", "_model", "_place",
        "_prompt_token_ids", "_refusal", "_request", "_said", "_several", "_splitter", "_thought", "_token_ids", "_unread",
        "_usage", "_whole", "_wrote", "finish", "loose",
    )  # fmt: skip

    def __init__(
        self,
        request: Request,
        mode: Mode = "auto",
        enforced: str | None = "provider",
        *,
        expect: bool = False,
        place: str | None = None,
    ) -> None:
        self._request = request
        self._enforced = None if request.format is None else enforced
        self._splitter = Splitter(
            mode,
            tools=bool(request.tools),
            literal=request.literal_tags,
            structured=request.format is not None,
            expect=expect,
        )
        self._place = place
        self._calls = Calls(extras=place is not None)
        self._extra: dict[str, Any] = {}
        self._refusal: list[str] = []
        self._logprobs: list[dict[str, Any]] | None = None
        self._token_ids: list[int] | None = None
        self._prompt_token_ids: list[int] | None = None
        self._unread = False  # log-probabilities or token ids arrived that cannot be read
        self._usage: Any = None
        self._id: str | None = None
        self._model: str | None = None
        self._apart: Any = None  # an error from a chunk without an answer
        self._begun = False  # an answer, or a chunk of one, has arrived
        self._said = False  # a chunk had content
        self._wrote = False  # a chunk had text
        self._thought = False  # a chunk had thinking in its own field
        self._whole: list[dict[str, Any]] = []  # complete messages that arrived instead of chunks
        self._full: dict[str, Any] | None = None  # the last complete message
        self._half = ""  # the first half of a surrogate pair, at the end of the text so far
        self._several = bool(side_object(request.sampling.get("extra_body")).get("n", 1) != 1)
        self._index: Any = None  # index of the choice that is read, if there are several
        self.loose = False
        """True if a chunk was loose JSON: see `fields.loads`."""
        self.finish: Any = None
        """The finish reason in the provider's word, once known."""

    @property
    def closed_alone(self) -> bool:
        """True if only the end of the reply's reasoning was marked."""
        return self._splitter.closed_alone

    @property
    def partial(self) -> str:
        """The text so far, for the message of a fault."""
        return self._splitter.content

    @property
    def used(self) -> tuple[Usage | None, str | None]:
        """The tokens that were reported so far, and the model."""
        return read_usage(self._usage), self._model

    # --- a stream

    def chunk(self, chunk: Any) -> Sequence[Delta]:
        """Returns the deltas of one chunk of a stream."""
        if chunk.__class__ is not dict:
            chunk = _answer(chunk)
        self._head(chunk)
        choices = chunk.get("choices")
        if not self._begun:
            self._apart = self._apart or error_within(chunk)
        if not choices:
            if choices is None and (error := error_within(chunk)) is not None:
                raise ErrorObject(error)
            return ()
        choice = choices[0] if choices.__class__ is list else None
        if choice.__class__ is not dict or self._several or "error" in choice:
            choice = self._choice(choices)
            if choice is None:
                return ()
        if reason := choice.get("finish_reason"):
            self._ended(reason)
        if choice.get("logprobs") or "token_ids" in choice:
            self._tokens(choice)
        delta = choice.get("delta")
        if not delta:
            return self._no_delta(choice, delta)
        if delta.__class__ is not dict:
            raise wrong("choices[0].delta", delta, "an object")
        self._begun = True
        text = delta.get("content")
        if len(delta) == 1 and text.__class__ is str and not self.loose:  # nearly every chunk
            if text:
                self._said = self._wrote = True
            pieces = self._splitter.feed(text)
            return self._restarted(pieces) if self._calls.slots else pieces
        if "message" in choice:
            self._note(choice["message"])
        return list(self._pieces(delta, "choices[0].delta"))

    def _choice(self, choices: Any) -> dict[str, Any] | None:
        """The choice that is read: the first one, as in a body. None for a chunk of another."""
        if choices.__class__ is not list:
            raise wrong("choices", choices, "a list")
        choice = choices[0]
        if self._several:
            if self._index is None:
                self._index = as_object(choice, "choices[0]").get("index")
            choice = next((c for c in choices if isinstance(c, dict) and c.get("index") == self._index), None)
            if choice is None:
                return None
        choice = as_object(choice, "choices[0]")
        if choice.get("error"):  # OpenRouter, if a provider failed within the reply
            raise ErrorObject(choice["error"])
        return choice

    def _ended(self, reason: Any) -> None:
        """Records a finish reason. A plain end after another reason does not replace it."""
        if reason != "null" and (self.finish is None or finish.meaning(reason) != "stop"):
            self.finish = reason

    def _no_delta(self, choice: Mapping[str, Any], delta: Any) -> Sequence[Delta]:
        message = choice.get("message")
        if message is not None:
            self._note(message)
            if not self._said:
                self._whole.append(self._full or {})
        elif delta is not None:
            _object(delta, "choices[0].delta")
            self._begun = True
        elif "text" in choice and "delta" not in choice and not self._begun:
            raise ProtocolError(_TEXT_COMPLETION)
        return ()

    def _note(self, message: Any) -> None:
        if message is not None:
            self._full = _object(message, "choices[0].message")
            self._begun = True

    def _pieces(self, delta: Mapping[str, Any], place: str) -> Iterator[Delta]:
        """Yields the deltas of one `delta` object."""
        thought = thinking_of(delta)
        if thought:
            self._said = self._thought = True
            yield from self._restarted(self._splitter.thought(thought))
        yield from self._restarted(self._content(delta.get("content"), f"{place}.content"))
        if refusal := as_text(delta.get("refusal") or None, f"{place}.refusal"):
            self._said = True
            self._refusal.append(refusal)
        for number, entry in enumerate(calls_of(delta, place)):
            self._said = True
            if self._splitter.calls and not self._calls.slots:
                yield from self._taken_back()
            yield from self._calls.add(entry, f"{place}.tool_calls[{number}]", self.loose)
        self._keep(delta)

    # --- an unstreamed answer

    def body(self, body: Any) -> None:
        """Reads an unstreamed answer."""
        body = _answer(body)
        self._head(body)
        choices = body.get("choices")
        if not choices:
            if (error := error_within(body)) is not None:
                raise ErrorObject(error)
            raise ProtocolError(
                f"there is no answer in the answer: 'choices' is missing or empty{_native(body)}"
            )
        self._index = None
        choice = self._choice(choices) or {}
        if reason := choice.get("finish_reason"):
            self._ended(reason)
        if choice.get("logprobs") or "token_ids" in choice:
            self._tokens(choice)
        message = choice.get("message")
        if message is None:
            message = choice.get("delta")  # some servers use one form for both
        if message is None:
            if "text" in choice and "message" not in choice and "delta" not in choice:
                raise ProtocolError(_TEXT_COMPLETION)
            if (error := error_within(body)) is not None:
                raise ErrorObject(error)
            raise ProtocolError("the answer cannot be read: 'message' is missing")
        self._note(message)

    # --- the end

    def close(self) -> Sequence[Delta]:
        """The deltas that were held back; nothing more comes."""
        if not self._begun:
            if self._apart is not None:
                raise ErrorObject(self._apart)
            raise ProtocolError("the stream holds no answer: no chunk has 'choices' with a 'delta'")
        out: list[Delta] = []
        if len(self._whole) > 1 and not self._said and not grows(self._whole):
            for message in self._whole:  # a server that sends chunks as messages
                out += self._pieces(message, "choices[0].message")
        elif self._full is not None:
            out += self._fill(self._full)
        if self._half:
            out += self._splitter.feed("\ufffd")
            self._half = ""
        if self.loose:
            out += self._calls.close()
        cut = finish.meaning(self.finish) == "length"
        return [*out, *self._restarted(self._splitter.finish(cut=cut))]

    def _fill(self, message: Mapping[str, Any]) -> list[Delta]:
        """Adds what a complete message has beyond the chunks before it: all of it if there were none, else fields that no
        chunk had. Servers repeat the complete message after the chunks."""
        place, out, split = "choices[0].message", list[Delta](), self._splitter
        thought = thinking_of(message)
        if thought and not self._thought:
            out += split.thought(thought)
        out += self._restarted(self._content(message.get("content"), f"{place}.content", say=not self._wrote))
        refusal = as_text(message.get("refusal") or None, f"{place}.refusal")
        if refusal and not self._refusal:
            self._refusal.append(refusal)
        calls = calls_of(message, place)
        if calls and not self._calls.slots:
            if split.calls:
                out += self._taken_back()
            self._calls.whole(calls, f"{place}.tool_calls")
            out += self._calls.deltas()
        self._keep(message, fill=True)
        return out

    def reply(self) -> Reply:
        """The finished reply."""
        split = self._splitter
        reason = finish.meaning(self.finish)
        calls: tuple[FunctionCall, ...] = ()
        if slots := self._calls.slots:
            calls = tuple(
                self._with_extra(
                    self._identified(number, slot.id, slot.name, slot.text or without), slot.extra
                )
                for number, slot in enumerate(slots)
                # only the last one can have been cut off
                for without in (UNFINISHED if reason == "length" and slot is slots[-1] else "{}",)
            )
        elif split.calls:
            calls = tuple(
                self._identified(number, "", call.name, call.arguments)
                for number, call in enumerate(split.calls)
            )
        content, raw = split.content, split.raw
        if reason is None:
            raise finish.fault(self.finish, content)
        if calls and reason == "stop":
            reason = "tool_calls"
        extra = self._own(self._extra) or None
        # ids that other providers refuse are sent back to this one only and replaced for others
        own = extra or any(call.extra or not TAKEN.fullmatch(call.id) for call in calls)
        return Reply(
            content=content,
            thinking=split.thinking,
            tool_calls=calls,
            finish_reason=reason,
            refusal="".join(self._refusal) or None,
            usage=read_usage(self._usage),
            model=self._model,
            id=self._id,
            logprobs=None if self._unread else self._logprobs,
            token_ids=None if self._unread else self._token_ids,
            prompt_token_ids=self._prompt_token_ids,
            raw=None if raw == content else raw,
            enforced=self._enforced,
            extra=extra,
            extra_from=origin(self._place, self._request.model, self._model) if own and self._place else None,
        )

    # --- fields

    def _head(self, chunk: dict[str, Any]) -> None:
        if chunk.get("error"):
            raise ErrorObject(chunk["error"])
        if usage := chunk.get("usage"):
            self._usage = usage
        if self._id is None:
            self._id = side_text(chunk.get("id"))
            self._model = side_text(chunk.get("model"))
        if (ids := chunk.get("prompt_token_ids")) is not None:
            self._prompt_token_ids = fields.token_ids(ids)

    def _content(self, content: Any, place: str, *, say: bool = True) -> list[Delta]:
        """Yields the deltas of `content`: text, or parts (Mistral and others). Without `say` it is only checked."""
        out: list[Delta] = []
        if content is None or content == "":
            return out
        if isinstance(content, str):
            if say:
                self._said = self._wrote = True
                out += self._splitter.feed(self._joined(content))
            return out
        parts = as_list(content, place)
        for number, part in enumerate(parts):
            kind, text = part_of(part, f"{place}[{number}]")
            if not text or not say:
                continue
            self._said = True
            if kind == "text":
                self._wrote = True
                out += self._splitter.feed(self._joined(text))
            elif kind == "refusal":
                self._refusal.append(text)
            else:
                out += self._splitter.thought(text)
        return out

    def _keep(self, message: Mapping[str, Any], *, fill: bool = False) -> None:
        """Stores the provider's own keys of a message."""
        if self._place is None or message.keys() <= _KNOWN:
            return
        extra = fields.kept(unknown(message, _KNOWN))
        merge(self._extra, {key: value for key, value in extra.items() if not fill or key not in self._extra})

    def _tokens(self, choice: Mapping[str, Any]) -> None:
        logprobs = side_object(choice.get("logprobs"))
        if (content := logprobs.get("content")) is not None:
            found = fields.tokens(content)
            self._unread = self._unread or found is None
            self._logprobs = (self._logprobs or []) + (found or [])
        if (ids := choice.get("token_ids")) is not None:
            numbers = fields.token_ids(ids)
            self._unread = self._unread or numbers is None
            self._token_ids = (self._token_ids or []) + (numbers or [])

    def _identified(self, number: int, ident: str, name: str, arguments: str) -> FunctionCall:
        """The call; one that came without an id gets one: the same for the same call, another in the next turn."""
        if not ident:
            text = f"{len(self._request.messages)}\0{number}\0{name}\0{arguments}"
            ident = "call_" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:24]
        return FunctionCall(ident, name, arguments)

    def _with_extra(self, call: FunctionCall, extra: dict[str, Any]) -> FunctionCall:
        return FunctionCall(call.id, call.name, call.arguments, self._own(extra)) if extra else call

    def _own(self, extra: dict[str, Any]) -> dict[str, Any]:
        """A provider's keys, without lone surrogates at the edges of their texts."""
        return dict(unicode_only(extra)) if self.loose else extra

    def _restarted(self, pieces: Sequence[Delta]) -> Sequence[Delta]:
        """The deltas, with the calls from the API's own field repeated after a `Restart`. Calls in the text are dropped
        if there are such: a model that writes both means the same calls."""
        if not self._calls.slots:
            return pieces
        out: list[Delta] = [piece for piece in pieces if not isinstance(piece, ToolCallDelta)]
        return [*out, *self._calls.deltas()] if any(type(piece) is Restart for piece in out) else out

    def _taken_back(self) -> Iterator[Delta]:
        """Takes back calls found in the text, because others arrive in the API's own field."""
        yield Restart("the calls of the text are those of the reply")
        if thinking := self._splitter.thinking:
            yield ThinkingDelta(thinking)
        if content := self._splitter.content:
            yield TextDelta(content)

    def _joined(self, text: str) -> str:
        """Text whose last character may be incomplete: the half is held back."""
        if not self.loose:
            return text
        text, self._half = fields.joined(self._half, text)
        return text


def _answer(value: Any) -> dict[str, Any]:
    """An answer, or a chunk of one, as an object. Gemini puts an error into a list."""
    if isinstance(value, list) and value and isinstance(value[0], dict) and value[0].get("error"):
        raise ErrorObject(value[0]["error"])
    if not isinstance(value, dict):
        raise ProtocolError(f"the endpoint must send an object, got {type(value).__name__}")
    return value


def _object(value: Any, field: str) -> dict[str, Any]:
    """An object. PHP gateways write an empty one as []."""
    return {} if value == [] else as_object(value, field)


def _native(body: Mapping[str, Any]) -> str:
    return " (this is Ollama's own API; the compatible one is under /v1)" if "done" in body else ""
