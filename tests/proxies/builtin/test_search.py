"""The proxy `search`, against answers that were written by hand after each API's documentation."""

import datetime
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import lllm
from lllm.errors import (
    ConfigError,
    EndpointAnswerInvalid,
    EndpointDenied,
    EndpointError,
    EndpointRateLimited,
    EndpointRejected,
    EndpointServerError,
    ToolError,
    UnknownNameError,
)
from lllm.proxies import Proxy
from lllm.proxies.builtin.search import _as_date, _same
from lllm.proxies.builtin.search_providers import PERIODS, PROVIDERS
from tests.servers.api import Api, api

KEY = "k3y-0f-a-search-api"
ANSWERS: dict[str, Any] = {
    "searxng": {
        "query": "x",
        "number_of_results": 0,
        "results": [
            {"url": "https://a.test/1", "title": "A", "content": "About a", "publishedDate": "2024-05-01T10:00:00"},
            {"url": "https://b.test/", "title": "B", "content": "", "publishedDate": None, "engines": ["e"]},
        ],
        "unresponsive_engines": [["other", "timeout"]],
    },
    "brave": {
        "type": "search",
        "web": {
            "type": "search",
            "results": [
                {"title": "A", "url": "https://a.test/1", "description": "About <strong>a</strong>",
                 "page_age": "2024-05-01T10:00:00"},
                {"title": "B", "url": "https://b.test/", "description": "", "age": "3 days ago"},
            ],
        },
    },
    "tavily": {
        "query": "x",
        "results": [
            {"title": "A", "url": "https://a.test/1", "content": "About a", "score": 0.9,
             "published_date": "Wed, 01 May 2024 10:00:00 GMT"},
            {"title": "B", "url": "https://b.test/", "content": "", "score": 0.8},
        ],
        "response_time": 1.1,
    },
    "serper": {
        "searchParameters": {"q": "x"},
        "organic": [
            {"title": "A", "link": "https://a.test/1", "snippet": "About a", "date": "May 1, 2024", "position": 1},
            {"title": "B", "link": "https://b.test/", "position": 2},
        ],
    },
    "exa": {
        "requestId": "1",
        "results": [
            {"id": "1", "title": "A", "url": "https://a.test/1", "publishedDate": "2024-05-01T10:00:00.000Z",
             "highlights": ["About a"]},
            {"id": "2", "title": "B", "url": "https://b.test/", "highlights": []},
        ],
    },
    "google": {
        "kind": "customsearch#search",
        "items": [
            {"title": "A", "link": "https://a.test/1", "snippet": "About a", "displayLink": "a.test"},
            {"title": "B", "link": "https://b.test/", "snippet": ""},
        ],
    },
}  # fmt: skip
SENT: dict[str, tuple[str, Any, str]] = {
    "searxng": ("/search?format=json&q=two+words&time_range=month", None, ""),
    "brave": ("/res/v1/web/search?q=two+words&count=5&freshness=pm", None, "X-Subscription-Token"),
    "tavily": ("/search", {"query": "two words", "max_results": 5, "time_range": "month"}, "Authorization"),
    "serper": ("/search", {"q": "two words", "num": 5, "tbs": "qdr:m"}, "X-API-KEY"),
    "exa": ("/search", {"query": "two words", "numResults": 5, "contents": {"highlights": True}}, "x-api-key"),
    "google": ("/customsearch/v1?q=two+words&num=5&dateRestrict=m1&cx=id", None, ""),
}  # fmt: skip


@pytest.fixture
def server() -> Iterator[Api]:
    with api() as one:
        yield one


def made(server: Api, provider: str, **more: Any) -> Proxy:
    options = {"provider": provider, "base_url": server.url, **more}
    if provider == "google":
        options.setdefault("engine", "id")
    names = {row.key.env: KEY for row in PROVIDERS.values() if row.key is not None}
    cutoff = options.pop("cutoff_date", None)
    return Proxy(
        ["search"], cutoff_date=cutoff, variables={**names, "MINE": KEY}, options={"search": options}
    )


