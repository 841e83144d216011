"""Environments in processes of their own: they do the same, can be killed, and leave nothing open."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lllm import LLM, ScriptedBackend, replay_session
from lllm.errors import ConfigError
from lllm.log.memory import MemoryLog
from lllm.models.reply import Reply
from lllm.rl import PromptSearch, RLEnv
from lllm.rl.declared import DeclaredEnvironment
from lllm.rl.environments.doors import Doors
from lllm.rl.environments.maze import Maze, maze_of, way_between
from lllm.rl.isolation import processes as processes_module
from tests.rl.project import make_project

SOURCE = '''
import datetime, os, pathlib, random, signal, subprocess, sys, time
from lllm import Image, tool
from lllm.rl import RLEnv, reward

def setup(rng, seed, length=3):
    return {"pid": os.getpid(), "place": 0, "drawn": [rng.random(), random.random()], "seed": seed}

def step(state, completion, reply, turns):
    state["said"] = [completion, reply.content, turns]
    if completion == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if completion == "exit":
        sys.exit(3)
    if completion == "hang":
        time.sleep(600)
    if completion == "spawn":
        state["child"] = subprocess.Popen(["sleep", "600"]).pid
        return "spawned"
    if completion.startswith("fork"):
        if os.fork() == 0 and completion == "fork and raise":
            raise ValueError("in the copy")
        return "forked"
    if completion == "print":
        print("printed there", flush=True)
        os.write(1, b"written there\\n")
        return "printed"
    if completion == "spin":
        pathlib.Path("spinning").write_text(str(os.getpid()))
        while True:
            pass
    if completion == "raise":
        raise ValueError("a mistake")
    if completion == "huge":
        return "x" * 70_000_000
    return None if completion == "stop" else f"you said {completion}"

def go(state, direction: str) -> str:
    """Goes a step.

    Args:
        direction: where to.
    """
    if direction == "down":
        raise ValueError("no way down")
    if direction == "die":
        os._exit(7)
    if direction == "hang":
        time.sleep(600)
    state["place"] += 1
    return f"at {state['place']}"

async def later(state) -> str:
    """Waits."""
    return f"later {os.getpid()}"

def give(what: str):
    """Gives.

    Args:
        what: which.
    """
    return {
        "bytes": b"abc", "nan": float("nan"), "path": pathlib.Path("a/b"), "set": {3, 1}, "tuple": (1, 2), "none": None,
        "text": "a\\nb", "date": datetime.date(2026, 1, 2), "class": int, "number": 10 ** 30,
    }[what]

async def fails(what: str):
    """Fails.

    Args:
        what: how.
    """
    if what == "exit":
        sys.exit(2)
    raise {"empty": ValueError(), "words": RuntimeError("bad luck"), "key": KeyError("k")}[what]

def picture():
    """A picture."""
    return Image(data=b"\\x89PNG\\r\\n\\x1a\\n", media_type="image/png")

@tool(timeout=1.0)
def slow(seconds: float) -> str:
    """Takes long."""
    time.sleep(seconds)
    return f"slow {os.getpid()}"

def long():
    return {"long": "x" * 200_000}

class Counter:
    def __init__(self, rng):
        self.n = 0
    def up(self) -> int:
        """Counts."""
        self.n += 1
        return self.n
    def close(self):
        if self.n == 13:
            raise RuntimeError("will not close")
        if self.n == 14:
            time.sleep(600)

class Kind(RLEnv):
    dataset = ({"prompt": "x", "answer": "2"},)
    def setup(self, rng):
        return {"pid": os.getpid()}
    @tool
    def there(self) -> str:
        """Where."""
        return str(os.getpid())
    @reward
    def ok(self, state):
        return float(state["pid"] != 0)

class Wanting(Kind):
    def __init__(self, wanted):
        super().__init__(isolated=True)

def make():
    return RLEnv([{"prompt": "x"}], lambda: 1, setup=lambda: {"pid": os.getpid()}, isolated="envs_apart:make")

def makes_none():
    return 5

def breaks():
    raise OSError("no game here")

whole = RLEnv([{"prompt": "x"}], lambda: 1, setup=lambda: {"pid": os.getpid()})
'''


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "envs_apart.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    import envs_apart  # type: ignore[import-not-found]

    yield envs_apart
    sys.modules.pop("envs_apart", None)


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The processes that were started; afterwards none of them is there."""
    found: list[Any] = []
    init = processes_module.Process.__init__

    def counted(self: Any) -> None:
        init(self)
        found.append(self)

    monkeypatch.setattr(processes_module.Process, "__init__", counted)
    yield found
    assert [one.pid for one in found if one.running] == []


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": arguments}]}


