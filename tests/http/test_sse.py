import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lllm.http.sse import Event, SSEParser

STREAM = (
    b": heartbeat\n\n"
    b"data: one\n\n"
    b"event: note\r\ndata: two\r\ndata: lines\r\n\r\n"
    b"id: 7\nretry: 5\nunknown\n\n"
    b"data:no space\n\n"
    b": ping\n: ping\n"
    b'data: {"a": "\xc3\xa9"}\n\n'
    b"data\ndata:  two spaces\n\n"
    b"event: lost\n\n"
    b"data: [DONE]\n\n"
)
EVENTS = [
    Event(b"", b"one"),
    Event(b"note", b"two\nlines"),
    Event(b"", b"no space"),
    Event(b"", b'{"a": "\xc3\xa9"}'),
    Event(b"", b"\n two spaces"),
    Event(b"", b"[DONE]"),
]


def parse(pieces: list[bytes]) -> list[Event]:
    parser = SSEParser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    return events + parser.close()


def test_a_stream_in_one_piece() -> None:
    assert parse([STREAM]) == EVENTS


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 16, 64])
def test_every_line_ending_and_size_of_piece(newline: bytes, size: int) -> None:
    data = STREAM.replace(b"\r\n", b"\n").replace(b"\n", newline)
    assert parse([data[at : at + size] for at in range(0, len(data), size)]) == EVENTS


@settings(deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_it_does_not_matter_where_the_bytes_are_cut(cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(STREAM)]
    assert parse([STREAM[a:b] for a, b in itertools.pairwise(bounds)]) == EVENTS


@settings(deadline=None)
@given(st.lists(st.text(alphabet="ab:\n \r", max_size=6).map(str.encode), max_size=30))
def test_nothing_makes_it_fail(pieces: list[bytes]) -> None:
    assert parse(pieces) == parse([b"".join(pieces)])


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_an_event_without_its_empty_line_comes_at_the_end(end: bytes) -> None:
    assert parse([b"data: [DONE]" + end]) == [Event(b"", b"[DONE]")]


def test_a_line_that_does_not_end_takes_linear_time() -> None:
    """A server may send one: nobody else in the process may wait for it."""
    parser = SSEParser()
    began = time.process_time()
    for _ in range(2000):
        assert parser.feed(b"x" * 16_384) == []
    assert parser.feed(b"\ndata: a\n\n") == [Event(b"", b"a")]
    assert time.process_time() - began < 5
