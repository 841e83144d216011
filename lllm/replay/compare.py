"""Two sessions side by side: what both did, what only one did, and what they did otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, Final, NamedTuple

from lllm.log.transcript import Row, transcript
from lllm.log.views import Summary, summary

_SHOWN: Final = frozenset(
    (
        "message",
        "reply",
        "rejected",
        "prompt",
        "fault",
        "approval",
        "tool",
        "result",
        "stop",
        "ended",
        "effect",
        "outcome",
    )
)
"""The rows of a transcript that are compared: what was said and done, not when."""


class Pair(NamedTuple):
    """One line of a comparison. `verdict` is same, changed, left (only the first session has it) or right."""

    verdict: str
    left: Row | None
    right: Row | None

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        sides = {
            name: None
            if row is None
            else {"seq": row.seq, "kind": row.kind, "who": row.who, "text": row.text}
            for name, row in (("left", self.left), ("right", self.right))
        }
        return {"verdict": self.verdict, **sides}


class Comparison(NamedTuple):
    """Two sessions side by side. `left` and `right` are their summaries."""

    left: Summary
    right: Summary
    pairs: list[Pair]

    @property
    def same(self) -> bool:
        """Whether both said and did the same."""
        return all(pair.verdict == "same" for pair in self.pairs)

    @property
    def first(self) -> Pair | None:
        """The first line that is not the same."""
        return next((pair for pair in self.pairs if pair.verdict != "same"), None)

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "same": self.same,
            "left": self.left._asdict(),
            "right": self.right._asdict(),
            "pairs": [pair.as_dict() for pair in self.pairs],
        }


def compare(left: Iterable[Mapping[str, Any]], right: Iterable[Mapping[str, Any]]) -> Comparison:
    """Compares two sessions, given as their events (`lllm.log.views.load`). Rows of the same kind and speaker that stand
    at the same place and say something else are `changed`."""
    events = [list(left), list(right)]
    ours, theirs = ([row for row in transcript(side) if row.kind in _SHOWN] for side in events)
    pairs: list[Pair] = []
    matcher = SequenceMatcher(
        None, [_key(row) for row in ours], [_key(row) for row in theirs], autojunk=False
    )
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            pairs += [Pair("same", x, y) for x, y in zip(ours[a:b], theirs[c:d], strict=True)]
        else:
            pairs += _otherwise(ours[a:b], theirs[c:d])
    return Comparison(summary(events[0]), summary(events[1]), pairs)


def _otherwise(ours: Sequence[Row], theirs: Sequence[Row]) -> list[Pair]:
    """A stretch that differs: rows of one kind and speaker stand beside each other, the rest alone."""
    pairs: list[Pair] = []
    matcher = SequenceMatcher(
        None, [(row.kind, row.who) for row in ours], [(row.kind, row.who) for row in theirs], autojunk=False
    )
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            pairs += [
                Pair("same" if _key(x) == _key(y) else "changed", x, y)
                for x, y in zip(ours[a:b], theirs[c:d], strict=True)
            ]
        else:
            pairs += [Pair("left", row, None) for row in ours[a:b]]
            pairs += [Pair("right", None, row) for row in theirs[c:d]]
    return pairs


def _key(row: Row) -> tuple[str, str, str]:
    return row.kind, row.who, row.text


def html(comparisons: Sequence[Comparison], title: str = "Comparison") -> str:
    """A page of its own, with everything in it: the comparisons, each as a table of two columns."""
    from html import escape

    parts = [_HEAD.format(title=escape(title))]
    for one in comparisons:
        parts.append(f"<h2>{escape(one.left.session)} | {escape(one.right.session)}</h2><table>")
        parts.append(f"<tr><th>{escape(_line(one.left))}</th><th>{escape(_line(one.right))}</th></tr>")
        for pair in one.pairs:
            cells = "".join(f"<td>{_cell(row)}</td>" for row in (pair.left, pair.right))
            parts.append(f'<tr class="{pair.verdict}">{cells}</tr>')
        parts.append("</table>")
    return "\n".join([*parts, "</body></html>\n"])


def _cell(row: Row | None) -> str:
    from html import escape

    if row is None:
        return ""
    return f"<small>{row.seq} {escape(row.kind)} {escape(row.who)}</small><pre>{escape(row.text)}</pre>"


def _line(told: Summary) -> str:
    tokens = told.usage.get("prompt", 0) + told.usage.get("completion", 0)
    cost = "cost unknown" if told.cost is None else f"${told.cost}"
    return f"{told.status}; {told.model_calls} model calls, {told.tool_calls} tool calls; {tokens} tokens; {cost}"


_HEAD: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer"><style>
body {{ font: 14px system-ui, sans-serif; margin: 2em; color: #222 }}
table {{ border-collapse: collapse; width: 100%; table-layout: fixed }}
td, th {{ border: 1px solid #ddd; padding: .4em .6em; vertical-align: top; text-align: left }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; margin: .2em 0 }}
small {{ color: #777 }}
.changed td {{ background: #fff6d8 }}
.left td:first-child {{ background: #ffe3e3 }} .right td:last-child {{ background: #e0f6e4 }}
</style></head><body><h1>{title}</h1>"""
