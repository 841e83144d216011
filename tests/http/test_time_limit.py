"""Time limits of requests: one timer for all of a loop."""

import asyncio
import time
from typing import Any

import pytest

from lllm.http.time_limit import alarm_of, time_limit
from lllm.http.watch import Expired, Watch
from lllm.ports import Timeouts


async def test_it_passes() -> None:
    with pytest.raises(TimeoutError), time_limit(0.01):
        await asyncio.sleep(30)
    with time_limit(30):
        await asyncio.sleep(0)
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_none_left() -> None:
    with pytest.raises(TimeoutError), time_limit(0):
        raise AssertionError


async def test_the_nearest_comes_first_whatever_was_set_before() -> None:
    came: list[float] = []

    async def one(seconds: float) -> None:
        try:
            with time_limit(seconds):
                await asyncio.sleep(30)
        except TimeoutError:
            came.append(seconds)

    tasks = [asyncio.create_task(one(seconds)) for seconds in (60, 0.09, 0.03, 0.06)]
    while len(came) < 3:
        await asyncio.sleep(0.01)
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert came == [0.03, 0.06, 0.09]
    assert not alarm_of(asyncio.get_running_loop()).limits


async def test_a_cancellation_from_outside_is_one() -> None:
    async def one() -> None:
        with time_limit(30):
            await asyncio.sleep(30)

    task = asyncio.create_task(one())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_both_at_once_is_a_cancellation() -> None:
    async def one() -> None:
        with time_limit(0.001):
            await asyncio.sleep(30)

    task = asyncio.create_task(one())
    await asyncio.sleep(0)
    time.sleep(0.01)  # the limit is due, and the loop has not looked yet
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_within_each_other() -> None:
    with time_limit(30):
        with pytest.raises(TimeoutError), time_limit(0.01):
            await asyncio.sleep(30)
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError), time_limit(0.01), time_limit(30):
        await asyncio.sleep(30)


def test_each_loop_has_its_own() -> None:
    async def one() -> None:
        with pytest.raises(TimeoutError), time_limit(0.01):
            await asyncio.sleep(30)

    for _ in range(3):
        asyncio.run(one())


async def test_requests_one_after_the_other_and_side_by_side_set_one_timer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    timers: list[float] = []
    call_at = loop.call_at

    def counted(when: float, *args: Any, **more: Any) -> asyncio.TimerHandle:
        timers.append(when)
        return call_at(when, *args, **more)

    async def one() -> None:
        watch = Watch(Timeouts(total=60.0), streaming=False)
        for _ in range(3):
            with watch, time_limit(90):
                await turn.wait()

    turn = asyncio.Event()
    monkeypatch.setattr(loop, "call_at", counted)
    tasks = [asyncio.create_task(one()) for _ in range(20)]
    await asyncio.sleep(0)
    turn.set()
    await asyncio.gather(*tasks)
    assert len(timers) == 1
    assert not alarm_of(loop).limits


async def test_a_watch_says_which_limit_has_passed() -> None:
    watch = Watch(Timeouts(total=60.0, idle=0.01, first_token=30.0), streaming=True)
    with watch:
        await asyncio.sleep(0)
    watch.first_piece(0.01)
    with pytest.raises(Expired) as caught, watch:
        await asyncio.sleep(30)
    assert (caught.value.stage, caught.value.seconds) == ("idle", 0.01)
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
