"""The system, with a model that reads from a script: no key, no network, the same every time."""

import pytest
from lllm import FunctionCall, MemoryLog, ScriptedBackend

from system.system import build
from system.tools import calculate


def test_the_system_answers_with_what_its_tool_gave() -> None:
    model = ScriptedBackend(
        [
            FunctionCall("", "calculate", '{"expression": "17 * 23"}'),
            "17 times 23 is <answer>391</answer>.",
        ]
    )
    system = build(model=model, log_base=MemoryLog())
    assert system("What is 17 times 23?") == "391"
    asked, answered = model.requests
    assert asked.messages[-1].text.startswith("What is 17 times 23?")
    assert answered.messages[-1].text == "391"  # the tool's result, on its way to the model


def test_a_reply_without_tags_is_asked_for_again() -> None:
    model = ScriptedBackend(["It is 391.", "<answer>391</answer>"])
    assert build(model=model, log_base=MemoryLog())("What is 17 times 23?") == "391"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("17 * 23", "391"),
        ("2 ** 10 - 1", "1023"),
        ("10 / 4", "2.5"),
        ("-7 // 2 % 3", "2"),
        ("(1 + 2) × 3", "9"),
    ],
)
def test_calculate(expression: str, value: str) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize("expression", ["1 / 0", "9 ** 9 ** 9", "__import__('os')", "1 +", "x", "'a' * 9"])
def test_calculate_refuses(expression: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        calculate(expression)
