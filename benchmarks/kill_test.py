"""`kill -9` at every event: what is left of a session opens, is gone on with to the same result, and nothing is done twice.

    python -m benchmarks.kill_test              # every boundary, on every store that is here; minutes
    python -m benchmarks.kill_test --quick      # a sample
    python -m benchmarks.kill_test --store sqlite

A process is killed by itself with SIGKILL, in these places: when an event has been emitted (it may not be stored yet), when
its append has been acknowledged, and within a tool, before and after it takes effect. Another process resumes. Then: files
that lost their last bytes, as a power cut may leave them; a disk that is full; two processes that want one session.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks._killed import RESULT, World, program
from lllm.core.envelope import open_event, verify_chain
from lllm.errors import LLMError, LogWriteError
from lllm.log import open_store
from lllm.ports import LogStore
from lllm.replay.resumed import uncertain

SESSION = "killed"
LEASE = 1.0
"""Seconds after which a dead writer's session in Postgres may have another one."""
Open = Callable[[Path], LogStore]


class Outcome(NamedTuple):
    """What one kill came to. `problems` are sentences; none is what we want."""

    where: str
    events: int
    uncertain: int
    problems: list[str]


def child(work: Callable[[], Any]) -> tuple[int, Any]:
    """Runs `work` in a forked process. Its exit status (negative: the signal that killed it) and what it gave."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reader)
        gc.freeze()  # the parent's garbage is not finalised here: what that runs may meet a thread that is not there
        try:
            text = json.dumps(work())
        except BaseException as error:
            text = json.dumps({"error": f"{type(error).__name__}: {error}"})
        with os.fdopen(writer, "w") as pipe:
            pipe.write(text)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status), json.loads(text) if text else None


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def start(
    opened: Open, folder: Path, *, emitted: int = -1, stored: int = -1, deed: str = "", count: int = 0
) -> Any:
    """The program, which dies after so many events, or at a tool's deed."""
    from lllm.session import Session
    from lllm.sync import run

    seen: Counter[str] = Counter()

    def dies(where: str) -> None:
        seen[where] += 1
        if where == deed and seen[where] == count:
            die()

    store = opened(folder)
    write, append = Session.write, store.append

    def written(self: Session, event: Any) -> None:
        write(self, event)
        if self._seq == emitted:
            die()

    async def appended(records: Any, blobs: Any = None) -> None:
        await append(records, blobs)
        if records and records[-1].seq + 1 >= stored > 0:
            die()

    Session.write = written  # type: ignore[method-assign]
    store.append = appended  # type: ignore[method-assign]
    return run(program(store, World(folder / "world", dies), SESSION)())


def resume(opened: Open, folder: Path) -> dict[str, Any]:
    """Goes on with what is left, and replays the whole."""
    from lllm.replay import replay_session
    from lllm.replay.resume import resume_session
    from lllm.sync import run

    store, world = opened(folder), World(folder / "world")
    try:
        left = len(list(store.read(SESSION)))
    except LLMError:
        left = 0
    if not left:  # it died before anything was stored: nothing to go on with, and nothing was done
        return {"result": run(program(store, world, SESSION)()), "uncertain": [], "verified": True}
    done = resume_session(SESSION, store=store, entry=program(store, world, SESSION))
    report = replay_session(SESSION, store=store, entry=program(store, world, SESSION))
    told = None if report.divergence is None else str(report.divergence)
    return {
        "result": done.result, "uncertain": [item.key for item in done.uncertain], "verified": report.verified,
        "divergence": told,
    }  # fmt: skip


def look(opened: Open, folder: Path) -> list[dict[str, Any]]:
    """The events that are left, proven. LogCorrupt where they are not as they were written."""
    store = opened(folder)
    try:
        bodies = list(store.read(SESSION))
    except LLMError as error:
        if "no session named" in str(error):
            return []
        raise
    finally:
        store.close()
    verify_chain(bodies, session=SESSION)
    return [open_event(body) for body in bodies]


