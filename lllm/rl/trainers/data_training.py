"""Trainings on data: rollouts are done, and data chosen from them, before TRL's trainer is built."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lllm.errors import ConfigError
from lllm.rl.running import Task, seed_of
from lllm.rl.samples import Sample, samples_of
from lllm.rl.trainers.data_spec import check_wanted
from lllm.rl.trainers.given import read_given
from lllm.rl.trainers.local import without_deprecations
from lllm.rl.trainers.signs import Unscored
from lllm.rl.trainers.training import Training, building
from lllm.rl.training_data import TrainingData

if TYPE_CHECKING:
    from lllm.rl.checking import Check
    from lllm.rl.environment import RLEnv
    from lllm.rl.trainers.data_spec import DataSpec


class DataTraining(Training):
    """A training on data: the result of `env >> DPO(model)`. `train()` writes the data and their card to `output_dir/data`; a
    resumed training reads them from there."""

    spec: DataSpec

    def __init__(self, env: RLEnv, spec: DataSpec) -> None:
        super().__init__(env, spec)
        self._resumed = False
        self.samples = spec.data is None

    @property
    def place(self) -> Path:
        """The folder that the data are written to."""
        return self.folder / "data"

    @cached_property
    def data(self) -> TrainingData:
        """The training data. Raises ConfigError where none are left, or where they are of another kind."""
        spec = self.spec
        if self._resumed and (self.place / "data.jsonl").is_file():
            return TrainingData.load(self.place)
        found = self._sampled() if spec.data is None else read_given(self)
        check_wanted(type(spec), found.kind)
        if not found.rows:
            left = (
                ", ".join(f"{count} {reason}" for reason, count in found.dropped.items())
                or "nothing was given"
            )
            hint = "See lllm.rl.training_data.DROPPED for what the reasons mean."
            if found.dropped.keys() == {"no reward"} and spec.data is not None and spec.wants == "examples":
                hint = "Sessions without a reward are imitated with best=None (config: {best: null})."
            raise ConfigError(f"no row is left to train on: {left}", hint=hint)
        return found

    def checked(self) -> Check | None:
        """See `Training.checked`. Given data are trained on without a look at the rewards, which they do not come from."""
        return super().checked() if self.spec.data is None else None

    def _sampled(self) -> TrainingData:
        from lllm.rl.trainers.rollouts import roll_out

        spec, items = self.spec, self.env.items.first(self.spec.first)
        if not items:
            raise ConfigError(f"the environment '{self.env.name}' has no rows to train on")
        backend = self.policy_backend
        tasks = [
            Task(item, sample, seed_of(spec.seed, 0, item, sample), backend.version)
            for item in items
            for sample in range(spec.samples)
        ]
        sampling = {"temperature": spec.temperature, "max_tokens": spec.max_tokens}
        trained = roll_out(
            self, backend, tasks, f"{self.env.name}-samples-{self.run}", progress=None, **sampling
        )
        Unscored().look(trained)
        dropped: Counter[str] = Counter()
        samples = samples_of(trained, _readable(spec.store), dropped, mask_cut=self.env.cut == "mask")
        if spec.control == "shuffled":
            samples = _shuffled(samples, spec.seed)
        found = spec.choose(samples)
        found.dropped = {**dropped, **found.dropped}
        found.how = f"{spec.samples} rollouts of each of {len(items)} rows at temperature {spec.temperature:g}; {found.how}"
        found.environments = found.environments or [self.env.name]
        return found

    @cached_property
    def policy_backend(self) -> Any:
        """The model as a backend. LoRA adapters are put into it in place."""
        from lllm.rl.policy import PolicyBackend

        model, tokenizer = self.parts
        found = PolicyBackend(model, tokenizer, batch=self.spec.concurrency)
        found.rest()
        return found

    @cached_property
    def trainer(self) -> Any:
        """The trainer of TRL."""
        model, _ = self.parts
        data = self.data  # by the model as it is, before TRL puts anything into it
        from transformers import PrinterCallback

        from lllm.rl.trainers import data_trainers
        from lllm.rl.trainers.progress import Progress

        with without_deprecations(), building():
            made = data_trainers.BUILDERS[self.spec.kind](self, model, data)
        made.add_callback(Progress())
        made.remove_callback(PrinterCallback)  # whole dicts on stdout
        return self.with_callbacks(made)

    def train(self, **more: Any) -> Any:
        """See `Training.train`."""
        with self.alone():
            self.checked()
            if more.get("resume_from_checkpoint") and "data" not in vars(self):
                self._resumed = True
            more = self._begin(**more)
            trainer = self.trainer
            self.data.save(self.place)
            with without_deprecations():
                result = trainer.train(**more)
            self.policy_backend.updated(self.step)
            self.save()
        return result

    @property
    def step(self) -> int:
        """Optimizer steps so far."""
        return int(self.trainer.state.global_step) if "trainer" in vars(self) else 0


def _shuffled(samples: list[Sample], seed: int) -> list[Sample]:
    """Returns the samples with the rewards shuffled within each row, as a control."""
    rows: dict[Any, list[int]] = {}
    for place, one in enumerate(samples):
        rows.setdefault(one.asked, []).append(place)
    found = list(samples)
    for key, places in rows.items():
        rewards = [samples[place].reward for place in places]
        random.Random(f"{seed} {key}").shuffle(rewards)
        for place, reward in zip(places, rewards, strict=True):
            found[place] = replace(samples[place], reward=reward)
    return found


def _readable(store: Any) -> Any:
    return None if isinstance(store, str) else store