def env_of(apart: Any, **more: Any) -> RLEnv:
    given = {"setup": apart.setup, "step": apart.step, "tools": [apart.go, apart.later], "isolated": True}
    rows = more.pop("rows", [{"prompt": "x"}])
    return RLEnv(rows, lambda state: state["place"], **{**given, **more})


def test_all_of_it_runs_there(apart: Any, started: list[Any]) -> None:
    backend = ScriptedBackend([call("go", direction="north"), call("later"), "a", "stop"])
    store = MemoryLog()
    found = env_of(apart)(LLM(backend), store=store)[0]
    assert (found.status, found.reward) == ("done", 1.0)
    assert [one.text for one in found.messages][1:] == [
        "at 1",
        "",
        f"later {started[0].pid}",
        "a",
        "you said a",
        "stop",
    ]
    assert found.state["pid"] == started[0].pid != os.getpid()
    assert found.state["said"] == ["stop", "stop", 4]
    assert len(started) == 1
    assert replay_session(found.session, store=store).verified
    assert len(started) == 1  # a replay needs no process
    assert env_of(apart).score([found.session], store=store).reward == 1.0


def test_the_model_is_told_the_same(apart: Any) -> None:
    sent = []
    for isolated in (True, False):
        backend = ScriptedBackend([call("go", direction="down"), call("go", far=1), "stop"])
        found = env_of(apart, isolated=isolated)(LLM(backend), store=MemoryLog())[0]
        sent.append(([one.text for one in found.messages], backend.requests[0].tools))
    assert sent[0] == sent[1]
    assert "no way down" in sent[0][0][1]


VALUES = ("bytes", "nan", "path", "set", "tuple", "none", "text", "date", "class", "number", "no such")
FAILURES = ("exit", "empty", "words", "key")


def test_results_and_errors_of_tools_read_the_same(apart: Any) -> None:
    calls = [*(call("give", what=one) for one in VALUES), *(call("fails", what=one) for one in FAILURES)]
    texts = []
    for isolated in (True, False):
        env = env_of(apart, tools=[apart.give, apart.fails], isolated=isolated, max_turns=30)
        found = env(LLM(ScriptedBackend([*calls, "stop"])), store=MemoryLog())[0]
        texts.append([one.text for one in found.messages if one.role == "tool"])
    assert len(texts[0]) == len(calls)
    assert texts[0] == texts[1]
    env = env_of(apart, tools=[apart.picture])
    found = env(LLM(ScriptedBackend([call("picture"), "stop"])), store=MemoryLog())[0]
    assert (
        "'picture' returned Image; tools of an isolated environment return text or JSON"
        in found.messages[1].text
    )


def test_randomness_is_that_of_the_seed(apart: Any) -> None:
    def drawn(**more: Any) -> list[Any]:
        env = env_of(apart, rows=[{"prompt": str(n)} for n in range(3)])
        found = env(LLM(ScriptedBackend(lambda _: "stop")), store=MemoryLog(), samples=2, **more)
        return [(one.state["drawn"], one.state["seed"]) for one in found]

    before = random.getstate()
    assert drawn(limit=1) == drawn(limit=3)
    assert drawn(seed=1) != drawn()
    assert random.getstate() == before
    local = env_of(apart, isolated=False)(
        LLM(ScriptedBackend(["stop"])), [{"prompt": "0"}], store=MemoryLog()
    )
    assert local[0].state["drawn"][0] == drawn()[0][0][0]


