"""How proxies get their names, and what `lllm check` says of their declarations."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lllm import BaseProxy
from lllm.config import check, load_config
from lllm.discovery import auto_discover
from lllm.errors import ConfigError, NameTakenError
from lllm.proxies import Proxy, ProxyRegistrator
from lllm.registry import registry

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    import sys

    monkeypatch.chdir(tmp_path)
    (tmp_path / "lllm.toml").write_text('[discovery]\nproxies = ["proxies"]\n')
    before = set(sys.modules)

    def write_file(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    with registry.scope():
        monkeypatch.setattr(sys, "path", [*sys.path])
        yield write_file
    for name in set(sys.modules) - before:
        del sys.modules[name]


HEAD = "from lllm.proxies import BaseProxy, ProxyRegistrator\n"
ENDPOINT = "    @BaseProxy.endpoint\n    def go(self): ...\n"


def found() -> dict[str, str]:
    auto_discover()
    return {
        entry.name: entry.source for entry in registry.entries("proxy") if entry.source.startswith("proxies/")
    }


def test_the_names_of_proxies(write: Write) -> None:
    write(
        "proxies/one.py",
        f"{HEAD}@ProxyRegistrator(path='a/decorated')\nclass Decorated(BaseProxy):\n{ENDPOINT}"
        f"class Plain(BaseProxy):\n    name = 'not this'\n{ENDPOINT}"
        f"class Named(BaseProxy):\n    _proxy_path = 'named'\n{ENDPOINT}"
        "class Inherits(Named):\n    pass\n"
        "class Empty(BaseProxy):\n    def go(self): ...\n"
        f"class Hidden(BaseProxy, register=False):\n{ENDPOINT}"
        "an_instance = Plain()\n",
    )
    write("proxies/deep/two.py", f"from proxies.one import Plain\n{HEAD}class Two(BaseProxy):\n{ENDPOINT}")
    assert found() == {
        "a/decorated": "proxies/one.py:3",
        "Plain": "proxies/one.py:6",
        "named": "proxies/one.py:10",
        "Inherits": "proxies/one.py:14",
        "Two": "proxies/deep/two.py:3",
    }
    proxy = Proxy(["a/decorated", "named", "Inherits", "Two"])
    assert list(proxy.endpoints) == ["a/decorated.go", "named.go", "Inherits.go", "Two.go"]


def test_a_broken_module_hides_nothing(write: Write) -> None:
    write("proxies/a.py", f"{HEAD}class A(BaseProxy):\n{ENDPOINT}")
    write(
        "proxies/b.py",
        f"{HEAD}class B(BaseProxy):\n    @BaseProxy.endpoint(categroy='x')\n    def go(self): ...\n",
    )
    write("proxies/c.py", f"{HEAD}@ProxyRegistrator(path='no good')\nclass C(BaseProxy):\n{ENDPOINT}")
    write("proxies/d.py", f"{HEAD}class D(BaseProxy):\n{ENDPOINT}")
    problems = [str(problem.error) for problem in auto_discover().problems]
    assert list(found()) == ["A", "D"]
    assert problems[0].startswith(
        "proxies/b.py:3: does not import: UnknownKeyError: @BaseProxy.endpoint: unknown key 'categroy'"
    )
    assert problems[1].startswith(
        "proxies/c.py:2: does not import: ConfigError: the path of a proxy must be letters"
    )


def test_one_name_for_two_is_refused_on_use(write: Write) -> None:
    write("proxies/a.py", f"{HEAD}class Same(BaseProxy):\n{ENDPOINT}")
    write("proxies/b.py", f"{HEAD}class Same(BaseProxy):\n{ENDPOINT}")
    write("proxies/c.py", f"{HEAD}@ProxyRegistrator(path='other')\nclass Same(BaseProxy):\n{ENDPOINT}")
    (problem,) = auto_discover().problems
    assert "two proxies are named 'Same'" in str(problem.error)
    with pytest.raises(NameTakenError, match=r"a\.py:2.*b"):
        Proxy(["Same"])
    assert Proxy(["other"]).available() == ["other"]


def test_a_decorated_one_leaves_the_name_of_its_class() -> None:
    with registry.scope():

        class Same(BaseProxy):
            @BaseProxy.endpoint
            def go(self) -> None: ...

        def second() -> type[BaseProxy]:
            @ProxyRegistrator(path="second")
            class Same(BaseProxy):
                @BaseProxy.endpoint
                def go(self) -> None: ...

            return Same

        other = second()
        assert registry.get("proxy", "Same") is Same
        assert registry.get("proxy", "second") is other


def test_a_name_that_is_not_its_own_is_refused() -> None:
    class Inner(BaseProxy, register=False):
        @BaseProxy.endpoint
        def go(self) -> None: ...

    with registry.scope():
        registry.add("proxy", "outer", Inner)
        with pytest.raises(
            ConfigError, match=r"registered as 'outer' names itself 'Inner'.*\n.*_proxy_path = 'outer'"
        ):
            Proxy(["outer"])


def test_an_abstract_class_is_not_registered() -> None:
    with registry.scope():

        class Half(BaseProxy):
            @BaseProxy.endpoint
            def go(self) -> None: ...

            @abstractmethod
            def rest(self) -> None: ...

        assert not registry.has("proxy", "Half")


BROKEN = f"""{HEAD}
class Bad(BaseProxy):
    base_url = "http://127.0.0.1:1"
    @BaseProxy.endpoint(endpoint="x/{{y}}")
    def a(self): ...
    @BaseProxy.endpoint(params={{"q": {{"tpe": "integer"}}}})
    def b(self, params): ...
    @BaseProxy.endpoint(params={{"q": {{"schema": {{"type": "string", "pattern": "(("}}}}}})
    def c(self, params): ...
    @BaseProxy.endpoint(response={{"type": "object", "properties": 3}})
    def d(self): ...
    @BaseProxy.endpoint
    def e(self, x: "Nope"): ...
    @BaseProxy.endpoint
    def fine(self): ...
