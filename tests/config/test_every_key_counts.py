"""No key is accepted and ignored: each one changes what is built, and a new key needs a line here that shows it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lllm import AgentBase, MemoryLog, Prompt, ScriptedBackend, build_agent, load_config
from lllm.config import Config, keys
from lllm.config.keys import Section
from lllm.config.layer import put
from lllm.llm.assembled_sandbox import options
from lllm.llm.build import agent_of
from lllm.llm.team import Team
from lllm.log.views import load
from lllm.proxies import BaseProxy, Proxy
from lllm.registry import registry


def mine() -> None:
    """Does nothing."""


class Wiki(BaseProxy, register=False):
    @BaseProxy.endpoint
    def page(self, title: str) -> str:
        return title


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SOME_KEY", "k-1")
    with registry.scope():
        registry.add("prompt", "p/x", Prompt("p/x", "Do {task}."))
        registry.add("tool", "mine", mine)
        registry.add("proxy", "Wiki", Wiki)
        yield


OF_AGENT: dict[str, Any] = {
    # key: a value that is no default
    "description": "Adds.",
    "model_name": "scripted",
    "system_prompt_path": "p/x",
    "system_prompt": "Be kind.",
    "prompt": "p/x",
    "prompts": ["p/x"],
    "tools": ["mine"],
    "activate_proxies": ["Wiki"],
    "format": {"type": "object"},
    "model_args": {"top_k": 3},
    "base_url": "http://localhost:2/v1",
    "api_key_env": "SOME_KEY",
    "api_key": "${SOME_KEY}",
    "concurrency": 3,
    "requests_per_minute": 3,
    "tokens_per_minute": 3,
    "options": {"headers": {"x": "y"}},
    "temperature": 0.5,
    "top_p": 0.5,
    "max_tokens": 5,
    "stop": ["X"],
    "seed": 5,
    "timeouts.connect": 5,
    "timeouts.first_token": 5,
    "timeouts.idle": 5,
    "timeouts.total": 5,
    "max_exception_retry": 9,
    "max_interrupt_times": 9,
    "max_llm_recall": 9,
    "max_provider_retry": 9,
    "max_model_calls": 9,
    "max_tokens_total": 9,
    "max_cost": 0.5,
    "deadline": 9,
    "backoff_base": 9,
    "backoff_cap": 9,
    "retry.times": 9,
    "retry.wait": 9,
    "retry.cap": 9,
    "retry.jitter": 0.9,
    "retry.on": "RateLimitError",
    "retry.retry_after": False,
    "retry.total": 9,
    "repeat_limit": 9,
    "max_result_chars": 9_000,
    "approval": True,
    "handoffs": ["b"],
    "max_handoffs": 9,
    "max_depth": 9,
    "sandbox": "jupyter",
    "context": "The sky is green.",
    "memory": "session",
    "window": "drop",
    "tool_style": "tags",
    "code_tags": ["<a>", "</a>"],
}
ONES_OWN = ("settings",)
"""For the project's own code, which reads `config.settings`."""


def leaves(table: Any, above: str = "") -> Iterator[str]:
    for name, entry in table.items():
        if isinstance(entry, Section) and entry.keys and entry.each is None and not entry.later:
            yield from leaves(entry.keys, f"{above}{name}.")
        elif not entry.later:
            yield f"{above}{name}"


def test_every_key_of_an_agent_is_shown_here() -> None:
    assert set(leaves(keys.AGENT)) == {*OF_AGENT, *ONES_OWN}


def built(config: Config) -> dict[str, Any]:
    """Everything that an agent is made of."""
    agent = agent_of(config.agent("a"), config)
    settings = agent._settings
    backend = settings.backend
    parts = {
        name: getattr(settings, name) for name in settings.__slots__ if name not in ("backend", "find_tool")
    }
    parts |= {
        name: getattr(agent, name)
        for name in ("_system", "_prompt", "_prompts", "description", "memory", "_context")
    }
    parts["backend"] = type(backend).__name__
    for name in ("base_url", "secrets", "_asked", "_given_headers"):
        parts[name] = getattr(backend, name, None)
    return parts


PLACES = [(key, False) for key in OF_AGENT] + [(key, True) for key in leaves(keys.MODEL)]


