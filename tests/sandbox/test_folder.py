"""What a sandbox records of its folder besides files and their contents: modes, links within it, empty folders."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

import lllm
import lllm.sync
from lllm import (
    FunctionCall,
    MemoryLog,
    ScriptedBackend,
    build_agent,
    fork_session,
    replay_session,
    resume_session,
)
from lllm.core.cell_record import Cell
from lllm.core.shapes import misfit
from lllm.errors import SandboxBroken, SandboxError
from lllm.log.copy import load_session
from lllm.recorded_value import unpack
from lllm.sandbox import JupyterSession, copies, removal
from lllm.sandbox.contents import Change, Contents
from lllm.sandbox.snapshot import within
from lllm.sandbox.workspace import Changes, Workspace
from tests.replay.test_effects import cut
from tests.sandbox.programs import FOLDER_CELLS, LISTING, folders
from tests.sandbox.test_record import events, newest, until, verified

RECORDED = Path(__file__).with_name("recorded") / "folders-0.lllm"

# --- links


@pytest.mark.parametrize(
    ("path", "target", "kept"),
    [
        ("l", "a.txt", "a.txt"),
        ("l", "nothing/there", "nothing/there"),
        ("l", ".", "."),
        ("l", "./sub//a", "./sub//a"),
        ("sub/l", "../a.txt", "../a.txt"),
        ("sub/deep/l", "../..", "../.."),
        ("l", "sub/../a.txt", "a.txt"),
        ("sub/l", "../sub/deep/../../a.txt", "../a.txt"),
        ("sub/deep/l", "/workspace/sub/a.txt", "../a.txt"),
        ("l", "/workspace", "."),
        ("l", "/workspace/", "."),
        ("l", "/real/work/a.txt", "a.txt"),
        ("l", "/workspace/sub/../a.txt", "a.txt"),
        ("l", "/", None),
        ("l", "/etc/passwd", None),
        ("l", "/workspace2/a", None),
        ("l", "/workspace/../etc", None),
        ("l", "..", None),
        ("l", "../work/a.txt", None),
        ("sub/l", "../../a.txt", None),
        ("sub/l", "../sub/../../a.txt", None),
        ("l", "link/..", None),  # nobody knows whereto that leads
        ("l", "nothing/../../x", None),
        ("l", "/proc/self/fd/3", None),
        ("l", "a" * 1025, None),
        ("l", os.fsdecode(b"\xff"), None),
    ],
)
def test_links_stay_within(path: str, target: str, kept: str | None) -> None:
    assert within(path, target, {"sub", "sub/deep"}, ("/real/work", "/workspace")) == kept


def test_no_chain_of_links_leads_out(tmp_path: Path) -> None:
    """Whatever links are made, those that are recorded end within the folder, in the sandbox and in the copies."""
    random, count = Random(7), 0
    names = ["a", "b", "a/a", "a/b", "b/a", "a/a/a", "a/a/b"]
    parts = ["..", "..", "a", "b", ".", "a/..", "b/../.."]
    for number in range(200):
        root = tmp_path / f"w{number}" / "x" / "work"
        (root / "a" / "a").mkdir(parents=True)
        (root / "b").mkdir()
        work = Workspace(root)
        for name in random.sample(names, 5):
            target = "/".join(random.choices(parts, k=random.randint(1, 4)))
            if random.random() < 0.2:
                target = f"{root}/{target}"
            with suppress(OSError):  # something else is there, or above it
                if random.random() < 0.3:
                    removal.remove(str(root / name))
                (root / name).symlink_to(target)
        contents = Contents()
        contents.apply(change(work.changes()))
        other = tmp_path / f"r{number}" / "x" / "work"
        other.mkdir(parents=True)
        Workspace(other).put_back(contents)
        copies.copy(
            tmp_path / f"c{number}" / "x" / "work", change(work.changes())._replace(links=contents.links)
        )
        for made in (other, tmp_path / f"c{number}" / "x" / "work"):
            for path in made.rglob("*"):
                with suppress(RuntimeError):  # a loop: it leads nowhere
                    assert path.resolve().is_relative_to(made.resolve()), (path, os.readlink(path))
                    count += path.is_symlink()
    assert count > 300


# --- looking and putting back


def change(changes: Changes) -> Change:
    return Change(
        {path: found.data for path, found in changes.files.items()},
        changes.removed,
        [path for path, found in changes.files.items() if found.executable],
        changes.links,
        changes.empty,
        changes.gone,
    )


def listing(root: Path) -> list[str]:
    """A folder with modes, links and empty folders, as the record has it."""
    found = []
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found.append(f"{name} -> {os.readlink(path)}")
        elif path.is_dir():
            found += [] if os.listdir(path) else [f"{name}/"]
        else:
            found.append(f"{name}{'*' if os.access(path, os.X_OK) else ''} {path.read_text()}")
    return found


def of_contents(contents: Contents) -> list[str]:
    found = [f"{path} -> {target}" for path, target in contents.links.items()]
    found += [f"{path}/" for path in contents.empty]
    for path, data in contents.files.items():
        found.append(f"{path}{'*' if path in contents.executable else ''} {(data or b'').decode()}")
    return sorted(found)


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    (tmp_path / "work").mkdir()
    return Workspace(tmp_path / "work")


def test_each_kind_of_change(work: Workspace) -> None:
    root = work.root
    (root / "run.sh").write_text("x")
    (root / "d" / "e").mkdir(parents=True)
    (root / "l").symlink_to("run.sh")
    (root / "out").symlink_to("/etc")
    os.mkfifo(root / "pipe")
    first = work.changes()
    assert (list(first.files), first.links, first.empty) == (["run.sh"], {"l": "run.sh"}, ["d/e"])
    assert not first.files["run.sh"].executable
    (root / "run.sh").chmod(0o755)
    (root / "d" / "e" / "f").write_text("f")
    second = work.changes()
    assert (list(second.files), second.files["run.sh"].executable) == (["d/e/f", "run.sh"], True)
    assert second[1:] == ([], {}, [], [])  # the folder is not gone
    (root / "d" / "e" / "f").unlink()
    (root / "l").unlink()
    (root / "l").symlink_to("d")
    third = work.changes()
    assert third == ({}, ["d/e/f"], {"l": "d"}, ["d/e"], [])
    (root / "d" / "e").rmdir()
    (root / "l").unlink()
    (root / "l").symlink_to("/etc")
    assert work.changes() == ({}, [], {}, ["d"], ["d/e", "l"])
    (root / "run.sh").unlink()
    (root / "run.sh").symlink_to("d")
    (root / "d").rmdir()
    assert work.changes() == ({}, ["run.sh"], {"run.sh": "d"}, [], ["d"])
    assert work.changes() == ({}, [], {}, [], [])


@pytest.mark.parametrize("seed", range(40))
def test_the_record_is_what_is_there(seed: int, tmp_path: Path) -> None:
    """Whatever is done in a folder, its changes give what a look shows; it is put back so, and the copies are so."""
    random = Random(seed)
    for name in ("work", "again"):
        (tmp_path / name).mkdir()
    work, again, contents = Workspace(tmp_path / "work"), Workspace(tmp_path / "again"), Contents()
    names = ["a", "b", "c", "a/a", "a/b", "b/a", "a/a/a", "c/x/y"]
    for _ in range(12):
        for _ in range(random.randint(1, 5)):
            path = work.root / random.choice(names)
            try:
                random.choice(STEPS)(path, random)
            except OSError:
                continue  # something else is there
        changes = work.changes()
        contents.apply(change(changes))
        copies.copy(tmp_path / "copies", change(changes))
        assert of_contents(contents) == sorted(listing(work.root))
        again.put_back(contents)
        assert listing(again.root) == listing(work.root)
        (tmp_path / "copies").mkdir(exist_ok=True)
        assert listing(tmp_path / "copies") == listing(work.root)
        assert again.changes() == ({}, [], {}, [], [])


def _write(path: Path, random: Random) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_symlink():
        path.write_text(str(random.random()))


def _link(path: Path, random: Random) -> None:
    if random.random() < 0.5:
        removal.remove(str(path))
    path.symlink_to(random.choice(["nothing", "a", "./b/a", "c"]))


def _chmod(path: Path, random: Random) -> None:
    if not path.is_symlink() and path.is_file():
        path.chmod(random.choice([0o755, 0o644]))


STEPS: list[Callable[[Path, Random], Any]] = [
    _write,
    _write,
    _link,
    _chmod,
    lambda path, random: path.mkdir(parents=True),
    lambda path, random: removal.remove(str(path)),
]


@pytest.mark.parametrize("seed", range(20))
def test_undo_restores_all_of_it(seed: int, work: Workspace) -> None:
    random = Random(seed)

    def steps() -> None:
        for _ in range(12):
            path = work.root / random.choice(["a", "b", "c", "a/a", "a/b", "b/a", "a/a/a", "c/x/y"])
            try:
                random.choice(STEPS)(path, random)
            except OSError:
                continue

    steps()
    work.changes()
    before = listing(work.root)
    steps()
    assert work.undo() == []
    assert listing(work.root) == before
    assert work.changes() == ({}, [], {}, [], [])


FORGED = {
    "out": Change(links={"l": "../secret"}),
    "absolute": Change(links={"l": "/etc/passwd"}),
    "down and up": Change(links={"l": "a/../../secret"}),
    "a path out of the folder": Change(links={"../l": "a"}),
    "a file through a link": Change({"d/f": b"x"}, links={"d": "e"}),
    "a folder out of the folder": Change(empty=["../d"]),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_record_leads_nowhere(name: str, work: Workspace, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    forged, contents = FORGED[name], Contents()
    contents.files.update(forged.files)
    contents.links.update(forged.links)
    contents.empty.update(forged.empty)
    with pytest.raises(SandboxError):
        work.put_back(contents)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret", "work"]
    assert not [
        path for path in work.root.rglob("*") if path.is_symlink() and name != "a file through a link"
    ]


def test_copies_go_through_no_link(tmp_path: Path) -> None:
    """Somebody has put a link among the copies; a cell's files have its name above them."""
    outside, made = tmp_path / "outside", tmp_path / "files"
    outside.mkdir()
    made.mkdir()
    (outside / "kept").write_text("kept")
    (made / "d").symlink_to(outside)
    copies.copy(made, Change(removed=["d/kept"], gone=["d/x"]))
    assert (outside / "kept").read_text() == "kept"
    copies.copy(made, Change({"d/f": b"x"}, links={"d/l": "f"}, empty=["d/e"]))
    assert listing(outside) == ["kept kept"]
    assert listing(made) == ["d/e/", "d/f x", "d/l -> f"]


