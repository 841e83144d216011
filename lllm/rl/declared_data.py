"""`data:` of train.yaml: a file of rows, or sessions of the log, of which some are selected.

data: pairs.jsonl
data: {sessions: logged, max_cost: 0.01, max_tokens: 200}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lllm.config.kinds import fits, in_words
from lllm.config.rl_keys import DATA_KEYS
from lllm.core.visible import visible
from lllm.errors import ConfigError, UnknownKeyError, UnknownNameError, listing
from lllm.rl.json_lines import read_lines
from lllm.rl.samples import Sample, samples_of
from lllm.rl.selecting import reason_against

if TYPE_CHECKING:
    from lllm.ports import LogStore

LOGGED: Final = "logged"
"""All sessions of the log that have a reply."""
LIMITS: Final = ("max_cost", "min_tokens", "max_tokens")
"""The keys that select from sessions. Rewards are compared by the trainer's own options: threshold, best, margin, pairs."""


@dataclass
class Selected(Sequence[Sample]):
    """Samples of sessions. `dropped` counts those that were left out, by reason."""

    samples: list[Sample]
    dropped: Counter[str] = field(default_factory=Counter)

    def __getitem__(self, index: Any) -> Any:
        return self.samples[index]

    def __len__(self) -> int:
        return len(self.samples)


def declared_data(value: str | Mapping[str, Any], base: Path, store: LogStore) -> Path | Selected:
    """Returns what `data:` names: the path of a data set, or samples of sessions.

    Raises ConfigError: a file that is none, a line of it that is wrong. UnknownNameError: no such session.
    """
    if isinstance(value, str):
        value = {"file": value}
    _check_keys(value)
    file, sessions = value.get("file"), value.get("sessions")
    if (file is None) == (sessions is None):
        raise ConfigError(
            "data names both a file and sessions"
            if file is not None
            else "data names neither a file nor sessions",
            hint="Write data: FILE, or data: {sessions: [ID, ...]}.",
        )
    if sessions is None:
        if given := [name for name in LIMITS if value.get(name) is not None]:
            raise ConfigError(
                f"data has {listing(given)}, which select from sessions, and a file: its rows are trained on as they are"
            )
        path = base / Path(str(file)).expanduser()
        if not path.exists():
            raise ConfigError(
                f"there is no data set {visible(str(file))}", hint="A path is relative to this file."
            )
        return path
    return _select(_ids(sessions, base, store), value, store)


def _check_keys(value: Mapping[str, Any]) -> None:
    for name, one in value.items():
        if name not in DATA_KEYS:
            raise UnknownKeyError(name, DATA_KEYS, where="data")
        kind = DATA_KEYS[name]
        if not fits(one, kind.schema):
            raise ConfigError(f"data.{name} is {in_words(one)}, and must be {kind.words}")


def _ids(sessions: Any, base: Path, store: LogStore) -> list[str]:
    """The ids that are listed, that stand in a JSON Lines file, or that the log has."""
    if isinstance(sessions, list):
        return sessions
    if sessions == LOGGED:
        return [info.id for info in store.sessions()][::-1]
    path = base / Path(str(sessions)).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"data.sessions is {visible(str(sessions))!r}, which is not a file",
            hint=f'Write a list of ids, `{LOGGED}` for all of the log, or a file with lines {{"session": ID}}.',
        )
    ids = []
    for number, row in read_lines(path, "the list of sessions"):
        id = row.get("session") if isinstance(row, Mapping) else None
        if not isinstance(id, str) or not id:
            raise ConfigError(
                f"{visible(path.name)}, line {number}, names no session",
                hint='A line is {"session": ID}; other keys are passed over.',
            )
        ids.append(id)
    return list(dict.fromkeys(ids))


def _select(ids: Sequence[str], limits: Mapping[str, Any], store: LogStore) -> Selected:
    """The samples of sessions that are within the limits."""
    found = Selected([])
    known = {info.id for info in store.sessions()}
    for id in ids:
        if id not in known:
            raise UnknownNameError("session", id, sorted(known))
    most = limits.get("max_cost")
    for one in samples_of(ids, store, found.dropped):
        reason = reason_against(
            one,
            None,
            None if most is None else Decimal(str(most)),
            limits.get("min_tokens"),
            limits.get("max_tokens"),
        )
        if reason is None:
            found.samples.append(one)
        else:
            found.dropped[reason] += 1
    return found
