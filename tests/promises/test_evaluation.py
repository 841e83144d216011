"""F5: a loop over many rows is concurrent, gives each row its result or its error, and is resumed without a row twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from lllm import LLM, ScriptedBackend, arecord, resume_session
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import BadRequestError
from lllm.log import MemoryLog
from lllm.ports import Request

ROWS = [f"row {number}" for number in range(12)]


def answer(request: Request) -> str:
    row = request.messages[-1].text
    if row == "row 7":
        raise BadRequestError("nobody knows row 7", status=400)
    return f"about {row}"


def program(store: MemoryLog, backend: ScriptedBackend, sink: list[str]) -> Any:
    async def main() -> list[str]:
        async with arecord("evaluation", store=store) as session:
            sink.append(session.id)
            replies = await LLM(backend, workers=4).acall(ROWS)
            return [type(reply).__name__ if isinstance(reply, Exception) else str(reply) for reply in replies]

    return main


def cut(store: MemoryLog, session: str, events: int) -> MemoryLog:
    """The log as a process leaves it that dies after so many events."""
    other = MemoryLog()
    other._sessions[session] = store._sessions[session][:events]
    other._blobs = dict(store._blobs)
    return other


@pytest.mark.parametrize("part", [0.2, 0.5, 0.8, 0.97])
def test_killed_between_rows_it_goes_on_with_those_that_are_left(part: float) -> None:
    whole = MemoryLog()
    sink: list[str] = []
    results = asyncio.run(program(whole, ScriptedBackend(answer), sink)())
    assert results == ["ProviderFailed" if row == "row 7" else f"about {row}" for row in ROWS]
    (session,) = sink
    store = cut(whole, session, int(part * len(whole._sessions[session])))
    known = [open_event(body)["kind"] for body in store.read(session)]
    answered = known.count(ev.MODEL_REPLIED) + known.count(ev.MODEL_FAILED)
    backend = ScriptedBackend(answer)
    done = resume_session(session, store=store, entry=program(store, backend, []))
    assert done.result == results
    asked = Counter(request.messages[-1].text for request in backend.requests)
    assert set(asked.values()) <= {1}
    assert len(asked) == len(ROWS) - answered
