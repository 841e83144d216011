"""Where the text goes that the outputs of a cell have no room for: a file per cell, beside the notebook."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

NOWHERE = "no file: the notebook is not on disk"


class Overflow:
    """The files.

    Args:
        folder: where they are, None for a notebook that is not on disk.
        most: bytes of each; more is left out.
    """

    def __init__(self, folder: Path | None, most: int) -> None:
        self.folder = folder
        self._most = most
        self._sizes: dict[str, int] = {}

    def begin(self, cell: str) -> None:
        """Removes the file of an earlier run of this cell."""
        self._sizes.pop(cell, None)
        if self.folder is not None:
            with suppress(OSError):
                self._file(cell).unlink(missing_ok=True)

    def add(self, cell: str, text: str) -> None:
        """Adds text to the file of a cell. Where the disk is full it is lost: a cell's result must not be."""
        size = self._sizes.get(cell, 0)
        if self.folder is None or not text or size >= self._most:
            return
        data = text.encode("utf-8", "backslashreplace")[: self._most - size]
        self._sizes[cell] = size + len(data)
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._file(cell).open("ab") as stream:
                stream.write(data)

    def where(self, cell: str) -> str:
        """The name under which a person finds it."""
        return NOWHERE if self.folder is None else str(self._file(cell))

    def _file(self, cell: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{cell}.txt"
