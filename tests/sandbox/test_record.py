"""Cells are effects: a session with a notebook replays without a kernel, resumes after a kill, and can be forked."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

import lllm
from lllm import Agent, FunctionCall, MemoryLog, ScriptedBackend, fork_session, replay_session, resume_session
from lllm.core.envelope import open_event
from lllm.errors import SandboxBroken, SandboxError
from lllm.log.export.notebook import write
from lllm.log.export.source import Source
from lllm.log.sqlite import SQLiteLog
from lllm.ports import Request
from lllm.sandbox import JupyterSession
from lllm.sync import run
from tests.replay.test_effects import cut
from tests.sandbox.late import go, later, until_late
from tests.sandbox.programs import CELLS, FILES, hashes, plain, program


def newest(store: Any) -> str:
    return str(store.sessions(1)[0].id)


def events(store: Any, session: str = "") -> list[dict[str, Any]]:
    return [open_event(body) for body in store.read(session or newest(store))]


def cells(store: Any) -> list[dict[str, Any]]:
    """The data of what cells returned."""
    return [event["data"] for event in events(store) if event["kind"] == "EffectReturned"]


def verified(store: Any, entry: Callable[[], Any]) -> bool:
    report = replay_session(newest(store), store=store, entry=entry)
    assert report.divergence is None, report
    return report.verified


# --- replay


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryLog, Path, Any]:
    store, folder = MemoryLog(), tmp_path_factory.mktemp("recorded") / "out"
    return store, folder, program(folder, store)


def test_replay_starts_no_kernel(recorded: Any, no_engine: None) -> None:
    store, folder, came = recorded
    again: list[Any] = []
    assert verified(store, lambda: again.append(program(folder, store)))
    assert plain(again[0]) == plain(came)
    assert again[0] == came
    assert again[0].files == came.files == {path: text.encode() for path, text in FILES.items()}


def test_replay_writes_nothing(recorded: Any, no_engine: None, tmp_path: Path) -> None:
    store, folder, _ = recorded
    before = hashes(folder)
    assert verified(store, lambda: program(folder, store))
    assert hashes(folder) == before
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    folder.rmdir()
    assert verified(store, lambda: program(folder, store))
    assert not folder.exists()


@pytest.mark.parametrize("closes", ["inside", "with the session", "after it", "never"])
def test_replay_writes_nothing_however_it_is_closed(closes: str, tmp_path: Path) -> None:
    store, folder = MemoryLog(), tmp_path / "out"

    def entry() -> None:
        with lllm.record("n", store=store) as session:
            notebook = JupyterSession("nb", folder)
            if closes == "with the session":
                run(session.enter(notebook))
            cell = notebook.append_code_cell("open('a.txt', 'w').write('x' * 3)\nprint('y' * 3_000_000)")
            notebook.run_cell(cell)
            if closes == "inside":
                notebook.close()
        if closes == "after it":
            notebook.close()

    entry()
    before = hashes(folder)
    assert {"nb.ipynb", "files/a.txt", "nb.outputs/cell-1.txt"} == set(before)
    (folder / "nb.ipynb").unlink()
    (folder / "nb.outputs" / "cell-1.txt").unlink()
    assert verified(store, entry)
    assert set(hashes(folder)) == {"files/a.txt"}


def test_what_changed_is_a_divergence(recorded: Any, no_engine: None) -> None:
    store, folder, _ = recorded

    def other(source: str, put: str) -> Callable[[], None]:
        def entry() -> None:
            with lllm.record("notebook", store=store), JupyterSession("nb", folder) as notebook:
                notebook.append_markdown_cell("# Rows")
                notebook.put("in.csv", put)
                notebook.run_cell(notebook.append_code_cell(source))

        return entry

    for entry in (other("1 + 1", "1\n2\n3\n"), other(CELLS[0], "1\n2\n")):
        report = replay_session(newest(store), store=store, entry=entry)
        assert report.divergence is not None


def test_images_and_long_texts_are_blobs(tmp_path: Path, no_engine: None, monkeypatch: Any) -> None:
    monkeypatch.undo()
    store = MemoryLog()
    image = (
        "import base64, zlib, struct, random\nfrom IPython.display import Image, display, JSON\n"
        "part = lambda k, d: struct.pack('>I', len(d)) + k + d + struct.pack('>I', zlib.crc32(k + d))\n"
        "random.seed(1); rows = b''.join(b'\\0' + random.randbytes(150) for _ in range(50))\n"
        "png = b'\\x89PNG\\r\\n\\x1a\\n' + part(b'IHDR', struct.pack('>IIBBBBB', 50, 50, 8, 2, 0, 0, 0)) + "
        "part(b'IDAT', zlib.compress(rows)) + part(b'IEND', b'')\n"
    )
    sources = (
        image + "display(Image(png))\nopen('plot.png', 'wb').write(png);",
        "display(Image(png)); print('z' * 50_000); display(JSON({'rows': list(range(9000)), 'x': 2.0}))",
    )

    def entry() -> Any:
        with lllm.record("n", store=store), JupyterSession() as notebook:
            results = [notebook.run_cell(notebook.append_code_cell(source)) for source in sources]
            return results, notebook.to_dict(), notebook.get("plot.png")

    results, shown, png = entry()
    assert results[1].outputs[0]["data"]["image/png"] == results[0].outputs[0]["data"]["image/png"]
    first, second = cells(store)[:2]
    assert len(first["blobs"]) == 2
    assert first["blobs"][0] == first["blobs"][1]
    assert len(str(second)) < 2_000
    assert first["blobs"][0] in second["blobs"]
    assert store.blob(first["blobs"][0]) == png
    again: list[Any] = []
    assert verified(store, lambda: again.append(entry()))
    assert again == [(results, shown, png)]


def test_many_outputs_are_one_blob() -> None:
    store = MemoryLog()

    def entry() -> Any:
        with lllm.record("n", store=store), JupyterSession() as notebook:
            source = "from IPython.display import display\nfor n in range(1000): display(n)"
            return notebook.run_cell(notebook.append_code_cell(source))

    came = entry()
    assert len(came.outputs) == 1000
    assert len(str(cells(store)[0])) < 2_000
    again: list[Any] = []
    assert verified(store, lambda: again.append(entry()))
    assert again == [came]


def test_secrets_are_in_no_output_nor_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = "sk-canary-0123456789abcdef"
    monkeypatch.setenv("OWN_API_KEY", secret)
    store = MemoryLog()
    sources = (
        f"open('a.txt', 'w').write('key={secret}'); print('key', '{secret}')",
        "open('b.bin', 'wb').write(b'\\0' + open('a.txt', 'rb').read())\nopen('a.txt').read()",
        f"raise ValueError('{secret}' * 1000)",
    )

    def entry() -> Any:
        with lllm.record("n", store=store), JupyterSession("nb", tmp_path / "out") as notebook:
            texts = [notebook.run_cell(notebook.append_code_cell(source)) for source in sources]
            return texts, [notebook.get(path) for path in notebook.files]

    live = entry()
    assert secret not in str(live)
    assert secret.encode() not in live[1][1]
    everything = list(store.read(newest(store)))
    for data in cells(store):
        everything += [
            store.blob(digest) for digest in (*data.get("blobs", ()), *filter(None, [data.get("blob")]))
        ]
    everything += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not [one for one in everything if secret.encode() in bytes(one)]
    again: list[Any] = []
    assert verified(store, lambda: again.append(entry()))
    assert again == [live]
    # run again in a resumed session, the files are the same
    session = newest(store)
    at = next(e["seq"] for e in events(store) if e["kind"] == "EffectRequested" and e["data"]["n"] == 4)
    resumed = resume_session(session, store=cut(store, session, at), entry=entry)
    assert resumed.result[1] == live[1]


def test_large_files_are_known_by_hash() -> None:
    store = MemoryLog()
    source = (
        "for name in 'abc':\n    open(name, 'wb').write(name.encode() * 12_000_000)\n"
        "open('large', 'wb').write(b'l' * 20_000_000);"
    )

    def entry() -> Any:
        with lllm.record("n", store=store), JupyterSession() as notebook:
            result = notebook.run_cell(notebook.append_code_cell(source))
            assert len(notebook.get("a")) == 12_000_000
            with pytest.raises(SandboxError, match="more than"):
                notebook.get("large")
            return result

    result = entry()
    assert sorted(result.changed) == ["a", "b", "c", "large"]
    assert verified(store, entry)


def test_hostile_file_names(tmp_path: Path) -> None:
    store, folder = MemoryLog(), tmp_path / "out"
    source = (
        "import os\n"
        "for name in (' ', 'new\\nline', 'a' * 255, '-rf', '~', 'ü' * 100, '..x', 'con', '.hidden', b'\\xff\\xfe', '$(x)'):\n"
        "    open(name, 'w').write('1')\n"
        "os.symlink('/etc/passwd', 'link'); os.mkfifo('pipe'); os.mkdir('folder'); open('folder/x', 'w').write('1')\n"
        "os.makedirs('/'.join('d' * 30)); open('/'.join('d' * 30) + '/deep', 'w').write('1');"
    )
    swap = (
        "os.remove('folder/x'); os.rmdir('folder'); open('folder', 'w').write('2')\n"
        "os.remove('~'); os.mkdir('~'); open('~/y', 'w').write('2');"
    )

    def entry() -> Any:
        with lllm.record("n", store=store), JupyterSession("nb", folder) as notebook:
            assert notebook.run_cell(notebook.append_code_cell(source))
            assert notebook.run_cell(notebook.append_code_cell(swap))
            return notebook.files

    names = entry()
    deep = "/".join("d" * 30) + "/deep"
    assert names == sorted(
        [
            " ",
            "new\nline",
            "a" * 255,
            "-rf",
            "~/y",
            "ü" * 100,
            "..x",
            "con",
            ".hidden",
            "$(x)",
            "folder",
            deep,
        ]
    )
    copied = [
        str(path.relative_to(folder / "files")) for path in (folder / "files").rglob("*") if path.is_file()
    ]
    assert sorted(copied) == names
    assert (folder / "files" / "folder").read_text() == "2"
    assert verified(store, entry)


# --- resume


@pytest.mark.parametrize("where", ["5", "8", "11", "13", *CELLS[1:]])
def test_killed_program_is_resumed(where: str, recorded: Any, tmp_path: Path) -> None:
    _, _, came = recorded
    ran = subprocess.run(
        [sys.executable, "-m", "tests.sandbox.programs", str(tmp_path), where], capture_output=True, text=True
    )
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    store = SQLiteLog(tmp_path / "log.db")
    resumed = resume_session(
        newest(store), store=store, entry=lambda: program(tmp_path / "out", store)
    ).result
    assert plain(resumed) == plain(came)
    assert resumed.files == came.files
    notebook = JupyterSession("nb", tmp_path / "out")
    assert [cell["source"] for cell in notebook.get_cells()] == ["# Rows", *CELLS]
    assert {
        path: (tmp_path / "out" / "files" / path).read_text() for path in ("count.txt", "data/out.txt")
    } == {path: FILES[path] for path in ("count.txt", "data/out.txt")}
    assert verified(store, lambda: program(tmp_path / "out", store))
    store.close()


def until(store: Any, number: int) -> MemoryLog:
    """The log as a kill had left it, before the effect of this number."""
    session = newest(store)
    at = next(e["seq"] for e in events(store) if e["kind"] == "EffectRequested" and e["data"]["n"] == number)
    return cut(store, session, at)


def test_model_is_told_of_resumption(tmp_path: Path) -> None:
    store = MemoryLog()

    def entry(policy: str, store: Any) -> Callable[[], Any]:
        def main() -> Any:
            with lllm.record("n", store=store), JupyterSession(resume=policy) as notebook:
                sources = ("x = 1\nopen('a.txt', 'w').write('1');", "y = 2", "open('a.txt').read(), x + y")
                return [notebook.run_cell(notebook.append_code_cell(source)) for source in sources]

        return main

    assert entry("rerun", store)()[-1].text == "('1', 3)"
    left = until(store, 3)
    rerun = resume_session(newest(store), store=left, entry=entry("rerun", left)).result[-1]
    assert rerun.text.endswith("('1', 3)")
    assert "a new kernel was started, and the cells before (2) were run again in it" in rerun.text
    left = until(store, 3)
    restored = resume_session(newest(store), store=left, entry=entry("restore", left)).result[-1]
    assert restored.status == "error"
    assert "NameError: name 'x' is not defined" in restored.text
    assert "a new kernel was started: all variables are gone, files are still there" in restored.text


def test_rerun_that_differs_is_refused() -> None:
    store = MemoryLog()

    def entry(store: Any, policy: str = "rerun") -> Callable[[], Any]:
        def main() -> Any:
            with lllm.record("n", store=store), JupyterSession(resume=policy) as notebook:
                sources = (
                    "import secrets\nopen('a.txt', 'w').write(secrets.token_hex());",
                    "open('a.txt').read()",
                )
                return [notebook.run_cell(notebook.append_code_cell(source)) for source in sources]

        return main

    came = entry(store)()
    left = until(store, 2)
    with pytest.raises(SandboxBroken, match="its files differ from the record: 'a\\.txt'") as caught:
        resume_session(newest(store), store=left, entry=entry(left))
    assert "resume='restore'" in str(caught.value)
    # nothing was written: it can be resumed by the other policy
    resumed = resume_session(newest(store), store=left, entry=entry(left, "restore")).result
    assert resumed[1].outputs[0]["data"] == came[1].outputs[0]["data"]


def test_rerun_of_stopped_and_dead_cells() -> None:
    """A kernel that died is no part of the way; a cell that was interrupted is interrupted again."""
    store = MemoryLog()
    sources = (
        "lost = 1\nopen('a.txt', 'a').write('1');",
        "import os; os._exit(1)",
        "kept = 2\nopen('a.txt', 'a').write('2');",
        "import time\nseen = 3\nprint('waits')\ntime.sleep(60)",
        "open('a.txt').read(), kept, seen, 'lost' in globals()",
    )

    def entry(store: Any) -> Callable[[], Any]:
        def main() -> Any:
            with lllm.record("n", store=store), JupyterSession() as notebook:
                return [
                    notebook.run_cell(notebook.append_code_cell(s), 2 if "sleep" in s else 30)
                    for s in sources
                ]

        return main

    came = entry(store)()
    assert [one.status for one in came] == ["ok", "died", "ok", "timeout", "ok"]
    left = until(store, 5)
    again = resume_session(newest(store), store=left, entry=entry(left)).result
    assert again[-1].outputs[-1]["data"]["text/plain"] == "('12', 2, 3, False)"
    assert "the cells before (2) were run again" in again[-1].before


def test_put_and_restart_are_recorded() -> None:
    store = MemoryLog()

    def entry(store: Any) -> Callable[[], Any]:
        def main() -> Any:
            with lllm.record("n", store=store), JupyterSession() as notebook:
                notebook.run_cell(notebook.append_code_cell("x = 1"))
                notebook.restart()
                notebook.put("in.txt", "a")
                notebook.run_cell(notebook.append_code_cell("y = open('in.txt').read()"))
                notebook.put("in.txt", b"b")
                last = notebook.append_code_cell("y + open('in.txt').read(), 'x' in globals()")
                return notebook.run_cell(last).text.splitlines()[-1]

        return main

    assert entry(store)() == "('ab', False)"
    assert verified(store, entry(store))
    left = until(store, 6)
    assert resume_session(newest(store), store=left, entry=entry(left)).result == "('ab', False)"


# --- fork


def test_fork_runs_only_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryLog()
    ran: list[str] = []
    from lllm.sandbox.kernel import Kernel

    execute = Kernel.execute

    async def noted(self: Kernel, code: str, *args: Any, **more: Any) -> Any:
        ran.append(code)
        return await execute(self, code, *args, **more)

    monkeypatch.setattr(Kernel, "execute", noted)

    def entry(first: str) -> Callable[[], Any]:
        def main() -> Any:
            with lllm.record("n", store=store), JupyterSession() as notebook:
                sources = (first, "open('a.txt', 'w').write(str(x)); print(x)", "print(open('a.txt').read())")
                return [notebook.run_cell(notebook.append_code_cell(source)).text for source in sources]

        return main

    assert entry("x = 5")() == ["", "5", "5"]
    parent = newest(store)
    ran.clear()
    end = events(store)[-1]["seq"]
    assert fork_session(parent, store=store, at=end, entry=entry("x = 5")).result == ["", "5", "5"]
    assert ran == []
    assert fork_session(parent, store=store, at=0, entry=entry("x = 6")).result == ["", "6", "6"]
    assert len(ran) == 3
    ran.clear()
    third = [e["seq"] for e in events(store, parent) if e["kind"] == "EffectRequested"][2]
    forked = fork_session(parent, store=store, at=third, entry=entry("x = 5"), fresh=True).result
    assert forked[:2] == ["", "5"]
    assert forked[2].endswith("\n5")
    assert len(ran) == 3  # two again, and the one that is new
    assert verified(store, entry("x = 5"))


# --- the kernel


def test_killed_kernel_is_noticed_and_replays(no_engine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    store = MemoryLog()

    def entry() -> Any:
        with lllm.record("n", store=store), JupyterSession() as notebook:
            results = [
                notebook.run_cell(notebook.append_code_cell("x = 1\nopen('a.txt', 'w').write('kept');"))
            ]
            if notebook._engine is not None:
                kernel = notebook._engine._kernel
                assert kernel is not None
                kernel.process.kill()
                assert not notebook.alive
            results.append(
                notebook.run_cell(notebook.append_code_cell("open('a.txt').read(), 'x' in globals()"))
            )
            return results

    results = entry()
    assert results[1].before.startswith("the kernel had died (by SIGKILL): all variables are gone")
    assert results[1].text.endswith("('kept', False)")
    again: list[Any] = []
    assert verified(store, lambda: again.append(entry()))
    assert again == [results]


# --- notebooks in tools


def policy(first: str, second: str) -> ScriptedBackend:
    """Runs one cell for each task, and is done then."""

    def reply(request: Request) -> Any:
        task = next(message.text for message in reversed(request.messages) if message.role == "user")
        if request.messages[-1].role == "tool":
            return f"{task} done"
        source = {"one": first, "two": second}[task]
        return [FunctionCall(f"call_{task}", "python", json.dumps({"code": source}))]

    return ScriptedBackend(reply)


FIRST, SECOND = (
    "open('a.txt', 'a').write('1')\nx = 5",
    "open('a.txt', 'a').write('2')\nprint(x, open('a.txt').read())",
)


def coder(store: Any, folder: Path, *, first: str = FIRST) -> Callable[[], Any]:
    """An agent works twice with a notebook, and then its program does."""

    def main() -> Any:
        with lllm.record("coder", store=store), JupyterSession("nb", folder) as notebook:
            agent = Agent("coder", policy(first, SECOND), tools=list(notebook.as_tools()))
            answers = [agent("one").content, agent("two").content]
            sources = [cell["source"] for cell in notebook.get_cells()]
            last = notebook.append_code_cell("x, open('a.txt').read()")
            return answers, sources, notebook.run_cell(last).text.splitlines()[-1], notebook.get("a.txt")

    return main


CAME = (["one done", "two done"], [FIRST, SECOND], "(5, '12')", b"12")


def test_cells_of_tools_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lllm.sandbox import engine

    store = MemoryLog()
    assert coder(store, tmp_path / "out")() == CAME
    before = hashes(tmp_path / "out")
    monkeypatch.delattr(engine.Engine, "run")
    again: list[Any] = []
    assert verified(store, lambda: again.append(coder(store, tmp_path / "out")()))
    assert again == [CAME]
    assert hashes(tmp_path / "out") == before


def test_cells_of_tools_are_resumed(tmp_path: Path) -> None:
    store = MemoryLog()
    assert coder(store, tmp_path / "out")() == CAME
    recorded = events(store)
    notebook = (tmp_path / "out" / "nb.ipynb").read_bytes()
    kinds = ("EffectRequested", "EffectReturned", "ToolReturned", "ModelReplied", "CallEnded")
    points = [event["seq"] for event in recorded if event["kind"] in kinds]
    for at in points[2:-1]:
        left = cut(store, newest(store), at)
        resumed = resume_session(newest(store), store=left, entry=coder(left, tmp_path / "out")).result
        assert resumed == CAME, (at, recorded[at]["kind"])
        again = json.loads((tmp_path / "out" / "nb.ipynb").read_bytes())
        assert [cell["id"] for cell in again["cells"]] == ["cell-1", "cell-2", "cell-3"], at
        assert [cell["outputs"] for cell in again["cells"]][:2] == [
            cell["outputs"] for cell in json.loads(notebook)["cells"]
        ][:2]


def test_fork_of_tools_does_not_use_old_cells(tmp_path: Path) -> None:
    store = MemoryLog()
    assert coder(store, tmp_path / "out")() == CAME
    parent = newest(store)
    changed = FIRST.replace("5", "6")
    reply = next(event["seq"] for event in events(store) if event["kind"] == "ModelReplied")
    forked = fork_session(parent, store=store, at=reply, entry=coder(store, tmp_path / "fork", first=changed))
    assert forked.result == (["one done", "two done"], [changed, SECOND], "(6, '12')", b"12")
    same = fork_session(
        parent, store=store, at=events(store, parent)[-1]["seq"], entry=coder(store, tmp_path / "same")
    )
    assert same.result == CAME


def test_an_edited_result_of_a_cell_leaves_its_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork in which the model is told something else of a cell: what the cell did is still there, and nothing runs again."""
    from lllm.sandbox import engine

    store = MemoryLog()
    assert coder(store, tmp_path / "out")() == CAME
    returned = next(event["seq"] for event in events(store) if event["kind"] == "ToolReturned")
    with monkeypatch.context() as no_kernel:
        no_kernel.delattr(engine.Engine, "run")
        forked = fork_session(
            newest(store), store=store, at=returned, edit="it was done", entry=coder(store, tmp_path / "fork")
        )
    assert forked.result == CAME
    assert "it was done" in str(events(store, forked.session))


