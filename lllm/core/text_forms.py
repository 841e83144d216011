"""The forms in which tools are called in a reply's text, and which of them an agent's model has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from lllm.core import code_text, code_tools, text_tools
from lllm.errors import ConfigError
from lllm.models.message import Message
from lllm.models.reply import Reply


class TagForm(NamedTuple):
    """Calls as JSON between tags: see `lllm.core.text_tools`."""

    record: bool | str = True

    def written(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], choice: Any
    ) -> tuple[Message, ...]:
        """The messages of a request, with everything about tools as text."""
        return text_tools.written(messages, tools, choice)

    def read(self, reply: Reply, offered: bool) -> Reply:
        """The reply with its calls. `offered`: whether the request offered tools."""
        return text_tools.read(reply)

    def held(self) -> text_tools.Held | None:
        """Holds back what people are not shown of a stream; None where they see all."""
        return text_tools.Held()

    def shown(self, reply: Reply) -> Reply:
        """A reply as its stream showed it."""
        return reply


class CodeForm(NamedTuple):
    """Calls as blocks of code: see `lllm.core.code_tools`. `shell`: whether blocks of shell commands are run too."""

    tags: code_text.Tags = code_text.TAGS
    shell: bool = False
    record: bool | str = "code"

    def written(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], choice: Any
    ) -> tuple[Message, ...]:
        return code_tools.written(messages, tools, choice, self.tags, shell=self.shell)

    def read(self, reply: Reply, offered: bool) -> Reply:
        # code in an answer that was asked for without tools is a part of the answer
        return code_tools.read(reply, self.tags, shell=self.shell) if offered else reply

    def held(self) -> text_tools.Held | None:
        return None

    def shown(self, reply: Reply) -> Reply:
        if reply.raw is None or not reply.tool_calls:
            return reply
        return reply.with_(content=reply.raw, tool_calls=())


Form = TagForm | CodeForm
STYLES: Final = ("auto", "tags", "code")
"""`tool_style` of an agent: how its model calls tools."""


def form_for(
    style: str, tags: code_text.Tags | None, tools: Mapping[str, Mapping[str, Any]], native: bool
) -> Form | None:
    """The form for a model; None for calls as its provider has them.

    Args:
        style: one of STYLES. tags: `code_tags`.
        tools: its tools' names and JSON Schemas of arguments. native: whether it can call tools otherwise than in text.

    Raises:
        ConfigError: the style needs a tool that is missing.
    """
    if not tools or (style == "auto" and native):
        return None
    if style != "code":
        return TagForm()
    if code_tools.PYTHON not in tools:
        raise ConfigError(
            f"tool_style 'code' needs a tool named '{code_tools.PYTHON}'; the tools are: {', '.join(sorted(tools))}",
            hint="Add sandbox: jupyter, whose tools are python and shell, or remove tool_style.",
        )
    if not _takes(tools, code_tools.PYTHON):
        raise ConfigError(
            f"tool_style 'code' needs a tool '{code_tools.PYTHON}' that takes 'code', and this one does not",
            hint="Give it an argument named code, or remove tool_style.",
        )
    return CodeForm(tags or code_text.TAGS, _takes(tools, code_tools.SHELL))


def _takes(tools: Mapping[str, Mapping[str, Any]], name: str) -> bool:
    """Whether there is a tool of this name that takes the argument by which code would call it."""
    return code_tools.ARGUMENTS[name] in tools.get(name, {}).get("properties", {})
