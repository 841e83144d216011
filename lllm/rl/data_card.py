"""The card of a data set for training, as Markdown: its content, its origin, and the samples that were left out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from lllm._version import __version__
from lllm.log.views import plain
from lllm.rl.data_columns import column_types
from lllm.rl.training_data import DROPPED

if TYPE_CHECKING:
    from lllm.rl.training_data import TrainingData

_ABOUT: Final = {
    "preferences": "Pairs of answers to one prompt, of which one was preferred: for `env >> DPO(model, data=...)`.",
    "examples": "Conversations to imitate: for `env >> SFT(model, data=...)`.",
    "labels": "Answers that are good or bad: for `env >> KTO(model, data=...)`.",
}


def card(data: TrainingData) -> str:
    """Returns the card. Each session has the hash of its last event, which `lllm replay SESSION --head HASH` verifies."""
    lines = [
        "---",
        "configs:",
        "- config_name: default",
        "  data_files: data.jsonl",
        f"tags: [lllm, {data.kind}]",
        *_types(data),
        "---",
        "",
        f"# {len(data)} rows of {data.kind}",
        "",
        _ABOUT[data.kind],
        "",
        "| | |",
        "|---|---|",
        f"| how they were chosen | {plain(data.how) or 'not known'} |",
        f"| environment | {_listed(data.environments)} |",
        f"| model | {_listed(data.models)} |",
        f"| version of the policy | {_listed(data.policies)} |",
        f"| tokens | {_tokens(data)} |",
        f"| sessions | {len(data.sessions)} |",
        f"| digest of the rows | `{data.digest}` |",
        f"| made with | lllm {__version__} |",
        "",
        "## What was left out",
        "",
    ]
    if data.dropped:
        lines += ["| Reason | Count | |", "|---|---|---|"]
        lines += [
            f"| {reason} | {count} | {DROPPED.get(reason, '')} |" for reason, count in data.dropped.items()
        ]
    else:
        lines.append("Nothing.")
    lines += ["", "## Sessions", ""]
    if data.sessions:
        lines += ["| Session | Hash of its last event |", "|---|---|"]
        lines += [f"| {plain(id)} | `{head}` |" for id, head in data.sessions.items()]
    else:
        lines.append("None is logged.")
    return "\n".join(lines) + "\n"


def _types(data: TrainingData) -> list[str]:
    """The types of the columns, for `datasets`, as JSON: which YAML has, too."""
    columns = column_types(data.rows)
    if columns is None:
        return []
    return [f"dataset_info: {json.dumps({'config_name': 'default', 'features': columns})}"]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(plain(one) for one in names) or "not known"


def _tokens(data: TrainingData) -> str:
    return "as the model's backend read and wrote them" if data.has_tokens else "none: the rows are texts"
