"""Kernels that are ready before somebody asks for one.

A pool belongs to a process, a tier and limits. Each of its kernels is given out once and never comes back: nobody gets what
somebody else's code has touched. Where none is ready, the next is waited for, and no more are started at a time than the
machine has processors.

All of it runs in the loop of the `host`.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from lllm.errors import SandboxError
from lllm.sandbox import folders
from lllm.sandbox.channels import LARGEST, connection
from lllm.sandbox.host import host
from lllm.sandbox.kernel import Kernel, Launch, Process, ZygoteEnded
from lllm.sandbox.limits import Limits
from lllm.sync import in_thread

MOST: Final = 256
"""Kernels that a pool may keep ready."""


class Prepared(NamedTuple):
    """A kernel that nobody has used.

    Attributes:
        folder: its folder, with `work` in it and the folder of its sockets.
        fork: forks another one in that folder, and blocks meanwhile; None where kernels are not forked.
    """

    folder: Path
    sockets: Path
    kernel: Kernel
    fork: Launch | None


class Pool:
    """See above.

    Args:
        launch: starts kernels, unless a zygote can.
        size: how many are kept ready. limits: of each. modules: what they have imported.
        forks: whether they are forked from a zygote.
    """

    def __init__(
        self, launch: Launch, size: int, limits: Limits, modules: Sequence[str] = (), *, forks: bool = True
    ) -> None:
        self.size = size
        self._launch = launch
        self._limits = limits
        self._modules = tuple(modules)
        self._forks = forks
        self._folder: Path | None = None
        self._made = 0
        self._ready: deque[Prepared] = deque()
        self._asking: deque[asyncio.Future[Prepared]] = deque()
        self._starting: set[asyncio.Task[None]] = set()
        self._zygote: Any = None
        self._opening = asyncio.Lock()
        self._closed = False

    @property
    def ready(self) -> int:
        """How many can be given out at once."""
        return len(self._ready)

    async def take(self) -> Prepared:
        """A kernel. Raises SandboxError where none can be started."""
        while self._ready:
            found = self._ready.popleft()
            if found.kernel.alive:
                self._fill()
                return found
            await self._drop(found)
        wanted: asyncio.Future[Prepared] = asyncio.get_running_loop().create_future()
        self._asking.append(wanted)
        self._fill()
        try:
            return await wanted
        except asyncio.CancelledError:
            if wanted.done() and not wanted.cancelled() and wanted.exception() is None:
                self._ready.append(wanted.result())
            with suppress(ValueError):
                self._asking.remove(wanted)
            raise

    def _fill(self) -> None:
        """Starts as many as are missing, a few at a time."""
        missing = self.size + len(self._asking) - len(self._ready) - len(self._starting)
        for _ in range(min(missing, (os.cpu_count() or 1) - len(self._starting))):
            task = asyncio.get_running_loop().create_task(self._start())
            self._starting.add(task)
            task.add_done_callback(self._started)

    def _started(self, task: asyncio.Task[None]) -> None:
        self._starting.discard(task)
        if task.cancelled() or self._closed:
            return
        if (error := task.exception()) is None:
            self._fill()
        elif self._asking:  # whoever asks is told; without anybody, the next who asks starts a new try
            self._asking.popleft().set_exception(error)
            if self._asking:
                self._fill()

    async def _start(self) -> None:
        self._made += 1
        folder = self._place() / f"e{self._made}"
        sockets = folder / "s0"
        folder.mkdir(mode=0o711)
        (folder / "work").mkdir()
        sockets.mkdir(mode=0o700)
        try:
            info = connection(sockets)
            (sockets / "connection.json").write_text(json.dumps(info))
            process, fork = await self._process(sockets, folder / "work")
            kernel = Kernel(process, info, _unheard, max(LARGEST, 2 * self._limits.flood_bytes))
            await kernel.ready(self._limits.start_seconds)
        except BaseException:
            await in_thread(folders.remove, folder)
            raise
        prepared = Prepared(folder, sockets, kernel, fork)
        if self._closed:
            await self._drop(prepared)
        elif self._asking:
            self._asking.popleft().set_result(prepared)
        else:
            self._ready.append(prepared)

    def _place(self) -> Path:
        if self._folder is None:
            folders.sweep()
            self._folder = folders.make()
            self._folder.chmod(0o711)  # kernels may belong to users of their own
            host().at_exit(self, self._at_exit)
        return self._folder

    async def _process(self, sockets: Path, work: Path) -> tuple[Process, Launch | None]:
        """Starts a kernel. Returns what forks another one too, where it was forked."""
        if not self._forks:  # in this thread: what bubblewrap starts ends with the thread that started it
            return self._launch(sockets, work, self._limits), None
        try:
            fork = await self._living()
            return await forked(fork, sockets, work, self._limits), fork
        except ZygoteEnded:
            fork = await self._living()
            return await forked(fork, sockets, work, self._limits), fork

    async def _living(self) -> Launch:
        """What forks a kernel: of the zygote, or of a new one where that has ended."""
        async with self._opening:
            if self._zygote is not None and not self._zygote.alive:
                self._zygote.close()
                self._zygote = None
            if self._zygote is None:
                from lllm.sandbox.isolation.forked import Zygote

                self._zygote = Zygote(self._place(), self._modules)
                await in_thread(self._zygote.ready)
            fork: Launch = self._zygote.launch
        return fork

    async def _drop(self, prepared: Prepared) -> None:
        await prepared.kernel.close()
        await in_thread(folders.remove, prepared.folder)

    async def close(self) -> None:
        """Ends all kernels that nobody has taken. Those that somebody has end too, where they are forked from its zygote."""
        self._closed = True
        for task in list(self._starting):
            task.cancel()
        if self._starting:
            await asyncio.wait(self._starting)
        while self._asking:
            self._asking.popleft().set_exception(SandboxError("the pool of sandboxes was closed"))
        while self._ready:
            await self._drop(self._ready.popleft())
        host().forget(self)
        self._at_exit()

    def _at_exit(self) -> None:
        for prepared in self._ready:
            prepared.kernel.process.kill()
        if self._zygote is not None:
            self._zygote.close()
        if self._folder is not None:
            folders.remove(self._folder)
            self._folder = None


async def forked(fork: Launch, sockets: Path, work: Path, limits: Limits) -> Process:
    """Forks a kernel, in a thread: it blocks for as long as the kernel likes. It is ended where the caller is cancelled."""
    coming = asyncio.ensure_future(in_thread(fork, sockets, work, limits))
    try:
        return await asyncio.shield(coming)
    except asyncio.CancelledError:
        with suppress(SandboxError):
            await in_thread((await coming).kill)
        raise


def _unheard(request: str, kind: str, content: Mapping[str, Any]) -> bool:
    return False


_pools: Final[dict[tuple[Any, ...], Pool]] = {}


def pool_of(launch: Launch, size: int, limits: Limits, modules: Sequence[str], *, forks: bool) -> Pool:
    """The pool of this process for these; the largest size that anybody asked for counts."""
    key = os.getpid(), launch, limits, tuple(modules), forks
    found = _pools.get(key)
    if found is None:
        for old in [one for one in _pools if one[0] != os.getpid()]:
            del _pools[old]
        found = _pools[key] = Pool(launch, size, limits, modules, forks=forks)
    found.size = max(found.size, size)
    return found