def judge(opened: Open, folder: Path, where: str, *, effects: bool = True) -> Outcome:
    """Looks at what is left, resumes it, and says what is wrong."""
    problems: list[str] = []
    try:
        status, left = child(lambda: look(opened, folder))
        if isinstance(left, dict):
            return Outcome(where, 0, 0, [f"does not open: {left['error']}"])
        unsure = [item.key for item in uncertain(left)]
        before = World(folder / "world").deeds()
        status, told = child(lambda: resume(opened, folder))
        if status != 0 or not isinstance(told, dict) or "error" in told:
            return Outcome(where, len(left), len(unsure), [f"does not resume: {told}"])
        if told["result"] != RESULT:
            problems.append(f"another result: {told['result']!r}")
        if not told["verified"]:
            problems.append(f"does not replay: {told.get('divergence')}")
        if told["uncertain"] != unsure:
            problems.append(f"uncertain effects {unsure}, reported {told['uncertain']}")
        if effects:
            problems += _deeds(before, World(folder / "world").deeds())
    except LLMError as error:
        problems.append(str(error))
        left, unsure = [], []
    return Outcome(where, len(left), len(unsure), problems)


def _deeds(before: list[str], after: list[str]) -> list[str]:
    """What is wrong with what was done to the world: a mail sent twice, a charge with two keys."""
    problems = []
    mails = Counter(deed for deed in after if deed.startswith("mail"))
    if any(count > 1 for count in mails.values()) or len(mails) > 1:
        problems.append(f"mails: {dict(mails)}")
    charges = {deed for deed in after if deed.startswith("charge")}
    if len(charges) != 2:
        problems.append(f"charges under {len(charges)} keys instead of 2: {sorted(charges)}")
    if after[: len(before)] != before:
        problems.append("the past has changed")
    return problems


def boundaries(opened: Open, folder: Path) -> int:
    """How many events the undisturbed program writes."""
    status, told = child(lambda: start(opened, folder))
    if status != 0 or told != RESULT:
        raise SystemExit(f"the program itself fails: {told}")
    return len(child(lambda: look(opened, folder))[1])


@contextmanager
def place(fresh: Callable[[], Path]) -> Iterator[Path]:
    folder = fresh()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def kills(opened: Open, fresh: Callable[[], Path], step: int = 1, wait: float = 0.0) -> list[Outcome]:
    """Kills the program at every `step`th event, and at every deed. `wait`: seconds until a dead writer's lease has run out."""
    out = []
    with place(fresh) as folder:
        total = boundaries(opened, folder)
    plans: list[tuple[str, dict[str, Any]]] = []
    for number in range(1, total, step):
        plans.append((f"event {number} emitted", {"emitted": number}))
        plans.append((f"event {number} stored", {"stored": number}))
    for when in ("before", "after"):
        for deed, count in (("charge", 1), ("mail", 1), ("charge", 2)):
            plans.append((f"{when} {deed} {count}", {"deed": f"{when} {deed}", "count": count}))
    for where, plan in plans:
        with place(fresh) as folder:
            status, told = child(lambda plan=plan, folder=folder: start(opened, folder, **plan))  # type: ignore[misc]
            if status != -signal.SIGKILL:
                out.append(Outcome(where, 0, 0, [f"was not killed: {status} {told}"]))
                continue
            time.sleep(wait)
            out.append(judge(opened, folder, where))
    return out


TORN = {"sqlite": "sessions.db-wal", "localfile": f"sessions/{SESSION}/events.jsonl"}
"""The file of each store that a power cut may shorten."""


def truncations(kind: str, opened: Open, fresh: Callable[[], Path], step: int = 1) -> list[Outcome]:
    """The store's file loses its last 1 to 4096 bytes: what is left opens, and is gone on with to the same result. What was
    done to the world in the lost part is not known any more, so it is not looked at."""
    out = []
    with place(fresh) as folder:
        total = boundaries(opened, folder)
    with place(fresh) as folder:
        child(lambda: start(opened, folder, stored=total - 3))
        size = (folder / TORN[kind]).stat().st_size
        for lost in range(1, min(4096, size) + 1, step):
            with place(fresh) as copy:
                shutil.copytree(folder, copy, dirs_exist_ok=True)
                (copy / f"{TORN[kind].removesuffix('-wal')}-shm").unlink(missing_ok=True)
                os.truncate(copy / TORN[kind], size - lost)
                out.append(judge(opened, copy, f"{lost} bytes lost", effects=False))
    return out


def full_disk(opened: Open, fresh: Callable[[], Path]) -> list[Outcome]:
    """No file may grow beyond a size: the session ends with a clear error, and is gone on with when there is room."""
    out = []
    for limit in (0, 2_000, 6_000, 20_000, 60_000):
        with place(fresh) as folder:

            def starve(folder: Path = folder, limit: int = limit) -> Any:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                return start(opened, folder)

            _, told = child(starve)
            where = f"no file beyond {limit} bytes"
            if told != RESULT and "LogWriteError" not in str(told):
                out.append(Outcome(where, 0, 0, [f"ended with {told}"]))
                continue
            if told == RESULT:
                continue
            out.append(judge(opened, folder, where))
    return out


