"""Settings: lllm.toml, YAML, environment and arguments -> one frozen Config. Nothing else reads any of them.

Read `keys.py` (all there is to set), then `load.py` (in which order). YAML and TOML parsers load when a file is read.
"""

from __future__ import annotations

from lllm.config.check import check
from lllm.config.load import find_project, load_config, load_project, read_config, variable
from lllm.config.problems import Problem, Problems, raise_errors
from lllm.config.schema import schema, table
from lllm.config.values import AgentConfig, CacheConfig, Config, DiscoveryConfig, LogConfig, SandboxConfig

__all__ = [
    "AgentConfig",
    "CacheConfig",
    "Config",
    "DiscoveryConfig",
    "LogConfig",
    "Problem",
    "Problems",
    "SandboxConfig",
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
