"""Prompt search: three splits, a winner that is measured once, budgets, resumption; and the best of n."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lllm import LLM, Agent, Prompt, ScriptedBackend, tool
from lllm.errors import ConfigError, LLMError
from lllm.log.memory import MemoryLog
from lllm.rl import RLEnv
from lllm.rl.environments.arithmetic import Arithmetic
from lllm.rl.evaluation import Evaluation
from lllm.rl.selection.best_of import BestOf, Chosen
from lllm.rl.selection.candidates import filled
from lllm.rl.selection.search import PromptSearch
from lllm.systems import last_number, vote

SKILL = {"none": 2, "good": 8, "better": 9, "lucky": 6, "wrong": 0}
"""Of ten rows, so many are right with a prompt that says the word. `lucky` is right on all rows of the search."""


def right(completion: str, answer: str) -> bool:
    return completion == answer


def env_of(rows: int = 120) -> RLEnv:
    return RLEnv([{"prompt": f"row {n}", "answer": f"answer {n}"} for n in range(rows)], right, name="rows")


class Model:
    """A scripted model whose skill depends on its prompt. It counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def __call__(self, request: Any) -> str:
        text = " ".join(one.text for one in request.messages)
        number = int(text.split("row ")[1].split()[0])
        word = next((one for one in SKILL if f"be {one}" in text), "none")
        self.asked.append((word, number))
        fine = number % 10 < SKILL[word] or (word == "lucky" and number < 20)
        return f"answer {number}" if fine else "no"

    @property
    def policy(self) -> LLM:
        return LLM(ScriptedBackend(self))


def search_of(
    model: Any, prompts: Any = ("be good", "be better", "be lucky", "be wrong"), **more: Any
) -> Any:
    given = {"search": 20, "choice": 20, "held_out": 60, "store": MemoryLog(), **more}
    return env_of() >> PromptSearch(model, prompts, **given)


def test_the_winner_is_measured_once_on_rows_that_chose_nothing() -> None:
    model = Model()
    found = search_of(model.policy, best_of=False).run()
    assert found.winner.text == "be better"
    assert [one.candidate.text for one in found.tried] == [
        "be lucky",
        "be better",
        "be good",
        None,
        "be wrong",
    ]
    assert [one.reward for one in found.tried] == [1.0, 0.9, 0.8, 0.2, 0.0]
    assert [one.choice and one.choice.reward for one in found.tried] == [0.6, 0.9, 0.8, None, None]
    assert (found.held_out.reward, found.baseline.reward) == (pytest.approx(0.9), pytest.approx(0.2))
    assert found.difference.mean == pytest.approx(0.7)
    assert found.difference.rows == 60
    assert found.difference.clear
    asked = [number for word, number in model.asked if word == "better"]
    assert sorted(asked) == [*range(100)]  # no row twice: each split once
    assert {number for word, number in model.asked if word == "good"} == {*range(40)}
    assert {number for word, number in model.asked if word == "wrong"} == {*range(20)}
    assert found.calls == {"search": 100, "choice": 60, "baseline": 60, "held_out": 60}
    assert len(model.asked) == sum(found.calls.values())


def test_the_best_of_n_has_as_many_calls_as_the_search() -> None:
    model = Model()
    found = search_of(model.policy).run()
    assert found.n == round((100 + 60) / 60) == 3
    assert found.calls["best_of"] == 180
    assert isinstance(found.best_of, Chosen)
    assert len(found.best_of) == 60
    assert len(found.best_of.tried) == 180
    assert found.best_of.reward == pytest.approx(0.2)
    table = str(found)
    assert "be better" in table
    assert "best of 3, as it is" in table
    assert "search and choice took 160 calls" in table
    assert "<- winner" in next(line for line in table.splitlines() if line.startswith("prompt 2"))
    record = found.record()
    assert record["winner"] == {"name": "prompt 2", "prompt": "be better"}
    assert record["best_of"]["n"] == 3


def test_the_policy_as_it_is_may_win() -> None:
    model = Model()
    found = search_of(model.policy, ["be wrong"], best_of=False).run()
    assert found.winner.text is None
    assert found.held_out is found.baseline
    assert found.difference.mean == 0
    assert "held_out" not in found.calls


def test_the_same_search_finds_the_same() -> None:
    one, two = (search_of(Model().policy).run() for _ in range(2))
    assert one.record() == two.record()


def test_the_winner_is_ready_to_use() -> None:
    model = Model()
    agent = Agent("worker", ScriptedBackend(model), "You work.")
    found = search_of(agent, best_of=False).run()
    assert found.agent("row 8").content == "answer 8"
    assert found.agent.system_prompt.prompt == "be better"
    assert agent("row 8").content == "no"


