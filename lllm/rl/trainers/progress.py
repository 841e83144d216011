"""The progress of a training: a line on stderr whenever metrics are logged."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, TextIO

from transformers import TrainerCallback

from lllm.core.visible import visible_line
from lllm.terminals import show

_SHOWN: Final[Sequence[tuple[str, str, str]]] = (
    # metric, what it is called, its format
    ("reward", "reward", "{:.3f}"),
    ("rewards/accuracies", "pairs in order", "{:.0%}"),
    ("rewards/margins", "margin", "{:.3f}"),
    ("kl", "kl", "{:.4f}"),
    ("entropy", "entropy", "{:.3f}"),
    ("completions/mean_length", "tokens", "{:.0f}"),
    ("rollouts/turns", "turns", "{:.1f}"),
    ("frac_reward_zero_std", "silent groups", "{:.0%}"),
    ("rollouts/missing", "missing", "{:.0%}"),
    ("rollouts/cut", "cut", "{:.0%}"),
    ("loss", "loss", "{:.4f}"),
)


def line(step: int, steps: int, metrics: Mapping[str, Any]) -> str | None:
    """Returns the line for the metrics of a step; None where they contain none of the shown ones."""
    words = []
    for name, called, form in _SHOWN:
        value = _number(metrics.get(name))
        if value is None or (called in ("missing", "cut", "silent groups") and not value):
            continue
        words.append(f"{called} {form.format(value)}")
        if name == "reward":
            parts = [
                f"{key.removeprefix('rewards/').removesuffix('/mean')} {part:.3f}"
                for key, shown in metrics.items()
                if key.startswith("rewards/")
                and key.endswith("/mean")
                and (part := _number(shown)) is not None
            ]
            if len(parts) > 1:
                words[-1] += f" ({', '.join(parts)})"
    if not words:
        return None
    return f"step {step}{f'/{steps}' if steps > 0 else ''}  " + "  ".join(words)


def _number(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if found == found else None


class Progress(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Writes the lines, to stderr unless another stream is given."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any
    ) -> None:
        """See `transformers.TrainerCallback`."""
        found = line(state.global_step, state.max_steps, logs or {})
        if found is not None:
            show(
                self._stream or sys.stderr, visible_line(found) + "\n"
            )  # a terminal that is gone ends no training
