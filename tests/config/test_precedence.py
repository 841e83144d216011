"""Which source wins, and that every value knows where it comes from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lllm.config import find_project, load_config, read_config
from lllm.errors import ConfigError, UnknownKeyError, UnknownNameError

Write = Callable[[str, str], Path]

TOML = """
[run]
default = "default.yaml"
model = "from/toml"

[log]
type = "localfile"

[profiles.quick]
model = "from/profile"
log.type = "memory"
"agent_configs.b.temperature" = 0.5
"""

# each source, weakest first, what it says, and where it says it
SOURCES: list[tuple[str, str, str]] = [
    ("default", "auto", "default"),
    ("toml", "from/toml", "lllm.toml:4"),
    ("yaml", "from/yaml", "default.yaml:1"),
    ("profile", "from/profile", "lllm.toml:10"),
    ("dotenv short", "openai/from-dotenv", ".env:1 MODEL_NAME"),
    ("environment short", "openai/from-env", "environment variable MODEL_NAME"),
    ("dotenv", "from/dotenv", ".env:2 LLLM_MODEL"),
    ("environment", "from/env", "environment variable LLLM_MODEL"),
    ("set", "from/set", "--set model"),
]


@pytest.mark.parametrize("strongest", range(len(SOURCES)), ids=[source[0] for source in SOURCES])
def test_the_stronger_source_wins(write: Write, strongest: int) -> None:
    """Each case has all sources up to one, which is the one that counts."""
    present = {name for name, _, _ in SOURCES[: strongest + 1]}
    write("lllm.toml", TOML if "toml" in present else '[run]\ndefault = "default.yaml"')
    write("default.yaml", ("model: from/yaml\n" if "yaml" in present else "") + "agent_configs: {a: {}}")
    lines = (
        "MODEL_NAME=from-dotenv" * ("dotenv short" in present),
        "LLLM_MODEL=from/dotenv" * ("dotenv" in present),
    )
    write(".env", "\n".join(lines))
    environ = {}
    if "environment short" in present:
        environ["MODEL_NAME"] = "from-env"
    if "environment" in present:
        environ["LLLM_MODEL"] = "from/env"
    config = load_config(
        profile="quick" if "profile" in present else None,
        overrides=["model=from/set"] if "set" in present else [],
        environ=environ,
    )
    _, model, origin = SOURCES[strongest]
    assert (config.model, config.origin("model")) == (model, origin)
    assert (config.agent("a").model_name, config.origin("agent_configs.a.model_name")) == (model, origin)


AGENTS = """
model: top/model
temperature: 0.1
agent_configs:
  own: {model_name: own/model, temperature: 0.9}
  none: {}
