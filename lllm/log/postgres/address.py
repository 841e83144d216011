"""Which server, and what its errors mean to a user. A password is in no message, no repr and no cause."""

from __future__ import annotations

import re
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from lllm.errors import ConfigError, LogError, LogWriteError

CONNECT_TIMEOUT: Final = 10
_ALIVE: Final = {"keepalives_idle": 30, "tcp_user_timeout": 30_000}  # a machine that is gone is noticed

_NAMED: Final = (
    # SQLSTATE, what a failure to connect says instead (such errors bear no state), what it means, what to do
    ("28", r"authentication failed|no password supplied|pg_hba", "refused the login",
     "Check the user and the password in log.url (or LLLM_LOG_URL)."),
    ("3D000", r'database ".*" does not exist', "has no such database", "Create it: createdb NAME"),
    ("42501", "permission denied", "does not let this user write",
     "Grant it: GRANT CREATE ON DATABASE ... TO ..., or let an owner open the log once and grant on its schema."),
    ("25006", "read-only transaction", "takes nothing from this user: it is read-only",
     "Point log.url at the primary server, or use a user that may write."),
    ("53100", "No space left", "has no room left on its disk",
     "Free some space there. Nothing that was written before is lost."),
    ("53300", "too many clients|too many connections|remaining connection slots", "has too many connections",
     "Raise max_connections there, or run fewer processes."),
    ("", r"translate host name|resolve host|Name or service not known", "was not found",
     "Check the host in log.url (or LLLM_LOG_URL)."),
)  # fmt: skip
_LASTING: Final = ("28", "3D", "42", "25", "22", "53100")
"""What trying again does not help."""


class Address:
    """The server and the schema in it. `where` names both without the password."""

    def __init__(self, url: str, schema: str) -> None:
        try:
            self._given: dict[str, Any] = conninfo_to_dict(url)
        except psycopg.Error:
            raise ConfigError(
                "the address of the Postgres server (log.url) cannot be read",
                hint="Write postgresql://USER@HOST:5432/DATABASE. Characters like @ and / in it are written %40 and %2F.",
            ) from None  # the cause would show the password
        given = self._given
        host = given.get("host") or given.get("hostaddr") or "the local socket"
        port = f":{given['port']}" if given.get("port") else ""
        database = f"/{given['dbname']}" if given.get("dbname") else ""
        self.user = str(given.get("user") or "")
        self.where = f"Postgres at {'the local socket' if host.startswith('/') else host}{port}{database}"
        self.schema = schema

    def options(self) -> dict[str, Any]:
        """The arguments of `psycopg.connect`, after the text of the address."""
        return {"connect_timeout": CONNECT_TIMEOUT, "application_name": "lllm", **_ALIVE, **self._given}

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(autocommit=True, **self.options())

    async def connect_async(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(autocommit=True, **self.options())

    def clean(self, text: str) -> str:
        """A message of the server on one line, without the password."""
        password = self._given.get("password")
        line = " ".join(text.split())
        return line.replace(str(password), "***") if password else line

    def explain(self, error: BaseException, *, doing: str = "written") -> LogError:
        """What an error means to the user. LogWriteError where something was to be written."""
        if isinstance(error, LogError):
            return error
        state, text = getattr(error, "sqlstate", None), self.clean(str(error))
        kind = LogWriteError if doing == "written" else LogError
        for code, words, meaning, hint in _NAMED:
            if (code and state and state.startswith(code)) or (state is None and re.search(words, text)):
                return kind(f"{self.where} {meaning} ({text})", hint=hint)
        if lost(error):
            return kind(
                f"{self.where} cannot be reached ({text})",
                hint="Start the server, or check log.url (or LLLM_LOG_URL). What was acknowledged is kept: "
                "lllm resume goes on from there.",
            )
        return kind(f"the log in {self.where} could not be {doing} ({text})")

    def __repr__(self) -> str:
        return f"Address({self.where!r}, schema={self.schema!r})"


def lost(error: BaseException) -> bool:
    """Whether there is no connection, for now or for ever."""
    state = getattr(error, "sqlstate", None) or ""
    return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)) and (
        not state or state.startswith(("08", "57P"))
    )


def passing(error: BaseException) -> bool:
    """Whether the same may succeed a moment later: the server starts again, or others were in the way."""
    if not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return False
    state, text = error.sqlstate or "", str(error)
    if state:
        return not state.startswith(_LASTING)
    return not any(
        re.search(words, text) for code, words, _, _ in _NAMED if code.startswith(_LASTING) and code
    )
