"""What a configuration holds: YAML's values, interpolation, secrets, and the tables they come from."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from lllm.config import load_config, load_project, schema, table, variable
from lllm.config.keys import ALIASES, EVERYTHING, LIMITS, TIMEOUTS, Key, Section, find
from lllm.config.kinds import fits
from lllm.config.secret import is_secret
from lllm.core.spec import Limits
from lllm.errors import UnknownKeyError, UnknownNameError
from lllm.ports import Timeouts

Write = Callable[[str, str], Path]

WHOLE_AGENT = """
name: analyst
description: Answers questions.
agent_configs:
  analyst:
    description: The one agent.
    model: openai/gpt-4o-mini
    system_prompt: You are an analyst.
    prompt: demo/task_query
    prompts: [demo/follow_up]
    tools: [search, "mine.tools:add"]
    proxies: []
    output_schema: {type: object, properties: {answer: {type: string}}}
    temperature: 1e-1
    max_completion_tokens: 500
    stop: [END]
    seed: 7
    model_args: {reasoning_effort: low}
    timeouts: {total: null, idle: 5}
    max_interrupt_times: null
    max_cost: 0.1
    sandbox:
    settings: {mine: [1, two]}
log_type: localfile
log_dir: logs
random_seed: 3
settings: {depth: 2}
"""


def test_a_whole_agent_needs_no_python(write: Write) -> None:
    config = load_config(write("a.yaml", WHOLE_AGENT))
    agent = config.agent("analyst")
    assert (config.name, config.random_seed, config.settings) == ("analyst", 3, {"depth": 2})
    assert (config.log.type, config.log.dir) == ("localfile", Path.cwd() / "logs")
    assert agent.model_name == "openai/gpt-4o-mini"
    assert (agent.prompt, agent.prompts, agent.tools) == (
        "demo/task_query",
        ("demo/follow_up",),
        ("search", "mine.tools:add"),
    )
    assert agent.format == {"type": "object", "properties": {"answer": {"type": "string"}}}
    assert agent.sampling == {
        "reasoning_effort": "low",
        "temperature": 0.1,
        "max_tokens": 500,
        "stop": ["END"],
        "seed": 7,
    }
    assert agent.timeouts == Timeouts(idle=5, total=None)
    assert agent.limits == Limits(max_interrupt_times=None, max_cost="0.1")
    assert agent.settings == {"mine": [1, "two"]}


def test_an_empty_agent_is_an_agent(write: Write) -> None:
    config = load_config(write("a.yaml", "agent_configs:\n  a:\n  b: {}\n"))
    assert list(config.agents) == ["a", "b"]
    assert config.agent("a").limits == Limits()
    assert config.agent("a").timeouts == Timeouts()
    with pytest.raises(UnknownNameError, match="no agent named 'c'"):
        config.agent("c")


def test_an_empty_file_is_a_system(write: Write) -> None:
    assert load_config(write("a.yaml", "")).agents == {}
    assert load_config(write("b.yaml", "# nothing\n")).agents == {}


def test_an_enum_may_be_a_key_of_a_mapping() -> None:
    kind = Enum("kind", {"A": "a"})
    assert list(load_config({"agent_configs": {kind.A: {}}}).agents) == ["a"]
    assert load_config({"agent_type": kind.A}).agent_type == "a"


def test_a_mapping_is_copied() -> None:
    given: dict[str, Any] = {"settings": {"list": [1]}, "agent_configs": {"a": {"model_args": {"x": [1]}}}}
    config = load_config(given)
    given["settings"]["list"].append(2)
    config.get("settings")["list"].append(3)
    assert config.settings == {"list": [1]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("010", 10),
        ("0o10", 8),
        ("0x10", 16),
        ("1e-3", 0.001),
        ("1_000", "1_000"),
        ("True", True),
        ("~", None),
        ("'12'", "12"),
        ("=", "="),
        ("[1, {a: b}]", [1, {"a": "b"}]),
        ("|\n  two\n  lines\n", "two\nlines\n"),
    ],
)
def test_values_are_those_of_yaml_1_2(write: Write, text: str, value: object) -> None:
    assert load_config(write("a.yaml", f"settings:\n k: {text}")).settings == {"k": value}


def test_anchors_and_merge_keys(write: Write) -> None:
    text = "settings: {base: &base {a: 1, b: 2}, own: {<<: *base, b: 3}, both: {<<: [{a: 8}, *base], c: *base}}\n"
    assert load_config(write("a.yaml", text)).settings == {
        "base": {"a": 1, "b": 2},
        "own": {"a": 1, "b": 3},
        "both": {"a": 8, "b": 2, "c": {"a": 1, "b": 2}},
    }


# --- interpolation


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("name: ${WORD}", "name", "word"),
        ("name: a-${WORD}-${WORD}", "name", "a-word-word"),
        ("name: ${NONE:-else}", "name", "else"),
        ("name: ${EMPTY:-else}", "name", "else"),
        ("description: ${NONE:-}", "description", ""),
        ("description: ${EMPTY}", "description", ""),
        ("description: cost $${WORD} $5", "description", "cost ${WORD} $5"),
        ("name: ${NUMBER}", "name", "12"),
        ("random_seed: ${NUMBER}", "random_seed", 12),
        ("random_seed: ${NONE:-null}", "random_seed", None),
        ("stop: ${LIST}", "stop", ["a", "b"]),
        ("stop: ${NUMBER}", "stop", "12"),
        ("settings:\n  k: ${NUMBER}", "settings.k", 12),
        ("settings: {k: '${NUMBER}'}", "settings.k", "12"),
        ("settings:\n  k:\n  - x${NUMBER}", "settings.k", ["x12"]),
        ("settings: {k: ${INJECTED}}", "settings.k", "a: b"),
    ],
)
def test_variables_in_values(write: Write, text: str, key: str, value: object) -> None:
    environ = {"WORD": "word", "NUMBER": "12", "EMPTY": "", "LIST": "[a, b]", "INJECTED": "a: b"}
    if "INJECTED" in text:
        text = text.replace("${INJECTED}", "'${INJECTED}'")
    assert load_config(write("a.yaml", text), environ=environ).get(key) == value


def test_dotenv_serves_interpolation(write: Write) -> None:
    write(
        ".env",
        '# a comment\n\nexport A=plain # comment\nB=\'single # $x\'\nC="double \\"x\\"\\n"\nD=\nE = spaced\n',
    )
    config = load_config({"settings": {name: f"${{{name}:-none}}" for name in "ABCDE"}})
    assert config.settings == {
        "A": "plain",
        "B": "single # $x",
        "C": 'double "x"\n',
        "D": "none",
        "E": "spaced",
    }


def test_variable_without_a_configuration(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("lllm.toml", "")
    write(".env", "OPENAI_API_KEY=from the file\n")
    monkeypatch.chdir(write("below/file", "").parent)
    assert variable("OPENAI_API_KEY") == "from the file"
    monkeypatch.setenv("OPENAI_API_KEY", "real")
    assert variable("OPENAI_API_KEY") == "real"
    assert variable("NOT_THERE") is None


# --- secrets


@pytest.mark.parametrize(
    ("key", "hidden"),
    [
        ("api_key", True),
        ("OPENAI_API_KEY", True),
        ("HF_TOKEN", True),
        ("Authorization", True),
        ("db-password", True),
        ("max_tokens", False),
        ("api_key_env", False),
        ("max_tokens_total", False),
        ("monkey", False),
        ("key", False),
        ("tokenizer", False),
    ],
)
def test_which_keys_are_secret(key: str, hidden: bool) -> None:
    assert is_secret(key) is hidden


def test_secrets_are_hidden(write: Write) -> None:
    file = write(
        "a.yaml",
        "base_url: https://me:hunter2@host/v1\n"
        "agent_configs:\n  a: {api_key: '${KEY}', model_args: {extra_headers: {Authorization: 'Bearer ${KEY}'}}}\n"
        "  b: {api_key_env: OTHER}\n",
    )
    config = load_config(file, environ={"KEY": "sk-1", "OTHER": "sk-2", "HF_TOKEN": "sk-3"})
    assert (config.agent("a").api_key, config.agent("b").api_key) == ("sk-1", "sk-2")
    for shown in (repr(config), repr(config.agents), json.dumps(config.as_dict()), repr(config.environ)):
        assert "sk-" not in shown
        assert "hunter2" not in shown
    assert {"sk-1", "sk-2", "sk-3", "Bearer sk-1"} <= config.secrets()
    assert config.as_dict(redact=False)["agent_configs"]["a"]["api_key"] == "sk-1"


def test_a_secret_below_ones_own_keys_is_a_warning(write: Write) -> None:
    config = load_config(write("a.yaml", "settings:\n  db:\n    password: hunter2\n"))
    (note,) = config.notes
    assert note.message == "a.yaml:3: settings.db.password looks like a secret; this file is no place for it"


# --- looking things up


def test_keys_are_looked_up_by_their_dotted_names() -> None:
    config = load_config({"agent_configs": {"a": {"model": "x/y"}}})
    assert config["agent_configs.a.model_name"] == config["agent_configs.a.model"] == "x/y"
    assert config["max_exception_retry"] == 3
    assert config.get("agent_configs.a.temperature") is None
    assert config.get("agent_configs.a.temperature", 1) == 1
    with pytest.raises(UnknownKeyError, match="Did you mean 'max_exception_retry'"):
        config["max_exception_retries"]
    with pytest.raises(UnknownKeyError):
        config.origin("nonsense")
    assert config.origin("log.type") == "default"


def test_it_can_be_pickled_without_anyones_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEBODYS_TOKEN", "sk-1")
    data = pickle.dumps(load_config({"agent_configs": {"a": {}}}))
    assert b"sk-1" not in data
    assert list(pickle.loads(data).agents) == ["a"]


def test_project_alone(write: Write) -> None:
    write("lllm.toml", '[project]\nname = "demo"\n[run]\ndefault = "missing.yaml"')
    assert load_project().project == "demo"


# --- the tables


def test_defaults_are_those_of_the_machine_and_the_ports() -> None:
    defaults = {name: key.default for name, key in LIMITS.items() if isinstance(key, Key)}
    assert defaults == Limits()._asdict()
    assert {
        name: key.default for name, key in TIMEOUTS.items() if isinstance(key, Key)
    } == Timeouts()._asdict()


def walk(keys: Any, path: tuple[str, ...] = ()) -> Any:
    for name, entry in keys.items():
        yield (*path, name), entry
        if isinstance(entry, Section):
            yield from walk(entry.keys, (*path, name, *(["x"] if entry.each else [])))


def test_every_key_has_a_sentence_and_a_default_that_fits() -> None:
    for path, entry in walk(EVERYTHING):
        assert entry.about.endswith("."), path
        assert find(path) == entry
        if isinstance(entry, Key) and entry.default is not None:
            assert fits(entry.default, entry.kind.schema), path


def test_every_alias_leads_to_a_key() -> None:
    assert all(find(tuple(target.split("."))) for target in ALIASES.values())


def test_the_schema_agrees_with_the_validation(write: Write) -> None:
    import jsonschema_rs
    import yaml

    system = jsonschema_rs.validator_for(schema())
    assert system.is_valid(yaml.safe_load(WHOLE_AGENT.replace("1e-1", "0.1")))
    assert system.is_valid({"agent_configs": {"a": None}, "random_seed": "${SEED}"})
    proxies = {"base_url": "http://x", "env": {"KEY": "OTHER"}, "root": "docs", "deep": {"own": [1]}}
    assert system.is_valid(
        {"proxies": ["p"], "cutoff_date": "2024-12-31", "proxy_options": {"p": proxies, "q": None}}
    )
    for wrong in (
        {"nmae": 1},
        {"agent_configs": {"a": {"temprature": 1}}},
        {"temperature": 3},
        {"max_exception_retry": None},
        {"random_seed": "x"},
        {"activate_proxies": "x"},
        {"proxy_options": {"p": {"timeout": 0}}},
        {"proxy_options": {"p": {"env": {"KEY": "not a name"}}}},
        {"discovery": {}},
    ):
        assert not system.is_valid(wrong), wrong
    project = jsonschema_rs.validator_for(schema("project"))
    assert project.is_valid(
        {"discovery": {"prompts": ["x"]}, "profiles": {"q": {"model": "x", "log.type": "x"}}}
    )
    assert not project.is_valid({"name": "x"})
    assert not project.is_valid({"profiles": {"q": {"modle": "x"}}})
    with pytest.raises(UnknownNameError):
        schema("other")


def test_the_table_has_every_key() -> None:
    text = table()
    for name in ("discovery.strict", "agent_configs.<agent>.temperature", "log.synchronous", "run.default"):
        assert f"| `{name}` |" in text
    assert "| `LLLM_LOG_TYPE` | `log.type` |" in text
    assert "| `agent_configs.<agent>.output_schema` | `agent_configs.<agent>.format` |" in text


def test_importing_it_is_cheap() -> None:
    program = (
        "import sys, lllm.config, lllm.discovery\n"
        "heavy = {'yaml', 'tomllib', 'pydantic', 'importlib.metadata', 'orjson', 'asyncio', 'logging'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


def test_files_of_one_text_share_no_value(write: Write) -> None:
    first, second = (write(name, "model: a/b\nsettings: {deep: [1]}\n") for name in ("a.yaml", "b.yaml"))
    load_config(first).settings["deep"].append(2)
    again = load_config(second)
    assert again.settings["deep"] == [1]
    assert again.where("settings.deep").endswith("b.yaml:2")
