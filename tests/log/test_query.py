"""Sessions that are looked for, and what they cost together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lllm import Agent, FunctionCall, LocalFileLog, MemoryLog, SQLiteLog, record
from lllm.backends.scripted import ScriptedBackend
from lllm.core import events as ev
from lllm.errors import ConfigError, UnknownNameError
from lllm.log.query import GROUPS, SORTS, STATUSES, find, totals
from lllm.log.summaries import Summaries, place_of
from lllm.log.when import moment
from lllm.log.words import words_of
from lllm.ports import LogStore
from lllm.session import Session

DAY = 86_400_000_000
MONDAY = int(datetime(2026, 11, 16, 12, tzinfo=UTC).timestamp() * 1_000_000)


class Counted(MemoryLog):
    """Counts what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies = 0

    def read(self, session: str, after: int = -1) -> Iterable[bytes]:
        for body in super().read(session, after):
            self.bodies += 1
            yield body


async def _written(
    store: LogStore,
    id: str,
    *,
    at: int = MONDAY,
    agent: str = "writer",
    model: str = "openai/gpt-4o",
    prompt: str = "demo/task",
    task: str = "",
    reply: str = "Here you are.",
    tools: Iterable[tuple[str, str, bool]] = (),
    tokens: tuple[int, int] = (100, 10),
    cost: str | None = "0.25",
    status: str | None = "done",
    **meta: Any,
) -> None:
    """A session of one call, as the runtime writes it; `tools` are name, arguments and whether it worked."""
    clock = iter(range(at, at + 10_000_000, 1_000_000))
    session = Session(store, id=id, clock=lambda: next(clock))
    await session.start({"name": "demo", "task": task, **meta})
    opening = {
        "agent": agent,
        "model": model,
        "prompt": {"path": prompt},
        "add": [{"role": "user", "content": task}],
    }
    session.emit(ev.CALL_STARTED, opening, "c1")
    asked = [
        {"id": f"t{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments, _) in enumerate(tools)
    ]
    message = {"role": "assistant", "content": reply, **({"tool_calls": asked} if asked else {})}
    data: dict[str, Any] = {
        "message": message,
        "finish": "tool_calls" if asked else "stop",
        "usage": dict(zip(("prompt", "completion"), tokens, strict=True)),
    }
    session.emit(ev.MODEL_REPLIED, data if cost is None else {**data, "cost": cost}, "c1")
    for n, (name, _, ok) in enumerate(tools):
        session.emit(ev.TOOL_REQUESTED, {"id": f"t{n}", "name": name, "n": n}, "c1")
        session.emit(
            ev.TOOL_RETURNED, {"id": f"t{n}", "content": f"result {n}", **({} if ok else {"ok": False})}, "c1"
        )
    if status is None:
        await session.flush()
        return
    error = {} if status == "done" else {"error": "RepairExhausted: no luck"}
    session.emit(ev.CALL_ENDED, {"status": status, **error}, "c1")
    await session.end(status, **error)


def write(store: LogStore, id: str, **more: Any) -> None:
    asyncio.run(_written(store, id, **more))


@pytest.fixture
def store() -> Counted:
    store = Counted()
    write(store, "a", task="Refund the order 4711", tools=[("lookup", '{"city": "K\\u00f6ln"}', True)])
    write(
        store,
        "b",
        at=MONDAY + DAY,
        agent="critic",
        model="local/small",
        cost=None,
        tokens=(7, 3),
        reply="It was REFUNDED.",
    )
    write(
        store,
        "c",
        at=MONDAY + 2 * DAY,
        status="failed",
        cost="1.5",
        tools=[("lookup", "{}", False), ("send", "{}", True)],
    )
    write(
        store, "d", at=MONDAY + 3 * DAY, status=None, cost="0", name="other", fork={"session": "a", "at": 3}
    )
    return store


def ids(rows: Iterable[Any]) -> list[str]:
    return [row["session"] for row in rows]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, "dcba"),
        ({"agent": "critic"}, "b"),
        ({"agent": ["critic", "wri*"]}, "dcba"),
        ({"agent": "nobody"}, ""),
        ({"model": "openai/*"}, "dca"),
        ({"model": "openai/*", "agent": "critic"}, ""),
        ({"prompt": "demo/task"}, "dcba"),
        ({"tool": "send"}, "c"),
        ({"status": "failed"}, "c"),
        ({"status": ["done", "running"]}, "dba"),
        ({"name": "other"}, "d"),
        ({"forked_from": "a"}, "d"),
        ({"min_cost": 1}, "c"),
        ({"max_cost": 0.3}, "da"),
        ({"min_tokens": 50}, "dca"),
        ({"max_tokens": 50}, "b"),
        ({"since": "2026-11-18T12:00:00+00:00"}, "dc"),
        ({"until": "2026-11-17T12:00:00+00:00"}, "ba"),
        ({"since": "2026-11-17", "until": "2026-11-18"}, "cb"),
        ({"text": "refund"}, "ba"),
        ({"text": "REFUND order"}, "a"),
        ({"text": '"the order"'}, "a"),
        ({"text": '"order the"'}, ""),
        ({"text": "köln"}, "a"),
        ({"text": "luck"}, "c"),
        ({"text": "result"}, "ca"),
        ({"text": "assistant"}, ""),
        ({"text": "sha256"}, ""),
        ({"sort": "cost"}, "cadb"),
        ({"sort": "tokens"}, "dcab"),
        ({"limit": 2}, "dc"),
        ({"limit": 1, "agent": "critic"}, "b"),
    ],
)
def test_what_is_looked_for_is_found(store: Counted, wanted: dict[str, Any], found: str) -> None:
    rows = ids(find(store, **wanted))
    if wanted.get("sort") == "tokens":
        assert (set(rows[:3]), rows[3:]) == (set(found[:3]), [found[3]])
    else:
        assert rows == list(found)


