"""`lllm run`: one task, one session, one answer, and one clear line where there is none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lllm.models import FunctionCall
from lllm.registry import registry
from tests.cli.conftest import Terminal


def test_json_is_one_object_with_session_status_result_usage_and_cost(lllm: Terminal, demo: Path) -> None:
    result = lllm("run", "What is 17 times 23?", "--json")
    assert result.code == 0
    assert list(result.json) == ["session", "status", "result", "usage", "cost"]
    assert (result.json["status"], result.json["result"]) == ("done", "391")
    assert result.json["usage"]["prompt"] > 0
    assert result.err == "", "nothing is said in a pipe"
    shown = lllm("show", result.json["session"], "--json").json
    assert [row["text"] for row in shown["transcript"] if row["kind"] == "result"] == ["391"]
    assert (shown["usage"], shown["cost"]) == (result.json["usage"], result.json["cost"])


def test_the_result_alone_without_json(lllm: Terminal, demo: Path) -> None:
    result = lllm("run", "What is 17 times 23?")
    assert (result.code, result.out, result.err) == (0, "391\n", "")


def test_an_unknown_price_is_null_and_not_zero(lllm: Terminal, demo: Path) -> None:
    assert lllm("run", "x", "--json").json["cost"] is None


@pytest.mark.parametrize("words", [["-"], []])
def test_the_task_can_come_from_stdin(lllm: Terminal, demo: Path, words: list[str]) -> None:
    assert lllm("run", *words, stdin="What is 17 times 23?\n").code == 0
    assert lllm.backends[-1].requests[0].messages[-1].text.startswith("What is 17 times 23?\n\nUse the tools")


@pytest.mark.parametrize("stdin", ["", " \n"])
def test_an_empty_task_is_a_usage_error(lllm: Terminal, demo: Path, stdin: str) -> None:
    result = lllm("run", stdin=stdin)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: the task is empty")
    assert lllm("run", "").code == 2


@pytest.mark.parametrize("task", ["a/b/c", "emoji 🦆 'quoted' \"twice\"", "{task} {x}", "x" * 10_000])
def test_any_task_is_a_session(lllm: Terminal, demo: Path, task: str) -> None:
    session = lllm("run", task, "--json").json["session"]
    assert lllm("show", session, "--json").json["transcript"][0]["text"] == task
    assert lllm("replay", session, "--json").json["verified"] is True


def test_no_log_keeps_nothing_and_changes_nothing_else(lllm: Terminal, demo: Path) -> None:
    result = lllm("run", "x", "--no-log", "--json")
    assert (result.code, result.json["session"], result.json["result"]) == (0, None, "391")
    assert result.json["usage"]["completion"] > 0
    assert not (demo / ".lllm").exists()


def test_a_session_can_be_named(lllm: Terminal, demo: Path) -> None:
    session = lllm("run", "x", "--session-name", "Monday's run", "--json").json["session"]
    assert "monday-s-run" in session
    assert lllm("sessions", "--json").json[0]["name"] == "Monday's run"


def test_settings_of_the_command_line_hold_for_the_replay_too(lllm: Terminal, demo: Path) -> None:
    words = [
        "--set",
        "agent_configs.vanilla.temperature=0.5",
        "--set",
        "max_tokens=99",
        "--model",
        "good/other",
    ]
    session = lllm("run", "x", *words, "--json").json["session"]
    assert lllm.backends[-1].requests[0].sampling == {"temperature": 0.5, "max_tokens": 99}
    assert lllm.backends[-1].requests[0].model == "other"
    assert lllm("replay", session, "--json").json["verified"] is True


def test_a_profile_holds_for_the_replay_too(lllm: Terminal, demo: Path) -> None:
    with (demo / "lllm.toml").open("a") as toml:
        toml.write('\n[profiles.warm]\n"agent_configs.vanilla.temperature" = 0.9\n')
    session = lllm("run", "x", "--profile", "warm", "--json").json["session"]
    assert lllm.backends[-1].requests[0].sampling["temperature"] == 0.9
    assert lllm("replay", session, "--json").json["verified"] is True


def test_without_any_configuration_there_is_a_plain_agent(
    lllm: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLLM_MODEL", "plain/model")
    lllm.scripts["plain"] = lambda: ["Hello."]
    result = lllm("run", "Say hello.", "--json")
    assert result.json["result"] == "Hello."
    assert lllm("replay", "--last", "--json").json["verified"] is True


def test_progress_is_shown_on_stderr_where_it_is_wanted(lllm: Terminal, demo: Path) -> None:
    result = lllm("run", "x", "--stream", "--json")
    assert result.json["result"] == "391"
    assert "→ calculate" in result.err
    assert "17 times 23 is <answer>391</answer>." in result.err


def test_what_a_project_prints_does_not_spoil_the_json(lllm: Terminal, demo: Path) -> None:
    change(
        demo / "system/agent/agent.py",
        "        reply =",
        '        print("hello from the project")\n        reply =',
    )
    result = lllm("run", "x", "--json")
    assert result.json["result"] == "391"
    assert "hello from the project" in result.err
    assert lllm("run", "x").out == "hello from the project\n391\n"


# --- what is wrong is said in one line, with the right code ----------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--model", "nosuch/model"], "no backend named 'nosuch'"),
        (["--model", "nosuch"], "names no provider"),
        (["--model", "openai/"], "openai"),
        (["--set", "agent_configs.vanilla.temprature=1"], "Did you mean 'temperature'?"),
        (["--set", "agent_configs.vanila.temperature=1"], "Did you mean 'vanilla'?"),
        (["--set", "temperature"], "key=value"),
        (["--set", "temperature=hot"], "temperature"),
        (["--profile", "nosuch"], "no profile named 'nosuch'"),
        (["--config", "config/demo/defualt.yaml"], "default.yaml"),
        (["--config", "lllm.toml"], "lllm.toml"),
        (["--config", "."], "."),
        (["--nosuch"], "--nosuch"),
        (["a second task"], "Type: lllm run --help"),
    ],
)
def test_usage_and_configuration_errors_exit_with_2(
    lllm: Terminal, demo: Path, words: list[str], says: str
) -> None:
    result = lllm("run", "x", *words)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1, "one line"
    assert says in result.err
    answer = lllm("run", "x", *words, "--json")
    assert answer.code == 2
    assert answer.json["status"] == "failed"
    assert says.partition("'")[0] in f"{answer.json['error']['message']} {answer.json['error']['hint']}"
    assert answer.json["session"] is None


@pytest.mark.parametrize(
    ("file", "text", "place"),
    [
        ("config/demo/default.yaml", "agent_type: [", "config/demo/default.yaml:"),
        (
            "config/demo/default.yaml",
            "agnet_type: vanilla",
            "config/demo/default.yaml:1: unknown key 'agnet_type'",
        ),
        (
            "config/demo/default.yaml",
            "agent_type: vanila",
            "config/demo/default.yaml:1: no agent named 'vanila'",
        ),
        ("lllm.toml", "[project", "lllm.toml:1"),
        ("lllm.toml", "[projcet]\nname = 'x'", "lllm.toml:1: unknown key 'projcet'"),
        ("lllm.toml", "[run]\ndefault = 'nosuch.yaml'", "no such file: nosuch.yaml"),
    ],
)
def test_a_broken_file_is_named_with_its_line(
    lllm: Terminal, demo: Path, file: str, text: str, place: str
) -> None:
    (demo / file).write_text(text)
    result = lllm("run", "x")
    assert (result.code, result.out) == (2, "")
    assert place in result.err
    assert "Traceback" not in result.err


def test_a_missing_prompt_is_named_with_its_key(lllm: Terminal, demo: Path) -> None:
    change(demo / "config/demo/default.yaml", '"demo/system"', '"demo/sytsem"')
    result = lllm("run", "x")
    assert result.code == 2
    assert "config/demo/default.yaml" in result.err
    assert "Did you mean 'demo/system'?" in result.err


def test_an_endpoint_that_refuses_connections_exits_with_1(
    lllm: Terminal, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-key")
    result = lllm("run", "x", "--model", "openai/x", "--set", "max_provider_retry=0", "--json")
    assert result.code == 1
    assert result.json["error"]["type"] == "ProviderFailed"
    assert "http://127.0.0.1:9" in result.json["error"]["message"]
    session = result.json["session"]
    assert f"lllm show {session}" in result.err
    assert "sk-very-secret-key" not in result.out + result.err
    shown = lllm("show", session, "--json")
    assert (shown.code, shown.json["status"]) == (0, "failed")
    assert lllm("replay", session, "--json").json["verified"] is True


def test_a_task_that_is_no_text(lllm: Terminal, demo: Path) -> None:
    result = lllm("run", os.fsdecode(b"\xff"))
    assert (result.code, result.err) == (2, "error: the task is not UTF-8 text\n")


def test_a_log_that_cannot_be_written_is_named_and_nothing_is_done(lllm: Terminal, demo: Path) -> None:
    (demo / "taken").write_text("a file")
    result = lllm("run", "x", "--set", "log.dir=taken")
    assert result.code == 1
    assert "taken/sessions.db could not be written" in result.err
    assert "lllm show" not in result.err
    assert lllm.backends[-1].requests == []


def test_a_run_that_fails_names_its_session(lllm: Terminal, demo: Path) -> None:
    lllm.scripts["deaf"] = lambda: ["no tags"] * 9
    result = lllm("run", "x", "--model", "deaf/m", "--json")
    assert result.code == 1
    assert result.json["error"]["type"] == "RepairExhausted"
    assert lllm("sessions", "--json").json[0] == {
        **lllm("sessions", "--json").json[0], "session": result.json["session"], "status": "failed"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"content": "", "refusal": "I will not."}, "RepairExhausted"),
        ({"content": "", "finish_reason": "content_filter"}, "RepairExhausted"),
        ({"content": "", "finish_reason": "length"}, "RepairExhausted"),
        ({"content": "", "thinking": "hm"}, "RepairExhausted"),
        ({"content": "half", "finish_reason": "error"}, "ProviderFailed"),
    ],
)
def test_an_agent_without_a_prompt_does_not_end_well_with_nothing(
    lllm: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: dict[str, str], error: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lllm.toml").write_text('[run]\ndefault = "plain.yaml"\n')
    (tmp_path / "plain.yaml").write_text(
        "name: plain\nagent_configs:\n  one:\n    model_name: plain/m\n    backoff_base: 0\n"
    )
    lllm.scripts["plain"] = lambda: [said] * 9
    result = lllm("run", "x", "--json")
    assert (result.code, result.json["error"]["type"]) == (1, error)


def test_a_fault_in_the_project_is_told_with_file_and_line(lllm: Terminal, demo: Path) -> None:
    change(demo / "system/agent/agent.py", "        reply =", "        task.nosuch()\n        reply =")
    result = lllm("run", "x")
    assert (result.code, result.out) == (1, "")
    assert "AttributeError: 'str' object has no attribute 'nosuch' (system/agent/agent.py:15)" in result.err
    assert "lllm show" in result.err
    assert "Traceback" not in result.err
    assert "Traceback" in lllm("run", "x", "--debug").err
    assert "Traceback" in lllm("--debug", "run", "x").err


def test_the_traceback_can_be_asked_for_by_the_environment(
    lllm: Terminal, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Traceback" not in lllm("run", "x", "--model", "nosuch/m").err
    monkeypatch.setenv("LLLM_DEBUG", "1")
    result = lllm("run", "x", "--model", "nosuch/m")
    assert "Traceback" in result.err
    assert "unknown key" not in result.err


def test_a_tool_that_raises_is_no_error_of_the_run(lllm: Terminal, demo: Path) -> None:
    lllm.scripts["clumsy"] = lambda: [
        FunctionCall("", "calculate", '{"expression": "1/0"}'), "<answer>nothing</answer>"
    ]  # fmt: skip
    assert lllm("run", "x", "--model", "clumsy/m").out == "nothing\n"
    assert lllm.backends[-1].requests[1].messages[-1].text == "error: division by zero"


def test_keys_stay_out_of_errors(lllm: Terminal, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "hunter2-hunter2")
    (demo / ".env").write_text("OTHER_TOKEN=from-the-dotenv-file\n")
    leak = '        raise RuntimeError("hunter2-hunter2 and from-the-dotenv-file")\n        reply ='
    change(demo / "system/agent/agent.py", "        reply =", leak)
    for words in (["--json"], ["--debug"]):
        result = lllm("run", "x", *words)
        assert result.code == 1
        assert "hunter2" not in result.out + result.err
        assert "dotenv-file" not in result.out + result.err


def test_ctrl_c_within_a_tool(lllm: Terminal, demo: Path) -> None:
    change(
        demo / "system/agent/agent.py", "        reply =", "        raise KeyboardInterrupt\n        reply ="
    )
    result = lllm("run", "x", "--json")
    assert result.code == 130
    assert result.json["status"] == "cancelled"
    assert "Traceback" not in result.err
    assert lllm("show", result.json["session"], "--json").json["status"] == "cancelled"


def test_ctrl_c_while_a_model_is_asked(demo: Path) -> None:
    (demo / "system/agent/slow.py").write_text(
        "import asyncio\nimport pathlib\n\nimport lllm\n\n\n"
        "async def slow(request):\n    pathlib.Path('asked').touch()\n    await asyncio.sleep(600)\n\n\n"
        "lllm.registry.add('backend', 'slow', lambda: lllm.ScriptedBackend(slow))\n"
    )
    change(demo / "lllm.toml", '"system/agent/agent.py"', '"system/agent/agent.py", "system/agent/slow.py"')
    process = subprocess.Popen(
        [sys.executable, "-m", "lllm", "run", "x", "--model", "slow/m", "--json"],
        cwd=demo, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    while not (demo / "asked").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, out + err
    assert "Traceback" not in err
    command = [sys.executable, "-m", "lllm", "replay", "--last", "--json"]
    done = subprocess.run(command, cwd=demo, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, '"verified": true' in done.stdout) == (0, True), done.stdout + done.stderr


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_the_default_file_may_be_set(lllm: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty default file is refused, and not replaced by a plain agent without a word."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lllm.toml").write_text("[run]\ndefault = 'empty.yaml'\n[log]\ntype = 'none'\n")
    (tmp_path / "empty.yaml").write_text("temperature: 1\n")
    (tmp_path / "none.toml").write_text("")
    for command in (("run", "x"), ("check",)):
        result = lllm(*command)
        assert result.code == 2
        assert (
            "empty.yaml: the built-in system runs the agents of agent_configs, and none is declared"
            in result.err
        )
    (tmp_path / "lllm.toml").write_text("[log]\ntype = 'none'\n")
    result = lllm("run", "x", "--set", "run.default=empty.yaml")
    assert (result.code, "empty.yaml: the built-in system" in result.err) == (2, True)


def test_check_takes_the_model_of_a_run(
    lllm: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(
        "base_url: http://localhost:1/v1\nmodel: openai/x\nagent_configs: {a: {}}\n"
    )
    assert lllm("check", "a.yaml", "--model", "embedded").code == 0
    result = lllm("run", "17 * 23", "--config", "a.yaml", "--model", "embedded", "--no-log")
    assert result.code == 0, result.err
    assert lllm("check", "a.yaml", "--config", "a.yaml").code == 2


def test_list_agents_names_the_system(
    lllm: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("name: shop\ndescription: Sells tea.\nagent_configs: {a: {}}\n")
    rows = lllm("list", "agents", "--config", "a.yaml", "--json").json
    assert {
        "kind": "system",
        "name": "shop",
        "summary": "a system of 1 agents. Sells tea.",
        "source": "a.yaml:1",
    } in rows
    (tmp_path / "lllm.toml").write_text("[project]\nname = 'tea house'\n")
    assert "the project 'tea house'" in lllm("doctor").out


def test_what_is_set_of_discovery_counts(
    lllm: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lllm.toml").write_text("[log]\ntype = 'none'\n")
    (tmp_path / "set_tools.py").write_text(
        'from lllm import tool\n\n@tool\ndef mine(x: int) -> int:\n    """Mine."""\n    return x\n'
    )
    sets = ("--set", "discovery.tools=[set_tools.py]", "--set", "agent_configs.assistant.tools=[mine]")
    with registry.scope() as names:
        names.arm()
        result = lllm("run", "17 * 23", "--model", "embedded", *sets)
        assert result.code == 0, result.err
    with registry.scope() as names:
        names.arm()
        assert lllm("check", *sets).code == 0
    with registry.scope() as names:
        names.arm()
        assert lllm("run", "17 * 23", "--model", "embedded", *sets[2:]).code == 2


def test_options_that_exclude_each_other(lllm: Terminal, demo: Path) -> None:
    assert lllm("run", "What is 17 times 23?").code == 0
    for words in (
        ("run", "x", "--resume-last", "--no-log"),
        ("show", "--json", "--markdown"),
        ("show", "--events", "--markdown"),
    ):
        assert lllm(*words).code == 2, words
