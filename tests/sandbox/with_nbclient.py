"""Runs cells by nbclient, in a process of its own: `python -m tests.sandbox.with_nbclient < sources.json > cells.json`.

Apart, because nbclient takes over signals, event loops and sockets of the process that it is in.
"""

import asyncio
import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import Any

SECONDS = 120
"""For a cell. A missed reply is a failure then, and does not hang."""


def begin(sources: list[str]) -> "subprocess.Popen[str]":
    """Starts it. The kernelspec must be installed where JUPYTER_PATH says."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(sources))
    process.stdin.close()
    process.stdin = None
    return process


def cells(process: "subprocess.Popen[str]") -> list[Any]:
    """The cells, once all have run."""
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    found: list[Any] = json.loads(out)
    return found


def main() -> None:
    """Runs the cells. After one with a thread that waits for it (see `late`) it lets that go on, for a second."""
    from jupyter_client.provisioning.factory import KernelProvisionerFactory
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    from lllm.sandbox import provisioner, streams
    from lllm.sandbox.inside import code_of

    group = KernelProvisionerFactory.GROUP_NAME
    entry = EntryPoint(provisioner.NAME, "lllm.sandbox.provisioner:Provisioner", group)
    KernelProvisionerFactory.instance().provisioners[provisioner.NAME] = entry
    notebook = new_notebook(cells=[new_code_cell(source) for source in json.load(sys.stdin)])

    async def pause(cell: Any, **_: Any) -> None:
        if "later_1" in cell["source"]:
            (client.km.provisioner._folder / "work" / "go-1").touch()
            await asyncio.sleep(1)

    async def begin(**_: Any) -> None:
        # as in our sessions: on a busy machine the queue of a kernel has no room for all outputs
        client.kc.execute(code_of(streams), silent=True, store_history=False)

    client = NotebookClient(
        notebook,
        kernel_name=provisioner.NAME,
        allow_errors=True,
        coalesce_streams=True,
        timeout=SECONDS,
        on_notebook_start=begin,
        on_cell_executed=pause,
    )
    client.execute()
    sys.stdout.write(json.dumps(notebook.cells))


if __name__ == "__main__":
    main()
