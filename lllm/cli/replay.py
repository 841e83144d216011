"""`lllm replay`: runs a session again on its recorded effects and says whether today's code would write the same."""

from __future__ import annotations

from lllm.cli import output
from lllm.cli.options import ConfigFile, Json, Last, SessionId, configuration, session_of, store_of


def replay(
    session: SessionId = None, last: Last = False, config: ConfigFile = None, json: Json = False
) -> int:
    """Re-execute a session on its recorded effects and verify it."""
    from lllm.replay import replay_session

    loaded = configuration(config)
    store = store_of(loaded)
    id = session_of(store, session, last)
    try:
        report = replay_session(id, store=store, config=loaded if config is not None else None)
    except Exception as error:
        output.belongs(error, id)
        raise
    found = report.divergence
    if json:
        output.data(report.as_dict())
    elif found is not None:
        output.say(f"error: {output.divergence(found)}")
        if found.hint:
            output.say(f"  {found.hint}")
    else:
        output.text(f"verified: {report.session}: {_counted(report.events, 'event')}, {_how(report)}")
    if not json:
        for note in report.notes:
            output.say(f"note: {note}")
    return 0 if found is None else found.exit_code


def _how(report: object) -> str:
    again, folded = getattr(report, "reexecuted", 0), getattr(report, "folded", 0)
    words = f"{_counted(again, 'agent call')} re-executed"
    return words + (f", {folded} folded" if folded else "")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
