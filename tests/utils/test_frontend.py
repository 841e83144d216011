"""A frontend with Streamlit's functions: what it shows and what its user answers is in the log, and a replay needs none."""

from __future__ import annotations

import asyncio
import datetime
import io
from collections.abc import Callable
from typing import Any

import pytest

from lllm import Agent, MemoryLog, PrintSystem, StreamWrapper, record, replay_session
from lllm.backends.scripted import ScriptedBackend
from lllm.cli.terminal import Terminal
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.log import views
from lllm.replay.fork import fork_session
from lllm.replay.resume import resume_session
from tests.utils.fake_streamlit import FUNCTIONS, Page, Stop

ANSWERS: dict[str, Any] = {
    "text_input": "Ada",
    "number_input": 3,
    "slider": (1, 5),
    "checkbox": True,
    "multiselect": ["x", "y"],
    "date_input": datetime.date(2026, 11, 21),
    "feedback": None,
    "button": False,
}
"""What the user answers."""


def ask(stream: Any) -> dict[str, Any]:
    """Asks everything."""
    return {
        "text_input": stream.text_input("Name?", key="name"),
        "number_input": stream.number_input("How many?", 1, 9),
        "slider": stream.slider("Between", 0, 10, (1, 5)),
        "checkbox": stream.sidebar.checkbox("Sure?"),
        "multiselect": stream.columns(2)[1].multiselect("Which?", ["x", "y", "z"]),
        "date_input": stream.date_input("When?"),
        "feedback": stream.feedback(),
        "button": stream.button("Go"),
    }


def program(store: MemoryLog, page: Any, told: list[Any]) -> Callable[[], str]:
    """A program that asks its user, and a model about the answers."""

    def main() -> str:
        stream = StreamWrapper(page)
        with record("ask", store=store):
            with stream.status("Asking", expanded=True) as status, stream.expander("more"):
                answers = ask(stream)
                status.update(label="asked", state="complete")
            told.append(answers)
            place = stream.markdown("# Hello")
            place.caption("below")
            stream.progress(0.5).progress(1.0)
            stream.code("x = 1", language="python")
            stream.divider()
            agent = Agent("greeter", ScriptedBackend(lambda request: "Dear " + request.messages[-1].text))
            said = stream.write_stream(agent.stream(answers["text_input"]).text())
            return str(said)

    return main


def last(store: MemoryLog) -> str:
    return store.sessions(1)[0].id


def frontend(store: MemoryLog) -> list[dict[str, Any]]:
    return [event["data"] for event in views.load(store, last(store)) if event["kind"] == ev.FRONTEND]


def test_a_replay_needs_no_user() -> None:
    told: list[Any] = []
    store, page = MemoryLog(), Page(**ANSWERS)
    assert program(store, page, told)() == "Dear Ada"
    assert told == [ANSWERS]
    assert page.names()[:4] == ["status", "enter status", "expander", "enter expander"]
    values = {data["method"]: data["value"] for data in frontend(store) if "value" in data}
    assert values["text_input"] == "Ada"
    assert values["slider"] == {"$tuple": [1, 5]}
    assert values["date_input"] == {"$date": "2026-11-21"}
    assert values["write_stream"] == "Dear Ada"
    assert "feedback" not in values, "nothing was answered"
    for other in (None, Page(text_input="somebody else"), PrintSystem(io.StringIO())):
        again: list[Any] = []
        report = replay_session(last(store), store=store, entry=program(store, other, again))
        assert (report.verified, report.reexecuted) == (True, 1), report.divergence
        assert again == [ANSWERS]
        if isinstance(other, Page):
            assert other.calls == [], "a replay shows nothing and asks nobody"


def test_a_changed_answer_in_the_record_is_noticed() -> None:
    store: Any = MemoryLog()
    program(store, Page(**ANSWERS), [])()
    report = replay_session(last(store), store=store, entry=program(store, Page(), [{}]))
    assert report.verified

    def other() -> None:
        with record("ask", store=store):
            StreamWrapper().number_input("How many?", 1, 9)

    report = replay_session(last(store), store=store, entry=other)
    assert not report.verified
    assert "shown" in str(report.divergence)


def test_a_session_that_is_resumed_asks_only_what_was_not_answered() -> None:
    whole = MemoryLog()
    first: list[Any] = []
    result = program(whole, Page(**ANSWERS), first)()
    id = last(whole)
    events = [open_event(body) for body in whole.read(id)]
    for cut in range(1, len(events)):
        answered = {event["data"]["method"] for event in events[:cut] if "value" in event["data"]}
        store = MemoryLog()
        asyncio.run(store.append(whole._sessions[id][:cut], dict(whole._blobs)))
        told: list[Any] = []
        page = Page(**ANSWERS)
        resumed = resume_session(id, store=store, entry=program(store, page, told))
        assert (str(resumed.result), told) == (result, first), f"cut before event {cut}"
        widgets = set(ANSWERS) - {"feedback"}
        assert set(page.names()) & widgets == widgets - answered
        assert "status" in page.names(), "what was shown is shown again: it is another page"
        assert replay_session(id, store=store, entry=program(store, None, [])).verified


