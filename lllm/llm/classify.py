"""Classification: the agent machine with a one-token reply, read from its log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from lllm.errors import ConfigError, ParseError, UnsupportedError
from lllm.handles import capabilities
from lllm.models.reply import Reply
from lllm.sync import run

if TYPE_CHECKING:
    from lllm.llm.agent import Agent, Input


class Classifies:
    """The part of an Agent that classifies."""

    if TYPE_CHECKING:

        def _is_batch(self, input: Any) -> bool: ...

    async def aclassify(
        self, input: Input, classes: Sequence[str], *, args: Mapping[str, Any] | None = None, **more: Any
    ) -> dict[str, float]:
        """Probabilities of `classes` from the log-probabilities of a one-token reply. See `lllm.llm.classify`."""
        if self._is_batch(input):
            raise ConfigError("a batch cannot be classified", hint="Classify one question or one dialog.")
        return await classify(cast("Agent", self), input, classes, args, more)

    def classify(self, input: Input, classes: Sequence[str], **more: Any) -> dict[str, float]:
        """`aclassify` for blocking code."""
        return run(self.aclassify(input, classes, **more))

    async def abinary_classify(
        self, input: Input, positive: str = "yes", negative: str = "no", **more: Any
    ) -> float:
        """Probability of `positive` against `negative`."""
        return (await self.aclassify(input, (positive, negative), **more))[positive]

    def binary_classify(
        self, input: Input, positive: str = "yes", negative: str = "no", **more: Any
    ) -> float:
        """`abinary_classify` for blocking code."""
        return run(self.abinary_classify(input, positive, negative, **more))


async def classify(
    agent: Agent, input: Any, classes: Sequence[str], args: Mapping[str, Any] | None, more: Mapping[str, Any]
) -> dict[str, float]:
    """Probabilities over `classes` (they add up to 1), in the order given.

    A class counts with every token of the first position that is a beginning of it, with or without a leading space or
    capital; classes that begin with the same token cannot be told apart and are refused at the first reply. A reply that
    names none of the classes is repaired like any other.

    Raises:
        ConfigError: fewer than two classes, or two that are the same but for case.
        UnsupportedError: the backend gives no log-probabilities.
    """
    if isinstance(classes, str) or not all(isinstance(name, str) for name in classes):
        raise ConfigError(f"classes are {classes!r}", hint='Give a list of texts: ["yes", "no"].')
    names = list(classes)
    if len({name.strip().lower() for name in names}) < max(2, len(names)):
        raise ConfigError(f"classes are {names!r}", hint="Give two or more that differ by more than case.")
    if not capabilities(agent._settings.backend).logprobs:
        raise UnsupportedError(
            f"'{agent._settings.model}' gives no log-probabilities",
            hint="Classify with a backend that does: openai, scripted.",
        )
    settings = {"max_tokens": 1, "logprobs": True, "top_logprobs": 20, "tools": [], "temperature": 0, **more}
    reply = await agent.acall(input, args, read=_reader(names), **settings)
    return dict(reply.parsed)


def _reader(names: Sequence[str]) -> Callable[[Reply], dict[str, float]]:
    def read(reply: Reply) -> dict[str, float]:
        if not reply.logprobs:
            raise ParseError("the reply has no log-probabilities")
        first = reply.logprobs[0]
        tokens = {entry["token"]: float(entry["logprob"]) for entry in (first, *first.get("top", ()))}
        mass = dict.fromkeys(names, 0.0)
        for token, logprob in tokens.items():
            start = token.strip().lower()
            fits = [name for name in names if start and name.strip().lower().startswith(start)]
            if len(fits) > 1:
                exact = [name for name in fits if name.strip().lower() == start]
                if len(exact) != 1:
                    raise ParseError(
                        f"the token {token!r} begins {' and '.join(map(repr, fits))}: use other class names"
                    )
                fits = exact
            if fits:
                mass[fits[0]] += math.exp(logprob)
        total = sum(mass.values())
        if total <= 0.0:
            raise ParseError(f"answer with one word, one of: {', '.join(names)}")
        return {name: value / total for name, value in mass.items()}

    return read
