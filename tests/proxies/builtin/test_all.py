"""Every proxy that ships, the same way: what its catalogue prints is callable, and hostile arguments are typed errors."""

import json
import pickle
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lllm
from lllm.errors import ConfigError, ToolError, UnknownNameError
from lllm.models.render import render_value
from lllm.proxies import Proxy
from lllm.registry import registry
from lllm.shipped import BUILTINS

OURS = [
    name
    for kind, name, target, *_ in BUILTINS
    if kind == "proxy" and target.startswith("lllm.proxies.builtin.")
]


def _files(folder: Path) -> dict[str, Any]:
    (folder / "root").mkdir()
    (folder / "root" / "README.md").write_text("# Title\n")
    return {"root": str(folder / "root")}


def _sql(folder: Path) -> dict[str, Any]:
    with sqlite3.connect(folder / "a.db") as connection:
        connection.execute("CREATE TABLE t (id INTEGER, a INTEGER)")
    connection.close()
    return {"database": str(folder / "a.db")}


def _git(folder: Path) -> dict[str, Any]:
    (folder / "root").mkdir()
    (folder / "root" / "README.md").write_text("# Title\n")
    who = ("-c", "user.name=Ada", "-c", "user.email=a@b.c")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "first")):
        subprocess.run(["git", *words], cwd=folder / "root", check=True, timeout=60)
    return {"root": str(folder / "root"), "author": "Ada <a@b.c>"}


def _knowledge(folder: Path) -> dict[str, Any]:
    return {**_files(folder), "index": str(folder / "index.db")}


def _search(folder: Path) -> dict[str, Any]:
    return {"provider": "searxng", "base_url": "http://127.0.0.1:1", "timeout": 0.05}


def _fetch(folder: Path) -> dict[str, Any]:
    return {"allow_private": ["127.0.0.1:1"]}


PREPARED: dict[str, Callable[[Path], dict[str, Any]]] = {
    "fetch": _fetch,
    "files": _files,
    "git": _git,
    "knowledge": _knowledge,
    "search": _search,
    "sql": _sql,
}
HOSTILE: tuple[Any, ...] = (
    *("", " ", "\0", "a\0b", "\ud800", "..", "../../etc/passwd", "/etc/passwd", "-", "--help", "--output=x", "~"),
    *("$HOME", "`id`", "; rm -rf /", "' OR 1=1 --", "%s%n", "\x1b[2J", "x" * 200_000, "\u202e", "(a+)+$", "*" * 100),
    *("**/" * 4, ":(top)", "@{", "HEAD^{/x}"),
    *(0, -1, 2**70, 1e308, float("nan"), True, None, [], ["x"], [None], {}, {"a": 1}, [[[]]]),
)  # fmt: skip


def attempt(call: Callable[[], Any]) -> tuple[Any, ToolError | None]:
    """What a call returns, or its typed error; any other one is raised."""
    try:
        return call(), None
    except ToolError as error:
        return None, error


@pytest.fixture(params=sorted(PREPARED))
def proxy(request: pytest.FixtureRequest, tmp_path: Path) -> Proxy:
    options = PREPARED[request.param](tmp_path)
    if "writable" in registry.get("proxy", request.param).OPTIONS:
        options["writable"] = True
    return Proxy([request.param], options={request.param: options})


def test_every_one_is_tried_here() -> None:
    assert sorted(PREPARED) == sorted(OURS)
    for name in PREPARED:
        assert registry.entry("proxy", name).summary


def test_every_address_in_a_catalogue_is_callable(proxy: Proxy) -> None:
    texts = (proxy.api_catalog(), proxy.api_directory(), proxy.retrieve_api_docs())
    name = proxy.available()[0]
    for text in texts:
        assert set(re.findall(rf"\b{name}\.[a-z_]+\b(?!\.)", text)) >= set(proxy.endpoints)
    for address, endpoint in proxy.endpoints.items():
        found, error = attempt(lambda address=address, one=endpoint: proxy(address, one.example()))
        assert type(error) is not ToolError, error  # an error of the subject, not of the arguments
        json.dumps(found)
    for other in (
        f"{name}.nothing",
        f"{name}.root",
        f"{name}.endpoints",
        f"{name}.__init__",
        name,
        "",
        "files",
    ):
        if other not in proxy.endpoints:
            with pytest.raises(UnknownNameError):
                proxy(other)


def test_hostile_arguments_are_errors_that_a_model_can_read(proxy: Proxy, tmp_path: Path) -> None:
    for address, endpoint in proxy.endpoints.items():
        for name in [one.name for one in endpoint.parameters]:
            for value in HOSTILE:
                arguments = {**endpoint.example(), name: value}
                found, error = attempt(lambda address=address, given=arguments: proxy(address, given))
                if error is None:
                    render_value(found)
                    continue
                assert "raised" not in str(error), (address, name, value, error)
                assert "Traceback" not in str(error)
                assert len(str(error)) < 5000 or len(str(value)) > 5000
    assert not (tmp_path.parent / "etc").exists()


def test_no_name_at_all_activates_none_that_ships() -> None:
    assert not set(Proxy().available()) & set(OURS)


def test_options_of_one_activate_it(tmp_path: Path) -> None:
    assert "files" in Proxy(options={"files": _files(tmp_path)}).available()
    with pytest.raises(ConfigError, match="needs the option 'root'"):
        Proxy(["files"])


def test_the_tools_of_an_agent_are_these_endpoints(tmp_path: Path) -> None:
    proxy = Proxy(["files"], options={"files": {**_files(tmp_path), "writable": True}})
    tools = {one.name: one for one in proxy.tools("files.*")}
    assert sorted(tools) == ["files__edit", "files__list", "files__read", "files__search", "files__write"]
    assert {name: (one.effect, one.approval) for name, one in tools.items()} == {
        "files__read": ("pure", False),
        "files__list": ("pure", False),
        "files__search": ("pure", False),
        "files__write": ("idempotent", True),
        "files__edit": ("ask", True),
    }
    for one in tools.values():
        assert one.description
        assert len(one.description) < 600
        assert all("description" in each for each in one.parameters["properties"].values()), one.name


def test_a_call_of_the_program_is_recorded_and_replayed(tmp_path: Path) -> None:
    proxy = Proxy(["files"], options={"files": _files(tmp_path)})
    store = lllm.MemoryLog()
    seen = []

    def program() -> None:
        with lllm.record("look", store=store):
            seen.append(proxy("files.read", path="README.md")["text"])

    program()
    (tmp_path / "root" / "README.md").write_text("changed")
    report = lllm.replay_session(store.sessions(1)[0].id, store=store, entry=program)
    assert not report.unrecorded
    assert seen == ["# Title\n", "# Title\n"]


def test_they_can_be_pickled(proxy: Proxy) -> None:
    again = pickle.loads(pickle.dumps(proxy))
    assert again.endpoints.keys() == proxy.endpoints.keys()
    address = next(iter(again.endpoints))
    assert attempt(lambda: again(address, again.endpoints[address].example()))


def test_settings_of_every_proxy_are_theirs_too(tmp_path: Path) -> None:
    proxy = Proxy(["files"], options={"files": {**_files(tmp_path), "timeout": 5, "max_bytes": 100}})
    assert (proxy.proxies["files"].timeout, proxy.proxies["files"].max_bytes) == (5, 100)


def test_listing_them_imports_none() -> None:
    program = (
        "import sys, lllm; from lllm.registry import registry; registry.entries('proxy'); "
        "print([name for name in sys.modules if name.startswith('lllm.proxies.builtin')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr
