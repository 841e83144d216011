"""`import lllm` is light: nothing of others, nothing that takes time, and every name loads on first touch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lllm

ROOT = Path(__file__).parent.parent
FOREIGN = (
    "def foreign(): return sorted({name.partition('.')[0] for name in sys.modules}"
    " - set(sys.stdlib_module_names) - {'__main__', 'lllm'} - before)\n"
)


def python(program: str, *flags: str) -> str:
    head = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    # what a site's own path files load (an editable install's finder) was there before
    head += "before = {name.partition('.')[0] for name in sys.modules}\n" + FOREIGN
    done = subprocess.run(
        [sys.executable, *flags, "-c", head + program], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("flags", [(), ("-S", "-I")])
def test_importing_loads_nothing_of_others(flags: tuple[str, ...]) -> None:
    assert python("import lllm; print(*foreign())", *flags) == ""


def test_importing_loads_nothing_that_takes_time() -> None:
    slow = (
        "asyncio importlib.metadata inspect json logging pathlib sqlite3 threading typing_extensions".split()
    )
    program = f"early = set(sys.modules); import lllm; print(*(set({slow!r}) & (set(sys.modules) - early)))"
    assert python(program, "-S", "-I") == ""


def test_importing_leaves_nothing_behind(tmp_path: Path) -> None:
    program = (
        f"import os, threading; os.chdir({str(tmp_path)!r}); import lllm\n"
        "assert threading.active_count() == 1; print(os.listdir())"
    )
    assert python(program) == "[]"


def test_each_name_can_be_the_first_that_is_touched() -> None:
    # one interpreter, from which the package is dropped every time: one per name would take a minute
    program = """
import lllm
names = [*lllm.__all__, "errors", "llm", "models", "log", "config", "const", "ports"]
for name in names:
    for module in [key for key in sys.modules if key.partition(".")[0] == "lllm"]:
        del sys.modules[module]
    import lllm
    assert getattr(lllm, name) is not None, name
    assert getattr(lllm, name) is getattr(lllm, name), name
print(len(names))
"""
    assert int(python(program)) > 40


def test_touching_every_name_in_one_interpreter_loads_nothing_of_others() -> None:
    program = "import lllm\nfor name in lllm.__all__: getattr(lllm, name)\nprint(*foreign())"
    assert set(python(program).split()) <= {"yaml", "_yaml", "orjson", "dotenv"}


def test_the_version_loads_neither_typer_nor_rich() -> None:
    program = "import lllm.cli; lllm.cli.main(['--version']); print(*foreign())"
    assert python(program).splitlines() == [f"lllm {lllm.__version__}", ""][:1]
