"""Programs that are killed at a random moment, resumed by another process, and replayed.

Each life of a program is a process of its own, forked from one that runs no threads. It ends by itself or by SIGKILL; then the
next one resumes what the log has. `killed` says what is wrong in the end: the recorded prefix must be kept byte for byte,
each session must be `done`, each effect must have happened once, and the whole must replay without any model request.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import pickle
import random
import select
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.order import shape
from benchmarks.order.runs import Made, made, names_of, replays
from lllm import resume_session
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.log import open_store
from lllm.ports import LogStore
from lllm.replay.resumed import Uncertain

LIMIT: Final = 120.0
"""Seconds in which a process must end."""
LIVES: Final = 3
"""So many of them are killed at most."""


class Life:
    """A forked process that does something and hands back what it returns."""

    def __init__(self, work: Callable[[], Any], limit: float = LIMIT) -> None:
        self.limit = limit
        sys.stdout.flush()
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(write)
            return
        status = 1
        try:
            os.close(self._read)
            gc.freeze()  # the parent's garbage is the parent's
            faulthandler.dump_traceback_later(limit, exit=True)
            try:
                found = "ok", work()
            except BaseException:
                found = "raised", traceback.format_exc()
            with os.fdopen(write, "wb") as pipe:
                pickle.dump(found, pipe)
            status = 0
        finally:
            os._exit(status)

    def kill(self, seconds: float) -> bool:
        """Kills it after so long. False where it had ended before."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([self._read], [], [], left)[0]:
                return False
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._read)
        return True

    def result(self) -> Any:
        """What it hands back. RuntimeError where it raised something, or has not ended in time."""
        with os.fdopen(self._read, "rb") as pipe:
            data = pipe.read()
        os.waitpid(self.pid, 0)
        if not data:
            raise RuntimeError(f"it did not end within {self.limit:g} s, or died")
        status, found = pickle.loads(data)  # written by ourselves
        if status == "raised":
            raise RuntimeError(found)
        return found


class _Place:
    """A folder with a store, a ledger, and what was recorded before each resumption."""

    def __init__(self, folder: Path, kind: str, name: str, loop: str) -> None:
        self.folder, self.kind, self.name, self.loop = folder, kind, name, loop

    def open(self) -> LogStore:
        shape.use(self.folder / "ledger")
        return open_store(self.kind, self.folder / "log")

    def program(self, store: LogStore) -> Made:
        return made(self.name, store, self.loop, effects=True)

    def lives(self) -> float:
        """The first life of the program. Returns the seconds it took."""
        begun = time.monotonic()
        with self.open() as store:
            self.program(store).live()
        return time.monotonic() - begun

    def goes_on(self) -> None:
        """Another one: what was begun is resumed, and what was not is done from its beginning."""
        with self.open() as store:
            program = self.program(store)
            begun = names_of(store)
            for name, entry in program.entries.items():
                if name not in begun:
                    entry()
                    continue
                bodies = list(store.read(begun[name]))
                self._remember(name, bodies)
                if _status(bodies) is None:
                    resume_session(begun[name], store=store, entry=entry, decide=_decide)

    def _remember(self, name: str, bodies: list[bytes]) -> None:
        written = self.folder / f"{name}-{len(list(self.folder.iterdir()))}.tmp"
        written.write_bytes(pickle.dumps(bodies))
        written.rename(written.with_suffix(".prefix"))

    def judge(self) -> list[str]:
        """What is wrong in the end."""
        with self.open() as store:
            program, wrong = self.program(store), list[str]()
            sessions = names_of(store)
            if set(sessions) != set(program.entries):
                return [f"there are the sessions {sorted(sessions)}"]
            for name, session in sessions.items():
                bodies = list(store.read(session))
                wrong += self._lost(name, bodies)
                if _status(bodies) != "done":
                    wrong.append(f"the status is {_status(bodies)}")
                wrong += _effects(bodies, shape.ledger.lines(), name)
            wrong += replays(program, store)
            if program.asked[0]:
                wrong.append(f"the replay asked for {program.asked[0]} replies")
        return wrong

    def _lost(self, name: str, bodies: list[bytes]) -> list[str]:
        for file in self.folder.glob(f"{name}-*.prefix"):
            before = pickle.loads(file.read_bytes())
            if bodies[: len(before)] != before:
                return [f"the prefix of {len(before)} events was not kept"]
        return []


