"""The proxy `knowledge`: passages with citations that are true, whatever the query, and whatever happens to the folder."""

import json
import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import lllm
from lllm.errors import (
    ConfigError,
    EndpointDenied,
    EndpointError,
    EndpointNotFound,
    EndpointRejected,
)
from lllm.models.render import render_value
from lllm.proxies import Proxy
from lllm.proxies.builtin import documents, knowledge
from lllm.proxies.builtin.documents import OVERLAP, PASSAGE, passages, text_of_document
from lllm.proxies.builtin.passages import fused, match_of
from tests.proxies.builtin.pdfs import pdf

GUIDE = """# Guide

About nothing in particular.

## Install

Run `pip install lllm` on any machine.

## Sessions

### Replay

A recorded session can be replayed.
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "docs"
    made.mkdir()
    (made / "guide.md").write_text(GUIDE)
    return made


def base(root: Path, **options: Any) -> Callable[..., Any]:
    options = {"root": str(root), "index": str(root.parent / "index.db"), **options}
    proxy = Proxy(["knowledge"], options={"knowledge": options})
    return lambda name, **arguments: proxy(f"knowledge.{name}", **arguments)


def cites(found: dict[str, Any]) -> list[str]:
    return [one["cite"] for one in found["passages"]]


# --- finding


def test_a_passage_is_found_cited_and_read(root: Path) -> None:
    call = base(root)
    (found,) = call("search", query="how do I get it installed")["passages"]
    assert found == {
        "cite": "guide.md:5-7",
        "heading": "Guide > Install",
        "text": "## Install\n\nRun `pip install lllm` on any machine.",
    }
    assert call("read", cite=found["cite"]) == {
        "cite": "guide.md:5-7",
        "text": "## Install\n\nRun `pip install lllm` on any machine.",
        "total_lines": 13,
    }
    assert call("read", cite="guide.md:7", around=1)["cite"] == "guide.md:6-8"
    assert call("read", cite="guide.md")["text"] == GUIDE.rstrip("\n")
    assert call("search", query="replayed")["passages"][0]["heading"] == "Guide > Sessions > Replay"


def test_every_passage_says_its_lines(root: Path) -> None:
    lines = [f"line {number} about topic{number}" + " and more" * (number % 7) for number in range(1, 400)]
    lines[200] = "x" * 5000
    text = "\n".join(lines)
    (root / "long.txt").write_text(text)
    call = base(root)
    for number in (1, 50, 123, 200, 202, 399):
        (cite,) = cites(call("search", query=f'"topic{number}"', limit=1))
        assert f"topic{number} " in call("read", cite=cite)["text"] + " "
        first, last = map(int, cite.partition(":")[2].split("-"))
        assert first <= number <= last
    made = list(passages(lines, "long.txt"))
    assert made[0].first == 1
    assert made[-1].last == 399
    assert all(len(one.text) <= PASSAGE for one in made)
    for one, following in pairwise(made):
        assert following.first <= one.last + 1
        if len(one.text) < PASSAGE and len(following.text) < PASSAGE:
            assert following.first > one.last - OVERLAP // 10


def test_headings_and_paths_count_more(root: Path) -> None:
    (root / "other.md").write_text("# Other\n\n" + "Much is said here of replay. " * 3)
    (root / "replay.md").write_text("# X\n\nNothing.")
    found = cites(base(root)("search", query="replay"))
    assert found[0] == "guide.md:11-13"
    assert set(found) == {"guide.md:11-13", "other.md:1-3", "replay.md:1-3"}


def test_phrases_and_folders(root: Path) -> None:
    (root / "a").mkdir()
    (root / "ab").mkdir()
    (root / "a" / "x.txt").write_text("red green blue")
    (root / "ab" / "x.txt").write_text("green red blue")
    call = base(root)
    assert cites(call("search", query='"red green"')) == ["a/x.txt:1-1"]
    assert cites(call("search", query="blue", under="a")) == ["a/x.txt:1-1"]
    assert cites(call("search", query="blue", under="./a/x.txt")) == ["a/x.txt:1-1"]
    assert call("search", query="blue", under="nowhere") == {
        "passages": [],
        "note": "no document has any of these words",
    }
    assert len(cites(call("search", query="red green blue", limit=1))) == 1
    assert [one["path"] for one in call("sources", under="a")["documents"]] == ["a/x.txt"]


def test_scripts_without_spaces(root: Path) -> None:
    (root / "ja.md").write_text(
        "# \u4f1a\u8b70\n\n\u6765\u9031\u306e\u6771\u4eac\u306e\u4f1a\u8b70\u306f\u4e2d\u6b62"
    )
    (root / "zh.md").write_text("\u4eca\u5929\u5929\u6c14\u5f88\u597d")
    call = base(root)
    assert cites(call("search", query="\u6771\u4eac")) == ["ja.md:1-3"]
    assert cites(call("search", query="\u5929\u6c14 pip")) != []
    assert "zh.md:1-1" in cites(call("search", query="\u5929\u6c14"))
    assert cites(call("search", query="\u4eac\u6771")) == []


def test_accents_and_case_do_not_count(root: Path) -> None:
    (root / "fr.txt").write_text("Le caf\u00e9 est ferm\u00e9")
    assert cites(base(root)("search", query="CAFE")) == ["fr.txt:1-1"]


HOSTILE = (
    *('"', '""', '"a', 'a"b', "'", "*", "a*", "^a", "a^2", "-a", "+", "(", ")", "((((", "{a b}: c", "text: a", "words: a"),
    *("NEAR(a b)", "NEAR(", "NEAR/2", "a NEAR b", "AND", "a AND", "OR", "NOT a", "a OR OR b", "a NOT b", ";", "--", "/*", "%"),
    *("\0", "a\0b", "\ud800", "\ud800 a", "a\u0301", "\u202e a", "\x1b[2J", "\U0001f600", "_", "__a__"),
    *("\u00b2", "\u0660", "\uff41"),
    *("a " * 5000, "b" * 100_000, '"' * 10_000, '"a ' * 3000, "\u4f1a" * 5000, "rank MATCH 'x'", "a' OR '1'='1"),
)  # fmt: skip


@pytest.mark.parametrize("query", HOSTILE)
def test_no_query_is_an_error_of_the_database(root: Path, query: str) -> None:
    (root / "a.txt").write_text("a b c x y")
    if any(char.isalnum() for char in query):
        render_value(base(root)("search", query=query))
        return
    with pytest.raises(EndpointRejected, match="must have a word"):
        base(root)("search", query=query)


def test_a_query_has_no_operators() -> None:
    assert match_of('a "b c" AND NEAR(d*)') == '"a" OR "b c" OR "AND" OR "NEAR" OR "d"'
    assert match_of("text:x x") == '"text" OR "x"'


# --- citations


@pytest.mark.parametrize(
    ("cite", "error", "words"),
    [
        ("../secret.md:1-2", EndpointDenied, "'..'"),
        ("/etc/passwd", EndpointDenied, "absolute"),
        (".hidden.md", EndpointDenied, "hidden"),
        ("link.md:1-1", EndpointDenied, "symbolic link"),
        ("folder/x.md", EndpointDenied, "symbolic link"),
        ("none.md:1-1", EndpointNotFound, "no 'none.md'"),
        ("data.bin", EndpointRejected, "not a document"),
        ("guide.md:99-100", EndpointNotFound, "has 13 lines"),
        ("guide.md:0-3", EndpointNotFound, "has 13 lines"),
        ("guide.md:5-3", EndpointNotFound, "has 13 lines"),
        ("", EndpointRejected, "not a citation"),
        ("\0.md", EndpointRejected, "not a path"),
        ("x.md:" + "9" * 50, EndpointRejected, "not a document"),
        ("a/" * 3000, EndpointRejected, "not a citation"),
        ("binary.txt", EndpointRejected, "is binary"),
    ],
)
def test_citations_that_are_refused(root: Path, cite: str, error: type[EndpointError], words: str) -> None:
    (root.parent / "secret.md").write_text("secret words")
    (root / "link.md").symlink_to(root.parent / "secret.md")
    (root / "folder").symlink_to(root.parent)
    (root / ".hidden.md").write_text("secret words")
    (root / "data.bin").write_bytes(b"secret")
    (root / "binary.txt").write_bytes(b"secret\0")
    call = base(root)
    with pytest.raises(error, match=words):
        call("read", cite=cite)
    assert cites(call("search", query="secret words")) == []
    assert [one["path"] for one in call("sources")["documents"]] == ["guide.md"]


def test_only_what_is_included_can_be_read(root: Path) -> None:
    (root / "keys.txt").write_text("secret words")
    call = base(root, include=["*.md"])
    assert cites(call("search", query="secret words")) == []
    with pytest.raises(EndpointRejected, match="not a document"):
        call("read", cite="keys.txt")
    assert [one["path"] for one in call("sources")["documents"]] == ["guide.md"]


# --- what changes


def test_the_index_follows_the_folder(root: Path) -> None:
    call = base(root)
    assert cites(call("search", query="install"))
    (root / "guide.md").write_text("# Guide\n\nRemoval only.\n")
    assert cites(call("search", query="install")) == []
    assert cites(call("search", query="removal")) == ["guide.md:1-3"]
    (root / "guide.md").rename(root / "manual.md")
    assert cites(call("search", query="removal")) == ["manual.md:1-3"]
    (root / "manual.md").unlink()
    assert cites(call("search", query="removal")) == []
    assert call("sources") == {"documents": []}


def test_a_change_of_the_same_size_and_time_is_seen(root: Path) -> None:
    call, file = base(root), root / "guide.md"
    file.write_text("apples")
    os.utime(file, (1, 1))
    assert cites(call("search", query="apples"))
    file.write_text("cherry")
    os.utime(file, (1, 1))
    assert cites(call("search", query="cherry")) == ["guide.md:1-1"]


def test_what_did_not_change_is_not_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = knowledge.text_of_document

    def counted(data: bytes, path: str) -> list[str]:
        read.append(path)
        return real(data, path)

    monkeypatch.setattr(knowledge, "text_of_document", counted)
    call = base(root)
    call("search", query="x")
    call("search", query="x")
    os.utime(root / "guide.md", (5, 5))
    call("search", query="x")
    base(root)("search", query="x")
    assert read == ["guide.md"]
    (root / "new.txt").write_text("x")
    assert cites(call("search", query="x")) == ["new.txt:1-1"]
    assert read == ["guide.md", "new.txt"]


def test_documents_that_are_left_out_are_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "a.txt").write_bytes(b"\0\1")
    (root / "b.txt").write_text("x" * 2000)
    (root / "c.pdf").write_bytes(b"%PDF-1.4 nothing")
    monkeypatch.setattr(documents, "find_spec", lambda name: None)
    call = base(root, max_bytes=1000)
    assert call("sources") == {
        "documents": [{"path": "guide.md", "lines": 13}],
        "left_out": [
            {"path": "a.txt", "problem": "it is binary"},
            {"path": "b.txt", "problem": "it has 2,000 bytes, and at most 1,000 are read"},
            {
                "path": "c.pdf",
                "problem": "PDF needs the package pypdf. The extra lllm[pdf] brings it. Type: pip install pypdf",
            },
        ],
    }
    (root / "b.txt").write_text("short enough")
    assert cites(call("search", query="short")) == ["b.txt:1-1"]


def test_large_folders_are_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        (root / f"{number:02}.txt").write_text(f"word{number} common")
    call = base(root, max_files=10)
    found = call("search", query="common", limit=50)
    assert len(cites(found)) == 10
    assert found["notes"] == ["the folder is too large: only the first 10 documents are read"]
    monkeypatch.setattr(knowledge, "_NAMES", 5)
    assert len(base(root)("sources")["documents"]) == 5
    monkeypatch.undo()
    slow = base(root, seconds=1e-9, index=str(root.parent / "other.db"))
    assert slow("search", query="common")["notes"] == [
        "31 documents are not read yet: search again for those"
    ]


# --- kinds of documents


@pytest.mark.parametrize(
    ("name", "data", "query", "cite", "heading"),
    [
        ("a.html", "<title>T</title><nav>menu</nav><h2>Part</h2><p>needle", "needle", "a.html:3-5", "T > Part"),
        ("a.rst", "Title\n=====\n\nSub\n---\n\nneedle\n", "needle", "a.rst:4-7", "Title > Sub"),
        ("a.py", "import x\n\ndef one():\n    pass\n\nclass Two:\n    needle = 1\n", "needle", "a.py:6-7", "Two"),
        ("a.csv", "name,price\nneedle,3\n", "needle", "a.csv:1-2", "name,price"),
        ("a.jsonl", '{"a": 1}\n{"a": "needle"}\n', "needle", "a.jsonl:1-2", ""),
        ("a.yaml", "key: needle\n", "needle", "a.yaml:1-1", ""),
        ("A.MD", "# One\r\n\r\nneedle\r\n", "needle", "A.MD:1-3", "One"),
        ("a.md", "```\n# no heading\n```\n# Yes #\nneedle", "needle", "a.md:4-5", "Yes"),
        ("a.txt", "n\u00e9edle".encode("latin-1"), "needle", "a.txt:1-1", ""),
        ("a.txt", "needle".encode("utf-16"), "needle", "a.txt:1-1", ""),
    ],
)  # fmt: skip
def test_kinds(root: Path, name: str, data: str | bytes, query: str, cite: str, heading: str) -> None:
    (root / name).write_bytes(data.encode() if isinstance(data, str) else data)
    (found,) = base(root)("search", query=query)["passages"]
    assert (found["cite"], found.get("heading", "")) == (cite, heading)


@pytest.mark.parametrize(
    ("line", "heading"),
    [
        ("# A", "A"),
        ("##  A b  ##  ", "A b"),
        ("# C#", "C#"),
        ("# C# #", "C#"),
        ("#\tA\t#", "A"),
        ("# #", ""),
        ("#A", ""),
        ("# " + "a" * 301, ""),
        ("# a" + " " * 200_000 + "x", ""),
        ("# " + "# " * 100_000 + "x", ""),
    ],
)
def test_headings_of_markdown(line: str, heading: str) -> None:
    """Also of lines that an expression would look at again and again."""
    began = time.process_time()
    assert {one.heading for one in passages([line, "text"], "a.md")} == {heading}
    assert time.process_time() - began < 10


def test_deep_json_does_not_become_indent() -> None:
    data = b"[" * 300 + b"1," * 200_000 + b"1" + b"]" * 300
    began = time.process_time()
    assert text_of_document(data, "a.json") == [data.decode()]
    assert time.process_time() - began < 5
    assert text_of_document(b"[" * 5 + b'"' + b"1" * 2000 + b'"' + b"]" * 5, "a.json")[0] == "["


def test_a_document_of_nothing_but_headings_is_left_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge, "_PASSAGES", 10)
    (root / "many.md").write_text("# a\ntext\n" * 11)
    (root / "few.md").write_text("# a\nfewer\n" * 10)
    (left,) = base(root)("sources")["left_out"]
    assert left == {"path": "many.md", "problem": "it has more than 10 sections"}
    assert cites(base(root)("search", query="fewer"))


def test_json_in_one_line_has_lines(root: Path) -> None:
    (root / "a.json").write_text(
        json.dumps([{"id": number, "text": f"entry{number}"} for number in range(500)])
    )
    call = base(root)
    (cite,) = cites(call("search", query="entry321"))
    assert '"text": "entry321"' in call("read", cite=cite)["text"]
    assert text_of_document(b"[" * 5000, "a.json") == ["[" * 5000]


def test_pages_of_a_pdf_are_cited(root: Path) -> None:
    (root / "a.pdf").write_bytes(pdf("A needle (one) in a haystack", "Second page\ncafé \\ tea"))
    call = base(root)
    assert call("search", query="needle")["passages"] == [
        {"cite": "a.pdf:1-2", "heading": "page 1", "text": "[page 1]\nA needle (one) in a haystack"}
    ]
    assert call("read", cite="a.pdf:1-2")["text"] == "[page 1]\nA needle (one) in a haystack"
    (found,) = call("search", query="cafe")["passages"]
    assert (found["heading"], found["text"]) == ("page 2", "[page 2]\nSecond page\ncafé \\ tea")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (pdf("", ""), "it has no text: it may be scanned"),
        (b"%PDF-1.4 nothing", "it is not a PDF that can be read"),
        (pdf("needle")[:300], "it is not a PDF that can be read"),
        (b"", ""),
    ],
    ids=["no-text", "no-pdf", "cut", "empty"],
)
def test_a_pdf_that_cannot_be_read_is_named(root: Path, data: bytes, problem: str) -> None:
    (root / "a.pdf").write_bytes(data)
    ((name, said),) = [tuple(one.values()) for one in base(root)("sources")["left_out"]]
    assert name == "a.pdf"
    assert said == problem or (not problem and "PDF" in said)


def test_a_pdf_that_takes_for_ever_is_left_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another reader: none of ours is known to hang pypdf."""
    script = root.parent / "reader.py"
    script.write_text("import time; time.sleep(600)")
    monkeypatch.setattr(documents.pdf_worker, "__file__", str(script))
    monkeypatch.setattr(documents, "_PDF_SECONDS", 2.0)
    (root / "a.pdf").write_bytes(pdf("needle"))
    problem = "it took longer than 2 s to read"
    assert base(root)("sources")["left_out"] == [{"path": "a.pdf", "problem": problem}]


