"""What a working folder holds, as the record has it: files, which of them are executable, links within it, empty folders.

Nothing here reads a disk: it is a fold of what cells changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from lllm.errors import SandboxError


class Change(NamedTuple):
    """What a cell changed in the folder.

    Attributes:
        files: files that are new or have changed; None where the content is not known. removed: files that are gone.
        executable: those of `files` that are executable.
        links: links that are new or lead elsewhere now, with their targets.
        empty: folders in which there is nothing any more, or that are new.
        gone: links and empty folders that are gone.
    """

    files: Mapping[str, bytes | None] = {}
    removed: Collection[str] = ()
    executable: Collection[str] = ()
    links: Mapping[str, str] = {}
    empty: Collection[str] = ()
    gone: Collection[str] = ()


class Contents:
    """What the folder holds.

    Attributes:
        files: by path; None where the content is not known. executable: those that are.
        links: the target of each. empty: folders with nothing in them that is recorded.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes | None] = {}
        self.executable: set[str] = set()
        self.links: dict[str, str] = {}
        self.empty: set[str] = set()

    def copy(self) -> Contents:
        """One that does not change with this one."""
        made = Contents()
        made.files, made.links = dict(self.files), dict(self.links)
        made.executable, made.empty = set(self.executable), set(self.empty)
        return made

    def apply(self, change: Change) -> None:
        """Takes what a cell changed."""
        for path in (*change.removed, *change.gone):
            self._forget(path)
        for path, data in change.files.items():
            self._place(path)
            self.files[path] = data
            if path in change.executable:
                self.executable.add(path)
        for path, target in change.links.items():
            self._place(path)
            self.links[path] = target
        for path in change.empty:
            self._place(path)
            self.empty.add(path)

    def _place(self, path: str) -> None:
        """Something new is at a path: whatever was there is gone, and what is above it is a folder that is not empty."""
        for one in (path, *_above(path)):
            self._forget(one)

    def _forget(self, path: str) -> None:
        self.files.pop(path, None)
        self.executable.discard(path)
        self.links.pop(path, None)
        self.empty.discard(path)

    def check_put(self, path: str) -> None:
        """Raises SandboxError where no file can be put: a file or a link is above the path, or a folder is at it."""
        for above in _above(path):
            if above in self.files or above in self.links:
                kind = "a link" if above in self.links else "a file"
                raise SandboxError(f"{path!r} cannot be written: '{above}' is {kind}, not a folder")
        if path in self.empty or any(one.startswith(f"{path}/") for one in self):
            raise SandboxError(f"{path!r} cannot be written: it is a folder")

    def __iter__(self) -> Iterator[str]:
        """The paths of all that it holds."""
        yield from self.files
        yield from self.links
        yield from self.empty

    @property
    def tree(self) -> str:
        """All of it as an indented text: folders with a slash behind, executable files with an asterisk, links with their
        targets."""
        lines: list[str] = []
        before: list[str] = []
        for path in sorted(self):
            *above, name = path.split("/")
            for level, part in enumerate(above):
                if above[: level + 1] != before[: level + 1]:
                    lines.append("  " * level + part + "/")
            lines.append("  " * len(above) + marked(name, self, path))
            before = above
        return "\n".join(lines)


def marked(name: str, contents: Contents, path: str) -> str:
    """A name with what it is: `run.sh*`, `link -> target`, `folder/`."""
    if path in contents.links:
        return f"{name} -> {contents.links[path]}"
    return f"{name}/" if path in contents.empty else f"{name}*" if path in contents.executable else name


def _above(path: str) -> Iterator[str]:
    """The folders above a path, from the inside out."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
