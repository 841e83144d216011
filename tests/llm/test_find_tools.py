"""`find_tools`: tools by the hundred, of which the model sees those that it looked for."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from lllm.backends.scripted import ScriptedBackend
from lllm.errors import ToolError
from lllm.llm.agent import Agent
from lllm.llm.find_tools import FOUND, GROUPS, QUERIES, tool_finder
from lllm.log.memory import MemoryLog
from lllm.models.function import Function
from lllm.models.message import FunctionCall
from lllm.models.parts import Offers

THINGS = "customer order invoice refund coupon product supplier shelf basket shipment".split()


def shop(**more: Any) -> list[Function]:
    return [
        Function(
            f"shop_{thing}s__{verb.lower()}",
            f"{verb} a {thing}\n\nMore about it.",
            {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]},
            lambda number: f"done with {number}",
            deferred=True,
            endpoint=f"shop/{thing}s.{verb.lower()}",
            **more,
        )
        for thing in THINGS
        for verb in ("List", "Create", "Delete", "Update")
    ]


def ask(query: str, functions: list[Function] | None = None, **more: Any) -> Offers:
    finder = tool_finder(shop() if functions is None else functions)
    assert finder.call is not None
    found = finder.call(query, **more)
    assert isinstance(found, Offers)
    return found


def test_the_best_come_first_with_what_they_do() -> None:
    found = ask("throw away an invoice")
    assert found.names[0] == "shop_invoices__delete"
    assert set(found.names[1:]) == {f"shop_invoices__{verb}" for verb in ("list", "create", "update")}
    first = found.text.splitlines()[1]
    assert json.loads(first) == {"name": "shop_invoices__delete", "description": "Delete a invoice"}


def test_further_matches_are_paged() -> None:
    whole: list[str] = []
    offset = 0
    while True:
        found = ask("invoice", offset=offset)
        whole += found.names
        offset += FOUND
        if f"More: offset={offset}." not in found.text:
            break
    assert len(whole) == len(set(whole))
    assert {name for name in whole if "invoice" in name} == {
        f"shop_invoices__{verb}" for verb in ("list", "create", "delete", "update")
    }
    behind = ask("invoice", offset=1000)
    assert behind.names == ()
    assert behind.text.startswith("No tool is found for 'invoice' behind the first 1000.")


def test_several_searches_in_one_call() -> None:
    found = ask("delete an order; new coupon ;; zxqv")
    assert found.names[0] == "shop_orders__delete"
    assert "shop_coupons__create" in found.names
    assert "for 'delete an order'" in found.text
    assert "No tool is found for 'zxqv'." in found.text
    many = ask(";".join(["order"] * 50))
    assert many.text.count("for 'order'") == QUERIES
    assert len(many.names) == FOUND


def test_without_a_match_the_groups_are_named() -> None:
    found = ask("zxqv")
    assert found.names == ()
    assert "shop/baskets (4), shop/coupons (4)" in found.text


def test_the_tool_says_what_there_is() -> None:
    text = tool_finder(shop()).description
    assert "among 40 that are not listed" in text
    assert "There are tools of: shop/baskets (4)," in text
    groups = [Function(f"g{n}__x", "Does.", {}, deferred=True) for n in range(GROUPS + 5)]
    assert tool_finder(groups).description.endswith(", and others.")
    plain = tool_finder([Function("x", "Does.", {}), Function("y", "Does.", {})]).description
    assert plain.endswith("What it finds can be called afterwards.")


@pytest.mark.parametrize(
    ("query", "more", "message"),
    [
        ("", {}, "query must say"),
        (" ; ;", {}, "query must say"),
        ("order", {"offset": -1}, "offset must be 0 or more"),
    ],
)
def test_calls_that_make_no_sense(query: str, more: Any, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        ask(query, **more)


def test_the_list_of_tools_only_grows_at_its_end() -> None:
    calls = [
        FunctionCall("1", "find_tools", '{"query": "delete an order"}'),
        FunctionCall("2", "find_tools", '{"query": "delete an order; create a coupon"}'),
        FunctionCall("3", "shop_coupons__create", '{"number": 7}'),
    ]
    backend = ScriptedBackend([*([one] for one in calls), "done"])
    Agent("a", backend, tools=shop(effect="pure"), store=MemoryLog()).call("go")
    names = [[spec["function"]["name"] for spec in request.tools] for request in backend.requests]
    assert names[0] == ["find_tools"]
    for before, after in pairwise(names):
        assert after[: len(before)] == before
        assert len(set(after)) == len(after)
    assert backend.requests[-1].messages[-1].text == "done with 7"
