"""The result of a long text: the answer, and the parts it was made from."""

from __future__ import annotations

from dataclasses import dataclass

from lllm.errors import StageError
from lllm.steps.results import Stages, Text


@dataclass(frozen=True)
class Part:
    """One chunk of a long text.

    Attributes:
        number: from 1. start, end: its offsets. text: `long_text[start:end]`.
        notes: what the model noted of it; None where that failed.
        error: why it failed, or None.
    """

    number: int
    start: int
    end: int
    text: str
    notes: str | None = None
    error: StageError | None = None


class Answer(Text):
    """The answer of a ChainOfAgents: a text.

    Attributes:
        parts: the chunks, in order, with the notes of each. missing: numbers of those that the answer is without.
        merged: of the tree mode, the notes of each level above the parts. stages: the calls, in order; `stages.use` is what
            they used together. session: the id of the session.
    """

    parts: tuple[Part, ...]
    missing: tuple[int, ...]
    merged: tuple[tuple[str, ...], ...]
    session: str

    @classmethod
    def made(
        cls,
        text: str,
        stages: Stages,
        session: str,
        parts: tuple[Part, ...] = (),
        missing: tuple[int, ...] = (),
        merged: tuple[tuple[str, ...], ...] = (),
    ) -> Answer:
        """An answer with all that is known of it."""
        answer = cls(text)
        answer.stages, answer.session = stages, session
        answer.parts, answer.missing, answer.merged = parts, missing, merged
        return answer
