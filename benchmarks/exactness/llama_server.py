"""Watches xllamacpp: what llama.cpp's server code calls of llama.cpp, by the sequences and positions that it gives."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, c_bool, c_int32, c_size_t, c_void_p
from typing import Any

from benchmarks.exactness.cells import Cells
from benchmarks.exactness.linkage import Linkage
from benchmarks.exactness.requests import Requests

_Own = Callable[..., Any]


class _Batch(ctypes.Structure):
    _fields_ = (
        ("count", c_int32),
        ("tokens", POINTER(c_int32)),
        ("embeddings", c_void_p),
        ("positions", POINTER(c_int32)),
        ("numbers", POINTER(c_int32)),
        ("sequences", POINTER(POINTER(c_int32))),
        ("outputs", c_void_p),
    )


_METHODS = {
    "_Z21common_sampler_sampleP14common_samplerP13llama_contextib": "draw",
    "_ZN13llama_context6decodeERK11llama_batch": "decode",
}
"""The methods of functions whose names are C++'s."""
_KINDS = {
    "llama_batch_ext_clear": CFUNCTYPE(None, c_void_p),
    "llama_batch_ext_add_token": CFUNCTYPE(c_int32, c_void_p, c_int32, c_int32),
    "llama_batch_ext_add_seq": CFUNCTYPE(c_bool, c_void_p, c_int32, c_int32),
    "llama_batch_ext_set_pos": CFUNCTYPE(c_bool, c_void_p, c_int32, POINTER(c_int32)),
    "llama_process": CFUNCTYPE(c_int32, c_void_p, c_int32, c_void_p),
    "llama_memory_seq_rm": CFUNCTYPE(c_bool, c_void_p, c_int32, c_int32, c_int32),
    "llama_memory_seq_cp": CFUNCTYPE(None, c_void_p, c_int32, c_int32, c_int32, c_int32),
    "llama_memory_seq_add": CFUNCTYPE(None, c_void_p, c_int32, c_int32, c_int32, c_int32),
    "llama_memory_clear": CFUNCTYPE(None, c_void_p, c_bool),
    "llama_state_seq_get_data_ext": CFUNCTYPE(c_size_t, c_void_p, c_void_p, c_size_t, c_int32, c_int32),
    "llama_state_seq_set_data_ext": CFUNCTYPE(c_size_t, c_void_p, c_void_p, c_size_t, c_int32, c_int32),
    "_Z21common_sampler_sampleP14common_samplerP13llama_contextib": CFUNCTYPE(
        c_int32, c_void_p, c_void_p, c_int32, c_bool
    ),
    # releases before October 2026 have no llama_batch_ext
    "_ZN13llama_context6decodeERK11llama_batch": CFUNCTYPE(c_int32, c_void_p, POINTER(_Batch)),
}
"""The functions that are watched, with their types: those of them that a release has."""


