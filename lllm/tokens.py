"""Counts tokens without a download.

Exact for OpenAI's models, with the package tiktoken and the vocabularies in this package. Everything else is an estimate
here; `lllm.count_tokens` also uses the tokenizer of a local model.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

_VOCABULARIES: Final = (
    # prefix of a model's name, its vocabulary; the first match counts
    ("gpt-5", "o200k_base"),
    ("gpt-4.1", "o200k_base"),
    ("gpt-4.5", "o200k_base"),
    ("gpt-4o", "o200k_base"),
    ("chatgpt-4o", "o200k_base"),
    ("gpt-oss", "o200k_base"),  # o200k_harmony: the same, with more special tokens
    ("o1", "o200k_base"),
    ("o3", "o200k_base"),
    ("o4", "o200k_base"),
    ("codex", "o200k_base"),
    ("gpt-4", "cl100k_base"),
    ("gpt-3.5", "cl100k_base"),
    ("gpt-35", "cl100k_base"),  # Azure's spelling
    ("text-embedding-3", "cl100k_base"),
    ("text-embedding-ada-002", "cl100k_base"),
)

# https://github.com/openai/tiktoken/blob/main/tiktoken_ext/openai_public.py
_WORD: Final = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_SMALL: Final = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_PATTERNS: Final = {
    "o200k_base": "|".join(
        [
            rf"[^\r\n\p{{L}}\p{{N}}]?{_WORD}*{_SMALL}+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
            rf"[^\r\n\p{{L}}\p{{N}}]?{_WORD}+{_SMALL}*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        ]
    ),
    "cl100k_base": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|"
    r"\s++$|\s*[\r\n]|\s+(?!\S)|\s",
}


class TokenCount(int):
    """A number of tokens, with how it was found.

    Attributes:
        exact: whether the model's own tokenizer counted; False for an estimate.
        by: the vocabulary or tokenizer, or how it was estimated.
    """

    exact: bool
    by: str

    def __new__(cls, count: int, *, exact: bool, by: str) -> TokenCount:
        made = super().__new__(cls, count)
        made.exact, made.by = exact, by
        return made

    def __repr__(self) -> str:
        return f"TokenCount({int(self)}, exact={self.exact}, by={self.by!r})"


def count_tokens(text: str, model: str | None = None) -> TokenCount:
    """Counts the tokens of a text, without special tokens and chat formatting.

    Exact for OpenAI's models if the package tiktoken is installed (extra `openai`); else an estimate of one token per 4
    bytes of UTF-8, marked by `exact`.
    """
    vocabulary = vocabulary_of(model) if model else None
    encoding = _encoding(vocabulary) if vocabulary else None
    if vocabulary is None or encoding is None:
        return estimate(text)
    return TokenCount(len(encoding.encode_ordinary(text)), exact=True, by=vocabulary)


def estimate(text: str) -> TokenCount:
    """An estimate for a text whose tokenizer is not available."""
    size = len(text.encode("utf-8", "surrogatepass"))
    return TokenCount(-(-size // 4), exact=False, by="4 bytes per token")


def vocabulary_of(model: str) -> str | None:
    """The vocabulary of an OpenAI model, by its name with or without a provider; None for others."""
    name = model.rpartition("/")[2].lower().removeprefix("ft:")
    return next((vocabulary for start, vocabulary in _VOCABULARIES if name.startswith(start)), None)


@lru_cache(maxsize=4)
def _encoding(vocabulary: str) -> Any:
    """tiktoken's encoding for a vocabulary of this package; None without tiktoken."""
    import lzma
    from importlib import resources

    try:
        import tiktoken
    except ImportError:
        return None
    data = lzma.decompress((resources.files("lllm") / "vocabularies" / f"{vocabulary}.xz").read_bytes())
    ranks: dict[bytes, int] = {}
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        ranks[data[at + 1 : end]] = len(ranks)
        at = end
    return tiktoken.Encoding(
        vocabulary, pat_str=_PATTERNS[vocabulary], mergeable_ranks=ranks, special_tokens={}
    )
