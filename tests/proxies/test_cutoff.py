"""What a cutoff date removes, and what may be asked for."""

import datetime
from typing import Any

import pytest

import lllm
from lllm.errors import ConfigError, ToolError
from lllm.proxies import BaseProxy, Proxy
from lllm.proxies.base import as_date
from lllm.proxies.cutoff import read_date, without_keys, without_later
from lllm.proxies.endpoint import _cutoffs
from tests.proxies.logged import notes
from tests.servers.api import Api

CUTOFF = as_date("2024-01-01")
assert CUTOFF is not None


def cut(value: Any, rules: Any, cutoff: str = "2024-01-01") -> Any:
    moment = as_date(cutoff)
    assert moment is not None
    return without_later(value, _cutoffs(rules, "here"), moment).value


BEFORE = [
    "2023-12-31", "2023-12-31T23:59:59", "2023-12-31T23:59:59.999Z", "2024-01-01T00:30:00+01:00", "20231231", "2023-12", "2023",
    "2023Q4", "2023-Q1", "2023-W51", "2023-W51-7", "2023/12/31", "2023-12-31 10:00:00 UTC", " 2023-12-31 ",
    "Sun, 31 Dec 2023 10:00:00 GMT",
    1704067199, 1704067199.5, 1704067199000, 1704067199000000, 1704067199000000000, "1704067199", 20231231, 202312, 2023, 0, -1,
]  # fmt: skip
AFTER = [
    "2024-01-01", "2024-01-01T00:00:00Z", "2023-12-31T23:30:00-01:00", "2024", "2024-01", "2024Q1", "2024-W01", "2023-W53",
    "2030",
    1704067200, 1704067200000, 1704067200000000000, "1704067200", 20240101, 202401, 2024, 1e300,
    "Mon, 01 Jan 2024 00:00:00 GMT", "yesterday", "", None, True, [], {"a": 1}, "31.12.2023", float("nan"), "2023-13-45",
]  # fmt: skip


@pytest.mark.parametrize("value", BEFORE)
def test_dates_before(value: Any) -> None:
    assert cut([{"d": value}], "d") == [{"d": value}]


@pytest.mark.parametrize("value", AFTER, ids=repr)
def test_dates_that_are_not_before(value: Any) -> None:
    assert cut([{"d": value, "x": 1}], "d") in ([], [{"d": [], "x": 1}])


@pytest.mark.parametrize(
    ("form", "value", "kept"),
    [
        ("%d.%m.%Y", "31.12.2023", True), ("%d.%m.%Y", "01.01.2024", False), ("%d.%m.%Y", "2023-12-31", False),
        ("%b %Y", "Dec 2023", True), ("%b %Y", "Jan 2024", False), ("%Y", 2023, True), ("%Y", 2024, False),
        ("%d/%m/%y %H:%M", "31/12/23 23:59", True), ("%d/%m/%y %H:%M", "01/01/24 00:00", False),
    ],
)  # fmt: skip
def test_formats(form: str, value: Any, kept: bool) -> None:
    assert cut([{"d": value}], ("d", form)) == ([{"d": value}] if kept else [])


def test_a_day_must_be_over() -> None:
    assert cut([{"d": "2024-01-01"}], "d", "2024-01-01T12:00") == []
    assert cut([{"d": "2024-01-01T11:59"}], "d", "2024-01-01T12:00") == [{"d": "2024-01-01T11:59"}]
    assert cut([{"d": "2023"}], "d", "2023-06-01") == []


