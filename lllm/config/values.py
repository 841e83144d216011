"""Config: all settings of a program, as one frozen value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lllm.config.environ import Environ
from lllm.config.keys import ENDPOINT, EVERYTHING, LIMITS, MODEL, SAMPLING, Key, alias, find
from lllm.config.layer import Keys, peek
from lllm.config.problems import Problem
from lllm.config.secret import passwords_in, redacted, secrets_in, without_variables
from lllm.const import Price
from lllm.core.secret_names import secret_parts
from lllm.errors import UnknownKeyError, UnknownNameError

if TYPE_CHECKING:
    from lllm.core.spec import Limits
    from lllm.ports import Timeouts


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Where sessions are kept."""

    type: str
    dir: Path
    synchronous: str
    url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """Replies kept by the content of the request. `mode` is read, write or refresh."""

    enabled: bool
    dir: Path
    mode: str = "write"


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """How code of a model is kept apart. `timeout` in seconds; `memory` and `disk` in megabytes."""

    tier: str
    required: bool
    broken: str
    dir: Path
    files: tuple[Path, ...]
    resume: str
    warm: int
    preload: tuple[str, ...]
    timeout: float
    memory: int
    processes: int
    disk: int


@dataclass(frozen=True, slots=True)
class DiscoveryConfig:
    """What discovery imports."""

    prompts: tuple[Path, ...] = ()
    proxies: tuple[Path, ...] = ()
    agents: tuple[Path, ...] = ()
    tools: tuple[Path, ...] = ()
    environments: tuple[Path, ...] = ()
    strict: bool = False


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model that lllm.toml names: `[models.NAME]`.

    Attributes:
        path: the file or folder, absolute. It may be missing.
        backend: what loads it: as configured, else `llama_cpp` for a .gguf file and `transformers` for the rest.
        options: for the backend's constructor.
    """

    name: str
    path: Path
    backend: str
    options: dict[str, Any] = field(repr=False)

    @property
    def model(self) -> str:
        """`backend/path`: the name under which any backend would find it. It names a folder of this machine."""
        return f"{self.backend}/{self.path}"


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """Settings of one proxy: `proxy_options.NAME`.

    Attributes:
        options: base_url, timeout, concurrency, requests_per_minute, max_bytes, cache, and arguments of its constructor: only
            what was set.
        env: variables that are read instead of those that its class declares.
    """

    name: str
    options: dict[str, Any] = field(repr=False)  # an address may hold a login
    env: dict[str, str]


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """One agent as it is configured, with all that it takes over from the top.

    Attributes:
        options: arguments of the backend's constructor, beside base_url and api_key.
        sampling: what the request to the model carries: temperature, top_p, ... and `model_args`; only what was set.
        tools: registered names, `module:function`, addresses of endpoints.
        activate_proxies: the proxies that it names itself; None for those of the system.
        handoffs: other agents. approval: the rules at the top and its own, as they are written.
        endpoint: what the backend is told of its endpoint: concurrency, requests_per_minute, ...; only what was set.
        api_key: the key itself, from `api_key`, or the variable that `api_key_env` names; None when there is none.
    """

    name: str
    description: str | None
    model_name: str
    base_url: str | None = field(repr=False)  # it may hold a login
    api_key: str | None = field(repr=False)
    api_key_env: str | None
    endpoint: dict[str, int]
    system_prompt_path: str | None
    system_prompt: str | None
    prompt: str | dict[str, Any] | None
    prompts: tuple[str, ...]
    tools: tuple[str, ...]
    activate_proxies: tuple[str, ...] | None
    sandbox: str | None
    context: str | dict[str, Any] | None = field(repr=False)
    memory: bool | str
    window: str | dict[str, Any] | None
    retry: dict[str, Any]
    tool_style: str
    code_tags: tuple[str, ...] | None
    handoffs: tuple[str, ...]
    approval: tuple[Any, ...] = field(repr=False)
    format: str | dict[str, Any] | None
    options: dict[str, Any] = field(repr=False)
    sampling: dict[str, Any] = field(repr=False)
    model_args: dict[str, Any] = field(repr=False)
    timeouts: Timeouts
    limits: Limits
    settings: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class Config:
    """All settings. Created by `load_config`; immutable.

    Attributes:
        steps: the stages as they are written; None if the system has none. budget: what one run of them may use.
        agents: the agents by name, in the order of the YAML file; only those of `agent_group` if set.
        defaults: the settings of an agent that the files do not mention.
        models: the local models that lllm.toml names.
        prices: the configured prices of models, by lower-case name.
        activate_proxies: the proxies that the system names at the top; None if it names none there.
        cutoff_date: as written, in ISO 8601. proxies: the settings of proxies, by name.
        settings: the user's own keys.
        root: the folder of lllm.toml, or the working folder if there is none.
        project_file: lllm.toml, or None. file: the system's YAML file, or None. files: all files that were read.
        tree: every value under its canonical key, including defaults; `get` and `[]` look up dotted keys in it.
        notes: warnings.
    """

    name: str | None
    description: str | None
    system_type: str | None
    agent_type: str | None
    start: str | None
    steps: list[Any] | None = field(repr=False)
    budget: dict[str, Any] = field(repr=False)
    agent_group: tuple[str, ...]
    agents: dict[str, AgentConfig]
    defaults: AgentConfig
    log: LogConfig
    cache: CacheConfig
    sandbox: SandboxConfig
    models: dict[str, LocalModel]
    prices: dict[str, Price]
    activate_proxies: tuple[str, ...] | None
    cutoff_date: str | None
    deploy_mode: bool
    proxies: dict[str, ProxyConfig]
    discovery: DiscoveryConfig
    ckpt_dir: Path
    random_seed: int | None
    profile: str | None
    settings: dict[str, Any]
    project: str | None
    root: Path
    project_file: Path | None
    file: Path | None
    files: tuple[Path, ...]
    tree: dict[str, Any]
    origins: dict[Keys, str]
    environ: Environ
    notes: tuple[Problem, ...]

    @property
    def system(self) -> str:
        """The name of the class that runs the system: as configured, else the built-in one."""
        return self.agent_type or self.system_type or ("simple" if self.steps is None else "steps")

    @property
    def agent_configs(self) -> dict[str, AgentConfig]:
        """`agents` under the files' name."""
        return self.agents

    @property
    def model(self) -> str:
        """The model of an agent that names none."""
        return self.defaults.model_name

    def agent(self, name: str) -> AgentConfig:
        """One agent by name. Raises UnknownNameError with the nearest name."""
        if name not in self.agents:
            raise UnknownNameError("agent", name, self.agents, where=self.origins.get(("agent_configs",)))
        return self.agents[name]

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a dotted key, `agent_configs.vanilla.temperature`; `default` when it is not set."""
        return deepcopy(peek(self.tree, self._path(key), default))

    def __getitem__(self, key: str) -> Any:
        path = self._path(key)
        value = peek(self.tree, path, _NOTHING)
        if value is _NOTHING:
            above = peek(self.tree, path[:-1], {})
            raise UnknownKeyError(key, above if isinstance(above, Mapping) else ())
        return deepcopy(value)

    def origin(self, key: str) -> str:
        """Where a value comes from: `config/demo.yaml:7`, `environment variable LLLM_MODEL`, `.env:2 MODEL_NAME`,
        `--set a.b`, or `default`. For a value that an agent takes over, where it stands at the top. An item of a
        list has its number for a key: `agent_configs.vanilla.tools.0`."""
        path = self._path(key)
        if path in self.origins:
            return self.origins[path]
        if path[0] == "agent_configs" and len(path) > 2:
            top = "model" if path[2] == "model_name" else path[2]
            if top in MODEL or top == "model":
                found = self.origins.get((top, *path[3:])) or self.origins.get((top,))
                return found or "default"
        if path[-1].isdigit():
            return self.origin(".".join(path[:-1]))
        if find(path) is None:
            raise UnknownKeyError(key, EVERYTHING)
        return "default"

    def where(self, key: str) -> str | None:
        """`origin`, for messages: None when the value is a default."""
        found = self.origin(key)
        return None if found == "default" else found

    def variable(self, name: str) -> str | None:
        """An environment variable, or a line of `.env`; None when it is not set or empty."""
        return self.environ.get(name) or None

    def place(self, path: Keys) -> str | None:
        """Where a value within `steps` stands, or the nearest one around it; None for what no file says."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return None

    def as_dict(self, *, redact: bool = True) -> dict[str, Any]:
        """Every value under its canonical key, as plain JSON values. Secrets are hidden unless asked for."""
        value = deepcopy(self.tree)
        if not redact:
            return value
        hidden = dict(redacted(without_variables(value)))
        for name, own in hidden.get("proxy_options", {}).items():
            own.update({"env": value["proxy_options"][name]["env"]} if self.proxies[name].env else {})
        return hidden

    def secrets(self) -> frozenset[str]:
        """The texts that must not reach a log: values of secret keys and of secret variables. See
        `lllm.core.secret_names`."""
        found = secrets_in(without_variables(self.tree)) | passwords_in(self.log.url or "")
        for name, value in self.environ.items():
            found.update(secret_parts(name, value))
        for agent in (self.defaults, *self.agents.values()):
            found |= {agent.api_key} if agent.api_key else set()
        return frozenset(found)

    def _path(self, key: str) -> Keys:
        return alias(tuple(key.split(".")))

    def __repr__(self) -> str:
        file = str(self.file) if self.file else None
        return f"Config(name={self.name!r}, agents={list(self.agents)}, model={self.model!r}, file={file!r})"


