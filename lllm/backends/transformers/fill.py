"""Prompts on their way into a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lllm.backends.transformers.library import Step
from lllm.backends.transformers.load import Loaded
from lllm.backends.transformers.room import Room, Shape
from lllm.backends.transformers.row import Row


def new_room(loaded: Loaded, shapes: Sequence[Shape]) -> Room:
    return Room(shapes, loaded.device, getattr(torch, loaded.dtype), loaded.context)


class Fill:
    """Prompts that are computed together, a piece at a time, each from where its shared beginning ends.

    Args:
        rows: who asked.
        places: of each row, which prompt is its own: rows with the same one share it.
        prompts: their tokens.
        room: holds what is computed already: its lengths say how much of each prompt.
    """

    def __init__(
        self, rows: Sequence[Row], places: Sequence[int], prompts: Sequence[Sequence[int]], room: Room
    ) -> None:
        self.rows, self.places, self.room = rows, places, room
        fresh = [ids[had:] for ids, had in zip(prompts, room.lengths, strict=True)]
        self._sizes = [len(ids) for ids in fresh]
        self._width = max(self._sizes)
        # filled up behind: what stands there is computed for nothing, and seen by nobody
        self._ids = torch.tensor(
            [[*ids, *[ids[-1]] * (self._width - len(ids))] for ids in fresh], device=room.device
        )
        self._at = 0
        self.logits = [torch.empty(0)] * len(fresh)
        """Of each prompt's last token, (vocabulary); empty until it is computed."""

    @property
    def done(self) -> bool:
        return self._at == self._width

    def advance(self, model: Step, most: int) -> int:
        """Computes the next piece, of at most so many tokens. Returns the number of tokens computed."""
        room, start, count = self.room, self._at, len(self._sizes)
        end = min(self._width, start + max(1, most // count))
        room.begin(end - start)
        last = sorted({size - 1 - start for size in self._sizes if start < size <= end})
        keep = torch.tensor(last, device=room.device) if last else 1
        logits = model(self._ids[:, start:end], room, keep)
        for row, size in enumerate(self._sizes):
            if start < size <= end:
                self.logits[row] = logits[row, last.index(size - 1 - start)]
        room.lengths = [length + end - start for length in room.lengths]
        self._at = end
        return count * (end - start)
