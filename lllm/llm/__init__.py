"""LLM, Agent, AgentBase, AsyncAgentBase, Prompts, build_agent: what people call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lllm.llm.agent import Agent as Agent
    from lllm.llm.build import build_agent as build_agent
    from lllm.llm.dialog import Dialog as Dialog
    from lllm.llm.model import LLM as LLM
    from lllm.llm.prompts import Prompts as Prompts
    from lllm.llm.system import AgentBase as AgentBase
    from lllm.llm.system import AsyncAgentBase as AsyncAgentBase
    from lllm.llm.vllm import VLLMModel as VLLMModel

_HOME = {
    "LLM": "model",
    "Agent": "agent",
    "AgentBase": "system",
    "AsyncAgentBase": "system",
    "Dialog": "dialog",
    "Prompts": "prompts",
    "VLLMModel": "vllm",
    "build_agent": "build",
}
__all__ = ["LLM", "Agent", "AgentBase", "AsyncAgentBase", "Dialog", "Prompts", "VLLMModel", "build_agent"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        from lllm.porting import no_name

        raise no_name("lllm.llm", name)
    from importlib import import_module

    return getattr(import_module(f"lllm.llm.{_HOME[name]}"), name)
