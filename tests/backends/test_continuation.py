"""Tokens of a reply that goes on from its prompt: no space is put before it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lllm.backends.gguf_writer.sentencepiece import SPACE
from lllm.backends.transformers.continuation import continued_tokens
from lllm.models.message import Message
from lllm.rl.text_rows import row_of_text
from tests.backends.test_gguf_sentencepiece import SCHEMES, scheme_of
from tests.backends.test_gguf_writer import gpt2


@pytest.mark.parametrize("name", [*SCHEMES, "class"])
@pytest.mark.parametrize("reply", ["42", "It is 42.", " with a space", "é 🙂\n\n  x", "<tool>"])
def test_a_reply_is_trained_as_it_was_written(name: str, reply: str) -> None:
    tokenizer = scheme_of(name)
    loaded = SimpleNamespace(tokenizer=tokenizer, eos=frozenset([2]), name="tiny")
    row = row_of_text(loaded, [Message("user", "6 times 7?")], [Message("assistant", reply)], ())
    *written, end = tokenizer.convert_ids_to_tokens(row.completion)
    assert end == "</s>"
    assert read(written) == reply
    assert read(tokenizer.convert_ids_to_tokens(row.prompt)).endswith("[user] 6 times 7?</s>[assistant] ")


def read(tokens: list[str]) -> str:
    """The text of tokens, bytes and all."""
    pieces = [
        bytes([int(one[3:5], 16)]) if one.startswith("<0x") else one.replace(SPACE, " ").encode()
        for one in tokens
    ]
    return b"".join(pieces).decode().replace("</s> [", "</s>[")


def test_a_space_behind_an_added_token_stays() -> None:
    tokenizer = scheme_of("each")
    loaded = SimpleNamespace(tokenizer=tokenizer)
    found = tokenizer.convert_ids_to_tokens(continued_tokens(loaded, "a<tool>a"))  # type: ignore[arg-type]
    assert found == ["a", "<tool>", f"{SPACE}a"]


def test_other_tokenizers_are_left_as_they_are() -> None:
    for text in ("What is", " 17", "<|end|>x", ""):
        expected = gpt2()(text, add_special_tokens=False)["input_ids"]
        assert continued_tokens(SimpleNamespace(tokenizer=gpt2()), text) == expected  # type: ignore[arg-type]
