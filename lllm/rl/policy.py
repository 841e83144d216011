"""The policy in training as a backend: rollouts run on the weights that the trainer changes, with the engine of deployed
models."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import torch

from lllm.backends.transformers.backend import TransformersBackend
from lllm.backends.transformers.engine import Engine
from lllm.backends.transformers.load import Loaded, ends_of
from lllm.backends.transformers.options import LoadOptions
from lllm.backends.transformers.packed import packed
from lllm.errors import UnsupportedError
from lllm.ports import Capabilities, Delta, Request


class PolicyBackend(TransformersBackend):
    """A `lllm.ports.Backend` on a model that is loaded already.

    Args:
        model: the torch module; a trainer may change its weights between rollouts, not within one. tokenizer: its tokenizer.
        batch: the most requests that are decoded together.

    Attributes:
        version: of the weights: `STEP-DIGEST`. Rollouts carry it.
    """

    name = "policy"
    needs_model = False
    only_model = "policy"
    capabilities = Capabilities(tools=True, logprobs=True, token_ids=True, seed=True, local=True)

    def __init__(
        self, model: Any, tokenizer: Any, *, batch: int = 32, prefix_tokens: int | None = None
    ) -> None:
        super().__init__(batch=batch, prefix_tokens=prefix_tokens)
        options = LoadOptions()
        if hasattr(model, "peft_config") and hasattr(model, "get_base_model"):
            model = (
                model.get_base_model()
            )  # adapters are in its layers; the wrapper hides what its forward takes
        self.model = model
        self._attention: str | None = getattr(model.config, "_attn_implementation", None)
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
        self._decodes_with: str | None = getattr(model.config, "_attn_implementation", None)
        self.version = ""
        self.updated(0)

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """See `lllm.ports.Backend`. No grammar holds the reply: tokens that it forces are none that the policy chose. What the
        output schema says is checked by the agent call, which asks for a repair.

        Raises UnsupportedError: the request forces a tool call.
        """
        if request.sampling.get("tool_choice") not in (None, "auto", "none"):
            raise UnsupportedError(
                "the policy in training is not forced to call a tool: forced tokens are none that it chose",
                hint="Leave tool_choice out, and reward the call.",
            )
        async with aclosing(super().stream(request._replace(format=None))) as deltas:
            async for delta in deltas:
                yield delta

    def load(self, model: str = "policy") -> Engine:
        """See `TransformersBackend.load`."""
        self._engines["policy"] = self._engine_of_policy
        return self._engine_of_policy

    async def _engine(self, model: str) -> Engine:
        return self._engine_of_policy

    def rest(self) -> None:
        """Gives the model back to its trainer, with its original attention implementation."""
        self._attend(self._attention)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Prepares the model for generation within the block: without dropout, and with the attention and layers that decode
        batches."""
        training = self.model.training
        self.model.eval()
        self._attend(self._decodes_with)
        try:
            with packed(self.model):
                yield
        finally:
            self.rest()
            self.model.train(training)

    def _attend(self, attention: str | None) -> None:
        if attention is not None and attention != self.model.config._attn_implementation:
            self.model.set_attn_implementation(attention)

    def updated(self, step: int) -> str:
        """Notes that an optimizer step has changed the weights, and empties the prefix cache. Returns the new version."""
        if self._engine_of_policy.batcher is not None:
            self._engine_of_policy.batcher.forget_prefixes()
        self.version = f"{step}-{fingerprint(self.model)}"
        return self.version


def fingerprint(model: Any) -> str:
    """Returns twelve hexadecimal digits that differ where weights differ: a digest of sums and sums of squares in double
    precision, since a digest of every byte would take seconds for a large model."""
    digest = hashlib.sha256()
    with torch.no_grad():
        for name, part in model.named_parameters():
            values = part.detach().double()
            digest.update(f"{name} {values.sum().item()!r} {values.square().sum().item()!r}\n".encode())
    return digest.hexdigest()[:12]
