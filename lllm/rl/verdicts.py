"""People's verdicts on sessions: JSON lines that compare two sessions, or judge one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lllm.core.strict_json import read_json
from lllm.core.visible import visible_line
from lllm.errors import ConfigError, UnknownNameError, listing
from lllm.rl.json_lines import read_lines

GOOD: Final = ("good", "yes", "up", "accept", "accepted", "1", "true", "+1")
BAD: Final = ("bad", "no", "down", "reject", "rejected", "0", "false", "-1")
FIRST: Final = ("first", "a", "left")
SECOND: Final = ("second", "b", "right")
OPEN: Final = ("tie", "equal", "both", "neither", "skip", "none", "")
"""Words of verdicts, in any case."""


_FORMS: Final = (("chosen", "rejected"), ("sessions",), ("session",))
"""The keys of the three kinds of lines."""
_HINT: Final = (
    'A line is {"chosen": ID, "rejected": ID}, {"sessions": [ID, ID], "verdict": "first"} or '
    '{"session": ID, "verdict": "good"}.'
)


@dataclass
class Verdicts:
    """People's verdicts.

    Attributes:
        compared: pairs of sessions, (chosen, rejected), each once. judged: 1.0 or 0.0 by session.
        places: the line that first names each session, for errors.
    """

    compared: list[tuple[str, str]] = field(default_factory=list)
    judged: dict[str, float] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Makes an unknown session within the block an error that says which line named it."""
        try:
            yield
        except UnknownNameError as error:
            where = self.places.get(error.name)
            error.message = visible_line(
                error.message if where is None else f"{where.rstrip(',')}: {error.message}"
            )
            raise


def read_verdicts(
    choices: str | Path | Iterable[Mapping[str, Any]], dropped: Counter[str] | None = None
) -> Verdicts:
    """Returns the verdicts. Counts those that are open, and those that repeat an earlier one.

    Raises ConfigError: a line that is not a verdict; two that contradict each other.
    """
    found = Verdicts()
    lines: dict[tuple[str, str], str] = {}
    for where, row in _rows(choices):
        form, verdict = _form(where, row), str(row.get("verdict", "")).strip().lower()
        if form == "session":
            _judge(found, where, row["session"], verdict, dropped)
            continue
        pair = _pair(where, row, form, verdict)
        if pair is None:
            _count(dropped, "verdict")
        elif pair in lines:
            _count(dropped, "repeated")
        elif pair[::-1] in lines:
            raise _contradiction(where, lines[pair[::-1]])
        else:
            lines[pair] = where
            for session in pair:
                found.places.setdefault(session, where)
    for (chosen, rejected), where in lines.items():
        if found.judged.get(chosen) == 0.0 and found.judged.get(rejected) == 1.0:
            raise _contradiction(where, f"what was said of '{chosen}' and '{rejected}' alone")
    found.compared = list(lines)
    return found


def _form(where: str, row: Mapping[str, Any]) -> str:
    """Returns the key that says the kind of a line. Raises ConfigError for none, and for several."""
    forms = [keys[0] for keys in _FORMS if any(key in row for key in keys)]
    if len(forms) != 1 or (forms == ["chosen"] and "verdict" in row):
        has = visible_line(listing(map(str, row))) or "nothing"
        what = "is not a verdict" if not forms else "is more than one verdict"
        raise ConfigError(f"{where} {what}: it has {has}", hint=_HINT)
    return forms[0]


def _pair(where: str, row: Mapping[str, Any], form: str, verdict: str) -> tuple[str, str] | None:
    """Returns the chosen and the rejected session of a comparison; None for an open one."""
    if form == "chosen":
        return _two([row.get("chosen"), row.get("rejected")], where)
    first, second = _two(row["sessions"], where)
    if verdict in OPEN:
        return None
    if verdict in FIRST or verdict == first.lower():
        return first, second
    if verdict in SECOND or verdict == second.lower():
        return second, first
    raise _wrong(where, verdict, (*FIRST, *SECOND, "tie"))


def _judge(found: Verdicts, where: str, session: Any, verdict: str, dropped: Counter[str] | None) -> None:
    if not isinstance(session, str) or not session:
        raise ConfigError(f"{where} is not a verdict: its session is {session!r:.80}", hint=_HINT)
    if verdict in OPEN:
        _count(dropped, "verdict")
        return
    if verdict not in GOOD and verdict not in BAD:
        raise _wrong(where, verdict, (*GOOD, *BAD, "skip"))
    value = float(verdict in GOOD)
    if found.judged.setdefault(session, value) != value:
        raise _contradiction(where, found.places[session])
    found.places.setdefault(session, where)


def _count(dropped: Counter[str] | None, reason: str) -> None:
    if dropped is not None:
        dropped[reason] += 1


def _two(value: Any, where: str) -> tuple[str, str]:
    if (
        not isinstance(value, list | tuple)
        or len(value) != 2
        or not all(isinstance(one, str) and one for one in value)
        or value[0] == value[1]
    ):
        raise ConfigError(f"{where} does not compare two sessions: {value!r:.200}")
    return value[0], value[1]


def _wrong(where: str, verdict: str, known: Iterable[str]) -> ConfigError:
    return ConfigError(f"{where} has the verdict {verdict!r:.80}", hint=f"It is one of {listing(known)}.")


def _contradiction(where: str, other: str) -> ConfigError:
    return ConfigError(
        visible_line(f"{where} contradicts {other.rstrip(',')}"),
        hint="Keep one of the two, or give neither: where people differ, the pair teaches nothing.",
    )


def _rows(choices: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(choices, str | Path):
        path = Path(choices).expanduser()
        for number, row in read_lines(path, "the verdicts", read_json):
            where = f"{visible_line(path.name)}, line {number},"
            yield where, _mapping(row, where)
        return
    if isinstance(choices, Mapping) or not isinstance(choices, Iterable):
        raise ConfigError(
            f"verdicts are {type(choices).__name__}",
            hint="Give the path of a JSONL file, or a list of its rows.",
        )
    for place, row in enumerate(choices):
        yield f"verdict {place}", _mapping(row, f"verdict {place}")


def _mapping(row: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(row, Mapping):
        raise ConfigError(f"{where} is {type(row).__name__}, and must be an object")
    return row
