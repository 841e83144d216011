"""`check`: every name that a configuration uses, held against the registry."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lllm.config import check, load_config
from lllm.errors import listing
from lllm.registry import EXTRAS, Registry
from lllm.registry import registry as the_registry

Write = Callable[[str, str], Path]


@pytest.fixture
def registry() -> Iterator[Registry]:
    with the_registry.scope(empty=True) as scope:
        scope.add("prompt", "demo/task", object())
        scope.add("proxy", "wiki", object())
        scope.add("tool", "search", object())
        scope.add("agent", "vanilla", object())
        yield scope


GOOD = """
log_type: none
agent_type: vanilla
agent_group: [a]
agent_configs:
  a:
    model: scripted
    system_prompt_path: demo/task
    prompts: [demo/task]
    tools: [search, wiki/page, wiki.page, "json:loads"]
    proxies: [wiki]
    api_key_env: KEY
"""


def test_what_is_right_is_silent(write: Write, registry: Registry) -> None:
    assert check(load_config(write("a.yaml", GOOD), environ={"KEY": "x"}), registry) == []


BAD = """
log_type: sqlit
system_type: nothing
agent_type: vanila
agent_group: [a, c]
model: opnai/x
agent_configs:
  a:
    model: zzz/x
    agent_type: none_such
    system_prompt_path: demo/tsk
    prompt: far/away
    tools:
      - serch
      - wikki/page
      - "no_such_module_here:f"
    proxies: [wki]
    sandbox: jupiter
    api_key_env: NOT_SET
  b: {}
"""


def test_every_name_that_leads_nowhere(write: Write, registry: Registry) -> None:
    problems = check(load_config(write("a.yaml", BAD)), registry)
    assert {problem.severity for problem in problems} == {"error"}
    said = {problem.message: (problem.hint or "") for problem in problems}
    for message, hint in {
        "a.yaml:2: no store named 'sqlit'": "Did you mean 'sqlite'?",
        "a.yaml:3: no agent named 'nothing'": "Known: simple, vanilla.",
        "a.yaml:4: no agent named 'vanila'": "Did you mean 'vanilla'?",
        "a.yaml:5: no agent named 'c'": "Known: a, b.",
        "a.yaml:6: no backend named 'opnai'": "Did you mean 'openai'?",
        "a.yaml:9: no backend named 'zzz'": f"Known: {listing(the_registry.names('backend'))}.",
        "a.yaml:10: no agent named 'none_such'": "Known: simple, vanilla.",
        "a.yaml:11: no prompt named 'demo/tsk'": "Did you mean 'demo/task'?",
        "a.yaml:12: no prompt named 'far/away'": "Known: demo/task.",
        "a.yaml:14: no tool named 'serch'": "Did you mean 'search'?",
        "a.yaml:15: no proxy named 'wikki'": "Did you mean 'wiki'?",
        "a.yaml:16: no tool named 'no_such_module_here:f'": "Known: search.",
        "a.yaml:17: no proxy named 'wki'": "Did you mean 'wiki'?",
        "a.yaml:18: no sandbox named 'jupiter'": "Known: none.",
        "a.yaml:19: the agent 'a' takes its key from NOT_SET, which is not set": (
            "Set NOT_SET in the environment or in .env."
        ),
    }.items():
        assert said.pop(message, None) == hint, message
    assert not said


def test_a_package_that_is_missing(write: Write, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    for extra in ("local", "llama-cpp", "transformers"):  # any of them would do
        monkeypatch.setitem(EXTRAS, extra, ("no_such_package",))
    (problem,) = check(load_config(write("a.yaml", "log_type: none\nmodel: embedded")), registry)
    assert problem.message == (
        "a.yaml:2: the backend 'embedded' needs the package 'no_such_package', which is not installed"
    )
    assert problem.hint == "The extra lllm[local] brings it. Type: pip install gguf xllamacpp"


def test_discovery_is_part_of_it(write: Write, registry: Registry) -> None:
    write("lllm.toml", "[discovery]\nprompts = ['checked_prompts', 'missing']\n[log]\ntype = 'none'")
    write("checked_prompts/a.py", "1 / 0")
    messages = [problem.message for problem in check(load_config({}), registry)]
    assert messages == [
        "checked_prompts/a.py:1: does not import: ZeroDivisionError: division by zero",
        "lllm.toml:2: no such folder: missing",
    ]


def test_disarmed_it_executes_nothing(
    write: Write, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLLM_AUTO_DISCOVER", "0")
    write("lllm.toml", "[discovery]\nprompts = ['checked_prompts']\n[log]\ntype = 'none'")
    write("checked_prompts/b.py", "raise SystemExit('executed')")
    (problem,) = check(load_config({}), registry)
    assert (problem.severity, "discovery is off" in problem.message) == ("warning", True)


def test_warnings_are_part_of_it(registry: Registry) -> None:
    (problem,) = check(load_config({"log_type": "none"}, environ={"LLLM_MODLE": "x"}), registry)
    assert problem.severity == "warning"
