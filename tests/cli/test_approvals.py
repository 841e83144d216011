"""Tools that need approval: a terminal asks for it; elsewhere they are refused with a message."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import cashier
from tests.cli.conftest import Terminal
from tests.cli.screen import Screen
from tests.cli.test_run import change

ASKS = "Let it run? [y]es, [n]o, [a]lways, or no and the reason: "


@pytest.fixture
def shop(demo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cashier.install(demo)
    monkeypatch.delenv("LLLM_MODEL")
    return demo


def paid(shop: Path) -> list[str]:
    file = shop / "paid.txt"
    return file.read_text().splitlines() if file.exists() else []


def approvals(lllm: Terminal) -> list[tuple[bool, str | None]]:
    events = [json.loads(line) for line in lllm("show", "--last", "--events").out.splitlines()]
    given = [event["data"] for event in events if event["kind"] == "ApprovalGiven"]
    return [(data["approved"], data.get("note")) for data in given]


@pytest.mark.parametrize(
    ("typed", "approved", "note"),
    [
        ("y\n", True, None),
        ("YES\n", True, None),
        ("a\n", True, None),
        ("n\n", False, "the user said no"),
        ("\n", False, "the user said no"),
        ("no, too much\n", False, "too much"),
        ("yse\ny\n", True, None),
        ("\x04", False, "no answer was given"),
    ],
)
def test_a_person_is_asked(shop: Path, lllm: Terminal, typed: str, approved: bool, note: str | None) -> None:
    with Screen("run", "pay Ann", cwd=shop) as screen:
        screen.see("vanilla wants to run pay")
        screen.see("| amount: 1")
        screen.see('| to: "Ann"')
        screen.see(ASKS)
        screen.type(typed)
        assert screen.end() == 0
    assert ("tools: paid 1 to Ann" in screen.all) is approved
    assert (f"not approved: {note}" in screen.all) is not approved
    assert approvals(lllm) == [(approved, note)]
    assert paid(shop) == (["Ann 1"] if approved else [])
    report = lllm("replay", "--last", "--json").json
    assert report["verified"] is True
    assert len(paid(shop)) == approved, "a replay neither asks nor pays"


def test_several_are_asked_about_one_after_another(shop: Path, lllm: Terminal) -> None:
    with Screen("run", "pay Ann Bob Cid", cwd=shop) as screen:
        for name, answer in (("Ann", "y"), ("Bob", "n"), ("Cid", "y")):
            screen.see(f'| to: "{name}"')
            screen.see(ASKS)
            assert "wants to run" not in screen.shown, "nothing stands between a question and its answer"
            screen.type(f"{answer}\n")
        assert screen.end() == 0
    assert sorted(paid(shop)) == ["Ann 1", "Cid 3"]
    assert sorted(approvals(lllm)) == [(False, "the user said no"), (True, None), (True, None)]


def test_always_is_for_this_tool_and_this_run(shop: Path) -> None:
    with Screen("run", "pay Ann Bob", cwd=shop) as screen:
        screen.see(ASKS)
        screen.type("a\n")
        assert screen.end() == 0
    assert screen.all.count(ASKS) == 1
    assert sorted(paid(shop)) == ["Ann 1", "Bob 2"]
    with Screen("run", "pay Ann", cwd=shop) as screen:
        screen.see(ASKS)
        screen.type("n\n")
        assert screen.end() == 0


def test_hostile_arguments_do_not_look_like_a_question(shop: Path) -> None:
    with Screen("run", "hostile", cwd=shop) as screen:
        screen.see(ASKS)
        screen.type("n\n")
        assert screen.end() == 0
    for char in ("\x1b[2K", "\x9b", "\u202e"):
        assert char not in screen.all
    lines = screen.all.replace("\r\n", "\n").split("\n")
    assert [
        line for line in lines if "[y]es:" in line and not line.startswith(("    | ", "denied: ", "tools: "))
    ] == []
    assert [line for line in lines if line.startswith("demo wants")] == [], "what is folded is indented"


def test_long_arguments_are_shown_whole_on_demand(shop: Path) -> None:
    with Screen("run", "long", cwd=shop) as screen:
        screen.see("more characters: s shows them")
        screen.see(ASKS)
        assert "END" not in screen.all
        screen.type("s\n")
        screen.see("END")
        screen.see(ASKS)
        screen.type("n\n")
        assert screen.end() == 0


def test_ctrl_c_at_a_question_stops_the_run(shop: Path, lllm: Terminal) -> None:
    with Screen("run", "pay Ann", cwd=shop) as screen:
        screen.see(ASKS)
        screen.interrupt()
        screen.see("interrupted")
        assert screen.end() == 130
        assert "Traceback" not in screen.all
    assert paid(shop) == []
    assert lllm("sessions", "--json").json[0]["status"] == "cancelled"


def test_a_pipe_beside_the_task_leaves_the_terminal_to_ask_at(shop: Path) -> None:
    ours, theirs = os.pipe()
    os.write(theirs, b"a log\n")
    os.close(theirs)
    with Screen("run", "pay Ann", "--no-stdin", cwd=shop, stdin=ours) as screen:
        screen.see(ASKS)
        screen.type("y\n")
        assert screen.end() == 0
    os.close(ours)
    assert paid(shop) == ["Ann 1"]


def test_nobody_types_where_stdin_is_the_null_device(shop: Path) -> None:
    with Screen("run", "pay Ann", cwd=shop, stdin=subprocess.DEVNULL) as screen:
        screen.see("denied: pay(")
        assert screen.end() == 0
    assert paid(shop) == []


def test_a_question_in_a_chat(shop: Path) -> None:
    with Screen("chat", cwd=shop) as screen:
        screen.see("> ")
        screen.type("pay Ann\n")
        screen.see(ASKS)
        screen.type("y\n")
        screen.see("tools: paid 1 to Ann")
        screen.see("> ")
        screen.type("pay Bob\n")
        screen.see(ASKS)
        screen.interrupt()
        screen.see("(stopped")
        screen.see("> ")
        screen.type("pay Cid\n")
        screen.see(ASKS)
        screen.type("n\n")
        screen.see("not approved: the user said no")
        screen.see("> ")
        screen.type("\x04")
        assert screen.end() == 0
    assert paid(shop) == ["Ann 1"]


def test_a_fork_asks_about_what_is_new(shop: Path) -> None:
    with Screen("run", "pay Ann", "--approve", "none", cwd=shop) as screen:
        assert screen.end() == 0
    with Screen("fork", "--arg", "task=pay Bob", cwd=shop) as screen:
        screen.see('| to: "Bob"')
        screen.see(ASKS)
        screen.type("y\n")
        assert screen.end() == 0
    assert paid(shop) == ["Bob 1"]


def test_a_session_that_died_at_a_question_asks_again(shop: Path) -> None:
    with Screen("run", "pay Ann", cwd=shop) as screen:
        screen.see(ASKS)
        screen.process.kill()
        screen.end()
    with Screen("resume", cwd=shop) as screen:
        screen.see("vanilla wants to run pay")
        screen.see(ASKS)
        screen.type("y\n")
        screen.see("tools: paid 1 to Ann")
        assert screen.end() == 0
    assert paid(shop) == ["Ann 1"]


def test_a_tool_that_may_have_run_is_asked_about_with_the_reason(shop: Path) -> None:
    with Screen("run", "book", cwd=shop) as screen:
        screen.see("failed: book: ")
        screen.see("vanilla wants to run book")
        screen.see("An equal call was stopped before it returned, and may have taken effect.")
        screen.see(ASKS)
        screen.type("n\n")
        assert screen.end() == 0
    assert (shop / "booked.txt").read_text() == "booked\n"


def elsewhere(shop: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lllm", *words], cwd=shop, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_without_a_terminal_nobody_is_asked_and_that_is_said(shop: Path, lllm: Terminal) -> None:
    done = elsewhere(shop, "run", "pay Ann", "--json")
    assert done.returncode == 0
    said = "there is no terminal to ask for approval; --approve all runs such tools"
    assert done.stderr == f'denied: pay({{"amount": 1, "to": "Ann"}}): {said}\n'
    assert json.loads(done.stdout)["status"] == "done"
    assert approvals(lllm) == [(False, said)]
    assert paid(shop) == []


def test_all_and_none(shop: Path) -> None:
    for words in (("run", "pay Ann"), ("chat",)):
        with Screen(*words, "--approve", "all", cwd=shop) as screen:
            if words == ("chat",):
                screen.see("> ")
                screen.type("pay Bob\n")
                screen.see("tools: paid 1 to Bob")
                screen.see("> ")
                screen.type("\x04")
            assert screen.end() == 0
            assert "Let it run" not in screen.all
    assert paid(shop) == ["Ann 1", "Bob 1"]
    with Screen("run", "pay Cid", "--approve", "none", cwd=shop) as screen:
        screen.see("denied: pay(")
        assert screen.end() == 0
    assert len(paid(shop)) == 2


def changed(shop: Path, lllm: Terminal) -> dict[str, tuple[str, ...]]:
    """A session in which Ann was paid, kept as a test, and a model that wants to pay Zoe today."""
    assert lllm("run", "pay Ann", "--approve", "all").code == 0
    assert lllm("test", "keep", "--last", "--name", "paying").code == 0
    (shop / "paid.txt").unlink()
    change(shop / "system/agent/cashier.py", "(payment(n, name)", "(payment(n, 'Zoe')")
    return {
        "whatif": ("whatif", "--last", "--tools", "run", "--set", "temperature=0.5"),
        "accept": ("test", "accept", "paying", "--tools", "run"),
    }


@pytest.mark.parametrize("command", ["whatif", "accept"])
def test_whatif_and_accept_ask_as_well(shop: Path, lllm: Terminal, command: str) -> None:
    words = changed(shop, lllm)[command]
    if command == "accept":  # what has changed is asked again: the sampling has
        change(shop / "config/demo/default.yaml", "model_name: cashier/m", "model_name: cashier/other")
    with Screen(*words, cwd=shop) as screen:
        screen.see("vanilla")
        screen.see("wants to run pay")
        screen.see('| to: "Zoe"')
        screen.see(ASKS)
        screen.type("y\n")
        screen.end()
    assert paid(shop) == ["Zoe 1"]


@pytest.mark.parametrize(("word", "then"), [("none", []), ("all", ["Zoe 1"])])
@pytest.mark.parametrize("command", ["whatif", "accept"])
def test_whatif_and_accept_take_all_and_none(
    shop: Path, lllm: Terminal, command: str, word: str, then: list[str]
) -> None:
    words = changed(shop, lllm)[command]
    if command == "accept":
        change(shop / "config/demo/default.yaml", "model_name: cashier/m", "model_name: cashier/other")
    done = elsewhere(shop, *words, "--approve", word)
    assert paid(shop) == then
    assert ("--approve none: no tool that needs approval is run" in done.stderr) is (word == "none")


def test_two_sessions_are_asked_about_one_after_another(shop: Path, lllm: Terminal) -> None:
    assert lllm("run", "pay Bob", "--approve", "all").code == 0
    words = changed(shop, lllm)["whatif"]
    ids = [one["session"] for one in lllm("sessions", "--json").json]
    with Screen(words[0], *ids, *words[2:], cwd=shop) as screen:
        for answer in ("y", "n"):
            screen.see("wants to run pay")
            screen.see(ASKS)
            screen.type(f"{answer}\n")
        assert screen.end() == 0
    assert all(f"vanilla of {id} wants to run pay" in screen.all.replace("\r\n", "") for id in ids)
    assert paid(shop) == ["Zoe 1"]


@pytest.mark.parametrize("words", ["run x", "chat", "resume x", "fork x", "whatif x", "test accept x"])
def test_every_command_that_runs_tools_takes_it(shop: Path, words: str) -> None:
    assert "--approve" in elsewhere(shop, *words.split()[:-1], "--help").stdout or words == "chat"
    assert "No such option" not in elsewhere(shop, *words.split(), "--approve", "all").stderr


def test_a_word_that_is_none_of_them(shop: Path) -> None:
    assert (
        "--approve must be ask, all or none, got 'yes'"
        in elsewhere(shop, "run", "x", "--approve", "yes").stderr
    )
    done = elsewhere(shop, "run", "pay Ann", "--approve", "ask")
    assert done.returncode == 2
    assert "--approve ask needs a terminal" in done.stderr
