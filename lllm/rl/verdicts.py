"""What people said about sessions: JSON lines that compare two, or judge one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from lllm.errors import ConfigError, listing

GOOD: Final = ("good", "yes", "up", "accept", "accepted", "1", "true", "+1")
BAD: Final = ("bad", "no", "down", "reject", "rejected", "0", "false", "-1")
FIRST: Final = ("first", "a", "left")
SECOND: Final = ("second", "b", "right")
OPEN: Final = ("tie", "equal", "both", "neither", "skip", "none", "")
"""Words of verdicts, in any case."""


def read_verdicts(
    choices: str | Path | Iterable[Mapping[str, Any]], dropped: Counter[str] | None = None
) -> tuple[list[tuple[str, str]], dict[str, float]]:
    """The comparisons, as (chosen, rejected), and the judgements, 1.0 or 0.0 by session. Verdicts that are open are counted.

    Raises ConfigError: what is no verdict, with its line; two judgements of one session that contradict each other.
    """
    compared: list[tuple[str, str]] = []
    judged: dict[str, float] = {}
    for where, row in _rows(choices):
        verdict = str(row.get("verdict", "")).strip().lower()
        if "chosen" in row or "rejected" in row:
            compared.append(_two([row.get("chosen"), row.get("rejected")], where))
            continue
        if "sessions" in row:
            first, second = _two(row["sessions"], where)
            if verdict in OPEN:
                _count(dropped)
            elif verdict in FIRST or verdict == first.lower():
                compared.append((first, second))
            elif verdict in SECOND or verdict == second.lower():
                compared.append((second, first))
            else:
                raise _wrong(where, verdict, (*FIRST, *SECOND, "tie"))
            continue
        session = row.get("session")
        if not isinstance(session, str) or not session:
            raise ConfigError(
                f"{where} is no verdict: it has {listing(map(str, row)) or 'nothing'}",
                hint='A line is {"chosen": ID, "rejected": ID}, {"sessions": [ID, ID], "verdict": "first"} or '
                '{"session": ID, "verdict": "good"}.',
            )
        if verdict in OPEN:
            _count(dropped)
            continue
        if verdict not in GOOD and verdict not in BAD:
            raise _wrong(where, verdict, (*GOOD, *BAD, "skip"))
        value = float(verdict in GOOD)
        if judged.setdefault(session, value) != value:
            raise ConfigError(f"{where} contradicts an earlier verdict on session '{session}'")
    return compared, judged


def _count(dropped: Counter[str] | None) -> None:
    if dropped is not None:
        dropped["verdict"] += 1


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
    return ConfigError(f"{where} has the verdict {verdict!r}", hint=f"It is one of {listing(known)}.")


def _rows(choices: Any) -> Iterable[tuple[str, Mapping[str, Any]]]:
    if not isinstance(choices, str | Path):
        for place, row in enumerate(choices):
            yield f"verdict {place}", _mapping(row, f"verdict {place}")
        return
    path = Path(choices).expanduser()
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the verdicts {path} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path.name}, line {number},"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{where} is not JSON: {error}") from error
        yield where, _mapping(row, where)


def _mapping(row: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(row, Mapping):
        raise ConfigError(f"{where} is {type(row).__name__}, and must be an object")
    return row
