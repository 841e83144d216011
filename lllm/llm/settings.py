"""What an agent is made of, besides its prompts, and how one call changes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from lllm.core.code_text import Tags
from lllm.core.retry_policy import RetryPolicy
from lllm.core.spec import Limits
from lllm.core.window import Window
from lllm.errors import ConfigError, nearest, not_yet
from lllm.handles import is_tool_source
from lllm.llm.approval_rules import NONE as NO_RULES
from lllm.llm.approval_rules import Rules
from lllm.llm.checks import (
    limits_of,
    mapping_of,
    name_of,
    parse_code_tags,
    parse_tool_style,
    sampling_of,
    timeouts_of,
)
from lllm.llm.connect import connect, made_by
from lllm.llm.construction import model_for
from lllm.llm.handoff import handoffs_of
from lllm.llm.measuring import parse_window
from lllm.llm.project import project
from lllm.llm.proxies import Access, access_of_code, is_address
from lllm.llm.retrying import OF_RETRY, parse_retry, with_limits
from lllm.models.function import Function, as_function, tools_in, without_repeats
from lllm.plug_ins import guarded
from lllm.ports import Backend, Timeouts


@dataclass(slots=True)
class Settings:
    """What an agent is made of, besides its prompts. The bound form of a YAML agent, or of `Agent(...)`'s arguments."""

    name: str
    backend: Backend
    model: str
    model_name: str
    tools: tuple[Function, ...] = ()
    handoffs: tuple[Function, ...] = ()
    approval: Rules = NO_RULES
    sampling: Mapping[str, Any] = field(default_factory=dict)
    format: Any = None
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    retry: RetryPolicy | None = None
    approve: Callable[..., Any] | None = None
    execute: bool = True
    debug: bool = False
    tool_style: str = "auto"
    code_tags: Tags | None = None
    window: Window | None = None
    why: str | None = None
    find_tool: Callable[[str], tuple[Function, ...]] | None = None
    """Finds tools that prompts name; None for those of the project."""


class Opened(NamedTuple):
    """A model that is there to be asked. The fields are those of Settings."""

    backend: Backend
    model: str
    model_name: str
    why: str | None


def open_model(model: Any, options: Mapping[str, Any] | None, agent: str) -> Opened:
    """Opens an agent's model: the named one, or what `auto` chooses, with the reason. In the constructor of a system that
    was given a model, `auto` is that model."""
    why: str | None = None
    if model == "auto":
        model = model_for(None) or model
    if model == "auto":
        from lllm.llm.auto import choose

        choice = choose(project(), agent)
        given = mapping_of("options", options)
        model, options, why = choice.model, {**choice.options, **given}, choice.why
    return Opened(*connect(model, options), why)


def approver_of(value: Any) -> Callable[..., Any] | None:
    """The function that approves. ConfigError where it is none."""
    if value is not None and not callable(value):
        raise ConfigError(
            f"approve must be a function of the FunctionCall, got {value!r:.80}",
            hint="approve=lambda call: True approves of everything; approval=[...] names the tools that need it.",
        )
    return value  # type: ignore[no-any-return]


def debug_of(value: Any) -> bool:
    """Whether panels are shown. ConfigError where it is neither True nor False."""
    if not isinstance(value, bool):
        raise ConfigError(
            f"debug must be True or False, got {value!r:.80}", hint="debug=True shows panels on stderr."
        )
    return value


def recordable(overrides: Iterable[str], made: Settings, before: Settings) -> list[str]:
    """The names among these overrides whose values the log has: sampling values and limits."""
    return [
        name
        for name in overrides
        if name in made.limits._fields or name in made.sampling or name in before.sampling
    ]


