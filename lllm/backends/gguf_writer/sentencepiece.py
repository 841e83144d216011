"""SentencePiece BPE (byte_fallback), as llama-2's tokenizer is: scores in place of merges.

transformers merges the pairs that it lists, in their order. llama.cpp merges any two neighbours whose text is a token, the
token with the highest score first. The two agree where each such pair is listed, and the pairs of a token stand together: then
the place of a token's pairs is its score. A tokenizer that SentencePiece trained is like that; others are refused, with the
pair.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from lllm.backends.gguf_writer.refusal import refused

SPACE: Final = "\N{LOWER ONE EIGHTH BLOCK}"
"""What stands for a space in tokens."""
BYTES: Final = tuple(f"<0x{number:02X}>" for number in range(256))
_PREPEND: Final = {"type": "Prepend", "prepend": SPACE}
_REPLACE: Final = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}

PREFIXES: Final[Mapping[str, bool]] = {
    # where the tokenizer puts a space: llama.cpp's add_space_prefix, which puts it before each text between special tokens
    "each": True,
    "never": False,
    "first": False,  # before the first text alone: there is none where a dialog begins with a special token
}


def prefix_of(given: Mapping[str, Any]) -> str:
    """Where a space is put before a text, a key of PREFIXES. ConfigError for normalizers and pre-tokenizers that llama.cpp's
    SentencePiece does not have."""
    normalizer, parts = given.get("normalizer") or {}, given.get("pre_tokenizer")
    steps: list[Any] = normalizer.get("normalizers", [normalizer] if normalizer else [])
    if not parts and steps == [_PREPEND, _REPLACE]:
        return "each"
    if not parts and steps == [_REPLACE]:
        return "never"
    if steps:
        raise refused(
            f"its normalizer is {' + '.join(str(step['type']) for step in steps)}, which llama.cpp lacks"
        )
    if not parts:
        raise refused(f"it does not write spaces as '{SPACE}', as SentencePiece does")
    if parts["type"] != "Metaspace" or parts.get("replacement") != SPACE:
        raise refused(f"llama.cpp's SentencePiece has no pre-tokenizer {parts['type']}")
    if parts.get("split", True):
        raise refused(
            "its pre-tokenizer Metaspace splits words (split: true), which llama.cpp's SentencePiece does not"
        )
    scheme = str(parts.get("prepend_scheme"))
    if scheme not in PREFIXES:
        raise refused(
            f"its pre-tokenizer Metaspace has prepend_scheme '{scheme}': a space before each text that has none, which "
            "llama.cpp cannot do"
        )
    return scheme


def check_added(prefix: str, given: Mapping[str, Any], added: Sequence[Mapping[str, Any]]) -> None:
    """Requires that added tokens are found in texts as they are. With a normalizer, those that are `normalized` are found in
    what it made of a text, with a space before them."""
    for one in added:
        text = str(one["content"])
        changed = prefix == "each" or " " in text or SPACE in text
        if given.get("normalizer") and one.get("normalized") and changed:
            raise refused(f"the added token {text!r} is looked for in normalized texts (normalized: true)")


def scores_of(model: Mapping[str, Any], added: Collection[str], tokens: Sequence[str]) -> list[float]:
    """The score of each token. ConfigError where llama.cpp would merge otherwise.

    Args:
        added: texts of added tokens, which are found before anything is merged.
    """
    vocab: Mapping[str, int] = model["vocab"]
    merges = [tuple(one.split(" ", 1)) if isinstance(one, str) else tuple(one) for one in model["merges"]]
    if missing := [one for one in BYTES if one not in vocab]:
        raise refused(f"it has no token for {len(missing)} of the 256 bytes, the first one {missing[0]}")
    if model.get("ignore_merges"):
        raise refused("it takes whole words before it merges (ignore_merges)")
    places = _places(merges, added)
    _check_pairs(vocab, set(merges), added)
    return [-float(places.get(token, len(merges))) for token in tokens]


def _places(merges: Sequence[tuple[str, ...]], added: Collection[str]) -> dict[str, int]:
    """The place of the first pair of each token."""
    found: dict[str, int] = {}
    last = ""
    for place, (left, right) in enumerate(merges):
        token = left + right
        if token in added:
            continue
        if token in found and token != last:
            raise refused(
                f"'{token}' is merged of '{left}' and '{right}' later than of others, with other tokens between them: no score "
                "says that"
            )
        found.setdefault(token, place)
        last = token
    return found


def _check_pairs(
    vocab: Mapping[str, int], merges: Collection[tuple[str, ...]], added: Collection[str]
) -> None:
    """Requires that each pair of neighbours that makes a token is merged. llama.cpp takes characters without a token, too."""
    for token in vocab:
        if token in added:
            continue
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if (left, right) in merges:
                continue
            if all(part in vocab or len(part) == 1 for part in (left, right)):
                raise refused(
                    f"llama.cpp would merge '{left}' and '{right}', whose text is a token, and the tokenizer does not: it was "
                    "not trained by SentencePiece"
                )
