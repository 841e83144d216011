"""Long texts are cut at the best places that fit, and nothing of them is lost."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lllm.systems.cutting import LongText

TEXTS = st.one_of(
    st.text(max_size=120),
    st.text("ab. \n\r。!?\u0301\u200d\ufe0f👩🏽🇩🇪", max_size=120),
    st.lists(
        st.sampled_from(["He came. ", "Dr. No left! ", "a ", "word\n", "\n\n", "終わり。", "e.g. this "]),
        max_size=40,
    ).map("".join),
)


async def pieces(text: str, most: int) -> list[str]:
    async def fits(number: int, start: int, end: int) -> bool:
        return end - start <= most

    found = await LongText(text).chunks(fits)
    assert isinstance(found, list)
    return [text[start:end] for start, end in found]


@given(TEXTS, st.integers(1, 40))
async def test_chunks_are_the_text_and_as_long_as_fits(text: str, most: int) -> None:
    found = await pieces(text, most)
    assert "".join(found) == text
    start, cut = 0, LongText(text)
    for piece in found:
        best = next(
            ends
            for ends in ([e for e in cut.ends(level) if start < e <= start + most] for level in range(5))
            if ends
        )
        assert start + len(piece) == max(best)
        start += len(piece)


@pytest.mark.parametrize(
    ("text", "most", "wanted"),
    [
        ("One is here. Two is here. Three.", 26, ["One is here. Two is here. ", "Three."]),
        ("Dr. Smith paid $3.50. He left.", 25, ["Dr. Smith paid $3.50. ", "He left."]),
        ("See J. R. Tolkien, e.g. there. Go on.", 32, ["See J. R. Tolkien, e.g. there. ", "Go on."]),
        ('He said "Yes." And left! Now.', 17, ['He said "Yes." ', "And left! Now."]),
        ("今日は晴れ。明日は雨。", 8, ["今日は晴れ。", "明日は雨。"]),
        ("a list\nof lines\nis here", 12, ["a list\n", "of lines\n", "is here"]),
        ("some words without an end", 12, ["some words ", "without an ", "end"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        ("e\u0301e\u0301e\u0301", 3, ["e\u0301", "e\u0301", "e\u0301"]),
        ("🇩🇪🇫🇷🇮🇹", 3, ["🇩🇪", "🇫🇷", "🇮🇹"]),
        ("👩\u200d🚀👩\u200d🚀", 4, ["👩\u200d🚀", "👩\u200d🚀"]),
        ("", 5, []),
    ],
)
async def test_where_it_is_cut(text: str, most: int, wanted: list[str]) -> None:
    assert await pieces(text, most) == wanted


async def test_text_of_which_nothing_fits() -> None:
    async def fits(number: int, start: int, end: int) -> bool:
        return "!" not in text[start:end]

    text = "aa!a"
    assert await LongText(text).chunks(fits) == 2


async def test_a_long_text_is_measured_a_few_times_per_chunk() -> None:
    text, asked = "A sentence of some words. " * 20_000, 0

    async def fits(number: int, start: int, end: int) -> bool:
        nonlocal asked
        asked += 1
        return end - start <= 10_000

    found = await LongText(text).chunks(fits)
    assert isinstance(found, list)
    assert asked < 12 * len(found) + 40


@pytest.mark.parametrize("piece", ["A sentence of some words. ", "xxxxxxxxxx"])
async def test_a_long_text_takes_little_memory(piece: str) -> None:
    text = piece * (2_000_000 // len(piece))

    async def fits(number: int, start: int, end: int) -> bool:
        return end - start <= 10_000

    tracemalloc.start()
    try:
        await LongText(text).chunks(fits)
        assert tracemalloc.get_traced_memory()[1] < 12 * len(text)
    finally:
        tracemalloc.stop()
