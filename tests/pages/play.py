"""Plays one page: python play.py PAGE. Prints one JSON line per block that was run, with what it printed.

A process of its own for each page, so that a page is a program as a reader would write it; with the network cut.
"""

import contextlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def main(page: Path) -> None:
    told = sys.stdout
    reader = load(HERE / "blocks.py")
    sys.addaudithook(load(HERE.parent / "conftest.py").refuse_network)
    from lllm.config import importing

    importing.folders = lambda: iter(())  # a page has the project that it writes, and not that of this file
    sys.path.insert(0, "")  # as in `python -c` and the REPL: files that the page writes can be imported
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in reader.blocks(page):
        if block.file is not None:
            file = Path(block.file)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
            continue
        if block.language == "python":
            output, error = run(block, names)
            told.write(json.dumps({"line": block.line, "output": output, "error": error}) + "\n")
            if error:
                return
        elif block.language == "console":
            for command, _ in reader.commands(block):
                code, output = shell(command)
                told.write(
                    json.dumps({"line": block.line, "command": command, "output": output, "code": code})
                    + "\n"
                )
        told.flush()


def run(block: Any, names: dict[str, Any]) -> tuple[str, str | None]:
    """What a block prints, and its traceback if it raises. Its lines have the numbers that they have on the page."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile("\n" * (block.line - 1) + block.text, str(block.page), "exec"), names)
        except Exception:
            return printed.getvalue(), traceback.format_exc()
    return printed.getvalue(), None


def shell(command: str) -> tuple[int | None, str]:
    """Exit code and output of a command; None for one that would install something or needs the checkout."""
    words = command.split()
    if words[0] == "cd":
        os.chdir(words[1])
        return 0, ""
    if words[0] in ("make", "pip", "git", "source", "."):
        return None, ""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]))
