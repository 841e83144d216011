"""Agents with the proxies that ship: declared in configuration, approved by a person, recorded and replayed."""

import json
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lllm import MemoryLog, ScriptedBackend, build_agent, load_config
from lllm.llm.agent import Agent
from lllm.models.message import FunctionCall
from lllm.models.reply import Reply
from lllm.ports import Request
from lllm.proxies import Proxy
from lllm.replay import replay_session

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "project"
    (made / "notes").mkdir(parents=True)
    (made / "notes" / "plan.md").write_text("Mesure twice.\n")
    (made / "notes" / "logo.png").write_bytes(PNG)
    with sqlite3.connect(made / "shop.db") as connection:
        connection.execute("CREATE TABLE customer (name TEXT)")
        connection.execute("INSERT INTO customer VALUES ('Ada')")
    connection.close()
    subprocess.run(["git", "init", "-q", str(made / "notes")], check=True, timeout=60)
    return made


def calls(*each: tuple[str, dict[str, Any]]) -> Reply:
    made = [FunctionCall(f"t{n}", name, json.dumps(given)) for n, (name, given) in enumerate(each)]
    return Reply("", tool_calls=tuple(made))


def options(folder: Path) -> dict[str, Any]:
    return {
        "files": {"root": str(folder / "notes"), "writable": True},
        "sql": {"database": str(folder / "shop.db")},
        "git": {"root": str(folder / "notes"), "writable": True, "author": "Ada <a@b.c>"},
    }


def agent(folder: Path, script: list[Any], **more: Any) -> Agent:
    proxy = Proxy(["files", "sql", "git"], options=options(folder))
    return Agent("clerk", scripted(*script), tools=[*proxy.tools()], **more)


def scripted(*items: Any) -> ScriptedBackend:
    """A model with these replies, one after another; a function gets the request and returns one."""
    left = list(items)

    def answer(request: Request) -> Any:
        item = left.pop(0)
        return item(request) if callable(item) else item

    return ScriptedBackend(answer)


def results(request: Request) -> list[str]:
    return [message.text for message in request.messages if message.role == "tool"]


def test_a_system_of_configuration_alone(folder: Path) -> None:
    text = {
        "model": "scripted",
        "activate_proxies": ["files", "sql"],
        "proxy_options": {name: options(folder)[name] for name in ("files", "sql")},
        "agent_configs": {"clerk": {"system_prompt": "Help.", "activate_proxies": ["files", "sql"]}},
    }
    seen: list[list[str]] = []

    def last(request: Request) -> str:
        seen.append(results(request))
        return "done"

    script = [
        calls(("files__read", {"path": "plan.md"}), ("sql__query", {"sql": "SELECT name FROM customer"})),
        calls(("files__read", {"path": "../shop.db"}), ("sql__query", {"sql": "DELETE FROM customer"})),
        last,
    ]
    system = build_agent(load_config(text), model=scripted(*script), log_base=MemoryLog())
    assert system("go") == "done"
    first, second, third, fourth = seen[0]
    assert json.loads(first)["text"] == "Mesure twice.\n"
    assert json.loads(second)["rows"] == [["Ada"]]
    assert "'..'" in third
    assert "DELETE is not allowed here" in fourth


@pytest.mark.parametrize("approved", [True, False])
def test_a_write_is_done_if_a_person_approves(folder: Path, approved: bool) -> None:
    asked: list[Any] = []

    def approve(call: Any) -> bool:
        asked.append(call)
        return approved

    edit = {"path": "plan.md", "old": "Mesure", "new": "Measure"}
    store = MemoryLog()
    clerk = agent(
        folder,
        [
            calls(("files__edit", edit)),
            calls(("git__commit", {"message": "plan", "paths": ["plan.md"]})),
            "done",
        ],
        store=store,
        approve=approve,
    )
    assert clerk.call("go").content == "done"
    assert [one.name for one in asked] == ["files__edit", "git__commit"]
    assert (folder / "notes" / "plan.md").read_text() == (
        "Measure twice.\n" if approved else "Mesure twice.\n"
    )
    log = subprocess.run(
        ["git", "log", "--format=%s"],
        cwd=folder / "notes",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert log.stdout.split() == (["plan"] if approved else [])


def test_what_only_reads_is_never_asked_about(folder: Path) -> None:
    def approve(call: Any) -> bool:
        raise AssertionError(call)

    script = [
        calls(("files__search", {"pattern": "twice"}), ("git__status", {}), ("sql__schema", {})),
        calls(("files__list", {}), ("git__branches", {})),
        "done",
    ]
    assert agent(folder, script, approve=approve).call("go").content == "done"


def test_an_image_reaches_the_model_as_one(folder: Path) -> None:
    found: list[Any] = []

    def last(request: Request) -> str:
        found.extend(message.content for message in request.messages if message.role == "tool")
        return "a logo"

    clerk = agent(folder, [calls(("files__read", {"path": "logo.png"})), last])
    assert clerk.call("go").content == "a logo"
    (content,) = found
    assert any(part["type"] == "image_url" for part in content)


def test_a_session_replays_without_files_and_database(folder: Path) -> None:
    store = MemoryLog()
    script = [
        calls(("files__read", {"path": "plan.md"}), ("sql__query", {"sql": "SELECT name FROM customer"})),
        calls(("files__write", {"path": "new.md", "text": "x\n"})),
        "done",
    ]
    clerk = agent(folder, script, store=store, approve=lambda call: True)
    clerk.call("go")
    (folder / "notes" / "plan.md").unlink()
    (folder / "notes" / "new.md").unlink()
    (folder / "shop.db").write_bytes(b"")
    report = replay_session(store.sessions(1)[0].id, store=store)
    assert report.divergence is None
    assert not (folder / "notes" / "new.md").exists()


def test_two_edits_of_one_reply_are_both_made(folder: Path) -> None:
    edits = [
        {"path": "plan.md", "old": old, "new": new}
        for old, new in (("Mesure", "Measure"), ("twice", "often"))
    ]
    clerk = agent(
        folder, [calls(*(("files__edit", one) for one in edits)), "done"], approve=lambda call: True
    )
    clerk.call("go")
    assert (folder / "notes" / "plan.md").read_text() == "Measure often.\n"
