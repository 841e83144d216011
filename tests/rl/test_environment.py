"""Environments: what a rollout is, what it may end with, and what a policy never sees."""

from __future__ import annotations

import random
import threading
import time
from typing import Any, Literal

import pytest

from lllm import LLM, Agent, ScriptedBackend, replay_session, tool
from lllm.errors import ConfigError, ProviderError
from lllm.log.memory import MemoryLog
from lllm.models.reply import Reply
from lllm.rl import Evaluation, RLEnv, Rollout, StageLimits, reward

ROWS = [{"prompt": "2?", "answer": "2", "secret": "column-of-rewards", "info": {"hidden": "info-of-rewards"}}]


def right(completion: str, answer: str) -> bool:
    return completion == answer


def len_of_reply(completion: str) -> int:
    return len(completion)


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": arguments}]}


def env_of(**more: Any) -> RLEnv:
    return RLEnv(ROWS, right, **more)


class Walk:
    """A state: a place on a line, and its methods are tools."""

    def __init__(self, rng: random.Random, length: int = 3) -> None:
        self.place, self.length, self.drawn = 0, length, rng.random()
        self.closed = False
        MADE.append(self)

    def go(self, direction: Literal["north", "south"]) -> str:
        """Goes a step.

        Args:
            direction: where to.
        """
        self.place += 1 if direction == "north" else -1
        return f"you are at {self.place}"

    def close(self) -> None:
        self.closed = True


MADE: list[Walk] = []


def test_what_is_given_decides_what_comes_back() -> None:
    env, store = env_of(), MemoryLog()
    whole = env(LLM(ScriptedBackend(["2"])), store=store)
    assert isinstance(whole, Evaluation)
    assert (len(whole), whole.reward) == (1, 1.0)
    one = env(LLM(ScriptedBackend(["2"])), "again?", store=store)
    assert isinstance(one, Rollout)
    assert one.item.prompt == "again?"
    several = env(
        LLM(ScriptedBackend(["2", "3"])), [ROWS[0], {"prompt": "3?", "answer": "3"}], store=store, limit=1
    )
    assert [one.reward for one in several] == [1.0, 1.0]
    assert len({one.session for one in [*whole, one, *several]}) == 4


def test_policies_of_every_kind() -> None:
    env, store = env_of(), MemoryLog()
    policies = [
        LLM(ScriptedBackend(["2"])),
        Agent("a", ScriptedBackend(["2"]), "You count."),
        lambda prompt: prompt.strip("?"),
        lambda prompt: Reply(content="2"),
    ]

    async def later(prompt: str) -> str:
        return "2"

    assert [env(one, store=store).reward for one in [*policies, later]] == [1.0] * 5
    for wrong in (5, None, object()):
        with pytest.raises(ConfigError):
            env(wrong, store=store)
    with pytest.raises(ConfigError, match="a function cannot call any"):
        env_of(tools=[len_of])(lambda prompt: "2")


@tool
def len_of(text: str) -> int:
    """The length of a text."""
    return len(text)


def test_the_policy_sees_the_prompt_alone() -> None:
    backend = ScriptedBackend(["2"])
    env_of(system_prompt="Count.")(LLM(backend), store=MemoryLog())
    (request,) = backend.requests
    sent = str(request)
    assert "column-of-rewards" not in sent
    assert "info-of-rewards" not in sent
    assert "answer" not in sent
    assert [one.role for one in request.messages] == ["system", "user"]


def test_an_agent_is_the_one_that_is_deployed() -> None:
    backend = ScriptedBackend([call("len_of", text="ab"), call("own"), "2"])

    @tool
    def own() -> str:
        """The agent's own."""
        return "own"

    agent = Agent("counter", backend, "You count.", tools=[own])
    found = env_of(tools=[len_of])(agent, store=MemoryLog())[0]
    assert found.reward == 1.0
    assert [one.role for one in found.messages] == ["assistant", "tool", "assistant", "tool", "assistant"]
    assert [one["function"]["name"] for one in backend.requests[0].tools] == ["own", "len_of"]
    assert found.turns == 3


