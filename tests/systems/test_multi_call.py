"""T34: the same prompt several times at once, each reply in a file of its own."""

from __future__ import annotations

import asyncio
import errno
import io
from pathlib import Path
from typing import Any

import pytest

import lllm
from lllm import LLM, Agent, MemoryLog, ScriptedBackend, record, replay_session, step
from lllm.errors import ConfigError, ProviderFailed, ServerError, StageError
from lllm.ports import Completed, Reply, Request, Restart, TextDelta
from lllm.replay.resume import resume_session
from lllm.systems import ChainOfAgents, MultiCallSystem, best_of, last_number, output_files, vote


class Numbered:
    """A model whose replies have numbers, and which fails at some of them."""

    def __init__(self, *failing: int) -> None:
        self.asked = 0
        self._failing = failing

    def __call__(self, request: Request) -> str:
        self.asked += 1
        if self.asked in self._failing:
            raise ServerError("down", status=500)
        return f"draft {self.asked}, with some more words"


class Slow(ScriptedBackend):
    """Counts the requests that are under way at once."""

    now = most = 0

    async def stream(self, request: Request) -> Any:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0.001)
            async for delta in super().stream(request):
                yield delta
        finally:
            self.now -= 1


def drafts(model: Any = None, **more: Any) -> MultiCallSystem:
    backend = model if isinstance(model, ScriptedBackend) else ScriptedBackend(model or Numbered(), chunk=3)
    return MultiCallSystem("drafts", backend, **{"store": MemoryLog(), "max_provider_retry": 0, **more})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- the run


async def test_the_snippet_of_the_documents(tmp_path: Path) -> None:
    backend = ScriptedBackend(Numbered(), chunk=3)
    multi_call_system = MultiCallSystem(system_id="multi", model=LLM(backend), store=MemoryLog())
    results = await multi_call_system.run(
        prompt="Write.", num_calls=3, output_dir=str(tmp_path / "out"), base_filename="story", temperature=0.7
    )
    assert results == {f"call_{n}": str(tmp_path / "out" / f"story_{n}.txt") for n in (1, 2, 3)}
    for name, path in results.items():
        assert Path(path).read_text() == results.replies[name].content
    assert len({*results.texts}) == 3
    assert {request.sampling["temperature"] for request in backend.requests} == {0.7}
    assert results.use.model_calls == 3


def test_without_a_folder_it_gives_the_texts() -> None:
    found = drafts()("Write.", 2)
    assert sorted(found.values()) == [f"draft {n}, with some more words" for n in (1, 2)]
    assert list(found) == ["call_1", "call_2"]


async def test_fifty_calls_at_most_five_at_once_one_of_which_fails(tmp_path: Path) -> None:
    backend = Slow(Numbered(7), chunk=3)
    found = await drafts(backend, limit=5).run("Write.", 50, output_dir=tmp_path)
    assert backend.most == 5
    assert len(found) == 50
    ((name, error),) = found.failed.items()
    assert isinstance(error, StageError)
    assert name == f"call_{error.index + 1}"
    assert isinstance(error.__cause__, ProviderFailed)
    assert len(names(tmp_path)) == 49
    assert name not in found.replies


def test_errors_may_be_raised_or_dropped() -> None:
    with pytest.raises(StageError, match="item 1 failed"):
        drafts(Numbered(2), errors="raise", limit=1)("Write.", 4)
    assert list(drafts(Numbered(2), errors="drop", limit=1)("Write.", 4)) == ["call_1", "call_3", "call_4"]


def test_each_call_has_a_seed_of_its_own() -> None:
    backend = ScriptedBackend(Numbered())
    drafts(backend)("Write.", 3, seed=7)
    assert sorted(request.sampling["seed"] for request in backend.requests) == [7, 8, 9]


# --- files


async def test_a_file_grows_beside_and_has_its_name_when_it_is_whole(tmp_path: Path) -> None:
    seen: list[tuple[list[str], str]] = []

    class Watched(ScriptedBackend):
        async def stream(self, request: Request) -> Any:
            for piece in ("one ", "two ", "three"):
                yield TextDelta(piece)
                await asyncio.sleep(0)
                seen.append((names(tmp_path), "".join(path.read_text() for path in tmp_path.iterdir())))
            yield Completed(Reply("one two three"))

    await drafts(Watched(["x"])).run("Write.", 1, output_dir=tmp_path)
    assert all(name.endswith(".part") for found, _ in seen for name in found)
    assert seen[-1][1].startswith("one two")
    assert names(tmp_path) == ["output_1.txt"]


