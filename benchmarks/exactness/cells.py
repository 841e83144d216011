"""A mirror of the cells of llama.cpp: which token is at which position of which sequence."""

from __future__ import annotations

import hashlib


class Cells:
    """Follows what is computed, removed, copied, saved and loaded. What is saved is found again by its bytes.

    Attributes:
        reused: tokens that were kept where the rest of a sequence was removed. loaded: how often one that was saved came back.
        most: sequences at once.
    """

    most = 1

    def __init__(self) -> None:
        self._of: dict[int, dict[int, int]] = {}
        self._saved: dict[bytes, dict[int, int]] = {}
        self.loaded = self.reused = 0

    def put(self, sequence: int, position: int, token: int) -> None:
        cells = self._of.setdefault(sequence, {})
        assert position not in cells, f"position {position} of sequence {sequence} was computed twice"
        cells[position] = token

    def remove(self, sequence: int, start: int, end: int) -> None:
        for one in list(self._of) if sequence < 0 else [sequence]:
            cells = self._of.get(one, {})
            kept = {place: token for place, token in cells.items() if place < start or place >= end >= 0}
            self.reused += len(kept)
            self._of[one] = kept

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        cells = self._of.get(source, {})
        self._of.setdefault(target, {}).update(
            {place: token for place, token in cells.items() if place >= start and (end < 0 or place < end)}
        )

    def clear(self) -> None:
        self._of.clear()

    def save(self, sequence: int, data: bytes) -> None:
        self._saved[hashlib.blake2b(data).digest()] = dict(self._of.get(sequence, {}))

    def load(self, sequence: int, data: bytes) -> None:
        self._of[sequence] = dict(self._saved[hashlib.blake2b(data).digest()])
        self.loaded += 1

    def size(self, sequence: int) -> int:
        return len(self._of.get(sequence, {}))

    def before(self, sequence: int, end: int | None = None) -> list[int]:
        """The tokens of a sequence up to position `end`, itself among them. Every position must have been computed."""
        cells = self._of.get(sequence, {})
        last = len(cells) - 1 if end is None else end
        assert all(place in cells for place in range(last + 1)), f"sequence {sequence} has gaps"
        return [cells[place] for place in range(last + 1)]
