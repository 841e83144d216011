"""Makes a commit of named files, by the parts of git that run nothing: no hook, no filter, no signature, no editor."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock
from typing import Any, Final

from lllm.errors import EndpointError, EndpointNotFound, EndpointRejected
from lllm.proxies.builtin.folder import too_large
from lllm.proxies.builtin.repository import Git, Repository, path_in

LARGEST: Final = 50 * 2**20
LONGEST: Final = 20_000
_WRITING: Final = Lock()


def commit(
    repository: Repository, message: str, paths: Sequence[str], author: tuple[str, str]
) -> dict[str, Any]:
    """See above. What else is staged stays staged, and is not part of it.

    Raises:
        EndpointRejected: nothing differs, no branch is checked out, a merge is under way, or another commit came first.
    """
    text = message.strip()
    if not text or len(text) > LONGEST or "\0" in text:
        raise EndpointRejected(f"message must be text of 1 to {LONGEST:,} characters")
    try:
        data = f"{text}\n".encode()
    except UnicodeEncodeError:
        raise EndpointRejected("message cannot be written as UTF-8") from None
    names = list(dict.fromkeys(path_in(repository.folder, path) for path in paths))
    if not all(names) or not names:
        raise EndpointRejected("paths must name files")
    with _WRITING, repository.opened() as git:
        if state := repository.unfinished():
            raise EndpointRejected(f"a merge or rebase is under way ({state}): it has to be ended first")
        branch = git.run("symbolic-ref", "--quiet", "HEAD", fails=None).line
        if not branch.startswith("refs/heads/"):
            raise EndpointRejected("no branch is checked out")
        parent = git.run("rev-parse", "--verify", "--quiet", f"{branch}^{{commit}}", fails=None).line
        for name in names:
            with suppress(EndpointNotFound):
                repository.folder.info(name)  # refuses what lies behind a link
        _check_ignored(git, names)
        entries = b"".join(_entry(repository, git, name, parent) for name in names)
        tree = _tree(git, parent, entries)
        if parent and tree == git.run("rev-parse", f"{parent}^{{tree}}").line:
            raise EndpointRejected("nothing to commit: the named files are as they were")
        who = {
            f"GIT_{role}_{key}": value
            for role in ("AUTHOR", "COMMITTER")
            for key, value in zip(("NAME", "EMAIL"), author, strict=True)
        }
        made = git.run(
            "commit-tree", tree, *(("-p", parent) if parent else ()), "-F", "-", given=data, env=who
        ).line
        subject = " ".join(text.partition("\n")[0].split())
        git.run(
            "update-ref", "-m", f"commit: {subject}"[:200], branch, made, parent or "0" * len(made), env=who
        )
        result: dict[str, Any] = {
            "commit": made,
            "branch": branch.removeprefix("refs/heads/"),
            "files": names,
        }
        try:
            git.run("update-index", "-z", "--index-info", given=entries)
        except EndpointError as error:
            result["note"] = f"The index could not be brought up to date: {error.message}"
        return result


def _check_ignored(git: Git, names: list[str]) -> None:
    """Raises EndpointRejected for a file that .gitignore names and that is not tracked, as `git add` does."""
    # it takes no literal paths, and no pattern begins like this
    given = b"".join(f"./{name}\0".encode() for name in names)
    found = git.run(
        "check-ignore", "-z", "--stdin", given=given, env={"GIT_LITERAL_PATHSPECS": "0"}, fails=None
    )
    if found.code not in (0, 1):
        raise EndpointError("git could not tell whether the files are ignored")
    if found.data:
        name = found.text.partition("\0")[0].removeprefix("./")
        raise EndpointRejected(f"'{name}' is ignored by .gitignore: commit it by hand")


def _tree(git: Git, parent: str, entries: bytes) -> str:
    """The tree of the parent with other entries, made in an index of its own."""
    index = {"GIT_INDEX_FILE": str(git.folder / "index.new")}
    git.run("read-tree", *((parent,) if parent else ("--empty",)), env=index)
    git.run("update-index", "-z", "--add", "--index-info", given=entries, env=index)
    return git.run("write-tree", env=index).line


def _entry(repository: Repository, git: Git, name: str, parent: str) -> bytes:
    """A file of the work tree as a line for the index; one that is gone as its removal."""
    try:
        info = repository.folder.info(name).info
    except EndpointNotFound:
        if parent and git.run("ls-tree", "-z", parent, "--", name).data:
            return f"0 {'0' * len(parent)}\t{name}".encode() + b"\0"
        raise
    with repository.folder.file(name) as file:
        if file.size > LARGEST:
            raise too_large(name, file.size, LARGEST)
        data = file.at(0, LARGEST)
        mode = "100755" if info.st_mode & stat.S_IXUSR else "100644"
    driver = git.run("check-attr", "-z", "filter", "--", name).text.split("\0")[2]
    if driver not in ("unspecified", "unset"):
        raise EndpointRejected(
            f"'{name}' passes through the filter '{driver}', which is not run here: commit it by hand"
        )
    found = git.run("hash-object", "-w", "--stdin", f"--path={name}", given=data).line
    return f"{mode} {found}\t{name}".encode() + b"\0"
