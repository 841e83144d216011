"""The environment, with models that read from a script: no training, the same every time."""

from pathlib import Path

import pytest
from lllm import LLM, FunctionCall, MemoryLog, ScriptedBackend, build_agent

from envs.stories import calculate, held_out, right, stories

CONFIG = Path(__file__).resolve().parents[1] / "config" / "%%name%%" / "default.yaml"


def test_the_right_answer_earns_most_and_nothing_else_pays():
    found = stories.check(store=MemoryLog())
    assert found.ok, found.problems
    assert found.means["reference"] == 1.0


def test_no_problem_is_both_trained_on_and_held_out():
    assert len(stories.items) == 400
    assert len(held_out.items) == 100
    assert not {item.prompt for item in stories.items} & {item.prompt for item in held_out.items}


def test_a_rollout_uses_the_tool_and_is_scored():
    item = stories.items.first(1)[0]
    model = ScriptedBackend(
        [FunctionCall("", "calculate", '{"expression": "2 * 3"}'), f"There are {item.answer}."]
    )
    rollout = stories(LLM(model), item, store=MemoryLog())
    assert rollout.reward == 1.0
    assert model.requests[1].messages[-1].text == "6"


def test_the_agent_that_is_trained_has_the_tool():
    model = ScriptedBackend([FunctionCall("", "calculate", '{"expression": "17 * 23"}'), "It is 391."])
    assert build_agent(CONFIG, model=model, log_base=MemoryLog())("What is 17 times 23?") == "It is 391."
    assert model.requests[1].messages[-1].text == "391"


@pytest.mark.parametrize(
    ("reply", "earns"), [("It is 391.", True), ("17 * 23 = 391", False), ("391 or 392", False), ("", False)]
)
def test_the_reward(reply, earns):
    assert right(reply, "391") is earns


@pytest.mark.parametrize("expression", ["1 / 0", "9 ** 9", "__import__('os')", "1 +", ""])
def test_calculate_refuses(expression):
    with pytest.raises(ValueError, match="two whole numbers"):
        calculate(expression)
