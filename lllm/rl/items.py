"""The rows of an environment: what is asked, and what rewards may know about it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Final

from lllm.core.canonical import digest_of
from lllm.core.jsonable import jsonable, unicode_only
from lllm.errors import ConfigError, PromptError, listing
from lllm.models.message import Message
from lllm.rl.json_lines import read_lines

_ASKED: Final = ("prompt", "messages")
_OWN: Final = (*_ASKED, "answer", "info")


@dataclass(frozen=True)
class Item:
    """A row of a dataset.

    Attributes:
        index: its place, from 0.
        prompt: the text that the policy is asked, or the messages of a conversation that it continues.
        answer: the reference answer, or None. info: what else the row has under `info`.
        columns: all other columns. Only rewards, `setup`, `step` and `done` see answer, info and columns.
    """

    index: int
    prompt: str | tuple[Message, ...]
    answer: Any = None
    info: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """A digest of the row: the same wherever the row stands in its dataset."""
        return digest_of(jsonable([self.asked, self.answer, self.info, self.columns])).removeprefix(
            "sha256:"
        )[:16]

    @property
    def text(self) -> str:
        """What is asked, as text: the last message of a conversation."""
        return self.prompt if isinstance(self.prompt, str) else self.prompt[-1].text

    @property
    def asked(self) -> Any:
        """The prompt as JSON: text, or a list of messages."""
        return self.prompt if isinstance(self.prompt, str) else [one.record() for one in self.prompt]

    def value(self, name: str) -> Any:
        """What the row has under a name: `prompt`, `answer`, `info` or a column. KeyError where it has none."""
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

    A row has `prompt` (a text, or a list of messages) or `messages`, and may have `answer`, `info` (a mapping, or one as
    JSON) and columns of any name. Raises ConfigError for rows that have not.
    """

    def __init__(self, rows: Any) -> None:
        self._source = "the dataset"
        self._read: list[Item] = []
        self._more: Iterator[tuple[int, Any]] | None = None
        if isinstance(rows, Items):
            self._read, self._more, self._source = rows._read, rows._more, rows._source
            return
        if isinstance(rows, str | Path):
            path = Path(rows).expanduser()
            self._source = path.name
            self._more = _numbered(path)
        elif isinstance(rows, Mapping) or not isinstance(rows, Iterable):
            raise ConfigError(
                f"an environment's dataset is {type(rows).__name__}",
                hint="Give a list of dicts, a Dataset of Hugging Face, an iterable of dicts, or the path of a JSONL file.",
            )
        else:
            self._more = iter(enumerate(rows))

    def first(self, count: int | None = None) -> list[Item]:
        """The first `count` rows; None: all of them."""
        while self._more is not None and (count is None or len(self._read) < count):
            self._next()
        return self._read[:count]

    def _next(self) -> None:
        assert self._more is not None
        try:
            place, row = next(self._more)
        except StopIteration:
            self._more = None
            return
        self._read.append(self._item(place, row))

    def _item(self, place: int, row: Any) -> Item:
        where = f"row {place} of {self._source}"
        if not isinstance(row, Mapping):
            raise ConfigError(f"{where} is {type(row).__name__}, and must be a dict with a 'prompt'")
        return item_of(row, len(self._read), where)

    def __len__(self) -> int:
        return len(self.first())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.first()[index]
        rows = self.first(index + 1 if index >= 0 else None)
        return rows[index]

    def __iter__(self) -> Iterator[Item]:
        index = 0
        while index < len(self.first(index + 1)):
            yield self._read[index]
            index += 1

    @property
    def columns(self) -> frozenset[str]:
        """The names of the columns of the rows that were read; of the first one at least."""
        return frozenset(name for item in self.first(1) and self._read for name in item.columns)


def item_of(row: Mapping[str, Any], index: int, where: str = "the row") -> Item:
    """The Item of a row. ConfigError where it has no prompt, or one that cannot be asked."""
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
            raise ConfigError(f"{where}: {given[0]} is no list of messages: {error}") from error
    else:
        raise ConfigError(
            f"{where}: {given[0]} is {type(asked).__name__ if asked else 'an empty list'}, and must be a text or messages"
        )
    return Item(
        index,
        prompt,
        row.get("answer"),
        _info(row.get("info"), where),
        {str(name): value for name, value in row.items() if name not in _OWN},
    )


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


def raw_rows(rows: Any) -> Iterator[Any]:
    """The rows of a dataset as it has them, unchecked: of a JSONL file, or of an iterable."""
    if isinstance(rows, str | Path):
        return (row for _, row in _numbered(Path(rows).expanduser()))
    return iter(rows)


def _numbered(path: Path) -> Iterator[tuple[int, Any]]:
    """The rows of a JSONL file, numbered from 0."""
    return ((number - 1, row) for number, row in read_lines(path, "the dataset"))
