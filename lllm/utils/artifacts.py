"""The artifacts of a session, and copying them out of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lllm.atomic_files import atomic
from lllm.core import events as ev
from lllm.core.artifact import unsafe
from lllm.errors import ConfigError, LogCorrupt
from lllm.ports import LogStore


class Artifact(NamedTuple):
    """One thing that a session keeps. `seq` is the event that kept it, `call` the agent call whose tool did, `size` is in
    bytes."""

    name: str
    media_type: str
    size: int
    digest: str
    seq: int
    call: str | None


def artifacts(events: Iterable[Mapping[str, Any]]) -> list[Artifact]:
    """The artifacts of a session, in the order in which they were kept."""
    return [
        Artifact(
            str(event["data"].get("name", "")),
            str(event["data"].get("media_type", "application/octet-stream")),
            int(event["data"].get("size", 0)),
            str(event["data"].get("digest", "")),
            event["seq"],
            event["call"],
        )
        for event in events
        if event["kind"] == ev.ARTIFACT
    ]


def save(store: LogStore, found: Sequence[Artifact], folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Writes artifacts as files below a folder, and gives the files. Of several with one name the last is written.

    Raises:
        ConfigError: a file is there already; nothing is written.
        LogCorrupt: a name that would lead out of the folder, as no session of lllm has it, or a content that was changed.
        UnknownNameError: a content is not in this store.
    """
    last = {artifact.name: artifact for artifact in found}
    for name in last:
        if trouble := unsafe(name):
            raise LogCorrupt(f"the artifact {name!r} cannot be a file: {trouble}")
    root = folder.resolve()
    files = {name: folder / name for name in last}
    for name, path in files.items():
        if not path.resolve().is_relative_to(root):
            raise LogCorrupt(f"the artifact {name!r} would lead out of {folder}: a link is in the way")
    taken = [str(path) for path in files.values() if path.exists() or path.is_symlink()]
    if taken and not overwrite:
        raise ConfigError(
            f"{', '.join(taken)} {'is' if len(taken) == 1 else 'are'} there already",
            hint="Choose another folder, or add --overwrite.",
        )
    contents = {name: store.blob(artifact.digest) for name, artifact in last.items()}
    for name, path in files.items():
        with atomic(path) as file:
            file.write(contents[name])
    return list(files.values())
