"""Rows of a data set for training: each checked, with its place in the error."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from lllm.core.visible import visible
from lllm.errors import ConfigError, listing
from lllm.rl.data_columns import CONVERSATIONS

KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    # kind: the columns of tokens
    "preferences": ("prompt_ids", "chosen_ids", "chosen_mask", "rejected_ids", "rejected_mask"),
    "examples": ("input_ids", "assistant_masks"),
    "labels": ("prompt_ids", "completion_ids", "completion_mask", "label"),
}
"""The kinds of data sets: for DPO, SFT and KTO."""
TEXTS: Final[Mapping[str, tuple[str, ...]]] = {
    # kind: the columns that say of which kind rows without tokens are
    "preferences": ("chosen", "rejected"),
    "labels": ("completion", "label"),
    "examples": ("completion",),
}
MASKS: Final[Mapping[str, str]] = {
    # a mask: the ids that it is of
    "chosen_mask": "chosen_ids",
    "rejected_mask": "rejected_ids",
    "completion_mask": "completion_ids",
    "assistant_masks": "input_ids",
}

Where = Callable[[int], str]
"""Names a row by its number: `pairs.jsonl, line 3,` or `row 2 of data=`."""


def check_rows(rows: Sequence[Any], name: str, where: Where) -> str:
    """Returns the kind of data that rows are, by the columns of the first. Raises ConfigError for the first row that
    differs."""
    if not rows:
        raise ConfigError(f"{name} has no rows")
    for place, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise ConfigError(f"{where(place)} is a {type(row).__name__}, and must be an object")
    kind, columns = _kind_of(rows, name)
    for place, row in enumerate(rows):
        missing = [one for one in columns if row.get(one) is None]
        if missing:
            raise ConfigError(
                f"{where(place)} has no {listing(map(repr, missing))}, and the first row is one of {kind}",
                hint=f"Each row of {kind} has {listing(columns)}.",
            )
        if problem := _problem(row, columns):
            raise ConfigError(f"{where(place)} has {problem}")
    return kind


def _kind_of(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[str, tuple[str, ...]]:
    """The kind of the first row, and the columns that all of them have: of tokens where all have them, else of texts."""
    first = rows[0]
    found = [
        (kind, columns)
        for table in (KINDS, TEXTS)
        for kind, columns in table.items()
        if all(first.get(one) is not None for one in columns)
    ]
    if not found:
        raise ConfigError(
            f"{name} is not a data set for training: its first row has {listing(map(visible, first)) if first else 'nothing'}",
            hint="; ".join(f"{kind}: prompt, {', '.join(columns)}" for kind, columns in TEXTS.items())
            + ". Each row has all of them.",
        )
    kind, columns = found[0]
    texts = (kind, TEXTS[kind]) in found
    if texts and not all(row.get(one) is not None for row in rows for one in columns):
        columns = TEXTS[kind]
    return kind, columns


def _problem(row: Mapping[str, Any], columns: Sequence[str]) -> str | None:
    """Returns the problem with the values of a row; None where there is none."""
    for name in columns:
        value = row[name]
        if name == "label" and not isinstance(value, bool):
            return f"the label {value!r:.80}, and must have true or false"
        if name.endswith("_ids") and not _numbers(value):
            return f"{name} that are not a list of token ids"
        if name in MASKS and not (_numbers(value, 2) and len(value) == len(row[MASKS[name]])):
            return f"{name} that are not a list of 0 and 1, one for each of {MASKS[name]}"
        if name in MASKS and not any(value):
            return f"{name} without a 1: no token of it carries loss"
    if not _tools(row.get("tools")):
        return "tools that are neither a list of functions nor its JSON"
    for name in CONVERSATIONS:
        if row.get(name) is not None and not _conversation(row[name]):
            return f"{name} that is neither a text nor a list of messages with role and content"
    return None


def _tools(value: Any) -> bool:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return False
    return value is None or (
        isinstance(value, list)
        and all(isinstance(one, Mapping) and isinstance(one.get("function"), Mapping) for one in value)
    )


def _numbers(value: Any, below: int | None = None) -> bool:
    return isinstance(value, list) and all(
        type(one) is int and one >= 0 and (below is None or one < below) for one in value
    )


def _conversation(value: Any) -> bool:
    if isinstance(value, str):
        return True
    return isinstance(value, list) and all(
        isinstance(one, Mapping) and isinstance(one.get("role"), str) for one in value
    )
