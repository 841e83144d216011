"""A system as a Mermaid flowchart: its stages, its agents, and what these reach."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from lllm.llm.overview import MOST

_LINKED: Final = ("tools", "asks", "hands_over_to")
"""What an agent reaches."""


def mermaid(system: Mapping[str, Any]) -> str:
    """The overview as a Mermaid flowchart. Stages follow one another; those within another are in its frame. Boxes are agents,
    rounded ones tools; a tool that needs approval has a thick line, a hand-off a dotted one."""
    lines = ["flowchart TD"]
    ids = {agent["name"]: f"a{n}" for n, agent in enumerate(system["agents"])}
    drawn = list(system["agents"])
    if system.get("steps"):
        stages = _Stages()
        lines += stages.chain(system["steps"])
        reached = {name for agent in drawn for name in (*agent["asks"], *agent["hands_over_to"])}
        drawn = [
            agent
            for agent in drawn
            if agent["name"] in reached
            or agent["name"] not in stages.agents
            or any(agent[key] for key in _LINKED)
        ]
        for agent in drawn:
            lines += [f"  {stage} -.- {ids[agent['name']]}" for stage in stages.agents.get(agent["name"], ())]
    elif system["start"] in ids:
        lines.append(f'  task(("task")) --> {ids[system["start"]]}')
    for agent in drawn:
        lines.append(f'  {ids[agent["name"]]}["{_label(agent["name"])}<br/>{_label(agent["model"])}"]')
    for agent in drawn:
        lines += _reached(agent, ids)
    return "\n".join(lines)


def _reached(agent: Mapping[str, Any], ids: Mapping[str, str]) -> Iterator[str]:
    """The tools of an agent, and its links to others."""
    me = ids[agent["name"]]
    if (more := len(agent["tools"]) - MOST) > 0:
        yield f'  {me} --> {me}more(["and {more} more"])'
    for n, tool in enumerate(agent["tools"][:MOST]):
        words = ", ".join([tool["effect"], *tool["data"]])
        name = _label(tool["endpoint"] or tool["name"])
        line = "==>|approval|" if tool["approval"] else "-->"
        yield f'  {me} {line} {me}t{n}(["{name}<br/>{words}"])'
    yield from (f"  {me} -->|asks| {ids[to]}" for to in agent["asks"] if to in ids)
    yield from (f"  {me} -.->|hands over| {ids[to]}" for to in agent["hands_over_to"] if to in ids)


class _Stages:
    """Draws stages. `agents`: the boxes of each agent that is one."""

    def __init__(self) -> None:
        self.agents: dict[str, list[str]] = {}
        self._count = 0

    def chain(self, whole: Mapping[str, Any]) -> list[str]:
        """The stages of a system, from the task on."""
        lines, first, _ = self._row(whole["members"], 1)
        return [*lines, f'  task(("task")) --> {first}']

    def _row(self, stages: Sequence[Mapping[str, Any]], depth: int) -> tuple[list[str], str, str]:
        """The lines of stages one after another, with the first and the last box."""
        lines: list[str] = []
        boxes: list[str] = []
        for stage in stages:
            more, box = self._stage({**stage, "part": None}, depth)
            lines += more
            boxes.append(box)
        space = "  " * depth
        lines += [f"{space}{one} --> {next_}" for one, next_ in itertools.pairwise(boxes)]
        return lines, boxes[0], boxes[-1]

    def _stage(self, stage: Mapping[str, Any], depth: int) -> tuple[list[str], str]:
        """The lines of a stage, and its box."""
        self._count += 1
        box, space = f"s{self._count}", "  " * depth
        members = stage.get("members", ())
        words = _words(stage)
        if not members:
            if stage["kind"] == "agent":
                self.agents.setdefault(stage["name"], []).append(box)
                words.append(stage["model"])
            return [f'{space}{box}["{"<br/>".join(map(_label, words))}"]'], box
        lines = [f'{space}subgraph {box}["{_label(", ".join(words))}"]', f"{space}  direction TB"]
        if stage["kind"] == "chain":
            lines += self._row(members, depth + 1)[0]
        else:
            boxes = []
            for member in members:
                more, inner = self._stage(member, depth + 1)
                lines += more
                boxes.append((member["part"], inner))
            lines += [f"{space}  {line}" for line in _LINES.get(stage["kind"], _none)(boxes)]
        return [*lines, f"{space}end"], box


def _words(stage: Mapping[str, Any]) -> list[str]:
    """The title of a stage: its part in the one around it, its name, how often."""
    part = stage["part"]
    kind, name = stage["kind"], stage["name"]
    made_up = name.startswith(f"{kind}(") or (kind == "chain" and " >> " in name)
    title = kind if made_up else name
    said = [f"{part}: {title}" if part and part != title else title]
    if "limit" in stage:
        said.append(f"at most {stage['limit']} at once")
    if "times" in stage:
        said.append(f"at most {stage['times']} times")
    return said


Boxes = Sequence[tuple[str, str]]


def _none(boxes: Boxes) -> list[str]:
    return []


def _route(boxes: Boxes) -> list[str]:
    (_, choose), *others = boxes
    return [f'{choose} -->|"{_label(part)}"| {box}' for part, box in others]


def _loop(boxes: Boxes) -> list[str]:
    step, *until = [box for _, box in boxes]
    return [f"{step} --> {step}"] if not until else [f"{step} --> {until[0]}", f"{until[0]} -->|no| {step}"]


def _retry(boxes: Boxes) -> list[str]:
    return [f"{boxes[0][1]} -.->|fails| {boxes[0][1]}"]


def _fallback(boxes: Boxes) -> list[str]:
    return [f"{one} -.->|fails| {other}" for (_, one), (_, other) in itertools.pairwise(boxes)]


_LINES: Final = {"route": _route, "loop": _loop, "retry": _retry, "fallback": _fallback}
"""The lines between the stages within one, by its kind."""


def _label(text: str) -> str:
    """Text that means nothing to Mermaid."""
    return "".join(one if one.isalnum() or one in " -_./:," else f"#{ord(one)};" for one in text)
