"""What `auto` means: the first model that is configured, and why it is that one."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from lllm.errors import ConfigError
from lllm.llm.connect import offline
from lllm.providers import PROVIDERS

if TYPE_CHECKING:
    from lllm.config import AgentConfig, Config

KEYS: Final = (
    # variable that holds the key, root of the API, a small model of this provider
    ("OPENAI_API_KEY", "https://api.openai.com/v1", "gpt-5-mini"),
    *(
        (variable, provider.url, provider.small)
        for provider in PROVIDERS.values()
        if provider.small is not None
        for variable in provider.keys
    ),
)
"""The providers that a key in the environment leads to, in this order; all are reached by the `openai` backend."""

keep: ContextVar[Mapping[str, Sequence[str]] | None] = ContextVar("lllm_keep", default=None)
"""Set while a session is gone on with: the models that each agent had. `auto` means one of them still, if it can be had."""

WAIT: Final = 0.2
"""Seconds that an endpoint has to take a connection, and then to say which models it has."""


class Choice(NamedTuple):
    """A model that was chosen.

    Attributes:
        model: its name, as `connect` takes it.
        why: why it was chosen, in words that may stand in a log.
        options: for the backend: base_url, api_key. Never to be shown.
        passed: what came before it and could not be taken, and why.
    """

    model: str
    why: str
    options: Mapping[str, Any] = {}
    passed: tuple[str, ...] = ()


def choose(config: Config, agent: AgentConfig | str = "") -> Choice:
    """The model of an agent: a configured one, or the name of one that the configuration does not mention.

    In this order: the model that is named; a provider whose key is in the environment or `.env`; an endpoint that was
    named (`base_url`, API_URL, OPENAI_BASE_URL) and answers; a file that lllm.toml names in [models], which is there and
    whose backend is installed; the embedded model. In a replay, what `auto` meant when the session was recorded is not a
    change of the project.
    """
    given = config.defaults if isinstance(agent, str) else agent
    who = agent if isinstance(agent, str) else agent.name
    recorded = (offline.get() or {}).get(who, ())
    before = (keep.get() or {}).get(who, ())
    for name, key in ((given.model_name, _key_of(given)), (config.model, "model")):
        if name not in (None, "", "auto"):
            return Choice(name, f"named by {config.origin(key)}", _endpoint_of(given))
    passed: list[str] = []
    if recorded:  # of several, some were named: the one that could be found here, and nobody is asked
        here = [choice.model for choice in (*_keys(config), *_files(config, passed))]
        return Choice(next((m for m in (*here, "embedded") if m in recorded), recorded[0]), "recorded")
    found = (*_keys(config), *_endpoint(config, given, passed), *_files(config, passed))
    if before and not {"embedded", *(choice.model for choice in found)}.intersection(before):
        raise ConfigError(
            f"agent '{who}' had the model '{before[0]}', which auto does not find any more",
            hint="Restore its key or file, or continue with another model: lllm fork ID --model ...",
        )
    for choice in found:
        if not before or choice.model in before:
            return choice._replace(passed=tuple(passed))
    return Choice("embedded", "nothing else is configured", passed=tuple(passed))


def _key_of(agent: AgentConfig) -> str:
    return f"agent_configs.{agent.name}.model_name" if agent.name else "model"


def _endpoint_of(agent: AgentConfig) -> dict[str, Any]:
    """What goes to the backend beside the agent's own options."""
    given = {"base_url": agent.base_url, "api_key": agent.api_key}
    return {key: value for key, value in given.items() if value}


def _keys(config: Config) -> Iterator[Choice]:
    for variable, url, model in KEYS:
        if variable == "OPENAI_API_KEY" and config.variable("OPENAI_BASE_URL"):
            continue  # a key belongs to the endpoint that it stands beside
        if key := config.variable(variable):
            yield Choice(f"openai/{model}", f"{variable} is set", {"base_url": url, "api_key": key})


def _endpoint(config: Config, agent: AgentConfig, passed: list[str]) -> Iterator[Choice]:
    """The endpoint that somebody named, if it answers and says which models it has."""
    named, where, key = agent.base_url, config.origin("base_url"), agent.api_key
    if agent.name and named and named != config.defaults.base_url:
        where = config.origin(f"agent_configs.{agent.name}.base_url")
    if not named:
        named, where = config.variable("OPENAI_BASE_URL"), "environment variable OPENAI_BASE_URL"
        key = config.variable("OPENAI_API_KEY")
    if not named:
        return
    models = _models_at(named, key)
    if not models:
        passed.append(f"the endpoint of {where} {'does not answer' if models is None else 'names no models'}")
        return
    options = {"base_url": named, **({"api_key": key} if key else {})}
    yield Choice(f"openai/{models[0]}", f"the endpoint of {where} answers", options)


def _models_at(url: str, key: str | None) -> list[str] | None:
    """The models of an endpoint; None where nobody listens."""
    from http.client import HTTPConnection, HTTPException, HTTPSConnection

    split = urlsplit(url if "://" in url else f"http://{url}")
    secure = split.scheme == "https"
    try:
        host, port = split.hostname or "", split.port or (443 if secure else 80)
        socket.create_connection((host, port), timeout=WAIT).close()
        connection = (HTTPSConnection if secure else HTTPConnection)(host, port, timeout=WAIT)
    except (OSError, ValueError):
        return None
    path = split.path.rstrip("/")
    try:
        for place in dict.fromkeys((f"{path}/models", f"{path}/v1/models")):
            connection.request("GET", place, headers={"Authorization": f"Bearer {key}"} if key else {})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status == 200:
                return [str(entry["id"]) for entry in json.loads(body)["data"]]
    except (OSError, HTTPException, ValueError, KeyError, TypeError, RecursionError):
        return []
    finally:
        connection.close()
    return []


def _files(config: Config, passed: list[str]) -> Iterator[Choice]:
    from lllm.registry import registry

    for name, local in config.models.items():
        if not local.path.exists():
            passed.append(f"models.{name}: there is no {local.path.name}")
        elif not registry.has("backend", local.backend):
            passed.append(f"models.{name}: there is no backend '{local.backend}'")
        elif (missing := registry.entry("backend", local.backend).missing()) is not None:
            passed.append(f"models.{name}: {local.backend} needs the package '{missing}'")
        else:
            yield Choice(name, f"models.{name} is there ({config.origin(f'models.{name}')})")
