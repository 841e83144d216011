"""What a replay found."""

from __future__ import annotations

from typing import Any, NamedTuple

from lllm.errors import ReplayDivergence


class Report(NamedTuple):
    """What a replay found.

    Attributes:
        session: its id.
        verified: every event is as the code of today would write it, and the hash chain holds.
        events: events in the log.
        reexecuted: agent calls that were re-executed. folded: agent calls that could only be folded.
        whole: whether the system's own code was re-executed too.
        finished: whether the session had ended.
        notes: what the replay could not cover, in sentences.
        divergence: the first difference, or None.
    """

    session: str
    verified: bool
    events: int
    reexecuted: int
    folded: int
    whole: bool
    finished: bool
    notes: list[str]
    divergence: ReplayDivergence | None

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        out = self._asdict()
        if (found := self.divergence) is not None:
            out["divergence"] = {
                "message": found.message,
                "seq": found.seq,
                "kind": found.kind,
                "cause": found.cause,
                "recorded": found.recorded,
                "present": found.present,
            }
        return out
