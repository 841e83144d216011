"""sql: ask a SQLite file or a Postgres database, and change rows where that is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, ClassVar, Final, Protocol

from lllm.errors import ConfigError, DependencyError, EndpointRejected
from lllm.proxies.base import BaseProxy, variable
from lllm.proxies.builtin.options import FLAG, SECONDS, TEXT, Configured

_LONGEST: Final = 100_000
_PARAMETERS: Final = {
    "parameters": {
        "schema": {"type": "array", "items": {"type": ["string", "number", "boolean", "null"]}},
        "example": [],
    }
}


class Database(Protocol):
    """The methods that both kinds of database have."""

    def query(self, sql: str, parameters: list[Any], limit: int) -> dict[str, Any]: ...
    def execute(self, sql: str, parameters: list[Any], limit: int) -> dict[str, Any]: ...
    def schema(self, table: str) -> dict[str, Any]: ...


class SQL(Configured):
    """A database: its tables, and what a SELECT finds.

    Attributes:
        database: a SQLite file. url_env: instead, the name of the variable that holds the address of a Postgres database.
        seconds: of one statement. allow_superuser: whether the Postgres role may be one that reads files of the server.
        writable, approval: see Configured.
    """

    _proxy_path = "sql"
    _proxy_name = "SQL"
    _proxy_description = "Reads a SQLite or Postgres database; changes rows where that is allowed."
    path_options = ("database",)
    variable_options = ("url_env",)
    OPTIONS: ClassVar = {
        **Configured.OPTIONS,
        "database": TEXT,
        "url_env": TEXT,
        "seconds": SECONDS,
        "allow_superuser": FLAG,
    }

    database: str = ""
    url_env: str = ""
    seconds: float = 10.0
    allow_superuser: bool = False
    timeout = 60.0

    def __init__(self, cutoff_date: Any = None, use_cache: bool = True, **options: Any) -> None:
        if "database" in options and not isinstance(options["database"], str):
            options["database"] = str(options["database"])
        super().__init__(cutoff_date, use_cache, **options)
        path = self.path()
        if bool(self.database) == bool(self.url_env):
            raise ConfigError(
                f"the proxy '{path}' needs one of the options 'database' (a SQLite file) and 'url_env' (the name of the "
                "variable that holds the address of a Postgres database)"
            )
        if "://" in self.database + self.url_env or "=" in self.url_env:
            raise ConfigError(
                f"the proxy '{path}' takes no address in its options: it may contain a password",
                hint="Write it into a variable, and the variable's name as url_env; a SQLite file is named by its path.",
            )
        self.timeout = self.seconds + 30.0
        if self.database:
            from lllm.proxies.builtin.sqlite import SQLite

            self._file = SQLite(self.database, self.seconds)
            return
        if find_spec("psycopg") is None:
            raise DependencyError("psycopg", "postgres", f"the proxy '{path}' on Postgres")

    @BaseProxy.endpoint(category="read", effect="pure", params={"table": {"example": ""}})
    def schema(self, table: str = "") -> dict[str, Any]:
        """Lists the tables with their columns, and the dialect; or for one table also keys, indexes and a few rows.

        Args:
            table: leave out for all tables.
        """
        _check(table)
        return {"dialect": "SQLite" if self.database else "PostgreSQL", **self._database.schema(table)}

    @BaseProxy.endpoint(
        category="read",
        effect="pure",
        params={"sql": {"example": "SELECT 1"}, **_PARAMETERS, "limit": {"minimum": 1, "maximum": 1000}},
    )
    def query(self, sql: str, parameters: Any = (), limit: int = 100) -> dict[str, Any]:
        """Runs one SELECT and returns {columns, rows}, with `more_rows` where there are more.

        Args:
            sql: one statement that only reads.
            parameters: values for the placeholders: ? in SQLite, $1, $2 in Postgres. Never write values into the text.
            limit: rows at most.
        """
        _check(sql)
        return self._database.query(sql, list(parameters), limit)

    @BaseProxy.endpoint(
        category="write",
        effect="ask",
        concurrent=False,
        params={"sql": {"example": "UPDATE t SET a = 1 WHERE id = 7"}, **_PARAMETERS},
    )
    def execute(self, sql: str, parameters: Any = ()) -> dict[str, Any]:
        """Runs one INSERT, UPDATE or DELETE in a transaction of its own, and returns how many rows changed.

        Args:
            sql: one statement; with RETURNING it also returns rows.
            parameters: values for the placeholders: ? in SQLite, $1, $2 in Postgres. Never write values into the text.
        """
        _check(sql)
        return self._database.execute(sql, list(parameters), 100)

    def secrets(self, variables: Mapping[str, str]) -> list[tuple[str, str]]:
        """The address of the database, and the password in it."""
        url = variables.get(self.url_env, "").strip() if self.url_env else ""
        if not url:
            return []
        from lllm.proxies.builtin.postgres import secrets_of

        return [(self.url_env, secret) for secret in secrets_of(url)]

    @property
    def _database(self) -> Database:
        if self.database:
            return self._file
        from lllm.proxies.builtin.postgres import Postgres

        return Postgres(
            variable(self.url_env, self.path()),
            self.url_env,
            self.seconds,
            allow_superuser=self.allow_superuser,
        )


def _check(text: str) -> None:
    """Raises EndpointRejected for what no database takes."""
    if "\0" in text:
        raise EndpointRejected("the statement contains a NUL character")
    if len(text) > _LONGEST:
        raise EndpointRejected(
            f"the statement has {len(text):,} characters, and at most {_LONGEST:,} are possible"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise EndpointRejected("the statement cannot be written as UTF-8") from None
