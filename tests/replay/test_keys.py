"""`acall(key=)`: calls with the same words that are made by threads."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import pytest

from lllm import Agent, MemoryLog, ScriptedBackend, record, replay_session
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import ConfigError, ReplayDivergence
from lllm.ports import Request

ORDER = ["b", "c", "a"]


def program(store: MemoryLog, seen: list[dict[str, str]], keys: dict[str, str | None]) -> Any:
    """Three threads that say the same, side by side; each begins after the one before it."""
    count = iter(range(100))

    def model(request: Request) -> str:
        return f"answer {next(count)}"

    def main() -> None:
        said: dict[str, str] = {}
        begun = {name: threading.Event() for name in ORDER}
        agent = Agent("twin", ScriptedBackend(model, delay=0.001))
        with record("twins", store=store) as session:

            def work(name: str) -> None:
                if (place := ORDER.index(name)) > 0:
                    begun[ORDER[place - 1]].wait(30)
                begun[name].set()
                with suppress(ReplayDivergence):  # nobody hears of it in a thread
                    said[name] = agent("the same words", session=session, key=keys[name]).content

            threads = [threading.Thread(target=work, args=(name,)) for name in sorted(ORDER)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        seen.append(said)

    return main


def started(store: MemoryLog) -> list[dict[str, Any]]:
    session = store.sessions(1)[0].id
    return [e["data"] for e in map(open_event, store.read(session)) if e["kind"] == ev.CALL_STARTED]


def test_keys_tell_threads_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    store, seen = MemoryLog(), list[dict[str, str]]()
    program(store, seen, {name: name for name in ORDER})()
    assert {data["key"] for data in started(store)} == set(ORDER)
    monkeypatch.setattr(f"{__name__}.ORDER", [*reversed(ORDER)])
    report = replay_session(
        store.sessions(1)[0].id, store=store, entry=program(store, seen, {name: name for name in ORDER})
    )
    assert report.verified, report.divergence
    assert seen[0] == seen[1] != {}


def test_another_key_is_another_call() -> None:
    store, seen = MemoryLog(), list[dict[str, str]]()
    program(store, seen, {name: name for name in ORDER})()
    report = replay_session(
        store.sessions(1)[0].id, store=store, entry=program(store, seen, {"a": "a", "b": "b", "c": "z"})
    )
    assert isinstance(report.divergence, ReplayDivergence)
    assert report.divergence.cause == "code: 'key' differs"


def test_a_log_without_keys_replays_when_the_program_has_them() -> None:
    store, seen = MemoryLog(), list[dict[str, str]]()
    program(store, seen, dict.fromkeys(ORDER))()
    assert all("key" not in data for data in started(store))
    report = replay_session(
        store.sessions(1)[0].id, store=store, entry=program(store, seen, {name: name for name in ORDER})
    )
    assert report.verified, report.divergence


@pytest.mark.parametrize("key", ["", 7, "x" * 201, b"k"])
def test_what_is_no_key(key: Any) -> None:
    with pytest.raises(ConfigError, match="key must be text of 1 to 200 characters"):
        Agent("a", ScriptedBackend(["yes"]))("go", key=key)


def test_a_batch_has_no_key() -> None:
    with pytest.raises(ConfigError, match="a batch has no key"):
        Agent("a", ScriptedBackend(["yes"]))(["one", "two"], key="k")
