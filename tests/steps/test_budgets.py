"""Budgets of chains and batches: what is done is kept, no request follows, and a larger budget goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import lllm
from lllm import (
    LLM,
    Agent,
    MemoryLog,
    Reply,
    ScriptedBackend,
    Usage,
    fallback,
    join,
    load_config,
    parallel,
    retry,
    step,
    to_jsonl,
)
from lllm.core.envelope import open_event
from lllm.errors import BudgetExceeded, ConfigError, DeadlineExceeded, StageError
from lllm.llm.build import check


class Model:
    """A model that notes what it is asked; each request is 10 tokens."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.agent = Agent("a", ScriptedBackend(self.answer))

    def answer(self, request: Any) -> Reply:
        text = request.messages[-1].text
        self.asked.append(text)
        return Reply(f"{text}!", usage=Usage(6, 4))


@pytest.fixture
def model() -> Model:
    return Model()


def same(value: Any) -> Any:
    return value


async def passes(value: Any) -> Any:
    return value


def kinds(store: MemoryLog, id: str) -> list[str]:
    return [open_event(body)["kind"] for body in store.read(id)]


def batch_of(store: MemoryLog) -> str:
    return min(store._sessions, key=len)


# --- one value


def test_the_request_after_the_budget_is_not_sent(model: Model) -> None:
    a = model.agent
    made = step(same) >> a >> a >> a
    for budget, asked in [
        ({"max_model_calls": 2}, 2),
        ({"max_tokens_total": 15}, 2),
        ({"max_model_calls": 3}, 3),
        ({"max_tokens_total": 30}, 3),
        ({"max_model_calls": 0}, 0),
    ]:
        for run in (lambda b=budget: made.with_budget(**b)("q"), lambda b=budget: made("q", **b)):
            model.asked.clear()
            if asked == 3:
                assert run().content == "q!!!"
            else:
                with pytest.raises(BudgetExceeded) as found:
                    run()
                (name,) = budget
                assert found.value.reason == name
                assert f"Raise {name}, and go on with it: lllm resume" in str(found.value)
                assert "a budget of chain" in found.value.message
                assert found.value.resumable
            assert len(model.asked) == asked


def test_an_unknown_price_cannot_be_held(model: Model) -> None:
    with pytest.raises(BudgetExceeded, match="max_cost is set, but the price of the model is unknown"):
        (step(same) >> model.agent >> model.agent)("q", max_cost=1)


def test_it_covers_branches_tools_and_what_functions_call(model: Model) -> None:
    def ask(text: str) -> str:
        """Asks."""
        return LLM(ScriptedBackend(model.answer))(text).content

    made = parallel(model.agent, step(ask), step(same) >> model.agent) >> join(len) >> str >> ask
    assert made("q", max_model_calls=4) == "3!"
    with pytest.raises(BudgetExceeded):
        made("q", max_model_calls=3)
    assert len(model.asked) == 7


def test_the_inner_and_the_outer_budget_both_hold(model: Model) -> None:
    a = model.agent
    inner = (step(same) >> a >> a).with_budget(max_model_calls=1)
    with pytest.raises(BudgetExceeded, match="max_model_calls=1"):
        (step(same) >> inner)("q", max_model_calls=9)
    made = step(same) >> (step(same) >> a >> a).with_budget(max_model_calls=5) >> a
    with pytest.raises(BudgetExceeded, match="max_model_calls=2"):
        made("q", max_model_calls=2)
    assert made("q", max_model_calls=3).content == "q!!!"


def test_nothing_within_goes_on_after_it(model: Model) -> None:
    a = model.agent
    two = step(same) >> a >> a
    for made in (
        retry(two, times=3, on=Exception),
        fallback(two, str.upper),
        parallel(two, two, errors="keep") >> join(list),
        lllm.map(two, errors="drop"),
    ):
        with pytest.raises(BudgetExceeded):
            made.run(["q"] if made.kind == "map" else "q", max_model_calls=1)

    def caught(text: str) -> str:
        try:
            return two(text).content
        except BudgetExceeded:
            return "never mind"

    with pytest.raises(BudgetExceeded):
        step(caught)("q", max_model_calls=1)