def search(server: Api, provider: str = "searxng", **more: Any) -> Callable[..., Any]:
    proxy = made(server, provider, **more)
    return lambda query="two words", **arguments: proxy("search.web", query=query, **arguments)


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_every_provider(server: Api, provider: str) -> None:
    server.answer = [ANSWERS[provider]]
    found = search(server, provider)(limit=5, period="month")
    date = {} if provider == "google" else {"date": "2024-05-01"}
    second = {"title": "B", "url": "https://b.test/"}
    assert found == {
        "results": [{"title": "A", "url": "https://a.test/1", "snippet": "About a", **date}, second],
        "source": provider,
    }
    asked = server.last
    target, body, header = SENT[provider]
    shown = asked.target.replace("%20", "+").replace(f"&key={KEY}", "").replace(f"key={KEY}&", "")
    assert sorted(shown.replace("?", "&").split("&")) == sorted(target.replace("?", "&").split("&"))
    if body is not None:
        sent = json.loads(asked.body)
        if provider == "exa":
            day = datetime.date.fromisoformat(sent.pop("startPublishedDate"))
            assert 30 <= (datetime.datetime.now(datetime.UTC).date() - day).days <= 32
        assert sent == body
    if header:
        assert {name.lower(): value for name, value in asked.headers.items()}[header.lower()].endswith(KEY)
    assert (KEY in asked.target) is (provider == "google")


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_rows_are_complete(server: Api, provider: str) -> None:
    row = PROVIDERS[provider]
    assert row.docs.startswith("https://")
    assert (provider == "searxng") is (row.key is None)
    assert row.most > 0
    schema = made(server, provider).endpoint("search.web").schema["properties"]
    periods = PERIODS if row.since else tuple(row.period[1])
    assert schema["period"]["enum"] == ["", *periods]
    assert schema["limit"]["maximum"] == min(20, row.most)
    for period in periods:
        server.answer = [ANSWERS[provider]]
        search(server, provider)(period=period)


def test_a_key_is_nowhere(server: Api) -> None:
    server.answer = [(401, {}, f"bad key {KEY}")]
    store = lllm.MemoryLog()
    for provider in ("google", "brave", "tavily"):
        with lllm.record("look", store=store), pytest.raises(EndpointDenied) as caught:
            search(server, provider)()
        assert KEY not in str(caught.value)
        assert KEY not in repr(caught.value.__cause__)
    for session in store.sessions(10):
        assert KEY not in repr(list(store.read(session.id)))


def test_a_key_that_is_missing_is_named(server: Api) -> None:
    options = {"provider": "brave", "base_url": server.url, "key_env": "MY_KEY"}
    proxy = Proxy(["search"], variables={}, options={"search": options})
    assert proxy.missing_variables(proxy.endpoint("search.web")) == ["MY_KEY"]
    with pytest.raises(ConfigError, match="MY_KEY"):
        proxy("search.web", query="x")
    assert not server.asked


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (403, EndpointDenied, "json one of search.formats"),
        (429, EndpointRateLimited, "429"),
        (500, EndpointServerError, "500"),
        ((200, {"Content-Type": "text/html"}, "<title>Login</title>"), EndpointAnswerInvalid, "Login"),
        ((200, {"Content-Type": "application/json"}, "{"), EndpointAnswerInvalid, "not JSON"),
        ((200, {"Content-Type": "application/json"}, "3"), EndpointAnswerInvalid, "not JSON"),
        ({"results": {"a": 1}}, EndpointAnswerInvalid, "no list at 'results'"),
    ],
)
def test_failures_are_typed(
    server: Api, soon: None, answer: Any, error: type[EndpointError], words: str
) -> None:
    server.answer = [answer]
    with pytest.raises(error, match=words):
        search(server)()