def test_what_cannot_be_put_is_refused_without_a_kernel() -> None:
    contents = Contents()
    contents.apply(Change({"a/f": b""}, links={"l": "a"}, empty=["e"]))
    for path in ("l/x", "a/f/x", "a", "e"):
        with pytest.raises(SandboxError, match="cannot be written"):
            contents.check_put(path)
    for path in ("a/g", "e/x", "l", "n/m"):
        contents.check_put(path)
        other = contents.copy()
        other.apply(Change({path: b""}))
        assert path in other.files


# --- sessions

SEEN = "a.txt\ndeep\nlink -> a.txt\nmade*\nrun.sh*\ndeep/empty\ndeep/up -> ../a.txt"
"""What the last cell prints in a folder that was put back: without a pipe, and a link that leads out."""


def seen(text: str) -> str:
    return "\n".join(
        line for line in text.splitlines() if not line.startswith(("out -> ", "pipe", "[Before"))
    )


@pytest.fixture(scope="module")
def recorded() -> tuple[MemoryLog, list[Any]]:
    store = MemoryLog()
    return store, folders(store)


def test_results_and_log_name_them(recorded: Any, no_engine: None) -> None:
    store, came = recorded
    first, second, last = came
    assert seen(last.text) == SEEN
    assert (first.executable, first.links, first.empty) == (
        ("run.sh",),
        {"link": "a.txt"},
        ("deep/empty", "gone"),
    )
    assert first.entries == ["a.txt", "deep/empty/", "gone/", "link -> a.txt", "made", "run.sh (executable)"]
    assert (second.executable, second.links, second.removed) == (
        ("made",),
        {"deep/up": "../a.txt"},
        ("gone",),
    )
    assert second.entries == ["deep/up -> ../a.txt", "made (executable)", "gone (removed)"]
    kept = [unpack(e["data"]["value"], store.blob) for e in events(store) if e["kind"] == "EffectReturned"]
    assert [misfit(value, Cell, closed=True) for value in kept[:3]] == ["", "", ""]
    assert [value["folder"] for value in kept[:3]] == [
        {"executable": ["run.sh"], "links": {"link": "a.txt"}, "empty": ["deep/empty", "gone"]},
        {"executable": ["made"], "links": {"deep/up": "../a.txt"}, "gone": ["gone"]},
        {},
    ]
    again: list[Any] = []
    assert verified(store, lambda: again.append(folders(store)))
    assert again == [came]


