"""Environments that ship: their rows are deterministic and disjoint, their rewards pay the task alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lllm import LLM, ScriptedBackend, registry
from lllm.core.canonical import digest_of
from lllm.errors import ConfigError, SandboxError, UnknownNameError
from lllm.log.memory import MemoryLog
from lllm.rl.environments import code as code_module
from lllm.rl.environments.arithmetic import KINDS, NARROW, Arithmetic, Sharing
from lllm.rl.environments.base import ShippedEnv
from lllm.rl.environments.calculator import calculate, evaluate, last_is, numbers_in
from lllm.rl.environments.code import Code
from lllm.rl.environments.doors import Doors
from lllm.rl.environments.maze import Maze, maze_of, way_between
from lllm.rl.environments.schema import Schema
from lllm.rl.environments.splits import SPLITS

NAMES = ("rl/arithmetic", "rl/sharing", "rl/schema", "rl/code", "rl/maze", "rl/doors")
VARIANTS: list[tuple[type[ShippedEnv], dict[str, Any]]] = [
    *((Arithmetic, {"kinds": kind, "wording": wording}) for kind in KINDS for wording in ("plain", "free")),
    (Arithmetic, {}),
    (Schema, {}),
    (Schema, {"tasks": "sum"}),
    (Maze, {"width": 5}),
    (Doors, {"doors": 2}),
    (Code, {}),
]


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": arguments}]}


def test_they_are_registered() -> None:
    shipped = [entry.name for entry in registry.entries("environment") if entry.ships]
    assert sorted(shipped) == sorted(NAMES)
    for name in NAMES:
        kind = registry.get("environment", name)
        assert kind.name == name
        assert len(kind(size=3).items) == 3


@pytest.mark.parametrize(("kind", "options"), VARIANTS)
def test_rows_are_those_of_the_seed(kind: type[ShippedEnv], options: dict[str, Any]) -> None:
    def rows(**more: Any) -> list[str]:
        return [one.key for one in kind(**{"size": 20, **options, **more}).items]

    assert rows() == rows()
    assert rows(size=10) == rows()[:10]
    assert rows(seed=1) != rows()
    assert len({*rows()}) == 20


GOLDEN = {
    # digests of the first five rows of `train` and of `held_out`: baselines that were measured are of these
    "rl/arithmetic": ("1366245a286b", "28d8e9b136be"),
    "rl/sharing": ("9dba6879c31e", "b258940b5c17"),
    "rl/schema": ("aadbca6a6854", "47de3e2cf21a"),
    "rl/code": ("abe849ea922d", "f8923f59a205"),
    "rl/maze": ("55df67911b8e", "6c49a49d09ff"),
    "rl/doors": ("71ff197f2226", "5f59994a1560"),
}


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_those_of_the_baselines(name: str) -> None:
    made = registry.get("environment", name)
    found = [digest_of([one.key for one in made(split, size=5).items])[7:19] for split in SPLITS]
    assert tuple(found) == GOLDEN[name]


@pytest.mark.parametrize(("kind", "options"), VARIANTS)
def test_no_problem_is_in_both_splits(kind: type[ShippedEnv], options: dict[str, Any]) -> None:
    def problem(item: Any) -> str:
        found = dict(item.columns)
        for name in ("questions", "kind", "inputs", "wanted", "maze"):
            found.pop(name, None)
        wordless = kind in (Arithmetic, Doors)  # the sum, in whatever words
        return json.dumps([None if wordless else item.prompt, item.answer, found], sort_keys=True)

    train = {problem(one) for seed in (0, 1) for one in kind(size=150, seed=seed, **options).items}
    held = {problem(one) for one in kind("held_out", size=60, seed=2, **options).items}
    if kind is Arithmetic:
        assert not {json.loads(one)[2]["expression"] for one in train} & {
            json.loads(one)[2]["expression"] for one in held
        }
    if kind is Maze:  # equal prompts, another maze
        envs = (kind(size=150, **options), kind("held_out", size=60, **options))
        pictures = [
            {str((maze_of(i.columns["maze"], 5), i.columns["start"], i.columns["exit"])) for i in env.items}
            for env in envs
        ]
        assert not pictures[0] & pictures[1]
        return
    assert not train & held


@pytest.mark.parametrize(
    ("kind", "options"),
    [(Doors, {"kinds": "addition", "wording": "plain", "doors": 2}), (Schema, {"tasks": "sum"})],
)
def test_no_sum_is_on_both_sides(kind: type[ShippedEnv], options: dict[str, Any]) -> None:
    """Neither behind another door, nor in other words."""

    def sums(split: str) -> set[tuple[str, ...]]:
        texts: list[str] = []
        for item in kind(split, size=300, **options).items:
            texts += item.columns.get("questions", [item.text])
        words = (
            "plus",
            "add",
            "sum",
            "minus",
            "subtract",
            "less",
            "times",
            "multipl",
            "product",
            "divi",
            "quot",
        )
        kinds = {word: str(place // 3) for place, word in enumerate(words)}
        return {
            (next(kinds[word] for word in words if word in text.lower()), *map(str, numbers_in(text)[:2]))
            for text in texts
        }

    assert not sums("train") & sums("held_out")


@pytest.mark.parametrize(("kind", "options"), [(one, more) for one, more in VARIANTS if one is not Code])
def test_rewards_pay_the_task_alone(kind: type[ShippedEnv], options: dict[str, Any]) -> None:
    for split in SPLITS:
        check = kind(split, size=20, **options).check()
        assert check.ok, str(check)
        assert not check.notes
        assert check.means["reference"] == 1.0


def test_the_other_split_has_the_same_options() -> None:
    env = Arithmetic(kinds="percent", wording="free", level=3, size=5, max_turns=2)
    held = env.held_out
    assert (held.split, held.options, held.max_turns) == ("held_out", env.options, 2)
    assert len(held.items) == SPLITS["held_out"]
    assert held.held_out is held
    assert len(env.with_split("train", 7).items) == 7


WRONG: list[tuple[type[ShippedEnv], dict[str, Any], str]] = [
    (Arithmetic, {"kinds": "sums"}, "kinds: sums"),
    (Arithmetic, {"kinds": ()}, "kinds"),
    (Arithmetic, {"wording": "odd"}, "wording is 'odd'"),
    (Arithmetic, {"level": 9}, "level is 9"),
    (Arithmetic, {"level": True}, "level is True"),
    (Arithmetic, {"size": 0}, "size must be a whole number >= 1, got 0"),
    (Arithmetic, {"seed": "x"}, "seed is 'x'"),
    (Arithmetic, {"kinds": "addition", "level": 1, "size": 500}, "different rows"),
    (Schema, {"tasks": "poem"}, "tasks: poem"),
    (Maze, {"width": 1}, "width is 1"),
    (Doors, {"doors": 0}, "doors is 0"),
    (Code, {"tries": 0}, "tries is 0"),
]


@pytest.mark.parametrize(("kind", "options", "words"), WRONG)
def test_a_wrong_option_is_an_error(kind: type[ShippedEnv], options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(**options)
    assert words in str(caught.value)


def test_an_unknown_split_is_an_error() -> None:
    with pytest.raises(UnknownNameError, match="held_out"):
        Arithmetic("test")
    with pytest.raises(TypeError):
        Arithmetic(colour="red")


# --- arithmetic


def test_the_narrow_task_has_a_name() -> None:
    named, own = Sharing(size=9), Arithmetic(kinds="sharing", size=9)
    assert [one.key for one in named.items] == [one.key for one in own.items]
    assert named.held_out.name == "rl/sharing"


def test_the_embedded_model_gets_some_of_the_narrow_task_right() -> None:
    found = Sharing().held_out("embedded", first=120, store=MemoryLog())
    assert not found.missing
    assert 0.5 < found.reward < 0.75  # 0.608 of 400


def test_the_calculator_calculates_and_no_more() -> None:
    assert calculate("(2 + 3) * 4") == "20"
    assert calculate("7 / 2") == "3.5"
    assert calculate("2 ** 10") == "1024"
    assert calculate("-7 % 3") == "2"
    for wrong in (
        "__import__('os')",
        "a + 1",
        "9 ** 9 ** 9",
        "1 if 1 else 2",
        "(1",
        "'a' * 3",
        "9" * 400,
        "True + 1",
    ):
        with pytest.raises((ValueError, ZeroDivisionError)):
            evaluate(wrong)
    with pytest.raises(ZeroDivisionError):
        evaluate("1 / 0")


def test_numbers_of_a_reply() -> None:
    assert numbers_in("17 times 23 is 391.") == [17, 23, 391]
    assert numbers_in("It is 1,250.50") == [1250.5]
    assert numbers_in("-3 degrees") == [-3]
    assert numbers_in("7, 8 or 3-5, \u22124, 12,345,678 and 1,2") == [7, 8, 3, 5, -4, 12345678, 1, 2]
    assert numbers_in("it is...72. \u0667\u0662, 1e3") == [72, 72, 1000]
    for reply, answer, right in (
        ("42.666667", "42.666666666666664", True),
        ("42.6667", "42.666666666666664", True),
        ("42.667", "42.666666666666664", False),
        ("7.000000000000001", "7", True),
        ("7.0001", "7", False),
        ("7665838356", "7665837456", False),
        ("7.665837456e9", "7665837456", True),
    ):
        assert last_is(reply, answer) is right


@pytest.mark.parametrize(
    "reply", ["1e999", "-1e999", "9" * 400, "9" * 1_100_000, "1e999999999", "0." + "9" * 5000, "nan", "inf"]
)
def test_no_number_is_near_to_every_answer(reply: str) -> None:
    """A float of a number that is too long is an infinity, and an infinity is within any share of itself."""
    env = Arithmetic(size=40)
    assert sum(env.right(reply, item.answer) for item in env.items) == 0
    door = Doors(size=1)
    state = door.setup(["?"], ["7"], 1)
    assert door.step(state, reply) is None
    assert state["open"] == 0


@pytest.mark.parametrize(
    ("reply", "reward"), [("The value is {a}.", 1.0), ("{a} or 1", 0.0), ("", 0.0), ("about {a}1", 0.0)]
)
def test_the_last_number_is_the_answer(reply: str, reward: float) -> None:
    env = Arithmetic(kinds="addition", size=1)
    text = reply.format(a=env.items[0].answer)
    assert env(LLM(ScriptedBackend([text])), store=MemoryLog()).reward == reward


def test_arithmetic_with_its_calculator() -> None:
    env = Arithmetic(size=1)
    item = env.items[0]
    backend = ScriptedBackend(
        [call("calculate", expression=item.columns["expression"]), f"It is {item.answer}."]
    )
    found = env(LLM(backend), store=MemoryLog())[0]
    assert (found.reward, found.turns, found.messages[1].text) == (1.0, 2, item.answer)
    assert Arithmetic(size=1, calculator=False).tools == ()
    assert NARROW not in env.options["kinds"]


# --- schema


@pytest.mark.parametrize(
    ("change", "valid", "fields"),
    [
        (lambda v: v, 1.0, 1.0),
        (lambda v: {**v, "extra": 1}, 0.0, 0.8),
        (lambda v: {k: v[k] for k in list(v)[:3]}, 0.0, 0.75),
        (lambda v: {**v, list(v)[1]: 7}, 0.0, 0.75),
        (lambda v: [v], 0.0, 0.0),
    ],
)
def test_validation_and_fields_count(change: Any, valid: float, fields: float) -> None:
    env = Schema(tasks="meeting", size=1)
    reply = json.dumps(change(json.loads(env.items[0].answer)))
    for text in (reply, f"```json\n{reply}\n```"):
        found = env(LLM(ScriptedBackend([text])), store=MemoryLog())[0]
        assert found.components == {"valid": valid, "fields": fields}


def test_true_is_not_one_in_a_schema_row() -> None:
    env = Schema(tasks="order", size=1)
    value = json.loads(env.items[0].answer)
    found = env(
        LLM(ScriptedBackend([json.dumps({**value, "express": int(value["express"])})])), store=MemoryLog()
    )[0]
    assert found.components == {"valid": 0.0, "fields": 0.75}


def test_no_grammar_holds_a_policy_to_the_schema() -> None:
    backend = ScriptedBackend(["no JSON"])
    Schema(size=1)(LLM(backend), store=MemoryLog())
    assert backend.requests[0].format is None


@pytest.mark.parametrize(
    "wrong", ['{{"{key}": 1, {rest}', '{{"{key}": NaN, {rest}', '{{"{key}": 1e999, {rest}']
)
def test_what_other_readers_refuse_is_no_json(wrong: str) -> None:
    env = Schema(tasks="order", size=1)
    value = env.items[0].answer
    text = wrong.format(key="customer" if wrong.startswith('{{"{key}": 1,') else "more", rest=value[1:])
    found = env(LLM(ScriptedBackend([text])), store=MemoryLog())[0]
    assert found.components == {"valid": 0.0, "fields": 0.0}


def test_half_a_surrogate_pair_is_wrong_and_not_missing() -> None:
    env = Schema(tasks="order", size=1)
    value = {**json.loads(env.items[0].answer), "customer": "\ud800"}
    found = env(LLM(ScriptedBackend([json.dumps(value)])), store=MemoryLog())[0]
    assert (found.components, found.errors) == ({"valid": 0.0, "fields": 0.0}, {})


# --- games


def test_a_walk_through_the_maze() -> None:
    env = Maze(size=1)
    item = env.items[0].columns
    way = way_between(maze_of(item["maze"], 4), item["start"], item["exit"])
    backend = ScriptedBackend([*(call("go", direction=one) for one in way), "out"])
    store = MemoryLog()
    found = env(LLM(backend), store=store)[0]
    assert (found.reward, found.state["steps"], found.state["bumps"]) == (1.0, len(way), 0)
    assert found.messages[-2].text == "This is the exit. You are out."
    again = env.score([found.session], store=store)[0]
    assert again.reward == 1.0
    assert env(LLM(ScriptedBackend(["out"])), store=store).reward == 0.0


def test_walls_of_the_maze_hold() -> None:
    env = Maze(size=1)
    item = env.items[0].columns
    doors = maze_of(item["maze"], 4)[item["start"]]
    wall = next(one for one in ("north", "east", "south", "west") if one not in doors)
    found = env(LLM(ScriptedBackend([call("go", direction=wall), "out"])), store=MemoryLog())[0]
    assert found.state["place"] == item["start"]
    assert found.state["bumps"] == 1
    assert found.messages[1].text.startswith("There is a wall. Ways: ")


def test_doors_open_one_after_another() -> None:
    env = Doors(doors=3, lives=2, size=1)
    answers = env.items[0].columns["answers"]
    replies = [answers[0], "no idea", answers[1], answers[2]]
    backend = ScriptedBackend(replies)
    found = env(LLM(backend), store=MemoryLog())[0]
    assert (found.reward, found.turns) == (1.0, 4)
    asked = [request.messages[-1].text for request in backend.requests]
    questions = env.items[0].columns["questions"]
    assert asked == [questions[0], questions[1], questions[1], questions[2]]
    lost = Doors(doors=3, size=1)(LLM(ScriptedBackend([answers[0], "wrong"])), store=MemoryLog())[0]
    assert (lost.status, lost.reward) == ("done", pytest.approx(1 / 3))


# --- code


def test_what_code_prints_in_place_of_its_values_is_wrong() -> None:
    """It knows the mark of the line with the values, and can print what no reader takes."""
    code = "def print(text):\n    import sys\n    sys.stdout.write(text[:16] + '[' * 100_000)\nsolve = len"
    found = Code(size=1)(LLM(ScriptedBackend([code])), store=MemoryLog())[0]
    assert (found.status, found.reward) == ("done", 0.0)


def test_code_is_tested_in_the_sandbox() -> None:
    env = Code(size=2, tries=2)
    right = [one.answer for one in env.items]
    backend = ScriptedBackend(["```python\ndef solve(numbers):\n    return 'no'\n```", right[0]])
    found = env(LLM(backend), env.items[:1], store=MemoryLog())[0]
    assert (found.reward, found.turns) == (1.0, 2)
    assert "gives 'no', and should give" in found.messages[1].text
    wrong = env(LLM(ScriptedBackend([right[1]] * 2)), env.items[:1], store=MemoryLog())[0]
    assert wrong.reward == 0.0


def test_rewards_of_code_pay_the_task_alone() -> None:
    check = Code(size=2).check(first=2)
    assert check.ok, str(check)
    assert check.means["reference"] == 1.0
    assert check.means["empty"] == check.means["constant"] == check.means["form"] == 0.0


def test_code_that_ends_its_process_is_wrong() -> None:
    env = Code(size=1, seconds=3)
    found = env(LLM(ScriptedBackend(["solve = 1\nimport os\nos._exit(0)"])), store=MemoryLog())[0]
    assert (found.status, found.reward) == ("done", 0.0)


def test_a_lost_sandbox_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = code_module._ran

    async def lost(code: str, inputs: Any, seconds: float, *, must: bool = False) -> Any:
        return (
            (code_module._DIED, None) if not must else await ran("raise OSError", inputs, seconds, must=True)
        )

    monkeypatch.setattr(code_module, "_ran", lost)
    found = Code(size=1)(LLM(ScriptedBackend(["def solve(n): return 0"])), store=MemoryLog())[0]
    assert found.reward is None
    assert "the sandbox did not run the code" in found.errors["passed"]

    async def gone(*_: Any, **__: Any) -> Any:
        raise SandboxError("no kernel")

    monkeypatch.setattr(code_module, "_ran", gone)
    found = Code(size=1)(LLM(ScriptedBackend(["def solve(n): return 0"])), store=MemoryLog())[0]
    assert found.reward is None