def test_resumed_with_more_it_goes_on(model: Model) -> None:
    store, a = MemoryLog(), model.agent

    def program(most: int) -> Any:
        made = parallel(x=step(same) >> a >> a, y=a) >> join(lambda x, y: f"{x} {y}") >> a
        return lambda: made.run("q", store=store, max_model_calls=most)

    with pytest.raises(BudgetExceeded) as found:
        program(2)()
    (id,) = store._sessions
    assert found.value.session == id
    assert "SessionEnded" not in kinds(store, id)
    assert lllm.replay_session(id, store=store, entry=program(2)).verified
    with pytest.raises(BudgetExceeded):
        lllm.resume_session(id, store=store, entry=program(3))
    assert len(model.asked) == 3
    assert lllm.resume_session(id, store=store, entry=program(4)).result.value.content == "q!! q!!"
    assert len(model.asked) == 4  # none is asked twice
    assert lllm.replay_session(id, store=store, entry=program(4)).verified
    fork = lllm.fork_session(id, at=5, store=store, entry=program(9))
    assert fork.result.value.content == "q!! q!!"


def test_a_sink_before_the_stop_is_written_once(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store, a = MemoryLog(), model.agent

    def program(most: int) -> Any:
        return lambda: (step(same) >> a >> to_jsonl("out.jsonl") >> a).run(
            "q", store=store, max_model_calls=most
        )

    with pytest.raises(BudgetExceeded):
        program(1)()
    (id,) = store._sessions
    lllm.resume_session(id, store=store, entry=program(2))
    assert len(Path("out.jsonl").read_text().splitlines()) == 1


def test_in_a_session_of_the_user_s_it_is_an_ordinary_error(model: Model) -> None:
    store, a = MemoryLog(), model.agent

    def program() -> str:
        with lllm.record("mine", store=store):
            with pytest.raises(BudgetExceeded) as found:
                (step(same) >> a >> a).with_budget(max_model_calls=1)("q")
            assert not found.value.resumable
            return a("more").content

    assert program() == "more!"
    (id,) = store._sessions
    assert kinds(store, id)[-1] == "SessionEnded"
    assert lllm.replay_session(id, store=store, entry=program).verified


def test_a_deadline_stops_what_is_under_way(model: Model) -> None:
    ended: list[str] = []
    store = MemoryLog()

    async def slow(text: str) -> str:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(text)
        return text

    def program() -> Any:
        return (model.agent >> step(slow)).run("q", store=store, deadline=0.05)

    with pytest.raises(DeadlineExceeded, match="has not ended within its deadline"):
        program()
    assert ended == ["q!"]
    (id,) = store._sessions
    assert lllm.replay_session(id, store=store, entry=program).verified


def test_a_time_limit_of_the_program_s_own_is_none_of_it() -> None:
    async def slow(text: str) -> str:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)
        return text

    with pytest.raises(TimeoutError) as found:
        step(slow)("q", deadline=30)
    assert not isinstance(found.value, DeadlineExceeded)


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"max_cost": -1}, "max_cost is -1"),
        ({"max_model_calls": "2"}, "max_model_calls is '2'"),
        ({"deadline": 0}, "deadline is 0"),
        ({"max_price": 1}, "unknown key 'max_price'"),
    ],
)
def test_what_is_no_budget(budget: dict[str, Any], words: str) -> None:
    made = step(same)
    for run in (
        lambda: made.with_budget(**budget),
        lambda: made("q", **budget),
        lambda: made.batch(["q"], **budget),
        lambda: list(made.stream("q", **budget)),
    ):
        with pytest.raises(ConfigError, match=words):
            run()


