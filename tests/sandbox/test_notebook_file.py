"""Notebooks as files: operations on cells, other versions, what is no notebook, and saving that is whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

import lllm
from lllm import MemoryLog, replay_session
from lllm.errors import ConfigError, LLMError, SandboxError, UnknownNameError
from lllm.sandbox import JupyterSession
from lllm.sandbox.notebook import Notebook

CODE: dict[str, Any] = {
    "cell_type": "code",
    "id": "a",
    "metadata": {},
    "source": ["x = 1\n", "x"],
    "outputs": [{"output_type": "stream", "name": "stdout", "text": ["one\n", "two"]}],
    "execution_count": 3,
}
WHOLE: dict[str, Any] = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [CODE]}
THIRD = {
    "nbformat": 3,
    "nbformat_minor": 0,
    "metadata": {"name": ""},
    "worksheets": [
        {
            "metadata": {},
            "cells": [
                {
                    "cell_type": "code",
                    "input": "1+1",
                    "language": "python",
                    "metadata": {},
                    "collapsed": False,
                    "prompt_number": 1,
                    "outputs": [{"output_type": "pyout", "prompt_number": 1, "metadata": {}, "text": "2"}],
                },
                {"cell_type": "heading", "level": 2, "source": "Head", "metadata": {}},
            ],
        }
    ],
}


def sources(notebook: JupyterSession) -> list[str]:
    return [cell["source"] for cell in notebook.get_cells()]


@pytest.fixture
def three(no_engine: None) -> JupyterSession:
    notebook = JupyterSession()
    for source in ("one", "two", "three"):
        notebook.append_code_cell(source)
    return notebook


def test_operations(three: JupyterSession) -> None:
    assert three.insert_cell(1, "# between", "markdown") == 1
    assert three.insert_cell(4, "raw", "raw") == 4
    assert three.append_markdown_cell("end") == 5
    assert sources(three) == ["one", "# between", "two", "three", "raw", "end"]
    three.overwrite_cell(-1, "END")
    three.overwrite_cell("cell-1", "ONE")
    three.delete_cells([0, 1, "cell-6", -2])
    assert sources(three) == ["two", "three"]
    three.delete_cells("cell-2")
    three.delete_cells(0)
    assert sources(three) == []


def test_ids_are_not_used_again(three: JupyterSession) -> None:
    three.delete_cells([1, 2])
    three.append_code_cell("new")
    assert [cell["id"] for cell in three.get_cells()] == ["cell-1", "cell-4"]


def test_copies_are_copies(three: JupyterSession) -> None:
    three.get_cells()[0]["source"] = "changed"
    three.to_dict()["cells"].clear()
    assert sources(three) == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("do", "error", "words"),
    [
        (
            lambda n: n.insert_cell(9, "x"),
            ConfigError,
            "there is no cell 9: the notebook has 3 cells, from 0",
        ),
        (
            lambda n: n.insert_cell(0, "x", "heading"),
            ConfigError,
            "must be one of code, markdown, raw, got 'heading'",
        ),
        (lambda n: n.insert_cell(True, "x"), ConfigError, "named by its place or its id, got True"),
        (lambda n: n.append_code_cell(5), ConfigError, "source of a cell must be text, got int"),
        (lambda n: n.overwrite_cell("cell-9", "x"), UnknownNameError, "cell-9"),
        (lambda n: n.overwrite_cell(0, None), ConfigError, "must be text, got NoneType"),
        (lambda n: n.delete_cells([0, 7]), ConfigError, "there is no cell 7"),
        (lambda n: n.delete_cells(None), ConfigError, "got None"),
        (lambda n: n.delete_cells([None]), ConfigError, "got None"),
        (lambda n: n.run_cell(3), ConfigError, "there is no cell 3"),
        (lambda n: n.run_cell("x"), UnknownNameError, "x"),
        (lambda n: n.run_cell(1.0), ConfigError, "got 1.0"),
        (lambda n: n.get("missing"), SandboxError, "there is no file 'missing'"),
        (lambda n: n.put("../x", b""), SandboxError, "is not a path in the working folder"),
        (lambda n: n.put("/etc/x", b""), SandboxError, "is not a path in the working folder"),
        (lambda n: n.put("a//b", b""), SandboxError, "is not a path in the working folder"),
        (lambda n: n.put("a\0b", b""), SandboxError, "is not a path in the working folder"),
        (lambda n: n.put("\ud800", b""), SandboxError, "is not a path in the working folder"),
        (lambda n: n.put("", b""), SandboxError, "is not a path in the working folder"),
        (lambda n: n.put("x", 5), ConfigError, "a file must be bytes or text, got int"),
        (lambda n: n.put("x", bytes(17 * 2**20)), SandboxError, "at most 16,777,216 can be put"),
    ],
)
def test_bad_input_is_refused(three: JupyterSession, do: Any, error: type[LLMError], words: str) -> None:
    with pytest.raises(error) as caught:
        do(three)
    assert words in str(caught.value)
    assert sources(three) == ["one", "two", "three"]
    assert three.files == []


def test_markdown_does_not_run(three: JupyterSession) -> None:
    place = three.append_markdown_cell("text")
    with pytest.raises(ConfigError, match="is a markdown cell, which does not run"):
        three.run_cell(place)


@pytest.mark.parametrize("name", ["", ".x", "a/b", "a\\b", "a\0", "x" * 101, "a\nb", 5, None])
def test_bad_names(name: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be the name"):
        JupyterSession(name, tmp_path)


# --- reading


def test_loading_runs_nothing(no_engine: None) -> None:
    notebook = JupyterSession.from_dict({**WHOLE, "cells": [{**CODE, "source": "raise SystemExit"}]})
    assert notebook.get_cells()[0]["outputs"][0]["text"] == "one\ntwo"
    again = JupyterSession.from_dict(notebook.to_dict())
    assert again.to_dict() == notebook.to_dict()
    nbformat.validate(again.to_dict())


def test_version_3_is_upgraded(no_engine: None) -> None:
    first, second = (JupyterSession.from_dict(THIRD).get_cells() for _ in range(2))
    assert [(cell["cell_type"], cell["source"]) for cell in first] == [
        ("code", "1+1"),
        ("markdown", "## Head"),
    ]
    assert first[0]["outputs"][0]["data"] == {"text/plain": "2"}
    assert first == second  # ids that are drawn would make a replay differ


def test_two_equal_ids(no_engine: None) -> None:
    notebook = JupyterSession.from_dict({**WHOLE, "cells": [CODE, CODE, {**CODE, "id": "cell-1"}]})
    assert [cell["id"] for cell in notebook.get_cells()] == ["a", "cell-2", "cell-1"]
    notebook.append_code_cell("new")
    assert notebook.get_cells()[-1]["id"] == "cell-3"


@pytest.mark.parametrize(
    "bad",
    [
        [],
        None,
        "text",
        {},
        {"cells": []},
        {**WHOLE, "nbformat": 5},
        {**WHOLE, "nbformat": True},
        {**WHOLE, "nbformat": "4"},
        {**WHOLE, "cells": "x"},
        {**WHOLE, "cells": [5]},
        {**WHOLE, "cells": [{"cell_type": "code"}]},
        {**WHOLE, "cells": [{**CODE, "id": "../../etc/passwd"}]},
        {**WHOLE, "cells": [{**CODE, "outputs": [{"output_type": "x"}]}]},
        {**WHOLE, "cells": [{**CODE, "source": 5}]},
    ],
)
def test_what_is_no_notebook(bad: Any, tmp_path: Path, no_engine: None) -> None:
    with pytest.raises(ConfigError, match="is not a notebook"):
        JupyterSession.from_dict(bad)
    file = tmp_path / "nb.ipynb"
    file.write_text(json.dumps(bad))
    with pytest.raises(ConfigError) as caught:
        JupyterSession("nb", tmp_path)
    assert f"'{file}' is not a notebook" in str(caught.value)
    assert file.read_text() == json.dumps(bad)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\x00", '{"nbformat": 4'])
def test_broken_files(text: str, tmp_path: Path, no_engine: None) -> None:
    (tmp_path / "nb.ipynb").write_text(text)
    with pytest.raises(ConfigError, match="is not a notebook"):
        JupyterSession("nb", tmp_path)


def test_file_that_is_not_text(tmp_path: Path, no_engine: None) -> None:
    (tmp_path / "nb.ipynb").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"nb\.ipynb"):
        JupyterSession("nb", tmp_path)
    (tmp_path / "other.ipynb").mkdir()
    with pytest.raises(ConfigError, match=r"other\.ipynb"):
        JupyterSession("other", tmp_path)


def test_extra_keys_and_odd_values_are_kept(no_engine: None) -> None:
    odd = {
        **WHOLE,
        "metadata": {"own": {"n": float("nan")}, "s": "\ud800"},
        "cells": [{**CODE, "source": "\ud800"}],
    }
    found = JupyterSession.from_dict(odd).to_dict()
    assert found["metadata"]["own"] == {"n": "nan"}
    assert found["cells"][0]["source"] == "\ufffd"
    nbformat.validate(found)


def test_huge_notebook(tmp_path: Path, no_engine: None) -> None:
    cells = [{**CODE, "id": f"c{n}", "source": "x" * 1_000} for n in range(2_000)]
    notebook = JupyterSession.from_dict({**WHOLE, "cells": cells}, "nb", dir=tmp_path)
    notebook.save()
    assert JupyterSession("nb", tmp_path).to_dict() == notebook.to_dict()


def test_notebook_of_the_file_is_recorded(tmp_path: Path) -> None:
    """A replay begins with the cells that the file had then."""
    (tmp_path / "nb.ipynb").write_text(json.dumps(WHOLE))
    store = MemoryLog()

    def entry() -> Any:
        with lllm.record("n", store=store), JupyterSession("nb", tmp_path) as notebook:
            notebook.run_cell(0)
            notebook.append_code_cell("y = 2")
            return sources(notebook)

    assert entry() == ["x = 1\nx", "y = 2"]
    assert len(json.loads((tmp_path / "nb.ipynb").read_text())["cells"]) == 2
    (tmp_path / "nb.ipynb").write_text(json.dumps({**WHOLE, "cells": []}))
    report = replay_session(store.sessions(1)[0].id, store=store, entry=entry)
    assert report.verified, report


# --- writing


def test_saved_notebook_is_valid_and_reads_the_same(tmp_path: Path) -> None:
    with JupyterSession("nb", tmp_path) as notebook:
        notebook.append_markdown_cell("# ü 世界 🎈")
        notebook.run_cell(notebook.append_code_cell("print('a\\x00b\\u2028c'); {'x': float('nan')}"))
        notebook.run_cell(notebook.append_code_cell("1 / 0"))
    text = (tmp_path / "nb.ipynb").read_text()
    nbformat.validate(nbformat.reads(text, 4))
    assert JupyterSession("nb", tmp_path).to_dict() == notebook.to_dict() == json.loads(text)
    assert [path.name for path in tmp_path.iterdir()] == ["nb.ipynb"]


def test_without_a_folder_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_engine: None
) -> None:
    monkeypatch.chdir(tmp_path)
    with JupyterSession() as notebook:
        notebook.append_code_cell("1")
        notebook.save()
    assert list(tmp_path.iterdir()) == []


FULL = """
import resource, sys
from pathlib import Path
from lllm.errors import SandboxError
from lllm.sandbox import JupyterSession
notebook = JupyterSession("nb", sys.argv[1])
notebook.append_markdown_cell("x" * 100_000)
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
try:
    notebook.save()
