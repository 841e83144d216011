"""rl/doors: a game of several turns. Each door asks a sum; a right answer opens it, a wrong one costs a life.

    env = Doors(doors=3)
    env.held_out("embedded")

The environment answers each reply of the policy, which has a calculator beside it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from lllm.rl.environments.arithmetic import KINDS, WORDINGS, sum_of
from lllm.rl.environments.base import ShippedEnv, one_of, some_of, whole
from lllm.rl.environments.calculator import calculate, evaluate, last_is, plain
from lllm.rl.environments.splits import HELD_OUT, Problem, is_held_out
from lllm.rl.rewards import reward

_DRAWS: Final = 200


class Doors(ShippedEnv):
    """A game of several turns: each door asks a sum. The reward is the share of doors that were opened.

    Options:
        doors: their number, 1 to 8. lives: the number of wrong answers that ends the game.
        kinds, wording, level: of the sums, see `Arithmetic`.
    """

    name = "rl/doors"
    max_turns = 24
    tools = (calculate,)
    OPTIONS: ClassVar[Mapping[str, Any]] = {
        "doors": 3,
        "lives": 1,
        "kinds": ("addition", "subtraction", "multiplication", "division"),
        "wording": "mixed",
        "level": 2,
    }

    def checked(self, options: dict[str, Any]) -> dict[str, Any]:
        """See ShippedEnv."""
        whole(options, "doors", 1, 8)
        whole(options, "lives", 1, 10)
        whole(options, "level", 1, 5)
        some_of(options, "kinds", KINDS)
        one_of(options, "wording", WORDINGS)
        return options

    def draw(self, rng: random.Random) -> Problem:
        """See ShippedEnv."""
        own = self.options
        sums = [self._sum(rng) for _ in range(own["doors"])]
        answers = [plain(evaluate(expression)) for _, expression, _ in sums]
        row = {
            "prompt": sums[0][0],
            "answer": answers[-1],
            "questions": [text for text, _, _ in sums],
            "answers": answers,
            "lives": own["lives"],
        }
        expressions = tuple(expression for _, expression, _ in sums)
        return Problem(" ".join(expressions), row, expressions)

    def _sum(self, rng: random.Random) -> tuple[str, str, str]:
        """Returns a sum of this split. A sum of the other split would let a held-out door ask what a door to train on has
        asked."""
        for _ in range(_DRAWS):
            found = sum_of(rng, self.options["kinds"], self.options["wording"], self.options["level"])
            if is_held_out(found[1]) == (self.split == HELD_OUT):
                break
        return found  # of the other side only where there are hardly any: the row is not taken then

    def setup(self, questions: list[str], answers: list[str], lives: int) -> dict[str, Any]:
        """The state at the beginning."""
        return {"questions": list(questions), "answers": list(answers), "open": 0, "lives": lives}

    def step(self, state: dict[str, Any], completion: str) -> str | None:
        """Opens the door, or takes a life. Returns the next question; None after the end of the game."""
        if last_is(completion, state["answers"][state["open"]]):
            state["open"] += 1
            if state["open"] == len(state["answers"]):
                return None
            return str(state["questions"][state["open"]])
        state["lives"] -= 1
        return None if state["lives"] <= 0 else str(state["questions"][state["open"]])

    def reference(self, state: dict[str, Any]) -> str:
        """Answers every door."""
        last = ""
        for last in state["answers"]:
            self.step(state, last)
        return last

    @reward
    def opened(self, state: Mapping[str, Any]) -> float:
        """The share of doors that are open."""
        return float(state["open"] / len(state["answers"]))
