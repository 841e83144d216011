"""Watches llama-cpp-python: the library's own functions that compute, forget, save, load and sample."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.exactness.cells import Cells
from benchmarks.exactness.requests import Requests


@contextmanager
def watched(requests: Requests) -> Iterator[Cells]:
    """The model's draws go to `requests`. One context, whose only sequence is 0."""
    import llama_cpp as library

    cells = Cells()
    own = {name: getattr(library, name) for name in _WATCHED}

    def decode(context: Any, batch: Any) -> Any:
        code = own["llama_decode"](context, batch)
        if not code:
            start = cells.size(0)
            for place in range(batch.n_tokens):
                cells.put(0, start + place, batch.token[place])
        return code

    def remove(memory: Any, sequence: Any, start: Any, end: Any) -> Any:
        done = own["llama_memory_seq_rm"](memory, sequence, start, end)
        if done:
            cells.remove(int(sequence), int(start), int(end))
        return done

    def clear(memory: Any, data: Any) -> Any:
        cells.clear()
        return own["llama_memory_clear"](memory, data)

    def save(context: Any, target: Any, size: Any, sequence: Any) -> Any:
        written = own["llama_state_seq_get_data"](context, target, size, sequence)
        cells.save(int(sequence), ctypes.string_at(target, written))
        return written

    def load(context: Any, source: Any, size: Any, sequence: Any) -> Any:
        read = own["llama_state_seq_set_data"](context, source, size, sequence)
        if read:
            cells.load(int(sequence), ctypes.string_at(source, int(size)))
        return read

    def sample(chain: Any, context: Any, place: Any) -> Any:
        return requests.draw(cells.before(0), int(own["llama_sampler_sample"](chain, context, place)))

    others = (decode, remove, clear, save, load, sample)
    for name, other in zip(_WATCHED, others, strict=True):
        setattr(library, name, other)
    try:
        yield cells
    finally:
        for name, function in own.items():
            setattr(library, name, function)


_WATCHED = (
    "llama_decode",
    "llama_memory_seq_rm",
    "llama_memory_clear",
    "llama_state_seq_get_data",
    "llama_state_seq_set_data",
    "llama_sampler_sample",
)
