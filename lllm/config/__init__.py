"""Settings: lllm.toml, YAML, environment and arguments -> one frozen Config. Nothing else reads any of them.

Read `keys.py` (all there is to set), then `load.py` (in which order). Names load on first touch; the parsers of YAML
and TOML when a file is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lllm.config.load import load_config as load_config
    from lllm.config.load import load_project as load_project
    from lllm.config.load import read_config as read_config
    from lllm.config.load import variable as variable
    from lllm.config.problems import Problem as Problem
    from lllm.config.problems import Problems as Problems
    from lllm.config.problems import raise_errors as raise_errors
    from lllm.config.project import find_project as find_project
    from lllm.config.schemas import schema as schema
    from lllm.config.schemas import table as table
    from lllm.config.values import AgentConfig as AgentConfig
    from lllm.config.values import CacheConfig as CacheConfig
    from lllm.config.values import Config as Config
    from lllm.config.values import DiscoveryConfig as DiscoveryConfig
    from lllm.config.values import LocalModel as LocalModel
    from lllm.config.values import LogConfig as LogConfig
    from lllm.config.values import ProxyConfig as ProxyConfig

_HOME = {
    "load_config": "load",
    "load_project": "load",
    "read_config": "load",
    "variable": "load",
    "Problem": "problems",
    "Problems": "problems",
    "raise_errors": "problems",
    "find_project": "project",
    "schema": "schemas",
    "table": "schemas",
    "AgentConfig": "values",
    "CacheConfig": "values",
    "Config": "values",
    "DiscoveryConfig": "values",
    "LocalModel": "values",
    "LogConfig": "values",
    "ProxyConfig": "values",
}

__all__ = [
    "AgentConfig",
    "CacheConfig",
    "Config",
    "DiscoveryConfig",
    "LocalModel",
    "LogConfig",
    "Problem",
    "Problems",
    "ProxyConfig",
    "check",
    "find_project",
    "load_config",
    "load_project",
    "raise_errors",
    "read_config",
    "schema",
    "table",
    "variable",
]


def __getattr__(name: str) -> Any:
    if name == "check":
        # A configuration is checked by building what it describes, in a layer that this one must not import: it is looked
        # up by name on first use, like a plug-in.
        from importlib import import_module

        return import_module("lllm.llm.build").check
    if name not in _HOME:
        raise AttributeError(f"module 'lllm.config' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"lllm.config.{_HOME[name]}"), name)
