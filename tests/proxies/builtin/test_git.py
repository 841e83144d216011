"""The proxy `git`: what it shows, and that nothing of a repository is run, however it is configured."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lllm.errors import (
    ConfigError,
    EndpointAnswerInvalid,
    EndpointDenied,
    EndpointError,
    EndpointNotFound,
    EndpointRejected,
    EndpointTimeout,
    ToolError,
)
from lllm.models.parts import Image
from lllm.proxies import Proxy
from lllm.proxies.builtin import git as proxies_git
from lllm.proxies.builtin import repository

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
AUTHOR = "Ada Lovelace <ada@example.com>"


def git(root: Path, *words: str, **env: str) -> str:
    """What a person types."""
    who = {
        f"GIT_{role}_{key}": value
        for role in ("AUTHOR", "COMMITTER")
        for key, value in (("NAME", "Bob"), ("EMAIL", "b@c.d"))
    }
    done = subprocess.run(
        ["git", *words], cwd=root, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, **who, "GIT_CONFIG_GLOBAL": "/dev/null", **env},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def repository_in(made: Path) -> Path:
    """Two commits, of January and February 2024."""
    (made / "src").mkdir(parents=True)
    git(made, "init", "-q", "-b", "main")
    (made / "README.md").write_text("# Title\n\nOne.\n")
    (made / "src" / "a.py").write_text("def one():\n    return 1\n")
    (made / "logo.png").write_bytes(PNG)
    git(made, "add", ".")
    for month, message in ((1, "first\n\nWith a body."), (2, "second: \u00fcn\u00efcode")):
        date = f"2024-0{month}-02T03:04:05Z"
        git(made, "commit", "-qam", message, GIT_AUTHOR_DATE=date, GIT_COMMITTER_DATE=date)
        (made / "README.md").write_text("# Title\n\nTwo.\n")
    git(made, "tag", "v1", "HEAD~1")
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return repository_in(tmp_path / "root")


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that nothing changes."""
    return repository_in(tmp_path_factory.mktemp("git") / "root")


def proxy(root: Path, **options: Any) -> Callable[..., Any]:
    made = Proxy(["git"], options={"git": {"root": str(root), **options}})
    return lambda name, **arguments: made(f"git.{name}", **arguments)


# --- reading


def test_status_shows_every_kind_of_change(root: Path) -> None:
    call = proxy(root)
    assert call("status")["head"] == "main"
    (root / "README.md").write_text("changed\n")
    (root / "new file.txt").write_text("x")
    (root / "folder").mkdir()
    (root / "folder" / "x").write_text("x")
    git(root, "mv", "src/a.py", "src/b.py")
    before = (root / ".git" / "index").read_bytes()
    found = call("status")
    assert found["changed"] == ["M README.md"]
    assert found["staged"] == ["R src/a.py -> src/b.py"]
    assert found["untracked"] == ["folder/", "new file.txt"]
    assert (root / ".git" / "index").read_bytes() == before


def test_log_and_its_filters(fixed: Path) -> None:
    call = proxy(fixed)
    found = call("log")["commits"]
    assert [one["subject"] for one in found] == ["second: \u00fcn\u00efcode", "first"]
    assert found[1]["body"] == "With a body."
    assert found[1]["author"] == "Bob <b@c.d>"
    assert found[1]["date"].startswith("2024-01-02T03:04:05")
    assert call("log", limit=1)["more"]
    assert len(call("log", path="src")["commits"]) == 1
    assert len(call("log", since="2024-01-15")["commits"]) == 1
    assert len(call("log", until="2024-01-15")["commits"]) == 1
    assert len(call("log", author="bob")["commits"]) == 2
    assert len(call("log", grep="FIRST")["commits"]) == 1
    assert not call("log", grep="f.rst")["commits"]
    assert not call("log", path="nothing")["commits"]
    assert len(call("log", revision="v1")["commits"]) == 1