def test_prompts_of_every_form() -> None:
    named = search_of("embedded", {"short": "be good", "long": Prompt(path="x", prompt="be better")})
    assert [(one.name, one.text) for one in named.spec.candidates] == [
        ("short", "be good"),
        ("long", "be better"),
    ]
    made = search_of(
        "embedded",
        ["be good"],
        templates="be {how}{mark}",
        slots={"how": ["good", "better"], "mark": ["", "!"]},
    )
    texts = [one.text for one in made.spec.candidates]
    assert texts == ["be good", "be good!", "be better", "be better!"]  # no text twice
    assert filled('{"a": {how}} {other}', {"how": ["x"], "unused": ["y", "z"]}) == ['{"a": x} {other}']


def test_a_prompt_around_the_row() -> None:
    model = Model()
    found = search_of(
        model.policy, ["be better: {task} !", "be good: {task}"], place="prompt", best_of=False
    ).run()
    assert found.winner.text == "be better: {task} !"
    assert found.difference.rows == 60  # the same rows
    assert found.agent(args={"task": "row 8"}).content == "answer 8"


def test_a_proposer_sees_what_was_tried() -> None:
    seen: list[list[tuple[str | None, float | None]]] = []

    async def propose(tried: Any) -> list[str]:
        seen.append([(one.prompt, one.reward) for one in tried])
        return ["be good"] if len(seen) == 1 else ["be better", "be good"]

    found = search_of(Model().policy, ["be wrong"], proposer=propose, rounds=2, best_of=False).run()
    assert seen == [[(None, 0.2), ("be wrong", 0.0)], [("be good", 0.8), (None, 0.2), ("be wrong", 0.0)]]
    assert found.winner.text == "be better"
    assert len(found.tried) == 4
    plain = search_of(Model().policy, (), proposer=lambda tried: "be good", best_of=False).run()
    assert plain.winner.text == "be good"
    for wrong in (lambda tried: [5], lambda tried: [""], lambda tried: None):
        with pytest.raises(ConfigError, match="the proposer gave"):
            search_of(Model().policy, (), proposer=wrong).run()


# --- budgets


@pytest.mark.parametrize(("most", "tried"), [(400, 5), (160, 5), (159, 4), (120, 3), (100, 2), (60, 1)])
def test_a_budget_of_calls_holds_search_and_choice(most: int, tried: int) -> None:
    found = search_of(Model().policy, best_of=False, max_calls=most).run()
    done = [one for one in found.tried if one.search is not None]
    assert len(done) == tried
    assert (found.stopped is None) == (tried == 5)
    assert found.calls["search"] + found.calls["choice"] <= most
    if found.stopped:
        assert f"max_calls={most}: {5 - tried} candidates were not tried" in found.stopped
        assert found.stopped in str(found)


def test_a_budget_of_cost() -> None:
    found = search_of(Model().policy, best_of=False, max_cost=0.01).run()
    assert len([one for one in found.tried if one.search is not None]) == 1
    assert "the price of the model is not known; 4 candidates were not tried" in (found.stopped or "")
    assert found.cost is None


# --- going on


def test_a_search_goes_on_where_it_was_interrupted() -> None:
    store, model, proposals = MemoryLog(), Model(), []

    def propose(tried: Any) -> list[str]:
        proposals.append(len(tried))
        return ["be better"]

    def again(policy: Any) -> Any:
        return search_of(policy, ["be good"], proposer=propose, store=store, run="r1").run()

    async def interrupted() -> None:
        search = search_of(model.policy, ["be good"], proposer=propose, store=store, run="r1", concurrency=2)
        task = asyncio.ensure_future(search.arun())
        while len(model.asked) < 75:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(interrupted())
    before = list(model.asked)
    found = again(model.policy)
    assert 75 <= len(before) < 100
    once = [one for one in model.asked if one[0] != "none"]
    assert len(once) <= len({*once}) + 2  # but for two that were under way, nothing was asked again
    assert proposals == [2]
    other = search_of(Model().policy, ["be good"], proposer=lambda tried: ["be better"]).run()
    assert found.record() == other.record()
    count = len(model.asked)
    assert again(model.policy).record() == found.record()
    assert len(model.asked) == count


# --- what is wrong


BAD: list[tuple[dict[str, Any], str]] = [
    ({"prompts": ()}, "nothing to try"),
    ({"prompts": [5]}, "a prompt is 5"),
    ({"prompts": [" "]}, "a prompt is"),
    ({"place": "top"}, "place is 'top'"),
    ({"finalists": 0}, "finalists must be a whole number >= 1, got 0"),
    ({"max_calls": 0}, "max_calls must be a whole number >= 1, got 0"),
    ({"max_cost": "1"}, "max_cost is '1'"),
    ({"search": 0}, "search must be a whole number >= 1, got 0"),
    ({"search": 1000}, "a search needs 1000 rows for search; the environment 'rows' has 120"),
    ({"by": "luck"}, "by is 'luck'"),
    ({"place": "prompt", "prompts": ["no place"]}, "must have one place"),
    ({"place": "prompt", "prompts": ["{a} {b}"]}, "must have one place"),
    ({"held_out": [{"prompt": "row 3", "answer": "answer 3"}]}, "is in two splits, search and held_out"),
    ({"held_out": []}, "the split 'held_out' has no rows"),
]


