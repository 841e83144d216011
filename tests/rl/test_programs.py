"""Rollouts that are run again from Python: their sessions say what made them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lllm import ScriptedBackend, fork_session, replay_session, resume_session
from lllm.errors import ConfigError
from lllm.llm.project import default_store
from lllm.registry import registry
from lllm.rl import RLEnv
from lllm.rl.named import environment
from tests.rl.project import make_project

MORE = """
from lllm.rl import RLEnv


def right(completion, answer):
    return answer in completion


def endless():
    n = 0
    while True:
        yield {"prompt": f"What is {n} plus 1?", "answer": str(n + 1)}
        n += 1


class State:
    def __init__(self, rng):
        self.n = rng.randrange(100)


equal = RLEnv([{"prompt": "What is 2 plus 2?", "answer": "4"}] * 3, [right], name="equal")
without_end = RLEnv(endless(), [right], name="without_end")
walk = RLEnv([{"prompt": f"Walk {n}."} for n in range(3)], [lambda state: state.n], setup=State, name="walk")
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    root = make_project(tmp_path / "project")
    (root / "envs" / "more.py").write_text(MORE)
    monkeypatch.chdir(root)
    with registry.scope(empty=True):
        registry.arm()
        registry.add("backend", "other", lambda **_: ScriptedBackend(lambda request: "It is 1."))
        yield default_store()


def sessions(store: Any) -> list[str]:
    return [one.id for one in store.sessions()]


def batch_of(store: Any) -> str:
    return next(one.id for one in store.sessions() if one.meta["entry"]["kind"] == "rl/batch")


WAYS: list[tuple[str, dict[str, Any], int]] = [
    ("sums", {}, 6),
    ("sums", {"first": 2, "samples": 2, "temperature": 0.7, "run": "monday"}, 5),
    ("equal", {"run": "r"}, 4),
    ("equal", {"samples": 2}, 7),
    ("walk", {"samples": 2}, 7),
    ("without_end", {"first": 2}, 3),
    ("rl/questions", {}, 3),
]


@pytest.mark.parametrize(("name", "more", "count"), WAYS)
def test_without_an_entry(store: Any, name: str, more: dict[str, Any], count: int) -> None:
    made = environment(name)("embedded", **more)
    assert len(sessions(store)) == count
    for session in sessions(store):
        report = replay_session(session)
        assert (report.verified, report.whole, report.notes) == (True, True, []), session
    assert len(made) == count - 1


def test_rows_that_are_chosen_or_of_the_call(store: Any) -> None:
    env = environment("equal")
    ways: list[Any] = [env.items[2], "What is 1 plus 1?", [env.items[2], env.items[1], "Hello?"]]
    for rows in ways:
        env("embedded", rows)
    assert len(sessions(store)) == 2 + 2 + 4
    for session in sessions(store):
        report = replay_session(session)
        assert (report.verified, report.whole) == (True, True), session


def test_a_row_that_rewards_alone_know_has_no_program(store: Any) -> None:
    environment("equal")("embedded", [{"prompt": "What is 1 plus 1?", "answer": "2"}])
    report = replay_session(batch_of(store))
    assert (report.verified, report.whole) == (True, False)
    assert any("what made these rollouts is not known here" in note for note in report.notes)


def test_an_environment_without_a_name_says_so(store: Any) -> None:
    found = RLEnv([{"prompt": "x"}], lambda completion: 1)("embedded")
    report = replay_session(found[0].session)
    assert (report.verified, report.whole) == (True, False)
    assert any("the environment has no registered name" in note for note in report.notes)
    with pytest.raises(ConfigError, match="is a batch, and the program that made it is not known here: what"):
        fork_session(batch_of(store))


def test_forks_of_a_run_have_sessions_of_their_own(store: Any) -> None:
    environment("equal")("embedded", run="r")
    batch = batch_of(store)
    before = {id: list(store.read(id)) for id in sessions(store)}
    whole, one = fork_session(batch), fork_session(batch, item=1, at=3)
    assert (whole.status, whole.reused, whole.new) == ("done", 3, 0)
    assert (one.status, one.reused) == ("done", 2)
    assert {id: list(store.read(id)) for id in before} == before
    for fork in (whole, one):
        for session in (fork.session, *(f"{fork.session}-{n}" for n in range(3))):
            assert replay_session(session).verified, session


def test_a_fork_may_have_another_model(store: Any) -> None:
    environment("sums")("embedded", first=2)
    batch = batch_of(store)
    fork = fork_session(batch, model="other/x")
    assert fork.result["components"]["right"] == 0.5
    with pytest.raises(ConfigError, match="a model alone acts in these rollouts"):
        fork_session(batch, overrides=["agent_configs.sums.temperature=1"])
    with pytest.raises(ConfigError, match="has ended: done"):
        resume_session(batch)