def test_a_row(store: Counted) -> None:
    (row,) = find(store, text="4711")
    assert json.loads(json.dumps(row)) == row
    assert row == {
        "session": "a", "name": "demo", "task": "Refund the order 4711", "status": "done",
        "started": "2026-11-16T12:00:00.000Z", "updated": "2026-11-16T12:00:06.000Z", "seconds": 6.0, "events": 7,
        "agents": ["writer"], "prompts": ["demo/task"], "models": ["openai/gpt-4o"], "tools": ["lookup"],
        "forked_from": None, "calls": 1, "failed_calls": 0, "model_calls": 1, "faults": 0, "tool_calls": 1,
        "failed_tools": 0, "tokens": 110, "tokens_in": 100, "tokens_out": 10, "tokens_cached": 0, "tokens_reasoning": 0,
        "cost": 0.25, "unpriced": 0, "reused": 0, "tokens_saved": 0, "saved": 0.0, "error": None, "problem": None,
        "match": {"seq": 0, "text": "Refund the order 4711"},
    }  # fmt: skip
    assert find(store, agent="critic")[0]["cost"] is None, "an unknown price is not zero"
    assert find(store, status="failed")[0]["error"] == "RepairExhausted: no luck"


def test_totals_by_everything(store: Counted) -> None:
    by_model = totals(store, "model")
    assert [
        (row["model"], row["sessions"], row["tokens"], row["cost"], row["unpriced"]) for row in by_model
    ] == [
        ("openai/gpt-4o", 3, 330, 1.75, 0),
        ("local/small", 1, 10, None, 1),
    ]
    assert [(row["agent"], row["calls"], row["failed_calls"]) for row in totals(store, "agent")] == [
        ("writer", 3, 1),
        ("critic", 1, 0),
    ]
    tools = {
        row["tool"]: (row["sessions"], row["tool_calls"], row["failed_tools"], row["cost"])
        for row in totals(store, "tool")
    }
    assert tools == {"lookup": (2, 2, 1, 1.75), "send": (1, 1, 0, 1.5)}
    assert [row["day"] for row in totals(store, "day")] == [
        "2026-11-16",
        "2026-11-17",
        "2026-11-18",
        "2026-11-19",
    ]
    assert {row["status"]: row["calls"] for row in totals(store, "status")} == {
        "done": 2,
        "failed": 1,
        "running": 1,
    }
    assert {row["name"]: row["sessions"] for row in totals(store, "name")} == {"demo": 3, "other": 1}
    assert [row["prompt"] for row in totals(store, "prompt")] == ["demo/task"]


