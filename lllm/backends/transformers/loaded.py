"""A model in this process, and what can be said about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lllm.backends.local.packages import version_of
from lllm.backends.transformers.options import LoadOptions
from lllm.errors import text_of


@dataclass
class Loaded:
    """A model and its tokenizer.

    Attributes:
        model: the torch module, in evaluation mode, on `device`.
        tokenizer: transformers' tokenizer, with end of text, padding and chat template set.
        device: where the model is, and `why` it is there.
        dtype: the name of the weights' dtype.
        context: tokens of one request, prompt and reply together.
        eos: the tokens that end a reply.
        name: the last component of the path.
        seconds: how long loading took.
        options: what it was loaded with.
        unused: tensors of its files that the model has no place for.
    """

    model: Any
    tokenizer: Any
    device: str
    why: str
    dtype: str
    context: int
    eos: frozenset[int]
    name: str
    seconds: float
    options: LoadOptions = field(default_factory=LoadOptions)
    compiled: str = "off"
    """off, on, or `failed: REASON`."""
    unused: tuple[str, ...] = ()

    def compile(self) -> bool:
        """Compiles the model in place and runs it once. Says whether that worked: where it did not, the model works on as it
        was, and `compiled` has the reason."""
        import torch

        self.decompile()
        try:
            self.model.forward = torch.compile(self.model.forward, dynamic=True)
            self._once()
        except Exception as error:
            self.decompile()
            self.compiled = f"failed: {(text_of(error).strip() or type(error).__name__).splitlines()[0]}"
            return False
        self.compiled = "on"
        return True

    def decompile(self) -> None:
        """Takes `compile` back."""
        self.model.__dict__.pop("forward", None)  # the class's own shows again
        self.compiled = "off"

    def _once(self) -> None:
        import torch

        with torch.inference_mode():
            self.model(torch.tensor([sorted(self.eos)[:1] or [0]], device=self.device))

    def info(self) -> dict[str, Any]:
        """What the model is: architecture, parameters, weight_bytes, dtype, device, device_reason, context, quantization,
        compile, attention, lora, load_seconds, and the versions of torch and transformers."""
        return {
            "name": self.name,
            "architecture": type(self.model).__name__,
            "parameters": _parameters(self.model),
            "weight_bytes": _weight_bytes(self.model),
            "dtype": self.dtype,
            "device": self.device,
            "device_reason": self.why,
            "context": self.context,
            "quantization": self.options.quantization or "none",
            "compile": self.compiled,
            "attention": getattr(self.model.config, "_attn_implementation", None),
            "lora": Path(self.options.lora).name if self.options.lora else None,
            "load_seconds": round(self.seconds, 3),
            "torch": version_of("torch"),
            "transformers": version_of("transformers"),
        }


def _parameters(model: Any) -> int:
    """Numbers that the model has learnt, those of packed layers too."""
    count = sum(int(part.numel()) for part in model.parameters())
    return count + sum(
        int(weight.numel()) + (0 if bias is None else int(bias.numel())) for weight, bias in _packed(model)
    )


def _weight_bytes(model: Any) -> int:
    count = sum(int(part.numel()) * int(part.element_size()) for part in model.parameters())
    return count + sum(
        int(weight.numel()) * int(weight.element_size())
        + (0 if bias is None else int(bias.numel()) * int(bias.element_size()))
        for weight, bias in _packed(model)
    )


def _packed(model: Any) -> Iterator[tuple[Any, Any]]:
    for part in model.modules():
        if hasattr(part, "_packed_params") and callable(getattr(part, "weight", None)):
            yield part.weight(), part.bias()
