"""The proxy `files`: nothing outside of its root, nothing written half, and pages of whatever is asked for."""

import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
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
    UnknownKeyError,
    UnknownNameError,
)
from lllm.models.parts import File, Image
from lllm.proxies import Proxy
from lllm.proxies.builtin import folder, search_text
from lllm.proxies.builtin.diffs import unified

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("outside")
    made = tmp_path / "root"
    (made / "src").mkdir(parents=True)
    (made / "src" / "a.py").write_text("def one():\n    return 1\n\n\ndef two():\n    return 2\n")
    (made / "README.md").write_text("# Title\n\nText.\n")
    (made / ".env").write_text("KEY=1\n")
    (made / "to_file").symlink_to(tmp_path / "secret")
    (made / "to_folder").symlink_to(tmp_path)
    (made / "inside").symlink_to("src")
    os.mkfifo(made / "pipe")
    return made


def files(root: Path, **options: Any) -> Callable[..., Any]:
    proxy = Proxy(["files"], options={"files": {"root": str(root), **options}})
    return lambda name, **arguments: proxy(f"files.{name}", **arguments)


def patch(monkeypatch: pytest.MonkeyPatch, **functions: Any) -> None:
    """Other functions of `os`, for the proxy alone."""
    monkeypatch.setattr(folder, "os", SimpleNamespace(**{**vars(os), **functions}))


# --- what may not be reached


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("../secret", EndpointDenied, "'..'"),
        ("src/../../secret", EndpointDenied, "'..'"),
        ("src/..", EndpointDenied, "'..'"),
        ("/etc/passwd", EndpointDenied, "absolute"),
        ("//etc/passwd", EndpointDenied, "absolute"),
        ("to_file", EndpointDenied, "symbolic link"),
        ("to_folder/secret", EndpointDenied, "symbolic link"),
        ("to_folder/root/README.md", EndpointDenied, "symbolic link"),
        ("inside/a.py", EndpointDenied, "symbolic link"),
        (".env", EndpointDenied, "hidden"),
        ("src/.git/config", EndpointDenied, "hidden"),
        ("\u200d.env", EndpointDenied, "hidden"),
        ("pipe", EndpointDenied, "device, pipe or socket"),
        ("a\0b", EndpointRejected, "not a path"),
        ("x" * 5000, EndpointRejected, "not a path"),
        ("x" * 300, EndpointRejected, "name too long"),
        ("a/" * 100 + "a", EndpointRejected, "deep"),
        ("\udcff", EndpointRejected, "UTF-8"),
        ("", EndpointRejected, "folder"),
        (".", EndpointRejected, "folder"),
        ("src", EndpointRejected, "folder"),
        ("README.md/x", EndpointRejected, "not a folder"),
        ("nothing", EndpointNotFound, "no 'nothing'"),
        ("no/where", EndpointNotFound, "no 'no'"),
        ("readme.MD", EndpointNotFound, "There is 'README.md'"),
        ("SRC/a.py", EndpointNotFound, "There is 'src'"),
        ("~/x", EndpointNotFound, "'~'"),
        ("src\\a.py", EndpointNotFound, "no 'src"),
    ],
)
@pytest.mark.parametrize("verb", ["read", "write", "edit"])
def test_paths_that_are_refused(
    root: Path, path: str, error: type[EndpointError], words: str, verb: str
) -> None:
    call = files(root, writable=True)
    if verb == "read" and words == "folder":
        assert "entries" in call("read", path=path)
        return
    if verb == "write" and error is EndpointNotFound:
        verb = "edit"  # to write is to make what does not exist
    arguments: dict[str, Any] = {
        "read": {}, "write": {"text": "x", "overwrite": True}, "edit": {"old": "o", "new": "x"},
    }[verb]  # fmt: skip
    with pytest.raises(error) as caught:
        call(verb, path=path, **arguments)
    assert words.lower() in str(caught.value).lower()
    assert (root.parent / "secret").read_text() == "outside"
    assert sorted(os.listdir(root.parent)) == ["root", "secret"]


def test_accents_are_found_however_they_are_written(root: Path) -> None:
    (root / "cafe\u0301.txt").write_text("x")
    with pytest.raises(EndpointNotFound, match="There is"):
        files(root)("read", path="caf\u00e9.txt")


