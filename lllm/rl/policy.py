"""The policy in training as a backend: the weights that the trainer changes answer rollouts, through the same engine as a
deployed model's."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from lllm.backends.transformers.backend import TransformersBackend
from lllm.backends.transformers.engine import Engine
from lllm.backends.transformers.load import Loaded, ends_of
from lllm.backends.transformers.options import LoadOptions


class PolicyBackend(TransformersBackend):
    """A `lllm.ports.Backend` on a model that is there already.

    Args:
        model: the torch module; a trainer may change its weights between rollouts, not within one. tokenizer: its tokenizer.
        batch: the most requests that are decoded together.

    Attributes:
        version: of the weights: `STEP-DIGEST`. Rollouts carry it.
    """

    name = "policy"
    needs_model = False
    only_model = "policy"

    def __init__(
        self, model: Any, tokenizer: Any, *, batch: int = 32, prefix_tokens: int | None = None
    ) -> None:
        super().__init__(batch=batch, prefix_tokens=prefix_tokens)
        options = LoadOptions()
        self.model = model
        config = model.config.get_text_config()
        weight = next(model.parameters())
        path = Path(str(getattr(model.config, "_name_or_path", "") or "policy"))
        loaded = Loaded(
            model=model,
            tokenizer=tokenizer,
            device=str(weight.device),
            why="the trainer put it there",
            dtype=str(weight.dtype).removeprefix("torch."),
            context=int(getattr(config, "max_position_embeddings", None) or 4096),
            eos=ends_of(model, tokenizer, path.name),
            name=path.name or "policy",
            seconds=0.0,
            options=options,
        )
        self._engine_of_policy = Engine(loaded, options, batch=batch, prefix_tokens=prefix_tokens)
        self.version = ""
        self.updated(0)

    def load(self, model: str = "policy") -> Engine:
        """See `TransformersBackend.load`."""
        self._engines["policy"] = self._engine_of_policy
        return self._engine_of_policy

    async def _engine(self, model: str) -> Engine:
        return self._engine_of_policy

    def updated(self, step: int) -> str:
        """Says that the weights are those after an optimizer step: what was kept of earlier requests is dropped. Returns the
        version."""
        if self._engine_of_policy.batcher is not None:
            self._engine_of_policy.batcher.forget_prefixes()
        self.version = f"{step}-{fingerprint(self.model)}"
        return self.version


def fingerprint(model: Any) -> str:
    """Twelve hexadecimal digits that differ where weights differ: of sums and sums of squares, in double precision, not of
    every byte, which would take a large model seconds."""
    digest = hashlib.sha256()
    with torch.no_grad():
        for name, part in model.named_parameters():
            values = part.detach().double()
            digest.update(f"{name} {values.sum().item()!r} {values.square().sum().item()!r}\n".encode())
    return digest.hexdigest()[:12]
