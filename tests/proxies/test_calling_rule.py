"""One calling rule: what fits a declaration is called, whoever calls; what does not is an error that says why."""

import datetime
from typing import Any, Literal

import pytest

from lllm import Agent, BaseProxy, FunctionCall, MemoryLog, Prompt, ScriptedBackend
from lllm.errors import ToolError, UnknownNameError
from lllm.proxies import Proxy


class Rule(BaseProxy, register=False):
    """Takes {"braces": 1} and {task}."""

    _proxy_path = "deep/er/rule"

    @BaseProxy.endpoint(effect="pure")
    def take(
        self,
        number: float,
        items: list[dict[str, Any]],
        size: Literal["S", "L"] = "S",
        day: datetime.date | None = None,
        count: int = 1,
    ) -> str:
        """Takes {everything}."""
        items.append({"changed": True})
        items[0]["changed"] = True
        return f"{number} {size} {day} {count}"


def test_a_path_with_slashes_is_an_address_and_a_tool() -> None:
    proxy = Proxy([Rule])
    assert proxy("deep/er/rule.take", number=1.5, items=[{}]) == "1.5 S None 1"
    (tool,) = proxy.tools("deep/er/rule.*")
    assert (tool.name, tool.endpoint) == ("deep_er_rule__take", "deep/er/rule.take")
    for wrong in ("rule.take", "deep.er.rule.take", "deep/er/rule/take", "deep_er_rule__take"):
        with pytest.raises(UnknownNameError):
            proxy(wrong, number=1.5, items=[{}])


def test_arguments_are_not_changed() -> None:
    items: list[dict[str, Any]] = [{"a": 1}]
    given = {"number": 1, "items": items}
    Proxy([Rule])("deep/er/rule.take", given)
    assert (given, items) == ({"number": 1, "items": items}, [{"a": 1}])


def test_values_of_each_type() -> None:
    proxy = Proxy([Rule])
    assert proxy("deep/er/rule.take", number=2, items=[{}], day="2024-01-31").startswith("2")
    assert proxy("deep/er/rule.take", number=2, items=[{}], day=datetime.date(2024, 1, 31)).endswith(
        "2024-01-31 1"
    )
    for wrong in (
        {"number": True},
        {"number": "1"},
        {"count": True},
        {"count": 1.5},
        {"size": "M"},
        {"day": "soon"},
        {"items": {}},
        {"other": 1},
    ):
        with pytest.raises(ToolError, match="do not fit"):
            proxy("deep/er/rule.take", {"number": 1, "items": [{}], **wrong})
    with pytest.raises(ToolError, match="number"):
        proxy("deep/er/rule.take", items=[{}])


def test_a_catalogue_with_braces_stands_in_a_prompt() -> None:
    catalogue = Proxy([Rule]).api_catalog()
    assert '{"braces": 1}' in catalogue
    text = Prompt("p", "Use {api}. Do {task}.").render({"api": catalogue, "task": "it"})
    assert text == f"Use {catalogue}. Do it."
    agent = Agent("a", ScriptedBackend([]), activate_proxies=[Rule], system_prompt="Use {api_catalog}.")
    assert agent.init_dialog().messages[0].text == f"Use {catalogue}."


def test_tools_of_every_kind() -> None:
    def double(n: int) -> int:
        """Doubles."""
        return 2 * n

    helper = Agent("helper", ScriptedBackend(["helped"]))
    schema = {"name": "declared", "parameters": {"type": "object", "properties": {}}}
    calls = [
        FunctionCall("1", "double", '{"n": 2}'),
        FunctionCall("2", "helper", '{"task": "help"}'),
        FunctionCall("3", "deep_er_rule__take", '{"number": 1, "items": [{}]}'),
    ]
    model = ScriptedBackend([calls, "Done.", "Nothing to call."])
    agent = Agent("a", model, tools=[double, helper, Rule, schema], store=MemoryLog())
    results = [message.text for message in agent.call("go").messages if message.role == "tool"]
    assert results == ["4", "helped", "1.0 S None 1"]
    assert [tool.name for tool in agent.with_(tools=[*agent.tools[:1], Rule.take]).tools] == [
        "double",
        "deep_er_rule__take",
    ]
    agent.call("go", tools=[Rule])
    (spec,) = (one for one in model.requests[-1].tools if one["function"]["name"] != "read_result")
    assert spec["function"]["name"] == "deep_er_rule__take"


def deep(levels: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(levels):
        made = [made]
    return made


@pytest.mark.parametrize("levels", [0, 100, 500, 900, 100_000])
def test_arguments_that_are_nested_too_deep(levels: int) -> None:
    """0: a list that contains itself."""

    class Taker(BaseProxy, register=False):
        @BaseProxy.endpoint
        def take(self, value: Any) -> str:
            return "taken"

    value = deep(levels)
    if not levels:
        value.append(value)
    if levels == 100:
        assert Proxy([Taker])("Taker.take", value=value) == "taken"
        return
    with pytest.raises(ToolError, match="nested too deep, or contains itself"):
        Proxy([Taker])("Taker.take", value=value)
