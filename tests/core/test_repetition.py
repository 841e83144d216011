"""A text that has got stuck is found at once, and no other is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lllm.core.repetition import LONGEST, SHORTEST, Repetition, stuck

SENTENCE = "The quick brown fox jumps over the lazy dog. "


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (SENTENCE * 8, True),
        ("Well. " + SENTENCE * 8, True),
        (SENTENCE * 7, False),
        (SENTENCE * 8 + "So.", False),
        ("a" * 128, True),
        ("a" * 127, False),
        ("ha " * 43, True),
        ("| " + "-" * 80, False),
        (" " * 24 + "return x", False),
        ("0.3333333333333333", False),
        ("\n" * 128, True),
        ("ab" * 8 + SENTENCE * 8, True),
        # the end of the stretch stands within it too
        (("x is 1, y is 1, x is 1, y is 1, or z. " * 2 + "x is 1, y is 1, ") * 8, True),
        ("".join(chr(0x100 + n) for n in range(LONGEST)) * 8, True),
        ("".join(chr(0x100 + n) for n in range(LONGEST + 1)) * 8, False),
        ("".join(f"{n}. Another line of the list.\n" for n in range(100)), False),
        ("", False),
    ],
)
def test_what_is_a_loop(text: str, found: bool) -> None:
    assert stuck(text, 8) is found


@given(st.text(min_size=1, max_size=60), st.text(max_size=40), st.integers(2, 6), st.data())
def test_it_is_found_however_it_comes(unit: str, before: str, limit: int, data: st.DataObject) -> None:
    copies = limit * max(1, -(-SHORTEST // len(unit)))
    text = before + unit * copies
    assert stuck(text, limit)
    at = data.draw(st.integers(0, len(text)))
    watch = Repetition(limit)
    watch.grew(text[:at])
    assert watch.grew(text[at:])


def test_a_long_text_is_not_kept() -> None:
    watch = Repetition(8)
    for number in range(40_000):
        assert not watch.grew(f"{number}, ")
    assert len(watch._tail) <= 2 * 8 * LONGEST + 10
    assert any(watch.grew(SENTENCE) for _ in range(8))
