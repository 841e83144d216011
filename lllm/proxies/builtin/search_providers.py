"""APIs that search the web, as rows of data: where each is, what it is asked for, and where its answers have what.

A row is tested against an answer written by hand after the page that it names, not against the API itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from lllm.errors import ConfigError
from lllm.proxies.credentials import Auth, Bearer, Header, Query

PERIODS: Final = ("day", "week", "month", "year")


class Provider(NamedTuple):
    """An API that searches the web.

    Attributes:
        docs: the page after which the row was written. base_url, path, method: where it is; a path may contain `{query}`.
        key: where its key goes, with the usual name of its variable; None for none.
        query, limit: names of parameters; "" for a query that stands in the path, and for no limit. most: results at most.
        period: the name of the parameter for a time range, and its values. since: instead, of one that takes a date.
        fixed: parameters that are always sent.
        results: where the list of results is, as keys that are nested: `web.results`. title, url, snippet, date: where each
            result has what, in the same way.
    """

    docs: str
    base_url: str
    path: str
    key: Auth | None
    results: str
    title: str = "title"
    url: str = "url"
    snippet: str = "snippet"
    date: str = ""
    method: str = "GET"
    query: str = "q"
    limit: str = ""
    most: int = 20
    period: tuple[str, Mapping[str, str]] = ("", {})
    since: str = ""
    fixed: Mapping[str, Any] = {}


PROVIDERS: Final[Mapping[str, Provider]] = {
    "searxng": Provider(
        docs="https://docs.searxng.org/dev/search_api.html",
        base_url="",
        path="search?format=json",
        key=None,
        results="results",
        snippet="content",
        date="publishedDate",
        period=("time_range", {"day": "day", "month": "month", "year": "year"}),
    ),
    "brave": Provider(
        docs="https://api-dashboard.search.brave.com/api-reference/web/search/get",
        base_url="https://api.search.brave.com",
        path="res/v1/web/search",
        key=Header("X-Subscription-Token", env="BRAVE_API_KEY"),
        results="web.results",
        snippet="description",
        date="page_age",
        limit="count",
        period=("freshness", {"day": "pd", "week": "pw", "month": "pm", "year": "py"}),
    ),
    "tavily": Provider(
        docs="https://docs.tavily.com/documentation/api-reference/endpoint/search",
        base_url="https://api.tavily.com",
        path="search",
        method="POST",
        key=Bearer(env="TAVILY_API_KEY"),
        query="query",
        limit="max_results",
        results="results",
        snippet="content",
        date="published_date",
        period=("time_range", {one: one for one in PERIODS}),
    ),
    "serper": Provider(
        docs="https://serper.dev/playground",
        base_url="https://google.serper.dev",
        path="search",
        method="POST",
        key=Header("X-API-KEY", env="SERPER_API_KEY"),
        limit="num",
        results="organic",
        url="link",
        date="date",
        period=("tbs", {"day": "qdr:d", "week": "qdr:w", "month": "qdr:m", "year": "qdr:y"}),
    ),
    "exa": Provider(
        docs="https://exa.ai/docs/reference/search",
        base_url="https://api.exa.ai",
        path="search",
        method="POST",
        key=Header("x-api-key", env="EXA_API_KEY"),
        query="query",
        limit="numResults",
        results="results",
        snippet="highlights",
        date="publishedDate",
        since="startPublishedDate",
        fixed={"contents": {"highlights": True}},
    ),
    "google": Provider(
        docs="https://developers.google.com/custom-search/v1/reference/rest/v1/cse/list",
        base_url="https://www.googleapis.com",
        path="customsearch/v1",
        key=Query("key", env="GOOGLE_SEARCH_API_KEY"),
        limit="num",
        most=10,
        results="items",
        url="link",
        period=("dateRestrict", {"day": "d1", "week": "w1", "month": "m1", "year": "y1"}),
    ),
}
"""By the name that the option `provider` takes."""


def by_template(template: str, where: str, paths: Mapping[str, str], key: Auth | None) -> Provider:
    """The row of an API that is described by a URL with `{query}`, and perhaps `{limit}`, and by the places in its answer.

    Raises:
        ConfigError: a URL without `{query}`, with a password, or with a placeholder that is not a whole value.
    """
    parts = urlsplit(template.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.fragment:
        raise ConfigError(
            f"{where}: url must be the URL of an API with {{query}} in it",
            hint='Write "https://api.example.com/find?q={query}&n={limit}"; a key goes into a variable: key_env.',
        )
    names = {"query": "", "limit": ""}
    fixed = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if value in ("{query}", "{limit}"):
            names[value[1:-1]] = name
        elif "{" in name + value:
            raise ConfigError(
                f"{where}: url has {value!r}; possible are {{query}} and {{limit}}, as whole values"
            )
        else:
            fixed.append((name, value))
    placed = parts.path.split("/").count("{query}")
    if placed + bool(names["query"]) != 1 or "{" in parts.path.replace("/{query}", ""):
        raise ConfigError(f"{where}: url must have {{query}} once, as a part of its path or as a parameter")
    return Provider(
        docs="",
        base_url=f"{parts.scheme}://{parts.netloc}",
        path=parts.path.lstrip("/") + (f"?{urlencode(fixed)}" if fixed else ""),
        key=key,
        results=paths["results_key"],
        title=paths["title_key"],
        url=paths["url_key"],
        snippet=paths["snippet_key"],
        date=paths["date_key"],
        query=names["query"],
        limit=names["limit"],
        most=50,
    )


def key_at(place: str, env: str, where: str) -> Auth:
    """Returns the place of a key: `bearer`, `header NAME` or `query NAME`. ConfigError for anything else."""
    kind, _, name = place.strip().partition(" ")
    if kind == "bearer" and not name:
        return Bearer(env=env)
    if kind in ("header", "query") and name.strip():
        return (Header if kind == "header" else Query)(name.strip(), env=env)
    raise ConfigError(f"{where}: key_place must be 'bearer', 'header NAME' or 'query NAME', got {place!r}")
