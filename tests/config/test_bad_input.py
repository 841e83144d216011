"""Files that are wrong, and what is said about them: all of it at once, with file and line, and what to type."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lllm.config import load_config, read_config
from lllm.errors import ConfigError, UnknownKeyError

Write = Callable[[str, str], Path]


def problems(file: Path | dict[str, object] | None = None) -> list[str]:
    config, found = read_config(file)
    assert (config is None) == any(problem.severity == "error" for problem in found)
    return [str(problem) for problem in found]


YAMLS = [
    # text, what is said
    ("name: [1, 2", r"error: a\.yaml:1: not valid YAML: .*"),
    (
        "name: x\n\tmodel: y",
        r"error: a\.yaml:2: not valid YAML: found character '\\t' that cannot start any token.*",
    ),
    ("name: x\n name: y", r"error: a\.yaml:2: not valid YAML: mapping values are not allowed here"),
    ("a: 1\n---\nb: 2", r"error: a\.yaml:2: not valid YAML: but found another document.*"),
    ("- one\n- two", r"error: a\.yaml:1: holds a list; it wants keys and values"),
    ("just text", r"error: a\.yaml:1: holds a single value; it wants keys and values"),
    ("name: x\x00", r"error: a\.yaml:1: not valid YAML: special characters are not allowed"),
    ("name: a\nname: b", r"error: a\.yaml:2: 'name' is given twice, here and in line 1"),
    (
        "agent_configs:\n  a:\n    stop: x\n    stop: y",
        r"error: a\.yaml:4: 'agent_configs\.a\.stop' is given twice, here and in line 3",
    ),
    ("1: x", r"error: a\.yaml:1: a key is text; got 1\n  Put it in quotes: '1'"),
    ("[a]: x", r"error: a\.yaml:1: a key is text; got a list or mapping"),
    (
        "name: !!python/name:os.system ''",
        r"error: a\.yaml:1: the tag 'tag:yaml\.org,2002:python/name:os\.system' is .*",
    ),
    ("random_seed: !!int x", r"error: a\.yaml:1: 'x' is not a int"),
    ("settings: &a [*a]", r"error: a\.yaml:1: not valid YAML: an alias stands within its own anchor"),
    ("settings: " + "[" * 5000, r"error: a\.yaml: nested too deeply"),
    ("nmae: x", r"error: a\.yaml:1: unknown key 'nmae'\n  Did you mean 'name'\?"),
    ("log:\n  typ: x", r"error: a\.yaml:2: unknown key 'log\.typ'\n  Did you mean 'type'\?"),
    ("logtype: x", r"error: a\.yaml:1: unknown key 'logtype'\n  Did you mean 'log_type'\?"),
    (
        "agent_configs:\n  vanilla:\n    temprature: 1",
        r"error: a\.yaml:3: unknown key 'agent_configs\.vanilla\.temprature'\n  Did you mean 'temperature'\?",
    ),
    ("discovery: {prompts: []}", r"error: a\.yaml:1: unknown key 'discovery'\n  .*"),
    ("name: 7", r"error: a\.yaml:1: name is 7 \(a whole number\); it wants a name"),
    ("name:", r"error: a\.yaml:1: name is null \(nothing\); it wants a name"),
    ("name: ' '", r"error: a\.yaml:1: name is ' ' \(text\); it wants a name"),
    ("name: true", r"error: a\.yaml:1: name is true \(a truth value\); it wants a name"),
    (
        "agent_configs: [a]",
        r"error: a\.yaml:1: agent_configs is \['a'\] \(a list\); it wants keys and values",
    ),
    (
        "agent_configs: {a: text}",
        r"error: a\.yaml:1: agent_configs\.a is 'text' \(text\); it wants keys and values",
    ),
    ("agent_configs: {a.b: {}}", r"error: a\.yaml:1: 'a\.b' is no name for an agent: no dots"),
    (
        "max_exception_retry: -1",
        r"error: a\.yaml:1: max_exception_retry is -1 .*; it wants a whole number of 0 or more",
    ),
    (
        "max_exception_retry: true",
        r"error: a\.yaml:1: max_exception_retry is true \(a truth value\); it wants .*",
    ),
    (
        "max_exception_retry: 1.0",
        r"error: a\.yaml:1: max_exception_retry is 1\.0 \(a number\); it wants a whole number .*",
    ),
    (
        "max_exception_retry: null",
        r"error: a\.yaml:1: max_exception_retry is null \(nothing\); it wants a whole number .*",
    ),
    ("max_interrupt_times: -1", r"error: a\.yaml:1: max_interrupt_times is -1 .*, or null for no limit"),
    ("max_cost: .nan", r"error: a\.yaml:1: max_cost is nan \(a number\); it wants an amount .*"),
    (
        "deadline: 0",
        r"error: a\.yaml:1: deadline is 0 .*; it wants a number of seconds above 0, or null for no limit",
    ),
    ("deadline: .inf", r"error: a\.yaml:1: deadline is inf .*"),
    (
        "temperature: 2.1",
        r"error: a\.yaml:1: temperature is 2\.1 \(a number\); it wants a number from 0 to 2",
    ),
    ("temperature: '1'", r"error: a\.yaml:1: temperature is '1' \(text\); it wants a number from 0 to 2"),
    (
        "stop: [1]",
        r"error: a\.yaml:1: stop is \[1\] \(a list\); it wants text or a list of texts, none of them empty",
    ),
    (
        "activate_proxies: wiki",
        r"error: a\.yaml:1: activate_proxies is 'wiki' \(text\); it wants a list of names, or null as if left out",
    ),
    (
        "log: {synchronous: maybe}",
        r"error: a\.yaml:1: log\.synchronous is 'maybe' .*; it wants one of normal, full",
    ),
    ("settings: {a: .inf}", r"error: a\.yaml:1: settings\.a is inf; it wants a finite number"),
    (
        "log_type: none\nlog: {type: none}",
        r"error: a\.yaml:2: 'log\.type' and another spelling of 'type' are both .*",
    ),
    (
        "agent_configs:\n  a:\n    model: x\n    model_name: y",
        r"error: a\.yaml:4: 'agent_configs\.a\.model_name' and another spelling of 'model_name' are both .*",
    ),
    (
        "agent_configs:\n  a:\n    system_prompt: x\n    system_prompt_path: y",
        r"error: a\.yaml:4: 'agent_configs\.a\.system_prompt' and 'system_prompt_path' say the same thing .*",
    ),
    ("extends: 3", r"error: a\.yaml:1: extends wants a path or a list of paths"),
    ("extends: b.yaml", r"error: a\.yaml:1: no such file: b\.yaml\n  Did you mean 'a\.yaml'\?"),
    (
        "name: ${NOT_SET}",
        r"error: a\.yaml:1: 'name' needs the variable NOT_SET, which is not set\n  Set NOT_SET in .*",
    ),
    (
        "name: ${a b}",
        r"error: a\.yaml:1: 'name' has a '\$\{' that is not \$\{NAME\} or \$\{NAME:-default\}\n  .*",
    ),
    (
        "random_seed: ${NOT_SET:-x}",
        r"error: a\.yaml:1: random_seed is 'x' \(text\); it wants a whole number, or null",
    ),
    (
        "api_key: sk-1234",
        r"error: a\.yaml:1: api_key holds a secret; this file is no place for it\n  Write api_key_env: .*",
    ),
]


@pytest.mark.parametrize(("text", "said"), YAMLS, ids=[re.sub(r"\W+", "_", text)[:40] for text, _ in YAMLS])
def test_a_wrong_file_is_explained(write: Write, text: str, said: str) -> None:
    found = problems(write("a.yaml", text))
    assert len(found) == 1
    assert re.fullmatch(said, found[0], re.DOTALL), found[0]


TOMLS = [
    ("[log", r"error: lllm\.toml:1: not valid TOML: Expected ']' at the end of a table declaration"),
    ("a = 1\nb = ", r"error: lllm\.toml:2: not valid TOML: Invalid value"),
    ("[log]\ntype = 'a'\ntype = 'b'", r"error: lllm\.toml:3: not valid TOML: Cannot overwrite a value"),
    ("\n[discover]\n", r"error: lllm\.toml:2: unknown key 'discover'\n  Did you mean 'discovery'\?"),
    ("[log]\n\ntyp = 'a'", r"error: lllm\.toml:3: unknown key 'log\.typ'\n  Did you mean 'type'\?"),
    ("log.typ = 'a'", r"error: lllm\.toml:1: unknown key 'log\.typ'\n  Did you mean 'type'\?"),
    (
        '[discovery]\nprompts = [\n  "a",\n]\nstrict = "yes"',
        r"error: lllm\.toml:5: discovery\.strict is 'yes' \(text\); it wants true or false",
    ),
    ('text = """\n[log]\nx = 1\n"""', r"error: lllm\.toml:1: unknown key 'text'\n  .*"),
    ("profiles = 3", r"error: lllm\.toml:1: profiles wants a table per profile: \[profiles\.NAME\]"),
    (
        '[profiles.a]\nname = "x"\n"agent_configs.v.tempature" = 1',
        r"error: lllm\.toml:3: unknown key 'agent_configs\.v\.tempature'\n  Did you mean 'temperature'\?",
    ),
    ("[run]\ndefault = 'none.yaml'", r"error: lllm\.toml:2: no such file: none\.yaml"),
    (
        "[log]\ndir = '${NOWHERE}'",
        r"error: lllm\.toml:2: 'log\.dir' needs the variable NOWHERE, which is not set\n.*",
    ),
    ("project = []", r"error: lllm\.toml:1: project is \[\] \(a list\); it wants keys and values: name"),
]


@pytest.mark.parametrize(("text", "said"), TOMLS, ids=[re.sub(r"\W+", "_", text)[:40] for text, _ in TOMLS])
def test_a_wrong_project_is_explained(write: Write, text: str, said: str) -> None:
    write("lllm.toml", text)
    found = problems()
    assert len(found) == 1
    assert re.fullmatch(said, found[0], re.DOTALL), found[0]


def test_files_that_cannot_be_read(write: Write) -> None:
    write("a.yaml", "").write_bytes(b"name: \xff")
    assert problems(Path("a.yaml")) == ["error: a.yaml: not UTF-8: invalid start byte at byte 6"]
    assert problems(Path("b.yaml")) == ["error: no such file: b.yaml\n  Did you mean 'a.yaml'?"]
    assert problems(Path("a.toml")) == ["error: a.toml is no system's YAML file\n  Type: project=..."]
    assert problems(Path()) == ["error: is a folder: ."]
    write("lllm.toml", "").write_bytes(b"\xff")
    assert problems({}) == ["error: lllm.toml: not UTF-8: invalid start byte at byte 0"]


def test_laughs_by_the_billion_are_cut_short(write: Write) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    text = "settings:\n" + "\n".join(f"  {line}" for line in lines)
    assert problems(write("a.yaml", text)) == [
        "error: a.yaml: not valid YAML: it expands to more than 100,000 values"
    ]


def test_all_problems_are_told_at_once(write: Write) -> None:
    write("lllm.toml", "[log]\ntipe = 'x'\n")
    file = write("a.yaml", "nmae: x\nextends: none.yaml\nagent_configs:\n  a: {top_p: 7}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file, overrides=["foo=1"], profile="x", environ={"LLLM_RANDOM_SEED": "x"})
    lines = str(caught.value).splitlines()
    assert lines[0] == "7 problems in the configuration:"
    for expected in (
        "  lllm.toml:2: unknown key 'log.tipe'",
        "      Did you mean 'type'?",
        "  environment variable LLLM_RANDOM_SEED: random_seed is 'x' (text); it wants a whole number, or null",
        "  --set foo: unknown key 'foo'",
        "  a.yaml:2: no such file: none.yaml",
        "  a.yaml:1: unknown key 'nmae'",
        "  a.yaml:4: agent_configs.a.top_p is 7 (a whole number); it wants a number from 0 to 1",
        "  argument: no profile named 'x'",
    ):
        assert expected in lines
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    assert len(caught.value.__cause__.exceptions) == 7


def test_a_single_problem_is_raised_as_itself(write: Write) -> None:
    with pytest.raises(UnknownKeyError) as caught:
        load_config(write("a.yaml", "nmae: x"))
    assert caught.value.where == "a.yaml:1"


def test_dicts_and_files_are_held_to_the_same_table() -> None:
    assert problems({"agent_configs": {"a": {"temprature": 1}}}) == [
        "error: argument: unknown key 'agent_configs.a.temprature'\n  Did you mean 'temperature'?"
    ]


def test_a_line_of_dotenv_is_not_repeated(write: Write) -> None:
    write(".env", "sk-secret-1234\n")
    assert "secret" not in "".join(problems())


def test_a_value_that_should_be_hidden_is_not_repeated() -> None:
    assert problems({"api_key": ["sk-1"]}) == ["error: argument: api_key is given; it wants a name"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.integers(0, 400), noise=st.text(alphabet="${}[]:,\"'\n #&*<!|->%@`\t\\0a\x00é", max_size=12))
def test_noise_in_a_file_is_explained_too(write: Write, where: int, noise: str) -> None:
    """Whatever stands in the files: either a configuration, or problems with words, and no other exception."""
    yaml = "name: x\nagent_configs:\n  a: {stop: [x], temperature: ${T:-1}, tools: [a, b]}\nsettings: &s {k: [1, 2]}\n"
    toml = '[project]\nname = "x"\n[log]\ntype = "none"\n[profiles.q]\n"agent_configs.a.top_p" = 0.5\n'
    file = write("a.yaml", yaml[:where] + noise + yaml[where:])
    write("lllm.toml", toml[:where] + noise + toml[where:])
    write(".env", f"A=b{noise}\nC='d'\n")
    config, found = read_config(file, overrides=[f"agent_configs.a.stop={noise}"], profile="q")
    assert (config is None) == any(problem.severity == "error" for problem in found)
    assert all(str(problem) for problem in found)
