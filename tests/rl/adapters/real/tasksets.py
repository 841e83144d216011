"""What `make test-verifiers` runs: tasksets of verifiers 0.4 through the adapter, offline, in a venv with both packages."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import verifiers.v1 as vf  # type: ignore[import-not-found]

from lllm import LLM, ScriptedBackend
from lllm.errors import ConfigError
from lllm.log.memory import MemoryLog
from lllm.rl.adapters.verifiers import Verifiers


class Data(vf.TaskData):  # type: ignore[misc]
    answer: str


class Sum(vf.Task[Data, vf.State, vf.TaskConfig]):  # type: ignore[misc]
    @vf.reward(weight=2.0)  # type: ignore[untyped-decorator]
    async def right(self, trace: vf.Trace) -> float:
        return float(trace.last_reply == self.data.answer)

    @vf.reward  # type: ignore[untyped-decorator]
    async def short(self, trace: vf.Trace) -> float:
        return float(0 < len(trace.last_reply) < 5)


class Sums(vf.Taskset[Sum, vf.TasksetConfig]):  # type: ignore[misc]
    def load(self) -> Iterator[Sum]:
        for number in range(10):
            yield Sum(Data(prompt=f"{number} + 1?", answer=str(number + 1)), self.config.task)


class WithRuntime(Sum):
    @vf.reward  # type: ignore[untyped-decorator]
    async def built(self, runtime: vf.Runtime) -> float:
        return 1.0


class InRuntime(vf.Taskset[WithRuntime, vf.TasksetConfig]):  # type: ignore[misc]
    def load(self) -> Iterator[WithRuntime]:
        yield WithRuntime(Data(prompt="x", answer="y"), self.config.task)


def ten_lines() -> None:
    """A taskset of ten lines: its weights, its check, its rollouts scored again from the log."""
    env, store = Verifiers(Sums(vf.TasksetConfig())), MemoryLog()

    def say(request: object) -> str:
        number = int(request.messages[-1].text[0])  # type: ignore[attr-defined]
        return str(number + 1) if number < 5 else "I do not know"

    found = env(LLM(ScriptedBackend(say)), store=store)
    assert [one.reward for one in found] == [3.0] * 5 + [0.0] * 5
    assert env.score([one.session for one in found], store=store).reward == found.reward == 1.5
    assert env.check(first=5).ok
    assert len(Verifiers(Sums(vf.TasksetConfig()), skip=8).items) == 2
    print(f"ten lines: {found}")


def refused() -> None:
    """What verifiers would leave out in silence is an error."""
    words = ""
    try:
        Verifiers(InRuntime(vf.TasksetConfig()))
    except ConfigError as error:
        words = error.message
    assert "a runtime for 'built'" in words
    print(f"refused: {words}")


def text_arena() -> None:
    """Its TextArena taskset: the game's Env plays the other side. The word lists are made of textarena's own dictionary."""
    spec = find_spec("textarena")
    assert spec is not None
    assert spec.origin is not None
    words = Path(spec.origin).parent / "envs" / "utils" / "data" / "en_US.dic"
    lines = [line.split("/")[0] for line in words.read_text("utf-8", "ignore").splitlines()]
    known = [one for one in lines if one.isascii() and one.isalpha() and one.islower()]
    folder = Path(tempfile.mkdtemp(), "corpora", "words")
    folder.mkdir(parents=True)
    (folder / "en").write_text("\n".join(known))
    (folder / "en-basic").write_text("\n".join(one for one in known if 3 <= len(one) <= 5))
    os.environ["NLTK_DATA"] = str(folder.parents[1])

    from verifiers.v1.tasksets.textarena.taskset import (  # type: ignore[import-not-found]
        TextArenaConfig,
        TextArenaTaskset,
    )

    taskset = TextArenaTaskset(TextArenaConfig(id="textarena", game="WordLadder-v0"))
    env = Verifiers(taskset, 4, arguments={"max_turns": 3})
    assert env.player is not None
    found = env(LLM(ScriptedBackend(lambda _: "[abcd]")), store=MemoryLog())
    assert len(found.scored) == 4, (found.reasons, found[0].detail, found[0].errors)
    assert not found.leaks
    assert all(one.turns >= 2 for one in found)
    assert all(one.messages[1].role == "user" for one in found)
    print(f"TextArena, WordLadder: {found}; {found[0].messages[1].text[:90]!r}")


if __name__ == "__main__":
    ten_lines()
    refused()
    text_arena()