def test_odd_results_are_left_out_and_counted(server: Api) -> None:
    good = {"title": "T", "url": "https://www.a.test/x/?a=1&utm_source=y#top", "content": "c"}
    odd = [
        None, 3, "x", [], {}, {"url": None}, {"url": 5}, {"url": "javascript:x"}, {"url": "/relative"}, {"url": "https://a\n.test"},
        {"url": "http://a.test/x?a=1"}, {"url": "https://A.test/x/?a=1#other", "title": "again"},
    ]  # fmt: skip
    server.answer = [{"results": [good, *odd]}]
    found = search(server)()
    assert [one["url"] for one in found["results"]] == [good["url"]]
    assert found["left_out"] == "12 more: duplicates, or without a URL"
    for nothing in ({}, {"results": None}, {"results": []}):
        server.answer = [nothing]
        assert search(server)()["results"] == []
    server.answer = [{"results": [], "unresponsive_engines": [["google", "CAPTCHA"], 3, ["x", None]]}]
    assert search(server)()["notes"] == ["search engines of the instance did not answer: google: CAPTCHA, x"]


def test_texts_are_plain_and_short(server: Api) -> None:
    server.answer = [
        {
            "results": [
                {
                    "url": "https://a.test/",
                    "title": "<b>A</b> &amp; \x1b[2J\u202e B\n" + "x" * 5000,
                    "content": ["one", 3, "two < three"],
                    "publishedDate": "3 days ago",
                },
                {"url": "https://b.test/" + "y" * 5000, "title": {"no": "text"}, "content": None},
            ]
        }
    ]
    first, second = search(server)()["results"]
    assert first["title"].startswith("A & \ufffd[2J\ufffd B xxx")
    assert len(first["title"]) == 300
    assert first["snippet"] == "one ... two < three"
    assert first["age"] == "3 days ago"
    assert second["title"] == ""
    assert len(second["url"]) == 2000


def test_a_limit_holds_whatever_comes(server: Api) -> None:
    server.answer = [{"results": [{"url": f"https://a.test/{number}", "title": "t"} for number in range(50)]}]
    assert len(search(server)(limit=3)["results"]) == 3
    assert len(search(server)()["results"]) == 10
    assert len(search(server, most=4)()["results"]) == 4
    for limit in (0, 21, "x"):
        with pytest.raises(ToolError):
            search(server)(limit=limit)
    with pytest.raises(ToolError):
        search(server)(period="week")  # SearXNG has none
    for query in ("", "x" * 401):
        with pytest.raises(ToolError):
            search(server)(query)
    with pytest.raises(EndpointRejected, match="empty"):
        search(server)("  ")


def test_nothing_is_shown_from_a_cutoff_date_on(server: Api) -> None:
    server.answer = [ANSWERS["searxng"]]
    assert [one["title"] for one in search(server, cutoff_date="2024-06-01")()["results"]] == ["A"]
    assert search(server, cutoff_date="2024-04-01")()["results"] == []


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("{}/find?text={{query}}&n={{limit}}&kind=web", "/find?kind=web&text=a%2Fb%3Fc+%C3%A9&n=10"),
        ("{}/find/{{query}}/all", "/find/a%2Fb%3Fc%20%C3%A9/all"),
        ("{}?q={{query}}", "/?q=a%2Fb%3Fc+%C3%A9"),
    ],
)
def test_any_api_by_its_url(server: Api, url: str, target: str) -> None:
    server.answer = [
        {
            "data": {
                "items": [{"meta": {"name": "N"}, "href": "https://a.test", "when": "2024-01-02", "t": ["x"]}]
            }
        }
    ]
    proxy = Proxy(
        ["search"],
        variables={"MINE": KEY},
        options={
            "search": {
                "url": url.format(server.url),
                "results_key": "data.items",
                "title_key": "meta.name",
                "url_key": "href",
                "snippet_key": "t.0",
                "date_key": "when",
                "key_env": "MINE",
                "key_place": "header X-Key",
            }
        },
    )
    assert proxy("search.web", query="a/b?c \u00e9") == {
        "results": [{"title": "N", "url": "https://a.test", "snippet": "x", "date": "2024-01-02"}],
        "source": server.url,
    }
    assert server.last.target.replace("%20", "+") == target.replace("%20", "+")
    assert server.last.headers["X-Key"] == KEY
    assert "period" not in proxy.endpoint("search.web").schema["properties"]