except SandboxError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
notebook.save()
"""


def test_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "nb.ipynb").write_text(json.dumps(WHOLE))
    script = FULL.rsplit("resource.setrlimit", 1)[0]
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert "nb.ipynb' cannot be written: File too large" in done.stdout, done.stderr
    assert json.loads((tmp_path / "nb.ipynb").read_text()) == WHOLE
    assert [path.name for path in tmp_path.iterdir()] == ["nb.ipynb"]


def test_cell_whose_notebook_cannot_be_written_has_its_result(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    notebook = JupyterSession("nb", tmp_path / "file" / "below")
    assert notebook.run_cell(notebook.append_code_cell("open('a', 'w').write('x'); 1 + 1")).text == "2"
    assert "cannot be written" in caplog.text
    assert "cannot be copied" in caplog.text
    with pytest.raises(SandboxError, match="cannot be written"):
        notebook.save()
    with pytest.raises(SandboxError, match="cannot be written"):
        notebook.close()
    assert not notebook.alive


def test_file_keeps_its_mode_and_links(tmp_path: Path, no_engine: None) -> None:
    (tmp_path / "real.ipynb").write_text(json.dumps(WHOLE))
    os.chmod(tmp_path / "real.ipynb", 0o600)
    (tmp_path / "nb.ipynb").symlink_to("real.ipynb")
    notebook = JupyterSession("nb", tmp_path)
    notebook.append_code_cell("new")
    notebook.save()
    assert (tmp_path / "nb.ipynb").is_symlink()
    assert (tmp_path / "real.ipynb").stat().st_mode & 0o777 == 0o600
    assert len(Notebook(tmp_path / "nb.ipynb", (tmp_path / "real.ipynb").read_text()).cells) == 2


def test_tree(no_engine: None) -> None:
    notebook = JupyterSession()
    for path in ("b.txt", "a/x.csv", "a/deep/y", "a/z"):
        notebook.put(path, "1")
    assert notebook.directory_tree.splitlines() == ["a/", "  deep/", "    y", "  x.csv", "  z", "b.txt"]
    assert notebook.files == ["a/deep/y", "a/x.csv", "a/z", "b.txt"]
    assert notebook.get("b.txt") == b"1"
