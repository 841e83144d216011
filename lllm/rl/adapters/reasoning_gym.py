"""Datasets of reasoning-gym: generators of problems with an answer that a program scores.

env = ReasoningGym("chain_sum", size=500, num_terms=3)
env.held_out(agent)
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Final, Self

from lllm.core.jsonable import jsonable
from lllm.errors import ConfigError, UnknownNameError
from lllm.rl.adapters.guarded_scorers import guard
from lllm.rl.adapters.packages import needed
from lllm.rl.environment import RLEnv
from lllm.rl.environments.splits import HELD_OUT, is_held_out, size_of
from lllm.rl.rewards import read_score, reward

ASKING: Final = "Give the final answer inside <answer> tags."
_BLOCK: Final = 200
"""Problems that are generated at once."""
_ENDLESS: Final = re.compile(r"(?i)(?<![a-z])(?:nan|inf|infinity)(?![a-z])")
_TRIES: Final = 20
"""Problems that are looked at per row, at most."""


class ReasoningGym(RLEnv):
    """A dataset of reasoning-gym. The reward is what its own `score_answer` gives for the text within `<answer>` tags, or for
    the whole reply where there are none.

    Args:
        dataset: the generator's name.
        split: `train` or `held_out`. A digest of the question decides: no question is in both, whatever the seeds.
        size: the number of rows; None: 1000 of `train`, 400 of `held_out`. seed: of the generator.
        asking: a text that is added to each question, or None.
        arguments: of RLEnv, by name. config: options of the generator.

    Raises DependencyError: reasoning-gym is not installed. UnknownNameError: it has no such generator.
    """

    max_turns = 4

    def __init__(
        self,
        dataset: str,
        split: str = "train",
        *,
        size: int | None = None,
        seed: int = 0,
        asking: str | None = ASKING,
        arguments: Mapping[str, Any] | None = None,
        **config: Any,
    ) -> None:
        self._given = {"size": size, "seed": seed, "asking": asking, "arguments": arguments, **config}
        self.split = split
        self.generator, self.config = dataset, config
        wanted = size_of(split, size)
        needed("reasoning_gym", "reasoning-gym", "ReasoningGym")
        self._kinds = needed("reasoning_gym.factory", "reasoning-gym", "ReasoningGym")
        if dataset not in self._kinds.DATASETS:
            raise UnknownNameError("dataset of reasoning-gym", dataset, self._kinds.DATASETS)
        guard(_modules(self._kinds.DATASETS))
        self._scorer = self._made(seed, 1)
        rows = self._rows(split, wanted, seed, asking)
        super().__init__(rows, **{"name": f"reasoning-gym/{dataset}", **(arguments or {})})

    def _made(self, seed: int, size: int) -> Any:
        try:
            return self._kinds.create_dataset(self.generator, seed=seed, size=size, **self.config)
        except (AssertionError, TypeError, ValueError) as error:
            raise ConfigError(f"the generator '{self.generator}' refuses its options: {error}") from error

    def _rows(self, split: str, wanted: int, seed: int, asking: str | None) -> list[dict[str, Any]]:
        problems = self._made(seed, _TRIES * wanted + _BLOCK)
        found: dict[str, dict[str, Any]] = {}
        for index in range(len(problems)):
            if len(found) == wanted:
                break
            entry = problems[index]
            question = str(entry["question"])
            if is_held_out(question) != (split == HELD_OUT) or question in found:
                continue
            found[question] = {
                "prompt": f"{question}\n{asking}" if asking else question,
                "answer": str(entry["answer"]) if entry.get("answer") is not None else None,
                "index": index,
                "entry": entry,
                "metadata": jsonable(entry.get("metadata")),
            }
        if len(found) < wanted:
            raise ConfigError(
                f"'{self.generator}' has {len(found)} different questions for the split '{split}', and size is {wanted}",
                hint="Give a smaller `size`, or options with more variety.",
            )
        return [*found.values()]

    @property
    def held_out(self) -> Self:
        """The same generator with the rows that are held out."""
        more = {**self._given, "size": None}
        return self if self.split == HELD_OUT else type(self)(self.generator, HELD_OUT, **more)

    @reward
    def graded(self, completion: str, entry: Any) -> float:
        """The score of reasoning-gym for the answer; 0 where its scorer raises or returns something that is not a number."""
        found = needed("reasoning_gym.utils", "reasoning-gym", "ReasoningGym").extract_answer(completion)
        answer = completion.strip() if found is None else found
        if _ENDLESS.search(answer) and not _ENDLESS.search(str(entry.get("answer"))):
            return 0.0  # nothing is farther from a right answer than it, for some scorers
        try:
            return read_score(self._scorer.score_answer(answer, entry)).value or 0.0
        except Exception:  # it is a function of the answer alone: what it cannot read is wrong
            return 0.0


def _modules(kinds: Mapping[str, Any]) -> list[ModuleType]:
    """The modules of the generators. Each is a class, or begins with one."""
    classes = [one[0] if isinstance(one, tuple) else one for one in kinds.values()]
    names = {getattr(one, "__module__", "") for one in classes}
    return [found for name in sorted(names) if (found := sys.modules.get(name)) is not None]
