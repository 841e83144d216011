"""Prompt search on what goes wrong: budgets that are nearly used up, proposals, slots, rows and rewards that are not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lllm import LLM, ScriptedBackend, tool
from lllm.errors import ConfigError
from lllm.log.memory import MemoryLog
from lllm.rl import RLEnv
from lllm.rl.environments.maze import Maze
from lllm.rl.selection.candidates import filled
from lllm.rl.selection.search import PromptSearch
from tests.rl.selection.test_search import Model, right, search_of


@tool
def look() -> str:
    """Looks."""
    return "seen"


class Busy(Model):
    """A model that calls a tool first, three times with a prompt that says so."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __call__(self, request: Any) -> Any:
        self.calls += 1
        text = " ".join(one.text for one in request.messages)
        if sum(one.role == "tool" for one in request.messages) < (3 if "be good" in text else 0):
            return {"tool_calls": [{"name": "look", "arguments": {}}]}
        return super().__call__(request)


def busy_search(model: Busy, prompts: Any, **more: Any) -> Any:
    rows = [{"prompt": f"row {n}", "answer": f"answer {n}"} for n in range(120)]
    given = {"search": 20, "choice": 20, "held_out": 20, "best_of": False, "store": MemoryLog(), **more}
    return RLEnv(rows, right, tools=[look], name="busy") >> PromptSearch(model.policy, prompts, **given)


@pytest.mark.parametrize("most", [40, 79, 100, 120, 159, 160, 400])
@pytest.mark.parametrize("prompts", [["be good"], ["be better", "be good"], ["be good", "be better"]])
def test_calls_are_kept_to_the_call(most: int, prompts: list[str]) -> None:
    """Also where a candidate takes four times as many as those before it."""
    model = Busy()
    found = busy_search(model, prompts, max_calls=most).run()
    assert found.calls["search"] + found.calls.get("choice", 0) <= most
    assert model.calls == sum(found.calls.values())
    for one in found.tried:  # on all rows or on none
        for rollouts in (one.search, one.choice):
            assert rollouts is None or (len(rollouts), rollouts.cut) == (20, [])
    if found.winner.text is not None:
        assert next(one for one in found.tried if one.candidate == found.winner).choice is not None


def test_a_candidate_that_takes_too_many_calls_is_named() -> None:
    found = busy_search(Busy(), ["be good", "be better"], max_calls=110).run()
    assert found.stopped == (
        "max_calls=110: 'prompt 1' took more calls than were left; 1 further ones were not tried"
    )
    assert found.winner.text is None
    assert str(found.stopped) in str(found)


def test_what_a_budget_cut_is_done_again_with_a_larger_one() -> None:
    store, model = MemoryLog(), Busy()
    busy_search(model, ["be good"], max_calls=110, store=store, run="r").run()
    again = busy_search(model, ["be good"], max_calls=1000, store=store, run="r").run()
    assert (again.winner.text, again.stopped) == ("be good", None)
    assert again.tried[0].search.cut == []


def test_a_budget_without_room_is_an_error_at_once() -> None:
    model = Busy()
    with pytest.raises(ConfigError, match=r"max_calls=39 does not suffice: .* take 40 calls"):
        busy_search(model, ["be good"], max_calls=39)
    with pytest.raises(ConfigError, match="max_cost is -1"):
        search_of(model.policy, max_cost=-1)
    assert model.calls == 0


SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"best_of": 8}, "best_of is 8; it is True or False"),
    ({"concurrency": 0}, "concurrency must be a whole number >= 1, got 0"),
    ({"proposer": 5}, "proposer is int"),
    ({"best_of_sampling": 1.0}, "best_of_sampling is 1.0"),
    ({"best_of_sampling": {"temprature": 1}}, "unknown keyword 'temprature'"),
    ({"temprature": 1}, "unknown keyword 'temprature'"),
]


@pytest.mark.parametrize(("more", "words"), SETTINGS)
def test_a_wrong_setting_is_an_error_before_any_call(more: dict[str, Any], words: str) -> None:
    model = Model()
    with pytest.raises(ConfigError, match=words):
        search_of(model.policy, **more)
    assert model.asked == []


# --- candidates


SLOTS: list[tuple[Any, Any, str]] = [
    ("be {how}", {"how": "good"}, "slots\\['how'\\] is 'good', and must be a list"),
    ("be {how}", {"how": []}, "slots\\['how'\\] is \\[\\], and must be a list"),
    ("be {how}", {"how": ["x"], "who": ["y"]}, "no template has the place {who}; there are how"),
    ("be {how} {who}", {"how": ["x"]}, "has places without values: who"),
    ("be {how}", None, "has places without values: how"),
    ("be {how}", ["x"], "slots are list"),
    ([5], {"how": ["x"]}, "a template is int"),
]


