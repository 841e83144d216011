"""A kernel without a sandbox: the control of attacks. It is used in a world of its own only."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from lllm.sandbox.isolation import command
from lllm.sandbox.limits import Limits


class Uncontained:
    """See `lllm.sandbox.kernel.Process`."""

    in_memory = ()

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen

    @property
    def pid(self) -> int:
        return self._popen.pid

    def said(self) -> str:
        return ""

    def code(self) -> int | None:
        return self._popen.poll()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._popen.kill()
        self._popen.wait()


def launch(sockets: Path, folder: Path, limits: Limits) -> Uncontained:
    """Starts a kernel with lllm's own environment and rights."""
    variables = {**os.environ, **command.environment(str(sockets), str(sockets))}
    null = subprocess.DEVNULL
    popen = subprocess.Popen(
        command.kernel(sockets), cwd=folder, env=variables, stdin=null, stdout=null, stderr=null
    )
    return Uncontained(popen)
