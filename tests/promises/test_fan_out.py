"""T5, T14: many calls side by side at an endpoint that refuses one, breaks off within one, or is left in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lllm import Agent, VLLMModel, parallel
from lllm.errors import AuthenticationError, LLMError, ProviderFailed, StageError, StreamInterrupted
from lllm.systems import MultiCallSystem
from tests.servers.openai_server import OpenAIServer, Script

REFUSED = Script(status=401, raw=b'{"error": {"message": "no such key"}}')
BROKEN = Script("It was a dark and stormy night.", drop="middle")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[OpenAIServer]:
    monkeypatch.chdir(tmp_path)  # sessions are kept there
    with OpenAIServer() as running:
        yield running


def bad_at(place: int, script: Script) -> Callable[[Any], Script]:
    """Answers, but for one request."""
    seen: list[Any] = []

    def answer(body: Any) -> Script:
        seen.append(body)
        return script if len(seen) == place else Script("Hello.")

    return answer


def causes(error: BaseException | None) -> list[type]:
    found = []
    while error is not None:
        found.append(type(error))
        error = error.__cause__
    return found


FANS: dict[str, Callable[[VLLMModel], Any]] = {
    "batch": lambda model: model.acall(["x"] * 5),
    "agent": lambda model: Agent("a", model).acall(["x"] * 5),
    "parallel": lambda model: parallel(*[Agent("a", model)] * 5, errors="keep").acall("x"),
    "system": lambda model: MultiCallSystem("m", model).run("x", 5),
}


@pytest.mark.parametrize("fan", FANS)
@pytest.mark.parametrize(
    ("script", "kind"), [(REFUSED, AuthenticationError), (BROKEN, StreamInterrupted)], ids=["401", "broken"]
)
async def test_one_failure_is_an_error_and_the_others_are_replies(
    server: OpenAIServer, fan: str, script: Script, kind: type[LLMError]
) -> None:
    server.answer = bad_at(3, script)
    async with VLLMModel("m", server.url, "sk-key-of-the-test", max_provider_retry=0) as model:
        found = await FANS[fan](model)
    results = list(found.values()) if isinstance(found, dict) else found
    failed = [one for one in results if isinstance(one, BaseException)]
    assert [str(one) for one in results if not isinstance(one, BaseException)] == ["Hello."] * 4
    assert len(failed) == 1
    assert {kind, ProviderFailed} <= set(causes(failed[0]))
    assert isinstance(failed[0], StageError) == (fan in ("parallel", "system"))
    assert len(server.requests) == 5


async def test_the_text_so_far_is_attached(server: OpenAIServer) -> None:
    server.answer = bad_at(2, BROKEN)
    async with VLLMModel("m", server.url, max_provider_retry=0) as model:
        calls = await MultiCallSystem("m", model).run("x", 3, output_dir="drafts")
    (error,) = calls.failed.values()
    fault = error.__cause__
    while not isinstance(fault, StreamInterrupted):
        assert fault is not None
        fault = fault.__cause__
    assert "It was" in fault.partial
    assert BROKEN.content is not None
    assert BROKEN.content.startswith(fault.partial)
    assert sorted(path.read_text() for path in Path("drafts").iterdir()) == ["Hello.", "Hello."]


@pytest.mark.parametrize("fan", ["batch", "parallel", "system"])
async def test_cancelled_at_half_no_socket_is_left(server: OpenAIServer, fan: str) -> None:
    for _ in range(2):
        server.say("Hello.")
    server.forever = Script("Hello.", hang="middle")
    async with VLLMModel("m", server.url, max_provider_retry=0) as model:
        task = asyncio.ensure_future(FANS[fan](model))
        while len(server.requests) < 5:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (model._backend.limiter.running, model._backend.limiter.waiting) == (0, 0)
    others = {one for one in asyncio.all_tasks() if one is not asyncio.current_task()}
    assert not [one for one in others if "lllm" in str(one.get_coro())], others
    while server.connections:
        await asyncio.sleep(0.01)
    assert len(server.requests) == 5
