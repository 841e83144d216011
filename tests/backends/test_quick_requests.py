"""Requests that are rendered at once, in the loop, and those that would hold it up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from lllm.backends.transformers import TransformersBackend, engine
from lllm.backends.transformers.row import Mail
from lllm.models.message import FunctionCall, Message, user
from tests.backends.helpers import ADD, ask
from training.embedded.forms import Forms

LONG = "a word " * 1000
CALL = Message("assistant", tool_calls=(FunctionCall("1", "add", f'{{"a": "{LONG}"}}'),))


@pytest.fixture(scope="module")
def backend(forms: Forms) -> Iterator[TransformersBackend]:
    made = TransformersBackend(device="cpu", threads=1)
    made.load(str(forms.folder))
    yield made
    asyncio.run(made.aclose())


@pytest.mark.parametrize(
    ("given", "at_once"),
    [
        ({}, True),
        ({"tools": (ADD,) * 4, "sampling": {"tool_choice": "auto"}}, True),
        ({"tools": (ADD,) * 5}, False),
        ({"tools": (ADD,), "sampling": {"tool_choice": "required"}}, False),
        ({"tools": (ADD,), "sampling": {"tool_choice": {"name": "add"}}}, False),
        ({"format": {"name": "x", "schema": {"type": "object"}}}, False),
        ({"messages": (user(LONG),)}, False),
        ({"messages": tuple(user("a word") for _ in range(1000))}, False),
        ({"messages": (user("Hi."), Message("assistant", "Yes.", thinking=LONG), user("Go on."))}, False),
        ({"messages": (user("Hi."), CALL, Message("tool", "1", tool_call_id="1"))}, False),
        ({"messages": (Message("user", [{"type": "text", "text": "Hi."}]),)}, False),
    ],
)
async def test_what_may_take_long_is_rendered_in_a_thread(
    given: dict[str, Any],
    at_once: bool,
    backend: TransformersBackend,
    forms: Forms,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[threading.Thread] = []
    monkeypatch.setattr(engine, "row_of", lambda *_: seen.append(threading.current_thread()))
    await backend.load(str(forms.folder)).wanted(ask(model=str(forms.folder), **given), Mail())
    assert (seen == [threading.current_thread()]) == at_once
    assert len(seen) == 1


async def test_a_tokenizer_in_python_is_slow(
    backend: TransformersBackend, forms: Forms, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[threading.Thread] = []
    monkeypatch.setattr(engine, "row_of", lambda *_: seen.append(threading.current_thread()))
    made = backend.load(str(forms.folder))
    monkeypatch.setattr(made.loaded, "tokenizer", object())
    await made.wanted(ask(model=str(forms.folder)), Mail())
    assert seen[0] is not threading.current_thread()
