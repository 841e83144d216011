"""`lllm chat`: several turns, one dialog, one session."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lllm.backends.scripted import ScriptedBackend
from lllm.errors import ServerError
from lllm.llm import connect, project
from tests.cli.conftest import ASKS, Terminal


def test_turns_share_a_dialog_and_a_session(lllm: Terminal, demo: Path) -> None:
    lllm.scripts["talk"] = lambda: [ASKS, "It is 391.", "You are welcome."]
    result = lllm("chat", "--model", "talk/m", stdin="What is 17 times 23?\n\nThanks!\n/exit\nnever said\n")
    assert (result.code, result.out, result.err) == (0, "It is 391.\nYou are welcome.\n", "")
    last = lllm.backends[-1].requests[-1].messages
    assert [message.role for message in last] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert [last[1].text, last[3].text, last[-1].text] == ["What is 17 times 23?", "391", "Thanks!"]
    (info,) = lllm("sessions", "--json").json
    assert (info["status"], info["name"]) == ("done", "chat-vanilla")


def test_the_end_of_input_ends_it(lllm: Terminal, demo: Path) -> None:
    lllm.scripts["talk"] = lambda: ["Hello."]
    assert lllm("chat", "--model", "talk/m", stdin="Hi").out == "Hello.\n"
    assert lllm("chat", "--model", "talk/m", stdin="").code == 0


def test_a_chat_is_replayed(lllm: Terminal, demo: Path) -> None:
    lllm.scripts["talk"] = lambda: [ASKS, "It is 391.", "You are welcome."]
    words = ["--model", "talk/m", "--system", "Be brief.", "--set", "temperature=0.5"]
    lllm("chat", *words, stdin="What is 17 times 23?\nThanks!\n")
    report = lllm("replay", "--last", "--json")
    assert report.json["verified"] is True, report.json
    assert (report.json["reexecuted"], report.json["folded"]) == (2, 0)


def test_the_system_prompt_can_be_given(lllm: Terminal, demo: Path) -> None:
    lllm.scripts["talk"] = lambda: ["Ahoy."]
    lllm("chat", "--model", "talk/m", "--system", "You are a pirate {x}.", stdin="Hi\n")
    assert lllm.backends[-1].requests[0].messages[0].text == "You are a pirate {x}."


def test_outside_of_a_project(lllm: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lllm.scripts["talk"] = lambda: ["Hello.", "Yes."]
    assert lllm("chat", "--model", "talk/m", stdin="Hi\nReally?\n").out == "Hello.\nYes.\n"
    assert lllm("replay", "--last", "--json").json["verified"] is True


def test_in_a_pipe_a_failure_ends_it(lllm: Terminal, demo: Path) -> None:
    lllm.scripts["talk"] = lambda: [ServerError("out of order", status=500, retryable=False), "Hello."]
    result = lllm("chat", "--model", "talk/m", stdin="Hi\nAgain\n")
    assert (result.code, result.out) == (1, "")
    assert "out of order" in result.err
    assert lllm("sessions", "--json").json[0]["status"] == "failed"


def test_which_agent_is_meant(lllm: Terminal, demo: Path) -> None:
    result = lllm("chat", "--agent", "vanila")
    assert result.code == 2
    assert "Did you mean 'vanilla'?" in result.err


def test_a_fork_of_a_chat_is_a_chat(lllm: Terminal, demo: Path) -> None:
    """It knows what it ran: with the model and the settings that were changed, it is replayed and forked again."""
    lllm.scripts["talk"] = lambda: ["Hello.", "Yes."]
    lllm("chat", "--model", "talk/m", "--system", "Be brief.", stdin="Hi\nReally?\n")
    old = lllm("sessions", "--json").json[0]["session"]
    lllm.scripts["other"] = lambda: ["Ahoy.", "Aye."]
    result = lllm("fork", old, "--model", "other/n", "--set", "temperature=0.5", "--json")
    assert result.code == 0, result.err
    assert (result.json["result"], result.json["changed"], result.json["reused"]) == ("Aye.", 2, 0)
    assert lllm.backends[-1].requests[-1].sampling["temperature"] == 0.5
    fork = result.json["session"]
    first = lllm("show", fork, "--events").out.splitlines()[0]
    data = json.loads(first)["data"]
    assert data["name"] == "chat-vanilla"
    assert data["entry"] == {
        "kind": "chat", "agent": "vanilla", "config": "config/demo/default.yaml", "set": ["temperature=0.5"],
        "model": "other/n", "system": "Be brief.", "models": {"vanilla": "other/n"},
    }  # fmt: skip
    report = lllm("replay", fork, "--json")
    assert (report.json["verified"], report.json["folded"]) == (True, 0), report.json
    again = lllm("fork", fork, "--json").json
    assert (again["reused"], again["changed"], again["result"]) == (2, 0, "Aye.")
    assert lllm("replay", again["session"], "--json").json["verified"] is True


@pytest.mark.parametrize("turn", [0, 1])
def test_a_fork_with_an_edited_message_replays(lllm: Terminal, demo: Path, turn: int) -> None:
    lllm.scripts["talk"] = lambda: ["Hello.", "Yes."]
    lllm("chat", "--model", "talk/m", stdin="Hi\nReally?\n")
    lines = map(json.loads, lllm("show", "--last", "--events").out.splitlines())
    at = [line["seq"] for line in lines if line["kind"] == "CallStarted"][turn]
    lllm.scripts["talk"] = lambda: ["Ahoy.", "Aye."][turn:]
    fork = lllm("fork", "--at", str(at), "--edit", "Other words", "--json")
    assert (fork.code, fork.json["result"]) == (0, "Aye."), fork.err
    for _ in range(2):  # the fork, and its own fork
        report = lllm("replay", "--last", "--json")
        assert (report.json["verified"], report.json["folded"]) == (True, 0), report.json
        again = lllm("fork", "--json").json
        assert (again["reused"], again["changed"], again["result"]) == (2, 0, "Aye.")
        assert "Other words" in lllm("show", "--last").out


def test_a_chat_is_replayed_and_forked_in_code(
    lllm: Terminal, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lllm import fork_session, replay_session
    from lllm.registry import registry

    lllm.scripts["talk"] = lambda: ["Hello.", "Yes."]
    lllm("chat", "--model", "talk/m", stdin="Hi\nReally?\n")
    old = lllm("sessions", "--json").json[0]["session"]
    monkeypatch.setattr(connect, "_open", {})
    monkeypatch.setattr(project, "_stores", {})
    with registry.scope(empty=True):
        registry.arm()
        registry.add("backend", "other", lambda: ScriptedBackend(["Ahoy.", "Aye."]))
        report = replay_session(old)
        assert (report.verified, report.whole, report.reexecuted) == (True, True, 2)
        done = fork_session(old, model="other/n")
        assert done.result.content == "Aye."
        assert replay_session(done.session).verified
    project.default_store().close()


def test_an_interrupted_fork_of_a_chat_goes_on(
    lllm: Terminal, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lllm import MemoryLog, fork_session, replay_session, resume_session
    from lllm.registry import registry

    lllm.scripts["talk"] = lambda: ["Hello.", "Yes."]
    lllm("chat", "--model", "talk/m", stdin="Hi\nReally?\n")
    old = lllm("sessions", "--json").json[0]["session"]
    monkeypatch.setattr(connect, "_open", {})
    monkeypatch.setattr(project, "_stores", {})
    with registry.scope(empty=True):
        registry.arm()
        registry.add("backend", "other", lambda: ScriptedBackend(["Ahoy.", "Aye.", "Aye, aye."]))
        store = MemoryLog()
        fork = fork_session(old, model="other/n", into=store).session
        records = store._sessions[fork]
        kinds = [record.kind for record in records]
        left = MemoryLog()
        left._sessions[fork] = records[: kinds.index("CallEnded") + 2]  # the second call has begun
        left._blobs = store._blobs
        done = resume_session(fork, store=left)
        assert (done.result.content, done.reused, done.asked) == ("Aye, aye.", 1, 1)
        assert replay_session(fork, store=left).verified
    project.default_store().close()


def test_a_fork_in_which_the_last_reply_fails_has_failed(lllm: Terminal, demo: Path) -> None:
    lllm.scripts["talk"] = lambda: ["Hello."]
    lllm("chat", "--model", "talk/m", stdin="Hi\n")
    lllm.scripts["broken"] = lambda: [ServerError("out of order", status=500, retryable=False)]
    result = lllm("fork", "--model", "broken/m")
    assert (result.code, result.out) == (1, "")
    assert "out of order" in result.err
    assert [row["status"] for row in lllm("sessions", "--json").json] == ["failed", "done"]


def test_the_first_message_is_its_task(lllm: Terminal, demo: Path) -> None:
    lllm.scripts["talk"] = lambda: ["Hello.", "Yes."]
    lllm("chat", "--model", "talk/m", stdin="\nHi there\nReally?\n")
    assert lllm("sessions", "--json").json[0]["task"] == "Hi there"
    assert lllm("replay", "--last", "--json").json["verified"] is True
    fork = lllm("fork", "--model", "talk/m", "--json").json["session"]
    assert lllm("sessions", "--json").json[0]["task"] == "Hi there"
    assert lllm("replay", fork, "--json").json["verified"] is True


def test_a_chat_in_which_nothing_was_said_is_no_session(lllm: Terminal, demo: Path) -> None:
    for stdin in ("", "\n\n", "/exit\n"):
        assert lllm("chat", "--model", "talk/m", stdin=stdin).code == (2 if "talk" not in lllm.scripts else 0)
        lllm.scripts["talk"] = lambda: ["Hello."]
    assert lllm("sessions", "--json").json == []


def test_a_chat_is_continued(lllm: Terminal, demo: Path) -> None:
    lllm.scripts["talk"] = lambda: [ASKS, "It is 391.", "Yes."]
    words = ["--model", "talk/m", "--system", "Be brief.", "--set", "temperature=0.5"]
    lllm("chat", *words, stdin="What is 17 times 23?\n")
    old = lllm("sessions", "--json").json[0]["session"]
    lllm("run", "something else", "--model", "good/m")
    lllm.scripts["talk"] = lambda: ["Sure.", "Bye."]
    assert lllm("chat", "--continue", stdin="Sure?\nThanks\n").out == "Sure.\nBye.\n"
    asked = lllm.backends[-1].requests
    assert [message.text for message in asked[0].messages] == [
        "Be brief.", "What is 17 times 23?", "", "391", "It is 391.", "Sure?",
    ]  # fmt: skip
    assert (asked[0].sampling["temperature"], asked[0].model) == (0.5, "m")
    assert len(asked[1].messages) == len(asked[0].messages) + 2
    new = lllm("sessions", "--json").json[0]
    assert (new["session"] != old, new["task"], new["status"]) == (True, "Sure?", "done")
    report = lllm("replay", "--last", "--json").json
    assert (report["verified"], report["reexecuted"], report["folded"]) == (True, 2, 0)
    again = lllm("fork", "--json").json
    assert (again["reused"], again["changed"], again["new"]) == (2, 0, 0)
    lllm.scripts["talk"] = lambda: ["Older."]
    assert lllm("chat", "--continue", old[-8:], stdin="Hm?\n").out == "Older.\n"
    assert [message.text for message in lllm.backends[-1].requests[0].messages][-2:] == ["It is 391.", "Hm?"]


def test_a_chat_that_failed_or_was_cut_off_is_continued_from_its_last_reply(
    lllm: Terminal, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lllm.scripts["talk"] = lambda: ["Hello.", ServerError("out of order", status=500, retryable=False)]
    assert lllm("chat", "--model", "talk/m", stdin="Hi\nAgain\n").code == 1
    lllm.scripts["talk"] = lambda: ["Yes."]
    assert lllm("chat", "--continue", stdin="And now?\n").out == "Yes.\n"
    assert [message.text for message in lllm.backends[-1].requests[0].messages][1:] == [
        "Hi",
        "Hello.",
        "And now?",
    ]


def test_what_cannot_be_continued(lllm: Terminal, demo: Path) -> None:
    assert "there is no chat to continue" in lllm("chat", "--continue", stdin="x\n").err
    session = lllm("run", "x", "--json").json["session"]
    assert f"session '{session}' is not a chat" in lllm("chat", "--continue", session, stdin="x\n").err
    assert "Omit one of them" in lllm("chat", "--continue", "--system", "x", stdin="x\n").err
