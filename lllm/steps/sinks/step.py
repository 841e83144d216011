"""Sink: the step."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from lllm.errors import ConfigError
from lllm.models.function import EFFECTS, ToolContext
from lllm.session import current
from lllm.session_effects import context_parameters
from lllm.steps.base import Step, named
from lllm.steps.sinks.rows import DEEPEST, Row, cell, in_json, row_of
from lllm.sync import in_thread, is_async

if TYPE_CHECKING:
    from lllm.steps.running import Here

EXACT: Final = 2**53


class Writer(Protocol):
    """The file that rows are written to."""

    kind: str
    path: Path

    def write(self, key: str, row: Row) -> None:
        """Writes a row, unless one with its key is there."""

    def finish(self) -> None:
        """Called when a run or a batch has ended."""


class Sink(Step):
    """Writes what passes, and gives it on unchanged.

    Each value is one effect of the session, with an idempotency key (`SESSION/e3`), which its row has in the column `_key`: a
    resumed session writes no row twice, and a replay none.
    """

    kind = "sink"
    takes_list = False

    async def _run(self, value: Any, here: Here) -> Any:
        await self.write(value, here)
        return value

    async def write(self, value: Any, here: Here) -> None:
        """Writes a value, as an effect."""
        raise NotImplementedError

    def finish(self) -> None:
        """Called when a run or a batch has ended."""


class FileSink(Sink):
    """Writes rows to a file."""

    def __init__(self, writer: Writer, shown: str, name: str | None, **about: str) -> None:
        from lllm.steps.coercing import registered

        self.writer = writer
        if name is not None:
            registered(self)
        self.name = named(name, f"to_{writer.kind}({', '.join((shown, *about.values()))})")
        self._asked = {"to": writer.kind, "path": shown, **about}

    def _about(self) -> dict[str, Any]:
        return dict(self._asked)

    async def write(self, value: Any, here: Here) -> None:
        row = row_of(value)
        asked = {**self._asked, "row": recorded(row)}

        def do(context: ToolContext) -> None:
            self.writer.write(context.idempotency_key or here.session.id, row)

        await here.session.effect("sink", asked, do, effect="idempotent", key=here.path)

    def finish(self) -> None:
        self.writer.finish()


class FunctionSink(Sink):
    """Calls a function with what passes."""

    def __init__(self, function: Callable[..., Any], effect: str, name: str | None) -> None:
        from lllm.steps.coercing import name_of, registered
        from lllm.steps.function import FunctionStep

        if not callable(function) or isinstance(function, Step):
            raise ConfigError(
                f"sink takes a function of the value, got {function!r:.80}", hint="Write sink(save)."
            )
        if effect not in EFFECTS:
            raise ConfigError(f"effect={effect!r}", hint=f"It is one of {', '.join(EFFECTS)}.")
        self.function = function
        self.effect = effect
        self._contexts = context_parameters(function)
        fixed = functools.partial(function, **dict.fromkeys(self._contexts)) if self._contexts else function
        self._step = FunctionStep(fixed)
        self.takes = self._step.takes
        self._called = name_of(function)
        if name is not None:
            registered(self)
        self.name = named(name, f"sink({self._called})")

    async def write(self, value: Any, here: Here) -> None:
        given = self._step.receive(value)
        asked = {"to": "function", "name": self._called, "value": recorded(cell(given, "value", DEEPEST))}

        async def do_async(context: ToolContext) -> None:
            await self.function(given, **dict.fromkeys(self._contexts, context))

        def do_plainly(context: ToolContext) -> None:
            self.function(given, **dict.fromkeys(self._contexts, context))

        do = do_async if is_async(self.function) else do_plainly
        await here.session.effect("sink", asked, do, effect=self.effect, key=here.path)


def to_jsonl(path: str | os.PathLike[str], *, name: str | None = None) -> Sink:
    """Appends each value as a line of JSON: `chain >> to_jsonl("answers.jsonl")`."""
    from lllm.steps.sinks.lines import Lines

    found = path_of(path)
    return FileSink(Lines(found), str(path), name)


def to_sqlite(path: str | os.PathLike[str], table: str = "rows", *, name: str | None = None) -> Sink:
    """Inserts each value as a row of a table: `chain >> to_sqlite("answers.db", table="answers")`."""
    from lllm.steps.sinks.sqlite import Table, check_table

    found = path_of(path)
    return FileSink(Table(found, check_table(table)), str(path), name, table=table)


def to_parquet(path: str | os.PathLike[str], *, name: str | None = None) -> Sink:
    """Writes the values of a run or a batch as rows of a Parquet file, when that has ended: `chain >> to_parquet("a.parquet")`.

    Raises:
        DependencyError: pyarrow is not installed.
    """
    from lllm.steps.sinks.parquet import ParquetFile

    found = path_of(path)
    return FileSink(ParquetFile(found), str(path), name)


def sink(function: Callable[..., Any], *, effect: str = "ask", name: str | None = None) -> Sink:
    """Calls a function with each value, and gives the value on: `chain >> sink(save)`.

    Args:
        function: plain (it runs in a thread) or async. A parameter that is annotated ToolContext is given that: its
            `idempotency_key` is the same where the function is called again.
        effect: what a resumed session does where the function had begun and nobody knows whether it ended: `ask`, `never`,
            `idempotent` or `pure` (it is called again), as for tools.
    """
    return FunctionSink(function, effect, name)


def path_of(path: Any) -> Path:
    """The file of a sink, from the folder that the program is in now."""
    if not isinstance(path, str | os.PathLike) or not str(path).strip() or "\0" in str(path):
        raise ConfigError(f"a sink writes to a path, got {path!r}", hint='Write to_jsonl("answers.jsonl").')
    return Path(os.path.abspath(path))


class Placed(os.PathLike[str]):
    """A path as it is written in a configuration, from the project's folder."""

    def __init__(self, written: str, folder: Path) -> None:
        self._written = written
        self._path = str(folder / written)

    def __fspath__(self) -> str:
        return self._path

    def __str__(self) -> str:
        return self._written


def recorded(value: Any) -> Any:
    """A row as the log has it: integers that other readers of JSON would round are texts."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > EXACT:
        return str(value)
    if isinstance(value, dict):
        return {name: recorded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [recorded(one) for one in value]
    return in_json(value)


def _sinks(step: Step) -> Iterator[Sink]:
    if isinstance(step, Sink):
        yield step
    for _, one in step.members:
        yield from _sinks(one)


async def finish(step: Step) -> None:
    """Completes the files of all sinks within a step, when it has run. A replay does not."""
    found = [one for one in _sinks(step) if isinstance(one, FileSink)]
    scope = current.get()
    for one in found:
        if scope is None:
            await in_thread(one.finish)
        elif scope.session.acts or getattr(scope.session, "goes_on", False):
            one.finish()  # here: the end of a thread would be an input of the session, which a replay has not
