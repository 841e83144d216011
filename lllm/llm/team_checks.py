"""What `lllm check` finds out about the agents of a system as they reach one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lllm.config.problems import Problems, placed
from lllm.errors import ConfigError, NameTakenError, PromptError, listing
from lllm.llm.approval_rules import Rules
from lllm.llm.exposure import exposures
from lllm.llm.proxies import TEXTS_OF
from lllm.llm.team import SUB_AGENT

if TYPE_CHECKING:
    from lllm.config import AgentConfig, Config
    from lllm.llm.agent import Agent
    from lllm.llm.assembly import At
    from lllm.llm.team import Team
    from lllm.models.function import Function


def check_links(team: Team, problems: Problems) -> None:
    """Adds endless recursion, and rules of approval at the top that no tool of any agent matches."""
    config = team.config
    for link, way in team.unbounded():
        error = ConfigError(
            f"agents ask one another without end: {' -> '.join(way)}",
            hint=f"Write max_depth: 2 (calls of it within one another) into the agent '{link.to}', or remove one of them.",
        )
        problems.add(placed(error, config.where(link.key), link.key))
    if len(team.agents) < len(config.agents):
        return  # their tools are not known
    _check_rules(team, problems)
    _check_prompts(team, problems)


def _check_prompts(team: Team, problems: Problems) -> None:
    """Adds agents that another one reaches and whose prompts want more than they are given then."""
    for link in team.all_links():
        agent, other = team.agents[link.to], team.agents[link.agent]
        if link.kind == SUB_AGENT:
            try:
                agent._prepare(None if agent.prompt else "task", {"task": "task"} if agent.prompt else {}, {})
            except PromptError as wrong:
                words = f"the agent '{link.to}' is asked with a task only: {wrong.message}"
                problems.add(
                    placed(ConfigError(words, hint=wrong.hint), team.config.where(link.key), link.key)
                )
            continue
        wanted = set() if agent.system_prompt is None else set(agent.system_prompt.variables)
        wanted -= set(TEXTS_OF)  # every agent is given its own
        for prompt in (other.system_prompt, other.prompt, *other._prompts):
            wanted -= set() if prompt is None else set(prompt.variables)
        if wanted:
            error = ConfigError(
                f"the system prompt of '{link.to}' wants {listing(sorted(wanted))}, which no prompt of '{link.agent}' has: "
                "a hand-off passes on the arguments that there are"
            )
            problems.warn(placed(error, team.config.where(link.key), link.key))


def warn_of_team(team: Team, system: str, problems: Problems) -> None:
    """Warns of agents that nothing reaches (if it is known which of them begin), and of what `lllm.llm.exposure` finds."""
    config = team.config
    if not problems.errors and (starts := team.starts(system)):
        for name in team.unreached(starts):
            key = f"agent_configs.{name}"
            error = ConfigError(
                f"nothing reaches the agent '{name}'",
                hint=f"Name it in {'steps:, or in ' if team.stages else ''}tools: or handoffs: of another, or remove it.",
            )
            problems.warn(placed(error, config.where(key), key))
    tools = {name: all_tools(agent) for name, agent in team.agents.items()}
    for found in exposures(tools, team.all_links()):
        who = (
            f"the agent '{found.agents[0]}' has"
            if len(found.agents) == 1
            else f"{listing(found.agents)} together have"
        )
        kinds = {"private data": found.private, "untrusted text": found.untrusted, "a way out": found.outward}
        words = "; ".join(f"{kind} ({_named(those)})" for kind, those in kinds.items())
        names = [tool.endpoint or tool.name for _, tool in found.outward]
        key = f"agent_configs.{found.outward[0][0]}"
        error = ConfigError(
            f"{who} {words}: a text that somebody else wrote can get private data sent out, and nobody is asked",
            hint=f"Write approval: [{', '.join(dict.fromkeys(names))}], or divide them.",
        )
        problems.warn(placed(error, config.where(key), key))


def _named(those: Sequence[tuple[str, Function]]) -> str:
    names = list(dict.fromkeys(tool.endpoint or tool.name for _, tool in those))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def assemble_links(team: Team, declared: AgentConfig, tools: Sequence[Function], at: At) -> list[Function]:
    """The sub-agents and hand-offs of an agent as tools. Each problem is added with its key, also one name twice."""
    found = {tool.name: tool for tool in tools}
    out = []
    for link in team.links(declared):
        tool = at.key(link.key, team.tool, link)
        if tool is None:
            continue
        if tool.name in found:
            error = NameTakenError(f"two tools are named '{tool.name}'", hint="Rename one, or remove it.")
            at.add(link.key, error)
            continue
        found[tool.name] = tool
        out.append(tool)
    return out


def all_tools(agent: Agent) -> list[Function]:
    """The tools of an agent, with those of its prompts, each as it is when it is offered."""
    found: dict[str, Function] = {}
    for prompt in (None, agent.prompt, *agent._prompts):
        for tool in agent._binding(prompt, {}).functions:
            found.setdefault(tool.name, tool)
    return list(found.values())


def _check_rules(team: Team, problems: Problems) -> None:
    config = team.config
    tools = {name: all_tools(agent) for name, agent in team.agents.items()}
    every = [tool for found in tools.values() for tool in found]
    for key, given, those in _written(config, tools, every):
        for place, rule in _rules(given):
            try:
                rule.check(those)
            except ConfigError as error:
                at = key if place is None else f"{key}.{place}"
                problems.add(placed(error, config.where(at), at))


def _written(
    config: Config, tools: dict[str, list[Function]], every: Sequence[Function]
) -> Iterator[tuple[str, Any, Sequence[Function]]]:
    """Each place with rules of approval: its key, the rules, and the tools that they are for."""
    if config.agents and "approval" in config.tree:
        yield "approval", config.tree["approval"], every
    for name, those in tools.items():
        own = config.tree["agent_configs"].get(name) or {}
        if "approval" in own:
            yield f"agent_configs.{name}.approval", own["approval"], those


def _rules(given: Any) -> Iterator[tuple[int | None, Rules]]:
    """Each rule by itself, with its place in a list."""
    if isinstance(given, list):
        yield from ((n, Rules((rule,))) for n, rule in enumerate(given))
    else:
        found = Rules.of(given)
        yield from ((None, Rules((rule,))) for rule in (*found.always, *found.never))
