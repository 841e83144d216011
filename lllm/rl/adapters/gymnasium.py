"""Environments of Gymnasium that render as text: those with `render_mode="ansi"`.

    env = Gymnasium("FrozenLake-v1", actions=["left", "down", "right", "up"], options={"is_slippery": False})
    env(agent)

The policy is shown the rendering and says an action; the environment answers with the next one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lllm.errors import ConfigError
from lllm.rl.adapters.games import Game, SeededGame, own_random, plain_text
from lllm.rl.adapters.packages import needed
from lllm.rl.rewards import number_of, reward


class Gymnasium(SeededGame):
    """An environment of Gymnasium with discrete actions. The reward is the sum of its own rewards.

    Args:
        game: the id, or a function without arguments that makes the environment.
        split: `train` or `held_out`: seeds from 0 on, or from a million on. size: the number of rows; None: that of `SPLITS`.
        actions: the words for the actions, in the order of their numbers, or a mapping to these. None: the numbers.
        task: a text before the first rendering.
        no_action: the reward of a reply without an action, 0 by default. Where each step of the game costs something, as in
            Taxi, give less than that; otherwise a policy that does nothing earns most.
        options: of `gymnasium.make`. arguments: of RLEnv, by name.

    Raises DependencyError: gymnasium is not installed. ConfigError: no such id, no discrete actions, no rendering as text.
    """

    def __init__(
        self,
        game: Any,
        split: str = "train",
        *,
        size: int | None = None,
        actions: Sequence[str] | Mapping[str, int] | None = None,
        task: str | None = None,
        no_action: float = 0.0,
        options: Mapping[str, Any] | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.no_action = number_of(no_action, "no_action")
        self.game, self.options = game, dict(options or {})
        name = game if isinstance(game, str) else getattr(game, "__name__", "game")
        first = self._made()
        try:
            number = getattr(first.action_space, "n", None)
            if number is None:
                raise ConfigError(f"the actions of '{name}' are {first.action_space}, and must be discrete")
            if first.render_mode != "ansi":
                raise ConfigError(
                    f"'{name}' does not render as text",
                    hint="It needs render_mode='ansi', among its `metadata['render_modes']`.",
                )
            start = int(getattr(first.action_space, "start", 0))
        finally:
            first.close()
        self.actions = _actions(actions, range(start, start + int(number)), name)
        said = ", ".join(self.actions)
        told = task or f"You play {name}."
        super().__init__(
            game,
            split,
            size,
            prompt=f"{told} Each reply is one action, one of: {said}.",
            name=f"gymnasium/{name}",
            given={
                "actions": actions,
                "task": task,
                "no_action": no_action,
                "options": options,
                "arguments": arguments,
            },
        )

    def _made(self) -> Any:
        if callable(self.game):
            return self.game()
        gymnasium = needed("gymnasium", "gymnasium", "Gymnasium")
        try:
            return gymnasium.make(self.game, **{"render_mode": "ansi", **self.options})
        except gymnasium.error.Error as error:
            raise ConfigError(f"gymnasium: {error}") from error
        except TypeError as error:  # an option, or a way to render, that this environment does not have
            raise ConfigError(f"gymnasium makes no '{self.game}' of these options: {error}") from error

    def setup(self, game_seed: int) -> Game:
        """Makes the game, and resets it."""
        state = Game(None, game_seed, total=0.0, steps=0, over=False)
        with own_random(state):
            state.game = self._made()
            state.game.reset(seed=game_seed)
        return state

    def opening(self, state: Game) -> str:
        """The first rendering."""
        return plain_text(state.game.render())

    def step(self, state: Game, completion: str) -> str | None:
        """Performs the action that the reply names last."""
        action = action_in(completion, self.actions)
        if action is None:
            state["total"] += self.no_action
            return f"That is not an action. Say one of: {', '.join(self.actions)}."
        with own_random(state):
            _, earned, ended, cut, _ = state.game.step(action)
            state["total"] += float(earned)
            state["steps"] += 1
            state["over"] = bool(ended or cut)
            return None if state["over"] else plain_text(state.game.render())

    @reward
    def total(self, state: Mapping[str, Any]) -> float:
        """The sum of the game's rewards."""
        return float(state["total"])


def _actions(given: Any, numbers: range, name: str) -> dict[str, int]:
    if given is None:
        return {str(number): number for number in numbers}
    found = dict(given) if isinstance(given, Mapping) else dict(zip(given, numbers, strict=False))
    count = len(given)
    if (not isinstance(given, Mapping) and count != len(numbers)) or not found:
        raise ConfigError(f"'{name}' has {len(numbers)} actions, and {count} were named")
    if wrong := [one for one in found.values() if one not in numbers]:
        raise ConfigError(f"'{name}' has the actions {numbers[0]} to {numbers[-1]}, and not {wrong[0]!r}")
    return found


def action_in(text: str, actions: Mapping[str, int]) -> int | None:
    """Returns the action that a text names last; None where it names none."""
    words = "|".join(re.escape(one) for one in sorted(actions, key=len, reverse=True))
    found = re.findall(rf"(?<!\w)(?:{words})(?!\w)", text, re.IGNORECASE)
    lowered = {name.lower(): number for name, number in actions.items()}
    return lowered[found[-1].lower()] if found else None
