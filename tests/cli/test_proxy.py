"""`lllm proxy`, `lllm list proxies` and what `lllm doctor` says of proxies."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lllm.cli import doctor
from lllm.config import load_config
from lllm.registry import registry
from lllm.shipped import EXTRAS
from tests.cli.conftest import Terminal
from tests.servers.api import Api, api

MODULE = '''
from lllm.proxies import BaseProxy, Header, ProxyRegistrator


@ProxyRegistrator(path="shop", name="Shop", description="What the shop has.")
class Shop(BaseProxy):
    base_url = "{url}"
    auth = Header("X-Key", env="SHOP_KEY")

    @BaseProxy.endpoint(endpoint="items/{{name}}", params={{"name": {{"example": "tea"}}}}, response={{"type": "object"}})
    def item(self, name: str, count: int = 1):
        """One item."""

    @BaseProxy.endpoint(endpoint="search")
    def search(self, words: str):
        """Looks for items."""

    @BaseProxy.endpoint(endpoint="orders", method="POST", params={{"name": {{"example": "tea"}}}})
    def order(self, name: str):
        """Buys an item."""


class Calc(BaseProxy):
    """Arithmetic."""

    @BaseProxy.endpoint(effect="pure", params={{"a": {{"example": 1}}, "b": {{"example": 2}}}})
    def add(self, a: int, b: int) -> int:
        """Adds."""
        return a + b
'''
SECRET = "shop-key-for-tests-1234"


@pytest.fixture
def server() -> Iterator[Api]:
    with api() as one:
        yield one


@pytest.fixture
def shop(server: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two proxies, in the layout of the documents."""
    module = tmp_path / "system" / "proxy" / "modules" / "shop.py"
    module.parent.mkdir(parents=True)
    module.write_text(MODULE.format(url=server.url))
    (tmp_path / "lllm.toml").write_text('[discovery]\nproxies = ["system/proxy/modules"]\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_list_shows_every_family_with_its_state(shop: Path, lllm: Terminal) -> None:
    result = lllm("list", "proxies")
    lines = {line.split()[1]: " ".join(line.split()) for line in result.out.splitlines()[1:]}
    assert lines["Calc"].startswith("api Calc ready Arithmetic. system/proxy/modules/shop.py:")
    assert lines["shop"].startswith("api shop needs SHOP_KEY What the shop has.")
    assert lines["files"].startswith("api files needs an option")
    assert lines["openai"].startswith("backend openai needs OPENAI_API_KEY or API_KEY")
    assert "shop: type export SHOP_KEY=..., or write it into .env" in result.err
    (shop / ".env").write_text(f"SHOP_KEY={SECRET}\nMISTRAL_API_KEY=some-key-5678\n")
    rows = {(row["family"], row["name"]): row for row in lllm("list", "proxies", "--json").json}
    assert rows["api", "shop"]["state"] == rows["backend", "mistral"]["state"] == "ready"
    assert rows["api", "shop"]["endpoints"] == 3
    assert rows["api", "files"]["state"] == "unset"


def test_a_proxy_that_cannot_be_read_is_listed_and_hides_nothing(shop: Path, lllm: Terminal) -> None:
    (shop / "system/proxy/modules/bad.py").write_text(
        "from lllm.proxies import BaseProxy\n"
        "class Bad(BaseProxy):\n    @BaseProxy.endpoint(effect='x')\n    def go(self): ...\n"
    )
    rows = {row["name"]: row for row in lllm("list", "proxies", "--json").json}
    assert (rows["Bad"]["state"], rows["Calc"]["state"]) == ("broken", "ready")
    assert "unknown effect 'x'" in rows["Bad"]["hint"]
    result = lllm("proxy", "test", "--json")
    assert (result.code, result.json["passed"], list(result.json["broken"])) == (1, 1, ["Bad"])


def test_the_directory_and_the_docs(shop: Path, lllm: Terminal) -> None:
    result = lllm("proxy")
    assert "shop.item" in result.out
    assert "needs" not in result.out
    said = lllm("proxy", "show", "shop.item", "Calc").out
    assert (
        '## shop.item\nOne item.\n- name: string\n- count: integer = 1\nExample: shop.item {"name": "tea", "count": 1}'
        in said
    )
    assert "## Calc.add" in said
    assert "## shop.search" not in said
    (row,) = lllm("proxy", "show", "Calc.add", "--json").json
    assert (row["address"], row["tool"], row["example"]) == ("Calc.add", "Calc__add", {"a": 1, "b": 2})
    for name, words in (("shop.itm", "Did you mean 'shop.item'?"), ("shpo", "Did you mean 'shop'?")):
        result = lllm("proxy", "show", name)
        assert (result.code, words in result.err) == (2, True)


def test_endpoints_are_found_by_what_they_do(shop: Path, lllm: Terminal) -> None:
    result = lllm("proxy", "search", "purchase", "a", "thing")
    assert result.code == 0
    assert result.out.startswith("shop.order(name: string): Buys an item.")
    assert lllm("proxy", "search", "sum", "up", "or", "add", "--json").json[0]["address"] == "Calc.add"
    nothing = lllm("proxy", "search", "zxqv")
    assert nothing.code == 1
    assert "No endpoint matches 'zxqv'." in nothing.out
    assert "# shop (Shop): What the shop has." in nothing.out


def test_a_call_is_a_session(shop: Path, server: Api, lllm: Terminal) -> None:
    (shop / ".env").write_text(f"SHOP_KEY={SECRET}\n")
    result = lllm("proxy", "call", "shop.item", "name=green tea", "--arg", "count=3", "--json")
    assert server.last.target == "/items/green%20tea?count=3"
    assert server.last.headers["X-Key"] == SECRET
    assert SECRET not in result.out + result.err
    session = result.json["session"]
    assert result.json["answer"]["target"] == "/items/green%20tea?count=3"
    assert "shop.item(count=3, name='green tea')" in lllm("show", session).out
    assert SECRET not in b"".join(
        file.read_bytes() for file in (shop / ".lllm").rglob("*") if file.is_file()
    ).decode("latin-1")
    asked = len(server.asked)
    replayed = lllm("replay", session)
    assert (replayed.code, len(server.asked)) == (0, asked)
    forked = lllm("fork", session, "--arg", "count=4")
    assert (forked.code, server.last.target) == (0, "/items/green%20tea?count=4")


def test_arguments_of_a_call(shop: Path, lllm: Terminal) -> None:
    for words in (["a=1", "b=2"], ['{"a": 1, "b": 2}'], ['{"a": 1}', "--arg", "b=2"]):
        assert lllm("proxy", "call", "Calc.add", *words, "--no-log").out == "3\n"
    for words, said in (
        (["a=1", "b"], "'b' is not NAME=VALUE"),
        (['{"a": 1'], "not a JSON object"),
        (["a=1", "b=x"], '"x" is not an integer'),
        (["a=1"], "b"),
        (["a=1", "b=1", "c=1"], "c"),
    ):
        result = lllm("proxy", "call", "Calc.add", *words)
        assert result.code != 0
        assert said in result.err
    result = lllm("proxy", "call", "Calc")
    assert (result.code, "Type an address, as in Calc.add" in result.err) == (2, True)
    result = lllm("proxy", "call", "shop.search", "words=x")
    assert (result.code, "SHOP_KEY" in result.err) == (2, True)


def test_an_image_is_written_to_a_file(shop: Path, server: Api, lllm: Terminal) -> None:
    (shop / ".env").write_text(f"SHOP_KEY={SECRET}\n")
    server.answer = [(200, {"Content-Type": "image/png"}, b"\x89PNG data")]
    said = lllm("proxy", "call", "shop.search", "words=x", "--out", "x.png")
    assert (said.code, (shop / "x.png").read_bytes()) == (0, b"\x89PNG data")


def test_test_calls_what_changes_nothing(shop: Path, server: Api, lllm: Terminal) -> None:
    result = lllm("proxy", "test")
    assert "Calc.add     passed" in result.out
    assert "SHOP_KEY is not set" in result.out
    assert "its effect is 'ask': it may change something" in result.out
    assert "1 passed, 0 failed, 3 skipped" in result.err
    assert result.code == 0
    (shop / ".env").write_text(f"SHOP_KEY={SECRET}\n")
    states = {one["address"]: one for one in lllm("proxy", "test", "--json").json["endpoints"]}
    assert {address: one["state"] for address, one in states.items()} == {
        "Calc.add": "passed",
        "shop.item": "passed",
        "shop.search": "skipped",
        "shop.order": "skipped",
    }
    assert states["shop.search"]["detail"] == "there is no example for words"
    assert [asked.method for asked in server.asked] == ["GET"]
    assert lllm("proxy", "test", "shop", "--all", "--json").json["passed"] == 2
    assert server.last.method == "POST"


@pytest.mark.parametrize(
    ("answer", "words"), [(500, "EndpointServerError"), (["a list"], "does not fit"), (403, "403")]
)
def test_test_reports_what_failed(
    answer: object, words: str, shop: Path, server: Api, lllm: Terminal
) -> None:
    (shop / ".env").write_text(f"SHOP_KEY={SECRET}\n")
    server.answer = [answer]
    result = lllm("proxy", "test", "shop.item", "Calc.*", "--json")
    assert result.code == 1
    first, second = result.json["endpoints"]
    assert (first["state"], second["state"]) == ("failed", "passed")
    assert words in first["detail"]
    assert SECRET not in json.dumps(result.json)


def test_test_leaves_out_what_ships_unless_it_is_named(shop: Path, lllm: Terminal) -> None:
    (shop / "lllm.toml").write_text(
        '[discovery]\nproxies = ["system/proxy/modules"]\n[proxy_options.files]\nroot = "."\n'
    )
    assert "files" not in lllm("proxy", "test").out
    result = lllm("proxy", "test", "files", "--json")
    assert result.json["passed"] > 0
    assert "files.read" in lllm("proxy").out


def test_an_error_with_a_key_is_shown_without(shop: Path, lllm: Terminal) -> None:
    (shop / ".env").write_text(f"SHOP_KEY={SECRET}\n")
    (shop / "system/proxy/modules/loud.py").write_text(
        "from lllm.proxies import BaseProxy\nclass Loud(BaseProxy):\n    @BaseProxy.endpoint(effect='pure')\n"
        f"    def cry(self):\n        raise ValueError('{SECRET}')\n"
    )
    for words in (("proxy", "test", "Loud", "--json"), ("proxy", "test"), ("proxy", "call", "Loud.cry")):
        result = lllm(*words)
        assert result.code == 1
        assert SECRET not in result.out + result.err


def test_doctor_names_proxies_and_variables(shop: Path, lllm: Terminal) -> None:
    with registry.scope(empty=True):
        registry.arm()
        items = {one["name"]: one for one in doctor._proxies(load_config())}
    assert (items["proxy Calc"]["state"], items["proxy Calc"]["detail"]) == ("ok", "1 endpoint")
    assert (items["proxy shop"]["state"], items["proxy shop"]["detail"]) == ("warning", "needs SHOP_KEY.")
    assert "proxy files" not in items


def test_what_a_proxy_does_more_with_an_extra_is_said(
    tmp_path: Path, lllm: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lllm.toml").write_text('[proxy_options.knowledge]\nroot = "."\n')
    monkeypatch.chdir(tmp_path)
    assert "lllm[pdf]" not in lllm("proxy").err
    monkeypatch.setitem(EXTRAS, "pdf", ("no_such_package",))
    words = "PDF files are left out. The extra lllm[pdf] brings it. Type: pip install pypdf"
    for command in (("proxy",), ("list", "proxies")):
        result = lllm(*command)
        assert words in result.out + result.err
    registry.get("proxy", "knowledge")  # imported or not
    checks = {item["name"]: item for item in (*doctor._proxies(load_config()), *doctor._extras())}
    assert (checks["proxy knowledge"]["state"], checks["proxy knowledge"]["hint"]) == ("ok", words)
    assert checks["extra pdf"]["state"] == "not installed"
    rows = {row["name"]: row for row in lllm("list", "proxies", "--json").json}
    assert (rows["knowledge"]["state"], rows["knowledge"]["hint"]) == ("ready", words)


SHIPPED = ("fetch", "files", "git", "knowledge", "search", "sql")


def test_what_ships_is_named_where_somebody_asked_for_it(
    tmp_path: Path, lllm: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lllm.toml").write_text("")

    def said(*words: str) -> set[str]:
        text = lllm(*words).err
        return {name for name in SHIPPED if f"{name}: the proxy" in text}

    assert said("proxy") == said("list", "proxies") == set()
    assert doctor._proxies(load_config()) == []
    assert said("proxy", "--all") == set(SHIPPED)
    assert "lllm proxy --all" in lllm("list", "proxies").err
    assert lllm("proxy", "--json").json == []
    assert {row["name"] for row in lllm("proxy", "--all", "--json").json} == set(SHIPPED)
    (tmp_path / "lllm.toml").write_text("[proxy_options.git]\ntimeout = 5\n")
    assert said("proxy") == said("list", "proxies") == {"git"}
    agent = "system_prompt: Hello.\n    model_name: scripted\n"
    for text in (
        f"activate_proxies: [files, sql]\nagent_configs:\n  a:\n    {agent}",
        f"agent_configs:\n  a:\n    {agent}    activate_proxies: [files, sql]\n",
        f"agent_configs:\n  a:\n    {agent}    tools: [files.read, sql.*]\n",
    ):
        (tmp_path / "system.yaml").write_text(text)
        assert said("proxy", "--config", "system.yaml") == {"files", "git", "sql"}, text
    (tmp_path / "lllm.toml").write_text('[proxy_options.files]\nroot = "."\n')
    result = lllm("proxy")
    assert "files.read" in result.out
    assert result.err == ""