_NOTHING = object()


def _log(given: dict[str, Any]) -> LogConfig:
    return LogConfig(given["type"], Path(given["dir"]), given["synchronous"], given.get("url"))


def _sandbox(given: Mapping[str, Any]) -> SandboxConfig:
    files, preload = tuple(map(Path, given["files"])), tuple(given["preload"])
    return SandboxConfig(**{**given, "dir": Path(given["dir"]), "files": files, "preload": preload})


def build(
    tree: dict[str, Any],
    origins: dict[Keys, str],
    environ: Environ,
    *,
    root: Path,
    project_file: Path | None,
    file: Path | None,
    files: tuple[Path, ...],
    notes: tuple[Problem, ...],
) -> Config:
    """The Config of a merged, valid tree."""
    _fill(tree, EVERYTHING, (), root)
    defaults = _agent("", {}, tree, environ)
    return Config(
        name=tree.get("name"),
        description=tree.get("description"),
        system_type=tree.get("system_type"),
        agent_type=tree.get("agent_type"),
        start=tree.get("start"),
        steps=deepcopy(tree.get("steps")),
        budget=deepcopy(tree.get("budget", {})),
        agent_group=tuple(tree["agent_group"]),
        agents={name: _agent(name, tree["agent_configs"][name], tree, environ) for name in _group(tree)},
        defaults=defaults,
        log=_log(tree["log"]),
        cache=CacheConfig(tree["cache"]["enabled"], Path(tree["cache"]["dir"]), tree["cache"]["mode"]),
        sandbox=_sandbox(tree["sandbox"]),
        models={name: _model(name, given) for name, given in tree["models"].items()},
        prices={name.lower(): _price(given) for name, given in tree["prices"].items()},
        activate_proxies=_names(tree.get("activate_proxies")),
        cutoff_date=tree.get("cutoff_date"),
        deploy_mode=tree["deploy_mode"],
        proxies={name: _proxy(name, given) for name, given in tree["proxy_options"].items()},
        discovery=_discovery(tree["discovery"]),
        ckpt_dir=Path(tree["ckpt_dir"]),
        random_seed=tree.get("random_seed"),
        profile=tree.get("profile"),
        settings=tree["settings"],
        project=tree["project"].get("name"),
        root=root,
        project_file=project_file,
        file=file,
        files=files,
        tree=tree,
        origins=origins,
        environ=environ,
        notes=notes,
    )


