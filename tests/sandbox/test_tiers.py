"""Which tier a sandbox gets, and what is said of a machine that has none."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

import lllm
from lllm import MemoryLog, replay_session
from lllm.errors import ConfigError, SandboxUnavailable
from lllm.sandbox import folders
from lllm.sandbox.isolation import causes, probe, process, tiers
from lllm.sandbox.isolation.probe import State
from lllm.sandbox.jupyter import JupyterSession
from tests.sandbox import tier
from tests.sandbox.attacks import world
from tests.sandbox.test_attacks import needs_world


def machine(monkeypatch: pytest.MonkeyPatch, **works: bool) -> None:
    def probed(tier: str) -> State:
        if works[tier]:
            return State(tier, True, open=("a row",) if tier == "process" else ())
        return State(tier, False, f"no {tier} here", f"Type: mend {tier}")

    monkeypatch.setattr(tiers, "probe", probed)


def test_strongest_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, namespace=True, process=True)
    assert tiers.choose().record() == {"tier": "namespace", "note": "", "open": []}
    assert tiers.choose("process").tier == "process"
    assert tiers.choose("process", required=True).open == ("a row",)


def test_weaker_one_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    machine(monkeypatch, namespace=False, process=True)
    tiers._warn_of_weaker.cache_clear()
    for chosen in (tiers.choose(), tiers.choose("namespace")):
        assert chosen.tier == "process"
        assert chosen.note == "tier 'namespace' does not work here: no namespace here"
    [said] = caplog.messages
    assert said.startswith(
        "code runs in a sandbox of the tier 'process': tier 'namespace' does not work here: "
    )
    assert said.endswith("type: lllm doctor")
    tiers.choose("process")  # as asked for
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("tier", [None, "namespace"])
def test_required_refuses_a_weaker_one(monkeypatch: pytest.MonkeyPatch, tier: str | None) -> None:
    machine(monkeypatch, namespace=False, process=True)
    with pytest.raises(
        SandboxUnavailable, match="no sandbox of tier 'namespace': no namespace here"
    ) as caught:
        tiers.choose(tier, required=True)
    assert caught.value.tier == "namespace"
    hint = "Type: mend namespace\n  Without 'required' it would be tier 'process', which leaves open: a row."
    assert caught.value.hint == hint  # the command ends with its line, to be copied


def test_nothing_works(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, namespace=False, process=False)
    with pytest.raises(
        SandboxUnavailable, match="'namespace': no namespace here; 'process': no process here"
    ):
        tiers.choose()
    with pytest.raises(SandboxUnavailable, match="no sandbox of tier 'process': no process here"):
        tiers.choose("process", required=True)


def test_container_is_refused_and_others_are_unknown() -> None:
    with pytest.raises(SandboxUnavailable, match="never been tested"):
        tiers.choose("container")
    with pytest.raises(ConfigError, match="must be one of namespace, process, got 'docker'"):
        tiers.choose("docker")


@pytest.mark.parametrize(
    ("printed", "cause"),
    [
        ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", "parts of /proc are hidden"),
        ("bwrap: execvp prlimit: No such file or directory", "'prlimit' of util-linux is missing"),
        (
            "prlimit: failed to execute setpriv: No such file or directory",
            "'setpriv' of util-linux is missing",
        ),
        ("bwrap: prctl(PR_SET_SECCOMP): Invalid argument", "no filters of system calls"),
        ("bwrap: Unknown option --disable-userns", "bubblewrap is older than 0.8"),
        ("bwrap: setting up uid map: Permission denied", "does not allow namespaces"),
        ("something else\nbwrap: it failed", "bwrap: it failed"),
        ("", "printed nothing"),
    ],
)
def test_causes(printed: str, cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causes, "_read", lambda file: "")
    found, cure = causes.explain(printed, root=False, filtered=False)
    assert cause in found
    assert cure


@pytest.mark.parametrize(("file", "value", "cause", "cure"), causes.SWITCHES)
def test_switches(file: str, value: str, cause: str, cure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causes, "_read", lambda path: value if path == file else "")
    said = causes.explain("bwrap: No permissions to create new namespace", root=False)
    assert said == (cause, cure)


def test_filter_of_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causes, "_read", lambda path: "")
    cause, cure = causes.explain("bwrap: Creating new namespace failed: EPERM", root=False, filtered=True)
    assert "filter of system calls" in cause
    assert "--security-opt seccomp" in cure


SYSTEM = """
import json
from lllm import FunctionCall, LLMError, ScriptedBackend, build_agent