@pytest.mark.parametrize("policy", ["restore", "rerun"])
def test_a_resumed_session_has_them(policy: str, recorded: Any) -> None:
    store, came = recorded
    left = until(store, 3)
    resumed = resume_session(newest(store), store=left, entry=lambda: folders(left, policy)).result
    assert seen(resumed[-1].text) == SEEN
    assert resumed[:2] == came[:2]
    assert ("out -> " in resumed[-1].text) == (policy == "rerun")
    assert verified(left, lambda: folders(left, policy))


@pytest.mark.parametrize("policy", ["restore", "rerun"])
def test_a_fork_has_them(policy: str, recorded: Any) -> None:
    store, came = recorded
    third = [e["seq"] for e in events(store, oldest(store)) if e["kind"] == "EffectRequested"][2]
    forked = fork_session(oldest(store), store=store, at=third, entry=lambda: folders(store, policy)).result
    assert seen(forked[-1].text) == SEEN
    assert forked[:2] == came[:2]


def oldest(store: Any) -> str:
    return str(store.sessions(100)[-1].id)


@pytest.mark.parametrize(
    "source",
    [
        "import os, secrets\nos.symlink('x' + secrets.token_hex(4), 'thing')",
        "import os, secrets\nos.mkdir('thing' + secrets.token_hex(4))",
        "import os, secrets\nfor n in range(40):\n    open(f'thing{n}', 'w').close()\n"
        "    os.chmod(f'thing{n}', 0o644 | secrets.randbits(1) * 0o111)",
        "import os, secrets\nfor n in range(40):\n    os.mkdir(f'thing{n}')",
    ],
    ids=["link", "folder", "mode", "gone"],
)
def test_a_rerun_that_differs_in_them_is_refused(source: str) -> None:
    store = MemoryLog()
    more = (
        "import os, secrets\nfor n in range(40):\n    if secrets.randbits(1): os.rmdir(f'thing{n}')"
        if "thing{n}')" in source and "chmod" not in source
        else "pass"
    )

    def entry(store: Any, policy: str = "rerun") -> Callable[[], Any]:
        def main() -> Any:
            with lllm.record("n", store=store), JupyterSession(resume=policy) as notebook:
                return [notebook.run_cell(notebook.append_code_cell(one)) for one in (source, more, LISTING)]

        return main

    came = entry(store)()
    left = until(store, 3)
    with pytest.raises(SandboxBroken, match="its files differ from the record: 'thing"):
        resume_session(newest(store), store=left, entry=entry(left))
    restored = resume_session(newest(store), store=left, entry=entry(left, "restore")).result
    assert seen(restored[2].text) == came[2].text.strip()


