"""Usage and Reply: what a model gives back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NamedTuple

from lllm.models.checks import NOT_LOGGED
from lllm.models.message import FunctionCall, Message


class Usage(NamedTuple):
    """Tokens of one or more replies. `cached` is the part of `prompt` that the provider had cached, `reasoning` the
    part of `completion` that was thinking. All counts are None-free: an unknown usage is `None` in its place."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        return self.prompt + self.completion

    def plus(self, other: Usage | None) -> Usage:
        """Both together."""
        if other is None:
            return self
        return Usage(*(a + b for a, b in zip(self, other, strict=True)))

    def record(self) -> dict[str, int]:
        """As the log writes it; zero `cached` and `reasoning` are left out."""
        out = {"prompt": self.prompt, "completion": self.completion}
        if self.cached:
            out["cached"] = self.cached
        if self.reasoning:
            out["reasoning"] = self.reasoning
        return out

    @classmethod
    def from_record(cls, value: Mapping[str, int] | None) -> Usage | None:
        return None if value is None else cls(**value)


@dataclass(frozen=True)
class Reply(Mapping[str, Any]):
    """What a model said.

    Reads as attributes (`reply.content`), as a mapping (`reply["content"]`, `reply["think"]`,
    `reply["tool_calls"]`), as text (`str(reply)`), and as an OpenAI response (`reply.to_openai()`).

    Attributes:
        content: the answer, without thinking.
        thinking: reasoning text, or None.
        tool_calls: what the model asks for.
        finish_reason: stop, length, tool_calls, content_filter, or repetition (stopped by `repeat_limit`). A reply that a
            provider broke off, or ended for an unknown reason, is an error: see `lllm.models.finish`.
        refusal: the provider's refusal text, or None.
        usage: tokens of this reply, or None when the backend did not say.
        model: the model that answered, as the provider names it.
        id: the provider's id of the reply, or None.
        logprobs: one mapping per token `{"token", "logprob", "top": [{"token", "logprob"}, ...]}`, or None.
        token_ids: ids of the reply's tokens as the backend produced them, or None.
        prompt_token_ids: ids of the request's tokens, or None.
        raw: content as the model wrote it where that differs (with its thinking tags), or None.
        enforced: how a structured reply was held to its schema, or None where none was asked: `grammar` (while decoding,
            all of it), `grammar except KEYWORDS` (these were left to the validation), `provider` (the endpoint says so),
            `validation` (only checked afterwards).
        parsed: the accepted payload of an agent call (parser's or `format`'s value); for a bare reply the content.
        messages: the dialog of the call that gave this reply, after it (empty for a bare reply).
        cost: money for the whole call in US dollars, or None where a price is unknown.
        total_usage: tokens of all attempts of the call, or None.
        session, call: where the log holds the story, or None.
        agent: the agent that answered: of a call that was handed over, the one that took over; None for a bare reply.
        handed_over: that agent's own reply, with its own dialog in `messages`; None where the called agent answered.
        source: where it was taken from, when no model was asked: `cache`, or `SESSION#EVENT` of a log; else None.
        stages: of a chain, the results of its stages; `reply.stages.use` is what they used together.
        extra, extra_from: keys that the provider added to its message, and its API root: see `Message`.
    """

    content: str = ""
    thinking: str | None = None
    tool_calls: tuple[FunctionCall, ...] = ()
    finish_reason: str = "stop"
    refusal: str | None = None
    usage: Usage | None = None
    model: str | None = None
    id: str | None = None
    logprobs: Sequence[Mapping[str, Any]] | None = None
    token_ids: Sequence[int] | None = None
    prompt_token_ids: Sequence[int] | None = None
    raw: str | None = None
    enforced: str | None = None
    parsed: Any = None
    messages: tuple[Message, ...] = field(default=(), repr=False)
    cost: Decimal | None = None
    total_usage: Usage | None = None
    session: str | None = None
    call: str | None = None
    agent: str | None = None
    handed_over: Reply | None = field(default=None, repr=False)
    source: str | None = None
    extra: Mapping[str, Any] | None = field(default=None, repr=False)
    extra_from: str | None = field(default=None, repr=False)
    stages: tuple[Any, ...] = field(default=(), repr=False, metadata=NOT_LOGGED)

    def __str__(self) -> str:
        return self.content

    def __repr__(self) -> str:
        """One short line: the answer's beginning, and what is out of the ordinary. The fields themselves have the rest."""
        told = [_short(self.content, 200)]
        if self.thinking:
            told.append(f"thinking={_short(self.thinking, 60)}")
        if self.tool_calls:
            told.append(f"tool_calls=[{', '.join(call.name for call in self.tool_calls)}]")
        if self.refusal:
            told.append(f"refusal={_short(self.refusal, 60)}")
        if self.parsed is not None and self.parsed != self.content:
            told.append(f"parsed={_cut(repr(self.parsed), 200)}")
        if self.finish_reason != "stop":
            told.append(f"finish_reason={self.finish_reason!r}")
        told += [
            f"{name}={value!r}"
            for name in ("model", "session", "call")
            if (value := getattr(self, name)) is not None
        ]
        return f"Reply({', '.join(told)})"

    def __bool__(self) -> bool:
        return True  # a reply is something, also when its content is empty

    @property
    def think(self) -> str | None:
        """`thinking` under its short name."""
        return self.thinking

    @property
    def text(self) -> str:
        """`content` under its other name."""
        return self.content

    def __getitem__(self, key: str) -> Any:
        if key not in _KEYS:
            raise KeyError(f"{key!r}: a Reply has {', '.join(_KEYS)}")
        return getattr(self, _KEYS[key])

    def __iter__(self) -> Iterator[str]:
        return iter(_KEYS)

    def __len__(self) -> int:
        return len(_KEYS)

    def message(self) -> Message:
        """The assistant message that this reply adds to a dialog. The same object each time."""
        made: Message | None = self.__dict__.get("_message")
        if made is None:
            made = Message(
                "assistant",
                self.content,
                tool_calls=self.tool_calls,
                thinking=self.thinking,
                extra=self.extra,
                extra_from=self.extra_from,
            )
            self.__dict__["_message"] = made
        return made

    @staticmethod
    def of(**given: Any) -> Reply:
        """A reply with these fields. The same as the constructor, which takes four times as long."""
        made: Reply = object.__new__(Reply)
        fields = made.__dict__
        fields.update(_BLANK)
        fields.update(given)
        return made

    def with_(self, **changes: Any) -> Reply:
        """A copy with some fields changed. TypeError for a field that is none."""
        if not changes.keys() <= self.__dict__.keys():
            raise TypeError(f"a Reply has no {', '.join(sorted(changes.keys() - self.__dict__.keys()))}")
        twin: Reply = object.__new__(Reply)
        fields = twin.__dict__
        fields.update(self.__dict__)
        fields.update(changes)
        fields.pop("_message", None)
        return twin

    def record(self) -> dict[str, Any]:
        """The part of a reply that the log keeps. `from_record` reads it back."""
        out: dict[str, Any] = {"message": self.message().record(), "finish": self.finish_reason}
        if self.usage is not None:
            out["usage"] = self.usage.record()
        for name in ("refusal", "model", "id", "raw", "enforced"):
            if (value := getattr(self, name)) is not None:
                out[name] = value
        for name in ("logprobs", "token_ids", "prompt_token_ids"):
            if (value := getattr(self, name)) is not None:
                out[name] = list(value)
        if self.source is not None:
            out["from"] = self.source
        return out

    @classmethod
    def from_record(cls, data: Mapping[str, Any]) -> Reply:
        message = Message.from_record(data["message"])
        return cls(
            content=message.text,
            thinking=message.thinking,
            tool_calls=message.tool_calls,
            finish_reason=data.get("finish", "stop"),
            refusal=data.get("refusal"),
            usage=Usage.from_record(data.get("usage")),
            model=data.get("model"),
            id=data.get("id"),
            logprobs=data.get("logprobs"),
            token_ids=data.get("token_ids"),
            prompt_token_ids=data.get("prompt_token_ids"),
            raw=data.get("raw"),
            enforced=data.get("enforced"),
            source=data.get("from"),
            extra=message.extra or None,
            extra_from=message.extra_from,
        )

    def to_openai(self) -> dict[str, Any]:
        """The reply as a chat-completions response body, with the provider's own keys. A finish reason that OpenAI has no
        word for is `stop`; of a reply that was stopped by `repeat_limit` it is `length`."""
        message: dict[str, Any] = {
            **(self.extra or {}),
            "role": "assistant",
            "content": None if self.tool_calls and not self.content else self.content,
            "refusal": self.refusal,
        }
        if self.thinking is not None:
            message["reasoning_content"] = self.thinking
        if self.tool_calls:
            message["tool_calls"] = [call.to_dict(extra=True) for call in self.tool_calls]
        finish = _FINISH.get(self.finish_reason, "stop")
        choice: dict[str, Any] = {
            "index": 0, "message": message, "finish_reason": finish, "logprobs": None
        }  # fmt: skip
        if self.logprobs is not None:
            choice["logprobs"] = {
                "content": [
                    {
                        "token": entry["token"],
                        "logprob": entry["logprob"],
                        "bytes": list(entry["token"].encode()),
                        "top_logprobs": [
                            {
                                "token": top["token"],
                                "logprob": top["logprob"],
                                "bytes": list(top["token"].encode()),
                            }
                            for top in entry.get("top", ())
                        ],
                    }
                    for entry in self.logprobs
                ],
                "refusal": None,
            }
        body: dict[str, Any] = {
            "id": self.id or "chatcmpl-lllm",
            "object": "chat.completion",
            "created": 0,
            "model": self.model or "",
            "choices": [choice],
        }
        if self.usage is not None:
            body["usage"] = {
                "prompt_tokens": self.usage.prompt,
                "completion_tokens": self.usage.completion,
                "total_tokens": self.usage.total,
                "prompt_tokens_details": {"cached_tokens": self.usage.cached},
                "completion_tokens_details": {"reasoning_tokens": self.usage.reasoning},
            }
        return body


