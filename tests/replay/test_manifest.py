"""The manifest of a replay: each place in the project's own code that learns something beside the record."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lllm.backends.scripted import ScriptedBackend
from lllm.llm.activity import activity, now, random, uuid
from lllm.llm.agent import Agent
from lllm.llm.sessions import record
from lllm.log.memory import MemoryLog
from lllm.models.prompt import Prompt
from lllm.replay import replay_session
from lllm.replay.report import Report

PROJECT = """
    import asyncio, contextlib, dataclasses, datetime as dt, json, os, pathlib, random, secrets, socket, subprocess, sys
    import tempfile, threading, urllib.request, uuid
    from concurrent.futures import ThreadPoolExecutor
    from datetime import datetime
    from random import Random, randint
    from time import time, monotonic
    import time as clock

    HERE = pathlib.Path(__file__).parent
    GENERATOR = Random()

    @dataclasses.dataclass
    class Stamped:
        at: float = dataclasses.field(default_factory=lambda: clock.time())

    def closed():
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", 1), timeout=1)

    def fetched():
        with contextlib.suppress(OSError):
            urllib.request.urlopen("http://127.0.0.1:1/", timeout=1)

    async def opened():
        with contextlib.suppress(OSError):
            await asyncio.open_connection("127.0.0.1", 1)

    def in_thread(work):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    def in_pool(work):
        with ThreadPoolExecutor() as pool:
            pool.submit(work).result()

    async def tasks(work):
        async def one():
            await asyncio.sleep(0)
            work()
        await asyncio.gather(one(), one())
"""

CASES = {
    "time": "time()",
    "time.time": "clock.time()",
    "time.monotonic": "monotonic()",
    "time.perf_counter": "clock.perf_counter()",
    "datetime.now": "datetime.now()",
    "datetime.utcnow": "dt.datetime.now(dt.UTC)",
    "date.today": "dt.date.today()",
    "random.random": "random.random()",
    "random.randint": "randint(1, 6)",
    "random.choice": "random.choice([1, 2])",
    "random.shuffle": "random.shuffle([1, 2])",
    "a generator": "GENERATOR.random()",
    "a generator's choice": "GENERATOR.choice([1, 2])",
    "a new generator": "Random()",
    "secrets": "secrets.token_hex(4)",
    "uuid": "uuid.uuid4()",
    "urandom": "os.urandom(4)",
    "environ[]": "os.environ['PATH']",
    "environ.get": "os.environ.get('PATH')",
    "in environ": "'PATH' in os.environ",
    "getenv": "os.getenv('PATH')",
    "open": "open(HERE / 'notes.txt').close()",
    "read_text": "(HERE / 'notes.txt').read_text()",
    "listdir": "os.listdir(HERE)",
    "exists": "os.path.exists(HERE / 'notes.txt')",
    "Path.exists": "(HERE / 'notes.txt').exists()",
    "socket": "closed()",
    "http": "fetched()",
    "async socket": "asyncio.run(opened())",
    "subprocess": "subprocess.run([sys.executable, '-c', ''], check=True)",
    "dataclass": "Stamped()",
    "thread": "in_thread(lambda: time())",
    "pool": "in_pool(lambda: time())",
    "task": "asyncio.run(tasks(lambda: time()))",
    "to_thread": "asyncio.run(asyncio.to_thread(lambda: time()))",
}


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., ModuleType]:
    def made(*lines: str, name: str = "program", text: str = PROJECT) -> ModuleType:
        folder = tmp_path / ("project" if name == "program" else "library")
        folder.mkdir(exist_ok=True)
        (folder / "notes.txt").write_text("hello")
        file = folder / f"{name}.py"
        body = "".join(f"    {line}\n" for line in lines)
        file.write_text(
            f"{textwrap.dedent(text)}\ndef main(log, lllm, agent):\n  with lllm.record('x', store=log):\n{body}"
        )
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    return made


def replayed(module: ModuleType) -> Report:
    import lllm

    store = MemoryLog()
    agent = Agent("a", ScriptedBackend(lambda request: "yes"))

    def main() -> None:
        module.main(store, lllm, agent)

    main()
    main.__code__ = main.__code__.replace(co_filename=str(module.__file__))
    return replay_session(store.sessions(1)[0].id, store=store, entry=main, raises=True)


def line_of(module: ModuleType, text: str) -> int:
    lines = Path(str(module.__file__)).read_text().splitlines()
    return max(number for number, line in enumerate(lines, 1) if text in line)


@pytest.mark.parametrize("case", ["time", "http", "async socket", "dataclass", "task"])
def test_source_is_reported(case: str, project: Callable[..., ModuleType]) -> None:
    module = project("agent('hi')", CASES[case], "agent('ho')")
    report = replayed(module)
    assert report.verified
    assert report.unrecorded, "nothing was found"
    where = {
        "socket": "create_connection",
        "http": "urlopen(",
        "async socket": "open_connection",
        "dataclass": "clock.time()",
    }.get(case, CASES[case])
    assert {(source.file, source.line) for source in report.unrecorded} == {
        ("program.py", line_of(module, where))
    }


def test_every_source_of_a_program(project: Callable[..., ModuleType]) -> None:
    """All at once, between agent calls and within a loop."""
    module = project("for _ in range(3):", *(f"    {line}" for line in CASES.values()), "    agent('hi')")
    found = {source.line for source in replayed(module).unrecorded}
    missing = [
        case for case, line in CASES.items() if case not in _ELSEWHERE and line_of(module, line) not in found
    ]
    assert missing == []


_ELSEWHERE = ("socket", "http", "async socket", "dataclass")


def test_counts(project: Callable[..., ModuleType]) -> None:
    module = project(
        "for n in range(5):", "    time()", "    agent(str(n))", "    random.random(), random.random()"
    )
    assert [(source.name, source.count) for source in replayed(module).unrecorded] == [
        ("time.time", 5),
        ("random.random", 10),
    ]


RECORDED = (
    *(
        "lllm.now()",
        "lllm.uuid()",
        "rng = lllm.random()",
        "rng.random(), rng.choice([1, 2])",
        "rng.shuffle([1, 2])",
    ),
    *("seeded = Random(7)", "seeded.random(), seeded.randint(1, 6)", "agent('hi')"),
    *("random.seed(3)", "random.random()", "json.loads('[1]')", "datetime(2020, 1, 1).isoformat()"),
    *(
        "dt.datetime.fromtimestamp(5)",
        "uuid.uuid5(uuid.NAMESPACE_DNS, 'a')",
        "sorted([2, 1])",
        "print(end='')",
    ),
)


def test_recorded_sources_are_not_reported(project: Callable[..., ModuleType]) -> None:
    assert replayed(project(*RECORDED)).unrecorded == []


LIBRARY = """
    import os, pathlib, random, time, uuid

    HERE = pathlib.Path(__file__).parent

    def helper(callback=None):
        time.time(), random.random(), uuid.uuid4(), os.environ.get("PATH"), os.urandom(2), os.path.exists("x")
        (HERE / "notes.txt").read_text()
        os.listdir(HERE)
