"""One retry policy for agents and steps: a value, or an object of tenacity. What it decides is in the log."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tenacity

import lllm
from lllm import LLM, Agent, MemoryLog, RetryPolicy, ScriptedBackend, fallback, load_config, retry
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.core.retry_policy import Try
from lllm.core.spec import Limits, Spec
from lllm.errors import (
    AuthenticationError,
    CallCancelled,
    ConfigError,
    ProviderFailed,
    RateLimitError,
    ServerError,
)
from lllm.llm.build import check


class Flaky:
    """A function that fails so many times, or for ever, and then gives what it was given."""

    def __init__(self, times: int = 10**9, error: Any = OSError) -> None:
        self.left, self.error, self.tries = times, error, 0

    def __call__(self, text: str) -> str:
        self.tries += 1
        self.left -= 1
        if self.left >= 0:
            raise self.error("busy")
        return text


def events(store: MemoryLog, kind: str) -> list[Any]:
    return [
        event["data"]
        for id in store._sessions
        for event in map(open_event, store.read(id))
        if event["kind"] == kind
    ]


def decisions(store: MemoryLog) -> list[Any]:
    return [
        data["value"]["$dict"] if "$dict" in data["value"] else data["value"]
        for data in events(store, ev.EFFECT_RETURNED)
        if data.get("kind") == "retry"
    ]


# --- the value


def test_waits_of_a_policy_are_those_of_limits() -> None:
    policy, of_limits = RetryPolicy(5), RetryPolicy.of_limits(Limits(max_provider_retry=4))
    assert [policy.seconds(n, "s") for n in range(1, 9)] == [of_limits.seconds(n, "s") for n in range(1, 9)]
    plain = RetryPolicy(9, wait=1, cap=5, jitter=0)
    assert [plain.seconds(n, "s") for n in range(1, 6)] == [1, 2, 4, 5, 5]
    assert plain == RetryPolicy(9, wait=1, cap=5, jitter=0) != RetryPolicy(9, wait=1)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"times": 0}, "times must be a whole number >= 1, got 0"),
        ({"times": True}, "times must be a whole number >= 1"),
        ({"times": None}, "has no end"),
        ({"wait": -1}, "wait must be a number of seconds >= 0, got -1"),
        ({"wait": float("nan")}, "wait must be a number of seconds"),
        ({"wait": 60}, "wait must be at most the cap, 30 s, got 60"),
        ({"jitter": 1.5}, "jitter must be a number from 0 to 1, got 1.5"),
        ({"total": "1"}, "total must be a number of seconds"),
        ({"on": [KeyboardInterrupt]}, "retry.on="),
        ({"on": ()}, "retry.on="),
        ({"stop": 3}, "stop must be a function of a Try"),
        ({"retry_after": 1}, "retry_after must be True or False"),
    ],
)
def test_a_wrong_part_is_refused(parts: dict[str, Any], words: str) -> None:
    for make in (lambda: RetryPolicy(**parts), lambda: Agent("a", ScriptedBackend(["x"]), retry=parts)):
        with pytest.raises(ConfigError, match=words):
            make()


def test_what_is_no_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown key .retry\.tries."):
        retry(str.upper, tries=3)
    with pytest.raises(ConfigError, match="retry is 3, and no retry policy"):
        retry(str.upper, 3)
    with pytest.raises(ConfigError, match="a policy, and times beside it"):
        retry(str.upper, RetryPolicy(), times=3)
    with pytest.raises(ConfigError, match="max_provider_retry and retry say the same thing"):
        Agent("a", ScriptedBackend(["x"]), retry=RetryPolicy(), max_provider_retry=2)


def test_a_record_gives_the_numbers_back() -> None:
    policy = RetryPolicy(7, 1.5, total=60, retry_after=False, on=OSError)
    record = Spec(retry=policy).record()["retry"]
    assert record == {"times": 7, "wait": 1.5, "retry_after": False, "total": 60, "on": ["OSError"]}
    again = Spec.from_record({"retry": record}).retry
    assert again == RetryPolicy(7, 1.5, total=60, retry_after=False)


# --- steps


def test_a_step_is_tried_again_as_the_policy_says() -> None:
    busy = Flaky(2)
    assert retry(busy, RetryPolicy(3, 0, on=OSError))("a") == "a"
    assert busy.tries == 3
    for policy, tries in [
        (RetryPolicy(2, 0, on=OSError), 2),
        (RetryPolicy(5, 0, on=ValueError), 1),
        (RetryPolicy(5, 0), 1),
        (RetryPolicy(None, 0, on=OSError, stop=lambda tried: tried.number == 4), 4),
        (RetryPolicy(5, 1, jitter=0, on=OSError, total=0.5), 1),
    ]:
        busy = Flaky()
        with pytest.raises(OSError, match="busy"):
            retry(busy, policy)("a")
        assert busy.tries == tries, policy


def test_a_server_s_own_wait_takes_the_place_of_the_wait() -> None:
    error = RateLimitError("429", retry_after=7)
    assert RetryPolicy().decide(Try(1, error), "s") == (True, 7)
    assert RetryPolicy(retry_after=False, jitter=0).decide(Try(1, error), "s") == (True, 0.5)
    assert RetryPolicy(total=5).decide(Try(1, error), "s") == (False, 7)


def test_a_cancelled_call_is_never_tried_again() -> None:
    for make in (
        lambda one: retry(one, RetryPolicy(5, 0, on=Exception)),
        lambda one: fallback(one, str.upper),
    ):
        stopped = Flaky(error=CallCancelled)
        with pytest.raises(CallCancelled):
            make(stopped)("a")
        assert stopped.tries == 1


def test_decisions_are_in_the_log_and_a_replay_takes_them() -> None:
    store, asked = MemoryLog(), []

    def wait(tried: Try) -> float:
        asked.append(tried.number)
        return 0.001 * len(asked)

    def program() -> Any:
        busy = Flaky(2)
        return retry(busy, RetryPolicy(5, wait, on=lambda error: "busy" in str(error))).run("a", store=store)

    id = program().session
    assert decisions(store) == [
        {"again": True, "try": 1, "wait": 0.001},
        {"again": True, "try": 2, "wait": 0.002},
    ]
    assert lllm.replay_session(id, store=store, entry=program).verified
    assert asked == [1, 2]  # a replay does not ask: it would get other waits


def test_the_jitter_of_a_step_comes_from_the_seed() -> None:
    waits = []
    for seed in ("s", "s", "t"):
        store = MemoryLog()
        with lllm.record(store=store, seed=seed), pytest.raises(OSError, match="busy"):
            retry(Flaky(), RetryPolicy(4, 0.001, on=OSError))("a")
        waits.append([one["wait"] for one in decisions(store)])
    assert waits[0] == waits[1]


# --- agents


def flaky_model(times: int, error: Any = ServerError) -> ScriptedBackend:
    left = [times]

    def answer(request: Any) -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise error("broken")
        return "yes"

    return ScriptedBackend(answer)


def test_agents_models_and_calls_take_the_policy() -> None:
    quick = RetryPolicy(2, 0.001)
    for ask in (
        lambda model: Agent("a", model, retry=quick)("q"),
        lambda model: Agent("a", model).with_(retry=quick)("q"),
        lambda model: Agent("a", model)("q", retry=quick),
        lambda model: Agent("a", model, retry={"times": 2, "wait": 0.001})("q"),
        lambda model: Agent("a", LLM(model, retry=quick))("q"),
        lambda model: LLM(model, retry=quick)("q"),
        lambda model: LLM(model)("q", retry=quick),
    ):
        assert ask(flaky_model(1)).content == "yes"
        with pytest.raises(ProviderFailed):
            ask(flaky_model(2))


def test_a_limit_of_one_call_changes_the_agent_s_policy() -> None:
    agent = Agent("a", flaky_model(2), retry=RetryPolicy(2, 0.001))
    assert agent("q", max_provider_retry=2).content == "yes"


def test_the_errors_of_an_agent_s_policy() -> None:
    policy = RetryPolicy(3, 0, on=AuthenticationError)
    assert Agent("a", flaky_model(2, AuthenticationError), retry=policy)("q").content == "yes"
    with pytest.raises(ProviderFailed):
        Agent("a", flaky_model(1, ServerError), retry=policy)("q")


def test_total_time_of_an_agent_s_tries() -> None:
    policy = RetryPolicy(None, 5, jitter=0, total=1)
    with pytest.raises(ProviderFailed, match="the next try would be after 1 s"):
        Agent("a", flaky_model(9), retry=policy)("q")


def test_a_replay_of_an_agent_takes_the_recorded_decisions() -> None:
    store, asked = MemoryLog(), []

    def wait(tried: Try) -> float:
        asked.append(tried.number)
        return 0.001 * len(asked)

    policy = RetryPolicy(
        None, wait, on=lambda error: "broken" in str(error), stop=lambda tried: tried.number > 5
    )

    def program() -> str:
        return Agent("a", flaky_model(2), retry=policy, store=store)("q").content

    assert program() == "yes"
    (id,) = store._sessions
    faults = events(store, ev.MODEL_FAILED)
    assert [(one["retryable"], one["wait"]) for one in faults] == [(True, 0.001), (True, 0.002)]
    assert [one["seconds"] for one in events(store, ev.WAIT_ENDED)] == [0.001, 0.002]
    assert lllm.replay_session(id, store=store, entry=program).verified
    assert asked == [1, 2]


def test_a_policy_that_fails_ends_the_call() -> None:
    def broken(tried: Try) -> float:
        raise KeyError("here")

    agent = Agent("a", flaky_model(1), retry=RetryPolicy(3, broken))
    with pytest.raises(ProviderFailed, match="the retry policy of 'a' failed: it raised KeyError"):
        agent("q")
    with pytest.raises(ProviderFailed, match="must be seconds >= 0, got -1"):
        Agent("a", flaky_model(1), retry=RetryPolicy(3, lambda tried: -1))("q")


def test_an_exported_agent_keeps_the_numbers() -> None:
    agent = Agent("a", ScriptedBackend(["x"]), retry=RetryPolicy(7, lambda tried: 1, total=9, on=OSError))
    again = Agent.import_(agent.export(), ScriptedBackend(["x"]))
    assert again._settings.retry == RetryPolicy(7, total=9)


# --- tenacity


@tenacity.retry(stop=tenacity.stop_after_attempt(2), wait=tenacity.wait_none())
def decorated(text: str) -> str:
    return text


@pytest.mark.parametrize(
    ("given", "tries"),
    [
        (tenacity.stop_after_attempt(3) | tenacity.stop_after_delay(60), 1),
        (
            tenacity.AsyncRetrying(
                stop=tenacity.stop_after_attempt(4), retry=tenacity.retry_if_exception_type(OSError)
            ),
            4,
        ),
        (tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_random(0, 0.001)), 3),
        (
            tenacity.Retrying(
                stop=tenacity.stop_after_attempt(9), retry=tenacity.retry_if_exception_message(match="quiet")
            ),
            1,
        ),
        (tenacity.Retrying(stop=tenacity.stop_after_attempt(9), enabled=False), 1),
        (
            tenacity.Retrying(
                stop=tenacity.stop_before_delay(0.5), wait=tenacity.wait_fixed(0.2) + tenacity.wait_fixed(0.4)
            ),
            1,
        ),
        (tenacity.retry_if_exception_type((OSError, KeyError)), 3),
        (decorated, 2),
        (
            RetryPolicy(
                None,
                tenacity.wait_random_exponential(0.0001, 0.001),
                on=tenacity.retry_if_exception_type(OSError),
                stop=tenacity.stop_after_attempt(5),
            ),
            5,
        ),
    ],
)
def test_objects_of_tenacity_are_policies(given: Any, tries: int) -> None:
    busy = Flaky()
    policy = RetryPolicy.of(given)
    if not callable(policy.wait):
        policy = RetryPolicy(policy.times, 0, on=policy.on, stop=policy.stop)
    with pytest.raises(OSError, match="busy"):
        retry(busy, policy)("a")
    assert busy.tries == tries


def test_an_agent_takes_an_object_of_tenacity() -> None:
    given = tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(2), wait=tenacity.wait_fixed(0.001))
    assert Agent("a", flaky_model(1), retry=given)("q").content == "yes"
    with pytest.raises(ProviderFailed):
        Agent("a", flaky_model(2), retry=given)("q")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RetryPolicy.of(tenacity.Retrying()), "has no stop, so it would try for ever"),
        (lambda: RetryPolicy.of(tenacity.retry_if_result(bool)), "retry_if_result looks at results"),
        (
            lambda: RetryPolicy.of(tenacity.retry_if_exception_type() | tenacity.retry_if_result(bool)),
            "looks at results",
        ),
        (lambda: RetryPolicy(wait=tenacity.stop_after_attempt(2)), "wait=stop_after_attempt"),
        (lambda: RetryPolicy.of(tenacity.Future(1)), "is no part of a retry policy"),
    ],
)
def test_what_tenacity_has_and_a_policy_cannot_be(make: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


def test_tenacity_is_not_imported_for_a_policy() -> None:
    code = (
        "import sys; from lllm import RetryPolicy, retry\n"
        "retry(str.upper, RetryPolicy(on=OSError)); assert not any('tenacity' in m for m in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_cancelling_a_step_that_waits_stops_it() -> None:
    busy = Flaky()

    async def main() -> None:
        task = asyncio.ensure_future(retry(busy, RetryPolicy(5, 20, on=OSError)).acall("a"))
        while not busy.tries:
            await asyncio.sleep(0.001)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert busy.tries == 1


# --- YAML

AGENT = """\
model: scripted
agent_configs:
  asks:
    system_prompt: Say it.
    retry:
      times: 2
