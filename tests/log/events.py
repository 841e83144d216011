"""Events for the tests of stores."""

from collections.abc import Sequence
from typing import Any

from lllm.core.envelope import seal
from lllm.ports import Record

BEGAN = 1_700_000_000_000_000


class Writer:
    """Seals the events of one session, one after another."""

    def __init__(self, session: str, at: int = BEGAN, *, seq: int = 0, prev: str = "") -> None:
        self.session, self.at, self.seq, self.prev = session, at, seq, prev

    def event(self, kind: str = "Noted", data: Any = None, call: str | None = None) -> Record:
        record = seal(self.session, self.seq, self.at + self.seq, call, None, kind, data, self.prev)
        self.seq, self.prev = self.seq + 1, record.hash
        return record

    def events(self, count: int, data: Any = None) -> list[Record]:
        return [self.event(data={"n": n} if data is None else data) for n in range(count)]

    def start(self, **meta: Any) -> Record:
        return self.event("SessionStarted", meta)

    def end(self, status: str = "done") -> Record:
        return self.event("SessionEnded", {"status": status})


def bodies(records: Sequence[Record]) -> list[bytes]:
    return [record.body for record in records]
