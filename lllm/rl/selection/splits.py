"""The three splits of a search: rows to search on, rows to choose on, and rows on which the winner is measured once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lllm.errors import ConfigError
from lllm.llm.checks import parse_count
from lllm.rl.items import Item, Items, select_items

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
    """Returns the splits. A number takes that many of the environment's rows, one split after the other; for `held_out`, it
    takes rows of the environment's own `held_out` where it has one.

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
            found[name] = select_items(env.items, _read_rows(name, value))
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
    # where nothing but the prompt is shown, rows that ask the same are the same to a prompt
    alone = env.setup_hook is None and env.opening_hook is None
    _require_apart(found, (lambda item: str(item.asked)) if alone else (lambda item: item.key))
    return Splits(found["search"], found["choice"], found["held_out"])


def _rows(value: Any) -> bool:
    return value is not None and not isinstance(value, int | float)


def _read_rows(name: str, value: Any) -> Any:
    """Returns given rows: a list, a file, a data set, or those of another environment. Raises ConfigError."""
    from lllm.rl.environment import RLEnv

    if isinstance(value, RLEnv):
        return value.items
    if isinstance(value, list | Items):
        return value
    if isinstance(value, Mapping) or not isinstance(value, Iterable | Path):
        raise ConfigError(
            f"{name} is {type(value).__name__}",
            hint="Give a number of rows, a list of rows, the path of a JSONL file, or an environment.",
        )
    return Items(value)


def _number(name: str, value: Any) -> int:
    if value is None:
        return SIZES[name]
    return parse_count(name, value)


def _require_apart(found: dict[str, list[Item]], key: Callable[[Item], str]) -> None:
    seen: dict[str, str] = {}
    for name, items in found.items():
        if not items:
            raise ConfigError(f"the split '{name}' has no rows")
        for item in items:
            other = seen.setdefault(key(item), name)
            if other != name:
                raise ConfigError(
                    f"row {item.index} is in two splits, {other} and {name}: {item.text!r:.60}",
                    hint="A prompt that was chosen on a row cannot be measured on it: give rows that differ.",
                )
