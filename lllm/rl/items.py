"""The rows of an environment: the prompt for the policy, and the values that only rewards and hooks see."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

from lllm.core.canonical import digest_of
from lllm.core.jsonable import jsonable, unicode_only
from lllm.errors import ConfigError, PromptError, listing, text_of
from lllm.models.message import Message
from lllm.rl.json_lines import read_lines

T = TypeVar("T")

_ASKED: Final = ("prompt", "messages")
_OWN: Final = (*_ASKED, "answer", "info")


@dataclass(frozen=True)
class Item:
    """A row of a dataset.

    Attributes:
        index: its place, from 0.
        prompt: the text that the policy is asked, or the messages of a conversation that it continues.
        answer: the reference answer, or None. info: the mapping that the row has under `info`.
        columns: all other columns. Only rewards, `setup`, `step` and `done` see answer, info and columns.
    """

    index: int
    prompt: str | tuple[Message, ...]
    answer: Any = None
    info: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """A digest of the row's content, independent of its place in the dataset."""
        row = unicode_only(jsonable([self.asked, self.answer, self.info, self.columns]))
        return digest_of(row).removeprefix("sha256:")[:16]

    @property
    def text(self) -> str:
        """The prompt as text; of a conversation, its last message."""
        return self.prompt if isinstance(self.prompt, str) else self.prompt[-1].text

    @property
    def asked(self) -> Any:
        """The prompt as JSON: text, or a list of messages."""
        return self.prompt if isinstance(self.prompt, str) else [one.record() for one in self.prompt]

    def value(self, name: str) -> Any:
        """Returns the value of `prompt`, `answer`, `info` or a column. Raises KeyError where the row has none of this name."""
        if name == "prompt":
            return self.asked
        if name == "answer":
            return self.answer
        if name == "info":
            return self.info
        return self.columns[name]


class Items(Sequence[Item]):
    """The rows of a dataset, each checked when it is first read.

    Args:
        rows: a list of dicts, a Hugging Face `Dataset`, the path of a JSONL file, or an iterable of dicts. An iterable is
            read once, and as far as it is needed: it may be endless where a number of rows is asked for.
        columns: new names of columns, each with the name that the dataset has.

    A row has `prompt` (a text, or a list of messages) or `messages`, and may have `answer`, `info` (a mapping, or one as
    JSON) and columns of any name. Raises ConfigError for rows that have not: each time that such a row is reached.

    Attributes:
        ends: whether it is known that the rows end: those of a file, and of what has a length.
    """

    def __init__(self, rows: Any, columns: Mapping[str, str] | None = None) -> None:
        self._rows: _Rows = rows._rows if isinstance(rows, Items) else _shared_rows(rows, columns or {})

    @property
    def ends(self) -> bool:
        return self._rows.ends or self._rows.more is None

    def first(self, count: int | None = None) -> list[Item]:
        """Returns the first `count` rows; all rows for None."""
        if count is not None and (type(count) is not int or count < 0):
            raise ConfigError(f"the number of rows must be a whole number >= 0, or None, got {count!r}")
        return self._rows.upto(count)[:count]

    def known(self) -> list[Item]:
        """All rows; of an iterable that may be endless, those that were read so far."""
        return self.first() if self.ends else list(self._rows.read)

    def find(self, key: str, place: int) -> Item | None:
        """Returns the row with a key; None where there is none. An iterable that may be endless is read up to the expected
        place."""
        there = self._rows.upto(place + 1)[place : place + 1]
        return there[0] if there and there[0].key == key else self._rows.by_key(key)

    def __len__(self) -> int:
        return len(self.first())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.first()[index]
        rows = self.first(index + 1 if index >= 0 else None)
        return rows[index]

    def __iter__(self) -> Iterator[Item]:
        index = 0
        while index < len(rows := self._rows.upto(index + 1)):
            yield rows[index]
            index += 1

    @property
    def columns(self) -> frozenset[str]:
        """The names of the columns of the rows that were read so far, which include the first row."""
        return frozenset(name for item in self._rows.upto(1) for name in item.columns)

    def bound(self, bind: Callable[[frozenset[str] | None], T]) -> T:
        """Returns what `bind` returns for the names of the columns: of the first row, or of all rows, where these do not
        suffice. `bind` is given None where there are no rows."""
        if not self.first(1):
            return bind(None)
        try:
            return bind(self.columns)
        except ConfigError:
            if not self.ends:
                raise
            self.first()
            return bind(self.columns)


