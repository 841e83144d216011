"""Batches of odd values, sources that misbehave, items that raise whatever can be raised, disks that fill."""

from __future__ import annotations

import asyncio
import itertools
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lllm
from lllm import Agent, MemoryLog, NoLog, ScriptedBackend, SQLiteLog, parallel, step
from lllm.core.envelope import open_event
from lllm.errors import ConfigError, LogWriteError, StageError
from tests.steps.test_batch_resume import batch_of


def same(value: Any) -> Any:
    return value


def echo() -> Agent:
    return Agent("echo", ScriptedBackend(lambda request: str(request.messages[-1].text)))


# --- values


def test_one_odd_value_fails_alone() -> None:
    values = ["x", None, 5, b"bytes", object(), "", ["a", "b"], "y"]
    found = echo().batch(values, store=MemoryLog())
    failed = [n for n, one in enumerate(found) if isinstance(one, StageError)]
    assert failed == [1, 2, 3, 4, 6]
    assert [found[n].index for n in failed] == failed
    assert [str(found[n]) for n in (0, 5, 7)] == ["x", "", "y"]


def test_values_are_handed_on_as_they_are() -> None:
    itself: list[Any] = []
    itself.append(itself)
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    table = pandas.DataFrame({"a": [1, 2]})
    odd = [
        threading.Lock(),
        numpy.arange(3),
        table,
        itself,
        deep,
        "\ud800",
        float("nan"),
        "x" * 5_000_000,
        None,
    ]
    found = step(same).batch([*odd, odd[0]], store=MemoryLog())
    assert all(one is other for one, other in zip(found, [*odd, odd[0]], strict=True))


def test_the_same_object_may_come_more_than_once() -> None:
    shared: dict[str, list[int]] = {"seen": []}

    def note(value: dict[str, list[int]]) -> int:
        value["seen"].append(1)
        return len(value["seen"])

    assert sorted(step(note).batch([shared] * 3, store=NoLog())) == [1, 2, 3]
    store = MemoryLog()
    assert [str(one) for one in echo().batch(["a", "a", "b"], store=store)] == ["a", "a", "b"]
    assert len(store._sessions) == 4


# --- sources


def test_what_is_empty_or_no_list() -> None:
    for empty in ([], (), iter(()), numpy.array([])):
        assert step(same).batch(empty, store=NoLog()) == []
    assert sorted(step(same).batch({3, 1}, store=NoLog())) == [1, 3]
    assert step(same).batch(numpy.arange(3), store=NoLog()) == [0, 1, 2]
    assert step(same).batch(pandas.Series([1, 2]), store=NoLog()) == [1, 2]


