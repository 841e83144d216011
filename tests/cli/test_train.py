"""`lllm train`: what is wrong is said before anything is loaded; sizes; progress; stopped and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

from lllm import LLM
from lllm.backends.embedded import WEIGHTS
from lllm.registry import registry
from lllm.rl.named import environment
from lllm.rl.training_file import TrainingFile
from tests.cli.conftest import Terminal
from tests.rl.project import make_project

TRAIN = """environment: rl/arithmetic
model: embedded
output_dir: runs/one
store: none
config:
  max_steps: 2
  num_generations: 4
  per_device_train_batch_size: 8
  max_completion_length: 32
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(make_project(tmp_path / "project"))
    (tmp_path / "project" / "train.yaml").write_text(TRAIN)
    return tmp_path / "project"


def refuse_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    from lllm.rl.trainers import models

    def opened(*_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(models, "open_model", opened)


def test_everything_wrong_is_listed_before_a_model_is_loaded(
    lllm: Terminal, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_loading(monkeypatch)
    (project / "train.yaml").write_text(
        "environment: rl/arithmetics\n"
        "model: models/nothing\n"
        "sed: 1\n"
        "concurrency: 0\n"
        "config:\n"
        "  max_step: 3\n"
        "  seed: 4\n"
    )
    found = lllm("train", "--dry-run")
    assert found.code == 2
    for line in (
        "train.yaml:1: no environment named 'rl/arithmetics'",
        "train.yaml:2: no such file: models/nothing",
        "train.yaml:3: unknown key 'sed'",
        "train.yaml:4: concurrency is 0",
        "train.yaml:6: unknown key 'max_step'",
        "train.yaml:7: config.seed has a key of its own",
    ):
        assert line in found.err, line
    assert "6 problems in train.yaml" in found.err


@pytest.mark.parametrize(
    ("sets", "match"),
    [
        (["config.num_generations=7"], "must be divisible by num_generations"),
        (["trainer=grop"], "Did you mean 'grpo'?"),
        (["environment=rl/needy"], "needs arguments (size)"),
        (["agent=assistant"], "no agent named 'assistant'"),
        (["seed=x"], "seed is 'x'"),
        (["gguf=Q2"], "gguf is 'Q2'"),
        (["environment=envs/none.yaml"], "there is no environment file"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_slip_on_the_command_line_is_an_error(
    lllm: Terminal, project: Path, monkeypatch: pytest.MonkeyPatch, sets: list[str], match: str
) -> None:
    refuse_loading(monkeypatch)
    found = lllm("train", *(word for one in sets for word in ("--set", one)))
    assert found.code == 2
    assert match in found.err
    assert not (project / "runs").exists()


def test_files_and_checkpoints_are_looked_at_first(
    lllm: Terminal, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_loading(monkeypatch)
    assert "there is no file other.yaml" in lllm("train", "-c", "other.yaml").err
    assert "there is no training in runs/one to go on with" in lllm("train", "--resume").err
    checkpoint = project / "runs" / "one" / "checkpoint-9"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text("{}")
    assert "holds a training already (checkpoint-9)" in lllm("train").err


def test_what_pays_for_something_else_is_not_trained_on(
    lllm: Terminal, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_loading(monkeypatch)
    found = lllm("train", "--set", "environment=rl/questions")
    assert found.code == 2
    assert "pay for something else than the task" in found.err


def test_settings_are_what_file_and_command_line_say(project: Path) -> None:
    file = TrainingFile("train.yaml", ["config.learning_rate=1e-3", "lora={r: 4}", "seed=3"])
    spec = file.training.spec
    assert (spec.seed, spec.lora, spec.store, spec.model) == (3, {"r": 4}, "none", "embedded")
    assert Path(spec.output_dir) == project / "runs" / "one"
    assert spec.config["learning_rate"] == 1e-3
    assert spec.config["max_steps"] == 2
    assert spec.config["save_strategy"] == "steps"
    kept = TrainingFile("train.yaml", ["config.save_strategy=no"]).training.spec
    assert kept.config["save_strategy"] == "no"
    assert "save_steps" not in kept.config
    by_file = TrainingFile("train.yaml", ["environment=envs/questions.yaml"]).training
    assert by_file.env.name == "rl/questions"


def test_a_dry_run_prints_sizes_and_writes_nothing(lllm: Terminal, project: Path) -> None:
    plan = lllm("train", "--dry-run", "--json").json
    assert plan["rows"] == 1000
    assert plan["parameters"] == 3475712
    assert (plan["rollouts_per_step"], plan["rows_per_step"]) == (8, 2)
    assert (plan["steps"], plan["rollouts"]) == (2, 16)
    assert 20 < plan["sample"]["written"] < plan["sample"]["tokens"]
    assert plan["memory"] > 16 * plan["parameters"]
    assert not (project / "runs").exists()


def test_steps_are_those_that_trl_counts(project: Path) -> None:
    from lllm.rl.training_plan import plan_training

    shapes = (
        "{per_device_train_batch_size: 8, num_generations: 4}",  # of 5 rows, one is left over
        "{per_device_train_batch_size: 4, num_generations: 4, gradient_accumulation_steps: 2}",
        "{per_device_train_batch_size: 4, num_generations: 2, num_iterations: 2, steps_per_generation: 2}",
    )
    with registry.scope(empty=True):
        registry.arm()  # whatever projects other tests of this process had
        for shape in shapes:
            sets = [
                "environment=sums",
                "force=true",
                f"config={shape}",
                "config.max_steps=-1",
                "config.num_train_epochs=2",
            ]
            file = TrainingFile("train.yaml", sets)
            plan = plan_training(file, sample=False)
            trainer = file.training.trainer
            loader = trainer.get_train_dataloader()
            batch = trainer.args.train_batch_size * trainer.args.gradient_accumulation_steps
            assert plan.steps == trainer.set_initial_training_values(trainer.args, loader)[-1], (shape, batch)


def test_fewer_rows_than_a_batch_takes_are_an_error(lllm: Terminal, project: Path) -> None:
    found = lllm("train", "--set", "environment=rl/products", "--set", "force=true")
    assert "the environment 'rl/products' has 1 rows, and a batch is of 2" in found.err


def test_a_training_is_stopped_and_gone_on_with(lllm: Terminal, project: Path) -> None:
    command = [sys.executable, "-m", "lllm", "train", "--set", "config.max_steps=50", "--json"]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step 1/50  reward "):
            process.send_signal(signal.SIGINT)
            break
    out, said = process.communicate()
    assert process.returncode == 130, said
    told = json.loads(out)
    assert told["stopped"]
    assert 1 <= told["step"] < 50
    assert "stopping after this step" in said
    assert (project / "runs" / "one" / f"checkpoint-{told['step']}").is_dir()

    steps = told["step"] + 1
    more = lllm("train", "--resume", "--set", f"config.max_steps={steps}", "--set", "gguf=F16", "--json")
    end = json.loads(more.out)
    assert (end["step"], end["stopped"], end["model"]) == (steps, False, "transformers/runs/one")
    assert f"step {steps}/{steps}" in more.err
    assert "step 1/" not in more.err
    for model in (end["model"], f"llama_cpp/{end['gguf']}"):
        tried = lllm("rl", "run", "rl/arithmetic", "--model", model, "--first", "3", "--json")
        assert tried.json["scored"] == 3
    anew = lllm("train", "--overwrite", "--set", "config.max_steps=1", "--json").json
    assert anew["step"] == 1
    assert [path.name for path in (project / "runs" / "one").glob("checkpoint-*")] == ["checkpoint-1"]


def test_trainers_on_data_take_their_own_options(lllm: Terminal, project: Path) -> None:
    sets = ["trainer=dpo", "config={max_steps: 1, samples: 2, max_tokens: 24, temperature: 2.0}"]
    (project / "train.yaml").write_text("environment: rl/arithmetic\nmodel: embedded\nstore: none\n")
    words = [word for one in sets for word in ("--set", one)]
    plan = lllm("train", *words, "--dry-run", "--json").json
    assert (plan["trainer"], plan["steps"], plan["rollouts"]) == ("dpo", 1, 2000)
    assert plan["memory"] > 20 * plan["parameters"]
    wrong = lllm("train", *words, "--set", "config.num_generations=4")
    assert "unknown key 'num_generations'" in wrong.err
    assert "num_iterations=2" in lllm("train", "--set", "trainer=ppo").err


def test_an_adapter_is_merged_into_a_model_that_runs(lllm: Terminal, project: Path) -> None:
    sets = ("lora={r: 4}", "gguf=F32", "config.temperature=1.5", "config.learning_rate=0.02")
    made = lllm("train", *(word for one in sets for word in ("--set", one)), "--json")
    told = made.json
    assert told["model"] == "transformers/runs/one/merged"
    assert (project / "runs" / "one" / "adapter_model.safetensors").is_file()

    def replies(model: str) -> list[list[str]]:
        found = environment("rl/arithmetic").rollouts(LLM(model), first=6, temperature=0.0, max_tokens=60)
        return [[message.text for message in one.messages] for one in found]

    merged = replies(told["model"])
    assert merged == replies(f"llama_cpp/{told['gguf']}")
    written, shipped = gguf.GGUFReader(told["gguf"]), gguf.GGUFReader(WEIGHTS)
    before = {one.name: gguf.dequantize(one.data, one.tensor_type) for one in shipped.tensors}
    changed = {one.name for one in written.tensors if not np.array_equal(one.data, before[one.name])}
    assert "blk.0.attn_q.weight" in changed
    assert "token_embd.weight" not in changed


def test_a_missing_package_is_named_with_what_installs_it(
    lllm: Terminal, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "trl" else found(name, *more)
    )
    said = lllm("train", "--dry-run")
    assert said.code == 2
    assert "training needs the package 'trl'" in said.err
    assert "pip install" in said.err


SYSTEM = """agent_configs:
  solver:
    model_name: embedded
    temperature: 0
    max_model_calls: 4
"""


@pytest.mark.parametrize("trainer", ["grpo", "sft"])
@pytest.mark.parametrize("agent", [False, True], ids=["model", "agent"])
def test_rollouts_of_a_training_are_run_again_by_a_replay(
    lllm: Terminal, project: Path, agent: bool, trainer: str
) -> None:
    text = TRAIN.replace("store: none\n", f"trainer: {trainer}\n")
    if trainer == "sft":
        text = text.replace("  num_generations: 4\n", "  samples: 4\n  first: 2\n").replace(
            "max_completion_length: 32", "max_tokens: 32"
        )
    if agent:
        (project / "system.yaml").write_text(SYSTEM)
        text += "system: system.yaml\nagent: solver\n"
    (project / "train.yaml").write_text(text)
    done = lllm("train", "--set", "config.max_steps=1", "--json")
    assert done.code == 0, done.err
    sessions = [one["session"] for one in lllm("sessions", "--json").json]
    assert len(sessions) == 9
    found = {id: lllm("replay", id, "--json").json for id in sessions}
    assert all(one["verified"] and one["whole"] for one in found.values()), found
    assert sorted(one["reexecuted"] for one in found.values()) == [
        0,
        *[1] * 8,
    ]  # the batch makes no call itself


def test_a_gguf_that_could_not_be_written_is_an_error_first(
    lllm: Terminal, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lllm.backends.gguf_writer import vocabulary

    monkeypatch.setattr(vocabulary, "PRE", {})  # as if llama.cpp had no pre-tokenizer like that of the model
    for more in ((), ("--dry-run",)):
        found = lllm("train", "--set", "gguf=F16", *more)
        assert found.code == 2
        assert (
            "--set gguf: the tokenizer cannot be written as GGUF: llama.cpp has no pre-tokenizer" in found.err
        )
    assert not (project / "runs").exists()
