"""Sessions are named by short ids, in every command; lists fit 80 columns and leave out nothing that one needs."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from lllm.cli.ids import candidates, session_of, short_ids, tail
from lllm.errors import ConfigError, UnknownNameError
from lllm.log import MemoryLog
from lllm.session import Session
from tests.cli.conftest import Terminal
from tests.cli.screen import Screen

IDS = [
    "20260101-120000-demo-1a2b3c4d",
    "20260101-120001-demo-1a2b9999",
    "20260102-120000-1a2b3c4d-00000000",
    "20260103-120000-20260101",
    "customer-42",
    "1a2b",
]


@pytest.fixture
def store() -> MemoryLog:
    found = MemoryLog()

    async def fill() -> None:
        for id in IDS:
            live = Session(found, id=id)
            await live.start({"task": f"task of {id}"})
            await live.end("done")

    asyncio.run(fill())
    return found


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("20260101-120000-demo-1a2b3c4d", 0),
        ("1a2b3c4d", 0),
        ("1a2b3", 0),
        ("3c4d", 0),
        ("demo-1a2b9999", 1),
        ("1a2b9", 1),
        ("20260102", 2),
        ("00000000", 2),
        ("20260101", 3),  # the whole short id of one goes before the day of others
        ("customer-42", 4),
        ("cust", 4),
        ("42", 4),
        ("1a2b", 5),
    ],
)
def test_what_is_meant(store: MemoryLog, given: str, meant: int) -> None:
    assert session_of(store, given) == IDS[meant]


def test_several_are_listed(store: MemoryLog) -> None:
    with pytest.raises(ConfigError) as found:
        session_of(store, "1a2")
    text = str(found.value)
    assert text.startswith("3 sessions match '1a2'\n")
    for word in ("1a2b3c4d ", "1a2b9999 ", "1a2b ", "task of 20260101-120000-demo-1a2b"):
        assert word in text
    assert "customer-42" not in text
    with pytest.raises(UnknownNameError, match="Did you mean 'customer-42'"):
        session_of(store, "customer-43")
    with pytest.raises(ConfigError, match="--last 2 names 2 sessions"):
        session_of(store, None, 2)
    with pytest.raises(ConfigError, match="an id and --last exclude"):
        session_of(store, "1a2b", 1)


def test_a_list_says_what_names_one() -> None:
    twins = ["20260101-120000-demo-1a2b3c4d", "20260102-120000-demo-1a2b3c4d"]
    assert list(short_ids([*twins, "20260103-120000-x-5e6f7a8b", "mine"]).values()) == [
        *twins,
        "5e6f7a8b",
        "mine",
    ]
    assert tail("20260101-120000-1a2b3c4d") == "1a2b3c4d"


@pytest.fixture
def session(lllm: Terminal, demo: Path) -> str:
    lllm("run", "an older one")
    return str(lllm("run", "What is 17 times 23?", "--json").json["session"])


def test_every_command_takes_a_short_id(lllm: Terminal, session: str, tmp_path: Path) -> None:
    short = tail(session)
    assert len(short) == 8
    for words in (
        ["show", short], ["show", short, "--follow"], ["replay", short], ["fork", short], ["compare", short, short],
        ["whatif", short, "--model", "good/other"], ["export", short], ["sessions", "artifacts", short],
        ["sessions", "copy", short, "--to", f"localfile:{tmp_path / 'copy'}"], ["test", "keep", short, "--name", "kept"],
        ["sessions", "--fork-of", short], ["totals", "--fork-of", short],
    ):  # fmt: skip
        result = lllm(*words)
        assert result.code == 0, (words, result.err)
        assert "no such session" not in result.err, words
    assert "has ended" in lllm("resume", short).err
    for words in (
        ["show", "zz"],
        ["resume", "zz"],
        ["whatif", "zz"],
        ["export", "zz"],
        ["test", "keep", "zz"],
    ):
        assert "no session named 'zz'" in lllm(*words).err


def test_last_is_the_newest_session_everywhere(lllm: Terminal, session: str, tmp_path: Path) -> None:
    short = tail(session)
    for words in (["show"], ["replay"], ["export"], ["sessions", "artifacts"], ["test", "keep"], ["fork"]):
        for last in ("--last", "-l", "--last=1"):
            if words == ["test", "keep"]:
                last = f"{last} --name kept{last.strip('-')[:1]}{last[-1]}"
            result = lllm(*words, *last.split())
            assert result.code == 0, (words, result.err)
            if words == ["fork"]:
                short = tail(lllm("sessions", "--json").json[0]["session"])
            elif words == ["show"]:
                assert short in result.out
    assert "--last 2 names 2 sessions, but this command takes one" in lllm("show", "--last", "2").err
    assert "has ended" in lllm("resume", "--last").err
    out = str(tmp_path / "two.jsonl")
    assert (
        lllm("export", "--last", "2", "--format", "openai", "--out", out, "--json")
        .json["sessions"][1]
        .endswith(short)
    )
    assert len(lllm("whatif", "--last", "2", "--model", "good/other", "--json").json["cases"]) == 2
    assert len(lllm("whatif", "--last", "--model", "good/other", "--json").json["cases"]) == 1


@pytest.mark.usefixtures("without_torch")
def test_a_list_fits_80_columns(lllm: Terminal, session: str, demo: Path) -> None:
    long = "Summarise the following report for the board in three sentences, and name every figure twice."
    lllm("run", long)
    for words in (
        ["sessions"],
        ["sessions", "--long"],
        ["sessions", "--text", "board"],
        ["list"],
        ["doctor"],
    ):
        with Screen(*words, cwd=demo) as screen:
            assert screen.end() in (0, 2)  # there is no backend `good` in a process of its own
        lines = screen.all.replace("\r\n", "\n").splitlines()
        assert max(map(len, lines)) <= 80, words
        if words[0] == "sessions":
            ids = [line.split()[0] for line in lines[1:] if re.match(r"[0-9a-f]{8} ", line)]
            assert ids, lines
            for id in ids:
                assert lllm("show", id).code == 0
    with Screen("sessions", "-n", "1", cwd=demo) as screen:
        screen.see("the newest 1; all: lllm sessions -n 0")
        assert screen.end() == 0
    with Screen("sessions", cwd=demo, columns=200) as screen:
        assert screen.end() == 0
    assert "all: lllm sessions" not in screen.all
    assert long in screen.all, "a wide terminal's room is used"
    assert long in lllm("sessions").out, "a pipe gets everything"
    assert lllm("sessions").out.splitlines()[1].startswith(lllm("sessions", "--json").json[0]["session"])


def test_a_name_cannot_fake_a_row(lllm: Terminal, demo: Path) -> None:
    lllm("run", "x\n1a2b3c4d  done\x1b[1A\u202e", "--session-name", "a\nb\x9b2J")
    for words in (["sessions"], ["sessions", "--long"], ["show", "--last"]):
        with Screen(*words, cwd=demo) as screen:
            assert screen.end() == 0
        assert not re.search("[\x1b\x9b\u202e]", screen.all)
        assert not re.search(r"^1a2b3c4d", screen.all, re.MULTILINE)


def test_candidates_are_the_newest_first(store: MemoryLog) -> None:
    assert [info.id for info in candidates(store, "2026010")] == [IDS[3], IDS[2], IDS[1], IDS[0]]
