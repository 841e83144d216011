"""The part that a fork shares with its parent is driven along the parent's record: in its order, and in its time."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest

import lllm
from benchmarks.order import forks, shape
from benchmarks.order.runs import required
from benchmarks.order.shape import SHAPES
from lllm.backends.scripted import ScriptedBackend
from lllm.core import events as ev
from lllm.errors import ProviderError
from lllm.llm.activity import activity
from lllm.llm.agent import Agent
from lllm.llm.sessions import arecord
from lllm.log.memory import MemoryLog
from lllm.models.function import tool
from lllm.models.message import FunctionCall
from lllm.models.reply import Reply
from lllm.ports import Completed, Request
from lllm.replay import replay_session
from lllm.replay.fork import fork_session
from lllm.replay.resume import resume_session

RAN: list[str] = []


EXACT = [name for name in SHAPES if required(name, "lllm") and not SHAPES[name].rare]
HERE = ("as_completed", "race", "timeouts_side_by_side", "work_queue", "agents_as_tools")


@pytest.mark.parametrize("name", EXACT)
def test_a_concurrent_program_forks(name: str) -> None:
    """As it is, and from any event on; and so does each fork, which replays, and is resumed after it was cut off."""
    assert forks.tried(name) == []


@pytest.mark.parametrize("name", HERE)
def test_a_program_in_a_loop_of_others_forks(name: str) -> None:
    assert forks.tried(name, "asyncio") == []


# --- a program of four chains side by side, with tools


@tool(effect="ask")
async def act(text: str) -> str:
    """Acts."""
    RAN.append(text)
    await asyncio.sleep(random.random() * 0.003)
    return f"done {text}"


class Slow(shape.Slow):
    async def stream(self, request: Request) -> Any:
        self.asked += 1
        await asyncio.sleep(random.random() * 0.005)
        last = request.messages[-1]
        if request.tools and last.role == "user":
            call = FunctionCall("n", "act", f'{{"text":"{last.text[:6]}"}}')
            yield Completed(Reply(content="", tool_calls=(call,)))
        else:
            yield Completed(Reply(content=f"{last.text[:24]}~{random.random():.6f}"))


class Chains:
    """What it says next depends on which chain was quicker."""

    def __init__(self, store: MemoryLog) -> None:
        self.store = store
        self.words = [f"q{n}" for n in range(4)]
        self.backend = Slow()

    async def __call__(self) -> str:
        agent, got = Agent("a", self.backend, tools=[act]), list[str]()

        async def chain(words: str) -> None:
            got.append((await agent.acall(words)).content)
            got.append((await agent.acall(f"again {len(got)}")).content)

        async with arecord("chains", store=self.store):
            await asyncio.gather(*map(chain, self.words))
            return (await agent.acall(f"all {got}")).content


@pytest.fixture
def chains() -> tuple[Chains, str]:
    made = Chains(MemoryLog())
    lllm.run(made())
    RAN.clear()
    made.backend.asked = 0
    return made, made.store.sessions(1)[0].id


def verified(chains: Chains, session: str) -> bool:
    asked = chains.backend.asked
    report = replay_session(session, store=chains.store, entry=chains)
    assert report.verified, report.divergence
    return report.whole and chains.backend.asked == asked


def test_one_of_several_calls_differs(chains: tuple[Chains, str]) -> None:
    """The others get their answers from the parent, in whatever order; what follows from that is asked."""
    program, session = chains
    program.words[2] = "other"
    done = fork_session(session, store=program.store, entry=program)
    assert done.changed + done.new == program.backend.asked
    assert done.reused >= 6  # of three chains the first call
    assert RAN[0] == "other"
    assert not set(RAN) & {"q0", "q1", "q3"}
    assert verified(program, done.session)


@pytest.mark.parametrize("kind", [ev.MODEL_REPLIED, ev.TOOL_RETURNED])
def test_an_edit_among_calls_side_by_side(chains: tuple[Chains, str], kind: str) -> None:
    program, session = chains
    parent = forks.events(program.store, session)
    for event in [event for event in parent if event["kind"] == kind][1::4]:
        program.backend.asked = 0
        done = fork_session(session, at=event["seq"], edit="EDITED", store=program.store, entry=program)
        child = forks.events(program.store, done.session)
        assert forks.begins(forks.says(child), forks.says(parent[: event["seq"]]))
        said = [one for one in child if one["call"] == event["call"] and one["kind"] == kind]
        assert sum("EDITED" in str(one["data"]) for one in said) == 1
        assert done.notes == []
        assert done.changed + done.new == program.backend.asked
        assert verified(program, done.session)


def test_from_any_event_on_all_is_asked_anew(chains: tuple[Chains, str]) -> None:
    program, session = chains
    parent = forks.events(program.store, session)
    for at in range(1, len(parent), 9):
        RAN.clear()
        program.backend.asked = 0
        done = fork_session(session, at=at, store=program.store, entry=program)
        kinds = [event["kind"] for event in parent[:at]]
        assert done.reused == kinds.count(ev.MODEL_REPLIED)
        assert done.tools_reused == kinds.count(ev.TOOL_RETURNED)
        assert program.backend.asked == 18 - done.reused
        assert len(RAN) == 9 - done.tools_reused
        assert verified(program, done.session)


def test_what_is_shared_has_the_order_of_the_parent(chains: tuple[Chains, str]) -> None:
    """Event by event, with the inputs between them."""
    program, session = chains
    done = fork_session(session, store=program.store, entry=program)
    both = [forks.events(program.store, one) for one in (session, done.session)]
    said = [
        [
            (e["kind"], e["call"], {key: value for key, value in e["data"].items() if key != "from"})
            for e in one[1:]
        ]
        for one in both
    ]
    assert said[0] == said[1]
    began = [one[0]["at"] for one in both]
    assert [e["at"] - began[0] for e in both[0][:-1]] == [e["at"] - began[1] for e in both[1][:-1]]
    replies = [e for e in both[0] if e["kind"] == ev.MODEL_REPLIED]
    given = [e["data"]["from"] for e in both[1] if e["kind"] == ev.MODEL_REPLIED]
    assert given == [f"{session}#{e['seq']}" for e in replies]
    assert both[1][0]["data"]["inputs"] == "all"


def test_a_fork_is_resumed_after_it_was_cut_off_at_any_event(chains: tuple[Chains, str]) -> None:
    program, session = chains
    at = len(program.store._sessions[session]) // 3
    child = fork_session(session, at=at, store=program.store, entry=program).session
    whole = program.store._sessions[child]
    for cut in range(1, len(whole) - 1, 7):
        left = Chains(MemoryLog())
        left.store._sessions[child], left.store._blobs = whole[:cut], dict(program.store._blobs)
        resume_session(child, store=left.store, entry=left, decide="retry")
        assert left.store._sessions[child][:cut] == whole[:cut]
        assert verified(left, child)
        again = fork_session(child, store=left.store, entry=left)  # of a log that was resumed
        assert (again.changed, again.new) == (0, 0)
        assert verified(left, again.session)


def test_a_parent_that_was_cut_off_goes_on_in_its_fork(chains: tuple[Chains, str]) -> None:
    program, session = chains
    whole = program.store._sessions[session]
    for cut in range(2, len(whole) - 1, 11):
        left = Chains(MemoryLog())
        left.store._sessions[session], left.store._blobs = whole[:cut], dict(program.store._blobs)
        done = fork_session(session, store=left.store, entry=left)
        assert done.status == "done"
        child, parent = forks.events(left.store, done.session), forks.events(left.store, session)
        assert forks.begins(forks.says(child), forks.says(parent))
        assert verified(left, done.session)


# --- time


def test_the_shared_part_takes_no_time_and_what_follows_takes_its_own() -> None:
    waits, spent = 0.05, list[float]()
    store = MemoryLog()

    async def main() -> None:
        agent = Agent("a", ScriptedBackend(lambda request: request.messages[-1].text))
        async with arecord("work", store=store):
            for n in range(4):
                begun = time.monotonic()
                await asyncio.sleep(waits)
                spent.append(time.monotonic() - begun)
                await agent.acall(f"q{n}")

    lllm.run(main())
    session = store.sessions(1)[0].id
    waits = 30.0  # it is the record's time
    spent.clear()
    begun = time.monotonic()
    fork_session(session, store=store, entry=main)
    assert time.monotonic() - begun < 60
    waits = 0.05
    third = [e["seq"] for e in forks.events(store, session) if e["kind"] == ev.CALL_STARTED][2]
    spent.clear()
    done = fork_session(session, at=third, store=store, entry=main)
    assert spent[3] >= 0.05
    assert done.new == 2
    assert replay_session(done.session, store=store, entry=main).verified


def test_a_deadline_counts_the_time_of_the_shared_part() -> None:
    """By the log's clock, which the fork goes on with."""
    store = MemoryLog()

    async def main() -> str:
        @tool(effect="pure")
        async def rest(n: int) -> str:
            """Rests."""
            await asyncio.sleep(0.4 if n == 1 else 0.0)
            return f"rested {n}"

        def model(request: Request) -> Any:
            n = sum(1 for message in request.messages if message.role == "tool")
            return "end" if n == 3 else FunctionCall(f"t{n}", "rest", f'{{"n":{n + 1}}}')

        async with arecord("work", store=store):
            return (
                await Agent("a", ScriptedBackend(model), tools=[rest], deadline=300.0).acall("go")
            ).content

    lllm.run(main())
    session = store.sessions(1)[0].id
    second = [e["seq"] for e in forks.events(store, session) if e["kind"] == ev.TOOL_RETURNED][1]
    done = fork_session(session, at=second, store=store, entry=main)
    child = forks.events(store, done.session)
    assert child[second]["at"] - child[0]["at"] >= 400_000
    assert [e["at"] for e in child] == sorted(e["at"] for e in child)
    assert replay_session(done.session, store=store, entry=main).verified


