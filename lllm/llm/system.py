"""AgentBase: a system of agents with code of its own."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self
from weakref import WeakSet

from lllm.composing import Composable
from lllm.errors import ConfigError
from lllm.llm.agent import Agent
from lllm.llm.construction import DOCUMENTED, REPLACING, given_to, settle
from lllm.llm.project import store_of
from lllm.llm.proxies import code_of
from lllm.llm.sessions import fail, open_session, running
from lllm.ports import Backend, LogStore
from lllm.session import Scope, Session, current
from lllm.sync import finish, in_thread, is_async, run

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.proxies import Proxy
    from lllm.utils import StreamWrapper


class AgentBase(Composable):
    """Base class of systems. Subclass it, set `agent_type`, write `call`. Defining the subclass registers it, so that a
    configuration finds it by that name.

        class Vanilla(AgentBase):
            agent_type = "vanilla"

            def call(self, task: str, **more):
                return self.agents["vanilla"].call("demo/task_query", {"task": task}).parsed

    Attributes:
        agent_type: string or Enum; what `agent_type:` in YAML names.
        agent_group: names of the agents that the configuration must declare under `agent_configs`.
        config: the loaded configuration. agents: the declared agents by name. ckpt_dir: the folder for files.
        proxy: the proxies of `activate_proxies`, for the system's own code: `self.proxy("weather.daily", city="Oslo")`,
            `await self.proxy.acall(...)`. Its agents' tools go through the same one.
        stream: displays progress; what is written to it is in the session.

    A constructor need not pass on arguments it does not know: `build_agent`'s model, store, ... reach the system anyway
    (`lllm.llm.construction`).
    """

    __lllm_kind__: ClassVar[str] = "agent"
    agent_type: ClassVar[str | Enum | None] = None
    agent_group: ClassVar[list[str]] = []
    runs_steps: ClassVar[bool] = False
    """True for a class that runs the stages of `steps:`. Its `check_agents` is then called also with the agents that could be
    built, where some could not."""

    def __init_subclass__(cls, register: bool = True, **more: Any) -> None:
        super().__init_subclass__(**more)
        kind = cls.__dict__.get("agent_type")
        if kind is not None and register:
            from lllm.registry import registry

            summary = (cls.__doc__ or "").strip().partition("\n")[0]
            registry.add("agent", kind.value if isinstance(kind, Enum) else str(kind), cls, summary=summary)

    def __new__(cls, *args: Any, **keywords: Any) -> Self:
        make = super().__new__
        system: Self = make(cls) if make is object.__new__ else make(cls, *args, **keywords)
        object.__setattr__(system, "_given", given_to(cls, keywords))
        return system

    def __init__(
        self,
        config: Any = None,
        ckpt_dir: str | Path | None = None,
        stream: Any = None,
        model: str | Backend | None = None,
        log_base: LogStore | None = None,
        **more: Any,
    ) -> None:
        from lllm.config import Config as Configuration
        from lllm.config import load_config
        from lllm.llm.build import parts_of

        given = vars(self).get("_given") or given_to(type(self), {})
        config, ckpt_dir, stream, model, log_base = settle(
            self, given, config, ckpt_dir, stream, model, log_base
        )
        self.config: Config = config if isinstance(config, Configuration) else load_config(config)
        self.overrides: list[str] = []  # `--set` values that the configuration was loaded with
        self.chosen_model = model
        self.ckpt_dir = Path(ckpt_dir or self.config.ckpt_dir)
        self.stream = stream
        self.store = log_base if log_base is not None else store_of(self.config)
        own = config is given.config and model is given.model
        built, proxy = (given.agents, given.proxy) if own else (None, None)
        if built is None or proxy is None:
            built, proxy = parts_of(self.config, model=model)
        self.agents: dict[str, Agent] = built
        self._proxy = proxy
        self._fingerprints: dict[str, Any] | None = None
        self.check_agents(self.config, self.agents)
        if more:
            from lllm.errors import UnknownKeyError

            known = (*DOCUMENTED, *REPLACING, "agent_name", "overrides")
            raise UnknownKeyError(next(iter(more)), known)

    @property
    def stream(self) -> StreamWrapper:
        """Displays progress. Whatever it is set to is wrapped: what is written to it is in the session."""
        return self._stream

    @stream.setter
    def stream(self, stream: Any) -> None:
        from lllm.utils import StreamWrapper

        self._stream = StreamWrapper(stream)

    @property
    def proxy(self) -> Proxy:
        """The runtime of this system's proxies."""
        return self._proxy

    @proxy.setter
    def proxy(self, proxy: Proxy) -> None:
        self._proxy, self._fingerprints = proxy, None

    def __getattr__(self, name: str) -> Any:
        from lllm.porting import SYSTEM, no_attribute

        raise no_attribute(self, name, SYSTEM)

    @classmethod
    def check_agents(cls, config: Config, agents: Mapping[str, Agent]) -> None:
        """Raises ConfigError if this system cannot run with these agents: those of `agent_group` are required. Called by
        `build_agent` and `lllm check`; a subclass may require more."""
        if missing := [name for name in cls.agent_group if name not in agents]:
            raise ConfigError(
                f"the system '{config.name or cls.__name__}' needs the agents {', '.join(missing)}, which "
                "agent_configs does not declare",
                hint=f"Declared: {', '.join(sorted(agents)) or 'none'}.",
            )

    @property
    def name(self) -> str:
        """The system's name: its `agent_type`."""
        kind = type(self).agent_type
        return str(kind.value if isinstance(kind, Enum) else kind or type(self).__name__)

    def call(self, task: str, **more: Any) -> Any:
        """What the system does with a task. Plain or async."""
        raise NotImplementedError(f"{type(self).__name__}.call: write what the system does with a task")

    def __call__(
        self, task: str, session_name: str | None = None, *, session: Session | None = None, **more: Any
    ) -> Any:
        """Runs `call` and gives what it returns: in a session of its own, or in the one that is running here."""
        if is_async(self.call):
            return run(self.acall(task, session_name, session=session, **more))
        if session is None and (scope := running("system")) is not None:
            self.session = scope.session
            with code_of(self._proxy, self.config):
                return self.call(task, **more)
        live = self._open(session_name, session)
        run(live.start(self._meta(task, session_name, more)))
        token = current.set(Scope(live))
        try:
            with code_of(self._proxy, self.config):
                result = self.call(task, **more)
        except BaseException as error:
            finish(fail(live, error))
            raise
        finally:
            current.reset(token)
        finish(live.end("done", **_result(result)))
        return result

    async def acall(
        self, task: str, session_name: str | None = None, *, session: Session | None = None, **more: Any
    ) -> Any:
        """`__call__` for async code; a plain `call` runs in a thread."""
        if session is None and (scope := running("system")) is not None:
            self.session = scope.session
            return await self._called(task, more)
        live = self._open(session_name, session)
        await live.start(self._meta(task, session_name, more))
        token = current.set(Scope(live))
        try:
            result = await self._called(task, more)
        except BaseException as error:
            await fail(live, error)
            raise
        finally:
            current.reset(token)
        await live.end("done", **_result(result))
        return result

    async def _called(self, task: str, more: Mapping[str, Any]) -> Any:
        with code_of(self._proxy, self.config):
            if is_async(self.call):
                return await self.call(task, **more)
            return await in_thread(self.call, task, **more)

    def _open(self, name: str | None, session: Session | None) -> Session:
        secrets = self.config.secrets() | set(self._proxy.secrets())
        live = session or open_session(
            name or self.config.name or self.name,
            store=self.store,
            seed=self.config.random_seed,
            secrets={"configuration": secrets},
        )
        live.learn("configuration", secrets)
        self.session = live
        vars(self).setdefault("_opened", WeakSet()).add(live)
        return live

    def has_opened(self, session: Session) -> bool:
        """Whether a session is there for a call of this system alone."""
        return session in vars(self).get("_opened", ())

    def _meta(self, task: str, name: str | None, more: Mapping[str, Any]) -> dict[str, Any]:
        from lllm.core.jsonable import jsonable
        from lllm.llm.entry import describe

        meta: dict[str, Any] = {"name": name or self.config.name or self.name, "task": task}
        meta["entry"] = describe(self, more)
        if self._proxy.proxies:
            if self._fingerprints is None:
                self._fingerprints = self._proxy.fingerprints()
            meta["proxy_endpoints"] = self._fingerprints
        if more:
            meta["args"] = jsonable(more)
        return meta


vars(AgentBase)["__new__"].__func__.__signature__ = signature(AgentBase.__init__)  # for editors


class AsyncAgentBase(AgentBase):
    """An AgentBase whose `call` is async: `async def call(self, task): ... await self.agents["x"].acall(...)`."""

    async def call(self, task: str, **more: Any) -> Any:
        """What the system does with a task."""
        raise NotImplementedError(f"{type(self).__name__}.call: write what the system does with a task")


def _result(result: Any) -> dict[str, Any]:
    from lllm.core.jsonable import jsonable
    from lllm.models.reply import Reply

    return {"result": result.content if isinstance(result, Reply) else jsonable(result)}
