"""The built-in system: agents, no code. What a YAML file without `agent_type` gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lllm.errors import ConfigError, PromptError
from lllm.llm.system import AgentBase
from lllm.llm.team import Team
from lllm.models.message import Message

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.llm.agent import Agent


class Simple(AgentBase):
    """Gives the task to the agent that the configuration declares; of several, to the one that `start` names or that no
    other agent reaches."""

    agent_type = "simple"

    @classmethod
    def check_agents(cls, config: Config, agents: Mapping[str, Agent]) -> None:
        """Requires an agent to begin with, whose prompts need nothing but the task."""
        if not agents:
            raise ConfigError(
                "the built-in system runs the agents of agent_configs, and none is declared",
                hint="Declare one under agent_configs, or write a system: a subclass of AgentBase, named in agent_type.",
            )
        name = Team(config).start()
        agent = agents[name]
        try:
            if agent.prompt is not None:
                agent._prepare(None, {"task": "task"}, {})
            else:
                agent._prepare(Message("user", "task"), {}, {})
        except PromptError as error:
            raise ConfigError(
                f"the built-in system passes only a task to the agent '{name}': {error.message}",
                hint=error.hint,
            ) from error

    def call(self, task: str, **more: Any) -> Any:
        """Returns the agent's payload. The agent's `prompt` receives the task as `{task}`; without a prompt, the task is
        the message."""
        agent = self.agents[Team(self.config).start()]
        if agent.prompt is None:
            return agent.call(
                Message("user", task), **more
            ).parsed  # a task is text, also when it looks like a path
        return agent.call(None, {"task": task}, **more).parsed
