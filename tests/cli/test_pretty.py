"""`--pretty`: panels on a terminal and in a pipe, and the questions among them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lllm.log import SQLiteLog
from lllm.log.views import load, transcript
from tests.cli import cashier
from tests.cli.conftest import Terminal
from tests.cli.screen import Screen
from tests.cli.test_run import change

BRANCHES = [f"payer in stage 1/1/{name}" for name in ("left", "mid", "right")]
ASKS = "Let it run? [y]es, [n]o, [a]lways, or no and the reason: "
TEAM = """
name: team
model: twins/m
agent_configs:
  payer: {tools: [pay], prompt: "{task}"}
steps:
  - parallel: {left: payer, mid: payer, right: payer}
  - join: desk.payments:merge
"""
CODE = '''
import lllm
from lllm import FunctionCall, Reply


@lllm.tool(approval=True, effect="never")
def pay(to: str) -> str:
    """Pay somebody."""
    with open("paid.txt", "a") as file:
        file.write(to + "\\n")
    return f"paid {to}"


def merge(left, mid, right) -> str:
    return f"{left} | {mid} | {right}"


def answer(request):
    if request.messages[-1].role == "tool":
        return request.messages[-1].text
    return Reply("I pay.", thinking="whom?", tool_calls=(FunctionCall("call_0", "pay", '{"to": "Ann"}'),))


lllm.registry.add("backend", "twins", lambda: lllm.ScriptedBackend(answer, chunk=3))
'''


@pytest.fixture
def shop(demo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cashier.install(demo)
    monkeypatch.delenv("LLLM_MODEL")
    monkeypatch.delenv("COLUMNS", raising=False)
    return demo


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("COLUMNS", raising=False)
    root = tmp_path / "team"
    (root / "desk").mkdir(parents=True)
    (root / "desk/payments.py").write_text(CODE)
    (root / "desk/team.yaml").write_text(TEAM)
    (root / "lllm.toml").write_text('[discovery]\ntools = ["desk"]\n\n[run]\ndefault = "desk/team.yaml"\n')
    return root


class Raw(Screen):
    """Keeps what the terminal was sent."""

    raw = b""

    def _take(self, read: bytes) -> None:
        self.raw += read
        super()._take(read)


def run(root: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lllm", *words], cwd=root, stdin=subprocess.DEVNULL, env={**os.environ, **environment},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def whole(text: str) -> int:
    """Counts the panels: each begins after the end of the one before."""
    depth = count = 0
    for line in text.replace("\r\n", "\n").split("\n"):
        depth += line.startswith("╭") - line.startswith("╰")
        count += line.startswith("╭")
        assert depth in (0, 1), text
        assert not depth or line.startswith(("╭", "│")), f"in a panel: {line!r}"
    assert depth == 0
    return count


def test_stdout_has_the_result_alone(shop: Path) -> None:
    done = run(shop, "run", "boom", "--pretty", TERM="xterm-256color", FORCE_COLOR="1")
    assert done.returncode == 0
    assert done.stdout == "tools: error: kaputt \x1b[2J\n"
    assert "\x1b" not in done.stderr, "a pipe has no colours"
    assert whole(done.stderr) >= 5
    for part in (
        "task of demo",
        "vanilla calls boom",
        "boom failed → vanilla",
        r"kaputt \x1b[2J",
        "session done",
    ):
        assert part in done.stderr
    off = run(shop, "run", "boom")
    assert "╭" not in off.stderr, "off by default"
    as_json = run(shop, "run", "boom", "--pretty", "--json")
    assert as_json.stdout.count("\n") == 1
    assert whole(as_json.stderr) >= 5


def test_the_log_shows_the_same_panels(shop: Path) -> None:
    live = run(shop, "run", "pay Ann", "--pretty", "--approve", "all")
    shown = run(shop, "show", "--pretty")
    assert shown.returncode == 0
    assert shown.stdout == live.stderr
    followed = run(shop, "show", "--pretty", "--follow")
    assert followed.stdout == live.stderr
    streamed = run(shop, "run", "pay Ann", "--pretty", "--approve", "all", "--stream")
    assert run(shop, "show", "--pretty").stdout == streamed.stderr
    plain = re.sub(r"\d\.\d{3} s|─+", "", streamed.stderr)
    assert plain == re.sub(r"\d\.\d{3} s|─+", "", live.stderr), "streamed or not, the panels are the same"


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({"TERM": "xterm", "NO_COLOR": "1"}, False)],
)
def test_colours_where_there_are_some(shop: Path, variables: dict[str, str], coloured: bool) -> None:
    words = ("run", "pay Ann", "--pretty", "--approve", "none")
    with Raw(*words, cwd=shop, columns=50, **variables) as screen:  # type: ignore[arg-type]
        assert screen.end() == 0
    shown = [line.rpartition("\r")[2] for line in screen.all.replace("\r\n", "\n").split("\n")]
    assert {len(line) for line in shown if line.startswith(("╭", "│", "╰"))} == {50}
    assert isinstance(screen, Raw)
    assert (b"\x1b" in screen.raw) is coloured


def test_questions_stand_between_panels_and_say_whose_they_are(team: Path) -> None:
    with Screen("run", "go", "--pretty", cwd=team) as screen:
        for answer in ("y", "n", "n"):
            screen.see("wants to run pay")
            screen.see('| to: "Ann"')
            screen.see(ASKS)
            assert "╭" not in screen.shown, "nothing stands between a question and its answer"
            screen.type(f"{answer}\n")
        assert screen.end() == 0
    text = screen.all.replace("\r\n", "\n")
    asked = re.findall(r"(payer in stage \S+) wants to run pay", text)
    assert sorted(asked) == BRANCHES
    assert whole(text) >= 8
    assert (team / "paid.txt").read_text() == "Ann\n"
    assert text.count("payer thinks") == 3
    assert text.rstrip().split("\n")[-2].count("paid Ann") == 1


@pytest.mark.parametrize("words", [(), ("--quiet",), ("--no-stream",)], ids=str)
def test_questions_say_whose_they_are_without_panels(team: Path, words: tuple[str, ...]) -> None:
    with Screen("run", "go", *words, cwd=team) as screen:
        for _ in range(3):
            screen.see(ASKS)
            screen.type("n\n")
        assert screen.end() == 0
    asked = re.findall(r"(payer in stage \S+) wants to run pay", screen.all)
    assert sorted(asked) == BRANCHES


def test_a_batch_within_a_run_asks_about_each_item(team: Path) -> None:
    change(team / "desk/team.yaml", "  - parallel: {left: payer, mid: payer, right: payer}\n  - join: desk.payments:merge\n",
           "  - desk.payments:batch\n")  # fmt: skip
    (team / "desk/payments.py").write_text(
        CODE
        + """

