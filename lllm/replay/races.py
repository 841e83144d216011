"""What a record has no order of, said where a replay differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lllm.core import events as ev
from lllm.inputs import ALL, ANSWERS

TIMES: Final = "times"
"""The log has the order of nothing but its events and their times."""

_RULES: Final = (ALL, ANSWERS, TIMES)
_ANSWERS: Final = frozenset(
    (ev.MODEL_REPLIED, ev.MODEL_FAILED, ev.TOOL_RETURNED, ev.EFFECT_RETURNED, ev.CALL_ENDED)
)


def rule_of(record: Sequence[Mapping[str, Any]]) -> str:
    """The inputs whose order a log has in all of its parts: see `Report.inputs`."""
    found = [
        event["data"].get("inputs", TIMES)
        for event in record
        if event["kind"] in (ev.SESSION_STARTED, ev.SESSION_RESUMED)
    ]
    return max(found, key=_place, default=TIMES)


def _place(rule: str) -> int:
    return _RULES.index(rule) if rule in _RULES else len(_RULES) - 1


def race(record: Sequence[Mapping[str, Any]], seq: int | None, *, threads: bool) -> str | None:
    """A sentence about the last two events before `seq` whose order the program may have gone by although the record cannot
    say so. None where it can, or nothing was side by side. `threads`: whether threads of the program's own made calls."""
    rule = rule_of(record)
    if rule == ALL and not threads:
        return None
    before = [event for event in record if seq is None or event["seq"] <= seq]
    open_calls = _open_calls(before)
    if len(open_calls) < 2 and not threads:
        return None
    answers = [event for event in before if event["kind"] in _ANSWERS]
    if len(answers) < 2:
        return None
    second = answers[-1]
    first = next((one for one in reversed(answers) if one["call"] != second["call"]), answers[-2])
    pair = " and ".join(f"{one['seq']} ({one['kind']}{_of(one)})" for one in (first, second))
    if threads:
        why = "threads of the program made calls, and what they race for is not recorded: give calls with the same words a key="
    else:
        why = "its event loop did not record timers and threads: run the program with lllm.run(main())"
    return f"The program may go by an order that its log does not have, around events {pair}: {why}."


def _of(event: Mapping[str, Any]) -> str:
    return f" of {event['call']}" if event["call"] is not None else ""


def _open_calls(record: Sequence[Mapping[str, Any]]) -> set[str]:
    """The calls that were ever side by side with another one."""
    going: set[str] = set()
    found: set[str] = set()
    for event in record:
        if event["kind"] == ev.CALL_STARTED:
            going.add(event["call"])
            if len(going) > 1:
                found |= going
        elif event["kind"] == ev.CALL_ENDED:
            going.discard(event["call"])
    return found