def run(sandbox):
    model = ScriptedBackend([FunctionCall("", "python", json.dumps({"code": "6 * 7"})), "done"])
    system = build_agent({"agent_type": "coder", "sandbox": sandbox}, model=model)
    try:
        return system("go") + ": " + model.requests[-1].messages[-1].text
    except LLMError as error:
        return f"{type(error).__name__}: {error}"

print(json.dumps([run({}), run({"tier": "process"}), run({"required": False})]))
"""


def test_systems_where_bubblewrap_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLLM_SANDBOX_TIER", raising=False)
    environment = {**os.environ, "PATH": tier.path_without(tmp_path, "bwrap")}
    done = subprocess.run(
        [sys.executable, "-c", SYSTEM], env=environment, capture_output=True, text=True, check=True
    )
    refused, asked, weaker = json.loads(done.stdout)
    assert "the sandbox of tier 'namespace' needs bubblewrap, which is not installed" in refused
    assert refused.count("\n  Type: sudo apt-get install bubblewrap\n") == 1
    assert refused.count("Without 'required' it would be tier 'process'") == 1
    assert asked == weaker == "done: 42"
    [warning] = done.stderr.splitlines()
    assert "a sandbox of the tier 'process': tier 'namespace' does not work here: " in warning


def test_suite_says_what_was_not_run(tmp_path: Path) -> None:
    """`make test` needs nothing but itself: what the machine lacks is no failure, and not left out silently either."""
    path = tier.path_without(tmp_path, "bwrap")
    files = ["tests/sandbox/test_ends.py", "tests/sandbox/test_kernelspec.py"]
    words = ["-m", "pytest", "-n", "1", "-q", "-p", "no:cacheprovider", "-k", "why or interrupt_and_kill"]
    done = subprocess.run(
        [sys.executable, *words, *files],
        env={**os.environ, "PATH": path},
        cwd=world.REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed, 1 skipped" in done.stdout
    why = "the sandbox of tier 'namespace' needs bubblewrap, which is not installed. Type: sudo apt-get install bubblewrap"
    assert f"1 test not run: the tier 'namespace' does not work here: {why}\n" in done.stdout
    assert f"2 tests run in the tier 'process': {why}\n" in done.stdout


def probed_in(argv: list[str], path: str = "", tier: str = "namespace") -> dict[str, Any]:
    """What the probe finds in a machine that is made for it."""
    code = f"import os; os.environ['PATH'] = {path!r} or os.environ['PATH']\n"
    code += "import json; from lllm.sandbox.isolation.probe import probe; "
    code += f"print(json.dumps(probe({tier!r})._asdict()))"
    room = argv[argv.index("--size") + 3]
    done = subprocess.run([*argv, sys.executable, "-c", code], capture_output=True, text=True, check=False)
    Path(room).rmdir()
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@needs_world
def test_probe_of_machines_that_forbid_it() -> None:
    def outer(*changes: tuple[str, str]) -> list[str]:
        argv = world._outer(tempfile.mkdtemp(prefix="att"), user=os.geteuid() == 0)
        for old, new in changes:
            argv = [part.replace(old, new) for part in argv]
        return argv

    assert probed_in(outer()) == {"tier": "namespace", "works": True, "cause": "", "cure": "", "open": []}

    found = probed_in(outer(), path="/nowhere")
    assert "bubblewrap, which is not installed" in found["cause"]
    assert found["cure"] == "Type: sudo apt-get install bubblewrap"

    if os.geteuid() == 0:
        found = probed_in(outer(("mount -t proc proc /proc; ", "")))
        assert found["cause"].startswith("parts of /proc are hidden from this container")

    found = probed_in(confined("--disable-userns"))
    assert found["cause"].startswith("user namespaces are switched off")


def confined(*options: str) -> list[str]:
    """A world in a user namespace that has one user alone."""
    argv = world._outer(tempfile.mkdtemp(prefix="att"), user=False)
    end = argv.index("--cap-add") if "--cap-add" in argv else -1
    at = argv.index("--unshare-pid")
    return [*argv[:at], "--unshare-user", *options, *argv[at:end], "--"]


@needs_world
def test_root_of_a_user_namespace_is_not_root() -> None:
    found = probed_in(confined(), tier="process")
    assert (found["tier"], found["works"]) == ("process", True), found
    assert process.OPEN["modes"] in found["open"]


def test_probe_says_what_the_process_tier_leaves_open() -> None:
    found = probe.probe("process")
    assert found.works, found
    assert set(found.open) <= set(process.OPEN.values())
    assert process.OPEN["names"] in found.open


@pytest.fixture
def no_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lllm.sandbox.isolation.landlock.version", lambda: 0)
    process.way.cache_clear()
    monkeypatch.setattr(process, "way", process.way.__wrapped__)


@pytest.mark.usefixtures("no_landlock")
def test_without_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_reachable", lambda folder: True)
    assert process.OPEN["files"] in process.way().open()
    monkeypatch.setattr(process, "_reachable", lambda folder: False)
    monkeypatch.setattr("lllm.sandbox.isolation.users.may_switch", lambda: True)
    with pytest.raises(SandboxUnavailable, match="only root may enter"):
        process.way()


def test_folders_of_dead_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    live, dead, elsewhere = folders.make(), folders.make(), folders.make()
    for folder, change in ((dead, {"began": 1}), (elsewhere, {"began": 1, "namespace": "pid:[1]"})):
        owner = json.loads((folder / "owner.json").read_text())
        (folder / "owner.json").write_text(json.dumps({**owner, **change}))
    assert list(folders.left_behind()) == [dead]
    assert folders.sweep() == [dead]
    assert sorted(tmp_path.iterdir()) == sorted([live, elsewhere])


def test_folders_whose_owner_died_while_it_made_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    kept, empty, torn = folders.make(), folders.make(), folders.make()
    (empty / "owner.json").unlink()
    (torn / "owner.json").write_text('{"pid": 1')
    assert list(folders.left_behind()) == []  # they may be in the making
    others = [tmp_path / "lllm-experiments", tmp_path / f"{folders.PREFIX}{'a' * 10}", tmp_path / "lllm-x"]
    for folder in others:
        folder.mkdir()
    for folder in others[:2]:
        (folder / "results.csv").write_text("x")
    for folder in (kept, empty, torn, *others):
        os.utime(folder, (1, 1))
    assert sorted(folders.sweep()) == sorted([empty, torn])
    assert sorted(tmp_path.iterdir()) == sorted([kept, *others])


def test_level_reached_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    works = probe.probe
    monkeypatch.setattr(
        tiers,
        "probe",
        lambda tier: State(tier, False, "no such thing") if tier == "namespace" else works(tier),
    )
    store = MemoryLog()

    def program() -> Any:
        with lllm.record("isolated", store=store), JupyterSession() as notebook:
            assert notebook.isolation is None
            notebook.run_cell(notebook.append_code_cell("1"))
            return notebook.isolation

    reached = program()
    assert reached["tier"] == "process"
    assert reached["note"] == "tier 'namespace' does not work here: no such thing"
    assert process.OPEN["names"] in reached["open"]
    assert replay_session(store.sessions(1)[0].id, store=store, entry=program).verified
