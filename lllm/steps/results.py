"""Results of chains: the value, and those of the stages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lllm.core.use import NONE, Use
from lllm.models.checks import NOT_LOGGED


@dataclass(frozen=True)
class StageResult:
    """The result of one stage.

    Attributes:
        stage: its place: `1/2` is the second stage of the first run in the session, `1/2/facts` a branch within it.
        name: of the function, agent or system.
        value: what it gave. use: the model requests, tokens and cost of everything within it.
        seconds: how long it took.
    """

    stage: str
    name: str
    value: Any
    use: Use = NONE
    seconds: float = field(default=0.0, metadata=NOT_LOGGED)


class Stages(tuple[StageResult, ...]):
    """The results of the stages of a chain, in order; also by name: `stages.named("writer")` is the last of that name."""

    __slots__ = ()

    @property
    def use(self) -> Use:
        """The use of all of them together."""
        total = NONE
        for one in self:
            total = total.plus(one.use)
        return total

    def named(self, name: str) -> StageResult:
        """The last stage of this name. KeyError where there is none."""
        for one in reversed(self):
            if one.name == name:
                return one
        raise KeyError(f"no stage '{name}': there are {', '.join(one.name for one in self)}")


class Text(str):
    """A text that a chain gave, with its stages."""

    stages: Stages

    @classmethod
    def of(cls, text: str, stages: Stages) -> Text:
        made = cls(text)
        made.stages = stages
        return made


@dataclass(frozen=True)
class Result:
    """The result of a step for one value.

    Attributes:
        value: what the last stage gave.
        stages: the results of the stages, in order. session: the id of the session that it was done in.
    """

    value: Any
    stages: Stages
    session: str | None = None

    @property
    def use(self) -> Use:
        """The model requests, tokens and cost of all stages."""
        return self.stages.use

    def __str__(self) -> str:
        return str(self.value)


def with_stages(value: Any, stages: Iterable[StageResult], *, texts: bool = True) -> Any:
    """The value of a chain, with `.stages` where that is a Reply, or a text (unless `texts` is false: a hundred thousand of
    them would hold what all of their stages gave)."""
    from lllm.models.reply import Reply

    found = Stages(stages)
    if isinstance(value, Reply):
        return value.with_(stages=found)
    return Text.of(value, found) if texts and type(value) in (str, Text) else value
