"""`lllm check` and `lllm run` refuse the same things, in the same words: one way leads from the files to the system."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lllm import AgentBase, MemoryLog, Prompt, ScriptedBackend, build_agent
from lllm.config import check, load_config, load_project, read_config
from lllm.errors import ConfigError
from lllm.registry import Registry
from lllm.registry import registry as the_registry
from lllm.shipped import EXTRAS
from tests.cli.conftest import Terminal
from tests.cli.conftest import lllm as lllm

Write = Callable[[str, str], Path]


def search(words: str) -> str:
    """Searches."""
    return words


def shell(words: str) -> str:
    """Another tool of this name."""
    return words


@pytest.fixture(autouse=True)
def registry() -> Iterator[Registry]:
    with the_registry.scope(empty=True) as scope:

        class Vanilla(AgentBase):
            agent_type = "vanilla"
            agent_group = ["a"]  # noqa: RUF012

        scope.add("prompt", "demo/task", Prompt("demo/task", "Do {task}."))
        scope.add("prompt", "demo/two", Prompt("demo/two", "Do {task} in {language}."))
        scope.add("prompt", "demo/system", Prompt("demo/system", "You are {who}."))
        scope.add("prompt", "demo/tool", Prompt("demo/tool", "{task}", functions=["serch"]))
        scope.add("tool", "search", search)
        yield scope


GOOD = """
log_type: none
agent_type: vanilla
agent_group: [a]
activate_proxies: []
sandbox: {}
agent_configs:
  a:
    model: scripted
    system_prompt: You search.
    prompt: demo/task
    prompts: [demo/two]
    tools: [search, "textwrap:dedent"]
    format: {type: object, properties: {n: {type: integer}}}
    proxies:
    sandbox: ""
    agent_type:
  left_out:
    model: none/such
    system_prompt_path: none/such
