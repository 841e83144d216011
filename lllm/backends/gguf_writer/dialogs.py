"""The beginning of a tokenizer's dialogs, which decides what llama.cpp may put before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

_PROBES: Final = (
    [{"role": "user", "content": "a"}],
    [{"role": "system", "content": "a"}, {"role": "user", "content": "a"}],
)
"""Dialogs that templates take; some require a system prompt."""


class DialogStart(NamedTuple):
    """A rendered dialog. `special`: it begins with an added token."""

    text: str
    special: bool


def dialog_start(tokenizer: Any, added: Sequence[str]) -> DialogStart | None:
    """The beginning of a dialog; None where the tokenizer has no chat template, or it renders none of the probes."""
    if not tokenizer.chat_template:
        return None
    for probe in _PROBES:
        try:
            text = str(tokenizer.apply_chat_template(probe, tokenize=False, add_generation_prompt=True))
        except Exception:  # noqa: S112  (the template's own language: anything may come out of it)
            continue
        return DialogStart(text, any(text.startswith(one) for one in added))
    return None
