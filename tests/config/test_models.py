"""Models on this machine, and options for the backends that load them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lllm.config import LocalModel, check, load_config, load_project
from lllm.errors import ConfigError, UnknownKeyError
from lllm.llm.build import agent_of
from lllm.llm.connect import offline

Write = Callable[[str, str], Path]

TOML = """
[models.tiny]
path = "models/tiny.gguf"
options = { context = 2048, threads = 2 }

[models.big]
path = "models/big"

[models.odd]
path = "/weights/odd.bin"
backend = "llama_cpp"
"""


def test_a_model_has_a_file_a_backend_and_options(write: Write) -> None:
    folder = write("project/lllm.toml", TOML).parent
    models = load_project("project").models
    assert models == {
        "tiny": LocalModel("tiny", folder / "models/tiny.gguf", "llama_cpp", {"context": 2048, "threads": 2}),
        "big": LocalModel("big", folder / "models/big", "transformers", {}),
        "odd": LocalModel("odd", Path("/weights/odd.bin"), "llama_cpp", {}),
    }
    assert models["tiny"].model == f"llama_cpp/{folder}/models/tiny.gguf"
    assert load_project("project", environ={}).get("models.tiny.options.context") == 2048


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("[models.tiny]\noptions = {}\n", ConfigError, "lllm.toml:1: models.tiny has no path"),
        ('[models.tiny]\npath = "a"\nfile = "a.gguf"\n', UnknownKeyError, "models.tiny.file"),
        ('[models."a.b"]\npath = "a.gguf"\n', ConfigError, "is no name for a model: no dots"),
        ('[models]\ntiny = "a.gguf"\n', ConfigError, "models.tiny is"),
    ],
)
def test_what_is_wrong_is_said(text: str, kind: type[ConfigError], words: str, write: Write) -> None:
    write("lllm.toml", text)
    with pytest.raises(kind) as caught:
        load_project()
    assert words in str(caught.value)


def test_check_looks_for_the_file_and_the_backend(write: Write) -> None:
    write(
        "lllm.toml",
        '[models.tiny]\npath = "a.gguf"\nbackend = "lama_cpp"\n[models.embedded]\npath = "b.gguf"\n',
    )
    said = "\n".join(str(problem.error) for problem in check(load_project()))
    assert "lllm.toml:2: models.tiny: no such file: a.gguf" in said
    assert "lama_cpp" in said
    assert "Did you mean 'llama_cpp'?" in said
    assert "models.embedded has the name of a backend" in said


def test_a_bare_name_is_a_model_of_the_project(write: Write) -> None:
    write("lllm.toml", '[models.tiny]\npath = "a.gguf"\n')
    write("a.gguf", "")
    config = load_config(write("a.yaml", "model: tiny\nagent_configs: {a: {}}\n"))
    assert [problem for problem in check(config) if "tiny" in str(problem.error)] == []


def test_options_go_to_the_backend_that_they_are_for(write: Write) -> None:
    config = load_config(
        write(
            "a.yaml",
            "model: llama_cpp/a.gguf\noptions: {context: 512, threads: 1}\nagent_configs:\n  a: {}\n"
            "  b: {options: {threads: 2}}\n  c: {model: openai/x}\n  d: {model: llama_cpp/b.gguf}\n",
        ),
    )
    assert {name: agent.options for name, agent in config.agents.items()} == {
        "a": {"context": 512, "threads": 1},
        "b": {"context": 512, "threads": 2},
        "c": {},
        "d": {"context": 512, "threads": 1},
    }
    assert load_config("a.yaml", overrides=["options.context=1024"]).agent("b").options["context"] == 1024


def test_options_reach_the_constructor(write: Write) -> None:
    config = load_config(write("a.yaml", "agent_configs: {a: {model: embedded, options: {slots: 2}}}\n"))
    assert agent_of(config.agent("a"), config)._settings.backend.slots == 2  # type: ignore[attr-defined]
    other = agent_of(config.agent("a"), config, model="scripted")
    assert type(other._settings.backend).__name__ == "ScriptedBackend"
    wrong = load_config({"agent_configs": {"a": {"model": "embedded", "options": {"slot": 2}}}})
    with pytest.raises(ConfigError, match="slot"):
        agent_of(wrong.agent("a"), wrong)
    token = offline.set({"a": ("embedded",)})
    try:
        assert agent_of(wrong.agent("a"), wrong).model == "embedded"  # a replay opens nothing
    finally:
        offline.reset(token)


def test_a_model_may_be_set_for_one_run(write: Write) -> None:
    write("a.gguf", "GGUF")
    config = load_config(
        {"agent_configs": {"a": {"model": "tiny"}}},
        overrides=["models.tiny.path=a.gguf", "cache.enabled=false"],
    )
    agent = agent_of(config.agent("a"), config)
    assert agent._settings.model_name == str(Path.cwd() / "a.gguf")