@pytest.mark.parametrize(("key", "at_the_top"), PLACES)
def test_a_key_of_an_agent_changes_the_agent(key: str, at_the_top: bool) -> None:
    plain: dict[str, Any] = {
        "agent_configs": {"a": {"model_name": "openai/x", "base_url": "http://localhost:1/v1"}}
    }
    if at_the_top:
        plain = {"model": "openai/x", "base_url": "http://localhost:1/v1", "agent_configs": {"a": {}}}
    if key == "handoffs":
        plain["agent_configs"]["b"] = {"model_name": "scripted"}
    changed = {**plain, "agent_configs": {**plain["agent_configs"], "a": dict(plain["agent_configs"]["a"])}}
    put(
        changed,
        tuple(key.split(".")) if at_the_top else ("agent_configs", "a", *key.split(".")),
        OF_AGENT[key],
    )
    if key == "model_name":
        changed["agent_configs"]["a"].pop("base_url", None)
    before, after = built(load_config(plain)), built(load_config(changed))
    assert [name for name in before if before[name] != after[name]], key


def runs(config: Config, **more: Any) -> Any:
    log = MemoryLog()
    system = build_agent(config, model=ScriptedBackend(["x"]), log_base=log, **more)
    system("hello")
    return load(log, log.sessions()[0].id)[0]["data"]


def store_class(config: Config) -> str:
    from lllm.llm.project import store_of

    return repr(type(store_of(config)).__name__) + repr(getattr(store_of(config), "path", ""))


def kind_of(config: Config) -> str:
    class Other(AgentBase):
        agent_type = "other"

    return type(build_agent(config, model=ScriptedBackend([]), log_base=MemoryLog())).__name__


def proxy_of(config: Config) -> Proxy:
    return build_agent(config, model=ScriptedBackend([]), log_base=MemoryLog()).proxy


AGENTS = {"agent_configs": {"a": {"model_name": "scripted"}}}

OF_SYSTEM: dict[str, tuple[Any, Callable[[Config], Any]]] = {
    # key: a value, and where its effect is seen
    "name": ("n", lambda config: runs(config)["name"]),
    "description": ("d", lambda config: config.description),  # tests/cli/test_run.py: `lllm list agents`
    "extends": ("base.yaml", lambda config: config.log.type),
    "profile": ("quick", lambda config: config.agents["a"].limits.deadline),
    "system_type": ("other", kind_of),
    "agent_type": ("other", kind_of),
    "start": ("b", lambda config: Team(config).start() if config.start else None),
    "steps": (["a"], kind_of),
    "agent_group": (["a"], lambda config: list(config.agents)),
    "agent_configs": ({"c": {"model_name": "scripted"}}, lambda config: list(config.agents)),
    "activate_proxies": (["Wiki"], lambda config: proxy_of(config).available()),
    "cutoff_date": ("2024-12-31", lambda config: proxy_of(config).cutoff_date),
    "deploy_mode": (True, lambda config: proxy_of(config).deploy_mode),
    "proxy_options": (
        {"Wiki": {"timeout": 1}},  # each of its keys: tests/proxies/test_configured.py
        lambda config: proxy_of(config).proxies["Wiki"].timeout,
    ),
    "model": ("scripted", lambda config: config.agents["b"].model_name),
    "ckpt_dir": (
        "elsewhere",
        lambda config: build_agent(config, agent_name="two", log_base=MemoryLog()).ckpt_dir,
    ),
    "random_seed": (7, lambda config: config.random_seed),  # tests/promises: it is the session's seed
    **{
        f"budget.{key}": (value, lambda config: config.budget)  # what each does: tests/steps/test_budgets.py
        for key, value in {"max_cost": 1, "max_model_calls": 9, "max_tokens_total": 9, "deadline": 9}.items()
    },
    "log.type": ("localfile", store_class),
    "log.dir": ("logs", store_class),
    "log.url": ("postgresql://x/y", lambda config: config.log.url),  # tests/cli/test_stores.py
    "log.synchronous": ("full", lambda config: config.log.synchronous),  # tests/log: it reaches the store
    "cache.enabled": (
        True,
        lambda config: built(config) and type(agent_of(config.agent("a"), config)._settings.backend).__name__,
    ),
    "cache.dir": ("kept", lambda config: config.cache.dir),  # tests/backends/test_cache.py
    "cache.mode": ("read", lambda config: config.cache.mode),
    **{
        f"sandbox.{key}": (value, options)  # what each does: tests/sandbox
        for key, value in {
            "tier": "process",
            "required": False,
            "resume": "restore",
            "warm": 2,
            "preload": ["numpy"],
            "timeout": 5,
            "memory": 512,
            "processes": 9,
            "disk": 9,
        }.items()
    },
    "sandbox.broken": ("end", lambda config: config.sandbox.broken),  # tests/sandbox/test_broken.py
    "sandbox.files": (["data"], lambda config: config.sandbox.files),  # tests/sandbox/test_coder.py
    "sandbox.dir": ("notebooks", lambda config: config.sandbox.dir),
}


