"""What a system shows: forwarded, printed, and in the log."""

import asyncio
import io
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lllm import atomic_files
from lllm.core import events as ev
from lllm.core.redact import Redactor
from lllm.log import views
from lllm.log.memory import MemoryLog
from lllm.session import Scope, Session, current
from lllm.utils import PrintSystem, StreamWrapper, read_text, write_text_atomic


class Shown:
    """An object with some of Streamlit's methods."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def write(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append(("write", args, kwargs))

    @contextmanager
    def spinner(self, text: str) -> Iterator[None]:
        self.calls.append(("enter", text))
        try:
            yield
        finally:
            self.calls.append(("exit", text))

    def columns(self, count: int) -> "list[Shown]":
        self.columns_given = [Shown() for _ in range(count)]
        return self.columns_given

    def empty(self) -> "Shown":
        self.placeholder = Shown()
        return self.placeholder

    def error(self, body: str) -> None:
        raise RuntimeError("the browser is gone")

    def text_input(self, label: str) -> str:
        return "typed"

    title_of_page = "data"


@pytest.fixture
def session() -> Iterator[Session]:
    live = Session(MemoryLog(), id="s", redactor=Redactor({"KEY": "sk-verysecretvalue"}))
    token = current.set(Scope(live, None))
    yield live
    current.reset(token)


def shown(session: Session) -> list[dict[str, Any]]:
    asyncio.run(session.flush())
    return [event["data"] for event in views.load(session.store, "s") if event["kind"] == ev.FRONTEND]


def test_calls_are_forwarded_and_logged(session: Session) -> None:
    stream = Shown()
    wrapper = StreamWrapper(stream)
    wrapper.write("a", 1, unsafe=True)
    assert wrapper.text_input("name?") == "typed"
    assert wrapper.title_of_page == "data"
    assert stream.calls == [("write", ("a", 1), {"unsafe": True})]
    assert shown(session) == [
        {"method": "write", "args": ["a", 1], "kwargs": {"unsafe": True}},
        {"method": "text_input", "args": ["name?"], "kwargs": {}},
        {"method": "text_input", "phase": "value", "value": "typed"},
    ]


def test_what_the_stream_lacks_is_logged(session: Session) -> None:
    for wrapper in (StreamWrapper(Shown()), StreamWrapper()):
        wrapper.markdown("# hi")
        with wrapper.expander("details") as place:
            place.write("inside")
        with wrapper.sidebar:
            pass
        wrapper.sidebar.write("beside")
        left, right = wrapper.columns(2)
        left.write("left")
        right.progress(0.5).progress(0.6)
    methods = [data["method"] for data in shown(session)]
    assert methods[: len(methods) // 2] == methods[len(methods) // 2 :]
    assert methods.count("markdown") == 2


def test_contexts_have_numbers_and_an_end(session: Session) -> None:
    stream = Shown()
    wrapper = StreamWrapper(stream)
    with wrapper.spinner("outer"), wrapper.status("inner") as status:
        status.update(label="half")
    with pytest.raises(ZeroDivisionError), wrapper.spinner("bad"):
        _ = 1 / 0
    assert stream.calls == [("enter", "outer"), ("exit", "outer"), ("enter", "bad"), ("exit", "bad")]
    assert shown(session) == [
        {"method": "spinner", "args": ["outer"], "kwargs": {}, "id": 1},
        {"method": "spinner", "phase": "enter", "id": 1},
        {"method": "status", "args": ["inner"], "kwargs": {}, "id": 2},
        {"method": "status", "phase": "enter", "id": 2},
        {"method": "update", "args": [], "kwargs": {"label": "half"}, "in": 2},
        {"method": "status", "phase": "exit", "id": 2},
        {"method": "spinner", "phase": "exit", "id": 1},
        {"method": "spinner", "args": ["bad"], "kwargs": {}, "id": 3},
        {"method": "spinner", "phase": "enter", "id": 3},
        {"method": "spinner", "phase": "exit", "id": 3, "error": "ZeroDivisionError"},
    ]


def test_numbers_begin_anew_in_each_session(session: Session) -> None:
    wrapper = StreamWrapper()
    wrapper.spinner("one")
    other = Session(MemoryLog(), id="s")
    token = current.set(Scope(other))
    wrapper.spinner("one")
    current.reset(token)
    assert shown(session) == shown(other)


def test_parts_of_a_stream(session: Session) -> None:
    stream = Shown()
    wrapper = StreamWrapper(stream)
    _, right = wrapper.columns(2)
    right.write("r")
    place = wrapper.empty()
    place.write("p")
    wrapper.write(place)
    assert [part.calls for part in stream.columns_given] == [[], [("write", ("r",), {})]]
    assert stream.placeholder.calls == [("write", ("p",), {})]
    assert stream.calls == [("write", (stream.placeholder,), {})]  # a stream gets its own elements back
    data = shown(session)
    assert data[0]["id"] == [1, 2]
    assert (data[1]["in"], data[3]["in"]) == (2, 3)
    assert data[4]["args"] == [{"$element": 3}]


def test_a_stream_that_raises_does_not_lose_the_event(session: Session) -> None:
    with pytest.raises(RuntimeError, match="browser"):
        StreamWrapper(Shown()).error("boom")
    assert shown(session) == [
        {"method": "error", "args": ["boom"], "kwargs": {}},
        {"method": "error", "phase": "error", "error": "RuntimeError", "message": "the browser is gone"},
    ]


def test_secrets_and_odd_values(session: Session) -> None:
    StreamWrapper().write("key sk-verysecretvalue", {1: {2}}, float("nan"), object(), "\ud800")
    (data,) = shown(session)
    assert "verysecret" not in str(data)
    assert data["args"][1:3] == [{"1": [2]}, {"$repr": "nan"}]
    assert "0x" not in data["args"][3]["$repr"]  # an address would differ in a replay


def test_a_call_is_named_where_it_is_known(session: Session) -> None:
    session.emit(ev.CALL_STARTED, {"agent": "a", "add": [{"role": "user", "content": "x"}]}, "c1")
    token = current.set(Scope(session, "c1", "t1"))
    StreamWrapper().write("from a tool")
    current.reset(token)
    asyncio.run(session.flush())
    assert [event["call"] for event in views.load(session.store, "s")] == ["c1", "c1"]


def test_without_a_session() -> None:
    stream = Shown()
    with StreamWrapper(stream).spinner("x"):
        StreamWrapper(stream).write("y")
        StreamWrapper().write("z")
    assert stream.calls == [("enter", "x"), ("write", ("y",), {}), ("exit", "x")]


async def test_after_the_session_has_ended_nothing_is_written() -> None:
    session = Session(MemoryLog(), id="s")
    await session.start()
    await session.end("done")
    token = current.set(Scope(session))
    StreamWrapper().write("late")
    current.reset(token)
    await session.flush()
    assert [event["kind"] for event in views.load(session.store, "s")] == ["SessionStarted", "SessionEnded"]


def test_a_wrapped_wrapper_writes_once(session: Session) -> None:
    stream = Shown()
    StreamWrapper(StreamWrapper(stream)).write("once")
    assert (len(stream.calls), len(shown(session))) == (1, 1)


def test_a_wrapper_is_not_everything() -> None:
    with pytest.raises(AttributeError):
        StreamWrapper().__deepcopy__  # noqa: B018


# --- PrintSystem -----------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(show: Any, file: io.StringIO | None = None, **more: Any) -> str:
    file = file or io.StringIO()
    show(PrintSystem(file, **more))
    return file.getvalue()


@pytest.mark.parametrize(
    ("method", "args", "text"),
    [
        ("write", ("a", 1, {"b": [2]}), 'a 1 {"b": [2]}\n'),
        ("markdown", ("**x**",), "**x**\n"),
        ("title", ("T",), "# T\n"),
        ("subheader", ("T",), "### T\n"),
        ("code", ("a\nb",), "    a\n    b\n"),
        ("json", ({"a": 1},), '{\n  "a": 1\n}\n'),
        ("error", ("no",), "error: no\n"),
        ("divider", (), "-" * 40 + "\n"),
        ("exception", (ValueError("v"),), "error: ValueError: v\n"),
    ],
)
def test_print(method: str, args: tuple[Any, ...], text: str) -> None:
    assert printed(lambda system: getattr(system, method)(*args)) == text


def test_places_are_indented() -> None:
    def show(system: PrintSystem) -> None:
        with system.expander("more") as place:
            place.write("in\nside")
            with system.status("deep", state="running") as status:
                status.update(label="deeper", state="complete")
        with pytest.raises(KeyError), system.container(), system.expander("bad"):
            raise KeyError
        system.write("out")

    assert printed(show).splitlines() == [
        "more", "  in", "  side", "  deep", "    deeper: complete", "bad", "stopped: KeyError", "out",
    ]  # fmt: skip


def test_a_spinner_says_when_it_failed() -> None:
    def show(system: PrintSystem) -> None:
        with system.spinner("one"):
            pass
        with pytest.raises(OSError, match="x"), system.spinner("two"):
            raise OSError("x")

    assert printed(show).splitlines() == ["one ...", "two ...", "two: OSError"]


def test_colours_and_bars_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    def show(system: PrintSystem) -> None:
        system.error("x")
        bar = system.progress(0, "start")
        bar.progress(50)
        system.write("y")

    assert printed(show) == "error: x\ny\n"
    assert "\x1b" not in printed(show, Terminal())  # NO_COLOR is set for all tests
    monkeypatch.delenv("NO_COLOR")
    text = printed(show, Terminal())
    assert "\x1b[31merror: x\x1b[0m\n" in text
    assert "\r[###############...............]  50%" in text
    assert text.endswith("\ny\n")
    assert "\x1b" not in printed(show, Terminal(), colour=False)


def test_control_characters_do_not_reach_the_terminal() -> None:
    shown = printed(lambda system: system.write("a\x1b]0;title\x07\x1b[2Jb\u202e\r\nc\td"))
    assert shown == "a\\x1b]0;title\\x07\\x1b[2Jb\\u202e\nc\td\n"


def test_a_narrow_encoding() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    PrintSystem(file).write("héllo 😀")
    assert file.buffer.getvalue() == b"h?llo ?\n"  # type: ignore[attr-defined]


def test_lines_of_threads_are_not_mixed() -> None:
    file = io.StringIO()
    system = PrintSystem(file)
    threads = [
        threading.Thread(target=lambda n=n: [system.write(str(n) * 50) for _ in range(50)]) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {len(set(line)) for line in file.getvalue().splitlines()} == {1}


def test_wrapped(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    stream = StreamWrapper(PrintSystem())
    with stream.expander("box") as box, stream.spinner("think"):
        box.write("hi")
    stream.progress(0.5, text="half").progress(1.0)
    stream.balloons()
    assert capsys.readouterr().out == "box\n  think ...\n  hi\n"
    assert len(shown(session)) == 10


# --- files -----------------------------------------------------------------------------------------------------------


def test_files_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_text_atomic(path, "line\r\nzwei ü\n")
    assert path.read_bytes() == "line\r\nzwei ü\n".encode()
    assert read_text(path) == "line\r\nzwei ü\n"
    path.write_bytes(b"\xef\xbb\xbfx")
    assert read_text(path) == "x"


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    write_text_atomic(path, "old")
    path.chmod(0o640)
    with pytest.raises(UnicodeEncodeError):
        write_text_atomic(path, "new \ud800")

    def refuse(*args: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(atomic_files.os, "fsync", refuse)
        with pytest.raises(OSError, match="disk full"):
            write_text_atomic(path, "new")
    assert (path.read_text(), [*tmp_path.iterdir()]) == ("old", [path])
    write_text_atomic(path, "new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o640)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    write_text_atomic(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "x"