class _Watch:
    """What is done beside each function. Methods are given the library's own, and its arguments.

    Attributes:
        most: sequences in one batch.
    """

    def __init__(self, requests: Requests) -> None:
        self.cells = Cells()
        self.most = 0
        self._requests = requests
        self._batches: dict[int, list[list[int]]] = {}  # by batch: sequence, token and position of its tokens
        self._computed: list[list[int]] = []  # of the batch that was computed last

    @property
    def reused(self) -> int:
        return self.cells.reused

    @property
    def loaded(self) -> int:
        return self.cells.loaded

    def llama_batch_ext_clear(self, own: _Own, batch: int) -> None:
        self._batches[batch] = []
        own(batch)

    def llama_batch_ext_add_token(self, own: _Own, batch: int, sequence: int, token: int) -> Any:
        place = own(batch, sequence, token)
        entries = self._batches.setdefault(batch, [])
        assert place == len(entries), "a token of a batch was not seen"
        entries.append([sequence, token, -1])
        return place

    def llama_batch_ext_add_seq(self, own: _Own, batch: int, place: int, sequence: int) -> Any:
        assert self._batches[batch][place][0] == sequence, "a token of several sequences"
        return own(batch, place, sequence)

    def llama_batch_ext_set_pos(self, own: _Own, batch: int, place: int, position: Any) -> Any:
        self._batches[batch][place][2] = position[0]
        return own(batch, place, position)

    def llama_process(self, own: _Own, context: int, kind: int, batch: int) -> Any:
        code = own(context, kind, batch)
        if not code:
            self._compute([list(entry) for entry in self._batches[batch]])
        return code

    def decode(self, own: _Own, context: int, given: Any) -> Any:
        code, batch = own(context, given), given[0]
        if not code:
            assert all(batch.numbers[place] == 1 for place in range(batch.count)), (
                "a token of several sequences"
            )
            self._compute(
                [
                    [batch.sequences[place][0], batch.tokens[place], batch.positions[place]]
                    for place in range(batch.count)
                ]
            )
        return code

    def _compute(self, entries: list[list[int]]) -> None:
        self._computed = entries
        for sequence, token, position in entries:
            self.cells.put(sequence, position, token)
        self.most = max(self.most, len({entry[0] for entry in entries}))

    def llama_memory_seq_rm(self, own: _Own, memory: int, sequence: int, start: int, end: int) -> Any:
        done = own(memory, sequence, start, end)
        if done:
            self.cells.remove(sequence, start, end)
        return done

    def llama_memory_seq_cp(
        self, own: _Own, memory: int, source: int, target: int, start: int, end: int
    ) -> None:
        own(memory, source, target, start, end)
        self.cells.copy(source, target, start, end)

    def llama_memory_seq_add(self, own: _Own, memory: int, *where: int) -> None:
        own(memory, *where)
        raise AssertionError("positions were shifted: what was computed before is not what is read now")

    def llama_memory_clear(self, own: _Own, memory: int, data: bool) -> None:
        own(memory, data)
        self.cells.clear()

    def llama_state_seq_get_data_ext(
        self, own: _Own, context: int, target: int, size: int, sequence: int, flags: int
    ) -> Any:
        written = own(context, target, size, sequence, flags)
        self.cells.save(sequence, ctypes.string_at(target, written))
        return written

    def llama_state_seq_set_data_ext(
        self, own: _Own, context: int, source: int, size: int, sequence: int, flags: int
    ) -> Any:
        read = own(context, source, size, sequence, flags)
        if read:
            self.cells.load(sequence, ctypes.string_at(source, size))
        return read

    def draw(self, own: _Own, sampler: int, context: int, place: int, first: bool) -> Any:
        token = own(sampler, context, place, first)
        sequence, _, position = self._computed[place]
        return self._requests.draw(self.cells.before(sequence, position), token)

    def beside(self, name: str) -> Callable[[_Own], _Own]:
        """The function that the library is given in the place of `name`. An exception in it would be printed, and nothing
        else: it is kept."""
        method = getattr(self, _METHODS.get(name, name))

        def make(own: _Own) -> _Own:
            def other(*given: Any) -> Any:
                called = []

                def once(*those: Any) -> Any:
                    called.append(own(*those))
                    return called[0]

                try:
                    return method(once, *given)
                except Exception as error:
                    self._requests.problems.append(f"{name}: {error!r}")
                    return called[0] if called else own(*given)

            return other

        return make


@contextmanager
def watched(requests: Requests) -> Iterator[_Watch]:
    """The draws of all servers go to `requests`. The model must be loaded: while it loads, its threads and Python wait for
    each other."""
    import xllamacpp

    watch = _Watch(requests)
    linkage = Linkage(str(xllamacpp.xllamacpp.__file__))
    for name, kind in _KINDS.items():
        if linkage.has(name):
            linkage.replace(name, kind, watch.beside(name))
    try:
        yield watch
    finally:
        linkage.restore()
        _kept.append(linkage)  # a thread of the library may be within one of them


_kept: list[Linkage] = []