def test_totals_make_no_row_that_nothing_looks_at(store: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {by: totals(store, by, since="2000-01-01") for by in ("model", "agent", "tool")}
    filtered = {by: totals(store, by, name="*") for by in whole}
    assert filtered == whole, "the long way gives the same"
    monkeypatch.delattr("lllm.log.query._row")
    assert {by: totals(store, by) for by in whole} == whole


def test_groups_together_are_the_whole(store: Counted) -> None:
    whole = sum(row["tokens"] for row in find(store))
    for by in GROUPS.keys() - {"tool"}:
        rows = totals(store, by)
        assert sum(row["tokens"] for row in rows) == whole, by
        assert sum(row["tool_calls"] for row in rows) == 3, by


def test_totals_take_the_filters_of_find(store: Counted) -> None:
    assert [row["agent"] for row in totals(store, "agent", model="local/*")] == ["critic"]
    assert [row["tool"] for row in totals(store, "tool", tool="send")] == ["send"]
    assert totals(store, "model", since="2026-11-19")[0]["sessions"] == 1
    assert totals(store, "model", agent="nobody") == []


def test_another_agents_part_is_left_out() -> None:
    store = MemoryLog()
    with record("both", store=store):
        for agent, model in (("one", "a"), ("two", "b")):
            Agent(agent, ScriptedBackend([{"content": "x", "usage": {"prompt": 5, "completion": 1}}]))(model)
    assert {row["agent"]: row["tokens"] for row in totals(store, "agent")} == {"one": 6, "two": 6}
    (row,) = totals(store, "status", agent="two")
    assert (row["sessions"], row["calls"], row["tokens"]) == (1, 1, 6)


def test_what_the_runtime_writes_is_counted() -> None:
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    store = MemoryLog()
    asks = FunctionCall("", "add", '{"a": 1, "b": 2}')
    with record("real", store=store):
        Agent("adder", ScriptedBackend([asks, "It is 3."]), tools=[add])("What is 1 + 2?")
    (row,) = find(store, text="1 + 2", tool="add")
    assert (row["calls"], row["model_calls"], row["tool_calls"], row["status"]) == (1, 2, 1, "done")
    assert row["agents"] == ["adder"]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"status": "finished"}, "no status named 'finished'\n  Known: " + ", ".join(sorted(STATUSES))),
        ({"sort": "price"}, "no sort named 'price'\n  Known: " + ", ".join(sorted(SORTS))),
        ({"since": "yesterday"}, "since is 'yesterday', which is no time"),
        ({"until": "2026-13-01"}, "until is '2026-13-01'"),
    ],
)
def test_what_is_not_possible_says_what_is(store: Counted, wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find(store, **wanted)
    with pytest.raises(
        UnknownNameError, match="no group named 'colour'\n  Known: " + ", ".join(sorted(GROUPS))
    ):
        totals(store, "colour")


def test_times() -> None:
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)

    def back(value: Any, **more: Any) -> datetime:
        return datetime.fromtimestamp(moment(value, "x", now=now, **more) / 1_000_000, UTC)

    assert now - back("90m") == timedelta(minutes=90)
    assert now - back("1.5h") == now - back(timedelta(hours=1.5)) == timedelta(hours=1.5)
    assert now - back("2w") == timedelta(days=14)
    day = datetime(2026, 11, 20).astimezone()
    assert back("2026-11-20") == day
    assert back("2026-11-20", end=True) == day + timedelta(days=1) - timedelta(microseconds=1)
    assert back("2026-11-20T08:00:00Z") == datetime(2026, 11, 20, 8, tzinfo=UTC)
    for odd in ("", "2 x", "-1h", "99999999999w"):
        with pytest.raises(ConfigError, match="no time"):
            moment(odd, "since")


def test_words() -> None:
    assert words_of('a "b c"  d') == ["a", "b c", "d"]


# --- once ------------------------------------------------------------------------------------------------------------


def test_of_2000_sessions_the_second_query_reads_nothing() -> None:
    store = Counted()

    async def fill() -> None:
        for number in range(2000):
            await _written(
                store, f"s{number:04}", at=MONDAY + number, agent=f"agent{number % 7}", cost="0.001"
            )

    asyncio.run(fill())
    first = totals(store, "agent")
    assert store.bodies == 2000 * 5
    store.bodies = 0
    assert totals(store, "agent") == first
    assert len(find(store, agent="agent3", min_tokens=1, sort="cost")) == 286
    assert store.bodies == 0
    write(store, "new", at=MONDAY + DAY, agent="agent3")
    assert len(find(store, agent="agent3")) == 287
    assert store.bodies == 5, "what is new is read, and nothing else"


