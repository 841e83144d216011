"""Who writes a session: a row that says until when, renewed while its writer lives.

The token in it is a fence: an append names its own, and one that is no longer the row's is refused in the transaction
that would have stored it. So a writer that was away too long cannot write into what another one has gone on with.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from lllm.errors import LogWriteError
from lllm.log.claims import taken

_TAKE: Final = (
    "INSERT INTO @leases AS held VALUES (%s, nextval('@tokens'), now() + make_interval(secs => %s))"
    " ON CONFLICT (session) DO UPDATE SET token = excluded.token, until = excluded.until WHERE held.until < now()"
    " RETURNING token"
)
_GIVE: Final = "DELETE FROM @leases WHERE session = %s AND token = %s RETURNING token"
_HELD: Final = "SELECT 1 FROM @leases WHERE session = %s AND until >= now()"
_RENEW: Final = (
    "UPDATE @leases l SET until = now() + make_interval(secs => %s)"
    " FROM unnest(%s::text[], %s::bigint[]) AS mine (session, token)"
    " WHERE l.session = mine.session AND l.token = mine.token RETURNING l.session"
)

Query = Callable[[str, Sequence[Any]], list[Any]]


class Leases:
    """The leases of one store. `query` runs a statement on the server."""

    def __init__(self, query: Query, seconds: float) -> None:
        self.seconds = seconds
        self._query = query
        self._lock = threading.Lock()
        self._mine: dict[str, int] = {}
        self._lost: set[str] = set()

    @property
    def any(self) -> bool:
        return bool(self._mine)

    def claim(self, session: str) -> None:
        """Raises LogWriteError while somebody else, here or elsewhere, writes the session."""
        rows = self._query(_TAKE, (session, self.seconds))
        if not rows:
            raise taken(session)
        with self._lock:
            self._mine[session] = rows[0][0]
            self._lost.discard(session)

    def release(self, session: str) -> None:
        with self._lock:
            token = self._mine.pop(session, None)
            self._lost.discard(session)
        if token is not None:
            self._query(_GIVE, (session, token))

    def held(self, session: str) -> bool:
        return bool(self._query(_HELD, (session,)))

    def token(self, session: str) -> int | None:
        """What an append of the session must name: None where nobody here has claimed it. LogWriteError when the lease
        was lost."""
        with self._lock:
            if session in self._lost:
                raise lost_lease(session, self.seconds)
            return self._mine.get(session)

    def lose(self, session: str) -> LogWriteError:
        """Notes that somebody else has the session now."""
        with self._lock:
            self._mine.pop(session, None)
            self._lost.add(session)
        return lost_lease(session, self.seconds)

    def renew(self, query: Query) -> None:
        """Keeps what is held, and finds out what is not held any more."""
        with self._lock:
            mine: Mapping[str, int] = dict(self._mine)
        if not mine:
            return
        kept = {row[0] for row in query(_RENEW, (self.seconds, list(mine), list(mine.values())))}
        with self._lock:
            for session in set(mine) - kept:
                if self._mine.get(session) == mine[session]:
                    del self._mine[session]
                    self._lost.add(session)

    def mine(self) -> list[str]:
        with self._lock:
            return list(self._mine)


def lost_lease(session: str, seconds: float) -> LogWriteError:
    """The error for a writer that another one has replaced."""
    return LogWriteError(
        f"session '{session}' has another writer now: this one was not heard of for more than {seconds:g} seconds",
        hint=f"What it had written is kept. Look at what became of it: lllm show {session}",
    )