def test_processes_are_used_again(apart: Any, started: list[Any]) -> None:
    env = env_of(apart, rows=[{"prompt": str(n)} for n in range(8)])
    found = env(LLM(ScriptedBackend(lambda _: "stop")), store=MemoryLog(), limit=2)
    assert len(found.scored) == 8
    assert 1 <= len(started) <= 2
    assert found.leaks == []


def test_a_death_or_a_hang_is_missing(apart: Any, started: list[Any]) -> None:
    wanted = {
        "stop": (None, ""),
        "die": ("process", "signal SIGKILL"),
        "hang": ("step", "did not return within"),
        "raise": ("step", "step raised ValueError: a mistake"),
        "exit": ("step", "step raised SystemExit: 3"),
        "huge": ("step", "more than the"),
        "stop again": (None, ""),
    }
    env = env_of(apart, rows=[{"prompt": one} for one in wanted], limits={"step": 2.0}, max_turns=2)
    backend = ScriptedBackend(
        lambda request: request.messages[0].text if len(request.messages) < 2 else "stop"
    )
    found = env(LLM(backend), store=MemoryLog(), limit=1)
    assert [one.reward for one in found] == [0.0, None, None, None, None, None, 0.0]
    for one, (reason, words) in zip(found, wanted.values(), strict=True):
        assert (one.status, one.reason) == (("missing", reason) if reason else ("done", None))
        assert words in (one.detail or "")
    assert found.leaks == []
    assert len(started) == 3  # a new one for each that ended or was killed


@pytest.mark.parametrize("direction", ["die", "hang"])
def test_a_tool_that_kills_its_process_is_missing(apart: Any, direction: str) -> None:
    env = env_of(apart, tools=[apart.go, apart.slow])
    first = call("go", direction="die") if direction == "die" else call("slow", seconds=600)
    found = env(LLM(ScriptedBackend([first, "stop", "stop"])), store=MemoryLog())[0]
    assert (found.status, found.reason, found.reward) == ("missing", "process", None)
    assert ("exit code 7" if direction == "die" else "time limit") in found.detail


def test_what_a_process_started_ends_with_it(apart: Any) -> None:
    found = env_of(apart)(LLM(ScriptedBackend(["spawn", "stop"])), store=MemoryLog())[0]
    until = time.monotonic() + 30
    while b"sleep" in _command(found.state["child"]):  # a signal takes its time on a busy machine
        assert time.monotonic() < until
        time.sleep(0.01)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("how", ["fork", "fork and raise"])
def test_a_fork_answers_nothing(apart: Any, how: str) -> None:
    replies = [how, "a", call("go", direction="north"), "b", "stop"]
    found = env_of(apart)(LLM(ScriptedBackend(replies)), store=MemoryLog())[0]
    said = [one.text for one in found.messages if one.role in ("user", "tool")]
    assert said == ["forked", "you said a", "at 1", "you said b"]
    assert found.reward == 1.0


def test_what_it_prints_is_no_output_of_the_run(apart: Any, capfd: pytest.CaptureFixture[str]) -> None:
    found = env_of(apart)(LLM(ScriptedBackend(["print", "stop"])), store=MemoryLog())[0]
    assert found.reward == 0.0
    out, errors = capfd.readouterr()
    assert out == ""
    assert "printed there" in errors
    assert "written there" in errors


KILLED = """
import envs_apart
from lllm import LLM, ScriptedBackend
from lllm.log.memory import MemoryLog
from lllm.rl import RLEnv
env = RLEnv([{"prompt": "x"}], lambda: 1, setup=envs_apart.setup, step=envs_apart.step, isolated=True)
env(LLM(ScriptedBackend(["spin"])), store=MemoryLog())
"""


