"""Runs attacks, in a world of its own: `python -m tests.sandbox.attacks.harness ROOM VARIANT NAME...`.

It prints what came of each, a line of JSON for each. Outside of such a world it refuses to start.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from lllm.errors import LLMError
from lllm.sandbox import folders
from lllm.sandbox.isolation import seccomp
from lllm.sandbox.jupyter import JupyterSession
from lllm.sandbox.limits import MIB, Limits
from lllm.sandbox.result import CellResult
from tests.sandbox.attacks import servers, uncontained
from tests.sandbox.attacks.row import Row
from tests.sandbox.attacks.table import GROUPS, ROWS
from tests.sandbox.attacks.world import MARK, SECRET

LIMITS: Final = Limits(
    memory_bytes=1000 * MIB,
    processes=60,
    file_bytes=64 * MIB,
    disk_bytes=32 * MIB,
    inodes=600,
    temp_bytes=16 * MIB,
    output_bytes=MIB // 8,
    flood_bytes=4 * MIB,
    grace_seconds=1.0,
    start_seconds=120.0,
)
OFF: Final = Limits(
    memory_bytes=2**40,
    processes=100_000,
    file_bytes=2**40,
    disk_bytes=2**40,
    inodes=10**9,
    output_bytes=2**40,
    flood_bytes=2**40,
    start_seconds=120.0,
)
ENDED: Final = ("disk", "memory", "processes", "flood", "timeout", "died")
LIMITED: Final = [
    *GROUPS["Processes"].values(),
    *GROUPS["Limits"].values(),
    *GROUPS["Messages to lllm"].values(),
]
"""Attacks after which the kernel is ended where they have come further than to fail, and it lives: something of them may still
run."""
FACTS: Final = ("log", "outside", "packages", "owner", "connected")
"""Checks that decide alone: a sandbox may have files of its own by these names."""
VICTIM: Final = """
import ctypes, time
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
shared = libc.shmget(0, 4096, 0o1600)
ctypes.memmove(libc.shmat(shared, None, 0), b"victim", 6)
libc.shmctl(shared, 0, None)  # it ends with this process
x = ctypes.create_string_buffer(b"victim")
print(ctypes.addressof(x), flush=True)
time.sleep(10000)
"""
NUMBERS: Final = "i=0; while [ $i -lt 4000 ]; do (:); i=$((i+1)); done"
"""Uses up ids of processes: the victim's must be none of those that a sandbox has inside."""


CALLS: Final = {
    **seccomp.DENIED,
    "clone": (56, 220),
    "clone3": (435, 435),
    "ioprio_set": (251, 30),
    "ioprio_get": (252, 31),
}

BEFORE: Final = """
import ctypes, glob, os, resource, shutil, signal, socket, subprocess, sys, threading, time
P = {parameters!r}
P['sockets'] = os.path.dirname(get_ipython().kernel.parent.abs_connection_file)
def opened(what): print('VERDICT open:', what, flush=True)
def call(name, *values):
    if name not in P['calls']: opened('what is not denied has no number here, and was not tried')
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(ctypes.c_long(P['calls'][name]), *[ctypes.c_long(v) if isinstance(v, int) else v for v in values])
    if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def single(work):
    # in a process with one thread, as some calls need it
    read, write = os.pipe()
    if os.fork() == 0:
        try: work(); os.write(write, b'open')
        except OSError as error: os.write(write, str(error).encode())
        finally: os._exit(0)
    os.close(write)
    if (said := os.read(read, 999)) == b'open': opened('done')
    else: print(said.decode())
"""


