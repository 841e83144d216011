"""`lllm models bench`: how fast a model is here, alone and with several requests at a time."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from lllm.cli import output
from lllm.cli.files import can_be_written, writing
from lllm.cli.models import Name, find
from lllm.cli.options import Json
from lllm.errors import ConfigError, LLMInferenceError

if TYPE_CHECKING:
    from lllm.ports import Backend

QUESTION = (
    "Tell me about the number {number}: is it even, what is it divisible by, and what is twice as much?"
)
BAR = 30
"""Characters of the longest bar."""


class Timing(NamedTuple):
    """One reply: seconds to its first piece and to its end, and its tokens."""

    first: float
    total: float
    tokens: int


class Row(NamedTuple):
    """`batch` requests at a time, the median of the rounds: seconds, tokens of all replies, tokens per second, and
    seconds to the first piece (of the median reply)."""

    batch: int
    seconds: float
    tokens: int
    per_second: float
    first: float


def bench(
    name: Name,
    batch: Annotated[str, typer.Option("--batch", help="Requests at a time.")] = "1,2,4,8,16",
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="The longest reply.")] = 64,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="How often each is measured; the median counts.")
    ] = 3,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draws the batches: .svg or .html.")
    ] = None,
    json: Json = False,
) -> int:
    """Measure a model here: tokens per second, time to the first token, and how that grows with the batch."""
    from lllm.llm.connect import connect
    from lllm.sync import run

    sizes = _sizes(batch)
    if plot is not None and plot.suffix not in (".svg", ".html"):
        raise ConfigError(f"--plot is '{plot}'", hint="It ends in .svg or .html.")
    can_be_written(plot)
    found = find(name)
    backend, full, short = connect(found.model)
    loading, rows = run(_measure(backend, short, sizes, tokens, rounds))
    if plot is not None:
        text = svg(found.name, rows)
        if plot.suffix == ".html":
            text = f"<!doctype html>\n<meta charset='utf-8'>\n{text}"
        with writing(plot) as file:
            file.write(text.encode("utf-8"))
    if json:
        told: dict[str, Any] = {"name": found.name, "model": full, "load": round(loading, 4)}
        output.data({**told, "batches": [row._asdict() for row in rows], "plot": str(plot) if plot else None})
        return 0
    output.text(
        f"{found.name}: ready after {loading:.2f} s; replies of up to {tokens} tokens, median of {rounds}"
    )
    most = max(row.per_second for row in rows)
    output.table(
        ("AT A TIME", "TOKENS/S", "FIRST TOKEN", ""),
        [
            (
                row.batch,
                f"{row.per_second:,.0f}",
                f"{row.first * 1000:,.0f} ms",
                "█" * round(BAR * row.per_second / most),
            )
            for row in rows
        ],
    )
    return 0


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(word) for word in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1 or max(sizes) > 256:
        raise ConfigError(f"--batch is '{text}'", hint="It is a list of numbers from 1 to 256: 1,4,16.")
    return sizes


async def _measure(
    backend: Backend, model: str, sizes: list[int], tokens: int, rounds: int
) -> tuple[float, list[Row]]:
    import asyncio

    number = 0
    began = time.perf_counter()
    await _ask(backend, model, number, tokens)  # loads the model
    loading = time.perf_counter() - began
    rows = []
    for size in sizes:
        found: list[tuple[float, list[Timing]]] = []
        for _ in range(rounds):
            began = time.perf_counter()
            numbers = range(number + 1, number + size + 1)  # each its own, so that no cache answers
            timings = await asyncio.gather(*(_ask(backend, model, one, tokens) for one in numbers))
            found.append((time.perf_counter() - began, list(timings)))
            number += size
        found.sort(key=lambda one: sum(timing.tokens for timing in one[1]) / one[0])
        seconds, timings = found[len(found) // 2]
        said = sum(timing.tokens for timing in timings)
        first = median(timing.first for timing in timings)
        rows.append(Row(size, round(seconds, 4), said, round(said / seconds, 1), round(first, 4)))
    return loading, rows


async def _ask(backend: Backend, model: str, number: int, tokens: int) -> Timing:
    from lllm.models.message import Message
    from lllm.ports import Completed, Request

    question = Message("user", QUESTION.format(number=1000 + number))
    request = Request(model, (question,), sampling={"max_tokens": tokens, "temperature": 0}, stream=True)
    began = time.perf_counter()
    first: float | None = None
    async for delta in backend.stream(request):
        now = time.perf_counter() - began
        first = now if first is None else first
        if isinstance(delta, Completed):
            said = delta.reply.usage.completion if delta.reply.usage is not None else 0
            return Timing(first, now, said)
    raise LLMInferenceError(f"{model} ended without a reply")


def svg(title: str, rows: list[Row]) -> str:
    """Bars: tokens per second over requests at a time."""
    from html import escape

    width, height, left, top = 640, 360, 70, 50
    most = max(row.per_second for row in rows)
    step = (width - left - 20) / len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="26" font-size="16">{escape(title)}: tokens per second</text>',
    ]
    for at, row in enumerate(rows):
        tall = (height - top - 50) * row.per_second / most
        x, y = left + at * step + step * 0.15, height - 40 - tall
        middle = x + step * 0.35
        parts += [
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{step * 0.7:.1f}" height="{tall:.1f}" fill="#3572b0"/>',
            f'<text x="{middle:.1f}" y="{y - 6:.1f}" text-anchor="middle">{row.per_second:,.0f}</text>',
            f'<text x="{middle:.1f}" y="{height - 20}" text-anchor="middle">{row.batch}</text>',
        ]
    parts.append(f'<text x="{left}" y="{height - 4}">requests at a time</text></svg>\n')
    return "\n".join(parts)
