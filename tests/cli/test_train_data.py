"""`data:` of train.yaml: what it names is looked at line by line before a model is loaded, and counted by a dry run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lllm.registry import registry
from lllm.rl.named import environment
from lllm.rl.preferences import pair_samples
from lllm.rl.training_file import TrainingFile
from tests.cli.conftest import Terminal
from tests.cli.test_train import refuse_loading
from tests.rl.project import make_project

TRAIN = """environment: rl/sharing
model: embedded
trainer: dpo
data: pairs.jsonl
output_dir: runs/one
config: {max_steps: 1, per_device_train_batch_size: 2, tokenize: true}
"""
PAIR = {"prompt": "What is 6 times 7?", "chosen": "It is 42.", "rejected": "It is 41."}
LABEL = {"prompt": "What is 6 times 7?", "completion": "It is 42.", "label": True}
TOKENS = {
    "prompt_ids": [5, 6],
    "chosen_ids": [7, 2],
    "chosen_mask": [1, 1],
    "rejected_ids": [8, 2],
    "rejected_mask": [1, 1],
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(make_project(tmp_path / "project"))
    root = tmp_path / "project"
    (root / "train.yaml").write_text(TRAIN)
    write(root / "pairs.jsonl", [PAIR] * 5)
    return root


def write(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_dry_run_counts_the_data(lllm: Terminal, project: Path) -> None:
    plan = lllm("train", "--dry-run", "--set", "config.max_steps=-1", "--json").json
    assert (plan["steps"], plan["rollouts"], plan["sample"]) == (3, 0, None)  # 5 rows, 2 at a time
    data = plan["data"]
    assert (data["kind"], data["rows"], data["dropped"]) == ("preferences", 5, {})
    assert data["how"] == "read from pairs.jsonl; 5 of the rows were tokenised from text"
    assert data["tokens"] == 10 * data["longest"]  # two answers of one length in each of five rows
    assert 10 * 4 < data["written"] < data["tokens"]
    said = lllm("train", "--dry-run").out
    assert "5 preferences, " in said
    assert "rollouts" not in said
    assert not (project / "runs").exists()


def test_it_is_trained_on_the_data(lllm: Terminal, project: Path) -> None:
    told = lllm("train", "--json").json
    assert told["step"] == 1
    rows = [json.loads(line) for line in (project / "runs/one/data/data.jsonl").read_text().splitlines()]
    assert [row["chosen"] for row in rows] == ["It is 42."] * 5
    assert lllm("train", "--resume", "--set", "config.max_steps=2", "--json").json["step"] == 2


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["{}"], "pairs.jsonl is not a data set for training: its first row has nothing"),
        ([PAIR, "", "{"], "pairs.jsonl, line 3, is not JSON"),
        ([PAIR, "[" * 100_000], "pairs.jsonl, line 2, is nested too deep"),
        ([PAIR, "", [1]], "pairs.jsonl, line 3, is a list, and must be an object"),
        ([PAIR, {"prompt": "x", "chosen": "y"}], "pairs.jsonl, line 2, has no 'rejected'"),
        ([PAIR, {**PAIR, "chosen": 4}], "pairs.jsonl, line 2, has chosen that is neither a text nor"),
        ([PAIR, {**PAIR, "prompt": [{"content": "x"}]}], "pairs.jsonl, line 2, has prompt that is neither"),
        ([LABEL, {**LABEL, "label": 1}], "pairs.jsonl, line 2, has the label 1, and must have true or false"),
        ([LABEL, {"completion": "x"}], "pairs.jsonl, line 2, has no 'label'"),
        (
            [TOKENS, {**TOKENS, "chosen_mask": [1]}],
            "pairs.jsonl, line 2, has chosen_mask that are not a list of 0",
        ),
        (
            [TOKENS, {**TOKENS, "prompt_ids": ["a"]}],
            "pairs.jsonl, line 2, has prompt_ids that are not a list",
        ),
        ([TOKENS, {**TOKENS, "rejected_ids": [-1, 2]}], "pairs.jsonl, line 2, has rejected_ids that are no"),
        ([], "pairs.jsonl has no rows"),
    ],
    ids=lambda value: value.split(" has ")[-1][:24] if isinstance(value, str) else "",
)
def test_a_line_that_is_wrong_is_named(
    lllm: Terminal, project: Path, monkeypatch: pytest.MonkeyPatch, lines: list[Any], words: str
) -> None:
    refuse_loading(monkeypatch)
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (project / "pairs.jsonl").write_text("\n".join(text))
    found = lllm("train", "--dry-run")
    assert found.code == 2
    assert f"train.yaml:4: {words}" in found.err, found.err


def test_a_line_that_is_no_text_is_named(lllm: Terminal, project: Path) -> None:
    (project / "pairs.jsonl").write_bytes(json.dumps(PAIR).encode() + b"\n\n\xff\n")
    assert "pairs.jsonl cannot be read: line 3 is not UTF-8" in lllm("train", "--dry-run").err


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["data=none.jsonl"], "there is no data set none.jsonl"),
        (["trainer=kto"], "KTO trains on labels, and the data are preferences"),
        (["trainer=grpo", "config={max_steps: 1}"], "the trainer grpo learns from rollouts of its own"),
        (["config.tokenize=false"], "train.yaml:4: 5 of 5 rows have no token ids"),
        (["data={sessions: [none]}"], "no session named 'none'"),
        (["data={sessions: none.jsonl}"], "data.sessions is 'none.jsonl', which is not a file"),
        (["data={file: pairs.jsonl, sessions: logged}"], "data names both a file and sessions"),
        (["data={max_tokens: 5}"], "data names neither a file nor sessions"),
        (["data={file: pairs.jsonl, max_cost: 1}"], "data has max_cost, which select from sessions"),
        (["data={sessions: logged, max_token: 1}"], "unknown key 'max_token'"),
        (["config={data: x}"], "config.data has a key of its own in this file"),
        (["data={sessions: logged, max_cost: -1}"], "data.max_cost is -1"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_slip_is_an_error_before_a_model_is_loaded(
    lllm: Terminal, project: Path, monkeypatch: pytest.MonkeyPatch, sets: list[str], words: str
) -> None:
    refuse_loading(monkeypatch)
    found = lllm("train", "--dry-run", *(word for one in sets for word in ("--set", one)))
    assert found.code == 2
    assert words in found.err, found.err


def test_given_data_are_trained_on_without_a_look_at_rewards(lllm: Terminal, project: Path) -> None:
    found = lllm("train", "--dry-run", "--set", "environment=rl/questions")  # whose rewards pay for anything
    assert found.code == 0
    assert "rewards on" not in found.err
    sampled = "config={max_steps: 1}"
    text = (project / "train.yaml").read_text().replace("data: pairs.jsonl\n", "")
    (project / "train.yaml").write_text(text)
    found = lllm("train", "--dry-run", "--set", "environment=rl/questions", "--set", sampled)
    assert "pay for something else than the task" in found.err


def test_tokens_of_another_model_are_refused(lllm: Terminal, project: Path) -> None:
    write(project / "pairs.jsonl", [TOKENS, {**TOKENS, "prompt_ids": [5, 99_999]}])
    found = lllm("train")
    assert found.code == 2
    assert "row 1 has the token 99999 in prompt_ids, and the model has" in found.err


def test_sessions_are_selected_by_reward_cost_and_length(lllm: Terminal, project: Path) -> None:
    with registry.scope(empty=True):
        registry.arm()
        env = environment("rl/sharing")
        tried = env("embedded", first=3, samples=4, temperature=2.0, max_tokens=40, token_ids=True)
        paired = len(pair_samples(tried))
    assert paired > 0
    best = [one.session for one in tried if one.reward == 1.0]
    assert 2 <= len(best) < 12

    def plan(*sets: str) -> Any:
        steps = "config={max_steps: 1, per_device_train_batch_size: 2}"
        words = [word for one in (steps, *sets) for word in ("--set", one)]
        found = lllm("train", "--dry-run", "--json", *words)
        return found.json["data"] if found.code == 0 else found.err

    every = plan("trainer=sft", "data={sessions: logged}", "config.threshold=1.0", "config.best=null")
    assert (every["kind"], every["rows"]) == ("examples", len(best))
    assert every["dropped"]["threshold"] == 12 - len(best)
    one = plan("trainer=sft", "data={sessions: logged}", "config.threshold=1.0", "config.best=1")
    assert one["rows"] < every["rows"]
    none = plan("trainer=sft", "data={sessions: logged, max_tokens: 1}", "config.best=null")
    assert "no row is left to train on: " in none
    assert "12 length" in none
    cheap = plan(
        "trainer=sft", "data={sessions: logged, max_cost: 0}", "config.threshold=1.0", "config.best=null"
    )
    assert cheap["rows"] == len(best)  # a model of this process costs nothing
    write(project / "ids.jsonl", [{"session": one, "note": "good"} for one in best])
    listed = plan("trainer=sft", "data={sessions: ids.jsonl}", "config.threshold=1.0", "config.best=null")
    assert listed["rows"] == len(best)
    assert listed["dropped"] == {}
    pairs = plan("data={sessions: logged}")
    assert pairs["rows"] == paired
    labels = plan("trainer=kto", "data={sessions: logged}")
    assert (labels["kind"], labels["rows"]) == ("labels", 12)
    (project / "ids.jsonl").write_text('{"session": "x"}\n{"id": 4}\n')
    assert "ids.jsonl, line 2, names no session" in plan("data={sessions: ids.jsonl}")


def test_a_path_is_relative_to_the_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.parent)
    with registry.scope(empty=True):
        registry.arm()
        spec = TrainingFile(project / "train.yaml").training.spec
    assert len(spec.data) == 5  # type: ignore[attr-defined]
