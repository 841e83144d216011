"""Limits of an endpoint: held, fair, learned, shared; and nothing at all where there are none."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from lllm.backends import limiter as module
from lllm.backends.limiter import Limiter, Limits, Ticket, limiter_of, overloaded
from lllm.backends.openai import OpenAIBackend
from lllm.errors import (
    ConfigError,
    ConnectionFailed,
    ProviderError,
    ProviderTimeout,
    QuotaError,
    RateLimitError,
    ServerError,
    StreamInterrupted,
)
from lllm.models.message import Message, user
from lllm.models.reply import Reply, Usage
from lllm.ports import Completed, Request
from tests.backends.helpers import ask, at_some_pace, collect, limits, reply
from tests.servers.openai_server import OpenAIServer, Script


class Time:
    """A clock that a test turns, and the timers that hang on it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def __call__(self) -> float:
        return self.now

    def later(self, seconds: float, action: Callable[[], None]) -> Any:
        entry = (self.now + seconds, action)
        self.timers.append(entry)
        return Cancel(self.timers, entry)

    async def pass_(self, seconds: float) -> None:
        """Lets time pass, timer by timer."""
        end = self.now + seconds
        while due := [entry for entry in self.timers if entry[0] <= end + 1e-9]:
            entry = min(due, key=lambda one: one[0])
            self.timers.remove(entry)
            self.now = max(self.now, entry[0])
            entry[1]()
            await settle()
        self.now = end
        await settle()


class Cancel:
    def __init__(self, timers: list[Any], entry: Any) -> None:
        self._timers, self._entry = timers, entry

    def cancel(self) -> None:
        if self._entry in self._timers:
            self._timers.remove(self._entry)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def limiter(time: Time) -> Limiter:
    return Limiter(clock=time, later=time.later)


def waiting(limiter: Limiter, number: int, request: Request | None = None) -> list[asyncio.Task[Ticket]]:
    return [asyncio.ensure_future(limiter.wait(request or ask())) for _ in range(number)]


def done(tasks: list[asyncio.Task[Ticket]]) -> list[bool]:
    return [task.done() for task in tasks]


def answered(limiter: Limiter, ticket: Ticket, usage: Usage | None = None) -> None:
    ticket.reply = Reply("x", usage=usage)
    limiter.leave(ticket)


def failed(limiter: Limiter, ticket: Ticket, fault: ProviderError | None = None) -> ProviderError:
    ticket.fault = fault or RateLimitError("busy", status=429)
    limiter.leave(ticket)
    return ticket.fault


# --- what was configured ---


def test_nothing_limits_at_first(limiter: Limiter) -> None:
    assert limiter.free
    tickets = [limiter.enter() for _ in range(5)]
    assert limiter.running == 5
    for ticket in tickets:
        answered(limiter, ticket)
        limiter.leave(ticket)
    assert (limiter.running, limiter.free, limiter.concurrency) == (0, True, None)


async def test_so_many_at_a_time_in_the_order_of_their_coming(limiter: Limiter) -> None:
    limiter.restrict(Limits(concurrency=2))
    assert not limiter.free
    tasks = waiting(limiter, 5)
    await settle()
    assert done(tasks) == [True, True, False, False, False]
    assert (limiter.running, limiter.waiting) == (2, 3)
    answered(limiter, tasks[1].result())
    await settle()
    assert done(tasks) == [True, True, True, False, False]
    late = waiting(limiter, 1)
    for at in (0, 2, 3):
        answered(limiter, tasks[at].result())
        await settle()
    assert done(tasks + late) == [True] * 6
    for ticket in (tasks[4].result(), late[0].result()):
        answered(limiter, ticket)
    assert (limiter.running, limiter.waiting) == (0, 0)


