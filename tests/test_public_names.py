"""The public surface: what `lllm` offers, and the import paths that are promised. A name is added here on purpose."""

from importlib import import_module

import pytest

import lllm

NAMES = """
    APITypes Agent AgentBase AsyncAgentBase BackendType BaseAgent BaseLLM BaseLLMRunner BaseModel BaseProxy
    BaseReward BasicAgent BestOf Chain ChainOfAgents Config ContextAgent DPO DeviceType Dialog Evaluation File
    Function FunctionCall GRPO Image JupyterSession KTO LLM LLMError LLMInferenceError LLMInitializationError
    LLMRunner LLMRunnerFactory LlamaCppRunner LocalFileLog Loop MCP MemoryLog Message Modalities ModelConfig
    MultiCallSystem NoLog PPO Panels PrintSystem Prompt PromptSearch Prompts Providers Proxy ProxyRegistrator
    RLEnv RLOO ReplayableLogBase Reply RetryPolicy Roles Rollout SFT SQLiteLog ScriptedBackend Step StepStream
    Stream StreamWrapper TokenCount ToolContext TransformersRunner Usage VLLMModel __version__ activity aenter
    aggregate arecord auto_discover build_agent chain count_tokens enter fallback fork_session join load_config
    loop now parallel pinned random record registry replay_session resume_session retry reward route run sink
    step to_jsonl to_parquet to_sqlite tool uuid whatif
""".split()

PATHS = {
    # module: names of the documents that stand there
    "lllm.llm": ["LLM", "Agent", "AgentBase", "AsyncAgentBase", "Dialog", "Prompts", "build_agent"],
    "lllm.models": ["Prompt", "Message", "Function", "FunctionCall", "MCP", "Reply", "Usage", "tool"],
    "lllm.config": ["Config", "load_config", "find_project", "check", "schema"],
    "lllm.discovery": ["auto_discover"],
    "lllm.proxies": ["BaseProxy", "Proxy", "ProxyRegistrator"],
    "lllm.log": ["LocalFileLog", "MemoryLog", "NoLog", "ReplayableLogBase", "SQLiteLog", "open_store"],
    "lllm.const": ["APITypes", "Modalities", "Providers", "Roles"],
    "lllm.utils": ["Panels", "PrintSystem", "StreamWrapper"],
    "lllm.cli": ["main"],
    "lllm.errors": [
        "LLMError",
        "ConfigError",
        "CallError",
        "ParseError",
        "ProviderError",
        "ReplayDivergence",
    ],
    "lllm.backends.runner": [
        "BackendType",
        "BaseLLMRunner",
        "DeviceType",
        "LLMError",
        "LLMInferenceError",
        "LLMInitializationError",
        "LLMRunner",
        "LLMRunnerFactory",
        "LlamaCppRunner",
        "ModelConfig",
        "TransformersRunner",
    ],
    # paths of the documents' other projects
    "lllm.rl": ["BaseReward", "RLEnv", "reward"],
    "lllm.model": ["BaseModel", "LLM", "VLLMModel"],
    "lllm.agents": ["BaseAgent", "BasicAgent", "ContextAgent"],
    "lllm.systems": ["ChainOfAgents", "MultiCallSystem"],
    "lllm.base": ["BaseLLM", "BaseLLMRunner"],
    "lllm.exceptions": [
        "LLMError",
        "LLMInitializationError",
        "LLMInferenceError",
        "ConfigError",
        "ProviderError",
    ],
    "lllm.llm_runner": [
        "BackendType",
        "BaseLLMRunner",
        "DeviceType",
        "LLMError",
        "LLMInferenceError",
        "LLMInitializationError",
        "LLMRunner",
        "LLMRunnerFactory",
        "LlamaCppRunner",
        "ModelConfig",
        "TransformersRunner",
    ],
    "lllm.ports": [
        "Backend",
        "Capabilities",
        "Completed",
        "LogStore",
        "Record",
        "Request",
        "TextDelta",
        "Timeouts",
    ],
    "lllm.replay": ["replay_session"],
}


def test_the_package_offers_exactly_these_names() -> None:
    assert sorted(lllm.__all__) == sorted(NAMES)
    assert len(set(lllm.__all__)) == len(lllm.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_resolves_and_stays(name: str) -> None:
    found = getattr(lllm, name)
    assert found is not None
    assert getattr(lllm, name) is found
    assert name.startswith("__") or name in dir(lllm)


@pytest.mark.parametrize("path", PATHS)
def test_a_promised_path_imports_and_has_its_names(path: str) -> None:
    module = import_module(path)
    assert [name for name in PATHS[path] if not hasattr(module, name)] == []


def test_a_name_is_the_same_wherever_it_is_imported_from() -> None:
    for path, names in PATHS.items():
        for name in set(names) & set(NAMES):
            assert getattr(import_module(path), name) is getattr(lllm, name), f"{path}.{name}"


def test_a_name_that_is_none_says_so() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Agnet'"):
        _ = lllm.Agnet  # type: ignore[attr-defined]


def test_a_base_class_of_the_documents_is_the_one_that_is_used() -> None:
    assert issubclass(lllm.VLLMModel, lllm.BaseLLM)
    assert isinstance(lllm.LLM("scripted"), lllm.BaseLLM)
    old, here = import_module("lllm.exceptions"), import_module("lllm.errors")
    assert all(getattr(old, name) is getattr(here, name) for name in old.__all__)
    assert "DeadlineExceeded" in old.__all__