# --- the file


def test_the_index_is_for_its_owner_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    old = os.umask(0)
    try:
        base(root, index="")("search", query="install")
    finally:
        os.umask(old)
    folder = root.parent / ".lllm" / "knowledge"
    files = list(folder.iterdir())
    assert files
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_file_of_something_else_is_not_touched(root: Path) -> None:
    text, other = root.parent / "notes.txt", root.parent / "shop.db"
    text.write_text("my notes" * 1000)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE about (x)")
    connection.close()
    before = other.read_bytes()
    for file in (text, other):
        with pytest.raises(ConfigError, match="is not the index"):
            base(root, index=str(file))("search", query="x")
    assert text.read_text() == "my notes" * 1000
    assert other.read_bytes() == before
    with pytest.raises(EndpointError, match="cannot be opened"):
        base(root, index=str(root))("search", query="x")


def test_the_index_of_another_folder_is_refused(root: Path) -> None:
    base(root)("search", query="x")
    (root.parent / "more").mkdir()
    with pytest.raises(ConfigError, match="it is that of"):
        base(root.parent / "more", index=str(root.parent / "index.db"))("search", query="x")


def test_an_index_can_be_deleted_at_any_time(root: Path) -> None:
    call = base(root)
    call("search", query="install")
    for file in root.parent.glob("index.db*"):
        file.unlink()
    assert cites(call("search", query="install"))


