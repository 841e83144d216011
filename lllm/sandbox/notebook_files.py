"""The files of a notebook: its own; those of its working folder, as the record has it; and copies of these beside it.

A part of JupyterSession.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lllm.atomic_files import read_text
from lllm.core.canonical import digest
from lllm.core.jsonable import unicode_only
from lllm.errors import ConfigError, SandboxError
from lllm.models.function import ToolContext
from lllm.sandbox import copies
from lllm.sandbox.engine import Engine
from lllm.sandbox.host import host
from lllm.sandbox.notebook_kernel import NotebookKernel
from lllm.sandbox.outputs import Output
from lllm.sandbox.recorded import Value, change_of, file_of, packed_others
from lllm.sandbox.workspace import KEPT, Content, check_path
from lllm.session import acting, recording
from lllm.sync import run
from lllm.terminals import warn


class NotebookFiles(NotebookKernel):
    """The files of a notebook."""

    # --- the notebook itself

    @property
    def notebook_file(self) -> Path | None:
        """The notebook on disk, None without a folder. It is written when a cell has run, and by `save`."""
        return None if self.dir is None else self.dir / f"{self.name}.ipynb"

    def _read(self) -> str:
        """The text of the notebook's file, "" where there is none. It is recorded: a replay begins with the same cells."""
        file = self.notebook_file
        if file is None:
            return ""
        try:
            session = recording()
            if session is None:
                return _text(file)
            return str(session.learn_now("notebook", lambda: _text(file), str(file)))
        except OSError as error:
            raise ConfigError(f"'{file}' cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"'{file}' is not a notebook: it is not UTF-8") from None

    async def asave(self) -> None:
        """Writes the notebook, where it has a folder, with the outputs that cells had after their end. A replay writes
        nothing. Raises SandboxError where it cannot be written; the old file is whole then."""
        engine = self._mine()
        await self._save(await host().call(_late(engine)) if engine is not None else {})

    def save(self) -> None:
        """See `asave`."""
        run(self.asave())

    # --- the working folder

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

    def _copy(self, value: Value) -> None:
        """Copies what a cell changed to `files/`."""
        if self.dir is None:
            return
        try:
            copies.copy(self.dir / "files", change_of(value))
        except OSError as error:  # the cell has run, and will be recorded
            words = error.strerror or error
            warn(_LOG, "'%s': its files cannot be copied: %s", self.dir / f"{self.name}.ipynb", words)

    async def _save(self, late: Mapping[str, list[Output]]) -> None:
        async def do(context: ToolContext) -> Value:
            return {"others": packed_others(late, self._redactor)}

        session = acting()
        value = await self._effect(
            None if session is not None and session.is_over else session, {"save": True}, do
        )
        self._late(value["others"])
        self._write()

    def _write(self) -> None:
        if self.dir is None or (self._session is not None and not self._session.acts):
            return
        try:
            self.dir.mkdir(parents=True, exist_ok=True)
            self._notebook.save(self._redactor)
        except OSError as error:
            raise SandboxError(
                f"'{self.notebook_file}' cannot be written: {error.strerror or error}"
            ) from None


_LOG: Final = logging.getLogger("lllm.sandbox")


async def _late(engine: Engine) -> dict[str, list[Output]]:
    return engine.late()


def _text(file: Path) -> str:
    return unicode_only(read_text(file)) if file.exists() else ""
