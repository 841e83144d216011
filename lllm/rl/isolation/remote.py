"""The run's side of a rollout in an isolated environment: hooks and tools are called in a process."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lllm.errors import ToolError
from lllm.models.function import Function
from lllm.rl import tools
from lllm.rl.isolation.processes import Process, Processes, of_this_run

if TYPE_CHECKING:
    from lllm.rl.environment import RLEnv


class Remote:
    """The environment of one rollout. It takes a process when one is first needed; a replay needs none."""

    def __init__(self, env: RLEnv, seed: int) -> None:
        self._env, self._seed = env, seed
        self._process: Process | None = None
        self._processes: Processes | None = None
        self._alone = False
        self._lock = asyncio.Lock()

    @property
    def lost(self) -> str | None:
        """The reason why the process ended; None while it is alive."""
        return None if self._process is None else self._process.lost

    async def _taken(self) -> Process:
        async with self._lock:
            if self._process is None:
                processes = of_this_run(self._env)
                if processes is None:  # a rollout by itself
                    assert self._env.isolation is not None
                    processes, self._alone = Processes(self._env.isolation), True
                self._processes = processes
                self._process = await processes.take(self._seed)
        return self._process

    async def hook(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Calls a hook in the process, with the process's own `state` and `rng`. Returns its result."""
        sent = {one: None if one in ("state", "rng") else value for one, value in arguments.items()}
        process = await self._taken()
        return await process.ask({"do": "hook", "name": name, "arguments": sent, "seed": self._seed})

    async def tool(self, name: str, args: Sequence[Any], arguments: Mapping[str, Any]) -> Any:
        """Calls a tool in the process. Returns its result."""
        process = await self._taken()
        return await process.ask(
            {"do": "tool", "name": name, "args": tuple(args), "arguments": dict(arguments)}
        )

    async def state(self) -> Any:
        """Returns the state as JSON; None where there is no process."""
        return None if self._process is None else await self._process.ask({"do": "state"})

    async def close(self) -> str | None:
        """Ends the rollout in the process. Returns the problem."""
        process, processes = self._process, self._processes
        if process is None or processes is None:
            return None
        wrong = await processes.give_back(process, self._env.limits.teardown)
        if self._alone:
            wrong = wrong or next(iter(await processes.close()), None)
        return wrong


def remote_tools(functions: Sequence[Function]) -> tuple[Function, ...]:
    """Returns the tools of an isolated environment. The model sees the same tools; a call runs in the rollout's process."""
    return tuple(
        one if one.call is None else one.with_(call=_remote(one.name, one.call)) for one in functions
    )


def _remote(name: str, call: Any) -> Any:
    @functools.wraps(call)
    async def asked(*args: Any, **arguments: Any) -> Any:
        found = tools.state.get()
        if not isinstance(found, Remote):
            raise ToolError(
                f"the tool '{name}' runs in the process of a rollout, and none is under way",
                hint="Tools of an isolated environment run in its rollouts: env(llm).",
            )
        return await found.tool(name, args, arguments)

    asked.__signature__ = inspect.signature(call)  # type: ignore[attr-defined]
    return asked
