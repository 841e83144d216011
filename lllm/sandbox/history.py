"""What was done in a notebook: the files that it has now, and how a new kernel comes to the same state."""

from __future__ import annotations

from typing import Final

from lllm.core.canonical import digest, encode
from lllm.core.redact import Redactor
from lllm.errors import SandboxBroken
from lllm.sandbox.broker import Made, again
from lllm.sandbox.engine import Engine
from lllm.sandbox.recorded import Step, Value, data_of, digests, value_of

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
        files: the files of the working folder after the last cell, by path; None where the content is not known.
        mark: stands for all that was done so far, and what came of it.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes | None] = {}
        self.mark = "start"
        self._base: dict[str, bytes | None] = {}
        self._steps: list[Step] = []

    def cell(self, id: str, source: str, seconds: float | None, value: Value) -> None:
        """A cell has run."""
        for path, found in value["files"].items():
            self.files[path] = data_of(found)
        for path in value["removed"]:
            self.files.pop(path, None)
        known, removed = digests(value), tuple(value["removed"])
        status = value["status"]
        calls = tuple(Made(**made) for made in value.get("calls", ()))
        limit = value["seconds"] if status in STOPPED else seconds
        self._add(Step(id, source, limit, status, known, removed, calls=calls))
        if not value["alive"]:
            self.restarted()

    def cancelled(self, id: str, source: str) -> None:
        """A cell was cancelled, and nobody knows how far it came."""
        self._add(Step(id, source))

    def put(self, path: str, data: bytes) -> None:
        """A file was put."""
        self.files[path] = data
        self._add(Step(path=path, data=data))

    def restarted(self) -> None:
        """The kernel has ended: whatever was done before, the next one begins with the files as they are now."""
        self._base = dict(self.files)
        self._steps = []
        self.mark = digest((self.mark + " restarted").encode())

    def _add(self, step: Step) -> None:
        self._steps.append(step)
        about = [step.id, step.source, step.status, dict(step.digests), step.path, digest(step.data)]
        self.mark = digest(self.mark.encode() + encode(about))

    async def catch_up(self, engine: Engine, policy: str, redactor: Redactor, *, files_too: bool) -> str:
        """Brings a new kernel to the same state. Returns what the next cell's author should know of it.

        Raises SandboxBroken where a cell that runs again does something else than was recorded."""
        cells = [step for step in self._steps if step.id]
        rerun = bool(cells) and policy == "rerun"
        before = self._base if rerun else self.files
        engine.folder  # noqa: B018  makes it
        await engine.do(lambda: engine.files.put_back({p: d for p, d in before.items() if d is not None}))
        notes = []
        if rerun:
            ran, left_out = await self._again(engine, redactor, files_too)
            notes.append(f"a new kernel was started, and the cells before ({ran}) were run again in it")
            if left_out:
                notes.append(f"not run again, because they had been cancelled: {_some(left_out)}")
        elif cells:
            notes.append("a new kernel was started: all variables are gone, files are still there")
        if lost := sorted(path for path, data in before.items() if data is None):
            notes.append(f"gone, because they were too large to be recorded: {_some(lost)}")
        return "; ".join(notes)

    async def _again(self, engine: Engine, redactor: Redactor, files_too: bool) -> tuple[int, list[str]]:
        ran, left_out = 0, []
        for step in self._steps:
            if step.path:
                await engine.do(lambda step=step: engine.put(step.path, step.data))  # type: ignore[misc]
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
    removed = tuple(again["removed"])
    differ = {path for path in {*found, *step.digests} if found.get(path) != step.digests.get(path)}
    if differ := differ | ({*removed} ^ {*step.removed}):
        raise SandboxBroken(
            f"cell '{step.id}' was run again, and its files differ from the record: {_some(sorted(differ))}",
            hint=hint,
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(f"'{name}'" for name in names[:_NAMED]) + more
