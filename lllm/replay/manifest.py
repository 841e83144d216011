"""What a replayed program learns from the world beside its record: each place in the project's own code, by file and line.

Files, sockets and processes are seen by an audit hook. The clock, random numbers and the environment make no audit events:
their functions are seen by a profile function, whose callers are looked at. It is switched off while an agent call runs,
so a replay is hardly slower for it. Code that runs for anybody else (the standard library, an installed package, lllm) is
not reported; what the project reads through the standard library, or asks of the network through a package, is.
"""

from __future__ import annotations

import _random
import asyncio
import contextvars
import datetime
import genericpath
import os
import pathlib
import random
import secrets
import sys
import sysconfig
import threading
import time
import types
import uuid
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from functools import cache
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple, Self

from lllm import sync
from lllm.llm import activity, agent
from lllm.llm.activity import RecordedRandom
from lllm.session import acting
from lllm.sync import in_thread, is_async


class Source(NamedTuple):
    """A place that learns something that is not recorded.

    Attributes:
        file: relative to the project, or absolute. line: its line.
        name: what it called: `time.time`, `open`, `socket.connect`.
        count: how often.
    """

    file: str
    line: int
    name: str
    count: int  # type: ignore[assignment]  # of tuples, which nobody counts in here

    def __str__(self) -> str:
        times = "" if self.count == 1 else f" ({self.count} times)"
        return f"{self.file}:{self.line}: {self.name}{times}"


def instead(sources: Iterable[Source]) -> str:
    """What to write instead of unrecorded sources."""
    ways = {_WAYS.get(source.name.partition(".")[0], "lllm.activity") for source in sources}
    return f"Recorded are {', '.join(sorted(ways))}, and what tools return."


_WAYS: Final = {
    **{"time": "lllm.now()", "datetime": "lllm.now()", "date": "lllm.now()"},
    **{"random": "lllm.random()", "secrets": "lllm.activity", "uuid": "lllm.uuid()"},
}


# --- whose code it is

_HERE: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STANDARD: Final = tuple(
    {
        os.path.join(path, "")
        for path in (
            sysconfig.get_path("stdlib"),
            sysconfig.get_path("platstdlib"),
            os.path.dirname(os.__file__),
        )
    }
)
_IMPORTING: Final = ("<frozen importlib", "<frozen zipimport", "<frozen runpy")
_READERS: Final = ("linecache.py", "tokenize.py", "inspect.py", "traceback.py", "pkgutil.py")
"""Files of the standard library that read source code, for its own purposes."""
PROJECT, STANDARD, OURS, PACKAGE, IMPORT = "project", "standard", "lllm", "package", "import"


class Owners:
    """Tells whose a file of code is."""

    def __init__(self, roots: Iterable[str]) -> None:
        self.roots = tuple(os.path.join(os.path.realpath(root), "") for root in roots)
        self._known: dict[str, str] = {}

    def of(self, file: str) -> str:
        """PROJECT, STANDARD, OURS, PACKAGE or IMPORT."""
        found = self._known.get(file)
        if found is None:
            found = self._known[file] = self._look(file)
        return found

    def _look(self, file: str) -> str:
        if file.startswith("<"):
            return (
                IMPORT if file.startswith(_IMPORTING) else STANDARD if file.startswith("<frozen") else PACKAGE
            )
        if "site-packages" in file or "dist-packages" in file:
            return PACKAGE
        if file.startswith(_HERE):
            return OURS
        if file.startswith(_STANDARD):
            return IMPORT if os.path.basename(file) in _READERS else STANDARD
        return PROJECT if self.holds(file) else PACKAGE

    def holds(self, file: str) -> bool:
        """Whether a file is below the project's folders."""
        return os.path.realpath(file).startswith(self.roots)

    def shown(self, file: str) -> str:
        """A file as the report names it."""
        real = os.path.realpath(file)
        root = next((root for root in self.roots if real.startswith(root)), "")
        return real[len(root) :].replace(os.sep, "/")


# --- what is looked for

_CLOCKS: Final = (
    *("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time"),
    *("process_time_ns", "thread_time", "thread_time_ns", "clock_gettime", "clock_gettime_ns"),
)
_OS: Final = (
    "urandom",
    "getrandom",
    "getpid",
    "getppid",
    "getcwd",
    "stat",
    "lstat",
    "access",
    "readlink",
    "getloadavg",
)


