"""Byte-level BPE that splits every digit, trained on generated dialogues."""

from __future__ import annotations

import random
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from . import chat, dialogues

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The pre-tokenizer that llama.cpp calls `qwen2`."""

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
USER_DEFINED = ("<tool_call>", "</tool_call>")
"""Added but not special, so that decoding keeps them."""

PAD, START, EOS = range(3)


def train(vocabulary: int, size: int, seed: int = 7) -> Tokenizer:
    """A tokenizer with exactly `vocabulary` entries, trained on `size` dialogues."""
    rng = random.Random(seed)
    texts = []
    for _ in range(size):
        text = chat.text(dialogues.draw(rng))
        for mark in CONTROL + USER_DEFINED:
            text = text.replace(mark, " ")
        texts.append(text)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(USER_DEFINED),
        special_tokens=list(CONTROL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in USER_DEFINED])
    if tokenizer.get_vocab_size() != vocabulary:
        raise ValueError(
            f"the corpus gives {tokenizer.get_vocab_size()} entries, not {vocabulary}: train on more dialogues"
        )
    return tokenizer


def load(folder: Path) -> Tokenizer:
    """The tokenizer of a folder of weights."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))
