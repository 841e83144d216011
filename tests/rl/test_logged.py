"""Rollouts in the log: replayed, taken from it where they are finished, scored again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lllm import (
    LLM,
    Agent,
    ScriptedBackend,
    fork_session,
    record,
    replay_session,
    resume_session,
    tool,
)
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import ConfigError
from lllm.log.memory import MemoryLog
from lllm.rl import RLEnv
from lllm.rl.reading import read_rollout
from tests.steps.test_batch_resume import cut


class Count:
    def __init__(self, rng: Any, start: int) -> None:
        self.n = start + rng.randrange(2)

    def up(self) -> str:
        """Counts up."""
        self.n += 1
        return str(self.n)


def asked(request: Any) -> Any:
    last = request.messages[-1]
    if last.role == "user":
        return {"tool_calls": [{"name": "up", "arguments": {}}]}
    return f"now {last.text}"


def counting(**more: Any) -> RLEnv:
    def right(completion: str, state: Any) -> bool:
        return completion.endswith(str(state.n))

    return RLEnv(
        [{"prompt": f"from {n}", "start": n} for n in range(4)],
        [right],
        setup=Count,
        tools=[Count.up],
        **more,
    )


def program(store: Any, asks: Any = asked, **more: Any) -> Any:
    return counting()(LLM(ScriptedBackend(asks)), store=store, samples=2, **more)


def parent(store: Any) -> str:
    return min(store._sessions, key=len)


def test_each_rollout_and_the_batch_are_replayed() -> None:
    store = MemoryLog()
    found = program(store)
    assert [one.reward for one in found] == [1.0] * 8
    for one in found:
        assert replay_session(one.session, store=store).verified
    events = {id: list(store.read(id)) for id in store._sessions}
    report = replay_session(parent(store), store=store, entry=lambda: program(store))
    assert report.verified
    assert report.whole
    assert {id: list(store.read(id)) for id in store._sessions} == events


def test_a_reward_of_today_is_not_asked_in_a_replay() -> None:
    store, calls = MemoryLog(), []

    def noisy(completion: str) -> float:
        calls.append(completion)
        return len(calls)

    def main() -> Any:
        return RLEnv([{"prompt": "x"}], noisy)(LLM(ScriptedBackend(["y"])), store=store)

    assert main()[0].reward == 1.0
    assert replay_session(parent(store), store=store, entry=main).verified
    assert calls == ["y"]


def test_a_replay_finds_what_the_environment_does_otherwise() -> None:
    store = MemoryLog()
    program(store)
    report = replay_session(
        parent(store),
        store=store,
        entry=lambda: counting(max_turns=1)(LLM(ScriptedBackend(asked)), store=store, samples=2),
    )
    assert not report.verified


def test_a_rollout_is_read_from_its_log() -> None:
    store = MemoryLog()
    env = counting()
    for one in env(LLM(ScriptedBackend(asked)), store=store):
        again = read_rollout(store, one.session, env.items)
        assert (again.item, again.sample, again.status, again.completion) == (
            one.item,
            one.sample,
            one.status,
            one.completion,
        )
        assert (again.messages, again.turns, again.scores, again.reward) == (
            one.messages,
            one.turns,
            one.scores,
            one.reward,
        )
        assert again.state == {"n": one.state.n}
        assert (again.seed, again.session) == (one.seed, one.session)


def test_rollouts_are_scored_again_without_a_policy() -> None:
    store = MemoryLog()
    env = counting()
    first = env(LLM(ScriptedBackend(asked)), store=store)
    before = [list(store.read(one.session)) for one in first]

    def even(state: Any) -> bool:
        return state["n"] % 2 == 0

    again = env.score([one.session for one in first], store=store, rewards=even)
    assert [one.reward for one in again] == [float(one.state.n % 2 == 0) for one in first]
    assert [list(store.read(one.session)) for one in first] == before
    together = env.score([one.session for one in first], store=store, rewards=lambda completions: range(4))
    assert [one.reward for one in together] == [0.0, 1.0, 2.0, 3.0]
    with pytest.raises(ConfigError, match="a row that the environment does not have"):
        RLEnv([{"prompt": "another"}], lambda: 1).score([first[0].session or ""], store=store)
    with record("another", store=store) as other:
        pass
    with pytest.raises(ConfigError, match="is not a rollout that has ended"):
        env.score([other.id], store=store)


def test_what_a_run_has_finished_is_not_done_again() -> None:
    store, backend = MemoryLog(), ScriptedBackend(asked)
    env = counting()
    first = env(LLM(backend), store=store, run="night", samples=2)
    asked_first = len(backend.requests)
    second = env(LLM(backend), store=store, run="night", samples=3)
    assert len(backend.requests) == asked_first + 4 * 2
    assert [one for one in second if one.sample < 2] == list(first)
    third = env(LLM(backend), store=store, run="night", samples=3, version="other")
    assert {one.session for one in third}.isdisjoint({one.session for one in second})
    sessions = {id: list(store.read(id)) for id in store._sessions}
    fourth = env(LLM(backend), store=store, run="night", samples=3)
    assert list(fourth) == list(second)
    assert {id: list(store.read(id)) for id in sessions} == sessions


def test_to_find_what_is_finished_costs_no_look_through_all_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def nearest(name: str, known: Any) -> str:
        raise AssertionError(f"looked for {name}")

    monkeypatch.setattr("lllm.errors.nearest", nearest)
    store, backend = MemoryLog(), ScriptedBackend(asked)
    for samples in (1, 2):
        found = counting()(LLM(backend), store=store, run="night", samples=samples)
        assert [one.status for one in found] == ["done"] * 4 * samples


def test_with_other_rewards_it_is_scored_again_and_not_done_again() -> None:
    store, backend = MemoryLog(), ScriptedBackend(asked)
    counting()(LLM(backend), store=store, run="night")
    asked_first = len(backend.requests)

    def even(state: Any) -> bool:
        return state.n % 2 == 0

    env = RLEnv(counting().items, even, setup=Count, tools=[Count.up])
    found = env(LLM(backend), store=store, run="night")
    assert len(backend.requests) == asked_first
    assert [one.components for one in found] == [{"even": float(one.state.n % 2 == 0)} for one in found]
    assert [one.reward for one in found] == [one.components["even"] for one in found]


def test_equal_rows_have_sessions_of_their_own() -> None:
    store, backend = MemoryLog(), ScriptedBackend(lambda _: "x")
    env = RLEnv([{"prompt": "x"}] * 5, lambda: 1)
    first = env(LLM(backend), store=store, run="r")
    assert len({one.session for one in first}) == 5
    assert list(env(LLM(backend), store=store, run="r")) == list(first)
    assert len(backend.requests) == 5


def test_what_is_missing_is_tried_again() -> None:
    from lllm.errors import ProviderError

    store, down = MemoryLog(), [True]

    def replies(request: Any) -> Any:
        return ProviderError("down") if down[0] else "x"

    env = RLEnv([{"prompt": "x"}], lambda: 1)
    assert env(LLM(ScriptedBackend(replies)), store=store, run="r")[0].status == "missing"
    down[0] = False
    assert env(LLM(ScriptedBackend(replies)), store=store, run="r")[0].reward == 1.0


@pytest.mark.parametrize(("events", "inside"), [(3, 4), (5, 12), (8, 2)])
def test_an_interrupted_batch_goes_on_and_rollouts_with_a_state_begin_anew(events: int, inside: int) -> None:
    store = MemoryLog()

    def main(kept: MemoryLog, backend: ScriptedBackend) -> Any:
        return counting()(LLM(backend), store=kept, samples=2, limit=2)

    whole = main(store, ScriptedBackend(asked))
    batch = parent(store)
    kinds = [open_event(record.body) for record in store._sessions[batch][:events]]
    ended = {one["data"]["item"] for one in kinds if one["kind"] == ev.ITEM_ENDED}
    begun = {one["data"]["item"] for one in kinds if one["kind"] == ev.ITEM_STARTED} - ended
    keep = {batch: events}
    keep |= {f"{batch}-{n}": inside if n in begun else 0 for n in range(8) if n not in ended}
    left = cut(store, keep)
    before = {id: list(bodies) for id, bodies in left._sessions.items()}
    backend = ScriptedBackend(asked)
    done = resume_session(batch, store=left, entry=lambda: main(left, backend)).result
    assert [one.reward for one in done] == [1.0] * 8
    assert [one.completion for one in done] == [one.completion for one in whole]
    assert len(backend.requests) == 2 * (8 - len(ended))
    assert all(left._sessions[id][: len(bodies)] == bodies for id, bodies in before.items())
    for one in done:
        assert replay_session(one.session, store=left).verified
    assert replay_session(batch, store=left, entry=lambda: main(left, backend)).verified


KILLED = """
import json, sys, time
from lllm import LLM, ScriptedBackend
from lllm.log.sqlite import SQLiteLog
from tests.rl.test_logged import counting

