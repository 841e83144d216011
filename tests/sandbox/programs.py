"""Programs with notebooks, and a process that runs one and is killed within it: `python -m tests.sandbox.programs ...`."""

import hashlib
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import lllm
from lllm.log.sqlite import SQLiteLog
from lllm.sandbox import CellResult, JupyterSession
from lllm.session import Session

CELLS = (
    "rows = [int(line) for line in open('in.csv')]\nsum(rows)",
    "open('count.txt', 'a').write('ran\\n')\nx = len(rows)\nprint('x is', x)",
    "import os; os.makedirs('data', exist_ok=True)\nopen('data/out.txt', 'w').write(str(x))\n"
    "open('count.txt', 'a').write('ran\\n');",
    "x += 1\nx, open('count.txt').read().count('ran')",
)
FILES = {"count.txt": "ran\nran\n", "data/out.txt": "3", "in.csv": "1\n2\n3\n"}


LISTING = """\
import os
for top, folders, files in sorted(os.walk('.')):
    for name in sorted(folders + files):
        path = os.path.join(top, name)[2:]
        if os.path.islink(path):
            print(path, '->', os.readlink(path))
        elif os.path.isfile(path) and os.access(path, os.X_OK):
            print(path + '*')
        else:
            print(path)
"""
"""Prints the working folder with its modes, links and empty folders."""

FOLDER_CELLS = (
    "import os\nopen('run.sh', 'w').write('#!/bin/sh\\necho ran\\n'); os.chmod('run.sh', 0o755)\n"
    "open('a.txt', 'w').write('a'); os.symlink('a.txt', 'link'); os.makedirs('deep/empty')\n"
    "open('made', 'w').write('m'); os.mkdir('gone');",
    "os.chmod('made', 0o755); os.rmdir('gone'); os.symlink('../a.txt', 'deep/up')\n"
    "os.symlink('/etc/passwd', 'out'); os.mkfifo('pipe');",
    LISTING,
)


def folders(store: Any, resume: str = "rerun") -> list[CellResult]:
    """Runs FOLDER_CELLS. An older version recorded it, too: `recorded/folders-0.lllm`."""
    with lllm.record("folders", store=store), JupyterSession(resume=resume) as notebook:
        return [notebook.run_cell(notebook.append_code_cell(source)) for source in FOLDER_CELLS]


class Came(list[CellResult]):
    """The results of the cells, and the files as the program saw them at its end."""

    files: dict[str, bytes]


def program(folder: Path, store: Any, resume: str = "rerun") -> Came:
    came = Came()
    with lllm.record("notebook", store=store), JupyterSession("nb", folder, resume=resume) as notebook:
        notebook.append_markdown_cell("# Rows")
        notebook.put("in.csv", "1\n2\n3\n")
        for source in CELLS:
            came.append(notebook.run_cell(notebook.append_code_cell(source)))
        came.files = {path: notebook.get(path) for path in notebook.files}
    return came


def plain(results: list[CellResult]) -> list[tuple[Any, ...]]:
    """What must be the same however often the program was stopped."""
    return [(one.cell, one.status, one.number, one.outputs, dict(one.changed)) for one in results]


def hashes(folder: Path) -> dict[str, str]:
    """The files of a folder, by hash; notebooks without the time that is in no file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def killed_before_event(number: int) -> None:
    """Kills this process before it writes its event of this number."""
    write, count = Session.write, 0

    def counted(self: Session, *args: Any, **more: Any) -> Any:
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return write(self, *args, **more)

    setattr(Session, "write", counted)  # noqa: B010  its type is another


def killed_within(cell: str) -> None:
    """Kills this process while a cell runs."""
    from lllm.sandbox.kernel import Kernel

    execute = Kernel.execute

    async def then_dies(self: Kernel, code: str, *args: Any, **more: Any) -> Any:
        if code == cell:
            os.kill(os.getpid(), signal.SIGKILL)
        return await execute(self, code, *args, **more)

    Kernel.execute = then_dies  # type: ignore[method-assign]


if __name__ == "__main__":
    folder, where = Path(sys.argv[1]), sys.argv[2]
    store = SQLiteLog(folder / "log.db")
    if where.isdigit():
        killed_before_event(int(where))
    else:
        killed_within(where)
    partial(program, folder / "out", store)()
