"""Fifty sessions at once in one store: from tasks, from threads, and both; some are cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lllm import Agent, LocalFileLog, ScriptedBackend, SQLiteLog, arecord, record, replay_session
from lllm.errors import UnknownNameError
from lllm.log import MemoryLog, ReplayableLogBase
from lllm.log.views import fold_session, load, summary
from lllm.ports import Request
from lllm.sync import in_thread

SESSIONS = 50
STORES: dict[str, Callable[[Path], ReplayableLogBase]] = {
    "sqlite": lambda folder: SQLiteLog(folder / "sessions.db"),
    "files": LocalFileLog,
    "memory": lambda folder: MemoryLog(),
}


def marker(number: int) -> str:
    return f"<marker-{number:03d}-of-this-session>"


def repeat(text: str) -> str:
    """Gives the text back."""
    return f"repeated {text}"


def is_cancelled(number: int) -> bool:
    return number % 5 == 3


async def script(request: Request) -> Any:
    """Two tool rounds of the session's own marker; the sessions that are to be cancelled wait in the second."""
    first = next(message.text for message in request.messages if message.role == "user")
    rounds = sum(message.role == "tool" for message in request.messages)
    await asyncio.sleep(0.001 * (hash(first) % 5))
    if rounds and "wait" in first:
        await asyncio.sleep(600)
    if rounds < 2:
        return {"tool_calls": [{"name": "repeat", "arguments": {"text": f"{first} {rounds}"}}]}
    assert {message.text for message in request.messages if message.role == "tool"} == {
        f"repeated {first} {number}" for number in range(2)
    }
    return f"done with {first}"


def task_of(number: int) -> str:
    return f"{marker(number)} {'wait' if is_cancelled(number) else 'go'}"


class Hall:
    """One store and one agent that all sessions share."""

    def __init__(self, store: ReplayableLogBase) -> None:
        self.store = store
        self.agent = Agent("echo", ScriptedBackend(script), "You repeat.", tools=[repeat])
        self.ids: dict[int, str] = {}

    async def in_task(self, number: int) -> str:
        async with arecord(f"session {number}", store=self.store) as session:
            self.ids[number] = session.id
            return (await self.agent.acall(task_of(number))).content

    def in_own_thread(self, number: int) -> str:
        """The blocking door. One that is to be cancelled is cancelled from within: its task is."""
        with record(f"session {number}", store=self.store) as session:
            self.ids[number] = session.id
            if not is_cancelled(number):
                return self.agent(task_of(number)).content
            from lllm.sync import run

            return run(self._cut(number))

    async def _cut(self, number: int) -> str:
        task = asyncio.ensure_future(self.agent.acall(task_of(number)))
        await self.waits(number)
        task.cancel()
        return (await task).content

    async def waits(self, number: int) -> None:
        """Until the session's second model call is under way."""
        while number not in self.ids or self._events(number) < 8:
            await asyncio.sleep(0.02)

    def _events(self, number: int) -> int:
        try:
            return len(list(self.store.read(self.ids[number])))
        except UnknownNameError:
            return 0  # it has begun, and written nothing yet

    async def tasks(self, numbers: range) -> None:
        tasks = {number: asyncio.ensure_future(self.in_task(number)) for number in numbers}
        for number in filter(is_cancelled, numbers):
            await self.waits(number)
            tasks[number].cancel()
        self.check(
            dict(zip(tasks, await asyncio.gather(*tasks.values(), return_exceptions=True), strict=True))
        )

    def threads(self, numbers: range) -> None:
        def one(number: int) -> Any:
            try:
                return self.in_own_thread(number)
            except asyncio.CancelledError as error:
                return error

        with ThreadPoolExecutor(10) as pool:
            self.check(dict(zip(numbers, pool.map(one, numbers), strict=True)))

    @staticmethod
    def check(results: dict[int, Any]) -> None:
        for number, result in results.items():
            if is_cancelled(number):
                assert isinstance(result, asyncio.CancelledError), (number, result)
            else:
                assert result == f"done with {task_of(number)}"


@pytest.mark.parametrize("how", ["tasks", "threads", "mixed"])
@pytest.mark.parametrize("kind", STORES)
async def test_fifty_sessions_at_once(kind: str, how: str, tmp_path: Path) -> None:
    before = threading.active_count()
    hall = Hall(STORES[kind](tmp_path / "logs"))
    everyone = range(SESSIONS)
    if how == "tasks":
        await hall.tasks(everyone)
    elif how == "threads":
        await in_thread(hall.threads, everyone)
    else:
        half = SESSIONS // 2
        await asyncio.gather(hall.tasks(everyone[:half]), in_thread(hall.threads, everyone[half:]))

    assert len(hall.store.sessions()) == SESSIONS == len(set(hall.ids.values()))
    for number, id in hall.ids.items():
        hall.store.verify(id)
        events = load(hall.store, id)
        folded = fold_session(events)
        text = b"".join(hall.store.read(id)).decode()
        assert marker(number) in text
        assert text.count("<marker-") == text.count(marker(number)), f"session {number} holds another's words"
        kinds = [event["kind"] for event in events]
        told = summary(events)
        assert kinds.count("SessionEnded") == kinds.count("CallEnded") == 1
        assert [kind for kind in kinds if kind != "Note"][-2:] == ["CallEnded", "SessionEnded"]
        if is_cancelled(number):
            assert told.status == folded.status == "cancelled"
            assert "Cancelled" in kinds
            assert (told.model_calls, told.tool_calls) == (1, 1)
        else:
            assert told.status == "done"
            assert "Cancelled" not in kinds
            assert (told.model_calls, told.tool_calls) == (3, 2)
            assert told.result == f"done with {task_of(number)}"
    for number in (*everyone[:8], *everyone[-8:]):
        report = await in_thread(replay_session, hall.ids[number], store=hall.store)
        assert report.verified, report
    hall.store.close()
    assert threading.active_count() <= before + 80


async def test_an_exception_that_is_kept_does_not_keep_its_threads_loop() -> None:
    from lllm.sync import run

    loops = []

    async def fail() -> None:
        loops.append(asyncio.get_running_loop())
        raise ValueError("kept")

    def work() -> None:
        try:
            run(fail())
        except ValueError as error:
            kept.append(error)

    kept: list[ValueError] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert kept[0].__traceback__ is not None
    assert loops[0].is_closed()
