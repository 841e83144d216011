"""Step: one definition for a call, an awaited call, a batch and a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Self

from lllm.composing import Composable
from lllm.config.kinds import in_words
from lllm.errors import ConfigError
from lllm.steps.results import Result
from lllm.sync import run

if TYPE_CHECKING:
    from lllm.core.spec import Limits
    from lllm.steps.running import Here
    from lllm.steps.streams import StepStream


def named(given: Any, default: str | None = None, *, of: str = "step") -> str:
    """The name of a step: `default` where none is given. Names are for people, and for `steps:` in YAML: several steps may have
    one, for a stage is told apart by its place.

    Raises:
        ConfigError: it is no text, or a blank one; so it is in YAML.
    """
    if given is None and default is not None:
        return default
    if not isinstance(given, str) or not given.strip():
        raise ConfigError(
            f"the name of a {of} is {in_words(given)}; it wants a text that is not blank",
            hint=f"Give it a name, or leave name= out: the {of} has one of its own."
            if default is not None
            else None,
        )
    return given


class Step(Composable):
    """Takes one value and gives one.

    A subclass writes `_run(value, here)`, and may write `receive`, which makes what the stage before gave fit.

    Attributes:
        name: what events, errors and results call it.
        kind: what it is: `function`, `agent`, `system`, `chain`, `parallel`, ...
        takes: the type of its value, inspect.Parameter.empty where unknown; gives: that of its result.
        wants: words for `takes`, where those of its type would not do.
        takes_list: whether one value may be a list; None where that cannot be told.
        streams: whether it has deltas to show.
        description: a line for listings.
        limits: the budget of each value; see `with_budget`.
    """

    name: str = "step"
    kind: ClassVar[str] = "step"
    takes: Any = Any
    gives: Any = Any
    wants: str | None = None
    takes_list: bool | None = False
    streams: bool = False
    description: str = ""
    limits: Limits | None = None
    __lllm_kind__: str | None = None

    async def _run(self, value: Any, here: Here) -> Any:
        """Does the work of the step on a value. `here.stage(step, value, part)` runs a step within it."""
        raise NotImplementedError(f"{type(self).__name__}._run: write what the step does with a value")

    def receive(self, value: Any) -> Any:
        """Returns the value that the step gets after a stage with the result `value`. Raises ConfigError where that does not
        fit."""
        return value

    def check_behind(self, before: Step, place: int) -> None:
        """ConfigError where the step cannot stand behind stage `place` of a chain, beyond what their types tell."""

    def told(self, value: Any) -> Any:
        """Returns the step's result as JSON, for the last event of its session."""
        from lllm.core.jsonable import jsonable
        from lllm.models.reply import Reply

        return value.content if isinstance(value, Reply) else jsonable(value)

    @property
    def members(self) -> tuple[tuple[str, Step], ...]:
        """The steps within it, with their parts of the path."""
        return ()

    def outline(self, part: str | None = None) -> dict[str, Any]:
        """The step and those within it as JSON values: part (its name in the step around it), name, kind, and what the step
        says of itself, for diagrams."""
        out = {"part": part, "name": self.name, "kind": self.kind, **self._about()}
        if members := [member.outline(name) for name, member in self.members]:
            out["members"] = members
        return out

    def _about(self) -> dict[str, Any]:
        """Returns the fields of an outline besides name and kind."""
        return {}

    def with_budget(self, **budget: Any) -> Self:
        """A copy with a budget for each value: max_cost, max_tokens_total, max_model_calls, deadline, as of an Agent. All
        agents and models within the step count together; before the request after it is used up, `BudgetExceeded` is raised.

        A session that belongs to the run is left open then, with all that was done: resumed with a larger budget, it goes on.
        """
        import copy

        from lllm.steps.budgets import budget_of

        made = copy.copy(self)
        made.limits = budget_of(budget, self.limits)
        return made

    # --- calls

    def __call__(self, value: Any, **more: Any) -> Any:
        """The result for one value; or, where the step does not take lists, the results for a list of them (`batch`)."""
        return run(self.acall(value, **more))

    async def acall(self, value: Any, **more: Any) -> Any:
        """`__call__` for async code."""
        if isinstance(value, list) and self._is_batch(value):
            return await self.abatch(value, **more)
        from lllm.steps.results import with_stages

        result = await self.arun(value, **more)
        return with_stages(result.value, result.stages)

    def _is_batch(self, value: list[Any]) -> bool:
        if self.takes_list is None:
            raise ConfigError(
                f"'{self.name}' was called with a list, and nothing says whether it takes a list or each of its items",
                hint="Write .run(items).value for one item that is a list, or .batch(items) for each of them. An annotation of "
                "the function's parameter settles it: def f(items: list) or def f(item: str).",
            )
        return not self.takes_list

    def run(self, value: Any, **more: Any) -> Result:
        """The result for one value, with those of the stages."""
        return run(self.arun(value, **more))

    async def arun(self, value: Any, *, store: Any = None, name: str | None = None, **budget: Any) -> Result:
        """`run` for async code. It belongs to the running session, else to one of its own: in `store`, called `name`.

        Args:
            budget: max_cost, max_tokens_total, max_model_calls, deadline: for this run, in place of those of `with_budget`.

        Raises what its stages raise: with a note that says which stage it was, and `error.stage`.
        """
        from lllm.steps.budgets import budget_of
        from lllm.steps.running import one

        limits = budget_of(budget, self.limits)
        try:
            return await one(self, value, store=store, name=name, limits=limits)
        finally:
            await self._completed()

    def batch(self, values: Iterable[Any], **more: Any) -> list[Any]:
        """The results for several values, in their order. See `abatch`."""
        return run(self.abatch(values, **more))

    async def abatch(
        self,
        values: Iterable[Any],
        *,
        limit: int = 16,
        errors: str = "keep",
        store: Any = None,
        name: str | None = None,
        progress: Callable[[int, int | None], None] | bool | None = None,
        **budget: Any,
    ) -> list[Any]:
        """The results for several values, in their order. Each value goes through all stages by itself: a slow one delays no
        other.

        Args:
            values: also a generator, which is read as it is needed. limit: so many are under way at once.
            errors: what becomes of a value that fails: `keep` puts a StageError in its place, `drop` leaves it out, `raise`
                stops the others and raises.
            store, name: of the sessions: one for the batch, and one for each item. Within a running session the items are a
                part of that.
            progress: called with how many are done, of how many (None where unknown); True shows a bar on a terminal.
            budget: max_cost, max_tokens_total, max_model_calls, deadline: of the whole batch. Once it is used up no item is
                begun: each has a StageError in its place, of a BudgetExceeded. That of `with_budget` is of each item.
        """
        from lllm.steps.batches import batch
        from lllm.steps.budgets import budget_of

        limits = budget_of(budget)
        try:
            return await batch(
                self,
                values,
                limit=limit,
                errors=errors,
                store=store,
                name=name,
                progress=progress,
                limits=limits,
            )
        finally:
            await self._completed()

    async def _completed(self) -> None:
        """Called when a run or a batch has ended, however it did."""
        from lllm.steps.sinks.step import finish

        await finish(self)

    # --- streams

    def stream(self, value: Any, **more: Any) -> StepStream:
        """The deltas of the last stage that streams, as they come; see StepStream."""
        from lllm.steps.streams import stream_of

        return stream_of(self, value, more)

    astream = stream

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"
