"""`lllm chat` with several agents, and with files that change while it runs."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest

from lllm import SQLiteLog
from lllm.log.views import load
from lllm.models.message import FunctionCall
from lllm.ports import Request
from tests.cli.conftest import Terminal

DESK = """\
start: front
agent_configs:
  front:
    model_name: front/m
    system_prompt_path: desk/front
    handoffs: [billing]
  billing:
    model_name: billing/m
    system_prompt: You are billing.
    handoffs: [front]
"""
NUMBERS = count()
OVER, BACK = FunctionCall("t", "transfer_to_billing", "{}"), FunctionCall("t", "transfer_to_front", "{}")


@pytest.fixture
def desk() -> Path:
    Path("prompts/desk").mkdir(parents=True)
    Path("prompts/desk/front.md").write_text("---\n---\nYou are front.\n")
    kit = f"kit{next(NUMBERS)}"  # a module of this name is loaded once in a process
    Path(kit).mkdir()
    Path(kit, "chat_kit.py").write_text("A = 1\n")
    Path("lllm.toml").write_text(
        f'[discovery]\nprompts = ["prompts"]\ntools = ["{kit}"]\n[run]\ndefault = "desk.yaml"\n'
    )
    Path("desk.yaml").write_text(DESK)
    return Path(kit)


def recorded(lllm: Terminal, session: str) -> list[dict[str, Any]]:
    with SQLiteLog(Path(".lllm/sessions.db")) as store:
        return load(store, session)


def heard(lllm: Terminal, name: str) -> list[list[str]]:
    """What the model of an agent was told, request by request."""
    found = [one for one in lllm.backends if one.requests and name in one.requests[0].messages[0].text]
    return [[message.text for message in request.messages] for one in found for request in one.requests]


def test_the_one_that_answered_last_gets_the_next_message(lllm: Terminal, desk: Path) -> None:
    lllm.scripts["front"] = lambda: [OVER, "Front again."]
    lllm.scripts["billing"] = lambda: ["Billing here.", "Paid.", BACK]
    result = lllm("chat", stdin="A refund!\nWhen?\nSomething else.\n")
    assert (result.code, result.out) == (0, "Billing here.\nPaid.\nFront again.\n"), result.err
    asked = heard(lllm, "You are billing.")
    assert asked[1][0] == "You are billing."
    assert (
        asked[1][-3:] == ["Answer the user from here on.", "Billing here.", "When?"]
        or asked[1][-1] == "When?"
    )
    assert "Billing here." in asked[1]
    last = heard(lllm, "You are front.")[-1]
    assert last[0] == "You are front."
    assert last.count("You are billing.") == 0
    assert [text for text in last if text in ("A refund!", "When?", "Something else.")] == [
        "A refund!", "When?", "Something else.",
    ]  # fmt: skip
    report = lllm("replay", "--last", "--json").json
    assert report["verified"], report


def test_a_chat_continues_with_the_one_that_answered_last(lllm: Terminal, desk: Path) -> None:
    lllm.scripts["front"] = lambda: [OVER]
    lllm.scripts["billing"] = lambda: ["Billing here."]
    lllm("chat", stdin="A refund!\n")
    lllm.backends.clear()
    lllm.scripts["billing"] = lambda: ["Paid."]
    result = lllm("chat", "--continue", stdin="When?\n")
    assert result.out == "Paid.\n", result.err
    (asked,) = heard(lllm, "You are billing.")
    assert [asked[0], asked[-2], asked[-1]] == ["You are billing.", "Billing here.", "When?"]
    assert lllm("replay", "--last", "--json").json["verified"]
    lllm.scripts["front"] = lambda: ["Front."]
    assert lllm("chat", "--continue", "--agent", "front", stdin="Hm\n").out == "Front.\n"


def test_a_fork_of_it_goes_on_as_it_did(lllm: Terminal, desk: Path) -> None:
    lllm.scripts["front"] = lambda: [OVER]
    lllm.scripts["billing"] = lambda: ["Billing here.", "Paid."]
    lllm("chat", stdin="A refund!\nWhen?\n")
    old = lllm("sessions", "--json").json[0]["session"]
    lllm.scripts["billing"] = lambda: ["Billing here.", "Paid twice."]
    events = recorded(lllm, old)
    last = [event["seq"] for event in events if event["kind"] == "ModelReplied"][-1]
    result = lllm("fork", old, "--at", str(last), "--edit", "Not paid.", "--json")
    assert result.json["result"] == "Not paid.", result.err


# --- files that change -------------------------------------------------------------------------------------------------


def changing(*steps: Any) -> Any:
    """A model that does one thing after the other while it answers."""
    todo = list(steps)

    def answer(request: Request) -> str:
        done = todo.pop(0)
        if callable(done):
            done()
        return request.messages[0].text

    return lambda: answer


def write(file: str, text: str) -> Any:
    return lambda: Path(file).write_text(text)


def notes(lllm: Terminal) -> list[list[str]]:
    old = lllm("sessions", "--json").json[0]["session"]
    events = recorded(lllm, old)
    return [event["data"]["changed"] for event in events if event["data"].get("of") == "reload"]


def test_a_changed_prompt_is_taken_and_noted(lllm: Terminal, desk: Path) -> None:
    lllm.scripts["front"] = changing(write("prompts/desk/front.md", "---\n---\nBe brief.\n"), None, None)
    result = lllm("chat", stdin="a\nb\nc\n")
    assert result.out == "You are front.\nBe brief.\nBe brief.\n"
    assert result.err.count("read again: prompts/desk/front.md") == 1
    assert notes(lllm) == [["prompts/desk/front.md"]]


def test_changed_yaml_is_taken(lllm: Terminal, desk: Path) -> None:
    text = DESK.replace("system_prompt_path: desk/front", "system_prompt: In YAML.")
    lllm.scripts["front"] = changing(write("desk.yaml", text), None)
    assert lllm("chat", stdin="a\nb\n").out == "You are front.\nIn YAML.\n"
    assert notes(lllm) == [["desk.yaml"]]


def test_a_file_that_cannot_be_used_leaves_all_as_it_was(lllm: Terminal, desk: Path) -> None:
    bad, worse = DESK.replace("handoffs: [billing]", "handoffs: [nobody]"), "---\nprompt: [\n---\nx"
    lllm.scripts["front"] = changing(
        write("desk.yaml", bad), write("prompts/desk/front.md", worse), write("desk.yaml", DESK), None
    )
    result = lllm("chat", stdin="a\nb\nc\nd\n")
    assert result.out == "You are front.\n" * 4
    assert result.err.count("cannot be used") == 2, result.err
    assert "no agent named 'nobody'" in result.err
    assert notes(lllm) == [["desk.yaml"]]


def test_a_changed_module_is_for_the_next_start(lllm: Terminal, desk: Path) -> None:
    lllm.scripts["front"] = changing(write(str(desk / "chat_kit.py"), "A = 2\n"), None, None)
    result = lllm("chat", stdin="a\nb\nc\n")
    assert result.err.count(f"{desk}/chat_kit.py has changed: restart to take it") == 1
    assert notes(lllm) == []


def test_nothing_is_read_again_without_a_reason(lllm: Terminal, desk: Path) -> None:
    lllm.scripts["front"] = changing(lambda: Path("desk.yaml").touch(), None)
    result = lllm("chat", stdin="a\nb\n")
    assert (result.out, result.err) == ("You are front.\n" * 2, "")