def test_a_folder_that_is_gone_is_an_error_and_comes_back(root: Path) -> None:
    call = base(root)
    call("search", query="install")
    root.rename(root.parent / "away")
    with pytest.raises(EndpointError):
        call("search", query="install")
    (root.parent / "away").rename(root)
    assert cites(call("search", query="install"))


def test_several_processes_at_once(root: Path) -> None:
    for number in range(60):
        (root / f"{number}.md").write_text(f"# Part {number}\n\nword{number} common\n")
    program = f"""
import sys
from lllm.proxies import Proxy
options = {{"root": {str(root)!r}, "index": {str(root.parent / "i.db")!r}}}
proxy = Proxy(["knowledge"], options={{"knowledge": options}})
for _ in range(5):
    found = proxy("knowledge.search", query="common", limit=50)
print(len(found["passages"]), found.get("notes"))
"""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for one in running:
        out, error = one.communicate(timeout=300)
        assert out.split() == ["50", "None"], error
    assert len(base(root, index=str(root.parent / "i.db"))("sources")["documents"]) == 61
    with sqlite3.connect(root.parent / "i.db") as connection:
        assert connection.execute("SELECT count(*) FROM passages").fetchone() == (63,)
        assert connection.execute("SELECT count(*) FROM words").fetchone() == (63,)
    connection.close()


