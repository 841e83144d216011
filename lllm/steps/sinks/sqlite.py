"""Rows in a table of SQLite."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from lllm.errors import ConfigError, SinkError
from lllm.steps.sinks.lines import errors_of
from lllm.steps.sinks.rows import KEY, Row, fits_64_bits, is_nested, json_text, number_text

WAIT: Final = 30.0
"""Seconds that another process may have the database."""


class Table:
    """A table that several processes may write to. It is made with the first row, and gets further columns as rows have them.
    A row is one transaction."""

    kind = "sqlite"

    def __init__(self, path: Path, table: str) -> None:
        self.path = path
        self.table = table

    def write(self, key: str, row: Row) -> None:
        """Inserts a row, unless the table has one with its key. SinkError where it cannot be."""
        with errors_of(self.path), self._errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)) as db:
                db.execute("PRAGMA synchronous = FULL")
                db.execute("BEGIN IMMEDIATE")
                self._fit(db, row)
                names = [KEY, *row]
                places = ", ".join("?" * len(names))
                columns = ", ".join(map(quoted, names))
                db.execute(
                    f"INSERT OR IGNORE INTO {quoted(self.table)} ({columns}) VALUES ({places})",  # noqa: S608
                    [key, *map(stored, row.values())],
                )
                db.execute("COMMIT")

    def finish(self) -> None:
        """All rows are there already."""

    def _fit(self, db: sqlite3.Connection, row: Row) -> None:
        """Makes the table, and the columns that it lacks. One that no sink has made is left as it is."""
        table = quoted(self.table)
        known = [one[1] for one in db.execute(f"PRAGMA table_info({table})")]
        if not known:
            columns = "".join(f", {quoted(name)}" for name in _apart(row, [KEY]))
            db.execute(f"CREATE TABLE {table} ({quoted(KEY)} TEXT PRIMARY KEY{columns})")
            return
        if KEY not in known:
            raise SinkError(
                f"the table '{self.table}' of '{self.path}' has the columns {', '.join(known)}, and no '{KEY}': "
                "no sink has made it",
                hint='Name another one: to_sqlite(PATH, table="answers").',
            )
        for name in _apart(row, known):
            db.execute(f"ALTER TABLE {table} ADD COLUMN {quoted(name)}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise SinkError(
                f"no row could be written to table '{self.table}' of '{self.path}': {error}",
                hint="The rows before it are there.",
            ) from error


def _apart(row: Row, known: list[str]) -> list[str]:
    """The columns of a row that a table lacks. SQLite does not tell upper from lower case of ASCII."""
    found: list[str] = []
    there = {_folded(name): name for name in known}
    for name in row:
        twin = there.setdefault(_folded(name), name)
        if twin == name:
            if name not in known:
                found.append(name)
        elif twin in row:
            raise SinkError(
                f"a row has the columns '{twin}' and '{name}', which are one in SQLite",
                hint="Rename one of them.",
            )
    return found


def _folded(name: str) -> str:
    return "".join(one.lower() if one.isascii() else one for one in name)


def stored(value: Any) -> Any:
    """A cell as SQLite has it: what has parts as JSON, integers beyond 64 bits and NaN as text."""
    if is_nested(value):
        return json_text(value)
    if isinstance(value, int) and not fits_64_bits(value):
        return str(value)
    if isinstance(value, float) and math.isnan(value):
        return number_text(value)  # it would be NULL
    return value


def quoted(name: str) -> str:
    """A name of a table or column, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def check_table(name: Any) -> str:
    """The name of a table. ConfigError where it can be none."""
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise ConfigError(
            f"table must be a name, got {name!r}", hint='Write to_sqlite(PATH, table="answers").'
        )
    if name.lower().startswith("sqlite_"):
        raise ConfigError(
            f"table is {name!r}, and names that begin with sqlite_ are SQLite's own",
            hint="Choose another name.",
        )
    return name
