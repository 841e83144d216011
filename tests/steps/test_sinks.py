"""Sinks: what passes is written once, whole, and as it is, and given on unchanged."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
import errno
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet
import pydantic
import pytest

import lllm
from lllm import (
    Agent,
    MemoryLog,
    ScriptedBackend,
    ToolContext,
    parallel,
    retry,
    sink,
    step,
    to_jsonl,
    to_parquet,
    to_sqlite,
)
from lllm.core.envelope import open_event
from lllm.errors import ConfigError, SinkError, StageError, UncertainEffect
from lllm.steps import Sink
from lllm.steps.sinks.rows import row_of


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def jsonl(path: str = "out.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().split("\n")[:-1]]


def sqlite(path: str = "out.db", table: str = "rows") -> list[dict[str, Any]]:
    with sqlite3.connect(path) as db:
        db.row_factory = sqlite3.Row
        found = [dict(row) for row in db.execute(f'SELECT * FROM "{table}"')]
    db.close()
    return found


def parquet(path: str = "out.parquet") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    return found


FILES: dict[str, tuple[Callable[[], Sink], Callable[[], list[dict[str, Any]]]]] = {
    "jsonl": (lambda: to_jsonl("out.jsonl"), jsonl),
    "sqlite": (lambda: to_sqlite("out.db"), sqlite),
    "parquet": (lambda: to_parquet("out.parquet"), parquet),
}
of_each = pytest.mark.parametrize("kind", FILES)


def values(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: one for name, one in row.items() if name != "_key"} for row in rows]


def texts(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(row["text"] for row in rows)


def same(value: Any) -> Any:
    return value


def kinds_of(store: MemoryLog, id: str) -> list[str]:
    return [open_event(one)["kind"] for one in store.read(id)]


def cut(store: MemoryLog, id: str, count: int) -> MemoryLog:
    out = MemoryLog()
    out._blobs = dict(store._blobs)
    out._sessions = {**store._sessions, id: list(store._sessions[id][:count])}
    return out


# --- rows


class Colour(enum.Enum):
    RED = "red"


class Answer(pydantic.BaseModel):
    name: str
    score: float


@dataclasses.dataclass
class Point:
    x: int
    y: list[int]


class Pair(NamedTuple):
    a: int
    b: int


@pytest.mark.parametrize(
    ("value", "row"),
    [
        ("a", {"text": "a"}),
        ({"a": 1, 2: "b"}, {"a": 1, "2": "b"}),
        (Answer(name="n", score=1.5), {"name": "n", "score": 1.5}),
        (Point(1, [2]), {"x": 1, "y": [2]}),
        (Pair(1, 2), {"a": 1, "b": 2}),
        (3, {"value": 3}),
        (None, {"value": None}),
        ([1, "a"], {"value": [1, "a"]}),
        (Colour.RED, {"value": "red"}),
        (
            {"d": datetime.date(2024, 1, 2), "m": Decimal("1.10"), "p": Path("a/b")},
            {"d": "2024-01-02", "m": "1.10", "p": "a/b"},
        ),
        ({"s": {3, 1}, "in": Answer(name="n", score=1)}, {"s": [1, 3], "in": {"name": "n", "score": 1.0}}),
        (lllm.Reply("said"), {"text": "said"}),
        (lllm.Reply("{}", parsed={"a": 1}), {"a": 1}),
        ({}, {}),
        ("\ud800", {"text": "\ufffd"}),
    ],
)
def test_columns_of_a_value(value: Any, row: dict[str, Any]) -> None:
    assert row_of(value) == row


def test_what_cannot_be_written_says_where() -> None:
    deep: list[Any] = []
    deep.append(deep)
    for value, words in [
        ({"a": object()}, "column 'a' is a builtins.object, which cannot be written"),
        ({"a": {"b": Point}}, "column 'a' is a builtins.type"),
        ({"a": deep}, "column 'a' is nested more than 100 deep, or contains itself"),
        ({"_key": 1}, "which is the sink's own"),
        ({"": 1}, "a column cannot be called ''"),
    ]:
        with pytest.raises(SinkError, match=words):
            row_of(value)


ODD = {
    "nested": {"a": [1, {"b": b"\x00\xff"}]},
    "bytes": b"\x00\xff",
    "nan": math.nan,
    "huge": 10**30,
    "large": 2**60,
    "flag": True,
    "none": None,
    "text": 'say "ä\n\u2028"',
    'odd "name"': 1,
}


def test_odd_cells() -> None:
    made = step(same) >> to_jsonl("out.jsonl") >> to_sqlite("out.db") >> to_parquet("out.parquet")
    assert made.run(ODD).value is ODD  # unchanged
    line = values(jsonl())[0]
    assert line == {**ODD, "nested": {"a": [1, {"b": "AP8="}]}, "bytes": "AP8=", "nan": "NaN"}
    row = values(sqlite())[0]
    in_table = {"nested": '{"a": [1, {"b": "AP8="}]}', "huge": str(10**30)}
    assert row == {**ODD, **in_table, "nan": "NaN", "flag": 1}
    cells = values(parquet())[0]
    assert math.isnan(cells.pop("nan"))
    assert cells == {name: one for name, one in {**ODD, **in_table}.items() if name != "nan"}


def test_a_parquet_column_has_the_type_that_all_values_have() -> None:
    made = step(same) >> to_parquet("out.parquet")
    rows = [{"a": 1, "b": 1, "c": "x"}, {"a": 2.5, "b": "y"}, {"a": None, "d": True}]
    made.batch(rows, limit=1)
    schema = pyarrow.parquet.read_schema("out.parquet")
    assert {name: str(schema.field(name).type) for name in "abcd"} == {
        "a": "double",
        "b": "string",
        "c": "string",
        "d": "bool",
    }
    assert values(parquet())[1] == {"a": 2.5, "b": "y", "c": None, "d": None}
    made.batch([{"a": 7, "e": 1}])  # what the file had stays
    assert len(parquet()) == 4
    assert values(parquet())[0]["b"] == "1"
    assert [name for name in os.listdir() if name.startswith("out")] == ["out.parquet"]


# --- once


@of_each
def test_each_item_of_a_batch_is_a_row(kind: str) -> None:
    make, rows = FILES[kind]
    made = step(str.upper) >> make()
    assert made.batch(["a", "b", "c"]) == ["A", "B", "C"]
    assert texts(rows()) == ["A", "B", "C"]
    assert len({row["_key"] for row in rows()}) == 3
    made("d")
    assert list(made.stream("e")) == []
    assert texts(rows()) == ["A", "B", "C", "D", "E"]


@of_each
def test_a_replay_writes_nothing(kind: str) -> None:
    make, _ = FILES[kind]
    store = MemoryLog()
    made = step(str.upper) >> make()

    def program() -> Any:
        return made.batch(["a", "b"], store=store)

    program()
    before = sorted((path.name, path.read_bytes()) for path in Path().iterdir())
    report = lllm.replay_session(min(store._sessions, key=len), store=store, entry=program)
    assert report.verified, report.divergence
    assert sorted((path.name, path.read_bytes()) for path in Path().iterdir()) == before
    for path in Path().iterdir():
        path.unlink()
    assert lllm.replay_session(min(store._sessions, key=len), store=store, entry=program).verified
    assert list(Path().iterdir()) == []


@of_each
def test_cut_off_anywhere_it_writes_each_row_once(kind: str) -> None:
    make, rows = FILES[kind]
    store = MemoryLog()

    def program(store: MemoryLog = store) -> Any:
        return (step(str.upper) >> make() >> str.lower >> make()).run("a", store=store)

    id = program().session
    assert texts(rows()) == ["A", "a"]
    for at in range(1, len(store._sessions[id])):
        part = cut(store, id, at)
        lllm.resume_session(id, store=part, entry=lambda part=part: program(part))
        assert texts(rows()) == ["A", "a"], at
        assert lllm.replay_session(id, store=part, entry=lambda part=part: program(part)).verified


@of_each
def test_a_fork_writes_rows_of_its_own_where_they_differ(kind: str) -> None:
    make, rows = FILES[kind]
    store = MemoryLog()
    words = ["first", "second"]

    def model(request: Any) -> str:
        return words[0]

    def program() -> Any:
        return (step(str.strip) >> make() >> Agent("a", ScriptedBackend(model)) >> make()).run(
            "q", store=store
        )

    id = program().session
    assert texts(rows()) == ["first", "q"]
    at = kinds_of(store, id).index("ModelRequested")
    words.reverse()
    fork = lllm.fork_session(id, at=at, store=store, entry=program)
    assert texts(rows()) == ["first", "q", "second"]
    keys = {row["text"]: row["_key"].rpartition("/")[0] for row in rows()}
    assert keys == {"q": id, "first": id, "second": fork.session}


def test_a_fork_of_a_batch_writes_the_rows_that_differ(tmp_path: Path) -> None:
    store, values, file = MemoryLog(), ["a", "b", "c"], tmp_path / "rows.jsonl"

    def program() -> Any:
        return (step(str.upper) >> to_jsonl(file)).batch(values, store=store, name="letters")

    program()
    batch = min((info.id for info in store.sessions()), key=len)
    values[1] = "z"
    fork = lllm.fork_session(batch, store=store, entry=program)
    keys = {row["text"]: row["_key"].split("/")[0] for row in map(json.loads, file.read_text().splitlines())}
    assert keys == {"A": f"{batch}-0", "B": f"{batch}-1", "C": f"{batch}-2", "Z": f"{fork.session}-1"}
    assert lllm.replay_session(fork.session, store=store, entry=program).verified
    assert len(file.read_text().splitlines()) == 4


def test_a_sink_within_retry_writes_each_try() -> None:
    tries: list[str] = []

    def flaky(text: str) -> str:
        tries.append(text)
        if len(tries) == 1:
            raise OSError("busy")
        return text

    retry(step(str.upper) >> to_jsonl("in.jsonl") >> flaky, on=OSError)("a")
    assert len(jsonl("in.jsonl")) == 2
    tries.clear()
    (retry(step(str.upper) >> flaky, on=OSError) >> to_jsonl("behind.jsonl"))("a")
    assert len(jsonl("behind.jsonl")) == 1


# --- killed, and several at once

PROGRAM = """
import os, signal, sys
from lllm import LocalFileLog, step, to_jsonl, to_parquet, to_sqlite
import lllm