asked = open(sys.argv[2], "a")
def replies(request):
    print(request.messages[-1].role, file=asked, flush=True)
    time.sleep(0.02)
    last = request.messages[-1]
    return {"tool_calls": [{"name": "up", "arguments": {}}]} if last.role == "user" else f"now {last.text}"

found = counting()(LLM(ScriptedBackend(replies)), store=SQLiteLog(sys.argv[1]), run="k", samples=10, limit=4)
print(json.dumps([[one.record() for one in found], found.reward]))
"""


def test_a_killed_run_keeps_what_was_finished_byte_for_byte(tmp_path: Path) -> None:
    from lllm.log.sqlite import SQLiteLog

    database, log = tmp_path / "log.db", tmp_path / "asked"
    command = [sys.executable, "-c", KILLED, str(database), str(log)]
    kept: dict[str, list[bytes]] = {}
    for wait in (20, 45):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and (not log.exists() or len(log.read_text().split()) < wait):
            time.sleep(0.005)
        process.kill()
        process.wait()
        store = SQLiteLog(database)
        for one in store.sessions():
            body = list(store.read(one.id))
            if one.id.startswith("k-") and b'"SessionEnded"' in body[-1]:
                assert kept.get(one.id, body) == body
                kept[one.id] = body
        store.close()
    assert kept
    asked_before = len(log.read_text().split())
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rollouts, mean = json.loads(done.stdout.splitlines()[-1])
    assert (len(rollouts), mean) == (40, 1.0)
    store = SQLiteLog(database)
    assert {id: list(store.read(id)) for id in kept} == kept
    assert {one["session"] for one in rollouts} >= set(kept)
    assert len(log.read_text().split()) - asked_before == 2 * (40 - len(kept))
    for one in rollouts:
        assert replay_session(one["session"], store=store).verified


def test_an_agent_with_memory_remembers_nothing_of_another_rollout() -> None:
    agent = Agent("a", ScriptedBackend(lambda request: str(len(request.messages))), memory=True)
    found = RLEnv([{"prompt": "x"}, {"prompt": "y"}], lambda completion: float(completion))(
        agent, store=MemoryLog(), samples=2
    )
    assert [one.reward for one in found] == [1.0] * 4
    assert not agent.history


def test_a_run_takes_no_rollout_that_was_set_otherwise() -> None:
    store, backend = MemoryLog(), ScriptedBackend(asked)
    first = counting()(LLM(backend), store=store, run="night")
    done = {one.session for one in first}
    others = (
        (counting(max_turns=5), LLM(backend), {}),
        (counting(system_prompt="Count."), LLM(backend), {}),
        (counting(name="another"), LLM(backend), {}),
        (counting(), LLM(backend), {"temperature": 0.5}),
        (counting(), Agent("other", backend, "You count."), {}),
    )
    for env, policy, more in others:
        found = env(policy, store=store, run="night", **more)
        assert done.isdisjoint({one.session for one in found})
        done |= {one.session for one in found}
    assert list(counting()(LLM(backend), store=store, run="night")) == list(first)
    for session in done:
        assert replay_session(session or "", store=store).verified


def test_a_run_within_a_session_is_an_error() -> None:
    with (
        record("outer", store=MemoryLog()),
        pytest.raises(ConfigError, match="run= is for rollouts that have sessions of their own"),
    ):
        counting()(LLM(ScriptedBackend(asked)), run="night")


@pytest.mark.parametrize("name", ["", "  ", 5, "x" * 201, "a\x1b[31m", "a\nb"])
def test_a_run_that_names_no_session(name: Any) -> None:
    with pytest.raises(ConfigError, match="run must be a text of 1 to 200 printable"):
        counting()(LLM(ScriptedBackend(asked)), store=MemoryLog(), run=name)


def test_old_rollouts_by_batch_evaluation_and_id() -> None:
    store = MemoryLog()
    env = counting()
    first = env(LLM(ScriptedBackend(asked)), store=store)
    for given in (parent(store), [parent(store)], first, list(first), [one.session for one in first]):
        assert [one.session for one in env.score(given, store=store)] == [one.session for one in first]
    assert len(env.score(first[0], store=store)) == 1
    for wrong in (None, 5, [5], b"x", {"a": 1}):
        with pytest.raises(ConfigError, match="Give ids of rollouts or of batches"):
            env.score(wrong, store=store)


def test_of_a_batch_those_are_scored_that_have_ended() -> None:
    store = MemoryLog()
    env = counting()
    first = env(LLM(ScriptedBackend(asked)), store=store, limit=1)
    batch = parent(store)
    left = cut(store, {batch: 9, f"{batch}-2": 5, f"{batch}-3": 0})
    assert [one.session for one in env.score(batch, store=left)] == [one.session for one in first[:2]]
    with pytest.raises(ConfigError, match="is not a rollout that has ended"):
        env.score([f"{batch}-2"], store=left)
    none = cut(store, {batch: 3, **{f"{batch}-{n}": 0 if n else 5 for n in range(4)}})
    with pytest.raises(ConfigError, match="no rollout of batch"):
        env.score(batch, store=none)


def test_missing_rollouts_stay_missing_when_rescored() -> None:
    from lllm.errors import ProviderError

    store = MemoryLog()
    env = RLEnv([{"prompt": "a"}, {"prompt": "b"}], lambda completion: 1)
    first = env(LLM(ScriptedBackend(["x", ProviderError("down")])), store=store, limit=1)
    again = env.score(first, store=store)
    assert [(one.status, one.reason, one.reward) for one in again] == [
        ("done", None, 1.0),
        ("missing", "provider", None),
    ]


def test_a_reward_that_comes_later_sees_the_reply() -> None:
    store = MemoryLog()
    form = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    agent = Agent("a", ScriptedBackend(["{", '{"n": 3}', '{"n": 4}']), format=form)
    env = RLEnv([{"prompt": "a"}, {"prompt": "b"}], lambda reply: reply.parsed["n"])
    first = env(agent, store=store, limit=1, run="r")
    assert [one.reward for one in first] == [3.0, 4.0]
    assert [one.reward for one in env.score(first, store=store)] == [3.0, 4.0]

    def tokens(reply: Any, rollout: Any) -> float:
        assert rollout.reply is reply
        return reply.usage.completion

    other = RLEnv(env.items, tokens)
    assert [one.reward for one in other(agent, store=store, run="r")] == [2.0, 2.0]
    own = RLEnv([{"prompt": "a"}], lambda reply: reply.content == "x")
    assert own.score(own(lambda prompt: "x", store=store), store=store).reward == 1.0


def forking(replies: Any, **more: Any) -> tuple[MemoryLog, Any]:
    store = MemoryLog()

    def main() -> Any:
        env = RLEnv(
            [{"prompt": "x", "answer": "right"}], lambda completion, answer: completion == answer, **more
        )
        return env(LLM(ScriptedBackend(replies)), store=store)

    main()
    return store, main


def reply_at(store: MemoryLog, session: str) -> int:
    kinds = [open_event(body)["kind"] for body in store.read(session)]
    return max(place for place, kind in enumerate(kinds) if kind == ev.MODEL_REPLIED)


def test_a_forked_rollout_has_a_reward_of_its_own() -> None:
    store, main = forking(lambda _: "wrong")
    batch = parent(store)
    fork = fork_session(
        batch, item=0, at=reply_at(store, f"{batch}-0"), edit="right", store=store, entry=main
    )
    assert fork.result.reward == 1.0
    assert replay_session(fork.session, store=store, entry=main).verified


def test_a_forked_rollout_is_answered_anew() -> None:
    said = []

    def step(completion: str, turns: int) -> str | None:
        said.append(completion)
        return f"you said {completion}" if turns == 1 else None

    store, main = forking(lambda _: "wrong", step=step)
    batch = parent(store)
    kinds = [open_event(body)["kind"] for body in store.read(f"{batch}-0")]
    at = kinds.index(ev.MODEL_REPLIED)
    fork = fork_session(batch, item=0, at=at, edit="left", store=store, entry=main)
    assert said == ["wrong", "wrong", "left", "wrong"]
    assert fork.result[0].messages[1].text == "you said left"


def test_a_fork_from_the_middle_of_a_state_is_missing() -> None:
    store = MemoryLog()

    def main() -> Any:
        return counting()(LLM(ScriptedBackend(asked)), store=store)

    main()
    batch = parent(store)
    fork = fork_session(
        batch, item=1, at=reply_at(store, f"{batch}-1"), edit="now 1", store=store, entry=main
    )
    assert [one.status for one in fork.result] == ["done", "missing", "done", "done"]
    assert fork.result[1].reason == "state"
    assert "its state was in the process that did the first rollout" in fork.result[1].detail
    assert replay_session(fork.session, store=store, entry=main).verified
    anew = fork_session(batch, item=1, at=0, store=store, entry=main)
    assert [one.reward for one in anew.result] == [1.0] * 4


def test_tools_are_run_again_after_a_crash() -> None:
    @tool
    def look(place: str) -> str:
        """Looks."""
        return f"nothing in {place}"

    store = MemoryLog()

    def replies(request: Any) -> Any:
        last = request.messages[-1]
        if last.role == "user":
            return {"tool_calls": [{"name": "look", "arguments": {"place": "x"}}]}
        return last.text

    def main(kept: MemoryLog) -> Any:
        env = RLEnv([{"prompt": "a"}], lambda completion: completion == "nothing in x", tools=[look])
        return env(LLM(ScriptedBackend(replies)), store=kept)

    main(store)
    batch = parent(store)
    kinds = [open_event(body)["kind"] for body in store.read(f"{batch}-0")]
    left = cut(store, {batch: 2, f"{batch}-0": kinds.index(ev.TOOL_REQUESTED) + 1})
    done = resume_session(batch, store=left, entry=lambda: main(left))
    assert done.result.reward == 1.0
    assert done.uncertain == [] or {one.decision for one in done.uncertain} == {"retry"}


def test_tools_that_act_on_the_world_keep_their_effect() -> None:
    from lllm.models.function import Function

    tools = [
        tool(effect="never")(lambda_named("never")),
        tool(lambda_named("plain")),
        Function("far", endpoint="weather.daily", call=lambda_named("far")),
        lambda_named("bare"),
    ]
    env = RLEnv([{"prompt": "a"}], lambda: 1, tools=tools)
    assert {one.name: one.effect for one in env.tools} == {
        "never": "never",
        "plain": "pure",
        "far": "ask",
        "bare": "pure",
    }
    assert all(one.repeatable for one in env.tools)


def lambda_named(name: str) -> Any:
    def call() -> str:
        """Does nothing."""
        return ""

    call.__name__ = name
    return call


def test_a_fork_begins_rollouts_again_that_were_stopped() -> None:
    store = MemoryLog()

    def main(kept: MemoryLog) -> Any:
        return counting()(LLM(ScriptedBackend(asked)), store=kept, limit=1)

    main(store)
    batch = parent(store)
    left = cut(store, {batch: 9, f"{batch}-2": 8, f"{batch}-3": 0})
    fork = fork_session(batch, store=left, entry=lambda: main(left))
    assert [one.reward for one in fork.result] == [1.0] * 4
    assert replay_session(fork.session, store=left, entry=lambda: main(left)).verified