"""


def test_library_code_is_not_reported(project: Callable[..., ModuleType]) -> None:
    project("pass", name="somelibrary", text=LIBRARY)
    module = project("import somelibrary", "somelibrary.helper()", "import wave, colorsys", "agent('hi')")
    assert replayed(module).unrecorded == []


def test_recorders_outside_of_a_session_are_reported(project: Callable[..., ModuleType]) -> None:
    """A bare thread has no session: what it learns is not recorded."""
    module = project("in_thread(lambda: lllm.now())")
    assert [source.name for source in replayed(module).unrecorded] == ["lllm.now outside of a session"]


def test_parsers_are_looked_at(tmp_path: Path) -> None:
    import time

    def read(content: str) -> str:
        time.time()
        return content

    prompt = Prompt("manifest/ask", "Say.", parser=read)
    store = MemoryLog()

    def main() -> None:
        with record("x", store=store):
            Agent("a", ScriptedBackend(["x"] * 3))(prompt)

    main()
    report = replay_session(store.sessions(1)[0].id, store=store, entry=main, raises=True)
    assert [(source.name, source.line) for source in report.unrecorded] == [
        ("time.time", read.__code__.co_firstlineno + 1)
    ]


def test_tools_and_activities_are_recorded() -> None:
    import time

    @activity
    def learn() -> float:
        return time.time()

    store = MemoryLog()

    def main() -> None:
        with record("x", store=store):
            learn()
            now(), uuid(), random().random()

    main()
    assert replay_session(store.sessions(1)[0].id, store=store, entry=main, raises=True).unrecorded == []


def test_nothing_is_left_behind() -> None:
    store = MemoryLog()

    def main() -> None:
        with record("x", store=store):
            pass

    main()
    replay_session(store.sessions(1)[0].id, store=store, entry=main, raises=True)
    assert sys.getprofile() is None
    assert threading.getprofile() is None
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.append(sys.getprofile()))
    thread.start()
    thread.join()
    assert seen == [None]

    async def factory() -> Any:
        from lllm.replay import areplay_session

        await areplay_session(store.sessions(1)[0].id, store=store, entry=main)
        return asyncio.get_running_loop().get_task_factory()

    assert asyncio.run(factory()) is None


def test_somebody_elses_profiler_stays() -> None:
    store = MemoryLog()

    def main() -> None:
        with record("x", store=store):
            pass

    main()

    def mine(*_: Any) -> None:
        return None

    sys.setprofile(mine)
    try:
        replay_session(store.sessions(1)[0].id, store=store, entry=main, raises=True)
        assert sys.getprofile() is mine
    finally:
        sys.setprofile(None)