def test_every_key_of_a_system_is_shown_here() -> None:
    top = {name: key for name, key in keys.SYSTEM.items() if name not in keys.MODEL}
    assert set(leaves(top)) == {*OF_SYSTEM, *ONES_OWN}


@pytest.mark.parametrize("key", OF_SYSTEM)
def test_a_key_of_a_system_changes_the_system(key: str, nobodys_machine: Path) -> None:
    class Two(AgentBase):
        agent_type = "two"

    (nobodys_machine / "lllm.toml").write_text("[profiles.quick]\ndeadline = 7\n")
    (nobodys_machine / "base.yaml").write_text("log_type: none\n")
    value, seen = OF_SYSTEM[key]
    plain: dict[str, Any] = {"agent_configs": {"a": {"model_name": "scripted"}}}
    if key == "proxy_options":
        plain["activate_proxies"] = ["Wiki"]
    if key in ("agent_group", "model", "ckpt_dir", "start"):
        plain["agent_configs"]["b"] = {}
    changed: dict[str, Any] = {**plain}
    put(changed, tuple(key.split(".")), value)
    assert seen(load_config(plain)) != seen(load_config(changed))


OF_PROJECT = {
    "project.name": "doctor: tests/cli/test_run.py",
    **dict.fromkeys(
        (
            "discovery.prompts",
            "discovery.proxies",
            "discovery.agents",
            "discovery.tools",
            "discovery.environments",
            "discovery.strict",
        ),
        "tests/test_discovery.py",
    ),
    "run.default": "tests/cli/test_run.py",
    "run.model": "tests/config/test_precedence.py",
    "run.profile": "tests/config/test_precedence.py",
    "models": "tests/config/test_models.py",
    "prices": "tests/llm/test_prices.py",
    "proxy_options": "tests/proxies/test_configured.py",
    "profiles": "tests/config/test_precedence.py",
    **dict.fromkeys(("log.type", "log.dir", "log.url", "log.synchronous"), "above"),
    **dict.fromkeys(("cache.enabled", "cache.dir", "cache.mode"), "above"),
    **dict.fromkeys((f"sandbox.{key}" for key in keys.SHARED["sandbox"].keys), "above"),
}


def test_every_key_of_lllm_toml_is_known_here() -> None:
    assert set(leaves(keys.PROJECT)) == set(OF_PROJECT)


def later(table: Any, above: str = "") -> Iterator[str]:
    for name, entry in table.items():
        if entry.later:
            yield f"{above}{name}"


@pytest.mark.parametrize("key", [*later(keys.SYSTEM), *later(keys.AGENT, "agent_configs.a.")])
def test_what_nothing_reads_is_refused_wherever_it_is_said(
    key: str, nobodys_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full: Any = "x"
    for value in (None, "", [], {}):
        data: dict[str, Any] = {}
        put(data, tuple(key.split(".")), value)
        load_config({"agent_configs": {"a": {}}, **data})
    data = {}
    put(data, tuple(key.split(".")), full)
    asked: list[Callable[[], Any]] = [lambda: load_config(data)]
    if "." not in key:
        asked.append(lambda: load_config(AGENTS, overrides={key: full}))
        monkeypatch.setenv(f"LLLM_{key.upper()}", "process")
        asked.append(lambda: load_config(AGENTS))
    else:
        asked.append(lambda: load_config(AGENTS, overrides=[f"{key}=x"]))
    for ask in asked:
        with pytest.raises(ValueError, match="not supported in this version"):
            ask()
