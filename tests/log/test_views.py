"""What a log says, read from events that are written down here or made by a scripted session."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lllm.backends.scripted import ScriptedBackend
from lllm.core import events as ev
from lllm.core.guard import AGAIN
from lllm.core.machine import fold
from lllm.errors import LogCorrupt, ServerError, UnknownNameError
from lllm.llm.agent import Agent
from lllm.log import views
from lllm.log.memory import MemoryLog
from lllm.log.sqlite import SQLiteLog
from lllm.models.function import tool
from lllm.models.prompt import Prompt
from lllm.ports import LogStore
from lllm.session import Scope, Session, current
from lllm.utils import StreamWrapper

TASK = 'a/b\\c: 10 kB 😀 "task"\n' + "x" * 10_000


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000_000_000

    def __call__(self) -> int:
        self.now += 1000
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += int(seconds * 1_000_000)


def search(query: str) -> str:
    """Searches."""
    StreamWrapper().write(f"searching {query}")
    return f"found {query}"


async def rich_session(store: LogStore) -> Session:
    """Two agents, a repair, tools, a reused result, a denied one, a fault, frontend events, a fork."""
    clock = Clock()
    session = Session(store, id="rich", seed=1, clock=clock, sleep=clock.sleep)
    await session.start({"name": "rich", "task": TASK})
    token = current.set(Scope(session))
    stream = StreamWrapper()
    price = {"model": "gpt-4o-mini"}
    reader = Agent("reader", ScriptedBackend(["inner says hi"], **price), "You read.")
    calls = [
        {"name": "search", "arguments": {"query": "x"}, "id": "s1"},
        {"name": "search", "arguments": {"query": "x"}, "id": "s2"},
        {"name": "reader", "arguments": {"task": "read x"}, "id": "r1"},
        {"name": "pay", "arguments": {}, "id": "p1"},
    ]
    script = [ServerError("busy", status=503), "no tag", {"tool_calls": calls}, "<a>42</a>", "other", "third"]
    pay = tool(approval=True, name="pay")(lambda: "paid")
    boss = Agent(
        "boss",
        ScriptedBackend(script, **price),
        "You lead.",
        tools=[search, reader, pay],
        approve=lambda call: "no money",
    )
    with stream.spinner("working"):
        dialog = boss.init_dialog()
        boss.send_message(dialog, Prompt("p/go", "Go {where}.", required_xml_tags=["a"]), {"where": "on"})
        await boss.acall(dialog)
    fork = dialog.fork()
    await boss.acall(dialog.append("and now?"))
    await boss.acall(fork.append("or this?"))
    current.reset(token)
    await session.end("done", result={"answer": 42})
    return session


@pytest.fixture
async def rich() -> list[dict[str, Any]]:
    store = MemoryLog()
    await rich_session(store)
    return views.load(store, "rich")


# --- load ------------------------------------------------------------------------------------------------------------


def test_load_finds_a_changed_byte() -> None:
    store = MemoryLog()
    asyncio.run(rich_session(store))
    records = store._sessions["rich"]
    records[5] = records[5]._replace(
        body=records[5].body.replace(b"Go on", b"Go in").replace(b"busy", b"bury")
    )
    with pytest.raises(LogCorrupt) as caught:
        views.load(store, "rich")
    assert caught.value.seq == 5
    del records[5]
    with pytest.raises(LogCorrupt, match=r"event 5 .* is missing"):
        views.load(store, "rich")
    with pytest.raises(UnknownNameError):
        views.load(store, "poor")


def test_a_log_opens_where_nothing_but_the_views_is_imported(tmp_path: Path) -> None:
    async def fill() -> None:
        with SQLiteLog(tmp_path / "log.db") as store:
            await rich_session(store)

    asyncio.run(fill())
    program = (
        "import sys; from lllm.log.sqlite import SQLiteLog; from lllm.log import views\n"
        f"events = views.load(SQLiteLog({str(tmp_path / 'log.db')!r}), 'rich')\n"
        "print(views.summary(events).status, len(views.markdown(events)) > 1000)\n"
        "print(sorted(name for name in sys.modules if name.startswith('lllm.') and name.split('.')[1] in "
        "('llm', 'config', 'discovery', 'registry', 'backends', 'runtime', 'perform', 'tools')))"
    )
    root = str(Path(views.__file__).parents[2])
    program = f"import sys; sys.path.insert(0, {root!r})\n{program}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["done True", "[]"]


# --- fold ------------------------------------------------------------------------------------------------------------


async def test_fold_session(rich: list[dict[str, Any]]) -> None:
    folded = views.fold_session(rich)
    assert (folded.session, folded.name, folded.status) == ("rich", "rich", "done")
    told = [(info.agent, info.parent, info.via, info.status) for info in folded.infos.values()]
    assert told == [
        ("boss", None, None, "done"),
        ("reader", "c1", "r1", "done"),
        ("boss", None, None, "done"),
        ("boss", None, None, "done"),
    ]
    assert [message.role for message in views.dialog_of(folded, "c1")] == [
        "system",
        "user",
        "assistant",
        *["tool"] * 4,
        "assistant",
    ]
    assert views.dialog_of(folded, "c3")[:8] == views.dialog_of(folded, "c1")
    assert fold(views.events_of(rich, "c1")) == folded.calls["c1"]
    assert folded.infos["c1"].ended is not None


async def test_every_prefix_of_a_log_can_be_read(rich: list[dict[str, Any]]) -> None:
    """A process may die anywhere."""
    for length in range(len(rich) + 1):
        part = rich[:length]
        folded = views.fold_session(part)
        unfinished = [call for call, info in folded.infos.items() if info.status == views.UNFINISHED]
        ended = {event["call"] for event in part if event["kind"] == ev.CALL_ENDED}
        assert set(unfinished) == set(folded.calls) - ended
        assert (views.summary(part).status == "done") == (length == len(rich))
        views.transcript(part)
        views.collections(part)
        views.markdown(part)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda events: [event for event in events if event["kind"] != ev.MODEL_REPLIED], "in phase CALLING"),
        (lambda events: events[5:], "has not begun"),
        (lambda events: [event for event in events if event["call"] != "c1"], "goes on from a dialog"),
    ],
)
async def test_events_that_contradict_each_other(
    rich: list[dict[str, Any]], change: Any, message: str
) -> None:
    with pytest.raises(LogCorrupt, match=message):
        views.fold_session(change(rich))


# --- transcript ------------------------------------------------------------------------------------------------------


async def test_transcript(rich: list[dict[str, Any]]) -> None:
    rows = views.transcript(rich)
    assert {row.kind for row in rows} <= set(views.ROWS)
    assert [row.seq for row in rows] == sorted(row.seq for row in rows)
    boss = [(row.kind, row.who, row.text) for row in rows if row.call == "c1" and row.kind != "frontend"]
    assert boss[:9] == [
        ("call", "boss", "boss ScriptedBackend"),
        ("message", "system", "You lead."),
        ("message", "user", "Go on."),
        ("fault", "boss", "ServerError: busy"),
        ("wait", "boss", boss[4][2]),
        ("reply", "boss", "no tag"),
        ("rejected", "boss", "missing required tag <a>"),
        ("prompt", "user", boss[7][2]),
        (
            "reply",
            "boss",
            "asks for search(query='x'); search(query='x'); reader(task='read x'); pay()",
        ),
    ]
    tools = sorted(row[:3] for row in boss if row[0] in ("tool", "result", "approval"))
    assert tools == [
        ("approval", "pay", "not approved: no money"),
        ("result", "reader", "inner says hi"),
        ("result", "search", "found x"),
        ("result", "search", AGAIN.format("found x")),
        ("tool", "reader", "reader(task='read x')"),
        ("tool", "search", "search(query='x')"),
    ]
    assert boss[-2:] == [("reply", "boss", "<a>42</a>"), ("end", "boss", "done")]
    replies = [row.detail["verdict"] for row in rows if row.call == "c1" and row.kind == "reply"]
    assert replies == ["rejected", "accepted", "accepted"]
    reused = [row.detail for row in rows if "reused" in row.detail]
    assert [(detail["id"], detail["reused"]) for detail in reused] == [("s2", "s1")]
    shown = [(row.text, row.call) for row in rows if row.kind == "frontend"]
    assert shown == [
        ("spinner('working')", None),
        ("enter spinner()", None),
        ("write('searching x')", "c1"),
        ("exit spinner", None),
    ]


async def test_rows_of_an_unfinished_call(rich: list[dict[str, Any]]) -> None:
    cut = next(n for n, event in enumerate(rich) if event["kind"] == ev.MODEL_REPLIED) + 1
    rows = views.transcript(rich[:cut])
    assert rows[-1].detail["verdict"] == "open"
    assert "end" not in {row.kind for row in rows}


# --- sums ------------------------------------------------------------------------------------------------------------


async def test_summary(rich: list[dict[str, Any]]) -> None:
    told = views.summary(rich)
    replies = [event["data"] for event in rich if event["kind"] == ev.MODEL_REPLIED]
    assert (told.calls, told.model_calls, told.tool_calls) == (4, 7, 2)
    assert told.usage["prompt"] == sum(data["usage"]["prompt"] for data in replies)
    assert told.cost is not None
    assert float(told.cost) == pytest.approx(sum(float(data["cost"]) for data in replies))
    assert (told.result, told.error) == ({"answer": 42}, None)
    assert told.ended is not None
    assert told.ended > told.started


async def test_an_unknown_price_makes_the_cost_unknown() -> None:
    store = MemoryLog()
    session = Session(store, id="s")
    await Agent("a", ScriptedBackend(["x"], model="gpt-4o-mini")).acall("hi", session=session)
    assert views.summary(views.load(store, "s")).cost is not None
    await Agent("a", ScriptedBackend(["x"], model="no-such-model-anywhere")).acall("hi", session=session)
    told = views.summary(views.load(store, "s"))
    assert told.cost is None
    assert told.usage["completion"] == 2


async def test_a_session_without_a_model_costs_nothing() -> None:
    store = MemoryLog()
    session = Session(store, id="s")
    await session.start({"name": "n"})
    await session.flush()
    told = views.summary(views.load(store, "s"))
    assert (told.cost, told.usage, told.status, told.ended) == ("0", {}, "unfinished", None)


async def test_what_a_lone_call_gave() -> None:
    store = MemoryLog()
    session = Session(store, id="s")
    await session.start()
    await Agent("a", ScriptedBackend(["the answer"])).acall("hi", session=session)
    await session.end("done")
    assert views.summary(views.load(store, "s")).result == "the answer"


# --- collections -----------------------------------------------------------------------------------------------------


async def test_collections(rich: list[dict[str, Any]]) -> None:
    tables = views.collections(rich)
    json.dumps(tables)
    assert list(tables) == ["dialogs", "messages", "frontend"]
    dialogs = [
        (entry["agent"], entry["parent"], entry["forked_from"], entry["prefix"], entry["status"])
        for entry in tables["dialogs"]
    ]
    assert dialogs == [
        ("boss", None, None, 0, "done"),
        ("reader", "c1", None, 0, "done"),
        ("boss", None, "c1", 8, "done"),
        ("boss", None, "c1", 8, "done"),
    ]
    assert [entry.get("phase") for entry in tables["frontend"]] == [None, "enter", None, "exit"]
    for name, entries in tables.items():
        assert [entry["seq"] for entry in entries] == sorted(entry["seq"] for entry in entries), name
    folded = views.fold_session(rich)
    for call in folded.calls:
        kept = [
            (message["role"], message["content"] or "")
            for message in tables["messages"]
            if message["call"] == call and message["kept"]
        ]
        dialog = [(message.role, message.text) for message in views.dialog_of(folded, call)]
        prefix = next(entry["prefix"] for entry in tables["dialogs"] if entry["call"] == call)
        assert sorted(kept) == sorted(dialog[prefix:])  # tool results stand as they came
    dropped = [message["content"] for message in tables["messages"] if not message["kept"]]
    assert dropped[0] == "no tag"
    assert len(dropped) == 2


async def test_markdown(rich: list[dict[str, Any]]) -> None:
    page = views.markdown(rich)
    assert page.startswith("# rich\n")
    for text in (
        "- status: done",
        "**reply** (rejected)",
        "(given again)",
        "Go on.",
        "inner says hi",
        "busy",
        "😀",
    ):
        assert text in page
    fence = [{**event, "data": {**event["data"], "task": "```\n# not a heading"}} for event in rich[:1]]
    assert "````text\n```\n# not a heading\n````" in views.markdown(fence)


MARKUP = "# head <b>x</b> ![i](http://evil.example/x.png) *a* _b_ `c` $x$ | www.evil.example https://evil.example ~d~"


def test_names_in_markdown_are_text() -> None:
    from lllm.log.transcript import Row
    from lllm.log.views import plain, section

    text = plain(f"a\n\n{MARKUP}")
    assert "\n" not in text
    for mark in ("# ", "<b", "![", "*a", "_b", "`c", "$x", "| ", "://", "www.e", "~d"):
        at = text.find(mark)
        assert at < 0 or text[at - 1] == "\\", mark
    row = Row(3, 0, "tool", "c1", "x\n# Chapter", "words", {})
    assert "\n# Chapter" not in section(row, 0)


def test_the_name_of_a_dialog_is_text_in_markdown() -> None:
    from lllm.llm.dialog import Dialog
    from lllm.models.message import Message

    page = Dialog([Message("user", "Hi", name="a\n# b")], name="x\n\n# Chapter").markdown()
    assert [line for line in page.splitlines() if line.startswith("#")] == ["# x \\# Chapter"]
