"""Discussion: several agents talk about a question, and one of them, or nobody, decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lllm.core.fence import fenced_data
from lllm.errors import ConfigError
from lllm.llm.checks import parse_count
from lllm.models.message import Message
from lllm.models.reply import Reply
from lllm.ports import LogStore
from lllm.steps.base import Step, named
from lllm.steps.coercing import step_of
from lllm.steps.results import Stages, Text
from lllm.steps.side_by_side import side_by_side
from lllm.sync import maybe_async

if TYPE_CHECKING:
    from lllm.steps.running import Here


class Turn(NamedTuple):
    """The message of one agent. `round`: from 1."""

    round: int
    name: str
    text: str


class Discussed(Text):
    """The result of a discussion: the judge's answer, else the last message.

    Attributes:
        turns: all that was said, in order. stages: the calls; `stages.use` is what they used together.
    """

    turns: tuple[Turn, ...]


class Discussion(Step):
    """Lets several agents talk about a question.

        debate = Discussion("debate", [optimist, sceptic], rounds=2, judge=judge)
        debate("Will it rain?")

    Each turn, an agent is asked with the question and all that was said before. It is a step: `debate >> agent`.

    Args:
        system_id: its name. agents: the agents (or other steps that take text), or a dict of them by name.
        rounds: how often each of them speaks, at most.
        at_once: whether all of a round speak at the same time, each without the others' words of that round.
        judge: an agent or another step that is given the question and all that was said, and answers.
        until: a function of the turns so far, plain or async, that says after each round whether it is enough.
        store: for sessions that its runs open.
    """

    kind = "system"
    takes = str | Reply
    gives = str

    def __init__(
        self,
        system_id: str,
        agents: Sequence[Any] | Mapping[str, Any],
        *,
        rounds: int = 2,
        at_once: bool = False,
        judge: Any = None,
        until: Callable[[tuple[Turn, ...]], Any] | None = None,
        store: LogStore | None = None,
    ) -> None:
        self.name = named(system_id, of="system")
        steps = [(name, step_of(one)) for name, one in agents.items()] if isinstance(agents, Mapping) else [
            (one.name, one) for one in map(step_of, agents)
        ]  # fmt: skip
        names = [name for name, _ in steps]
        if not steps:
            raise ConfigError(
                f"'{system_id}' has no agents", hint="Give it two: Discussion('debate', [a, b])."
            )
        if doubled := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(
                f"two agents of '{system_id}' are named '{doubled}'",
                hint="Give them names: Discussion('debate', {'for': a, 'against': b}).",
            )
        for name in names:
            if not isinstance(name, str) or not name.strip() or "/" in name:
                raise ConfigError(
                    f"an agent of '{system_id}' cannot be called {name!r}",
                    hint="Use a text without '/', and not a blank one: it is a place in the log.",
                )
        self.agents = dict(steps)
        self.rounds = parse_count("rounds", rounds)
        self.at_once = at_once
        self.judge = None if judge is None else step_of(judge)
        self.until = until
        self.store = store

    @property
    def streams(self) -> bool:  # type: ignore[override]
        return any(step.streams for _, step in self.members)

    @property
    def members(self) -> tuple[tuple[str, Step], ...]:
        more = () if self.judge is None else (("judge", self.judge),)
        return (*self.agents.items(), *more)

    async def arun(self, value: Any, *, store: Any = None, name: str | None = None, **budget: Any) -> Any:
        """As `Step.arun`."""
        return await super().arun(value, store=self.store if store is None else store, name=name, **budget)

    def receive(self, value: Any) -> str:
        text = value.content if isinstance(value, Reply) else value
        if not isinstance(text, str):
            raise ConfigError(f"'{self.name}' takes a question that is text, got {type(text).__name__}")
        return text

    async def _run(self, value: str, here: Here) -> Discussed:
        turns: list[Turn] = []
        for number in range(1, self.rounds + 1):
            turns += await (self._together if self.at_once else self._in_turn)(value, number, turns, here)
            if self.until is not None and await maybe_async(self.until, tuple(turns)):
                break
        text = turns[-1].text
        if self.judge is not None:
            asked = f"{value}\n\n{_said(turns)}\n\nDecide, and answer the question."
            text = _text(await here.stage(self.judge, self._message(self.judge, asked), "judge"))
        made = Discussed(text)
        made.stages, made.turns = Stages(here.results), tuple(turns)
        return made

    async def _in_turn(self, question: str, number: int, turns: list[Turn], here: Here) -> list[Turn]:
        found: list[Turn] = []
        for name, step in self.agents.items():
            asked = self._asked(question, name, [*turns, *found])
            reply = await here.stage(step, self._message(step, asked), f"{name} {number}")
            found.append(Turn(number, name, _text(reply)))
        return found

    async def _together(self, question: str, number: int, turns: list[Turn], here: Here) -> list[Turn]:
        jobs = [
            (f"{name} {number}", step, self._message(step, self._asked(question, name, turns)))
            for name, step in self.agents.items()
        ]
        replies = await side_by_side(here, jobs, errors="raise")
        return [
            Turn(number, name, _text(reply)) for name, (_, reply) in zip(self.agents, replies, strict=True)
        ]

    def _message(self, step: Step, text: str) -> Any:
        return Message("user", text) if step.kind == "agent" else text  # text, also when it looks like a path

    def _asked(self, question: str, name: str, turns: list[Turn]) -> str:
        if not turns:
            return question
        return f"{question}\n\n{_said(turns)}\n\nIt is your turn, {name}."


def _said(turns: Sequence[Turn]) -> str:
    return fenced_data("\n\n".join(f"{turn.name}: {turn.text}" for turn in turns), "discussion")


def _text(value: Any) -> str:
    return str(value.content if isinstance(value, Reply) else value)
