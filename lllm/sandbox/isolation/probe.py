"""Whether a tier works on this machine: its real command line is run once."""

from __future__ import annotations

import sys
import time
from functools import cache
from typing import Final, NamedTuple

from lllm.errors import SandboxUnavailable
from lllm.sandbox import folders
from lllm.sandbox.isolation import causes, namespace, process, users
from lllm.sandbox.kernel import Process
from lllm.sandbox.limits import Limits

COMMAND: Final = (sys.executable, "-I", "-S", "-c", "pass")
SECONDS: Final = 20.0
"""Time limit of the command, which takes some 30 ms on an idle machine."""

LAUNCHES: Final = {"namespace": namespace.launch, "process": process.launch}


class State(NamedTuple):
    """What became of the probe of a tier. `cause` and `cure` are "" where it works; `open` says what code could still do."""

    tier: str
    works: bool
    cause: str = ""
    cure: str = ""
    open: tuple[str, ...] = ()


@cache
def probe(tier: str) -> State:
    """Probes a tier, once per process. It blocks for some 30 ms."""
    folder = folders.make()
    try:
        sockets, work = folder / "s", folder / "work"
        for path in (sockets, work):
            path.mkdir(mode=0o700)
        started = LAUNCHES[tier](sockets, work, Limits(), COMMAND)
        try:
            code, printed = _end(started)
        finally:
            started.kill()
    except SandboxUnavailable as error:
        return State(tier, False, error.message, error.hint or "")
    except OSError as error:
        return State(tier, False, f"{error.strerror or error}: {error.filename or 'its first command'}", "")
    finally:
        folders.remove(folder)
    if code == 0:
        return State(tier, True, open=tuple(process.way().open()) if tier == "process" else ())
    if code is None:
        return State(tier, False, f"its first command did not end within {SECONDS:g} seconds", "")
    cause, cure = causes.explain(printed, root=users.may_switch())
    return State(tier, False, cause, cure)


def _end(started: Process) -> tuple[int | None, str]:
    until = time.monotonic() + SECONDS
    while (code := started.code()) is None and time.monotonic() < until:
        time.sleep(0.002)
    return code, started.said()
