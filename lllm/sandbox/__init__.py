"""Sandboxes: where code that a model writes runs, apart from everything else on the machine."""

from lllm.sandbox.jupyter import JupyterSession
from lllm.sandbox.limits import Limits
from lllm.sandbox.result import CellResult

__all__ = ["CellResult", "JupyterSession", "Limits"]
