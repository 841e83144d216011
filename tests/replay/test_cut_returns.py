"""A session that is cut off while calls and effects are being handed back: what the log does not have yet waits for its end."""

from __future__ import annotations

from benchmarks.order.runs import made
from lllm import MemoryLog, replay_session, resume_session
from lllm.core import events as ev
from lllm.core.envelope import open_event

RUNS = 4


def test_returns_that_the_log_does_not_have_wait_for_its_end() -> None:
    """Effects that time out together: the program counts them, so the order in which they return is in what it does next."""
    cuts = 0
    for _ in range(RUNS):
        whole = MemoryLog()
        made("effects_with_timeouts", whole).live()
        session = whole.sessions(1)[0].id
        events = [open_event(body) for body in whole.read(session)]
        for place in range(1, len(events) - 1):
            before = events[place - 1]["data"]
            if events[place]["kind"] != ev.NOTE and not (
                before.get("of") == "inputs" or before.get("cancelled")
            ):
                continue
            cuts += 1
            for at in (place, place + 1):
                store = MemoryLog()
                store._sessions[session] = whole._sessions[session][:at]
                store._blobs = dict(whole._blobs)
                entry = made("effects_with_timeouts", store).entries["x0"]
                resume_session(session, store=store, entry=entry, decide="retry")
                report = replay_session(session, store=store, entry=entry)
                assert report.verified, (at, report.divergence)
    assert cuts
