"""What a cell did, as it is recorded: JSON with its images, long texts and files as blobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lllm.core.canonical import digest
from lllm.core.cell_record import pack_outputs, unpack_outputs
from lllm.core.redact import Redactor
from lllm.models.parts import File
from lllm.sandbox.broker import Made
from lllm.sandbox.engine import Done
from lllm.sandbox.outputs import Output
from lllm.sandbox.result import CellResult
from lllm.sandbox.workspace import Content

Value = Mapping[str, Any]
"""The recorded value of a cell: `status`, `alive`, `number`, `seconds`, `note`, `before`; `outputs`; `others`: all outputs of
earlier cells that have got more since; `files`: contents of new and changed files, or `{"size", "digest"}`; `removed`; `calls`:
what it asked of `CALL_API`, and the answers, where there are any; `sandbox`: the tier that was reached, with the first cell
(see `tiers.Chosen`)."""


class Step(NamedTuple):
    """Something that was done since the kernel began, by which another one comes to the same state: a cell that ran (`id`),
    one that was cancelled in the middle (`id` without `status`), or a file that was put (`path`)."""

    id: str = ""
    source: str = ""
    seconds: float | None = None
    status: str = ""
    digests: Mapping[str, str] = {}
    removed: tuple[str, ...] = ()
    path: str = ""
    data: bytes = b""
    calls: tuple[Made, ...] = ()


def value_of(done: Done, redactor: Redactor, *, files_too: bool) -> dict[str, Any]:
    """The value of a cell that has ended, free of secrets. `files_too`: also its files."""
    ran = done.ran
    return {
        "status": ran.status,
        "alive": ran.alive,
        "number": ran.number,
        "seconds": round(ran.seconds, 3),
        "note": ran.note,
        "before": done.before,
        "outputs": pack_outputs(redactor.clean(done.outputs)),
        "others": packed_others(done.others, redactor),
        "files": {
            path: file_of(path, _cleaned(found, redactor) if files_too else found)
            for path, found in done.files.items()
        },
        "removed": done.removed,
        **({"calls": redactor.clean([made.record() for made in done.calls])} if done.calls else {}),
    }


def packed_others(others: Mapping[str, list[Output]], redactor: Redactor) -> dict[str, Any]:
    """Outputs of several cells, by cell."""
    return {id: pack_outputs(redactor.clean(outputs)) for id, outputs in others.items()}


def _cleaned(found: Content, redactor: Redactor) -> Content:
    if not found.data:
        return found
    data = redactor.blob(found.data)
    return found if data is found.data else Content(digest(data), len(data), data)


def file_of(path: str, found: Content) -> Any:
    """A file's content as it is recorded."""
    if not found.data:
        return {"size": found.size, "digest": found.digest}
    name = path.rpartition("/")[2]
    return File(found.data, name if name.strip() and len(name) <= 255 else "file")


def data_of(found: Any) -> bytes | None:
    """The bytes of a recorded file, None where they were too many."""
    return found.data if isinstance(found, File) else b"" if not found["size"] else None


def digests(value: Value) -> dict[str, str]:
    """The digests of the files that a cell changed."""
    return {
        path: digest(found.data) if isinstance(found, File) else str(found["digest"])
        for path, found in value["files"].items()
    }


def result_of(id: str, value: Value) -> CellResult:
    """What came of a cell, from its recorded value."""
    return CellResult(
        id,
        value["status"],
        value["alive"],
        value["number"],
        value["seconds"],
        unpack_outputs(value["outputs"]),
        value["note"],
        digests(value),
        tuple(value["removed"]),
        value["before"],
    )
