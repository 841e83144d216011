"""Message and FunctionCall: what a dialog is made of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lllm.errors import ConfigError
from lllm.models.checks import not_json, type_name
from lllm.models.content import content_parts

if TYPE_CHECKING:
    from lllm.models.parts import File, Image

ROLES: Final = ("system", "developer", "user", "assistant", "tool")
_EMPTY: Final[tuple[Any, ...]] = (None, "", [], {}, ())
"""Values that a key without content has: they are not kept."""
_OWN: Final = frozenset(
    ("role", "content", "name", "tool_calls", "tool_call_id", "thinking", "reasoning_content", "extra_from")
)
_OF_CALL: Final = frozenset(("id", "index", "type", "function", "name", "arguments"))
_OF_FUNCTION: Final = frozenset(("name", "arguments"))
_SENDABLE: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_TEXTS: Final = ("name", "tool_call_id", "thinking", "extra_from")
_TEXT_OR_NONE: Final = frozenset((str, type(None)))
_ENCODED: Final = 3
"""How many times an object may be encoded as text within text before its arguments count as unreadable."""


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """One tool call that a model asked for.

    `arguments` is the text exactly as the model wrote it (a JSON object when the model did its work well);
    `parsed()` reads it. `extra` holds the keys that the provider added to the call (Gemini's `extra_content` with the thought
    signature), those of its `function` object under `function`; None where it added none.
    """

    id: str
    name: str
    arguments: str = "{}"
    extra: Mapping[str, Any] | None = field(default=None, hash=False, repr=False)

    def __post_init__(self) -> None:
        if self.arguments.__class__ is self.name.__class__ is self.id.__class__ is str and self.extra is None:
            return
        for key in ("id", "name", "arguments"):
            if not isinstance(value := getattr(self, key), str):
                hint = "Arguments are JSON text: json.dumps(...)." if key == "arguments" else None
                raise ConfigError(f"'{key}' of a FunctionCall is {type_name(value)}, not text", hint=hint)
        if self.extra is not None and not isinstance(self.extra, Mapping):
            raise ConfigError(f"'extra' of a FunctionCall is {type_name(self.extra)}, not an object")

    def parsed(self) -> dict[str, Any]:
        """The arguments as a mapping, a new one each time: {} for no text and for `null`, and the object itself where it was
        encoded twice. Raises ValueError when they are not one JSON object."""
        text = self.arguments
        value: Any = None
        for again in range(_ENCODED):
            if not text.strip():
                return {}
            try:
                value = _decode(text)
            except ValueError:
                if not again:
                    raise
                break
            if value is None:
                return {}
            if isinstance(value, dict):
                return value
            if not isinstance(value, str):
                break
            text = value
        raise ValueError(f"arguments are {type(value).__name__}, not an object")

    def with_arguments(self, arguments: str) -> FunctionCall:
        """The same call with other arguments."""
        return FunctionCall(self.id, self.name, arguments, self.extra)

    def with_id(self, id: str) -> FunctionCall:
        """The same call under another id."""
        return FunctionCall(id, self.name, self.arguments, self.extra)

    def with_name(self, name: str) -> FunctionCall:
        """The same call of another function."""
        return FunctionCall(self.id, name, self.arguments, self.extra)

    def to_dict(self, *, extra: bool = False) -> dict[str, Any]:
        """The call as the chat-completions wire writes it; with the provider's own keys where `extra` says so."""
        function = {"name": self.name, "arguments": self.arguments}
        out: dict[str, Any] = {"id": self.id, "type": "function", "function": function}
        if extra and self.extra:
            out["function"] = {**self.extra.get("function", {}), **function}
            out = {**self.extra, **out}
        return out

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> FunctionCall:
        """Reads the wire form, and the flat `{id, name, arguments}` that some providers send.

        Arguments may be a string or a mapping (Ollama, Gemini). Raises ConfigError for what is no call.
        """
        if not isinstance(value, Mapping):
            raise ConfigError(f"a tool call is {type_name(value)}, not an object")
        function = value.get("function") or value
        if not isinstance(function, Mapping):
            raise ConfigError(f"'function' of a tool call is {type_name(function)}, not an object")
        arguments = function.get("arguments", "{}")
        if not isinstance(arguments, str):
            if arguments and (wrong := not_json(arguments)) is not None:
                raise ConfigError(f"the arguments of a tool call are not JSON: {wrong}")
            arguments = _encode(arguments if arguments is not None else {}).decode()
        name = function.get("name") or ""
        if not isinstance(name, str):
            raise ConfigError(f"'name' of a tool call is {type_name(name)}, not text")
        extra = unknown(value, _OF_CALL)
        if function is not value and (inner := unknown(function, _OF_FUNCTION)):
            extra = {**(extra or {}), "function": inner}
        if extra is not None and (wrong := not_json(extra)) is not None:
            raise ConfigError(f"a tool call holds what is not JSON: {wrong}")
        ident = value.get("id") or ""
        if not isinstance(ident, str | int):
            raise ConfigError(f"'id' of a tool call is {type_name(ident)}, not text")
        return cls(str(ident), name, arguments, extra)