def test_show_and_diff(root: Path) -> None:
    call = proxy(root)
    assert "-One.\n+Two.\n" in call("show")["diff"]
    assert "+def one():" in call("show", revision="v1", path="src")["diff"]
    assert "README" not in call("show", revision="v1", path="src")["diff"]
    assert "-One.\n+Two.\n" in call("diff", base="v1", revision="HEAD")["diff"]
    assert call("diff") == {"diff": ""}
    (root / "README.md").write_text("# Title\n\nThree.\n")
    assert "-Two.\n+Three.\n" in call("diff")["diff"]
    assert call("diff", staged=True)["diff"] == ""
    git(root, "add", ".")
    assert "-Two.\n+Three.\n" in call("diff", staged=True)["diff"]
    (root / "big.txt").write_text("x\n" * 100_000)
    git(root, "add", ".")
    git(root, "commit", "-qm", "big")
    found = call("show")
    assert len(found["diff"]) <= 40_000
    assert found["files"] == ["README.md", "big.txt"]
    assert "name a path" in found["note"]


def test_a_merge_is_shown_from_its_first_parent(root: Path) -> None:
    git(root, "checkout", "-qb", "side", "v1")
    (root / "side.txt").write_text("side\n")
    git(root, "add", ".")
    git(root, "commit", "-qm", "side")
    git(root, "checkout", "-q", "main")
    git(root, "merge", "-q", "--no-ff", "-m", "merge", "side")
    found = proxy(root)("show")
    assert len(found["parents"]) == 2
    assert "+side" in found["diff"]
    names = {one["name"] for one in proxy(root)("branches")["branches"]}
    assert names == {"heads/main", "heads/side", "tags/v1"}
    assert proxy(root)("branches")["current"] == "main"


def test_blame_and_read(root: Path) -> None:
    call = proxy(root)
    lines = call("blame", path="README.md")["lines"]
    assert [(one["line"], one["text"], one["date"]) for one in lines] == [
        (1, "# Title", "2024-01-02"), (2, "", "2024-01-02"), (3, "Two.", "2024-02-02"),
    ]  # fmt: skip
    assert call("blame", path="README.md", lines=2)["next_line"] == 3
    assert call("read", path="README.md", revision="v1")["text"] == "# Title\n\nOne.\n"
    assert call("read", path="logo.png") == Image(PNG, "image/png")
    assert call("read", path="")["entries"] == [
        "README.md (blob, 14 bytes)",
        "logo.png (blob, 28 bytes)",
        "src/",
    ]
    with pytest.raises(EndpointNotFound):
        call("read", path="nothing")
    with pytest.raises(EndpointRejected, match="behind the end"):
        call("blame", path="README.md", line=9)
    (root / "bin").write_bytes(bytes(100))
    git(root, "add", ".")
    git(root, "commit", "-qm", "bin")
    with pytest.raises(EndpointAnswerInvalid, match="binary"):
        call("read", path="bin")


def test_an_empty_repository_a_bare_one_and_a_linked_work_tree(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "-q", "-b", "main")
    call = proxy(tmp_path / "empty", writable=True, author=AUTHOR)
    assert call("status")["head"] == "main"
    with pytest.raises(EndpointNotFound, match="no revision 'HEAD'"):
        call("log")
    (tmp_path / "empty" / "a").write_text("x")
    assert call("commit", message="first", paths=["a"])["branch"] == "main"
    assert len(call("log")["commits"]) == 1

    git(tmp_path, "clone", "-q", "--bare", str(root), "bare.git")
    call = proxy(tmp_path / "bare.git")
    assert len(call("log")["commits"]) == 2
    assert call("read", path="README.md")["text"].endswith("Two.\n")
    for name in ("status", "diff"):
        with pytest.raises(EndpointRejected, match="bare"):
            call(name)

    git(root, "worktree", "add", "-q", "../linked", "-b", "other")
    with pytest.raises(ConfigError, match="git_dir"):
        proxy(tmp_path / "linked")
    call = proxy(
        tmp_path / "linked", git_dir=str(root / ".git" / "worktrees" / "linked"), writable=True, author=AUTHOR
    )
    assert call("status")["head"] == "other"
    (tmp_path / "linked" / "b").write_text("x")
    assert call("commit", message="more", paths=["b"])["branch"] == "other"
    assert git(tmp_path / "linked", "status", "--porcelain") == ""


