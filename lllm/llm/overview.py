"""A system at a glance: its stages, and its agents with their prompts, tools, sub-agents, hand-offs, output schema and
limits. As data, and as a tree."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from lllm.errors import ConfigError
from lllm.llm.team import HANDOFF, SUB_AGENT
from lllm.llm.team_checks import all_tools
from lllm.tools.prompt_files import is_inline

if TYPE_CHECKING:
    from lllm.llm.agent import Agent
    from lllm.llm.team import Team
    from lllm.models.function import Function

MOST: Final = 30
"""Endpoints of one proxy in the tree, and tools of one agent in the diagram: those of a large API are hundreds."""
_WIDE: Final = 100
"""Characters of an output schema in the tree."""


def overview(team: Team) -> dict[str, Any]:
    """The system as JSON values: name, start (None where a class or a stage begins), the outline of its stages (or
    None), and its agents in the order of the file."""
    config = team.config
    start: str | None = None
    if config.system == "simple":
        try:
            start = team.start()
        except ConfigError:
            start = None
    agents = [_agent(team, agent) for agent in team.agents.values()]
    return {"name": config.name, "start": start, "steps": team.stages, "agents": agents}


def _agent(team: Team, agent: Agent) -> dict[str, Any]:
    declared = team.config.agents.get(agent.name)
    inline = {
        "system": declared is not None and declared.system_prompt is not None,
        "prompt": declared is not None and is_inline(declared.prompt),
    }
    links = [] if declared is None else team.links(declared)
    prompts = [
        {"as": role, "path": None if inline.get(role) else prompt.path}
        for role, prompt in (
            ("system", agent.system_prompt),
            ("prompt", agent.prompt),
            *(("further prompt", one) for one in agent._prompts),
        )
        if prompt is not None
    ]
    form = agent._binding(agent.prompt, {}).format
    return {
        "name": agent.name,
        "model": agent._settings.model,
        "prompts": prompts,
        "tools": [_tool(tool) for tool in all_tools(agent) if tool.agent is None],
        "asks": [link.to for link in links if link.kind == SUB_AGENT],
        "hands_over_to": [link.to for link in links if link.kind == HANDOFF],
        "approved": sorted(
            tool.name for tool in all_tools(agent) if tool.agent is not None and tool.approval
        ),
        "output": None if form is None else dict(form.schema),
        **({"remembers": agent.memory} if agent.memory else {}),
        "limits": agent.limits.record(),
    }


def _tool(tool: Function) -> dict[str, Any]:
    out: dict[str, Any] = {
        "name": tool.name,
        "endpoint": tool.endpoint,
        "effect": tool.effect,
        "approval": tool.approval,
        "data": sorted(tool.data),
    }
    if tool.source:
        out |= {"source": tool.source, "trusted": False}
    return out


# --- as a tree --------------------------------------------------------------------------------------------------------


def tree(system: Mapping[str, Any]) -> str:
    """The overview as a tree: its stages; then from the agent that begins to those that it reaches, then the others."""
    agents = {agent["name"]: agent for agent in system["agents"]}
    reached = {name for agent in agents.values() for name in (*agent["asks"], *agent["hands_over_to"])}
    first = [system["start"]] if system["start"] else [name for name in agents if name not in reached]
    shown: set[str] = set()
    lines = _stages(system["steps"]) if system.get("steps") else []
    for name in (*first, *agents):
        if name not in shown:
            lines += _branch(agents, name, "", shown)
    return "\n".join(lines)


def _stages(stage: Mapping[str, Any]) -> list[str]:
    """The lines of a stage and of those within it."""
    members = stage.get("members", ())
    return [stage_words(stage), *_hung([_stages(member) for member in members])]


def stage_words(stage: Mapping[str, Any]) -> str:
    """A stage in a line: `poem: writer, agent`, `2: map, at most 4 at once`."""
    part = f"{stage['part']}: " if stage["part"] else ""
    kind, name = stage["kind"], stage["name"]
    if kind == "chain":
        return f"{part}{name if not part and ' >> ' not in name else 'steps'}"
    plain = name in (kind, "") or name.startswith(f"{kind}(")
    words = [kind] if plain else [name, kind]
    if "limit" in stage:
        words.append(f"at most {stage['limit']} at once")
    if "times" in stage:
        words.append(f"at most {stage['times']} times")
    return f"{part}{', '.join(words)}"


_WHOSE: Final = {"agent": "from call to call", "session": "within a session"}


def _branch(agents: Mapping[str, Any], name: str, how: str, shown: set[str]) -> list[str]:
    """The lines of an agent; of one that was shown already only the first."""
    agent = agents.get(name)
    head = f"{how} {name}".strip()
    if agent is None:
        return [head]
    if name in shown:
        return [f"{head} (see above)"]
    shown.add(name)
    below = [[f"{one['as']}: {one['path'] or 'in this file'}"] for one in agent["prompts"]]
    proxies: dict[str, list[Mapping[str, Any]]] = {}
    for tool in agent["tools"]:
        if tool["endpoint"]:
            proxies.setdefault(tool["endpoint"].rpartition(".")[0], []).append(tool)
        else:
            below.append([f"tool {_shown_tool(tool, tool['name'])}"])
    for proxy, tools in proxies.items():
        lines = [_shown_tool(tool, tool["endpoint"].rpartition(".")[2]) for tool in tools[:MOST]]
        lines += [f"and {len(tools) - MOST:,} more"] if len(tools) > MOST else []
        below.append([f"proxy {proxy}", *_hung([[line] for line in lines])])
    for to in agent["asks"]:
        asks = "asks, with approval," if to in agent["approved"] else "asks"
        below.append(_branch(agents, to, asks, shown))
    below += [_branch(agents, to, "hands over to", shown) for to in agent["hands_over_to"]]
    if agent["output"] is not None:
        below.append([f"output {_cut(short_schema(agent['output']))}"])
    if "remembers" in agent:
        below.append([f"remembers: {_WHOSE[agent['remembers']]}"])
    if agent["limits"]:
        limits = ", ".join(f"{key} {_plain(value)}" for key, value in agent["limits"].items())
        below.append([f"limits {limits}"])
    return [f"{head} on {agent['model']}", *_hung(below)]


def _hung(branches: Sequence[Sequence[str]]) -> Iterator[str]:
    for n, branch in enumerate(branches):
        last = n == len(branches) - 1
        for m, line in enumerate(branch):
            yield f"{'└─ ' if last else '├─ '}{line}" if m == 0 else f"{'   ' if last else '│  '}{line}"


def _shown_tool(tool: Mapping[str, Any], name: str) -> str:
    words = [tool["effect"], *(["approval"] if tool["approval"] else []), *tool["data"]]
    if "source" in tool:
        words.append(f"described by {tool['source']} (trusted: false)")
    return f"{name}: {', '.join(words)}"


def _plain(value: Any) -> str:
    return "none" if value is None else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= _WIDE else f"{text[: _WIDE - 3]}..."


def short_schema(schema: Any) -> str:
    """A JSON schema in few words: `{total: number, items: [string], note?: string}`."""
    if not isinstance(schema, Mapping):
        return "any"
    if "enum" in schema:
        return "|".join(json.dumps(one, ensure_ascii=False) for one in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list):
            return "|".join(short_schema(one) for one in schema[key])
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2] or "any"
    kind = schema.get("type")
    if isinstance(kind, list):
        return "|".join(kind)
    if kind == "array":
        return f"[{short_schema(schema.get('items', {}))}]"
    if kind == "object" and isinstance(schema.get("properties"), Mapping):
        required = schema.get("required", ())
        parts = (
            f"{name}{'' if name in required else '?'}: {short_schema(one)}"
            for name, one in schema["properties"].items()
        )
        return f"{{{', '.join(parts)}}}"
    return str(kind or "any")
