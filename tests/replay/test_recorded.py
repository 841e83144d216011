"""Sessions that older versions recorded are read, replayed, resumed and forked by the rules that they were recorded under."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lllm import MemoryLog
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.log import views
from lllm.log.copy import load_session
from lllm.replay import replay_session
from lllm.replay.fork import fork_session
from lllm.replay.resume import resume_session
from tests.replay.recorded_programs import FOLDER, PROGRAMS

FILES = sorted(FOLDER.glob("*.lllm"))


def program_of(file: Path) -> str:
    return file.stem.rpartition("-")[0]


def loaded(file: Path) -> tuple[MemoryLog, str]:
    store = MemoryLog()
    return store, load_session(file, store)


def test_every_program_is_recorded() -> None:
    assert {program_of(file) for file in FILES} == set(PROGRAMS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_recorded_session_replays(file: Path) -> None:
    store, id = loaded(file)
    report = replay_session(id, store=store, entry=PROGRAMS[program_of(file)], raises=True)
    assert (report.verified, report.whole, report.finished) == (True, True, True)
    assert views.markdown([open_event(body) for body in store.read(id)])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_recorded_session_cut_off_anywhere_resumes_by_its_rules(file: Path) -> None:
    whole, id = loaded(file)
    events = [open_event(body) for body in whole.read(id)]
    for cut in range(2, len(events)):
        store = MemoryLog()
        store._sessions[id] = whole._sessions[id][:cut]
        store._blobs = dict(whole._blobs)
        done = resume_session(id, store=store, entry=PROGRAMS[program_of(file)], decide={"*": "retry"})
        assert done.session == id
        after = [open_event(body) for body in store.read(id)]
        assert after[-1]["data"]["status"] == "done", cut
        begun = specs(events[:cut])  # a call that begins later on follows the rules of today
        assert specs(after)[: len(begun)] == begun, cut
        assert replay_session(id, store=store, entry=PROGRAMS[program_of(file)], raises=True).verified


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_fork_of_a_recorded_session_asks_nothing_anew(file: Path) -> None:
    store, id = loaded(file)
    events = [open_event(body) for body in store.read(id)]
    fork = fork_session(id, at=len(events) - 1, store=store, entry=PROGRAMS[program_of(file)])
    assert (fork.changed, fork.new) == (0, 0)
    assert fork.reused == sum(event["kind"] == ev.MODEL_REPLIED for event in events)
    assert specs([open_event(body) for body in store.read(fork.session)]) == specs(events)


def specs(events: list[dict[str, Any]]) -> list[Any]:
    return [event["data"]["spec"] for event in events if event["kind"] == ev.CALL_STARTED]