def _decide(found: Uncertain) -> Any:
    """What somebody says who looks whether an effect happened."""
    label = json.loads(found.arguments).get("label", "")
    happened = any(label == one for one, _ in shape.ledger.lines())
    return {"result": f"sent {label}"} if happened else "retry"


def _status(bodies: list[bytes]) -> str | None:
    """How a session ended; None where it has not."""
    ends = [event["data"] for event in map(open_event, bodies) if event["kind"] == ev.SESSION_ENDED]
    return str(ends[-1]["status"]) if ends else None


def _effects(bodies: list[bytes], lines: list[tuple[str, str]], name: str) -> list[str]:
    """Effects that did not happen once: those that have returned. One that was cancelled may have happened."""
    events = [open_event(body) for body in bodies]
    labels = {
        event["data"]["n"]: event["data"]["request"]["arguments"]["label"]
        for event in events
        if event["kind"] == ev.EFFECT_REQUESTED and event["data"]["kind"] == "activity"
    }
    returned = {
        labels[event["data"]["n"]]
        for event in events
        if event["kind"] == ev.EFFECT_RETURNED
        and event["data"]["n"] in labels
        and not event["data"].get("cancelled")
    }
    count = Counter(label for label, _ in lines if label.startswith(f"{name} "))
    wrong = [f"'{label}' happened {count[label]} times" for label in returned if count[label] != 1]
    wrong += [
        f"'{label}' happened {n} times" for label, n in count.items() if n > 1 and label not in returned
    ]
    wrong += [f"'{label}' is not in the log" for label in count if label not in labels.values()]
    return wrong + _tools(events, lines)


def _tools(events: list[dict[str, Any]], lines: list[tuple[str, str]]) -> list[str]:
    """The same for tools. Of several calls of one tool each has its own key."""
    named = {
        (event["call"], event["data"]["id"])
        for event in events
        if event["kind"] == ev.TOOL_REQUESTED and event["data"]["name"] == "note"
    }
    done = sum(
        (event["call"], event["data"]["id"]) in named and event["data"].get("ok", True) is True
        for event in events
        if event["kind"] == ev.TOOL_RETURNED
        and "from" not in event["data"]
        and "uncertain" not in event["data"]
    )
    keys = Counter(key for label, key in lines if label.startswith("note "))
    if any(n > 1 for n in keys.values()):
        return [f"a tool ran {max(keys.values())} times with one key"]
    if not done <= len(keys) <= len(named):
        return [f"{len(keys)} notes were made, by {len(named)} tool calls of which {done} returned"]
    return []


def usual(name: str, loop: str, kind: str) -> float:
    """Seconds that a program takes which nobody kills."""
    with tempfile.TemporaryDirectory(prefix="order-") as folder:
        place = _Place(Path(folder), kind, name, loop)
        return float(Life(place.lives).result())


def killed(name: str, loop: str, kind: str, seconds: float, chance: random.Random) -> tuple[int, list[str]]:
    """Kills a program within its usual `seconds`, or a bit after it, and resumes it: so many lives were killed, and what is
    wrong."""
    with tempfile.TemporaryDirectory(prefix="order-", ignore_cleanup_errors=True) as folder:
        place = _Place(Path(folder), kind, name, loop)
        kills = 0
        life = Life(place.lives)
        try:
            if life.kill(chance.random() * 1.15 * seconds):
                kills += 1
            else:
                life.result()
            while kills < LIVES and chance.random() < 0.4:
                life = Life(place.goes_on)
                if life.kill(chance.random() * seconds):
                    kills += 1
                else:
                    life.result()
            Life(place.goes_on).result()
            return kills, Life(place.judge).result()
        except RuntimeError as error:
            return kills, [str(error).strip().splitlines()[-1], str(error)]
