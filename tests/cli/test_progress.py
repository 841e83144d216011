"""The progress shown during a run; its answer is printed once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import cashier
from tests.cli.screen import Screen


@pytest.fixture
def shop(demo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cashier.install(demo)
    monkeypatch.delenv("LLLM_MODEL")
    return demo


def piped(shop: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lllm", *words], cwd=shop, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


TROUBLE = {
    "boom": "failed: boom: kaputt \\x1b[2J\n",
    "limited": "vanilla: slow down (429); waiting 0.3 s\n" * 2,
    "untagged": "vanilla: reply rejected: missing required tag <answer>; asking again\n",
}


@pytest.mark.parametrize("task", TROUBLE)
def test_what_does_not_go_well_is_said_in_a_pipe(shop: Path, task: str) -> None:
    done = piped(shop, "run", task)
    assert (done.returncode, done.stderr) == (0, TROUBLE[task])


def test_what_goes_well_is_not(shop: Path) -> None:
    done = piped(shop, "run", "hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, "You said: hello\n", "")


def test_quiet_says_nothing(shop: Path) -> None:
    done = piped(shop, "run", "boom", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    with Screen("run", "hello", "--quiet", cwd=shop) as screen:
        assert screen.end() == 0
    assert screen.all == "You said: hello\r\n"


def test_an_error_is_said_once(shop: Path) -> None:
    done = piped(shop, "run", "down")
    assert done.returncode == 1
    assert done.stderr.count("out of order") == 1


def test_a_terminal_shows_who_asks_which_model_and_the_tools(shop: Path) -> None:
    with Screen("run", "pay Ann", "--approve", "all", cwd=shop) as screen:
        screen.see("vanilla on cashier/m")
        screen.see('→ pay({"amount": 1, "to": "Ann"})')
        screen.see("← pay: paid 1 to Ann")
        assert screen.end() == 0
    with Screen("run", "other", cwd=shop) as screen:
        screen.see("vanilla: answered by big-model-2026")
        assert screen.end() == 0


@pytest.mark.parametrize("tags", [True, False], ids=["tags", "plain"])
@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_the_answer_is_printed_once(shop: Path, tags: bool, term: str) -> None:
    if not tags:
        cashier.plain(shop)
    with Screen("run", "hello there", cwd=shop, TERM=term) as screen:
        screen.see("You said: hello there")
        assert screen.end() == 0
    assert screen.all.count("You said: hello there") == 1


def test_a_remark_below_the_answer_does_not_print_it_again(shop: Path) -> None:
    cashier.plain(shop)
    with Screen("run", "other", cwd=shop) as screen:
        screen.see("answered by big-model-2026")
        assert screen.end() == 0
    assert screen.all.count("You said: other") == 1


def test_the_answer_is_in_the_pipe(shop: Path, tmp_path: Path) -> None:
    cashier.plain(shop)
    for words in ([], ["--stream"], ["--json"]):
        with (
            (tmp_path / "out").open("wb") as out,
            Screen("run", "hello there", *words, cwd=shop, stdout=out) as screen,
        ):
            assert screen.end() == 0
        assert (tmp_path / "out").read_text().count("You said: hello there") == 1
        assert screen.all.count("You said: hello there") == ("--stream" in words)


def test_a_fork_says_what_is_from_the_log(shop: Path) -> None:
    assert piped(shop, "run", "pay Ann", "--approve", "all").returncode == 0
    with Screen("fork", cwd=shop) as screen:
        screen.see("vanilla: from the log")
        screen.see("← pay (from the log): paid 1 to Ann")
        assert screen.end() == 0
    assert (shop / "paid.txt").read_text() == "Ann 1\n"


TEAM = """
import lllm
from lllm import FunctionCall


def boss(request):
    last = request.messages[-1]
    return f"Done: {last.text}" if last.role == "tool" else FunctionCall("", "expert", '{"task": "think"}')


class Team(lllm.AgentBase):
    agent_type = "team"
    agent_group = ["boss", "expert"]

    def call(self, task, **more):
        return self.agents["boss"].with_(tools=[self.agents["expert"]]).call(task).content


lllm.registry.add("backend", "boss", lambda: lllm.ScriptedBackend(boss, chunk=3))
lllm.registry.add("backend", "expert", lambda: lllm.ScriptedBackend(lambda request: "a thought", chunk=3))
"""


def test_an_agent_that_is_a_tool_is_heard_once(tmp_path: Path) -> None:
    (tmp_path / "team.py").write_text(TEAM)
    (tmp_path / "lllm.toml").write_text('[discovery]\nagents = ["team.py"]\n[run]\ndefault = "team.yaml"\n')
    (tmp_path / "team.yaml").write_text(
        "agent_type: team\nagent_configs:\n  boss: {model_name: boss/m}\n"
        "  expert: {model_name: expert/m, description: Thinks.}\n"
    )
    with Screen("run", "go", cwd=tmp_path) as screen:
        screen.see("expert on expert/m")
        assert screen.end() == 0
    assert screen.all.count("a thought") == 2, "once from the expert, and once within the boss's answer"
    assert screen.all.count("Done: a thought") == 1