def test_a_repository_with_other_hashes(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    git(tmp_path / "r", "init", "-q", "--object-format=sha256", "-b", "main")
    (tmp_path / "r" / "a").write_text("x\n")
    call = proxy(tmp_path / "r", writable=True, author=AUTHOR)
    assert len(call("commit", message="first", paths=["a"])["commit"]) == 64
    assert call("blame", path="a")["lines"][0]["text"] == "x"


# --- what is refused


REVISIONS = (
    *(
        "",
        "-",
        "--help",
        "--output=/tmp/lllm-stolen",
        "--upload-pack=touch x",
        "-O/tmp/x",
        "--git-dir=/",
        "no-such",
    ),
    *(
        "a..b",
        "HEAD..main",
        "^HEAD",
        "HEAD^{tree}",
        "HEAD:README.md",
        "HEAD\n--help",
        "HEAD\0",
        "\udcff",
        "x" * 1000,
    ),
    *("@{upstream}", "main --help", "$(touch x)", "`touch x`", "../../etc", "refs/../../x", ":/(a+)+$"),
)


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_revision_is_no_option(fixed: Path, revision: str) -> None:
    name = ["log", "show", "diff", "blame", "read"][REVISIONS.index(revision) % 5]  # all come to one function
    arguments = {"path": "README.md"} if name in ("blame", "read") else {}
    before = sorted(os.listdir(fixed))
    with pytest.raises((EndpointRejected, EndpointNotFound, EndpointTimeout)):
        proxy(fixed)(name, **{"base" if name == "diff" else "revision": revision}, **arguments)
    assert sorted(os.listdir(fixed)) == before


@pytest.mark.parametrize(
    "path",
    ["../x", "/etc/passwd", ".git/config", ".GIT/config", "a/.git/x", "a\0b", "\udcff", "git~1/config"],
)
@pytest.mark.parametrize("name", ["log", "show", "diff", "blame", "read", "commit"])
def test_a_path_does_not_lead_out(fixed: Path, path: str, name: str) -> None:
    arguments = {"message": "x", "paths": [path]} if name == "commit" else {"path": path}
    with pytest.raises((EndpointDenied, EndpointRejected)):
        proxy(fixed, writable=True, author=AUTHOR)(name, **arguments)


@pytest.mark.parametrize(
    "path", [":(top)README.md", ":/", ":!README.md", "*.md", "--help", "-O", "--", "README.m?"]
)
def test_a_path_is_no_pattern_and_no_option(fixed: Path, path: str) -> None:
    call = proxy(fixed)
    assert call("log", path=path) == {"commits": []}
    assert call("show", path=path)["diff"] == ""
    for name in ("read", "blame"):
        with pytest.raises(EndpointNotFound):
            call(name, path=path)


@pytest.mark.parametrize("value", ["--output=x", "$(touch x)", "x\0y", "x\ny", "x" * 1000, "(a+)+$"])
@pytest.mark.parametrize("name", ["author", "grep", "since", "until"])
def test_a_filter_is_only_a_value(fixed: Path, name: str, value: str) -> None:
    before = sorted(os.listdir(fixed))
    try:
        assert proxy(fixed)("log", **{name: value})["commits"] is not None
    except ToolError as error:
        assert "printable" in str(error)  # noqa: PT017
    assert sorted(os.listdir(fixed)) == before


CONFIG = """
[core]
    fsmonitor = {run}
    pager = {run}
    editor = {run}
    sshCommand = {run}
    gitProxy = {run}
    askPass = {run}
    alternateRefsCommand = {run}
    hooksPath = {hooks}
    attributesFile = {attributes}
    worktree = /
[diff]
    external = {run}
    orderFile = /etc/passwd
[diff "evil"]
    command = {run}
    textconv = {run}
[filter "evil"]
    clean = {run}
    smudge = {run}
    process = {run}
    required = true
[merge "evil"]
    driver = {run}
[pager]
    log = {run}
    diff = {run}
    show = {run}
    status = {run}
    blame = {run}
    branch = {run}
[alias]
    status = !{run}
    log = !{run}
[gpg]
    program = {run}
[log]
    showSignature = true
[commit]
    gpgSign = true
    template = /etc/passwd
[interactive]
    diffFilter = {run}
[trailer "x"]
    command = {run}
[credential]
    helper = !{run}
[include]
    path = {included}
[includeIf "gitdir:/"]
    path = {included}
[remote "origin"]
    url = ext::{run}
    promisor = true
    partialclonefilter = blob:none
    uploadpack = {run}
[extensions]
    partialClone = origin
    worktreeConfig = true
[submodule]
    recurse = true
[submodule "sub"]
    url = ext::{run}
    update = !{run}
[status]
    submoduleSummary = true
[protocol "ext"]
    allow = always
[uploadpack]
    packObjectsHook = {run}
[blame]
    ignoreRevsFile = /etc/passwd
[mailmap]
    file = /etc/passwd
[core]
    repositoryFormatVersion = 1
"""
HOOKS = """
pre-commit commit-msg prepare-commit-msg post-commit reference-transaction post-index-change fsmonitor-watchman
pre-auto-gc post-checkout
"""


def test_nothing_of_a_malicious_repository_is_run(root: Path, tmp_path: Path) -> None:
    """Each way in which a repository can name a program that git starts; that they work is tried first."""
    ran = tmp_path / "ran"
    evil = tmp_path / "evil"
    evil.write_text(f'#!/bin/sh\necho "$0 $@" >> {ran}\ncat\n')
    evil.chmod(0o755)
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for folder in (hooks, root / ".git" / "hooks"):
        for name in HOOKS.split():
            (folder / name).write_text(evil.read_text())
            (folder / name).chmod(0o755)
    attributes = "* filter=evil diff=evil merge=evil\n"
    (root / ".gitattributes").write_text(attributes)
    (root / ".git" / "info").mkdir(exist_ok=True)
    (root / ".git" / "info" / "attributes").write_text(attributes)
    git(root, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(root), "sub")
    git(root, "commit", "-qm", "sub")
    text = CONFIG.format(
        run=evil, hooks=hooks, attributes=root / ".gitattributes", included=tmp_path / "included"
    )
    (tmp_path / "included").write_text(text)
    for config in (root / ".git", root / ".git" / "modules" / "sub"):
        (config / "config").write_text(text)
        (config / "config.worktree").write_text(text)
    (root / "README.md").write_text("changed\n")
    (root / "sub" / "README.md").write_text("changed\n")
    (root / "fresh.txt").write_text("x\n")

    subprocess.run(["git", "status"], cwd=root, capture_output=True, timeout=60, check=False)
    assert ran.exists(), "the repository is harmless, and this test shows nothing"
    ran.unlink()

    call = proxy(root, writable=True, author=AUTHOR)
    for _ in range(2):
        assert "M README.md" in call("status")["changed"]
        assert call("log")["commits"]
        assert call("show")["diff"]
        assert "+changed" in call("diff")["diff"]
        call("diff", staged=True)
        call("diff", base="HEAD~1", revision="HEAD")
        assert call("blame", path="README.md")["lines"]
        assert call("read", path="README.md")["text"]
        assert call("branches")["branches"]
        with pytest.raises(EndpointRejected, match="filter 'evil'"):
            call("commit", message="x", paths=["README.md"])
        os.utime(root / "README.md")
    # without the filter, which is refused, the commit is made
    (root / ".gitattributes").write_text("* diff=evil merge=evil\n")
    (root / ".git" / "info" / "attributes").unlink()
    assert call("commit", message="x", paths=["README.md", "fresh.txt", ".gitattributes"])["commit"]
    with pytest.raises(EndpointNotFound):
        call("read", path="README.md", revision="0" * 40)
    assert not ran.exists(), ran.read_text()


def test_nothing_of_the_user_or_the_environment_is_run(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    evil = tmp_path / "evil"
    evil.write_text(f'#!/bin/sh\necho "$0 $@" >> {ran}\ncat\n')
    evil.chmod(0o755)
    text = CONFIG.format(run=evil, hooks=tmp_path, attributes=evil, included=tmp_path / "none")
    (Path.home() / ".gitconfig").write_text(text)
    for name in (
        "GIT_EXTERNAL_DIFF",
        "GIT_SSH_COMMAND",
        "GIT_EDITOR",
        "GIT_PAGER",
        "GIT_ASKPASS",
        "GIT_PROXY_COMMAND",
    ):
        monkeypatch.setenv(name, str(evil))
    elsewhere = {
        "GIT_DIR": "/", "GIT_WORK_TREE": "/", "GIT_INDEX_FILE": "/none", "GIT_OBJECT_DIRECTORY": "/", "GIT_TRACE": str(ran),
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.fsmonitor", "GIT_CONFIG_VALUE_0": str(evil),
        "GIT_CONFIG_GLOBAL": str(Path.home() / ".gitconfig"), "GIT_EXEC_PATH": str(tmp_path),
    }  # fmt: skip
    for name, value in elsewhere.items():
        monkeypatch.setenv(name, value)
    (root / "README.md").write_text("changed\n")
    call = proxy(root, writable=True, author=AUTHOR)
    assert call("status")["changed"] == ["M README.md"]
    assert "+changed" in call("diff")["diff"]
    assert call("log")["commits"]
    assert call("commit", message="x", paths=["README.md"])["commit"]
    assert not ran.exists(), ran.read_text()


def test_a_program_named_git_in_the_repository_is_not_run(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "git").write_text("#!/bin/sh\n")
    (root / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{root}:{os.environ['PATH']}")
    with pytest.raises(ConfigError, match="lies in the repository"):
        proxy(root)


def test_the_configuration_does_not_lead_to_another_work_tree(root: Path) -> None:
    git(root, "config", "core.worktree", "/etc")
    assert "untracked" not in proxy(root)("status")


@pytest.mark.parametrize(
    "name",
    [
        "HEAD",
        "index",
        "objects",
        "refs",
        "refs/heads",
        "refs/heads/main",
        "logs/refs/heads/main",
        "objects/pack",
    ],
)
def test_parts_of_the_repository_that_are_links_are_refused(root: Path, tmp_path: Path, name: str) -> None:
    part = root / ".git" / name
    part.rename(tmp_path / "moved")
    part.symlink_to(tmp_path / "moved")
    for verb, arguments in (("log", {}), ("commit", {"message": "x", "paths": ["README.md"]})):
        with pytest.raises(EndpointDenied, match="symbolic link"):
            proxy(root, writable=True, author=AUTHOR)(verb, **arguments)


def test_a_repository_cannot_name_another_one_as_its_own(root: Path, tmp_path: Path) -> None:
    """As a linked work tree does, which only the options may name."""
    (root / ".git").rename(tmp_path / "root" / "moved")
    for name in ("objects", "refs"):
        (tmp_path / name).mkdir()
    made = root.rename(tmp_path / "worktrees")
    (made / "moved").rename(made / ".git")
    (made / ".git" / "commondir").write_text("../..\n")
    assert proxy(made)("log")["commits"]  # its own, and not those that would be beside it


def hostile_commit(
    root: Path, message: bytes, *, name: bytes = b"Eve", date: bytes = b"1700000000 +0130"
) -> str:
    """A commit on main that git itself would not make."""
    tree, parent = git(root, "rev-parse", "HEAD^{tree}", "HEAD").split()
    who = name + b" <e@f.g> " + date
    data = f"tree {tree}\nparent {parent}\n".encode()
    data += b"author " + who + b"\ncommitter " + who + b"\n\n" + message
    done = subprocess.run(
        ["git", "hash-object", "-t", "commit", "-w", "--stdin", "--literally"],
        cwd=root, input=data, capture_output=True, check=True,
    )  # fmt: skip
    made = done.stdout.decode().strip()
    git(root, "update-ref", "refs/heads/main", made)
    return made


@pytest.mark.parametrize(
    "arguments",
    [
        {"message": b"s" * 3_000_000},
        {"message": b"subject\n\n" + b"b" * 3_000_000},
        {"message": "e\u0301".encode() + "\u0301".encode() * 2_000_000},
        {"message": b"x", "name": b"n" * 3_000_000},
        *(
            {"message": b"x", "date": date}
            for date in (b"9223372036854775807 +9999", b"-5 +0000", b"abc", b"1 +9999")
        ),
    ],
)
def test_no_commit_hides_the_others(root: Path, arguments: dict[str, bytes]) -> None:
    made = hostile_commit(root, **arguments)  # type: ignore[arg-type]
    call = proxy(root)
    found = call("log")["commits"]
    assert found[0]["commit"] == made
    assert [one["subject"] for one in found][1:] == ["second: \u00fcn\u00efcode", "first"]
    assert call("show")["commit"] == made
    assert [one["name"] for one in call("branches")["branches"]].count("heads/main") == 1
    assert call("blame", path="README.md")["total_lines"] == 3


def test_dates_have_their_offset(root: Path) -> None:
    hostile_commit(root, b"x")
    assert proxy(root)("log", limit=1)["commits"][0]["date"] == "2023-11-14T23:43:20+01:30"


def test_lines_that_were_left_out_of_a_blame_come_next(root: Path) -> None:
    (root / "long.txt").write_text("".join(f"{n} {'x' * 4000}\n" for n in range(400)))
    git(root, "add", ".")
    git(root, "commit", "-qm", "long")
    call, lines, line = proxy(root), [], 1
    while line:
        found = call("blame", path="long.txt", line=line, lines=400)
        lines += [(one["line"], one["text"].split()[0]) for one in found["lines"]]
        line = found.get("next_line", 0)
    assert lines == [(n + 1, str(n)) for n in range(400)]


def test_a_list_that_is_cut_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(50):
        (root / f"{n:03}{'x' * 40}").write_text("x")
    monkeypatch.setattr(proxies_git, "_LISTED", 1000)
    found = proxy(root)("status")
    assert found["more"] is True
    assert 5 < len(found["untracked"]) < 25
    assert all(len(name) == 43 for name in found["untracked"])
    git(root, "add", ".")
    git(root, "commit", "-qm", "many")
    monkeypatch.setattr(proxies_git, "_ENTRIES", 3)
    found = proxy(root)("read", path=".")
    assert len(found["entries"]) == 3
    assert found["more_entries"].startswith("at least ")


def test_a_tree_of_trees_does_not_fill_the_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten trees of ten trees of ten trees, and so on: a few kilobytes, and a billion files."""
    monkeypatch.setattr(repository, "MEMORY", 64 << 20)
    blob = git(root, "rev-parse", "HEAD:README.md").strip()
    entry, kind = blob, "100644 blob"
    for _ in range(9):
        listed = "".join(f"{kind} {entry}\tn{n}\n" for n in range(10))
        done = subprocess.run(
            ["git", "mktree"], cwd=root, input=listed.encode(), capture_output=True, check=True
        )
        entry, kind = done.stdout.decode().strip(), "040000 tree"
    git(
        root,
        "update-ref",
        "refs/heads/main",
        git(root, "commit-tree", entry, "-p", "HEAD", "-m", "bomb").strip(),
    )
    with pytest.raises(EndpointRejected, match=r"memory"):
        proxy(root)("show")
    assert proxy(root)("read", path="n1/n2")["entries"]


def test_objects_are_not_borrowed_from_elsewhere(root: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--shared", str(root), "borrower")
    with pytest.raises(EndpointDenied, match="alternates"):
        proxy(tmp_path / "borrower")("log")


@pytest.mark.parametrize(
    "line",
    [
        b"@",
        b'"@"',
        b'"\\057@"',
        b"# nothing\n\n@",
        b"../../missing\n" * 10_000 + b"@",
        b"../../\xff",
        b"../../borrowed",
        b"../../linked",
    ],
)
def test_objects_are_not_borrowed_by_another_way(root: Path, tmp_path: Path, line: bytes) -> None:
    """A path in quotation marks, behind many others, that is no text, or of a folder that borrows or links itself."""
    objects = root / ".git" / "objects"
    commit = git(root, "rev-parse", "HEAD")
    made = tmp_path / "borrower"
    git(tmp_path, "init", "-q", "-b", "main", str(made))
    (made / "borrowed" / "info").mkdir(parents=True)
    (made / "borrowed" / "info" / "alternates").write_bytes(os.fsencode(objects))
    (made / "linked").mkdir()
    for folder in objects.iterdir():
        (made / "linked" / folder.name).symlink_to(folder)
    (made / os.fsdecode(b"\xff")).symlink_to(objects)
    (made / ".git" / "refs" / "heads" / "main").write_text(commit)
    path = os.fsencode(objects)
    line = line.replace(b"057@", b"057" + path[1:]).replace(b"@", path)
    (made / ".git" / "objects" / "info" / "alternates").write_bytes(line + b"\n")
    assert "first" in git(made, "log")  # git itself does borrow
    with pytest.raises(EndpointDenied, match=r"alternates|symbolic link"):
        proxy(made)("log")


def test_objects_may_be_borrowed_within_the_root(root: Path) -> None:
    git(root, "clone", "-q", "--shared", ".", "below")
    assert len(proxy(root)("log")["commits"]) == 2
    (root / ".git" / "objects").rename(root / "objects")
    (root / ".git" / "objects" / "info").mkdir(parents=True)
    (root / ".git" / "objects" / "info" / "alternates").write_text("# moved\n../../objects\n")
    assert len(proxy(root)("log")["commits"]) == 2


def test_links_in_the_work_tree_are_not_followed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.py").write_text("secret\n")
    (root / "src" / "a.py").unlink()
    (root / "src").rmdir()
    (root / "src").symlink_to(tmp_path / "outside")
    call = proxy(root, writable=True, author=AUTHOR)
    for found in (call("diff"), call("status"), call("blame", path="src/a.py")):
        assert "secret" not in str(found)
    with pytest.raises(EndpointDenied, match="symbolic link"):
        call("commit", message="x", paths=["src/a.py"])


def test_git_is_stopped_after_a_while(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(root / ".gitignore")  # opening it never ends
    monkeypatch.setattr(repository, "SECONDS", 1.0)
    with pytest.raises(EndpointTimeout, match="git status took longer than 1 s"):
        proxy(root)("status")


def test_a_pipe_in_place_of_a_file_is_not_waited_for(root: Path) -> None:
    call = proxy(root)
    (root / ".git" / "HEAD").unlink()
    os.mkfifo(root / ".git" / "HEAD")
    with pytest.raises(EndpointError, match="not a regular file"):
        call("log")


def test_revisions_are_as_they_were_at_the_cutoff(root: Path) -> None:
    made = Proxy(["git"], cutoff_date="2024-01-20", options={"git": {"root": str(root)}})
    assert [one["subject"] for one in made("git.log")["commits"]] == ["first"]
    assert made("git.read", path="README.md")["text"].endswith("One.\n")
    assert made("git.show")["subject"] == "first"
    assert made("git.diff", base="v1", revision="main")["diff"] == ""
    assert [one["name"] for one in made("git.branches")["branches"]] == ["tags/v1"]
    for name in ("git.status", "git.diff"):
        with pytest.raises(EndpointRejected, match="later than the cutoff"):
            made(name)
    with pytest.raises(EndpointNotFound, match="no commit before"):
        Proxy(["git"], cutoff_date="2023-01-01", options={"git": {"root": str(root)}})("git.log")
    assert Proxy(["git"], cutoff_date="2024-01-20", deploy_mode=True, options={"git": {"root": str(root)}})(
        "git.status"
    )


# --- writing


def test_commit_takes_the_named_files_alone(root: Path) -> None:
    (root / "README.md").write_text("# Title\n\nThree.\n")
    (root / "src" / "new.py").write_text("x = 1\n")
    (root / "src" / "new.py").chmod(0o755)
    (root / "logo.png").unlink()
    (root / "other.txt").write_text("not this\n")
    (root / "staged.txt").write_text("nor this\n")
    git(root, "add", "staged.txt")
    call = proxy(root, writable=True, author=AUTHOR)
    made = call("commit", message="all: three\n\nAnd why.", paths=["README.md", "src/new.py", "logo.png"])
    assert made["branch"] == "main"
    assert git(root, "rev-parse", "HEAD").strip() == made["commit"]
    assert git(root, "show", "--format=%an <%ae>|%cn|%s|%b", "--name-status").strip().split("\n\n") == [
        "Ada Lovelace <ada@example.com>|Ada Lovelace|all: three|And why.",
        "\nM\tREADME.md\nD\tlogo.png\nA\tsrc/new.py",
    ]
    assert git(root, "status", "--porcelain") == "A  staged.txt\n?? other.txt\n"
    assert git(root, "ls-tree", "HEAD", "src/new.py").startswith("100755")
    assert "commit: all: three" in git(root, "reflog")
    assert git(root, "fsck", "--strict") == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"message": "x", "paths": ["README.md"]}, "nothing to commit"),
        ({"message": "x", "paths": ["nothing.txt"]}, "there is no 'nothing.txt'"),
        ({"message": "x", "paths": ["src"]}, "is a folder"),
        ({"message": "x", "paths": []}, "paths"),
        ({"message": "x", "paths": [""]}, "must name files"),
        ({"message": "  ", "paths": ["README.md"]}, "message must be"),
        ({"message": "a\0b", "paths": ["README.md"]}, "message must be"),
        ({"message": "\udcff", "paths": ["README.md"]}, "UTF-8"),
    ],
)
def test_a_commit_that_cannot_be_made(fixed: Path, arguments: dict[str, Any], words: str) -> None:
    before = git(fixed, "rev-parse", "HEAD")
    with pytest.raises(ToolError) as caught:
        proxy(fixed, writable=True, author=AUTHOR)("commit", **arguments)
    assert words in str(caught.value)
    assert git(fixed, "rev-parse", "HEAD") == before


def test_a_commit_in_the_middle_of_something_else_is_refused(root: Path) -> None:
    call = proxy(root, writable=True, author=AUTHOR)
    (root / "README.md").write_text("x\n")
    (root / ".git" / "MERGE_HEAD").write_text(git(root, "rev-parse", "HEAD"))
    with pytest.raises(EndpointRejected, match="MERGE_HEAD"):
        call("commit", message="x", paths=["README.md"])
    (root / ".git" / "MERGE_HEAD").unlink()
    git(root, "checkout", "-q", "--detach")
    with pytest.raises(EndpointRejected, match="no branch"):
        call("commit", message="x", paths=["README.md"])
    git(root, "checkout", "-q", "main")
    (root / ".git" / "refs" / "heads" / "main.lock").write_text("")
    before = git(root, "rev-parse", "HEAD")
    with pytest.raises(EndpointError, match="lock"):
        call("commit", message="x", paths=["README.md"])
    (root / ".git" / "refs" / "heads" / "main.lock").unlink()
    assert git(root, "rev-parse", "HEAD") == before
    (root / ".git" / "index.lock").write_text("")
    assert "could not be brought up to date" in call("commit", message="x", paths=["README.md"])["note"]


def test_ignored_files_are_not_committed(root: Path) -> None:
    (root / ".gitignore").write_text(".env\n*.log\n/build/\n")
    call = proxy(root, writable=True, author=AUTHOR)
    (root / "build").mkdir()
    for name in (".env", "a.log", "build/x", "*.log", ":(top)x.log"):
        (root / name).write_text("x")
        with pytest.raises(EndpointRejected, match=r"is ignored by \.gitignore"):
            call("commit", message="x", paths=[".gitignore", name])
    git(root, "add", "-f", "a.log")
    git(root, "commit", "-qm", "one of them is tracked")
    (root / "a.log").write_text("y")
    assert call("commit", message="x", paths=[".gitignore", "a.log"])["commit"]


def test_line_ends_are_converted_as_git_does(root: Path) -> None:
    (root / ".gitattributes").write_text("*.txt text\n")
    (root / "a.txt").write_bytes(b"one\r\n")
    proxy(root, writable=True, author=AUTHOR)("commit", message="x", paths=["a.txt", ".gitattributes"])
    assert git(root, "cat-file", "-s", "HEAD:a.txt").strip() == "4"
    assert not re.search("a.txt", git(root, "status", "--porcelain"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"root": ""}, "needs the option 'root'"),
        ({"root": "/usr"}, "not a Git repository"),
        ({"writable": True}, "needs the option 'author'"),
        ({"writable": True, "author": "no mail"}, "needs the option 'author'"),
        ({"writable": True, "author": "a\nb <x@y>"}, "needs the option 'author'"),
    ],
)
def test_options_are_checked(fixed: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        proxy(fixed, **options) if "root" not in options else Proxy(["git"], options={"git": options})
    assert words in str(caught.value)
