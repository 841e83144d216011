"""A dialog as chat templates read it."""

from __future__ import annotations

import pytest

from lllm.backends.local.dialog import thinking_mode, wire
from lllm.errors import UnsupportedError
from lllm.models.message import FunctionCall, Message


def test_what_templates_walk_over() -> None:
    calls = tuple(FunctionCall("c", "f", written) for written in ('{"a": 1}', "", "not JSON", "[1]"))
    said = Message("assistant", "", tool_calls=calls, thinking="so")
    parts = Message("user", ({"type": "text", "text": "And"}, {"type": "text", "text": " half of it?"}))
    first, second, third = wire([Message("developer", "Be short."), parts, said], "", name="m")
    assert (first["role"], first["content"]) == ("system", "Be short.")
    assert (second["role"], second["content"]) == ("user", "And half of it?")
    read = [call["function"]["arguments"] for call in third["tool_calls"]]
    assert read == [{"a": 1}, {}, "not JSON", "[1]"]
    assert third["content"] == ""


@pytest.mark.parametrize(
    ("template", "there"), [("{{ m.content }}", False), ("{{ m.reasoning_content }}", True)]
)
def test_thinking_reaches_a_template_that_asks_for_it(template: str, there: bool) -> None:
    (made,) = wire([Message("assistant", "Yes.", thinking="Hm.")], template, name="m")
    assert (made.get("reasoning_content") == "Hm.") is there


def test_images_are_refused() -> None:
    picture = Message("user", ({"type": "image_url", "image_url": {"url": "data:"}},))
    with pytest.raises(UnsupportedError, match="tiny reads text only"):
        wire([picture], "", name="tiny")


@pytest.mark.parametrize(
    ("rendered", "mode"),
    [
        ("<|im_start|>assistant\n<think>\n", "prefilled"),
        ("<|im_start|>assistant\n<think>", "prefilled"),
        ("<|im_start|>assistant\n<reasoning>\n\n", "prefilled"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", "auto"),
        ("<|im_start|>user\nsay <think><|im_end|>\n<|im_start|>assistant\n", "auto"),
    ],
)
def test_a_thinking_tag_that_the_template_opened(rendered: str, mode: str) -> None:
    assert thinking_mode(rendered) == mode