def test_executable_files_run_after_a_restoration() -> None:
    store = MemoryLog()
    sources = (
        "%%bash\nmkdir bin; printf '#!/bin/sh\\necho ran $1' > bin/tool; chmod +x bin/tool; ln -s bin/tool tool; "
        'ln -s "$PWD/bin" all; bin/tool first',
        "%%bash\n./tool again; all/tool twice",
    )

    def entry(store: Any) -> Callable[[], Any]:
        def main() -> Any:
            with lllm.record("n", store=store), JupyterSession(resume="restore") as notebook:
                results = [notebook.run_cell(notebook.append_code_cell(source)) for source in sources]
                return results[1].outputs, notebook.links, notebook.directory_tree

        return main

    came = entry(store)()
    assert came[0][0]["text"] == "ran again\nran twice\n"
    assert came[1] == {
        "all": "bin",
        "tool": "bin/tool",
    }  # one that is absolute is recorded as one from its folder
    assert came[2] == "all -> bin\nbin/\n  tool*\ntool -> bin/tool"
    left = until(store, 2)
    assert resume_session(newest(store), store=left, entry=entry(left)).result == came


def test_a_file_is_put_executable() -> None:
    store = MemoryLog()

    def entry(store: Any) -> Callable[[], Any]:
        def main() -> Any:
            with lllm.record("n", store=store), JupyterSession() as notebook:
                notebook.put("tool", "#!/bin/sh\necho one", executable=True)
                notebook.run_cell(notebook.append_code_cell("!./tool"))
                notebook.put("tool", "#!/bin/sh\necho two")
                notebook.put("other", "#!/bin/sh\necho three", executable=True)
                last = notebook.run_cell(notebook.append_code_cell("!./other; ./tool || echo not executable"))
                said = [line for one in last.outputs for line in one["text"].splitlines()]
                return {"three", "two", "not executable"} & {*said}, notebook.directory_tree

        return main

    came = entry(store)()
    assert came == ({"three", "not executable"}, "other*\ntool")
    assert verified(store, entry(store))
    for number in (2, 5):
        left = until(store, number)
        again = resume_session(newest(store), store=left, entry=entry(left)).result
        assert again == came