"""


def test_what_stands_at_the_top_of_a_file_is_for_agents_without_their_own(write: Write) -> None:
    config = load_config(write("a.yaml", AGENTS))
    assert [config.agent(name).model_name for name in ("own", "none")] == ["own/model", "top/model"]
    assert [config.agent(name).sampling for name in ("own", "none")] == [
        {"temperature": 0.9},
        {"temperature": 0.1},
    ]
    assert config.origin("agent_configs.none.temperature") == "a.yaml:3"
    assert config.origin("agent_configs.own.temperature") == "a.yaml:5"


@pytest.mark.parametrize(
    "environ", [{"LLLM_MODEL": "openai/x"}, {"MODEL_NAME": "x"}, {"MODEL_NAME": "openai/x"}]
)
def test_one_variable_sets_the_model_of_every_agent(write: Write, environ: dict[str, str]) -> None:
    config = load_config(write("a.yaml", AGENTS), environ=environ)
    assert {agent.model_name for agent in config.agents.values()} == {"openai/x"} == {config.model}


def test_one_override_does_too_but_the_special_one_wins_over_the_general(write: Write) -> None:
    overrides = ["agent_configs.own.model_name=x/special", "model=x/general", "max_interrupt_times=null"]
    config = load_config(write("a.yaml", AGENTS), overrides=overrides, environ={"LLLM_MODEL": "x/weaker"})
    assert [agent.model_name for agent in config.agents.values()] == ["x/special", "x/general"]
    assert [agent.limits.max_interrupt_times for agent in config.agents.values()] == [None, None]


def test_the_short_names_describe_an_endpoint(write: Write) -> None:
    write(
        ".env",
        'API_URL="https://here/v1"\nAPI_KEY="the key"\nMODEL_NAME="Qwen/Qwen3-30B"\n'
        "MAX_TOKENS=32000\nTEMPERATURE=0.7\n",
    )
    agent = load_config().defaults
    assert (agent.base_url, agent.api_key, agent.model_name) == (
        "https://here/v1",
        "the key",
        "openai/Qwen/Qwen3-30B",
    )
    assert agent.sampling == {"max_tokens": 32000, "temperature": 0.7}


def test_dotenv_neither_overrides_nor_enters_the_real_environment(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setenv("TEMPERATURE", "0.2")
    write(".env", "TEMPERATURE=0.7\nMAX_TOKENS=5\nOWN_VARIABLE=1\n")
    config = load_config()
    assert config.defaults.sampling == {"temperature": 0.2, "max_tokens": 5}
    assert config.variable("OWN_VARIABLE") == "1"
    assert "OWN_VARIABLE" not in os.environ
    assert "MAX_TOKENS" not in os.environ


def test_an_empty_variable_counts_as_not_set(write: Write) -> None:
    config = load_config(write("a.yaml", "model: a/b"), environ={"LLLM_MODEL": "", "LLLM_CONFIG": ""})
    assert config.model == "a/b"


def test_a_key_is_only_sent_to_the_endpoint_it_was_given_for(write: Write) -> None:
    file = write(
        "a.yaml",
        "base_url: http://top\napi_key_env: TOP\nagent_configs:\n"
        "  same: {}\n"
        "  other: {base_url: http://other}\n"
        "  own: {base_url: http://other, api_key_env: OWN}\n",
    )
    environ = {"TOP": "top key", "OWN": "own key"}

    def keys(config: Any) -> dict[str, tuple[str | None, str | None]]:
        return {name: (agent.base_url, agent.api_key) for name, agent in config.agents.items()}

    assert keys(load_config(file, environ=environ)) == {
        "same": ("http://top", "top key"),
        "other": ("http://other", None),
        "own": ("http://other", "own key"),
    }
    moved = {
        **environ,
        "API_URL": "http://env",
    }  # one variable moves all agents, and no key of theirs goes along ...
    assert keys(load_config(file, environ=moved))["own"] == (
        "http://env",
        "top key",
    )  # ... but the one at the top
    moved["API_KEY"] = "env key"
    assert set(keys(load_config(file, environ=moved)).values()) == {("http://env", "env key")}


# --- profiles


def test_a_profile_can_be_chosen_in_four_places(write: Write) -> None:
    profiles = [
        f'[profiles.{name}]\nname = "{number}"' for number, name in enumerate(("one", "two", "three"), 1)
    ]
    write("lllm.toml", "\n".join(['[run]\nprofile = "one"', *profiles]))
    assert load_config({}).name == "1"
    assert load_config({"profile": "two"}).name == "2"
    assert load_config({"profile": "two"}, environ={"LLLM_PROFILE": "three"}).name == "3"
    assert load_config({"profile": "two"}, environ={"LLLM_PROFILE": "three"}, profile="one").profile == "one"


def test_a_profile_changes_all_agents(write: Write) -> None:
    write("lllm.toml", TOML)
    config = load_config(write("a.yaml", AGENTS), profile="quick", environ={"LLLM_LOG_TYPE": "none"})
    assert {agent.model_name for agent in config.agents.values()} == {"from/profile"}
    assert config.log.type == "none"


def test_only_the_chosen_profile_needs_its_variables(write: Write) -> None:
    write("lllm.toml", '[profiles.cloud]\nbase_url = "${CLOUD_URL}"\n[profiles.quick]\nname = "quick"\n')
    assert load_config({}, profile="quick").name == "quick"
    assert load_config({}, profile="cloud", environ={"CLOUD_URL": "http://x"}).defaults.base_url == "http://x"
    with pytest.raises(ConfigError, match=r"lllm\.toml:2: 'base_url' needs the variable CLOUD_URL"):
        load_config({}, profile="cloud")


def test_an_unknown_profile_says_the_nearest(write: Write) -> None:
    write("lllm.toml", "[profiles.quick]\n")
    with pytest.raises(UnknownNameError, match=r"a\.yaml:1: no profile named 'quik'\n  Did you mean 'quick'"):
        load_config(write("a.yaml", "profile: quik"))


def test_a_profile_may_speak_of_agents_that_this_system_does_not_have(write: Write) -> None:
    write("lllm.toml", TOML)
    config = load_config({"agent_configs": {"a": {}, "b": {}}}, profile="quick")
    assert config.agent("b").sampling == {"temperature": 0.5}
    assert list(load_config({"agent_configs": {"a": {}}}, profile="quick").agents) == ["a"]


# --- extends


def test_a_file_starts_from_another(write: Write) -> None:
    write(
        "base/base.yaml", "name: base\nsettings: {a: 1, b: {c: 2}}\nagent_configs: {x: {tools: [one, two]}}\n"
    )
    file = write(
        "own.yaml",
        "extends: base/base.yaml\nname: own\nsettings: {b: {d: 3}}\nagent_configs: {x: {tools: [three]}, y: {}}\n",
    )
    config = load_config(file)
    assert config.name == "own"
    assert config.settings == {"a": 1, "b": {"c": 2, "d": 3}}
    assert config.agent("x").tools == ("three",)
    assert list(config.agents) == ["x", "y"]
    assert config.origin("settings.a") == "base/base.yaml:2"
    assert [path.name for path in config.files] == ["own.yaml", "base.yaml"]


def test_a_schema_is_replaced_not_merged(write: Write) -> None:
    write("base.yaml", "agent_configs: {x: {format: {type: object, required: [a]}}}")
    config = load_config(write("own.yaml", "extends: base.yaml\nagent_configs: {x: {format: {type: array}}}"))
    assert config.agent("x").format == {"type": "array"}


def test_a_circle_is_an_error(write: Write) -> None:
    write("b.yaml", "extends: a.yaml")
    with pytest.raises(ConfigError, match=r"b\.yaml:1: a\.yaml extends itself"):
        load_config(write("a.yaml", "extends: b.yaml"))


def test_a_stronger_file_may_say_the_same_thing_in_the_other_way(write: Write) -> None:
    write("base.yaml", "agent_configs: {x: {system_prompt: You are x.}}")
    config = load_config(
        write("own.yaml", "extends: base.yaml\nagent_configs: {x: {system_prompt_path: p/x}}")
    )
    assert config.agent("x").system_prompt is None
    assert config.agent("x").system_prompt_path == "p/x"


# --- which lllm.toml


def test_the_nearest_one_upwards(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    outer = write("lllm.toml", "")
    below = write("a/b/c/file", "").parent
    assert find_project(cwd=below) == outer
    inner = write("a/lllm.toml", "")
    assert find_project(cwd=below) == inner
    monkeypatch.chdir(below)
    assert find_project() == inner


def test_environment_before_argument_before_nearest(write: Write) -> None:
    write("lllm.toml", "")
    one, two = write("one/lllm.toml", ""), write("two/other.toml", "")
    assert find_project(one) == one
    assert find_project("one") == one
    assert find_project(one, environ={"LLLM_CONFIG": str(two)}) == two
    assert find_project(two, environ={"LLLM_CONFIG": "one"}) == one


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nowhere", "environment variable LLLM_CONFIG: no such file: nowhere"),
        ("folder", "environment variable LLLM_CONFIG: the folder folder holds no lllm.toml"),
        ("folder/x.yaml", "environment variable LLLM_CONFIG: folder/x.yaml is no lllm.toml"),
    ],
)
def test_a_bad_variable_is_an_error(write: Write, value: str, message: str) -> None:
    write("lllm.toml", "")
    write("folder/x.yaml", "")
    with pytest.raises(ConfigError) as caught:
        load_config(environ={"LLLM_CONFIG": value})
    assert caught.value.message == message


def test_no_project_is_fine() -> None:
    config = load_config()
    assert (config.project_file, config.file, config.files) == (None, None, ())
    assert config.root == Path.cwd()
    assert config.log.dir == Path.cwd() / ".lllm"


# --- paths and overrides


def test_paths_start_where_they_are_written(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write("lllm.toml", '[log]\ndir = "logs"\n[discovery]\nprompts = ["prompts"]').parent
    write("config/deep/x.yaml", "ckpt_dir: ckpt")
    below = write("below/file", "").parent
    monkeypatch.chdir(below)
    config = load_config("../config/deep/x.yaml")
    assert (config.log.dir, config.ckpt_dir) == (root / "logs", root / "ckpt")
    assert config.discovery.prompts == (root / "prompts",)
    assert load_config(overrides=["log.dir=logs"]).log.dir == below / "logs"
    assert load_config(environ={"LLLM_LOG_DIR": "logs"}).log.dir == below / "logs"


def test_overrides_take_a_mapping_too() -> None:
    config = load_config(
        {"agent_configs": {"a": {}}}, overrides={"agent_configs.a.stop": ["x"], "log_type": "none"}
    )
    assert config.agent("a").sampling == {"stop": ["x"]}
    assert config.log.type == "none"
    assert config.origin("log_type") == "--set log_type"


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("agent_configs.a.stop=END", "agent_configs.a.stop", "END"),
        ('agent_configs.a.stop=["a", "b"]', "agent_configs.a.stop", ["a", "b"]),
        ("agent_configs.a.system_prompt=12", "agent_configs.a.system_prompt", "12"),
        ("agent_configs.a.system_prompt=a=b", "agent_configs.a.system_prompt", "a=b"),
        ("agent_configs.a.settings.deep.key=12", "agent_configs.a.settings.deep.key", 12),
        ("agent_configs.a={temperature: 0.5}", "agent_configs.a.temperature", 0.5),
        ("deadline=1e-3", "deadline", 0.001),
        ("model=scripted", "model", "scripted"),
    ],
)
def test_the_key_decides_how_an_override_is_read(override: str, key: str, value: object) -> None:
    config = load_config({"agent_configs": {"a": {}}}, overrides=[override])
    assert config[key] == value


def test_an_override_of_an_unknown_key_says_the_nearest() -> None:
    with pytest.raises(UnknownKeyError, match=r"Did you mean 'temperature'\?"):
        load_config({"agent_configs": {"vanilla": {}}}, overrides=["agent_configs.vanilla.temprature=1"])


def test_an_override_of_an_unknown_agent_says_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"no agent named 'vanila'\n  Did you mean 'vanilla'\?"):
        load_config({"agent_configs": {"vanilla": {}}}, overrides=["agent_configs.vanila.temperature=1"])


@pytest.mark.parametrize("override", ["nothing", "=1", "a..b=1", ""])
def test_a_malformed_override_is_an_error(override: str) -> None:
    with pytest.raises(ConfigError):
        load_config({}, overrides=[override])


def test_an_unknown_variable_is_a_warning() -> None:
    config, problems = read_config(environ={"LLLM_MODLE": "x", "LLLM_AUTO_DISCOVER": "0"})
    assert config is not None
    assert [str(problem) for problem in problems] == [
        "warning: environment variable LLLM_MODLE: unknown key 'LLLM_MODLE'\n  Did you mean 'LLLM_MODEL'?"
    ]
    assert config.notes == tuple(problems)


def test_a_bad_value_in_the_environment_names_the_variable() -> None:
    with pytest.raises(
        ConfigError, match=r"^environment variable LLLM_MAX_COST: max_cost is 'lots' \(text\); it wants"
    ):
        load_config(environ={"LLLM_MAX_COST": "lots"})


def test_what_lllm_toml_says_in_vain_is_a_warning(write: Write) -> None:
    write("lllm.toml", "[log]\ntype = 'localfile'\ndir = 'same'\n[run]\nmodel = 'scripted'\n")
    write("base.yaml", "log_type: memory\n")
    write("a.yaml", "extends: base.yaml\nlog_dir: same\nmodel: auto\nagent_configs: {a: {}}\n")
    config, problems = read_config("a.yaml")
    assert [(problem.severity, problem.message) for problem in problems] == [
        ("warning", "base.yaml:1: log.type is set here and in lllm.toml:2, which has no effect"),
        ("warning", "a.yaml:3: model is set here and in lllm.toml:5, which has no effect"),
    ]
    assert config is not None
    assert [note.message for note in config.notes] == [problem.message for problem in problems]
    for quiet in ({"overrides": ["log.type=none"]}, {"environ": {"LLLM_LOG_TYPE": "none"}}):
        assert read_config({"agent_configs": {"a": {}}}, **quiet)[1] == [], (
            "what is meant to be stronger is no slip"
        )  # type: ignore[arg-type]


def test_only_a_file_extends_another(write: Write) -> None:
    write("b.yaml", "model: scripted\n")
    with pytest.raises(UnknownKeyError, match="--set extends: unknown key 'extends'"):
        load_config({}, overrides=["extends=b.yaml"])
