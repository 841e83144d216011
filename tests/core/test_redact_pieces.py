"""Secrets in text that comes in pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lllm.core.redact import Redactor
from lllm.core.redact_pieces import Pieces

SECRETS = st.lists(st.text("ab", min_size=8, max_size=11), min_size=1, max_size=3)
KEY = "sk-canary-0123456789"


@given(
    secrets=SECRETS,
    rest=st.text("ab[", max_size=20),
    cuts=st.lists(st.integers(1, 9), max_size=60),
    data=st.data(),
)
def test_the_pieces_add_up_to_the_cleaned_text(
    secrets: list[str], rest: str, cuts: list[int], data: st.DataObject
) -> None:
    redactor = Redactor({f"N{number}": secret for number, secret in enumerate(secrets)})
    parts = [*secrets, rest, *(secret[: data.draw(st.integers(0, 8))] for secret in secrets), "[redacted:N0]"]
    text = "".join(data.draw(st.permutations(parts)))
    pieces, given, at = Pieces(redactor), [], 0
    for cut in [*cuts, len(text)]:
        given.append(pieces.take(text[at : at + cut]))
        at += cut
    given.append(pieces.rest())
    assert "".join(given) == redactor.text(text)


def test_only_what_may_be_a_secret_is_held_back() -> None:
    pieces = Pieces(Redactor({"K": KEY}))
    assert [pieces.take(piece) for piece in ("a wo", "rd, a ta", "s", "k, sk-can", "dle")] == [
        "a wo",
        "rd, a ta",
        "",
        "sk, ",
        "sk-candle",
    ]
    assert pieces.rest() == ""


def test_a_few_held_characters_are_released_when_another_text_goes_on() -> None:
    pieces = Pieces(Redactor({"K": KEY}))
    assert pieces.take("the s") == "the "
    assert pieces.release() == "s"
    assert pieces.release() == ""
    assert pieces.take("un") == "un"
    assert pieces.take(" s") == " "
    assert pieces.release() == "s"
    assert KEY[1:4] not in (said := pieces.take(KEY[1:]))
    assert said == "redacted:K]"  # what was said of it cannot be taken back
    assert pieces.take(KEY[:10]) == ""
    assert pieces.release() == ""
    assert pieces.rest() == KEY[:10]
