"""The sandbox for every Jupyter client: a kernelspec whose kernel is started in it.

    python -m lllm.sandbox.provisioner            installs the kernelspec `lllm-sandbox` for this environment

JupyterLab, nbclient, papermill and others then run notebooks in the sandbox: `--kernel lllm-sandbox`. Each kernel has an empty
working folder of its own, which is removed when it ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Final

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import KernelProvisionerBase

from lllm.sandbox import folders
from lllm.sandbox.channels import connection
from lllm.sandbox.host import host
from lllm.sandbox.kernel import Launch, Process
from lllm.sandbox.limits import Limits
from lllm.sandbox.watch import Watch
from lllm.sandbox.workspace import Workspace
from lllm.sync import in_thread

NAME: Final = "lllm-sandbox"
"""Of the kernelspec and of the provisioner, in the entry-point group `jupyter_client.kernel_provisioners`."""

LOOK: Final = 0.02
LOOK_AT_LIMITS: Final = 0.25


class Provisioner(KernelProvisionerBase):  # type: ignore[misc]
    """Starts kernels in a sandbox. `limits`, `tier` and `required` are in the kernelspec's
    `kernel_provisioner.config`, and mean what they mean for a JupyterSession; but `required` is true by default."""

    _process: Process | None = None
    _folder: Path | None = None
    _info: dict[str, Any] | None = None
    _watching: asyncio.Task[None] | None = None

    def __init__(
        self,
        *,
        limits: dict[str, Any] | None = None,
        tier: str | None = None,
        required: bool = True,
        **more: Any,
    ) -> None:
        super().__init__(**more)
        self._tier, self._required = tier, required
        self._limits = Limits.of(limits)

    @property
    def has_process(self) -> bool:
        """Whether a kernel was started, and not cleaned up."""
        return self._process is not None

    async def poll(self) -> int | None:
        """Returns the exit status; None while it runs."""
        return 0 if self._process is None else self._process.code()

    async def wait(self) -> int | None:
        """Waits for the end of the kernel."""
        while (process := self._process) is not None:
            if (code := process.code()) is not None:
                await self._kill()
                return code
            await asyncio.sleep(LOOK)
        return None

    async def send_signal(self, signum: int) -> None:
        """Kills it: no other signal reaches into a sandbox. Interrupts come by message, as the kernelspec says."""
        if signum in (9, 15):
            await self._kill()

    async def kill(self, restart: bool = False) -> None:
        """Kills the kernel with all its processes."""
        await self._kill()

    async def terminate(self, restart: bool = False) -> None:
        """See `kill`."""
        await self._kill()

    async def _kill(self) -> None:
        if (process := self._process) is not None:
            self._process = None
            await host().call(_killed(process, self._watching))

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Prepares nothing: the command and its environment are the sandbox's own."""
        found: dict[str, Any] = await super().pre_launch(cmd=[], **kwargs)
        return found

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Starts the kernel in its sandbox."""
        self.connection_info = await host().call(self._launch())
        return self.connection_info

    async def _launch(self) -> KernelConnectionInfo:
        if self._folder is None:
            folders.sweep()
            self._folder = folders.make()
            (self._folder / "work").mkdir()
            host().at_exit(self, self._at_exit)
        sockets = self._folder / "s"
        folders.remove(sockets)
        sockets.mkdir(mode=0o700)
        info = self._info = self._info or connection(sockets)  # a client keeps its connection over a restart
        (sockets / "connection.json").write_text(json.dumps(info))
        self._process = self.launcher(self._tier, self._required)(
            sockets, self._folder / "work", self._limits
        )
        watch = Watch(self._process, [Workspace(self._folder / "work")], self._limits)
        self._watching = asyncio.get_running_loop().create_task(_watch(self._process, watch))
        return {**info, "key": info["key"].encode()}

    @staticmethod
    def launcher(tier: str | None, required: bool) -> Launch:
        """What starts the kernel."""
        from lllm.sandbox.isolation.tiers import choose

        return choose(tier, required=required).launch

    def _at_exit(self) -> None:
        if self._process is not None:
            self._process.kill()
        if self._folder is not None:
            folders.remove(self._folder)

    async def cleanup(self, restart: bool = False) -> None:
        """Removes the working folder, unless the kernel starts again."""
        await self._kill()
        if not restart and self._folder is not None:
            host().forget(self)
            folders.remove(self._folder)
            self._folder = None

    def get_shutdown_wait_time(self, recommended: float = 5.0) -> float:
        """Returns the seconds in which a kernel may end by itself."""
        return min(recommended, 2.0)


async def _watch(process: Process, watch: Watch) -> None:
    """Ends the kernel when a limit is exceeded."""
    while process.code() is None:
        if await in_thread(watch.look) is not None:
            await in_thread(process.kill)
        await asyncio.sleep(LOOK_AT_LIMITS)


async def _killed(process: Process, watching: asyncio.Task[None] | None) -> None:
    if watching is not None:
        watching.cancel()
    await in_thread(process.kill)


def kernelspec(config: dict[str, Any]) -> dict[str, Any]:
    """The kernelspec, as `kernel.json` has it."""
    return {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3 (sandbox)",
        "language": "python",
        "interrupt_mode": "message",
        "metadata": {"kernel_provisioner": {"provisioner_name": NAME, "config": config}},
    }


def install(
    prefix: str | Path | None = None,
    *,
    limits: dict[str, Any] | None = None,
    tier: str | None = None,
    required: bool = True,
) -> Path:
    """Installs the kernelspec. Returns its folder.

    Args:
        prefix: below which folder: `PREFIX/share/jupyter/kernels`; by default that of the environment.
        limits: see `Limits`. tier: see `JupyterSession`. required: refuse to start kernels below that tier.
    """
    Limits.of(limits)
    config = {"tier": tier, "required": required, **({"limits": limits} if limits else {})}
    folder = Path(sys.prefix if prefix is None else prefix) / "share" / "jupyter" / "kernels" / NAME
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kernel.json").write_text(json.dumps(kernelspec(config), indent=1) + "\n")
    return folder


if __name__ == "__main__":
    sys.stdout.write(f"{install()}\n")
