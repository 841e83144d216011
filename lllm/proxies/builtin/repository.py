"""Runs `git` on a repository that somebody else made, without anything of it being run.

What a repository can have git run is named in its configuration: hooks, filters, text conversions, pagers, monitors, helpers,
remotes. So git does not get to see that: for each call a folder is made with a configuration of ours, and links to the objects,
references and index of the repository. From its own configuration, only values that describe files are taken over. The
environment and the user's configuration are left out too, and no command of git is used that starts another program.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from lllm.errors import (
    ConfigError,
    EndpointDenied,
    EndpointError,
    EndpointNotFound,
    EndpointRejected,
    EndpointTimeout,
    nearest,
)
from lllm.proxies.builtin.folder import Folder

SECONDS: Final = 20.0
MEMORY: Final = 1 << 30
"""Bytes that git may allocate; packs that are mapped into memory do not count."""
MOST: Final = 2**20
"""Bytes of an answer of git that are read, where no other limit is named."""
_HASH: Final = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_BOOL: Final = ("true", "false", "yes", "no", "on", "off", "1", "0", "")
_TAKEN: Final = {
    "core.filemode": _BOOL,
    "core.ignorecase": _BOOL,
    "core.symlinks": _BOOL,
    "core.precomposeunicode": _BOOL,
    "core.autocrlf": (*_BOOL, "input"),
    "core.eol": ("lf", "crlf", "native"),
    "extensions.objectformat": ("sha1", "sha256"),
}
"""Settings that are taken over from the configuration of a repository, with the values that they may have."""
_OURS: Final = """\
[core]
\tbare = {bare}
\trepositoryFormatVersion = {version}
\tfsmonitor = false
\thooksPath = /dev/null
\tattributesFile = /dev/null
\texcludesFile = /dev/null
\tquotePath = false
\tbigFileThreshold = 16m
[protocol]
\tallow = never
[gc]
\tauto = 0
[maintenance]
\tauto = false
[submodule]
\trecurse = false
[log]
\tshowSignature = false
"""
_LINKED: Final = ("objects", "refs", "packed-refs", "shallow", "logs")
_UNFINISHED: Final = (
    "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply", "sequencer",
)  # fmt: skip


_SMALL: Final = 1 << 16
"""Bytes that are read of files which are small in every repository."""


@dataclass(frozen=True)
class Output:
    """The output of git. cut: whether there was more. code: its exit status."""

    data: bytes
    cut: bool = False
    code: int = 0

    @property
    def text(self) -> str:
        """It as text; what is not UTF-8 as U+FFFD."""
        return self.data.decode("utf-8", "replace")

    @property
    def line(self) -> str:
        """Its one line."""
        return self.text.strip()


class Repository:
    """See above.

    Arguments:
        root: the work tree, or a bare repository. git_dir: where its `.git` is, where that is not in the root.
        cutoff: revisions are as they were at that time.

    Raises:
        ConfigError: there is no repository, or no git.
    """

    def __init__(self, root: str | Path, git_dir: str = "", cutoff: datetime | None = None) -> None:
        self.cutoff = cutoff
        self.folder = Folder(root, hidden=True)
        self.root = self.folder.root
        self.bare = False
        if git_dir:
            self._own = Path(git_dir).expanduser().resolve()
        elif (self.root / ".git").is_dir():
            self._own = self.root / ".git"
        elif (self.root / ".git").exists():
            raise ConfigError(
                f"{str(self.root)!r} is a work tree whose repository is elsewhere",
                hint="Name that folder, which `git rev-parse --git-dir` prints, as the option git_dir.",
            )
        else:
            self._own, self.bare = self.root, True
        self._common = self._own
        if git_dir and self._own.parent.name == "worktrees" and (self._own / "commondir").is_file():
            self._common = self._own.parent.parent
        if not (self._own / "HEAD").is_file() or not (self._common / "objects").is_dir():
            raise ConfigError(f"{str(self.root)!r} is not a Git repository", hint="Type: git init")
        found = shutil.which("git")
        if found is None:
            raise ConfigError("the program git is not installed", hint="Type: sudo apt-get install git")
        if Path(found).resolve().is_relative_to(self.root):
            raise ConfigError(
                f"the program git lies in the repository: {found}", hint="Change the variable PATH."
            )
        self._program = str(Path(found).absolute())
        self._read: tuple[tuple[int, int, int], str] | None = None

    # --- running

    @contextmanager
    def opened(self) -> Iterator[Git]:
        """Opens the repository, as it is now, for git.

        Raises:
            EndpointDenied: it has links that lead out of it. EndpointRejected: its format is not supported.
        """
        self._check_links()
        with tempfile.TemporaryDirectory(prefix="lllm-git-") as folder:
            made = Path(folder)
            for name in _LINKED:
                if (self._common / name).exists():
                    (made / name).symlink_to(self._common / name)
            if not (made / "refs").exists():
                (made / "refs").mkdir()
            for part in self._own.glob("sharedindex.*"):
                (made / part.name).symlink_to(part)
            (made / "info").mkdir()
            if (self._common / "info" / "exclude").is_file():
                (made / "info" / "exclude").symlink_to(self._common / "info" / "exclude")
            try:
                (made / "HEAD").write_bytes(_small(self._own / "HEAD"))
            except OSError as error:
                raise EndpointError(f"the repository cannot be read: {error}") from None
            git = Git(self._program, self.root, made, None if self.bare else self._own / "index", self.cutoff)
            (made / "config").write_text("")
            (made / "config").write_text(self._config(git))
            yield git

    def unfinished(self) -> str:
        """The name of a merge or rebase that is under way, or ""."""
        return next((name for name in _UNFINISHED if (self._own / name).exists()), "")

    def _config(self, git: Git) -> str:
        """Our configuration, with what is taken over from the repository's: read again where that has changed."""
        file = self._common / "config"
        try:
            info = file.stat()
        except OSError:
            return _OURS.format(bare=str(self.bare).lower(), version=0)
        now = (info.st_ino, info.st_mtime_ns, info.st_size)
        if self._read is None or self._read[0] != now:
            self._read = now, self._merged(git, file)
        return self._read[1]

    def _merged(self, git: Git, file: Path) -> str:
        known: dict[str, str] = {}
        listed = git.run("config", "--file", str(file), "--no-includes", "--list", "-z", fails=None)
        for entry in listed.text.split("\0"):
            key, _, value = entry.partition("\n")
            known[key] = value.lower()
        if known.get("extensions.refstorage", "files") != "files":
            raise EndpointRejected(
                "the repository keeps its references in a format that is not supported here"
            )
        text = _OURS.format(bare=str(self.bare).lower(), version=int("extensions.objectformat" in known))
        for key, values in _TAKEN.items():
            if known.get(key) in values:
                section, _, name = key.partition(".")
                text += f"[{section}]\n\t{name} = {known[key]}\n"
        return text

    def _check_links(self) -> None:
        """Raises EndpointDenied where parts of the repository are links, which could lead anywhere."""
        names = [self._own / "HEAD", self._own / "index"]
        names += [self._common / name for name in (*_LINKED, "config", "info", "info/exclude")]
        for objects in self._object_folders():
            for folder in (objects, objects / "pack", objects / "info"):
                with suppress(OSError), os.scandir(folder) as entries:
                    names += [folder / entry.name for entry in entries if entry.is_symlink()]
        for folder in (self._common / "refs", self._common / "logs"):
            for above, folders, files in os.walk(folder):
                names += [Path(above, name) for name in (*folders, *files) if Path(above, name).is_symlink()]
        if not self.bare and self._own == self.root / ".git":
            names.append(self._own)
        for path in names:
            with suppress(OSError):
                if stat.S_ISLNK(path.lstat().st_mode):
                    raise EndpointDenied(
                        f"'{path.name}' of the repository is a symbolic link, which is not followed"
                    )

    def _object_folders(self) -> list[Path]:
        """Returns the folders of its objects: its own, those that it borrows from (alternates), and those that these borrow
        from. Raises EndpointDenied where one lies outside of the root."""
        outside = EndpointDenied("the repository borrows objects from outside of its root (alternates)")
        known = [self._common / "objects"]
        left = known.copy()
        while left:
            folder = left.pop()
            try:
                data = _small(folder / "info" / "alternates")
            except FileNotFoundError:
                continue
            except OSError:
                raise outside from None
            for line in data.split(b"\n"):
                if not line or line.startswith(b"#"):
                    continue
                # a quoted path may have escapes: git alone knows where it leads
                other = (folder / os.fsdecode(line)).resolve()
                if line.startswith(b'"') or len(data) > _SMALL or not other.is_relative_to(self.root):
                    raise outside
                if other not in known:
                    known.append(other)
                    left.append(other)
        return known