@pytest.mark.parametrize(("templates", "slots", "words"), SLOTS)
def test_slots_that_do_not_fit_are_errors(templates: Any, slots: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        PromptSearch("embedded", templates=templates, slots=slots)


def test_braces_of_values_stay() -> None:
    assert filled("{a} {b}", {"a": ["{b}"], "b": ["{a}", "x"]}) == ["{b} {a}", "{b} x"]
    made = PromptSearch("embedded", templates='{{"a": 1}} {{task}} {how}', slots={"how": ["good"]})
    assert [one.text for one in made.candidates] == ['{{"a": 1}} {{task}} good']


def test_a_proposal_that_cannot_be_a_prompt_is_left_out() -> None:
    store = MemoryLog()
    for _ in range(2):  # a search that goes on is given the same ones
        found = search_of(
            Model().policy,
            (),
            place="prompt",
            proposer=lambda tried: ["no place", "be better {task} {more}", "be better: {task}"],
            best_of=False,
            store=store,
            run="r",
        ).run()
        assert found.winner.text == "be better: {task}"
        assert len(found.notes) == 2
        assert "a proposal was left out: prompt 1 must have one place" in found.notes[0]
        assert found.record()["notes"] == found.notes


def test_a_table_escapes_what_a_terminal_obeys() -> None:
    found = search_of(Model().policy, {"a\x1b[31m\n": "be better\x1b]0;x\x07"}, best_of=False).run()
    assert "\x1b" not in str(found)
    assert r"a\x1b[31m\n" in str(found)


# --- rewards that are not there


def test_a_few_lucky_rows_do_not_win() -> None:
    """A prompt whose rollouts are missing but for two, which are right."""

    def reply(request: Any) -> str:
        text = request.messages[-1].text
        if "be lucky" not in text:
            return Model()(request)
        return f"answer {text.split()[-1]}" if text.endswith("3") else ""

    def unsure(completion: str, answer: str) -> float | None:
        return float(completion == answer) if completion else None

    rows = [{"prompt": f"row {n}", "answer": f"answer {n}"} for n in range(60)]
    prompts = ["be lucky {task}", "be good {task}"]
    found = (
        RLEnv(rows, unsure, name="unsure")
        >> PromptSearch(
            LLM(ScriptedBackend(reply)),
            prompts,
            place="prompt",
            search=20,
            choice=20,
            held_out=20,
            best_of=False,
            store=MemoryLog(),
        )
    ).run()
    assert found.tried[0].reward == 1.0
    assert found.winner.text == "be good {task}"
    (note,) = found.notes
    assert note == "'prompt 1' was not compared: 2 of its 20 rollouts on the rows of the search have a reward"
    assert note in str(found)


def test_without_calls_there_is_no_best_of_as_many() -> None:
    def setup(number: int) -> int:
        return 1 // (number < 40)

    rows = [{"prompt": f"row {n}", "answer": f"answer {n}", "number": n} for n in range(60)]
    env = RLEnv(rows, right, setup=setup, name="half")
    spec = PromptSearch(Model().policy, ["be good"], search=20, choice=20, held_out=20, store=MemoryLog())
    found = (env >> spec).run()
    assert found.calls["baseline"] == 0
    assert found.best_of is None
    assert (found.held_out.reward, found.difference.mean) == (None, None)


# --- rows


def test_rows_that_ask_the_same_are_in_one_split() -> None:
    rows = [{"prompt": f"row {n % 8}", "answer": "x", "id": n} for n in range(12)]
    with pytest.raises(ConfigError, match="is in two splits, search and held_out"):
        RLEnv(rows, right) >> PromptSearch("embedded", ["x"], search=4, choice=4, held_out=4)
    games = Maze(size=12) >> PromptSearch("embedded", ["x"], search=4, choice=4, held_out=4)
    assert len({one.text for one in games.splits.search}) == 1  # each is in a maze of its own


def test_rows_of_a_split_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(
        "".join(json.dumps({"prompt": f"row {n}", "answer": "x"}) + "\n" for n in range(200, 203))
    )
    for given in (file, str(file)):
        assert [one.text for one in search_of("embedded", held_out=given).splits.held_out] == [
            "row 200",
            "row 201",
            "row 202",
        ]


@pytest.mark.parametrize("given", [{"prompt": "row 200"}, 20.0, True, -3, "nowhere.jsonl"])
def test_what_are_no_rows_is_an_error(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"search (is|must be)|nowhere\.jsonl"):
        search_of("embedded", search=given)


def test_another_policy_begins_anew() -> None:
    store = MemoryLog()

    def run(policy: Any, **more: Any) -> Any:
        return search_of(policy, ["be better"], store=store, run="r", best_of=False, **more).run()

    first, second = Model(), Model()
    before = run(first.policy)
    assert run(second.policy).record() == before.record()
    assert second.asked == []
    told = LLM(ScriptedBackend(second), temperature=0.5)
    run(told)
    assert len(second.asked) == sum(before.calls.values())
