"""Which proxies there are, and whether they can be used: APIs, backends, sandboxes, environments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lllm.errors import ConfigError, LLMError
from lllm.hints import install_command, install_hint
from lllm.registry import Entry, registry

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.llm.proxies import Access
    from lllm.proxies import BaseProxy

FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    # family: kinds of the registry
    "api": ("proxy", "api"),
    "backend": ("backend",),
    "sandbox": ("sandbox",),
    "environment": ("environment",),
}
_OPENAI: Final[tuple[str, ...]] = ("OPENAI_API_KEY", "API_KEY")


class Found(NamedTuple):
    """A proxy and its state.

    Attributes:
        state: `ready`, `needs` (variables: `needs`), `missing` (a package), `unset` (an option that it cannot do without) or
            `broken`. hint: what to type.
        proxy: of an API that can be used.
        asked_for: whether the project has it: it is the project's own, or a system or `proxy_options` names it. What ships
            with lllm is there in every project.
    """

    family: str
    entry: Entry
    state: str = "ready"
    hint: str = ""
    needs: tuple[str, ...] = ()
    missing: str | None = None
    proxy: BaseProxy | None = None
    asked_for: bool = True

    @property
    def words(self) -> str:
        """The state for people."""
        if self.state == "needs":
            return f"needs {(' or ' if self.family == 'backend' else ', ').join(self.needs)}"
        if self.state == "unset":
            return "needs an option"
        return f"missing {self.missing}" if self.missing else self.state


def access_to(config: Config) -> Access:
    """The proxies of a project, whether a system uses them or not, with the settings of the configuration."""
    from lllm.discovery import look
    from lllm.llm.proxies import Access, runtime_of

    look(config)
    return Access(runtime_of(config), config, None)


def proxy_states(access: Access) -> Iterator[Found]:
    """Every proxy of every family. Loads the APIs: what they need is said by their classes."""
    named = _named(access.config)
    for family, kinds in FAMILIES.items():
        for kind in kinds:
            for entry in registry.entries(kind):
                ships = kind == "proxy" and entry.path.startswith("lllm.")
                yield _state(family, entry, access)._replace(asked_for=not ships or entry.name in named)


def _named(config: Config) -> set[str]:
    """The proxies that a configuration names: with options, as active, or by a tool."""
    found = {*config.proxies, *(config.activate_proxies or ())}
    for agent in config.agents.values():
        found.update(agent.activate_proxies or (), (tool.partition(".")[0] for tool in agent.tools))
    return found


def _state(family: str, entry: Entry, access: Access) -> Found:
    missing = entry.missing()
    if missing is not None:
        command = install_command(entry.extra, package=missing)
        return Found(family, entry, "missing", f"type {command}", missing=missing)
    if entry.kind == "proxy":
        return _of_api(family, entry, access)
    if entry.kind == "backend" and (needs := _missing_keys(entry.name, access.config)):
        return Found(family, entry, "needs", export(needs[:1]), needs=needs)
    return Found(family, entry)


def _of_api(family: str, entry: Entry, access: Access) -> Found:
    from lllm.proxies.base import needed_variables

    try:
        proxy = access.activate(entry.name)
        needs = tuple(
            name for name in needed_variables(proxy) if not access.runtime.variables.get(name, "").strip()
        )
    except ConfigError as error:
        state = "unset" if entry.path.startswith("lllm.") else "broken"
        words = f"{error.message}. {error.hint or ''}" if state == "broken" else _option_hint(entry, error)
        return Found(family, entry, state, words.strip())
    except LLMError as error:
        return Found(family, entry, "broken", f"{error.message}. {error.hint or ''}".strip())
    if needs:
        return Found(family, entry, "needs", export(needs), needs=needs, proxy=proxy)
    lacking = entry.lacking()
    hint = "" if lacking is None else f"{lacking[1]}. {install_hint(lacking[0])}"
    return Found(family, entry, hint=hint, proxy=proxy)


def _option_hint(entry: Entry, error: ConfigError) -> str:
    """Of a proxy that ships, which cannot be made without an option."""
    return f"{error.message}: [proxy_options.{entry.name}] in lllm.toml"


def _missing_keys(backend: str, config: Config) -> tuple[str, ...]:
    """The variables of which a backend needs one, where none is set."""
    from lllm.providers import PROVIDERS

    if backend == "openai":
        keys = _OPENAI
        if config.defaults.base_url or config.variable("OPENAI_BASE_URL"):
            return ()
    else:
        known = PROVIDERS.get(backend)
        keys = () if known is None or known.local else known.keys
    return () if any(config.variable(key) for key in keys) else keys


def export(names: tuple[str, ...]) -> str:
    """What to type to set variables."""
    return "type " + "; ".join(f"export {name}=..." for name in names) + ", or write it into .env"


def row_of(found: Found) -> dict[str, Any]:
    """A line of `lllm list proxies`."""
    entry = found.entry
    return {
        "kind": entry.kind,
        "family": found.family,
        "name": entry.name,
        "state": found.state,
        "needs": list(found.needs),
        "hint": found.hint,
        "endpoints": None if found.proxy is None else len(found.proxy.endpoints()),
        "summary": entry.summary,
        "source": entry.source,
        "missing": found.missing,
    }