class Git:
    """Git on a repository, see Repository.opened."""

    def __init__(
        self, program: str, root: Path, folder: Path, index: Path | None, cutoff: datetime | None
    ) -> None:
        self._program, self._root, self.folder, self.index = program, root, folder, index
        self._cutoff = cutoff
        self._env = {
            "PATH": os.defpath,
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "GIT_DIR": str(folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_SYSTEM": "/dev/null",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "",
            "GIT_NO_LAZY_FETCH": "1",
            **dict.fromkeys(("GIT_EDITOR", "GIT_ASKPASS", "GIT_SSH_COMMAND"), "false"),
            "GIT_PAGER": "cat",
        }
        if index is not None:
            self._env |= {"GIT_WORK_TREE": str(root), "GIT_INDEX_FILE": str(index)}

    def run(
        self,
        *words: str,
        given: bytes = b"",
        most: int = MOST,
        env: dict[str, str] | None = None,
        fails: type[EndpointError] | None = EndpointRejected,
    ) -> Output:
        """Runs a command of git.

        Arguments:
            given: its input. most: bytes of output; where there are more, git is stopped. fails: what is raised where it fails,
                None for nothing.

        Raises:
            EndpointTimeout: it takes longer than SECONDS.
        """
        late = threading.Event()
        with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as source:
            source.write(given)
            source.seek(0)
            process = subprocess.Popen(
                [self._program, "--no-pager", *words],
                cwd=self._root,
                env={**self._env, **(env or {})},
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )

            _limit(process.pid)

            def stop(because: threading.Event | None = late) -> None:
                if because is not None:
                    because.set()
                with suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)

            timer = threading.Timer(SECONDS, stop)
            timer.daemon = True
            timer.start()
            assert process.stdout is not None
            try:
                data = process.stdout.read(most + 1)
                cut = len(data) > most
                if cut:
                    stop(None)
                code = process.wait()
            finally:
                timer.cancel()
                if process.poll() is None:
                    stop(None)
                    process.wait()
                process.stdout.close()
            if late.is_set():
                raise EndpointTimeout(f"git {words[0]} took longer than {SECONDS:g} s and was stopped")
            if code and not cut and fails is not None:
                errors.seek(0)
                raise fails(self._message(errors.read(4000).decode("utf-8", "replace"), words[0]))
        return Output(data[:most], cut, code)

    def _message(self, text: str, word: str) -> str:
        lines = [
            line.removeprefix("fatal: ").removeprefix("error: ") for line in text.splitlines() if line.strip()
        ]
        first = next(iter(lines), f"git {word} failed").replace(str(self.folder), ".git")
        return first[:500]

    def commit(self, revision: str) -> str:
        """The hash of a commit that a branch, tag or expression such as `HEAD~2` names.

        Raises:
            EndpointNotFound: there is none. EndpointRejected: not the name of one.
        """
        if (
            not revision.strip()
            or revision.startswith("-")
            or len(revision) > 300
            or not revision.isprintable()
            or not _encodable(revision)
        ):
            raise EndpointRejected(
                f"{revision[:80]!r} is not a revision", hint="As in HEAD, HEAD~2, a branch, a tag, or a hash."
            )
        found = self.run(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}", fails=None
        )
        if not _HASH.fullmatch(found.line):
            refs = self.run(
                "for-each-ref", "--format=%(refname:short)", "--count=500", fails=None
            ).text.split()
            close = nearest(revision, refs)
            raise EndpointNotFound(
                f"there is no revision {revision!r}", hint=f"Did you mean '{close}'?" if close else None
            )
        return found.line if self._cutoff is None else self._as_of(found.line, revision, self._cutoff)

    def _as_of(self, commit: str, revision: str, cutoff: datetime) -> str:
        """The newest commit in the history of one that is not later than the cutoff."""
        if not cutoff.microsecond:
            cutoff -= timedelta(seconds=1)  # git takes that second itself along
        before = f"--before={cutoff.isoformat(timespec='seconds')}"
        found = self.run("rev-list", "--max-count=1", before, commit).line
        if not _HASH.fullmatch(found):
            raise EndpointNotFound(f"{revision!r} has no commit before {cutoff.date().isoformat()}")
        return found


def _limit(pid: int) -> None:
    """Limits the memory of a process. Trees of trees of trees fill it, however small the repository is."""
    import resource

    with suppress(AttributeError, OSError, ValueError):  # macOS has no prlimit; or it has ended already
        resource.prlimit(pid, resource.RLIMIT_DATA, (MEMORY, MEMORY))


def path_in(folder: Folder, path: str) -> str:
    """A path in a repository, from its root. Raises as Folder.parts does, and EndpointDenied for what is in `.git`."""
    parts = folder.parts(path)
    if any(part.casefold().rstrip(" .") in (".git", "git~1") for part in parts):
        raise EndpointDenied("what is in .git is not part of the work tree")
    return "/".join(parts)


def _small(path: Path) -> bytes:
    """A small file; OSError for anything else than a regular one, which could block."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(f"{path.name} is not a regular file")
        return file.read(_SMALL + 1)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