def _builtins() -> dict[int, str]:
    found = {id(getattr(time, name)): f"time.{name}" for name in _CLOCKS if hasattr(time, name)}
    for name in _OS:
        if hasattr(os, name):
            found[id(getattr(os, name))] = f"os.{name}"
    return found


_BUILTINS: Final = _builtins()
_NOW: Final = frozenset(("now", "utcnow", "today"))
_DRAWS: Final = frozenset(("random", "getrandbits"))


@cache
def _functions() -> dict[int, str]:
    """Functions written in Python, by the id of their code."""
    found: dict[int, str] = {}

    def add(owner: Any, label: str, names: Iterable[str]) -> None:
        for name in names:
            function = vars(owner).get(name)
            if isinstance(function, classmethod | staticmethod):
                function = function.__func__
            if isinstance(function, types.FunctionType):
                found[id(function.__code__)] = f"{label}.{name}"

    drawing = [name for name in vars(random.Random) if not name.startswith("_") and name not in _STATE]
    add(random.Random, "random", drawing)
    add(random.SystemRandom, "random.SystemRandom", vars(random.SystemRandom))
    add(secrets, "secrets", [*vars(secrets)])
    add(
        uuid,
        "uuid",
        [name for name in vars(uuid) if name.startswith(("uuid1", "uuid4", "uuid6", "uuid7", "getnode"))],
    )
    add(os, "os", ("getenv", "getenvb", "get_exec_path", "getlogin"))
    add(type(os.environ), "os.environ", ("__getitem__", "__iter__", "__len__", "copy", "__or__"))
    paths = (
        "exists",
        "lexists",
        "isfile",
        "isdir",
        "getsize",
        "getmtime",
        "getatime",
        "getctime",
        "expanduser",
    )
    add(genericpath, "os.path", paths)
    add(os.path, "os.path", paths)
    add(
        pathlib.Path,
        "Path",
        ("exists", "is_file", "is_dir", "stat", "lstat", "cwd", "home", "readlink", "expanduser"),
    )
    return found


_STATE: Final = ("seed", "getstate", "setstate")
_INIT: Final = id(random.Random.__init__.__code__)
_SEED: Final = id(random.Random.seed.__code__)
_ENVIRON: Final = {
    id(function.__code__): f"os.environ.{name}"
    for name, function in (
        (name, getattr(Mapping, name, None)) for name in ("get", "keys", "items", "values", "__contains__")
    )
    if isinstance(function, types.FunctionType)
}
_RECORDERS: Final = {
    **{id(getattr(activity, name).__code__): f"lllm.{name}" for name in ("now", "random", "uuid")},
    **dict.fromkeys(map(id, activity.WRAPPERS), "lllm.activity"),
}
"""What is recorded within a session, and just done outside of one."""
_CREATE: Final = id(asyncio.BaseEventLoop.create_task.__code__)
_EVENTS: Final = frozenset(
    "open os.listdir os.scandir os.remove os.rename os.mkdir os.rmdir os.link os.symlink os.truncate os.chmod os.utime "
    "os.system os.exec os.posix_spawn os.spawn os.fork os.forkpty os.startfile os.walk subprocess.Popen pty.spawn "
    "socket.connect socket.getaddrinfo socket.gethostbyname socket.gethostbyaddr socket.gethostname socket.bind socket.sendto "
    "sqlite3.connect builtins.input".split()
)
_OUTSIDE: Final = ("socket.", "subprocess.", "os.posix_spawn", "os.fork", "os.exec", "os.system", "sqlite3.")
"""What a package does for the project counts as the project's: it asks the world."""

_watching: contextvars.ContextVar[Watch | None] = contextvars.ContextVar("lllm_watching", default=None)
"""The watch that the running code began under."""
_origin: contextvars.ContextVar[tuple[str, int] | None] = contextvars.ContextVar("lllm_origin", default=None)
"""The project's line that made the running task."""