def test_the_process_of_a_run_that_is_killed_ends(apart: Any, tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])}
    run = subprocess.Popen([sys.executable, "-c", KILLED], env=environ, cwd=tmp_path)
    until = time.monotonic() + 60
    file = tmp_path / "spinning"
    while not (file.exists() and file.read_text()):
        assert run.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    pid = int(file.read_text())
    assert b"isolation.child" in _command(pid)
    run.kill()
    run.wait()
    while b"isolation.child" in _command(pid):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_rewards_have_the_whole_state(apart: Any) -> None:
    env = RLEnv(
        [{"prompt": "x"}], lambda state: len(state["long"]), setup=apart.long, tools=[apart.go], isolated=True
    )
    store = MemoryLog()
    found = env(LLM(ScriptedBackend(["x"])), store=store)
    assert found.reward == 200_000.0


def test_runs_that_follow_each_other_may_share_processes(apart: Any, started: list[Any]) -> None:
    env = env_of(apart)

    def once() -> Any:
        return env(LLM(ScriptedBackend(["stop"])), store=MemoryLog())[0].state["pid"]

    with processes_module.SharedProcesses(env):
        assert once() == once()
        assert started[0].running
    assert not started[0].running
    assert once() != started[0].pid
    assert len(started) == 2
    search = env_of(apart, rows=[{"prompt": str(n)} for n in range(6)]) >> PromptSearch(
        LLM(ScriptedBackend(lambda _: "stop")),
        ["x"],
        search=2,
        choice=2,
        held_out=2,
        store=MemoryLog(),
        concurrency=1,
    )
    assert search.run().calls["search"] == 4
    assert len(started) == 3


def test_a_state_that_is_an_object(apart: Any) -> None:
    env = RLEnv(
        [{"prompt": "x"}],
        lambda state: state["n"],
        setup=apart.Counter,
        tools=[apart.Counter.up],
        isolated=True,
    )
    found = env(LLM(ScriptedBackend([call("up"), call("up"), "done"])), store=MemoryLog())
    assert (found.reward, found.leaks) == (2.0, [])
    for times, words in ((13, "RuntimeError: will not close"), (14, "did not close within")):
        env.limits = env.limits._replace(teardown=1.0)
        env.max_turns = 20
        found = env(LLM(ScriptedBackend([call("up")] * times + ["done"])), store=MemoryLog())
        assert found.reward == times
        assert len(found.leaks) == 1
        assert words in found.leaks[0]


def test_a_class_and_a_factory(apart: Any, started: list[Any]) -> None:
    found = apart.Kind(isolated=True)(LLM(ScriptedBackend([call("there"), "2"])), store=MemoryLog())[0]
    assert found.messages[1].text == str(started[0].pid)
    assert found.reward == 1.0
    for env in (
        apart.make(),
        RLEnv([{"prompt": "x"}], lambda: 1, setup=lambda: {}, isolated="envs_apart:whole"),
    ):
        found = env(LLM(ScriptedBackend(["2"])), store=MemoryLog())[0]
        assert found.state["pid"] == started[-1].pid


def test_shipped_environments_can_be_isolated(started: list[Any]) -> None:
    env = Maze(size=1, width=3, isolated=True)
    item = env.items[0].columns
    way = way_between(maze_of(item["maze"], 3), item["start"], item["exit"])
    found = env(LLM(ScriptedBackend([*(call("go", direction=one) for one in way), "out"])), store=MemoryLog())
    assert found.reward == 1.0
    assert env.check(first=3).ok
    doors = Doors(doors=2, size=1, isolated=True)
    answers = doors.items[0].columns["answers"]
    assert doors(LLM(ScriptedBackend(answers)), store=MemoryLog()).reward == 1.0
    assert started