def override(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Settings with some values replaced; a key that is no setting is a sampling value."""
    known: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    sampling = dict(settings.sampling)
    changes = without_later(changes)
    if (
        made := made_by(changes.get("model"))
    ) is not None:  # an LLM has its own settings, which those of this call override
        sampling.update(made._settings.sampling)
        known["timeouts"] = made._settings.timeouts
    for key, value in changes.items():
        if key in ("read", "system_prompt") or (key == "sandbox" and not value):  # the agent's own affair
            continue
        if key == "tools":
            known["tools"] = tools_of(value, settings.find_tool)
        elif key == "approval":
            known[key] = Rules.of(value)
        elif key == "handoffs":
            known["handoffs"] = handoffs_of(value)
        elif key == "model":
            known.update(
                open_model(value, changes.get("options"), changes.get("name", settings.name))._asdict()
            )
        elif key == "timeouts":
            known["timeouts"] = timeouts_of(value)
        elif key == "name":
            known[key] = name_of(value)
        elif key == "approve":
            known[key] = approver_of(value)
        elif key == "tool_style":
            known[key] = parse_tool_style(value)
        elif key == "code_tags":
            known[key] = parse_code_tags(value)
        elif key == "window":
            known[key] = parse_window(value)
        elif key == "retry":
            known[key] = parse_retry(
                value, limits={name: changes[name] for name in changes if name in OF_RETRY}
            )
        elif key in ("format", "execute"):
            known[key] = value
        elif key == "debug":
            known[key] = debug_of(value)
        elif key == "model_args":
            sampling.update(unreserved(value))
        elif key in Limits._fields:
            limits[key] = value
        elif key != "options":
            no_slips((key,))
            sampling[key] = value
        elif "model" not in changes:
            raise ConfigError(
                "options go to a model's constructor, and this call names no model",
                hint="Give model='provider/model' with them, or make another LLM or Agent.",
            )
    if limits:
        made_of = limits_of(limits)
        known["limits"] = settings.limits._replace(**{name: getattr(made_of, name) for name in limits})
        if settings.retry is not None and "retry" not in known:
            known["retry"] = with_limits(settings.retry, limits)
    return replace(settings, sampling=sampling_of(sampling), **known)


RESERVED: Mapping[str, str] = {
    "stream": "To follow a reply: llm(..., stream=True) or .stream(...) in blocking code, .astream(...) in async code.",
    "messages": "The dialog is the first argument.",
    "input": "The input is the first argument.",
    "prompt": "A prompt is the first argument: agent.call(prompt, {...}).",
    "sandbox": "It belongs to an agent: Agent(..., sandbox=...). For one call: tools=[JupyterSession(...)].",
    "description": "It is told where the agent is made.",
    "context": "A text: lllm.agents.ContextAgent(id, model, TEXT). A local model's window: options={'context': ...}.",
    "memory": "It is said where the agent is made: Agent(..., memory=True), or agent.with_(memory=True).",
    "activate_proxies": "It is said where the agent is made: Agent(..., activate_proxies=[...]).",
    "session": "A session belongs to one call: agent.call(..., session=...).",
    "workers": "It applies to a batch: agent([...], workers=...).",
    "args": "Arguments of a prompt belong to one call: agent.call(prompt, {...}).",
    **dict.fromkeys(
        ("base_url", "api_key", "concurrency", "requests_per_minute", "tokens_per_minute"),
        "It is an option of the backend: options={...} beside model=..., or a keyword where an LLM is made.",
    ),
}
"""Names that no sampling value may have, and where what they mean is said."""

SAMPLING = (
    *("temperature", "top_p", "top_k", "min_p", "max_tokens", "max_completion_tokens", "stop", "seed"),
    *("logprobs", "top_logprobs", "token_ids", "tool_choice", "parallel_tool_calls", "logit_bias", "user"),
    *("presence_penalty", "frequency_penalty", "repetition_penalty", "reasoning_effort", "verbosity"),
    *("metadata", "store", "service_tier", "prediction", "prompt_cache_key", "safety_identifier"),
    *("web_search_options", "extra_body", "min_tokens", "stop_token_ids"),
)
"""Sampling values that backends know, here or elsewhere. Others are passed on, unless they look like one of these or of
`KEYWORDS`."""

KEYWORDS = (
    "tools",
    "handoffs",
    "approval",
    "model",
    "format",
    "timeouts",
    "approve",
    "options",
    "model_args",
    "tool_style",
    "code_tags",
    "window",
    "retry",
    "debug",
    *Limits._fields,
)
"""What else can be set, of an agent and of one call."""


def tools_of(items: Any, find: Callable[[str], tuple[Function, ...]] | None = None) -> tuple[Function, ...]:
    """The tools of a list: functions, Functions, schemas, agents, proxies and their endpoints, names. `find` looks names up;
    by default ProjectTools. An endpoint that is named twice, as by `weather.daily` and `weather.*`, is one tool."""
    if items is None:
        return ()
    with guarded("tools: as_tools"):
        found = tools_in(items)
        if found is None and isinstance(items, Iterable) and not isinstance(items, str | Mapping):
            found = tools_in(list(items))
    if found is None:
        raise ConfigError(
            f"tools is {type(items).__name__}; it is a list of tools", hint="Write tools=[...]."
        )
    find = find or ProjectTools()
    return without_repeats(tool for item in found for tool in _as_tools(item, find))


def _as_tools(item: Any, find: Callable[[str], tuple[Function, ...]]) -> tuple[Function, ...]:
    """The tools of whatever stands for one: also another agent, or a name."""
    with guarded(f"{type(item).__name__}: as_tool"):
        if is_tool_source(item):
            return (item.as_tool(),)
    return find(item) if isinstance(item, str) else (as_function(item),)


class ProjectTools:
    """Finds the tools that a name in a program stands for: a registered tool, or endpoints of proxies, which share one
    runtime: of the system whose code it is, if any."""

    def __init__(self) -> None:
        self._access: Access | None = None

    def __call__(self, name: str) -> tuple[Function, ...]:
        from lllm.registry import registry

        if registry.has("tool", name) or not (is_address(name) or registry.registered("proxy", name)):
            return (as_function(registry.get("tool", name)),)
        if self._access is None:
            self._access = access_of_code()
        return self._access.find(name)


OTHERS: Final = (
    "Settings are given when it is made. State of your own belongs to a subclass, or to your own object."
)
_COPY: Final = "Write agent = agent.with_({0}=...), or agent.call(..., {0}=...) for one call."
_SET: Final = (*KEYWORDS, *SAMPLING, "system_prompt")

OF_AGENT: Final[Mapping[str, str]] = {
    **dict.fromkeys(_SET, _COPY),
    "name": "Write agent = agent.with_(name=...).",
    "tools": "Write agent.add_tool(...), agent.remove_tool(...), or agent = agent.with_(tools=...) for a copy.",
    "limits": "Write agent = agent.with_(max_cost=..., ...).",
    "why": "It is the reason for the choice of the model.",
    **dict.fromkeys(("prompt", "activate_proxies"), "Give it where the agent is made: Agent(..., {0}=...)."),
}
"""What to write in place of setting an attribute of an Agent."""

OF_LLM: Final[Mapping[str, str]] = {
    **dict.fromkeys(_SET, "Write llm(..., {0}=...) for one call, or make another one."),
    **dict.fromkeys(("options", "base_url", "api_key"), "Make another one: LLM(model, {0}=...)."),
    "system": "Write llm(..., system=...) for one call, or make another one.",
}

SLIPS: Mapping[str, str] = {
    "tool": "tools",
    "functions": "tools",
    "handoff": "handoffs",
    "system": "system_prompt",
    "prompts": "prompt",
    "response_format": "format",
    "output_schema": "format",
    "timeout": "timeouts",
    "retries": "retry",
    "retry_policy": "retry",
    "model_name": "model",
    "llm": "model",
}
"""Keywords that people write for others; as sampling values they would be sent to the model's endpoint."""


ADDRESSES: Mapping[str, str] = {
    **dict.fromkeys(("apikey", "key", "token", "apitoken", "accesstoken", "secret"), "api_key"),
    **dict.fromkeys(("apiurl", "apibase", "baseurl", "url", "endpoint", "host"), "base_url"),
}
"""Keywords that people write for a key and an address, without capitals and underscores. As sampling values a key would be in
the log."""


def meant_address(key: str) -> str | None:
    """`api_key` or `base_url` where a keyword is another way to write that."""
    meant = ADDRESSES.get(key.replace("_", "").lower())
    return None if meant == key else meant


LATER = ("mcp_servers", "allow_web_search", "computer_use_config")
"""Keywords that this version does not support: they must be empty."""


def without_later(given: Mapping[str, Any]) -> dict[str, Any]:
    """Removes unsupported keywords that are empty; raises ConfigError if one has a value."""
    for key in LATER:
        if given.get(key):
            raise ConfigError(not_yet(key), hint="Remove it, or leave it empty.")
    return {key: value for key, value in given.items() if key not in LATER}


def no_slips(keys: Iterable[str]) -> None:
    """Refuses keywords that would reach the model's endpoint, and were meant for somebody else."""
    for key in keys:
        plain = key.lower()
        if plain in SLIPS:
            raise ConfigError(f"unknown keyword '{key}'", hint=f"Did you mean '{SLIPS[plain]}'?")
        if key in RESERVED:
            raise ConfigError(f"'{key}' is not a sampling value", hint=RESERVED[key])
        if (meant := meant_address(key)) is not None:
            raise ConfigError(f"unknown keyword '{key}'", hint=f"Did you mean '{meant}'? {RESERVED[meant]}")
        if key not in SAMPLING and (close := nearest(plain, (*SAMPLING, *KEYWORDS))) is not None:
            raise ConfigError(
                f"unknown keyword '{key}'",
                hint=f"Did you mean '{close}'? What only this model's backend knows goes into model_args={{'{key}': ...}}.",
            )


def unreserved(model_args: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """`model_args`, which may hold any sampling value, and nothing that is none."""
    given = mapping_of("model_args", model_args)
    for key in given:
        if key in RESERVED:
            raise ConfigError(f"'{key}' is not a sampling value", hint=RESERVED[key])
    return given