@pytest.mark.parametrize(("more", "words"), BAD)
def test_what_is_wrong_is_said_before_any_call(more: dict[str, Any], words: str) -> None:
    model = Model()
    given = {"prompts": ["be good"], **more}
    with pytest.raises(ConfigError) as caught:
        search_of(model.policy, given.pop("prompts"), **given)
    assert words in str(caught.value)
    assert not model.asked


def test_a_function_has_no_prompt() -> None:
    with pytest.raises(ConfigError, match="a function has no prompt"):
        search_of(lambda prompt: "x")


def test_no_reward_at_all_is_an_error() -> None:
    env = RLEnv([{"prompt": f"row {n}"} for n in range(9)], lambda: None)
    search = env >> PromptSearch(Model().policy, ["x"], search=3, choice=3, held_out=3, store=MemoryLog())
    with pytest.raises(ConfigError, match="no candidate has a reward on the 3 rows of the search"):
        search.run()


def test_an_environments_own_held_out_rows_are_the_third_split() -> None:
    env = Arithmetic(size=30)
    search = env >> PromptSearch("embedded", ["x"], search=10, choice=20, held_out=40)
    held = {one.key for one in env.held_out.items}
    assert {one.key for one in search.splits.held_out} <= held
    assert len(search.splits.held_out) == 40
    given = env >> PromptSearch(
        "embedded", ["x"], search=10, choice=20, held_out=Arithmetic("held_out", size=7)
    )
    assert len(given.splits.held_out) == 7


# --- the best of n


def replies(*texts: str) -> LLM:
    return LLM(ScriptedBackend(list(texts)))


@pytest.mark.parametrize(
    ("by", "completion"),
    [
        ("vote", "no"),
        ("reward", "answer 0"),
        (vote(last_number), "it is 7."),
        (lambda texts: min(texts, key=len), "7"),
    ],
)
def test_one_rollout_of_n_is_kept(by: Any, completion: str) -> None:
    store = MemoryLog()
    texts = ["no", "it is 7.", "No.", "answer 0", "7"] if by != "vote" else ["answer 0", "no", "No."]
    found = env_of(1).best_of(replies(*texts), len(texts), by=by, store=store, limit=1)
    assert isinstance(found, Chosen)
    assert [one.completion for one in found] == [completion]
    assert len(found.tried) == len(texts)
    assert found.record()["tried"] == len(texts)


def test_best_of_is_a_policy() -> None:
    env = env_of(3)
    found = env(BestOf(LLM(ScriptedBackend(lambda request: "no")), 4), store=MemoryLog())
    assert isinstance(found, Evaluation)
    assert (len(found), len(found.tried)) == (3, 12)
    one = env(BestOf(replies("a", "answer 0"), 2, by="reward"), env.items[0], store=MemoryLog(), limit=1)
    assert one.reward == 1.0
    with pytest.raises(ConfigError, match="samples is that of BestOf"):
        env(BestOf("embedded", 2), samples=2, store=MemoryLog())
    with pytest.raises(ConfigError, match="n must be a whole number >= 1, got 0"):
        BestOf("embedded", 0)


def test_missing_rollouts_are_not_chosen() -> None:
    from lllm.errors import ProviderError

    def down(request: Any) -> Any:
        calls.append(1)
        return ProviderError("down") if len(calls) < 3 else "answer 0"

    calls: list[int] = []
    found = env_of(1).best_of(LLM(ScriptedBackend(down)), 3, store=MemoryLog(), limit=1)
    assert found[0].reward == 1.0
    gone = env_of(1).best_of(LLM(ScriptedBackend(lambda _: ProviderError("down"))), 2, store=MemoryLog())
    assert gone[0].reward is None
    assert gone.missing


def test_a_vote_that_finds_nothing_keeps_the_first() -> None:
    found = env_of(1).best_of(replies("a", "b"), 2, by=vote(last_number), store=MemoryLog(), limit=1)
    assert found[0].completion == "a"
    with pytest.raises(LLMError, match="gave none of them"):
        env_of(1).best_of(replies("a", "b"), 2, by=lambda texts: "c", store=MemoryLog())


def test_calls_are_those_of_the_model() -> None:
    @tool
    def look() -> str:
        """Looks."""
        return "seen"

    env = RLEnv([{"prompt": f"row {n}", "answer": "x"} for n in range(6)], right, tools=[look])
    backend = ScriptedBackend(
        lambda request: (
            "x" if len(request.messages) > 2 else {"tool_calls": [{"name": "look", "arguments": {}}]}
        )
    )
    search = env >> PromptSearch(LLM(backend), ["be good"], search=2, choice=2, held_out=2, store=MemoryLog())
    found = search.run()
    assert found.calls["search"] == 2 * 2 * 2
    assert sum(found.calls.values()) == len(backend.requests)