async def test_a_reply_that_begins_anew_is_in_the_file_once(tmp_path: Path) -> None:
    class Again(ScriptedBackend):
        async def stream(self, request: Request) -> Any:
            yield TextDelta("lost")
            yield Restart("again")
            yield TextDelta("kept")
            await asyncio.sleep(0)
            seen.extend(path.read_text() for path in tmp_path.iterdir())
            yield TextDelta(" too")
            yield Completed(Reply("kept too"))

    seen: list[str] = []
    await drafts(Again(["x"])).run("Write.", 1, output_dir=tmp_path)
    assert seen == ["kept"]
    assert (tmp_path / "output_1.txt").read_text() == "kept too"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "poem_1.md").write_text("mine")
    (tmp_path / "poem_2.md").symlink_to(tmp_path / "nowhere")
    system = drafts()
    first = system("Write.", 2, output_dir=tmp_path, base_filename="poem.md")
    second = system("Write.", 2, output_dir=tmp_path, base_filename="poem.md")
    assert [Path(path).name for path in (*first.values(), *second.values())] == [
        "poem_1-2.md", "poem_2-2.md", "poem_1-3.md", "poem_2-3.md",
    ]  # fmt: skip
    assert (tmp_path / "poem_1.md").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_nothing_is_overwritten_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "no links here")

    monkeypatch.setattr(output_files.os, "link", refuse)
    (tmp_path / "output_1.txt").write_text("mine")
    found = drafts()("Write.", 1, output_dir=tmp_path)
    assert Path(found["call_1"]).name == "output_1-2.txt"
    assert (tmp_path / "output_1.txt").read_text() == "mine"
    assert Path(found["call_1"]).read_text() == found.texts[0]


def test_a_disk_that_fills_loses_nothing_that_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            nonlocal written
            if written + len(data) > 100:
                raise OSError(errno.ENOSPC, "No space left on device")
            written += len(data)
            return super().write(data)

    monkeypatch.setattr(output_files, "open", lambda path, mode, buffering: Full(path, "x"), raising=False)
    found = drafts(limit=1)("Write.", 6, output_dir=tmp_path)
    kept = [name for name, item in found.items() if isinstance(item, str)]
    assert kept == ["call_1", "call_2", "call_3"]
    assert names(tmp_path) == ["output_1.txt", "output_2.txt", "output_3.txt"]
    assert all(Path(found[name]).read_text() == found.replies[name].content for name in kept)
    assert [error.index for error in found.failed.values()] == [3, 4, 5]
    assert all("No space left" in error.message for error in found.failed.values())
    assert len(found.replies) == 6


@pytest.mark.parametrize(
    "name",
    [
        "../up",
        "/etc/passwd",
        "a/b",
        "..",
        ".",
        "",
        " ",
        ".hidden",
        "a\0b",
        "a\nb",
        "C:x",
        "a\\b",
        "x" * 300,
        5,
    ],
)
def test_names_that_are_no_names_of_files(name: Any, tmp_path: Path) -> None:
    model = Numbered()
    with pytest.raises(ConfigError, match="base_filename"):
        drafts(model)("Write.", 2, output_dir=tmp_path / "out", base_filename=name)
    assert model.asked == 0
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    model = Numbered()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="output_dir"):
        drafts(model)("Write.", 2, output_dir=tmp_path / "file" / "out")
    assert model.asked == 0


@pytest.mark.parametrize(
    "more",
    [
        {"num_calls": 0},
        {"num_calls": True},
        {"limit": 0},
        {"errors": "skip"},
        {"pick": "vote"},
        {"base_filename": "a/b"},
    ],
)
def test_settings_that_cannot_be(more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        drafts(**more)


# --- picks


@pytest.mark.parametrize(
    ("texts", "key", "wanted"),
    [
        (["Paris.", "London", " paris "], None, "Paris."),
        (["a", "b", "b", "a"], None, "a"),
        (["2+2 = 4", "it is 5", "so: 4"], last_number, "2+2 = 4"),
        (["no idea", "1,000", "it is 1000"], last_number, "1,000"),
    ],
)
async def test_a_vote(texts: list[str], key: Any, wanted: str) -> None:
    assert await vote(key)(texts) == wanted


async def test_a_vote_without_a_key_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"(?s)none of 2 answers.*the first is .a.*pick: vote"):
        await vote(last_number)(["a", "b"])


@pytest.mark.parametrize(
    "score",
    [
        len,
        Agent(
            "judge", ScriptedBackend(lambda r: f"Score: {len(r.messages[-1].text)} points"), store=MemoryLog()
        ),
    ],
)
async def test_the_best(score: Any) -> None:
    with record(store=MemoryLog()):
        assert await best_of(score)(["a", "abc", "ab"]) == "abc"