# --- meaning


class Meaning:
    """Vectors by what words are about."""

    TOPICS = (("car", "automobile", "vehicle"), ("pay", "invoice", "money"), ("install", "setup"))

    def __init__(self) -> None:
        self.asked: list[Sequence[str]] = []

    async def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        self.asked.append(texts)
        return [
            [float(any(word in text.lower() for word in topic)) for topic in self.TOPICS] for text in texts
        ]


def test_passages_are_found_by_their_meaning(root: Path) -> None:
    (root / "a.txt").write_text("An automobile for two.")
    (root / "b.txt").write_text("The invoice is due.")
    model = Meaning()
    call = base(root, embeddings=model)
    assert cites(call("search", query="vehicle", limit=1)) == ["a.txt:1-1"]
    assert cites(base(root)("search", query="vehicle")) == []
    assert cites(call("search", query="invoice money", limit=1)) == ["b.txt:1-1"]
    count = sum(len(texts) for texts in model.asked)
    (root / "a.txt").rename(root / "c.txt")
    assert cites(call("search", query="vehicle", limit=1)) == ["c.txt:1-1"]
    assert sum(len(texts) for texts in model.asked) == count + 1  # the query alone


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (RuntimeError("no memory"), "no memory"),
        ([], "0 vectors for"),
        ([["x"]] * 50, "could not convert"),
        ([[float("nan")]] * 50, "numbers that are none"),
        (None, "NoneType"),
    ],
)
def test_without_vectors_words_are_enough(root: Path, answer: Any, words: str) -> None:
    class Failing:
        async def embed(self, model: str, texts: Sequence[str]) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer[: len(texts)] if answer else answer

    found = base(root, embeddings=Failing())("search", query="install")
    assert cites(found) == ["guide.md:5-7"]
    assert words in found["notes"][0]
    assert found["notes"][0].startswith("passages were found by their words alone")