def two_writers(opened: Open, fresh: Callable[[], Path], wait: float = 0.0) -> list[Outcome]:
    """While one process writes a session, another is refused; when the first is killed, it may."""
    with place(fresh) as folder:
        reader, writer = os.pipe()
        first = os.fork()
        if first == 0:
            os.close(reader)

            def stay(where: str) -> None:
                if where == "before mail":
                    os.write(writer, b"x")
                    time.sleep(600)

            from lllm.sync import run

            store = opened(folder)
            run(program(store, World(folder / "world", stay), SESSION)())
            os._exit(0)
        os.close(writer)
        os.read(reader, 1)
        os.close(reader)
        world = World(folder / "world")
        for _ in range(6000):  # until the other tool of the round is done, which is the second charge
            if len(world.deeds()) == 2:
                break
            time.sleep(0.01)
        deeds = len(world.deeds())
        _, told = child(lambda: resume(opened, folder))
        problems = []
        if LogWriteError.__name__ not in str(told):
            problems.append(f"the second writer was not refused: {told}")
        if len(world.deeds()) != deeds:
            problems.append("the second writer did something")
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
        time.sleep(wait)
        outcome = judge(opened, folder, "two processes")
        return [outcome._replace(problems=[*problems, *outcome.problems])]


def report(name: str, outcomes: list[Outcome]) -> bool:
    bad = [one for one in outcomes if one.problems]
    unsure = sum(one.uncertain for one in outcomes)
    good = len(outcomes) - len(bad)
    print(f"{name:<32}{len(outcomes):>6}{good:>8}{100 * good / max(1, len(outcomes)):>8.1f} %{unsure:>10}")
    for one in bad[:10]:
        print(f"    {one.where}: {'; '.join(one.problems)}")
    return not bad


Stores = dict[str, tuple[Open, Callable[[], Path]]]


def stores(server: str | None = None) -> Stores:
    """Every store that outlives a process, by name. `server` is the address of a Postgres."""

    def fresh() -> Path:
        return Path(tempfile.mkdtemp(prefix="lllm-kill-"))

    def by_name(kind: str) -> Open:
        return lambda folder: open_store(kind, folder)

    found: Stores = {kind: (by_name(kind), fresh) for kind in ("sqlite", "localfile")}
    if server is not None:
        found["postgres"] = (lambda folder: _leased(server, folder), fresh)
    return found


def _leased(server: str, folder: Path) -> LogStore:
    """A schema for each folder. A store connects when it is first used, so forked processes share no connection."""
    from lllm.log import PostgresLog

    schema = f"k{zlib.crc32(folder.name.encode()):08x}"
    return PostgresLog(server, schema=schema, lease=LEASE)


@contextmanager
def postgres(wanted: bool) -> Iterator[str | None]:
    """The address of a server of our own. None where none is wanted, or its programs are not here."""
    from tests.servers.postgres import binaries, running

    try:
        binaries()
    except RuntimeError as error:
        wanted = False
        print(f"no Postgres: {error}")
    if not wanted:
        yield None
        return
    with running() as server:
        yield server.url


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", action="append", choices=("sqlite", "localfile", "postgres"))
    parser.add_argument("--quick", action="store_true", help="every seventh boundary, every 257th truncation")
    options = parser.parse_args()
    step, torn = (7, 257) if options.quick else (1, 1)
    good = True
    with postgres(not options.store or "postgres" in options.store) as server:
        found = stores(server)
        if missing := set(options.store or ()) - set(found):
            parser.error(f"not here: {', '.join(sorted(missing))}")
        print(f"{'':<32}{'runs':>6}{'good':>8}{'':>10}{'uncertain':>10}", flush=True)
        for kind, (opened, fresh) in found.items():
            if options.store and kind not in options.store:
                continue
            wait = 2 * LEASE if kind == "postgres" else 0.0
            good &= report(f"{kind}: killed", kills(opened, fresh, step, wait))
            if kind in TORN:
                good &= report(f"{kind}: truncated", truncations(kind, opened, fresh, torn))
                good &= report(f"{kind}: disk full", full_disk(opened, fresh))
            good &= report(f"{kind}: two writers", two_writers(opened, fresh, wait))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
