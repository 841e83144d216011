"""Panels: the same of a log and of a session that runs, whole, bounded, and free of what a terminal obeys."""

from __future__ import annotations

import asyncio
import io
import random
import sys
import unicodedata
from types import UnionType
from typing import Annotated, Any, TypedDict, Union, get_args, get_origin, is_typeddict

import pytest

import lllm
from lllm import (
    Agent,
    FunctionCall,
    MemoryLog,
    Panels,
    Reply,
    ScriptedBackend,
    StreamWrapper,
    parallel,
    record,
    step,
)
from lllm.core.events import Event
from lllm.core.record_parts import Message as MessageRecord
from lllm.core.records import RECORDS
from lllm.core.shapes import fields_of, misfit
from lllm.errors import ConfigError, LLMError, ServerError
from lllm.log.views import load
from lllm.ports import Restart, TextDelta, ThinkingDelta
from lllm.session import Scope, current
from lllm.terminals import has_colours
from lllm.utils.panels import Board, Drawing, Panel
from lllm.utils.panels.drawing import NARROWEST

HOSTILE = (
    "[red]bold[/red] [/] [link=http://x]y[/link]\n\x1b[31mred\x1b[0m \x1b]0;owned\x07 \u202eright\u202c\r"
    "over\n\ttab\n╰─ not the end ─╯\n" + "日本語" * 40 + "\n" + "x" * 5000
)


def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


def columns(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in line)


def from_log(store: MemoryLog, session: str, **more: Any) -> str:
    file = io.StringIO()
    panels = Panels(file, **more)
    for event in load(store, session):
        panels.take(event)
    return file.getvalue()


def live(work: Any, **more: Any) -> tuple[str, str]:
    """Returns the panels of a session that runs, and those of its log."""
    store, file = MemoryLog(), io.StringIO()
    session = lllm.llm.sessions.open_session("try", store=store)
    Panels(file, **more).attach(session)
    lllm.run(session.start({"name": "try", "task": "a task"}))
    token = current.set(Scope(session))
    try:
        work(session)
    except LLMError:
        pass
    finally:
        current.reset(token)
    lllm.run(session.end("done"))
    return file.getvalue(), from_log(store, session.id, **more)


def everything(session: Any) -> None:
    said = iter(
        [
            FunctionCall("", "add", '{"a": 1, "b": [2]}'),
            FunctionCall("", "add", '{"a": 1, "b": 2}'),
            Reply("three it is", thinking="one\n\nand two " * 30),
            "no tag",
            "<sum>3</sum>",
        ]
    )
    adder = Agent("adder", ScriptedBackend(lambda request: next(said), chunk=3), "You add.", tools=[add])
    prompt = lllm.Prompt(path="p", prompt="Go", required_xml_tags=["sum"])
    (step(str.strip) >> parallel(adder) >> len).run(" 1 + 2 ")
    adder(prompt, session=session)
    down = Agent("down", ScriptedBackend([ServerError("broken", retryable=False)] * 2))
    down("x", session=session)


def test_a_log_shows_what_was_shown_live() -> None:
    shown, logged = live(everything)
    assert shown == logged
    for part in ("task of try", "adder calls add", "add → adder", "adder thinks", "reply rejected", "repair → adder",
                 "stage 1/3: len", "down: ServerError", "down failed: provider_failed", "session done"):  # fmt: skip
        assert part in shown, part