def test_a_model_that_changes_its_size_is_asked_anew(root: Path) -> None:
    class Growing(Meaning):
        extra = 0

        async def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
            return [[*one, *[0.0] * self.extra] for one in await super().embed(model, texts)]

    model = Growing()
    call = base(root, embeddings=model)
    call("search", query="setup")
    model.extra = 2
    call("search", query="setup")
    before = len(model.asked)
    assert cites(call("search", query="setup", limit=1)) == ["guide.md:5-7"]
    assert len(model.asked) == before + 2


def test_a_model_by_its_name(root: Path) -> None:
    found = base(root, embeddings="scripted")("search", query="install")
    assert "has no embeddings" in found["notes"][0]
    found = base(root, embeddings="nobody/knows")("search", query="install")
    assert "nobody" in found["notes"][0]
    with pytest.raises(ConfigError, match="must be the name of a model"):
        base(root, embeddings=3)


def test_rankings_are_fused() -> None:
    assert fused([1, 2, 3], [3, 4]) == [3, 1, 2, 4]
    assert fused([], [5]) == [5]


# --- as a tool


def test_its_examples_work(root: Path) -> None:
    proxy = Proxy(["knowledge"], options={"knowledge": {"root": root, "index": root.parent / "i.db"}})
    assert proxy.endpoint("knowledge.read").example()["cite"] == "guide.md:1-20"
    assert proxy.auto_test().ok


def test_it_says_what_it_does(root: Path) -> None:
    proxy = Proxy(["knowledge"], options={"knowledge": {"root": root, "index": root.parent / "i.db"}})
    assert {one.name: (one.effect, one.approval) for one in proxy.tools()} == dict.fromkeys(
        ("knowledge__search", "knowledge__read", "knowledge__sources"), ("pure", False)
    )
    assert proxy.tool("knowledge.search").data == {"private", "untrusted"}


def test_a_call_is_recorded_and_replayed(root: Path) -> None:
    proxy = Proxy(["knowledge"], options={"knowledge": {"root": root, "index": root.parent / "i.db"}})
    store, seen = lllm.MemoryLog(), []

    def program() -> None:
        with lllm.record("look", store=store):
            seen.append(proxy("knowledge.search", query="install"))

    program()
    (root / "guide.md").unlink()
    report = lllm.replay_session(store.sessions(1)[0].id, store=store, entry=program)
    assert not report.unrecorded
    assert seen[0] == seen[1]
