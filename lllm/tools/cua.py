"""Computer use, which comes with a later version: importing this says so."""

from lllm.porting import no_module

raise no_module("lllm.tools.cua")
