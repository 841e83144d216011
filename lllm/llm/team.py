"""The agents of one configuration as they reach one another: sub-agents, hand-offs, and which of them begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lllm.callers import callers
from lllm.errors import ConfigError, ToolError, UnknownNameError, listing
from lllm.llm.handoff import handoff_tool
from lllm.models.function import Function, as_function

if TYPE_CHECKING:
    from lllm.config import AgentConfig, Config
    from lllm.llm.agent import Agent
    from lllm.llm.assembled_proxies import Proxies
    from lllm.ports import Backend

SUB_AGENT: Final = "asks"
HANDOFF: Final = "hands over to"


class Link(NamedTuple):
    """One agent reaches another. `kind`: SUB_AGENT or HANDOFF; `key`: where the configuration says so."""

    kind: str
    agent: str
    to: str
    key: str


class Team:
    """The agents that a configuration declares.

    Attributes:
        config: it. model: what replaces the models of all of them. proxies: those of the system, once they are known.
        stages: the outline of the system's stages, once it is built; None where it has none.
        agents: those that are built, by name. Links are followed when a model makes use of them, so agents may reach one
            another in a circle.
    """

    def __init__(
        self,
        config: Config,
        agents: dict[str, Agent] | None = None,
        model: str | Backend | None = None,
        proxies: Proxies | None = None,
    ) -> None:
        self.config = config
        self.model = model
        self.proxies = proxies
        self.stages: dict[str, Any] | None = None
        self.agents: dict[str, Agent] = {} if agents is None else agents

    def links(self, declared: AgentConfig) -> list[Link]:
        """What an agent reaches, in the order of its file."""
        above = f"agent_configs.{declared.name}"
        asks = [
            Link(SUB_AGENT, declared.name, to, f"{above}.tools.{n}")
            for n, to in enumerate(declared.tools)
            if to in self.config.agents
        ]
        over = [
            Link(HANDOFF, declared.name, to, f"{above}.handoffs.{n}")
            for n, to in enumerate(declared.handoffs)
        ]
        return [*asks, *over]

    def tool(self, link: Link) -> Function:
        """The tool that a link is for the agent that has it. UnknownNameError where no agent has the name, ConfigError
        where it is the agent itself, or a tool is named so too."""
        if link.to not in self.config.agents:
            raise UnknownNameError("agent", link.to, self.config.agents)
        about = self.config.agents[link.to].description or ""
        if link.kind == HANDOFF:
            if link.to == link.agent:
                raise ConfigError(f"the agent '{link.agent}' hands over to itself", hint="Remove it.")
            return handoff_tool(link.to, lambda: self.agent(link.to), about)
        from lllm.registry import registry

        if registry.has("tool", link.to):
            raise ConfigError(
                f"'{link.to}' is an agent of this file and a registered tool", hint="Rename one of them."
            )
        remembers = bool(self.config.agents[link.to].memory)
        return agent_tool(link.to, lambda: self.agent(link.to), about, concurrent=not remembers)

    def agent(self, name: str) -> Agent:
        """An agent by name, built if it is not yet. ConfigError if it cannot be."""
        if name not in self.agents:
            from lllm.config.problems import Problems, raise_errors
            from lllm.llm.assembly import assemble_agent

            problems = Problems()
            assemble_agent(self.config, self.config.agents[name], problems, team=self)
            raise_errors(list(problems))
        return self.agents[name]

    # --- the whole

    def starts(self, system: str) -> list[str]:
        """The agents that a system itself calls: of a built-in one; of others that is not known."""
        if self.stages is not None:
            return list(dict.fromkeys(agents_within(self.stages)))
        try:
            return [self.start()] if system == "simple" else []
        except ConfigError:  # of a file that could be read in part only
            return []

    def all_links(self) -> Iterator[Link]:
        """Those that lead to an agent."""
        for declared in self.config.agents.values():
            yield from (link for link in self.links(declared) if link.to in self.config.agents)

    def start(self) -> str:
        """The agent that gets the task.

        Raises:
            UnknownNameError: `start` names no agent. ConfigError: it is left out, and more than one could be meant.
        """
        named, agents = self.config.start, self.config.agents
        if named is not None:
            if named not in agents:
                raise UnknownNameError("agent", named, agents)
            return named
        if not agents:
            raise ConfigError("no agent is declared", hint="Declare one under agent_configs.")
        reached = {link.to for link in self.all_links() if link.to != link.agent}
        first = [name for name in agents if name not in reached]
        if len(first) == 1:
            return first[0]
        if not first:
            why = "each of them is reached by another"
        else:
            why = f"{listing(first)} are reached by no other"
        raise ConfigError(
            f"{len(agents)} agents are declared, and nothing says which of them gets the task: {why}",
            hint=f"Write start: {(first or list(agents))[0]}, or name the others in its tools: or handoffs:, or write a "
            "system: a subclass of AgentBase, named in agent_type.",
        )

    def unbounded(self) -> Iterator[tuple[Link, list[str]]]:
        """Sub-agents by which an agent may ask itself without end, with the way there and back. Hand-offs alone are bounded
        by `max_handoffs`."""
        links = [
            link
            for link in self.all_links()
            if link.kind == HANDOFF or self.config.agents[link.to].limits.max_depth is None
        ]
        seen: set[frozenset[str]] = set()
        for link in links:
            if link.kind == SUB_AGENT and (way := _way(link.to, link.agent, links)) is not None:
                if frozenset(way) not in seen:
                    yield link, [link.agent, *way]
                seen.add(frozenset(way))

    def unreached(self, starts: Iterable[str]) -> list[str]:
        """Agents that no way leads to from those that begin."""
        found = set(starts)
        links = list(self.all_links())
        while new := {link.to for link in links if link.agent in found} - found:
            found |= new
        return [name for name in self.config.agents if name not in found]


def _way(start: str, end: str, links: list[Link]) -> list[str] | None:
    """The shortest way from one agent to another, with both; None where there is none."""
    ways: dict[str, list[str]] = {start: [start]}
    todo = [start]
    while todo:
        at = todo.pop(0)
        if at == end:
            return ways[at]
        for link in links:
            if link.agent == at and link.to not in ways:
                ways[link.to] = [*ways[at], link.to]
                todo.append(link.to)
    return None


def agents_within(outline: Mapping[str, Any]) -> Iterator[str]:
    """The agents of an outline of stages."""
    if outline["kind"] == "agent":
        yield outline["name"]
    for member in outline.get("members", ()):
        yield from agents_within(member)


def agent_tool(
    name: str, find: Callable[[], Agent], description: str = "", *, concurrent: bool = True
) -> Function:
    """An agent as a tool of another: it takes `task` and answers with its reply. `find` returns it when it is asked;
    `concurrent` is False for one with memory, whose questions take turns."""

    async def ask(task: str) -> str:
        agent = find()
        _check_depth(agent)
        prompt = agent.prompt
        reply = await agent.acall(
            task if prompt is None else None, None if prompt is None else {"task": task}
        )
        return reply.content

    function = as_function(ask)
    return function.with_(
        name=name, description=description or f"Ask the agent {name}.",
        agent=name, timeout=None, concurrent=concurrent, effect="pure",  # its own tools say what they do to the world
    )  # fmt: skip


def _check_depth(agent: Agent) -> None:
    """Raises ToolError where as many calls of an agent as it allows are within one another already."""
    most = agent.limits.max_depth
    if most is not None and sum(one.plan.agent == agent.name for one in callers()) >= most:
        raise ToolError(
            f"'{agent.name}' is at work already, {most} deep, and no deeper calls are allowed: answer without it"
        )
