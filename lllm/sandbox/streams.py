"""The streams of a kernel: what its code and its child processes write comes whole and in time.

The text of this file runs in the kernel, without lllm. ipykernel has made pipes of the descriptors 1 and 2, which a thread each
reads: a thousand bytes at a time, so that characters of several bytes come apart, and whenever it is its turn, which may be
after the end of the cell. The Reader takes its place.
"""

from __future__ import annotations

import codecs
import contextvars
import os
import select
import sys
import threading
import types
from contextlib import suppress
from typing import Any, Final

NAME: Final = "_lllm_streams"
"""Of the module in the kernel."""

BYTES: Final = 2**20
"""What a pipe holds at most."""

MESSAGES: Final = 20_000
"""Outputs that wait for lllm; by default 1,000."""

SECONDS: Final = 5.0
"""Time limit for what the thread is doing when a stream is flushed."""


class Reader:
    """Reads the pipe of a stream: in a thread, and whenever the stream is flushed, as ipykernel does at the end of a cell.

    Args:
        stream: an `ipykernel.iostream.OutStream` to whose pipe nothing was written yet.

    Raises:
        AttributeError: it is another kind of stream, and stays as it was.
    """

    def __init__(self, stream: Any) -> None:
        self._pipe, old = stream._fid, stream.watch_fd_thread
        if not stream._should_watch or self._pipe is None:
            raise AttributeError("it reads no pipe")
        self._stream, self._send, self._flush = stream, stream._flush, stream.flush
        self._sending: list[None] = []
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        stream._should_watch = False
        os.write(stream._original_stdstream_fd, b"\0")  # the old thread looks, and ends
        old.join()
        os.set_blocking(self._pipe, False)
        stream._should_watch = True
        stream.flush, stream._flush = self.flush, self.send
        stream.watch_fd_thread = threading.Thread(target=self._watch, daemon=True)
        stream.watch_fd_thread.start()

    def _watch(self) -> None:
        ready = select.poll()
        ready.register(self._pipe, select.POLLIN)
        while ready.poll() and self._stream._should_watch:
            with self._lock:
                if not self._read():
                    return

    def _read(self) -> bool:
        """Takes all that is in the pipe, under the lock. False where nothing will come any more."""
        try:
            data = os.read(self._pipe, BYTES)
        except BlockingIOError:
            return True
        if text := self._decode(data):
            with suppress(Exception):  # code may have broken the stream; who writes to the pipe must not wait
                contextvars.Context().run(self._stream.write, text)  # it belongs to the cell that runs
        return bool(data)

    def flush(self) -> None:
        """Flushes the stream, with all that was written to the pipe before."""
        if os.getpid() == self._pid and self._lock.acquire(
            timeout=SECONDS
        ):  # a fork has a lock that nobody releases
            try:
                self._read()
            finally:
                self._lock.release()
        # a stream is flushed six times in a cell that prints nothing, and each time the thread that sends is waited for
        if self._stream._buffers or self._sending:
            self._flush()

    def send(self) -> None:
        """Sends what the stream has gathered."""
        self._sending.append(None)
        try:
            self._send()
        finally:
            self._sending.pop()


def begin() -> None:
    """Makes the kernel lead a group of processes, so that an interrupt also ends those which a cell waits for; and reads its
    streams. Does nothing the second time."""
    if NAME in sys.modules:
        return
    sys.modules[NAME] = types.ModuleType(NAME)
    if os.getpgid(0) != os.getpid():
        os.setpgid(0, 0)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):
            Reader(stream)
    with suppress(ImportError, AttributeError):
        _set_up()


def _set_up() -> None:
    """Has more messages wait for an lllm that is busy: ZMQ drops those that are too many, and outputs would be lost. And none
    of the pauses that ipykernel makes before each reply, for clients that do not wait for the end of outputs."""
    import zmq
    from ipykernel.kernelapp import IPKernelApp

    app = IPKernelApp.instance()
    app.kernel._execute_sleep = 0
    thread = app.iopub_thread
    thread.schedule(lambda: thread.socket.setsockopt(zmq.SNDHWM, MESSAGES))  # in the thread that may touch it


if __name__ == NAME:
    begin()