def slow(text):
    if int(text) == 12 and sys.argv[1] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    return text * 3000

store = LocalFileLog("log")
chain = step(slow) >> to_jsonl("out.jsonl") >> to_sqlite("out.db") >> to_parquet("out.parquet")
entry = lambda: chain.batch([str(n) for n in range(30)], limit=4, store=store)
if sys.argv[1] == "killed":
    entry()
else:
    batch = min((one.id for one in store.sessions(99)), key=len)
    lllm.resume_session(batch, store=store, entry=entry)
"""


def python(code: str, *args: str) -> int:
    root = str(Path(lllm.__file__).parent.parent)
    env = {**os.environ, "PYTHONPATH": root}
    return subprocess.run([sys.executable, "-c", code, *args], env=env, timeout=120).returncode


def test_kill_9_leaves_whole_rows_and_a_resumed_batch_has_each_once() -> None:
    assert python(PROGRAM, "killed") == -signal.SIGKILL
    before = len(jsonl())
    assert 0 < before < 30  # every line is a row
    assert len(sqlite()) <= before
    assert not Path("out.parquet").exists()
    assert python(PROGRAM, "resumed") == 0
    wanted = sorted(str(n) * 3000 for n in range(30))
    for rows in (jsonl(), sqlite(), parquet()):
        assert texts(rows) == wanted
    assert not Path("out.parquet.rows").exists()


WRITES = """
import sys
from lllm import NoLog, step, to_jsonl, to_parquet, to_sqlite
chain = step(str.upper) >> to_jsonl("out.jsonl") >> to_sqlite("out.db") >> to_parquet("out.parquet")
chain.batch([f"{sys.argv[1]}{n}" for n in range(40)], store=NoLog())
"""


def test_two_processes_and_many_threads_at_one_file() -> None:
    root = str(Path(lllm.__file__).parent.parent)
    env = {**os.environ, "PYTHONPATH": root}
    both = [subprocess.Popen([sys.executable, "-c", WRITES, name], env=env) for name in "ab"]
    assert [one.wait(120) for one in both] == [0, 0]
    wanted = sorted(f"{name}{n}" for name in "AB" for n in range(40))
    for rows in (jsonl(), sqlite(), parquet()):
        assert texts(rows) == wanted


@of_each
def test_two_sinks_at_one_file(kind: str) -> None:
    make, rows = FILES[kind]
    parallel(step(str.upper) >> make(), step(str.lower) >> make())("aB")
    assert texts(rows()) == ["AB", "ab"]


def test_half_a_row_is_cut_off() -> None:
    made = step(str.upper) >> to_jsonl("out.jsonl")
    made("a")
    whole = Path("out.jsonl").read_text()
    for torn in ('{"_k', '{"_key": "x/e1", "te', '{"_key": "x/e1", "text": "ä'):
        Path("out.jsonl").write_bytes((whole + torn).encode()[: -1 if "ä" in torn else None])
        made("b")
        assert texts(jsonl()) == ["A", "B"]
    Path("out.jsonl").write_text(whole.rstrip("\n"))
    made("b")
    assert texts(jsonl()) == ["A", "B"]
    Path("out.jsonl").write_text(whole + '{"mine": 1}\n')
    made("c")
    assert [row.get("text") for row in jsonl()] == ["A", None, "C"]


def test_rows_of_a_run_that_was_killed_wait_for_the_next() -> None:
    made = step(str.upper) >> to_parquet("out.parquet")
    made("a")
    waiting = Path("out.parquet.rows")
    waiting.write_text('{"_key": "k/e1", "text": "B"}\n{"_key": "k/e2", "te')
    made("c")
    assert texts(parquet()) == ["A", "B", "C"]
    assert not waiting.exists()


# --- what goes wrong


def refused(made: Any, value: Any = "a") -> SinkError:
    with pytest.raises(SinkError) as found:
        made(value)
    assert found.value.hint
    return found.value


@of_each
def test_a_folder_that_cannot_be_written(kind: str) -> None:
    Path("file").write_text("")
    make = {"jsonl": to_jsonl, "sqlite": to_sqlite, "parquet": to_parquet}[kind]
    assert "file/out" in refused(step(same) >> make("file/out")).message
    Path("folder").mkdir()
    refused(step(same) >> make("folder"))
    (step(same) >> make("new/folder/out"))("a")  # folders are made
    assert Path("new/folder/out").exists()


def test_what_is_no_file_of_rows() -> None:
    Path("notes.txt").write_text("dear diary\n")
    before = Path("notes.txt").read_bytes()
    assert "has other content than rows" in refused(step(same) >> to_jsonl("notes.txt")).message
    assert "file is not a database" in refused(step(same) >> to_sqlite("notes.txt")).message
    assert "no Parquet file of a sink" in refused(step(same) >> to_parquet("notes.txt")).message
    Path("half.jsonl").write_text('{"a": 1}\n{"b"')
    assert "within a line that no sink has written" in refused(step(same) >> to_jsonl("half.jsonl")).message
    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), "mine.parquet")
    assert "it has the columns a, and no '_key'" in refused(step(same) >> to_parquet("mine.parquet")).message
    assert Path("notes.txt").read_bytes() == before
    assert "is no file" in refused(step(same) >> to_jsonl("/dev/null")).message
    os.mkfifo("pipe")
    assert "is no file" in refused(step(same) >> to_jsonl("pipe")).message


def test_a_table_that_no_sink_has_made_is_left_as_it_is() -> None:
    with sqlite3.connect("out.db") as db:
        db.execute("CREATE TABLE answers (id INTEGER, words TEXT)")
    db.close()
    error = refused(step(same) >> to_sqlite("out.db", table="answers"))
    assert "has the columns id, words, and no '_key'" in error.message
    assert sqlite(table="answers") == []


def test_a_table_gets_the_columns_that_rows_have() -> None:
    made = step(same) >> to_sqlite("out.db", table='odd "table"; --')
    for row in ({"a": 1}, {"b": 2}, {"A": 3}, {}):
        made(row)
    found = values(sqlite(table='odd ""table""; --'))
    assert found == [{"a": 1, "b": None}, {"a": None, "b": 2}, {"a": 3, "b": None}, {"a": None, "b": None}]
    assert "'a' and 'A', which are one in SQLite" in refused(made, {"a": 1, "A": 2}).message


class Os:
    """The module os, with another `write`."""

    def __init__(self, write: Any) -> None:
        self.write = write

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def test_a_full_disk_keeps_the_other_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    write, room = os.write, [10**9]

    def full(fd: int, data: Any) -> int:
        if room[0] <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = write(fd, bytes(data)[: room[0]])
        room[0] -= done
        return done

    monkeypatch.setattr("lllm.steps.sinks.lines.os", Os(full))
    made = step(same) >> to_jsonl("out.jsonl")
    made("a")
    room[0] = 20  # half a row
    found = made.batch(["long" * 99, "b"], limit=1)
    assert all(isinstance(one, StageError) for one in found)
    assert "No space left on device" in found[0].message
    assert texts(jsonl()) == ["a"]
    room[0] = 10**9
    made("c")
    assert texts(jsonl()) == ["a", "c"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: to_jsonl(""), "a sink writes to a path, got ''"),
        (lambda: to_jsonl(3), "a sink writes to a path, got 3"),
        (lambda: to_sqlite("a\0b"), "a sink writes to a path"),
        (lambda: to_sqlite("a.db", table=""), "table must be a name, got ''"),
        (lambda: to_sqlite("a.db", table="sqlite_master"), "SQLite's own"),
        (lambda: sink(3), "sink takes a function of the value, got 3"),
        (lambda: sink(same, effect="sometimes"), "effect='sometimes'"),
        (lambda: sink(lambda: None), "cannot be a stage"),
    ],
)
def test_what_is_no_sink(make: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


def test_a_missing_package_names_its_extra() -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from lllm import to_jsonl, to_parquet; from lllm.errors import DependencyError\n"
        "to_jsonl('a')\n"
        "try: to_parquet('a.parquet')\n"
        "except DependencyError as error: sys.exit(0 if error.extra == 'parquet' and 'pip install' in str(error) else 2)\n"
        "sys.exit(3)"
    )
    assert python(code) == 0


# --- functions


def test_a_function_is_called_once_for_each_value() -> None:
    got: list[Any] = []
    store = MemoryLog()

    def save(text: str, context: ToolContext) -> None:
        got.append((text, context.idempotency_key))

    async def note(reply: lllm.Reply) -> int:
        await asyncio.sleep(0)
        got.append(reply.content)
        return 5

    def program() -> Any:
        agent = Agent("a", ScriptedBackend(lambda request: "said"))
        return (step(same) >> sink(save) >> agent >> sink(note) >> str.upper).run("q", store=store)

    result = program()
    assert result.value == "SAID"
    assert got == [("q", f"{result.session}/e1"), "said"]
    assert lllm.replay_session(result.session, store=store, entry=program).verified
    assert len(got) == 2


def test_a_function_that_had_begun_is_asked_about() -> None:
    got: list[str] = []
    store = MemoryLog()

    def program(store: MemoryLog = store, **more: Any) -> Any:
        return (step(same) >> sink(got.append, **more)).run("a", store=store)

    for more, calls in [({}, 1), ({"effect": "idempotent"}, 2)]:
        got.clear()
        id = program(**more).session
        part = cut(store, id, kinds_of(store, id).index("EffectRequested") + 1)

        def again(part: MemoryLog = part, more: Any = more) -> Any:
            return program(part, **more)

        if calls == 1:
            with pytest.raises(UncertainEffect):
                lllm.resume_session(id, store=part, entry=again)
        else:
            lllm.resume_session(id, store=part, entry=again)
        assert len(got) == calls


def test_a_function_that_fails_fails_the_stage() -> None:
    def save(text: str) -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        (step(same) >> sink(save))("a")


# --- YAML

AGENTS = "name: made\nmodel: scripted\nagent_configs:\n  upper: {system_prompt: Shout.}\nsteps:\n"


def system_of(steps: str) -> Any:
    Path("a.yaml").write_text(AGENTS + steps)
    Path("kit").mkdir(exist_ok=True)
    Path("kit/saving.py").write_text("got = []\ndef save(text: str) -> None:\n    got.append(text)\n")
    model = ScriptedBackend(lambda request: request.messages[-1].text.upper())
    return lllm.build_agent("a.yaml", model=model, log_base=MemoryLog())


def test_sinks_in_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    system = system_of(
        "- upper\n- to_jsonl: out/a.jsonl\n- to_sqlite: {path: out.db, table: answers}\n"
        "- to_parquet: out.parquet\n  name: pages\n- sink: kit.saving:save\n  effect: never\n- builtins:len\n"
    )
    Path("elsewhere").mkdir()
    os.chdir("elsewhere")
    assert system("abc") == 3
    os.chdir("..")
    for rows in (jsonl("out/a.jsonl"), sqlite(table="answers"), parquet()):
        assert values(rows) == [{"text": "ABC"}]
    assert sys.modules["kit.saving"].got == ["ABC"]
    outline = system.chain.outline()["members"]
    assert [one["kind"] for one in outline] == ["agent", "sink", "sink", "sink", "sink", "function"]
    assert outline[1]["path"] == "out/a.jsonl"  # as it is written, whatever the machine
    for name in [name for name in sys.modules if name.partition(".")[0] == "kit"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("steps", "line", "words"),
    [
        ("- to_jsonl: 3\n", 6, "steps.0.to_jsonl is 3 (a whole number); it wants a path"),
        ("- to_sqlite: {table: a}\n", 6, "to_sqlite has no 'path'"),
        ("- to_sqlite: {path: a.db, tabel: a}\n", 6, "unknown key 'steps.0.to_sqlite.tabel'"),
        ("- to_sqlite: {path: a.db, table: sqlite_x}\n", 6, "SQLite's own"),
        ("- sink: upper\n", 6, "sink takes a function of the results, and 'upper' is an agent"),
        ("- sink: builtins:len\n  effect: maybe\n", 7, "steps.0.effect is 'maybe'"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(steps: str, line: int, words: str) -> None:
    from lllm import load_config
    from lllm.llm.build import check

    Path("a.yaml").write_text(AGENTS + steps)
    try:
        found = [str(one) for one in check(load_config("a.yaml"))]
    except ConfigError as error:
        found = [str(error)]
    assert any(words in one and f"a.yaml:{line}" in one for one in found), found


def test_importing_lllm_loads_no_pyarrow() -> None:
    code = "import sys, lllm; lllm.to_jsonl('a'); sys.exit('pyarrow' in sys.modules)"
    assert python(code) == 0
