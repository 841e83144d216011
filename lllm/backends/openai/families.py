"""Which models understand each other's keys: those of one family, at one API root.

A thought signature of one Gemini model must go back to another one, or its tool calls are refused; the same signature sent
to Gemma or Claude behind the same gateway is refused as well. A name may be an alias that says nothing: then the API root
alone counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "claude": ("claude",),
    "command": ("command", "c4ai"),
    "deepseek": ("deepseek",),
    "gemini": ("gemini",),
    "gemma": ("gemma",),
    "glm": ("glm", "chatglm"),
    "gpt": ("gpt", "chatgpt", "codex", "o1", "o3", "o4"),
    "grok": ("grok",),
    "kimi": ("kimi", "moonshot"),
    "llama": ("llama", "codellama"),
    "minimax": ("minimax",),
    "mistral": ("mistral", "mixtral", "ministral", "magistral", "codestral", "devstral", "pixtral"),
    "nova": ("nova",),
    "qwen": ("qwen", "qwq", "qvq"),
}
_OF: Final = {word: family for family, words in _FAMILIES.items() for word in words}
_WORD: Final = re.compile(rf"(?<![a-z0-9])({'|'.join(sorted(_OF, key=len, reverse=True))})(?![a-z])")


def family(model: str | None) -> str | None:
    """The family that a model's name speaks of (`google/gemini-3-pro-preview`: gemini); None where it speaks of none."""
    found = _WORD.search((model or "").lower())
    return None if found is None else _OF[found[1]]


def origin(place: str, asked: str, answered: str | None) -> str:
    """Where the keys of a reply came from: the API root, and the family of the model that was asked for; where its name says
    nothing, of the one that answered."""
    found = family(asked) or family(answered)
    return place if found is None else f"{place}#{found}"


def takes_back(made: str, place: str | None, model: str) -> bool:
    """Whether a model at an API root takes the keys that came from `made`, as `origin` wrote it. Without a family, as older
    versions wrote it, and for a name that says nothing, the API root alone counts."""
    root, _, maker = made.partition("#")
    return root == place and family(model) in (maker, None) if maker else made == place