def test_a_state_of_its_own_for_each_rollout() -> None:
    MADE.clear()
    backend = ScriptedBackend(
        lambda request: call("go", direction="north") if len(request.messages) < 6 else "done"
    )

    def arrived(state: Walk) -> int:
        return state.place

    env = RLEnv(
        [{"prompt": f"walk {n}", "length": n} for n in range(5)],
        arrived,
        setup=Walk,
        tools=[Walk.go],
        name="walk",
    )
    found = env(LLM(backend), store=MemoryLog(), samples=2)
    assert [one.reward for one in found] == [3.0] * 10  # an equal call is a step further, not the same step
    assert sorted(one.length for one in MADE) == sorted([*range(5)] * 2)
    assert len({one.drawn for one in MADE}) == 10
    assert all(one.closed for one in MADE)
    assert "state" not in str(backend.requests[0].tools)
    assert "self" not in str(backend.requests[0].tools)


def test_seeds_are_those_of_run_step_row_and_sample() -> None:
    def drawn(**more: Any) -> list[float]:
        MADE.clear()
        env = RLEnv([{"prompt": "a"}, {"prompt": "b"}], lambda state: 1, setup=Walk)
        env(LLM(ScriptedBackend(lambda _: "x")), store=MemoryLog(), **more)
        return sorted(one.drawn for one in MADE)

    before = random.getstate()
    assert drawn(samples=2) == drawn(samples=2)
    assert drawn(samples=2, seed=1) != drawn(samples=2)
    assert drawn(samples=2, policy_step=1) != drawn(samples=2)
    assert random.getstate() == before


def test_the_environment_may_answer() -> None:
    def step(completion: str, turns: int) -> str | None:
        return None if completion == "stop" else f"you said {completion} in turn {turns}"

    backend = ScriptedBackend(["a", "b", "stop"])
    found = RLEnv([{"prompt": "Begin."}], lambda turns: turns, step=step)(LLM(backend), store=MemoryLog())[0]
    assert (found.status, found.turns, found.reward) == ("done", 3, 3.0)
    assert [one.text for one in found.messages] == [
        "a",
        "you said a in turn 1",
        "b",
        "you said b in turn 2",
        "stop",
    ]
    ended = RLEnv([{"prompt": "Begin."}], lambda turns: turns, step=step, done=lambda turns: turns == 2)
    assert ended(LLM(ScriptedBackend(["a", "b", "c"])), store=MemoryLog())[0].turns == 2


def test_an_opening_is_added_to_the_prompt() -> None:
    backend = ScriptedBackend(["x", "x"])
    rows = [
        {"prompt": "Play."},
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "Play."}]},
    ]
    RLEnv(rows, lambda: 1, setup=Walk, opening=lambda state: f"at {state.place}")(
        LLM(backend), store=MemoryLog(), limit=1
    )
    assert [request.messages[-1].text for request in backend.requests] == ["Play.\n\nat 0"] * 2


# --- how a rollout may end


def test_turns_that_are_used_up_are_an_outcome() -> None:
    backend = ScriptedBackend(lambda _: call("len_of", text="a"))
    found = env_of(tools=[len_of], max_turns=3)(LLM(backend), store=MemoryLog())[0]
    assert (found.status, found.reason, found.turns) == ("cut", "turns", 3)
    assert found.reward == 0.0
    assert len(backend.requests) == 3


def test_tool_calls_are_given_back_where_none_is_to_run() -> None:
    ran = []

    @tool
    def never() -> None:
        """Not to be run."""
        ran.append(1)

    found = env_of(tools=[never], auto_execute_tools=False)(
        LLM(ScriptedBackend([call("never")])), store=MemoryLog()
    )[0]
    assert found.status == "done"
    assert found.reply is not None
    assert [one.name for one in found.reply.tool_calls] == ["never"]
    assert not ran


def test_tool_calls_that_nothing_runs_end_a_conversation() -> None:
    steps = []

    def step(completion: str) -> str | None:
        steps.append(completion)
        return "go on"

    backend = ScriptedBackend(["a", call("len_of", text="x"), "b"])
    found = env_of(tools=[len_of], auto_execute_tools=False, step=step)(LLM(backend), store=MemoryLog())[0]
    assert (found.status, found.turns, steps) == ("done", 2, ["a"])


def test_a_reply_that_was_cut_off_is_an_outcome() -> None:
    found = env_of()(
        LLM(ScriptedBackend([{"content": "2 and", "finish_reason": "length"}])), store=MemoryLog()
    )[0]
    assert (found.status, found.reason, found.completion, found.reward) == ("cut", "length", "2 and", 0.0)


def test_a_malformed_reply_that_is_never_mended_is_an_outcome() -> None:
    agent = Agent("a", ScriptedBackend(lambda _: "no JSON"), format={"type": "object"}, max_exception_retry=1)
    found = env_of()(agent, store=MemoryLog())[0]
    assert (found.status, found.reason) == ("cut", "repairs")
    assert found.reward == 0.0


