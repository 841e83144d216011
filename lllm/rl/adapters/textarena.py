"""Games of TextArena for one player.

    env = TextArena("GuessTheNumber-v0")
    env(agent)

Games that download word lists (Wordle, Hangman) need them on the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lllm.errors import ConfigError, text_of
from lllm.rl.adapters.games import Game, SeededGame, own_random, plain_text
from lllm.rl.adapters.packages import needed
from lllm.rl.rewards import read_score, reward

_RULES = "Read the rules of the game, and answer with one move in square brackets, as the rules say."

_INVALID: Final = -1.0
"""The answer to an invalid move of a game that gives no reason."""


class TextArena(SeededGame):
    """A game of TextArena. The reward is that of the game; 0 where the policy has used up its turns before the end of the game.

    Args:
        game: its id. split: `train` or `held_out`: seeds from 0 on, or from a million on. size: the number of rows.
        task: a text before the game's own rules. options: of `textarena.make`. arguments: of RLEnv, by name.

    Raises DependencyError: textarena is not installed. ConfigError: no such game, or one that cannot be begun by one player.
    """

    def __init__(
        self,
        game: str,
        split: str = "train",
        *,
        size: int | None = None,
        task: str = _RULES,
        options: Mapping[str, Any] | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.game, self.options = game, dict(options or {})
        self.setup(0).close()  # what cannot be begun is an error now
        super().__init__(
            game,
            split,
            size,
            prompt=task,
            name=f"textarena/{game}",
            given={"task": task, "options": options, "arguments": arguments},
        )

    def setup(self, game_seed: int) -> Game:
        """Makes the game, and resets it for one player."""
        textarena = needed("textarena", "textarena", "TextArena")
        state = Game(None, game_seed, over=False, reward=0.0, reason=None, steps=0)
        with own_random(state):
            try:
                state.game = textarena.make(self.game, **self.options)
                state.game.reset(num_players=1, seed=game_seed)
            except Exception as error:
                words = f"{type(error).__name__}: {text_of(error)}"
                raise ConfigError(
                    f"the game '{self.game}' of TextArena cannot be begun by one player: {words}"
                ) from error
        return state

    def opening(self, state: Game) -> str:
        """The rules and the first observation."""
        with own_random(state):
            return plain_text(state.game.get_observation()[1])

    def step(self, state: Game, completion: str) -> str | None:
        """Makes the move, and returns the next observation; None after the end of the game."""
        with own_random(state):
            try:
                over, _ = state.game.step(completion)
            except (
                Exception
            ) as error:  # of a move that its game cannot read: an outcome, as any other invalid one
                words = f"the game raised {type(error).__name__}: {text_of(error)}"
                state.update(over=True, reward=_INVALID, reason=words[:500], steps=state["steps"] + 1)
                return None
            state["steps"] += 1
            if not over:
                return plain_text(state.game.get_observation()[1]) or "Go on."
            own = state.game.state
            state["over"] = True
            earned = read_score((own.rewards or {}).get(0, 0.0)).value
            state["reward"] = (
                _INVALID if earned is None else earned
            )  # some games give the reason in its place
            state["reason"] = str((own.game_info or {}).get(0, {}).get("reason", ""))
            return None

    @reward
    def game_reward(self, state: Mapping[str, Any]) -> float:
        """The reward of the game."""
        return float(state["reward"])
