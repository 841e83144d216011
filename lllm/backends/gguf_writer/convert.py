"""From a llama model of transformers to a header, tensors and a vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from lllm.backends.gguf_writer.file import Header, Tensor, Vocabulary, check_kind, write_file
from lllm.backends.gguf_writer.rope import rope_base, rope_factors
from lllm.backends.gguf_writer.sources import Source, open_source
from lllm.backends.gguf_writer.vocabulary import read_vocabulary
from lllm.errors import ConfigError

ARCHITECTURE = "LlamaForCausalLM"


def write_gguf(
    source: Any,
    path: str | Path,
    *,
    kind: str = "Q8_0",
    tokenizer: Any = None,
    lora: str | Path | None = None,
    name: str | None = None,
) -> Path:
    """Writes a model as a GGUF file that llama.cpp and transformers load; returns its path.

    Args:
        source: a folder that `save_pretrained` wrote, a GGUF file, or a model of transformers or peft, which needs its
            `tokenizer` and is left as it is: adapters are merged into a copy.
        kind: how matrices are stored, see KINDS.
        lora: a folder with an adapter that is merged into the weights.
        name: what the file calls the model; by default what its folder is called.

    Raises ConfigError, DependencyError, LLMInitializationError: what is given is no model. ConfigError: a model or a
    tokenizer that the file would not hold exactly.
    """
    check_kind(kind)
    return write_file(path, *_contents(open_source(source, tokenizer, lora), name), kind)


def check_gguf(source: Any, *, tokenizer: Any = None) -> None:
    """Raises what `write_gguf` would raise for a model or a tokenizer that a file would not hold, and writes none: to know it
    before a training."""
    _contents(open_source(source, tokenizer), None)


def _contents(found: Source, name: str | None) -> tuple[Header, Vocabulary, list[Tensor]]:
    header = _header(found.model.config, name or found.name)
    vocabulary = read_vocabulary(found.tokenizer, header.vocabulary, found.ends)
    return header, vocabulary, list(_tensors(found.model, header))


def _header(config: Any, name: str | None) -> Header:
    """The header. ConfigError where the model is another than llama.cpp's llama."""
    architectures = list(getattr(config, "architectures", None) or [])
    if config.model_type != "llama" or (architectures and ARCHITECTURE not in architectures):
        named = ", ".join(architectures) or config.model_type
        raise ConfigError(
            f"{named} is not written as GGUF: only {ARCHITECTURE} is",
            hint="convert_hf_to_gguf.py of llama.cpp writes others. The folder itself runs with transformers/FOLDER.",
        )
    if config.hidden_act not in ("silu", "swish"):
        raise ConfigError(
            f"the activation '{config.hidden_act}' is none that llama.cpp has for llama: it has silu"
        )
    heads = int(config.num_attention_heads)
    return Header(
        context=int(config.max_position_embeddings),
        width=int(config.hidden_size),
        layers=int(config.num_hidden_layers),
        hidden=int(config.intermediate_size),
        heads=heads,
        pairs=int(config.num_key_value_heads or heads),
        head_size=int(getattr(config, "head_dim", None) or config.hidden_size // heads),
        rope_base=rope_base(config),
        epsilon=float(config.rms_norm_eps),
        vocabulary=int(config.vocab_size),
        name=name,
    )


def _tensors(model: Any, header: Header) -> Iterator[Tensor]:
    """The tensors under the names of GGUF, in the order of the model."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, header.layers)
    state: Mapping[str, Any] = model.state_dict()
    tied = bool(model.config.tie_word_embeddings)
    factors = rope_factors(model.config, header.head_size)
    if factors is not None:
        yield Tensor("rope_freqs.weight", tuple(factors.shape), lambda: factors)
    for name, tensor in state.items():
        if name.endswith("rotary_emb.inv_freq") or (tied and name == "lm_head.weight"):
            continue
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise ConfigError(f"the tensor '{name}' has no place in a llama GGUF file")
        heads = header.heads if ".q_proj." in name else header.pairs if ".k_proj." in name else None
        yield Tensor(found, tuple(tensor.shape), _reader(tensor, heads))


def _reader(tensor: Any, heads: int | None) -> Any:
    def read() -> Any:
        array = tensor.detach().float().cpu().numpy()
        return array if heads is None else interleaved(array, heads)

    return read


def interleaved(array: Any, heads: int) -> Any:
    """Rows of queries or keys in the order of llama.cpp, which rotates neighbours; transformers rotates a row of the first half
    of a head with one of the second."""
    size = array.shape[0] // heads
    return np.ascontiguousarray(
        array.reshape(heads, 2, size // 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
    )
