"""Small modules with the interfaces of reasoning-gym, gymnasium, textarena and verifiers, which the suite does not install.

`make test-adapters` and `make test-verifiers` do the same with the real ones.
"""

from __future__ import annotations

import random
import re
import sys
from types import ModuleType, SimpleNamespace
from typing import Any


def module(name: str, **values: Any) -> ModuleType:
    """A module, put where imports find it."""
    found = ModuleType(name)
    found.__dict__.update(values)
    sys.modules[name] = found
    parent, _, own = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], own, found)
    return found


# --- reasoning-gym


class Doubles:
    """Double a number; half a point for one that is off by one."""

    def __init__(self, seed: int, size: int, most: int = 10_000) -> None:
        assert most > 0, "most must be positive"
        self.seed, self.size, self.most = seed, size, most

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        number = random.Random(self.seed + index).randrange(self.most)
        return {"question": f"Double {number}.", "answer": str(number * 2), "metadata": {"size": (1, 2)}}

    def score_answer(self, answer: str | None, entry: dict[str, Any]) -> float:
        if answer is None or not answer.isdigit():
            return 0.0
        off = abs(int(answer) - int(entry["answer"]))
        return 1.0 if off == 0 else 0.5 if off == 1 else 0.0


def reasoning_gym() -> None:
    def extract_answer(text: str) -> str | None:
        found = re.findall(r"<answer>\s*(.*?)\s*</answer>", text, re.DOTALL)
        return found[-1] if found else None

    module("reasoning_gym")
    module(
        "reasoning_gym.factory",
        DATASETS={"doubles": Doubles},
        create_dataset=lambda name, **more: Doubles(**more),
    )
    module("reasoning_gym.utils", extract_answer=extract_answer)


# --- gymnasium


class Line:
    """A walk along a line, from 0 to 3, whose starting point is drawn from the global generator."""

    render_mode = "ansi"
    open = 0

    def __init__(self, length: int = 3, render_mode: str = "ansi") -> None:
        self.action_space = SimpleNamespace(n=2, start=0)
        self.length, self.render_mode, self.place = length, render_mode, 0
        Line.open += 1

    def reset(self, seed: int | None = None) -> Any:
        self.place = random.randrange(2)
        return self.place, {}

    def step(self, action: int) -> Any:
        self.place += 1 if action == 1 else -1
        return self.place, 1.0 if self.place == self.length else -0.1, self.place == self.length, False, {}

    def render(self) -> str:
        return f"\x1b[41mat {self.place}\x1b[0m\n"

    def close(self) -> None:
        Line.open -= 1


def gymnasium() -> None:
    class Error(Exception):
        pass

    def make(name: str, **more: Any) -> Any:
        if name != "Line-v1":
            raise Error(f"Environment `{name}` doesn't exist.")
        return Line(**more)

    module("gymnasium", make=make, error=SimpleNamespace(Error=Error))


# --- textarena


class Guess:
    """Guess a number from 1 to 5; each wrong guess draws from the global generator."""

    def reset(self, num_players: int, seed: int | None = None) -> None:
        self.number = random.randint(1, 5)
        self.state = SimpleNamespace(rewards=None, game_info={0: {}})
        self.told = "[GAME] Guess a number from 1 to 5, as [3]."

    def get_observation(self) -> Any:
        return 0, self.told

    def step(self, action: str) -> Any:
        if "[crash]" in action:
            raise ValueError("could not convert string to float: 'Bad action.'")
        if "[swap]" in action:  # as ThreeCardMonte does
            self.state.rewards = {0: "Bad action."}
            return True, {}
        found = re.search(r"\[(\d)\]", action)
        if found and int(found[1]) == self.number:
            self.state.rewards = {0: 1.0}
            self.state.game_info = {0: {"reason": "found"}}
            return True, {}
        self.told = f"No. Lucky number: {random.randint(1, 1000)}"
        return False, {}