async def test_a_newcomer_does_not_overtake(limiter: Limiter) -> None:
    limiter.restrict(Limits(concurrency=1))
    first, second, third = waiting(limiter, 3)
    await settle()
    answered(limiter, first.result())  # the slot is the second's before it has woken up
    newcomer = waiting(limiter, 1)[0]
    await settle()
    assert done([second, third, newcomer]) == [True, False, False]
    answered(limiter, second.result())
    await settle()
    assert done([third, newcomer]) == [True, False]
    answered(limiter, third.result())
    await settle()
    answered(limiter, newcomer.result())


async def test_who_is_cancelled_leaves_the_queue(limiter: Limiter) -> None:
    limiter.restrict(Limits(concurrency=1))
    tasks = waiting(limiter, 3)
    await settle()
    tasks[1].cancel()
    await settle()
    assert limiter.waiting == 1
    answered(limiter, tasks[0].result())
    await settle()
    assert tasks[2].done()
    answered(limiter, tasks[2].result())


async def test_who_is_cancelled_at_its_turn_gives_it_on(limiter: Limiter) -> None:
    limiter.restrict(Limits(concurrency=1))
    tasks = waiting(limiter, 3)
    await settle()
    answered(limiter, tasks[0].result())
    tasks[1].cancel()  # it has the slot and does not know it yet
    await settle()
    assert tasks[1].cancelled()
    assert tasks[2].done()
    answered(limiter, tasks[2].result())
    assert limiter.running == 0


async def test_who_is_forgotten_leaves_the_queue(limiter: Limiter) -> None:
    limiter.restrict(Limits(concurrency=1))
    held = await limiter.wait(ask())
    lost = limiter.wait(ask())
    lost.send(None)
    assert limiter.waiting == 1
    del lost
    gc.collect()
    assert limiter.waiting == 0
    answered(limiter, held)


async def test_who_waits_on_a_loop_that_was_closed_is_passed_over(limiter: Limiter) -> None:
    limiter.restrict(Limits(concurrency=1))
    held = await limiter.wait(ask())
    dead: list[Any] = []

    def elsewhere() -> None:
        loop = asyncio.new_event_loop()

        async def begin() -> None:
            waiter = limiter.wait(ask())
            waiter.send(None)
            dead.append(waiter)

        loop.run_until_complete(begin())
        loop.close()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert limiter.waiting == 1
    [behind] = waiting(limiter, 1)
    await settle()
    answered(limiter, held)
    await settle()
    assert behind.done()
    answered(limiter, behind.result())
    dead[0].close()
    assert (limiter.running, limiter.waiting) == (0, 0)


async def test_so_many_in_any_minute(limiter: Limiter, time: Time) -> None:
    limiter.restrict(Limits(requests_per_minute=3))
    tasks = waiting(limiter, 4)
    await settle()
    assert done(tasks) == [True, True, True, False]
    for task in tasks[:3]:
        answered(limiter, task.result())  # an end makes no room: beginnings are counted
    await time.pass_(59.9)
    assert not tasks[3].done()
    await time.pass_(0.1)
    assert tasks[3].done()
    more = waiting(limiter, 3)
    await settle()
    assert done(more) == [True, True, False]
    await time.pass_(60)
    assert more[2].done()
    assert not time.timers


async def test_a_thousand_in_their_minutes(limiter: Limiter, time: Time) -> None:
    limiter.restrict(Limits(requests_per_minute=100, concurrency=7))
    begun: list[float] = []

    async def one() -> None:
        ticket = await limiter.wait(ask())
        begun.append(time.now)
        assert limiter.running <= 7
        await asyncio.sleep(0)
        answered(limiter, ticket)

    tasks = [asyncio.ensure_future(one()) for _ in range(1000)]
    while not all(task.done() for task in tasks):
        for _ in range(100):
            await settle()
        await time.pass_(1.0)
    assert max(sum(at <= other < at + 60 for other in begun) for at in begun) == 100
    assert begun[-1] - begun[0] == pytest.approx(540, abs=15)


