"""git: the history of one repository, and commits where they are allowed."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, ClassVar, Final

from lllm.errors import ConfigError, EndpointAnswerInvalid, EndpointNotFound, EndpointRejected
from lllm.models.parts import Image
from lllm.proxies.base import BaseProxy
from lllm.proxies.builtin import commits
from lllm.proxies.builtin.options import TEXT, Configured
from lllm.proxies.builtin.repository import Git, Repository, path_in
from lllm.proxies.builtin.text import decoded, image_type, page_of_text

DIFF: Final = 40_000
"""Bytes of a diff that are returned."""
LARGEST: Final = 5 * 2**20
"""Bytes of a file that is read or blamed."""
_ENTRIES: Final = 300
_DIFFS: Final = (
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--find-renames",
)
_FIELDS: Final = ("commit", "author", "email", "date", "parents", "subject", "body")
_FORMAT: Final = "--format=" + "%x00".join(
    ("%H", "%<(200,trunc)%an", "%<(200,trunc)%ae", "%ad", "%P", "%<(500,trunc)%s", "%<(3000,trunc)%b")
)
"""Cut by git: one commit with a message of megabytes must not hide those behind it."""
_LISTED: Final = 16 * 2**20
"""Bytes of a list that are read."""
_RAW_DATE: Final = re.compile(r"(-?\d{1,12}) ([+-])(\d\d)(\d\d)")
_AUTHOR: Final = re.compile(r"([^<>\n]*[^<>\s])\s*<([^<>\s]+)>")
_PATH: Final = {"path": {"description": "only this file or folder, from the root"}}
_REVISION: Final = {"revision": {"description": "a branch, tag, hash or expression as HEAD~2"}}


class GitProxy(Configured):
    """A Git repository: its history, and what has changed.

    Attributes:
        root: the work tree, or a bare repository. git_dir: where its `.git` folder is, where that is not in the root.
        author: `Name <mail>` of commits; needed where it is writable.
        writable, approval: see Configured.
    """

    _proxy_path = "git"
    _proxy_name = "Git"
    _proxy_description = "Reads the history of one Git repository; commits where that is allowed."
    path_options = ("root", "git_dir")
    OPTIONS: ClassVar = {**Configured.OPTIONS, "root": TEXT, "git_dir": TEXT, "author": TEXT}

    root: str = ""
    git_dir: str = ""
    author: str = ""
    timeout = 120.0

    def __init__(self, cutoff_date: Any = None, use_cache: bool = True, **options: Any) -> None:
        for key in ("root", "git_dir"):
            if key in options and hasattr(options[key], "__fspath__"):
                options[key] = str(options[key])
        super().__init__(cutoff_date, use_cache, **options)
        if not self.root:
            raise ConfigError(
                f"the proxy '{self.path()}' needs the option 'root', the folder of its repository",
                hint=f'Write [proxy_options.{self.path()}] root = "FOLDER" in lllm.toml, or Proxy(options=...).',
            )
        if self.writable and not _AUTHOR.fullmatch(self.author):
            raise ConfigError(
                f"the proxy '{self.path()}' is writable, so it needs the option 'author', got {self.author!r}",
                hint="As in 'Ada Lovelace <ada@example.com>'.",
            )
        self._repository = Repository(self.root, self.git_dir, self.cutoff_date)

    @BaseProxy.endpoint(category="read", effect="pure")
    def status(self) -> dict[str, Any]:
        """Shows the branch, and what is staged, changed, in conflict and untracked."""
        self._work_tree()
        with self._repository.opened() as git:
            words = (
                "--porcelain=v2",
                "--branch",
                "-z",
                "--ignore-submodules=all",
                "--untracked-files=normal",
            )
            found = git.run("status", *words, most=_LISTED)
        if not found.cut:
            return _status(found.text)
        return {**_status(found.text.rpartition("\0")[0]), "more": True}

    @BaseProxy.endpoint(category="read", effect="pure", params={"limit": {"minimum": 1, "maximum": 1000}})
    def branches(self, limit: int = 100) -> dict[str, Any]:
        """Lists branches and tags with their last commit, the newest first.

        Args:
            limit: how many at most.
        """
        fields = "%(refname)%00%(objectname)%00%(creatordate:raw)%00%(subject)"
        with self._repository.opened() as git:
            most = [] if self._repository.cutoff is not None else [f"--count={limit + 1}"]
            words = ("for-each-ref", *most, f"--format={fields}")
            found = git.run(*words, "--sort=-creatordate", most=_LISTED, fails=None)
            if found.code and not found.cut:  # a date that git cannot sort by
                found = git.run(*words, most=_LISTED)
            names = [line.split("\0") for line in found.text.split("\n") if line.count("\0") == 3]
            names = [[*one[:2], _date(one[2]), one[3]] for one in names]
            head = git.run("symbolic-ref", "--quiet", "--short", "HEAD", fails=None).line
        if self._repository.cutoff is not None:
            names = [one for one in names if _time(one[2]) < self._repository.cutoff]
        rows = [
            {"name": one[0].removeprefix("refs/"), "commit": one[1], "date": one[2], "subject": one[3][:200]}
            for one in names
        ]
        return {
            "current": head,
            "branches": rows[:limit],
            **({"more": True} if len(rows) > limit or found.cut else {}),
        }

    @BaseProxy.endpoint(
        category="read",
        effect="pure",
        params={
            **_PATH,
            **_REVISION,
            "author": {"description": "part of the author's name or mail"},
            "grep": {"description": "part of the message"},
            "since": {"description": "a date, or as '2 weeks ago'"},
            "until": {"description": "a date, or as 'yesterday'"},
            "limit": {"minimum": 1, "maximum": 500},
            "skip": {"minimum": 0, "maximum": 10**9},
        },
    )
    def log(
        self,
        revision: str = "HEAD",
        path: str = "",
        author: str = "",
        grep: str = "",
        since: str = "",
        until: str = "",
        limit: int = 20,
        skip: int = 0,
    ) -> dict[str, Any]:
        """Lists commits, the newest first.

        Args:
            limit: how many at most.
            skip: how many to leave out first.
        """
        filters = {"author": author, "grep": grep, "since": since, "until": until}
        for name, value in filters.items():
            if len(value) > 300 or not value.isprintable():
                raise EndpointRejected(f"{name} must be at most 300 printable characters")
        words = [f"--{name}={value}" for name, value in filters.items() if value]
        with self._repository.opened() as git:
            start = git.commit(revision)
            found, cut = _commits(
                git,
                *(
                    "--fixed-strings",
                    "--regexp-ignore-case",
                    f"--max-count={limit + 1}",
                    f"--skip={skip}",
                    *words,
                ),
                *(start, "--", *self._paths(path)),
            )
        if cut and not found:
            raise EndpointAnswerInvalid(
                "the next commit is too long to be shown", hint=f"Give skip={skip + 1}."
            )
        return {"commits": found[:limit], **({"more": True} if len(found) > limit or cut else {})}

    @BaseProxy.endpoint(category="read", effect="pure", params={**_PATH, **_REVISION})
    def show(self, revision: str = "HEAD", path: str = "") -> dict[str, Any]:
        """Shows a commit with its diff: of a merge, the one from its first parent."""
        with self._repository.opened() as git:
            start = git.commit(revision)
            rows, _ = _commits(git, "--max-count=1", start)
            about = rows[0] if rows else {"commit": start, "note": "Its message is too long to be shown."}
            words = ("--format=", "--patch", "--diff-merges=first-parent", "--ignore-submodules=dirty")
            return {**about, **_diff(git, "show", *words, *_DIFFS, start, "--", *self._paths(path))}

    @BaseProxy.endpoint(
        category="read",
        effect="pure",
        params={
            **_PATH,
            "base": {"description": "the older revision"},
            "revision": {"description": "the newer revision; leave out for the work tree"},
            "staged": {"description": "instead of the work tree, what is staged"},
        },
    )
    def diff(
        self, base: str = "HEAD", revision: str = "", path: str = "", staged: bool = False
    ) -> dict[str, Any]:
        """Shows what differs between two revisions, or a revision and the work tree. Untracked files are not shown."""
        if staged and revision:
            raise EndpointRejected("give revision or staged, not both")
        with self._repository.opened() as git:
            words = [git.commit(base)]
            if revision:
                words += [git.commit(revision)]
            else:
                self._work_tree()
                words += ["--cached"] if staged else []
            ignore = f"--ignore-submodules={'dirty' if revision else 'all'}"
            return _diff(git, "diff", *_DIFFS, ignore, *words, "--", *self._paths(path))

    @BaseProxy.endpoint(
        category="read",
        effect="pure",
        params={
            **_REVISION,
            "path": {"example": "README.md", "description": "from the root"},
            "line": {"minimum": 1, "description": "first line"},
            "lines": {"minimum": 1, "maximum": 1000, "description": "how many lines at most"},
        },
    )
    def blame(self, path: str, revision: str = "HEAD", line: int = 1, lines: int = 200) -> dict[str, Any]:
        """Shows for each line of a file the commit that wrote it."""
        with self._repository.opened() as git:
            start = git.commit(revision)
            name, size = self._blob(git, start, path)
            _check_size(path, size)
            total = len(git.run("cat-file", "blob", f"{start}:{name}", most=LARGEST).data.splitlines())
            if line > max(total, 1):
                raise EndpointRejected(f"line {line} is behind the end: the file has {total} lines")
            last = min(line + lines - 1, total)
            if not total:
                return {"path": name, "lines": [], "total_lines": 0}
            found = git.run("blame", "--no-textconv", "--porcelain", f"-L{line},{last}", start, "--", name)
        rows = _blamed(found.text)
        if found.cut:
            rows.pop()  # which may have lost its end
            if not rows:
                raise EndpointAnswerInvalid(
                    f"line {line} is too long to be shown", hint=f"Give line={line + 1}."
                )
            last = rows[-1]["line"]
        made: dict[str, Any] = {"path": name, "lines": rows, "total_lines": total}
        return {**made, **({"next_line": last + 1} if last < total else {})}

    @BaseProxy.endpoint(
        category="read",
        effect="pure",
        params={
            **_REVISION,
            "path": {"example": ".", "description": "a file or folder, from the root"},
            "line": {"minimum": 1, "description": "first line"},
            "lines": {"minimum": 1, "maximum": 5000, "description": "how many lines at most"},
        },
    )
    def read(self, path: str, revision: str = "HEAD", line: int = 1, lines: int = 1000) -> Any:
        """Reads a file as it was in a revision, or lists a folder. Of a long text, the next page begins at `next_line`."""
        with self._repository.opened() as git:
            start = git.commit(revision)
            name = path_in(self._repository.folder, path)
            kind = git.run("cat-file", "-t", f"{start}:{name}", fails=EndpointNotFound).line
            if kind == "tree":
                return _tree(git, f"{start}:{name}", name)
            if kind != "blob":
                raise EndpointRejected(f"'{name}' is a submodule")
            size = int(git.run("cat-file", "-s", f"{start}:{name}").line)
            _check_size(path, size)
            data = git.run("cat-file", "blob", f"{start}:{name}", most=LARGEST).data
        if image := image_type(data):
            return Image(data, image)
        found = decoded(data)
        if found is None:
            raise EndpointAnswerInvalid(f"'{name}' is binary ({size:,} bytes) and cannot be read as text")
        return {"path": name, **page_of_text(found, line, lines)}

    @BaseProxy.endpoint(
        category="write",
        effect="ask",
        concurrent=False,
        params={
            "message": {"example": "docs: say what it is for"},
            "paths": {"example": ["README.md"], "minItems": 1, "maxItems": 1000},
        },
    )
    def commit(self, message: str, paths: list[str]) -> dict[str, Any]:
        """Commits the named files as they are in the work tree, on the present branch. Hooks are not run.

        Args:
            message: the first line is the subject.
            paths: files from the root: changed, new or deleted ones. Nothing else is committed.
        """
        self._work_tree()
        match = _AUTHOR.fullmatch(self.author)
        assert match is not None
        return commits.commit(self._repository, message, paths, (match[1].strip(), match[2]))

    def _work_tree(self) -> None:
        if self._repository.cutoff is not None:
            raise EndpointRejected("the work tree is later than the cutoff date", hint="Name two revisions.")
        if self._repository.bare:
            raise EndpointRejected("the repository is bare: it has no work tree", hint="Name two revisions.")

    def _paths(self, path: str) -> list[str]:
        name = path_in(self._repository.folder, path)
        return [name] if name else []

    def _blob(self, git: Git, start: str, path: str) -> tuple[str, int]:
        name = path_in(self._repository.folder, path)
        kind = git.run("cat-file", "-t", f"{start}:{name}", fails=EndpointNotFound).line
        if kind != "blob":
            raise EndpointRejected(f"'{name}' is a folder or submodule")
        return name, int(git.run("cat-file", "-s", f"{start}:{name}").line)


def _date(raw: str) -> str:
    """A date of git, which has seconds since 1970 and an offset, as ISO 8601; "" for one that is none: anybody can write
    anything into a commit."""
    found = _RAW_DATE.fullmatch(raw.strip())
    if found is None:
        return ""
    offset = timedelta(hours=int(found[3]), minutes=int(found[4])) * (-1 if found[2] == "-" else 1)
    try:
        return datetime.fromtimestamp(int(found[1]), timezone(offset)).isoformat()
    except (ValueError, OverflowError, OSError):
        return ""


def _time(text: str) -> datetime:
    """A date of git; the end of time where there is none, as of a tag of a blob."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)


