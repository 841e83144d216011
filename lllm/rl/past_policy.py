"""The place of a policy whose weights are no more: rollouts of a training are replayed with it."""

from __future__ import annotations

from lllm.backends.transformers.backend import TransformersBackend


class PastPolicy(TransformersBackend):
    """What a policy in training can do, without weights: a replay asks it nothing."""

    name = "policy"
    needs_model = False
    only_model = "policy"
