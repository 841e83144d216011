"""The live side of a sandbox: its folder, its kernel, and the cells that run in it, one at a time.

All of it runs in the loop of the `host`, but for `interrupt` and `alive`.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from lllm.core.jsonable import unicode_only
from lllm.errors import SandboxError
from lllm.sandbox import folders
from lllm.sandbox.broker import Broker, Made, Perform
from lllm.sandbox.channels import LARGEST, connection
from lllm.sandbox.clock import CellClock
from lllm.sandbox.host import host
from lllm.sandbox.kernel import Kernel, Launch, Process, Ran, ZygoteEnded, ended
from lllm.sandbox.limits import Limits
from lllm.sandbox.outputs import Displays, Output, Outputs, finite
from lllm.sandbox.overflow import Overflow
from lllm.sandbox.pool import Pool, Prepared, forked
from lllm.sandbox.usage import Oversized
from lllm.sandbox.watch import Excess, Watch, unreadable
from lllm.sandbox.workspace import Changes, Workspace
from lllm.sync import in_thread

T = TypeVar("T")

LOOK: Final = 0.1
"""Seconds between looks at what a sandbox uses, while a cell runs."""
LOOK_IDLE: Final = 0.5
"""The same, while none runs: what cells have started may still run."""

LATE: Final = 256
"""Cells whose late outputs are heard: the last ones that ran."""


_PROBE: Final = "open('/dev/null').close(); __import__('os').listdir(); print(end='')"
_PROBE_SECONDS: Final = 10.0


class Done(NamedTuple):
    """A cell that has ended.

    Attributes:
        ran: how. before: what its code may not have expected: that variables were gone.
        outputs: its outputs. others: all outputs of earlier cells that have got more, by cell.
        changes: what has changed in the folder.
        calls: what it asked of `CALL_API`. missing: what it asked for and the record lacks, where it ran again.
    """

    ran: Ran
    before: str
    outputs: list[Output]
    others: dict[str, list[Output]]
    changes: Changes
    calls: tuple[Made, ...] = ()
    missing: str = ""


class Engine:
    """A kernel with its folder.

    Args:
        launch: starts kernels.
        limits: what they may use.
        overflow: takes the text that a cell's outputs have no room for.
        pool: gives its first kernel, where there is one.
        calls: whether cells have `CALL_API`.
        names: absolute paths that its folder has within the sandbox, besides its own.
    """

    def __init__(
        self,
        launch: Launch,
        limits: Limits,
        overflow: Overflow,
        pool: Pool | None = None,
        *,
        calls: bool = False,
        names: tuple[str, ...] = (),
    ) -> None:
        self._names = names
        self._calls = calls
        self._broker: Broker | None = None
        self._launch = launch
        self._fork: Launch | None = None
        self._pool = pool
        self._prepared: Prepared | None = None
        self._limits = limits
        self._overflow = overflow
        self._folder: Path | None = None
        self._kernel: Kernel | None = None
        self._lock = asyncio.Lock()
        self._displays = Displays()
        self._cells: dict[str, tuple[str, Outputs]] = {}
        self._late: dict[str, Outputs] = {}
        self._running: Outputs | None = None
        self._busy = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._excess: Excess | None = None
        self.wanted = 0
        """How many cells run, or wait for the kernel."""
        self._stop = False
        self._closed = False
        self._why = ""
        self.pid = os.getpid()
        self.gate = asyncio.Lock()
        self.begun = False
        """Whether its first kernel is where the record ends. Looked at and set within `gate`."""
        self.kernels = 0
        self.cell = ""
        """The cell that runs, "" while none does."""
        self.clock: CellClock | None = None
        """The time of the cell that runs."""

    @property
    def folder(self) -> Path:
        """Its folder, made when it is first needed."""
        if self._folder is None:
            folders.sweep()
            self._folder = folders.make()
            (self._folder / "work").mkdir()
            self._found()
        return self._folder

    def _found(self) -> None:
        assert self._folder is not None
        self.files = Workspace(self._folder / "work", self._names)
        host().at_exit(self, self._at_exit)

    async def place(self) -> None:
        """Makes its folder, or takes one with a kernel from the pool."""
        if self._folder is None and self._pool is not None:
            prepared = self._prepared = await self._pool.take()
            self._folder, self._fork = prepared.folder, prepared.fork
            self._found()

    @property
    def alive(self) -> bool:
        """Whether a kernel runs."""
        return (kernel := self._kernel) is not None and kernel.alive

    def _at_exit(self) -> None:
        for one in (self._kernel, self._prepared.kernel if self._prepared is not None else None):
            if one is not None:
                one.process.kill()
        if self._folder is not None:
            folders.remove(self._folder)

    async def start(self) -> str:
        """Starts a kernel, where none runs. Returns how the last one has died, "" where it was ended or there was none."""
        died = ""
        if (last := self._kernel) is not None:
            if last.alive:
                return ""
            why = self._excess.note if self._excess is not None else self._why or ended(last.process.code())
            died = f"the kernel had died ({why}): all variables are gone, files are still there"
        died += await self._end()
        self._displays = Displays()
        prepared, self._prepared = self._prepared, None
        if prepared is not None and prepared.kernel.alive:
            kernel, self._sockets = prepared.kernel, prepared.sockets
            kernel.heard = self._heard
        else:
            kernel = await self._started()
        await in_thread(self.files.refresh)
        self._kernel = kernel
        if self._calls:
            self._broker = Broker(self._sockets, self._limits.calls)
            await kernel.begin(self._broker.code(), self._limits.start_seconds)
            await self._broker.connect()
        watch = Watch(kernel.process, [self.files, Workspace(self._sockets)], self._limits)
        self._watching = asyncio.get_running_loop().create_task(self._watch(kernel, watch))
        return died

    async def _started(self) -> Kernel:
        """A new kernel in the folder."""
        folder = self.folder
        self.kernels += 1
        sockets = folder / f"s{self.kernels}"
        sockets.mkdir(mode=0o700)
        info = connection(sockets)
        (sockets / "connection.json").write_text(json.dumps(info))
        process = await self._process(sockets)
        self._sockets = sockets
        kernel = Kernel(process, info, self._heard, max(LARGEST, 2 * self._limits.flood_bytes))
        async with host().starting:
            await kernel.ready(self._limits.start_seconds)
        return kernel

    async def _process(self, sockets: Path) -> Process:
        """Starts the processes of a kernel."""
        if self._fork is not None:
            try:
                return await forked(self._fork, sockets, self.files.root, self._limits)
            except ZygoteEnded:
                self._fork = None
        return self._launch(sockets, self.files.root, self._limits)

    async def _end(self) -> str:
        """Ends the kernel. Returns what became of the files where they were too many."""
        excess, self._excess = self._excess, None
        self._why = ""
        self._cells.clear()
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        if self._broker is not None:
            broker, self._broker = self._broker, None
            await broker.close()
        if self._kernel is not None:
            kernel, self._kernel = self._kernel, None
            await kernel.close()
            await in_thread(folders.remove, self._sockets)
            if excess is None:  # what was left running may have removed the folder, and then have ended
                excess = await in_thread(self._unreadable)
        if excess is None or excess.status != "disk":
            return ""
        lost = await in_thread(self.files.undo)
        note = "; files are as they were before the cell"
        return note + (f", but for {', '.join(map(repr, lost))}, which cannot be restored" if lost else "")

    def _unreadable(self) -> Excess | None:
        try:
            self.files.usage(0)
        except OSError as error:
            return unreadable(error)
        return None

    def _heard(self, request: str, kind: str, content: Mapping[str, Any]) -> bool:
        found = self._cells.get(request)
        if found is None:
            return False
        cell, outputs = found
        left = outputs.add(kind, content)
        if outputs.changed:
            for id, other in self._cells.values():
                if other in outputs.changed:
                    self._late[id] = other
        if outputs is not self._running:
            self._late[cell] = outputs
        if left:
            self._overflow.add(cell, left)
        if outputs.size <= self._limits.flood_bytes:
            return False
        if outputs is not self._running and not self._why and self._kernel is not None:
            self._why = f"cell '{cell}', which had ended, went on printing more than is allowed"
            self._kill_soon(self._kernel)
        return True

    def _kill_soon(self, kernel: Kernel) -> None:
        self._killing = asyncio.get_running_loop().create_task(in_thread(kernel.process.kill))

    async def do(self, work: Callable[[], T]) -> T:
        """Calls a function while no cell runs, in a thread."""
        async with self._lock:
            return await in_thread(work)

    def put(self, path: str, data: bytes, *, executable: bool = False) -> None:
        """Puts a file into the working folder. It counts as known, not as changed by the next cell."""
        self.folder  # noqa: B018  makes it
        self.files.write(path, data, executable=executable)

    async def run(
        self, cell: str, source: str, seconds: float | None = None, perform: Perform | None = None
    ) -> Done:
        """Runs a cell, in a new kernel where the last one has died. `perform` makes the calls of its `CALL_API`; the cell's
        time does not pass meanwhile."""
        async with self._lock:
            if self._closed:
                raise SandboxError("the sandbox was closed while this cell waited for another one")
            before = await self.start()
            stop = self.begun and self._stop
            if self.begun:
                self._stop = False
            kernel = self._kernel
            assert kernel is not None
            outputs = self._running = Outputs(self._limits.output_bytes, self._displays)
            clock = self.clock = CellClock(self._limits.cell_seconds if seconds is None else seconds)
            self.cell = cell
            self._overflow.begin(cell)

            def begun(request: str) -> None:
                for old in [key for key, (id, of) in self._cells.items() if id == cell and of is not outputs]:
                    del self._cells[old]  # a frontend does not show outputs of an earlier run
                while len(self._cells) >= LATE:
                    del self._cells[next(iter(self._cells))]
                self._cells[request] = (cell, outputs)
                if stop:
                    kernel.interrupt()

            self._busy.set()
            broker = self._broker
            if broker is not None:
                broker.begin(None if perform is None else _paused(perform, clock))
            try:
                ran = await kernel.execute(source, clock, self._limits.grace_seconds, begun)
            finally:
                if broker is not None:
                    broker.end()
                self._running = self.clock = None
                self.cell = ""
                self._busy.clear()
            changes = await self._changes() if self._excess is None else None
            if (excess := self._excess) is not None:
                ran = ran._replace(
                    status=excess.status, alive=False, note=f"{excess.note}, and the kernel was ended"
                )
            elif self._why and not ran.alive:
                ran = ran._replace(note=self._why)
            if not ran.alive:
                ran = ran._replace(note=ran.note + await self._end())
            if changes is None and (changes := await self._changes()) is None:
                ran = ran._replace(note=ran.note + await self._end())
                changes = await in_thread(self.files.changes)
            made, missing = ((), "") if broker is None else (tuple(broker.made), broker.missing)
            found = self._outputs(cell, outputs)
            return Done(ran, before, found, self.late(cell), changes, made, missing)

    async def _changes(self) -> Changes | None:
        """What the cell has done to files. None where the folder holds too much, or was removed: that is an excess then."""
        try:
            if self.files.is_unchanged(self._limits):
                return Changes({}, [], {}, [], [])
            return await in_thread(self.files.changes, self._limits)
        except Oversized as error:
            self._excess = Excess("disk", str(error))
        except OSError as error:
            self._excess = unreadable(error)
        return None

    async def _watch(self, kernel: Kernel, watch: Watch) -> None:
        """Ends the kernel when a limit is exceeded."""
        since = time.monotonic()
        while (excess := await in_thread(watch.look)) is None:
            pause = 4 * (time.monotonic() - since)  # with many files a look takes long
            if self._busy.is_set():
                await asyncio.sleep(max(LOOK, pause))
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._busy.wait(), LOOK_IDLE)
            since = time.monotonic()
        self._excess = excess
        await in_thread(kernel.process.kill)

    def _outputs(self, cell: str, outputs: Outputs) -> list[Output]:
        items = outputs.normal()
        if outputs.dropped:
            where = self._overflow.where(cell)
            text = f"[{outputs.dropped:,} more bytes of outputs; texts are in {where}]\n"
            items = [*items, {"output_type": "stream", "name": "stderr", "text": text}]
        return _clean(items)

    def late(self, cell: str = "") -> dict[str, list[Output]]:
        """The outputs of cells that have got more since the last call, by cell, without those of one cell."""
        late, self._late = self._late, {}
        return {id: self._outputs(id, outputs) for id, outputs in late.items() if id != cell}

    async def probe(self) -> None:
        """Raises SandboxBroken where the kernel that runs cannot do the simplest things any more."""
        async with self._lock:
            if (kernel := self._kernel) is not None and kernel.alive:
                await kernel.begin(_PROBE, _PROBE_SECONDS)

    def interrupt(self) -> None:
        """Interrupts the cell that runs. Callable in any thread."""

        def stop() -> None:
            if self.begun and self.cell and self._kernel is not None:
                self._kernel.interrupt()
            elif self.wanted:
                self._stop = True  # as soon as it runs

        if self.wanted:  # now, not when the loop comes to it: the next cell is not meant
            host().loop.call_soon_threadsafe(stop)

    async def restart(self) -> None:
        """Ends the kernel; the next cell starts a new one. Files stay."""
        if self._kernel is not None:
            self._kernel.interrupt()
        async with self._lock:
            await self._end()

    async def close(self) -> dict[str, list[Output]]:
        """Ends the kernel and removes its folder. Returns late outputs."""
        self._closed = True
        await self.restart()
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            await prepared.kernel.close()
        host().forget(self)
        if self._folder is not None:
            await in_thread(folders.remove, self._folder)
            self._folder = None
        return self.late()


def _paused(perform: Perform, clock: CellClock) -> Perform:
    async def call(address: str, params: Mapping[str, Any]) -> Any:
        with clock.paused():
            return await perform(address, params)

    return call


def _clean(items: list[Output]) -> list[Output]:
    """Outputs as they can be recorded, with the two streams in normal form once more: a pointer may have been added."""
    from lllm.sandbox.outputs import normal

    found: list[Output] = finite(unicode_only(list(normal(items))))
    return found