"""


def test_what_is_right_is_silent(write: Write) -> None:
    config = load_config(write("a.yaml", GOOD))
    assert check(config) == []
    assert list(build_agent(config).agents) == ["a"], "agent_group says who belongs to the system"


REFUSED = {
    # the file -> what is said of it
    "log_type: sqlit": "a.yaml:1: no store named 'sqlit' (log.type)\n  Did you mean 'sqlite'?",
    "log: {type: postgres}": "a.yaml:1: the store 'postgres' needs the address of its server (log.type)\n  Set",
    "system_type: nothing": (
        "a.yaml:1: no agent named 'nothing' (system_type)\n  Known: chain_of_agents, coder, multi_call, simple, steps, vanilla."
    ),
    "agent_type: vanila": "a.yaml:1: no agent named 'vanila' (agent_type)\n  Did you mean 'vanilla'?",
    "agent_type: vanilla\nagent_group: [a, c]": "a.yaml:2: no agent named 'c' (agent_group.1)\n  Known: a.",
    "agent_type: vanilla\nagent_configs: {b: {model: scripted}}": (
        "a.yaml:2: the system 'Vanilla' needs the agents a, which agent_configs does not declare (agent_configs)\n  Decla"
    ),
    "": "a.yaml: the built-in system runs the agents of agent_configs, and none is declared\n  Declare one",
    "# nothing": "a.yaml: the built-in system runs the agents of agent_configs, and none is declared\n  Declare one",
    "agent_configs: {b: {model: scripted}}": (
        "a.yaml:1: 2 agents are declared, and nothing says which of them gets the task: a, b are reached by no other"
    ),
    "model: opnai/x": "a.yaml:1: no backend named 'opnai' (agent_configs.a.model_name)\n  Did you mean 'openai'?",
    "model: gpt-4o-mini": "a.yaml:1: 'gpt-4o-mini' names no provider (agent_configs.a.model_name)\n  Write openai/gpt-4o-mini.",
    "model: openai": "a.yaml:1: 'openai' names no model (agent_configs.a.model_name)\n  Write openai/model.",
    "model: openai/x": "a.yaml:1: no API key for https://api.openai.com/v1 (agent_configs.a.model_name)\n  Set ",
    "model: llama_cpp/no.gguf": "a.yaml:1: there is no file no.gguf (agent_configs.a.model_name)\n  The model",
    "model: transformers/no/such/folder": "a.yaml:1: there is no model 'no/such/folder' in the current folder (agent_con",
    "model: replay/no-such-session": "a.yaml:1: no session named 'no-such-session' (agent_configs.a.model_name)",
    "log: {type: sqlite, url: 'postgresql://h/d'}": "a.yaml:1: the store 'sqlite' has no server, so log.url has no effect",
    "log: {url: 'postgresql://h/d'}": "(log.url)\n  Remove log.url, or write type: postgres.",
    "log_dir: a.yaml/logs": "a.yaml:1: sessions cannot be kept in a.yaml/logs (Not a directory) (log.dir)\n  Name another",
    "model: openai/x\nbase_url: http://localhost:1\napi_key_env: NOT_SET": (
        "a.yaml:3: the variable NOT_SET is not set (agent_configs.a.api_key_env)\n  Set NOT_SET in the environment"
    ),
    "model: embedded\nbase_url: http://localhost:1": (
        "a.yaml:2: no agent has an endpoint for this setting: embedded (base_url)"
    ),
    "a: {model: embedded, base_url: 'http://localhost:1'}": (
        "a.yaml:3: 'embedded' runs in this process, so it has no endpoint for this setting (agent_configs.a.base_url)"
    ),
    "a: {model: embedded, requests_per_minute: 3}": (
        "a.yaml:3: 'embedded' runs in this process, so it has no endpoint for this setting"
        " (agent_configs.a.requests_per_minute)"
    ),
    "a: {model: embedded, options: {slot: 2}}": (
        "a.yaml:3: unknown key 'slot' (agent_configs.a.options.slot)\n  Did you mean 'slots'?"
    ),
    "a: {model: ollama/x, options: {headrs: {}}}": (
        "a.yaml:3: unknown key 'headrs' (agent_configs.a.options.headrs)\n  Did you mean 'headers'?"
    ),
    "a: {model: embedded, model_args: {reasoning_effort: low}}": (
        "a.yaml:3: embedded-q8_0.gguf has no 'reasoning_effort' (agent_configs.a.model_args.reasoning_effort)"
    ),
    "a: {model: scripted, model_args: {top_o: 1}}": (
        "a.yaml:3: unknown sampling option 'top_o' (agent_configs.a.model_args.top_o)\n  Did you mean 'top_p'?"
    ),
    "a: {system_prompt_path: demo/tsk}": (
        "a.yaml:3: no prompt named 'demo/tsk' (agent_configs.a.system_prompt_path)\n  Did you mean 'demo/task'?"
    ),
    "a: {prompt: far/away}": "a.yaml:3: no prompt named 'far/away' (agent_configs.a.prompt)\n  Known: demo/",
    "a: {prompts: [demo/task, demo/tsk]}": (
        "a.yaml:3: no prompt named 'demo/tsk' (agent_configs.a.prompts.1)\n  Did you mean 'demo/task'?"
    ),
    "a: {prompt: demo/two}": (
        "a.yaml:3: the built-in system passes only a task to the agent 'a': missing argument language"
    ),
    "a: {system_prompt_path: demo/system}": (
        "a.yaml:3: the built-in system passes only a task to the agent 'a': missing argument who"
    ),
    "a: {prompts: [demo/tool]}": (
        "a.yaml:3: no tool named 'serch' (agent_configs.a.prompts.0)\n  Did you mean 'search'?"
    ),
    "a: {tools: [serch]}": "a.yaml:3: no tool named 'serch' (agent_configs.a.tools.0)\n  Did you mean 'search'?",
    "a: {tools: [search, wiki/page]}": "a.yaml:3: no tool named 'wiki/page' (agent_configs.a.tools.1)\n  Known: s",
    "a: {tools: ['no_such_module_here:f']}": (
        "a.yaml:3: no tool named 'no_such_module_here:f' (agent_configs.a.tools.0)\n  Known: search."
    ),
    "a: {tools: ['json:lods']}": (
        "a.yaml:3: the tool 'json:lods': module 'json' has no attribute 'lods' (agent_c"
    ),
    "a: {tools: ['broken_module:f']}": "a.yaml:3: the tool 'broken_module:f': ZeroDivisionError: division by zero "
    "(agent_configs.a.tools.0)",
    "a: {tools: ['json:decoder']}": "is not a tool (agent_configs.a.tools.0)\n  A tool is a Python function",
    "a: {tools: [search, search]}": "a.yaml:3: two tools are named 'search' (agent_configs.a.tools.1)\n  Rename",
    "a: {format: 'os:Nothing'}": (
        "a.yaml:3: 'os:Nothing' cannot be imported: module 'os' has no attribute 'Nothing' (agent_configs.a.format)"
    ),
    "a: {format: 'no_such_module_here:X'}": "a.yaml:3: 'no_such_module_here:X' cannot be imported: No module named",
    "a: {format: 'os:sep'}": "a.yaml:3: '/' cannot be used as a format (agent_configs.a.format)\n  Give a type",
    "a: {format: 'broken_module:X'}": "a.yaml:3: ZeroDivisionError: division by zero (agent_configs.a.format)",
    "a: {format: Answer}": "a.yaml:3: 'Answer' is not a type (agent_configs.a.format)\n  Write a JSON Schema",
    "a: {format: {type: nothing}}": "a.yaml:3: format 'reply'",
    "a: {sandbox: jupiter}": "a.yaml:3: no sandbox named 'jupiter' (agent_configs.a.sandbox)\n  Did you mean 'jupyter'?",
    "a: {sandbox: jupyter, tools: ['tests.config.test_check:shell']}": (
        "a.yaml:3: two tools are named 'shell': one of the sandbox and another of `tools` (agent_configs.a.sandbox)"
    ),
    "a: {agent_type: vanilla}": "a.yaml:3: agent_configs.a.agent_type is not supported in this version of lllm",
    "a: {activate_proxies: [wiki]}": "a.yaml:3: no proxy named 'wiki' (agent_configs.a.activate_proxies.0)\n  ",
    "proxies: [wiki]": "a.yaml:1: no proxy named 'wiki' (activate_proxies.0)\n  ",
    "sandbox: {tier: prison}": "a.yaml:1: sandbox.tier is 'prison' (text); it wants one of",
    "sandbox: {memory: 0}": "a.yaml:1: sandbox.memory is 0 (a whole number); it wants a whole number",
}
"""Beside each stands the agent `a` on the scripted model, unless it brings its own."""


def file_of(text: str) -> str:
    if text in ("", "# nothing"):
        return text
    if text.startswith("a: {"):
        text, agent = "", text.removeprefix("a: ")
    else:
        own = "model: " in text and "agent_configs" not in text
        agent = "{}" if own else "{model: scripted}"
    if "agent_configs: {" in text:
        if "agent_type" in text:
            return f"{text}\n"
        return f"{text[:-1]}, a: {agent}}}\n"
    lines = text.split("\n") if text else ["#"]
    return "\n".join([*lines, *(["#"] if len(lines) == 1 else []), f"agent_configs: {{a: {agent}}}"])


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused_is_refused_by_both(
    write: Write, monkeypatch: pytest.MonkeyPatch, nobodys_machine: Path, text: str
) -> None:
    monkeypatch.syspath_prepend(nobodys_machine)
    write("broken_module.py", "1 / 0")
    file = write("a.yaml", file_of(text))
    loaded, problems = read_config(file, partly=True)
    assert loaded is not None
    errors = [p for p in [*problems, *check(loaded)] if p.severity == "error"]
    assert len({str(problem.error) for problem in errors}) == 1
    said = str(errors[0].error)
    assert REFUSED[text] in said
    with pytest.raises(ConfigError) as caught:
        build_agent(file)
    assert str(caught.value) == said


def test_the_commands_refuse_the_same(lllm: Terminal, write: Write) -> None:
    for text in ("a: {format: 'os:Nothing'}", "", "a: {tools: [serch, serhc]}", "a: {prompt: demo/two}"):
        write("a.yaml", file_of(text))
        checked, ran = lllm("check", "a.yaml"), lllm("run", "x", "--config", "a.yaml")
        assert (checked.code, ran.code, ran.out) == (2, 2, "")
        for line in checked.err.splitlines()[:-1]:
            assert line.removeprefix("error: ").strip() in " ".join(ran.err.split()), (line, ran.err)


def test_what_was_typed_is_named_and_nothing_follows_from_it(lllm: Terminal, write: Write) -> None:
    write("a.yaml", "agent_configs: {a: {model: scripted}}\n")
    for words, said in (
        (("--model", "nope/x"), "--model nope/x: no backend named 'nope'"),
        (("--set", "agent_group=[x]"), "--set agent_group: no agent named 'x'"),
        (("--profile", "nope"), "--profile: no profile named 'nope'"),
    ):
        checked, ran = lllm("check", "a.yaml", *words), lllm("run", "x", "--config", "a.yaml", *words)
        assert (checked.code, ran.code) == (2, 2)
        assert said in checked.err
        assert said in ran.err
        assert checked.err.endswith("1 problem\n"), checked.err


def test_all_problems_are_listed_at_once(write: Write) -> None:
    file = write(
        "a.yaml",
        "log_type: sqlit\nagent_type: vanila\nagent_configs:\n  a:\n    prompt: far/away\n    tools: [serch]\n"
        "    format: os:Nothing\n    model: opnai/x\n  b: {model: scripted, prompts: [demo/tsk]}\n",
    )
    lines = [problem.message.partition(" ")[0] for problem in check(load_config(file))]
    assert lines == [f"a.yaml:{line}:" for line in (1, 2, 5, 6, 7, 8, 9)]
    with pytest.raises(ConfigError, match=r"^7 problems in the configuration:\n  a\.yaml:1: no store"):
        build_agent(file)


def test_what_stands_elsewhere_is_no_mistake(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint of the environment, or of the model that --model replaces, is not for a model in this process."""
    file = write(
        "a.yaml", "base_url: http://localhost:1/v1\nmodel: openai/x\nagent_configs: {a: {api_key_env: NO}}"
    )
    config = load_config(file)
    assert check(config, model="embedded") == []
    assert build_agent(config, model="embedded").agents["a"].model == "embedded"
    assert build_agent(file, overrides=["model=embedded"]).agents["a"].model == "embedded"
    file = write("b.yaml", "model: embedded\nagent_configs: {a: {}}")
    monkeypatch.setenv("API_URL", "http://localhost:1/v1")
    monkeypatch.setenv("LLLM_CONCURRENCY", "2")
    assert check(load_config(file)) == []
    assert build_agent(file).agents["a"].model == "embedded"


