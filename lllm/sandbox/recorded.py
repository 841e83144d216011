"""What a cell did, as it is recorded: JSON with its images, long texts and files as blobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lllm.core.canonical import digest
from lllm.core.cell_record import pack_outputs, unpack_outputs
from lllm.core.redact import Redactor
from lllm.models.parts import File
from lllm.sandbox.broker import Made
from lllm.sandbox.contents import Change
from lllm.sandbox.engine import Done
from lllm.sandbox.outputs import Output
from lllm.sandbox.result import CellResult
from lllm.sandbox.workspace import Changes, Content

Value = Mapping[str, Any]
"""The recorded value of a cell: see `lllm.core.cell_record.Cell`."""


class Step(NamedTuple):
    """Something that was done since the kernel began, by which another one comes to the same state: a cell that ran (`id`),
    one that was cancelled in the middle (`id` without `status`), or a file that was put (`path`)."""

    id: str = ""
    source: str = ""
    seconds: float | None = None
    status: str = ""
    digests: Mapping[str, str] = {}
    removed: tuple[str, ...] = ()
    folder: Mapping[str, Any] | None = None
    path: str = ""
    data: bytes = b""
    executable: bool = False
    calls: tuple[Made, ...] = ()


def value_of(done: Done, redactor: Redactor, *, files_too: bool) -> dict[str, Any]:
    """The value of a cell that has ended, free of secrets. `files_too`: also its files."""
    ran, changes = done.ran, done.changes
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
            for path, found in changes.files.items()
        },
        "removed": changes.removed,
        "folder": _folder(changes, redactor),
        **({"calls": redactor.clean([made.record() for made in done.calls])} if done.calls else {}),
    }


def _folder(changes: Changes, redactor: Redactor) -> dict[str, Any]:
    """What has changed besides files and their contents."""
    found = {
        "executable": sorted(path for path, content in changes.files.items() if content.executable),
        "links": {path: redactor.clean(target) for path, target in changes.links.items()},
        "empty": changes.empty,
        "gone": changes.gone,
    }
    return {key: value for key, value in found.items() if value}


def packed_others(others: Mapping[str, list[Output]], redactor: Redactor) -> dict[str, Any]:
    """Outputs of several cells, by cell."""
    return {id: pack_outputs(redactor.clean(outputs)) for id, outputs in others.items()}


def _cleaned(found: Content, redactor: Redactor) -> Content:
    if not found.data:
        return found
    data = redactor.blob(found.data)
    return found if data is found.data else found._replace(digest=digest(data), size=len(data), data=data)


def file_of(path: str, found: Content) -> Any:
    """A file's content as it is recorded."""
    if not found.data:
        return {"size": found.size, "digest": found.digest}
    name = path.rpartition("/")[2]
    return File(found.data, name if name.strip() and len(name) <= 255 else "file")


def data_of(found: Any) -> bytes | None:
    """The bytes of a recorded file, None where they were too many."""
    return found.data if isinstance(found, File) else b"" if not found["size"] else None


def change_of(value: Value) -> Change:
    """What a cell changed in the folder, from its recorded value."""
    folder = value.get("folder", {})
    return Change(
        {path: data_of(found) for path, found in value["files"].items()},
        value["removed"],
        folder.get("executable", ()),
        folder.get("links", {}),
        folder.get("empty", ()),
        folder.get("gone", ()),
    )


def digests(value: Value) -> dict[str, str]:
    """The digests of the files that a cell changed."""
    return {
        path: digest(found.data) if isinstance(found, File) else str(found["digest"])
        for path, found in value["files"].items()
    }


def result_of(id: str, value: Value) -> CellResult:
    """What came of a cell, from its recorded value."""
    change = change_of(value)
    return CellResult(
        id,
        value["status"],
        value["alive"],
        value["number"],
        value["seconds"],
        unpack_outputs(value["outputs"]),
        value["note"],
        digests(value),
        (*change.removed, *change.gone),
        value["before"],
        tuple(change.executable),
        change.links,
        tuple(change.empty),
    )
