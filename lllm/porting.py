"""Names used by other projects and their equivalents here, for error messages and for a table in the docs.

Each table is consulted when one of its names is looked up but does not exist, so the first error of a ported program
names the equivalent. The tables make nothing work; a name that can work unchanged exists already.
"""

from __future__ import annotations

import sys
from typing import Final

LATER: Final = "not in this version"

NAMES: Final = {
    # of modules: `from lllm import NAME`, `from lllm.llm import NAME`
    "LLMCaller": "lllm.LLM, or the openai backend: LLM('openai/gpt-4o')",
    "LLMResponder": "lllm.LLM with options={'api': 'responses'}",
    "OpenAIProvider": "lllm.backends.openai.OpenAIBackend, or a name: 'openai/gpt-4o'",
    "BaseProvider": "lllm.ports.Backend",
    "PROMPT_REGISTRY": "lllm.registry, or Prompts()",
    "AGENT_REGISTRY": "lllm.registry: registry.get('agent', name)",
    "register_prompt": "lllm.registry.add('prompt', path, prompt); [discovery] prompts does it for you",
    "register_agent_class": "a class with an agent_type, which registers itself",
    "get_agent_class": "lllm.registry.get('agent', name)",
    "AgentException": "lllm.errors.ParseError",
    "ClassificationError": "lllm.errors.ParseError",
    "build_log_base": "lllm.log.open_store(type, folder)",
    "find_model_card": "lllm.const.card(name)",
    "DPOTrainer": "lllm.DPO(model, **config), in an environment: (env >> DPO(model)).train()",
    "PPOTrainer": "lllm.GRPO(model, num_iterations=2), in an environment: PPO's clipped objective; TRL has no PPO since 1.13",
    "GRPOTrainer": "lllm.GRPO(model, **config), in an environment: (env >> GRPO(model)).train()",
}

_ROWS: Final = "Ask for all rows at once, llm([text, ...]), and score the replies in Python; within lllm.record() that resumes."

COMING: Final = {
    # names and modules of later versions, with what does their work until then; one that is built leaves this table
    "DataProcessor": "Make a chain of the transforms and give it the items: (step(clean) >> tokenize).batch(dataset).",
    "Evaluator": _ROWS,
    "tools.cua": "Give the agent tools of your own: functions that drive a browser, tools=[click, read_page].",
}

PROJECT_KEYS: Final = {
    # of lllm.toml
    "prompts": '[discovery] prompts = ["FOLDER"]',
    "proxies": '[discovery] proxies = ["FOLDER"]; their settings: [proxy_options.NAME]',
    "agents": '[discovery] agents = ["FOLDER"]',
    "tools": '[discovery] tools = ["FOLDER"]',
    "folders": '[discovery] prompts = ["FOLDER"]',
    "model": '[run] model = "PROVIDER/MODEL"',
    "model_name": '[run] model = "PROVIDER/MODEL"',
    "name": '[project] name = "NAME"',
}

SYSTEM_KEYS: Final = {
    # of a system's YAML file, at the top or in an agent
    "api_type": "options: {api: responses}",
    "max_query_retry": "max_provider_retry",
    "llm_provider": "the part of model_name before the slash: openai/gpt-4o",
    "provider": "the part of model_name before the slash: openai/gpt-4o",
    "backend": "the part of model_name before the slash: llama_cpp/FILE.gguf",
    "model_path": "model_name: llama_cpp/FILE.gguf, or transformers/FOLDER",
    "api_url": "base_url",
    "default_max_tokens": "max_tokens",
    "default_temperature": "temperature",
    "max_retries": "max_provider_retry",
    "timeout": "timeouts: {total: SECONDS}",
    "functions": "tools",
    "mcp_servers": LATER,
    "discovery": "lllm.toml has it",
}

SYSTEM: Final = {
    # attributes of AgentBase
    "st": "self.stream",
    "_stream": "self.stream",
    "_log_base": "self.store",
    "log_base": "self.store",
    "agent_configs": "self.config.agents",
    "llm_provider": "self.agents[NAME].model",
    "llm_caller": "self.agents[NAME]",
    "set_st": "self.stream, which is there from the start",
    "restore_st": "self.stream, which is there from the start",
    "silent": "build_agent(..., stream=None)",
    "restore": "build_agent(..., stream=STREAM)",
}

AGENT: Final = {
    # attributes of Agent
    "run": "agent(text).content; lllm.agents.BasicAgent has it",
    "generate": "agent(text).content",
    "chat": "agent(text)",
    "agent_id": "agent.name",
    "reload_system": "agent.with_(system_prompt=...)",
    "model_args": "agent.with_(temperature=...), or a keyword of the call",
    "llm_provider": "agent.model",
    "log_base": "agent.store",
    "_stream_and_aggregate": "lllm.aggregate(deltas)",
}

DIALOG: Final = {
    # attributes of Dialog
    "send_message": "agent.send_message(dialog, prompt, {...}), or dialog.append(text)",
    "add_message": "dialog.append(text)",
    "overview": "dialog.markdown()",
    "tail": "dialog.messages[-1]",
    "top_prompt": "dialog.prompt",
    "to_dicts": "dialog.to_dict()",
}

FORMS: Final = (
    # notation rather than names
    (
        "response, dialog, calls = agent.call(dialog)",
        "reply = agent.call(dialog): reply.parsed, reply.messages",
    ),
    ("dialog.send_message(prompt, args); agent.call(dialog)", "agent.call(prompt, args)"),
    (
        "build_agent(config, ckpt_dir, stream, agent_type=...)",
        "build_agent(config, ckpt_dir, stream, agent_name=...)",
    ),
    ("model_name: gpt-4o", "model_name: openai/gpt-4o"),
)

TABLES: Final = (
    # title, table, the form of a name in it
    ("Names", NAMES, "{}"),
    ("Names of later versions, and what to do until then", COMING, "lllm.{}"),
    ("Keys of lllm.toml", PROJECT_KEYS, "{}"),
    ("Keys of a system's YAML file", SYSTEM_KEYS, "{}"),
    ("A system (`AgentBase`)", SYSTEM, "self.{}"),
    ("An agent", AGENT, "agent.{}"),
    ("A dialog", DIALOG, "dialog.{}"),
)


def hint(here: str) -> str:
    """The sentence of a message about a name used by another project."""
    return f"Here it is {here}." if here.startswith(LATER) else f"Here it is called: {here}"


def no_name(module: str, name: str) -> AttributeError | ImportError:
    """The error for a name that a module does not have: an ImportError for `from module import name`, because Python
    would replace the message of an AttributeError."""
    importing = sys._getframe(2).f_code.co_name == "_handle_fromlist"
    if name in COMING:
        from lllm.errors import LaterAttribute, LaterImport

        return (LaterImport if importing else LaterAttribute)(f"{module}.{name}", COMING[name])
    words = f"module '{module}' has no attribute '{name}'"
    if name not in NAMES:
        return AttributeError(words)
    told = f"{words}. {hint(NAMES[name])}"
    return ImportError(told, name=module) if importing else AttributeError(told)


def no_module(module: str) -> ImportError:
    """The error for the import of a module of a later version."""
    from lllm.errors import LaterImport

    return LaterImport(module, COMING[module.removeprefix("lllm.")])


def no_attribute(thing: object, name: str, table: dict[str, str]) -> AttributeError:
    """The error for a missing attribute of an object."""
    words = f"'{type(thing).__name__}' object has no attribute '{name}'"
    return AttributeError(f"{words}. {hint(table[name])}" if name in table else words)
