"""A local backend counts a request as its model reads it: by the chat template, with the tools, and with special tokens."""

from __future__ import annotations

from typing import Any

import pytest

from lllm import LLM, Message
from lllm.backends.embedded import WEIGHTS
from lllm.ports import Request


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


DIALOGS = (
    [Message("user", "Hi")],
    [Message("system", "Be brief."), Message("user", "What is 2 + 2? é ü 日本 <|im_end|>")],
    [Message("user", "one"), Message("assistant", "1"), Message("user", "two " * 100)],
)
ENGINES = (
    (f"llama_cpp/{WEIGHTS}", "xllamacpp"),
    (f"llama_cpp/{WEIGHTS}", "llama-cpp-python"),
    ("embedded", "xllamacpp"),
    ("embedded", "transformers"),
)


@pytest.mark.parametrize(("name", "engine"), ENGINES)
@pytest.mark.parametrize("tools", [[], [add]], ids=["plain", "tools"])
def test_it_is_what_the_reply_says(
    name: str, engine: str, tools: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with LLM(name, options={"engine": engine}, max_tokens=2, tools=tools) as llm:
        backend: Any = llm._agent._settings.backend
        send, sizes = backend.stream, []

        def stream(request: Request) -> Any:
            sizes.append(backend.prompt_size(request))
            return send(request)

        monkeypatch.setattr(backend, "stream", stream)
        for dialog in DIALOGS:
            reply = llm(dialog)
            assert sizes[-1] == (reply.usage.prompt, 1024)