"""


def test_an_agent_s_policy_in_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(
        "retry: {jitter: 0}\n" + AGENT + "      wait: 0.001\n      on: [ServerError, OSError]\n"
    )
    system = lllm.build_agent("a.yaml", model=flaky_model(1), log_base=MemoryLog())
    found = system.agents["asks"]._settings.retry
    assert found == RetryPolicy(2, 0.001, jitter=0, on=(ServerError, OSError))


@pytest.mark.parametrize(
    ("lines", "line", "words"),
    [
        (
            "      wait: -1\n",
            7,
            "retry.wait is -1 (a whole number); it wants a number of seconds of 0 or more",
        ),
        ("      wait: 60\n", 5, "wait must be at most the cap"),
        ("      jitter: 2\n", 7, "it wants a number from 0 to 1"),
        ("      tries: 2\n", 7, "unknown key 'agent_configs.asks.retry.tries'"),
        ("      on: OsError\n", 7, "no exception named 'OsError'"),
        ("    max_provider_retry: 9\n", 3, "max_provider_retry and retry say the same thing"),
    ],
)
def test_what_is_wrong_with_it_is_said_with_its_line(
    lines: str, line: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(AGENT + lines)
    try:
        found = [str(one) for one in check(load_config("a.yaml"))]
    except ConfigError as error:
        found = [str(error)]
    assert any(words in one and f"a.yaml:{line}" in one for one in found), found