def test_devices_are_refused() -> None:
    with pytest.raises(EndpointDenied, match="device"):
        files(Path("/dev"))("read", path="zero")


@pytest.mark.parametrize("verb", ["read", "write"])
@pytest.mark.parametrize("swapped", ["src", "src/a.py"])
def test_a_link_that_takes_a_name_meanwhile_is_not_followed(
    root: Path, monkeypatch: pytest.MonkeyPatch, verb: str, swapped: str
) -> None:
    """The name is checked, then becomes a link, then is opened."""
    (root.parent / "elsewhere").mkdir()
    (root.parent / "elsewhere" / "a.py").write_text("outside")
    target = root.parent / "elsewhere" if swapped == "src" else root.parent / "elsewhere" / "a.py"
    call = files(root, writable=True)
    real, done = os.open, []

    def swap(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if path == Path(swapped).name and not done:
            done.append(1)
            (root / swapped).rename(root / "away")
            (root / swapped).symlink_to(target)
        return real(path, flags, *args, **kwargs)

    patch(monkeypatch, open=swap)
    with pytest.raises(EndpointDenied, match="symbolic link"):
        call(verb, path="src/a.py", **({} if verb == "read" else {"text": "x", "overwrite": True}))
    assert done
    assert (root.parent / "elsewhere" / "a.py").read_text() == "outside"


def test_a_root_that_becomes_a_link_is_not_followed(root: Path) -> None:
    call = files(root)
    root.rename(root.parent / "away")
    root.symlink_to(root.parent)
    with pytest.raises(EndpointError):
        call("read", path="secret")


def test_hidden_names_where_they_are_allowed(root: Path) -> None:
    call = files(root, hidden=True)
    assert call("read", path=".env")["text"] == "KEY=1\n"
    assert ".env" in [one["path"] for one in call("list", hidden=True)["entries"]]
    assert ".env" not in [one["path"] for one in call("list")["entries"]]
    with pytest.raises(EndpointRejected, match="not available"):
        files(root)("list", hidden=True)


# --- reading


def test_pages_of_lines_are_the_whole_file(root: Path) -> None:
    text = "".join(f"line {number}\n" for number in range(1, 2501)) + "the end"
    (root / "long.txt").write_text(text)
    call, parts, line = files(root), [], 1
    while line:
        page = call("read", path="long.txt", line=line)
        parts.append(page["text"])
        line = page.get("next_line", 0)
    assert "".join(parts) == text
    assert len(parts) == 3
    assert call("read", path="long.txt", line=2501)["lines"] == "2501-2501"
    with pytest.raises(EndpointRejected, match="2501 lines"):
        call("read", path="long.txt", line=2502)


@pytest.mark.parametrize("char", ["x", "é", "€", "𝄞"])
def test_a_line_that_is_longer_than_a_page_goes_on_by_bytes(root: Path, char: str) -> None:
    text = f"first\n{char * 70_000}\nlast\n"
    (root / "wide.txt").write_text(text)
    call = files(root)
    page = call("read", path="wide.txt", line=2)
    parts = ["first\n", page["text"]]
    while "next_byte" in page:
        page = call("read", path="wide.txt", byte=page["next_byte"])
        parts.append(page["text"])
    assert "".join(parts) == text


def test_a_huge_file_is_paged_without_reading_it(root: Path) -> None:
    with open(root / "huge.log", "wb") as file:
        for number in range(200_000):
            file.write(b"%099d\n" % number)
        file.truncate(2**40)
    call = files(root)
    page = call("read", path="huge.log", line=150_000, lines=2)
    assert [int(line) for line in page["text"].splitlines()] == [149_999, 150_000]
    assert page["next_line"] == 150_002
    assert page["size"] == 2**40
    assert int(call("read", path="huge.log", byte=100)["text"].splitlines()[0]) == 1
    with pytest.raises(EndpointRejected, match="not within the first"):
        call("read", path="huge.log", line=10**9)
    with pytest.raises(EndpointRejected, match="behind the end"):
        call("read", path="huge.log", byte=2**41)


@pytest.mark.parametrize(
    ("data", "text", "encoding"),
    [
        (b"", "", None),
        ("gr\u00fcn".encode(), "gr\u00fcn", None),
        (b"\xef\xbb\xbfx\n", "x\n", "utf-8 with a byte order mark"),
        (b"\xff\xfe" + "gr\u00fcn\n".encode("utf-16-le"), "gr\u00fcn\n", "utf-16-le with a byte order mark"),
        (b"\xfe\xff" + "gr\u00fcn\n".encode("utf-16-be"), "gr\u00fcn\n", "utf-16-be with a byte order mark"),
        (b"gr\xfcn \x80\n", "gr\u00fcn \u20ac\n", "cp1252 (a guess)"),
        (b"gr\xfcn \x81\n", "gr\u00fcn \x81\n", "latin-1 (a guess)"),
        (b"a" * 9000 + b"\xff\n", "a" * 9000 + "\u00ff\n", "cp1252 (a guess)"),
    ],
)
def test_encodings_are_recognized_and_kept(root: Path, data: bytes, text: str, encoding: str | None) -> None:
    (root / "some.txt").write_bytes(data)
    call = files(root, writable=True)
    page = call("read", path="some.txt")
    assert (page["text"], page.get("encoding")) == (text, encoding)
    if text.endswith("\n"):
        call("edit", path="some.txt", old="\n", new="!\n")
        assert call("read", path="some.txt")["text"] == text[:-1] + "!\n"
        assert call("read", path="some.txt").get("encoding") == encoding
        call("edit", path="some.txt", old="!\n", new="\n")
        assert (root / "some.txt").read_bytes() == data


def test_images_documents_and_other_binary_files(root: Path) -> None:
    (root / "a.png").write_bytes(PNG)
    (root / "a.pdf").write_bytes(b"%PDF-1.7\n\0")
    (root / "a.zip").write_bytes(b"PK\3\4" + bytes(100))
    call = files(root)
    assert call("read", path="a.png") == Image(PNG, "image/png")
    assert isinstance(call("read", path="a.pdf"), File)
    with pytest.raises(EndpointAnswerInvalid, match=r"binary \(104 bytes, application/zip\)"):
        call("read", path="a.zip")
    with pytest.raises(EndpointAnswerInvalid, match="at most 10"):
        files(root, max_bytes=10)("read", path="a.png")


# --- listing and searching


def test_a_listing_goes_as_deep_as_it_is_asked_to(root: Path) -> None:
    call = files(root)
    shown = {one["path"]: one.get("type") for one in call("list")["entries"]}
    assert shown == {
        "README.md": None, "inside": "link", "pipe": "other", "src/": None, "to_file": "link", "to_folder": "link",
    }  # fmt: skip
    paths = [one["path"] for one in call("list", depth=2)["entries"]]
    assert "src/a.py" in paths
    assert not any(path.startswith(("inside/", "to_folder/")) for path in paths)
    assert [one["path"] for one in call("list", depth=9, glob="*.py")["entries"]] == ["src/a.py"]
    assert [one["path"] for one in call("list", depth=9, glob="**/a.*")["entries"]] == ["src/a.py"]
    short = call("list", limit=2)
    assert (len(short["entries"]), short["more_entries"]) == (2, 4)


def test_names_that_are_not_text_are_left_out(root: Path) -> None:
    (Path(os.fsdecode(os.fsencode(root) + b"/\xff.txt"))).write_text("x")
    assert all("\udcff" not in one["path"] for one in files(root)("list")["entries"])


def test_search_by_text_and_by_expression(root: Path) -> None:
    (root / "b.bin").write_bytes(b"return\0")
    call = files(root)
    found = call("search", pattern="return", context=1)
    assert found == {
        "matches": [
            {"path": "src/a.py", "line": 2, "text": "    return 1", "before": ["def one():"], "after": [""]},
            {"path": "src/a.py", "line": 6, "text": "    return 2", "before": ["def two():"], "after": [""]},
        ],
        "files_searched": 2,
        "files_skipped": {"binary": 1},
    }
    assert [
        one["line"] for one in call("search", pattern="^DEF", regex=True, ignore_case=True)["matches"]
    ] == [1, 5]
    assert (
        call("search", pattern="return", path="src/a.py", limit=1)["stopped"]
        == "there are more than 1 matches"
    )
    assert not call("search", pattern="return", glob="*.md")["matches"]
    assert not call("search", pattern="outside")["matches"]  # behind the links
    assert not call("search", pattern="KEY")["matches"]  # hidden
    assert not call("search", pattern="r.t", path="src")["matches"]  # plain text unless it says regex


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*a){25}$"])
def test_an_expression_that_never_ends_is_stopped(
    root: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    monkeypatch.setattr(search_text, "SECONDS", 1.0)
    (root / "a.txt").write_text("a" * 60 + "!")
    with pytest.raises(EndpointTimeout, match="longer than 1 s"):
        files(root)("search", pattern=pattern, regex=True, path="a.txt")


def test_a_text_that_takes_long_without_its_case_is_stopped(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_text, "SECONDS", 1.0)
    (root / "a.txt").write_text("a" * search_text.LARGEST)
    with pytest.raises(EndpointTimeout, match=r"the search for 'a+' took longer than 1 s"):
        files(root)("search", pattern="a" * 999 + "b", ignore_case=True, path="a.txt")


def test_case_does_not_count_where_it_should_not(root: Path) -> None:
    (root / "a.txt").write_text("one\nA.B\naxb\n")
    found = files(root)("search", pattern="a.b", ignore_case=True, path="a.txt")
    assert [one["text"] for one in found["matches"]] == ["A.B"]


@pytest.mark.parametrize("pattern", ["(", "*", "(?P<1>x)", "[z-a]", "(?<=a+)b", "", "x" * 2000, "\\"])
def test_an_expression_that_cannot_be_read_is_an_error(root: Path, pattern: str) -> None:
    with pytest.raises((EndpointRejected, ToolError)):
        files(root)("search", pattern=pattern, regex=True)


def test_a_search_ends_by_itself_if_the_program_is_killed(root: Path) -> None:
    (root / "a.txt").write_text("a" * 60 + "!")
    program = f"""
import os, subprocess
from lllm.proxies import Proxy
from lllm.proxies.builtin import search_text, worker

class Popen(subprocess.Popen):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        print(self.pid, flush=True)

worker.subprocess.Popen, worker.ALONE, search_text.SECONDS = Popen, 0, 2.0
worker.Worker._kill = lambda self: None
Proxy(["files"], options={{"files": {{"root": {str(root)!r}}}}})("files.search", pattern="(a+)+$", regex=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        pid = int(running.stdout.readline())
        running.kill()
    ended = Path(f"/proc/{pid}/stat")
    deadline = time.monotonic() + 60
    while ended.exists() and ended.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- writing


def test_nothing_can_be_written_unless_it_is_allowed(root: Path) -> None:
    proxy = Proxy(["files"], options={"files": {"root": str(root)}})
    assert sorted(proxy.endpoints) == ["files.list", "files.read", "files.search"]
    with pytest.raises(UnknownNameError):
        proxy("files.write", path="x", text="")
    allowed = Proxy(["files"], options={"files": {"root": str(root), "writable": True}})
    assert {key: one.approval for key, one in allowed.endpoints.items() if one.approval} == {
        "files.write": True,
        "files.edit": True,
    }
    free = Proxy(["files"], options={"files": {"root": str(root), "writable": True, "approval": False}})
    assert not any(one.approval for one in free.endpoints.values())


def test_write_shows_what_changed(root: Path) -> None:
    call = files(root, writable=True)
    assert call("write", path="new/deep/a.txt", text="one\n") == {
        "path": "new/deep/a.txt",
        "created": True,
        "diff": "--- a/new/deep/a.txt\n+++ b/new/deep/a.txt\n@@ -0,0 +1 @@\n+one\n",
    }
    assert call("write", path="new/deep/a.txt", text="one\n")["diff"] == ""  # the same again
    with pytest.raises(EndpointRejected, match="overwrite=true"):
        call("write", path="new/deep/a.txt", text="two\n")
    assert "-one\n+two\n" in call("write", path="new/deep/a.txt", text="two\n", overwrite=True)["diff"]
    with pytest.raises(EndpointRejected, match="UTF-8"):
        call("write", path="x.txt", text="\ud800")
    with pytest.raises(EndpointRejected, match="at most 5"):
        files(root, writable=True, max_bytes=5)("write", path="x.txt", text="123456")
    assert not (root / "x.txt").exists()


@pytest.mark.parametrize("path", ["readme.md", "README.MD", "SRC/a.py", "cafe\u0301.txt"])
def test_no_second_name_for_the_same_is_made(root: Path, path: str) -> None:
    (root / "caf\u00e9.txt").write_text("x")
    if path.startswith("SRC"):
        path = "src/A.py"
    with pytest.raises(EndpointRejected, match="differs only in case, or in how its accents"):
        files(root, writable=True)("write", path=path, text="x", overwrite=True)


@pytest.mark.parametrize("path", ["new/", "new.txt//", "a\nb.txt", "a\x1b[31m.txt", "x/\u202e/a.txt", "\x7f"])
def test_no_file_gets_a_name_that_shows_as_another(root: Path, path: str) -> None:
    before = sorted(root.rglob("*"))
    with pytest.raises(EndpointRejected, match=r"control characters|ends with '/'"):
        files(root, writable=True)("write", path=path, text="x")
    assert sorted(root.rglob("*")) == before


def test_a_line_break_in_a_name_is_no_line_of_a_diff(root: Path) -> None:
    (root / "a\n+b").write_text("one\n")
    made = files(root, writable=True)("write", path="a\n+b", text="two\n", overwrite=True)
    assert made["diff"].splitlines()[:2] == ["--- a/a\\n+b", "+++ b/a\\n+b"]


def test_a_file_that_cannot_be_made_leaves_no_folders(root: Path) -> None:
    (root / "there").mkdir()
    with pytest.raises(EndpointRejected, match="too long"):
        files(root, writable=True)("write", path=f"there/a/b/{'c' * 300}", text="x")
    assert list((root / "there").iterdir()) == []


def test_edit_replaces_exactly_what_is_named(root: Path) -> None:
    call = files(root, writable=True)
    (root / "src/a.py").chmod(0o750)
    assert "+    return 3\n" in call("edit", path="src/a.py", old="return 1", new="return 3")["diff"]
    assert stat.S_IMODE((root / "src/a.py").stat().st_mode) == 0o750
    for arguments, words in (
        ({"old": "return", "new": "x"}, "occurs 2 times in 'src/a.py', in lines 2, 6"),
        ({"old": "def  one", "new": "x"}, "other white space"),
        ({"old": "nothing", "new": "x"}, "does not occur"),
        ({"old": "", "new": "x"}, "must not be empty"),
        ({"old": "two", "new": "two"}, "the same"),
    ):
        with pytest.raises(EndpointRejected) as caught:
            call("edit", path="src/a.py", **arguments)
        assert words in str(caught.value)
    call("edit", path="src/a.py", old="return", new="yield", all=True)
    assert (root / "src/a.py").read_text().count("yield") == 2


def test_an_edit_cannot_grow_beyond_the_limit(root: Path) -> None:
    (root / "a.txt").write_text("a" * 1_000_000)
    with pytest.raises(EndpointAnswerInvalid, match="10,000,000,000 bytes"):
        files(root, writable=True)("edit", path="a.txt", old="a", new="b" * 10_000, all=True)


def test_line_ends_stay_as_they_are(root: Path) -> None:
    (root / "dos.txt").write_bytes(b"one\r\ntwo\r\n")
    call = files(root, writable=True)
    assert call("read", path="dos.txt")["text"] == "one\ntwo\n"
    call("edit", path="dos.txt", old="one\ntwo", new="three\nfour")
    assert (root / "dos.txt").read_bytes() == b"three\r\nfour\r\n"
    (root / "mixed.txt").write_bytes(b"one\r\ntwo\n")
    call("edit", path="mixed.txt", old="two", new="2")
    assert (root / "mixed.txt").read_bytes() == b"one\r\n2\n"


def test_a_read_only_file_is_not_replaced(root: Path) -> None:
    (root / "README.md").chmod(0o444)
    with pytest.raises(EndpointDenied, match="read-only"):
        files(root, writable=True)("edit", path="README.md", old="Text", new="x")


@pytest.mark.parametrize("step", ["write", "fsync", "rename", "link"])
@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_fault_leaves_the_old_file_and_nothing_beside_it(
    root: Path, monkeypatch: pytest.MonkeyPatch, step: str, fault: int
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(fault, os.strerror(fault))

    call = files(root, writable=True)
    patch(monkeypatch, **{step: fail})
    before = sorted(os.listdir(root))
    verb, path = ("write", "new.md") if step == "link" else ("edit", "README.md")
    arguments = {"text": "x"} if step == "link" else {"old": "Text", "new": "x"}
    with pytest.raises(EndpointError):
        call(verb, path=path, **arguments)
    assert (root / "README.md").read_text() == "# Title\n\nText.\n"
    assert sorted(os.listdir(root)) == before


def test_a_disk_that_is_full_in_the_middle_of_a_file(root: Path) -> None:
    """A real limit of the kernel, in a process of its own: half of the bytes are written before it fails."""
    program = f"""
import resource
from lllm.errors import EndpointError
from lllm.proxies import Proxy
proxy = Proxy(["files"], options={{"files": {{"root": {str(root)!r}, "writable": True}}}})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    proxy("files.write", path="README.md", text="x" * 200_000, overwrite=True)
except EndpointError as error:
    print(error)
"""
    before = sorted(os.listdir(root))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True
    )
    assert "File too large" in done.stdout
    assert (root / "README.md").read_text() == "# Title\n\nText.\n"
    assert sorted(os.listdir(root)) == before


def test_a_program_that_is_killed_while_it_writes(root: Path) -> None:
    program = f"""
import os, time
from lllm.proxies import Proxy

def sync(fd):
    print("written", flush=True)
    time.sleep(600)

os.fsync = sync
proxy = Proxy(["files"], options={{"files": {{"root": {str(root)!r}, "writable": True}}}})
proxy("files.write", path="README.md", text="x" * 200_000, overwrite=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"written\n"
        running.kill()
    assert files(root)("read", path="README.md")["text"] == "# Title\n\nText.\n"
    assert files(root, writable=True)("edit", path="README.md", old="Text", new="More")["diff"]


def test_without_hard_links_a_new_file_is_renamed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EPERM, "no")

    call = files(root, writable=True)
    patch(monkeypatch, link=fail)
    call("write", path="new.md", text="x")
    assert (root / "new.md").read_text() == "x"


def test_a_file_that_changed_meanwhile_is_not_overwritten(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def change(fd: int) -> None:
        (root / "README.md").write_text("somebody else's")
        real(fd)

    call = files(root, writable=True)
    patch(monkeypatch, fsync=change)
    with pytest.raises(EndpointRejected, match="changed meanwhile"):
        call("edit", path="README.md", old="Text", new="x")
    assert (root / "README.md").read_text() == "somebody else's"


def test_a_diff_of_anything_is_quick_and_right(tmp_path: Path) -> None:
    lines = [f"{number % 7}\n" for number in range(30_000)]
    long = unified("x", "".join(lines), "".join(reversed(lines)))
    assert len(long) < 25_000
    old = "".join(f"{number}\n" for number in range(1000))
    new = old.replace("\n500\n", "\nfive hundred\n").replace("\n10\n", "\n") + "end"
    (tmp_path / "x").write_text(old)
    (tmp_path / "x.diff").write_text(unified("x", old, new))
    subprocess.run(["git", "apply", "x.diff"], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "x").read_text() == new


# --- options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "needs the option 'root'"),
        ({"root": ""}, "needs the option 'root'"),
        ({"root": "/no/such/folder"}, "cannot be opened"),
        ({"root": "/etc/passwd"}, "must be a folder"),
        ({"root": 5}, "option 'root' of the proxy 'files' must be text, got 5"),
        ({"root": ".", "writable": "yes"}, "must be true or false"),
        ({"root": ".", "max_bytes": 0}, "whole number above 0"),
    ],
)
def test_options_are_checked(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Proxy(["files"], options={"files": options})
    assert words in str(caught.value)


def test_an_unknown_option_names_the_nearest(root: Path) -> None:
    with pytest.raises(UnknownKeyError, match="writable"):
        Proxy(["files"], options={"files": {"root": str(root), "writeable": True}})
