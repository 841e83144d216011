"""`lllm compare`: two sessions side by side."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lllm.cli import output, screen
from lllm.cli.files import can_be_written, encoded, writing
from lllm.cli.ids import short_ids
from lllm.cli.options import ConfigFile, Json, configuration, session_of, store_of

if TYPE_CHECKING:
    from lllm.replay.compare import Comparison

Page = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write a self-contained page, too.")
]
MARKS = {"same": " ", "changed": "~", "left": "-", "right": "+"}


def compare(
    left: Annotated[str, typer.Argument(metavar="A", help="A session's id, short or full.")],
    right: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    everything: Annotated[bool, typer.Option("--all", help="Also what is the same.")] = False,
    html: Page = None,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Show two sessions side by side: what they said and did otherwise. Exits with 3 where they differ."""
    from lllm.log.views import load
    from lllm.replay.compare import compare as both

    can_be_written(html)
    store = store_of(configuration(config))
    found = both(*(load(store, session_of(store, id)) for id in (left, right)))
    if html is not None:
        write_page(html, [found])
    if json:
        output.data(found.as_dict())
    else:
        show_comparison(found, everything=everything)
    return 0 if found.same else 3


def write_page(file: Path, found: Sequence[Comparison], title: str = "Comparison") -> None:
    """Writes comparisons as one HTML file."""
    from lllm.replay.compare import html

    with writing(file) as page:
        page.write(encoded(html(found, title), page))
    output.say(f"wrote {file}")


def show_comparison(found: Comparison, *, everything: bool = False) -> None:
    """Prints a comparison: a table with a mark for each line (~ changed, - only left, + only right)."""
    rows = []
    for pair in found.pairs:
        if pair.verdict == "same" and not everything:
            continue
        row = pair.left or pair.right
        assert row is not None
        texts = [" ".join(side.text.split()) if side is not None else "" for side in (pair.left, pair.right)]
        numbers = [str(side.seq) if side is not None else "" for side in (pair.left, pair.right)]
        rows.append(
            (MARKS[pair.verdict], f"{row.kind} {row.who}", numbers[0], texts[0], numbers[1], texts[1])
        )
    same = sum(pair.verdict == "same" for pair in found.pairs)
    if rows:
        both = (found.left.session, found.right.session)
        names = short_ids(set(both)) if screen.is_terminal(sys.stdout) else {}
        left, right = (names.get(id, id) for id in both)
        output.table(("", "WHAT", "A", left, "B", right), rows)
    output.say(f"{same} lines are the same, {len(found.pairs) - same} are not")
