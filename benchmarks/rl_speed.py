"""Measures the speed of rollouts with tools, beside TRL's own generation: the same model, tools, prompts and sampling, in one
run.

    python -m benchmarks.rl_speed --quick
    python -m benchmarks.rl_speed [--rounds 3] [--rollouts 64] [--slow 16]

Each round asks TRL's GRPOTrainer for a batch of rollouts with rewards, then ours without a log, then ours with one in SQLite;
the order turns from round to round. Medians, CPU of the process per rollout, and ratios. `--slow`: so many rollouts at once
whose tool takes 200 ms.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.rl import right, rows
from lllm import GRPO, RLEnv
from lllm.log.sqlite import SQLiteLog

GENERATIONS = 8
RESPONSE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "tool_calls": {
            "open": "<tool_call>",
            "close_pattern": r"</tool_call>\s*",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close_pattern": r"<\|im_end\|>\s*", "content": "text"},
    },
}
"""How TRL reads the embedded model's replies."""
PAUSE = 0.2


def calculator(expression: str) -> str:
    """Calculates.

    Args:
        expression: arithmetic.

    Returns:
        the result.
    """
    from benchmarks.rl import calculator as tool

    try:
        return str(tool(expression))
    except ValueError as error:
        return f"error: {error}"


def slow_calculator(expression: str) -> str:
    """Calculates.

    Args:
        expression: arithmetic.

    Returns:
        the result.
    """
    time.sleep(PAUSE)
    return calculator(expression)


def settings(folder: str, count: int) -> dict[str, Any]:
    return {
        "output_dir": folder,
        "per_device_train_batch_size": count,
        "num_generations": GENERATIONS,
        "max_completion_length": 64,
        "temperature": 1.0,
        "disable_tqdm": True,
        "logging_steps": 1000,
        "report_to": "none",
    }


def theirs(folder: str, count: int, tool: Callable[..., Any]) -> Any:
    """TRL's trainer, as its documentation has it."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from lllm.rl.trainers.defaults import ON_CPU
    from lllm.rl.trainers.local import Local, without_deprecations
    from lllm.rl.trainers.models import open_model

    class Theirs(Local, GRPOTrainer):  # type: ignore[misc]
        """TRL's own, which calls nobody."""

    def reward(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
        return [float(right(one[-1]["content"], own)) for one, own in zip(completions, answer, strict=True)]

    model, tokenizer = open_model("embedded")
    tokenizer.response_template = RESPONSE  # TRL knows the templates of some families only
    given = [{**row, "prompt": [{"role": "user", "content": row["prompt"]}]} for row in rows(count, "train")]
    with without_deprecations():
        return Theirs(
            model=model,
            args=GRPOConfig(**settings(folder, count), **ON_CPU, max_tool_calling_iterations=2),
            reward_funcs=[reward],
            train_dataset=Dataset.from_list(given),
            processing_class=tokenizer,
            tools=[tool],
        )


def ours(folder: str, count: int, tool: Callable[..., Any], store: Any) -> Any:
    env = RLEnv(rows(count, "train"), right, tools=[tool], max_turns=3, name="stories")
    return (env >> GRPO("embedded", store=store, concurrency=count, **settings(folder, count))).trainer


def batch(trainer: Any, count: int, ours_is: bool) -> list[dict[str, Any]]:
    """The rows of a batch of rollouts: each prompt so many times."""
    found = []
    for place in range(count // GENERATIONS):
        row = trainer.train_dataset[place]
        found += [dict(row) for _ in range(GENERATIONS)]
    return found


def measure(trainer: Any, count: int, step: int, ours_is: bool) -> tuple[float, float]:
    """Seconds, and seconds of CPU, of a batch of rollouts with their rewards."""
    import torch

    inputs = batch(trainer, count, ours_is)
    trainer.model.train()
    trainer.state.global_step = step
    torch.manual_seed(step)
    cpu, began = time.process_time(), time.monotonic()
    made = trainer._generate_and_score_completions(inputs)
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    assert made["completion_ids"].size(0) == count
    return seconds, cpu


def compare(
    rounds: int, count: int, tool: Callable[..., Any], with_log: bool = True
) -> dict[str, tuple[float, float]]:
    """Medians of rollouts per second and milliseconds of CPU per rollout, by contender."""
    import torch

    torch.set_num_threads(1)
    folder = tempfile.mkdtemp()
    makers: dict[str, Callable[[], Any]] = {
        "TRL": lambda: theirs(folder, count, tool),
        "lllm, log off": lambda: ours(folder, count, tool, "none"),
    }
    if with_log:
        makers["lllm, SQLite"] = lambda: ours(folder, count, tool, SQLiteLog(Path(folder) / "log.db"))
    made = {name: make() for name, make in makers.items()}
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in made}
    for round_ in range(rounds + 1):  # the first warms up
        names = list(made)
        for name in names[round_ % len(names) :] + names[: round_ % len(names)]:
            found = measure(made[name], count, round_ + 1, name != "TRL")
            if round_:
                figures[name].append(found)
    return {
        name: (
            statistics.median(count / seconds for seconds, _ in values),
            statistics.median(1000 * cpu / count for _, cpu in values),
        )
        for name, values in figures.items()
    }


def show(title: str, found: dict[str, tuple[float, float]]) -> None:
    print(title)
    rate, cpu = found["TRL"]
    for name, (own_rate, own_cpu) in found.items():
        print(
            f"  {name:16} {own_rate:7.1f} rollouts/s  {own_cpu:7.1f} ms of CPU  "
            f"{own_rate / rate:5.2f} times TRL's rate, {own_cpu / cpu:4.2f} of its CPU",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rollouts", type=int, default=64)
    parser.add_argument("--slow", type=int, default=16)
    parser.add_argument("--quick", action="store_true", help="one round of fewer rollouts")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.rollouts = 1, 16
    print(f"load {os.getloadavg()[0]:.1f}, one thread of torch")
    show(
        f"{options.rollouts} rollouts at once",
        compare(options.rounds, options.rollouts, calculator),
    )
    show(
        f"{options.slow} rollouts at once, whose tool takes {PAUSE * 1000:.0f} ms",
        compare(options.rounds, options.slow, slow_calculator, with_log=False),
    )


if __name__ == "__main__":
    main()
