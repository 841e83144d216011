"""Environments, rewards and trainers, which come with a later version: importing this says so."""

from lllm.porting import no_module

raise no_module("lllm.rl")
