"""From token ids, one at a time, to text."""

from __future__ import annotations

from typing import Any

from lllm.backends.thinking_forms import SPOKEN

_CUT = "�"  # what decoding gives for a character that is not whole


class Text:
    """Decodes a reply's tokens to text incrementally. Special tokens are dropped unless they mark reasoning; added ones
    such as `<tool_call>` are kept.

    A character written by several tokens is emitted with the last one; an unfinished one is never emitted.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._said = self._read = 0  # where the text given last begins and ends
        self._stream: Any = None
        special = {
            number: str(added)
            for number, added in getattr(tokenizer, "added_tokens_decoder", {}).items()
            if added.special
        }
        spoken = any(text in SPOKEN for text in special.values())
        # if some special tokens are kept, the others are dropped here, not by the tokenizer
        self._silent = {number for number, text in special.items() if text not in SPOKEN} if spoken else set()
        self._skip = not spoken
        if getattr(tokenizer, "is_fast", False):
            from tokenizers.decoders import DecodeStream

            self._stream = DecodeStream(skip_special_tokens=self._skip)
            self._fast = tokenizer.backend_tokenizer

    def step(self, token: int) -> str:
        """Returns the text that this token completes; '' where there is none."""
        if token in self._silent:
            return ""
        self._ids.append(token)
        if self._stream is not None:
            try:
                return self._stream.step(self._fast, token) or ""
            except (
                Exception
            ):  # it refuses a decoder whose text changes backwards: the slow way goes on from here
                self._stream = None
                self._said = self._read = len(self._ids) - 1
        before = self._decode(self._ids[self._said : self._read])
        now = self._decode(self._ids[self._said :])
        if len(now) <= len(before) or now.endswith(_CUT):
            return ""
        self._said, self._read = self._read, len(self._ids)
        return now[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(
            ids, skip_special_tokens=self._skip, clean_up_tokenization_spaces=False
        )
        return text
