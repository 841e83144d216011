"""Streams of steps: the deltas of the stages that show theirs, and the result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lllm.errors import StreamInterrupted
from lllm.llm.streaming import Pieces
from lllm.ports import Completed, Delta, Restart, TextDelta
from lllm.steps.results import Result, with_stages
from lllm.sync import run

if TYPE_CHECKING:
    from lllm.steps.base import Step


class Piece(NamedTuple):
    """A delta of a stage.

    Attributes:
        stage: its place, which branches that run side by side are told apart by. name: its name.
        delta: text, thoughts, a piece of a tool call; or Restart, where what came of this stage is taken back.
    """

    stage: str
    name: str
    delta: Delta


class StepStream(Pieces[Piece]):
    """The stream of `step.stream(value)`: deltas, for `for` and for `async for`.

    Deltas come from the last stage of a chain that streams; functions after it only take their time. Branches and items that
    run side by side are told apart by `piece.stage`. Closing it early stops the run.

    Attributes:
        result: the Result, once it has come; None before.
    """

    def __init__(self, source: AsyncGenerator[Piece, None], end: list[Result]) -> None:
        super().__init__(source)
        self._end = end

    @property
    def result(self) -> Result | None:
        return self._end[0] if self._end else None

    def text(self) -> Pieces[str]:
        """The pieces of text alone. StreamInterrupted where text that was given is taken back."""
        return Pieces(_text(self))

    def collect(self) -> Any:
        """Follows the stream to its end, and gives what a call gives."""
        return run(self.acollect())

    async def acollect(self) -> Any:
        """`collect` for async code."""
        async with aclosing(self):
            async for _ in self:
                pass
        if self.result is None:
            raise StreamInterrupted("the stream was closed, or followed before, and has no result")
        return with_stages(self.result.value, self.result.stages)


def shown_by(follow: Callable[[str, str, Delta], None], path: str, name: str) -> Callable[[str, Delta], None]:
    """A follower of an agent call that shows it as a stage's. The replies of tool rounds are shown, their ends are not."""

    def show(call: str, delta: Delta) -> None:
        if not isinstance(delta, Completed):
            follow(path, name, delta)

    return show


_END: Final = object()


def stream_of(step: Step, value: Any, more: Mapping[str, Any]) -> StepStream:
    """The stream of a run that begins when its first piece is wanted."""
    end: list[Result] = []
    return StepStream(_pieces(step, value, more, end), end)


async def _pieces(
    step: Step, value: Any, more: Mapping[str, Any], end: list[Result]
) -> AsyncGenerator[Piece, None]:
    from lllm.steps.budgets import budget_of
    from lllm.steps.running import one

    kept = {key: more[key] for key in ("store", "name") if key in more}
    limits = budget_of({key: item for key, item in more.items() if key not in kept}, step.limits)
    pieces: asyncio.Queue[Any] = asyncio.Queue()

    def follow(path: str, name: str, delta: Delta) -> None:
        pieces.put_nowait(Piece(path, name, delta))

    async def work() -> Result:
        try:
            return await one(step, value, follow=follow, limits=limits, **kept)
        finally:
            await step._completed()
            pieces.put_nowait(_END)

    task = asyncio.ensure_future(work())
    try:
        while (piece := await pieces.get()) is not _END:
            yield piece
        end.append(await task)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()  # looked at: whoever left early is not warned of what it raises


async def _text(stream: StepStream) -> AsyncGenerator[str, None]:
    said = 0
    async with aclosing(stream):
        async for piece in stream:
            if isinstance(piece.delta, TextDelta):
                said += len(piece.delta.text)
                yield piece.delta.text
            elif isinstance(piece.delta, Restart) and said:
                raise StreamInterrupted(
                    f"stage {piece.stage} '{piece.name}' began anew after {said} characters",
                    hint="Text that was given cannot be taken back. Follow the pieces, whose Restart says so.",
                )
    if not said and stream.result is not None:
        yield str(stream.result.value)
