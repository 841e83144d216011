"""Data sets for training, with their origin: the sessions, their hashes, and the samples that were left out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, overload

from lllm.atomic_files import write_text_atomic
from lllm.core.canonical import digest
from lllm.core.jsonable import unicode_only
from lllm.core.visible import visible_line
from lllm.errors import ConfigError, DependencyError
from lllm.log.export.lines import line, text
from lllm.log.export.trl import message_row
from lllm.models.message import Message
from lllm.rl.data_columns import as_features, column_names, column_types
from lllm.rl.data_rows import KINDS, check_rows
from lllm.rl.json_lines import read_lines
from lllm.rl.samples import MISSED, Sample

DROPPED: Final[Mapping[str, str]] = {
    **MISSED,
    "tie": "chosen and rejected earned the same, or differ by less than the margin",
    "alone": "a prompt with one sample has nothing to compare it with",
    "several rows": "the conversation branched: its tokens are several rows, and a pair compares one with one",
    "other prompt": "what the two were asked is not the same, token by token",
    "identical": "chosen and rejected are the same text",
    "no fork": "the session was not forked from another",
    "no branch": "the fork did the same as its parent",
    "threshold": "it earned less than the threshold",
    "not among the best": "others of its prompt earned more",
    "cost": "it cost more than max_cost, or its cost is not known",
    "length": "it is longer than max_tokens, or shorter than min_tokens",
    "no tokens": "the log has no token ids of it",
    "max_length": "it is longer than the trainer's max_length, or than the model's context",
    "verdict": "the verdict is a tie, or was left open",
}
"""Why samples and pairs are left out."""


@dataclass
class TrainingData(Sequence[dict[str, Any]]):
    """Rows for a trainer.

    Attributes:
        kind: `preferences` (DPO), `examples` (SFT) or `labels` (KTO). rows: the columns of each are those that TRL's trainer of
            the kind takes, and those of the tokens, see KINDS.
        how: a sentence on how they were chosen. sessions: the sessions they come from, each with the hash of its last event.
        environments, models, policies: the environments, models and versions of the policy that they come from.
        dropped: the number of samples and pairs that were left out, by reason (DROPPED).
    """

    kind: str
    rows: list[dict[str, Any]]
    how: str = ""
    sessions: dict[str, str] = field(default_factory=dict)
    environments: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    policies: list[str] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        kind: str,
        rows: list[dict[str, Any]],
        how: str,
        samples: Iterable[Sample],
        dropped: Mapping[str, int],
    ) -> TrainingData:
        """Makes data from rows, with the origin of the samples that they were made of."""
        samples = list(samples)

        def names(attribute: str) -> list[str]:
            return sorted({str(value) for one in samples if (value := getattr(one, attribute)) is not None})

        sessions = {one.session: one.head or "" for one in samples if one.session is not None}
        counts = {reason: dropped[reason] for reason in DROPPED if dropped.get(reason)}
        return cls(
            kind,
            rows,
            how,
            dict(sorted(sessions.items())),
            names("environment"),
            names("model"),
            names("policy"),
            counts,
        )

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    @property
    def has_tokens(self) -> bool:
        """True if every row has its token ids."""
        return all(row.get(name) is not None for row in self.rows for name in KINDS[self.kind])

    def dataset(self) -> Any:
        """Returns the rows as a `Dataset` of Hugging Face. Raises DependencyError where `datasets` is not installed."""
        try:
            from datasets import Dataset
        except ImportError as error:
            raise DependencyError("datasets", "rl", "a data set of Hugging Face") from error
        columns = column_types(self.rows)
        return Dataset.from_dict(
            {name: [row.get(name) for row in self.rows] for name in column_names(self.rows)},
            features=None if columns is None else as_features(columns),
        )

    @property
    def text(self) -> str:
        """Returns the rows as JSON lines."""
        return "".join(line(row) for row in self.rows)

    @property
    def digest(self) -> str:
        """A digest of `data.jsonl`."""
        return digest(self.text.encode())

    def save(self, folder: str | Path) -> Path:
        """Writes `data.jsonl`, its card `README.md` and `provenance.json` to a folder, which `datasets.load_dataset` reads."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        # what is interrupted here leaves rows without an origin, and none with the origin of others
        (place / "provenance.json").unlink(missing_ok=True)
        write_text_atomic(place / "data.jsonl", self.text)
        write_text_atomic(place / "README.md", self.card())
        origin = {name: value for name, value in vars(self).items() if name != "rows"}
        write_text_atomic(place / "provenance.json", text({**origin, "digest": self.digest}) + "\n")
        return place

    @classmethod
    def load(cls, path: str | Path) -> TrainingData:
        """Reads a folder that `save` wrote, or a JSONL file of rows alone. Raises ConfigError where it is neither, or where the
        rows are not those that the card describes."""
        place = Path(path).expanduser()
        folder = place.is_dir()
        lines = list(read_lines(place / "data.jsonl" if folder else place, "the data set"))
        rows = [row for _, row in lines]
        file = "data.jsonl" if folder else visible_line(place.name)
        kind = check_rows(rows, visible_line(place.name), lambda number: f"{file}, line {lines[number][0]},")
        found = cls(kind, rows, f"read from {place.name}")
        if not folder or not (place / "provenance.json").is_file():
            return found
        origin = _origin(place / "provenance.json")
        known = origin.pop("digest", None)
        if origin.get("kind", found.kind) != found.kind:
            raise ConfigError(
                f"the rows of the data set {place} are {found.kind}, and its card says {origin['kind']}"
            )
        found = replace(found, **origin)
        if known is not None and known != found.digest:
            raise ConfigError(
                f"the rows of the data set {place} are not those that its card describes: data.jsonl was changed",
                hint="To use them as rows of your own, without their origin, give the path of data.jsonl itself.",
            )
        return found

    def card(self) -> str:
        """The card of the data set, as Markdown."""
        from lllm.rl.data_card import card

        return card(self)

    def __repr__(self) -> str:
        left = f", {sum(self.dropped.values())} left out" if self.dropped else ""
        return f"TrainingData({self.kind}: {len(self)} rows{left})"


def conversation(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns messages in the form of a data set's columns."""
    found: list[dict[str, Any]] = unicode_only([message_row(Message.from_record(one)) for one in messages])
    return found


_TYPES: Final[Mapping[str, type]] = {
    "kind": str,
    "how": str,
    "sessions": dict,
    "environments": list,
    "models": list,
    "policies": list,
    "dropped": dict,
    "digest": str,
}
"""The keys of `provenance.json`, with their types."""


def _origin(file: Path) -> dict[str, Any]:
    """Reads `provenance.json`. Raises ConfigError."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    if not isinstance(found, dict) or any(
        not isinstance(value, _TYPES.get(name, ())) for name, value in found.items()
    ):
        raise ConfigError(
            f"{file} does not describe a data set: its keys are {', '.join(_TYPES)}",
            hint="Without that file the rows are read, and their origin is not known.",
        )
    return found