@dataclass(frozen=True, init=False)
class Message:
    """One message of a dialog. A value: equal when its content is equal.

    Attributes:
        role: system, developer, user, assistant or tool.
        content: text, or a tuple of content parts in the chat-completions form
            (`{"type": "text", "text": ...}`, `{"type": "image_url", "image_url": {"url": ...}}`). An Image or a File in a
            list becomes such a part.
        name: who speaks, where a role is not enough.
        tool_calls: what an assistant message asks for.
        tool_call_id: which call a tool message answers.
        thinking: reasoning text that came with an assistant message; kept in the log, sent to a model
            only by backends that want it back.
        extra: keys that are neither of these, as a provider or the caller wrote them (`reasoning_details`,
            `cache_control`); None where there are none. Backends of OpenAI's formats send them back.
        extra_from: the API root that `extra`, and that of the tool calls, came from, and behind a `#` the family of the model
            that wrote it: it is sent to no other. None where the caller wrote it: then it is sent to every endpoint.

    Raises:
        ConfigError: an unknown role, or content that is neither text nor a list of parts.
    """

    role: str
    content: str | tuple[Mapping[str, Any], ...] = ""
    name: str | None = None
    tool_calls: tuple[FunctionCall, ...] = ()
    tool_call_id: str | None = None
    thinking: str | None = None
    extra: Mapping[str, Any] | None = field(default=None, hash=False, repr=False)
    extra_from: str | None = field(default=None, repr=False)

    def __init__(
        self,
        role: str,
        content: str | Sequence[Mapping[str, Any] | Image | File] | None = "",
        name: str | None = None,
        tool_calls: Sequence[FunctionCall] = (),
        tool_call_id: str | None = None,
        thinking: str | None = None,
        extra: Mapping[str, Any] | None = None,
        extra_from: str | None = None,
    ) -> None:
        if role not in ROLES:
            raise ConfigError(f"message role is {role!r}; known roles: {', '.join(ROLES)}")
        if content.__class__ is not str and not isinstance(content, str):
            content = content_parts(content)
        if not (
            name.__class__ in _TEXT_OR_NONE
            and tool_call_id.__class__ in _TEXT_OR_NONE
            and thinking.__class__ in _TEXT_OR_NONE
            and extra_from.__class__ in _TEXT_OR_NONE
        ):
            for key, value in zip(_TEXTS, (name, tool_call_id, thinking, extra_from), strict=True):
                if value is not None and not isinstance(value, str):
                    raise ConfigError(f"'{key}' of a message is {type_name(value)}, not text")
        if tool_calls:
            tool_calls = tuple(tool_calls)
            for call in tool_calls:
                if not isinstance(call, FunctionCall):
                    raise ConfigError(f"a tool call is {type_name(call)}, not a FunctionCall")
                if call.extra and extra is None:
                    extra = {}  # says that there is something to send beyond the plain form
        if extra is not None and not isinstance(extra, Mapping):
            raise ConfigError(f"'extra' of a message is {type_name(extra)}, not an object")
        # what dataclass would write sets a frozen value field by field, which takes four times as long; a dialog makes
        # several messages per step
        self.__dict__.update(
            role=role,
            content=content,
            name=name,
            tool_calls=tool_calls,
            tool_call_id=tool_call_id,
            thinking=thinking,
            extra=extra,
            extra_from=extra_from,
        )

    @property
    def text(self) -> str:
        """The text of the content; images and other parts are left out."""
        if isinstance(self.content, str):
            return self.content
        return "".join(str(part.get("text", "")) for part in self.content if part.get("type") == "text")

    @property
    def plain(self) -> bool:
        """Whether the plain form says all that a provider may be sent of it."""
        return self.extra is None and self.extra_from is None

    def to_dict(self, *, extra: bool = False) -> dict[str, Any]:
        """The message as the chat-completions wire writes it, without thinking; with the keys of `extra` where `extra` says
        so."""
        out: dict[str, Any] = {**self.extra} if extra and self.extra else {}
        out["role"] = self.role
        if isinstance(self.content, str):
            # the wire wants null, not "", for an assistant message that only calls tools
            out["content"] = None if self.tool_calls and not self.content else self.content
        else:
            out["content"] = [dict(part) for part in self.content]
        if self.name is not None:
            out["name"] = self.name
        if self.tool_calls:
            out["tool_calls"] = [call.to_dict(extra=extra) for call in self.tool_calls]
        if self.tool_call_id is not None:
            out["tool_call_id"] = self.tool_call_id
        return out

    def wire(self) -> bytes:
        """Canonical JSON of `to_dict()`, encoded once: request bodies and dialog hashes are joined from it."""
        wire: bytes | None = self.__dict__.get("_wire")
        if wire is None:
            encode = _encode_texts if self.content.__class__ is str else _encode
            # a copy: what orjson gives has 4 KiB, however short it is
            wire = self.__dict__["_wire"] = bytes(memoryview(encode(self.to_dict())))
        return wire

    def record(self) -> dict[str, Any]:
        """The message as the session log writes it: the wire form with all of its keys, thinking where there is some, and
        where the extra keys came from."""
        out = self.to_dict(extra=True)
        if self.thinking is not None:
            out["thinking"] = self.thinking
        if self.extra_from is not None:
            out["extra_from"] = self.extra_from
        return out

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Message:
        """Reads the wire form and the log's form. Keys that are not known become `extra`, unless they are empty.

        Raises ConfigError, which is a ValueError, when the role is unknown, the content is neither text, parts nor null, or
        another key holds what it cannot.
        """
        if not isinstance(value, Mapping):
            raise ConfigError(f"a message is {type_name(value)}, not an object")
        calls = value.get("tool_calls") or ()
        if not isinstance(calls, list | tuple):
            raise ConfigError(f"'tool_calls' of a message is {type_name(calls)}, not a list")
        extra = unknown(value, _OWN)
        if extra is not None and (wrong := not_json(extra)) is not None:
            raise ConfigError(f"a message holds what is not JSON: {wrong}")
        return cls(
            role=value.get("role"),  # type: ignore[arg-type]  # checked there
            content=value.get("content"),
            name=value.get("name"),
            tool_calls=tuple([FunctionCall.from_dict(call) for call in calls]),
            tool_call_id=value.get("tool_call_id"),
            thinking=value.get("thinking") or value.get("reasoning_content") or None,
            extra=extra,
            extra_from=value.get("extra_from"),
        )

    @classmethod
    def from_record(cls, value: Mapping[str, Any]) -> Message:
        """Reads what `record` wrote, also in a log of an older lllm, which took parts of any shape."""
        content = value.get("content") if isinstance(value, Mapping) else None
        if not isinstance(content, list | tuple):
            return cls.from_dict(value)
        if not all(isinstance(part, Mapping) for part in content):
            raise ConfigError("a part of a message's content is not an object")
        made = cls.from_dict({**value, "content": ""})
        made.__dict__["content"] = tuple(content)
        return made


def unknown(value: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any] | None:
    """The keys of an object that are not among the known ones and hold something; None where there are none."""
    if value.keys() <= known:
        return None
    return {key: item for key, item in value.items() if key not in known and item not in _EMPTY} or None


def sendable_name(name: str) -> str:
    """A tool name as every provider takes it back: letters, digits, `_` and `-`, 1 to 64 of them."""
    if _SENDABLE.fullmatch(name):
        return name
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64] or "unnamed"


def _encode(value: Any) -> bytes:
    global _encode
    from lllm.core.canonical import encode

    _encode = encode  # looked up once: `lllm.models` loads without orjson
    return encode(value)


def _encode_texts(value: Any) -> bytes:
    global _encode_texts
    from lllm.core.canonical import encode_texts

    _encode_texts = encode_texts
    return encode_texts(value)


def _decode(data: bytes | bytearray | memoryview | str) -> Any:
    global _decode
    from lllm.core.canonical import decode

    _decode = decode
    return decode(data)


def system(content: str) -> Message:
    """A system message."""
    return Message("system", content)


def user(content: str) -> Message:
    """A user message."""
    return Message("user", content)
