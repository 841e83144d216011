"""Text that comes in pieces, without secrets: a secret may be cut anywhere, so what may be the beginning of one waits for
the next piece."""

from __future__ import annotations

from lllm.core.redact import Redactor


class Pieces:
    """One text. All that `take` and `rest` give adds up to what `Redactor.text` makes of the whole text."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = ""
        self._shown = 0  # so many characters of what is held were given all the same

    def take(self, piece: str) -> str:
        """What can be given now, of the piece and of what was held back."""
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
        """Gives what is held back, where it is no more than three characters: another text goes on. They are remembered, so
        that nothing more of a secret is given that they begin."""
        given = self._held[self._shown :] if len(self._held) <= _HARMLESS else ""
        self._shown += len(given)
        return given

    def rest(self) -> str:
        """What was held back: the text has ended."""
        given, self._held, self._shown = self._redactor.text(self._held)[self._shown :], "", 0
        return given

    def _undecided(self, text: str) -> int:
        """Where a secret may begin that the end of the text cuts off."""
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
        """The text with marks, as far as it is decided, and how far that is."""
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
