"""The generated parts of docs/ say what the code says."""

import re
from pathlib import Path

import pytest

from docs import generate
from lllm.core.machine import TABLE
from lllm.runtime import _ERRORS

DOCS = Path(generate.__file__).parent
GUIDE = (DOCS / "guides" / "agent-call.md").read_text()


def test_nothing_is_stale(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0, capsys.readouterr().out


def test_a_changed_table_makes_the_guide_stale(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "TABLE", {**TABLE, "READY": {"CallStarted": ("DONE",)}})
    assert generate.main(["--check"]) == 1
    out, err = capsys.readouterr()
    assert "+    READY --> DONE: CallStarted" in out
    assert "make docs" in err


def test_the_diagram_has_every_move() -> None:
    drawn = re.findall(r"^    (\w+) --> (\w+): (.+)$", GUIDE, re.MULTILINE)
    moves = {(phase, target, kind) for phase, target, kinds in drawn for kind in kinds.split(", ")}
    assert moves == {
        (p, to, kind) for p, row in TABLE.items() for kind, targets in row.items() for to in targets
    }


def test_the_guide_names_every_reason_and_its_error() -> None:
    for reason, (error, _) in _ERRORS.items():
        assert re.search(rf"\| `{reason}` \| `{error.__name__}`", GUIDE), reason


def test_every_guide_is_in_the_index() -> None:
    index = (DOCS / "index.md").read_text()
    assert set(re.findall(r"\(guides/([\w-]+\.md)\)", index)) == {
        file.name for file in DOCS.glob("guides/*.md")
    }


def test_decisions_are_numbered_and_listed() -> None:
    files = sorted((DOCS / "decisions").glob("*.md"))
    titles = [file.read_text().partition("\n")[0] for file in files]
    assert [int(file.name[:4]) for file in files] == list(range(1, len(files) + 1))
    assert [int(title.removeprefix("# ").partition(".")[0]) for title in titles] == list(
        range(1, len(files) + 1)
    )
    listed = re.findall(r"^(\d+)\. \[(.+)\]\((.+)\)$", files[0].read_text(), re.MULTILINE)
    assert [(f"# {number}. {title}", name) for number, title, name in listed] == [
        (title, file.name) for title, file in zip(titles[1:], files[1:], strict=True)
    ]


@pytest.mark.parametrize(
    ("page", "words"),
    [  # what a reader needs to know, and no other test holds
        ("guides/prices.md", "[prices"),
        ("guides/log-probabilities.md", "logprobs"),
        ("guides/ci.md", "lllm test"),
        ("guides/projects.md", "Extras go in the brackets"),
        ("guides/coming-from.md", "LLMCaller"),
        ("guides/installing.md", "make test-lowest"),
        ("guides/resume-and-fork.md", "the default, `normal`, may lose the last moments"),
        ("guides/sessions.md", "The chain has no key"),
        ("reference/log-format.md", "The hashes have no key"),
        ("guides/secrets.md", "encoded twice"),
        ("guides/schemas.md", "`format`"),
        ("promises.md", "not in formats of their own"),
    ],
)
def test_a_page_says_it(page: str, words: str) -> None:
    assert words in " ".join((DOCS / page).read_text().split())


def test_no_page_calls_resuming_unbuilt() -> None:
    for page in DOCS.rglob("*.md"):
        for sentence in re.split(r"(?<=[.:;|])\s", page.read_text()):
            assert not ("resum" in sentence.lower() and "not built" in sentence), (page, sentence)
