"""Specs of trainers, such as GRPO(model, **config), which an environment completes."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from lllm.errors import ConfigError, UnknownKeyError, UnsupportedError
from lllm.rl.trainers.typed import hints_of

if TYPE_CHECKING:
    from lllm.rl.environment import RLEnv
    from lllm.rl.trainers.training import Training


class TrainerSpec:
    """The settings of a training without its environment. `env >> spec` returns a Training.

    Args:
        model: a folder that `save_pretrained` wrote, a GGUF file, `embedded`, or a model of transformers.
        tokenizer: of a model that is given as an object.
        agent: the agent whose calls the rollouts are, with this model in place of its own; None: the model alone, with the
            environment's tools and system prompt.
        output_dir: where checkpoints, the trained model and its card go.
        seed: of everything: sampling, order of rows, initial weights of adapters.
        lora: a `peft.LoraConfig`, or its arguments.
        concurrency: rollouts at once.
        store: the log of the rollouts; None: the configured one; "none": no log.
        force: trains although `env.check()` finds that something else than the task pays.
        stop_on: signs of a training that goes wrong that end it (`lllm.rl.trainers.signs`); by default they only warn.
        control: `shuffled` shuffles the rewards within each group: what rises all the same is no effect of them.
        callbacks: of transformers' `TrainerCallback`, beside TRL's own.
        config: arguments of TRL's config class, with its names.

    Raises ConfigError, UnknownKeyError: an argument that TRL's config does not have.
    """

    kind: ClassVar[str] = ""

    def __init__(
        self,
        model: Any = "embedded",
        *,
        tokenizer: Any = None,
        agent: Any = None,
        output_dir: str = "runs/rl",
        seed: int = 0,
        lora: Any = None,
        concurrency: int = 32,
        store: Any = None,
        force: bool = False,
        stop_on: str | Collection[str] = (),
        control: str | None = None,
        callbacks: Iterable[Any] = (),
        **config: Any,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.agent = agent
        self.agent_entry: Mapping[str, Any] | None = None
        """`{agent, config}` of an agent of a file, by which a replay of its rollouts finds it again."""
        self.output_dir = str(output_dir)
        self.seed = seed
        self.lora = lora
        self.concurrency = concurrency
        self.store = store
        self.force = force
        if control not in (None, "shuffled"):
            raise ConfigError(f"control is {control!r}; it is 'shuffled' or None")
        self.control = control
        self.stop_on = (stop_on,) if isinstance(stop_on, str) else tuple(stop_on)
        self.callbacks = tuple(callbacks)
        self.config = config

    def on_environment(self, env: RLEnv) -> Training:
        """Returns the Training of this spec in an environment: `env >> spec`."""
        from lllm.rl.trainers.training import Training

        return Training(env, self)

    def checked(self, known: Any) -> dict[str, Any]:
        """Returns the config. Raises UnknownKeyError for a name that TRL's class does not have."""
        for name in self.config:
            if name not in known:
                raise UnknownKeyError(
                    name, [*self.options(), *sorted(known)], where=f"{type(self).__name__}(...)"
                )
        return dict(self.config)

    @classmethod
    def options(cls) -> list[str]:
        """Returns the names of its own arguments, beside those of TRL's config class."""
        return [
            parameter.name
            for base in cls.__mro__
            if "__init__" in vars(base) and base is not object
            for parameter in inspect.signature(vars(base)["__init__"]).parameters.values()
            if parameter.kind is parameter.KEYWORD_ONLY
        ]

    @classmethod
    def hints(cls) -> dict[str, Any]:
        """The types of its own arguments."""
        found: dict[str, Any] = {}
        for base in cls.__mro__:
            if "__init__" in vars(base) and base is not object:
                found = {**hints_of(vars(base)["__init__"]), **found}
        return found

    def __rrshift__(self, env: Any) -> Any:
        raise ConfigError(
            f"{type(self).__name__} trains in an environment, and was given {type(env).__name__}",
            hint="Write RLEnv(rows, rewards) >> " + type(self).__name__ + "(model).",
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r:.60})"


class GRPO(TrainerSpec):
    """Group relative policy optimization (Shao et al. 2024, arXiv 2402.03300), by TRL's GRPOTrainer: several rollouts of each
    row, whose rewards are compared within the row. `config` are the arguments of `trl.GRPOConfig`."""

    kind = "grpo"


class RLOO(TrainerSpec):
    """REINFORCE with a leave-one-out baseline (Ahmadian et al. 2024, arXiv 2402.14740), on the path of GRPO, because TRL's
    RLOOTrainer has neither tools nor rollouts of others. `config` are the arguments of `trl.GRPOConfig`.

    The advantage of a rollout is its reward less the mean of its row, which is (G-1)/G of RLOO's own, G being the rollouts of a
    row: a factor that a learning rate takes up. Tokens are divided by a constant (`loss_type="dr_grpo"`), so a rollout's
    gradient is the sum over its tokens, as in REINFORCE.
    """

    kind = "rloo"

    def __init__(self, model: Any = "embedded", **more: Any) -> None:
        if more.get("scale_rewards", "none") not in ("none", False):
            raise ConfigError(
                f"RLOO(...) does not scale rewards, and was given scale_rewards={more['scale_rewards']!r}",
                hint="GRPO(...) does.",
            )
        super().__init__(model, **{"loss_type": "dr_grpo", **more, "scale_rewards": "none"})


class PPO(TrainerSpec):
    """Proximal policy optimization, which cannot be trained with: TRL removed it after 1.12. GRPO with `num_iterations` > 1 has
    its clipped objective, without a value model."""

    kind = "ppo"

    def __init__(self, model: Any = "embedded", **more: Any) -> None:
        raise UnsupportedError(
            "PPO cannot be trained with: TRL removed it, with its value models, after 1.12",
            hint=f"Use GRPO({model!r:.60}, num_iterations=2): PPO's clipped objective, with the mean of a row's rollouts in "
            "place of the value model.",
        )