@pytest.mark.parametrize("width", [NARROWEST, 17, 40, 80, 300])
@pytest.mark.parametrize("rich", [True, False])
def test_lines_fit(width: int, rich: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not rich:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    shown, logged = live(everything, width=width)
    assert shown == logged
    assert max(map(columns, shown.splitlines())) <= min(width, 120)


def test_hostile_text_is_text() -> None:
    def work(session: Any) -> None:
        evil = Agent("evil\x1b[2J", ScriptedBackend([HOSTILE], chunk=7), HOSTILE)
        evil(HOSTILE, session=session)

    shown, logged = live(work, colour=False)
    assert shown == logged
    for char in "\x1b\u202e\r\x07\t":
        assert char not in shown
    for words in (
        "[red]bold[/red] [/] [link=http://x]y[/link]",
        r"\x1b[31mred",
        r"evil\x1b[2J",
        r"\u202eright",
    ):
        assert words in shown
    inside = [line for line in shown.splitlines() if "not the end" in line]
    assert inside
    assert all(line.startswith("│ ") and line.endswith(" │") for line in inside)


def test_without_rich_text_stays_behind_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    shown, logged = live(
        lambda session: Agent("a", ScriptedBackend([HOSTILE], chunk=7))("x", session=session)
    )
    assert shown == logged
    assert {line[0] for line in shown.splitlines()} == set("┌│└─")
    assert "\x1b" not in shown


@pytest.mark.parametrize("seed", range(40))
def test_text_in_any_pieces_is_drawn_as_the_whole(seed: int) -> None:
    chance = random.Random(seed)
    words = [
        "a",
        "word",
        "longerthanaline" * 3,
        "日本",
        "\n",
        "\n\n",
        " ",
        "      ",
        "\t",
        "\r\n",
        "é",
        "[/b]",
        "\x1b[",
    ]
    text = "".join(chance.choice(words) + chance.choice(["", " "]) for _ in range(200))
    whole: list[str] = []
    Board(whole.append, lambda: Drawing(30)).show(Panel("reply", "a", text, "foot"))
    pieces: list[str] = []
    board = Board(pieces.append, lambda: Drawing(30))
    at = 0
    while at < len(text):
        size = chance.choice([1, 2, 5, 30])
        board.stream("key", "reply", "a", text[at : at + size])
        at += size
    assert board.has("key", text)
    board.finish("key", "foot")
    assert "\n".join(pieces).split("\n") == "\n".join(whole).split("\n")


@pytest.mark.parametrize(
    "text",
    ["line\n" * 450, "line\n" * 400, "x" * 40_001, "word " * 9_000 + "\n\n  ", "🏴\U000e0067\U000e007f" * 9],
)
def test_a_bound_is_the_same_in_pieces(text: str) -> None:
    whole: list[str] = []
    Board(whole.append, lambda: Drawing(60)).show(Panel("reply", "a", text, "foot"))
    pieces: list[str] = []
    board = Board(pieces.append, lambda: Drawing(60))
    for at in range(0, len(text), 7):
        board.stream("key", "reply", "a", text[at : at + 7])
    assert board.has("key", text)
    assert not board.has("key", text + "more")
    board.finish("key", "foot")
    assert "\n".join(pieces).split("\n") == "\n".join(whole).split("\n")


def test_small_pieces_are_not_drawn_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    begun = Drawing.begun

    def counted(self: Drawing, kind: str, text: str) -> Any:
        tried.append(text)
        return begun(self, kind, text)

    monkeypatch.setattr(Drawing, "begun", counted)
    lines: list[str] = []
    board = Board(lines.append, lambda: Drawing(40))
    for _ in range(4_000):
        board.stream("key", "reply", "a", "\x1b")
    assert 0 < len(tried) <= 4_000 * len(r"\x1b") // 40


def test_long_texts_are_bounded_and_full_shows_them() -> None:
    def work(session: Any) -> None:
        said = iter([FunctionCall("", "much", "{}"), "z" * 50_000])

        def much() -> str:
            """Gives much."""
            return "line\n" * 5_000

        Agent("a", ScriptedBackend(lambda request: next(said), chunk=999), tools=[much])(
            "x" * 9_000, session=session
        )

    shown, logged = live(work)
    assert shown == logged
    assert "(7,000 more characters)" in shown
    assert "(10,000 more characters)" in shown
    assert shown.count("│ line ") == 20
    whole, logged = live(work, full=True)
    assert whole == logged
    assert "more characters" not in whole
    assert whole.count("z") == 50_000


def made(now: list[float] | None = None) -> tuple[Board, list[str]]:
    lines: list[str] = []
    clock = now or [0.0]
    return Board(
        lambda text: lines.extend(text.split("\n")), lambda: Drawing(40), now=lambda: clock[0]
    ), lines


def test_texts_that_come_at_the_same_time_stand_in_whole_panels() -> None:
    board, lines = made()
    for word in range(30):
        for key in "abc":
            board.stream(key, "reply", key, f"{key}{word} ")
        board.show(Panel("note", f"note {word}"))
    for key in "cba":
        board.finish(key, f"foot {key}")
    texts = "\n".join(lines)
    for key in "abc":
        begin, end = texts.index(f"╭─ {key} ─"), texts.index(f"foot {key}")
        inside = texts[begin:end]
        assert inside.count("╭") == 1
        assert all(f"{key}{word}" in inside for word in range(30))
    assert texts.count("note ") == 30


def test_a_text_that_stops_coming_holds_nobody_up() -> None:
    now = [0.0]
    board, lines = made(now)
    board.stream("a", "reply", "a", "first\nsecond ")
    board.show(Panel("note", "waits"))
    assert not any("waits" in line for line in lines)
    now[0] = 5.0
    board.show(Panel("note", "goes on"))
    assert [line for line in lines if "waits" in line or "goes on" in line]
    assert sum("╭" in line for line in lines) == sum("╰" in line for line in lines) == 1
    board.stream("a", "reply", "a", "third")
    board.finish("a", "foot")
    assert any("a (continued)" in line for line in lines)
    assert any("second third" in line for line in lines)
    assert sum("╭" in line for line in lines) == sum("╰" in line for line in lines) == 2


def test_a_question_ends_a_panel_and_nothing_is_lost() -> None:
    board, lines = made()
    board.stream("a", "reply", "a", "one\ntwo")
    board.stream("b", "reply", "b", "waiting")
    board.show(Panel("note", "a note"))
    board.make_room()
    assert sum("╭" in line for line in lines) == sum("╰" in line for line in lines)
    assert any("a note" in line for line in lines)
    board.finish("b", "b foot")
    board.finish("a", "a foot")
    assert [word for word in ("one", "two", "waiting", "a foot", "b foot") if word in "\n".join(lines)] == [
        "one", "two", "waiting", "a foot", "b foot",
    ]  # fmt: skip


def test_what_was_taken_back_is_marked_and_thinking_is_not_shown_twice() -> None:
    file = io.StringIO()
    panels = Panels(file)
    panels.follow("c1", ThinkingDelta("hm"))
    panels.follow("c1", TextDelta("wrong"))
    panels.follow("c1", Restart("asked again"))
    panels.follow("c1", ThinkingDelta("aha"))
    panels.follow("c1", TextDelta("right"))
    message = {"role": "assistant", "content": "right", "thinking": "aha"}
    panels.watch(Event("ModelReplied", {"message": message, "finish": "stop"}, 5, "c1"))
    shown = file.getvalue()
    assert "void: asked again" in shown
    assert [shown.count(word) for word in ("hm", "wrong", "aha", "right")] == [1, 1, 1, 1]


def test_a_reply_that_breaks_off_is_closed_before_its_error() -> None:
    file = io.StringIO()
    panels = Panels(file)
    panels.follow("c1", TextDelta("half of"))
    panels.watch(Event("ModelFailed", {"error": "ServerError", "message": "gone"}, 5, "c1"))
    lines = file.getvalue().splitlines()
    assert lines[2].endswith("broken off ─╯")
    assert "c1: ServerError" in lines[3]


def test_panels_of_a_session_from_its_middle_on() -> None:
    """Whoever attaches late sees what comes from then on, and no error."""
    store, file = MemoryLog(), io.StringIO()
    with record("try", store=store) as session:
        everything_but_the_last(session)
    for at in range(len(load(store, session.id))):
        panels = Panels(file)
        for event in load(store, session.id)[at:]:
            panels.take(event)
    assert "session done" in file.getvalue()


def everything_but_the_last(session: Any) -> None:
    with pytest.raises(LLMError):
        everything(session)


def example(hint: Any, full: bool) -> Any:
    """A value that fits a type hint of the records."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is MessageRecord:
        return {"role": "assistant", "content": "x"}
    if is_typeddict(hint):
        fields = fields_of(hint).items()
        return {name: example(field.type, full) for name, field in fields if field.required or full}
    if origin is Annotated:
        tried = (example(inner[0], full), "0", "sha256:" + "0" * 64, 1)
        return next(one for one in tried if misfit({"x": one}, TypedDict("One", {"x": hint})) == "")  # type: ignore[operator]
    if origin in (Union, UnionType):
        return example(inner[0], full)
    if origin is list:
        return [example(inner[0], full)]
    return {str: "x", int: 1, bool: False, float: 1.0, dict: {}}.get(origin or hint)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("kind", RECORDS)
def test_every_kind_of_event_of_any_log(kind: str, full: bool) -> None:
    """Also with nothing but the keys that each log has, and of a call that began before."""
    data = {
        name: example(field.type, full)
        for name, field in fields_of(RECORDS[kind]).items()
        if field.required or full
    }
    assert misfit(data, RECORDS[kind]) == ""
    file = io.StringIO()
    Panels(file).take({"kind": kind, "call": "c1", "data": data, "at": 5})
    silent = {
        "Cancelled",
        "HandlerFailed",
        "LimitReached",
        "ModelRequested",
        "ReplyAccepted",
        "ToolRequested",
    }
    learned = kind == "EffectReturned" and "kind" in data  # the time, a random number
    entered = kind == "Frontend" and data.get("phase") == "x"
    assert bool(file.getvalue()) is not (kind in silent or learned or entered), (
        "said by the panel of another event"
    )


def test_what_a_system_shows_is_in_panels() -> None:
    def work(session: Any) -> None:
        stream = StreamWrapper(None)
        with stream.status("Working [red]") as status:
            stream.text_input("Name?", "Ada")
            stream.write("# head", {"a": [1]})
            stream.write_stream(iter(["some ", "text"]))
            status.update(label="Ready \x1b[2J", state="complete")
        stream.text_input("Word?", "geheim", type="password")

    shown, logged = live(work, width=60)
    assert shown == logged
    for words in ("Working [red]", "text_input: answered (Ada)", '{"a": [1]}', "some text", r"Ready \x1b[2J"):
        assert words in shown
    assert "$repr" not in shown
    assert shown.count("─ status ─") == 1


def test_a_hand_off_is_shown() -> None:
    def work(session: Any) -> None:
        billing = Agent("billing", ScriptedBackend(["The money is on its way."]))
        first = Agent(
            "desk", ScriptedBackend([FunctionCall("", "transfer_to_billing", "{}")]), handoffs=[billing]
        )
        assert first("Where is my refund?", session=session).content == "The money is on its way."

    shown, logged = live(work)
    assert shown == logged
    for words in ("desk calls transfer_to_billing", "desk → billing on", "desk handed over to billing"):
        assert words in shown
    assert shown.count("The money is on its way.") == 1


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-1234567890")
    secret = "sk-very-secret-1234567890"

    def work(session: Any) -> None:
        said = iter([FunctionCall("", "echo", f'{{"text": "{secret}"}}'), f"it is {secret}."])

        def echo(text: str) -> str:
            """Echo."""
            return text

        Agent("a", ScriptedBackend(lambda request: next(said), chunk=4), tools=[echo])(
            f"Say {secret}", session=session
        )

    shown, logged = live(work, width=20)
    assert shown == logged
    assert "very" not in shown.replace("│\n│", "").replace(" ", "")
    file = io.StringIO()
    Panels(file, width=16).board.show(
        Panel("reply", secret, f"it is {secret}", secret)
    )  # of a log from elsewhere
    assert "very" not in file.getvalue().replace("│\n│", "").replace(" ", "")


def test_a_file_that_is_closed_or_cannot_show_boxes() -> None:
    file = io.StringIO()
    file.close()
    Panels(file).board.show(Panel("note", "x"))
    raw = io.BytesIO()
    latin = io.TextIOWrapper(raw, "ascii")
    Panels(latin).board.show(Panel("reply", "a → b", "日本"))
    latin.flush()
    assert raw.getvalue().decode("ascii").splitlines()[0].startswith("+- a \\u2192 b -")


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({"TERM": ""}, False),
     ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb", "FORCE_COLOR": "1"}, False)],
)  # fmt: skip
def test_colours_only_where_there_are_some(
    variables: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    file, pipe = Screen(), io.StringIO()
    for one in (file, pipe):
        Panels(one).board.show(Panel("error", "title", "body", "foot"))
        Panels(one).board.show(Panel("stage", "rule"))
    assert has_colours(file) is coloured
    assert ("\x1b[" in file.getvalue()) is coloured
    assert "\x1b" not in pipe.getvalue()


def test_debug_shows_a_session_once_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    talker = Agent("talker", ScriptedBackend(lambda request: "hello there"), debug=True, store=MemoryLog())
    quiet = talker.with_(debug=False)
    quiet("x")
    assert capsys.readouterr() == ("", "")
    with record("two", store=MemoryLog()):
        talker("x")
        talker("y")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("hello there") == 2
    quiet("x", debug=True)
    assert capsys.readouterr().err.count("session done") == 1
    with pytest.raises(ConfigError, match="debug must be True or False, got 'yes'"):
        Agent("a", ScriptedBackend([]), debug="yes")  # type: ignore[arg-type]


def test_a_replay_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    store = MemoryLog()
    talker = Agent("talker", ScriptedBackend(["hello there"]), debug=True, store=store)
    talker("x")
    capsys.readouterr()
    (info,) = store.sessions()
    assert lllm.replay_session(info.id, store=store, entry=lambda: talker("x")).verified
    assert capsys.readouterr().err == ""


def test_items_of_a_batch_share_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    async def slow(request: Any) -> str:
        await asyncio.sleep(0)
        return " ".join([request.messages[-1].text] * 40)

    talker = Agent("talker", ScriptedBackend(slow, chunk=4), debug=True)
    step(talker).batch(["ab", "cd", "ef"], store=MemoryLog())
    shown = capsys.readouterr().err
    depth = 0
    for line in shown.splitlines():
        depth += line.count("╭") - line.count("╰")
        assert depth in (0, 1)
    assert shown.count("session done") == 3
