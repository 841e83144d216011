"""Writes the lock: exact versions and hashes of all that this checkout's commands install.

    make lock                                           writes locks/ anew, the newest of what pyproject.toml allows
    python scripts/lock.py --newest FOLDER              the same in another folder, for `make test-newest`
    python scripts/lock.py --lowest FOLDER              the lowest of it, for `make test-lowest`

Three files are written, for `pip install --require-hashes`: local.txt (`make demo`), dev.txt (`make test`, `make lint`)
and compiled.txt (what is compiled, with its own flags). They serve Linux and macOS, Python 3.11 and later. torch and what
comes along with a build of it for a GPU are in none of them: see locks/torch.txt.

Needs the package uv. Reads the index that uv is configured for.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
LOCKS: Final = ROOT / "locks"
COMPILED: Final = "llama-cpp-python"
BUILDS: Final = ("editables>=0.5",)
"""Beside what pyproject.toml says builds this package: nothing is fetched while it is built."""
COMPILES: Final = ("scikit-build-core[pyproject]>=0.9.2", "cmake>=3.21", "ninja>=1.11.1")
"""What builds llama-cpp-python."""
LEFT_OUT: Final = re.compile(r"(torch|triton|nvidia-.*|cuda-.*)\Z")
"""Packages of the machine's own build of torch."""
HEAD: Final = "# Written by `make lock`. Do not edit.\n"


def entries(text: str) -> dict[str, str]:
    """A compiled requirements file as its entries by name, each with its hashes and the comments that follow it."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines(keepends=True):
        if match := re.match(r"([A-Za-z0-9][\w.-]*)==", line):
            name = match[1]
        if name:
            found[name] = found.get(name, "") + line
    return found


def compile_lock(extra: str, *tools: str, options: Sequence[str | Path]) -> dict[str, str]:
    """Entries of the lock for this package with an extra, and for tools beside it."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes"),
            *("--python-version", "3.11", "--fork-strategy", "fewest", "--no-header", *map(str, options)),
            *("--constraint", "locks/torch.txt", "--extra", extra, "pyproject.toml", "-"),
        ],
        cwd=ROOT,
        input="\n".join(tools),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return entries(done.stdout)


def write(path: Path, found: dict[str, str]) -> None:
    path.write_text(HEAD + "".join(found.values()), encoding="utf-8")
    print(f"{os.path.relpath(path)}: {len(found)} packages", file=sys.stderr)


def lock(folder: Path, *, lowest: bool = False) -> None:
    """Writes the three files. Raises CalledProcessError where uv finds no solution; it says why itself."""
    folder.mkdir(parents=True, exist_ok=True)
    dev, local, compiled = (folder / name for name in ("dev.txt", "local.txt", "compiled.txt"))
    tools, options = (*_builds(), *COMPILES), ("--upgrade",)
    if lowest:  # of what is tested, which the tools that build it are not
        tools, options = _locked(tools), ("--resolution", "lowest-direct")
    every = compile_lock("dev", *tools, options=options)
    write(compiled, {COMPILED: every.pop(COMPILED)})
    write(dev, {name: entry for name, entry in every.items() if not LEFT_OUT.match(name)})
    if not lowest:
        write(local, compile_lock("local", *_builds(), options=("--constraint", dev)))


def _builds() -> tuple[str, ...]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return (*project["build-system"]["requires"], *BUILDS)


def _locked(tools: Iterable[str]) -> tuple[str, ...]:
    """The same tools in the versions of the lock."""
    names = {re.split(r"[^\w.-]", tool, maxsplit=1)[0] for tool in tools}
    found = entries((LOCKS / "dev.txt").read_text(encoding="utf-8"))
    return tuple(found[name].split(" ", 1)[0] for name in sorted(names))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=LOCKS)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--newest", action="store_true", help="the newest versions that pyproject.toml allows (this is so)"
    )
    kind.add_argument("--lowest", action="store_true", help="the lowest versions that pyproject.toml allows")
    given = parser.parse_args()
    lock(given.folder.resolve(), lowest=given.lowest)


if __name__ == "__main__":
    main()
