"""Which agents hold private data, untrusted text and a way out, all three: then a text that somebody else wrote may get private
data sent out. `lllm check` warns of it. It goes by what tools say of themselves (`lllm.models.function.DATA`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lllm.llm.team import Link
    from lllm.models.function import Function


class Exposure(NamedTuple):
    """Agents that can do all three without anybody's approval. They reach one another, so text flows between them.

    Attributes:
        agents: their names. private, untrusted, outward: the tools, as (agent, tool); of the last those that need no approval.
    """

    agents: tuple[str, ...]
    private: tuple[tuple[str, Function], ...]
    untrusted: tuple[tuple[str, Function], ...]
    outward: tuple[tuple[str, Function], ...]


def exposures(tools: Mapping[str, Sequence[Function]], links: Iterable[Link]) -> Iterator[Exposure]:
    """The groups of agents that are exposed. `tools`: by agent, each with `approval` as it holds for it."""
    for group in _groups(tools, links):
        of = [(name, tool) for name in group for tool in tools[name]]
        found = Exposure(
            group,
            tuple(one for one in of if "private" in one[1].data),
            tuple(one for one in of if "untrusted" in one[1].data),
            tuple(one for one in of if "outward" in one[1].data and not one[1].approval),
        )
        if found.private and found.untrusted and found.outward:
            yield found


def _groups(names: Iterable[str], links: Iterable[Link]) -> Iterator[tuple[str, ...]]:
    """Agents that reach one another, in either direction: a question goes one way, and its answer the other."""
    beside: dict[str, set[str]] = {name: set() for name in names}
    for link in links:
        beside[link.agent].add(link.to)
        beside[link.to].add(link.agent)
    seen: set[str] = set()
    for name in beside:
        if name in seen:
            continue
        group, todo = {name}, [name]
        while todo:
            new = beside[todo.pop()] - group
            group |= new
            todo += new
        seen |= group
        yield tuple(one for one in beside if one in group)