OLD, NEW = {"d": "2020-01-01"}, {"d": "2030-01-01"}
SHAPES = [
    ("rows.d", {"n": 2, "rows": [OLD, NEW]}, {"n": 2, "rows": [OLD]}),
    ("rows.m.d", {"rows": [{"m": OLD}, {"m": NEW}, {"m": {}}, {}, 7, None]}, {"rows": [{"m": OLD}]}),
    ("a.rows.d", {"a": [{"rows": [OLD, NEW]}, {"rows": []}]}, {"a": [{"rows": [OLD]}, {"rows": []}]}),
    ("*", {"2020-01-01": 1, "2030-01-01": 2, "n": 3}, {"2020-01-01": 1}),
    ("days.*", {"days": {"2020-01-01": {"x": 1}, "2030-01-01": {}}}, {"days": {"2020-01-01": {"x": 1}}}),
    ("*.d", {"AAPL": OLD, "MSFT": NEW, "n": 1}, {"AAPL": OLD}),
    ("*.*.d", {"US": {"AAPL": OLD, "MSFT": NEW}}, {"US": {"AAPL": OLD}}),
    ("d", OLD, OLD),
    ("d", NEW, None),
    ("d", {"other": 1}, None),
    ("rows.d", {"error": "something of 2030"}, None),
    ("rows.d", "text of 2030", None),
    ("rows.d", {"rows": []}, {"rows": []}),
    ("d", [], []),
    ("d", None, None),
    ("d", [[OLD, NEW], [NEW]], [[OLD], []]),
    (
        "t",
        {"t": [1577836800, 1893456000], "c": [1, 2], "s": "ok", "o": [3]},
        {"t": [1577836800], "c": [1], "s": "ok", "o": [3]},
    ),
    (
        ["d", "e"],
        [{"d": "2020"}, {"e": "2020"}, {"d": "2020", "e": "2030"}, {"x": 1}],
        [{"d": "2020"}, {"e": "2020"}],
    ),
    (["a.d", "b.d"], {"a": [OLD, NEW]}, {"a": [OLD]}),
    (["a.d", "b.d"], {"a": [NEW], "b": [OLD, NEW]}, {"a": [], "b": [OLD]}),
]


@pytest.mark.parametrize(("rules", "value", "kept"), SHAPES)
def test_shapes(rules: Any, value: Any, kept: Any) -> None:
    before = repr(value)
    assert cut(value, rules) == kept
    assert repr(value) == before


def test_keys_are_removed() -> None:
    value = {"a": [{"b": 1, "c": 2}, 3], "d": {"e": 4, "f": 5}}
    assert without_keys(value, ("a.b", "*.e", "nope.x")) == {"a": [{"c": 2}, 3], "d": {"f": 5}}
    assert without_keys([value], ("a", "d")) == [{}]


@pytest.mark.parametrize("value", ["2024-02-30", 5, "soon", object()])
def test_cutoffs_that_are_none(value: Any) -> None:
    with pytest.raises(ConfigError, match="cutoff_date must be a date"):
        Proxy([], cutoff_date=value)


def test_read_date_never_raises() -> None:
    for value in (
        10**400,
        -(10**400),
        float("inf"),
        "9" * 5000,
        "0000",
        "0000-00",
        b"2020",
        object(),
        "2020-99-99T99",
    ):
        assert read_date(value) is None


# --- within a proxy


def news(url: str, **options: Any) -> type[BaseProxy]:
    class News(BaseProxy, register=False):
        base_url = url

        @BaseProxy.endpoint(
            endpoint="n",
            params={
                "since": (datetime.date, None),
                "until": {"type": datetime.date, "until": True},
                "at": {
                    "schema": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]},
                    "until": True,
                },
                "days": {"schema": {"type": "array", "items": {"type": "string", "format": "date"}}},
            },
            **options,
        )
        def list(self) -> None: ...

        def shorter(self, answer: Any) -> Any:
            return {"news": answer["rows"]}

    return News