def test_an_answer_that_is_a_list(server: Api) -> None:
    server.answer = [[{"url": "https://a.test", "title": "T"}]]
    proxy = Proxy(["search"], options={"search": {"url": f"{server.url}/?q={{query}}", "results_key": ""}})
    assert proxy("search.web", query="x")["results"] == [{"title": "T", "url": "https://a.test"}]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, ConfigError, "needs one of the options"),
        ({"provider": "brave", "url": "https://a.test/?q={query}"}, ConfigError, "needs one of the options"),
        ({"provider": "bing"}, UnknownNameError, "bing"),
        ({"provider": "searxng"}, ConfigError, "needs the option 'base_url'"),
        ({"provider": "searxng", "base_url": "ftp://a.test"}, ConfigError, "base_url"),
        (
            {"provider": "searxng", "base_url": "https://u:p@a.test"},
            ConfigError,
            "holds a user or a password",
        ),
        ({"provider": "google"}, ConfigError, "needs the option 'engine'"),
        ({"provider": "brave", "engine": "x"}, ConfigError, "for google alone"),
        ({"provider": "brave", "language": "de"}, ConfigError, "for searxng alone"),
        ({"url": "a.test/?q={query}"}, ConfigError, "must be the URL"),
        ({"url": "https://u:p@a.test/?q={query}"}, ConfigError, "must be the URL"),
        ({"url": "https://a.test/?q=x"}, ConfigError, "must have {query} once"),
        ({"url": "https://a.test/{query}?q={query}"}, ConfigError, "must have {query} once"),
        ({"url": "https://a.test/x{query}"}, ConfigError, "must have {query} once"),
        ({"url": "https://{query}.test/"}, ConfigError, "must have {query} once"),
        ({"url": "https://a.test/?q=x{query}"}, ConfigError, "as whole values"),
        ({"url": "https://a.test/?q={query}&k={KEY}"}, ConfigError, "as whole values"),
        ({"url": "https://a.test/?q={query}", "key_env": "K", "key_place": "body"}, ConfigError, "key_place"),
        ({"url": "https://a.test/?q={query}", "most": 0}, ConfigError, "above 0"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        Proxy(["search"], options={"search": options})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("2024-05-01", "2024-05-01"),
        ("2024-05-01T23:59:59+02:00", "2024-05-01"),
        ("May 1, 2024", "2024-05-01"),
        ("1 May 2024", "2024-05-01"),
        ("Wed, 01 May 2024 10:00:00 GMT", "2024-05-01"),
        ("2024-99-99", ""),
        ("yesterday", ""),
        ("", ""),
        ("x" * 10_000, ""),
    ],
)
def test_dates(text: str, date: str) -> None:
    assert _as_date(text) == date


def test_pages_that_are_the_same() -> None:
    assert (
        _same("https://www.A.test/x/")
        == _same("http://a.test/x#y")
        == _same("http://a.test/x?utm_a=1&gclid=2")
    )
    assert _same("https://a.test/x?a=1&utm_b=2") == _same("https://a.test/x?a=1")
    assert _same("https://a.test/x") != _same("https://a.test/X")
    assert _same("https://a.test/?id=1") != _same("https://a.test/?id=2")


def test_it_is_a_tool_that_says_what_it_does(server: Api) -> None:
    tool = made(server, "searxng", approval=True).tool("search.web")
    assert (tool.name, tool.effect, tool.approval) == ("search__web", "pure", True)
    assert tool.data == {"untrusted", "outward"}


def test_a_search_is_recorded_and_replayed(server: Api) -> None:
    server.answer = [ANSWERS["brave"]]
    store, seen = lllm.MemoryLog(), []

    def program() -> None:
        with lllm.record("look", store=store):
            seen.append(search(server, "brave")())

    program()
    report = lllm.replay_session(store.sessions(1)[0].id, store=store, entry=program)
    assert not report.unrecorded
    assert seen[0] == seen[1]
    assert len(server.asked) == 1
