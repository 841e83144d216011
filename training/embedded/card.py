"""Write the figures of results.json into the model card, and the checksums anew.

python -m training.embedded card
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from .evaluate import RESULTS
from .weights import SUMS, WEIGHTS, checksums

CARD = WEIGHTS / "MODEL_CARD.md"
BEGIN, END = "<!-- figures: written by `python -m training.embedded card` -->\n", "<!-- end of figures -->"
SETS = {
    "held_out": "generated, unseen numbers and unseen phrasings",
    "unseen_numbers": "generated, unseen numbers, trained phrasings",
    "hand_written_even": "hand-written, even ids (score watched during the work)",
    "hand_written_odd": "hand-written, odd ids (chose nothing)",
}
SHOWN = {"sentence": "sentence", "xml": "XML tags", "json": "JSON"}


def _percent(share: dict[str, Any]) -> str:
    return f"{share['percent']:.1f} % of {share['of']}"


def figures(found: dict[str, Any]) -> str:
    """The tables of the card."""
    lines = [
        "| set | exact tool calls | same expression as ours | answers that copy the result |",
        "|---|---|---|---|",
    ]
    for name, title in SETS.items():
        part = found[name]
        cells = [
            _percent(part[what]) if what in part else "-"
            for what in ("exact_calls", "strict_calls", "answers_that_copy_the_result")
        ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    lines += [
        "",
        "| answers that copy the result | " + " | ".join(SHOWN.values()) + " |",
        "|---|" + "---|" * len(SHOWN),
    ]
    for name, title in SETS.items():
        by_format = found[name]["answers_by_format"]
        lines.append(f"| {title} | " + " | ".join(_percent(by_format[kind]) for kind in SHOWN) + " |")
    lines += [
        "",
        "| exact tool calls by kind of question | generated, unseen phrasings | hand-written (all) |",
        "|---|---|---|",
    ]
    generated = found["held_out"]["exact_calls_by_kind"]
    halves = [found[name]["exact_calls_by_kind"] for name in ("hand_written_even", "hand_written_odd")]
    hand = {
        kind: {key: sum(half.get(kind, {}).get(key, 0) for half in halves) for key in ("right", "of")}
        for kind in sorted(set(halves[0]) | set(halves[1]))
    }
    for kind in sorted(set(generated) | set(hand)):
        cells = []
        for share in (generated.get(kind), hand.get(kind)):
            cells.append(f"{100 * share['right'] / share['of']:.1f} % of {share['of']}" if share else "-")
        lines.append(f"| {kind.replace('_', ' ')} | {cells[0]} | {cells[1]} |")
    lines += ["", "| other behaviour, unseen questions | exactly right |", "|---|---|"]
    lines.append(
        f"| arithmetic without a tool: says that it needs one | {_percent(found['says_it_needs_a_tool'])} |"
    )
    lines.append(
        f"| off-topic: says that it can only help with arithmetic | {_percent(found['says_it_only_does_arithmetic'])} |"
    )
    lines += [
        f"| {name}: the known result in the format asked for | {_percent(share)} |"
        for name, share in found["repairs_and_wrap_ups"].items()
    ]
    return "\n".join(lines) + "\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This command has no options."""


def main(arguments: argparse.Namespace) -> None:
    """Rewrite the part of the card between the marks."""
    before, _, rest = CARD.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    CARD.write_text(before + BEGIN + figures(json.loads(RESULTS.read_text())) + END + after)
    (WEIGHTS / SUMS).write_text(checksums(WEIGHTS))
