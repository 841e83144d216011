"""What was done in a notebook: what its folder holds now, and how a new kernel comes to the same state."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from lllm.core.canonical import digest, encode
from lllm.core.redact import Redactor
from lllm.errors import SandboxBroken
from lllm.sandbox.broker import Made, again
from lllm.sandbox.contents import Change, Contents
from lllm.sandbox.engine import Engine
from lllm.sandbox.recorded import Step, Value, change_of, digests, value_of

POLICIES: Final = {
    "rerun": "earlier cells run again, in order, from the folder as it was at first",
    "restore": "the folder is as the record has it, and variables are gone",
}

STOPPED: Final = ("timeout", "interrupted")
"""Statuses of cells that were stopped at a certain time."""

_NAMED: Final = 5


class History:
    """What was done, since the kernel began.

    Attributes:
        contents: what the working folder holds after the last cell.
        mark: stands for all that was done so far, and what came of it.
        last: the cell that ran last, "" for none.
    """

    def __init__(self) -> None:
        self.contents = Contents()
        self.mark = "start"
        self.last = ""
        self._base = Contents()
        self._steps: list[Step] = []

    def cell(self, id: str, source: str, seconds: float | None, value: Value) -> None:
        """A cell has run."""
        self.last = id
        self.contents.apply(change_of(value))
        known, removed = digests(value), tuple(value["removed"])
        status = value["status"]
        calls = tuple(Made(**made) for made in value.get("calls", ()))
        limit = value["seconds"] if status in STOPPED else seconds
        self._add(Step(id, source, limit, status, known, removed, value.get("folder"), calls=calls))
        if not value["alive"]:
            self.restarted()

    def cancelled(self, id: str, source: str) -> None:
        """A cell was cancelled, and nobody knows how far it came."""
        self._add(Step(id, source))

    def put(self, path: str, data: bytes, *, executable: bool = False) -> None:
        """A file was put."""
        self.contents.apply(Change({path: data}, executable=[path] if executable else ()))
        self._add(Step(path=path, data=data, executable=executable))

    def restarted(self) -> None:
        """The kernel has ended: whatever was done before, the next one begins with the folder as it is now."""
        self._base = self.contents.copy()
        self._steps = []
        self.mark = digest((self.mark + " restarted").encode())

    def _add(self, step: Step) -> None:
        self._steps.append(step)
        about: list[Any] = [
            step.id,
            step.source,
            step.status,
            dict(step.digests),
            step.path,
            digest(step.data),
        ]
        if step.folder or step.executable:  # without, it is as in logs that do not have them
            about += [dict(step.folder or {}), step.executable]
        self.mark = digest(self.mark.encode() + encode(about))

    async def catch_up(self, engine: Engine, policy: str, redactor: Redactor, *, files_too: bool) -> str:
        """Brings a new kernel to the same state. Returns what the next cell's author should know of it.

        Raises SandboxBroken where a cell that runs again does something else than was recorded."""
        cells = [step for step in self._steps if step.id]
        rerun = bool(cells) and policy == "rerun"
        before = self._base if rerun else self.contents
        engine.folder  # noqa: B018  makes it
        await engine.do(lambda: engine.files.put_back(before))
        notes = []
        if rerun:
            ran, left_out = await self._again(engine, redactor, files_too)
            notes.append(f"a new kernel was started, and the cells before ({ran}) were run again in it")
            if left_out:
                notes.append(f"not run again, because they had been cancelled: {_some(left_out)}")
        elif cells:
            notes.append("a new kernel was started: all variables are gone, files are still there")
        if lost := sorted(path for path, data in before.files.items() if data is None):
            notes.append(f"gone, because they were too large to be recorded: {_some(lost)}")
        return "; ".join(notes)

    async def _again(self, engine: Engine, redactor: Redactor, files_too: bool) -> tuple[int, list[str]]:
        ran, left_out = 0, []
        for step in self._steps:
            if step.path:
                await engine.do(partial(engine.put, step.path, step.data, executable=step.executable))
            elif not step.status:
                left_out.append(step.id)
            else:
                ran += 1
                done = await engine.run(step.id, step.source, step.seconds, again(step.calls))
                if done.missing:
                    raise SandboxBroken(
                        f"cell '{step.id}' was run again, and asked for something else: {done.missing}",
                        hint="With resume='restore' cells do not run again.",
                    )
                _compare(step, value_of(done, redactor, files_too=files_too))
        return ran, left_out


def _compare(step: Step, again: Value) -> None:
    then, now = step.status, str(again["status"])
    hint = "With resume='restore' cells do not run again: files are as recorded, and variables are gone."
    same = then == now or (then in STOPPED and now in STOPPED)
    if not same:
        raise SandboxBroken(
            f"cell '{step.id}' was run again, and differs from the record: it was '{then}' then and is '{now}' now",
            hint=hint,
        )
    found = digests(again)
    differ = {path for path in {*found, *step.digests} if found.get(path) != step.digests.get(path)}
    differ |= {*again["removed"]} ^ {*step.removed}
    if step.folder is not None:  # an older lllm did not record it
        differ |= _besides(step.folder, again["folder"])
    if differ:
        raise SandboxBroken(
            f"cell '{step.id}' was run again, and its files differ from the record: {_some(sorted(differ))}",
            hint=hint,
        )


def _besides(then: Mapping[str, Any], now: Mapping[str, Any]) -> set[str]:
    """What differs besides files and their contents: their modes, links, and empty folders."""
    differ: set[str] = set()
    for key in ("executable", "empty", "gone"):
        differ |= {*then.get(key, ())} ^ {*now.get(key, ())}
    before, after = then.get("links", {}), now.get("links", {})
    return differ | {path for path in {*before, *after} if before.get(path) != after.get(path)}


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(f"'{name}'" for name in names[:_NAMED]) + more
