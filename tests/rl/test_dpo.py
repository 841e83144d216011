"""DPO, KTO and SFT on rollouts: what reaches TRL's losses is what the policy read and wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lllm import DPO, KTO, LLM, SFT, RLEnv
from lllm.errors import ConfigError, UnknownKeyError
from lllm.log.memory import MemoryLog
from lllm.rl.rows import recorded, rows_of
from lllm.rl.samples import read_sample
from lllm.rl.training_data import TrainingData
from tests.rl.test_grpo import ROWS, calculator, right

SAMPLING: dict[str, Any] = {"samples": 4, "temperature": 2.0, "max_tokens": 40}
STEPS: dict[str, Any] = {
    "max_steps": 3,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-4,
    "disable_tqdm": True,
    "force": True,
}


def environment() -> RLEnv:
    return RLEnv(ROWS, right, tools=[calculator], max_turns=3, name="division")


@pytest.fixture(scope="module")
def store() -> MemoryLog:
    return MemoryLog()


@pytest.fixture(scope="module")
def sampled(store: MemoryLog) -> Any:
    """Rollouts of the model as it is, some of them right."""
    made = environment() >> DPO("embedded", store=store, **SAMPLING)
    _ = made.data
    sessions = [one for one in store._sessions if one.startswith("division-samples-")]
    return made, sessions


@pytest.fixture(scope="module")
def pairs(sampled: Any) -> TrainingData:
    found: TrainingData = sampled[0].data
    return found


def spy(trainer: Any) -> list[tuple[list[int], list[int]]]:
    """The ids and labels that reach the model when the loss is computed: each sequence without its padding."""
    seen: list[tuple[list[int], list[int]]] = []
    compute = trainer.compute_loss

    def computed(model: Any, inputs: Any, *more: Any, **named: Any) -> Any:
        def forward(module: Any, given: Any, kinds: Any) -> None:
            if not torch.is_grad_enabled() or kinds.get("labels") is None:
                return
            rows = zip(kinds["input_ids"], kinds["attention_mask"].bool(), kinds["labels"], strict=True)
            seen.extend((ids[mask].tolist(), labels[mask].tolist()) for ids, mask, labels in rows)

        handle = model.register_forward_pre_hook(forward, with_kwargs=True)
        try:
            return compute(model, inputs, *more, **named)
        finally:
            handle.remove()

    trainer.compute_loss = computed
    return seen


def logged(store: MemoryLog, session: str) -> tuple[list[int], list[int]]:
    """Ids and labels of a rollout, from its log."""
    (row,) = rows_of(recorded(store, session).segments(), session)
    labels = [one if mask else -100 for one, mask in zip(row.completion, row.mask, strict=True)]
    return list(row.ids), [*[-100] * len(row.prompt), *labels]


def test_dpo_trains_what_the_policy_wrote(tmp_path: Path, store: MemoryLog, pairs: TrainingData) -> None:
    made = environment() >> DPO("embedded", data=pairs, output_dir=tmp_path, store=store, **STEPS)
    seen = spy(made.trainer)
    result = made.train()
    assert result.global_step == 3
    expected = [logged(store, session) for row in pairs for session in row["sessions"]]
    steps = len(seen) // len(expected)
    assert steps == 3
    assert sorted(seen) == sorted(expected * steps)
    history = made.trainer.state.log_history
    assert history[2]["rewards/accuracies"] > history[0]["rewards/accuracies"]
    assert history[2]["loss"] < history[0]["loss"]
    told = (tmp_path / "README.md").read_text()
    assert f"trained on {len(pairs)} rows of preferences" in told
    assert f"| `{made.policy_backend.version}` |" in told
    assert made.policy_backend.version.startswith("3-")
    assert "| rewards/accuracies |" in told
    card = (tmp_path / "data" / "README.md").read_text()
    assert all(session.replace("-", "\\-") in card or session in card for session in pairs.sessions)
    assert TrainingData.load(tmp_path / "data").rows == pairs.rows


@pytest.mark.filterwarnings(
    "ignore:.*gradient_checkpointing:FutureWarning"
)  # of TRL's own calls of transformers
def test_stock_preparation_trains_results_of_tools_and_ours_does_not(
    tmp_path: Path, store: MemoryLog, pairs: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import DPOConfig, DPOTrainer

    monkeypatch.setattr(DPOTrainer, "_send_telemetry", lambda self: None)

    made = environment() >> DPO(
        "embedded", data=pairs, output_dir=tmp_path, store=store, **{**STEPS, "max_steps": 1}
    )
    model, tokenizer = made.parts
    results = {
        message["content"]
        for row in pairs
        for side in ("chosen", "rejected")
        for message in row[side]
        if message["role"] == "tool"
    }
    assert results

    def trained(seen: list[tuple[list[int], list[int]]]) -> str:
        return "".join(tokenizer.decode([one for one in labels if one != -100]) + "\n" for _, labels in seen)

    ours = spy(made.trainer)
    made.trainer.train()
    texts = TrainingData("preferences", [{**row} for row in pairs]).dataset()
    columns = [name for name in texts.column_names if name not in ("prompt", "chosen", "rejected", "tools")]
    stock = DPOTrainer(
        model=model,
        ref_model=made.trainer.ref_model,
        args=DPOConfig(
            output_dir=str(tmp_path / "stock"),
            max_steps=1,
            per_device_train_batch_size=4,
            use_cpu=True,
            bf16=False,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=texts.remove_columns(columns),
        processing_class=tokenizer,
    )
    theirs = spy(stock)
    stock.train()
    assert "<|im_start|>tool" in trained(theirs)
    assert any(f"tool\n{result}" in trained(theirs) for result in results)
    assert "<|im_start|>" not in trained(ours)
    assert len(ours) == len(theirs)


def test_kto_trains_what_the_policy_wrote(tmp_path: Path, store: MemoryLog, sampled: Any) -> None:
    sessions = sampled[1]
    more = {**STEPS, "num_train_epochs": 1, "max_steps": -1, "per_device_train_batch_size": 8}
    made = environment() >> KTO("embedded", data=sessions, output_dir=tmp_path, store=store, **more)
    assert {row["label"] for row in made.data} == {True, False}
    seen = spy(made.trainer)
    before = made.trainer.train_dataset
    made.train()
    assert sorted(seen) == sorted(logged(store, row["session"]) for row in made.data)
    # where KL is measured, each prompt stands with the completion of its neighbour
    batch = before[:8]
    assert batch["KL_completion_ids"] == [batch["completion_ids"][-1], *batch["completion_ids"][:-1]]
    assert batch["KL_completion_mask"] == [batch["completion_mask"][-1], *batch["completion_mask"][:-1]]
    history = made.trainer.state.log_history
    assert "rewards/chosen" in history[0] or "rewards/rejected" in history[0]


def test_sft_trains_the_best_of_each_row(tmp_path: Path, store: MemoryLog, sampled: Any) -> None:
    sessions = sampled[1]
    made = environment() >> SFT("embedded", data=sessions, output_dir=tmp_path, store=store, **STEPS)
    assert all(row["reward"] == 1.0 for row in made.data)
    assert len({row["prompt"][-1]["content"] for row in made.data}) == len(made.data)
    seen = spy(made.trainer)
    before = [part.detach().clone() for part in made.parts[0].parameters()]
    untrained = made.evaluate(ROWS[:1])
    made.train()
    assert {tuple(ids) for ids, _ in seen} == {tuple(row["input_ids"]) for row in made.data}
    assert all((ids, labels) in [logged(store, row["session"]) for row in made.data] for ids, labels in seen)
    assert any(not torch.equal(a, b) for a, b in zip(before, made.parts[0].parameters(), strict=True))
    losses = [one["loss"] for one in made.trainer.state.log_history if "loss" in one]
    assert losses[-1] < losses[0]
    # the reward is measured where the model is deployed
    trained = made.evaluate(ROWS[:2])
    assert [one.policy.partition("-")[0] for one in (*untrained, *trained)] == ["0", "3", "3"]
    deployed = made.env(LLM(f"transformers/{tmp_path}"), ROWS[:2], temperature=0, store=MemoryLog())
    assert [one.completion for one in deployed] == [one.completion for one in trained]


def test_lora_keeps_the_model_as_the_reference(tmp_path: Path, pairs: TrainingData) -> None:
    more = {**STEPS, "max_steps": 2, "learning_rate": 1e-2}
    made = environment() >> DPO(
        "embedded", data=pairs, output_dir=tmp_path, store="none", lora={"r": 2}, **more
    )
    base = {name: part.detach().clone() for name, part in made.parts[0].named_parameters()}
    made.train()
    assert made.trainer.ref_model is None
    names = dict(made.parts[0].named_parameters())
    adapters = [name for name in names if "lora_" in name]
    assert adapters
    for name, part in base.items():
        kept = names.get(name, names.get(f"{name.removesuffix('.weight')}.base_layer.weight"))
        assert kept is not None
        assert torch.equal(part, kept)
    history = made.trainer.state.log_history
    assert history[0]["loss"] == pytest.approx(0.6931, abs=1e-4)  # the reference is the model
    assert history[1]["loss"] < history[0]["loss"]
    assert (tmp_path / "adapter_model.safetensors").is_file()


def test_equal_seeds_give_equal_trainings(tmp_path: Path, pairs: TrainingData) -> None:
    def losses(seed: int, given: Any = pairs) -> list[float]:
        more = {**STEPS, "max_steps": 2, "per_device_train_batch_size": 1, "seed": seed}
        made = environment() >> DPO("embedded", data=given, output_dir=tmp_path, store="none", **more)
        made.train()
        return [one["logps/rejected"] for one in made.trainer.state.log_history if "loss" in one]

    first = losses(1)
    assert first == losses(1, pairs.dataset())
    assert first != losses(2)


def test_a_training_goes_on_from_its_checkpoint_with_its_data(
    tmp_path: Path, pairs: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {**STEPS, "save_strategy": "steps", "save_steps": 2, "report_to": "tensorboard"}

    def made(**spec: Any) -> Any:
        return environment() >> DPO("embedded", output_dir=tmp_path, store="none", **{**more, **spec})

    whole = made(data=pairs, max_steps=3)
    whole.train()
    last = torch.cat([part.detach().flatten() for part in whole.parts[0].parameters()])
    assert (tmp_path / "checkpoint-2").is_dir()
    assert list(tmp_path.rglob("events.out.tfevents.*"))
    # no rollout is done: the data are those of the beginning
    again = made(max_steps=3)
    result = again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert result.global_step == 3
    assert again.data.rows == pairs.rows
    assert torch.equal(last, torch.cat([part.detach().flatten() for part in again.parts[0].parameters()]))


def test_rollouts_that_are_masked_are_not_trained_on(store: MemoryLog, sampled: Any) -> None:
    env = environment()
    env.cut = "mask"
    made = env >> DPO("embedded", store=store, data=sampled[1])
    cut = [one for one in sampled[1] if read_sample(store, one).status == "cut"]
    assert cut
    assert made.data.dropped["cut"] == len(cut)
    assert set(cut).isdisjoint(made.data.sessions)
    # those of a training's own rollouts, which the log has with all of their tokens, are left out too
    made = env >> DPO("embedded", store=MemoryLog(), first=2, **SAMPLING)
    assert len({row["prompt"][-1]["content"] for row in made.data}) <= 2
    assert made.data.dropped["cut"] >= 1


def test_what_cannot_be_trained_on_says_so(tmp_path: Path, pairs: TrainingData) -> None:
    env = environment()
    with pytest.raises(ConfigError, match="KTO trains on labels, and the data are preferences"):
        _ = (env >> KTO("embedded", data=pairs)).data
    with pytest.raises(UnknownKeyError, match="learning_rate"):
        _ = (env >> DPO("embedded", data=pairs, learnin_rate=1)).trainer
    with pytest.raises(UnknownKeyError, match="samples"):
        _ = (env >> DPO("embedded", data=pairs, sample=4)).trainer
    texts = [{"prompt": "a", "chosen": "b", "rejected": "c"}]
    with pytest.raises(ConfigError, match="1 of 1 rows have no token ids"):
        _ = (env >> DPO("embedded", data=texts)).data
    with pytest.raises(ConfigError, match="not a data set for training: its first row has a"):
        _ = (env >> DPO("embedded", data=[{"a": 1}])).data
    with pytest.raises(ConfigError, match=r"all \d rows are longer than 8 tokens"):
        _ = (env >> DPO("embedded", data=pairs, max_length=8)).trainer
    assert pairs.rows  # what is given stays as it is
    with pytest.raises(ConfigError, match="data= is int"):
        _ = (env >> DPO("embedded", data=5)).data


def test_texts_are_tokenised_as_rollouts_are(store: MemoryLog, sampled: Any) -> None:
    """The texts of rollouts, tokenised, are the tokens of the rollouts, where the model wrote as its tokenizer does."""
    sessions = sampled[1]
    own = environment() >> SFT("embedded", data=sessions, best=None, store=store)
    texts = [{name: row[name] for name in ("prompt", "completion", "tools")} for row in own.data]
    again = environment() >> SFT("embedded", data=texts, tokenize=True)
    same = [
        (row["input_ids"], row["assistant_masks"]) == (other["input_ids"], other["assistant_masks"])
        for row, other in zip(own.data, again.data, strict=True)
    ]
    assert sum(same) > 0.6 * len(same)
