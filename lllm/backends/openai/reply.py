"""What comes back: chunks or a whole body into deltas and one Reply, through the same code for both."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lllm.backends.openai.faults import ErrorObject as ErrorObject
from lllm.backends.openai.usage import read_usage
from lllm.backends.thinking import Mode, Splitter
from lllm.core.canonical import encode
from lllm.errors import ProtocolError
from lllm.models.message import FunctionCall
from lllm.models.reply import Reply
from lllm.ports import Delta, Request, Restart, ToolCallDelta

# where providers put thinking outside of the content: DeepSeek and vLLM, OpenRouter and newer vLLM, Ollama
_THINKING_FIELDS: Final = ("reasoning_content", "reasoning", "thinking")


class _Slot:
    """A tool call as far as it has come."""

    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []

    def whole(self) -> bool:
        """Whether the arguments so far are complete: what follows is another call."""
        import orjson

        try:
            orjson.loads("".join(self.arguments))
        except orjson.JSONDecodeError:
            return False
        return True


class Assembly:
    """Puts one reply together: `chunk()` for every piece of a stream, or `body()` once; then `reply()`.

    `enforced` is what the reply says of itself where a format was asked for. `expect`: whether the model's replies begin
    with reasoning that only its end marks.
    """

    __slots__ = (
        "_by_index", "_enforced", "_id", "_logprobs", "_model", "_prompt_token_ids", "_refusal", "_request", "_slots",
        "_splitter", "_token_ids", "_usage", "finish",
    )  # fmt: skip

    def __init__(
        self,
        request: Request,
        mode: Mode = "auto",
        enforced: str | None = "provider",
        *,
        expect: bool = False,
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
        self._slots: list[_Slot] = []
        self._by_index: dict[int, _Slot] = {}
        self._refusal: list[str] = []
        self._logprobs: list[dict[str, Any]] | None = None
        self._token_ids: list[int] | None = None
        self._prompt_token_ids: list[int] | None = None
        self._usage: Mapping[str, Any] | None = None
        self._id: str | None = None
        self._model: str | None = None
        self.finish: str | None = None
        """The finish reason, once it has come."""

    @property
    def closed_alone(self) -> bool:
        """Whether the reply had the end of its reasoning marked, and not the beginning."""
        return self._splitter.closed_alone

    @property
    def partial(self) -> str:
        """The text so far, for the message of a fault."""
        return self._splitter.content

    def chunk(self, chunk: Any) -> Sequence[Delta]:
        """The deltas of one piece of a stream. ErrorObject when the piece is an error."""
        self._head(chunk)
        choices = chunk.get("choices")
        if not choices:
            return ()
        choice = choices[0]
        if reason := choice.get("finish_reason"):
            self.finish = reason
        delta = choice.get("delta") or choice.get("message")
        if choice.get("logprobs") or "token_ids" in choice:
            self._tokens(choice)
        if not delta:
            return ()
        text = delta.get("content")
        if len(delta) == 1 and type(text) is str:  # nearly every chunk
            return self._restarted(self._splitter.feed(text)) if self._slots else self._splitter.feed(text)
        out = [*self._restarted(self._text(delta, text))]
        for call in self._calls_of(delta):
            out += self._call(call)
        return out

    def body(self, body: Any) -> None:
        """A whole answer. ProtocolError when there is none in it."""
        self._head(body)
        choices = body.get("choices")
        if not choices:
            raise ProtocolError(
                f"there is no answer in the answer: 'choices' is missing or empty{_native(body)}"
            )
        choice = choices[0]
        if "message" not in choice and "text" in choice:
            raise ProtocolError(
                "this is a text completion: the endpoint does not speak chat completions here"
            )
        self.finish = choice.get("finish_reason")
        if choice.get("logprobs") or "token_ids" in choice:
            self._tokens(choice)
        message = choice["message"]
        self._text(message, message.get("content"))
        for entry in self._calls_of(message):
            call = FunctionCall.from_dict(entry)
            slot = _Slot()
            slot.id, slot.name = call.id, call.name
            slot.arguments.append(call.arguments)
            self._slots.append(slot)

    def close(self) -> Sequence[Delta]:
        """The deltas that were held back; nothing more comes."""
        pieces = self._splitter.finish()
        # a model that calls through the wire's own field and in text says the same thing twice
        pieces = [piece for piece in pieces if not (self._slots and isinstance(piece, ToolCallDelta))]
        return self._restarted(pieces)

    def _restarted(self, pieces: Sequence[Delta]) -> Sequence[Delta]:
        """The pieces, and behind a `Restart` also the calls that came by the wire's own field."""
        if not self._slots or not any(type(piece) is Restart for piece in pieces):
            return pieces
        calls = [
            ToolCallDelta(number, slot.id or None, slot.name, "".join(slot.arguments))
            for number, slot in enumerate(self._slots)
        ]
        return [*pieces, *calls]

    def reply(self) -> Reply:
        """The finished reply."""
        split = self._splitter
        calls: tuple[FunctionCall, ...] = ()
        if self._slots:
            calls = tuple(
                self._identified(number, slot.id, slot.name, "".join(slot.arguments) or "{}")
                for number, slot in enumerate(self._slots)
            )
        elif split.calls:
            calls = tuple(
                self._identified(number, "", call.name, call.arguments)
                for number, call in enumerate(split.calls)
            )
        content, raw = split.content, split.raw
        finish = self.finish or "stop"
        if calls and finish in ("stop", "function_call"):
            finish = "tool_calls"
        return Reply(
            content=content,
            thinking=split.thinking,
            tool_calls=calls,
            finish_reason=finish,
            refusal="".join(self._refusal) or None,
            usage=read_usage(self._usage),
            model=self._model,
            id=self._id,
            logprobs=self._logprobs,
            token_ids=self._token_ids,
            prompt_token_ids=self._prompt_token_ids,
            raw=None if raw == content else raw,
            enforced=self._enforced,
        )

    def _head(self, chunk: Any) -> None:
        if not isinstance(chunk, dict):
            raise ProtocolError(f"the endpoint sent {type(chunk).__name__} where an object was due")
        if chunk.get("error"):
            raise ErrorObject(chunk["error"])
        if usage := chunk.get("usage"):
            self._usage = usage
        if self._id is None:
            self._id = chunk.get("id") or None
            self._model = chunk.get("model") or None
        if (ids := chunk.get("prompt_token_ids")) is not None:
            self._prompt_token_ids = list(ids)

    def _text(self, delta: Mapping[str, Any], content: Any) -> list[Delta]:
        out: list[Delta] = []
        for name in _THINKING_FIELDS:
            if (thought := delta.get(name)) and isinstance(thought, str):
                out += self._splitter.thought(thought)
                break  # some send the same text under two names
        if isinstance(content, str):
            out += self._splitter.feed(content)
        elif content:
            for part in content:  # Mistral and others: a list of parts
                kind = part.get("type")
                if kind == "text":
                    out += self._splitter.feed(part.get("text") or "")
                elif kind == "thinking":
                    out += self._splitter.thought(_flat(part.get("thinking")))
        if refusal := delta.get("refusal"):
            self._refusal.append(refusal)
        return out

    @staticmethod
    def _calls_of(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        if calls := message.get("tool_calls"):
            return calls  # type: ignore[no-any-return]
        if call := message.get("function_call"):  # the form before tools
            return ({"index": 0, "function": call},)
        return ()

    def _call(self, entry: Mapping[str, Any]) -> Sequence[Delta]:
        """One piece of a tool call, joined to the call that it belongs to."""
        function = entry.get("function") or {}
        name, arguments = function.get("name") or "", function.get("arguments")
        if arguments is not None and not isinstance(arguments, str):
            arguments = encode(arguments).decode()
        slot = self._slot(entry.get("index"), entry.get("id") or "", name)
        number = self._slots.index(slot)
        new_id = new_name = None
        if not slot.id and entry.get("id"):
            new_id = slot.id = str(entry["id"])
        if not slot.name and name:
            new_name = slot.name = name
        if arguments:
            slot.arguments.append(arguments)
        if new_id is None and new_name is None and not arguments:
            return ()
        return (ToolCallDelta(number, new_id, new_name, arguments or ""),)

    def _slot(self, index: Any, ident: str, name: str) -> _Slot:
        """The call that a piece belongs to.

        The index says it, where there is one. It lies where a provider sends every call as number 0 (then another id
        comes with another name, or after complete arguments), and is missing where whole calls are sent.
        """
        slot = self._by_index.get(index) if isinstance(index, int) else self._unnumbered(ident, name)
        if slot is not None and ident and slot.id and ident != slot.id and name:
            known = next((other for other in self._slots if other.id == ident), None)
            if known is not None:
                slot = known
            elif name != slot.name or slot.whole():
                slot = None
        if slot is None:
            slot = _Slot()
            self._slots.append(slot)
        if isinstance(index, int):
            self._by_index[index] = slot
        return slot

    def _unnumbered(self, ident: str, name: str) -> _Slot | None:
        if not self._slots:
            return None
        if ident:
            return next((slot for slot in self._slots if slot.id == ident), None)
        last = self._slots[-1]
        if name and (name != last.name or last.whole()):
            return None
        return last

    def _tokens(self, choice: Mapping[str, Any]) -> None:
        logprobs = choice.get("logprobs") or {}
        if (content := logprobs.get("content")) is not None:
            self._logprobs = (self._logprobs or []) + [read_token(entry) for entry in content]
        if (ids := choice.get("token_ids")) is not None:
            self._token_ids = (self._token_ids or []) + list(ids)

    def _identified(self, number: int, ident: str, name: str, arguments: str) -> FunctionCall:
        """The call; one that came without an id gets one: the same for the same call, another in the next turn."""
        if not ident:
            text = f"{len(self._request.messages)}\0{number}\0{name}\0{arguments}"
            ident = "call_" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:24]
        return FunctionCall(ident, name, arguments)


def _native(body: Mapping[str, Any]) -> str:
    return " (this is Ollama's own API; the compatible one is under /v1)" if "done" in body else ""


def read_token(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "token": entry["token"],
        "logprob": entry["logprob"],
        "top": [
            {"token": top["token"], "logprob": top["logprob"]} for top in entry.get("top_logprobs") or ()
        ],
    }


def _flat(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "".join(str(part.get("text") or "") for part in value or ())
