"""Goes over the items of a value with a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lllm.errors import ConfigError
from lllm.llm.checks import parse_count
from lllm.steps.base import Step, named
from lllm.steps.fitting import classes_of, has_items, said, to_items
from lllm.steps.memories import check_map
from lllm.steps.side_by_side import ERRORS, checked, side_by_side

if TYPE_CHECKING:
    from lllm.steps.running import Here

LIMIT = 16
"""Items that are under way at once, by default."""


class Map(Step):
    """Gives each item of a value to a step, several side by side. The result is a list in the order of the items; of no items
    it is [].

    Args:
        step: the step. limit: so many items at once. errors: as of Parallel.
    """

    kind = "map"
    takes_list = True
    gives = list

    def __init__(
        self, step: Any, *, limit: int = LIMIT, errors: str = "raise", name: str | None = None
    ) -> None:
        from lllm.steps.coercing import step_of

        self.step: Step = step_of(step)
        self.limit = parse_count("limit", limit)
        check_map(self.step, self.limit)
        self.errors = checked(errors, ERRORS, "errors")
        self.name = named(name, f"map({self.step.name})")

    @property
    def streams(self) -> bool:  # type: ignore[override]
        return self.step.streams

    @property
    def members(self) -> tuple[tuple[str, Step], ...]:
        return (("each", self.step),)

    def _about(self) -> dict[str, Any]:
        return {"limit": self.limit}

    def receive(self, value: Any) -> Any:
        from lllm.models.reply import Reply

        return value.parsed if isinstance(value, Reply) else value

    def check_behind(self, before: Step, place: int) -> None:
        given = classes_of(before.gives)
        if given is not None and not any(has_items(one) for one in given):
            raise ConfigError(
                f"stage {place + 1} '{self.name}' goes over items, and stage {place} '{before.name}' gives "
                f"{said(before.gives)}",
                hint="Let the stage before it give a list, or change its annotation.",
            )

    async def _run(self, value: Any, here: Here) -> Any:
        items = to_items(value, self.name)
        jobs = ((str(n), self.step, item) for n, item in enumerate(items))
        return [result for _, result in await side_by_side(here, jobs, errors=self.errors, limit=self.limit)]


def map(step: Any, *, limit: int = LIMIT, errors: str = "raise", name: str | None = None) -> Map:
    """A step for each item of what the stage before gave: `split >> map(agent, limit=4) >> join(merge)`."""
    return Map(step, limit=limit, errors=errors, name=name)