async def later() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("text", "a batch was given str"),
        (5, "a batch was given int"),
        (later(), "a batch was given an async iterable"),
        ({"a": 1}, r"batch\(values\.items\(\)\)"),
        (pandas.DataFrame({"a": [1]}), r"batch\(values\.to_dict\('records'\)\)"),
    ],
)
def test_what_is_no_list_of_values_says_what_to_type(values: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        step(same).batch(values)


@pytest.mark.parametrize(
    "make", [lambda: map(str, range(3)), lambda: iter(range(3)), lambda: zip("ab", strict=True)]
)
def test_an_iterator_of_python_is_read_once(make: Callable[[], Iterator[Any]]) -> None:
    values = make()
    step(same).batch(values, store=NoLog())
    with pytest.raises(ConfigError, match="another batch has read"):
        step(same).batch(values, store=NoLog())


def test_an_endless_generator_is_read_as_it_is_needed() -> None:
    read = []

    def endless() -> Iterator[int]:
        for n in itertools.count():
            read.append(n)
            yield n

    def fails(n: int) -> int:
        if n == 50:
            raise ValueError("enough")
        return n

    with pytest.raises(StageError, match="item 50 failed"):
        step(fails).batch(endless(), errors="raise", limit=4, store=NoLog())
    assert len(read) <= 50 + 2 * 4


def test_a_generator_that_fails_fails_the_batch() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("broken source")

    store = MemoryLog()
    with pytest.raises(OSError, match="broken source"):
        step(same).batch(broken(), store=store)
    (info,) = [info for info in store.sessions(9) if info.id == batch_of(store)]
    assert info.status == "failed"


@pytest.mark.parametrize(
    "left",
    [
        numpy.arange(3),
        pandas.Series([1, 2]),
        pandas.DataFrame({"a": [1, 2]}),
        5,
        None,
        "text",
        [same],
        {"a": same},
    ],
)
def test_a_value_beside_a_step_is_no_stage(left: Any) -> None:
    for make in (lambda: left >> step(same), lambda: step(same) >> left):
        with pytest.raises(ConfigError, match="cannot be a stage of a chain") as refused:
            make()
        assert "\n" not in refused.value.message


# --- what items raise


def raising(error: BaseException) -> Any:
    async def item(value: int) -> int:
        if value == 1:
            raise error
        await asyncio.sleep(0)
        return value

    return step(item)


@pytest.mark.parametrize("error", [ExceptionGroup("g", [ValueError("a")]), TimeoutError(), OSError("x")])
def test_an_exception_is_one_of_its_item(error: Exception) -> None:
    found = raising(error).batch(range(4), store=MemoryLog())
    assert [found[n] for n in (0, 2, 3)] == [0, 2, 3]
    assert (found[1].index, found[1].stage, found[1].__cause__) == (1, "1/1", error)


@pytest.mark.parametrize(
    "error",
    [
        BaseExceptionGroup("g", [KeyboardInterrupt()]),
        GeneratorExit(),
        asyncio.CancelledError("mine"),
        KeyboardInterrupt(),
    ],
)
def test_what_is_no_exception_stops_all(error: BaseException) -> None:
    for errors in ("keep", "drop", "raise"):
        store = MemoryLog()
        with pytest.raises(type(error)):
            raising(error).batch(range(4), store=store, errors=errors)
        assert {info.id: info.status for info in store.sessions(9)}[batch_of(store)] == "cancelled"
    assert raising(error).batch([0, 2], store=NoLog()) == [0, 2]


def test_a_step_that_gives_nothing() -> None:
    nothing = step(lambda value: None, name="nothing")
    assert nothing.batch([1, 2], store=MemoryLog()) == [None, None]
    (found,) = (nothing >> echo()).batch(["x"], store=MemoryLog())
    assert "'echo' was given nothing (None)" in found.message


# --- logs that cannot be written


class Full(MemoryLog):
    """A store that takes so many appends."""

    left = 10**9

    async def append(self, records: Any, blobs: Any = None) -> None:
        if self.left <= 0:
            raise LogWriteError("the disk is full")
        self.left -= 1
        await super().append(records, blobs)


@pytest.mark.parametrize("room", [0, 1, 7, 40])
@pytest.mark.parametrize("errors", ["keep", "raise"])
def test_a_log_that_cannot_be_written_stops_the_batch(room: int, errors: str) -> None:
    store, asked = Full(), []

    def model(request: Any) -> str:
        asked.append(str(request.messages[-1].text))
        return asked[-1]

    made = step(same) >> Agent("a", ScriptedBackend(model)) >> Agent("b", ScriptedBackend(model))

    def entry() -> list[Any]:
        return made.batch([f"item {n}" for n in range(60)], limit=4, store=store, errors=errors)

    store.left = room
    with pytest.raises((LogWriteError, StageError), match="the disk is full"):
        entry()
    store.left = 10**9
    before = len(asked)
    if room == 0:
        assert not asked  # nothing is done that is not in the log
        return
    if len(open_event(store._sessions[batch_of(store)][-1].body)) and not _ended(store):
        found = lllm.resume_session(batch_of(store), store=store, entry=entry).result
        assert [str(one) for one in found] == [f"item {n}" for n in range(60)]
        assert len(asked) <= 2 * 60 + 4, before


def _ended(store: MemoryLog) -> bool:
    return open_event(store._sessions[batch_of(store)][-1].body)["kind"] == "SessionEnded"


FULL = """
import sys
import lllm
from lllm import Agent, ScriptedBackend, SQLiteLog, step
from lllm.errors import LLMError

store = SQLiteLog("log.sqlite")
made = step(str.strip) >> Agent("a", ScriptedBackend(lambda request: request.messages[-1].text * 20))
try:
    made.batch([f"item {n}" for n in range(500)], limit=8, store=store)
except LLMError as error:
    print(type(error).__name__)
"""


def test_a_disk_that_fills_during_a_batch(tmp_path: Path) -> None:
    def small() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    done = subprocess.run(
        [sys.executable, "-c", FULL],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=small,
    )
    assert done.stdout.strip() == "LogWriteError", done.stderr
    store = SQLiteLog(tmp_path / "log.sqlite")
    made = step(str.strip) >> Agent("a", ScriptedBackend(lambda request: str(request.messages[-1].text) * 20))
    batch = min((info.id for info in store.sessions(1000)), key=len)
    found = lllm.resume_session(
        batch,
        store=store,
        entry=lambda: made.batch([f"item {n}" for n in range(500)], limit=8, store=store),
    ).result
    assert [str(one) for one in found] == [f"item {n}" * 20 for n in range(500)]


# --- trees


def test_siblings_of_a_failed_branch_end() -> None:
    ended: list[str] = []

    async def slow(value: str) -> str:
        await asyncio.sleep(0.02)
        ended.append(value)
        return value

    def fails(value: str) -> str:
        raise ValueError(value)

    tree = parallel(a=lllm.map(parallel(x=slow, y=fails, errors="keep")), b=slow, errors="keep")
    (found,) = (step(lambda text: text.split(), name="split") >> tree).batch(["p q"], store=MemoryLog())
    assert [one["x"] for one in found["a"]] == ["p", "q"]
    assert [(one["y"].stage, one["y"].index) for one in found["a"]] == [("1/2/a/0/y", 1), ("1/2/a/1/y", 1)]
    assert sorted(map(str, ended)) == ["['p', 'q']", "p", "q"]


class Failed(Exception):
    """Of the reference: a leaf failed at this place."""


def fails(value: Any) -> Any:
    raise ValueError("a leaf")


def pair(value: Any) -> Any:
    return [value, value]


LEAVES: dict[str, Callable[[Any], Any]] = {"same": same, "pair": pair, "fails": fails}
Tree = Any
"""A leaf's name; `chain` of trees; `parallel` of trees, or `map` of one, with what becomes of errors."""


def trees() -> st.SearchStrategy[Tree]:
    def wider(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
        errors = st.sampled_from(("keep", "drop"))
        return st.one_of(
            st.tuples(st.just("chain"), st.lists(inner, min_size=1, max_size=3)),
            st.tuples(st.just("parallel"), errors, st.lists(inner, min_size=1, max_size=3)),
            st.tuples(st.just("map"), errors, inner),
        )

    return st.recursive(st.sampled_from(tuple(LEAVES)), wider, max_leaves=8)


def built(tree: Tree) -> Any:
    match tree:
        case str():
            return step(LEAVES[tree])
        case ("chain", inner):
            return lllm.chain(*map(built, inner))
        case ("parallel", errors, inner):
            return parallel(*map(built, inner), errors=errors)
        case ("map", errors, inner):
            return lllm.chain(step(pair), lllm.map(built(inner), errors=errors))


def stages(tree: Tree) -> list[Tree]:
    """The stages of a tree: a chain within a chain is its stages."""
    match tree:
        case ("chain", inner):
            return [stage for one in inner for stage in stages(one)]
        case ("map", errors, inner):
            return ["pair", ("each", errors, inner)]
    return [tree]


def expected(tree: Tree, value: Any, path: str) -> Any:
    """Does the same in plain Python: an item that failed is its place and its index."""
    if isinstance(tree, str):
        if tree == "fails":
            raise Failed(path)
        return LEAVES[tree](value)
    if tree[0] in ("chain", "map"):
        for n, stage in enumerate(stages(tree), 1):
            value = expected(stage, value, f"{path}/{n}")
        return value
    _, errors, inner = tree
    jobs = [(one, value) for one in inner] if tree[0] == "parallel" else [(inner, one) for one in value]
    found = []
    for n, (one, part) in enumerate(jobs):
        try:
            found.append(expected(one, part, f"{path}/{n}"))
        except Failed as failed:
            if errors == "keep":
                found.append((str(failed), n))
    return found


def shown(value: Any, session: str) -> Any:
    if isinstance(value, StageError):
        assert value.session == session
        assert value.message.startswith(f"item {value.index} failed in stage {value.stage}: ")
        return value.stage, value.index
    return [shown(one, session) for one in value] if isinstance(value, list) else value


@settings(max_examples=60, deadline=None)
@given(trees())
def test_errors_of_random_trees_say_where_they_are(tree: Tree) -> None:
    store = MemoryLog()
    found = built(("chain", [tree])).batch([0, 1], store=store)
    batch = batch_of(store)
    for n, value in enumerate(found):
        try:
            wanted = expected(("chain", [tree]), n, "1")
        except Failed as failed:
            wanted = str(failed), n
        assert shown(value, f"{batch}-{n}") == wanted