def _fill(data: dict[str, Any], keys: Mapping[str, Any], path: Keys, root: Path) -> None:
    """Writes the defaults of the tables where nothing is set. Agents are left as they are: they take over."""
    from lllm.config.kinds import PATH

    for name, entry in keys.items():
        if entry.later or alias((*path, name)) != (*path, name):
            continue
        if not isinstance(entry, Key):
            inner = data.setdefault(name, {})
            if entry.each is None:
                _fill(inner, entry.keys, (*path, name), root)
        elif entry.default is not None and name not in data:
            data[name] = str(root / entry.default) if entry.kind is PATH else deepcopy(entry.default)


def _group(tree: Mapping[str, Any]) -> list[str]:
    """The agents of the system, in file order; all agents if a name of the group is misspelt (a separate error), so that
    their problems are reported too."""
    group, declared = tree["agent_group"], tree["agent_configs"]
    known = all(name in declared for name in group)
    return [name for name in declared if not group or not known or name in group]


def _discovery(tree: Mapping[str, Any]) -> DiscoveryConfig:
    names = ("prompts", "proxies", "agents", "tools", "environments")
    folders = {name: tuple(map(Path, tree[name])) for name in names}
    return DiscoveryConfig(**folders, strict=tree["strict"])


def _model(name: str, given: Mapping[str, Any]) -> LocalModel:
    path = Path(given["path"])
    kind = "llama_cpp" if path.suffix.lower() == ".gguf" else "transformers"
    return LocalModel(name, path, given.get("backend") or kind, deepcopy(given.get("options", {})))


