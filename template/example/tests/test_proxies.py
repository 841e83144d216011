"""The APIs, without any model."""

import pytest
from lllm import Proxy
from lllm.errors import ToolError

from system.proxy.modules.arithmetic import Arithmetic
from system.proxy.modules.number_facts import NumberFacts

PROXY = Proxy([Arithmetic, NumberFacts(offline=True)])


@pytest.mark.parametrize(
    ("expression", "value"), [("17 * (3 + 20)", 391), ("0.1 + 0.2", 0.3), ("2 ^ 10", 1024), ("-7 // 2", -4)]
)
def test_arithmetic(expression: str, value: float) -> None:
    assert PROXY("arithmetic.calculate", expression=expression) == value


@pytest.mark.parametrize(
    "expression", ["1 / 0", "9 ** 9 ** 9", "open('x')", "(-8) ** 0.5", "1 +", "1e999", "True"]
)
def test_what_is_not_arithmetic_is_refused(expression: str) -> None:
    with pytest.raises(ToolError):
        PROXY("arithmetic.calculate", expression=expression)


def test_facts_come_over_http() -> None:
    assert PROXY("numbers.factors", number=391) == {"number": 391, "factors": [17, 23]}
    with pytest.raises(ToolError, match="minimum"):
        PROXY("numbers.factors", number=1)


def test_every_endpoint_works_with_its_examples() -> None:
    report = PROXY.auto_test()
    assert report.ok, str(report)