class World:
    """What is attacked: decoys, servers, another process."""

    def __init__(self, room: Path, *, contained: bool) -> None:
        self.room = room
        self.home, self.outside, self.packages = room / "home", room / "outside", room / "packages"
        (self.home / ".ssh").mkdir(parents=True, mode=0o700)
        self.home.chmod(0o700)
        for folder in (self.outside, self.packages):
            folder.mkdir()
        self.outside.chmod(0o777)
        self.log = self.home / "sessions.db"
        for path in (self.home / ".ssh" / "id_ed25519", self.home / "note", self.log):
            path.write_text(SECRET)
            path.chmod(0o600)
        (self.outside / "note").write_text("x")
        self.other = folders.make() / "s1" / "connection.json"
        self.other.parent.mkdir(mode=0o700)
        self.other.write_text('{"key": "x"}')
        self.ports = servers.serve(self.outside)
        subprocess.run(["sh", "-c", NUMBERS], check=True)
        self.victim = self._victim()
        libraries = os.path.dirname(os.__file__)
        self.parameters: dict[str, Any] = {
            "canary": SECRET,
            "home": str(self.home),
            "log": str(self.log),
            "outside": str(self.outside),
            "packages": libraries if contained else str(self.packages),
            "other": str(self.other),
            "loopback": "127.0.0.1",
            "outside_address": servers.outside(),
            "addresses": servers.ADDRESSES,
            "python": sys.executable,
            "settle": 5.0 if contained else 0.0,
            "calls": {name: numbers[platform.machine() != "x86_64"] for name, numbers in CALLS.items()},
            "memory": LIMITS.memory_bytes,
            "processes": LIMITS.processes,
            "file": LIMITS.file_bytes,
            "disk": LIMITS.disk_bytes,
            "inodes": LIMITS.inodes,
            "flood": LIMITS.flood_bytes,
            **self.ports,
        }

    def _victim(self) -> subprocess.Popen[str]:
        victim = subprocess.Popen(
            [sys.executable, "-S", "-c", VICTIM, SECRET], stdout=subprocess.PIPE, text=True
        )
        assert victim.stdout is not None
        self.address = int(victim.stdout.readline())
        return victim

    def before(self) -> str:
        """The code that comes before each attack."""
        if self.victim.poll() is not None:
            self.victim = self._victim()
        Path("/proc/self/clear_refs").write_text("5")  # the peak of memory is that of now
        self.used = memory("VmRSS")
        self.accepted = len(servers.accepted)
        told = {**self.parameters, "victim": self.victim.pid, "address": self.address}
        return BEFORE.format(parameters=told)

    def check(self, what: str, notebook: JupyterSession) -> str:
        """What is seen from outside: "" if all is as it should be."""
        if what == "log" and self.log.read_text() != SECRET:
            return "the log was written"
        if what == "owner" and not all(
            '"pid"' in mark.read_text() for mark in self.room.glob("lllm-*/owner.json")
        ):
            return "the mark was changed"
        if what == "outside" and (self.outside / "new").exists():
            return "a file was made outside"
        if what == "packages" and (Path(self.parameters["packages"]) / "attack.py").exists():
            return "a module was added"
        if what == "connected":
            return "lllm connected" if len(servers.accepted) > self.accepted else ""
        if what == "starts":
            cell = "import glob, os; [os.unlink(file) for file in glob.glob('*.py')]"
            started = notebook.run_cell(notebook.append_code_cell(cell))
            return "" if started else f"no new kernel starts: {started.text[-300:]}"
        if what == "victim":
            time.sleep(0.2)
            return "the other process was ended" if self.victim.poll() is not None else ""
        if what == "copied":
            found = [path for path in notebook.files if SECRET.encode() in (notebook.get(path) or b"")]
            return f"copied: {found}" if found else ""
        if what == "put":
            for path in ("put/new", "table.csv"):
                try:
                    notebook.put(path, b"1")
                except LLMError:
                    continue
            return "a file was put outside" if (self.outside / "new").exists() else ""
        if what == "survivors":
            notebook.restart()
            return "they have survived" if survivors() else ""
        if what == "undone":
            kept = notebook.run_cell(
                notebook.append_code_cell(
                    "import os; print(open('kept.txt').read(), sorted(os.listdir(b'.')))"
                )
            )
            return (
                ""
                if kept.text.startswith("kept [b'kept.txt'")
                else f"the folder was not put back: {kept.text[-300:]}"
            )
        if what == "size":
            peak = memory("VmHWM")
            return f"lllm has used {peak:,} KiB" if peak > 192 * 1024 + self.used else ""
        return ""


def memory(name: str) -> int:
    """KiB of this process, by a name of /proc/PID/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def survivors() -> list[int]:
    """Processes that an attack has left."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                if Path(entry.path, "cmdline").read_bytes().endswith(b"survivor\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def attack(name: str, row: Row, world: World, notebook: JupyterSession) -> dict[str, Any]:
    """Runs one attack, and the next cell."""
    prepared = notebook.run_cell(notebook.append_code_cell(world.before()))
    assert prepared, prepared.text
    notebook.run_cell(notebook.append_code_cell("open('kept.txt', 'w').write('kept')"))
    result = notebook.run_cell(notebook.append_code_cell(row.code), row.seconds)
    seen = world.check(row.check, notebook) if row.check else ""
    after = notebook.run_cell(notebook.append_code_cell("6 * 7"))
    found = judge(result)
    if seen:
        found = "open"
    elif row.check in FACTS:
        found = "stopped"
    elif row.check == "survivors" and found == "open":
        found = "bounded"
    if row in LIMITED and result.alive and found != "stopped":
        notebook.restart()
    return {
        "name": name,
        "found": found,
        "seen": seen or last_line(result),
        "status": result.status,
        "alive": result.alive,
        "next": after.text.strip() == "42",
        "seconds": round(result.seconds, 2),
    }


def judge(result: CellResult) -> str:
    """What came of an attack, by its cell."""
    if "VERDICT open" in result.text:
        return "open"
    return "bounded" if result.status in ENDED else "stopped"


def last_line(result: CellResult) -> str:
    """The end of its text."""
    lines = [line for line in result.text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


def session(tier: str) -> JupyterSession:
    """The notebook that attacks run in."""
    if tier == "control":
        return JupyterSession(limits=OFF, launch=uncontained.launch)
    if tier == "forked":
        return JupyterSession(limits=LIMITS, tier="namespace", required=True, warm=1)
    return JupyterSession(limits=LIMITS, tier=tier, required=True)


def main() -> int:
    """Runs the attacks that are named."""
    outer = os.environ.get(MARK)
    if not outer or os.readlink("/proc/self/ns/mnt") == outer or os.getpid() > 50:
        print("attacks are run in a world of their own only, see world.py", file=sys.stderr)
        return 2
    room, variant, *names = sys.argv[1:]
    tier, _, _ = variant.partition("/")
    world = World(Path(room), contained=tier != "control")
    notebook = session(tier)
    try:
        for name in names:
            print(json.dumps(attack(name, ROWS[name], world, notebook)), flush=True)
    finally:
        notebook.close()
        world.victim.send_signal(signal.SIGKILL)
        world.victim.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