class _Messages:
    """`Reply.messages`. A call gives the function that finds them, which is called when somebody reads them: copied with each
    reply, a long dialog would take longer with every turn."""

    def __get__(self, reply: Reply | None, owner: type[Reply]) -> Any:
        if reply is None:
            return ()
        fields = reply.__dict__
        found = fields["messages"]
        if callable(found):
            found = fields["messages"] = found()
        return found

    def __set__(self, reply: Reply, value: Any) -> None:
        reply.__dict__["messages"] = value


Reply.messages = _Messages()  # type: ignore[assignment]

_BLANK: Final = dict(Reply().__dict__)


# what OpenAI says where we have this finish reason
_FINISH = {
    **{word: word for word in ("stop", "length", "tool_calls", "content_filter", "function_call")},
    "repetition": "length",
}

# what a Reply answers to as a mapping, and the attribute behind each key
_KEYS = {
    "content": "content",
    "think": "thinking",
    "thinking": "thinking",
    "tool_calls": "tool_calls",
    "finish_reason": "finish_reason",
    "refusal": "refusal",
    "usage": "usage",
    "model": "model",
    "id": "id",
    "logprobs": "logprobs",
    "token_ids": "token_ids",
    "prompt_token_ids": "prompt_token_ids",
    "raw": "raw",
    "enforced": "enforced",
    "parsed": "parsed",
    "messages": "messages",
    "cost": "cost",
    "total_usage": "total_usage",
    "session": "session",
    "call": "call",
    "agent": "agent",
    "handed_over": "handed_over",
    "source": "source",
    "extra": "extra",
    "extra_from": "extra_from",
    "stages": "stages",
}


def _short(text: str, limit: int) -> str:
    return _cut(repr(text[: limit + 1]), limit) if len(text) > limit else repr(text)


def _cut(written: str, limit: int) -> str:
    return written if len(written) <= limit + 2 else f"{written[:limit]}..."