def _check_size(path: str, size: int) -> None:
    if size > LARGEST:
        raise EndpointAnswerInvalid(f"{path!r} has {size:,} bytes, and at most {LARGEST:,} are possible here")


def _commits(git: Git, *words: str) -> tuple[list[dict[str, Any]], bool]:
    """Commits, and whether there are more that were too long to be read."""
    found = git.run(
        "log", "-z", _FORMAT, "--date=raw", "--encoding=UTF-8", "--no-color", "--no-patch", "--no-show-signature",
        "--no-mailmap", *words, most=_LISTED
    )  # fmt: skip
    values = found.text.split("\0")
    if found.cut:
        values.pop()
    rows = []
    for at in range(0, len(values) - len(_FIELDS) + 1, len(_FIELDS)):
        one: dict[str, Any] = dict(zip(_FIELDS, values[at : at + len(_FIELDS)], strict=True))
        one["author"] = f"{one['author'].strip()} <{one.pop('email').strip()}>"
        one["date"], one["parents"] = _date(one["date"]), one["parents"].split()
        one["subject"], one["body"] = one["subject"].strip()[:500], one["body"].strip()[:3000]
        rows.append({key: value for key, value in one.items() if value})
    return rows, found.cut


def _diff(git: Git, *words: str) -> dict[str, Any]:
    found = git.run(*words, most=DIFF)
    made: dict[str, Any] = {"diff": found.text}
    if found.cut:
        names = [word for word in words if word != "--patch"]
        at = names.index("--")
        listed = git.run(*names[:at], "--name-only", "-z", *names[at:], most=100_000).text
        made["files"] = [name.strip("\n") for name in listed.split("\0") if name.strip()][:_ENTRIES]
        made["note"] = f"The diff is longer than {DIFF:,} bytes: name a path."
    return made


