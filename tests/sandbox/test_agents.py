"""Agents with a sandbox, made in Python and in YAML."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lllm import LLM, Agent, FunctionCall, MemoryLog, Prompt, ScriptedBackend, build_agent, load_config
from lllm.errors import ConfigError, SandboxUnavailable
from lllm.llm.build import check
from lllm.sandbox import JupyterSession


def python(code: str) -> FunctionCall:
    return FunctionCall("", "python", json.dumps({"code": code}))


def results(backend: ScriptedBackend) -> list[str]:
    return [message.text for message in backend.requests[-1].messages if message.role == "tool"]


def test_a_session_of_your_own(tmp_path: Path) -> None:
    backend = ScriptedBackend([python("x = 20"), python("x + 1"), "21"])
    with JupyterSession("mine", tmp_path) as notebook:
        agent = Agent("coder", backend, sandbox=notebook)
        assert [tool.name for tool in agent.tools] == ["python", "shell", "files"]
        assert agent("go").content == "21"
        assert results(backend) == ["[no output]", "21"]
        assert [cell["source"] for cell in notebook.get_cells()] == ["x = 20", "x + 1"]


def test_each_session_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lllm.toml").write_text('[sandbox]\ndir = "books"\n')
    backend = ScriptedBackend([python("x = 20"), "done", python("print(x)"), "done"])
    agent = Agent("coder", backend, sandbox="jupyter", store=MemoryLog())
    first, second = agent("one"), agent("two")
    assert "NameError" in results(backend)[0]
    assert {path.parent.name for path in Path("books").glob("*/coder.ipynb")} == {
        first.session,
        second.session,
    }


def test_a_model_that_writes_code(tmp_path: Path) -> None:
    backend = ScriptedBackend(["I see.\n```python\n6 * 7\n```", "```bash\necho $((6 * 7))\n```", "42"])
    with JupyterSession("mine", tmp_path) as notebook:
        agent = Agent("coder", backend, sandbox=notebook, tool_style="code")
        assert [tool.name for tool in agent.tools] == ["python", "shell"]
        assert agent("go").content == "42"
    texts = [message.text for message in backend.requests[-1].messages if message.text.startswith("Output:")]
    assert texts == ["Output:\n42", "Output:\n42"]


def test_code_that_cannot_be_compiled_gives_its_line(tmp_path: Path) -> None:
    backend = ScriptedBackend(["```python\nx = 1\nfor i in x\n    pass\n```", "done"])
    with JupyterSession("mine", tmp_path) as notebook:
        Agent("coder", backend, sandbox=notebook, tool_style="code")("go")
    seen = backend.requests[-1].messages[-1].text
    assert "Cell In[1], line 2" in seen
    assert "SyntaxError: expected ':'" in seen


def test_of_a_prompt(tmp_path: Path) -> None:
    backend = ScriptedBackend([python("6 * 7"), "42"])
    with JupyterSession("mine", tmp_path) as notebook:
        prompt = Prompt("count/it", "Count {what}.", functions=[notebook])
        assert Agent("coder", backend).call(prompt, {"what": "sheep"}).content == "42"
    assert results(backend) == ["42"]


@pytest.mark.parametrize("sandbox", [None, "", False])
def test_none(sandbox: Any) -> None:
    assert Agent("a", ScriptedBackend([]), sandbox=sandbox).tools == ()
    assert Agent("a", ScriptedBackend([])).with_(sandbox=sandbox).tools == ()


@pytest.mark.parametrize(
    ("sandbox", "words"),
    [
        ("jupiter", "no sandbox named 'jupiter'"),
        (3, "sandbox must be a JupyterSession or the name of a registered sandbox, got 3"),
        (JupyterSession, "sandbox must be a JupyterSession"),
    ],
)
def test_what_cannot_be_is_refused(sandbox: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Agent("a", ScriptedBackend([]), sandbox=sandbox)


def test_an_llm_has_none() -> None:
    with pytest.raises(ConfigError, match="an LLM has no 'sandbox'"):
        LLM(ScriptedBackend([]), sandbox="jupyter")


def test_a_call_cannot_bring_one() -> None:
    agent = Agent("a", ScriptedBackend(["x"]))
    with pytest.raises(ConfigError, match="'sandbox' is not a sampling value"):
        agent("go", sandbox="jupyter")


def test_a_tier_that_is_not_offered_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LLLM_SANDBOX_TIER", raising=False)
    config = load_config({"agent_type": "coder", "model": "scripted", "sandbox": {"tier": "container"}})
    [problem] = [one for one in check(config) if one.severity == "error"]
    assert "there is no sandbox of tier 'container'" in str(problem.error)
    with pytest.raises(ConfigError, match="tier 'container'"):
        build_agent(config, model=ScriptedBackend([]))
    notebook = JupyterSession(tier="container", required=True)
    notebook.append_code_cell("1")
    with pytest.raises(SandboxUnavailable):
        notebook.run_cell(0)


def test_files_that_are_not_there_are_named() -> None:
    config = load_config({"agent_type": "coder", "model": "scripted", "sandbox": {"files": ["nowhere"]}})
    [problem] = [one for one in check(config) if one.severity == "error"]
    assert "sandbox.files: no such file" in str(problem.error)


def test_a_file_that_is_too_large_is_named(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.touch()
    os.truncate(large, 17 * 2**20)
    config = load_config({"agent_type": "coder", "model": "scripted", "sandbox": {"files": [str(large)]}})
    [problem] = [one for one in check(config) if one.severity == "error"]
    assert "has more than 16,777,216 bytes" in str(problem.error)


def test_hidden_files_and_links_out_of_the_folder_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("data/a.txt", "data/.secret", "data/.git/config", "data/below/b.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    Path("data/link").symlink_to(tmp_path / "lllm.toml")
    Path("lllm.toml").write_text("")
    outside = tmp_path.parent / f"{tmp_path.name}-outside.txt"
    outside.write_text("outside")
    backend = ScriptedBackend([FunctionCall("", "files", '{"action": "list"}'), "done"])
    config = {"agent_type": "coder", "sandbox": {"files": ["data", str(outside)]}}
    build_agent(config, model=backend, log_base=MemoryLog())("go")
    assert results(backend) == [f"data/\n  a.txt\n  below/\n    b.txt\n{outside.name}"]