def test_an_agent_is_called_with_its_prompts_and_no_others(write: Write) -> None:
    text = "agent_type: vanilla\nagent_configs: {a: {prompt: demo/task, prompts: [demo/two]}}"
    model = ScriptedBackend(["one", "two", "three", "four"])
    agent = build_agent(write("a.yaml", text), model=model, log_base=MemoryLog()).agents["a"]
    assert agent.call(None, {"task": "x"}).content == "one"
    assert agent.call("demo/two", {"task": "x", "language": "Finnish"}).content == "two"
    assert agent.call("just text").content == "three"
    for prompt in ("demo/tool", Prompt("demo/mine", "x")):
        with pytest.raises(ConfigError, match="no prompt of the agent 'a' named 'demo/"):
            agent.call(prompt)
    free = build_agent("a.yaml", model=model, overrides=["agent_configs.a.prompts=[]"], log_base=MemoryLog())
    assert free.agents["a"].call(Prompt("demo/mine", "x")).content == "four"


def test_a_tool_may_be_named_by_its_module(write: Write) -> None:
    file = write("a.yaml", "agent_configs: {a: {model: scripted, tools: ['textwrap:dedent']}}")
    assert [tool.name for tool in build_agent(file).agents["a"].tools] == ["dedent"]


def test_what_a_constructor_refuses_is_found_without_a_run(write: Write) -> None:
    class Picky(AgentBase):
        agent_type = "picky"

        def __init__(self, config: Any, ckpt_dir: Any, stream: Any) -> None:
            super().__init__(config, ckpt_dir, stream)
            if "depth" not in self.config.settings:
                raise ConfigError("settings.depth is missing")
            self.depth = 10 // self.config.settings["depth"]

    config = load_config({"agent_type": "picky"})
    assert [problem.message for problem in check(config)] == ["settings.depth is missing"]
    (problem,) = check(load_config({"agent_type": "picky", "settings": {"depth": 0}}))
    assert "the system 'picky' cannot be built: ZeroDivisionError" in problem.message
    assert check(load_config({"agent_type": "picky", "settings": {"depth": 2}})) == []