def test_without_a_log_nothing_can_be_resumed(model: Model) -> None:
    two = step(same) >> model.agent >> model.agent
    with pytest.raises(BudgetExceeded) as found:
        two.run("q", store=lllm.NoLog(), max_model_calls=1)
    (_, late) = two.batch(list("ab"), store=lllm.NoLog(), limit=1, max_model_calls=2)
    for error in (found.value, late.__cause__):
        assert isinstance(error, BudgetExceeded)
        assert not error.resumable
        assert "lllm resume" not in str(error)


def test_streams_have_it_too(model: Model) -> None:
    with pytest.raises(BudgetExceeded):
        list((step(same) >> model.agent >> model.agent).stream("q", max_model_calls=1))


# --- batches


def test_later_items_are_not_begun(model: Model) -> None:
    store = MemoryLog()
    made = step(same) >> model.agent >> model.agent
    found = made.batch(list("abcd"), limit=1, max_model_calls=4, store=store)
    assert [str(one) for one in found[:2]] == ["a!!", "b!!"]
    for one in found[2:]:
        assert isinstance(one, StageError)
        assert isinstance(one.__cause__, BudgetExceeded)
        assert "not begun: a budget of batch 'same >> a >> a': max_model_calls=4 is used up" in one.message
        assert "Raise max_model_calls" in str(one)
    assert len(model.asked) == 4
    assert len(store._sessions) == 3


def test_items_under_way_are_finished(model: Model) -> None:
    found = (step(same) >> model.agent >> model.agent).batch(list("abcd"), limit=2, max_model_calls=1)
    assert [str(one) for one in found[:2]] == ["a!!", "b!!"]
    assert len(model.asked) == 4


@pytest.mark.parametrize("limit", [1, 3])
def test_a_batch_that_is_resumed_with_more_goes_on(model: Model, limit: int) -> None:
    store, a = MemoryLog(), model.agent

    items = "abcdefghijklmnopqrst"

    def program(most: int, each: int = 9) -> Any:
        made = (step(passes) >> a >> a).with_budget(max_model_calls=each)
        return lambda: made.batch(list(items), limit=limit, max_model_calls=most, store=store)

    before = program(4)()
    assert any(isinstance(one, StageError) for one in before)
    id = batch_of(store)
    assert "SessionEnded" not in kinds(store, id)
    assert lllm.replay_session(id, store=store, entry=program(4)).verified
    with pytest.raises(BudgetExceeded, match="max_model_calls=8"):  # not enough
        lllm.resume_session(id, store=store, entry=program(8))
    result = lllm.resume_session(id, store=store, entry=program(99)).result
    assert [str(one) for one in result] == [f"{one}!!" for one in items]
    assert sorted(model.asked) == sorted([*items, *(f"{one}!" for one in items)])
    assert kinds(store, id)[-1] == "SessionEnded"
    assert lllm.replay_session(id, store=store, entry=program(99)).verified


def test_a_budget_of_each_item(model: Model) -> None:
    store, a = MemoryLog(), model.agent

    async def many(text: str) -> str:
        for _ in range(int(text)):
            await a.acall(text)
        return text

    def program(most: int) -> Any:
        return lambda: (step(many) >> a).with_budget(max_model_calls=most).batch(list("1531"), store=store)

    found = program(3)()
    assert [isinstance(one, StageError) for one in found] == [False, True, True, False]
    assert isinstance(found[1].__cause__, BudgetExceeded)
    id, asked = batch_of(store), len(model.asked)
    assert lllm.replay_session(id, store=store, entry=program(3)).verified
    result = lllm.resume_session(id, store=store, entry=program(6)).result
    assert [str(one) for one in result] == ["1!", "5!", "3!", "1!"]
    assert len(model.asked) == asked + 3 + 1
    assert lllm.replay_session(id, store=store, entry=program(6)).verified


