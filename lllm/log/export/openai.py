"""Dialogs as OpenAI messages: JSON Lines of {"messages": [...], "tools": [...]}.

This is the format of OpenAI's chat completions and fine-tuning files
(https://platform.openai.com/docs/api-reference/fine-tuning/chat-input). One line per dialog: calls that continue one
another are one dialog. Thinking is left out because the format has no field for it; extra keys that a provider or the
caller added to a message stay. `tools` is present if the last call of the dialog offered any. Images and files that tools
returned stand in a user message behind the results, as the API takes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lllm.core.parts import Takes, sent
from lllm.log.export.lines import line
from lllm.log.export.source import Source


def write(source: Source) -> Iterator[str]:
    """One line per dialog, also of one whose last call failed: it ends where that call did."""
    for talk in source.talks():
        messages = sent(talk.messages, source.store.blob, Takes("user", True, True))
        out: dict[str, Any] = {"messages": [message.to_dict(extra=True) for message in messages]}
        if talk.tools:
            out["tools"] = talk.tools
        yield line(out)
