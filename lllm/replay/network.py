"""No way out: connections are refused while a kept session is checked, or while a test runs that says so."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import sys
import sysconfig
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, NamedTuple

from lllm.errors import NetworkRefused

_CONNECTS: Final = ("socket.connect", "socket.sendto", "socket.sendmsg")
_RESOLVES: Final = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyname_ex")
_LOCAL: Final = {
    # families that never leave the machine
    getattr(socket, name)
    for name in ("AF_UNIX", "AF_NETLINK")
    if hasattr(socket, name)
}
_HERE: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_LIBRARY: Final = tuple(
    {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), os.path.dirname(os.__file__)}
)


class Attempt(NamedTuple):
    """A connection that somebody wanted: to which host, and which code."""

    host: str
    place: str

    def __str__(self) -> str:
        return f"{self.host}, by {self.place}"


class Refusals:
    """What was refused while `no_network` held.

    Attributes:
        attempts: in the order in which they were made. A program may swallow the error; it stands here all the same.
    """

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []

    def error(self) -> NetworkRefused | None:
        """The error for the first attempt; None where there was none."""
        return refused(self.attempts[0]) if self.attempts else None


_lock = threading.Lock()
_active: list[Refusals] = []
_armed = False


@contextmanager
def no_network() -> Iterator[Refusals]:
    """Within, every attempt of this process to resolve a name or to connect to an address, loopback too, raises
    NetworkRefused, in whatever thread. Unix sockets work, and so does what an event loop needs for itself. Connections
    that are open already go on, and what a C library does without Python's sockets is not seen.
    """
    global _armed
    with _lock:
        if not _armed:
            sys.addaudithook(_hook)  # there is no way to take it away again: it looks at _active first
            _armed = True
        found = Refusals()
        _active.append(found)
    try:
        yield found
    finally:
        with _lock:
            _active.remove(found)


def refused(attempt: Attempt) -> NetworkRefused:
    """The error for an attempt."""
    return NetworkRefused(
        f"the network was asked for: {attempt.host}, by {attempt.place}",
        host=attempt.host,
        place=attempt.place,
        hint="What a session learns from the network belongs into a tool, whose results are recorded.",
    )


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not _active or not event.startswith("socket."):
        return
    host = _asked(event, args)
    if host is None:
        return
    attempt = Attempt(host, _place())
    for one in tuple(_active):
        one.attempts.append(attempt)
    raise refused(attempt)


def _asked(event: str, args: Sequence[Any]) -> str | None:
    """The host that an audit event wants; None where it may have it."""
    if event in _RESOLVES:
        name = _text(args[0])
        return None if name.lower() in ("", "localhost") or _numeric(name) else name
    if event not in _CONNECTS:
        return None
    sock, address = args[0], args[1]
    if address is None or sock.family in _LOCAL or _pair(sys._getframe()):
        return None
    if isinstance(address, tuple) and len(address) >= 2:
        host = _text(address[0])
        return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"
    return _text(address)


def _text(value: Any) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes | bytearray) else str(value or "")


def _numeric(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _pair(frame: FrameType | None) -> bool:
    """Whether socket.socketpair() connects its two ends: where there are no Unix sockets, over the loopback."""
    while frame is not None:
        if frame.f_code.co_name.endswith("socketpair") and frame.f_code.co_filename == socket.__file__:
            return True
        frame = frame.f_back
    return False


# --- whose code it was


def _place() -> str:
    """The innermost line of the project's own code. A name is often resolved in a thread of the event loop's: then the
    lines at which tasks wait; else the innermost line of any library."""
    stack = list(_outwards(sys._getframe(1)))
    if (own := next(filter(_own, stack), None)) is not None:
        return _line(own)
    waiting = sorted({_line(frame) for frame in _awaiting()})
    if waiting:
        return " or ".join(waiting[:3])
    foreign = (frame for frame in stack if not frame.f_code.co_filename.startswith((*_LIBRARY, _HERE)))
    return _line(next(foreign, stack[-1]))


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _own(frame: FrameType) -> bool:
    """Whether a frame is of the project: not of Python, of an installed package, or of lllm."""
    file = frame.f_code.co_filename
    if file.startswith("<") or "site-packages" in file or "dist-packages" in file:
        return False
    return not file.startswith((_HERE + os.sep, *(f"{folder}{os.sep}" for folder in _LIBRARY)))


def _line(frame: FrameType) -> str:
    file = frame.f_code.co_filename
    try:
        inside = os.path.relpath(file)
    except (ValueError, OSError):
        inside = file
    shown = os.path.basename(file) if inside.startswith("..") else inside
    return f"{shown}:{frame.f_lineno} in {frame.f_code.co_name}"


def _awaiting() -> Iterator[FrameType]:
    """Of every task of every running loop, the innermost line of the project's code."""
    for frame in list(sys._current_frames().values()):
        for above in _outwards(frame):
            loop = above.f_locals.get("self") if above.f_code.co_name == "run_forever" else None
            if isinstance(loop, asyncio.AbstractEventLoop):
                for task in asyncio.all_tasks(loop):
                    own = [frame for frame in _chain(task.get_coro()) if _own(frame)]
                    yield from own[-1:]


def _chain(waiting: Any) -> Iterator[FrameType]:
    """The frames of a suspended coroutine, from the outside in."""
    while waiting is not None:
        for kind in ("cr", "gi", "ag"):
            if (frame := getattr(waiting, f"{kind}_frame", None)) is not None:
                yield frame
                waiting = getattr(waiting, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
                break
        else:
            return
