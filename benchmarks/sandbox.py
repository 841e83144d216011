"""Sandboxes beside bare jupyter_client: kernels that start, cells that run, in the same run, interleaved.

    python -m benchmarks.sandbox            # the whole table, some three minutes
    python -m benchmarks.sandbox --quick

Ours are of the tier `namespace`, with a log in SQLite (its default durability) where cells are counted. jupyter_client starts
the same kernel without any isolation, over unix sockets, and waits for it as we do: until it answers.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

import lllm
from lllm.log.sqlite import SQLiteLog
from lllm.sandbox.jupyter import JupyterSession

PRELOAD = ("numpy", "matplotlib.pyplot")
PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2]);"


class Bare:
    """A kernel of jupyter_client, without a sandbox."""

    def __init__(self, folder: str) -> None:
        from jupyter_client.manager import AsyncKernelManager

        self.manager = AsyncKernelManager(transport="ipc", ip=f"{folder}/k{os.urandom(4).hex()}")

    async def start(self) -> None:
        await self.manager.start_kernel(extra_arguments=["--HistoryManager.enabled=False"])
        self.client = self.manager.client()
        self.client.start_channels()
        # wait_for_ready adds a fixed flush of 0.2 s
        while True:
            id = self.client.kernel_info()
            with suppress(Exception):
                while (await self.client.get_shell_msg(timeout=0.1))["parent_header"].get("msg_id") != id:
                    pass
                return

    async def begin(self, code: str) -> None:
        await self.start()
        await self.run(code)

    async def run(self, code: str) -> None:
        id = self.client.execute(code)
        while (await self.client.get_shell_msg(timeout=30))["parent_header"].get("msg_id") != id:
            pass
        with suppress(Empty):  # the first ones are lost where the subscription had not come through yet
            while True:
                message = await self.client.get_iopub_msg(timeout=0.2)
                if (
                    message["parent_header"].get("msg_id") == id
                    and message["msg_type"] == "status"
                    and message["content"]["execution_state"] == "idle"
                ):
                    return

    async def close(self) -> None:
        self.client.stop_channels()
        await self.manager.shutdown_kernel(now=True)


async def timed(work: Callable[[], Awaitable[Any]]) -> float:
    begun = time.perf_counter()
    await work()
    return time.perf_counter() - begun


async def cell(notebook: JupyterSession, code: str = "1 + 1") -> Any:
    result = await notebook.arun_cell(notebook.append_code_cell(code))
    assert result, result.text
    return result


def row(label: str, *columns: str) -> None:
    print(f"{label:44}" + "".join(f"{column:>16}" for column in columns), flush=True)


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def p99(values: list[float]) -> float:
    return sorted(values)[max(0, round(0.99 * len(values)) - 1)]


async def starts(folder: str, count: int) -> None:
    """One at a time, from nothing to the end of the first cell: what isolation costs, and what a pool saves."""
    times: dict[str, list[float]] = {name: [] for name in ("jupyter_client", "namespace", "from a pool")}
    warm = JupyterSession(warm=1, preload=PRELOAD)
    await cell(warm)

    async def plain() -> None:
        bare = Bare(folder)
        times["jupyter_client"].append(await timed(lambda: bare.begin("1 + 1")))
        await bare.close()

    async def ours(name: str, **options: Any) -> None:
        notebook = JupyterSession(**options)
        times[name].append(await timed(lambda: cell(notebook)))
        await notebook.aclose()

    for _ in range(count):
        await plain()
        await ours("namespace", tier="namespace")
        await ours("from a pool", warm=1, preload=PRELOAD)
        await asyncio.sleep(0.2)
    await warm.aclose()
    row("start to the end of the first cell", *times)
    row("  median", *(ms(statistics.median(each)) for each in times.values()))
    row("  best", *(ms(min(each)) for each in times.values()))
    cost = statistics.median(times["namespace"]) - statistics.median(times["jupyter_client"])
    row("  isolation (goal 15 ms)", "", ms(cost))


async def sustained(folder: str, count: int) -> None:
    """As many as possible, with nothing ready: a zygote against new processes."""
    from lllm.sandbox.host import host
    from lllm.sandbox.isolation.tiers import choose
    from lllm.sandbox.limits import Limits
    from lllm.sandbox.pool import Pool

    pool = Pool(choose("namespace").launch, 0, Limits(), PRELOAD)
    first = await host().call(pool.take())
    await host().call(first.kernel.close())

    async def take() -> None:
        prepared = await host().call(pool.take())
        await host().call(prepared.kernel.close())

    async def bare() -> None:
        one = Bare(folder)
        await one.start()
        await one.close()

    rates = {}
    for name, work, at_once in (("jupyter_client", bare, 2), ("zygote", take, 4)):
        gate = asyncio.Semaphore(at_once)

        async def one(work: Callable[[], Awaitable[None]] = work, gate: asyncio.Semaphore = gate) -> None:
            async with gate:
                await work()

        begun = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(count)))
        rates[name] = count / (time.perf_counter() - begun)
    await host().call(pool.close())
    row("starts per second, the pool empty", "jupyter_client", "zygote", "ratio (goal 4)")
    bare_rate, ours = rates["jupyter_client"], rates["zygote"]
    row("", f"{bare_rate:.1f}", f"{ours:.1f}", f"{ours / bare_rate:.1f}")


async def hand_out(count: int) -> None:
    """From a pool of four, one asked for every 150 ms while cells compute beside."""
    busy = JupyterSession(warm=4, preload=PRELOAD)
    await cell(busy)
    computing = asyncio.create_task(
        cell(busy, "import time\nend = time.time() + 20\nwhile time.time() < end: pass")
    )
    times = []
    await asyncio.sleep(1)
    for _ in range(count):
        notebook = JupyterSession(warm=4, preload=PRELOAD)
        times.append(await timed(lambda notebook=notebook: cell(notebook)))  # type: ignore[misc]
        await notebook.aclose()
        await asyncio.sleep(0.15)
    busy.interrupt()
    with suppress(AssertionError):
        await computing
    await busy.aclose()
    row("hand-out and first cell, one processor busy", "median", "p99", f"of {count}")
    row("", ms(statistics.median(times)), ms(p99(times)))


async def cells(folder: str, count: int) -> None:
    """A trivial cell, interleaved; ours with the log on."""
    store = SQLiteLog(Path(folder) / "log.sqlite")
    bare = Bare(folder)
    await bare.start()
    theirs, ours = [], []
    async with lllm.arecord("cells", store=store), JupyterSession("cells") as notebook:
        await cell(notebook)
        await bare.run("1 + 1")
        for _ in range(count):
            theirs.append(await timed(lambda: bare.run("1 + 1")))
            place = notebook.append_code_cell("1 + 1")
            ours.append(await timed(lambda place=place: notebook.arun_cell(place)))  # type: ignore[misc]
    await bare.close()
    store.close()
    a, b = statistics.median(theirs), statistics.median(ours)
    row("a trivial cell, log on", "jupyter_client", "ours", "ratio (goal 1.1)")
    row(f"  median of {count}", ms(a), ms(b), f"{b / a:.2f}")


async def plots(count: int) -> None:
    times = []
    for _ in range(count):
        notebook = JupyterSession(warm=1, preload=PRELOAD)
        await cell(notebook)
        times.append(await timed(lambda notebook=notebook: cell(notebook, PLOT)))  # type: ignore[misc]
        await notebook.aclose()
        await asyncio.sleep(0.3)
    row("first plot (goal 150 ms)", "median", "worst")
    row("", ms(statistics.median(times)), ms(max(times)))


async def many(count: int) -> None:
    """Side by side, each with a cell that works a little."""
    notebooks = [JupyterSession(warm=4, preload=PRELOAD) for _ in range(count)]
    begun = time.perf_counter()
    await asyncio.gather(*(cell(one, "sum(range(10**6))") for one in notebooks))
    spent = time.perf_counter() - begun
    memory = [unique_memory(one) for one in notebooks]
    await asyncio.gather(*(one.aclose() for one in notebooks))
    row(f"{count} side by side", "all done after", "memory of each")
    row("", f"{spent:.2f} s", f"{statistics.median(memory) / 2**20:.0f} MB")


def unique_memory(notebook: JupyterSession) -> int:
    """Memory that the processes of a sandbox share with nobody (USS)."""
    from lllm.sandbox.isolation import tree

    engine: Any = notebook._engine
    total = 0
    for pid in tree.below(engine._kernel.process.pid):
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(("Private_Clean", "Private_Dirty")):
                    total += int(line.split()[1]) * 1024
    return total


async def recovery(count: int) -> None:
    times = []
    async with JupyterSession(warm=2, preload=PRELOAD) as notebook:
        await cell(notebook)
        for _ in range(count):
            died = await notebook.arun_cell(notebook.append_code_cell("import os\nos.kill(os.getpid(), 9)"))
            assert died.status == "died"
            times.append(await timed(lambda: cell(notebook)))
    row("a cell after its kernel was killed", "median", "worst")
    row("", ms(statistics.median(times)), ms(max(times)))


async def growth(count: int) -> None:
    """Memory and files of this process over many cells of one notebook."""
    async with JupyterSession() as notebook:
        for n in range(20):
            await cell(notebook, f"print({n})")
        before = _used()
        for n in range(count):
            notebook.overwrite_cell(n % 20, f"print({n})")
            assert await notebook.arun_cell(n % 20)
        after = _used()
    row(f"{count} cells", "memory", "open files")
    row("", f"{(after[0] - before[0]) / 1024:+.1f} MB", f"{after[1] - before[1]:+d}")


def _used() -> tuple[int, int]:
    import gc

    gc.collect()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, len(os.listdir("/proc/self/fd"))


async def main(quick: bool) -> None:
    few = 3 if quick else 10
    with tempfile.TemporaryDirectory(prefix="b") as folder:
        await starts(folder, few)
        await sustained(folder, 6 if quick else 40)
        await hand_out(10 if quick else 100)
        await cells(folder, 20 if quick else 300)
        await plots(few)
        await many(4 if quick else 20)
        await recovery(few)
        await growth(40 if quick else 500)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    asyncio.run(main(parser.parse_args().quick))