@pytest.mark.parametrize("reason", ["provider", "setup", "step", "slow", "policy", "opening"])
def test_what_the_world_did_is_missing(reason: str) -> None:
    def raises(**_: Any) -> Any:
        raise RuntimeError("the world ended")

    hooks: dict[str, Any] = (
        {"setup": raises} if reason == "setup" else {"step": raises} if reason == "step" else {}
    )
    if reason == "slow":
        hooks = {"setup": lambda: time.sleep(5), "limits": {"setup": 0.05}}
    if reason == "opening":
        hooks = {"opening": lambda: 5}
    scored = []

    def counted(completion: str) -> float:
        scored.append(completion)
        return 1.0

    policy: Any = LLM(ScriptedBackend([ProviderError("down")] if reason == "provider" else ["2"]))
    if reason == "policy":
        policy = raises
    env = RLEnv([{"prompt": "x"}], counted, **hooks)
    found = (
        env(policy, store=MemoryLog())[0]
        if reason != "policy"
        else env(lambda p: raises(), store=MemoryLog())[0]
    )
    assert (found.status, found.reason) == ("missing", "setup" if reason == "slow" else reason)
    assert found.reward is None
    assert found.detail
    assert not scored


def test_one_that_is_missing_takes_none_along() -> None:
    replies = {"1?": "1", "2?": ProviderError("down"), "3?": "3"}
    env = RLEnv([{"prompt": f"{n}?", "answer": str(n)} for n in (1, 2, 3)], right)
    found = env(LLM(ScriptedBackend(lambda request: replies[request.messages[-1].text])), store=MemoryLog())
    assert [one.reward for one in found] == [1.0, None, 1.0]
    assert (found.reward, len(found.scored), len(found.missing)) == (1.0, 2, 1)
    assert found.reasons == {"provider": 1}
    assert "2 of 3 rollouts scored" in str(found)


def test_a_cancelled_evaluation_is_no_rollouts_error() -> None:
    import asyncio

    async def main() -> None:
        env = env_of()
        task = asyncio.ensure_future(env.acall(LLM(ScriptedBackend(["2"], delay=5)), store=MemoryLog()))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_what_cannot_be_taken_down_is_counted() -> None:
    class Stuck:
        def close(self) -> None:
            raise RuntimeError("still there")

    env = RLEnv([{"prompt": "x"}], lambda: 1, setup=Stuck)
    found = env(LLM(ScriptedBackend(["x"])), store=MemoryLog())
    assert found.reward == 1.0
    assert found.leaks == ["RuntimeError: still there"]


# --- as a class


class Doubling(RLEnv):
    dataset = ({"prompt": "double 2", "answer": "4", "start": 2},)
    max_turns = 4

    def setup(self, start: int) -> dict[str, int]:
        return {"n": start}

    @tool
    def double(self, state: Any = None) -> int:
        """Doubles the number."""
        return 0

    @reward(weight=2)
    def right(self, completion: str, answer: str) -> bool:
        return completion == answer


def test_a_class_has_its_rows_hooks_and_rewards() -> None:
    env = Doubling()
    assert env.name == "Doubling"
    found = env(LLM(ScriptedBackend(["4"])), store=MemoryLog())[0]
    assert found.reward == 2.0
    assert found.state == {"n": 2}


class Strict(RLEnv):
    dataset = ROWS
    rewards = (right, len_of_reply)
    weights = {"right": 3}  # noqa: RUF012
    max_turns = None
    auto_execute_tools = False
    cut = "mask"
    limits = {"score": 2}  # noqa: RUF012
    seeds = True


def test_a_class_says_what_is_not_given() -> None:
    env = Strict()
    assert [one.weight for one in env.rewards] == [3.0, 1.0]
    assert (env.max_turns, env.auto_execute_tools, env.cut, env.seeds) == (None, False, "mask", True)
    assert (env.limits.score, env.limits.setup) == (2.0, 60.0)
    given = Strict(
        max_turns=2, auto_execute_tools=True, cut="score", limits={"score": 3}, seeds=None, weights=[1, 2]
    )
    assert (given.max_turns, given.auto_execute_tools, given.cut, given.seeds) == (2, True, "score", None)
    assert (given.limits.score, given.rewards[1].weight) == (3.0, 2.0)


