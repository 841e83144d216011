"""Code that goes on after its cell has ended: not before a test says so, however long the machine takes for the cell."""

from __future__ import annotations

import time

from lllm.sandbox import JupyterSession


def later(call: str, number: int = 1) -> str:
    """Source that begins a thread, which waits for `go` and then calls something: `print('late')`."""
    return (
        "import pathlib, threading, time\n"
        f"def later_{number}():\n"
        f"    while not pathlib.Path('go-{number}').exists(): time.sleep(0.01)\n"
        f"    {call}\n"
        f"threading.Thread(target=later_{number}).start()\n"
    )


def go(notebook: JupyterSession, number: int = 1) -> None:
    """Lets the thread of a cell that has ended go on."""
    notebook.put(f"go-{number}", "")


def until_late(notebook: JupyterSession) -> None:
    """Waits for output after the end of a cell."""
    end = time.monotonic() + 60
    while not (notebook._engine and notebook._engine._late):
        assert time.monotonic() < end
        time.sleep(0.01)
