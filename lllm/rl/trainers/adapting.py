"""Taking over a trainer of TRL that was built already, where that is safe."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, Final

from lllm.errors import UnsupportedError, listing
from lllm.rl.trainers.defaults import DEFAULTS, OF_KIND
from lllm.rl.trainers.spec import GRPO, TrainerSpec

if TYPE_CHECKING:
    from lllm.rl.environment import RLEnv

_OTHERS: Final = {
    # trainer of TRL: why it is not taken over, what to write
    "DPOTrainer": (
        "it has tokenised its pairs from text, and trains the results of tools",
        "env >> DPO(model)",
    ),
    "KTOTrainer": (
        "it has tokenised its rows from text, and trains the results of tools",
        "env >> KTO(model)",
    ),
    "SFTTrainer": ("it has its rows already, and takes none of an environment", "env >> SFT(model)"),
    "RLOOTrainer": ("it has neither tools nor rollouts of others", "env >> RLOO(model)"),
}
_NOT_TAKEN: Final = (
    "output_dir",  # arguments of the spec
    "seed",
    "remove_unused_columns",  # ours
    "generation_batch_size",  # computed from steps_per_generation
    "activation_checkpointing",  # one of these two names is computed from the other
    "gradient_checkpointing",
)
"""Settings of a built configuration that are not given on."""


def is_trl(value: Any) -> bool:
    """Returns True for a trainer of TRL, or of a class derived from one."""
    return any(
        one.__module__.startswith("trl.") and one.__name__.endswith("Trainer") for one in type(value).__mro__
    )


def adapt(trainer: Any, env: RLEnv) -> TrainerSpec:
    """Returns a spec with the model, tokenizer, configuration and callbacks of a built GRPOTrainer.

    Raises UnsupportedError where something of it would be lost, which says what.
    """
    name = type(trainer).__name__
    if name != "GRPOTrainer" or not type(trainer).__module__.startswith("trl."):
        known = next(
            (one for one in _OTHERS if any(one == kind.__name__ for kind in type(trainer).__mro__)), None
        )
        if name == known:
            why, instead = _OTHERS[name]
            raise UnsupportedError(f"a built {name} is not taken over: {why}", hint=f"Write {instead}.")
        raise UnsupportedError(
            f"a built {name} is not taken over: only TRL's own GRPOTrainer is, whose methods are known",
            hint="Write env >> GRPO(model, **config), or train with it outside of an environment.",
        )
    if problems := _problems(trainer, env):
        raise UnsupportedError(
            "the built GRPOTrainer is not taken over: " + "; ".join(problems),
            hint="Write env >> GRPO(model, **config): rows, rewards, tools and rollouts are the environment's.",
        )
    args = trainer.args
    # their values are given on where they are TRL's own defaults, too
    ours = {**DEFAULTS, **OF_KIND["grpo"]}
    config: dict[str, Any] = {}
    for one in fields(args):
        value = getattr(args, one.name)
        default = one.default if one.default_factory is MISSING else one.default_factory()
        if one.init and (value != default or one.name in ours):
            config[one.name] = value
    for own in _NOT_TAKEN:
        config.pop(own, None)
    usual = _usual_callbacks()
    return GRPO(
        trainer.model,
        tokenizer=trainer.processing_class,
        output_dir=args.output_dir,
        seed=args.seed,
        callbacks=[one for one in trainer.callback_handler.callbacks if type(one) not in usual],
        **config,
    )


def _problems(trainer: Any, env: RLEnv) -> list[str]:
    """Returns the settings of a trainer that an environment would not use."""
    found = []
    if trainer.state.global_step:
        found.append(f"it has trained {trainer.state.global_step} steps")
    if trainer.use_vllm:
        found.append("it samples with vLLM")
    for attribute, words in (
        ("tools", "tools"),
        ("rollout_func", "a rollout_func"),
        ("environments", "an environment_factory"),
    ):
        if getattr(trainer, attribute, None):
            found.append(f"it has {words} of its own")
    if trainer.eval_dataset is not None:
        found.append("it has an eval_dataset: evaluate with training.evaluate(rows)")
    own = {reward.name for reward in env.rewards}
    if others := [one for one in trainer.reward_func_names if one not in own]:
        found.append(
            f"its rewards {listing(others)} are not the environment's, which are {listing(sorted(own))}"
        )
    asked = {item.text for item in env.items.first()}
    rows = trainer.train_dataset
    if rows is not None and not all(_asked(row.get("prompt")) in asked for row in rows):
        found.append("its dataset has prompts that are not the environment's")
    if trainer.optimizer is not None:
        found.append("it has an optimizer of its own")
    return found


def _asked(prompt: Any) -> Any:
    return prompt if isinstance(prompt, str) else prompt[-1].get("content") if prompt else None


def _usual_callbacks() -> set[type]:
    """Returns the classes of the callbacks that every trainer has."""
    from transformers.integrations import INTEGRATION_TO_CALLBACK
    from transformers.trainer import DEFAULT_CALLBACKS, DEFAULT_PROGRESS_CALLBACK
    from transformers.trainer_callback import PrinterCallback

    return {*DEFAULT_CALLBACKS, DEFAULT_PROGRESS_CALLBACK, PrinterCallback, *INTEGRATION_TO_CALLBACK.values()}
