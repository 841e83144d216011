"""A notebook on disk: its cells, and nothing that runs them.

Written whole, to a temporary file that then takes the place of the old one. The format is 4.5, as nbformat reads, upgrades
and checks it (https://nbformat.readthedocs.io/en/latest/format_description.html).
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lllm.atomic_files import atomic
from lllm.core.jsonable import unicode_only
from lllm.core.redact import Redactor
from lllm.errors import ConfigError, DependencyError, UnknownNameError
from lllm.sandbox.outputs import Output, finite, text_of

KINDS: Final = ("code", "markdown", "raw")

Cell = dict[str, Any]
"""A cell as a notebook has it: `id`, `cell_type`, `source`, `metadata`; code also `execution_count` and `outputs`."""

_KERNEL: Final = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"},
}


class Notebook:
    """The cells of a notebook, in their order. A cell is named by its place, from 0 (-1 is the last), or by its id.

    Args:
        path: the file, or None for a notebook that is not on disk.
        text: what the file holds; "" for a new notebook.

    Raises:
        ConfigError: the text is not a notebook.
    """

    def __init__(self, path: Path | None = None, text: str = "") -> None:
        self.path = path
        self.metadata: dict[str, Any] = json.loads(json.dumps(_KERNEL))
        self.cells: list[Cell] = []
        self._last = 0
        if text:
            try:
                found = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise ConfigError(f"'{path}' is not a notebook: {error}") from None
            self._take(found, f"'{path}'")

    @classmethod
    def from_dict(cls, notebook: Mapping[str, Any], path: Path | None = None) -> Notebook:
        """A notebook from its JSON, of any version of the format. Runs nothing, writes nothing."""
        made = cls()
        made._take(notebook, "the notebook")
        made.path = path
        return made

    def _take(self, found: Any, where: str) -> None:
        upgraded = _upgraded(found, where)
        self.metadata = {**_KERNEL, **upgraded["metadata"]}
        self.cells = upgraded["cells"]
        for cell in self.cells:
            self._counted(cell.get("id", ""))
        for cell in self.cells:
            cell["id"] = cell.get("id") or self._new_id()
            cell["source"] = text_of(cell["source"])
            for output in cell.get("outputs", ()):
                _join_output(output)

    def to_dict(self) -> dict[str, Any]:
        """The notebook as JSON: a copy."""
        whole = {"cells": self.cells, "metadata": self.metadata, "nbformat": 4, "nbformat_minor": 5}
        copy: dict[str, Any] = json.loads(self._text(whole))
        return copy

    @staticmethod
    def _text(whole: dict[str, Any]) -> str:
        try:
            return json.dumps(whole, ensure_ascii=False, indent=1, allow_nan=False)
        except ValueError:  # infinities and NaN, which JSON has not
            return json.dumps(finite(whole), ensure_ascii=False, indent=1)

    def save(self, redactor: Redactor | None = None) -> None:
        """Writes the file, where there is one, free of the secrets that `redactor` knows. Raises OSError, and then leaves the
        old one as it was."""
        if self.path is None:
            return
        whole = {"cells": self.cells, "metadata": self.metadata, "nbformat": 4, "nbformat_minor": 5}
        if redactor is not None:
            whole = redactor.clean(whole)
        text = self._text(whole) + "\n"
        with atomic(self.path) as file:
            file.write(text.encode("utf-8", "replace"))

    def index(self, cell: int | str) -> int:
        """The place of a cell, from 0. Raises UnknownNameError."""
        if isinstance(cell, bool) or not isinstance(cell, int | str):
            raise ConfigError(f"a cell is named by its place or its id, got {cell!r}")
        if isinstance(cell, str):
            for place, one in enumerate(self.cells):
                if one["id"] == cell:
                    return place
            raise UnknownNameError("cell", cell, [one["id"] for one in self.cells])
        if not -len(self.cells) <= cell < len(self.cells):
            has = f"{len(self.cells)} cells, from 0" if self.cells else "no cells"
            raise ConfigError(f"there is no cell {cell}: the notebook has {has}")
        return cell % len(self.cells)

    def get(self, cell: int | str) -> Cell:
        """One cell: the real one, not a copy."""
        return self.cells[self.index(cell)]

    def insert(self, at: int, source: str, kind: str = "code") -> int:
        """Puts a new cell before the one at this place; at the end where `at` is their number. Returns its place."""
        if kind not in KINDS:
            raise ConfigError(f"the kind of a cell must be one of {', '.join(KINDS)}, got {kind!r}")
        _check_source(source)
        place = len(self.cells) if at == len(self.cells) else self.index(at)
        self.cells.insert(place, _new(self._new_id(), kind, source))
        return place

    def overwrite(self, cell: int | str, source: str) -> None:
        """Gives a cell another source. Outputs, which were those of the old one, are removed."""
        _check_source(source)
        one = self.get(cell)
        one["source"] = unicode_only(source)
        if one["cell_type"] == "code":
            one |= {"execution_count": None, "outputs": []}

    def delete(self, cells: int | str | Iterable[int | str]) -> None:
        """Removes cells; places are those of before. All exist, or none is removed."""
        wanted = (
            [cells]
            if isinstance(cells, int | str)
            else list(cells)
            if isinstance(cells, Iterable)
            else [cells]
        )
        gone = {self.index(cell) for cell in wanted}
        self.cells = [cell for place, cell in enumerate(self.cells) if place not in gone]

    def answer(self, cell: str, count: int | None, outputs: Sequence[Output]) -> None:
        """Takes the outputs of a cell that ran. A cell that was removed meanwhile is ignored."""
        for one in self._code(cell):
            one |= {"execution_count": count, "outputs": list(outputs)}

    def show(self, cell: str, outputs: Sequence[Output]) -> None:
        """Takes other outputs for a cell. A cell that was removed meanwhile is ignored."""
        for one in self._code(cell):
            one["outputs"] = list(outputs)

    def adopt(self, cell: str, source: str) -> None:
        """Sees to it that there is a code cell with this id and source: at the end, where it is new."""
        for one in self._code(cell):
            one["source"] = source
            return
        self._counted(cell)
        self.cells.append(_new(cell, "code", source))

    def _code(self, cell: str) -> Iterator[Cell]:
        return (one for one in self.cells if one["id"] == cell and one["cell_type"] == "code")

    def _new_id(self) -> str:
        """An id that no cell has, or had: late outputs of a removed cell must not be those of a new one."""
        self._last += 1
        return f"cell-{self._last}"

    def _counted(self, id: str) -> None:
        if (found := _NUMBERED.fullmatch(id)) is not None:
            self._last = max(self._last, int(found[1]))


_NUMBERED: Final = re.compile(r"cell-([0-9]{1,9})")


def _new(id: str, kind: str, source: str) -> Cell:
    cell: Cell = {"id": id, "cell_type": kind, "metadata": {}, "source": unicode_only(source)}
    return {**cell, "execution_count": None, "outputs": []} if kind == "code" else cell


def _upgraded(found: Any, where: str) -> dict[str, Any]:
    """A notebook of any version as one of 4.5 that is valid. Raises ConfigError."""
    nbformat = _nbformat()
    try:
        node = nbformat.from_dict(json.loads(json.dumps(found)))
        if not isinstance(node, dict) or type(major := node.get("nbformat")) is not int:
            raise ValueError("it has no 'nbformat'")
        if major > 4:
            raise ValueError(f"it is of version {major} of the format, later than 4")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # missing and double ids are given by us
            has_ids = major == 4 and node.get("nbformat_minor", 0) >= 5
            node = nbformat.convert(node, 4)
            node["nbformat_minor"] = max(node.get("nbformat_minor", 0), 5)
            known: set[str] = set()
            without = []
            for number, cell in enumerate(node["cells"]):
                if not has_ids or "id" not in cell or cell["id"] in known:  # nbformat's own are random
                    without.append(cell)
                    cell["id"] = f"missing-{number}"
                known.add(cell["id"])
            nbformat.validate(node, relax_add_props=True)
            for cell in without:
                del cell["id"]
    except Exception as error:  # nbformat raises what its schemas and converters raise
        raise ConfigError(f"{where} is not a notebook: {_first_line(error)}") from None
    upgraded: dict[str, Any] = unicode_only(json.loads(json.dumps(node)))
    return upgraded


def _check_source(source: Any) -> None:
    if not isinstance(source, str):
        raise ConfigError(f"the source of a cell must be text, got {type(source).__name__}")


def _join_output(output: Output) -> None:
    """Lists of lines in an output become texts, as the kernel sent them."""
    if output.get("output_type") == "stream":
        output["text"] = text_of(output["text"])
    for mime, value in (output.get("data") or {}).items():
        if isinstance(value, list) and not mime.endswith("json"):
            output["data"][mime] = text_of(value)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _nbformat() -> Any:
    try:
        import nbformat
    except ImportError:
        raise DependencyError("nbformat", "sandbox", "a notebook") from None
    return nbformat