def test_what_is_picked_is_a_stage() -> None:
    found = drafts(["one", "two", "two"], pick=vote())("Write.", 3)
    assert found.picked == "two"
    assert found.stages[-1].name == "pick"
    assert drafts(["one", "three", "two"], pick=max)("Write.", 3).picked == "two"
    with pytest.raises(StageError):
        drafts(Numbered(1, 2), pick=vote())("Write.", 2)


# --- the session


def test_a_replay_asks_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, model = MemoryLog(), Numbered()

    def program() -> Any:
        return drafts(model, store=store, pick=vote())("Write.", 5, output_dir=tmp_path)

    found = program()
    for path in tmp_path.iterdir():
        path.unlink()
    again: list[Any] = []
    opened: list[Any] = []
    monkeypatch.setattr(output_files, "open", lambda path, *_, **__: opened.append(path), raising=False)
    report = replay_session(found.session, store=store, entry=lambda: again.append(program()))
    assert report.verified, report.divergence
    assert model.asked == 5
    assert opened == []
    assert names(tmp_path) == []
    assert again == [found]


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8, 0.95])
def test_an_interrupted_run_asks_nothing_twice(share: float, tmp_path: Path) -> None:
    store = MemoryLog()
    found = drafts(store=store, limit=2)("Write.", 6, output_dir=tmp_path / "out")
    cut = MemoryLog()
    cut._blobs = dict(store._blobs)
    bodies = store._sessions[found.session]
    cut._sessions[found.session] = bodies[: int(len(bodies) * share)]
    replied = sum(b'"ModelReplied"' in record.body for record in cut._sessions[found.session])
    model, again = Numbered(), []

    def program() -> None:
        again.append(drafts(model, store=cut, limit=2)("Write.", 6, output_dir=tmp_path / "out"))

    resume_session(found.session, store=cut, entry=program)
    assert model.asked == 6 - replied
    assert list(again[0]) == list(found)
    for name, path in again[0].items():
        assert Path(path).read_text() == again[0].replies[name].content
        if again[0].replies[name].content == found.replies[name].content:
            assert path == found[name]
    assert not [name for name in names(tmp_path / "out") if name.endswith(".part")]


# --- as a step


def test_it_stands_in_chains() -> None:
    upper = Agent("upper", ScriptedBackend(lambda request: request.messages[-1].text.upper()))
    store = MemoryLog()
    chain = step(str.strip) >> drafts(["one", "two", "two"], pick=vote()) >> upper
    assert str(chain.run(" Write. ", store=store).value) == "TWO"
    both = drafts(["one", "two"], num_calls=2, limit=1) >> upper
    assert str(both.run("Write.", store=store).value) == "1.\nONE\n\n2.\nTWO"
    assert drafts(["a", "b"], num_calls=2, pick=vote()).batch(["x"], store=store) == ["a"]
    with pytest.raises(StageError):
        drafts(Numbered(1, 2), num_calls=2)("Write.")
    pieces = list(drafts(["one", "two"], num_calls=2).stream("x", store=store))
    assert {piece.stage for piece in pieces} == {"1/1/call 1", "1/1/call 2"}


SLIPS: list[tuple[type, dict[str, Any], str]] = [
    # the system, a keyword that is an argument elsewhere or nearly one here, what is meant
    (ChainOfAgents, {"chunk_size": 100}, "budget"),
    (ChainOfAgents, {"limits": 3}, "limit"),
    (MultiCallSystem, {"max_concurrency": 3}, "limit"),
    (MultiCallSystem, {"num_call": 2}, "num_calls"),
    (MultiCallSystem, {"output": "drafts"}, "output_dir"),
    (MultiCallSystem, {"base_file_name": "x"}, "base_filename"),
]


@pytest.mark.parametrize(("kind", "given", "meant"), SLIPS, ids=[next(iter(given)) for _, given, _ in SLIPS])
def test_a_slip_is_an_error_before_anything_is_asked(kind: Any, given: dict[str, Any], meant: str) -> None:
    backend = ScriptedBackend(lambda request: "no")
    words = f"Did you mean '{meant}'"
    with pytest.raises(ConfigError, match=words):
        kind("s", backend, **given)
    asked = ("x", "a text") if kind is ChainOfAgents else ("x",)
    with pytest.raises(ConfigError, match=words):
        lllm.run(kind("s", backend, store=MemoryLog()).run(*asked, **given))
    assert not backend.requests


@pytest.mark.parametrize("kind", [ChainOfAgents, MultiCallSystem])
def test_what_only_an_endpoint_knows_is_passed_on(kind: Any) -> None:
    system = kind("s", LLM("openai/m", options={"base_url": "http://localhost:1/v1"}), num_ctx=9, mirostat=1)
    assert system.agent._settings.sampling == {"num_ctx": 9, "mirostat": 1}
