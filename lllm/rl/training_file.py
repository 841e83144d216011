"""train.yaml: a training as a file. All its problems are found before a model is loaded."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lllm.config.layer import Layer, put
from lllm.config.overrides import overrides_layer
from lllm.config.problems import Problems, errors_within, placed, raise_errors
from lllm.config.rl_keys import TRAIN
from lllm.config.validate import validate
from lllm.config.yaml_source import read_yaml
from lllm.errors import ConfigError, DependencyError, LLMError, UnknownKeyError, UnknownNameError

if TYPE_CHECKING:
    from lllm.backends.gguf_file import ModelFile
    from lllm.rl.environment import RLEnv
    from lllm.rl.trainers import Training

CONFIGS: Final[Mapping[str, str]] = {
    "grpo": "GRPOConfig",
    "rloo": "GRPOConfig",
    "sft": "SFTConfig",
    "dpo": "DPOConfig",
    "kto": "KTOConfig",
}
"""TRL's config class of each trainer."""

CHECKPOINTS: Final[Mapping[str, Any]] = {
    "save_strategy": "steps",
    "save_steps": 10,
    "save_total_limit": 2,
}
"""A training of the command line can be gone on with. The file's own settings come before these."""

OURS: Final[Mapping[str, str]] = {
    "output_dir": "output_dir",
    "seed": "seed",
    "model": "model",
    "lora": "lora",
    "agent": "agent",
    "concurrency": "concurrency",
    "store": "store",
    "force": "force",
    "tokenizer": "model",
    "data": "data",
}
"""Names that do not stand below `config`, with the key that they have."""


class TrainingFile:
    """The settings of train.yaml, overridden by those of the command line.

    Attributes:
        path: the file. data: its keys, checked.
    """

    def __init__(self, path: str | Path, overrides: Iterable[str] = ()) -> None:
        self.path = Path(path)
        self._problems = Problems()
        self._agent_entry: dict[str, Any] | None = None
        if not self.path.is_file():
            raise ConfigError(
                f"there is no file {self.path}",
                hint="Write one (docs/guides/training.md), or name it: lllm train --config FILE.",
            )
        self._layer = validate(read_yaml(self.path, self._problems), TRAIN, self._problems)
        given = validate(
            overrides_layer(overrides, Path.cwd(), self._problems), TRAIN, self._problems, written=False
        )
        _over(self._layer, given)
        self.data = self._layer.data
        if "environment" not in self.data and not self._problems.errors:
            self._problems.add(
                ConfigError("names no environment", hint="Write environment: NAME.", where=f"{self.path}:1")
            )

    def get(self, name: str) -> Any:
        """Returns the value of a key, else its default."""
        default = getattr(TRAIN[name], "default", None)
        return self.data.get(name, default)

    @property
    def output_dir(self) -> Path:
        """The folder that everything is written to."""
        given = self.data.get("output_dir")
        return Path(given) if given else (self.path.parent / str(self.get("output_dir"))).absolute()

    @cached_property
    def training(self) -> Training:
        """Returns the training; loads nothing. Raises ConfigError with all problems, each with its line."""
        from lllm.rl.trainers.training import need_packages

        need_packages()
        found = self._problems
        env: RLEnv | None = self._guarded(("environment",), self._environment)
        kind: Any = self._guarded(("trainer",), self._kind)
        model: Any = self._guarded(("model",), self._model)
        agent: Any = self._guarded(("agent",), self._agent) if "agent" in self.data else None
        data: Any = self._guarded(("data",), lambda: self._data(kind)) if "data" in self.data else None
        self._guarded(("lora",), self._lora)
        spec: Any = None
        if kind is not None:
            self._check_config(kind)
            if not found.errors:
                spec = self._guarded(("config",), lambda: self._spec(kind, model, agent, data))
        if spec is not None and env is not None:
            args = self._guarded(("config",), lambda: trl_config(spec))
            self._guarded(("config",), lambda: _can_be_watched(env, spec, args))
            if args is not None:
                self._guarded(("environment",), lambda: _has_rows(env, args))
        raise_errors(list(found), str(self.path))
        assert env is not None
        made: Training = env >> spec
        return made

    def check_gguf(self) -> None:
        """Raises ConfigError, with its line, where `gguf` is set and the trained model could not be written as GGUF. Loads the
        model."""
        if "gguf" in self.data:
            _ = self.training.parts
            self._guarded(("gguf",), self.training.check_gguf)
            raise_errors(list(self._problems), str(self.path))

    @cached_property
    def model_file(self) -> ModelFile:
        """Returns the file of the model, without loading it."""
        from lllm.backends.gguf_file import read

        return read(self._model_path())

    def _guarded(self, path: tuple[str, ...], make: Any) -> Any:
        try:
            return make()
        except DependencyError:
            raise
        except ConfigError as error:
            for one in errors_within(error):
                self._problems.add(placed(one, self._layer.at(path)))
        except LLMError as error:
            self._problems.add(ConfigError(error.message, hint=error.hint, where=self._layer.at(path)))
        except (TypeError, ValueError, RuntimeError, ImportError) as error:  # of TRL's config class
            words = " ".join(str(error).split())
            self._problems.add(ConfigError(words, where=self._layer.at(path)))
        return None

    # --- the parts

    def _environment(self) -> Any:
        from lllm.rl.named import environment

        if "environment" not in self.data:
            return None  # a problem already
        return environment(self.data["environment"], self.path.parent)

    def _kind(self) -> Any:
        kinds = trainer_kinds()
        name = str(self.get("trainer")).lower()
        if name not in kinds:
            raise UnknownNameError("trainer", name, kinds)
        if name not in CONFIGS:
            kinds[name]()  # says why it cannot be trained with
        return kinds[name]

    def _model_path(self) -> Path:
        from lllm.backends.embedded import WEIGHTS
        from lllm.llm.project import project

        name = str(self.get("model"))
        if name == "embedded":
            return WEIGHTS
        known = project().models
        if name in known:
            return known[name].path
        return Path(name.removeprefix("transformers/").removeprefix("llama_cpp/")).expanduser()

    def _model(self) -> str:
        file = self.model_file
        return "embedded" if str(self.get("model")) == "embedded" else str(file.path)

    def _agent(self) -> Any:
        from lllm.config import load_config
        from lllm.llm.build import agent_of
        from lllm.llm.entry import agent_entry

        system = self.data.get("system")
        config = load_config(Path(system) if system else None)
        name = self.data["agent"]
        if name not in config.agents:
            raise UnknownNameError("agent", name, config.agents)
        self._agent_entry = agent_entry(config, name)
        return agent_of(config.agents[name], config)

    def _data(self, kind: Any) -> Any:
        from lllm.llm.project import default_store
        from lllm.rl.declared_data import declared_data
        from lllm.rl.trainers.data_spec import check_wanted
        from lllm.rl.trainers.given import no_tokens
        from lllm.rl.training_data import TrainingData

        if kind is not None and not hasattr(kind, "wants"):
            raise ConfigError(
                f"the trainer {kind.kind} learns from rollouts of its own, and data is given",
                hint="sft, dpo and kto train on data; leave it out for the others.",
            )
        found = declared_data(self.data["data"], self.path.parent, default_store())
        if not isinstance(found, Path):
            return found
        read = TrainingData.load(found)
        if kind is not None:
            check_wanted(kind, read.kind)
            if not read.has_tokens and not (self.data.get("config") or {}).get("tokenize"):
                raise no_tokens(read, kind.__name__)
        return read

    def _lora(self) -> None:
        from lllm.rl.trainers.defaults import lora_config

        lora_config(self.data.get("lora"))

    def _check_config(self, kind: Any) -> None:
        import trl

        config = getattr(trl, CONFIGS[kind.kind])
        from lllm.rl.trainers.typed import misfit
        from lllm.rl.trainers.unused import problem_of

        own = own_options(kind)
        known = [*own, *sorted(inspect.signature(config).parameters)]
        for name, value in (self.data.get("config") or {}).items():
            where = self._layer.at(("config", name))
            if name in OURS:
                words = f"config.{name} has a key of its own in this file"
                self._problems.add(ConfigError(words, hint=f"Write {OURS[name]}: ...", where=where))
            elif name not in known:
                self._problems.add(UnknownKeyError(name, known, where=where))
            elif name in own:
                if (wanted := misfit(kind.hints().get(name), value)) is not None:
                    words = f"config.{name} is {value!r:.60}; it is {wanted}"
                    self._problems.add(ConfigError(words, where=where))
            elif (problem := problem_of(kind.kind, config, name, value)) is not None:
                words = f"config.{problem.message}"
                self._problems.add(ConfigError(words, hint=problem.hint, where=where))

    def _spec(self, kind: Any, model: str, agent: Any, data: Any) -> Any:
        lora = self.data.get("lora")
        config = dict(self.data.get("config") or {})
        if not any(name.startswith("save_") for name in config):
            config = {**CHECKPOINTS, **config}
        if data is not None:
            config["data"] = data
        made = kind(
            model,
            agent=agent,
            output_dir=str(self.output_dir),
            seed=self.get("seed"),
            lora={} if lora is True else lora or None,
            concurrency=self.get("concurrency"),
            store="none" if self.get("store") == "none" else None,
            force=self.get("force"),
            **config,
        )
        made.agent_entry = self._agent_entry
        return made