def test_two_notebooks_of_one_name(no_engine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    store = MemoryLog()

    def entry() -> Any:
        async def main() -> Any:
            async with lllm.arecord("n", store=store), JupyterSession() as a, JupyterSession() as b:
                for notebook, text in ((a, "a"), (b, "b")):
                    notebook.append_code_cell(f"name = {text!r}")
                    notebook.append_code_cell("name")
                came = await asyncio.gather(*(n.arun_all_cells() for n in (a, b)))
                return [results[-1].text for results in came]

        return run(main())

    assert entry() == ["'a'", "'b'"]
    again: list[Any] = []
    assert verified(store, lambda: again.append(entry()))
    assert again == [["'a'", "'b'"]]


def test_strange_outputs_are_recorded() -> None:
    """Whatever a cell sends can be recorded, and comes back the same."""
    store = MemoryLog()
    source = (
        "from IPython.display import display\n"
        "deep = 1\nfor _ in range(300): deep = [deep]\n"
        "display({'application/json': deep, 'text/plain': 'd'}, raw=True)\n"
        "display({'application/json': {'n': float('nan'), 'i': float('inf'), 'b': 2 ** 200, 'f': 2.0}}, raw=True)\n"
        "print('\\ud83d half')\n"
        "display({'$image': 'x', '$float': '2.0', '': 'e', 'a' * 300: 'long'}, raw=True)\n"
        "display({'text/plain': ['a', 'list'], 'image/png': ['x']}, raw=True, metadata={'a': deep})\n"
        "display({}, raw=True); display({'text/plain': None, 'text/html': 5}, raw=True)\n"
        "get_ipython().display_pub.publish(data={'text/plain': 'x'}, metadata={'m': [float('nan')]})"
    )

    def entry() -> Any:
        with lllm.record("n", store=store), JupyterSession() as notebook:
            result = notebook.run_cell(notebook.append_code_cell(source))
            return result, result.text, notebook.to_dict()

    came = entry()
    assert came[0].status == "ok", came[1]
    assert len(came[0].outputs) >= 8
    again: list[Any] = []
    assert verified(store, lambda: again.append(entry()))
    assert again == [came]


# --- export


def test_export_is_the_real_notebook(tmp_path: Path) -> None:
    store = MemoryLog()
    sources = (
        "import base64\nfrom IPython.display import HTML, display\n"
        + later("print('late')")
        + "handle = display('first', display_id='d')\nprint('out')",
        "display(HTML('<b>bold</b>')); display({'image/png': base64.b64encode(b'\\x89PNG' * 99).decode()}, raw=True); 6 * 7",
        "handle.update('updated'); print('z' * 20_000)",
        "1 / 0",
        "import time; time.sleep(60)",
        "# nothing",
    )
    limits = {"grace_seconds": 60}  # on a busy machine it takes its time to end
    with lllm.record("n", store=store), JupyterSession("nb", tmp_path, limits=limits) as notebook:
        notebook.put("in.txt", "x")
        for source in sources:
            if "HTML(" in source:
                go(notebook)
                until_late(notebook)
            notebook.run_cell(notebook.append_code_cell(source), 2 if "sleep" in source else 30)
        cells = notebook.get_cells()
    text = "".join(write(Source(store, newest(store))))
    book = nbformat.reads(text, 4)
    nbformat.validate(book)
    code = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["source"] for cell in code] == list(sources)
    for made, cell in zip(code, cells, strict=True):
        assert made["execution_count"] == cell["execution_count"]
        outputs = [
            one for one in made["outputs"] if not str(one.get("text")).startswith("[the cell ran longer")
        ]
        assert outputs == cell["outputs"]
    assert code[0]["outputs"][0]["data"] == {"text/plain": "'updated'"}
    assert code[0]["outputs"][1]["text"] == "out\nlate\n"
    assert "[the cell ran longer than its 2 s and was interrupted]" in code[4]["outputs"][0]["text"]


