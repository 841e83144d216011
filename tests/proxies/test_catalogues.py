"""Catalogues that fit a prompt: whole, by category, by search, within a number of tokens."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lllm import registry
from lllm.errors import ConfigError, UnknownNameError
from lllm.proxies import BaseProxy, Proxy, ProxyRegistrator
from lllm.proxies.endpoint import Endpoint
from lllm.tokens import estimate


@ProxyRegistrator(path="shop/big", name="Shop", description="A shop of many things.")
class Shop(BaseProxy, register=False):
    """Twelve things, and what can be done with each."""

    base_url = "http://127.0.0.1:9"
    additional_docs = {"Limits": "Ten calls in a minute. " * 5}  # noqa: RUF012


@ProxyRegistrator(path="weather", name="Weather", description="Forecasts.")
class Weather(BaseProxy, register=False):
    base_url = "http://127.0.0.1:9"

    @BaseProxy.endpoint(endpoint="daily", params={"city*": (str, "Oslo"), "days": int})
    def daily(self, params: Any) -> None:
        """The forecast for some days — \u201ceach day\u201d."""


THINGS = "customer order invoice refund coupon product supplier shelf basket voucher shipment gift".split()
for thing in THINGS:
    for verb, method in (("List", "GET"), ("Create", "POST"), ("Delete", "DELETE"), ("Update", "PATCH")):

        def made(self: Any, params: Any) -> None: ...

        made.__name__ = f"{verb.lower()}_{thing}"
        options = {
            "category": thing,
            "sub_category": "all" if verb == "List" else "one",
            "endpoint": thing,
            "method": method,
            "description": f"{verb} a {thing} of the shop, with all that belongs to it.",
            "params": {"shop_number*": (int, 3), "colour": {"enum": ["red", "green"]}},
        }
        setattr(Shop, made.__name__, BaseProxy.endpoint(**options)(made))
for name in ("shop/big", "weather"):
    registry.remove("proxy", name)

ADDRESS = re.compile(r"(?:shop/big|weather)\.\w+")


@pytest.fixture(scope="module")
def proxy() -> Proxy:
    return Proxy([Shop, Weather])


def listed(text: str) -> list[str]:
    """What a text prints at the beginning of its lines, where that looks like an address."""
    return [match.group() for line in text.splitlines() if (match := ADDRESS.match(line.strip("# ")))]


TEXTS = {
    "catalogue": lambda proxy, n: proxy.api_catalog(max_tokens=n),
    "category": lambda proxy, n: proxy.api_catalog(categories=["order", "gift/one"], max_tokens=n),
    "search": lambda proxy, n: proxy.api_catalog(search="give the money back", max_tokens=n),
    "no match": lambda proxy, n: proxy.api_catalog(search="zxqv", max_tokens=n),
    "directory": lambda proxy, n: proxy.api_directory(max_tokens=n),
    "docs": lambda proxy, n: proxy.retrieve_api_docs(max_tokens=n),
    "overview": lambda proxy, n: proxy.overview(max_tokens=n),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_each_budget_is_kept_and_no_address_is_cut(proxy: Proxy, kind: str) -> None:
    whole = len(TEXTS[kind](proxy, None).encode()) // 4 + 2
    refused, sizes = [], []
    for budget in [*range(1, 60), *range(60, whole + 40, 37), whole]:
        try:
            text = TEXTS[kind](proxy, budget)
        except ConfigError as error:
            least = re.search(r"needs (\d+) tokens at least", error.message)
            assert least is not None
            assert int(least.group(1)) > budget
            refused.append(budget)
            continue
        assert estimate(text) <= budget
        for address in listed(text):
            assert proxy.endpoint(address).address == address
        sizes.append(len(listed(text)))
    assert refused == list(range(1, len(refused) + 1)), "what fits once, fits in more"
    assert len(refused) < 40
    assert TEXTS[kind](proxy, whole) == TEXTS[kind](proxy, None)


def test_lines_lose_the_least_first(proxy: Proxy) -> None:
    full = proxy.api_catalog()
    steps = [proxy.api_catalog(max_tokens=n) for n in range(60, estimate(full) + 1, 20)]
    assert max(len(listed(text)) for text in steps) == 49
    takes = next(text for text in steps if len(listed(text)) == 49 and "(shop_number" in text)
    assert takes.count("shop/big.") == 49 - 1
    assert "Limits" not in takes
    counted = steps[2]
    assert "## customer/one: 3 endpoints" in counted
    assert counted.endswith("Not all endpoints are listed: name a category, or search.")
    names = [len(listed(text)) for text in steps]
    assert names == sorted(names)


def test_the_smallest_catalogue_counts(proxy: Proxy) -> None:
    assert proxy.api_catalog(max_tokens=22) == (
        "2 proxies, 49 endpoints. Not all endpoints are listed: name a category, or search."
    )


def test_by_category(proxy: Proxy) -> None:
    of = [f"shop/big.{verb}_order" for verb in ("list", "create", "delete", "update")]
    assert listed(proxy.api_catalog(categories="order")) == of
    assert listed(proxy.api_catalog(categories=["order/one"])) == of[1:]
    assert listed(proxy.api_directory(categories=("order/all", "general"))) == [of[0], "weather.daily"]
    assert "weather" not in proxy.api_catalog(categories="order")


@pytest.mark.parametrize("wrong", ["ordr", ["order", "nothing"], "one"])
def test_unknown_categories_are_refused(proxy: Proxy, wrong: Any) -> None:
    for text in (proxy.api_catalog, proxy.api_directory):
        with pytest.raises(UnknownNameError, match="no category named"):
            text(categories=wrong)
    with pytest.raises(UnknownNameError):
        proxy.api_catalog(search="refund", categories=wrong)


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "100"])
def test_budgets_are_numbers_of_tokens(proxy: Proxy, wrong: Any) -> None:
    for make in TEXTS.values():
        with pytest.raises(ConfigError, match="max_tokens must be a whole number above 0"):
            make(proxy, wrong)


def test_by_search(proxy: Proxy) -> None:
    text = proxy.api_catalog(search="give the money back to somebody")
    assert {one.partition("_")[2] for one in listed(text)[:4]} == {"refund"}
    assert "(shop_number: integer, colour: " in text
    assert listed(proxy.api_catalog(search="make a refund"))[0] == "shop/big.create_refund"
    small = proxy.api_catalog(search="what the shop lists", max_tokens=120)
    assert small.startswith("shop/big.")
    assert re.search(r"\n\d+ more match 'what the shop lists'\.$", small)
    within = proxy.api_catalog(search="refund", categories="order")
    assert all("order" in one for one in listed(within))


def test_a_search_without_a_match_names_categories(proxy: Proxy) -> None:
    text = proxy.api_catalog(search="zxqv\x1b[31m")
    assert text.startswith("No endpoint matches ")
    assert "\x1b" not in text
    assert "## order/one: 3 endpoints" in text


def test_searches_give_endpoints(proxy: Proxy) -> None:
    found = proxy.search("throw the voucher away", 3)
    assert isinstance(found[0], Endpoint)
    assert found[0].address == "shop/big.delete_voucher"
    assert len(found) == 3
    assert proxy.search("will it rain tomorrow", 1)[0].address == "weather.daily"
    assert proxy.search("the of and") == []


def test_what_is_activated_later_is_found() -> None:
    proxy = Proxy([Weather])
    assert proxy.search("basket") == []
    proxy.activate(Shop)
    assert proxy.search("basket", 1)[0].address.endswith("_basket")


def test_a_catalogue_of_nothing() -> None:
    empty = Proxy([])
    assert empty.api_catalog() == ""
    assert empty.api_catalog(max_tokens=50) == ""
    assert empty.api_directory() == ""
    assert empty.retrieve_api_docs() == ""
    assert empty.overview() == ""
    assert empty.api_catalog(search="x").startswith("No endpoint matches")
