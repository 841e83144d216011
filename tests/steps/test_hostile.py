"""Functions that are called oddly, raise what is no error, run chains of their own, or are run in a child process."""

from __future__ import annotations

import asyncio
import functools
import math
import os
import subprocess
import sys
from typing import Any

import pytest

import lllm
from lllm import Agent, MemoryLog, Prompt, ScriptedBackend, chain, join, parallel, retry, step
from lllm.errors import ConfigError, LLMError, StageError
from lllm.registry import registry


def same(text: str) -> str:
    return text


def ends(text: str) -> str:
    sys.exit(3)


async def ends_later(text: str) -> str:
    sys.exit("badly")


async def interrupts(text: str) -> str:
    raise KeyboardInterrupt


def interrupts_in_thread(text: str) -> str:
    raise KeyboardInterrupt


class Odd(BaseException):
    pass


def odd(text: str) -> str:
    raise Odd("odd")


class Awaited:
    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return "done"


class Pieces:
    def __call__(self, text: str) -> Any:
        yield text
        yield "!"


async def later(text: str) -> Any:
    yield text
    yield "!"


def pieces(mark: str, text: str) -> Any:
    yield text
    yield mark


@pytest.mark.parametrize(
    "function",
    [
        Pieces(),
        lambda text: (piece for piece in (text, "!")),
        lambda text: later(text),
        functools.partial(pieces, "!"),
        lambda text: asyncio.sleep(0, f"{text}!"),
    ],
)
def test_whatever_gives_pieces_or_is_awaited(function: Any) -> None:
    assert step(function)("a") == "a!"


def test_an_object_that_is_awaited() -> None:
    assert step(lambda text: Awaited())("a") == "done"
    assert (parallel(same) >> join(lambda found: Awaited()))("a") == "done"


@pytest.mark.parametrize("function", [ends, ends_later])
def test_a_function_that_exits_has_failed(function: Any) -> None:
    with pytest.raises(LLMError, match=r"the function '\w+' called sys.exit\("):
        step(function)("a")
    found = step(function).batch(["a", "b"])
    assert [type(one) for one in found] == [StageError, StageError]
    assert parallel(function, same, errors="drop")("a") == ["a"]
    with pytest.raises(LLMError, match=r"called sys\.exit"):
        (parallel(same) >> join(lambda found: sys.exit(1)))("a")


@pytest.mark.parametrize("function", [interrupts, interrupts_in_thread])
def test_an_interrupt_stops_all(function: Any, capfd: pytest.CaptureFixture[str]) -> None:
    store = MemoryLog()
    with pytest.raises(KeyboardInterrupt):
        step(function).batch(["a", "b"], store=store)
    with pytest.raises(KeyboardInterrupt):
        parallel(function, same, errors="keep").run("a", store=store)
    with pytest.raises(KeyboardInterrupt):
        lllm.map(function, errors="keep").run(["a", "b"], store=store)
    assert capfd.readouterr().err == ""
    assert step(same).batch(["a"]) == ["a"]


def test_what_is_no_exception_is_raised_once(caplog: pytest.LogCaptureFixture) -> None:
    import gc

    with pytest.raises(Odd):
        step(odd).batch(["a", "b", "c"])
    gc.collect()
    assert not caplog.records  # "Task exception was never retrieved"


# --- errors with a mind of their own


class Rigid(Exception):
    def __setattr__(self, name: str, value: Any) -> None:
        raise TypeError("no attributes")


class Staged(Exception):
    stage = 7


class Named(Exception):
    stage = "mine"


@pytest.mark.parametrize("kind", [Rigid, Staged, Named, ValueError])
def test_an_error_is_noted_once_with_its_stage(kind: type[Exception]) -> None:
    def fails(text: str) -> str:
        raise kind("x")

    with pytest.raises(kind) as raised:
        (step(same) >> parallel(y=fails))("a")
    notes = [] if kind is Rigid else ["in stage 1/2/y 'fails'"]  # Python cannot note anything on that either
    assert getattr(raised.value, "__notes__", []) == notes
    assert getattr(raised.value, "stage", None) == {Staged: 7, Named: "mine", ValueError: "1/2/y"}.get(kind)


def test_one_error_that_is_raised_in_several_stages() -> None:
    same_error = ValueError("x")

    def fails(text: str) -> str:
        raise same_error

    found = lllm.map(fails, errors="keep", limit=1).run(["a", "b", "c"]).value
    assert [one.stage for one in found] == ["1/1/0", "1/1/1", "1/1/2"]
    assert same_error.__notes__ == ["in stage 1/1/2 'fails'"]
    (kept,) = step(fails).batch(["a"])
    assert kept.stage == "1/1"