def test_export_shows_cells_of_tools_once(tmp_path: Path) -> None:
    store = MemoryLog()
    coder(store, tmp_path / "out")()
    cells = json.loads("".join(write(Source(store, newest(store)))))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["source"] for cell in code] == [FIRST, SECOND, "x, open('a.txt').read()"]
    assert code[1]["outputs"] == [{"output_type": "stream", "name": "stdout", "text": "5 12\n"}]
    assert not [cell for cell in cells if "**tool**" in cell["source"] or "**result**" in cell["source"]]


# --- cancelled, late, broken


def test_cancelled_cell_replays_and_is_named_when_resumed() -> None:
    store = MemoryLog()

    def entry(store: Any) -> Callable[[], Any]:
        async def main() -> Any:
            async with lllm.arecord("n", store=store), JupyterSession() as notebook:
                await notebook.arun_cell(notebook.append_code_cell("x = 1"))
                place = notebook.append_code_cell("y = 2\nimport time; time.sleep(600)")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(notebook.arun_cell(place), 3)
                return await notebook.arun_cell(notebook.append_code_cell("x, 'y' in globals()"))

        return lambda: run(main())

    came = entry(store)()
    assert came.text == "(1, True)"
    again: list[Any] = []
    assert verified(store, lambda: again.append(entry(store)()))
    assert again == [came]
    left = until(store, 3)
    resumed = resume_session(newest(store), store=left, entry=entry(left)).result
    assert resumed.text.endswith("(1, False)")
    assert "not run again, because they had been cancelled: 'cell-2'" in resumed.before


