"""What the system does with a task."""

from typing import Any

from lllm import AgentBase


class Vanilla(AgentBase):
    """Gives the task to one agent, which may use its tools, and returns what it answers."""

    agent_type = "vanilla"
    agent_group = ["vanilla"]

    def call(self, task: str, **more: Any) -> str:
        reply = self.agents["vanilla"].call("%%name%%/task_query", {"task": task})
        return reply.parsed.first("answer")
