"""The registry: names, where they come from, and what is said when they lead nowhere."""

import subprocess
import sys
import threading
import time
import tomllib
from enum import Enum
from pathlib import Path

import pytest

from lllm import errors
from lllm.core.redact import Redactor, scrub
from lllm.errors import ConfigError, DependencyError, NameTakenError, UnknownNameError
from lllm.registry import KINDS, Entry, Registry
from lllm.registry import registry as the_registry
from lllm.shipped import BUILTINS, EXTRAS

ROOT = Path(__file__).parent.parent


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry with the built-ins, on a machine without plug-ins."""
    monkeypatch.setattr("lllm.registry._installed_plugins", list)
    return Registry()


class Thing:
    """A thing.

    With more to say."""


def test_an_object_is_found_under_its_name(registry: Registry) -> None:
    registry.add("tool", "thing", Thing, where="things.py:3")
    assert registry.get("tool", "thing") is Thing
    assert registry.entry("tool", "thing").summary == "A thing."
    assert registry.entry("tool", "thing").source == "things.py:3"
    assert registry.names("tool") == ["thing"]


def test_a_path_is_imported_when_it_is_used(tmp_path: Path) -> None:
    program = """
import sys
from lllm.registry import registry
registry.add("tool", "mailbox", "mailbox:Mailbox", summary="Mail.")
assert {entry.name for entry in registry.entries()} >= {"openai", "sqlite", "mailbox"}
loaded = {"mailbox", "openai", "yaml", "pydantic", "orjson", "lllm.backends", "lllm.log", "lllm.core", "lllm.llm"}
assert not loaded & set(sys.modules), loaded & set(sys.modules)
assert registry.get("tool", "mailbox").__module__ == "mailbox"
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300, cwd=tmp_path)


def test_every_built_in_has_a_kind_a_sentence_and_a_real_extra() -> None:
    for kind, name, target, summary, extra in BUILTINS:
        assert kind in KINDS
        assert all((name, summary, target.startswith("lllm."), target.count(":") == 1))
        assert extra is None or extra in EXTRAS


def test_extras_are_those_of_the_package() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS) == set(declared) - {"all", "dev"}


def test_an_enum_stands_for_its_value(registry: Registry) -> None:
    kind = Enum("kind", {"ONE": "thing"})
    registry.add("agent", "thing", Thing)
    assert registry.get("agent", kind.ONE) is Thing


def test_an_unknown_name_says_the_nearest_one(registry: Registry) -> None:
    with pytest.raises(UnknownNameError, match=r"no backend named 'opnai'\n  Did you mean 'openai'\?"):
        registry.get("backend", "opnai")
    assert not registry.has("backend", "opnai")


def test_an_unknown_kind_is_an_error(registry: Registry) -> None:
    with pytest.raises(UnknownNameError, match=r"no kind named 'backends'\n  Did you mean 'backend'\?"):
        registry.get("backends", "openai")


@pytest.mark.parametrize(
    ("name", "target"), [("", Thing), ("  ", Thing), ("x", "no.colon"), ("x", ":Thing"), ("x", "module:")]
)
def test_a_bad_registration_is_an_error(registry: Registry, name: str, target: object) -> None:
    with pytest.raises(ConfigError):
        registry.add("tool", name, target)


def test_two_things_with_one_name_are_an_error_that_names_both(registry: Registry) -> None:
    registry.add("tool", "thing", Thing(), where="one.py:1")
    with pytest.raises(
        NameTakenError, match=r"two tools are named 'thing': one from one\.py:1, one from two\.py:2"
    ):
        registry.add("tool", "thing", Thing(), where="two.py:2")


def test_a_name_can_be_overwritten_on_purpose(registry: Registry) -> None:
    registry.add("backend", "openai", Thing, overwrite=True)
    assert registry.get("backend", "openai") is Thing


def test_the_same_object_may_come_twice(registry: Registry) -> None:
    registry.add("tool", "thing", Thing)
    entry = registry.add(
        "tool", "thing", Thing, where="things.py:3"
    )  # discovery meets it after its definition
    assert entry.where == "things.py:3"
    assert registry.entries("tool") == [entry]


