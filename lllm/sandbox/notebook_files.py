"""The files of a notebook: those of its working folder, as the record has it, and their copies beside the notebook.

A part of JupyterSession.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

from lllm.core.canonical import digest
from lllm.errors import ConfigError, SandboxError
from lllm.models.function import ToolContext
from lllm.sandbox import copies
from lllm.sandbox.engine import Engine
from lllm.sandbox.host import host
from lllm.sandbox.notebook_record import NotebookRecord
from lllm.sandbox.recorded import Value, change_of, file_of
from lllm.sandbox.workspace import KEPT, Content, check_path
from lllm.session import recording
from lllm.sync import run
from lllm.terminals import warn


class NotebookFiles(NotebookRecord):
    """The files of a notebook."""

    dir: Path | None

    async def aput(self, path: str, data: bytes | str, *, executable: bool = False) -> None:
        """Puts a file into the working folder: bytes, or text as UTF-8. It is recorded. Raises SandboxError for a path that
        leads out of the folder or through a link, and for a file that is too large to be recorded."""
        if not isinstance(data, str | bytes | bytearray | memoryview):
            raise ConfigError(f"a file must be bytes or text, got {type(data).__name__}")
        content = data.encode() if isinstance(data, str) else bytes(data)
        check_path(path)
        if len(content) > KEPT:
            raise SandboxError(f"{path!r} has {len(content):,} bytes, at most {KEPT:,} can be put")

        async def do(context: ToolContext) -> Any:
            if (engine := self._mine()) is not None:
                await host().call(engine.do(lambda: engine.put(path, content, executable=executable)))
            else:
                self._contents.check_put(path)
            return file_of(path, Content(digest(content), len(content), content))

        request: dict[str, Any] = {"put": path, "content": content}
        if executable:
            request["executable"] = True
        await self._effect(recording(), request, do)
        self._history.put(path, content, executable=executable)

    def put(self, path: str, data: bytes | str, *, executable: bool = False) -> None:
        """See `aput`."""
        run(self.aput(path, data, executable=executable))

    def get(self, path: str) -> bytes:
        """A file of the working folder, as it was after the last cell. Raises SandboxError where there is none, and for one
        that is too large to be recorded."""
        contents = self._contents
        found = contents.files.get(path)
        if found is None and path in contents.files:
            raise SandboxError(f"{path!r} has more than {KEPT:,} bytes: it is in the working folder only")
        if found is None and path in contents.links:
            raise SandboxError(f"{path!r} is a link to '{contents.links[path]}'", hint="Get that file.")
        if found is None:
            known = ", ".join(sorted(contents.files)[:20]) or "none"
            raise SandboxError(
                f"there is no file {path!r} in the working folder", hint=f"There are: {known}."
            )
        return found

    @property
    def files(self) -> list[str]:
        """The files of the working folder, as they were after the last cell."""
        return sorted(self._contents.files)

    @property
    def links(self) -> dict[str, str]:
        """The links of the working folder with their targets, as they were after the last cell: those within the folder."""
        return dict(sorted(self._contents.links.items()))

    @property
    def directory_tree(self) -> str:
        """The working folder as an indented text: folders as `data/`, executable files as `run.sh*`, links as
        `link -> target`."""
        return self._contents.tree

    def _mine(self) -> Engine | None:
        raise NotImplementedError

    def _copy(self, value: Value) -> None:
        """Copies what a cell changed to `files/`."""
        if self.dir is None:
            return
        try:
            copies.copy(self.dir / "files", change_of(value))
        except OSError as error:  # the cell has run, and will be recorded
            words = error.strerror or error
            warn(_LOG, "'%s': its files cannot be copied: %s", self.dir / f"{self.name}.ipynb", words)


_LOG: Final = logging.getLogger("lllm.sandbox")
