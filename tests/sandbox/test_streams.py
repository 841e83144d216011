"""What a kernel's processes write is read whole, and what it publishes is heard to the end, however slow the machine is."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lllm.sandbox import JupyterSession, streams
from lllm.sandbox import kernel as kernels
from lllm.sandbox.kernel import Kernel
from tests.sandbox.tier import needs_namespace


class Stream:
    """One of ipykernel, as far as it reads a pipe and sends what it has gathered. It takes its time."""

    def __init__(self) -> None:
        self._fid, self.pipe = os.pipe()
        self._original_stdstream_fd = self.pipe
        self._should_watch = True
        self._buffers: list[str] = []
        self._sender = threading.Lock()
        self.sent = ""
        self.watch_fd_thread = threading.Thread(target=self._watch, daemon=True)
        self.watch_fd_thread.start()

    def _watch(self) -> None:
        while os.read(self._fid, 1000) and self._should_watch:
            pass

    def write(self, text: str) -> None:
        time.sleep(0.01)
        self._buffers.append(text)

    def flush(self) -> None:
        self._flush()

    def _flush(self) -> None:
        with self._sender:
            buffers, self._buffers = self._buffers, []
            time.sleep(0.01)
            self.sent += "".join(buffers)

    def close(self) -> None:
        os.close(self.pipe)
        self.watch_fd_thread.join()
        os.close(self._fid)


@pytest.fixture
def stream() -> Iterator[Stream]:
    made = Stream()
    yield made
    made.close()


def test_what_was_written_before_is_flushed(stream: Stream) -> None:
    streams.Reader(stream)
    for n in range(50):
        os.write(stream.pipe, f"{n}\n".encode())
        stream.flush()
        assert stream.sent.endswith(f"\n{n}\n"[n == 0 :])
    assert stream.sent == "".join(f"{n}\n" for n in range(50))


def test_what_is_being_sent_is_waited_for(stream: Stream) -> None:
    streams.Reader(stream)
    for n in range(50):
        stream.write(f"{n}\n")
        sending = threading.Thread(target=stream._flush)  # as by the clock of ipykernel
        sending.start()
        stream.flush()
        assert stream.sent.endswith(f"\n{n}\n"[n == 0 :])
        sending.join()


def test_what_nobody_flushes_comes_too(stream: Stream) -> None:
    streams.Reader(stream)
    os.write(stream.pipe, b"late\n")
    end = time.monotonic() + 60
    while stream._buffers != ["late\n"]:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_pieces_make_characters(stream: Stream, size: int) -> None:
    streams.Reader(stream)
    text = "ü€ and 😀\n\0"
    for at in range(0, len(data := text.encode()), size):
        os.write(stream.pipe, data[at : at + size])
        stream.flush()
    assert stream.sent == text


def test_no_more_is_read_than_was_there(stream: Stream) -> None:
    """A process that goes on writing keeps no cell from its end."""
    streams.Reader(stream)
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            os.write(stream.pipe, b"x" * 1000)

    writing = threading.Thread(target=write)
    writing.start()
    for _ in range(5):
        stream.flush()
    done.set()
    writing.join()


def test_a_stream_that_is_broken_is_read_all_the_same(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(text: str) -> None:
        raise ValueError("I/O operation on closed file")

    monkeypatch.setattr(stream, "write", fails)
    streams.Reader(stream)
    for _ in range(3):
        os.write(stream.pipe, b"x" * 60_000)  # nearly as much as a pipe holds
        stream.flush()


def test_a_forked_process_waits_for_no_thread(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SECONDS", -1)  # without limit
    reader = streams.Reader(stream)
    reader._pid = 0
    with reader._lock:  # as of a thread that the fork has not
        flushing = threading.Thread(target=stream.flush)
        flushing.start()
        flushing.join(60)
        assert not flushing.is_alive()


def test_other_streams_stay_as_they_were() -> None:
    with pytest.raises(AttributeError):
        streams.Reader(object())


@pytest.mark.parametrize("tier", ["process", pytest.param("namespace", marks=needs_namespace)])
def test_what_child_processes_write_is_in_its_cell(tier: str) -> None:
    """Whoever starts them, and whatever the cell says."""
    module = "import subprocess\ndef greet(n): subprocess.run(['sh', '-c', f'echo {n}; echo {n} >&2'])"
    with JupyterSession(tier=tier) as notebook:
        notebook.put("helper.py", module)
        assert notebook.run_cell(notebook.append_code_cell("import helper"))
        for n in range(30):
            result = notebook.run_cell(notebook.append_code_cell(f"helper.greet({n})"))
            assert {one["name"]: one["text"] for one in result.outputs} == dict.fromkeys(
                ("stdout", "stderr"), f"{n}\n"
            )


# --- heard to the end


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., None]], None]:
    """Puts a function in the way of what a kernel publishes: it is given the real one, and what that is called with."""

    def put(function: Callable[..., None]) -> None:
        real = Kernel._published

        def instead(self: Kernel, parent: str, kind: str, content: Any) -> None:
            function(lambda: real(self, parent, kind, content), self, parent, kind, content)

        monkeypatch.setattr(Kernel, "_published", instead)

    return put


def test_outputs_that_come_late_are_waited_for(published: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that has no processor for a while has lost nothing."""

    def late(real: Callable[[], None], self: Kernel, *message: Any) -> None:
        self._loop.call_later(0.6 if started else 0, real)

    started: list[bool] = []
    published(late)
    monkeypatch.setattr(kernels, "SETTLE", 0.05)
    with JupyterSession() as notebook:
        notebook.run_cell(notebook.append_code_cell("x = 6"))
        started.append(True)
        for n in range(2):
            result = notebook.run_cell(notebook.append_code_cell(f"print(x * {n})\nimport os"))
            assert (result.status, result.alive, result.note) == ("ok", True, "")
            assert result.outputs == [{"output_type": "stream", "name": "stdout", "text": f"{6 * n}\n"}]


