"""Tokens of a text that goes on from another one.

Tokenizers of SentencePiece put a space before a text. Before the rest of a text that space would be one that nobody wrote.
"""

from __future__ import annotations

import json
from typing import Any
from weakref import WeakKeyDictionary

from lllm.backends.transformers.loaded import Loaded

_without: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""Of each tokenizer, the same one without the space; None where it puts none."""


def continued_tokens(loaded: Loaded, rest: str) -> list[int]:
    """Token ids of a text that stands behind another one."""
    tokenizer = loaded.tokenizer
    whole = tokenizer(rest, add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast)
    ids: list[int] = whole["input_ids"]
    if tokenizer not in _without:
        _without[tokenizer] = _without_space(tokenizer)
    plain = _without[tokenizer]
    if plain is None:
        return ids
    # an added token ends the text that the space is put before
    added = tokenizer.added_tokens_decoder
    first = next((place for place, one in enumerate(ids) if one in added), len(ids))
    end = whole["offset_mapping"][first][0] if first < len(ids) else len(rest)
    found: list[int] = plain.encode(rest[:end], add_special_tokens=False).ids
    return found + ids[first:]


def _without_space(tokenizer: Any) -> Any:
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    given = json.loads(backend.to_str())
    changed = False
    for part in (
        *_parts(given, "normalizer", "normalizers"),
        *_parts(given, "pre_tokenizer", "pretokenizers"),
    ):
        if part["type"] == "Prepend" and part["prepend"]:
            part["prepend"] = ""
            changed = True
        if part["type"] == "Metaspace" and part.get("prepend_scheme") != "never":
            part["prepend_scheme"] = "never"
            changed = True
        if part["type"] == "ByteLevel" and part.get("add_prefix_space"):
            part["add_prefix_space"] = False
            changed = True
    return Tokenizer.from_str(json.dumps(given)) if changed else None


def _parts(given: dict[str, Any], name: str, inner: str) -> list[dict[str, Any]]:
    part = given.get(name)
    if not part:
        return []
    return list(part[inner]) if part["type"] == "Sequence" else [part]
