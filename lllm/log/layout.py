"""Where the rows of a transcript stand: agent calls within calls and stages, stages within stages, and how long each took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from lllm.log.transcript import Row

STAGE: Final = "stage"


class Placed(NamedTuple):
    """A row with its place.

    Attributes:
        depth: how many calls and stages it is within. row: it; of a stage with its name and the words of a person.
        hidden: whether it says nothing new.
    """

    depth: int
    row: Row
    hidden: bool = False


class Layout:
    """Places the rows of one session, in order."""

    def __init__(self) -> None:
        self._calls: dict[str | None, int] = {}
        self._stages: dict[str, Placed] = {}
        self._errors: dict[str, list[str]] = {}  # the stages that ended with the same error

    def place(self, row: Row) -> Placed:
        """The row in its place. Rows are to come in order."""
        if row.kind == STAGE:
            return self._ended(row) if "status" in row.detail else self._started(row)
        if row.kind == "call":
            around = self._stages.get(str(row.detail.get("stage")))
            within = 0 if around is None else around.depth + 1
            self._calls[row.call] = max(self._calls.get(row.detail.get("parent"), 0) + 1, within)
        hidden = row.kind == "end" and row.text == "done"  # its reply has just been shown
        return Placed(self._calls.get(row.call, 0), row, hidden)

    def _started(self, row: Row) -> Placed:
        place = str(row.detail["stage"])
        around = self._around(place)
        depth = around.depth + 1 if around is not None else self._calls.get(row.call, -1) + 1
        kind = row.detail.get("step")
        text = place if kind is None or row.who.startswith(str(kind)) else f"{place} ({kind})"
        self._stages[place] = Placed(depth, row)
        return Placed(depth, row._replace(text=text))

    def _ended(self, row: Row) -> Placed:
        place = str(row.detail["stage"])
        begun = self._stages.get(place)
        if begun is None:  # of a log that begins in the middle
            return Placed(0, row)
        seconds = (row.at - begun.row.at) / 1_000_000
        status = str(row.detail["status"])
        words = f"{place} {status} {'in' if status == 'done' else 'after'} {seconds:.3f} s"
        if used := used_in_words(row.detail.get("used")):
            words += f", {used}"
        error = row.detail.get("error")
        if error:
            before = self._errors.setdefault(error, [])
            if not any(
                inner.startswith((f"{place}/", f"{place}:")) for inner in before
            ):  # else it has been said
                words += f": {error}"
            before.append(place)
        return Placed(begun.depth, row._replace(who=begun.row.who, text=words))

    def _around(self, place: str) -> Placed | None:
        """The stage around a place: its branches are behind a `/`, the runs that it began behind a `:`."""
        for end in range(len(place) - 1, 0, -1):
            if place[end] in "/:" and place[:end] in self._stages:
                return self._stages[place[:end]]
        return None


def used_in_words(used: Mapping[str, Any] | None) -> str:
    """What a stage used: `2 requests, 130 tokens, $0.0012`; the cost where it is known. Empty for nothing."""
    if used is None:
        return ""
    count = used["model_calls"]
    told = [f"{count} request{'' if count == 1 else 's'}"]
    if used["tokens"] is not None:
        told.append(f"{used['tokens']} token{'' if used['tokens'] == 1 else 's'}")
    if used["cost"] is None:
        told.append("cost unknown")
    elif float(used["cost"]):
        told.append(f"${used['cost']}")
    return ", ".join(told)