@pytest.mark.parametrize("kind", [SQLiteLog, LocalFileLog])
def test_figures_outlive_the_process(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / ("log.db" if kind is SQLiteLog else "sessions")
    with kind(place) as store:
        assert find(store) == []
        assert not tmp_path.exists() or list(tmp_path.iterdir()) == [], "looking at nothing writes nothing"
        write(store, "a")
        write(store, "b", agent="critic")
        rows = find(store)
    read: list[str] = []
    real = kind.read

    def counted(self: Any, session: str, after: int = -1) -> Any:
        read.append(session)
        return real(self, session, after)

    monkeypatch.setattr(kind, "read", counted)
    with kind(place) as store:
        kept = place_of(store)
        assert kept is not None
        assert find(store) == rows
        assert read == []
        kept.write_bytes(b"not a database" * 100)
        assert find(store) == rows
        assert sorted(read) == ["a", "b"]
        assert find(store) == rows
        assert len(read) == 2, "it was made anew"
        kept.unlink()
        assert find(store) == rows
        assert len(read) == 4
        store.delete(["a"])
        assert ids(find(store)) == ["b"]
        summaries = Summaries(store)
        summaries.open()
        assert list(summaries._known) == ["b"], "what is gone is forgotten"


def test_a_session_that_goes_on_is_read_again() -> None:
    store = Counted()
    write(store, "a", status=None)
    assert find(store)[0]["status"] == "running"

    async def more() -> None:
        from lllm.core.envelope import open_event, seal

        last = open_event([*store.read("a")][-1])
        record = seal(
            "a",
            last["seq"] + 1,
            last["at"] + 1,
            None,
            None,
            ev.SESSION_ENDED,
            {"status": "done"},
            last["hash"],
        )
        await store.append([record])

    asyncio.run(more())
    assert find(store)[0]["status"] == "done"


# --- broken ----------------------------------------------------------------------------------------------------------


def test_a_corrupt_session_does_not_break_a_query(tmp_path: Path) -> None:
    with LocalFileLog(tmp_path) as store:
        write(store, "good", task="find me")
        write(store, "bad", task="find me", at=MONDAY + DAY)
        file = tmp_path / "bad" / "events.jsonl"
        file.write_bytes(file.read_bytes().replace(b"Here you are.", b"Here you were"))
        rows = find(store)
        assert [(row["session"], row["status"]) for row in rows] == [("bad", "corrupt"), ("good", "done")]
        assert "changed" in (rows[0]["problem"] or "")
        assert (rows[0]["agents"], rows[0]["tokens"]) == (["writer"], 0), "summed as far as it is intact"
        assert ids(find(store, status="corrupt")) == ["bad"]
        assert ids(find(store, text="find me")) == ["bad", "good"]
        assert {row["status"]: row["sessions"] for row in totals(store, "status")} == {
            "corrupt": 1,
            "done": 1,
        }


def test_a_log_that_is_sealed_but_makes_no_sense(tmp_path: Path) -> None:
    from lllm.core.envelope import seal

    store = MemoryLog()
    asyncio.run(store.append([seal("odd", 0, 1, "c1", None, ev.MODEL_REPLIED, {"message": 3}, "")]))
    write(store, "good")
    assert {row["session"]: row["status"] for row in find(store)} == {"odd": "corrupt", "good": "done"}
    find(store, text="anything")


def test_what_a_fork_takes_is_not_paid_for_again() -> None:
    from lllm.replay.fork import fork_session

    store = MemoryLog()

    def main() -> str:
        with record("one", store=store):
            return str(
                Agent("a", ScriptedBackend([{"content": "x", "usage": {"prompt": 5, "completion": 1}}]))(
                    "hello"
                )
            )

    main()
    (old,) = ids(find(store))
    fork = fork_session(old, store=store, entry=main)
    assert [(row["session"], row["tokens"], row["model_calls"]) for row in find(store, forked_from=old)] == [
        (fork.session, 0, 0)
    ]
    assert totals(store, "agent")[0]["tokens"] == 6


def test_a_store_without_a_folder(postgres_url: str, tmp_path: Path) -> None:
    from lllm.log import PostgresLog

    rows: list[Any] = []
    for _again in range(2):
        with PostgresLog(postgres_url, schema="looked_for") as store:
            if not rows:
                write(store, "a", task="Refund the order", tools=[("lookup", "{}", True)])
                write(store, "b", agent="critic", status="failed")
            assert place_of(store) is None
            rows.append(find(store, cache=tmp_path / "summaries.db"))
            assert ids(find(store, text="refund", tool="lookup")) == ["a"]
            assert {row["agent"]: row["failed_calls"] for row in totals(store, "agent")} == {
                "critic": 1,
                "writer": 0,
            }
    assert rows[0] == rows[1]
    assert (tmp_path / "summaries.db").exists()