async def test_tokens_are_estimated_before_and_corrected_after(limiter: Limiter, time: Time) -> None:
    limiter.restrict(Limits(tokens_per_minute=1000))
    request = ask("x" * 400, sampling={"max_tokens": 300})  # 100 + 300
    tasks = waiting(limiter, 3, request)
    await settle()
    assert done(tasks) == [True, True, False]
    answered(limiter, tasks[0].result(), Usage(100, 50))  # 150 and 400: now there is room
    await settle()
    assert tasks[2].done()
    answered(limiter, tasks[1].result(), Usage(100, 500))
    answered(limiter, tasks[2].result(), Usage(100, 500))  # 150 + 600 + 600 were used
    [last] = waiting(limiter, 1, request)
    await time.pass_(59)
    assert not last.done()
    await time.pass_(1)
    assert last.done()


async def test_each_minute_has_all_of_its_tokens_and_no_more(limiter: Limiter, time: Time) -> None:
    limiter.restrict(Limits(tokens_per_minute=1000))
    for used in (100, 900):  # less, then more than estimated
        request = ask("", sampling={"max_tokens": 500})
        first, second, third = waiting(limiter, 3, request)
        await settle()
        assert done([first, second, third]) == [True, True, False]
        third.cancel()
        answered(limiter, first.result(), Usage(0, used))
        answered(limiter, second.result(), Usage(0, used))
        await time.pass_(60)


async def test_a_small_one_does_not_overtake_a_large_one(limiter: Limiter, time: Time) -> None:
    limiter.restrict(Limits(tokens_per_minute=1000))
    first, large = waiting(limiter, 2, ask("", sampling={"max_tokens": 700}))
    await settle()
    [small] = waiting(limiter, 1, ask("", sampling={"max_tokens": 1}))
    await settle()
    assert done([first, large, small]) == [True, False, False]
    await time.pass_(60)
    assert done([large, small]) == [True, True]


async def test_a_request_without_a_limit_is_taken_for_a_reply_like_the_last(limiter: Limiter) -> None:
    limiter.restrict(Limits(tokens_per_minute=10_000))
    first = await limiter.wait(ask("x" * 40))
    assert first.tokens == 10 + 256
    for _ in range(200):
        answered(limiter, first, Usage(10, 20))
        first = await limiter.wait(ask("x" * 40))
    assert first.tokens in (30, 31)


async def test_pictures_and_tools_count(limiter: Limiter) -> None:
    limiter.restrict(Limits(tokens_per_minute=10_000))
    picture = Message(
        "user", ({"type": "image_url", "image_url": {"url": "data:image/png;base64," + "x" * 100_000}},)
    )
    seen = await limiter.wait(ask(messages=(picture,), sampling={"max_tokens": 1}))
    assert seen.tokens == 801
    tool = {"type": "function", "function": {"name": "x" * 400}}
    offered = await limiter.wait(ask(messages=(user(""),), tools=(tool,), sampling={"max_tokens": 1}))
    assert 100 < offered.tokens < 130


async def test_a_request_beyond_the_limit_goes_when_nothing_else_did(limiter: Limiter, time: Time) -> None:
    limiter.restrict(Limits(tokens_per_minute=100))
    huge = ask(sampling={"max_tokens": 5000})
    first, second = waiting(limiter, 2, huge)
    await settle()
    assert done([first, second]) == [True, False]
    await time.pass_(60)
    assert second.done()


async def test_a_refused_request_costs_no_tokens(limiter: Limiter) -> None:
    limiter.restrict(Limits(tokens_per_minute=1000))
    request = ask("x" * 400, sampling={"max_tokens": 800})
    first, second = waiting(limiter, 2, request)
    await settle()
    assert done([first, second]) == [True, False]
    failed(limiter, first.result(), ConnectionFailed("nobody there"))
    await settle()
    assert second.done()


