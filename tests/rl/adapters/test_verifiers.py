"""Tasksets of verifiers as environments: asked once, or played by an Env of their own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from lllm import LLM, ScriptedBackend, replay_session, tool
from lllm.errors import ConfigError
from lllm.log.memory import MemoryLog
from lllm.rl.adapters.verifiers import Verifiers
from tests.rl.adapters import stand_ins
from tests.rl.adapters.stand_ins import Env, Task, Taskset, marked


@pytest.fixture(autouse=True)
def package() -> Iterator[None]:
    before = {name: value for name, value in sys.modules.items() if name.split(".")[0] == "verifiers"}
    stand_ins.verifiers()
    yield
    for name in [*sys.modules]:
        if name.split(".")[0] == "verifiers":
            del sys.modules[name]
    sys.modules.update(before)


class Sum(Task):
    @marked(weight=2.0)
    async def right(self, trace: Any) -> float:
        return float(trace.last_reply == self.data.answer)

    @marked()
    async def roles(self, trace: Any) -> float:
        return float(trace.roles[0] == "user" and trace.roles[-1] == "assistant")


class Bad(Task):
    @marked()
    async def raises(self, trace: Any) -> float:
        raise RuntimeError("the judge is away")


class Countdown(Env):
    """Counts down with the policy; an Env of its own that converses."""

    ended = 0

    async def run(self, task: Any, agents: Any) -> None:
        left = task.data.start
        assert self.config.taskset is not None
        try:
            async with agents.player.interaction(task) as interaction:
                segment = await interaction.turn()
                while not segment.terminated and left > 1:
                    if segment.last_reply == "break":
                        raise RuntimeError("the game broke")
                    left -= 1
                    segment = await interaction.turn(f"{left} left")
            interaction.trace.record_reward("left", 10.0 - left + segment.terminated * 0.5)
        finally:
            Countdown.ended += 1


def sums(**more: Any) -> Verifiers:
    tasks = [Sum(prompt=f"{n} + 1?", answer=str(n + 1)) for n in range(4)]
    return Verifiers(Taskset(tasks), **more)


def game(start: int, **more: Any) -> Verifiers:
    return Verifiers(
        Taskset([Task(prompt="Count.", system="You count.", start=start)]), env=Countdown, **more
    )


def test_a_task_is_asked_once() -> None:
    env, store = sums(), MemoryLog()
    found = env(LLM(ScriptedBackend(lambda request: request.messages[-1].text[0])), store=store)
    assert [one.reward for one in found] == [1.0] * 4
    right = env(LLM(ScriptedBackend(lambda request: str(int(request.messages[-1].text[0]) + 1))), store=store)
    assert [one.reward for one in right] == [3.0] * 4
    assert env.score([one.session for one in right], store=store).reward == 3.0
    assert env.check().means["reference"] == 3.0
    assert [one.prompt for one in sums(skip=1, size=2).items] == ["1 + 1?", "2 + 1?"]


def test_messages_with_tools_are_given_to_verifiers() -> None:
    @tool
    def look() -> str:
        """Looks."""
        return "seen"

    env = sums(size=1, arguments={"tools": [look]})
    backend = ScriptedBackend([{"tool_calls": [{"name": "look", "arguments": {}}]}, "1"])
    assert env(LLM(backend), store=MemoryLog()).reward == 3.0


def test_an_env_plays_the_other_side() -> None:
    Countdown.ended = 0
    backend, store = ScriptedBackend(["a", "b", "c"]), MemoryLog()
    found = game(3)(LLM(backend), store=store)[0]
    assert (found.status, found.turns, found.reward) == ("done", 3, 9.0)
    assert [one.text for one in found.messages] == ["a", "2 left", "b", "1 left", "c"]
    assert [one.text for one in backend.requests[0].messages] == ["You count.", "Count."]
    assert Countdown.ended == 1
    assert game(3).score([found.session], store=store).reward == 9.0
    assert replay_session(found.session, store=store).verified


def test_a_policy_that_stops_is_said_to_have_ended() -> None:
    Countdown.ended = 0
    found = game(8, arguments={"max_turns": 2})(LLM(ScriptedBackend(["a", "b"])), store=MemoryLog())[0]
    assert (found.status, found.reason) == ("cut", "turns")
    assert found.reward == 10.0 - 6 + 0.5  # the Env was told, and gave what it gives then
    assert Countdown.ended == 1


def test_an_env_that_fails_is_missing() -> None:
    found = game(3)(LLM(ScriptedBackend(["break"])), store=MemoryLog())[0]
    assert (found.status, found.reason, found.reward) == ("missing", "step", None)
    assert "the game broke" in (found.detail or "")
    assert found.turns == 1


def test_a_reward_that_fails_is_missing() -> None:
    env = Verifiers(Taskset([Bad(prompt="x", answer="y")]))
    found = env(LLM(ScriptedBackend(["y"])), store=MemoryLog())[0]
    assert found.reward is None
    assert "the judge is away" in found.errors["verified"]


def test_a_cancelled_rollout_ends_the_env() -> None:
    Countdown.ended = 0

    async def main() -> None:
        backend = ScriptedBackend(lambda request: "a", delay=0.05)
        task = asyncio.ensure_future(game(1000).acall(LLM(backend), store=MemoryLog()))
        while len(backend.requests) < 3:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert Countdown.ended == 1


class NeedsBox(Task):
    NEEDS_CONTAINER = True


class NeedsSetup(Task):
    async def setup(self, trace: Any, runtime: Any) -> None:
        await runtime.run("true")


class NeedsRuntime(Task):
    @marked(kind="metric")
    async def built(self, trace: Any, runtime: Any) -> float:
        return 1.0


class NeedsTools(Task):
    @classmethod
    def toolsets(cls, config: Any) -> list[Any]:
        return [object()]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (NeedsBox, "needs a container"),
        (NeedsSetup, "`setup` of NeedsSetup"),
        (NeedsRuntime, "a runtime for 'built'"),
        (NeedsTools, "tool servers"),
    ],
)
def test_what_only_its_harness_gives_is_refused(kind: type[Task], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Verifiers(Taskset([kind(prompt="x")]))
    assert words in str(caught.value)
    with pytest.raises(ConfigError, match="only verifiers' own harness gives"):
        Verifiers(Taskset([Task(prompt="x"), kind(prompt="x")]))  # not only where the first task needs it


def test_what_is_no_taskset_is_an_error() -> None:
    for make, words in (
        (lambda: Verifiers([1]), "a taskset is list"),
        (lambda: Verifiers(Taskset([], bounded=False)), "is endless"),
        (lambda: Verifiers(Taskset([])), "has no tasks"),
        (lambda: Verifiers(Taskset([Task(prompt=" ")])), "has no prompt"),
    ):
        with pytest.raises(ConfigError, match=words):
            make()
