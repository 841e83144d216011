"""Code that an environment brings: what it raises, holds and changes harms its own rollout alone."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from lllm import LLM, ScriptedBackend, replay_session
from lllm.log.memory import MemoryLog
from lllm.rl import RLEnv
from lllm.rl.own_code import copied
from lllm.rl.reading import read_result
from lllm.rl.states import BYTES, plain, state_record


def leave() -> Any:
    sys.exit(3)


def cancel() -> Any:
    raise asyncio.CancelledError


class Odd(BaseException):
    """No Exception, as those of pytest are."""


def odd() -> Any:
    raise Odd("words")


RAISES: list[tuple[Callable[[], Any], str]] = [
    (leave, "it called sys.exit(3)"),
    (cancel, "it was cancelled by its own code"),
    (odd, "Odd raised: words"),
]
STAGES = ("setup", "opening", "step", "done", "reward", "rewards", "async reward", "policy", "close")


def tried(stage: str, raises: Callable[[], Any]) -> Any:
    """Two rollouts, of which the first one's code raises."""
    calls: list[int] = []

    def once(*_: Any, **__: Any) -> Any:
        calls.append(1)
        return raises() if len(calls) == 1 else None

    async def later() -> Any:
        return once()

    class Closing:
        def close(self) -> None:
            once()

    more: dict[str, Any] = {}
    rewards: list[Any] = [lambda completion: 1.0]
    if stage in ("setup", "opening", "step"):
        more[stage] = lambda: once()
    elif stage == "done":
        more |= {"step": lambda turns: "more" if turns < 2 else None, "done": lambda: once()}
    elif stage == "reward":
        rewards = [lambda completion: once() or 1.0]
    elif stage == "async reward":

        async def slow(completion: str) -> float:
            await later()
            return 1.0

        rewards = [slow]
    elif stage == "rewards":
        rewards = [lambda completions: once() or [1.0] * len(completions)]
    elif stage == "close":
        more["setup"] = Closing
    policy: Any = LLM(ScriptedBackend(lambda _: "x"))
    if stage == "policy":
        policy = lambda prompt: once() or "x"  # noqa: E731
    env = RLEnv([{"prompt": "a"}, {"prompt": "b"}], rewards, **more)
    store = MemoryLog()
    return env(policy, store=store, limit=1), store


@pytest.mark.parametrize(("raises", "words"), RAISES)
@pytest.mark.parametrize("stage", STAGES)
def test_whatever_it_raises_is_missing_and_named(stage: str, raises: Callable[[], Any], words: str) -> None:
    found, store = tried(stage, raises)
    if stage == "close":
        assert [one.reward for one in found] == [1.0, 1.0]
        assert found.leaks == [f"RuntimeError: {words}"]
        return
    if stage == "rewards":  # one call for all of them
        assert [list(one.errors.values()) for one in found] == [[f"RuntimeError: {words}"]] * 2
        return
    assert found[1].reward == 1.0
    assert found[0].reward is None
    if "reward" in stage:
        assert list(found[0].errors.values()) == [f"RuntimeError: {words}"]
    else:
        assert (found[0].status, found[0].reason) == ("missing", stage)
        assert words in found[0].detail
    if stage != "policy":
        assert replay_session(found[0].session, store=store).verified is not False


# --- states


class Broken:
    __slots__ = ("n",)

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


class Hidden:
    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("hidden")


class Slots:
    __slots__ = ("__weakref__", "place")

    def __init__(self) -> None:
        self.place = 3


class Further(Slots):
    __slots__ = ("name",)

    def __init__(self) -> None:
        super().__init__()
        self.name = "x"


