"""The coding agent solves tasks with files, end to end: in the isolated tier, with a model that reads what it sees.

The checks read only files that were produced. A replay starts no kernel. The program and the kernel are killed with -9.
"""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbclient
import nbformat
import pytest
from PIL import Image

from lllm import MemoryLog, ScriptedBackend, build_agent, replay_session
from lllm.llm.coder import Coder
from lllm.log.views import load
from lllm.sandbox import JupyterSession
from lllm.sandbox.engine import Engine
from tests.sandbox.tasks import policies
from tests.sandbox.tasks.policies import Model, Task, tasks

NAMES = list(tasks())


def is_clean(files: Path) -> None:
    with (files / "clean.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["date", "region", "amount"]
    assert [row[1:] for row in rows] == [
        ["north", "1200.50"],
        ["south", "300"],
        ["north", "99.5"],
        ["west", "0.25"],
    ]
    summary = json.loads((files / "summary.json").read_text())
    assert summary == {"rows": 4, "totals": {"north": 1300.0, "south": 300.0, "west": 0.25}}


def is_joined(files: Path) -> None:
    with (files / "outliers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"order": "19", "name": "Flo", "amount": "970.5"},
        {"order": "40", "name": "Flo", "amount": "3.25"},
    ]
    assert (files / "report.md").read_text().startswith("# Outliers\n\n2 of 60 orders")


def is_parsed(files: Path) -> None:
    found = json.loads((files / "events.json").read_text())
    assert found["levels"] == {"ERROR": 4, "INFO": 36}
    events = found["events"]
    assert [event["ms"] for event in events[:6]] == [0, 3, 6, 9, None, 15]
    assert events[20]["trace"] == ["Traceback (most recent call last):", "KeyError: 'x'"]
    assert "trace" not in events[1]


def is_fitted(files: Path) -> None:
    fit = json.loads((files / "fit.json").read_text())
    assert fit["slope"] == pytest.approx(2.5, abs=0.05)
    assert fit["intercept"] == pytest.approx(1, abs=0.3)
    with Image.open(files / "fit.png") as image:
        assert image.size == (600, 400)
        counted = image.convert("RGB").getcolors(maxcolors=600 * 400)
    assert counted is not None
    colours = {colour: count for count, colour in counted}
    assert colours[(255, 255, 255)] > 100_000  # the paper
    assert colours[(255, 0, 0)] > 500  # the line
    assert colours[(0, 0, 255)] > 300  # the points


def is_programmed(files: Path) -> None:
    assert '(4, "IV")' in (files / "roman.py").read_text()
    assert "assertEqual(roman(4)" in (files / "test_roman.py").read_text()
    report = (files / "report.txt").read_text()
    assert "Ran 3 tests" in report
    assert report.rstrip().endswith("OK")
    assert not list(files.rglob("*.pyc")), "a cell that runs again would differ from the record"


CHECKS: dict[str, Callable[[Path], None]] = {
    "clean": is_clean,
    "join": is_joined,
    "parse": is_parsed,
    "fit": is_fitted,
    "program": is_programmed,
}


def put(task: Task) -> None:
    Path("data").mkdir()
    for name, text in task.files.items():
        (Path("data") / name).write_text(text)


def solve(task: Task, style: str, log: MemoryLog) -> tuple[Coder, str]:
    config = {
        "agent_type": "coder",
        "tool_style": "code" if style == "code" else "auto",
        "sandbox": {
            "files": ["data"]
        },  # in the tier `namespace`, which is required unless a file says otherwise
    }
    model = ScriptedBackend(Model(style, {task.words: task.policy}))
    system = build_agent(config, model=model, log_base=log)
    assert isinstance(system, Coder)
    return system, system(task.words)


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, no kernel can be started."""

    async def refuse(engine: Engine) -> None:
        raise AssertionError("a replay starts a kernel")

    return lambda: monkeypatch.setattr(Engine, "start", refuse)


@pytest.mark.parametrize("style", ["tools", "code"])
@pytest.mark.parametrize("name", NAMES)
def test_a_task_is_solved_and_replays(
    name: str, style: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_kernels: Callable[[], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    missing = {"tools": "n/a", "code": "--"}[style]  # the answer to the first error depends on it
    task, log = tasks(missing)[name], MemoryLog()
    put(task)
    system, answer = solve(task, style, log)
    CHECKS[name](system.notebook.parent / "files")
    id = system.session.id
    shutil.rmtree(".lllm")
    shutil.rmtree("data")
    no_kernels()
    again: list[str] = []
    replayed = replay_session(id, store=log, entry=lambda: again.append(solve(task, style, log)[1]))
    assert replayed.verified, replayed.divergence
    assert again == [answer]


def test_the_answer_to_an_error_depends_on_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: dict[str, str] = {}
    for missing in ("n/a", "?"):
        task, log = tasks(missing)["parse"], MemoryLog()
        shutil.rmtree("data", ignore_errors=True)
        put(task)
        system, _ = solve(task, "tools", log)
        is_parsed(system.notebook.parent / "files")
        first, second, *_ = [cell["source"] for cell in json.loads(system.notebook.read_text())["cells"]]
        assert missing not in first
        seen[missing] = second
    assert all(f"took == '{missing}'" in source for missing, source in seen.items())


@pytest.mark.parametrize("name", ["clean", "join", "fit"])
def test_a_person_can_rerun_the_notebook(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    task = tasks()[name]
    put(task)
    system, _ = solve(task, "tools", MemoryLog())
    written = json.loads(system.notebook.read_text())
    with JupyterSession.from_dict(written, "again", dir="again") as notebook:
        for file, text in task.files.items():
            notebook.put(f"data/{file}", text)
        assert all(notebook.run_all_cells())
        again = notebook.to_dict()
    texts = [
        [
            [
                output.get("text") or output.get("data", {}).get("text/plain")
                for output in cell["outputs"]
                if "Matplotlib is building the font cache" not in output.get("text", "")
            ]
            for cell in book["cells"]
            if "ls -l" not in cell["source"]  # the times of files
        ]
        for book in (written, again)
    ]
    assert texts[0] == texts[1]
    CHECKS[name](Path("again/files"))


def test_a_person_can_rerun_it_with_jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    task = tasks()["clean"]
    put(task)
    system, _ = solve(task, "tools", MemoryLog())
    shutil.rmtree("data")
    folder = system.notebook.parent
    book = nbformat.read(system.notebook, as_version=4)
    nbclient.NotebookClient(book, resources={"metadata": {"path": str(folder)}}).execute()
    is_clean(folder)  # the kernel of a person works where the notebook is


KIT = """
import atexit
import gc
import os

from lllm.sandbox import JupyterSession
from lllm.sandbox.engine import Engine


def kill_kernel():
    for one in gc.get_objects():
        if isinstance(one, JupyterSession) and one._engine is not None and one._engine._kernel is not None:
            one._engine._kernel.process.kill()  # SIGKILL
            open("killed", "a").write("kernel\\n")


die = before


def before(step):
    die(step)
    if os.environ.get("KERNEL_DIES_AT") == str(step):
        kill_kernel()


if "NO_KERNEL" in os.environ:

    async def refuse(engine):
        raise AssertionError("a replay starts a kernel")

    Engine.start = refuse

install()
"""


def lllm(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "lllm", *words],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(("name", "style"), [*((name, "tools") for name in NAMES), ("parse", "code")])
def test_a_task_survives_kill_9(
    name: str, style: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program dies between two cells, and is resumed; then its kernel dies; a replay starts none."""
    monkeypatch.chdir(tmp_path)
    task = tasks()[name]
    put(task)
    Path("kit").mkdir()
    Path("kit/policy_kit.py").write_text(Path(policies.__file__).read_text() + KIT)
    Path("lllm.toml").write_text('[discovery]\ntools = ["kit"]\n[run]\ndefault = "coder.yaml"\n')
    how = "auto" if style == "tools" else "code"
    Path("coder.yaml").write_text(
        f"agent_type: coder\nmodel: policy/m\ntool_style: {how}\nsandbox: {{files: [data]}}\n"
    )
    monkeypatch.setenv("STYLE", style)
    assert lllm("run", task.words, DIES_AT="2").returncode == -signal.SIGKILL
    resumed = lllm("resume", "--last", KERNEL_DIES_AT="3")
    assert resumed.returncode == 0, resumed.stderr
    [files] = Path(".lllm/notebooks").glob("*/files")
    CHECKS[name](files)
    killed = Path("killed").read_text() if Path("killed").exists() else ""
    assert killed == "kernel\n"
    replayed = lllm("replay", "--last", NO_KERNEL="1")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


def test_no_key_and_no_network_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    task, log = tasks()["clean"], MemoryLog()
    put(task)
    system, _ = solve(task, "code", log)
    kinds = [event["data"].get("kind") for event in load(log, system.session.id)]
    assert "cell" in kinds
    assert "copy files" in kinds
