"""A SQLite file, as the proxy `sql` uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from lllm.errors import (
    ConfigError,
    EndpointAnswerInvalid,
    EndpointDenied,
    EndpointError,
    EndpointNotFound,
    EndpointRejected,
    EndpointTimeout,
)
from lllm.proxies.builtin import sqlite_worker
from lllm.proxies.builtin.worker import Worker

_KINDS: Final[dict[str, type[EndpointError]]] = {
    "missing": EndpointNotFound,
    "denied": EndpointDenied,
    "rejected": EndpointRejected,
    "large": EndpointAnswerInvalid,
    "timeout": EndpointTimeout,
    "busy": EndpointError,
}
_GRACE: Final = 5.0
"""Seconds until a statement that cannot be interrupted is killed: SQLite looks at the clock between its steps."""
_RECOVERY: Final = 60.0


class SQLite:
    """See above. ConfigError where there is no such file."""

    placeholder = "?"

    def __init__(self, path: str, seconds: float) -> None:
        self._path = Path(path).expanduser().absolute()
        self._seconds = seconds
        if not self._path.is_file():
            raise ConfigError(
                f"there is no SQLite database at {str(path)!r}",
                hint="Check the option 'database' of the proxy.",
            )

    def query(self, sql: str, parameters: list[Any], limit: int) -> dict[str, Any]:
        """The rows of one statement that only reads."""
        return self._ask("query", sql=sql, parameters=parameters, limit=limit)

    def execute(self, sql: str, parameters: list[Any], limit: int) -> dict[str, Any]:
        """One statement that changes rows, in a transaction of its own."""
        try:
            return self._ask("execute", sql=sql, parameters=parameters, limit=limit)
        except EndpointError as error:
            if not error.sent:  # it answered, so what it had begun is undone
                raise
            self._ask("recover")  # else readers would find the journal of a process that was killed
            raise type(error)(
                f"{error.message}: look whether it took effect before you run it again", hint=error.hint
            ) from None

    def schema(self, table: str) -> dict[str, Any]:
        """The tables, or all about one."""
        return self._ask("schema", table=table)

    def _ask(self, do: str, **more: Any) -> dict[str, Any]:
        request = {"do": do, "path": str(self._path), "seconds": self._seconds, **more}
        killed = self._seconds + (_GRACE if do != "recover" else _RECOVERY)
        with Worker(Path(sqlite_worker.__file__), killed, "the statement") as worker:
            answer = worker.ask(request)
        if "error" in answer:
            unknown = answer["error"].startswith("no such")
            hint = "The endpoint `schema` lists tables and columns." if unknown else None
            raise _KINDS[answer["kind"]](answer["error"], hint=hint, sent=False)
        found: dict[str, Any] = answer["found"]
        return found
