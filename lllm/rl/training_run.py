"""A training of the command line: stopping it by Ctrl-C, and its checkpoints."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from transformers import TrainerCallback
from transformers.utils import logging


class Stopping(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Ends a training after the running step, with a checkpoint, once it was asked to.

    Attributes:
        stopped: whether it was. rewards: those of the logged steps.
    """

    def __init__(self) -> None:
        self.stopped = False
        self.rewards: list[float] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Notes the reward."""
        if logs and "reward" in logs:
            self.rewards.append(float(logs["reward"]))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ends the training where a person asked for it."""
        if self.stopped:
            control.should_training_stop = True
            control.should_save = True


def train(training: Any, *, say: Callable[[str], None], resume: bool = False) -> tuple[Any, Stopping]:
    """Trains. The first Ctrl-C ends it after the running step, with a checkpoint; the second at once."""
    stopping = Stopping()
    training.spec.callbacks = (*training.spec.callbacks, stopping)
    with _interruptible(stopping, say), _without_bars():
        result = training.train(**({"resume_from_checkpoint": True} if resume else {}))
    return result, stopping


@contextmanager
def _without_bars() -> Iterator[None]:
    """Hides the progress bars of transformers, of which there is one for each file that is written."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def _interruptible(stopping: Stopping, say: Callable[[str], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(number: int, frame: Any) -> None:
        if stopping.stopped:
            raise KeyboardInterrupt
        stopping.stopped = True
        say("stopping after this step, with a checkpoint; Ctrl-C again stops at once, without one")

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
