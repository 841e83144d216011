"""A dialog as a GGUF model reads it: its chat template, rendered in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lllm.backends.local.dialog import wire
from lllm.errors import BadRequestError, UnsupportedError, text_of
from lllm.models.message import Message


class Chat:
    """Renders dialogs of one model.

    Args:
        template: the Jinja template, or None where the file has none.
        bos, eos: the text of the model's first and last token ('' where it has none).
        name: the model's file name, for messages.
    """

    def __init__(self, template: str | None, *, bos: str, eos: str, name: str) -> None:
        self.template = template
        self._name = name
        self._render: Any = None
        if template:
            from llama_cpp.llama_chat_format import Jinja2ChatFormatter

            try:
                self._render = Jinja2ChatFormatter(template, eos_token=eos, bos_token=bos)
            except Exception as error:  # the template's own language: anything may come out of it
                raise BadRequestError(
                    f"the chat template of {name} is no Jinja template: {text_of(error)}"
                ) from error

    @property
    def calls(self) -> bool:
        """Whether the model writes its calls as `<tool_call>{"name": ..., "arguments": ...}</tool_call>`."""
        return "<tool_call>" in (self.template or "") and "<function=" not in (self.template or "")

    def text(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The dialog up to where the reply begins.

        Raises UnsupportedError for images and for a model without a chat template, BadRequestError when the template refuses
        the dialog.
        """
        if self._render is None:
            raise UnsupportedError(
                f"{self._name} has no chat template, so it is not said how it reads a dialog",
                hint="Give the load option chat_template: a Jinja template, or use a model that was trained to chat.",
            )
        read = wire(messages, self.template or "", name=self._name)
        try:
            rendered = self._render(messages=read, tools=[dict(tool) for tool in tools] or None)
        except Exception as error:
            raise BadRequestError(
                f"the chat template of {self._name} refused the dialog: {text_of(error)}"
            ) from error
        return str(rendered.prompt)
