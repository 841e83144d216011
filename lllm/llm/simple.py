"""The built-in system: one agent, no code. What a YAML file without `agent_type` gets."""

from __future__ import annotations

from typing import Any

from lllm.errors import ConfigError
from lllm.llm.system import AgentBase
from lllm.models.message import Message


class Simple(AgentBase):
    """Gives the task to the one agent that the configuration declares."""

    agent_type = "simple"

    def call(self, task: str, **more: Any) -> Any:
        """The agent's payload. The agent's `prompt` gets the task as `{task}`; without one, the task is the message."""
        if len(self.agents) != 1:
            raise ConfigError(
                f"the built-in system runs exactly one agent; {len(self.agents)} are declared",
                hint="Write a system: a subclass of AgentBase with an agent_type, and name it in agent_type.",
                where=str(self.config.file) if self.config.file else None,
            )
        (agent,) = self.agents.values()
        if agent.prompt is None:
            return agent.call(
                Message("user", task), **more
            ).parsed  # a task is text, also when it looks like a path
        return agent.call(None, {"task": task}, **more).parsed