def test_a_package_that_is_missing(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    for extra in ("local", "llama-cpp", "transformers"):  # any of them would do
        monkeypatch.setitem(EXTRAS, extra, ("no_such_package",))
    file = write("a.yaml", "log_type: none\nmodel: embedded\nagent_configs: {a: {}}")
    (problem,) = check(load_config(file))
    assert problem.message.startswith(
        "a.yaml:2: the backend 'embedded' needs the package 'no_such_package', which is not installed"
    )
    assert problem.hint == (
        "The extra lllm[local] brings it. Type: pip install gguf xllamacpp\n"
        "  Or name another model: LLLM_MODEL=openai/gpt-4o-mini, with OPENAI_API_KEY."
    )
    with pytest.raises(ConfigError, match="no_such_package"):
        build_agent(file)


@pytest.mark.parametrize("strict", ["", "strict = true\n"])
def test_discovery_is_part_of_it(write: Write, strict: str) -> None:
    name = (
        "strict_prompts" if strict else "loose_prompts"
    )  # a module's name is Python's for the whole process
    write("lllm.toml", f"[discovery]\n{strict}prompts = ['{name}', 'missing']\n[log]\ntype = 'none'")
    write(f"{name}/a.py", "1 / 0")
    found = check(load_project())
    line = 3 if strict else 2
    assert [problem.message for problem in found] == [
        f"{name}/a.py:1: does not import: ZeroDivisionError: division by zero",
        f"lllm.toml:{line}: no such folder: missing",
    ]
    assert {problem.severity for problem in found} == {"error" if strict else "warning"}
    system = {"agent_configs": {"a": {"model": "scripted"}}}
    if strict:
        with pytest.raises(ConfigError, match="2 problems in the configuration"):
            build_agent(system)
    else:
        assert build_agent(system).agents


def test_disarmed_it_executes_nothing(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLLM_AUTO_DISCOVER", "0")
    write("lllm.toml", "[discovery]\nprompts = ['checked_prompts']\n[log]\ntype = 'none'")
    write("checked_prompts/b.py", "raise SystemExit('executed')")
    (problem,) = check(load_project())
    assert (problem.severity, "discovery is off" in problem.message) == ("warning", True)


def test_warnings_are_part_of_it() -> None:
    (problem,) = check(load_config({"log_type": "none"}, environ={"LLLM_MODLE": "x"}))
    assert problem.severity == "warning"


def test_a_model_of_the_command_line_is_not_blamed_on_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lllm.llm.assembly import assemble

    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "API_KEY", "OPENAI_BASE_URL", "API_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "lllm.toml").write_text("")
    file = tmp_path / "a.yaml"
    file.write_text("agent_configs:\n  a:\n    model_name: openai/gpt-4o\n")
    [problem] = assemble(load_config(file), system=False).problems.errors
    assert (problem.where, "no API key" in problem.message) == ("a.yaml:3", True)
    [problem] = assemble(load_config(file), model="openai/gpt-4o-mini", system=False).problems.errors
    assert (problem.where, "no API key" in problem.message) == (None, True)
