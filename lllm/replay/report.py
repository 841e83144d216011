"""What a replay found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lllm.errors import ReplayDivergence
from lllm.replay.races import TIMES

if TYPE_CHECKING:
    from lllm.replay.manifest import Source


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
        unrecorded: places in the project's code that learn something from the world beside the record.
        inputs: the inputs whose order the log has: `all`, `answers` (timers and threads followed the log's times), or
            `times` (everything did: an older lllm wrote the log).
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
    unrecorded: Sequence[Source] = ()
    inputs: str = TIMES

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        out = {**self._asdict(), "unrecorded": [source._asdict() for source in self.unrecorded]}
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


def sides(error: ReplayDivergence) -> list[str]:
    """Both values of a divergence as far as they differ, a line for each."""
    recorded, present = differing(error.recorded, error.present)
    return [f"  recorded: {_short(recorded)}", f"  present: {_short(present)}"]


def differing(one: Any, other: Any) -> tuple[Any, Any]:
    """Both values without what is equal in them."""
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return one, other
    pairs = {
        key: differing(one.get(key), other.get(key))
        for key in {**one, **other}
        if one.get(key) != other.get(key)
    }
    left = {key: pair[0] for key, pair in pairs.items() if key in one}
    right = {key: pair[1] for key, pair in pairs.items() if key in other}
    return left, right


def _short(value: Any, limit: int = 2000) -> str:
    words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return words if len(words) <= limit else f"{words[:limit]} ... ({len(words)} characters)"