def batch(task: str) -> str:
    payer = lllm.Agent("clerk", "twins/m", tools=[pay])
    return " | ".join(map(str, lllm.step(payer).batch(["a", "b", "c"])))
"""
    )
    with Screen("run", "go", "--pretty", cwd=team) as screen:
        for answer in ("n", "y", "no, enough"):
            screen.see("clerk in stage")
            screen.see(ASKS)
            screen.type(f"{answer}\n")
        assert screen.end() == 0
    assert whole(screen.all) >= 9
    assert (team / "paid.txt").read_text() == "Ann\n"
    assert "not approved: enough" in screen.all


def test_without_a_terminal_tools_are_refused_with_what_to_type(team: Path) -> None:
    done = run(team, "run", "go", "--pretty")
    assert done.returncode == 0
    assert whole(done.stderr) >= 8
    assert done.stderr.count("pay not approved") == 3
    assert "--approve all" in done.stderr
    assert not (team / "paid.txt").exists()


def test_ctrl_c_at_a_question_ends_all_of_them(team: Path) -> None:
    with Screen("run", "go", "--pretty", cwd=team) as screen:
        screen.see(ASKS)
        screen.interrupt()
        screen.see("interrupted")
        assert screen.end() == 130
        assert screen.all.count(ASKS) == 1
    assert not (team / "paid.txt").exists()
    with SQLiteLog(next(team.rglob("sessions.db"))) as log:
        (info,) = log.sessions()
        assert info.status == "cancelled"
        assert not [row for row in transcript(load(log, info.id)) if row.kind == "approval"]


def test_a_chat_shows_panels_and_the_answer_once(shop: Path) -> None:
    cashier.plain(shop)
    with Screen("chat", "--pretty", cwd=shop) as screen:
        screen.see("Ctrl-D leaves.")
        screen.type("hello\n")
        screen.see("tokens in")
        screen.type("pay Ann\n")
        screen.see(ASKS)
        screen.type("y\n")
        screen.see("paid 1 to Ann")
        screen.type("/exit\n")
        assert screen.end() == 0
    assert screen.all.count("You said: hello") == 1
    assert "pay → vanilla" in screen.all


def test_a_reply_that_is_cut_in_its_panel_is_printed_whole(shop: Path) -> None:
    cashier.plain(shop)
    much = 'if words == "much":\n        return "line\\n" * 500 + "END"\n    '
    change(shop / "system/agent/cashier.py", 'if words == "untagged":', f'{much}if words == "untagged":')
    with Screen("chat", "--pretty", cwd=shop) as screen:
        screen.see("Ctrl-D leaves.")
        screen.type("much\n")
        screen.see("more characters")
        screen.see("END")
        screen.type("/exit\n")
        assert screen.end() == 0
    assert screen.all.count("line") >= 900


def test_a_chat_in_a_pipe_has_replies_on_stdout(shop: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lllm", "chat", "--pretty"], cwd=shop, input="hello\n", capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.stdout == "<answer>You said: hello</answer>\n"
    assert whole(done.stderr) >= 3


def test_the_work_goes_on_when_the_terminal_is_gone(team: Path) -> None:
    with Screen("run", "go", "--pretty", cwd=team, NOHUP="1") as screen:
        screen.see(ASKS)
        os.close(screen.ours)
        assert screen.process.wait(120) == 0
        screen.ours = os.open(os.devnull, os.O_RDONLY)
    with SQLiteLog(next(team.rglob("sessions.db"))) as log:
        assert log.sessions()[0].status == "done"


def test_a_resumed_session_shows_what_it_does_now(shop: Path) -> None:
    with Screen("run", "pay Ann", "--pretty", cwd=shop) as screen:
        screen.see(ASKS)
        screen.process.kill()
        screen.end()
    with Screen("resume", "--pretty", cwd=shop) as screen:
        screen.see("vanilla wants to run pay")
        screen.see(ASKS)
        screen.type("y\n")
        screen.see("pay → vanilla")
        assert screen.end() == 0
    assert "task of demo" not in screen.all
    assert whole(screen.all) >= 3


@pytest.mark.parametrize(
    ("words", "other"),
    [(("run", "x", "--quiet"), "--quiet"), (("show", "--json"), "--json"), (("show", "--events"), "--events"),
     (("show", "--markdown"), "--markdown")],
)  # fmt: skip
def test_what_excludes_each_other(lllm: Terminal, shop: Path, words: tuple[str, ...], other: str) -> None:
    done = lllm(*words, "--pretty")
    assert done.code == 2
    assert f"--pretty and {other} exclude each other" in done.err


def test_without_rich(team: Path) -> None:
    from tests.cli.test_without_rich import without_rich

    done = without_rich(team, "run", "go", "--pretty")
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert {line[0] for line in done.stderr.splitlines() if not line.startswith("session ")} == set("┌│└─")