def test_an_item_that_fails_in_an_item_has_its_own_number() -> None:
    def fails_on_x(text: str) -> str:
        if text == "x":
            raise ValueError("no x")
        return text

    made = step(str.split) >> lllm.map(fails_on_x, errors="keep") >> join()
    found = made.batch(["a b", "c d", "x e"])
    assert found[:2] == [["a", "b"], ["c", "d"]]
    assert (found[2].index, found[2].stage) == (2, "1/2/0")
    assert found[2].session.endswith("-2")
    assert "ValueError: no x" in str(found[2])
    inner = found[2].__cause__
    assert isinstance(inner, StageError)
    assert inner.index == 0


# --- functions that run chains


NESTED = """\
import threading

from lllm import step
from lllm.steps.function import THREADS

all_there = threading.Barrier(THREADS)
inner = step(str.strip) >> str.upper


def outer(text: str) -> str:
    all_there.wait(20)  # each thread of this level is taken
    return str(inner(text))


print(len(step(outer).batch([f"a{n}" for n in range(THREADS)], limit=THREADS)))
"""


def test_functions_that_run_chains_do_not_wait_for_each_other() -> None:
    done = subprocess.run([sys.executable, "-c", NESTED], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "64", done.stderr


def test_a_chain_in_a_running_loop() -> None:
    async def notebook() -> Any:
        return (step(same) >> str.upper)("a")

    assert asyncio.run(notebook()) == "A"


def test_a_chain_in_a_forked_child() -> None:
    made = step(same) >> str.upper
    assert made("a") == "A"  # the threads are there
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            import signal

            signal.alarm(60)
            os.write(write, str(made("b")).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        assert told.read() == "B"
    os.waitpid(child, 0)


# --- settings and joins that do not fit


@pytest.mark.parametrize("wait", ["1", -1, math.nan, math.inf, True, None])
def test_a_wait_is_a_number_of_seconds(wait: Any) -> None:
    with pytest.raises(ConfigError, match="wait must be a number of seconds >= 0"):
        retry(same, wait=wait)


def test_a_limit_is_called_limit() -> None:
    for make in (lambda: lllm.map(same, limit=0), lambda: step(same).batch(["a"], limit=True)):
        with pytest.raises(ConfigError, match="limit must be a whole number >= 1"):
            make()


def test_a_join_that_does_not_fit_its_branches() -> None:
    with pytest.raises(ConfigError, match="stage 2 'both' is given the keywords x, z by stage 1 'parallel'"):
        parallel(x=same, z=same) >> join(both)
    with pytest.raises(ConfigError, match="is given a list by stage 1 'parallel'"):
        parallel(same, same) >> join(both)
    with pytest.raises(ConfigError, match="is given a list by stage 2 'map"):
        step(str.split) >> lllm.map(same) >> join(both)
    assert (parallel(x=same, y=same) >> join(both))("a") == "aa"
    assert (parallel(x=same, z=same, errors="drop") >> join(lambda **found: sorted(found)))("a") == ["x", "z"]
    assert (parallel(x=same, y=same) >> join(dict))("a") == {"x": "a", "y": "a"}
    assert (parallel(same, same) >> join(max))("a") == "a"


def count(text: str) -> int:
    return len(text)


def halves(text: str) -> tuple[str, str] | None:
    return text[:1], text[1:]


def test_a_map_behind_a_stage_without_items() -> None:
    for before, words in ((count, "int"), (same, "str")):
        with pytest.raises(ConfigError, match=rf"'map\(same\)' goes over items, and .* gives {words}"):
            step(before) >> lllm.map(same)
    assert (step(halves) >> lllm.map(same))("ab") == ["a", "b"]
    assert len(Agent("a", ScriptedBackend(["x"])) >> lllm.map(same)) == 2  # its reply may be a list


def both(x: str, y: str) -> str:
    return x + y


# --- texts for agents


def test_a_text_takes_the_place_of_an_agents_prompt() -> None:
    def model(request: Any) -> str:
        return str(request.messages[-1].text)

    one = Agent("one", ScriptedBackend(model), prompt=Prompt("p/one", "About {topic}."))
    two = Agent("two", ScriptedBackend(model), prompt=Prompt("p/two", "{task} in {words} words."))
    assert str((step(str.strip) >> one)(" rain ")) == "About rain."
    assert str((step(lambda text: {"task": text, "words": 5}) >> two)("Rain")) == "Rain in 5 words."
    with pytest.raises(LLMError, match="words"):
        (step(str.strip) >> two)("Rain")


def test_a_text_that_is_the_path_of_a_prompt_is_a_text() -> None:
    with registry.scope():
        registry.add("prompt", "p/secret", Prompt("p/secret", "Something else."))
        plain = Agent("plain", ScriptedBackend(lambda request: request.messages[-1].text))
        assert str(chain(str.strip, plain)(" p/secret ")) == "p/secret"
