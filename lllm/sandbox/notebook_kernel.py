"""The kernel of a notebook: started when the first cell runs that the record lacks, and brought to where the record is.

A part of JupyterSession.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lllm.errors import SandboxBroken, SandboxError
from lllm.sandbox.broker import Perform
from lllm.sandbox.calls import Api
from lllm.sandbox.engine import Done, Engine
from lllm.sandbox.host import host
from lllm.sandbox.kernel import Launch
from lllm.sandbox.limits import Limits
from lllm.sandbox.notebook_record import NotebookRecord
from lllm.sandbox.overflow import Overflow
from lllm.sandbox.pool import Pool, pool_of
from lllm.sandbox.recorded import Value, value_of
from lllm.session import recording


class NotebookKernel(NotebookRecord):
    """The kernel of a notebook."""

    dir: Path | None
    limits: Limits
    tier: str | None
    required: bool
    proxy: Api | None
    _resume: str
    _warm: int
    _preload: tuple[str, ...]
    _launch: Launch | None
    _engine: Engine | None = None
    _reached: Mapping[str, Any] | None = None
    _folder_names: tuple[str, ...] = ()

    def interrupt(self) -> None:
        """Interrupts the cell that runs, from another task or thread. Variables stay."""
        if self._engine is not None:
            self._engine.interrupt()

    @property
    def alive(self) -> bool:
        """Whether a kernel runs now. False before the first cell, and in a replay."""
        engine = self._mine()
        return engine is not None and engine.alive

    async def aprobe(self) -> str:
        """Looks whether the kernel can still do the simplest things, after a cell that failed oddly. Returns why not, "" where
        it can, or none runs."""

        async def do() -> str:
            try:
                if (engine := self._mine()) is not None:
                    await host().call(engine.probe())
            except SandboxBroken as error:
                return error.message
            return ""

        session = recording()
        if session is None:
            return await do()
        cell = self._history.last
        return str(await session.effect("probe", {"cell": cell}, do, effect="pure", timeout=None))

    def _mine(self) -> Engine | None:
        """The kernel, unless it is that of the process from which this one was forked."""
        engine = self._engine
        return engine if engine is not None and engine.pid == os.getpid() else None

    async def _live(self, id: str, source: str, seconds: float | None, perform: Perform | None) -> Value:
        engine = self._mine()
        if engine is None:
            launch, pool = self._launcher()
            calls, names = self.proxy is not None, self._folder_names
            engine = Engine(launch, self.limits, self._overflow(), pool, calls=calls, names=names)
            weakref.finalize(self, _abandon, engine).atexit = False
        engine.wanted += 1  # before anybody can interrupt it
        self._engine = engine
        try:
            before, done = await host().call(self._run(engine, id, source, seconds, perform))
        except SandboxError as error:
            if not engine.begun and self._session is not None:
                # a resumption that did not come to where it was can be tried again
                self._session.left_open(error)
            raise
        finally:
            engine.wanted -= 1
        if before:
            done = done._replace(before="; ".join(filter(None, (before, done.before))))
        value = value_of(done, self._redactor, files_too=self._session is not None)
        if self._reached is not None:
            value["sandbox"], self._reached = self._redactor.clean(dict(self._reached)), None
        return value

    async def _run(
        self, engine: Engine, id: str, source: str, seconds: float | None, perform: Perform | None
    ) -> tuple[str, Done]:
        async with engine.gate:
            before = ""
            if not engine.begun:
                try:
                    await engine.place()
                    before = await self._history.catch_up(
                        engine, self._resume, self._redactor, files_too=self._session is not None
                    )
                except BaseException:
                    if self._engine is engine:
                        self._engine = None
                    await engine.close()
                    raise
                engine.begun = True
        return before, await engine.run(id, source, seconds, perform)

    def _launcher(self) -> tuple[Launch, Pool | None]:
        if self._launch is not None:
            return self._launch, None
        from lllm.sandbox.isolation.namespace import WORKSPACE
        from lllm.sandbox.isolation.tiers import choose

        chosen = choose(self.tier, required=self.required)
        self._reached = chosen.record()
        self._folder_names = (WORKSPACE,) if chosen.tier == "namespace" else ()
        if not self._warm:
            return chosen.launch, None
        return chosen.launch, pool_of(
            chosen.launch, self._warm, self.limits, self._preload, forks=chosen.tier == "namespace"
        )

    def _overflow(self) -> Overflow:
        folder = None if self.dir is None else self.dir / f"{self.name}.outputs"
        return Overflow(folder, self.limits.flood_bytes)


def _abandon(engine: Engine) -> None:
    """Ends the kernel of a notebook that was dropped without being closed."""
    if engine.pid == os.getpid():
        host().soon(engine.close())
