"""Chain: stages one after another."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lllm.errors import ConfigError
from lllm.steps.base import Step, named
from lllm.steps.fitting import check_fit

if TYPE_CHECKING:
    from lllm.steps.running import Here


class Chain(Step):
    """Steps one after another: each is given what the one before it gave. `a >> b` makes one; a chain within a chain is
    its stages.

    Attributes:
        stages: its steps, in order; `len(chain)` says how many.
    """

    kind = "chain"

    def __init__(self, *stages: Any, name: str | None = None) -> None:
        from lllm.steps.coercing import step_of

        self.stages: tuple[Step, ...]
        flat: list[Step] = []
        for stage in map(step_of, stages):
            flat.extend(stage.stages if isinstance(stage, Chain) and stage.limits is None else (stage,))
        if not flat:
            raise ConfigError(
                "a chain has no stages", hint="Give it some: chain(first, second), or first >> second."
            )
        for n, (before, after) in enumerate(itertools.pairwise(flat), 1):
            check_fit(before, after, n)
        self.stages = tuple(flat)
        self.name = named(name, " >> ".join(stage.name for stage in flat), of="chain")

    @property
    def takes(self) -> Any:
        return self.stages[0].takes

    @property
    def wants(self) -> str | None:  # type: ignore[override]
        return self.stages[0].wants

    @property
    def takes_list(self) -> bool | None:  # type: ignore[override]
        return self.stages[0].takes_list

    @property
    def gives(self) -> Any:
        return self.stages[-1].gives

    @property
    def streams(self) -> bool:  # type: ignore[override]
        return any(stage.streams for stage in self.stages)

    @property
    def members(self) -> tuple[tuple[str, Step], ...]:
        return tuple((str(n), stage) for n, stage in enumerate(self.stages, 1))

    def receive(self, value: Any) -> Any:
        return value

    async def _run(self, value: Any, here: Here) -> Any:
        shown = 0
        if here.follow is not None:
            shown = max((n for n, stage in enumerate(self.stages, 1) if stage.streams), default=0)
        for n, stage in enumerate(self.stages, 1):
            value = await here.stage(stage, value, str(n), follow=n == shown)
        return value

    def __len__(self) -> int:
        return len(self.stages)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.stages)

    def __getitem__(self, n: int) -> Step:
        return self.stages[n]


def chain(*stages: Any, name: str | None = None) -> Chain:
    """A chain of stages: `chain(clean, agent, parse, name="summary")`, the same as `step(clean) >> agent >> parse`."""
    from lllm.steps.coercing import registered

    made = Chain(*stages, name=name)
    if name is not None:
        registered(made)
    return made
