"""A training of the command line: its progress, and its end where a person ends it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from transformers.utils import logging

SHOWN: Final[Mapping[str, tuple[str, str]]] = {
    # metric: what it is called, and how it is written
    "reward": ("reward", ".3f"),
    "loss": ("loss", ".4f"),
    "kl": ("kl", ".4f"),
    "completions/mean_length": ("tokens", ".0f"),
    "rollouts/turns": ("turns", ".1f"),
    "rollouts/cut": ("cut", ".0%"),
    "rollouts/missing": ("missing", ".0%"),
    "frac_reward_zero_std": ("no signal", ".0%"),
    "sampling/drift_max": ("drift", ".1e"),
}
"""The metrics of a line of progress; the components of the reward stand behind it."""


class Progress(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Says a line at each logged step, and ends the training after a step where it was asked to.

    Args:
        say: takes a line. before: the rewards of the first logged steps are kept for a comparison.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.stopped = False
        self.rewards: list[float] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """A line of the metrics."""
        if not logs or "train_runtime" in logs:
            return
        if "reward" in logs:
            self.rewards.append(float(logs["reward"]))
        self.say(line(state.global_step, state.max_steps, logs))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ends here, with a checkpoint, where a person asked for it."""
        if self.stopped:
            control.should_training_stop = True
            control.should_save = True


def line(step: int, steps: int, logs: Mapping[str, Any]) -> str:
    """The metrics of a step in one line."""
    parts = [f"step {step}/{steps}"]
    for key, (name, form) in SHOWN.items():
        if key in logs:
            parts.append(f"{name} {float(logs[key]):{form}}")
    components = [key for key in logs if key.startswith("rewards/") and key.endswith("/mean")]
    if len(components) > 1:
        parts += [f"{key.split('/')[1]} {float(logs[key]):.3f}" for key in components]
    return "  ".join(parts)


def train(training: Any, *, say: Callable[[str], None], resume: bool = False) -> tuple[Any, Progress]:
    """Trains with progress. The first Ctrl-C ends it after the running step, with a checkpoint; the second at once."""
    progress = Progress(say)
    trainer = training.trainer
    for other in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(other)
    trainer.add_callback(progress)
    with _interruptible(progress), _without_bars():
        result = training.train(**({"resume_from_checkpoint": True} if resume else {}))
    return result, progress


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keeps the bars of transformers, one per file that is written, from between the lines."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def _interruptible(progress: Progress) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(number: int, frame: Any) -> None:
        if progress.stopped:
            raise KeyboardInterrupt
        progress.stopped = True
        progress.say("stopping after this step, with a checkpoint; Ctrl-C again stops at once, without one")

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint in a folder; None where it has none."""
    found = checkpoints(folder)
    return found[-1] if found else None


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    found = [
        (int(path.name.rpartition("-")[2]), path)
        for path in folder.glob("checkpoint-*")
        if path.name.rpartition("-")[2].isdigit() and (path / "trainer_state.json").is_file()
    ]
    return [path for _, path in sorted(found)]