def test_rollouts_are_isolated_without_a_run(apart: Any, started: list[Any]) -> None:
    env = env_of(apart)

    async def main() -> list[Any]:
        runs = [env.acall(LLM(ScriptedBackend(lambda _: "stop")), store=MemoryLog()) for _ in range(3)]
        return await asyncio.gather(*runs)

    assert [one.reward for one in asyncio.run(main())] == [0.0] * 3
    assert len(started) == 3


def test_a_cancelled_run_leaves_no_process(apart: Any, started: list[Any]) -> None:
    async def main() -> None:
        env = env_of(apart)
        task = asyncio.ensure_future(env.acall(LLM(ScriptedBackend(["hang"])), store=MemoryLog()))
        while not started or started[0]._streams is None:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert len(started) == 1


def local(state: Any) -> str:
    return "x"


def test_what_another_process_cannot_find_is_an_error(apart: Any) -> None:
    def inner() -> int:
        return 1

    for more in (
        {"setup": inner},
        {"setup": lambda: 1},
        {"tools": [inner]},
        {"isolated": "envs_apart"},
        {"isolated": "envs_apart:nothing"},
        {"isolated": "no_such_module:x"},
        {"isolated": 5},
    ):
        with pytest.raises(ConfigError, match="isolated"):
            env_of(apart, **more)
    for name, words in (("makes_none", "must make an RLEnv"), ("breaks", "no game here")):
        env = RLEnv([{"prompt": "x"}], lambda: 1, setup=lambda: 1, isolated=f"envs_apart:{name}")
        found = env(LLM(ScriptedBackend(["x"])), store=MemoryLog())[0]
        assert (found.status, found.reward) == ("missing", None)
        assert words in found.detail
    found = apart.Wanting(1)(LLM(ScriptedBackend(["x"])), store=MemoryLog())[0]
    assert "missing 1 required positional argument" in found.detail


def test_functions_of_the_program_itself_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "__module__", "__main__")
    with pytest.raises(ConfigError, match="defined in the program itself"):
        RLEnv([{"prompt": "x"}], lambda: 1, step=local, isolated=True)


def test_a_reply_goes_down(apart: Any) -> None:
    import pickle

    assert pickle.loads(pickle.dumps(Reply(content="x"))).content == "x"


def test_an_environment_of_a_project_can_be_isolated(
    tmp_path: Path, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_project(tmp_path / "project")
    (root / "envs" / "walks.py").write_text(
        "import os\n\n\ndef setup():\n    return {'pid': os.getpid()}\n\n\n"
        "def step(state, completion):\n    return None\n\n\nasync def there(state) -> str:\n    return str(state['pid'])\n"
    )
    path = root / "envs" / "walk.yaml"
    lines = ["dataset: questions.jsonl", "columns: {prompt: question, answer: solution}", "isolated: true"]
    lines += ["rewards: ['envs.sums:right']", "tools: ['envs.walks:there']"]
    path.write_text("\n".join([*lines, "setup: envs.walks:setup", "step: envs.walks:step"]))
    monkeypatch.chdir(root)
    env = DeclaredEnvironment(path).build()
    found = env(LLM(ScriptedBackend([call("there"), "5"])), env.items[0], store=MemoryLog())
    assert (found.reward, found.messages[1].text) == (1.0, str(started[0].pid))
    path.write_text(path.read_text().replace("isolated: true", "isolated: maybe"))
    with pytest.raises(ConfigError, match="isolated"):
        DeclaredEnvironment(path).build()


def test_a_process_that_stays_open_is_a_leak(
    apart: Any, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = env_of(apart)
    close = processes_module.Process.close

    async def cannot(self: Any) -> str | None:
        await close(self)
        self._popen.wait = _never
        return await close(self)

    monkeypatch.setattr(processes_module.Process, "close", cannot)
    found = env(LLM(ScriptedBackend(["stop"])), store=MemoryLog())
    assert found.reward == 0.0
    assert found.leaks == [f"the process {started[0].pid} of the environment is still open"]


def _never(timeout: float) -> None:
    raise subprocess.TimeoutExpired("python", timeout)
