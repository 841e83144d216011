"""The limits of an endpoint: held, fair, learned, shared; and nothing at all where there are none."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from typing import Any

import pytest

from lllm.errors import LLMError
from lllm.http import limiter as module
from lllm.http.limiter import Limiter, Limits, Ticket, limiter_of
from lllm.models.reply import Usage
from tests.http.clock import Time, settle


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def limiter(time: Time) -> Limiter:
    return Limiter(clock=time, later=time.later)


def waiting(limiter: Limiter, number: int, tokens: int = 0) -> list[asyncio.Task[Ticket]]:
    return [asyncio.ensure_future(limiter.wait(tokens)) for _ in range(number)]


def done(tasks: list[asyncio.Task[Ticket]]) -> list[bool]:
    return [task.done() for task in tasks]


def answered(limiter: Limiter, ticket: Ticket, usage: Usage | None = None) -> None:
    ticket.succeed(usage)
    limiter.leave(ticket)


def failed(limiter: Limiter, ticket: Ticket, retry_after: float | None = None) -> LLMError:
    error = LLMError("busy")
    ticket.fail(error, overloaded=True, retry_after=retry_after, uncounted=True)
    limiter.leave(ticket)
    return error


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
    held = await limiter.wait()
    lost = limiter.wait()
    lost.send(None)
    assert limiter.waiting == 1
    del lost
    gc.collect()
    assert limiter.waiting == 0
    answered(limiter, held)


async def test_who_waits_on_a_loop_that_was_closed_is_passed_over(limiter: Limiter) -> None:
    limiter.restrict(Limits(concurrency=1))
    held = await limiter.wait()
    dead: list[Any] = []

    def elsewhere() -> None:
        loop = asyncio.new_event_loop()

        async def begin() -> None:
            waiter = limiter.wait()
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
        ticket = await limiter.wait()
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
    tasks = waiting(limiter, 3, 400)
    await settle()
    assert done(tasks) == [True, True, False]
    answered(limiter, tasks[0].result(), Usage(100, 50))  # 150 and 400: now there is room
    await settle()
    assert tasks[2].done()
    answered(limiter, tasks[1].result(), Usage(100, 500))
    answered(limiter, tasks[2].result(), Usage(100, 500))  # 150 + 600 + 600 were used
    [last] = waiting(limiter, 1, 400)
    await time.pass_(59)
    assert not last.done()
    await time.pass_(1)
    assert last.done()


async def test_each_minute_has_all_of_its_tokens_and_no_more(limiter: Limiter, time: Time) -> None:
    limiter.restrict(Limits(tokens_per_minute=1000))
    for used in (100, 900):  # less, then more than estimated
        first, second, third = waiting(limiter, 3, 500)
        await settle()
        assert done([first, second, third]) == [True, True, False]
        third.cancel()
        answered(limiter, first.result(), Usage(0, used))
        answered(limiter, second.result(), Usage(0, used))
        await time.pass_(60)


async def test_a_small_one_does_not_overtake_a_large_one(limiter: Limiter, time: Time) -> None:
    limiter.restrict(Limits(tokens_per_minute=1000))
    first, large = waiting(limiter, 2, 700)
    await settle()
    [small] = waiting(limiter, 1, 1)
    await settle()
    assert done([first, large, small]) == [True, False, False]
    await time.pass_(60)
    assert done([large, small]) == [True, True]


async def test_a_request_beyond_the_limit_goes_when_nothing_else_did(limiter: Limiter, time: Time) -> None:
    limiter.restrict(Limits(tokens_per_minute=100))
    first, second = waiting(limiter, 2, 5000)
    await settle()
    assert done([first, second]) == [True, False]
    await time.pass_(60)
    assert second.done()


async def test_a_refused_request_costs_no_tokens(limiter: Limiter) -> None:
    limiter.restrict(Limits(tokens_per_minute=1000))
    first, second = waiting(limiter, 2, 900)
    await settle()
    assert done([first, second]) == [True, False]
    ticket = first.result()
    ticket.fail(LLMError("nobody there"), uncounted=True)
    limiter.leave(ticket)
    await settle()
    assert second.done()


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
        answered(limiter, await limiter.wait())
    assert (grown[0], grown[3], grown[7]) == (2, 3, 4)
    assert grown == sorted(grown, key=lambda number: number or 0)


async def test_it_never_falls_below_one(limiter: Limiter) -> None:
    for _ in range(5):
        ticket = limiter.enter() if limiter.free else await limiter.wait()
        assert "at a time" not in str(failed(limiter, ticket))
    assert limiter.concurrency == 1


async def test_it_stays_below_what_was_configured(limiter: Limiter) -> None:
    limiter.restrict(Limits(concurrency=2))
    failed(limiter, await limiter.wait())
    assert limiter.concurrency == 1
    for _ in range(20):
        answered(limiter, await limiter.wait())
    assert limiter.concurrency == 2


async def test_what_was_configured_is_what_is_halved(limiter: Limiter) -> None:
    tickets = [limiter.enter() for _ in range(8)]
    limiter.restrict(Limits(concurrency=4))
    failed(limiter, tickets[0])
    assert limiter.concurrency == 2


async def test_all_wait_as_long_as_the_endpoint_says(limiter: Limiter, time: Time) -> None:
    failed(limiter, limiter.enter(), 20)
    failed(limiter, limiter.enter(), 5)  # does not shorten it
    tasks = waiting(limiter, 1)
    await time.pass_(19.9)
    assert not tasks[0].done()
    await time.pass_(0.1)
    assert tasks[0].done()


async def test_nobody_is_held_up_for_hours(limiter: Limiter, time: Time) -> None:
    failed(limiter, limiter.enter(), 86_400)
    tasks = waiting(limiter, 1)
    await settle()
    assert tasks[0].done()
    failed(limiter, tasks[0].result(), 600)
    tasks = waiting(limiter, 1)
    await time.pass_(599)
    assert not tasks[0].done()
    await time.pass_(1)
    assert tasks[0].done()


async def test_it_is_forgotten(limiter: Limiter, time: Time) -> None:
    failed(limiter, limiter.enter(), 1)
    await time.pass_(599)
    answered(limiter, await limiter.wait())
    assert limiter.concurrency == 2
    await time.pass_(1)
    answered(limiter, await limiter.wait())
    assert limiter.free
    assert limiter.running == 0


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


def test_a_forked_child_has_none_of_its_parents_requests() -> None:
    limiter = limiter_of("http://localhost/forked", ["x"])
    limiter.restrict(Limits(concurrency=1))
    held = asyncio.run(limiter.wait())
    child = os.fork()
    if child == 0:
        good = (limiter.running, limiter.limits, limiter.free) == (0, Limits(1), False)
        limiter.leave(held)
        os._exit(0 if good and asyncio.run(limiter.wait()) and limiter.running == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert limiter.running == 1


async def test_a_failure_that_is_not_an_overload_changes_nothing(limiter: Limiter) -> None:
    tickets = [limiter.enter() for _ in range(8)]
    error = LLMError("wrong")
    tickets[0].fail(error, retry_after=5)
    limiter.leave(tickets[0])
    assert (limiter.free, limiter.concurrency, limiter.running, error.hint) == (True, None, 7, None)