def test_a_batch_without_a_stop_is_replayed_in_any_order(model: Model) -> None:
    store = MemoryLog()

    async def wait(text: str) -> str:
        await asyncio.sleep(0.02 / int(text))
        return text

    def program() -> Any:
        made = step(wait) >> model.agent
        return made.batch(list("12345"), limit=4, max_model_calls=5, store=store)

    assert not any(isinstance(one, StageError) for one in program())
    assert lllm.replay_session(batch_of(store), store=store, entry=program).verified


def test_a_batch_in_a_session(model: Model) -> None:
    store = MemoryLog()

    def program() -> list[Any]:
        with lllm.record("mine", store=store):
            found = (step(same) >> model.agent).batch(list("abc"), limit=1, max_model_calls=2)
            model.agent("after")
            return found

    found = program()
    assert [isinstance(one, StageError) for one in found] == [False, False, True]
    assert not found[2].__cause__.resumable
    assert "lllm resume" not in str(found[2])
    (id,) = store._sessions
    assert kinds(store, id)[-1] == "SessionEnded"
    assert lllm.replay_session(id, store=store, entry=program).verified


def test_what_stops_a_batch_that_raises(model: Model) -> None:
    store = MemoryLog()
    with pytest.raises(StageError, match="item 1 failed: not begun"):
        (step(same) >> model.agent).batch(
            list("abc"), limit=1, errors="raise", max_model_calls=1, store=store
        )
    assert "SessionEnded" not in kinds(store, batch_of(store))


def test_the_time_of_a_batch() -> None:
    async def slow(text: str) -> str:
        await asyncio.sleep(0.1)
        return text

    found = step(slow).batch(list("abc"), limit=1, deadline=0.05)
    assert found[0] == "a"
    assert all("the deadline of 0.05 s of batch 'slow' has passed" in one.message for one in found[1:])


# --- YAML

AGENTS = "name: made\nmodel: scripted\nagent_configs:\n  a: {system_prompt: Say it.}\n"


def test_a_budget_in_yaml(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = MemoryLog()

    def system(most: int) -> Any:
        Path("a.yaml").write_text(f"{AGENTS}budget: {{max_model_calls: {most}}}\nsteps: [a, a, a]\n")
        return lllm.build_agent("a.yaml", model=ScriptedBackend(model.answer), log_base=store)

    with pytest.raises(BudgetExceeded) as found:
        system(2)("q")
    (id,) = store._sessions
    assert found.value.resumable
    assert "SessionEnded" not in kinds(store, id)
    more = system(3)
    assert lllm.resume_session(id, store=store, entry=lambda: more("q")).result == "q!!!"
    assert len(model.asked) == 3
    with lllm.record("mine", store=MemoryLog()), pytest.raises(BudgetExceeded) as found:
        system(2)("q")
    assert not found.value.resumable


def test_a_budget_of_a_stage_in_yaml(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(
        f"{AGENTS}steps:\n- a\n- budget:\n    step: [a, a]\n    max_model_calls: 1\n- a\n"
    )
    with pytest.raises(BudgetExceeded, match="max_model_calls=1 is used up"):
        lllm.build_agent("a.yaml", model=ScriptedBackend(model.answer), log_base=MemoryLog())("q")


@pytest.mark.parametrize(
    ("lines", "line", "words"),
    [
        ("budget: {max_cost: -1}\nsteps: [a]\n", 5, "budget.max_cost is -1"),
        ("budget:\n  max_price: 1\nsteps: [a]\n", 6, "unknown key 'budget.max_price'"),
        ("steps:\n- budget: {step: a, deadline: 0}\n", 6, "steps.0.budget.deadline is 0"),
        ("budget: {max_cost: 1}\n", 5, "budget is for `steps`, and there are none here"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    lines: str, line: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(AGENTS + lines)
    try:
        found = [str(one) for one in check(load_config("a.yaml"))]
    except ConfigError as error:
        found = [str(error)]
    assert any(words in one and f"a.yaml:{line}" in one for one in found), found