def test_outputs_wait_for_an_lllm_that_is_busy(published: Any) -> None:
    def busy(real: Callable[[], None], self: Kernel, parent: str, kind: str, content: Any) -> None:
        if kind == "execute_input":
            time.sleep(3)
        real()

    published(busy)
    with JupyterSession() as notebook:
        source = "from IPython.display import display\nfor n in range(5000): display(n)"
        result = notebook.run_cell(notebook.append_code_cell(source))
    assert [one["data"]["text/plain"] for one in result.outputs] == [str(n) for n in range(5000)]


def test_outputs_that_were_lost_are_noticed(published: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[str] = []

    def loses(real: Callable[[], None], self: Kernel, parent: str, kind: str, content: Any) -> None:
        if parent == self._running and lost in ([], [parent]):
            lost[:] = [parent]
        else:
            real()

    monkeypatch.setattr(kernels, "SETTLE", 0.2)
    with JupyterSession() as notebook:
        notebook.run_cell(notebook.append_code_cell("x = 6"))
        published(loses)
        result = notebook.run_cell(notebook.append_code_cell("print(x)"))
        assert (result.status, result.alive, result.outputs) == ("ok", True, [])
        assert result.note.startswith("some of its outputs are lost")
        assert result.seconds < kernels.QUIET
        assert notebook.run_cell(notebook.append_code_cell("print(x)")).text == "6"


def test_a_kernel_that_publishes_nothing_any_more_is_ended(
    published: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "SETTLE", 0.05)
    monkeypatch.setattr(kernels, "QUIET", 0.5)
    with JupyterSession() as notebook:
        notebook.run_cell(notebook.append_code_cell("x = 6"))
        published(lambda *_: None)
        result = notebook.run_cell(notebook.append_code_cell("print(x)"))
        assert (result.status, result.alive) == ("ok", False)
        assert "its outputs did not arrive any more" in result.note
