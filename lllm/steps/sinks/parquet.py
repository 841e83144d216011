"""Rows in a Parquet file.

Such a file is written as a whole: its columns have types, and its end says where they are. So rows wait in a file beside it,
`NAME.rows`, where each is as durable as in JSON Lines, and the Parquet file is rewritten, with what it had before, when the
run or the batch has ended. It takes the place of the old one in one step. Rows of a run that was killed wait for the next one.
"""

from __future__ import annotations

import base64
import json
import math
import os
from pathlib import Path
from typing import Any, Final

from lllm.atomic_files import atomic
from lllm.errors import DependencyError, SinkError
from lllm.steps.sinks.lines import Lines, errors_of, rows_in, sync_folder
from lllm.steps.sinks.rows import KEY, Row, fits_64_bits, in_json, is_nested, json_text, number_text

_BYTES: Final = "$bytes"
_FLOAT: Final = "$float"


class ParquetFile:
    """A Parquet file, and the rows that wait to be in it."""

    kind = "parquet"

    def __init__(self, path: Path) -> None:
        _pyarrow()
        self.path = path
        self.waiting = Lines(path.with_name(path.name + ".rows"))

    def write(self, key: str, row: Row) -> None:
        """Keeps a row for the file."""
        if self.path.exists() and not self.path.is_file():
            raise SinkError(f"'{self.path}' is no file", hint="Give the path of a file.")
        self.waiting.write(key, {name: _kept(value) for name, value in row.items()})

    def finish(self) -> None:
        """Writes the file with the rows that wait, if there are some."""
        if not self.waiting.path.exists():
            return
        arrow, parquet = _pyarrow()
        with errors_of(self.path), self.waiting.opened() as fd:
            rows = self._before(parquet)
            known = {row[KEY] for row in rows}
            for row in rows_in(fd):
                if row.get(KEY) not in known:
                    known.add(row.get(KEY))
                    rows.append({name: _cell(value) for name, value in row.items()})
            names = list(dict.fromkeys(name for row in rows for name in row))
            if rows:
                table = arrow.table({name: _column(arrow, [row.get(name) for row in rows]) for name in names})
                with atomic(self.path) as file:
                    parquet.write_table(table, file)
                sync_folder(self.path.parent)
            os.unlink(self.waiting.path)

    def _before(self, parquet: Any) -> list[dict[str, Any]]:
        """The rows that the file has."""
        if not self.path.exists():
            return []
        try:
            table = parquet.ParquetFile(self.path).read()
        except OSError:
            raise
        except Exception as error:  # of pyarrow, for what is no Parquet
            raise self._other(str(error)) from error
        if KEY not in table.column_names:
            raise self._other(f"it has the columns {', '.join(table.column_names)}, and no '{KEY}'")
        found: list[dict[str, Any]] = table.to_pylist()
        return found

    def _other(self, why: str) -> SinkError:
        return SinkError(
            f"'{self.path}' is no Parquet file of a sink: {why}",
            hint=f"Give the sink a file of its own. Its rows wait in '{self.waiting.path.name}'.",
        )


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DependencyError("pyarrow", "parquet", "a sink that writes Parquet") from None
    return pyarrow, pyarrow.parquet


def _kept(value: Any) -> Any:
    """A cell as the waiting rows have it: as JSON that says its type."""
    if is_nested(value):
        return json_text(value)
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: number_text(value)}
    return value


def _cell(value: Any) -> Any:
    if isinstance(value, dict):
        if _BYTES in value:
            return base64.b64decode(value[_BYTES])
        return float(value[_FLOAT])
    return value


def _column(arrow: Any, values: list[Any]) -> Any:
    """A column of the type that all of its values have; else of text."""
    kinds = {type(one) for one in values if one is not None}
    if kinds <= {int} and all(fits_64_bits(one) for one in values if one is not None):
        return arrow.array(values, arrow.int64() if kinds else arrow.null())
    if kinds <= {int, float} and all(abs(one) <= 2**53 for one in values if type(one) is int):
        return arrow.array([None if one is None else float(one) for one in values], arrow.float64())
    for kind, made in ((bool, arrow.bool_()), (str, arrow.string()), (bytes, arrow.binary())):
        if kinds == {kind}:
            return arrow.array(values, made)
    return arrow.array([_text(one) for one in values], arrow.string())


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(in_json(value)).strip('"')