def trainer_kinds() -> dict[str, Any]:
    """Returns the trainers by their names."""
    from lllm.rl import trainers

    return {
        one.kind: one
        for one in vars(trainers).values()
        if isinstance(one, type) and issubclass(one, trainers.TrainerSpec) and one.kind
    }


def own_options(kind: Any) -> list[str]:
    """Returns the options of a trainer that are not TRL's, and have no key of their own."""
    return [name for name in kind.options() if name not in OURS]


def trl_config(spec: Any) -> Any:
    """Makes TRL's config object as the trainer will, which checks settings that depend on each other."""
    import torch
    import trl

    from lllm.rl.trainers.defaults import settings

    kind = getattr(trl, CONFIGS[spec.kind])
    return kind(**settings(spec, kind, on_cpu=not torch.cuda.is_available()))


def _can_be_watched(env: RLEnv, spec: Any, args: Any) -> None:
    """Requires what the training is to be reported to, and signs that there are."""
    from transformers.integrations import get_reporting_integration_callbacks

    from lllm.rl.trainers.signs import Watching

    Watching(env.rewards, spec.stop_on)
    if args is not None:
        for one in get_reporting_integration_callbacks(args.report_to):
            one()  # raises where its package is not installed


def _has_rows(env: RLEnv, args: Any) -> None:
    """Raises ConfigError where the environment has fewer rows than one batch takes."""
    from lllm.rl.training_plan import rows_at_once

    least = rows_at_once(args) if hasattr(args, "num_generations") else 1
    rows = len(env.items.first(least))
    if rows < least:
        raise ConfigError(
            f"the environment '{env.name}' has {rows} rows, and a batch is of {least}",
            hint="Set config.per_device_train_batch_size lower, or config.num_generations higher."
            if rows
            else None,
        )


def _over(layer: Layer, given: Layer) -> None:
    """Merges the settings of one layer over those of another."""
    for name, value in given.data.items():
        if name == "config" and isinstance(layer.data.get(name), dict):
            for key, one in value.items():
                put(layer.data, (name, key), one)
        else:
            layer.data[name] = value
    layer.where.update(given.where)