@pytest.mark.parametrize("name", Limits._fields)
@pytest.mark.parametrize("value", [0, -1, 1.5, "8", True])
def test_a_limit_that_is_none(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        OpenAIBackend("http://localhost", **{name: value})
    assert name in str(caught.value)


# --- what is learned ---


async def test_too_many_requests_halve_what_goes_at_a_time(limiter: Limiter) -> None:
    tickets = [limiter.enter() for _ in range(8)]
    fault = failed(limiter, tickets[0])
    assert not limiter.free
    assert limiter.concurrency == 4
    assert "4 calls at a time instead of 8" in str(fault)
    assert "concurrency=" in str(fault)
    failed(limiter, tickets[1])  # of the same round: no news
    assert limiter.concurrency == 4
    tasks = waiting(limiter, 1)
    await settle()
    assert not tasks[0].done()
    for ticket in tickets[2:5]:
        answered(limiter, ticket)
    await settle()
    assert tasks[0].done()
    failed(limiter, tasks[0].result())  # of a later round
    assert limiter.concurrency == 2
    for ticket in tickets[5:]:
        answered(limiter, ticket)


async def test_replies_raise_it_by_one_for_a_round(limiter: Limiter, time: Time) -> None:
    tickets = [limiter.enter() for _ in range(4)]
    failed(limiter, tickets[0])
    for ticket in tickets[1:]:
        limiter.leave(ticket)
    grown = []
    for _ in range(3 + 4 + 5):
        grown.append(limiter.concurrency)
        answered(limiter, await limiter.wait(ask()))
    assert (grown[0], grown[3], grown[7]) == (2, 3, 4)
    assert grown == sorted(grown, key=lambda number: number or 0)


async def test_it_never_falls_below_one(limiter: Limiter) -> None:
    for _ in range(5):
        ticket = limiter.enter() if limiter.free else await limiter.wait(ask())
        assert "at a time" not in str(failed(limiter, ticket))
    assert limiter.concurrency == 1


async def test_it_stays_below_what_was_configured(limiter: Limiter) -> None:
    limiter.restrict(Limits(concurrency=2))
    failed(limiter, await limiter.wait(ask()))
    assert limiter.concurrency == 1
    for _ in range(20):
        answered(limiter, await limiter.wait(ask()))
    assert limiter.concurrency == 2


async def test_what_was_configured_is_what_is_halved(limiter: Limiter) -> None:
    tickets = [limiter.enter() for _ in range(8)]
    limiter.restrict(Limits(concurrency=4))
    failed(limiter, tickets[0])
    assert limiter.concurrency == 2


async def test_all_wait_as_long_as_the_endpoint_says(limiter: Limiter, time: Time) -> None:
    failed(limiter, limiter.enter(), RateLimitError("busy", status=429, retry_after=20))
    failed(
        limiter,
        (limiter.enter()),
        RateLimitError("busy", status=429, retry_after=5),  # does not shorten it
    )
    tasks = waiting(limiter, 1)
    await time.pass_(19.9)
    assert not tasks[0].done()
    await time.pass_(0.1)
    assert tasks[0].done()


async def test_nobody_is_held_up_for_hours(limiter: Limiter, time: Time) -> None:
    failed(limiter, limiter.enter(), RateLimitError("busy", status=429, retry_after=86_400))
    tasks = waiting(limiter, 1)
    await settle()
    assert tasks[0].done()
    failed(limiter, tasks[0].result(), RateLimitError("busy", status=429, retry_after=600))
    tasks = waiting(limiter, 1)
    await time.pass_(599)
    assert not tasks[0].done()
    await time.pass_(1)
    assert tasks[0].done()


async def test_it_is_forgotten(limiter: Limiter, time: Time) -> None:
    failed(limiter, limiter.enter(), RateLimitError("busy", status=429, retry_after=1))
    await time.pass_(599)
    answered(limiter, await limiter.wait(ask()))
    assert limiter.concurrency == 2
    await time.pass_(1)
    answered(limiter, await limiter.wait(ask()))
    assert limiter.free
    assert limiter.running == 0


@pytest.mark.parametrize(
    ("fault", "lowers"),
    [
        (RateLimitError("x", status=429), True),
        (RateLimitError("x"), True),
        (QuotaError("x", status=429), False),
        (StreamInterrupted("x"), True),
        (ServerError("x", status=503), True),
        (ServerError("x", status=529), True),
        (ServerError("x", status=500), False),
        (ProviderTimeout("x", stage="idle", seconds=1), True),
        (ProviderTimeout("x", stage="first_token", seconds=1), True),
        (ProviderTimeout("x", stage="total", seconds=1), False),
        (ProviderTimeout("x", stage="connect", seconds=1), False),
        (ConnectionFailed("x"), False),
    ],
)
def test_what_lowers_it(fault: ProviderError, lowers: bool, limiter: Limiter) -> None:
    assert overloaded(fault) is lowers
    failed(limiter, limiter.enter(), fault)
    assert limiter.free is not lowers


# --- over the wire ---


@pytest.mark.parametrize("stream", [False, True])
async def test_a_thousand_calls_never_more_than_so_many_at_a_time(stream: bool) -> None:
    with OpenAIServer() as server:
        server.forever, server.pause = Script("Hello.", piece=50), 0.001
        backend = OpenAIBackend(server.url, concurrency=8)
        replies = await asyncio.gather(*(reply(backend, ask(stream=stream)) for _ in range(1000)))
        assert {one.content for one in replies} == {"Hello."}
        assert len(server.requests) == 1000
        assert server.peak == 8
        assert server.accepted <= 8
        assert (backend.limiter.running, backend.limiter.waiting) == (0, 0)
        await backend.aclose()


async def test_all_backends_loops_and_threads_of_an_endpoint_share_it() -> None:
    with OpenAIServer() as server:
        server.forever, server.pause = Script("Hello."), 0.001
        backends = [OpenAIBackend(server.url, "sk-one-and-the-same", concurrency=n) for n in (5, 3, 9)]
        backends.append(OpenAIBackend(server.url, "sk-one-and-the-same"))
        assert len({id(backend.limiter) for backend in backends}) == 1
        assert backends[0].limiter.limits == Limits(3)

        async def many() -> None:
            await asyncio.gather(*(reply(b, ask(stream=True)) for b in backends for _ in range(10)))

        threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert len(server.requests) == 120
        assert server.peak == 3


def test_another_key_is_another_endpoint() -> None:
    one, other, same = (limiter_of("http://localhost/v1", [key]) for key in ("a", "b", "a"))
    assert one is same
    assert one is not other
    assert "sk-never-shown" not in repr(list(module._limiters.keys()))
    keep = limiter_of("http://localhost/v1", ["sk-never-shown"])
    assert keep is not one
    assert "sk-never-shown" not in repr(list(module._limiters.keys()))


def test_an_endpoint_that_nobody_uses_is_forgotten() -> None:
    limiter_of("http://gone/v1", ["x"]).restrict(Limits(concurrency=1))
    gc.collect()
    assert limiter_of("http://gone/v1", ["x"]).free


async def test_a_cancelled_call_makes_room(server: OpenAIServer) -> None:
    backend = OpenAIBackend(server.url, concurrency=1)
    server.say("Hello.", hang="before")
    server.say("Hello again.")
    hung = asyncio.ensure_future(reply(backend, ask()))
    while not server.requests:
        await asyncio.sleep(0.01)
    queued = asyncio.ensure_future(reply(backend, ask()))
    await settle()
    assert (backend.limiter.running, backend.limiter.waiting) == (1, 1)
    hung.cancel()
    assert (await queued).content == "Hello again."
    await backend.aclose()


async def test_half_of_them_cancelled_no_socket_is_left(server: OpenAIServer) -> None:
    for _ in range(20):
        server.say("Hello.")
    server.forever = Script("Hello.", hang="before")
    backend = OpenAIBackend(server.url, concurrency=4)
    calls = [asyncio.ensure_future(reply(backend, ask(stream=bool(n % 2)))) for n in range(40)]
    while len(server.requests) < 24:
        await asyncio.sleep(0.001)
    for call in calls:
        call.cancel()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(one, asyncio.CancelledError) for one in ended) == 20
    assert (backend.limiter.running, backend.limiter.waiting) == (0, 0)
    await backend.aclose()
    while server.connections:
        await asyncio.sleep(0.01)
    assert len(server.requests) == 24