class Watch:
    """Looks for unrecorded sources, from `with` on, in the threads that begin meanwhile and in what `watched` runs."""

    def __init__(self, roots: Iterable[str]) -> None:
        self.owners = Owners(roots)
        self.over = False
        self._found: Counter[tuple[str, int, str]] = Counter()
        self._seeded: weakref.WeakSet[Any] = weakref.WeakSet()
        self._functions = _functions()
        self._before: Any = None
        self._token: Any = None
        self._loop_: asyncio.AbstractEventLoop | None = None

    @property
    def sources(self) -> list[Source]:
        """The unrecorded sources, sorted by place."""
        merged: Counter[tuple[str, int, str]] = Counter()
        for (file, line, name), count in self._found.items():
            merged[self.owners.shown(file), line, name] += count
        return sorted(Source(*place, count) for place, count in merged.items())

    def __enter__(self) -> Self:
        _arm()
        with _lock:
            _active.append(self)
            sync.aside, agent.around = _aside, _around
        self._before = threading.getprofile()
        if self._before is None:
            threading.setprofile(self.profile)
        self._token = _watching.set(self)
        with suppress(RuntimeError):
            loop = asyncio.get_running_loop()
            if loop.get_task_factory() is None:
                loop.set_task_factory(self.task)
                self._loop_ = loop
        return self

    def __exit__(self, *_: object) -> None:
        self.over = True
        _watching.reset(self._token)
        if self._loop_ is not None:
            self._loop_.set_task_factory(None)
        with _lock:
            _active.remove(self)
            if not _active:
                sync.aside = agent.around = None
        if threading.getprofile() == self.profile:
            threading.setprofile(self._before)
        if sys.getprofile() == self.profile:
            sync.set_profile(None)

    def switch(self, on: bool) -> bool:
        """Looks at this thread's code, or not. Gives what was. A profiler of somebody else stays."""
        before = sys.getprofile()
        if before is None or before == self.profile:
            sync.set_profile(self.profile if on and not self.over else None)
        return before is not None

    async def run(self, program: Callable[[], Any]) -> Any:
        """Runs a program, plain or async, whose code is looked at."""
        if is_async(program):
            return await _Steps(self, program(), True)

        def plain() -> Any:
            before = self.switch(True)
            try:
                return program()
            finally:
                self.switch(before)

        return await in_thread(plain)

    # --- the profile function

    def profile(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "c_call":
            name = _BUILTINS.get(id(arg))
            if name is None:
                name = self._method(arg)
                if name is None:
                    return
            self._note(frame, name)
        elif event == "call":
            code = id(frame.f_code)
            if code in self._functions:
                self._python(frame, self._functions[code])
            elif code in _SPECIAL:
                _SPECIAL[code](self, frame)

    def _method(self, arg: Any) -> str | None:
        name = arg.__name__
        if name in _NOW:
            owner = arg.__self__
            if isinstance(owner, type) and issubclass(owner, datetime.date):
                return f"{owner.__name__}.{name}"
        elif name in _DRAWS:
            owner = arg.__self__
            if isinstance(owner, _random.Random) and self._is_unknown(owner):
                return f"random.{name}"
        return None

    def _is_unknown(self, generator: Any) -> bool:
        if isinstance(generator, RecordedRandom):
            return False
        try:
            return generator not in self._seeded
        except TypeError:  # a class of somebody's that has no weak references
            return True

    def _python(self, frame: FrameType, name: str) -> None:
        caller = frame.f_back
        if caller is None or self.owners.of(_file(caller)) != PROJECT:
            return
        if name.startswith("random."):
            owner = frame.f_locals.get("self")
            if isinstance(owner, random.Random) and not self._is_unknown(owner):
                return
        self._note(caller, name)

    def _begun(self, frame: FrameType) -> None:
        """random.Random(): unless it is given a seed, it takes one of the world's."""
        local = frame.f_locals
        if local.get("x", local.get("a")) is None:
            with suppress(TypeError):
                self._seeded.discard(local["self"])
            if (caller := frame.f_back) is not None and not isinstance(local["self"], RecordedRandom):
                self._note(caller, "random.Random" if frame.f_code.co_name == "__init__" else "random.seed")
        else:
            with suppress(TypeError):
                self._seeded.add(local["self"])

    def _environment(self, frame: FrameType) -> None:
        owner = frame.f_locals.get("self")
        if owner is os.environ or owner is getattr(os, "environb", None):
            caller = frame.f_back
            if caller is not None and self.owners.of(_file(caller)) == PROJECT:
                self._note(caller, _ENVIRON[id(frame.f_code)])

    def _loop(self, frame: FrameType) -> None:
        loop = frame.f_locals.get("self")
        if isinstance(loop, asyncio.AbstractEventLoop) and loop.get_task_factory() is None:
            loop.set_task_factory(self.task)

    def _outside(self, frame: FrameType) -> None:
        if (caller := frame.f_back) is not None and acting() is None:
            self._note(caller, f"{_RECORDERS[id(frame.f_code)]} outside of a session")

    def _note(self, frame: FrameType, name: str) -> None:
        file = _file(frame)
        if self.owners.of(file) == PROJECT:
            self._found[file, frame.f_lineno, name] += 1

    # --- tasks

    def task(self, loop: asyncio.AbstractEventLoop, coro: Any, **more: Any) -> asyncio.Task[Any]:
        """A task factory: the steps of the program's own tasks are looked at, those of lllm's are not."""
        if self.over or _watching.get() is not self:
            return asyncio.Task(coro, loop=loop, **more)
        code: CodeType | None = getattr(coro, "cr_code", None)
        ours = code is not None and self.owners.of(code.co_filename) == OURS
        if not ours and (place := self.nearest(sys._getframe(1))) is not None:
            context = more.get("context") or contextvars.copy_context()
            context.run(_origin.set, place)
            more["context"] = context
        return asyncio.Task(_Steps(self, coro, not ours), loop=loop, **more)

    # --- audit events

    def heard(self, event: str, args: tuple[Any, ...]) -> None:
        """An audit event of this process."""
        reaches = event.startswith(_OUTSIDE)
        if event == "open":
            path = args[0]
            if not isinstance(path, str | bytes | os.PathLike):
                return  # a file descriptor that is open already
            reaches = self.owners.holds(os.fsdecode(path))
        place = self.nearest(sys._getframe(2), reaches)
        if place is not None:
            self._found[*place, event] += 1

    def nearest(self, frame: FrameType | None, packages: bool = True) -> tuple[str, int] | None:
        """The line of the project's code that this one works for; None where it works for lllm, for an import, or (without
        `packages`) for a package."""
        while frame is not None:
            owner = self.owners.of(_file(frame))
            if owner == PROJECT:
                return _file(frame), frame.f_lineno
            if owner in (OURS, IMPORT) or (owner == PACKAGE and not packages):
                return None
            frame = frame.f_back
        return _origin.get() if packages else None


_SPECIAL: Final[dict[int, Callable[[Watch, FrameType], None]]] = {
    _INIT: Watch._begun,
    _SEED: Watch._begun,
    _CREATE: Watch._loop,
    **dict.fromkeys(_ENVIRON, Watch._environment),
    **dict.fromkeys(_RECORDERS, Watch._outside),
}


def _file(frame: FrameType) -> str:
    file = frame.f_code.co_filename
    if file == "<string>":  # what a dataclass generates calls the project's default factories
        return str(frame.f_globals.get("__file__") or file)
    return file


class _Steps(Coroutine[Any, Any, Any]):
    """A coroutine whose every step is looked at, or not."""

    def __init__(self, watch: Watch, work: Any, on: bool) -> None:
        self._watch = watch
        self._work = work
        self._on = on

    def send(self, value: Any, /) -> Any:
        before = self._watch.switch(self._on)
        try:
            return self._work.send(value)
        finally:
            self._watch.switch(before)

    def throw(self, *error: Any) -> Any:
        before = self._watch.switch(self._on)
        try:
            return self._work.throw(*error)
        finally:
            self._watch.switch(before)

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return self.send(None)


def _mine() -> Watch | None:
    """The watch that looks at this thread's code."""
    owner = getattr(sys.getprofile(), "__self__", None)
    return owner if isinstance(owner, Watch) else None


def _around(call: Coroutine[Any, Any, Any]) -> Any:
    watch = _mine()
    return call if watch is None else _Steps(watch, call, False)


def _aside() -> Any:
    profile = sys.getprofile()
    if not isinstance(getattr(profile, "__self__", None), Watch):
        return None
    sync.set_profile(None)
    return profile


_lock: Final = threading.Lock()
_active: Final[list[Watch]] = []
_armed = False
_hearing = threading.local()


def _arm() -> None:
    global _armed
    if not _armed:
        _armed = True
        sys.addaudithook(_hook)  # there is no way to take it away again: it looks at _active first


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not _active or event not in _EVENTS or getattr(_hearing, "on", False):
        return
    _hearing.on = True  # what looks may make events itself
    try:
        for watch in tuple(_active):
            watch.heard(event, args)
    finally:
        _hearing.on = False