# --- what is not shared


def test_a_failure_that_ended_the_parent_is_not_shared() -> None:
    """It is asked again. One after which the program went on is."""
    store, down = MemoryLog(), True

    def model(request: Request) -> Any:
        if "bad" in request.messages[-1].text or ("last" in request.messages[-1].text and down):
            raise ProviderError("no", retryable=False)
        return "yes"

    backend = ScriptedBackend(model)

    async def main() -> str:
        agent = Agent("a", backend)
        async with arecord("work", store=store):
            results = await asyncio.gather(agent.acall("good"), agent.acall("bad"), return_exceptions=True)
            return f"{len(results)} {(await agent.acall('last')).content}"

    with pytest.raises(lllm.LLMError):
        lllm.run(main())
    session = store.sessions(1)[0].id
    down = False
    backend.requests.clear()
    done = fork_session(session, store=store, entry=main)
    assert done.result == "2 yes"
    assert [request.messages[-1].text for request in backend.requests] == ["last"]
    assert replay_session(done.session, store=store, entry=main).verified


def test_a_stop_that_ended_the_parent_is_not_shared() -> None:
    store, hangs = MemoryLog(), True

    class Some(ScriptedBackend):
        async def stream(self, request: Any) -> Any:
            if hangs and request.messages[-1].text == "second":
                reached.set()
                await asyncio.Event().wait()
            async for delta in super().stream(request):
                yield delta

    backend = Some(lambda _: "yes")

    async def main() -> list[str]:
        agent = Agent("a", backend)
        async with arecord("work", store=store):
            first = (await agent.acall("first")).content
            return [
                first,
                *(
                    reply.content
                    for reply in await asyncio.gather(agent.acall("second"), agent.acall("third"))
                ),
            ]

    async def stopped() -> None:
        task = asyncio.ensure_future(main())
        await reached.wait()
        task.cancel()
        await asyncio.wait((task,))

    reached = asyncio.Event()
    lllm.run(stopped())
    session = store.sessions(1)[0].id
    hangs = False
    backend.requests.clear()
    done = fork_session(session, store=store, entry=main)
    assert done.result == ["yes"] * 3
    assert "first" not in [request.messages[-1].text for request in backend.requests]
    assert replay_session(done.session, store=store, entry=main).verified


