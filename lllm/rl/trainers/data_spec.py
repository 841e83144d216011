"""Trainers on data: SFT, DPO, KTO. The data are rollouts of the environment, or given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from lllm.errors import ConfigError
from lllm.llm.checks import parse_count
from lllm.rl.preferences import pair_samples
from lllm.rl.selecting import label_samples, select_examples
from lllm.rl.trainers.spec import TrainerSpec

if TYPE_CHECKING:
    from lllm.rl.environment import RLEnv
    from lllm.rl.samples import Sample
    from lllm.rl.trainers.data_training import DataTraining
    from lllm.rl.training_data import TrainingData


class DataSpec(TrainerSpec):
    """A trainer whose data exist before the training begins.

    Args:
        data: the training data: rollouts (an Evaluation), ids of sessions, a TrainingData or its folder, a JSONL file, a
            `Dataset` of Hugging Face, or rows. None: rollouts of the environment by the untrained model.
        first: the number of the environment's rows to use for these rollouts; None: all. samples: rollouts per row, 8 by
            default. temperature, max_tokens: of their sampling; max_tokens limits one reply.
        tokenize: True: rows without token ids (of people, or of another model) are tokenised once, with the model's chat
            template. False: they are an error.
        more: see TrainerSpec. Rows longer than `max_length` tokens are left out and counted; rows are not truncated.
    """

    wants: ClassVar[str] = ""
    """The kind of TrainingData."""

    def __init__(
        self,
        model: Any = "embedded",
        *,
        data: Any = None,
        first: int | None = None,
        samples: int = 8,
        temperature: float = 1.0,
        max_tokens: int = 256,
        tokenize: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(model, **more)
        parse_count("samples", samples)
        if data is not None and self.control is not None:
            raise ConfigError(f"control={self.control!r} is for rollouts, and data= are given")
        self.data = data
        self.first = first
        self.samples = samples
        self.temperature = temperature
        self.max_tokens = max_tokens
        self.tokenize = tokenize

    def on_environment(self, env: RLEnv) -> DataTraining:
        """Returns the training of this spec in an environment: `env >> spec`."""
        from lllm.rl.trainers.data_training import DataTraining

        return DataTraining(env, self)

    def choose(self, found: Sequence[Sample]) -> TrainingData:
        """Returns the training data that are chosen from samples."""
        raise NotImplementedError


class SFT(DataSpec):
    """Supervised fine-tuning on the rollouts that earned enough (rejection sampling), by TRL's SFTTrainer. `config` are the
    arguments of `trl.SFTConfig`.

    Args:
        threshold: they earned at least this much; None: more than the least that one of them earned.
        best: at most so many of each row; None: all of them.
    """

    kind = "sft"
    wants = "examples"

    def __init__(
        self, model: Any = "embedded", *, threshold: float | None = None, best: int | None = 1, **more: Any
    ) -> None:
        super().__init__(model, **more)
        self.threshold = threshold
        self.best = best

    def choose(self, found: Sequence[Sample]) -> TrainingData:
        """Returns the best samples of each row that earned enough."""
        least = self.threshold
        if least is None:
            rewards = [one.reward for one in found if one.reward is not None]
            more = [one for one in rewards if one > min(rewards)]
            if rewards and not more:
                raise ConfigError(
                    f"all {len(rewards)} samples earned {rewards[0]:g}: none is better than another",
                    hint="Give SFT(...) a threshold, more samples, or rows that the model solves sometimes.",
                )
            least = min(more, default=None)
        return select_examples(found, min_reward=least, best=self.best)


class DPO(DataSpec):
    """Direct preference optimization (Rafailov et al. 2023, arXiv 2305.18290) on pairs of rollouts, by TRL's DPOTrainer.
    `config` are the arguments of `trl.DPOConfig`.

    It teaches the difference of the two: both may become less likely. Measure the reward before and after.

    Args:
        margin: chosen earned at least this much more than rejected; always more. pairs: of each row, at most.
    """

    kind = "dpo"
    wants = "preferences"

    def __init__(self, model: Any = "embedded", *, margin: float = 0.0, pairs: int = 1, **more: Any) -> None:
        super().__init__(model, **more)
        self.margin = margin
        self.pairs = pairs

    def choose(self, found: Sequence[Sample]) -> TrainingData:
        """Returns pairs of the best and the worst samples of each row."""
        return pair_samples(found, margin=self.margin, pairs=self.pairs, seed=self.seed)


class KTO(DataSpec):
    """Kahneman-Tversky optimization (Ethayarajh et al. 2024, arXiv 2402.01306) on rollouts that are good or bad, by TRL's
    KTOTrainer. `config` are the arguments of `trl.KTOConfig`.

    Args:
        threshold: good ones earned at least this much; None: the middle between the least and the most.
    """

    kind = "kto"
    wants = "labels"

    def __init__(self, model: Any = "embedded", *, threshold: float | None = None, **more: Any) -> None:
        super().__init__(model, **more)
        self.threshold = threshold

    def choose(self, found: Sequence[Sample]) -> TrainingData:
        """Returns all samples, labelled."""
        return label_samples(found, threshold=self.threshold)


def check_wanted(spec: type[DataSpec], kind: str) -> None:
    """Raises ConfigError unless data are of the kind that a trainer learns from; the error says which trainer takes them."""
    if kind != spec.wants:
        takes = next(one.__name__ for one in (SFT, DPO, KTO) if one.wants == kind)
        raise ConfigError(
            f"{spec.__name__} trains on {spec.wants}, and the data are {kind}",
            hint=f"{takes} trains on them.",
        )