def _status(text: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    entries = iter(text.split("\0"))
    for entry in entries:
        kind, _, rest = entry.partition(" ")
        if kind == "#":
            key, _, value = rest.partition(" ")
            made[key.removeprefix("branch.")] = value
        elif kind == "?":
            made.setdefault("untracked", []).append(rest)
        elif kind in ("1", "2", "u"):
            fields = rest.split(" ", {"1": 7, "2": 8, "u": 9}[kind])
            path = fields[-1]
            if kind == "2":
                path = f"{next(entries, '')} -> {path}"
            if kind == "u":
                made.setdefault("conflicts", []).append(path)
                continue
            for sign, name in zip(fields[0], ("staged", "changed"), strict=True):
                if sign != ".":
                    made.setdefault(name, []).append(f"{sign} {path}")
    for name, value in list(made.items()):
        if isinstance(value, list) and len(value) > _ENTRIES:
            made[name], made[f"more_{name}"] = value[:_ENTRIES], len(value) - _ENTRIES
    return made


def _blamed(text: str) -> list[dict[str, Any]]:
    """Lines with their commits, as `--porcelain` prints them: about a commit only where it comes first."""
    known: dict[str, dict[str, str]] = {}
    rows: list[dict[str, Any]] = []
    commit, number = "", 0
    for line in text.split("\n"):
        if line.startswith("\t"):
            about = known[commit]
            when = _date(f"{about.get('author-time', '')} +0000")[:10]
            rows.append(
                {
                    "line": number,
                    "commit": commit[:12],
                    "author": about.get("author", ""),
                    "date": when,
                    "text": line[1:],
                }
            )
        elif match := re.match(r"([0-9a-f]{40,64}) \d+ (\d+)", line):
            commit, number = match[1], int(match[2])
            known.setdefault(commit, {})
        else:
            key, _, value = line.partition(" ")
            known.get(commit, {}).setdefault(key, value)
    return rows


def _tree(git: Git, tree: str, path: str) -> dict[str, Any]:
    found = git.run("ls-tree", "-z", "--long", tree, most=_LISTED)
    rows = []
    for entry in found.text.split("\0")[:-1]:  # behind the last one is nothing, or what was cut
        about, tab, name = entry.partition("\t")
        if tab:
            mode, kind, _, size = about.split()
            rows.append(
                f"{name}/"
                if kind == "tree"
                else f"{name} ({'link' if mode == '120000' else kind}, {size} bytes)"
            )
    made: dict[str, Any] = {"path": f"{path}/", "entries": rows[:_ENTRIES]}
    if found.cut:
        return {**made, "more_entries": f"at least {len(rows) - _ENTRIES}"}
    return {**made, **({"more_entries": len(rows) - _ENTRIES} if len(rows) > _ENTRIES else {})}