def test_a_class_defined_anew_replaces_its_former_self(registry: Registry) -> None:
    def define() -> type:
        class Agent:
            pass

        return Agent

    registry.add("agent", "a", define())
    second = define()
    registry.add("agent", "a", second)
    assert registry.get("agent", "a") is second


def test_a_missing_package_names_its_extra(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRAS, "ray", ("no_such_package",))
    registry.add("tool", "far", "no_such_package:Far", extra="ray")
    assert registry.entry("tool", "far").missing() == "no_such_package"
    with pytest.raises(DependencyError, match=r"(?s)the tool 'far' needs.*lllm\[ray\].*pip install ray"):
        registry.get("tool", "far")


def test_a_missing_file_of_ones_own_is_not_called_a_missing_package(registry: Registry) -> None:
    registry.add("tool", "far", "lllm.no_such_file:Far", extra="ray")
    with pytest.raises(ConfigError, match=r"registered as .*lllm\.no_such_file") as caught:
        registry.get("tool", "far")
    assert not isinstance(caught.value, DependencyError)


def test_a_missing_attribute_names_the_registration(registry: Registry) -> None:
    registry.add("tool", "far", "json:Far", where="table.py:8")
    with pytest.raises(
        ConfigError, match=r"table\.py:8: the tool 'far' is registered as 'json:Far'.*no attribute"
    ):
        registry.get("tool", "far")


def test_a_path_need_not_be_registered(registry: Registry) -> None:
    import json

    assert registry.resolve("tool", "json:loads") is json.loads
    assert registry.resolve("tool", "json:JSONDecoder.decode") is json.JSONDecoder.decode
    assert registry.resolve("store", "none") is registry.get("store", "none")
    assert registry.names("tool") == []
    with pytest.raises(UnknownNameError):  # `get` is also asked for names that come from outside
        registry.get("tool", "json:loads")
    for name in ("no_such_module:x", "json.nothing:x", "http://json:80", "json:", ":loads", "a b:c"):
        with pytest.raises(UnknownNameError):
            registry.resolve("tool", name)


# --- other packages


def plug(monkeypatch: pytest.MonkeyPatch, *entries: Entry) -> list[int]:
    looked: list[int] = []
    monkeypatch.setattr("lllm.registry._installed_plugins", lambda: looked.append(1) or list(entries))
    return looked


def test_plug_ins_are_looked_up_when_a_name_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = plug(monkeypatch, Entry("tool", "counter", "collections:Counter", where="the package a"))
    registry = Registry()
    registry.entry("store", "sqlite")
    assert not looked
    from collections import Counter

    assert registry.get("tool", "counter") is Counter
    assert registry.names("tool") == ["counter"]
    assert len(looked) == 1


def test_two_plug_ins_with_one_name_are_an_error_for_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(
        monkeypatch,
        Entry("tool", "counter", "collections:Counter", where="the package a"),
        Entry("tool", "counter", "collections:OrderedDict", where="the package b"),
        Entry("store", "sqlite", "json:loads", where="the package b"),
    )
    registry = Registry()
    with pytest.raises(NameTakenError, match="the package a and the package b"):
        registry.get("tool", "counter")
    assert [str(error) for error in registry.conflicts()] == [
        "2 stores are named 'sqlite': lllm, the package b",
        "2 tools are named 'counter': the package a, the package b",
    ]
    assert registry.entry("store", "sqlite").where == "lllm"  # what is registered stays


