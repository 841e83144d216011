"""Every address that a catalogue prints is callable as printed, and nothing else is: for every proxy that ships."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lllm import BaseProxy
from lllm.discovery import auto_discover
from lllm.errors import EndpointError, ToolError, UnknownNameError
from lllm.proxies import Proxy, ProxyRegistrator
from lllm.registry import registry
from lllm.shipped import BUILTINS

TEMPLATES = sorted((Path(__file__).parents[2] / "template").glob("*/lllm.toml"))
SHIPPED = [name for kind, name, *_ in BUILTINS if kind == "proxy"]


def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (root / "README.md").write_text("# Hello\n\nSome words.\n")
    return root


def database(tmp_path: Path) -> Path:
    import sqlite3

    file = tmp_path / "data.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT)")
    return file


def repository(tmp_path: Path) -> Path:
    import subprocess

    root = folder(tmp_path)
    for words in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *words], cwd=root, check=True)
    author = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", *author, "commit", "-qm", "first"], cwd=root, check=True)
    return root


OPTIONS: dict[str, Any] = {
    # options without which a proxy that ships cannot be made
    "files": lambda tmp_path: {"root": str(folder(tmp_path))},
    "sql": lambda tmp_path: {"database": str(database(tmp_path))},
    "git": lambda tmp_path: {"root": str(repository(tmp_path))},
    "fetch": lambda tmp_path: {"allow": ["example.org"]},
    "knowledge": lambda tmp_path: {"root": str(folder(tmp_path)), "index": str(tmp_path / "index.db")},
    "search": lambda tmp_path: {"provider": "searxng", "base_url": "http://127.0.0.1:9"},
}


REMOTE = ("fetch", "search")
"""Those whose plain Python asks other machines: they are not called."""


def shipped(name: str, tmp_path: Path) -> Proxy:
    make = OPTIONS.get(name)
    options: dict[str, Any] = {name: {} if make is None else make(tmp_path)}
    return Proxy([name], options=options)


@ProxyRegistrator(path="sample/weather", name="Weather", description="Forecasts.")
class Sample(BaseProxy, register=False):
    """Of every kind of endpoint one."""

    base_url = "http://127.0.0.1:9/v1"
    additional_docs = {"Limits": "sample/weather.secret is not an endpoint."}  # noqa: RUF012

    @BaseProxy.endpoint(
        category="forecast",
        sub_category="days",
        endpoint="forecast/{city}",
        params={"city": {"example": "Oslo"}},
    )
    def daily(self, city: str) -> None:
        """Mentions sample/weather.hidden too."""

    @BaseProxy.endpoint(endpoint="search", method="POST", params={"words*": (str, "rain")})
    def find(self, params: Any) -> None: ...

    @BaseProxy.endpoint(local=True, effect="pure")
    def add(self, a: int = 1) -> int:
        return a

    def hidden(self) -> None: ...

    def _private(self) -> None: ...


registry.remove("proxy", "sample/weather")


def addresses_in(proxy: Proxy) -> Iterator[str]:
    """The addresses in each text of a catalogue, where that prints them."""
    places = (
        (proxy.api_directory(), r"^    (\S+)$"),
        (proxy.api_catalog(), r"^(\S+?)\("),
        (proxy.retrieve_api_docs(), r"^## (\S+)$"),
        (proxy.retrieve_api_docs(), r"^Example: (\S+) "),
    )
    for text, pattern in places:
        found = re.findall(pattern, text, re.MULTILINE)
        assert len(found) == len(set(found))
        yield from found


def check(proxy: Proxy) -> None:
    printed = list(addresses_in(proxy))
    assert set(printed) == set(proxy.endpoints)
    for address in printed:
        assert proxy.endpoint(address).address == address
        assert [tool.endpoint for tool in proxy.tools(address)] == [address]
    for address, arguments in re.findall(
        r"^Example: (\S+) (\{.*\})$", proxy.retrieve_api_docs(), re.MULTILINE
    ):
        endpoint = proxy.endpoint(address)
        assert endpoint.checker.validate(json.loads(arguments)) == []
        if endpoint.local and endpoint.effect == "pure" and endpoint.proxy not in REMOTE:
            with suppress(EndpointError, ToolError):  # it was called, and there is no such file
                proxy(address, json.loads(arguments))
    for wrong in wrong_addresses(proxy):
        with pytest.raises(UnknownNameError):
            proxy(wrong)
        with pytest.raises(UnknownNameError):
            proxy.tool(wrong)


def wrong_addresses(proxy: Proxy) -> Iterator[Any]:
    for path, one in proxy.proxies.items():
        known = one.endpoints()
        yield from (f"{path}.{name}" for name in dir(one) if name not in known)
        yield from (path, f"{path}.", f".{path}", f"{path}.*")
        for endpoint in known.values():
            address, key = endpoint.address, endpoint.key
            yield from (
                f" {address}",
                f"{address} ",
                f"{address}()",
                f"{path}..{key}",
                f"{path}.{path}.{key}",
            )
            yield from (
                f"{path}/{key}",
                f"{path}__{key}",
                f"{path}:{key}",
                key,
                endpoint.path,
                f"/{endpoint.path}",
            )
            yield from (changed for changed in (address.upper(), address.title()) if changed != address)
            yield from (
                f"{type(one).__module__}:{type(one).__name__}.{key}",
                f"{address}.__call__",
                f"{address}\n",
            )
    yield from ("", " ", ".", None, 5, b"files.read", ["files.read"])


@pytest.mark.parametrize("name", SHIPPED)
def test_of_a_proxy_that_ships(name: str, tmp_path: Path) -> None:
    check(shipped(name, tmp_path))


def test_of_every_kind_of_endpoint() -> None:
    check(Proxy([Sample]))


def test_of_several_at_once(tmp_path: Path) -> None:
    check(Proxy([Sample, "files"], options={"files": OPTIONS["files"](tmp_path)}))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda file: file.parent.name)
def test_of_the_proxies_of_a_template(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    from lllm.cli.create import templates, write

    root = write(templates()[template.parent.name], tmp_path, "demo")
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    try:
        with registry.scope():
            found = auto_discover()
            assert not found.problems
            names = [entry.name for entry in found.found if entry.kind == "proxy"]
            for name in names:
                check(Proxy([name]))
    finally:
        for name in set(sys.modules) - before:
            del sys.modules[name]
