"""The tools of an agent whose code runs in a sandbox: `sandbox: jupyter`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from lllm.errors import ConfigError, DependencyError, NameTakenError, UnknownNameError
from lllm.llm.connect import offline
from lllm.llm.project import project
from lllm.llm.sandbox_files import copied_files
from lllm.registry import registry

if TYPE_CHECKING:
    from lllm.config import AgentConfig, Config
    from lllm.llm.assembly import At
    from lllm.llm.proxies import Access
    from lllm.models.function import Function
    from lllm.session import Session


CATALOGUE: Final = 800
"""Tokens of the list of endpoints that the tool `python` has for `CALL_API`."""


def assemble_sandbox(
    config: Config, declared: AgentConfig, others: Sequence[Function], access: Access, at: At
) -> list[Function]:
    """The tools of an agent's sandbox; [] where it has none, or after a problem, which is added.

    Each session has a sandbox of its own, which is made when its first tool is called."""
    if not declared.sandbox:
        return []
    key = f"agent_configs.{declared.name}.sandbox"
    tools = at.key(key, _tools, config, declared, access) or []
    taken = {tool.name for tool in others}
    for tool in tools:
        if tool.name in taken:
            error = NameTakenError(
                f"two tools are named '{tool.name}': one of the sandbox and another of `tools`",
                hint="Rename the other one, or remove it from `tools`.",
            )
            at.add(key, error)
    return tools


def _tools(config: Config, declared: AgentConfig, access: Access) -> list[Function]:
    assert declared.sandbox is not None
    return _of_style(of_config(config, declared.sandbox, declared.name, access), declared.tool_style)


def sandbox_tools(
    sandbox: Any, agent: str, style: str = "auto", access: Access | None = None
) -> list[Function]:
    """The tools of what an agent was given as its `sandbox`.

    Args:
        sandbox: a JupyterSession, or the name of a registered sandbox, of which each session then has its own, as the
            project's configuration says.
        style: the agent's `tool_style`. access: the proxies whose endpoints its cells may call.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(sandbox, str):
        return _of_style(of_config(project(), sandbox, agent, access), style)
    make = getattr(sandbox, "as_tools", None)
    if make is None or isinstance(sandbox, type):
        raise ConfigError(
            f"sandbox must be a JupyterSession or the name of a registered sandbox, got {sandbox!r:.80}",
            hint='Write sandbox="jupyter", or sandbox=JupyterSession("NAME", "FOLDER").',
        )
    return _of_style(make(), style)


def _of_style(tools: Sequence[Function], style: str) -> list[Function]:
    """Without `files` where the model writes code, which does that."""
    return [tool for tool in tools if style != "code" or tool.name != "files"]


def of_config(config: Config, name: str, agent: str, access: Access | None = None) -> tuple[Function, ...]:
    """The tools of a registered sandbox, of which each session has its own. `access`: the proxies whose endpoints its cells may
    call."""
    entry = registry.entry("sandbox", name)
    if (missing := entry.missing()) is not None and entry.extra is not None:
        raise DependencyError(missing, entry.extra, f"the sandbox '{name}'")
    kind = registry.get("sandbox", name)
    if not callable(kind):
        raise ConfigError(f"the sandbox '{name}' must be a class, got {kind!r}")
    from lllm.sandbox.isolation.tiers import REFUSED, choose
    from lllm.sandbox.tools import OfSession

    if config.sandbox.tier in REFUSED:
        choose(config.sandbox.tier)  # raises: it says why
    keywords, calls = options(config), ""
    if access is not None and access.names is not None and access.paths:
        keywords["proxy"], calls = Allowed(access), access.catalog(CATALOGUE)

    def make(session: Session) -> Any:
        return kind(agent, config.sandbox.dir / session.id, **keywords)

    if offline.get() is None:  # a replay has their contents
        copied_files(config)  # so that what is missing is known before anything runs
    files = (lambda: copied_files(config)) if config.sandbox.files else None
    return OfSession(make, config.sandbox.broken, calls, files).as_tools()


class Allowed:
    """The endpoints that an agent's cells may call: those of the proxies that it activates."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def acall(self, address: str, params: Mapping[str, Any] | None = None, /) -> Any:
        """See `lllm.Proxy.acall`. Raises UnknownNameError for endpoints of other proxies."""
        self._check(address)
        return await self._access.runtime.acall(address, params)

    def needs_approval(self, address: str) -> bool:
        """See `lllm.Proxy.needs_approval`."""
        self._check(address)
        return self._access.runtime.needs_approval(address)

    def _check(self, address: str) -> None:
        runtime, allowed = self._access.runtime, self._access.paths
        if address.rpartition(".")[0] not in allowed:
            known = [one.address for path in allowed for one in runtime.proxies[path].endpoints().values()]
            raise UnknownNameError("endpoint", address, known)


def options(config: Config) -> dict[str, Any]:
    """The keywords with which a sandbox of a configuration is made."""
    given = config.sandbox
    return {
        "tier": given.tier,
        "required": given.required,
        "resume": given.resume,
        "warm": given.warm,
        "preload": given.preload,
        "limits": {
            "cell_seconds": given.timeout,
            "memory_bytes": given.memory * 2**20,
            "processes": given.processes,
            "disk_bytes": given.disk * 2**20,
        },
    }
