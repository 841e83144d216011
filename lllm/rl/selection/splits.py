"""Three splits for a search: rows to search on, rows to choose on, rows that the winner is measured on once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lllm.errors import ConfigError
from lllm.rl.items import Item, Items

if TYPE_CHECKING:
    from lllm.rl.environment import RLEnv

SIZES: Final = {"search": 50, "choice": 100, "held_out": 200}
"""Rows of each split where nothing else is said."""


class Splits(NamedTuple):
    """The rows of the three splits. No row is in two of them."""

    search: list[Item]
    choice: list[Item]
    held_out: list[Item]


def splits_of(env: RLEnv, search: Any, choice: Any, held_out: Any) -> Splits:
    """The splits. Numbers are of the environment's rows, one split after the other; the last one's are the rows that the
    environment itself holds out, where it has a `held_out`.

    Args:
        search, choice, held_out: None (see SIZES), a number, or rows; `held_out` also an environment.

    Raises ConfigError: too few rows, or a row in two splits.
    """
    given = {"search": search, "choice": choice, "held_out": held_out}
    own = getattr(env, "held_out", None)
    found: dict[str, list[Item]] = {}
    start = 0
    for name, value in given.items():
        if name == "held_out" and own is not None and own is not env and not _rows(value):
            value = own.items.first(_number(name, value))
        if _rows(value):
            items = value.items if hasattr(value, "items") and not isinstance(value, dict) else value
            found[name] = env._items(items if isinstance(items, list | Items) else list(items), None)
            continue
        count = _number(name, value)
        found[name] = env.items.first(start + count)[start:]
        start += count
        if len(found[name]) < count:
            there = len(env.items.first(start))
            raise ConfigError(
                f"a search needs {start} rows for {', '.join(found)}; the environment '{env.name}' has {there}",
                hint="Give smaller numbers: PromptSearch(search=20, choice=20, held_out=40).",
            )
    _require_apart(found)
    return Splits(found["search"], found["choice"], found["held_out"])


def _rows(value: Any) -> bool:
    return value is not None and not isinstance(value, int)


def _number(name: str, value: Any) -> int:
    if value is None:
        return SIZES[name]
    if isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name} is {value!r}; it is a number of rows from 1 on, or rows")
    return int(value)


def _require_apart(found: dict[str, list[Item]]) -> None:
    seen: dict[str, str] = {}
    for name, items in found.items():
        if not items:
            raise ConfigError(f"the split '{name}' has no rows")
        for item in items:
            other = seen.setdefault(item.key, name)
            if other != name:
                raise ConfigError(
                    f"row {item.index} is in two splits, {other} and {name}: {item.text!r:.60}",
                    hint="A prompt that was chosen on a row cannot be measured on it: give rows that differ.",
                )
