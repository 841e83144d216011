"""The coding agent: `agent_type: coder` alone is a whole system."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lllm.core.code_tools import PYTHON
from lllm.errors import ConfigError
from lllm.llm.entry import relative
from lllm.llm.system import AgentBase
from lllm.models.message import Message

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.llm.agent import Agent

NAME: Final = "coder"


class Coder(AgentBase):
    """Solves a task by writing and running code, and leaves the notebook.

    Its agent `coder` needs no declaration; what agent_configs says of it (`model_name`, `tool_style`, `tools`, limits) replaces
    values of `lllm.config.presets`. Each session has a notebook of its own, `ID/coder.ipynb` in the folder `sandbox.dir`, with
    the files that its cells wrote in `ID/files`.
    """

    agent_type = NAME
    agent_group = [NAME]  # noqa: RUF012

    @classmethod
    def check_agents(cls, config: Config, agents: Mapping[str, Agent]) -> None:
        """Requires an agent that runs code."""
        super().check_agents(config, agents)
        if not any(tool.name == PYTHON for tool in agents[NAME].tools):
            raise ConfigError(
                f"the agent '{NAME}' has no tool '{PYTHON}', with which it would run code",
                hint=f"Remove sandbox from agent_configs.{NAME}, or write sandbox: jupyter.",
            )

    def call(self, task: str, **more: Any) -> Any:
        """Returns the agent's answer, and displays where its notebook is."""
        agent = self.agents[NAME]
        given = (Message("user", task),) if agent.prompt is None else (None, {"task": task})
        try:
            return agent.call(*given, **more).parsed
        finally:
            self.stream.caption(f"Notebook: {self.notebook}")

    @property
    def notebook(self) -> Path:
        """The notebook of the running session, or of the last one. It is there when the first cell has run."""
        folder = Path(relative(self.config.sandbox.dir, self.config.root))
        return folder / self.session.id / f"{NAME}.ipynb"
