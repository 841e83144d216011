"""Tasksets of verifiers 0.4 (`verifiers.v1`), run in this process without a harness or a server. Nothing is uploaded.

    env = Verifiers(MyTaskset(MyConfig()), size=100)
    env(agent)

A task is a row. Where the taskset is played by an `Env` of its own, that converses with the policy; the rewards are those that
verifiers records, by their names and weights, as one sum.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from lllm.errors import ConfigError, text_of
from lllm.rl.adapters.packages import needed
from lllm.rl.environment import RLEnv
from lllm.rl.rewards import reward

_PACKAGE: Final = "verifiers>=0.4"


class Verifiers(RLEnv):
    """A taskset of verifiers.

    Args:
        taskset: a `Taskset`, or the id of an installed one; `config` has its settings then.
        size: the number of tasks; required for an endless taskset. skip: the number of tasks to leave out before them.
        env: the class of the `Env` that plays the tasks; None: the taskset's own, else none: the policy is asked once.
        arguments: of RLEnv, by name.

    Raises:
        DependencyError: verifiers is not installed.
        ConfigError: tasks that need what verifiers' own harness gives: a container, tool servers, a runtime; no prompt.
    """

    max_turns = 50

    def __init__(
        self,
        taskset: Any,
        size: int | None = None,
        *,
        skip: int = 0,
        env: type | None = None,
        config: Mapping[str, Any] | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        v1 = needed("verifiers.v1", _PACKAGE, "Verifiers")
        loaders = needed("verifiers.v1.utils.loaders", _PACKAGE, "Verifiers")
        if isinstance(taskset, str):
            kind = loaders.taskset_config_type(taskset)
            taskset = loaders.load_taskset(kind(id=taskset, **(config or {})))
        if not isinstance(taskset, v1.Taskset):
            raise ConfigError(
                f"a taskset is {type(taskset).__name__}", hint="Give a Taskset of verifiers.v1, or its id."
            )
        if not taskset.bounded and size is None:
            raise ConfigError(f"{type(taskset).__name__} is endless", hint="Say how many tasks: size=100.")
        self.taskset = taskset
        player = env or loaders.environment_class(taskset.config.id)
        self.player = None if player is v1.SingleAgentEnv else player
        self.tasks = list(islice(taskset, skip, None if size is None else skip + size))
        _require_nothing_else(taskset, self.tasks, self.player)
        rows = [_row(task, place) for place, task in enumerate(self.tasks)]
        name = taskset.config.id or type(taskset).__name__
        super().__init__(rows, **{"name": f"verifiers/{name}", **(arguments or {})})

    async def setup(self, task: int) -> Play:
        """Makes the state of a rollout."""
        return Play(self, self.tasks[task])

    async def step(self, state: Play, completion: str) -> str | None:
        """Returns the answer of the Env to a reply; None where there is no Env, or where it has ended."""
        return await state.reply(completion) if self.player is not None else None

    @reward
    async def verified(self, state: Any, task: int, messages: list[dict[str, Any]]) -> float:
        """The weighted sum of the rewards of verifiers."""
        if isinstance(state, Play):
            return await state.score(messages)
        if self.player is not None:  # from a log: only what the Env had recorded is known
            return float(state["reward"])
        return await Play(self, self.tasks[task]).score(messages)


class Play(dict[str, Any]):
    """The state of a rollout: `reward` once it is known, and the other side of the conversation."""

    def __init__(self, env: Verifiers, task: Any) -> None:
        super().__init__(reward=None)
        self._task, self._env = task, env
        self.trace = _trace(task)
        self._replies: asyncio.Queue[str | None] = asyncio.Queue()
        self._said: asyncio.Queue[str | None] = asyncio.Queue()
        self._running: asyncio.Task[None] | None = None

    async def reply(self, text: str) -> str | None:
        """Passes the policy's reply to the Env. Returns its next message; None where it has ended."""
        if self._running is None:
            self._running = asyncio.ensure_future(self._run())
        self._replies.put_nowait(text)
        found = await self._said.get()
        if found is None:
            await self._running  # an error of the Env
            self["reward"] = float(self.trace.reward)
        return found

    async def _run(self) -> None:
        player = self._env.player
        assert player is not None
        config = _config(player, self._env.taskset)
        try:
            await player(config).run(self._task, _Seats(self))
        finally:
            self._said.put_nowait(None)

    async def turn(self, message: str | None) -> str | None:
        """Returns the next reply, for which the Env waits; None where the policy has ended."""
        if message is not None:
            self.add("user", message)
            self._said.put_nowait(message)
        found = await self._replies.get()
        if found is not None:
            self.add("assistant", found)
        return found

    def add(self, role: str, text: str) -> None:
        """Appends a message to the trace."""
        v1 = needed("verifiers.v1", _PACKAGE, "Verifiers")
        made = {
            "system": lambda: v1.SystemMessage(content=text),
            "user": lambda: v1.UserMessage(content=text),
            "assistant": lambda: v1.AssistantMessage(content=text),
            "tool": lambda: v1.ToolMessage(tool_call_id="", content=text),
        }
        nodes = self.trace.nodes
        parent = len(nodes) - 1 if nodes else None
        nodes.append(v1.MessageNode(parent=parent, message=made[role](), sampled=role == "assistant"))

    async def score(self, messages: list[dict[str, Any]]) -> float:
        """Ends the Env and returns the sum of all rewards."""
        if self._env.player is None:
            for one in messages:
                role = "system" if one["role"] == "developer" else one["role"]
                self.add(role, _text(one.get("content")))
            self.trace.is_completed = self.trace.ok = True
            await self._task.score(self.trace)
        elif self["reward"] is None:
            if self._running is None:
                self._running = asyncio.ensure_future(self._run())
            self._replies.put_nowait(None)
            await self._running
        self["reward"] = float(self.trace.reward)
        return float(self["reward"])

    async def aclose(self) -> None:
        """Ends the Env's side."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


class _Seats:
    """The agents that an Env asks for by name: the policy, in the first seat that is asked for."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self._name: str | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if self._name not in (None, name):
            raise ConfigError(f"the Env has the seats '{self._name}' and '{name}', and there is one policy")
        self._name = name
        return _Seat(self._play)


