"""The `data=` of a trainer: rollouts, sessions, files, data sets; and texts, which are tokenised once with `tokenize=True`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lllm.errors import ConfigError
from lllm.models.message import Message
from lllm.rl.data_rows import KINDS, check_rows
from lllm.rl.declared_data import Selected
from lllm.rl.pair_rows import token_columns
from lllm.rl.rollout import Rollout
from lllm.rl.rows import TokenRow
from lllm.rl.samples import Sample, samples_of
from lllm.rl.text_rows import row_of_text
from lllm.rl.training_data import TrainingData

if TYPE_CHECKING:
    from lllm.rl.trainers.data_training import DataTraining


def read_given(training: DataTraining) -> TrainingData:
    """Reads the `data=` of a spec. Raises ConfigError, and UnknownNameError for an unknown session."""
    spec = training.spec
    found = _without_identical(_read(training, spec.data))
    if found.has_tokens or not found.rows:
        return found
    without = without_tokens(found)
    if not spec.tokenize:
        raise no_tokens(found, type(spec).__name__)
    loaded = training.policy_backend.load().loaded
    for place in without:
        found.rows[place] = {
            **found.rows[place],
            **_tokens(loaded, found.kind, found.rows[place], f"row {place}"),
        }
    found.how += f"; {len(without)} of the rows were tokenised from text"
    return found


def without_tokens(data: TrainingData) -> list[int]:
    """The rows that have no token ids."""
    names = KINDS[data.kind]
    return [place for place, row in enumerate(data.rows) if any(row.get(name) is None for name in names)]


def no_tokens(data: TrainingData, spec: str) -> ConfigError:
    """The error for rows of texts alone, which nobody has asked to be tokenised."""
    return ConfigError(
        f"{len(without_tokens(data))} of {len(data)} rows have no token ids",
        hint="Sample with token_ids=True from a local model. Texts of people or of another model are tokenised with "
        f"{spec}(..., tokenize=True); in train.yaml, config: {{tokenize: true}}.",
    )


def _read(training: DataTraining, data: Any) -> TrainingData:
    spec = training.spec
    if isinstance(data, TrainingData):
        return replace(data, rows=list(data.rows), dropped=dict(data.dropped))
    if isinstance(data, str | Path):
        return TrainingData.load(data)
    if isinstance(data, Mapping) or not isinstance(data, Iterable):
        raise ConfigError(
            f"data= is {type(data).__name__}",
            hint="Give a list of rollouts, ids of sessions or rows, a TrainingData or its folder, a JSONL file, or a Dataset; "
            "of a DatasetDict one of its splits.",
        )
    rows = list(data)
    if not rows and isinstance(data, Selected):
        return TrainingData(spec.wants, [], dropped=dict(data.dropped))
    if rows and all(isinstance(row, Mapping) for row in rows):
        kind = check_rows(rows, "data=", lambda place: f"row {place} of data=")
        return TrainingData(kind, [dict(row) for row in rows], "given as rows")
    if all(isinstance(row, str | Rollout | Sample) for row in rows):
        store = None if isinstance(spec.store, str) else spec.store
        dropped: Counter[str] = Counter(getattr(data, "dropped", None))
        found = spec.choose(samples_of(rows, store, dropped, mask_cut=training.env.cut == "mask"))
        found.dropped = {**dropped, **found.dropped}
        return found
    raise ConfigError(
        f"data= has a {type(rows[0]).__name__} at its beginning",
        hint="Give rollouts, ids of sessions, or rows; all of one kind.",
    )


def _without_identical(data: TrainingData) -> TrainingData:
    """The data without pairs whose answers are the same, which say nothing."""
    if data.kind != "preferences":
        return data
    texts, tokens = ("chosen", "rejected"), ("chosen_ids", "rejected_ids")
    kept = [row for row in data.rows if any(row.get(good) != row.get(bad) for good, bad in (texts, tokens))]
    if left := len(data.rows) - len(kept):
        data.rows[:] = kept
        data.dropped["identical"] = data.dropped.get("identical", 0) + left
    return data


def _tokens(loaded: Any, kind: str, row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns the columns of tokens of a row of texts."""
    tools = row.get("tools")
    tools = json.loads(tools) if isinstance(tools, str) else tools or []
    if not row.get("prompt"):
        raise ConfigError(f"{where} has no prompt", hint="A row of texts has `prompt`: a text, or messages.")
    prompt = _messages(row.get("prompt") or [], "user", where)

    def tokens(column: str) -> TokenRow:
        return row_of_text(
            loaded, prompt, _messages(row[column], "assistant", where), tools, f"{where}, {column},"
        )

    if kind == "preferences":
        chosen, rejected = tokens("chosen"), tokens("rejected")
        if chosen.prompt != rejected.prompt:
            raise ConfigError(f"{where}: chosen and rejected do not begin with one prompt")
        return token_columns(chosen, rejected)
    one = tokens("completion")
    if kind == "labels":
        return {
            "prompt_ids": list(one.prompt),
            "completion_ids": list(one.completion),
            "completion_mask": list(one.mask),
        }
    return {"input_ids": list(one.ids), "assistant_masks": [*[0] * len(one.prompt), *one.mask]}


def _messages(value: Any, role: str, where: str) -> list[Message]:
    if isinstance(value, str):
        return [Message(role, value)]
    if not isinstance(value, Sequence):
        raise ConfigError(
            f"{where}: a conversation is {type(value).__name__}, and must be a text or messages"
        )
    return [Message.from_dict(one) for one in value]
