"""Keys and values of the rows that are decoded together, behind the library's cache interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import torch
from transformers.cache_utils import Cache, DynamicLayer

Pair = tuple[torch.Tensor, torch.Tensor]


class Shape(NamedTuple):
    """Of a layer's keys and values: heads, and numbers per head."""

    heads: int
    key: int
    value: int


GRAIN: Final = 32
"""Columns are added by this many at once, or by an eighth of what is there."""
SEEN: Final = 8
"""The model sees columns in whole multiples of this, so that its products keep to fast sizes."""


class Room(Cache):  # type: ignore[misc]
    """A preallocated KV cache with one row per request, each from column 0 on: rows join and leave without moving others.

    The library's own cache grows by concatenation, which copies everything at every token, and has one length for all
    rows. Here a step writes in place, each row at its own end. Columns after a row's end are zero and masked.


            room.begin(width)                       how many tokens every row gets next
            Step(model)(ids, room, 1)                the model writes to it, and sees what `mask` and `positions` allow
            room.lengths = [...]                    the valid length of each row

    Shapes: keys and values of a layer are (rows, heads, columns, size).

    Attributes:
        lengths: tokens of each row.
        positions: (rows, width), set by `begin`.
        mask: added to the attention scores, (rows, 1, width, columns), set by `begin`; None: causal, nothing to hide.
    """

    def __init__(self, shapes: Sequence[Shape], device: str, dtype: torch.dtype, context: int) -> None:
        self.device, self.dtype = device, dtype
        super().__init__(layers=[_Layer(self, shape) for shape in shapes])
        self.lengths: list[int] = []
        self.columns = 0
        self.positions: torch.Tensor | None = None
        self.mask: torch.Tensor | None = None
        self.seen = 0  # columns that the model sees in this step
        self.start: int | None = None  # where all rows write, or None: each at its own place
        self.at: tuple[torch.Tensor, torch.Tensor] | None = None
        self._hidden = torch.finfo(dtype).min
        self._last = context - 1

    def begin(self, width: int) -> None:
        """Makes room for `width` more tokens in every row."""
        lengths = self.lengths
        longest = max(lengths)
        self.reserve(longest + width)
        starts = torch.tensor(lengths, device=self.device)
        steps = torch.arange(width, device=self.device)
        places = starts[:, None] + steps
        # what fills up a shorter prompt may lie behind the last position that the model knows
        self.positions = places.clamp(max=self._last)
        same = min(lengths) == longest
        self.start = longest if same else None
        self.at = None if same else (torch.arange(len(lengths), device=self.device)[:, None], places)
        if same and (longest == 0 or width == 1 == len(lengths)):
            self.mask, self.seen = None, longest + width
            return
        self.seen = min(self.columns, -(-(longest + width) // SEEN) * SEEN)
        columns = torch.arange(self.seen, device=self.device)
        visible = columns <= places[:, :, None]
        mask = torch.zeros(visible.shape, dtype=self.dtype, device=self.device)
        self.mask = mask.masked_fill_(~visible, self._hidden)[:, None]

    def reserve(self, columns: int) -> None:
        """At least so many columns."""
        if columns > self.columns:
            more = max(GRAIN, self.columns // 8)
            wanted = max(columns, self.columns + more) if self.columns else columns
            self._resize(len(self.lengths), _grains(wanted))

    def expect(self, rows: int, columns: int) -> None:
        """Makes room for so many rows more, of so many columns: once, not for each of them."""
        self.reserve(columns)
        self._resize(len(self.lengths) + rows, self.columns)

    def add(self, pairs: Sequence[Sequence[Pair]], length: int) -> None:
        """A row more, from pieces: each holds, per layer, keys and values (heads, columns, size). `length` columns count."""
        row = len(self.lengths)
        self.lengths.append(length)
        self.reserve(length + 1)
        self._resize(row + 1, self.columns)
        for number, layer in enumerate(self.layers):
            layer.put(row, [piece[number] for piece in pairs], length)

    def drop(self, row: int) -> None:
        """Takes a row away; the last one gets its number."""
        last = len(self.lengths) - 1
        if row != last:
            for layer in self.layers:
                layer.move(last, row)
            self.lengths[row] = self.lengths[last]
        self.lengths.pop()
        if not self.lengths:
            self.columns = 0
            for layer in self.layers:
                layer.clear()
        elif self.columns > 4 * GRAIN and self.columns > 2 * max(self.lengths) + GRAIN:
            self._resize(len(self.lengths), _grains(max(self.lengths) + GRAIN))

    def row(self, row: int, length: int, start: int = 0) -> list[Pair]:
        """Views of what a row holds, per layer."""
        return [
            (layer.keys[row, :, start:length], layer.values[row, :, start:length]) for layer in self.layers
        ]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.start or 0

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return self.seen, 0

    def _resize(self, rows: int, columns: int) -> None:
        assert columns >= max(self.lengths, default=0), "a row would lose its end"
        self.columns = columns
        for layer in self.layers:
            layer.resize(rows, columns)


def _grains(columns: int) -> int:
    """At least so many columns, in whole grains."""
    return -(-columns // GRAIN) * GRAIN


class _Layer(DynamicLayer):  # type: ignore[misc]
    def __init__(self, room: Room, shape: Shape) -> None:
        super().__init__()
        self._room, self._shape = room, shape
        self.clear()

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Pair:
        room, keys, values = self._room, self.keys, self.values
        rows, _, width, _ = key_states.shape
        if room.start is not None:
            place = slice(room.start, room.start + width)
            keys[:rows, :, place] = key_states
            values[:rows, :, place] = value_states
        else:
            assert room.at is not None
            at, columns = room.at
            keys[at, :, columns] = key_states.transpose(1, 2)
            values[at, :, columns] = value_states.transpose(1, 2)
        return keys[:rows, :, : room.seen], values[:rows, :, : room.seen]

    def put(self, row: int, pieces: Sequence[Pair], length: int) -> None:
        for whole, which in ((self.keys, 0), (self.values, 1)):
            at = 0
            for piece in pieces:
                end = min(at + piece[which].shape[1], length)
                whole[row, :, at:end] = piece[which][:, : end - at]
                at = end
            whole[row, :, at:] = 0  # what an earlier row left there could be infinite: no mask hides that

    def move(self, source: int, target: int) -> None:
        self.keys[target] = self.keys[source]
        self.values[target] = self.values[source]

    def resize(self, rows: int, columns: int) -> None:
        have, wide = self.keys.shape[0], self.keys.shape[2]
        if columns == wide and rows <= have:
            return
        if rows > have:
            rows = max(rows, min(2 * have, rows + 8))
        both = min(wide, columns)
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_zeros(rows, old.shape[1], columns, old.shape[3])
            kept = min(rows, have)
            new[:kept, :, :both] = old[:kept, :, :both]
            setattr(self, name, new)

    def clear(self) -> None:
        heads, key, value = self._shape
        made = {"device": self._room.device, "dtype": self._room.dtype}
        self.keys = torch.zeros(0, heads, 0, key, **made)
        self.values = torch.zeros(0, heads, 0, value, **made)
        self.is_initialized = True

    def get_seq_length(self) -> int:
        return self._room.start or 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._room.seen, 0