def test_late_outputs_replay(no_engine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    store = MemoryLog()

    def entry() -> Any:
        with lllm.record("n", store=store):
            notebook = JupyterSession()
            notebook.run_cell(notebook.append_code_cell(later("print('late')")))
            go(notebook)
            if notebook.alive:
                until_late(notebook)
            first = notebook.to_dict()
            notebook.close()
            return first, notebook.to_dict()

    came = entry()
    assert came[0]["cells"][0]["outputs"] == []
    assert came[1]["cells"][0]["outputs"][0]["text"] == "late\n"
    again: list[Any] = []
    assert verified(store, lambda: again.append(entry()))
    assert again == [came]


def test_restored_files_that_were_too_large_are_named() -> None:
    store = MemoryLog()

    def entry(store: Any) -> Callable[[], Any]:
        def main() -> Any:
            with lllm.record("n", store=store), JupyterSession(resume="restore") as notebook:
                source = "open('large', 'wb').write(bytes(17_000_000)); open('small', 'w').write('s');"
                notebook.run_cell(notebook.append_code_cell(source))
                return notebook.run_cell(notebook.append_code_cell("import os; sorted(os.listdir())"))

        return main

    assert entry(store)().text == "['large', 'small']"
    left = until(store, 2)
    resumed = resume_session(newest(store), store=left, entry=entry(left)).result
    assert resumed.text.endswith("['small']")
    assert "gone, because they were too large to be recorded: 'large'" in resumed.before


def test_sandbox_that_does_not_start_leaves_a_resumption_open(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryLog()

    def entry(store: Any, launch: Any = None) -> Callable[[], Any]:
        def main() -> Any:
            with lllm.record("n", store=store), JupyterSession(launch=launch) as notebook:
                sources = ("x = 1", "x + 1")
                return [notebook.run_cell(notebook.append_code_cell(source)).text for source in sources]

        return main

    def fails(*_: Any) -> Any:
        raise SandboxBroken("no kernel today")

    entry(store)()
    left = until(store, 2)
    with pytest.raises(SandboxBroken, match="no kernel today"):
        resume_session(newest(store), store=left, entry=entry(left, fails))
    resumed = resume_session(newest(store), store=left, entry=entry(left)).result
    assert resumed[1].endswith("2")


def test_edited_notebook_is_resumed(tmp_path: Path) -> None:
    """What ran is run again, as it was then, whatever became of its cell."""
    store = MemoryLog()

    def entry(store: Any, folder: Path) -> Callable[[], Any]:
        def main() -> Any:
            with lllm.record("n", store=store), JupyterSession("nb", folder) as notebook:
                first = notebook.append_code_cell("x = [1]")
                notebook.run_cell(first)
                notebook.overwrite_cell(first, "x.append(2)")
                notebook.run_cell(first)
                gone = notebook.insert_cell(0, "x.append(3)")
                notebook.run_cell(gone)
                notebook.delete_cells(gone)
                notebook.append_markdown_cell("# end")
                last = notebook.run_cell(notebook.append_code_cell("x"))
                return last.outputs[0]["data"], [cell["source"] for cell in notebook.get_cells()]

        return main

    came = entry(store, tmp_path / "a")()
    assert came == ({"text/plain": "[1, 2, 3]"}, ["x.append(2)", "# end", "x"])
    for number in (3, 4, 5):
        left = until(store, number)
        folder = tmp_path / "a"
        assert resume_session(newest(store), store=left, entry=entry(left, folder)).result == came
        assert [cell["source"] for cell in JupyterSession("nb", folder).get_cells()] == came[1]
    assert verified(store, entry(store, tmp_path / "a"))
