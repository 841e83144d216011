"""From a model's name to its backend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lllm import LLM, Agent, ScriptedBackend, record, replay_session
from lllm.errors import ConfigError
from lllm.llm.connect import connect
from lllm.log import MemoryLog
from lllm.models.reply import Reply
from lllm.ports import Capabilities, Completed, Delta, Request
from lllm.registry import registry


class Local:
    """A backend that loads files."""

    capabilities = Capabilities()

    def __init__(self, threads: int = 1, context: int = 512) -> None:
        self.options = {"threads": threads, "context": context}

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        yield Completed(Reply(f"{Path(request.model).name} {self.options}"))

    async def aclose(self) -> None:
        """Nothing is open."""


TOML = """
[models.mine]
path = "weights/tiny.gguf"
backend = "local"
options = {threads = 2, context = 1024}

[models.embedded]
path = "weights/other.gguf"
"""


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "tiny.gguf").touch()
    (tmp_path / "lllm.toml").write_text(TOML)
    with registry.scope():
        registry.add("backend", "local", Local)
        yield


def test_a_name_of_the_project_is_its_backend_path_and_options(tmp_path: Path) -> None:
    backend, name, model = connect("mine")
    assert isinstance(backend, Local)
    assert backend.options == {"threads": 2, "context": 1024}
    assert (name, model) == ("mine", str(tmp_path / "weights" / "tiny.gguf"))
    assert connect("mine")[0] is backend


def test_options_of_the_call_are_stronger() -> None:
    backend: Any = connect("mine", {"threads": 4})[0]
    assert backend.options == {"threads": 4, "context": 1024}


def test_an_agent_is_called_by_that_name() -> None:
    store = MemoryLog()
    reply = Agent("a", "mine", store=store)("Hello")
    assert reply.content == "tiny.gguf {'threads': 2, 'context': 1024}"
    [session] = store.sessions()
    record = b"".join(store.read(session.id))
    assert b"mine" in record
    assert b"weights" not in record  # the log names no folder of this machine


def test_a_backend_keeps_its_name() -> None:
    assert connect("embedded")[1] == "embedded"
    assert type(connect("embedded")[0]).__name__ == "EmbeddedBackend"


@pytest.mark.parametrize(
    ("name", "words"),
    [("mein", "Did you mean 'mine'"), ("gpt-4o", "openai/gpt-4o"), ("gpt-4o", "embedded, mine")],
)
def test_a_name_of_nobody(name: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        connect(name)
    assert words in str(caught.value)


def test_replay_gives_embeddings_again() -> None:
    class Vectors(ScriptedBackend):
        async def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
            return [[1.0, 0.25] for _ in texts]

    store, seen = MemoryLog(), list[list[list[float]]]()

    def program() -> None:
        with record("vectors", store=store):
            seen.append(LLM(Vectors([])).embed(["a"]))

    program()
    report = replay_session(store.sessions(1)[0].id, store=store, entry=program, raises=True)
    assert report.verified
    assert seen == [[[1.0, 0.25]]] * 2
    assert type(seen[1][0][0]) is float


def test_replay_refuses_embeddings_without_record() -> None:
    store = MemoryLog()
    with record("vectors", store=store):
        pass

    def program() -> None:
        with record("vectors", store=store):
            LLM(ScriptedBackend([])).embed(["a"])

    report = replay_session(store.sessions(1)[0].id, store=store, entry=program)
    assert report.divergence is not None
    assert "effect 'embed' was not recorded" in report.divergence.cause