def test_a_fork_takes_the_answers() -> None:
    store = MemoryLog()
    program(store, Page(**ANSWERS), [])()
    old = last(store)
    told: list[Any] = []
    page = Page(text_input="somebody else")
    fork = fork_session(old, store=store, entry=program(store, page, told))
    assert told == [ANSWERS]
    assert not set(page.names()) & (set(ANSWERS) - {"feedback"})
    assert {
        data["from"].partition("#")[0] for data in frontend(store) if "value" in data and "from" in data
    } == {old}
    assert replay_session(fork.session, store=store, entry=program(store, None, [])).verified


def test_what_is_raised_is_recorded_and_raised_again() -> None:
    store = MemoryLog()

    class Gone(RuntimeError):
        pass

    def main(page: Any) -> Callable[[], None]:
        def run() -> None:
            stream = StreamWrapper(page)
            with record("broken", store=store), stream.expander("x"):
                try:
                    stream.text_input("?")
                except Exception as error:
                    stream.write(f"{type(error).__name__}: {error}")
                stream.number_input("?", 1)

        return run

    page = Page(text_input=Gone("the browser is gone"), number_input=ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        main(page)()
    assert page.names()[-1] == "exit expander"
    told = frontend(store)
    assert {
        "method": "text_input",
        "phase": "error",
        "error": "Gone",
        "message": "the browser is gone",
    } in told
    assert told[-1] == {"method": "expander", "phase": "exit", "id": 1, "error": "ValueError"}
    assert sum(data.get("phase") == "error" for data in told) == 2, "what goes through a context is one error"
    report = replay_session(last(store), store=store, entry=main(None))
    assert report.verified, report.divergence


def test_a_context_that_raises_what_went_through_it_is_one_error() -> None:
    class Place:
        def __enter__(self) -> None: ...

        def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
            if error is not None:
                raise error

    class Stage:
        def container(self) -> Place:
            return Place()

    store = MemoryLog()
    with pytest.raises(KeyError), record("raising", store=store), StreamWrapper(Stage()).container():
        raise KeyError("x")
    assert [data.get("phase") for data in frontend(store)] == [None, "enter", "exit"]
    assert frontend(store)[-1]["error"] == "KeyError"


def test_a_page_that_is_stopped() -> None:
    store = MemoryLog()

    def main(page: Any) -> Callable[[], None]:
        def run() -> None:
            with record("stopped", store=store):
                StreamWrapper(page).stop()

        return run

    with pytest.raises(Stop):
        main(Page())()
    assert views.summary(views.load(store, last(store))).status == "cancelled"
    assert replay_session(last(store), store=store, entry=main(None)).verified


def test_answers_that_are_not_json_do_not_break_the_log() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError("no")

        def isoformat(self) -> str:
            raise RuntimeError("no")

    upload = io.BytesIO(b"data")
    store = MemoryLog()
    with record("odd", store=store):
        stream = StreamWrapper(Page(file_uploader=upload, data_editor=Odd()))
        assert stream.file_uploader("File") is upload
        assert isinstance(stream.data_editor({"a": [1]}), Odd)
        loop: list[Any] = []
        loop.append(loop)
        stream.write(Odd(), loop, {1: Odd()}, float("inf"))
    told = frontend(store)
    assert told[1]["type"] == "BytesIO"
    assert told[3]["value"] == {"$repr": "<Odd>"}
    assert told[4]["args"][0] == {"$repr": "<Odd>"}


def test_secrets_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "sk-from-the-environment")
    store = MemoryLog()

    def main(page: Any, seen: list[str]) -> Callable[[], None]:
        def run() -> None:
            stream = StreamWrapper(page)
            with record("secrets", store=store):
                key = stream.text_input("Key", type="password")
                seen.append(key)
                stream.write(f"your key is {key}", {"again": key}, "sk-from-the-environment")

        return run

    seen: list[str] = []
    main(Page(text_input="hunter2hunter2"), seen)()
    assert seen == ["hunter2hunter2"]
    log = b"".join(store.read(last(store)))
    assert b"hunter2hunter2" not in log
    assert b"sk-from-the-environment" not in log
    assert replay_session(last(store), store=store, entry=main(None, [])).verified


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_function_of_streamlit_can_be_called(name: str) -> None:
    kind, signature = FUNCTIONS[name]
    store, page = MemoryLog(), Page()
    given: list[Any] = [
        (["one"] if parameter.name in ("tabs", "options", "spec", "stream", "pages") else "text")
        for parameter in signature.parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    results = []
    for stream in (StreamWrapper(page), StreamWrapper(page).sidebar):
        with record("all", store=store):
            try:
                result = getattr(stream, name)(*given)
            except Stop:
                assert kind == "stops"
                continue
            results.append(result)
            if kind in ("element", "context"):
                with result as inner:
                    inner.write("inside")
            elif kind == "elements":
                with result[0]:
                    pass
            elif kind == "decorator":
                assert result(len) is len
    assert page.names().count(name) == 2
    assert frontend(store)[0]["method"] == name
    assert len(results) == (0 if kind == "stops" else 2)


def test_a_stream_that_is_read_from_the_record_is_whole(tmp_path: Any) -> None:
    store = MemoryLog()

    def main() -> str:
        agent = Agent("a", ScriptedBackend(lambda request: "so: " + request.messages[-1].text, chunk=2))
        with record("streams", store=store):
            agent.stream("file").to_file(tmp_path / "said.txt")
            said = "".join(agent.stream("first").text())
            return str(agent(said))

    assert main() == "so: so: first"
    (tmp_path / "said.txt").unlink()
    report = replay_session(last(store), store=store, entry=main)
    assert report.verified, report.divergence
    assert (tmp_path / "said.txt").read_text() == "so: file"


def test_a_widget_that_nobody_can_touch_gives_its_default() -> None:
    store = MemoryLog()
    with record("defaults", store=store):
        for stream in (StreamWrapper(), StreamWrapper(PrintSystem(io.StringIO()))):
            assert stream.text_input("?", "Bob") == stream.text_area("?", value="Bob") == "Bob"
            assert stream.text_input("?") == ""
            assert (stream.checkbox("?"), stream.toggle("?", True), stream.button("?")) == (
                False,
                True,
                False,
            )
            assert stream.selectbox("?", ["a", "b"], index=1) == stream.radio("?", ["a", "b"], 1) == "b"
            assert stream.selectbox("?", ["a"], index=None) is None
            assert stream.multiselect("?", ["a", "b"], ["b"]) == ["b"]
            assert (stream.number_input("?", 2), stream.number_input("?"), stream.slider("?", 3, 9)) == (
                2,
                0.0,
                3,
            )
            assert stream.slider("?", 0, 9, (1, 2)) == (1, 2)
            assert stream.chat_input() is None
            assert stream.write_stream(iter(["a", "b"])) == "ab"


# --- followers -------------------------------------------------------------------------------------------------------


def test_a_follower_that_raises_does_not_break_the_call(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []
    store = MemoryLog()

    def bad(call: str, delta: Any) -> None:
        raise OSError("the page is gone with sk-verysecret-key")

    def main() -> str:
        with record("followed", store=store) as session:
            session.redactor.add("KEY", "sk-verysecret-key")
            session.followers.append(bad)
            session.followers.append(lambda call, delta: seen.append(type(delta).__name__))
            return str(Agent("a", ScriptedBackend(["one two three"], chunk=3))("x"))

    assert main() == "one two three"
    assert seen == [*["TextDelta"] * 5, "Completed"]
    notes = [event["data"] for event in views.load(store, last(store)) if event["kind"] == ev.NOTE]
    assert [note["of"] for note in notes] == ["follower"], "once"
    assert notes[0]["text"] == "a follower raised OSError: the page is gone with [redacted:KEY]"
    assert "a follower raised OSError" in caplog.text
    report = replay_session(last(store), store=store, entry=main)
    assert report.verified, "nobody follows a replay"


def test_a_follow_of_one_call_may_raise() -> None:
    store = MemoryLog()
    with record("followed", store=store):
        agent = Agent("a", ScriptedBackend(["yes"]))
        assert str(agent("x", follow=lambda call, delta: 1 / 0)) == "yes"
    assert views.summary(views.load(store, last(store))).status == "done"


def test_text_is_printed_as_it_comes() -> None:
    file = io.StringIO()
    stream = StreamWrapper(PrintSystem(file))

    def pieces() -> Any:
        for piece in ("a\x1b[2J", "b"):
            yield piece
            file.write("|")

    assert stream.write_stream(pieces) == "a\x1b[2Jb"
    assert file.getvalue() == "a\\x1b[2J|b|\n"
    stream.toast("bye")
    assert file.getvalue().endswith("bye\n")


def test_a_terminal_is_a_frontend(capsys: pytest.CaptureFixture[str]) -> None:
    stream = StreamWrapper(Terminal())
    with stream.status("Working") as status, stream.chat_message("user"):
        status.update(label="Done")
        assert stream.write_stream(iter(["so ", "it is"])) == "so it is"
    assert stream.button("Go") is False, "nobody can press it"
    assert stream.text_input("Name?", "Bob") == "Bob"
    assert stream.line_chart([1, 2]) is None
    assert capsys.readouterr().err == "▸ Working\n▸ user\nDone\nso it is\n"
