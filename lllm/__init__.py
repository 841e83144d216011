"""lllm runs systems of LLM agents from configuration. Every agent call is a deterministic state machine, and every
session is a log that re-executes.

    import lllm

    llm = lllm.LLM()                                  # what is configured, else the small embedded model
    print(llm("What is 17 times 23?", tools=[...]))

    agent = lllm.Agent("calculator", "openai/gpt-4o-mini", "Use the tools.", tools=[calculate])
    print(agent("What is 17 times 23?").parsed)

Names load on first touch: importing this package imports nothing else.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from lllm._version import __version__

if TYPE_CHECKING:
    from lllm.agents import BaseAgent as BaseAgent
    from lllm.agents import BasicAgent as BasicAgent
    from lllm.agents import ContextAgent as ContextAgent
    from lllm.backends.runner import BackendType as BackendType
    from lllm.backends.runner import BaseLLMRunner as BaseLLMRunner
    from lllm.backends.runner import DeviceType as DeviceType
    from lllm.backends.runner import LlamaCppRunner as LlamaCppRunner
    from lllm.backends.runner import LLMRunner as LLMRunner
    from lllm.backends.runner import LLMRunnerFactory as LLMRunnerFactory
    from lllm.backends.runner import ModelConfig as ModelConfig
    from lllm.backends.runner import TransformersRunner as TransformersRunner
    from lllm.backends.scripted import ScriptedBackend as ScriptedBackend
    from lllm.base import BaseLLM as BaseLLM
    from lllm.config import Config as Config
    from lllm.config import load_config as load_config
    from lllm.const import APITypes as APITypes
    from lllm.const import Modalities as Modalities
    from lllm.const import Providers as Providers
    from lllm.const import Roles as Roles
    from lllm.core.retry_policy import RetryPolicy as RetryPolicy
    from lllm.deltas import aggregate as aggregate
    from lllm.discovery import auto_discover as auto_discover
    from lllm.errors import LLMError as LLMError
    from lllm.errors import LLMInferenceError as LLMInferenceError
    from lllm.errors import LLMInitializationError as LLMInitializationError
    from lllm.llm.activity import activity as activity
    from lllm.llm.activity import now as now
    from lllm.llm.activity import random as random
    from lllm.llm.activity import uuid as uuid
    from lllm.llm.agent import Agent as Agent
    from lllm.llm.base_model import BaseModel as BaseModel
    from lllm.llm.build import build_agent as build_agent
    from lllm.llm.counting import count_tokens as count_tokens
    from lllm.llm.dialog import Dialog as Dialog
    from lllm.llm.model import LLM as LLM
    from lllm.llm.pins import pinned as pinned
    from lllm.llm.prompts import Prompts as Prompts
    from lllm.llm.resources import aenter as aenter
    from lllm.llm.resources import enter as enter
    from lllm.llm.sessions import arecord as arecord
    from lllm.llm.sessions import record as record
    from lllm.llm.streaming import Stream as Stream
    from lllm.llm.system import AgentBase as AgentBase
    from lllm.llm.system import AsyncAgentBase as AsyncAgentBase
    from lllm.llm.vllm import VLLMModel as VLLMModel
    from lllm.log import LocalFileLog as LocalFileLog
    from lllm.log import MemoryLog as MemoryLog
    from lllm.log import NoLog as NoLog
    from lllm.log import ReplayableLogBase as ReplayableLogBase
    from lllm.log import SQLiteLog as SQLiteLog
    from lllm.loops import Loop as Loop
    from lllm.loops import run as run
    from lllm.models.function import MCP as MCP
    from lllm.models.function import Function as Function
    from lllm.models.function import ToolContext as ToolContext
    from lllm.models.function import tool as tool
    from lllm.models.message import FunctionCall as FunctionCall
    from lllm.models.message import Message as Message
    from lllm.models.parts import File as File
    from lllm.models.parts import Image as Image
    from lllm.models.prompt import Prompt as Prompt
    from lllm.models.reply import Reply as Reply
    from lllm.models.reply import Usage as Usage
    from lllm.proxies import BaseProxy as BaseProxy
    from lllm.proxies import Proxy as Proxy
    from lllm.proxies import ProxyRegistrator as ProxyRegistrator
    from lllm.registry import registry as registry
    from lllm.replay import fork_session as fork_session
    from lllm.replay import replay_session as replay_session
    from lllm.replay import resume_session as resume_session
    from lllm.replay import whatif as whatif
    from lllm.sandbox import JupyterSession as JupyterSession
    from lllm.steps import Chain as Chain
    from lllm.steps import Step as Step
    from lllm.steps import StepStream as StepStream
    from lllm.steps import chain as chain
    from lllm.steps import fallback as fallback
    from lllm.steps import join as join
    from lllm.steps import loop as loop
    from lllm.steps import map as map
    from lllm.steps import parallel as parallel
    from lllm.steps import retry as retry
    from lllm.steps import route as route
    from lllm.steps import sink as sink
    from lllm.steps import step as step
    from lllm.steps import to_jsonl as to_jsonl
    from lllm.steps import to_parquet as to_parquet
    from lllm.steps import to_sqlite as to_sqlite
    from lllm.systems import ChainOfAgents as ChainOfAgents
    from lllm.systems import MultiCallSystem as MultiCallSystem
    from lllm.tokens import TokenCount as TokenCount
    from lllm.utils import Panels as Panels
    from lllm.utils import PrintSystem as PrintSystem
    from lllm.utils import StreamWrapper as StreamWrapper

_HOME = {
    "APITypes": "const",
    "Agent": "llm.agent",
    "AgentBase": "llm.system",
    "AsyncAgentBase": "llm.system",
    "BackendType": "backends.runner",
    "BaseAgent": "agents",
    "BaseLLM": "base",
    "BaseLLMRunner": "backends.runner",
    "BaseModel": "llm.base_model",
    "BaseProxy": "proxies",
    "BaseReward": "rl",
    "BasicAgent": "agents",
    "BestOf": "rl",
    "Chain": "steps",
    "ChainOfAgents": "systems",
    "Config": "config",
    "ContextAgent": "agents",
    "DPO": "rl.trainers",
    "DeviceType": "backends.runner",
    "Dialog": "llm.dialog",
    "Evaluation": "rl",
    "File": "models.parts",
    "Function": "models.function",
    "FunctionCall": "models.message",
    "GRPO": "rl.trainers",
    "Image": "models.parts",
    "JupyterSession": "sandbox",
    "KTO": "rl.trainers",
    "LLM": "llm.model",
    "LLMError": "errors",
    "LLMInferenceError": "errors",
    "LLMInitializationError": "errors",
    "LLMRunner": "backends.runner",
    "LLMRunnerFactory": "backends.runner",
    "LlamaCppRunner": "backends.runner",
    "LocalFileLog": "log",
    "Loop": "loops",
    "MCP": "models.function",
    "MemoryLog": "log",
    "Message": "models.message",
    "Modalities": "const",
    "ModelConfig": "backends.runner",
    "MultiCallSystem": "systems",
    "NoLog": "log",
    "PPO": "rl.trainers",
    "Panels": "utils",
    "PrintSystem": "utils",
    "Prompt": "models.prompt",
    "PromptSearch": "rl",
    "Prompts": "llm.prompts",
    "Providers": "const",
    "Proxy": "proxies",
    "ProxyRegistrator": "proxies",
    "RLEnv": "rl",
    "RLOO": "rl.trainers",
    "ReplayableLogBase": "log",
    "Reply": "models.reply",
    "RetryPolicy": "core.retry_policy",
    "Roles": "const",
    "Rollout": "rl",
    "SFT": "rl.trainers",
    "SQLiteLog": "log",
    "ScriptedBackend": "backends.scripted",
    "Step": "steps",
    "StepStream": "steps",
    "Stream": "llm.streaming",
    "StreamWrapper": "utils",
    "TokenCount": "tokens",
    "ToolContext": "models.function",
    "TransformersRunner": "backends.runner",
    "Usage": "models.reply",
    "VLLMModel": "llm.vllm",
    "activity": "llm.activity",
    "aenter": "llm.resources",
    "aggregate": "deltas",
    "arecord": "llm.sessions",
    "auto_discover": "discovery",
    "build_agent": "llm.build",
    "chain": "steps",
    "count_tokens": "llm.counting",
    "enter": "llm.resources",
    "fallback": "steps",
    "fork_session": "replay",
    "join": "steps",
    "load_config": "config",
    "loop": "steps",
    "map": "steps",
    "now": "llm.activity",
    "parallel": "steps",
    "pinned": "llm.pins",
    "random": "llm.activity",
    "record": "llm.sessions",
    "registry": "registry",
    "replay_session": "replay",
    "resume_session": "replay",
    "retry": "steps",
    "reward": "rl",
    "route": "steps",
    "run": "loops",
    "sink": "steps",
    "step": "steps",
    "to_jsonl": "steps",
    "to_parquet": "steps",
    "to_sqlite": "steps",
    "tool": "models.function",
    "uuid": "llm.activity",
    "whatif": "replay",
}

__all__ = [
    *(name for name in _HOME if name != "map"),
    "__version__",
]  # `import *` leaves Python's own map alone


_imported_by: tuple[str, ...] = ()
"""The files of the modules that were being imported, or run, when this package was, the innermost first."""
_frame = sys._getframe().f_back
while _frame is not None:
    if (_file := _frame.f_globals.get("__file__")) is not None and _file not in _imported_by:
        _imported_by += (_file,)
    _frame = _frame.f_back
del _frame


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        # a name that is a module too (registry) stays what the table says, for good
        value = globals()[name] = getattr(import_module(f"lllm.{_HOME[name]}"), name)
        return value
    from importlib import import_module
    from importlib.util import find_spec

    from lllm.porting import COMING, no_name

    if name not in COMING and not name.startswith("_") and find_spec(f"lllm.{name}") is not None:
        return import_module(f"lllm.{name}")
    raise no_name("lllm", name)


def __dir__() -> list[str]:
    return sorted([*__all__, "errors", "const", "models", "config", "log", "llm"])
