"""rl/maze: a game with tools. The policy stands in a maze that it does not see, and has to find the way out.

    env = Maze(width=4)
    env.held_out(agent)

The maze is drawn from the row's seed, so that every rollout of a row is in the same one.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

from lllm.rl.environments.base import ShippedEnv, whole
from lllm.rl.environments.splits import Problem
from lllm.rl.rewards import reward

MOVES: Final[Mapping[str, tuple[int, int]]] = {
    "north": (0, -1),
    "east": (1, 0),
    "south": (0, 1),
    "west": (-1, 0),
}
_BACK: Final = {"north": "south", "south": "north", "east": "west", "west": "east"}
Place = tuple[int, int]


def go(state: dict[str, Any], direction: Literal["north", "east", "south", "west"]) -> str:
    """Goes one step.

    Args:
        direction: where to.
    """
    here = state["place"]
    if direction not in state["doors"][here]:
        state["bumps"] += 1
        return f"There is a wall. {_seen(state)}"
    x, y = map(int, here.split(","))
    state["place"] = f"{x + MOVES[direction][0]},{y + MOVES[direction][1]}"
    state["steps"] += 1
    return _seen(state)


def look(state: dict[str, Any]) -> str:
    """Says where one can go from here."""
    return _seen(state)


def _seen(state: Mapping[str, Any]) -> str:
    if state["place"] == state["exit"]:
        return "This is the exit. You are out."
    return f"Ways: {', '.join(state['doors'][state['place']])}."


class Maze(ShippedEnv):
    """A game with tools: find the way out of a maze. The reward is 1 for being out.

    Options:
        width: of the maze, which is a square: 2 to 8.
    """

    name = "rl/maze"
    max_turns = 24
    tools = (go, look)
    OPTIONS: ClassVar[Mapping[str, Any]] = {"width": 4}

    def checked(self, options: dict[str, Any]) -> dict[str, Any]:
        """See ShippedEnv."""
        whole(options, "width", 2, 8)
        return options

    def draw(self, rng: random.Random) -> Problem:
        """See ShippedEnv."""
        width, number = self.options["width"], rng.randrange(10**9)
        start, end, way = _ends(maze_of(number, width), number)
        prompt = (
            f"You are in a maze of {width} by {width} rooms, and one of them is the exit. Use the tools to walk, until you are "
            "told that you are out. Then say: out."
        )
        row = {
            "prompt": prompt,
            "answer": "out",
            "maze": number,
            "width": width,
            "start": start,
            "exit": end,
            "least": len(way),
        }
        return Problem(f"{width} {_picture(maze_of(number, width), start, end)}", row)

    def setup(self, maze: int, width: int, start: str, exit: str) -> dict[str, Any]:
        """The state at the beginning."""
        return {
            "place": start,
            "exit": exit,
            "doors": maze_of(maze, width),
            "steps": 0,
            "bumps": 0,
        }

    def opening(self, state: dict[str, Any]) -> str:
        """The view of the first room."""
        return _seen(state)

    def reference(self, state: dict[str, Any]) -> str:
        """Walks the shortest way."""
        for direction in way_between(state["doors"], state["place"], state["exit"]):
            go(state, direction)  # type: ignore[arg-type]
        return "out"

    @reward
    def out(self, state: Mapping[str, Any]) -> float:
        """1 if the policy has reached the exit, else 0."""
        return float(state["place"] == state["exit"])


def maze_of(number: int, width: int) -> dict[str, list[str]]:
    """Returns the open directions of each room, of a maze without circles; equal for equal numbers."""
    rng = random.Random(f"maze {number} {width}")
    doors: dict[str, list[str]] = {f"{x},{y}": [] for y in range(width) for x in range(width)}
    path, seen = [(0, 0)], {(0, 0)}
    while path:
        x, y = path[-1]
        free = [
            (name, (x + dx, y + dy))
            for name, (dx, dy) in MOVES.items()
            if 0 <= x + dx < width and 0 <= y + dy < width and (x + dx, y + dy) not in seen
        ]
        if not free:
            path.pop()
            continue
        name, there = rng.choice(free)
        doors[f"{x},{y}"].append(name)
        doors[f"{there[0]},{there[1]}"].append(_BACK[name])
        seen.add(there)
        path.append(there)
    return {room: [one for one in MOVES if one in ways] for room, ways in doors.items()}


def way_between(doors: Mapping[str, list[str]], start: str, end: str) -> list[str]:
    """Returns the shortest way, as directions."""
    waiting: deque[tuple[str, list[str]]] = deque([(start, [])])
    seen = {start}
    while waiting:
        room, way = waiting.popleft()
        if room == end:
            return way
        x, y = map(int, room.split(","))
        for name in doors[room]:
            there = f"{x + MOVES[name][0]},{y + MOVES[name][1]}"
            if there not in seen:
                seen.add(there)
                waiting.append((there, [*way, name]))
    raise ValueError(f"no way leads from {start} to {end}")


def _ends(doors: Mapping[str, list[str]], number: int) -> tuple[str, str, list[str]]:
    rng = random.Random(f"ends {number}")
    start, end = rng.sample(sorted(doors), 2)
    return start, end, way_between(doors, start, end)


def _picture(doors: Mapping[str, list[str]], start: str, end: str) -> str:
    """Returns a description of the maze, equal for two numbers that make the same maze."""
    return (
        " ".join(f"{room}{''.join(one[0] for one in ways)}" for room, ways in doors.items())
        + f" {start} {end}"
    )