def test_rows_of_a_call_are_not_those_of_the_dataset() -> None:
    env = RLEnv([{"prompt": "a"}, {"prompt": "b"}], lambda prompt: prompt == "b")
    found = env(LLM(ScriptedBackend(lambda _: "x")), [env.items[1], "c"], store=MemoryLog(), samples=2)
    assert [one.item.index for one in found] == [1, 1, 1, 1]
    assert [len(group) for group in found.groups()] == [2, 2]
    assert found.reward == 0.5
    assert found.interval is not None


def test_why_rollouts_are_missing_is_said() -> None:
    found = env_of()(LLM(ScriptedBackend(["2"])), store=MemoryLog(), nonsense=3)
    assert "1 missing (error: unknown sampling option 'nonsense')" in str(found)
    with pytest.raises(ConfigError, match="a policy that is a function has no settings: temperature"):
        env_of()(lambda prompt: "2", store=MemoryLog(), temperature=1)


@pytest.mark.parametrize("rows", [5, b"x", object(), [5], [["a"]], [None]])
def test_rows_that_are_none(rows: Any) -> None:
    with pytest.raises(ConfigError, match="row"):
        env_of()(LLM(ScriptedBackend(["2"])), rows)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"max_turns": 0}, "max_turns"),
    ({"max_turns": True}, "max_turns"),
    ({"cut": "zero"}, "cut is 'zero'"),
    ({"limits": {"sleep": 1}}, "limits: sleep"),
    ({"limits": {"setup": "1"}}, "limits.setup"),
    ({"limits": {"score": 0}}, "limits.score must be seconds above 0, or None for no limit, got 0"),
    ({"limits": StageLimits(step=-1.0)}, "limits.step must be seconds above 0"),
    ({"max_turns": -1}, "max_turns must be a whole number >= 1, got -1"),
    ({"auto_execute_tools": "no"}, "auto_execute_tools must be True or False, got 'no'"),
    ({"seeds": 1}, "seeds must be True or False or None, got 1"),
    ({"name": 5}, "the name of an environment must be a text, got 5"),
    ({"done": lambda: True}, "done needs step"),
    ({"isolated": 0}, "isolated is 0"),
    ({"setup": 5}, "setup is int"),
    ({"setup": lambda nonsense: 1}, "setup has parameters that nothing provides: nonsense"),
    ({"step": lambda x, /: 1}, "cannot be given by name"),
    ({"tools": [len_of, len_of]}, "two tools of the environment are named 'len_of'"),
    ({"rewards": "text"}, "'text' is not a reward"),
    ({"rewards": int}, "is not a reward"),
]


@pytest.mark.parametrize(("more", "words"), BAD)
def test_what_is_wrong_is_said_when_it_is_made(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RLEnv(ROWS, **{"rewards": right, **more})
    assert words in str(caught.value)


def test_without_rows_there_is_nothing_to_try() -> None:
    with pytest.raises(ConfigError, match="has no rows"):
        RLEnv(rewards=lambda: 1)(LLM(ScriptedBackend(["x"])))
    for wrong in ({"samples": 0}, {"samples": "2"}, {"limit": 0}, {"limit": True}):
        with pytest.raises(ConfigError, match="must be a whole number >= 1, got"):
            env_of()(LLM(ScriptedBackend(["x"])), **wrong)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([5], "row 0 is int, and must be a text or a dict with a 'prompt'"),
        (["2?", None], "row 1 is NoneType"),
        ([["2?"]], "row 0 is list"),
        (7, "rows are int"),
    ],
)
def test_a_row_of_another_type_is_an_error(rows: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        env_of()(LLM(ScriptedBackend(["x"])), rows)


def test_a_tool_of_a_state_needs_a_rollout() -> None:
    env = RLEnv(ROWS, lambda: 1, setup=Walk, tools=[Walk.go])
    with pytest.raises(Exception, match="works on the state of a rollout"):
        env.tools[0]("north")


def test_rollouts_go_side_by_side() -> None:
    inside, most, lock = 0, 0, threading.Lock()

    def setup() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.05)
        with lock:
            inside -= 1

    env = RLEnv([{"prompt": str(n)} for n in range(12)], lambda: 1, setup=setup)
    env(LLM(ScriptedBackend(lambda _: "x")), store=MemoryLog(), limit=4)
    assert 2 <= most <= 4


def test_what_a_rollout_took_is_counted() -> None:
    store = MemoryLog()
    backend = ScriptedBackend([call("len_of", text="ab"), "2"])
    found = env_of(tools=[len_of])(LLM(backend), store=store)[0]
    assert found.use.model_calls == found.turns == 2
    assert replay_session(found.session, store=store).verified
    again = env_of(tools=[len_of]).score([found.session], store=store)[0]
    assert again.use == found.use
