"""JupyterSession: a notebook on disk, a kernel behind it, and a record of what ran.

    with JupyterSession("analysis", "out") as notebook:
        cell = notebook.append_code_cell("1 + 1")
        print(notebook.run_cell(cell).text)

Within a session of lllm each run of a cell is an effect: what came of it, and the files that it changed, are in the log, so
that a replay needs no kernel. A resumed or forked session starts one when the first cell runs that the record lacks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from lllm.errors import ConfigError, SandboxError
from lllm.models.function import Function, ToolContext
from lllm.sandbox.broker import Perform
from lllm.sandbox.calls import Api, Catalogued, perform_in
from lllm.sandbox.engine import Engine
from lllm.sandbox.history import POLICIES, History
from lllm.sandbox.host import host
from lllm.sandbox.kernel import Launch
from lllm.sandbox.limits import Limits
from lllm.sandbox.notebook import Cell, Notebook
from lllm.sandbox.notebook_files import NotebookFiles
from lllm.sandbox.pool import MOST
from lllm.sandbox.recorded import Value, packed_others, result_of
from lllm.sandbox.result import CellResult
from lllm.session import Session, recording
from lllm.sync import finish, run
from lllm.terminals import warn


class JupyterSession(NotebookFiles):
    """A notebook and the kernel that runs its cells.

    A cell is named by its place in the notebook, from 0 (-1 is the last), or by its id. Calls with an `a` in front are
    async; those without block. One cell runs at a time; others wait.

    Args:
        name: of the notebook's file, without `.ipynb`.
        dir: the folder of the notebook, and of `files/`, to which the files that cells write are copied. None: nothing is on
            disk.
        limits: a `Limits`, or a mapping with some of its fields.
        tier: the isolation asked for, `namespace` or `process`; None for the strongest that works here. required: refuse to
            run code below that tier.
        resume: what a resumed or forked session does with the cells before, one of POLICIES.
        warm: how many kernels this process keeps ready, for all sessions with the same tier and limits. 0: each starts its own.
        preload: modules that those have imported already.
        proxy: what cells may call by `CALL_API(address, params)`: a `lllm.Proxy`. Keys stay out of the sandbox.
        notebook: cells and outputs to begin with, as JSON, in place of those of the file. No code runs.

    Raises:
        ConfigError: an unknown limit, or a file that is no notebook.
    """

    def __init__(
        self,
        name: str = "notebook",
        dir: str | Path | None = None,
        *,
        limits: Limits | Mapping[str, Any] | None = None,
        resume: str = "rerun",
        tier: str | None = None,
        required: bool = False,
        warm: int = 0,
        preload: Sequence[str] = (),
        proxy: Api | None = None,
        notebook: Mapping[str, Any] | None = None,
        launch: Launch | None = None,
    ) -> None:
        if not isinstance(name, str) or not 0 < len(name) <= 100 or name.startswith(".") or _BAD & {*name}:
            raise ConfigError(f"{name!r} cannot be the name of a notebook's file")
        if resume not in POLICIES:
            raise ConfigError(f"resume must be one of {', '.join(POLICIES)}, got {resume!r}")
        self.name = name
        self.dir = None if dir is None else Path(dir)
        self.limits = Limits.of(limits)
        self.tier, self.required = tier, required
        self.isolation: Mapping[str, Any] | None = None
        """What isolates the code, as it is recorded with the first cell: `tier`, `note` (why it is weaker than asked for, or
        "") and `open` (what code could still do). None before a cell has run."""
        self._reached: Mapping[str, Any] | None = None
        if type(warm) is not int or not 0 <= warm <= MOST:
            raise ConfigError(f"warm must be a whole number from 0 to {MOST}, got {warm!r}")
        self._warm, self._preload = warm, tuple(preload)
        self.proxy = proxy
        self._resume = resume
        self._launch = launch
        self._folder_names: tuple[str, ...] = ()
        self._session: Session | None = None
        self._adopted: set[int] = set()
        self._skips = 0
        self._engine: Engine | None = None
        self._history = History()
        self._acting()
        if notebook is None:
            self._notebook = Notebook(self.notebook_file, self._read())
        else:
            self._notebook = Notebook.from_dict(notebook, self.notebook_file)
        self._acting()

    # --- the notebook

    def append_code_cell(self, source: str) -> int:
        """Adds a code cell at the end. Returns its place."""
        return self.insert_cell(len(self._cells.cells), source)

    def append_markdown_cell(self, source: str) -> int:
        """Adds a Markdown cell at the end. Returns its place."""
        return self.insert_cell(len(self._cells.cells), source, "markdown")

    def insert_cell(self, at: int, source: str, kind: str = "code") -> int:
        """Adds a cell before the one at this place. `kind`: `code`, `markdown` or `raw`. Returns its place."""
        return self._cells.insert(at, source, kind)

    def overwrite_cell(self, cell: int | str, source: str) -> None:
        """Gives a cell another source, and removes its outputs."""
        self._cells.overwrite(cell, source)

    def delete_cells(self, cells: int | str | Iterable[int | str]) -> None:
        """Removes cells, all or none. Variables that they set stay."""
        self._cells.delete(cells)

    def get_cells(self) -> list[Cell]:
        """All cells: copies."""
        cells: list[Cell] = self._cells.to_dict()["cells"]
        return cells

    def to_dict(self) -> dict[str, Any]:
        """The notebook as JSON of the format 4.5."""
        return self._cells.to_dict()

    @classmethod
    def from_dict(cls, notebook: Mapping[str, Any], name: str = "notebook", **options: Any) -> Self:
        """A session with the cells and outputs of a notebook, of any version of the format. No code runs. `options`: as of
        the class. Raises ConfigError for what is no notebook."""
        if not isinstance(notebook, Mapping):
            raise ConfigError(
                f"the notebook is not a notebook: it is {type(notebook).__name__}, not a mapping"
            )
        return cls(name, notebook=notebook, **options)

    # --- cells

    async def arun_cell(self, cell: int | str, seconds: float | None = None) -> CellResult:
        """Runs a code cell and puts its outputs into the notebook.

        Args:
            seconds: its time limit, by default that of `limits`.

        Raises:
            ConfigError: no such cell, or none with code. SandboxBroken: no kernel could be started, or cells that were run
            again in a resumed session did something else.
        """
        session = recording()
        one = self._cells.get(cell)
        if one["cell_type"] != "code":
            raise ConfigError(f"cell {cell!r} is a {one['cell_type']} cell, which does not run")
        if seconds is not None and (type(seconds) not in (int, float) or not 0 < seconds < 2**31):
            raise ConfigError(f"seconds must be a number above 0, or None, got {seconds!r}")
        id, source = one["id"], one["source"]
        request: dict[str, Any] = {"cell": id, "source": source}
        if seconds is not None:
            request["seconds"] = seconds
        live = False

        async def do(context: ToolContext) -> Value:
            nonlocal live
            live = True
            value = await self._live(id, source, seconds, perform(context.effect))
            self._copy(value)
            return value

        made = None if self.proxy is None else partial(perform_in, self.proxy, session)
        scope = copy_context()

        def perform(effect: int | None) -> Perform | None:
            return None if made is None else scope.run(made, effect)

        mark = self._history.mark
        try:
            value = await self._effect(session, request, do, mark)
        except (asyncio.CancelledError, KeyboardInterrupt):
            self._history.cancelled(id, source)
            raise
        self._take(id, source, seconds, value)
        if live:
            try:
                self._write()
            except SandboxError as error:  # the cell has run, and is recorded
                warn(_LOG, "%s", error)
        return result_of(id, value)

    def run_cell(self, cell: int | str, seconds: float | None = None) -> CellResult:
        """See `arun_cell`."""
        return run(self.arun_cell(cell, seconds))

    async def arun_all_cells(self, *, stop: bool = True) -> list[CellResult]:
        """Runs all code cells in their order. `stop`: at the first that fails."""
        results = []
        for id in [one["id"] for one in self._notebook.cells if one["cell_type"] == "code"]:
            results.append(await self.arun_cell(id))
            if stop and not results[-1]:
                break
        return results

    def run_all_cells(self, *, stop: bool = True) -> list[CellResult]:
        """See `arun_all_cells`."""
        return run(self.arun_all_cells(stop=stop))

    async def arestart(self) -> None:
        """Ends the kernel. The next cell starts a new one; variables are gone, files are still there."""

        async def do(context: ToolContext) -> None:
            if (engine := self._mine()) is not None:
                await host().call(engine.restart())

        await self._effect(recording(), {"restart": True}, do)
        self._history.restarted()

    def restart(self) -> None:
        """See `arestart`."""
        run(self.arestart())

    async def areplace(self) -> None:
        """Ends a sandbox that does not work any more, its kernel and its folder. The next cell begins in a new one: files are
        as recorded and variables are gone. No cell from before runs again, also not when the session is resumed."""

        async def do(context: ToolContext) -> Value:
            engine, self._engine = self._mine(), None
            late = {} if engine is None else await host().call(engine.close())
            return {"others": packed_others(late, self._redactor)}

        value = await self._effect(recording(), {"replace": True}, do)
        self._late(value["others"])
        self._history.restarted()
        self._write()

    # --- for models

    def as_tools(self) -> tuple[Function, ...]:
        """The tools `python`, `shell` and `files` on this notebook: `Agent(..., tools=[notebook])`."""
        from lllm.sandbox.tools import tools_of

        async def find() -> JupyterSession:
            return self

        calls = self.proxy.api_catalog(max_tokens=CATALOGUE) if isinstance(self.proxy, Catalogued) else ""
        return tools_of(find, calls=calls)

    # --- its end

    async def aclose(self) -> None:
        """Ends the kernel, removes its folder, and saves the notebook. A cell that runs later starts a new kernel, with the
        files as they were."""
        engine, self._engine = self._mine(), None
        try:
            late = {} if engine is None else await host().call(engine.close())
        finally:
            self._history.restarted()
        await self._save(late)

    def close(self) -> None:
        """See `aclose`."""
        finish(self.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


CATALOGUE: Final = 800
"""Tokens of the list of endpoints that the tool `python` has."""

_BAD: Final = frozenset('/\\\0:*?"<>|\n\r\t')
_LOG: Final = logging.getLogger("lllm.sandbox")
