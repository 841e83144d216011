"""The cache: replies kept by the content of the request."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lllm.backends import cache as module
from lllm.backends.cache import CachedBackend, replies_in
from lllm.backends.scripted import ScriptedBackend
from lllm.config.values import CacheConfig
from lllm.core.envelope import open_event
from lllm.errors import ProviderFailed, RateLimitError
from lllm.llm import connect, project
from lllm.llm.agent import Agent
from lllm.llm.model import LLM
from lllm.llm.sessions import arecord, record
from lllm.log.memory import MemoryLog
from lllm.models import FunctionCall, Message, tool
from lllm.ports import Completed, Request, TextDelta, ToolCallDelta
from lllm.registry import registry
from lllm.replay import replay_session
from tests.cli.conftest import Terminal, demo, lllm  # noqa: F401  fixtures


class Model:
    """Opens `fake/...`, which counts its answers."""

    def __init__(self) -> None:
        self.asked = 0
        self.backends: list[ScriptedBackend] = []
        self.answer: Any = lambda request: f"answer {self.asked}"

    def __call__(self, **options: Any) -> ScriptedBackend:
        def reply(request: Request) -> Any:
            self.asked += 1
            given = self.answer(request)
            return given

        self.backends.append(ScriptedBackend(reply))
        return self.backends[-1]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    monkeypatch.setattr(connect, "_open", {})
    monkeypatch.setattr(module, "_folders", {})
    with registry.scope(empty=True):
        made = Model()
        registry.add("backend", "fake", made)
        yield made


def config(folder: Path, mode: str = "write") -> CacheConfig:
    return CacheConfig(True, folder, mode)


def ask(
    folder: Path, text: str = "q", mode: str = "write", times: int = 1, model: str = "fake/m", **more: Any
) -> list[str]:
    """What one session is answered."""
    with connect.caching(config(folder, mode)), record("s", store=MemoryLog()):
        agent = Agent("a", model, "s", **more)
        return [agent(text).content for _ in range(times)]


def test_the_second_time_costs_nothing(fake: Model, tmp_path: Path) -> None:
    store = MemoryLog()

    @tool(effect="pure")
    def twice(n: int) -> int:
        """Doubles."""
        return 2 * n

    fake.answer = lambda request: (
        FunctionCall("t", "twice", '{"n": 4}') if request.messages[-1].role == "user" else "8 it is"
    )

    def program() -> str:
        with connect.caching(config(tmp_path)), record("s", store=store):
            return Agent("a", "fake/gpt-4o-mini", tools=[twice])("double 4").content

    assert program() == program() == "8 it is"
    assert fake.asked == 2, "both by the first session"
    newest = store.sessions(1)[0].id
    replies = [
        event["data"] for event in map(open_event, store.read(newest)) if event["kind"] == "ModelReplied"
    ]
    assert [(one["from"], one["cost"]) for one in replies] == [("cache", "0")] * 2
    assert replies[1]["usage"]["prompt"] > 0, "what the reply had taken once"
    report = replay_session(newest, store=store, entry=program)
    assert report.verified, report.divergence


def test_the_reply_says_where_it_is_from(fake: Model, tmp_path: Path) -> None:
    with connect.caching(config(tmp_path)):
        first, second = LLM("fake/m")("q"), LLM("fake/m")("q")
    assert (first.source, second.source) == (None, "cache")
    assert second.cost == 0
    assert second.content == first.content
    assert second.usage == first.usage


def test_samples_of_one_prompt_differ_and_come_in_order(fake: Model, tmp_path: Path) -> None:
    assert ask(tmp_path, times=3) == ["answer 1", "answer 2", "answer 3"]
    assert ask(tmp_path, times=2) == ["answer 1", "answer 2"]
    assert ask(tmp_path, times=4) == ["answer 1", "answer 2", "answer 3", "answer 4"]
    assert fake.asked == 4


def test_samples_that_are_asked_side_by_side(fake: Model, tmp_path: Path) -> None:
    async def sample() -> list[str]:
        llm = LLM("fake/m")
        async with arecord("s", store=MemoryLog()):
            return sorted(reply.content for reply in await llm.acall(["q"] * 5))

    with connect.caching(config(tmp_path)):
        first = asyncio.run(sample())
        assert len(set(first)) == 5
        assert asyncio.run(sample()) == first
    assert fake.asked == 5


DIFFERENCES: dict[str, dict[str, Any]] = {
    "text": {"text": "other"},
    "model": {"model": "fake/n"},
    "sampling": {"temperature": 0.5},
    "format": {"format": {"type": "object", "properties": {}}},
    "tools": {"tools": [{"name": "t", "parameters": {"type": "object", "properties": {}}}]},
    "endpoint": {"options": {"base_url": "http://other"}},
    "options": {"options": {"context": 512}},
}


@pytest.mark.parametrize("case", DIFFERENCES)
def test_another_request_is_another_key(fake: Model, tmp_path: Path, case: str) -> None:
    fake.answer = lambda request: "{}"
    ask(tmp_path)
    ask(tmp_path, **DIFFERENCES[case])
    assert fake.asked == 2
    ask(tmp_path, **DIFFERENCES[case])
    assert fake.asked == 2


def test_keys_and_limits_do_not_matter(fake: Model, tmp_path: Path) -> None:
    ask(tmp_path, options={"api_key": "sk-one-one-one", "concurrency": 1})
    ask(tmp_path, options={"api_key": "sk-two-two-two"}, timeouts=5.0)
    assert fake.asked == 1


def test_the_endpoint_is_part_of_the_key_wherever_it_was_said(
    fake: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, asked in (("http://one", 1), ("http://two", 2), ("http://one", 2)):
        monkeypatch.setattr(
            ScriptedBackend, "base_url", place, raising=False
        )  # as from an environment variable
        ask(tmp_path)
        assert fake.asked == asked


def test_modes(fake: Model, tmp_path: Path) -> None:
    assert ask(tmp_path, mode="read") == ["answer 1"]
    assert not any(tmp_path.rglob("*.json")), "read writes nothing"
    assert ask(tmp_path, mode="write") == ["answer 2"]
    assert ask(tmp_path, mode="read") == ["answer 2"]
    assert ask(tmp_path, mode="refresh") == ["answer 3"]
    assert ask(tmp_path, mode="write") == ["answer 3"]
    assert fake.asked == 3


def test_off_by_default(fake: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "_read", None)
    agent = Agent("a", "fake/m", store=MemoryLog())
    assert isinstance(agent._settings.backend, ScriptedBackend)
    Path("lllm.toml").write_text("[cache]\nenabled = true\n")
    monkeypatch.setattr(project, "_read", None)
    assert [Agent("a", "fake/m", store=MemoryLog())("q").content for _ in range(2)] == ["answer 1"] * 2
    assert list(Path(".lllm/cache").rglob("*.json"))


def test_a_given_backend_is_never_cached(fake: Model, tmp_path: Path) -> None:
    for word in ("one", "two"):
        with connect.caching(config(tmp_path)):
            assert Agent("a", ScriptedBackend([word]), store=MemoryLog())("q").content == word


@pytest.mark.parametrize("damage", ["changed", "torn", "empty", "other", "list"])
def test_a_damaged_entry_is_asked_again(
    fake: Model,
    tmp_path: Path,
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ask(tmp_path)
    (file,) = tmp_path.rglob("*.json")
    data = file.read_bytes()
    ask(tmp_path, text="another")
    other = next(path for path in tmp_path.rglob("*.json") if path != file)
    changed = {
        "changed": data.replace(b"answer 1", b"answer 9"),
        "torn": data[:-9],
        "empty": b"",
        "other": other.read_bytes(),
        "list": b"[]",
    }
    file.write_bytes(changed[damage])
    assert ask(tmp_path) == ["answer 3"]
    assert "damaged" in caplog.text
    assert ask(tmp_path) == ["answer 3"], "and it is mended"
    assert fake.asked == 3


def test_a_fault_is_not_kept_and_a_retry_asks_for_the_same(fake: Model, tmp_path: Path) -> None:
    def once(request: Request) -> Any:
        return RateLimitError("busy", status=429) if fake.asked == 1 else f"answer {fake.asked}"

    fake.answer = once
    assert ask(tmp_path, times=2, backoff_base=0.001) == ["answer 2", "answer 3"]
    assert ask(tmp_path, times=2) == ["answer 2", "answer 3"]
    fake.answer = lambda request: RateLimitError("busy", status=429)
    with pytest.raises(ProviderFailed):
        ask(tmp_path, text="other", max_provider_retry=0)
    assert len(list(tmp_path.rglob("*.json"))) == 2


def test_a_kept_reply_is_streamed_in_pieces(tmp_path: Path) -> None:
    text = "a long answer, " * 10
    inner = ScriptedBackend(
        [{"content": text, "thinking": "hm", "tool_calls": [FunctionCall("", "f", "{}")]}]
    )
    request = Request("m", (Message("user", "q"),), stream=True)

    async def follow(session: str) -> list[Any]:
        backend = CachedBackend(inner, "x/m", tmp_path)
        return [delta async for delta in backend.stream_in(session, request)]

    first, second = asyncio.run(follow("a")), asyncio.run(follow("b"))
    assert inner.remaining == 0
    said = [delta.text for delta in second if isinstance(delta, TextDelta)]
    assert "".join(said) == text
    assert len(said) > 3
    assert any(isinstance(delta, ToolCallDelta) for delta in second)
    assert isinstance(second[-1], Completed)
    assert second[-1].reply == first[-1].reply.with_(source="cache")


def test_leaving_a_stream_keeps_nothing(tmp_path: Path) -> None:
    inner = ScriptedBackend(["one two three", "whole"], chunk=3)
    backend = CachedBackend(inner, "x/m", tmp_path)
    request = Request("m", (Message("user", "q"),), stream=True)

    async def leave() -> None:
        stream = backend.stream_in("s", request)
        await anext(stream)
        await stream.aclose()

    async def stay() -> Any:
        return [delta async for delta in backend.stream_in("s", request)][-1]

    asyncio.run(leave())
    assert not list(tmp_path.rglob("*.json"))
    assert asyncio.run(stay()).reply.content == "whole"
    assert replies_in(tmp_path)._given["s"], "the number was given back and taken again"
    assert list(replies_in(tmp_path)._given["s"].values()) == [{0}]


def test_no_secret_and_no_request_is_in_it(
    fake: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-very-secret-0123456789")
    fake.answer = lambda request: "the key is sk-very-secret-0123456789 and sk-of-the-backend-9"
    monkeypatch.setattr(ScriptedBackend, "secrets", ("sk-of-the-backend-9",), raising=False)
    assert "sk-very-secret" not in ask(tmp_path, text="my private question")[0]
    (file,) = tmp_path.rglob("*.json")
    kept = file.read_text()
    assert "[redacted:SOME_API_KEY]" in kept
    for word in ("sk-very-secret", "sk-of-the-backend", "private question"):
        assert word not in kept
    monkeypatch.delenv("SOME_API_KEY")
    assert ask(tmp_path, text="my private question")[0].startswith("the key is [redacted:SOME_API_KEY]")


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        replies_in(tmp_path).put(
            f"sha256:{'0' * 64}", {"message": {"role": "assistant", "content": "private"}}
        )
    finally:
        os.umask(before)
    (file,) = tmp_path.rglob("*.json")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def _fill(folder: str) -> None:
    replies = replies_in(Path(folder))
    for number in range(60):
        key = f"sha256:{number % 20:064x}"
        replies.put(
            key, {"message": {"role": "assistant", "content": f"r{number % 20}" * 500}, "finish": "stop"}
        )
        found = replies.get(key)
        assert found is not None
        assert found.content == f"r{number % 20}" * 500


def test_many_processes_share_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_fill, args=(str(tmp_path),)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    files = list(tmp_path.rglob("*"))
    assert len([file for file in files if file.suffix == ".json"]) == 20
    assert not [file for file in files if file.suffix == ".part"]


def test_a_cache_that_cannot_be_written_costs_no_reply(
    fake: Model,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_text("")
    assert ask(tmp_path / "file", times=2) == ["answer 1", "answer 2"]
    assert caplog.text.count("the cache cannot store replies") == 1


def test_lllm_run_cache(lllm: Terminal, demo: Path) -> None:  # noqa: F811
    task = "What is 17 times 23?"
    assert lllm("run", task, "--cache", "write").code == 0
    assert len(lllm.backends[-1].requests) == 2
    again = lllm("run", task, "--cache", "read", "--json")
    assert again.json["result"] == "391"
    assert (lllm.backends[-1].requests, again.json["cost"]) == ([], "0")
    assert lllm("replay", again.json["session"]).code == 0
    assert lllm("run", task, "--cache", "refresh").code == 0
    assert len(lllm.backends[-1].requests) == 2
    assert lllm("run", task).code == 0
    assert len(lllm.backends[-1].requests) == 2, "off where nobody wants it"
    wrong = lllm("run", task, "--cache", "often")
    assert wrong.code == 2
    assert "read, write, refresh" in wrong.err
    entries = list((demo / ".lllm/cache").rglob("*.json"))
    assert len(entries) == 2
    assert json.loads(entries[0].read_text())["hash"].startswith("sha256:")