class _Seat:
    def __init__(self, play: Play) -> None:
        self._play = play

    def interaction(self, task: Any, **_: Any) -> _Interaction:
        """See `verifiers.v1.Agent.interaction`."""
        return _Interaction(self._play, task)

    async def run(self, task: Any, **_: Any) -> Any:
        """See `verifiers.v1.Agent.run`: one reply."""
        async with _Interaction(self._play, task) as found:
            await found.turn()
        return self._play.trace


class _Interaction:
    """A conversation that is held by an RLEnv, in the form of `verifiers.v1.Interaction`."""

    def __init__(self, play: Play, task: Any) -> None:
        self._play, self._task = play, task

    @property
    def trace(self) -> Any:
        return self._play.trace

    async def __aenter__(self) -> _Interaction:
        if self._task.data.system_prompt:
            self._play.add("system", self._task.data.system_prompt)
        self._play.add("user", self._task.data.prompt_text)
        return self

    async def turn(self, message: str | None = None) -> Any:
        """The policy's reply to a message, as a Segment; a terminated one where the policy has ended."""
        v1 = needed("verifiers.v1", _PACKAGE, "Verifiers")
        found = await self._play.turn(message)
        if found is None:
            return v1.Segment(messages=[], terminated=True)
        return v1.Segment(messages=[v1.AssistantMessage(content=found)])

    async def __aexit__(self, kind: Any, *_: Any) -> None:
        self._play.trace.is_completed = self._play.trace.ok = kind is None
        if kind is None:
            await self._task.score(self._play.trace)


def _config(player: Any, taskset: Any) -> Any:
    from typing import get_args

    env = needed("verifiers.v1", _PACKAGE, "Verifiers").EnvConfig
    for base in player.__mro__:
        for generic in getattr(base, "__orig_bases__", ()):
            for one in get_args(generic):
                if isinstance(one, type) and issubclass(one, env):
                    return one(taskset=taskset.config)
    return env(taskset=taskset.config)


def _trace(task: Any) -> Any:
    trace = needed("verifiers.v1.trace", _PACKAGE, "Verifiers")
    state = needed("verifiers.v1.state", _PACKAGE, "Verifiers")
    agent = needed("verifiers.v1.configs.agent", _PACKAGE, "Verifiers").AgentConfig()
    return trace.Trace(
        task=trace.TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash),
        state=state.state_cls(type(task))(),
        agent=trace.AgentInfo(config=agent),
    )


def _row(task: Any, place: int) -> dict[str, Any]:
    text = task.data.prompt_text
    if not text.strip():
        raise ConfigError(
            f"the task {place} has no prompt: in verifiers its user opens the conversation",
            hint="The adapter plays tasks with a prompt.",
        )
    system = task.data.system_prompt
    asked: dict[str, Any] = {"prompt": text}
    if system:
        asked = {"messages": [{"role": "system", "content": system}, {"role": "user", "content": text}]}
    answer = getattr(task.data, "answer", None)
    return {**asked, "answer": answer, "task": place, "key": task.key}


def _require_nothing_else(taskset: Any, tasks: list[Any], player: Any) -> None:
    """Raises ConfigError where tasks need more than a policy: without a runtime, verifiers leaves out the rewards that need
    one, and does not say so."""
    if not tasks:
        raise ConfigError(f"{type(taskset).__name__} has no tasks there")
    wants = {want for task in {type(one): one for one in tasks}.values() for want in _wants(taskset, task)}
    if wants:
        raise ConfigError(
            f"{type(taskset).__name__} needs {', '.join(sorted(wants))}, which only verifiers' own harness gives",
            hint="Run it with verifiers, on a model that lllm serves.",
        )


def _wants(taskset: Any, task: Any) -> list[str]:
    """The parts of verifiers' harness that a task needs."""
    base = needed("verifiers.v1", _PACKAGE, "Verifiers").Task
    wants: list[str] = []
    if type(task).NEEDS_CONTAINER:
        wants.append("a container")
    if type(task).toolsets(task.config) or type(taskset).toolsets(taskset.config):
        wants.append("tool servers")
    wants += [
        f"`{name}` of {type(task).__name__}"
        for name in ("setup", "finalize")
        if getattr(type(task), name) is not getattr(base, name)
    ]
    for one in (*task.hooks("reward"), *task.hooks("metric")):
        parameter = inspect.signature(one).parameters.get("runtime")
        if parameter is not None and parameter.default is parameter.empty:
            wants.append(f"a runtime for '{one.__name__}'")
    return wants


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    try:
        return "".join(str(one.get("text", "")) for one in content)
    except (AttributeError, TypeError) as error:
        raise ConfigError(f"a message cannot be given to verifiers: {text_of(error)}") from error
