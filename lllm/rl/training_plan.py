"""The plan of a training before it begins: rows, rollouts, steps, tokens and memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lllm.config.layer import shown
from lllm.errors import LLMError

if TYPE_CHECKING:
    from lllm.rl.trainers import Training
    from lllm.rl.training_file import TrainingFile

ROLLOUTS = ("grpo", "rloo")
"""Trainers that do rollouts at each step; others do all of theirs first."""


@dataclass(frozen=True)
class Sample:
    """The measured sizes of one rollout.

    Attributes:
        tokens: of its training rows, read and written. written: those of the model. rows: training rows. turns: replies.
        seconds: it took. reward: it earned.
    """

    tokens: int
    written: int
    rows: int
    turns: int
    seconds: float
    reward: float | None


@dataclass(frozen=True)
class DataSize:
    """The counted sizes of given data.

    Attributes:
        kind: `preferences`, `examples` or `labels`. how: a sentence on how they were chosen. rows: their number.
        tokens: of all rows; longest: of the longest one. written: those that carry loss.
        dropped: the number of those left out, by reason.
    """

    kind: str
    how: str
    rows: int
    tokens: int
    longest: int
    written: int
    dropped: dict[str, int]


@dataclass(frozen=True)
class TrainingPlan:
    """The sizes of a training.

    Attributes:
        model: its name. parameters: their number. adapter: True: only an adapter is trained.
        rows: of the dataset. rollouts_per_step, rows_per_step: rollouts of an optimizer step, and of how many rows.
        steps: optimizer steps. rollouts: all in all.
        memory: bytes for weights, gradients, the optimizer's state and a batch's activations, roughly.
        sample: one rollout that was measured, or None; problem: why it could not be.
        data: the data that are trained on in place of rollouts, or None.
    """

    environment: str
    trainer: str
    model: str
    parameters: int | None
    adapter: bool
    rows: int
    rollouts_per_step: float
    rows_per_step: float
    steps: int
    rollouts: int
    memory: int | None
    output_dir: str
    sample: Sample | None = None
    problem: str | None = None
    data: DataSize | None = None

    def record(self) -> dict[str, Any]:
        """As JSON."""
        from dataclasses import asdict

        return asdict(self)


def plan_training(file: TrainingFile, *, sample: bool = True) -> TrainingPlan:
    """Returns the sizes of a training. `sample`: loads the model for one rollout, and counts its tokens."""
    from lllm.rl.training_file import trl_config

    training = file.training
    env, spec = training.env, training.spec
    args = trl_config(spec)
    rows = len(env.items.first())
    per_device = int(args.per_device_train_batch_size)
    accumulated = int(args.gradient_accumulation_steps)
    if spec.kind in ROLLOUTS:
        group, at_once = int(args.num_generations), int(args.generation_batch_size)
        batches = int(args.steps_per_generation) * int(args.num_iterations)  # that are made of one generation
        steps = _steps(args, rows // rows_at_once(args) * batches, accumulated)
        each = at_once * accumulated / batches
        of_rows = each / group
        rollouts = math.ceil(steps * accumulated / batches) * at_once
    elif getattr(spec, "data", None) is not None:
        return _plan_on_data(file, args)
    else:
        each, of_rows = 0.0, 0.0
        rollouts = rows * int(getattr(spec, "samples", 1))
        steps = _steps(args, math.ceil(rows / per_device), accumulated)
    measured, problem = _sample(training, args) if sample else (None, None)
    return TrainingPlan(
        environment=env.name,
        trainer=spec.kind,
        model=file.model_file.name or str(spec.model),
        parameters=file.model_file.parameters,
        adapter=spec.lora is not None,
        rows=rows,
        rollouts_per_step=each,
        rows_per_step=of_rows,
        steps=steps,
        rollouts=rollouts,
        memory=_memory(file, args, per_device, measured.tokens if measured is not None else None),
        output_dir=shown(file.output_dir),
        sample=measured,
        problem=problem,
    )


def _plan_on_data(file: TrainingFile, args: Any) -> TrainingPlan:
    """Returns the sizes of a training on given data. Texts are tokenised, which loads the model and its tokenizer."""
    from lllm.rl.data_rows import MASKS

    training = file.training
    data = training.data  # type: ignore[attr-defined]
    lengths, written = [], 0
    for row in data.rows:
        masks = [name for name in MASKS if name in row]
        prompt = len(row.get("prompt_ids") or ())
        lengths += [prompt + len(row[MASKS[name]]) for name in masks]
        written += sum(sum(row[name]) for name in masks)
    size = DataSize(data.kind, data.how, len(data), sum(lengths), max(lengths), written, dict(data.dropped))
    per_device = int(args.per_device_train_batch_size)
    steps = _steps(args, math.ceil(len(data) / per_device), int(args.gradient_accumulation_steps))
    return TrainingPlan(
        environment=training.env.name,
        trainer=training.spec.kind,
        model=file.model_file.name or str(training.spec.model),
        parameters=file.model_file.parameters,
        adapter=training.spec.lora is not None,
        rows=len(training.env.items.first()),
        rollouts_per_step=0.0,
        rows_per_step=0.0,
        steps=steps,
        rollouts=0,
        memory=_memory(file, args, per_device, size.longest),
        output_dir=shown(file.output_dir),
        data=size,
    )


def rows_at_once(args: Any) -> int:
    """Returns the number of rows in one generation of GRPO. Rows that are left over at the end of an epoch are not trained
    on."""
    return max(1, int(args.generation_batch_size) // int(args.num_generations))


def _steps(args: Any, batches: int, accumulated: int) -> int:
    """Returns the number of optimizer steps for a number of batches per epoch, as transformers counts them."""
    if args.max_steps > 0:
        return int(args.max_steps)
    return math.ceil(float(args.num_train_epochs) * max(1, math.ceil(batches / accumulated)))


def _memory(file: TrainingFile, args: Any, batch: int, tokens: int | None) -> int | None:
    """Returns an estimate in bytes: weights, gradients and two moments in full precision (those of an adapter are small), a
    second copy of the weights where there is a reference model, and three times the logits of a batch."""
    numbers = file.model_file.parameters
    if numbers is None:
        return None
    adapter = file.training.spec.lora is not None
    copies = 4 * (1 if adapter else 4)
    if not adapter and (getattr(args, "beta", None) or file.training.spec.kind in ("dpo", "kto")):
        copies += 4
    length = tokens or int(getattr(args, "max_completion_length", None) or 512)
    return numbers * copies + 3 * 4 * batch * length * _vocabulary(file)


def _vocabulary(file: TrainingFile) -> int:
    training = file.training
    if "parts" in vars(training):
        return int(training.parts[0].config.get_text_config().vocab_size)
    return 32_000


def _sample(training: Training, args: Any) -> tuple[Sample | None, str | None]:
    from lllm.log.memory import MemoryLog
    from lllm.rl.policy import PolicyBackend
    from lllm.rl.running import Task, seed_of
    from lllm.rl.trainers.rollouts import roll_out

    model, tokenizer = training.parts
    backend = PolicyBackend(model, tokenizer, batch=1)
    item = training.env.items.first(1)[0]
    kept, training.spec.store = training.spec.store, MemoryLog()
    limit: Any = getattr(args, "max_completion_length", None) or getattr(training.spec, "max_tokens", 256)
    try:
        task = Task(item, 0, seed_of(training.spec.seed, 0, item, 0), backend.version)
        (found,) = roll_out(training, backend, [task], "dry-run", temperature=1.0, max_tokens=int(limit))
    except LLMError as error:
        return None, error.message
    finally:
        training.spec.store = kept
    rollout = found.rollout
    if rollout.status == "missing":
        return None, f"the rollout is missing ({rollout.reason}): {rollout.detail}"
    rows = found.rows
    return Sample(
        tokens=max((len(row.ids) for row in rows), default=0),
        written=sum(row.loss_tokens for row in rows),
        rows=len(rows),
        turns=rollout.turns,
        seconds=round(rollout.seconds or 0.0, 3),
        reward=rollout.reward,
    ), None