# --- effects of the program's own code


def test_effects_in_the_shared_part_are_not_done() -> None:
    store, did = MemoryLog(), list[str]()

    @activity(effect="idempotent")
    async def pay(name: str) -> str:
        did.append(name)
        await asyncio.sleep(random.random() * 0.004)
        return f"paid {name} {random.random()}"

    async def main() -> str:
        agent, got = Agent("a", Slow()), list[str]()

        async def one(n: int) -> None:
            got.append(await pay(f"n{n}"))
            got.append(f"{lllm.random().random()} {lllm.now()}")
            got.append((await agent.acall(f"{n} {got}")).content)

        async with arecord("work", store=store):
            await asyncio.gather(*map(one, range(4)))
            return await pay(f"all {len(got)}")

    lllm.run(main())
    session = store.sessions(1)[0].id
    parent = forks.events(store, session)
    did.clear()
    done = fork_session(session, store=store, entry=main)
    assert (done.changed, done.new, did) == (0, 0, [])
    for at in range(1, len(parent), 5):
        did.clear()
        done = fork_session(session, at=at, store=store, entry=main)
        ended = [e for e in parent[:at] if e["kind"] == ev.EFFECT_RETURNED and "kind" not in e["data"]]
        assert len(did) == 5 - len(ended)
        report = replay_session(done.session, store=store, entry=main)
        assert report.verified, report.divergence


