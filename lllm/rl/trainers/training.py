"""Trainings: an environment together with a trainer."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lllm.errors import ConfigError, DependencyError, LLMError, text_of
from lllm.llm.agent import Agent
from lllm.rl.evaluation import Evaluation
from lllm.rl.isolation.processes import SharedProcesses
from lllm.rl.trainers import folder as folders

if TYPE_CHECKING:
    from lllm.rl.checking import Check
    from lllm.rl.environment import RLEnv
    from lllm.rl.trainers.spec import TrainerSpec


class Training:
    """A training: the result of `env >> GRPO(model)`. Nothing is loaded before it is needed.

    Attributes:
        env: the environment. spec: the trainer. trainer: TRL's own, built when it is first used.
        samples: whether the model does rollouts.
    """

    samples: bool = True

    def __init__(self, env: RLEnv, spec: TrainerSpec) -> None:
        self.env = env
        self.spec = spec
        self._check: Check | None = None
        self._alone = False

    @cached_property
    def parts(self) -> tuple[Any, Any]:
        """The model that is trained, and its tokenizer."""
        need_packages()
        from lllm.rl.trainers.models import open_model

        model, tokenizer = open_model(self.spec.model, self.spec.tokenizer)
        if self.samples and not tokenizer.chat_template:
            raise ConfigError(
                "the model has no chat template, so it is not said how it reads a conversation",
                hint="Put a chat_template.jinja into its folder, or set tokenizer.chat_template.",
            )
        return model, tokenizer

    @cached_property
    def trainer(self) -> Any:
        """The trainer of TRL."""
        need_packages()
        from lllm.rl.trainers.grpo import build_grpo

        with building():
            made = build_grpo(self)
        return self.with_callbacks(made)

    def with_callbacks(self, trainer: Any) -> Any:
        """Returns a trainer of TRL with the callbacks of the spec."""
        for one in self.spec.callbacks:
            trainer.add_callback(one)
        return trainer

    @property
    def policy_backend(self) -> Any:
        """The policy in training as a backend: a PolicyBackend."""
        return self.trainer.policy_backend

    @property
    def step(self) -> int:
        """Optimizer steps so far."""
        return int(self.trainer.state.global_step)

    def train(self, **more: Any) -> Any:
        """Looks at the rewards (`env.check()`), trains, and saves; returns what TRL's `train` returns.
        `resume_from_checkpoint=True` goes on from the last checkpoint; where there is none yet, with the rollouts that were
        finished.

        Raises ConfigError where something else than the task pays, unless `force` was given; where another process trains in
        `output_dir`; where there is nothing to go on with.
        """
        with self.alone(), SharedProcesses(self.env):
            self.checked()
            result = self.trainer.train(**self._begin(**more))
            self.save()
        return result

    @cached_property
    def run(self) -> str:
        """The name of its rollouts' runs."""
        return folders.new_name()

    @property
    def folder(self) -> Path:
        """The folder that everything is written to."""
        return Path(self.spec.output_dir)

    def _begin(self, *, resume_from_checkpoint: Any = None, **more: Any) -> dict[str, Any]:
        """Gives the training its name, a new one unless it goes on; returns the arguments of TRL's `train`."""
        if not resume_from_checkpoint:
            folders.write_name(self.folder, self.run)
            return more
        known, place = folders.name_of(self.folder), resume_from_checkpoint
        if place is True:  # transformers would take one that was not written to its end
            place = folders.last_checkpoint(self.folder)
            if place is None and known is None:
                raise ConfigError(
                    f"there is no training in {self.folder} to go on with",
                    hint="To begin one: train(), without resume_from_checkpoint.",
                )
        if known is not None:
            self.run = known  # before anything is sampled
        if place is not None:
            self._has_steps_left(Path(place))
            more["resume_from_checkpoint"] = str(place)
        folders.write_name(self.folder, self.run)
        return more

    def _has_steps_left(self, checkpoint: Path) -> None:
        """Refuses a training that is at its end: transformers would do one step more, each time."""
        done, args = folders.state_of(checkpoint), self.trainer.args
        step = int(done.get("global_step", 0))
        if args.max_steps > 0:
            left = args.max_steps > step
        else:
            longer = args.num_train_epochs > float(done.get("num_train_epochs", 0))
            left = longer or int(done.get("max_steps", 0)) > step
        if not left:
            raise ConfigError(
                f"the training in {self.folder} has done all of its {step} steps",
                hint="To go on for longer, set max_steps (or num_train_epochs) higher.",
            )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else trains in `output_dir` meanwhile. Raises ConfigError where somebody does."""
        if self._alone:
            yield
            return
        with folders.alone(self.folder):
            self._alone = True
            try:
                yield
            finally:
                self._alone = False

    def checked(self) -> Check | None:
        """Returns the result of `env.check()`, which is done once. Raises ConfigError where there is a problem, unless `force`
        was given."""
        if self.spec.force:
            return None
        if self._check is None:
            self._check = self.env.check()
        if not self._check.ok:
            raise ConfigError(
                f"the rewards of '{self.env.name}' pay for something else than the task:\n{self._check}",
                hint="Mend them, or train all the same: force=True.",
            )
        return self._check

    def save(self, folder: str | Path | None = None) -> Path:
        """Writes the model and its tokenizer, curves of the training (rewards.png), rollouts of its first and last batch
        (samples.md) and a card of where the model comes from (README.md) to a folder; by default `output_dir`."""
        from lllm.rl.trainers.reports import write_card, write_plot, write_samples

        place = Path(folder or self.folder)
        place.mkdir(parents=True, exist_ok=True)
        self.trainer.save_model(str(place))
        self.parts[1].save_pretrained(str(place))
        write_plot(self.trainer.state.log_history, place / "rewards.png", self.env.name)
        write_samples(self.trainer, place / "samples.md")
        write_card(self, place / "README.md")
        return place

    def save_merged(self, folder: str | Path) -> Path:
        """Writes the current model, with its adapter merged into the weights, and its tokenizer to a folder that runs as any
        model does. The model in training keeps its adapter."""
        place = Path(folder)
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        merged = copy.deepcopy(model).merge_and_unload() if self.spec.lora is not None else model
        merged.save_pretrained(str(place))
        self.parts[1].save_pretrained(str(place))
        return place

    def export_gguf(self, path: str | Path, *, kind: str = "Q8_0", name: str | None = None) -> Path:
        """Writes the current model as one GGUF file for llama.cpp, with adapters merged. See
        `lllm.backends.gguf_writer.write_gguf`."""
        from lllm.backends.gguf_writer import write_gguf

        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        return write_gguf(model, path, kind=kind, tokenizer=self.parts[1], name=name)

    def check_gguf(self) -> None:
        """Raises ConfigError for a model or a tokenizer that `export_gguf` would refuse. Loads the model."""
        from lllm.backends.gguf_writer import check_gguf

        model, tokenizer = self.parts
        check_gguf(model, tokenizer=tokenizer)

    def evaluate(self, rows: Any = None, **more: Any) -> Evaluation:
        """Evaluates the current model, greedily unless a `temperature` is given. See `RLEnv.arollouts`."""
        from lllm.rl.trainers.rollouts import evaluate

        return evaluate(self, rows, **more)

    def policy(self, backend: Any) -> Any:
        """Returns the policy of rollouts on a backend: the agent, or the model alone."""
        from lllm.llm.model import LLM

        agent = self.spec.agent
        if agent is None:
            return LLM(backend)
        if not isinstance(agent, Agent):
            raise ConfigError(f"agent is {type(agent).__name__}, and must be an Agent")
        return agent.with_(model=backend)


@contextmanager
def building() -> Iterator[None]:
    """Makes what libraries say of settings, as they build a trainer, a ConfigError."""
    try:
        yield
    except LLMError:
        raise
    except (ValueError, TypeError, RuntimeError, ImportError) as error:
        words = " ".join(text_of(error).split())
        raise ConfigError(f"the trainer cannot be built: {words[:500]}") from error


def need_packages() -> None:
    """Raises DependencyError where a package that training needs is not installed."""
    import importlib.util

    for package in ("torch", "transformers", "trl", "datasets"):
        if importlib.util.find_spec(package) is None:
            raise DependencyError(package, "rl", "training")
    from huggingface_hub import constants

    # TRL tells its hub of each trainer that is built; the variable is read when the hub's client is imported
    if os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1").upper() in constants.ENV_VARS_TRUE_VALUES:
        constants.HF_HUB_DISABLE_TELEMETRY = True
