"""No log: nothing is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, NoReturn

from lllm.errors import UnknownNameError
from lllm.log.base import ReplayableLogBase
from lllm.ports import Record, SessionInfo


class NoLog(ReplayableLogBase):
    """Takes everything and keeps nothing. Sessions cannot be shown, replayed or resumed."""

    place: ClassVar[str | None] = None

    keeps_nothing = True  # so that a session need not encode what nobody will read

    async def append(self, records: Sequence[Record], blobs: Mapping[str, bytes] | None = None) -> None:
        pass

    def read(self, session: str, after: int = -1) -> Iterable[bytes]:
        _refuse("session", session)

    def sessions(self, limit: int | None = None, *, prefix: str = "") -> Sequence[SessionInfo]:
        return ()

    def blob(self, digest: str) -> bytes:
        _refuse("blob", digest)

    def claim(self, session: str) -> None:
        """Nothing is written, so nobody is in the way."""

    def release(self, session: str) -> None:
        pass

    def close(self) -> None:
        pass


def _refuse(kind: str, name: str) -> NoReturn:
    raise UnknownNameError(
        kind,
        name,
        (),
        hint="Logging is off (log_type: none). Set log_type to sqlite or localfile to keep sessions.",
    )