def test_tools_show_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is told of modes, links and empty folders; files of the project keep their mode."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/run.sh").write_text("#!/bin/sh\necho ran\n")
    Path("data/run.sh").chmod(0o755)
    Path("data/plain").write_text("p")
    calls = [
        FunctionCall(
            "",
            "shell",
            json.dumps({"command": "data/run.sh; ln -s data/run.sh run; mkdir e; chmod +x data/plain"}),
        ),
        FunctionCall("", "files", json.dumps({"action": "list"})),
        FunctionCall("", "files", json.dumps({"action": "read", "path": "run"})),
    ]
    backend, log = ScriptedBackend([*calls, "done"]), MemoryLog()

    def program() -> Any:
        config = {"agent_type": "coder", "sandbox": {"files": ["data"], "dir": "out"}}
        return build_agent(config, model=backend, log_base=log)("go")

    assert program() == "done"
    ran, listed, read = [message.text for message in backend.requests[-1].messages if message.role == "tool"]
    assert ran.splitlines() == ["ran", "[files: data/plain (executable), e/, run -> data/run.sh]"]
    assert listed.splitlines() == ["data/", "  plain*", "  run.sh*", "e/", "run -> data/run.sh"]
    assert "'run' is a link to 'data/run.sh'" in read
    copies_of_project = [
        path for path in tmp_path.rglob("run.sh") if "files" not in path.parts and "out" in path.parts
    ]
    assert all(os.access(path, os.X_OK) for path in copies_of_project)
    assert copies_of_project
    assert replay_session(newest(log), store=log, entry=program).verified


def test_copies_have_them(tmp_path: Path) -> None:
    with JupyterSession("nb", tmp_path) as notebook:
        for source in FOLDER_CELLS[:2]:
            assert notebook.run_cell(notebook.append_code_cell(source))
        with pytest.raises(SandboxError, match=r"'link' is a link to 'a\.txt'"):
            notebook.get("link")
        with pytest.raises(SandboxError, match="cannot be written"):
            notebook.put("deep/empty", "x")
        notebook.close()
        with pytest.raises(SandboxError, match="'link' is a link, not a folder"):
            notebook.put("link/x", "x")
    assert [line.partition(" ")[0] for line in listing(tmp_path / "files")] == [
        *("a.txt", "deep/empty/", "deep/up", "link", "made*", "run.sh*")
    ]


# --- logs of an older version, which did not record them


@pytest.fixture
def old() -> tuple[MemoryLog, str]:
    store = MemoryLog()
    return store, load_session(RECORDED, store)


def test_an_old_log_replays(old: Any, no_engine: None) -> None:
    store, id = old
    kept = [
        unpack(e["data"]["value"], store.blob) for e in events(store, id) if e["kind"] == "EffectReturned"
    ]
    assert [misfit(value, Cell, closed=True) for value in kept[:3]] == ["", "", ""]
    again: list[Any] = []
    report = replay_session(id, store=store, entry=lambda: again.append(folders(store)), raises=True)
    assert report.verified
    assert [one.entries for one in again[0]] == [["a.txt", "made", "run.sh"], ["made"], []]


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("policy", ["restore", "rerun"])
def test_an_old_log_is_resumed(old: Any, policy: str, number: int) -> None:
    """Cells that run again are compared in what the record has."""
    store, id = old
    at = next(
        e["seq"] for e in events(store, id) if e["kind"] == "EffectRequested" and e["data"]["n"] == number
    )
    left = cut(store, id, at)
    resumed = resume_session(id, store=left, entry=lambda: folders(left, policy)).result
    known = SEEN if policy == "rerun" else "a.txt\nmade\nrun.sh" if number == 3 else None
    if known is not None:
        assert seen(resumed[-1].text) == known
    assert replay_session(id, store=left, entry=lambda: folders(left, policy), raises=True).verified


def test_an_old_log_is_forked(old: Any, no_engine: None) -> None:
    """Its cells are used again: what stands for their past is as it was."""
    store, id = old
    last = events(store, id)[-1]["seq"]
    forked = fork_session(id, store=store, at=last, entry=lambda: folders(store)).result
    assert forked[-1].text.splitlines()[0] == "a.txt"
    started = fork_session(id, store=store, entry=lambda: other(store)).result
    assert started[-1].text.splitlines()[0] == "a.txt"


def other(store: Any) -> list[Any]:
    """The same after something else."""
    with lllm.record("folders", store=store) as session, JupyterSession() as notebook:
        lllm.sync.run(session.effect("other", {}, lambda: secrets.token_hex(), effect="pure"))
        return [notebook.run_cell(notebook.append_code_cell(source)) for source in FOLDER_CELLS]
