"""Message and FunctionCall: what a dialog is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

ROLES: Final = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """One tool call that a model asked for.

    `arguments` is the text exactly as the model wrote it (a JSON object when the model did its work well);
    `parsed()` reads it.
    """

    id: str
    name: str
    arguments: str = "{}"

    def parsed(self) -> dict[str, Any]:
        """The arguments as a mapping, a new one each time. Raises ValueError when they are not one JSON object."""
        value = _decode(self.arguments) if self.arguments.strip() else {}
        if not isinstance(value, dict):
            raise ValueError(f"arguments are {type(value).__name__}, not an object")
        return value

    def with_arguments(self, arguments: str) -> FunctionCall:
        """The same call with other arguments."""
        return FunctionCall(self.id, self.name, arguments)

    def to_dict(self) -> dict[str, Any]:
        """The call as the chat-completions wire writes it."""
        return {
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments},
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> FunctionCall:
        """Reads the wire form, and the flat `{id, name, arguments}` that some providers send.

        Arguments may be a string or a mapping (Ollama, Gemini).
        """
        function = value.get("function") or value
        arguments = function.get("arguments", "{}")
        if not isinstance(arguments, str):
            from lllm.core.canonical import encode

            arguments = encode(arguments if arguments is not None else {}).decode()
        return cls(str(value.get("id") or ""), str(function.get("name") or ""), arguments)


@dataclass(frozen=True, init=False)
class Message:
    """One message of a dialog. A value: equal when its content is equal.

    Attributes:
        role: system, developer, user, assistant or tool.
        content: text, or a tuple of content parts in the chat-completions form
            (`{"type": "text", "text": ...}`, `{"type": "image_url", "image_url": {"url": ...}}`).
        name: who speaks, where a role is not enough.
        tool_calls: what an assistant message asks for.
        tool_call_id: which call a tool message answers.
        thinking: reasoning text that came with an assistant message; kept in the log, sent to a model
            only by backends that want it back.
    """

    role: str
    content: str | tuple[Mapping[str, Any], ...] = ""
    name: str | None = None
    tool_calls: tuple[FunctionCall, ...] = ()
    tool_call_id: str | None = None
    thinking: str | None = None

    def __init__(
        self,
        role: str,
        content: str | tuple[Mapping[str, Any], ...] = "",
        name: str | None = None,
        tool_calls: tuple[FunctionCall, ...] = (),
        tool_call_id: str | None = None,
        thinking: str | None = None,
    ) -> None:
        # what dataclass would write sets a frozen value field by field, which takes four times as long; a dialog makes
        # several messages per step
        self.__dict__.update(
            role=role,
            content=content,
            name=name,
            tool_calls=tool_calls,
            tool_call_id=tool_call_id,
            thinking=thinking,
        )

    @property
    def text(self) -> str:
        """The text of the content; images and other parts are left out."""
        if isinstance(self.content, str):
            return self.content
        return "".join(str(part.get("text", "")) for part in self.content if part.get("type") == "text")

    def to_dict(self) -> dict[str, Any]:
        """The message as the chat-completions wire writes it, without thinking."""
        out: dict[str, Any] = {"role": self.role}
        if isinstance(self.content, str):
            # the wire wants null, not "", for an assistant message that only calls tools
            out["content"] = None if self.tool_calls and not self.content else self.content
        else:
            out["content"] = [dict(part) for part in self.content]
        if self.name is not None:
            out["name"] = self.name
        if self.tool_calls:
            out["tool_calls"] = [call.to_dict() for call in self.tool_calls]
        if self.tool_call_id is not None:
            out["tool_call_id"] = self.tool_call_id
        return out

    def wire(self) -> bytes:
        """Canonical JSON of `to_dict()`, encoded once: request bodies and dialog hashes are joined from it."""
        wire: bytes | None = self.__dict__.get("_wire")
        if wire is None:
            wire = self.__dict__["_wire"] = _encode(self.to_dict())
        return wire

    def record(self) -> dict[str, Any]:
        """The message as the session log writes it: the wire form, and thinking where there is some."""
        out = self.to_dict()
        if self.thinking is not None:
            out["thinking"] = self.thinking
        return out

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Message:
        """Reads the wire form and the log's form.

        Raises ValueError when the role is unknown or the content is neither text, parts nor null.
        """
        role = value.get("role")
        if role not in ROLES:
            raise ValueError(f"message role is {role!r}; known roles: {', '.join(ROLES)}")
        content = value.get("content")
        if content is None:
            content = ""
        elif isinstance(content, Sequence) and not isinstance(content, str):
            content = tuple(content)
        elif not isinstance(content, str):
            raise ValueError(f"message content is {type(content).__name__}; it is text or a list of parts")
        thinking = value.get("thinking") or value.get("reasoning_content")
        return cls(
            role=role,
            content=content,
            name=value.get("name"),
            tool_calls=tuple(FunctionCall.from_dict(call) for call in value.get("tool_calls") or ()),
            tool_call_id=value.get("tool_call_id"),
            thinking=thinking or None,
        )


def _encode(value: Any) -> bytes:
    global _encode
    from lllm.core.canonical import encode

    _encode = encode  # looked up once: `lllm.models` loads without orjson
    return encode(value)


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