class _Rows:
    """Reads rows once, and only as far as needed. All Items of one dataset share them."""

    def __init__(self, rows: Any, columns: Mapping[str, str]) -> None:
        self.read: list[Item] = []
        self.more: Iterator[tuple[int, Any]] | None
        self._columns = columns
        self._given = rows
        self._source = "the dataset"
        self._failed: Exception | None = None
        self._keys: dict[str, Item] = {}
        self._looked = 0
        if isinstance(rows, str | Path):
            path = Path(rows).expanduser()
            self._source, self.ends = path.name, True
            self.more = _numbered(path)
        elif isinstance(rows, Mapping) or not isinstance(rows, Iterable):
            one = next(iter(rows), None) if isinstance(rows, Mapping) else None
            split = hasattr(rows[one], "column_names") if one is not None else False
            raise ConfigError(
                f"an environment's dataset is {type(rows).__name__}",
                hint=f"Choose one of its splits: dataset[{one!r}]."
                if split
                else "Give a list of dicts, a Dataset of Hugging Face, an iterable of dicts, or the path of a JSONL file.",
            )
        else:
            self.more, self.ends = iter(enumerate(rows)), hasattr(rows, "__len__")

    def reads(self, rows: Any) -> bool:
        """Returns True if these are the rows of an object."""
        return self._given is rows

    def upto(self, count: int | None) -> list[Item]:
        """Reads `count` rows, or fewer where there are fewer, and returns all rows that were read."""
        while self.more is not None and (count is None or len(self.read) < count):
            self._next()
        return self.read

    def by_key(self, key: str) -> Item | None:
        for item in (self.upto(None) if self.ends else self.read)[self._looked :]:
            self._keys.setdefault(item.key, item)
        self._looked = len(self.read)
        return self._keys.get(key)

    def _next(self) -> None:
        assert self.more is not None
        if self._failed is not None:  # a generator that has raised would say that it has ended
            raise self._failed
        try:
            place, row = next(self.more)
        except StopIteration:
            self.more = None
            return
        except ConfigError as error:
            self._failed = error
            raise
        except Exception as error:  # code of the project
            self._failed = ConfigError(
                f"the dataset raised {type(error).__name__} after {len(self.read)} rows: {text_of(error)}"
            )
            raise self._failed from error
        try:
            self.read.append(self._item(place, row))
        except ConfigError as error:
            self._failed = error
            raise

    def _item(self, place: int, row: Any) -> Item:
        where = f"row {place} of {self._source}"
        if not isinstance(row, Mapping):
            lines = isinstance(row, list) and self._source.endswith((".json", ".jsonl"))
            raise ConfigError(
                f"{where} is {type(row).__name__}, and must be a dict with a 'prompt'",
                hint="Write one row a line, without brackets around all of them." if lines else None,
            )
        return item_of(_renamed(row, self._columns, where) if self._columns else row, len(self.read), where)


_iterators: Final[WeakValueDictionary[int, _Rows]] = WeakValueDictionary()


def _shared_rows(rows: Any, columns: Mapping[str, str]) -> _Rows:
    """The rows of a dataset. An iterator gives its rows once: whoever is given it again shares what was read of it."""
    if not isinstance(rows, Iterator) or columns:
        return _Rows(rows, columns)
    found = _iterators.get(id(rows))
    if found is None or not found.reads(rows):
        found = _iterators[id(rows)] = _Rows(rows, columns)
    return found


def item_of(row: Mapping[str, Any], index: int, where: str = "the row") -> Item:
    """Returns the Item of a row. Raises ConfigError where it has no prompt, or one that is neither text nor messages."""
    if not isinstance(row, Mapping):
        raise ConfigError(f"{where} is {type(row).__name__}, and must be a text or a dict with a 'prompt'")
    given = [name for name in _ASKED if row.get(name) is not None]
    if len(given) != 1:
        has = listing([str(name) for name in row]) or "nothing"
        what = "both 'prompt' and 'messages'" if given else "neither 'prompt' nor 'messages'"
        raise ConfigError(f"{where} has {what}; it has {has}", hint="A row has one of them.")
    asked = row[given[0]]
    prompt: str | tuple[Message, ...]
    if isinstance(asked, str):
        if not asked.strip():
            raise ConfigError(f"{where} has an empty {given[0]}")
        prompt = unicode_only(asked)
    elif isinstance(asked, Sequence) and asked:
        try:
            prompt = tuple(one if isinstance(one, Message) else Message.from_dict(one) for one in asked)
        except (ConfigError, PromptError, TypeError, KeyError, ValueError) as error:
            raise ConfigError(f"{where}: {given[0]} is not a list of messages: {error}") from error
    else:
        raise ConfigError(
            f"{where}: {given[0]} is {type(asked).__name__ if asked else 'an empty list'}, and must be a text or messages"
        )
    found = Item(
        index,
        prompt,
        row.get("answer"),
        _info(row.get("info"), where),
        {str(name): value for name, value in row.items() if name not in _OWN},
    )
    _ = found.key  # now: code of the project may change what the row holds
    return found


def _renamed(row: Mapping[str, Any], columns: Mapping[str, str], where: str) -> Mapping[str, Any]:
    """Renames the columns of a row. A renamed column is no longer found under its old name."""
    for old in columns.values():
        if old not in row:
            raise ConfigError(f"{where} has no column '{old}'; it has {listing(map(str, row))}")
    taken = set(columns.values())
    kept = {name: value for name, value in row.items() if name not in taken and name not in columns}
    return kept | {new: row[old] for new, old in columns.items()}


def select_items(own: Items, rows: Iterable[Any] | None, first: int | None = None) -> list[Item]:
    """Returns the rows that are to be used, at most `first` of them.

    Args:
        own: the rows of the environment. rows: None for those, or others: Items, or texts, dicts and Items in any order.

    Raises ConfigError: a row that is none of these, or has no prompt.
    """
    if rows is None:
        return own.first(first)
    if isinstance(rows, Items):
        return rows.first(first)
    if not isinstance(rows, Iterable):
        raise ConfigError(
            f"rows are {type(rows).__name__}", hint="Give a text, a dict with a 'prompt', or a list of them."
        )
    found: list[Item] = []
    for row in islice(rows, first):
        where = f"row {len(found)}"
        if isinstance(row, Item):
            found.append(row)
        elif isinstance(row, str | Mapping):
            found.append(item_of({"prompt": row} if isinstance(row, str) else row, len(found), where))
        else:
            raise ConfigError(
                f"{where} is {type(row).__name__}, and must be a text or a dict with a 'prompt'"
            )
    return found


def _info(value: Any, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ConfigError(f"{where}: info is a text that is not JSON: {error}") from error
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: info is {type(value).__name__}, and must be a mapping")
    return value


def _numbered(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields the rows of a JSONL file, numbered from 0."""
    return ((number - 1, row) for number, row in read_lines(path, "the dataset"))