async def test_parameters_are_bounded(server: Api) -> None:
    proxy = Proxy([news(server.url)], cutoff_date="2024-01-01")
    await proxy.acall("News.list", since="2023-12-31", days=["2023-01-01"])
    assert server.last.pairs == [
        ("since", "2023-12-31"),
        ("until", "2023-12-31"),
        ("at", "2023-12-31T23:59:59.999999+00:00"),
        ("days", "2023-01-01"),
    ]
    for name, value in (
        ("since", "2024-01-01"), ("until", datetime.date(2024, 1, 1)), ("at", "2024-01-01T00:00:00Z"),
        ("days", ["2023-01-01", "2025-01-01"]), ("since", "tomorrow"), ("at", "2024"),
    ):  # fmt: skip
        with pytest.raises(ToolError, match=f"'News.list': {name} is "):
            await proxy.acall("News.list", {name: value})
    assert len(server.asked) == 1
    await Proxy([news(server.url)]).acall("News.list", since="2050-01-01")
    assert server.last.pairs == [("since", "2050-01-01")]


ROWS = {"rows": [OLD, NEW, {}], "secret": 1}


async def test_what_was_removed_is_noted(server: Api) -> None:
    server.answer = [ROWS]
    store = lllm.MemoryLog()
    async with lllm.arecord("x", store=store) as session:
        proxy = Proxy(
            [news(server.url, dt_cutoff="rows.d", remove_keys=["secret"])], cutoff_date="2024-01-01"
        )
        assert await proxy.acall("News.list") == {"rows": [OLD]}
    (note,) = notes(store, session.id)
    assert note["removed"] == 2
    assert "2 entries from 2024-01-01 on, or without a readable date, were removed" in note["text"]


async def test_hooks_see_what_is_left(server: Api) -> None:
    server.answer = [ROWS]
    seen: list[Any] = []

    async def look(answer: Any) -> Any:
        seen.append(answer)
        return answer

    def count(answer: Any) -> Any:
        return {**answer, "n": len(answer["news"])}

    one = news(server.url, dt_cutoff="rows.d", postcall=[look, "shorter", count])
    assert await Proxy([one], cutoff_date="2024-01-01").acall("News.list") == {"news": [OLD], "n": 1}
    assert seen == [{"rows": [OLD], "secret": 1}]
    # where the dates are only in what a hook returns, it is cut then
    one = news(server.url, dt_cutoff="news.d", postcall="shorter")
    assert await Proxy([one], cutoff_date="2024-01-01").acall("News.list") == {"news": [OLD]}


@pytest.mark.parametrize("hook", [5, ["shorter", 5], {"a": 1}])
def test_hooks_that_are_none(hook: Any) -> None:
    with pytest.raises(ConfigError, match="postcall must be"):
        Proxy([news("http://h", postcall=hook)])


async def test_a_hook_that_fails(server: Api) -> None:
    with pytest.raises(ToolError, match=r"postcall of 'News\.list' raised KeyError"):
        await Proxy([news(server.url, postcall="shorter")]).acall("News.list")


async def test_deploy_mode_lifts_it_and_restores_it(server: Api) -> None:
    server.answer = [{"rows": [OLD, NEW]}]
    one = news(server.url, dt_cutoff="rows.d")
    proxy = Proxy([one], cutoff_date="2024-01-01", deploy_mode=True)
    assert await proxy.acall("News.list") == {"rows": [OLD, NEW]}
    proxy.deploy_mode = False
    assert await proxy.acall("News.list") == {"rows": [OLD]}
    proxy.deploy_mode = True
    assert await proxy.acall("News.list") == {"rows": [OLD, NEW]}


async def test_two_systems_have_their_own(server: Api) -> None:
    middle = {"d": "2023-06-01"}
    server.answer = [{"rows": [OLD, middle, NEW]}]
    one = news(server.url, dt_cutoff="rows.d")
    early, late = Proxy([one], cutoff_date="2023-01-01"), Proxy([one], cutoff_date="2024-01-01")
    for _ in range(2):
        assert await early.acall("News.list") == {"rows": [OLD]}
        assert await late.acall("News.list") == {"rows": [OLD, middle]}
    # a proxy that was made with an earlier one keeps it
    made = one(cutoff_date="2023-01-01")
    assert await Proxy([made], cutoff_date="2024-01-01").acall("News.list") == {"rows": [OLD]}
    assert await Proxy([made]).acall("News.list") == {"rows": [OLD]}