def textarena() -> None:
    def make(game: str, **more: Any) -> Any:
        if game != "Guess-v0":
            raise ValueError(f"{game} not found")
        return Guess()

    module("textarena", make=make)


# --- verifiers


class Task:
    """A task: its data, and methods that `reward` marks."""

    NEEDS_CONTAINER = False
    key = hash = "k"

    def __init__(self, **data: Any) -> None:
        self.data = SimpleNamespace(system_prompt=None, prompt_text=data["prompt"], **data)
        if "system" in data:
            self.data.system_prompt = data["system"]
        self.config = None

    async def setup(self, trace: Any, runtime: Any) -> None: ...

    async def finalize(self, trace: Any, runtime: Any) -> None: ...

    @classmethod
    def toolsets(cls, config: Any) -> list[Any]:
        return []

    def hooks(self, kind: str) -> list[Any]:
        found = [getattr(self, name) for name in dir(type(self)) if not name.startswith("_")]
        return [one for one in found if getattr(one, "kind", None) == kind]

    async def score(self, trace: Any) -> None:
        for one in self.hooks("reward"):
            trace.record_reward(one.__name__, await one(trace), one.weight)


def marked(weight: float = 1.0, kind: str = "reward") -> Any:
    def mark(function: Any) -> Any:
        function.weight, function.kind = weight, kind
        return function

    return mark


class Taskset:
    """Tasks of a list; endless where it is told so."""

    def __init__(self, tasks: list[Any], bounded: bool = True) -> None:
        self.tasks, self.bounded = tasks, bounded
        self.config = SimpleNamespace(id="")

    def __iter__(self) -> Any:
        return iter(self.tasks)

    @classmethod
    def toolsets(cls, config: Any) -> list[Any]:
        return []


class Trace:
    """The messages of a rollout, and its rewards."""

    def __init__(self, **given: Any) -> None:
        self.nodes: list[Any] = []
        self.rewards: dict[str, float] = {}
        self.task = given["task"]

    def record_reward(self, name: str, value: float, weight: float = 1.0) -> None:
        self.rewards[name] = value * weight

    @property
    def reward(self) -> float:
        return sum(self.rewards.values())

    @property
    def last_reply(self) -> str:
        said = [node.message.content for node in self.nodes if node.message.role == "assistant"]
        return str(said[-1]) if said else ""

    @property
    def roles(self) -> list[str]:
        return [node.message.role for node in self.nodes]


class EnvConfig:
    def __init__(self, taskset: Any = None) -> None:
        self.taskset = taskset


class Env:
    """Plays tasks: subclasses say how in `run`."""

    def __init__(self, config: Any) -> None:
        self.config = config


class SingleAgentEnv(Env):
    pass


class Segment(SimpleNamespace):
    """What an agent said; nothing where it has ended."""

    terminated = False

    @property
    def last_reply(self) -> str:
        return str(self.messages[-1].content) if self.messages else ""


def verifiers() -> None:
    def message(role: str) -> Any:
        return lambda **values: SimpleNamespace(role=role, **values)

    module("verifiers")
    module(
        "verifiers.v1",
        Task=Task,
        Taskset=Taskset,
        SingleAgentEnv=SingleAgentEnv,
        EnvConfig=EnvConfig,
        Segment=Segment,
        MessageNode=SimpleNamespace,
        SystemMessage=message("system"),
        UserMessage=message("user"),
        AssistantMessage=message("assistant"),
        ToolMessage=message("tool"),
    )
    module("verifiers.v1.utils")
    module("verifiers.v1.utils.loaders", environment_class=lambda id: SingleAgentEnv)
    module("verifiers.v1.trace", Trace=Trace, TraceTask=SimpleNamespace, AgentInfo=SimpleNamespace)
    module("verifiers.v1.state", state_cls=lambda kind: SimpleNamespace)
    module("verifiers.v1.configs")
    module("verifiers.v1.configs.agent", AgentConfig=SimpleNamespace)
