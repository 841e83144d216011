"""`lllm train`: trains a model as train.yaml says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lllm.cli import output
from lllm.cli.models import bytes_of, count
from lllm.cli.options import Json, Sets
from lllm.errors import ConfigError

if TYPE_CHECKING:
    from lllm.rl.training_plan import DataSize, TrainingPlan

INTERRUPTED = 130
"""The exit code of a program that Ctrl-C has ended."""


def train(
    config: Annotated[
        Path, typer.Option("--config", "-c", metavar="FILE", help="The training; see `lllm schema --train`.")
    ] = Path("train.yaml"),
    sets: Sets = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, do one rollout, print sizes; train nothing.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew although output_dir has checkpoints.")
    ] = False,
    json: Json = False,
) -> int:
    """Train a model in an environment. Ctrl-C ends it after the running step, with a checkpoint."""
    from lllm.config.layer import shown
    from lllm.rl.training_file import TrainingFile

    file = TrainingFile(config, sets or ())
    training = file.training
    _look_at(file.output_dir, config, resume=resume, overwrite=overwrite or dry_run)
    check = training.checked()
    file.check_gguf()
    if not json and check is not None:
        output.say(str(check))
    if dry_run:
        from lllm.rl.training_plan import plan_training

        plan = plan_training(file)
        if json:
            output.data(plan.record())
        else:
            output.table(("WHAT", ""), _told(plan))
        return 0
    from lllm.rl.training_plan import ROLLOUTS
    from lllm.rl.training_run import train as run

    kind = file.data.get("gguf")
    with training.alone():
        if overwrite:
            _clear(file.output_dir)
        result, stopping = run(training, say=output.say, resume=resume)
        model = file.output_dir
        if training.spec.lora is not None:
            model = training.save_merged(file.output_dir / "merged")
        if kind is not None:
            training.export_gguf(file.output_dir / "model.gguf", kind=kind)
    step, steps = int(result.global_step), int(training.trainer.state.max_steps)
    stopped = stopping.stopped and step < steps
    folder = shown(file.output_dir)
    told = {
        "output_dir": folder,
        "step": step,
        "steps": steps,
        "stopped": stopped,
        "model": f"transformers/{shown(model)}",
        "gguf": f"{folder}/model.gguf" if kind is not None else None,
        "metrics": {key: value for key, value in result.metrics.items() if isinstance(value, int | float)},
    }
    if json:
        output.data(told)
    else:
        has_rollouts = training.spec.kind in ROLLOUTS
        for line in _end(told, config, stopping.rewards, file.data["environment"], has_rollouts):
            output.text(line)
    return INTERRUPTED if stopped else 0


def _look_at(folder: Path, config: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuses to go on where there is nothing, and to begin where something is."""
    from lllm.cli.files import can_be_written
    from lllm.config.layer import shown
    from lllm.rl.trainers.folder import last_checkpoint, name_of

    can_be_written(folder / "README.md")
    last = last_checkpoint(folder) if folder.is_dir() else None
    if resume and last is None and name_of(folder) is None:
        raise ConfigError(
            f"there is no training in {shown(folder)} to go on with",
            hint=f"To begin: lllm train --config {config}",
        )
    if last is not None and not resume and not overwrite:
        raise ConfigError(
            f"{shown(folder)} holds a training already ({last.name})",
            hint="Go on with it: --resume. Begin anew: --overwrite, or --set output_dir=OTHER.",
        )


def _clear(folder: Path) -> None:
    """Removes the checkpoints of a training that is begun anew: `--resume` would go on from them."""
    import shutil

    from lllm.rl.trainers.folder import checkpoints

    for path in checkpoints(folder):
        shutil.rmtree(path)


def _told(plan: TrainingPlan) -> list[tuple[str, str]]:
    rollouts, rows_of = f"{plan.rollouts_per_step:g}", f"{plan.rows_per_step:g}"
    per_step = f"{rollouts} rollouts, of {rows_of} row{'' if rows_of == '1' else 's'}"
    rows: list[tuple[str, str | None]] = [
        ("environment", f"{plan.environment}: {output.counted(plan.rows, 'row')}"),
        ("trainer", plan.trainer + (", an adapter alone" if plan.adapter else "")),
        ("model", f"{plan.model}: {count(plan.parameters) or 'unknown'} parameters"),
        ("steps", str(plan.steps)),
        ("each step", per_step if plan.rollouts_per_step else None),
        ("rollouts", f"{plan.rollouts:,} in all" if plan.data is None else None),
        ("one rollout", _sampled(plan) if plan.data is None else None),
        ("data", None if plan.data is None else _on_data(plan.data)),
        ("left out", None if plan.data is None else _left_out(plan.data)),
        ("memory", None if plan.memory is None else f"about {bytes_of(plan.memory)}"),
        ("written to", plan.output_dir),
    ]
    return [(name, value) for name, value in rows if value is not None]


def _on_data(data: DataSize) -> str:
    words = (
        f"{data.rows:,} {data.kind}, {data.tokens:,} tokens, {data.written:,} of them trained on, at most "
    )
    return f"{words}{data.longest:,} in a row ({data.how})"


def _left_out(data: DataSize) -> str | None:
    from lllm.rl.training_data import DROPPED

    words = [f"{count:,}: {DROPPED.get(reason, reason)}" for reason, count in data.dropped.items()]
    return "; ".join(words) or None


def _sampled(plan: TrainingPlan) -> str:
    one = plan.sample
    if one is None:
        return f"could not be measured: {plan.problem}"
    words = f"{one.tokens:,} tokens, {one.written:,} of them written, in {one.seconds:.2f} s"
    return words + f"; {output.counted(one.rows, 'training row')}, {output.counted(one.turns, 'turn')}"


def _end(
    told: dict[str, Any], config: Path, rewards: list[float], environment: str, has_rollouts: bool
) -> list[str]:
    folder = told["output_dir"]
    if told["stopped"]:
        return [
            f"stopped after step {told['step']} of {told['steps']}; its checkpoint and model are in {folder}",
            f"To go on: lllm train --config {config} --resume",
        ]
    lines = [f"{output.counted(told['step'], 'step')}; the model is in {folder}"]
    if len(rewards) > 1:
        from lllm.rl.trainers.reports import first_and_last

        first, last = first_and_last(rewards)
        lines.append(f"reward of its rollouts: {first:.3f} at first, {last:.3f} at last")
    if not rewards and has_rollouts:
        lines.append("none of its rollouts had a reward: the model has learned nothing")
    lines.append(f"Try it: lllm rl run {environment} --model {told['model']}")
    if told["gguf"]:
        lines.append(f"On llama.cpp: --model llama_cpp/{told['gguf']}")
    return lines