def test_an_effect_that_was_cancelled_is_cancelled_again() -> None:
    store, did = MemoryLog(), list[str]()
    seconds = 0.01

    @activity(effect="pure")
    async def look(name: str) -> str:
        did.append(name)
        if name == "slow":
            await asyncio.Event().wait()
        return name

    async def main() -> list[str]:
        got: list[str] = []
        async with arecord("work", store=store):
            for name in ("quick", "slow", "quick"):
                try:
                    got.append(await asyncio.wait_for(look(name), seconds if name == "slow" else 60))
                except TimeoutError:
                    got.append("late")
        return got

    assert lllm.run(main()) == ["quick", "late", "quick"]
    session = store.sessions(1)[0].id
    did.clear()
    done = fork_session(session, store=store, entry=main)
    assert done.result == ["quick", "late", "quick"]
    assert did == []
    assert replay_session(done.session, store=store, entry=main).verified


# --- an edit is for one call


class Twins:
    """Two agents of one model that say the same, side by side; the second one is answered first."""

    def __init__(self, store: MemoryLog, *, keys: bool = False) -> None:
        self.store = store
        self.keys = keys
        self.asked: list[str] = []

    def model(self, request: Request) -> Any:
        self.asked.append(request.messages[-1].text)
        return f"{request.messages[-1].text} {len(self.asked)}"

    async def __call__(self) -> dict[str, str]:
        backend, said = ScriptedBackend(self.model), dict[str, str]()
        self.asked.clear()
        slow = ScriptedBackend(self.model, delay=0.01)

        async def ask(name: str, backend: Any) -> None:
            agent = Agent("twin" if self.keys else name, backend)
            said[name] = (await agent.acall("hello", key=name if self.keys else None)).content

        async with arecord("twins", store=self.store):
            await asyncio.gather(ask("left", slow), ask("right", backend))
        return said


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("keys", [False, True])
@pytest.mark.parametrize("number", [0, 1])
def test_an_edited_reply_is_for_its_own_call(fresh: bool, keys: bool, number: int) -> None:
    """Not for another one that asks the same before."""
    program = Twins(MemoryLog(), keys=keys)
    said = lllm.run(program())
    (session,) = (info.id for info in program.store.sessions())
    replies = [one for one in forks.events(program.store, session) if one["kind"] == ev.MODEL_REPLIED]
    done = fork_session(
        session, at=replies[number]["seq"], edit="EDITED", fresh=fresh, store=program.store, entry=program
    )
    name = "left" if replies[number]["call"] == "c1" else "right"
    other = "right" if name == "left" else "left"
    anew = fresh and number == 0
    assert done.result == {name: "EDITED", other: "hello 1" if anew else said[other]}
    assert (len(program.asked), done.new + done.changed, done.notes) == (anew, anew, [])
    assert replay_session(done.session, store=program.store, entry=program).verified


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("agents", [1, 2])
def test_an_edited_result_is_for_its_own_tool_call(fresh: bool, number: int, agents: int) -> None:
    """Not for another one with equal arguments, of the same call or of another."""
    store, ran = MemoryLog(), list[str]()

    @tool(effect="ask", repeatable=True)
    async def twice(text: str) -> str:
        """Says it again."""
        ran.append(text)
        number = len(ran)
        await asyncio.sleep(0.01 / number)  # the second one comes first
        return f"{text} {number}"

    def model(request: Request) -> Any:
        if request.messages[-1].role == "tool":
            return ", ".join(message.text for message in request.messages if message.role == "tool")
        calls = [FunctionCall(f"t{n}", "twice", '{"text":"x"}') for n in range(3 - agents)]
        return Reply(content="", tool_calls=tuple(calls))

    async def program() -> str:
        made = [Agent(f"a{n}", ScriptedBackend(model), tools=[twice]) for n in range(agents)]
        async with arecord("twice", store=store):
            return ", ".join(reply.content for reply in await asyncio.gather(*(a.acall("go") for a in made)))

    said = lllm.run(program()).split(", ")
    ran.clear()
    (session,) = (info.id for info in store.sessions())
    results = [one for one in forks.events(store, session) if one["kind"] == ev.TOOL_RETURNED]
    found = results[number]
    done = fork_session(session, at=found["seq"], edit="EDITED", fresh=fresh, store=store, entry=program)
    place = said.index(found["data"]["content"])
    assert done.result.split(", ")[place] == "EDITED"
    anew = fresh and number == 0
    assert done.result.split(", ")[1 - place] == ("x 1" if anew else said[1 - place])
    assert (len(ran), done.notes) == (anew, [])
    assert replay_session(done.session, store=store, entry=program).verified
