"""A program of another project learns from its first error what it is called here."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import lllm
from lllm import Agent, AgentBase, Dialog, MemoryLog, ScriptedBackend, build_agent, porting
from lllm.config import keys, load_config, load_project
from lllm.errors import ConfigError, LaterAttribute, LaterImport, NotInThisVersion, UnknownKeyError
from lllm.registry import registry


def test_old_tables_of_lllm_toml(nobodys_machine: Path) -> None:
    (nobodys_machine / "lllm.toml").write_text(
        '[prompts]\nfolders = ["prompts"]\n[proxies]\nfolders = ["proxies"]\n[log]\ntype = "none"\n'
    )
    with pytest.raises(ConfigError) as caught:
        load_project()
    said = str(caught.value)
    assert "lllm.toml:1: unknown key 'prompts'" in said
    assert 'Here it is called: [discovery] prompts = ["FOLDER"]' in said
    assert "lllm.toml:3: unknown key 'proxies'" in said
    assert 'Here it is called: [discovery] proxies = ["FOLDER"]' in said


def test_a_folder_list_in_the_wrong_table(nobodys_machine: Path) -> None:
    (nobodys_machine / "lllm.toml").write_text('[discovery]\nfolders = ["prompts"]\n')
    with pytest.raises(UnknownKeyError, match=r"lllm\.toml:2: unknown key 'discovery\.folders'"):
        load_project()


@pytest.mark.parametrize("name", porting.SYSTEM_KEYS)
@pytest.mark.parametrize("at_the_top", [True, False])
def test_old_keys_of_a_system(name: str, at_the_top: bool) -> None:
    agent = {} if at_the_top else {name: "x"}
    system = {**({name: "x"} if at_the_top else {}), "agent_configs": {"a": agent}}
    with pytest.raises(UnknownKeyError) as caught:
        load_config(system)
    assert caught.value.hint == porting.hint(porting.SYSTEM_KEYS[name])


def test_no_table_speaks_of_a_key_that_works() -> None:
    assert not set(porting.PROJECT_KEYS) & set(keys.PROJECT)
    assert not set(porting.SYSTEM_KEYS) & set(keys.ALIASES)
    assert not set(porting.SYSTEM_KEYS) & (set(keys.SYSTEM) | set(keys.AGENT))
    assert not (set(porting.NAMES) | set(porting.COMING)) & set(lllm.__all__)
    for table, kind in ((porting.SYSTEM, AgentBase), (porting.AGENT, Agent), (porting.DIALOG, Dialog)):
        assert not [name for name in table if hasattr(kind, name)], kind


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("gpt-4o-mini", "Write openai/gpt-4o-mini."),
        ("claude-sonnet-4-5", "Write "),
        ("claude-3-opus-20240229", "Write anthropic/claude-3-opus-20240229."),
        ("Grok-4", "Write xai/Grok-4."),
        ("o3-deep-research", "Write openai/o3-deep-research."),
        ("o3abc", "Write provider/model"),
        ("llama3", "Write provider/model"),
        ("my-own", "Write provider/model"),
    ],
)
def test_a_model_without_a_provider(model: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_agent({"agent_configs": {"a": {"model_name": model}}}, log_base=MemoryLog())
    assert f"'{model}' names no provider" in str(caught.value)
    assert hint in str(caught.value)


def test_the_stream_of_a_system() -> None:
    with registry.scope():

        class Old(AgentBase):
            agent_type = "old"

            def call(self, task: str, **more: Any) -> None:
                self.st.write(task)  # type: ignore[attr-defined]

        system = build_agent({}, agent_name="old", log_base=MemoryLog())
        with pytest.raises(
            AttributeError, match=r"'Old' object has no attribute 'st'\. Here it is called: self\.stream"
        ):
            system("x")
        assert not hasattr(system, "st")
        with pytest.raises(AttributeError, match=r"'Old' object has no attribute 'anything'$"):
            _ = system.anything  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("thing", "table"),
    [(Agent("a", ScriptedBackend()), porting.AGENT), (Dialog(), porting.DIALOG)],
    ids=["agent", "dialog"],
)
def test_old_methods(thing: Any, table: dict[str, str]) -> None:
    for name, here in table.items():
        with pytest.raises(AttributeError) as caught:
            getattr(thing, name)
        assert str(caught.value).endswith(porting.hint(here))


def imported(line: str) -> Callable[[], None]:
    return lambda: exec(line, {})


@pytest.mark.parametrize("module", ["lllm", "lllm.llm", "lllm.models", "lllm.log"])
@pytest.mark.parametrize("name", porting.NAMES)
def test_old_names(module: str, name: str) -> None:
    words = porting.hint(porting.NAMES[name])
    with pytest.raises(ImportError) as caught:
        imported(f"from {module} import {name}")()
    assert words in str(caught.value)
    found = __import__(module, fromlist=["x"])
    with pytest.raises(AttributeError) as missing:
        getattr(found, name)
    assert words in str(missing.value)
    assert not hasattr(found, name)


NAMES_TO_COME = [name for name in porting.COMING if "." not in name]
MODULES_TO_COME = [name for name in porting.COMING if name.islower()]


@pytest.mark.parametrize("module", ["lllm", "lllm.llm", "lllm.models", "lllm.log"])
@pytest.mark.parametrize("name", NAMES_TO_COME)
def test_names_of_later_versions(module: str, name: str) -> None:
    found = import_module(module)
    with pytest.raises(LaterImport) as caught:
        imported(f"from {module} import {name}")()
    assert isinstance(caught.value, ImportError)
    assert str(caught.value) == f"{module}.{name} is not in this version\n  {porting.COMING[name]}"
    with pytest.raises(LaterAttribute) as missing:
        getattr(found, name)
    assert isinstance(missing.value, AttributeError)
    assert (missing.value.hint, missing.value.later) == (porting.COMING[name], f"{module}.{name}")
    assert not hasattr(found, name)
    assert name not in dir(found)


@pytest.mark.parametrize("name", MODULES_TO_COME)
def test_modules_of_later_versions(name: str) -> None:
    above, _, last = f"lllm.{name}".rpartition(".")
    for line in (
        f"import lllm.{name}",
        f"from lllm.{name} import anything",
        f"from {above} import {last}",
        f"import importlib; importlib.import_module('lllm.{name}')",
    ):
        with pytest.raises(LaterImport) as caught:
            imported(line)()
        assert str(caught.value) == f"lllm.{name} is not in this version\n  {porting.COMING[name]}"
    assert not hasattr(import_module(above), last)


def test_their_errors_are_of_the_tree_and_are_looked_for_by_python() -> None:
    for kind, python in ((LaterImport, ImportError), (LaterAttribute, AttributeError)):
        assert issubclass(kind, NotInThisVersion)
        assert issubclass(kind, python)
    assert getattr(lllm, "DataProcessor", None) is None


def test_another_name_is_missing_as_usual() -> None:
    with pytest.raises(ImportError, match="cannot import name 'Agnet' from 'lllm'"):
        imported("from lllm import Agnet")()


def test_the_keyword_for_the_class_of_a_system() -> None:
    with pytest.raises(UnknownKeyError, match="Did you mean 'agent_name'"):
        build_agent(
            {"agent_configs": {"a": {"model": "scripted"}}}, agent_type="simple", log_base=MemoryLog()
        )


def test_the_page_has_every_name() -> None:
    page = (Path(__file__).parent.parent / "docs" / "guides" / "coming-from.md").read_text()
    for _, table, form in porting.TABLES:
        for name in table:
            assert f"`{form.format(name)}`" in page
