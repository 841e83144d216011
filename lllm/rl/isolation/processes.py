"""The processes of an isolated environment: one for each running rollout, reused by the next, and killed when it hangs."""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from lllm.errors import ConfigError, SandboxBroken
from lllm.rl.isolation.frames import LENGTH, MOST, framed
from lllm.rl.isolation.plan import Plan
from lllm.sync import in_thread, run

if TYPE_CHECKING:
    from lllm.rl.environment import RLEnv

START: Final = 60.0
"""Seconds in which a process must have made the environment."""
_END: Final = 5.0
_PROGRAM: Final = "import json, sys; sys.path[:] = json.loads(sys.argv[2]); from lllm.rl.isolation.child import main; main()"


class ProcessLost(SandboxBroken):
    """The process of an environment has ended, or was killed at a time limit. The rollout is missing."""


class Process:
    """A process that runs one rollout at a time. Closing it kills it and all processes that it started."""

    def __init__(self) -> None:
        self.lost: str | None = None
        """Why it does not answer any more; None while it does."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._popen = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(theirs.fileno()), json.dumps(sys.path)],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._socket = ours
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()

    @classmethod
    async def started(cls, plan: Plan) -> Process:
        """Starts a process and makes the environment in it. Raises ConfigError where that fails."""
        found = cls()
        try:
            async with asyncio.timeout(START):
                await found.ask({"do": "plan", "plan": plan})
        except TimeoutError:
            await found.close()
            raise ProcessLost(
                f"the environment's process did not make the environment within {START:g} s"
            ) from None
        except RemoteError as error:
            await found.close()
            raise ConfigError(
                f"isolated: the environment cannot be made in a process of its own: {type(error).__name__}: {error}"
            ) from error
        except BaseException:
            await found.close()
            raise
        return found

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    async def ask(self, message: Mapping[str, Any]) -> Any:
        """Sends a message to the process and returns its answer. A cancelled call kills the process, whose state is then
        unknown.

        Raises ProcessLost; RemoteError for an error of the code there.
        """
        async with self._turn:
            if self.lost is not None:
                raise ProcessLost(self.lost)
            try:
                data = await self._exchange(framed(pickle.dumps(dict(message))))
            except asyncio.CancelledError:
                self.kill(f"the environment's process was stopped at a time limit, in {_doing(message)}")
                raise
            except (OSError, EOFError, asyncio.IncompleteReadError) as error:
                code = await in_thread(self._ended)
                self.kill(f"the environment's process ended ({code}) in {_doing(message)}")
                raise ProcessLost(str(self.lost)) from error
        found = json.loads(data)
        if "error" in found:
            kind = type(found["error"], (RemoteError,), {})
            raise kind(found["words"])
        return found["value"]

    async def _exchange(self, data: bytes) -> bytes:
        if self._streams is None:
            self._streams = await asyncio.open_connection(sock=self._socket)
        reader, writer = self._streams
        writer.write(data)
        await writer.drain()
        (size,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        if size > MOST:
            raise EOFError(f"a message of {size} bytes")
        return await reader.readexactly(size)

    def _ended(self) -> str:
        try:
            code = self._popen.wait(timeout=_END)
        except subprocess.TimeoutExpired:
            return "it closed its connection"
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def kill(self, why: str) -> None:
        """Kills it and what it started."""
        self.lost = self.lost or why
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        if self.running:
            self._popen.kill()

    async def close(self) -> str | None:
        """Kills the process. Returns a problem where it is still alive."""
        self.kill("the environment's process was closed")
        if self._streams is not None:
            self._streams[1].close()
        else:
            self._socket.close()
        try:
            await in_thread(self._popen.wait, timeout=_END)
        except subprocess.TimeoutExpired:
            return f"the process {self.pid} of the environment is still open"
        return None


class RemoteError(Exception):
    """An error of the environment's code in its process, of a class with the same name."""


def _doing(message: Mapping[str, Any]) -> str:
    name = message.get("name")
    return f"the {message['do']} {name}" if name else f"'{message['do']}'"


class Processes:
    """The processes of one run of an environment."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._idle: list[Process] = []
        self.open: set[Process] = set()

    async def take(self, seed: int) -> Process:
        """Returns a process for a rollout."""
        found: Process | None = None
        while found is None and self._idle:
            found = self._idle.pop()
            if not found.running:
                await self._close(found)
                found = None
        if found is None:
            found = await Process.started(self.plan)
            self.open.add(found)
        await found.ask({"do": "begin", "seed": seed})
        return found

    async def give_back(self, process: Process, limit: float | None) -> str | None:
        """Ends the rollout of a process and keeps the process for the next one, or closes it where that fails. Returns the
        problem."""
        wrong: str | None = None
        if process.lost is None:
            try:
                async with asyncio.timeout(limit):
                    await process.ask({"do": "end"})
            except TimeoutError:
                wrong = f"TimeoutError: it did not close within {limit:g} s"
            except (RemoteError, ProcessLost) as error:
                wrong = f"{type(error).__name__}: {error}"
        if process.lost is None:
            self._idle.append(process)
            return wrong
        return await self._close(process) or wrong

    async def _close(self, process: Process) -> str | None:
        wrong = await process.close()
        if wrong is None:
            self.open.discard(process)
        return wrong

    async def close(self) -> list[str]:
        """Closes all processes. Returns the problems with those that are still alive."""
        self._idle.clear()
        found = [await self._close(one) for one in list(self.open)]
        return [one for one in found if one is not None]


_run: Final[contextvars.ContextVar[tuple[RLEnv, Processes] | None]] = contextvars.ContextVar(
    "lllm_rollout_processes", default=None
)


def of_this_run(env: RLEnv) -> Processes | None:
    """Returns the processes that the rollouts of the current run share; None outside of a run."""
    found = _run.get()
    return found[1] if found is not None and found[0] is env else None


class SharedProcesses:
    """Gives the rollouts within a block the same processes, and closes these at its end; one that cannot be closed is noted in
    `env.leaks`.

    `async with` stands around the rollouts of one run, `with` around several runs that follow each other, as the steps of a
    training. A block within another one of the same environment shares the processes of the outer one. An environment that is
    not isolated has none.
    """

    def __init__(self, env: RLEnv) -> None:
        self._env = env
        self._processes: Processes | None = None

    def __enter__(self) -> None:
        if self._env.isolation is not None and of_this_run(self._env) is None:
            self._processes = Processes(self._env.isolation)
            self._token = _run.set((self._env, self._processes))

    def __exit__(self, *_: object) -> None:
        if (processes := self._left()) is not None:
            self._env.leaks += run(processes.close())

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        if (processes := self._left()) is not None:
            self._env.leaks += await processes.close()

    def _left(self) -> Processes | None:
        found, self._processes = self._processes, None
        if found is not None:
            _run.reset(self._token)
        return found
