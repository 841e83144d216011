"""Reports of a training: curves, sample rollouts, and a card that says where the model comes from."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lllm._version import __version__
from lllm.atomic_files import write_text_atomic
from lllm.backends.local.packages import version_of
from lllm.core.canonical import digest_of

if TYPE_CHECKING:
    from lllm.rl.rollout import Rollout
    from lllm.rl.trainers.training import Training

_CURVES: Final[Sequence[tuple[str, Sequence[str]]]] = (
    # title, names of metrics (a * stands for the name of a reward)
    ("reward", ("reward", "rewards/*/mean")),
    ("loss", ("loss",)),
    ("pairs", ("rewards/accuracies", "rewards/margins")),
    ("groups without signal", ("frac_reward_zero_std",)),
    ("rollouts lost and cut", ("rollouts/missing", "rollouts/cut")),
    ("tokens written", ("completions/mean_length",)),
    ("KL and entropy", ("kl", "entropy")),
    ("drift of log-probabilities", ("sampling/drift_max", "sampling/drift_mean")),
)

_TOLD: Final = ("reward", "loss", "rewards/accuracies", "rewards/margins")
"""The metrics in the card, besides the rewards."""


def curves(history: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Returns the metrics of a training by name, each as (step, value)."""
    found: dict[str, list[tuple[int, float]]] = {}
    for entry in history:
        for name, value in entry.items():
            if name in ("step", "epoch") or isinstance(value, bool):
                continue
            try:
                number = float(value)
            except (TypeError, ValueError):
                continue
            found.setdefault(name, []).append((int(entry.get("step", 0)), number))
    return found


def first_and_last(values: Sequence[float]) -> tuple[float, float]:
    """Returns the means of the first and of the last fifth of a curve's values, which are one or more."""
    fifth = max(1, len(values) // 5)
    return statistics.fmean(values[:fifth]), statistics.fmean(values[-fifth:])


def write_plot(history: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Writes the curves of a training as a PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    found = curves(history)
    shown = []
    for heading, names in _CURVES:
        own = [
            name
            for name in found
            for wanted in names
            if name == wanted or ("*" in wanted and _matches(name, wanted))
        ]
        if own:
            shown.append((heading, own))
    if not shown:
        return
    figure = Figure(figsize=(9, 2.4 * len(shown)), layout="constrained")
    figure.suptitle(title)
    for axes, (heading, names) in zip(
        figure.subplots(len(shown), 1, squeeze=False)[:, 0], shown, strict=True
    ):
        for name in names:
            axes.plot(*zip(*found[name], strict=True), label=name, linewidth=2 if name == "reward" else 1)
        axes.set_title(heading, fontsize=9, loc="left")
        axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, format="png")


def _matches(name: str, wanted: str) -> bool:
    first, _, last = wanted.partition("*")
    return name.startswith(first) and name.endswith(last) and len(name) > len(first) + len(last)


def write_samples(trainer: Any, path: Path, count: int = 4) -> None:
    """Writes rollouts of the first and of the last batch of a trainer that keeps them, as Markdown."""
    parts = []
    for heading, batch in (("first", getattr(trainer, "first", ())), ("last", getattr(trainer, "last", ()))):
        if batch:
            parts += [f"# Rollouts of the {heading} batch", ""]
            parts += [sample(one.rollout) for one in batch[:: max(1, len(batch) // count)][:count]]
    if parts:
        write_text_atomic(path, "\n".join(parts))


def sample(rollout: Rollout) -> str:
    """Returns a rollout as Markdown. Messages stand in fences that are longer than any fence within them."""
    components = ", ".join(
        f"{name} {'-' if value is None else format(value, 'g')}" for name, value in rollout.components.items()
    )
    reward = "none" if rollout.reward is None else format(rollout.reward, "g")
    lines = [f"## Row {rollout.item.index}, sample {rollout.sample}: reward {reward}", ""]
    lines += [f"{rollout.status}{f' ({rollout.reason})' if rollout.reason else ''}; {components}", ""]
    said = [("prompt", rollout.item.text)]
    for message in rollout.messages:
        calls = "\n".join(f"{call.name}({call.arguments})" for call in message.tool_calls)
        said.append((message.role, "\n".join(part for part in (message.text, calls) if part)))
    for role, text in said:
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
        lines += [f"{role}:", "", f"{fence}text", text, fence, ""]
    return "\n".join(lines)


def write_card(training: Training, path: Path) -> None:
    """Writes a model card: base model, environment, settings, and the rewards during the training."""
    write_text_atomic(path, card(training))


def card(training: Training) -> str:
    """Returns the text of the card."""
    env, spec, trainer = training.env, training.spec, training.trainer
    items = env.items.first()
    history = curves(trainer.state.log_history)
    lines = [
        "---",
        "library_name: transformers",
        "tags: [lllm, reinforcement-learning, trl]",
        "---",
        "",
        f"# A model trained in the environment `{env.name}`",
        "",
        "| | |",
        "|---|---|",
        f"| base model | `{_base(spec.model)}` |",
        f"| trainer | {type(spec).__name__}, of TRL {version_of('trl')}, on rollouts of lllm {__version__} |",
        f"| steps | {trainer.state.global_step} |",
        f"| seed | {spec.seed} |",
        f"| version of the policy | `{training.policy_backend.version}` |",
        f"| rows | {len(items)}, digest `{digest_of([item.key for item in items])}` |",
        f"| rewards | {', '.join(f'{one.name} (weight {one.weight:g}, version {one.version})' for one in env.rewards)} |",
        f"| tools | {', '.join(tool.name for tool in env.tools) or 'none'} |",
        f"| turns at most | {env.max_turns} |",
        f"| torch, transformers | {version_of('torch')}, {version_of('transformers')} |",
        "",
        "## On the way",
        "",
        "Means over the first and the last fifth of the steps, on the rows of the training. How good the model is on other",
        "rows, `training.evaluate(held_out)` measures.",
        "",
        "| | first | last |",
        "|---|---|---|",
    ]
    for name, values in history.items():
        if name in _TOLD or (name.startswith("rewards/") and name.endswith("/mean")):
            numbers = [value for _, value in values]
            first, last = first_and_last(numbers)
            lines.append(f"| {name} | {first:.3f} | {last:.3f} |")
    lines += ["", "![Curves of the training](rewards.png)", ""]
    if (data := vars(training).get("data")) is not None:
        lines += [
            f"It was trained on {len(data)} rows of {data.kind}, which `data/README.md` tells the origin of: {data.how}.",
            "",
        ]
    if (store := getattr(trainer, "sessions_name", None)) is not None:
        lines += [f"Rollouts are logged in sessions whose names begin with `{store}`.", ""]
    lines += [
        "## Configuration",
        "",
        "```json",
        json.dumps(spec.config, indent=1, default=str),
        "```",
        "",
    ]
    return "\n".join(lines)


def _base(model: Any) -> str:
    if isinstance(model, str):
        return Path(model).name
    return str(getattr(getattr(model, "config", None), "_name_or_path", "") or type(model).__name__)
