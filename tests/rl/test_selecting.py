"""Conversations to imitate, and good and bad ones: chosen from rollouts and from any logged sessions."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lllm import Agent, RLEnv, ScriptedBackend
from lllm.errors import ConfigError
from lllm.log.export import export
from lllm.log.memory import MemoryLog
from lllm.rl.selecting import label_choices, label_samples, select_examples
from lllm.rl.training_data import TrainingData
from tests.rl.test_preferences import rollouts, sample
from tests.rl.test_rows import reply


def test_examples_are_selected_by_reward() -> None:
    samples = [sample(reward, place=place) for place, reward in enumerate([0.2, None, 0.9, 0.7, 0.9])]
    data = select_examples(samples, min_reward=0.5, best=2)
    assert [row["session"] for row in data] == ["s2", "s4"]
    assert data.dropped == {"no reward": 1, "threshold": 1, "not among the best": 1}
    assert data[0]["input_ids"] == [1, 2, 12, 0]
    assert data[0]["assistant_masks"] == [0, 0, 1, 1]


def test_examples_are_selected_by_cost_and_length() -> None:
    store = MemoryLog()
    found = rollouts(store, {"x": ["yes", "a very long answer", "no"]}, 3)
    ids = [one.session for one in found]
    data = select_examples(ids, max_tokens=6, min_tokens=5, store=store)
    assert [row["session"] for row in data] == [ids[0]]
    assert data.dropped == {"length": 2}
    costs = (Decimal("0.02"), Decimal("0.0201"), None)
    samples = [replace(sample(1.0, place=place), cost=cost) for place, cost in enumerate(costs)]
    cheap = select_examples(samples, max_cost=0.02)
    assert [row["session"] for row in cheap] == ["s0"]
    assert cheap.dropped == {"cost": 2}
    assert len(select_examples(samples)) == 3


def test_labels_are_good_from_the_threshold_on() -> None:
    samples = [sample(reward, place=place) for place, reward in enumerate([0.0, 1.0, 0.4, None])]
    data = label_samples(samples)
    assert [row["label"] for row in data] == [False, True, False]
    assert data.dropped == {"no reward": 1}
    assert [row["label"] for row in label_samples(samples, threshold=0.4)] == [False, True, True]
    with pytest.raises(ConfigError, match="all 2 samples earned 1: none is better"):
        label_samples([sample(1.0), sample(1.0, place=1)])


def test_people_judge() -> None:
    store = MemoryLog()
    ids = [one.session for one in rollouts(store, {"x": ["one", "two", "three", "four"]}, 4)]
    data = label_choices(
        [
            {"session": ids[0], "verdict": "good"},
            {"session": ids[1], "verdict": "skip"},
            {"chosen": ids[2], "rejected": ids[3]},
        ],
        store=store,
    )
    assert {row["session"]: row["label"] for row in data} == {ids[0]: True, ids[2]: True, ids[3]: False}
    assert data.dropped == {"verdict": 1}
    assert data.has_tokens
    with pytest.raises(ConfigError, match="is good by one verdict and bad by another"):
        label_choices(
            [{"session": ids[0], "verdict": "bad"}, {"chosen": ids[0], "rejected": ids[3]}], store=store
        )


def test_exported_rollouts_are_read_by_datasets(tmp_path: Path) -> None:
    """`lllm export --format trl` gives the same tokens and masks, and what `datasets` reads of it is what was written."""
    from datasets import Dataset

    store = MemoryLog()
    found = rollouts(store, {"x": ["yes", "no"], "y": ["no", "yes"]}, 2)
    text = "".join(export(store, one.session, "trl") for one in found)
    file = tmp_path / "rows.jsonl"
    file.write_text(text)
    read = Dataset.from_json(str(file), cache_dir=str(tmp_path / "cache"))
    ours: list[Any] = select_examples(found, store=store).rows
    assert len(read) == len(ours) == 4
    for row, own in zip(read, ours, strict=True):
        assert (row["input_ids"], row["assistant_masks"]) == (own["input_ids"], own["assistant_masks"])
        assert row["session"] == own["session"]
        call = row["completion"][0]["tool_calls"][0]["function"]
        assert json.loads(call["arguments"]) == {"place": own["prompt"][0]["content"]}
        assert json.loads(row["tools"]) == json.loads(own["tools"])


def test_an_export_is_a_data_set_with_types(tmp_path: Path) -> None:
    store = MemoryLog()
    found = rollouts(store, {"x": ["yes", "no"]}, 2)
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(export(store, one.session, "trl") for one in found))
    data = TrainingData.load(file)
    assert (data.kind, data.has_tokens, len(data)) == ("examples", True, 2)
    features = data.dataset().features
    assert features["logprobs"].feature.dtype == "float64"  # null in all rows
    assert features["assistant_masks"].feature.dtype == "int8"
    assert features["completion"].feature["thinking"].dtype == "string"


def test_what_a_repair_dropped_carries_no_loss_anywhere() -> None:
    store = MemoryLog()
    replies = [reply([1], [2, 3], "no JSON"), reply([1, 2, 3, 4], [5], '{"a": 1}')]
    agent = Agent("a", ScriptedBackend(replies), format={"type": "object"}, token_ids=True, logprobs=True)
    found = RLEnv([{"prompt": "x"}], lambda: 1)(agent, store=store)
    (own,) = select_examples(found, store=store).rows
    (exported,) = [json.loads(line) for line in export(store, found[0].session, "trl").splitlines()]
    for row in (own, exported):
        assert (row["input_ids"], row["assistant_masks"]) == ([1, 2, 3, 4, 5], [0, 0, 0, 0, 1])
    assert [one["role"] for one in own["completion"]] == ["assistant"]
