"""A digest of the settings of the policy and the environment, which distinguishes rollouts of one run name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lllm.core.canonical import digest_of
from lllm.core.jsonable import jsonable, unicode_only
from lllm.llm.agent import Agent

if TYPE_CHECKING:
    from lllm.rl.environment import RLEnv


def settings_digest(env: RLEnv, policy: Any) -> str:
    """Returns a digest of settings: name, turns and stages of the environment; model, prompts, sampling, tools and limits of an
    agent; the name of a function. Code is not included, so that a hook can be fixed between a crash and the next run."""
    stages = [
        name for name in ("setup", "opening", "step", "done") if getattr(env, f"{name}_hook") is not None
    ]
    found: dict[str, Any] = {
        "environment": env.name,
        "max_turns": env.max_turns,
        "auto_execute_tools": env.auto_execute_tools,
        "stages": stages,
    }
    if isinstance(policy, Agent):
        own = policy._settings
        found["policy"] = {
            "model": own.model_name,
            "prompts": [None if one is None else one.prompt for one in (policy.system_prompt, policy.prompt)],
            "sampling": own.sampling,
            "tools": [[one.name, one.schema_hash] for one in own.tools],
            "execute": own.execute,
            "format": own.format,
            "limits": own.limits,
            "tool_style": own.tool_style,
        }
    else:
        found["policy"] = (
            f"{getattr(policy, '__module__', '')}:{getattr(policy, '__qualname__', type(policy).__name__)}"
        )
    return digest_of(unicode_only(jsonable(found))).removeprefix("sha256:")[:16]