"""
WORDS = (
    "proxies/bad.py:5: endpoint 'Bad.a': its path has {y}, and no such parameter is declared",
    "proxies/bad.py:7: endpoint 'Bad.b': parameter 'q': unknown key 'tpe'",
    "proxies/bad.py:9: endpoint 'Bad.c': the schema of its parameters is wrong",
    "proxies/bad.py:11: endpoint 'Bad.d': the schema of its answer is wrong",
    "proxies/bad.py:13: endpoint 'Bad.e': tool 'e': an annotation cannot be read: name 'Nope'",
)


@pytest.mark.parametrize("active", [True, False])
def test_check_lists_every_broken_endpoint(active: bool, write: Write) -> None:
    write("proxies/bad.py", BROKEN)
    names = {"activate_proxies": ["Bad"]} if active else {}
    config = load_config({"agent_configs": {"a": {"model_name": "scripted"}}, **names})
    said = [problem for problem in check(config) if "Bad" in problem.message]
    assert {problem.severity for problem in said} == {"error" if active else "warning"}
    assert len(said) == len(WORDS)
    for problem, words in zip(said, WORDS, strict=True):
        assert str(problem.error).startswith(words)


def test_a_credential_that_is_none_is_an_error_of_check(write: Write) -> None:
    write("proxies/bad.py", f"{HEAD}class Bad(BaseProxy):\n    auth = 'key'\n{ENDPOINT}")
    config = load_config({"agent_configs": {"a": {"model_name": "scripted"}}, "activate_proxies": ["Bad"]})
    errors = [str(problem.error) for problem in check(config) if problem.severity == "error"]
    assert len(errors) == 1
    assert "auth must be Header, Query, Cookie, Bearer or Basic" in errors[0]


def test_a_missing_package_is_named_with_its_extra(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    from lllm.shipped import EXTRAS

    monkeypatch.setitem(EXTRAS, "wonders", ("no_such_package",))
    registry.add("proxy", "Wonder", "lllm.proxies.builtin.files:Files", extra="wonders")
    config = load_config({"agent_configs": {"a": {"model_name": "scripted"}}, "activate_proxies": ["Wonder"]})
    (error,) = [problem.error for problem in check(config) if problem.severity == "error"]
    assert "the proxy 'Wonder' needs the package 'no_such_package'" in str(error)
    assert isinstance(error, ConfigError)


def test_a_package_offers_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    (tmp_path / "offered_proxies.py").write_text(f"{HEAD}class Offered(BaseProxy):\n{ENDPOINT}")
    meta = tmp_path / "offered-1.0.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: offered\nVersion: 1.0\nSummary: Offers one.\n"
    )
    (meta / "entry_points.txt").write_text("[lllm.plugins]\nproxy.Offered = offered_proxies:Offered\n")
    monkeypatch.syspath_prepend(tmp_path)
    with registry.scope():
        registry._plugins = None  # they are looked up once per process
        assert "Offered" in registry.names("proxy")
        assert "offered_proxies" not in sys.modules  # listing imports nothing
        config = load_config({"agent_configs": {"a": {"model_name": "scripted", "tools": ["Offered.go"]}}})
        assert [problem for problem in check(config) if problem.severity == "error"] == []
        assert Proxy(["Offered"]).api_directory().endswith("Offered.go")
    sys.modules.pop("offered_proxies", None)


@pytest.mark.parametrize("name", ["title", "headers", "endpoints", "as_tools", "__init__"])
def test_an_endpoint_hides_nothing_of_its_class(name: str) -> None:
    def method(self: BaseProxy) -> None: ...

    with pytest.raises(ConfigError, match=f"hides BaseProxy.{name}"):
        type("Hiding", (BaseProxy,), {name: BaseProxy.endpoint(method)}, register=False)
