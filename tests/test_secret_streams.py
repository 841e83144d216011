"""Streams are free of secrets for followers, and equal live and in a replay."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import pytest

from lllm import Agent, FunctionCall, LLMError, Reply, arecord, tool
from lllm.deltas import pieces
from lllm.errors import ServerError
from lllm.log.memory import MemoryLog
from lllm.ports import (
    Capabilities,
    Completed,
    Delta,
    Request,
    Restart,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
)
from lllm.replay import areplay_session

KEY = "sk-canary-0123456789abcdef"


@tool()
def look(key: str) -> str:
    """Looks."""
    return "seen"


class Streaming:
    """A backend that sends these deltas, a list for each request; an exception is raised."""

    capabilities = Capabilities()

    def __init__(self, *turns: Sequence[Any]) -> None:
        self.turns = list(turns)

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        for item in self.turns.pop(0):
            if isinstance(item, BaseException):
                raise item
            yield item

    async def aclose(self) -> None: ...


def whole(reply: Reply, size: int) -> list[Delta]:
    return [*pieces(reply, size), Completed(reply)]


def summed(seen: Sequence[Delta]) -> list[Any]:
    """Joins deltas: adjacent text deltas merged, all others unchanged."""
    out: list[Any] = []
    texts: dict[Any, str] = {}

    def close() -> None:
        out.append(dict(sorted(texts.items(), key=repr)))
        texts.clear()

    for delta in seen:
        if isinstance(delta, TextDelta | ThinkingDelta):
            texts[type(delta).__name__] = texts.get(type(delta).__name__, "") + delta.text
        elif isinstance(delta, ToolCallDelta):
            key = f"tool {delta.index}"
            texts[key] = texts.get(key, "") + (delta.name or "") + delta.arguments
        else:
            close()
            out.append(delta if isinstance(delta, Restart) else delta.reply.record())
    close()
    return out


async def run(backend: Any, store: MemoryLog, seen: list[Delta]) -> str:
    async with arecord("streams", store=store, seed=1) as session:
        agent = Agent("a", backend, tools=[look], max_llm_recall=0)
        with suppress(LLMError):
            async for delta in agent.astream("Go."):
                seen.append(delta)  # noqa: PERF401  what came before an error counts
    return session.id


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", KEY)


CALL = Reply("", tool_calls=(FunctionCall("t1", "look", f'{{"key": "{KEY}"}}'),), finish_reason="tool_calls")
SAID = Reply(f"It is {KEY}, or {KEY[:9]}; {KEY}", thinking=f"sk? {KEY}!")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 24, 100])
async def test_live_and_replayed_text_are_the_same(size: int) -> None:
    store, live, again = MemoryLog(), [], []  # type: ignore[var-annotated]
    backend = Streaming(
        whole(CALL, size), [TextDelta(f"cut {KEY[:12]}"), ServerError("gone")], whole(SAID, size)
    )
    session = await run(backend, store, live)
    assert backend.turns == []
    assert KEY not in str(live)
    told = summed(live)
    assert told[0] == {"tool 0": 'look{"key": "[redacted:THE_KEY]"}', "TextDelta": f"cut {KEY[:12]}"}
    text = f"It is [redacted:THE_KEY], or {KEY[:9]}; [redacted:THE_KEY]"
    assert {"TextDelta": text, "ThinkingDelta": "sk? [redacted:THE_KEY]!"} in told

    async def program() -> str:
        return await run(Streaming(), store, again)

    report = await areplay_session(session, store=store, entry=program)
    assert report.verified, report.divergence
    assert summed(again) == told


async def test_a_secret_cut_by_another_text_is_not_shown() -> None:
    seen: list[Delta] = []
    parts = [
        TextDelta(KEY[:10]),
        ThinkingDelta("hm"),
        TextDelta(KEY[10:]),
        ToolCallDelta(0, "t1", "look", '{"key": "s'),
    ]
    await run(Streaming([*parts, *whole(Reply("x"), 100)]), MemoryLog(), seen)
    assert KEY[10:] not in str(seen)
    assert KEY[:10] not in str(seen)


async def test_order_is_kept_where_a_text_ends_like_the_beginning_of_a_secret() -> None:
    seen: list[Delta] = []
    parts = [
        ThinkingDelta("let us"),
        TextDelta("yes"),
        TextDelta(" sk"),
        Completed(Reply("yes sk", thinking="let us")),
    ]
    await run(Streaming(parts), MemoryLog(), seen)
    assert [delta for delta in seen if not isinstance(delta, Completed)] == [
        ThinkingDelta("let u"),
        ThinkingDelta("s"),
        TextDelta("ye"),
        TextDelta("s "),
        TextDelta("sk"),
    ]
    assert isinstance(seen[-1], Completed)


async def test_without_secrets_deltas_pass_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THE_KEY")
    seen: list[Delta] = []
    parts = [TextDelta("a"), TextDelta(""), TextDelta("b")]
    await run(Streaming([*parts, Completed(Reply("ab"))]), MemoryLog(), seen)
    assert seen[:3] == parts