def _proxy(name: str, given: Mapping[str, Any]) -> ProxyConfig:
    options = {key: deepcopy(value) for key, value in given.items() if key != "env"}
    return ProxyConfig(name, options, dict(given.get("env", {})))


def _names(given: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if given is None else tuple(given)


def _price(given: Mapping[str, Any]) -> Price:
    """Reads text and numbers exactly as written: nothing is rounded."""
    prompt, completion = Decimal(str(given["prompt"])), Decimal(str(given["completion"]))
    return Price(prompt, Decimal(str(given.get("cached", prompt))), completion)


def _options(own: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """The top's options are for the top's backend: an agent on another one does not take them over."""
    model = own.get("model_name", top["model"])
    shared = top.get("options", {}) if model.partition("/")[0] == top["model"].partition("/")[0] else {}
    return {**deepcopy(shared), **deepcopy(own.get("options", {}))}


def _agent(name: str, own: Mapping[str, Any], top: Mapping[str, Any], environ: Environ) -> AgentConfig:
    from lllm.core.spec import Limits
    from lllm.ports import Timeouts

    def value(key: str) -> Any:
        return own[key] if key in own else top.get(key)

    key, key_env = own.get("api_key"), own.get("api_key_env")
    if key is None and key_env is None and own.get("base_url") in (None, top.get("base_url")):
        # A key is only sent to the endpoint that it stands beside.
        key, key_env = top.get("api_key"), top.get("api_key_env")
    model_args = deepcopy(own.get("model_args", {}))
    limits = {key: value(key) for key in LIMITS}
    if limits["max_cost"] is not None:
        limits["max_cost"] = str(limits["max_cost"])  # a decimal string: money is not counted in floats
    return AgentConfig(
        name=name,
        description=own.get("description"),
        model_name=own.get("model_name", top["model"]),
        base_url=value("base_url"),
        api_key=key if key is not None else (environ.get(key_env) or None) if key_env else None,
        api_key_env=key_env,
        endpoint={key: found for key in ENDPOINT if (found := value(key)) is not None},
        system_prompt_path=own.get("system_prompt_path"),
        system_prompt=own.get("system_prompt"),
        prompt=deepcopy(own.get("prompt")),
        prompts=tuple(own.get("prompts", ())),
        tools=tuple(own.get("tools", ())),
        activate_proxies=_names(own.get("activate_proxies")),
        sandbox=own.get("sandbox") or None,
        context=deepcopy(own.get("context")),
        memory=own.get("memory", False),
        window=deepcopy(value("window")),
        retry=deepcopy({**top["retry"], **own.get("retry", {})}),
        tool_style=value("tool_style"),
        code_tags=_names(value("code_tags")),
        handoffs=tuple(own.get("handoffs", ())),
        approval=tuple(deepcopy(each["approval"]) for each in (top, own) if "approval" in each),
        format=deepcopy(own.get("format")),
        options=_options(own, top),
        sampling={
            **{key: deepcopy(top[key]) for key in SAMPLING if key in top},
            **model_args,
            **{key: deepcopy(own[key]) for key in SAMPLING if key in own},
        },
        model_args=model_args,
        timeouts=Timeouts(**{**top["timeouts"], **own.get("timeouts", {})}),
        limits=Limits(**limits),
        settings=deepcopy(own.get("settings", {})),
    )
