"""Redacts text that arrives in chunks: a secret may be split between chunks, so a possible beginning of one is held back
until the next chunk."""

from __future__ import annotations

from lllm.core.redact import Redactor


class Pieces:
    """One text in chunks. The results of `take` and `rest` concatenate to `Redactor.text` of the whole text."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = ""
        self._shown = 0  # characters of the held-back text that were already released

    def take(self, piece: str) -> str:
        """Returns the text that is safe to release, of this chunk and what was held back."""
        text = self._held + piece
        if self._redactor.text(text) is text:
            at = self._undecided(text)
            given = text[:at]
        else:
            given, at = self._replaced(text)
        if self._shown:
            given, self._shown = given[self._shown :], max(0, self._shown - at)
        self._held = text[at:]
        return given

    def release(self) -> str:
        """Releases the held-back text if it is at most three characters, because another text continues. They are
        remembered, so that no more of a secret that starts with them is released."""
        given = self._held[self._shown :] if len(self._held) <= _HARMLESS else ""
        self._shown += len(given)
        return given

    def rest(self) -> str:
        """Returns the held-back text; call it when the text has ended."""
        given, self._held, self._shown = self._redactor.text(self._held)[self._shown :], "", 0
        return given

    def _undecided(self, text: str) -> int:
        """Index at which a secret may begin that the end of the text cuts off."""
        heads, end = self._redactor.heads, len(text)
        for at, char in enumerate(text):
            if char in heads:
                longest, forms = heads[char]
                left = end - at
                if longest > left:
                    for form in forms:
                        if len(form) > left and form.startswith(text[at:]):
                            return at
        return end

    def _replaced(self, text: str) -> tuple[str, int]:
        """The redacted text as far as it is decided, and the index up to which it is."""
        heads, marks = self._redactor.heads, self._redactor.forms
        out: list[str] = []
        at, end = 0, len(text)
        while at < end:
            _, forms = heads.get(text[at], _NONE)
            for form in forms:
                if len(form) > end - at:
                    if form.startswith(text[at:]):
                        return "".join(out), at
                elif text.startswith(form, at):
                    out.append(marks[form])
                    at += len(form)
                    break
            else:
                out.append(text[at])
                at += 1
        return "".join(out), end


_NONE: tuple[int, tuple[str, ...]] = (0, ())
_HARMLESS = 3