@pytest.mark.parametrize(
    ("make", "words", "leaks"),
    [
        (Broken, "a Broken that cannot be read: RuntimeError: no n", ["RuntimeError: no aclose"]),
        (Hidden, "a Hidden that cannot be read: RuntimeError: hidden", []),
    ],
)
def test_a_state_that_cannot_be_read_ends_no_run(make: Any, words: str, leaks: list[str]) -> None:
    store = MemoryLog()
    found = RLEnv([{"prompt": "a"}], lambda completion: 1, setup=make)(
        LLM(ScriptedBackend(["x"])), store=store
    )
    assert found.reward == 1.0
    kept = read_result(store, found[0].session)
    assert kept is not None
    assert words in kept["state"]["$repr"]
    assert found.leaks == leaks


def test_states_as_json() -> None:
    assert plain(Further()) == {"place": 3, "name": "x"}
    assert plain({"s": "\ud800"}) == {"s": "\ufffd"}
    assert plain(object()) is None
    assert plain([1, (2,)]) == [1, [2]]
    assert list(state_record({"s": "x" * BYTES})) == ["$repr"]


def test_slots_are_kept_for_rewards_that_come_later() -> None:
    store = MemoryLog()
    env = RLEnv([{"prompt": "a"}], lambda state: state.place, setup=Further)
    first = env(LLM(ScriptedBackend(["x"])), store=store)
    assert env.score(first, store=store).reward == first.reward == 3.0


# --- what is shared


def test_what_one_rollout_changes_no_other_sees() -> None:
    row = {"prompt": "a", "board": [0], "info": {"seen": []}, "answer": {"n": [1]}}

    def setup(board: list[int], info: Any) -> dict[str, Any]:
        board.append(1)
        info["seen"].append(1)
        return {"board": board, "seen": info["seen"]}

    def grows(answer: Any, messages: Any, state: Any) -> float:
        answer["n"].append(2)
        messages.clear()
        return len(answer["n"]) + len(state["board"]) + len(state["seen"])

    def counts(messages: Any, **columns: Any) -> float:
        columns["board"].append(5)
        return len(messages) + len(columns["board"])

    def batch(board: list[list[int]], completions: Any) -> list[int]:
        return [len(one) for one in board]

    env = RLEnv([row], [grows, counts, batch], setup=setup)
    found = env(LLM(ScriptedBackend(lambda _: "x")), store=MemoryLog(), samples=3, limit=1)
    assert [one.components for one in found] == [{"grows": 5.0, "counts": 4.0, "batch": 1.0}] * 3
    assert row["board"] == [0]


def test_copies_of_what_contains_itself() -> None:
    own: list[Any] = [1, {"a": {2}}]
    own.append(own)
    made = copied(own)
    assert made is not own
    assert made[2] is made
    made[1]["a"].add(3)
    assert own[1] == {"a": {2}}


# --- time limits


def test_a_state_that_comes_too_late_is_taken_down() -> None:
    closed = []

    class Late:
        def __init__(self) -> None:
            time.sleep(0.4)

        async def aclose(self) -> None:
            closed.append(1)

    env = RLEnv([{"prompt": "a"}], lambda completion: 1, setup=Late, limits={"setup": 0.05})
    found = env(LLM(ScriptedBackend(["x"])), store=MemoryLog())
    assert (found[0].status, found[0].reason) == ("missing", "setup")
    assert found.leaks == [
        "setup still runs, in a thread, which cannot be stopped; a process can: isolated=True"
    ]
    until = time.monotonic() + 30
    while not closed:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_step_that_hangs_is_counted() -> None:
    env = RLEnv([{"prompt": "a"}], lambda completion: 1, step=lambda: time.sleep(1), limits={"step": 0.05})
    found = env(LLM(ScriptedBackend(["x"])), store=MemoryLog())
    assert found[0].reason == "step"
    assert found.leaks[0].startswith("step still runs")


def test_a_close_that_hangs_says_how_long() -> None:
    class Slow:
        async def aclose(self) -> None:
            await asyncio.sleep(60)

    env = RLEnv([{"prompt": "a"}], lambda completion: 1, setup=Slow, limits={"teardown": 0.05})
    found = env(LLM(ScriptedBackend(["x"])), store=MemoryLog())
    assert (found.reward, found.leaks) == (1.0, ["it did not close within 0.05 s"])
