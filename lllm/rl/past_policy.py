"""A stand-in for a policy whose weights were trained on: replays of a training's rollouts use it."""

from __future__ import annotations

from lllm.backends.transformers.backend import TransformersBackend


class PastPolicy(TransformersBackend):
    """A policy in training without its weights. A replay makes no requests to it."""

    name = "policy"
    needs_model = False
    only_model = "policy"
