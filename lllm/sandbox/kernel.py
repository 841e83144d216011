"""A running kernel, and the execution of one cell in it.

All of this runs in the loop of the `host`.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from lllm.errors import SandboxBroken
from lllm.sandbox import streams, threads
from lllm.sandbox.channels import LARGEST, VALUE, Channels
from lllm.sandbox.clock import CellClock
from lllm.sandbox.inside import code_of
from lllm.sandbox.limits import Limits
from lllm.sync import in_thread

SETTLE: Final = 1.0
"""Seconds after which a kernel that has not said that a cell's outputs are complete is asked for a sign of life."""

QUIET: Final = 10.0
"""Seconds without any message after which the end of a cell's outputs is not waited for: on a busy machine a kernel may have
no processor for some of them."""

DRAIN: Final = 0.05
"""Seconds in which what a dead kernel had sent arrives."""

Heard = Callable[[str, str, Mapping[str, Any]], bool]
"""Called for each message of iopub with the id of its request, its type and content. True stops the cell."""


class Process(Protocol):
    """The processes of a kernel and its sandbox.

    Attributes:
        in_memory: folders that are file systems in memory of their own, as those inside see them.
    """

    @property
    def in_memory(self) -> tuple[str, ...]: ...

    @property
    def pid(self) -> int:
        """Of the first of them, below which all others are."""

    def said(self) -> str:
        """What was printed as an error, once it has ended."""

    def code(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""

    def kill(self) -> None:
        """Kills all of them, and returns once they are gone."""


Launch = Callable[[Path, Path, Limits], Process]
"""Starts a kernel: the folder of its sockets (`connection.json` is in it), the working folder, limits."""


class ZygoteEnded(SandboxBroken):
    """The process from which kernels are forked has ended."""


class Ran(NamedTuple):
    """How the execution of a cell ended.

    Attributes:
        status: `ok`, `error` (it raised), `timeout`, `flood` (too many outputs), `interrupted` or `died`.
        alive: whether the kernel, and with it all variables, is still there.
        number: the number that the notebook shows.
        seconds: how long it ran.
        note: what happened, in a sentence, where it is not `ok` or `error`; else "".
    """

    status: str
    alive: bool
    number: int | None
    seconds: float
    note: str = ""


class Kernel(Channels):
    """A kernel that has been started.

    Args:
        process: its processes. info: its connection file.
        heard: see Heard.
        largest: bytes of a message. A larger one is not read, and those that follow it may be lost.
    """

    def __init__(
        self, process: Process, info: Mapping[str, Any], heard: Heard, largest: int = LARGEST
    ) -> None:
        super().__init__(info, largest)
        self.process = process
        self.heard = heard
        self._lost = 0
        self._heard_so_far = 0
        self._stop: asyncio.Future[str] | None = None
        self._running = ""
        self._number: int | None = None
        self._last = 0
        self._loop = asyncio.get_running_loop()

    async def ready(self, seconds: float) -> None:
        """Waits until it answers. Raises SandboxBroken, and kills it, where it does not."""
        until = time.monotonic() + seconds
        try:
            while not self._are_there:
                self._check(until, seconds)
                await asyncio.sleep(0.004)
            self._connect()
            begin = _silent(f"{code_of(streams)}\n{code_of(threads)}")
            asked: list[tuple[asyncio.Future[Mapping[str, Any]], asyncio.Future[None]]] = []
            while not (any(reply.done() for reply, _ in asked) and any(idle.done() for _, idle in asked)):
                self._check(until, seconds)
                asked.append(self._send("shell", "execute_request", begin))
                await asyncio.wait(asked[-1], timeout=0.25)
            for request in [id for id, idle in self._idle.items() if any(idle is one for _, one in asked)]:
                self._replies.pop(request, None)
                del self._idle[request]
        except BaseException:
            await self.close()
            raise

    def _check(self, until: float, seconds: float) -> None:
        if (code := self.process.code()) is not None:
            said = f": {said}" if (said := self.process.said()) else ""
            raise SandboxBroken(f"the kernel ended while it started ({ended(code)}){said}")
        if time.monotonic() > until:
            raise SandboxBroken(f"the kernel did not answer within {seconds:g} seconds of its start")

    def _published(self, parent: str, kind: str, content: Mapping[str, Any]) -> None:
        self._heard_so_far += 1
        if kind == "status":
            waiting = self._idle.pop(parent, None) if content["execution_state"] == "idle" else None
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
            return
        if kind == "execute_input" and parent == self._running:
            self._number = _number(content)
        if self.heard(parent, kind, content) and parent == self._running:
            self._stop_for("flood")

    async def execute(self, code: str, clock: CellClock, grace: float, begun: Callable[[str], None]) -> Ran:
        """Runs a cell. `begun` is called with the id of the request, before anything of it is heard. If the caller is
        cancelled, the cell is interrupted, and killed where that does not end it."""
        self._stop = self._loop.create_future()
        if self._number is not None:
            self._last = self._number
        self._number = None
        self._lost = self._channels["iopub"].lost
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        reply, idle = self._send("shell", "execute_request", content)
        (id,) = [id for id, waiting in self._replies.items() if waiting is reply]
        self._running = id
        begun(id)
        try:
            why = await self._until(reply, clock)
            if why != "done":
                return await self._stopped(why, reply, idle, clock, grace)
            heard = await self._all_heard(idle)
            return await self._ended_by_itself(reply.result(), heard, clock, grace)
        except asyncio.CancelledError:
            ending = self._loop.create_task(self._stopped("interrupted", reply, idle, clock, grace))
            while not ending.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait((ending,))
            raise
        finally:
            self._running = ""
            self._stop = None
            self._replies.pop(id, None)
            self._idle.pop(id, None)

    async def begin(self, code: str, seconds: float) -> None:
        """Runs code that is no cell. Raises SandboxBroken where it fails."""
        reply, _ = self._send("shell", "execute_request", _silent(code))
        await asyncio.wait((reply,), timeout=seconds)
        if not reply.done() or reply.result().get("status") != "ok":
            why = reply.result().get("evalue", "") if reply.done() else "it did not answer"
            raise SandboxBroken(f"the kernel does not work: {why}")

    async def _until(self, reply: asyncio.Future[Any], clock: CellClock) -> str:
        """Waits for the reply; for a reason to stop the cell; for the kernel's death."""
        stop = self._stop
        assert stop is not None
        while not reply.done():
            left = clock.left
            if left == 0.0:
                return "timeout"
            if self.process.code() is not None:
                return "died"
            await asyncio.wait(
                (reply, stop),
                timeout=POLL if left is None else min(left, POLL),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if stop.done() and not reply.done():
                return str(stop.result())
        return "done"

    async def _stopped(
        self,
        why: str,
        reply: asyncio.Future[Any],
        idle: asyncio.Future[None],
        clock: CellClock,
        grace: float,
    ) -> Ran:
        """Ends a cell that must not run any longer."""
        if why == "died":
            await self._drain()
            note = f"the kernel died ({ended(self.process.code())})"
            number = self._last + 1 if self._number is None else self._number  # it did not come to say so
            return Ran("died", False, number, clock.spent, note)
        until = time.monotonic() + grace
        sent = woken = False
        while not reply.done() and self.process.code() is None and time.monotonic() < until:
            if not sent and (self._number is not None or time.monotonic() > until - grace / 2):
                # before the cell has begun it would be ignored
                self._send("control", "interrupt_request", {})
                sent = True
            await asyncio.wait((reply,), timeout=min(POLL, max(until - time.monotonic(), 0)))
            if sent and not woken and time.monotonic() > until - grace / 2:
                self._send(
                    "shell", "kernel_info_request", {}
                )  # an event loop does not notice a signal by itself
                woken = True
        if reply.done():
            await self._all_heard(idle)
            return Ran(why, True, self._number, clock.spent, NOTES[why].format(clock.seconds))
        note = NOTES[why].format(clock.seconds)
        if self.process.code() is None:
            note += f"; it did not stop within {grace:g} s, so its kernel was killed with all its processes"
        else:
            note += f"; its kernel died of that ({ended(self.process.code())})"
        await self._drain()
        await self.close()
        return Ran(why, False, self._number, clock.spent, note)

    async def _all_heard(self, idle: asyncio.Future[None]) -> str:
        """Waits for the end of a request's outputs: `all` where it comes; `some` where it is lost, because that of a later
        request has come; `none` where nothing comes any more."""
        until, heard, since = time.monotonic() + 3 * QUIET, self._heard_so_far, time.monotonic()
        later: asyncio.Future[None] | None = None
        while time.monotonic() < until and not self._channels["iopub"].closed:
            waited = (idle,) if later is None else (idle, later)
            await asyncio.wait(waited, timeout=SETTLE, return_when=asyncio.FIRST_COMPLETED)
            if idle.done():
                return "all"
            if later is not None and later.done():
                return "some"
            if heard != self._heard_so_far:
                heard, since = self._heard_so_far, time.monotonic()
            elif self.process.code() is not None or time.monotonic() - since > QUIET:
                break
            if later is None:
                _, later = self._send("shell", "kernel_info_request", {})
        return "none"

    async def _reopen(self) -> bool:
        """Opens the channel of outputs again. False where nothing comes."""
        self._channels["iopub"].close()
        self._open("iopub")
        for _ in range(8):
            _, idle = self._send("shell", "kernel_info_request", {})
            if (await asyncio.wait((idle,), timeout=0.25))[0]:
                return True
        return False

    async def _drain(self) -> None:
        """Gives what a dead kernel had sent the time to arrive."""
        for _ in range(20):
            iopub = self._channels.get("iopub")
            before = iopub.received if iopub is not None else 0
            await asyncio.sleep(DRAIN)
            if iopub is None or (iopub.received == before and not iopub.behind):
                return

    def interrupt(self) -> None:
        """Ends the cell that runs, as `interrupted`. Does nothing where none runs."""
        self._stop_for("interrupted")

    def _stop_for(self, why: str) -> None:
        if self._stop is not None and not self._stop.done():
            self._stop.set_result(why)

    async def _ended_by_itself(
        self, reply: Mapping[str, Any], heard: str, clock: CellClock, grace: float
    ) -> Ran:
        status = "ok" if reply.get("status") == "ok" else "error"
        number = self._number if self._number is not None else _number(reply)
        lost = heard == "some" or self._channels["iopub"].lost > self._lost
        if (lost or heard == "none") and self.process.code() is None:
            spent = clock.spent
            if lost or await self._reopen():
                note = (
                    f"some of its outputs are lost: one had more than {self._largest:,} bytes or "
                    f"{self._largest // VALUE:,} values, or too many came"
                )
                return Ran(status, True, number, spent, note)
            await self.close()
            note = "its outputs did not arrive any more, so the kernel was ended"
            return Ran(status, False, number, spent, note)
        if not _asks_exit(reply) and self.process.code() is None:
            return Ran(status, True, number, clock.spent)
        spent, until = clock.spent, time.monotonic() + grace
        while self.process.code() is None and time.monotonic() < until:  # noqa: ASYNC110  a process is no event
            await asyncio.sleep(0.01)
        note = f"the cell ended its kernel ({ended(self.process.code())})"
        return Ran(status, False, number, spent, note)

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process.code() is None

    async def close(self) -> None:
        """Kills it and closes what belongs to it."""
        self._disconnect()
        await in_thread(self.process.kill)


POLL: Final = 0.05
"""Seconds between looks whether the kernel lives."""

NOTES: Final = {
    "timeout": "the cell ran longer than its {:g} s and was interrupted",
    "flood": "the cell printed more than is allowed and was interrupted",
    "interrupted": "the cell was interrupted",
}


def ended(code: int | None) -> str:
    """How a kernel ended, by its exit status."""
    if code is None:
        return "for an unknown reason"
    if code < 0 or code > 128:
        number = -code if code < 0 else code - 128
        with suppress(ValueError):
            return f"by {signal.Signals(number).name}"
    return f"exit status {code}"


def _silent(code: str) -> dict[str, Any]:
    """A request to run code that is no cell."""
    return {"code": code, "silent": True, "store_history": False, "allow_stdin": False}


def _number(content: Mapping[str, Any]) -> int | None:
    found = content.get("execution_count")
    return found if type(found) is int and 0 <= found < 2**31 else None


def _asks_exit(reply: Mapping[str, Any]) -> bool:
    """Whether `exit()` or `quit()` was called: the kernel then ends after its reply."""
    found = reply.get("payload")
    return isinstance(found, list) and any(
        isinstance(one, Mapping) and one.get("source") == "ask_exit" and not one.get("keepkernel")
        for one in found
    )
