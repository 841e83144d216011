"""A tokenizer of transformers as llama.cpp reads it: byte-level BPE, with a pre-tokenizer that llama.cpp has, too; or BPE of
SentencePiece."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import gguf

from lllm.backends.gguf_writer.dialogs import dialog_start
from lllm.backends.gguf_writer.file import Vocabulary
from lllm.backends.gguf_writer.refusal import refused
from lllm.backends.gguf_writer.sentencepiece import BYTES, PREFIXES, check_added, prefix_of, scores_of
from lllm.errors import listing

_LETTERS: Final = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST: Final = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SHORT: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BYTES: Final = ("ByteLevel", False)
_BYTES_SPLIT: Final = ("ByteLevel", True)

PRE: Final[Mapping[tuple[Any, ...], str]] = {
    # what tokenizer.json splits by, and whether it takes whole words before it merges: llama.cpp's name
    (("Split", rf"{_SHORT}|{_LETTERS}|\p{{N}}|{_REST}"), _BYTES, False): "qwen2",
    (("Split", rf"{_SHORT}|{_LETTERS}|\p{{N}}{{1,3}}|{_REST}"), _BYTES, True): "llama-bpe",
    (("Split", rf"{_SHORT}|{_LETTERS}|\p{{N}}{{1,3}}|{_REST}"), _BYTES, False): "smaug-bpe",
    (_BYTES_SPLIT, False): "gpt-2",
    (("Digits", True), _BYTES_SPLIT, False): "smollm",
    (
        ("Split", rf"{_SHORT}|{_LETTERS}|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"),
        _BYTES,
        False,
    ): "seed-coder",
    (
        ("Split", "[\r\n]"),
        ("Split", r"\s?\p{L}+"),
        ("Split", r"\s?\p{P}+"),
        ("Split", "[一-龥ࠀ-一가-\ud7ff]+"),
        ("Digits", True),
        _BYTES,
        False,
    ): "deepseek-coder",
}
"""The pre-tokenizers that both sides have. Others are refused: the tokens would be others than those that were trained."""

KNOWN_ENDS: Final = frozenset(
    "<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> <|endoftext|> </s> <|eom_id|> <|EOT|>"
    " _<EOT> [EOT] [EOS] <|end_of_text|> <end_of_utterance>".split()
)
"""Texts of tokens that llama.cpp takes for the end of a turn by itself."""

PLACES: Final = 3
"""Tokens that end a turn for which a GGUF file has places: end of text, of turn, of message."""


def read_vocabulary(tokenizer: Any, size: int, ends: Iterable[int] = ()) -> Vocabulary:
    """The vocabulary of a tokenizer of transformers.

    Args:
        size: how many tokens the model has; numbers that the tokenizer has no text for are filled up.
        ends: the tokens that end a turn of the model, where they are more than the tokenizer's own.

    Raises ConfigError for what llama.cpp would tokenise differently.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None) or getattr(tokenizer, "_tokenizer", None)
    if backend is None:
        raise refused(f"{type(tokenizer).__name__} is no fast tokenizer (it has no tokenizer.json)")
    given = json.loads(backend.to_str())
    added: list[dict[str, Any]] = given.get("added_tokens") or []
    names = {
        name: _number(getattr(tokenizer, f"{name}_token_id", None), size)
        for name in ("bos", "eos", "pad", "unk")
    }
    base = vocabulary_of(given, size, ends=(), unknown=names["unk"])
    begins = dialog_start(tokenizer, [one["content"] for one in added])
    if base.model == "llama" and prefix_of(given) == "first" and not (begins and begins.special):
        raise refused(
            "it puts a space before the first text, which llama.cpp does before each text or before none, and its dialogs "
            + ("begin with a text" if begins else "are not known to begin with a special token"),
            hint="Save it with a chat template that begins with a special token: "
            "tokenizer.chat_template = '{{ bos_token }}...'; tokenizer.save_pretrained(FOLDER). The folder itself runs with "
            "transformers/FOLDER.",
        )
    add_bos, add_eos = _affixes(tokenizer, names["bos"], names["eos"])
    if begins is not None and not begins.text.startswith(str(tokenizer.bos_token)):
        add_bos = False  # transformers puts nothing before what the template wrote
    template = tokenizer.chat_template
    if isinstance(template, Mapping):
        template = template.get("default")
    return base._replace(
        ends=_ends(names["eos"], ends, base.tokens),
        bos=names["bos"],
        pad=names["pad"],
        add_bos=add_bos,
        add_eos=add_eos,
        template=template,
    )


def vocabulary_of(given: Mapping[str, Any], size: int, **more: Any) -> Vocabulary:
    """The vocabulary that the text of a tokenizer.json has. `more`: what is not in it, see Vocabulary."""
    model = given["model"]
    added: Sequence[Mapping[str, Any]] = given.get("added_tokens") or []
    _check_model(model)
    _check_overlaps([one["content"] for one in added])
    tokens, kinds = _tokens(model["vocab"], added, size)
    if not model.get("byte_fallback"):
        pre = _pre_tokenizer(given, bool(model.get("ignore_merges")))
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
        return Vocabulary(pre=pre, tokens=tokens, kinds=kinds, merges=merges, **more)
    prefix = prefix_of(given)
    check_added(prefix, given, added)
    scores = scores_of(model, {one["content"] for one in added}, tokens)
    for text in BYTES:
        kinds[model["vocab"][text]] = int(gguf.TokenType.BYTE)
    if (unknown := more.get("unknown")) is not None:
        kinds[unknown] = int(gguf.TokenType.UNKNOWN)
    return Vocabulary(
        model="llama",
        pre="default",
        tokens=tokens,
        kinds=kinds,
        scores=scores,
        space_prefix=PREFIXES[prefix],
        **more,
    )