def test_entry_points_are_named_kind_dot_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\nSummary: My own.\n")
    (folder / "entry_points.txt").write_text(
        "[lllm.plugins]\nbackend.mine = mine.backend:Mine\nsomething else = mine:x\nnokind.mine = mine:y\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    entry = Registry().entry("backend", "mine")
    assert (entry.target, entry.summary, entry.where) == ("mine.backend:Mine", "My own.", "the package mine")
    assert "mine" not in sys.modules


# --- the first look


def test_the_first_look_discovers_once(registry: Registry) -> None:
    calls: list[int] = []

    def discover() -> None:
        calls.append(1)
        assert registry.has("store", "sqlite")  # what discovery imports looks, too
        registry.add("tool", "found", Thing)

    registry.arm(discover)  # type: ignore[arg-type]
    assert not calls
    assert registry.get("tool", "found") is Thing
    registry.names("tool")
    assert calls == [1]


def test_threads_that_look_meanwhile_wait(registry: Registry) -> None:
    calls: list[int] = []

    def discover() -> None:
        calls.append(1)
        time.sleep(0.1)
        registry.add("tool", "found", Thing)

    registry.arm(discover)  # type: ignore[arg-type]
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(registry.has("tool", "found"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8
    assert calls == [1]


def test_a_thread_within_an_import_does_not_wait(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thread B imports `looker`, which looks; thread A discovers, and imports `looker`, whose lock B holds."""
    (tmp_path / "looker_module.py").write_text(
        "import shared_for_looker as s\n"
        "s.importing.set()\n"
        "s.discovering.wait(60)\n"
        "s.registry.has('tool', 'x')\n"
    )
    shared = type(sys)("shared_for_looker")
    shared.importing, shared.discovering, shared.registry = threading.Event(), threading.Event(), registry
    monkeypatch.setitem(sys.modules, "shared_for_looker", shared)
    monkeypatch.syspath_prepend(tmp_path)

    def discover() -> None:
        shared.discovering.set()
        __import__("looker_module")

    registry.arm(discover)  # type: ignore[arg-type]
    importer = threading.Thread(target=lambda: __import__("looker_module"), daemon=True)
    importer.start()
    assert shared.importing.wait(60)
    looker = threading.Thread(target=lambda: registry.names("tool"), daemon=True)
    looker.start()
    importer.join(120)
    looker.join(120)
    assert not importer.is_alive()
    assert not looker.is_alive()
    sys.modules.pop("looker_module", None)


def test_what_failed_fails_again(registry: Registry) -> None:
    def discover() -> None:
        raise ConfigError("broken")

    registry.arm(discover)  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(ConfigError, match="broken"):
            registry.names("tool")


# --- scope


def test_a_scope_undoes_what_was_registered() -> None:
    before = the_registry.entries("store")
    with the_registry.scope() as registry:
        registry.add("store", "mine", Thing)
        registry.remove("store", "sqlite")
        assert registry.get("store", "mine") is Thing
        assert not registry.has("store", "sqlite")
    assert the_registry.entries("store") == before
    assert not the_registry.has("store", "mine")


def test_an_empty_scope_has_the_built_ins() -> None:
    with the_registry.scope():
        the_registry.add("tool", "mine", Thing)
        with the_registry.scope(empty=True):
            assert not the_registry.has("tool", "mine")
            assert the_registry.has("backend", "openai")
        assert the_registry.has("tool", "mine")


@pytest.mark.parametrize(
    ("gone", "missing"),
    [
        (("xllamacpp",), None),
        (("xllamacpp", "llama_cpp"), None),
        (("xllamacpp", "llama_cpp", "torch"), "xllamacpp"),
    ],
)
def test_another_extra_may_do_instead(
    gone: tuple[str, ...], missing: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name in gone else find(name, *more)
    )
    assert Registry().entry("backend", "embedded").missing() == missing


def test_who_only_asks_for_a_name_looks_through_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def nearest(name: str, known: list[str]) -> str:
        looked.append(name)
        return known[0]

    monkeypatch.setattr(errors, "nearest", nearest)
    error = UnknownNameError("session", "a", (name for name in ("b", "c")), hint="Type: lllm sessions")
    assert looked == []
    assert [str(error), error.hint] == [
        "no session named 'a'\n  Did you mean 'b'? Type: lllm sessions",
        "Did you mean 'b'? Type: lllm sessions",
    ]
    assert looked == ["a"]
    error.hint = "Another."
    assert str(error) == "no session named 'a'\n  Another."
    assert UnknownNameError("session", "a", ()).kind == "session"
    assert looked == ["a"]


def test_secrets_among_the_names_are_removed_before_they_are_shown() -> None:
    redactor = Redactor()
    redactor.add("KEY", "sk-1234567890abcdef")
    error = UnknownNameError("agent", "sk-1234567890abcdeg", ["sk-1234567890abcdef", "other"])
    scrub(error, redactor)
    assert "abcdef" not in str(error)
