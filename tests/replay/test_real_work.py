"""Connections and threads of a program: they take real time in a replay, and timers beside them take their own."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

import lllm
from lllm import Agent, MemoryLog, ScriptedBackend, arecord, fork_session, replay_session, resume_session
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.ports import Request
from lllm.replay import order


@contextmanager
def slow_server() -> Iterator[int]:
    """Answers the first line of each connection after a while."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                one, _ = listening.accept()
            except OSError:
                return
            with one:
                one.recv(10)
                time.sleep(2 * order.GRACE)
                one.sendall(b"ok")

    thread = threading.Thread(target=serve, name="lllm-test-server")
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


@pytest.mark.parametrize("start", [lllm.run, asyncio.run])
@pytest.mark.parametrize("plain", [True, False])
def test_a_connection_is_waited_for_in_whatever_loop(start: Callable[[Any], Any], plain: bool) -> None:
    store = MemoryLog()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        agent = Agent("a", ScriptedBackend(lambda _: "yes"))
        async with arecord("x", store=store):
            await agent.acall("one")
            with socket.socket() as one:
                one.setblocking(False)
                await loop.sock_connect(one, ("127.0.0.1", port))
                await loop.sock_sendall(one, b"go")
                got = await loop.sock_recv(one, 10)
            await agent.acall(got.decode())

    with slow_server() as port:
        start(main())
        report = replay_session(
            store.sessions(1)[0].id, store=store, entry=(lambda: start(main())) if plain else main
        )
    assert report.verified, report.divergence


@asynccontextmanager
async def idle_connection() -> Any:
    """One over which nothing ever comes."""
    ours, theirs = socket.socketpair()
    _, writer = await asyncio.open_connection(sock=ours)
    try:
        yield
    finally:
        writer.close()
        theirs.close()


@asynccontextmanager
async def idle_thread() -> Any:
    """One that waits for the end."""
    over = threading.Event()
    waiting = asyncio.ensure_future(asyncio.to_thread(over.wait))
    await asyncio.sleep(0)
    try:
        yield
    finally:
        over.set()
        await waiting


@pytest.mark.parametrize("start", [lllm.run, asyncio.run])
@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("beside", [idle_connection, idle_thread])
def test_timers_beside_real_work(
    start: Callable[[Any], Any], plain: bool, beside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They fire after their own time, and not when nothing has happened for so long that it is given up."""
    monkeypatch.setattr(order, "SILENCE", 1e6)
    store = MemoryLog()
    more: list[str] = []

    def program(into: MemoryLog) -> Callable[[], Any]:
        def model(request: Request) -> str:
            return f"<{request.messages[-1].text}>"

        async def main() -> None:
            agent = Agent("a", ScriptedBackend(model))

            async def part(name: str) -> None:
                for number in range(2):
                    await asyncio.sleep(0.001)
                    await agent.acall(f"{name} {number}")
                    for _ in more:
                        await asyncio.sleep(0.001)

            async with arecord("x", store=into), beside():
                await asyncio.gather(part("a"), part("b"))
                await asyncio.sleep(0.001)
                await agent.acall("end")

        return main if not plain else lambda: start(main())

    made = program(store)()
    if made is not None:
        start(made)
    (session,) = (info.id for info in store.sessions())
    events = [open_event(body) for body in store.read(session)]
    report = replay_session(session, store=store, entry=program(store))
    assert report.verified, report.divergence
    replies = [event["seq"] for event in events if event["kind"] == ev.MODEL_REPLIED]
    for at in (None, *replies):
        edit = None if at is None else "EDIT"
        done = fork_session(session, at=at, edit=edit, store=store, entry=program(store))
        assert (done.status, done.notes) == ("done", [])
    for cut in replies:
        left = MemoryLog()
        left._sessions[session] = store._sessions[session][:cut]
        left._blobs = dict(store._blobs)
        resume_session(session, store=left, entry=program(left))
    more.append("a timer that the parent does not have")
    assert fork_session(session, store=store, entry=program(store)).status == "done"


@lllm.activity(effect="idempotent")
def pay(label: str) -> str:
    return f"paid {label}"


@pytest.mark.parametrize("busy", [0.02, 2 * order.GRACE])
def test_a_thread_that_nobody_waits_for_any_more_is(busy: float) -> None:
    """What it does then is in the record. No timer of the program fires in its place."""
    store = MemoryLog()

    def works() -> None:
        time.sleep(busy)
        pay("late")

    async def main() -> None:
        beats: list[str] = []

        async def beat() -> None:
            while True:
                await asyncio.sleep(0.004)
                beats.append(".")

        agent = Agent("a", ScriptedBackend(lambda _: "yes"))
        async with arecord("x", store=store):
            beating = asyncio.ensure_future(beat())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.to_thread(works), busy / 2)
            await asyncio.sleep(busy + 0.5)
            beating.cancel()
            await agent.acall(f"{len(beats)} beats")

    def entry() -> None:
        lllm.run(main())

    entry()
    report = replay_session(store.sessions(1)[0].id, store=store, entry=entry)
    assert report.verified, report.divergence
