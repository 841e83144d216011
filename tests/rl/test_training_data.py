"""Data sets for training, as `datasets` reads them, and the origin that their card claims."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lllm import LLM, Agent, RLEnv, ScriptedBackend, fork_session, record
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import ConfigError, UnknownNameError
from lllm.log.memory import MemoryLog
from lllm.rl.preferences import pair_choices, pair_forks, pair_samples
from lllm.rl.rows import TokenRow
from lllm.rl.samples import Sample, samples_of
from lllm.rl.selecting import label_samples, select_examples
from lllm.rl.training_data import TrainingData
from tests.rl.test_preferences import forked, look, replies, rollouts, sample

CALLS: list[dict[str, Any]] = [
    {
        "role": "assistant",
        "content": None,
        "thinking": "hm",
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "content": "found", "tool_call_id": "c", "name": "f"},
    {"role": "assistant", "content": "done \u2028 \U0001f600 \ud800"},
]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[TrainingData], Any]:
    """Saves data, and reads them with `datasets`."""
    from datasets import load_dataset

    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)

    def load(data: TrainingData) -> Any:
        folder = data.save(tmp_path / "data")
        return load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))["train"]

    return load


def long(place: int, **more: Any) -> Sample:
    """A sample of 20,000 bytes."""
    row = TokenRow((1,), tuple(range(4000)), (1,) * 4000, None)
    return replace(sample(1.0, f"row {place}", place), rows=(row,), **more)


def test_what_only_late_rows_have_is_read_by_datasets(read: Callable[[TrainingData], Any]) -> None:
    """A reader looks at the first ten million bytes, and takes columns that are null there for such that always are."""
    samples = [long(place) for place in range(700)]
    samples.append(long(700, completion=CALLS, tools='[{"a":1}]'))
    samples.append(replace(long(701), rows=long(701).rows * 2))  # of a branch: prompt is null
    data = select_examples(samples)
    for found in (read(data), data.dataset()):
        assert found[700]["tools"] == '[{"a":1}]'
        assert [one["content"] for one in found[700]["completion"]] == [
            None,
            "found",
            "done \u2028 \U0001f600 \ufffd",
        ]
        assert found[700]["completion"][0]["tool_calls"] == CALLS[0]["tool_calls"]
        assert found[701]["prompt"] is None
        assert found[701]["input_ids"][:3] == [1, 0, 1]


def test_columns_that_the_first_row_lacks_are_there(read: Callable[[TrainingData], Any]) -> None:
    data = select_examples([replace(sample(1.0), rows=()), sample(1.0, place=1)])
    for found in (read(data), data.dataset()):
        assert found["input_ids"] == [None, [1, 2, 11, 0]]


def test_a_prompt_of_parts_is_text_in_a_data_set(read: Callable[[TrainingData], Any]) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    data = select_examples([sample(1.0), replace(sample(1.0, "b", 1), prompt=parts)])
    for found in (read(data), data.dataset()):
        assert [row["prompt"][0]["content"] for row in found] == ["a", "hi"]


def test_rows_that_were_changed_are_not_those_of_the_card(tmp_path: Path) -> None:
    data = pair_samples([sample(1.0), sample(0.0, place=1)])
    folder = data.save(tmp_path / "pairs")
    assert data.digest in (folder / "README.md").read_text()
    assert TrainingData.load(folder) == data
    file = folder / "data.jsonl"
    file.write_text(file.read_text().replace("12", "13").replace("11,0", "10,0"))
    with pytest.raises(ConfigError, match="are not those that its card describes"):
        TrainingData.load(folder)
    assert TrainingData.load(file).sessions == {}


def test_an_interrupted_save_leaves_rows_that_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair_samples([sample(1.0), sample(0.0, place=1)]).save(tmp_path / "pairs")
    other = pair_samples([sample(1.0, place=2), sample(0.0, place=3)])

    def killed(data: TrainingData) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingData, "card", killed)  # after the rows, before their origin
    with pytest.raises(KeyboardInterrupt):
        other.save(tmp_path / "pairs")
    found = TrainingData.load(tmp_path / "pairs")
    assert (found.rows, found.sessions) == (other.rows, {})


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("provenance.json", "[1]", "does not describe a data set"),
        ("provenance.json", '{"colour": "red"}', "does not describe a data set"),
        ("provenance.json", '{"sessions": 5}', "does not describe a data set"),
        ("provenance.json", "{", "cannot be read"),
        ("provenance.json", '{"kind": "labels"}', "are preferences, and its card says labels"),
        ("data.jsonl", "[1]", "is a list, and must be an object"),
        ("data.jsonl", "[" * 100_000, "line 1, is nested too deep"),
        ("data.jsonl", '{"prompt": ', "data.jsonl, line 1, is not JSON"),
        ("data.jsonl", "", "has no rows"),
    ],
)
def test_a_damaged_folder_is_an_error(tmp_path: Path, name: str, content: str, words: str) -> None:
    folder = pair_samples([sample(1.0), sample(0.0, place=1)]).save(tmp_path / "pairs")
    (folder / name).write_text(content)
    with pytest.raises(ConfigError, match=words):
        TrainingData.load(folder)


# --- where samples come from


def test_rollouts_within_a_session_are_told_apart() -> None:
    store = MemoryLog()
    env = RLEnv([{"prompt": "a"}, {"prompt": "b"}], lambda completion: float(completion == "re a"))
    with record(store=store):
        found = env(LLM(ScriptedBackend(lambda request: f"re {request.messages[-1].text}")))
    assert found[0].session == found[1].session
    data = select_examples(found, store=store)
    assert [row["prompt"][0]["content"] for row in data] == ["a", "b"]
    assert [row["completion"][0]["content"] for row in data] == ["re a", "re b"]
    assert [*data.sessions] == [found[0].session]
    assert data.sessions[found[0].session or ""].startswith("sha256:")


def test_a_session_that_is_given_twice_counts_once() -> None:
    store = MemoryLog()
    ids = [one.session for one in rollouts(store, {"x": ["yes", "no"]}, 2)]
    data = select_examples([*ids, *ids], store=store)
    assert [row["session"] for row in data] == ids
    assert data.dropped == {"repeated": 2}


def test_an_unknown_session_is_not_only_counted() -> None:
    for read in (select_examples, label_samples, pair_samples, pair_forks):
        with pytest.raises(UnknownNameError, match="no session named 'nowhere'"):
            read(["nowhere"], store=MemoryLog())  # type: ignore[operator]


def test_what_is_no_list_is_an_error() -> None:
    for wrong in ("id", 5, sample(1.0)):
        with pytest.raises(ConfigError, match="sessions are a list of ids"):
            samples_of(wrong, MemoryLog())  # type: ignore[arg-type]


BOUNDS: list[tuple[Any, dict[str, Any], str]] = [
    (pair_samples, {"margin": float("nan")}, "margin is nan"),
    (pair_samples, {"margin": -1}, "margin is -1"),
    (pair_samples, {"margin": "a"}, "margin is 'a'"),
    (pair_samples, {"pairs": 1.5}, "pairs must be a whole number >= 1, got 1.5"),
    (pair_forks, {"margin": "a"}, "margin is 'a'"),
    (select_examples, {"max_cost": "cheap"}, "max_cost is 'cheap'"),
    (select_examples, {"max_cost": float("nan")}, "max_cost is nan"),
    (select_examples, {"max_cost": -1}, "max_cost is -1"),
    (select_examples, {"min_reward": "1"}, "min_reward is '1'"),
    (select_examples, {"best": 0}, "best must be a whole number >= 1, got 0"),
    (select_examples, {"best": 1.5}, "best must be a whole number >= 1, got 1.5"),
    (select_examples, {"max_tokens": "9"}, "max_tokens must be a whole number >= 1, got '9'"),
    (label_samples, {"threshold": "x"}, "threshold is 'x'"),
]


@pytest.mark.parametrize(("choose", "bound", "words"), BOUNDS)
def test_a_bound_that_is_none_is_an_error(choose: Any, bound: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        choose([sample(1.0)], **bound)


@pytest.mark.parametrize("worth", [float("nan"), "much", None])
def test_a_fork_whose_worth_is_no_number_is_left_out(worth: Any) -> None:
    store = MemoryLog()
    parent, fork = forked(store, ["short", "a longer one"])
    assert pair_forks([fork], score=lambda one: worth, store=store).dropped == {"no reward": 1}
    assert pair_forks([parent], store=store).dropped == {"no fork": 1}


def test_forks_that_wrote_the_same_are_one_pair() -> None:
    store = MemoryLog()
    parent, _ = forked(store, ["short", "a longer one"])
    place = [one["seq"] for one in map(open_event, store.read(parent)) if one["kind"] == ev.MODEL_REPLIED][-1]
    agent = Agent("looks", ScriptedBackend(replies({"x": ["other", "other"]})), tools=[look], token_ids=True)
    forks = [fork_session(parent, at=place, store=store, entry=lambda: agent("x")).session for _ in range(2)]
    asked: list[str | None] = []

    def worth(one: Sample) -> float:
        asked.append(one.session)
        return float(one.completion[-1]["content"] == "other")

    data = pair_forks(forks, score=worth, store=store)
    assert (len(data), data.dropped) == (1, {"repeated": 1})
    assert asked == [*forks, parent]  # each once


def test_two_forks_of_a_session_are_compared_from_where_they_part() -> None:
    store = MemoryLog()
    parent, first = forked(store, ["short", "a longer one"])
    place = [one["seq"] for one in map(open_event, store.read(parent)) if one["kind"] == ev.MODEL_REPLIED][-1]
    agent = Agent("looks", ScriptedBackend(replies({"x": ["other"]})), tools=[look], token_ids=True)
    second = fork_session(parent, at=place, store=store, entry=lambda: agent("x")).session
    (row,) = pair_choices([{"chosen": second, "rejected": first}], store=store)
    assert bytes(row["prompt_ids"]).decode() == "uxatseen x"
    assert (bytes(row["chosen_ids"]).decode(), row["chosen_mask"]) == ("aother", [1] * 6)


def test_rows_that_ask_the_same_are_not_taken_for_one_another() -> None:
    store = MemoryLog()
    _, fork = forked(store, ["short", "a longer one"])
    rows = [{"prompt": "x", "answer": "short"}, {"prompt": "x", "answer": "a longer one"}]
    env = RLEnv(rows, lambda completion, answer: completion == answer)
    assert pair_forks([fork], score=env, store=store).dropped == {"no reward": 1}
    same = RLEnv([rows[0], rows[0]], lambda completion, answer: completion == answer)
    assert len(pair_forks([fork], score=same, store=store)) == 1