def _check_model(model: Mapping[str, Any]) -> None:
    kind = model.get("type")
    if kind != "BPE":
        raise refused(f"it is {kind}, not BPE")
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(name):
            raise refused(f"its {name} is {model[name]!r}")
    for merge in model["merges"]:
        if not isinstance(merge, str) and any(" " in part for part in merge):
            raise refused(f"the merge {merge!r} has a space in it")


def _check_overlaps(added: Sequence[str]) -> None:
    """Requires that no added token ends as another one begins: of two that overlap in a text transformers finds the first,
    llama.cpp the longer one."""
    begins: dict[str, str] = {}
    for text in sorted(added, key=len):
        begins |= {text[:cut]: text for cut in range(1, len(text))}
    for text in added:
        for cut in range(1, len(text)):
            other = begins.get(text[cut:])
            if other is not None and other != text and len(other) >= len(text):
                raise refused(
                    f"the added token {text!r} ends as {other!r} begins, and llama.cpp finds the longer one"
                )


def _pre_tokenizer(given: Mapping[str, Any], whole_words: bool) -> str:
    if normalizer := _flat(given.get("normalizer"), "normalizers"):
        raise refused(
            f"it changes texts before it splits them ({listing(one['type'] for one in normalizer)}), which llama.cpp does not"
        )
    parts = _flat(given.get("pre_tokenizer"), "pretokenizers")
    split: list[tuple[Any, ...]] = [_part(part) for part in parts]
    signature: tuple[Any, ...] = (*split, whole_words)
    if signature in PRE:
        return PRE[signature]
    words = " + ".join(" ".join(str(one) for one in part) for part in split) or "none"
    raise refused(f"llama.cpp has no pre-tokenizer like {words} (ignore_merges: {whole_words})")


def _flat(value: Any, key: str) -> list[dict[str, Any]]:
    if not value:
        return []
    if value["type"] == "Sequence":
        return [inner for one in value[key] for inner in _flat(one, key)]
    return [value]


def _part(part: Mapping[str, Any]) -> tuple[Any, ...]:
    match part:
        case {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}:
            return ("Split", pattern)
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return ("ByteLevel", bool(part.get("use_regex", True)))
        case {"type": "Digits", "individual_digits": alone}:
            return ("Digits", bool(alone))
    return tuple(part.values())


def _tokens(
    vocab: Mapping[str, int], added: Sequence[Mapping[str, Any]], size: int
) -> tuple[list[str], list[int]]:
    entries = {number: text for text, number in vocab.items()} | {one["id"]: one["content"] for one in added}
    if entries and max(entries) >= size:
        raise refused(f"it has token {max(entries)}, and the model has {size} tokens")
    tokens = [entries.get(number, f"[PAD{number}]") for number in range(size)]
    kinds = [
        int(gguf.TokenType.NORMAL if number in entries else gguf.TokenType.UNUSED) for number in range(size)
    ]
    for one in added:
        odd = [name for name in ("single_word", "lstrip", "rstrip") if one.get(name)]
        if odd:
            raise refused(f"the added token {one['content']!r} has {listing(odd)}")
        kinds[one["id"]] = int(gguf.TokenType.CONTROL if one["special"] else gguf.TokenType.USER_DEFINED)
    return tokens, kinds


def _number(value: Any, size: int) -> int | None:
    return int(value) if value is not None and 0 <= int(value) < size else None


def _affixes(tokenizer: Any, bos: int | None, eos: int | None) -> tuple[bool, bool]:
    """Returns two truth values: a text is tokenised with a token before it, and with one after it."""
    plain = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    whole = list(tokenizer("a")["input_ids"])
    known: list[tuple[list[int], tuple[bool, bool]]] = [(plain, (False, False))]
    if bos is not None:
        known.append(([bos, *plain], (True, False)))
    if eos is not None:
        known.append(([*plain, eos], (False, True)))
    if bos is not None and eos is not None:
        known.append(([bos, *plain, eos], (True, True)))
    for ids, flags in known:
        if ids == whole:
            return flags
    raise refused(f"it makes {whole} of 'a', which is not {plain} between a beginning and an end")


def _ends(eos: int | None, given: Iterable[int], tokens: Sequence[str]) -> list[int]:
    ends = sorted(set(given) | ({eos} if eos is not None else set()))
    if not ends:
        raise refused("it names no token that ends a text")
    first = eos if eos is not None else ends[0]
    others = sorted((one for one in ends if one != first), key=lambda one: (tokens[one] in KNOWN_ENDS, one))
    unknown = [one for one in others if tokens[one] not in KNOWN_ENDS]
    if len(unknown) > PLACES - 1:
        raise refused(
            f"{len(unknown) + 1} tokens end a turn ({listing(tokens[one] for one in [first, *unknown])}), and a file names "
            f"{PLACES} at most"
        )
    return [first, *others][:PLACES]
