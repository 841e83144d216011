"""Runs several steps at the same time, with a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from lllm.errors import ConfigError, listing

if TYPE_CHECKING:
    from lllm.steps.base import Step
    from lllm.steps.running import Here

ERRORS: Final = ("raise", "keep", "drop")
_DROPPED: Final = object()


def checked(value: str, known: Sequence[str], what: str) -> str:
    """A setting that has one of several values. ConfigError for any other."""
    if value not in known:
        raise ConfigError(f"{what}={value!r}", hint=f"It is one of {listing(known)}.")
    return value


async def side_by_side(
    here: Here,
    jobs: Iterable[tuple[str, Step, Any]],
    *,
    errors: str,
    limit: int | None = None,
) -> list[tuple[str, Any]]:
    """Runs steps on values, each at its own place, and gives their results by the places, in the order of `jobs`.

    Whatever is raised that is no Exception (a cancellation, Ctrl-C) stops all, whatever `errors` says."""
    from lllm.steps.running import failed

    results: list[tuple[str, Any]] = []

    async def one(index: int, part: str, step: Step, value: Any) -> None:
        try:
            results[index] = part, await here.do(step, value, part)
        except Exception as error:
            if errors == "raise" or here.session.is_stopped_by(error):
                raise
            results[index] = part, failed(error, index, here.session.id) if errors == "keep" else _DROPPED

    waiting = enumerate(jobs)

    def begin() -> Iterator[tuple[int, str, Step, Any]]:
        for index, (part, step, value) in waiting:
            results.append((part, _DROPPED))
            yield index, part, step, value

    await _workers(begin(), one, limit)
    return [(part, result) for part, result in results if result is not _DROPPED]


async def _workers(jobs: Iterator[tuple[int, str, Step, Any]], one: Any, limit: int | None) -> None:
    """Does all jobs, `limit` at a time."""

    async def work() -> None:
        for job in jobs:
            await one(*job)

    await together([one(*job) for job in jobs] if limit is None else [work() for _ in range(limit)])


async def together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Does several things at the same time. The first error stops the others and is raised."""
    tasks = [asyncio.ensure_future(_contained(work)) for work in works]
    try:
        for task in asyncio.as_completed(tasks):
            if (error := await task) is not None:
                raise error
    finally:
        for one in tasks:
            one.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)  # what others raised is looked at, too


async def _contained(work: Coroutine[Any, Any, None]) -> BaseException | None:
    """Does a thing, and gives what would end the event loop if a task raised it."""
    try:
        await work
    except (KeyboardInterrupt, SystemExit) as error:
        return error
    return None
