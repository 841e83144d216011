"""Steps: one definition for a call, an awaited call, a batch and a stream; what they make together equals plain Python."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lllm
from lllm import (
    LLM,
    Agent,
    AgentBase,
    MemoryLog,
    Reply,
    ScriptedBackend,
    chain,
    fallback,
    join,
    loop,
    parallel,
    retry,
    route,
    step,
)
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.core.jsonable import jsonable
from lllm.errors import ConfigError, LoopEnded, StageError, UnknownNameError
from lllm.steps import Chain, Map, Step


def upper() -> Agent:
    return Agent("upper", ScriptedBackend(lambda request: request.messages[-1].text.upper()))


def clean(text: str) -> str:
    return text.strip()


async def twice(text: str) -> str:
    return text * 2


def pieces(text: str) -> Any:
    yield from text


def test_models_agents_and_systems_have_batches_of_their_own() -> None:
    class Shout(AgentBase, register=False):
        def call(self, task: str, **more: Any) -> str:
            return task.upper()

    for one in (upper(), LLM(ScriptedBackend(lambda request: request.messages[-1].text.upper())), Shout()):
        assert [str(found) for found in one.batch(["a", "b"], limit=1)] == ["A", "B"]
        assert [str(found) for found in asyncio.run(one.abatch(iter(["c"])))] == ["C"]


def test_a_chain_is_flat_and_it_does_not_matter_how_it_was_made() -> None:
    a, b, c, d = (step(lambda text, n=n: text + str(n)) for n in range(4))
    for made in ((a >> b) >> (c >> d), a >> (b >> (c >> d)), chain(a, chain(b, c), d)):
        assert isinstance(made, Chain)
        assert len(made) == 4
        assert made("x") == "x0123"


def test_functions_agents_and_systems_stand_on_either_side() -> None:
    class Shout(AgentBase, register=False):
        def call(self, task: str, **more: Any) -> str:
            return task + "!"

    made = clean >> upper() >> Shout() >> len
    assert made(" ab ") == 3
    assert [stage.kind for stage in made] == ["function", "agent", "system", "function"]


def test_plain_functions_stand_first_as_steps() -> None:
    with pytest.raises(TypeError):
        clean >> twice >> step(clean)  # type: ignore[operator]  # Python takes the first two alone
    assert (step(clean) >> twice)(" a") == "aa"


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (["a", "b"], r"parallel\(a, b\), one after another chain\(a, b\)"),
        ((str.strip, str.upper), r"parallel\(a, b\)"),
        ({"x": str.strip}, r"parallel\(\{\.\.\.\}\)"),
        (None, "None cannot be a stage"),
        ("text", "something that can be called"),
    ],
)
def test_what_is_no_stage_says_what_to_write(wrong: Any, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        _ = step(str.strip) >> wrong


def test_an_array_to_the_left_is_a_value_and_no_stage() -> None:
    numpy = pytest.importorskip("numpy")
    with pytest.raises(ConfigError, match="cannot be a stage"):
        numpy.array([1, 2]) >> step(clean)


def test_results_of_the_stages_are_kept() -> None:
    reply = (step(clean) >> upper() >> upper())(" a ")
    assert isinstance(reply, Reply)
    assert [(one.name, str(one.value)) for one in reply.stages] == [
        ("clean", "a"),
        ("upper", "A"),
        ("upper", "A"),
    ]
    assert reply.stages.use.model_calls == 2  # type: ignore[attr-defined]
    assert (step(clean) >> upper() >> str)(" a ").stages.named("upper").value.content == "A"


# --- what is handed on


def test_a_function_is_given_what_its_annotation_says() -> None:
    def whole(reply: Reply) -> str:
        return f"{type(reply).__name__} {reply.content}"

    def text(text: str) -> str:
        return f"{type(text).__name__} {text}"

    def value(value: dict) -> Any:  # type: ignore[type-arg]
        return value["n"]

    json = Agent("json", ScriptedBackend(lambda request: '{"n": 5}'), format=dict)
    assert (upper() >> whole)("a") == "Reply A"
    assert (upper() >> text)("a") == "str A"
    assert (json >> value)("a") == 5
    assert (json >> text)("a") == 'str {"n": 5}'


def test_a_mismatch_is_found_when_a_chain_is_built() -> None:
    def number(text: str) -> int:
        return 1

    def half(number: float) -> float:
        return number / 2

    def of_list(items: list[str]) -> str:
        return ""

    assert (step(number) >> half)("x") == 0.5
    with pytest.raises(ConfigError, match=r"stage 2 'of_list' takes .*, and stage 1 'number' gives int"):
        step(number) >> of_list
    with pytest.raises(ConfigError, match="stage 2 'upper'"):
        step(number) >> upper()
    with pytest.raises(ConfigError, match="stage 3 'half'"):
        step(clean) >> upper() >> half


def test_what_does_not_fit_at_run_time_says_so() -> None:
    with pytest.raises(ConfigError, match="'upper' was given nothing") as caught:
        (step(lambda text: None) >> upper())("a")
    assert caught.value.stage == "1/2"  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="a list of 2 texts"):
        (step(lambda text: ["a", "b"]) >> upper())("a")


def test_a_list_is_a_batch_only_where_that_is_clear() -> None:
    def of_list(items: list[int]) -> int:
        return sum(items)

    assert step(of_list)([1, 2]) == 3
    assert step(of_list).batch([[1, 2], [3]]) == [3, 3]
    assert step(clean)(["a ", " b"]) == ["a", "b"]
    unknown = step(lambda value: value)
    with pytest.raises(ConfigError, match="whether it takes a list") as caught:
        unknown(["a"])
    assert ".run(items)" in str(caught.value)
    assert ".batch(items)" in str(caught.value)
    assert unknown.run(["a"]).value == ["a"]
    assert unknown.batch(["a"]) == ["a"]


# --- branches, loops


def test_branches_are_in_order() -> None:
    async def slow(text: str) -> str:
        await asyncio.sleep(0.02)
        return "slow"

    assert parallel(slow, clean)("a") == ["slow", "a"]
    assert list(parallel(x=slow, y=clean)("a")) == ["x", "y"]


def test_a_branch_that_fails() -> None:
    def bad(text: str) -> str:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        parallel(clean, bad)("a")
    kept = parallel(clean, bad, errors="keep")("a")
    assert kept[0] == "a"
    assert isinstance(kept[1], StageError)
    assert (kept[1].index, kept[1].stage) == (1, "1/1/1")
    assert isinstance(kept[1].__cause__, ValueError)
    assert parallel(bad, clean, errors="drop")("a") == ["a"]
    assert parallel(x=bad, y=clean, errors="drop")("a") == {"y": "a"}
    with pytest.raises(StageError):
        (parallel(clean, bad, errors="keep") >> join())("a")
    assert (parallel(clean, bad, errors="keep") >> join(errors="drop"))("a") == ["a"]


def test_a_map_over_nothing() -> None:
    assert lllm.map(clean)([]) == []
    assert (step(lambda text: []) >> lllm.map(clean) >> join(lambda found: len(found)))("a") == 0
    with pytest.raises(ConfigError, match="goes over items"):
        lllm.map(clean)("text")


def test_routes() -> None:
    made = route(len, {1: clean, 2: twice})
    assert made("a") == "a"
    assert made("ab") == "abab"
    with pytest.raises(UnknownNameError, match="3"):
        made("abc")
    assert route(Agent("r", ScriptedBackend(["two"])), {"two": twice})("a") == "aa"


def test_a_loop_has_a_bound() -> None:
    def more(number: int) -> int:
        return number + 1

    def enough(number: int) -> bool:
        return number >= 3

    assert loop(more, until=enough, times=9)(0) == 3
    assert loop(more, until=enough, times=2)(0) == 2
    with pytest.raises(LoopEnded, match="2 times"):
        loop(more, until=enough, times=2, at_most="raise")(0)
    with pytest.raises(ConfigError, match="times"):
        loop(more, times=0)


def test_retry_and_fallback() -> None:
    tries = []

    def flaky(text: str) -> str:
        tries.append(text)
        if len(tries) < 3:
            raise OSError("once more")
        return text

    assert retry(flaky, times=3, on=OSError)("a") == "a"
    tries.clear()
    with pytest.raises(OSError, match="once more"):
        retry(flaky, times=3)("a")  # it does not say that it may be tried again
    assert len(tries) == 1
    tries.clear()
    assert fallback(flaky, clean)("b ") == "b"
    tries.clear()
    with pytest.raises(OSError, match="once more") as caught:
        fallback(flaky, flaky)("a")
    assert any("'flaky' failed" in note for note in caught.value.__notes__)


# --- nestings equal plain Python

VALUES = st.integers(-5, 5)


@st.composite
def nested(draw: Any, depth: int = 3) -> tuple[Step, Any]:
    """A random step of whole numbers, and the same in plain Python."""
    kinds = (
        ["add", "double", "even"]
        if depth == 0
        else ["chain", "parallel", "map", "route", "loop", "add", "retry"]
    )
    match draw(st.sampled_from(kinds)):
        case "add":
            n = draw(VALUES)
            return step(lambda value: value + n), lambda value: value + n
        case "double":
            return step(lambda value: value * 2), lambda value: value * 2
        case "even":
            return step(lambda value: value // 2), lambda value: value // 2
        case "chain":
            parts = [draw(nested(depth=depth - 1)) for _ in range(draw(st.integers(1, 3)))]

            def whole(value: int) -> int:
                for _, plain in parts:
                    value = plain(value)
                return value

            return chain(*(one for one, _ in parts)), whole
        case "parallel":
            parts = [draw(nested(depth=depth - 1)) for _ in range(draw(st.integers(1, 3)))]
            made = parallel(*(one for one, _ in parts)) >> join(sum)
            return made, lambda value: sum(plain(value) for _, plain in parts)
        case "map":
            inner, plain = draw(nested(depth=depth - 1))
            made = step(lambda value: list(range(abs(value) % 4))) >> lllm.map(inner, limit=2) >> join(sum)
            return made, lambda value: sum(plain(item) for item in range(abs(value) % 4))
        case "route":
            (left, one), (right, other) = draw(nested(depth=depth - 1)), draw(nested(depth=depth - 1))
            made = route(lambda value: value % 2, {0: left, 1: right})
            return made, lambda value: other(value) if value % 2 else one(value)
        case "retry":
            inner, plain = draw(nested(depth=depth - 1))
            return retry(inner), plain
        case _:
            inner, plain = draw(nested(depth=depth - 1))
            made = loop(inner, until=lambda value: value > 20, times=3)

            def again(value: int) -> int:
                for _ in range(3):
                    value = plain(value)
                    if value > 20:
                        break
                return value

            return made, again


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(nested(), VALUES)
def test_nested_steps_equal_plain_python(pair: tuple[Step, Any], value: int) -> None:
    made, plain = pair
    store = MemoryLog()
    assert made.run(value, store=store).value == plain(value)
    session = store.sessions(1)[0].id
    report = lllm.replay_session(session, store=store, entry=lambda: made.run(value, store=store))
    assert report.verified, report.divergence


# --- batches


def test_no_stage_waits_for_a_slow_item() -> None:
    """Item 7 leaves the first stage only when all the others have left the last one."""
    left: list[int] = []
    others = threading.Event()

    def first(n: int) -> int:
        if n == 7 and not others.wait(60):
            raise TimeoutError("the others wait for it")
        return n

    def last(n: int) -> int:
        left.append(n)
        if len(left) == 99:
            others.set()
        return n

    made = step(first) >> (lambda n: n) >> last
    assert made.batch(range(100)) == list(range(100))
    assert left[-1] == 7


def test_an_item_that_fails_says_which_and_where() -> None:
    store = MemoryLog()

    def parse(text: str) -> int:
        return int(text)

    made = step(clean) >> parse
    found = made.batch(["1", "x", " 3 "], store=store)
    assert [found[0], found[2]] == [1, 3]
    error = found[1]
    assert isinstance(error, StageError)
    assert (error.index, error.stage) == (1, "1/2")
    assert error.session in {info.id for info in store.sessions(9)}
    assert made.batch(["1", "x"], store=store, errors="drop") == [1]
    with pytest.raises(StageError, match="item 1 failed in stage 1/2"):
        made.batch(["1", "x"], store=store, errors="raise")
    assert made.batch([], store=store) == []


def test_a_generator_is_read_as_it_is_needed_and_once() -> None:
    ahead, most = [], [0]

    def values() -> Any:
        for n in range(40):
            ahead.append(n)
            yield n

    def seen(n: int) -> int:
        most[0] = max(most[0], len(ahead) - n)
        return n

    given = values()
    assert step(seen).batch(given, limit=4) == list(range(40))
    assert most[0] <= 5
    with pytest.raises(ConfigError, match="another batch has read"):
        step(seen).batch(given)
    for wrong in ("text", 5, None):
        with pytest.raises(ConfigError, match="a batch was given"):
            step(seen).batch(wrong)  # type: ignore[arg-type]


def test_items_are_sessions_that_the_batch_names() -> None:
    store = MemoryLog()
    (step(clean) >> upper()).batch(["a", "b"], store=store)
    ids = sorted(info.id for info in store.sessions(9))
    batch = ids[0]
    assert ids == [batch, f"{batch}-0", f"{batch}-1"]
    events = [open_event(body) for body in store.read(batch)]
    assert [event["data"]["session"] for event in events if event["kind"] == ev.ITEM_STARTED] == ids[1:]


def test_items_within_a_session_are_its_own() -> None:
    store = MemoryLog()

    def entry() -> list[str]:
        with lllm.record("x", store=store):
            return [str(one) for one in (step(clean) >> upper()).batch(["a", "b", "a"])]

    assert entry() == ["A", "B", "A"]
    (info,) = store.sessions(9)
    assert lllm.replay_session(info.id, store=store, entry=entry).verified


def test_cancelling_a_batch_is_no_error_of_an_item() -> None:
    async def hang(text: str) -> str:
        await asyncio.sleep(60)
        return text

    async def main() -> None:
        async with asyncio.timeout(0.05):
            await step(hang).abatch(["a", "b"])

    with pytest.raises(TimeoutError):
        asyncio.run(main())


# --- streams


def test_the_last_stage_that_streams_is_shown() -> None:
    stream = (upper() >> upper() >> clean).stream("a")
    assert {piece.stage for piece in stream} == {"1/2"}
    assert stream.result is not None
    assert stream.result.value == "A"


def test_branches_are_told_apart() -> None:
    found = list(parallel(x=upper(), y=upper()).stream("a"))
    assert {piece.stage for piece in found} == {"1/1/x", "1/1/y"}


def test_a_stage_that_is_run_again_takes_its_text_back() -> None:
    tries = []

    def some(text: str) -> Any:
        yield "one"
        tries.append(text)
        if len(tries) == 1:
            raise OSError("broken")
        yield "two"

    deltas = [type(piece.delta).__name__ for piece in retry(some, on=OSError).stream("a")]
    assert deltas == ["TextDelta", "Restart", "TextDelta", "TextDelta"]


def test_a_stream_that_is_left_stops_the_run() -> None:
    ended = []

    async def slow(text: str) -> Any:
        try:
            yield "a"
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    for _ in step(slow).stream("x"):
        break
    assert ended == [True]


# --- sessions


def test_a_chain_is_replayed_resumed_and_forked() -> None:
    store = MemoryLog()
    asked = []

    def model(request: Any) -> str:
        asked.append(request.messages[-1].text)
        return request.messages[-1].text.upper()

    agent = Agent("upper", ScriptedBackend(model))
    made = step(lambda text: text.split()) >> lllm.map(agent) >> join(lambda found: " ".join(found)) >> agent

    def entry() -> Any:
        return made.run("a b a", store=store)

    entry()
    session = store.sessions(1)[0].id
    assert lllm.replay_session(session, store=store, entry=entry).verified
    count = len(store._sessions[session])
    for at in range(2, count - 1, 3):
        cut = MemoryLog()
        cut._sessions[session] = store._sessions[session][:at]
        cut._blobs = dict(store._blobs)

        def again(cut: MemoryLog = cut) -> Any:
            return made.run("a b a", store=cut)

        lllm.resume_session(session, store=cut, entry=again)
        report = lllm.replay_session(session, store=cut, entry=again)
        assert report.verified, (at, report.divergence)
    before = len(asked)
    fork = lllm.fork_session(session, at=count - 1, store=store, entry=entry)
    assert fork.result.value.content == "A B A"
    assert len(asked) == before


def test_a_chain_of_another_form_diverges_where_it_differs() -> None:
    store = MemoryLog()
    (step(clean) >> upper()).run("a", store=store)
    session = store.sessions(1)[0].id
    other = step(twice) >> upper()
    report = lllm.replay_session(session, store=store, entry=lambda: other.run("a", store=store))
    assert not report.verified
    assert "StageStarted" in str(report.divergence)


@pytest.mark.parametrize("kind", ["batch", "replies", "result", "system"])
def test_replies_with_stages_in_a_result_are_replayed(kind: str) -> None:
    """The log has the stages already; how long each took differs in every replay."""
    inner = step(clean) >> upper()

    def ask(text: str) -> Any:
        if kind == "batch":
            return inner.batch([text, "b"], limit=1)
        return inner.run(text) if kind == "result" else {"made": [inner(text)]}

    class Asks(AgentBase, register=False):
        def call(self, task: str, **more: Any) -> Any:
            return ask(task)

    made = Asks() if kind == "system" else step(ask)
    store = MemoryLog()

    def program() -> Any:
        return step(made).run("a", store=store)

    report = lllm.replay_session(program().session, store=store, entry=program)
    assert report.verified, report.divergence


def test_a_reply_as_json_leaves_out_its_stages() -> None:
    reply = (step(clean) >> upper())("a")
    assert len(reply.stages) == 2
    assert "stages" not in jsonable(reply)
    assert "seconds" not in jsonable(reply.stages[0])


def test_map_is_no_name_of_import_star() -> None:
    assert "map" not in lllm.__all__
    assert isinstance(lllm.map(clean), Map)


def test_a_batch_holds_no_more_than_its_results() -> None:
    """What the stages of its items gave is not kept, and neither are events that could be written."""
    import gc

    class Big(bytes):
        pass

    async def big(n: int) -> Big:
        return Big(10_000)

    async def small(value: Any) -> str:
        return str(len(value))

    most = []

    def count(done: int, of: int | None) -> None:
        gc.collect()
        most.append(sum(1 for found in gc.get_objects() if type(found) is Big))

    store = MemoryLog()
    assert (step(big) >> small).batch(range(60), limit=4, store=store, progress=count) == ["10000"] * 60
    assert max(most) <= 8  # of the items under way, and of those that have just ended: not of all


def test_a_batch_of_agents_holds_nothing_of_its_items() -> None:
    """What is held for each item, beyond its result and its log, is less than a message."""
    import gc
    import tracemalloc

    from lllm import NoLog

    model = ScriptedBackend(lambda request: f"{request.messages[-1].text}+")
    made = step(clean) >> Agent("a", model) >> Agent("b", model) >> str
    held = []

    def measure(done: int, of: int | None) -> None:
        if done in (200, 600):
            model.requests.clear()
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])

    made.batch(["warm"], store=NoLog())
    tracemalloc.start()
    try:
        made.batch((f"item {n}" for n in range(620)), limit=4, store=NoLog(), progress=measure)
    finally:
        tracemalloc.stop()
    assert (held[1] - held[0]) / 400 < 400