def test_a_forked_child_has_none_of_its_parents_requests() -> None:
    limiter = limiter_of("http://localhost/forked", ["x"])
    limiter.restrict(Limits(concurrency=1))
    held = asyncio.run(limiter.wait(ask()))
    child = os.fork()
    if child == 0:
        good = (limiter.running, limiter.limits, limiter.free) == (0, Limits(1), False)
        limiter.leave(held)
        os._exit(0 if good and asyncio.run(limiter.wait(ask())) and limiter.running == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert limiter.running == 1


async def test_waiting_is_not_the_requests_own_time(server: OpenAIServer) -> None:
    backend = OpenAIBackend(server.url, concurrency=1)

    async def attempt(pace: float) -> None:
        server.say("one", piece=1, gap=0.1 * pace)
        server.say("two")
        short = limits(total=0.2 * pace, first_token=0.2 * pace)
        slow = asyncio.ensure_future(reply(backend, ask(stream=True)))
        await settle()
        try:
            assert (await reply(backend, ask(stream=True, timeouts=short))).content == "two"
        finally:
            assert (await slow).content == "one"

    await at_some_pace(attempt)
    await backend.aclose()


async def test_who_has_its_reply_holds_nobody_up(server: OpenAIServer) -> None:
    backend = OpenAIBackend(server.url, concurrency=1)
    server.say("one")
    server.say("two")
    source = backend.stream(ask(stream=True))
    async for delta in source:
        if isinstance(delta, Completed):
            break
    assert (await reply(backend, ask())).content == "two"
    await source.aclose()
    await backend.aclose()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_dropped_reply_lowers_the_number(stream: bool, server: OpenAIServer) -> None:
    backend = OpenAIBackend(server.url)
    for _ in range(3):
        server.say("Hello.", hang="before")
    others = [asyncio.ensure_future(collect(backend, ask())) for _ in range(3)]
    while len(server.requests) < 3:
        await asyncio.sleep(0.01)
    server.say("Hello, how are you?", drop="middle")
    with pytest.raises(StreamInterrupted) as caught:
        await collect(backend, ask(stream=stream))
    assert backend.limiter.concurrency == 2
    assert "proxy" in str(caught.value)
    assert "2 calls at a time instead of 4" in str(caught.value)
    for other in others:
        other.cancel()
    await asyncio.wait(others)
    await backend.aclose()


async def test_a_429_holds_every_caller_up(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, other = OpenAIBackend(server.url), OpenAIBackend(server.url)
    time = Time()
    fresh = Limiter(clock=time, later=time.later)
    monkeypatch.setattr("lllm.backends.openai.client.limiter_of", lambda *_: fresh)
    server.fault(429, retry_after="7")
    server.say("Hello.")
    with pytest.raises(RateLimitError):
        await reply(backend, ask())
    call = asyncio.ensure_future(reply(other, ask()))
    await time.pass_(6.9)
    assert len(server.requests) == 1
    await time.pass_(0.1)
    assert (await call).content == "Hello."
    for one in (backend, other):
        await one.aclose()


async def test_the_responses_api_goes_through_it_too(server: OpenAIServer) -> None:
    backend = OpenAIBackend(server.url, "sk-test-test", api="responses", concurrency=1)
    server.say("one", gap=0.02)
    server.say("two")
    replies = await asyncio.gather(*(reply(backend, ask(stream=True)) for _ in range(2)))
    assert [one.content for one in replies] == ["one", "two"]
    server.fault(429, retry_after="0")
    with pytest.raises(RateLimitError):
        await reply(backend, ask())
    assert (backend.limiter.running, backend.limiter.concurrency) == (0, 1)
    await backend.aclose()
