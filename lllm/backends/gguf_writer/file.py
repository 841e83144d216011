"""The GGUF file itself: a header, a vocabulary and tensors, written so that it is whole or not there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

import gguf
import numpy as np

from lllm.atomic_files import atomic
from lllm.errors import ConfigError, listing

KINDS: Final[Mapping[str, str]] = {
    "F32": "four bytes per number: exactly the trained weights",
    "F16": "two bytes per number",
    "BF16": "two bytes per number, with the range of F32",
    "Q8_0": "about one byte per number: llama.cpp's usual 8 bits",
}
"""The ways in which matrices can be stored. Vectors (norms, biases) are F32 in all of them."""

_FALLBACK: Final = "F16"
"""For a matrix whose rows are no whole number of blocks."""
_LARGEST: Final = float(np.finfo(np.float16).max)


class Header(NamedTuple):
    """The metadata of a llama GGUF file."""

    context: int
    width: int
    layers: int
    hidden: int
    heads: int
    pairs: int
    head_size: int
    rope_base: float
    epsilon: float
    vocabulary: int
    name: str | None = None
    description: str | None = None
    license: str | None = None


class Vocabulary(NamedTuple):
    """A BPE vocabulary, byte-level or of SentencePiece.

    Attributes:
        pre: llama.cpp's name of the pre-tokenizer. tokens: all texts by number. kinds: of each token, a `gguf.TokenType`.
        model: llama.cpp's name of the kind: `gpt2` is byte-level, `llama` SentencePiece.
        merges: of a byte-level one, two parts with a space between them, best first.
        scores: of a SentencePiece one, by number; the highest is merged first. space_prefix: it has a space before each text.
        ends: tokens that end a turn; the first is end of text. bos, pad, unknown: numbers; None: there is none.
        add_bos, add_eos: whether a text is tokenised with them. template: the chat template.
    """

    pre: str
    tokens: Sequence[str]
    kinds: Sequence[int]
    ends: Sequence[int]
    merges: Sequence[str] = ()
    model: str = "gpt2"
    scores: Sequence[float] = ()
    space_prefix: bool = False
    bos: int | None = None
    pad: int | None = None
    unknown: int | None = None
    add_bos: bool = False
    add_eos: bool = False
    template: str | None = None


class Tensor(NamedTuple):
    """A tensor that is read when it is written: name and shape in the file, and a function that returns its numbers."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], Any]


def write_file(
    path: str | Path, header: Header, vocabulary: Vocabulary, tensors: Sequence[Tensor], kind: str = "Q8_0"
) -> Path:
    """Writes a file, one tensor in memory at a time. ConfigError for a kind that there is not."""
    wanted = check_kind(kind)
    target = Path(path)
    with atomic(target) as opened, closing(gguf.GGUFWriter(Path(opened.name), "llama")) as writer:
        _add_header(writer, header, wanted)
        _add_vocabulary(writer, vocabulary)
        stored = [_stored(tensor, wanted) for tensor in tensors]
        for tensor, quantised in zip(tensors, stored, strict=True):
            shape = gguf.quants.quant_shape_to_byte_shape(tensor.shape, quantised)
            writer.add_tensor_info(
                tensor.name, shape, np.dtype(np.uint8), int(np.prod(shape)), raw_dtype=quantised
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor, quantised in zip(tensors, stored, strict=True):
            array = np.ascontiguousarray(tensor.read(), dtype=np.float32)
            assert array.shape == tensor.shape, tensor.name
            _check_numbers(array, tensor.name, quantised.name)
            writer.write_tensor_data(gguf.quants.quantize(array, quantised))
    return target


def _check_numbers(array: Any, name: str, kind: str) -> None:
    """Requires numbers that the kind has room for."""
    most = float(np.abs(array).max(initial=0.0))
    if not np.isfinite(most):
        raise ConfigError(
            f"the tensor '{name}' has values that are no numbers (NaN or infinite)",
            hint="The training has diverged: write an earlier checkpoint.",
        )
    if kind == _FALLBACK and most > _LARGEST:
        raise ConfigError(
            f"the tensor '{name}' has values up to {most:.3g}, and F16 has none above {_LARGEST:g}",
            hint="Write it as BF16 or F32: lllm models convert --kind BF16.",
        )


def check_kind(kind: str) -> Any:
    """The number type of a kind. ConfigError for one that there is not."""
    found = str(kind).upper()
    if found not in KINDS:
        raise ConfigError(
            f"kind is {kind!r}; it is {listing(KINDS)}",
            hint="llama-quantize of llama.cpp makes the smaller kinds of an F16 or F32 file.",
        )
    return getattr(gguf.GGMLQuantizationType, found)


def _stored(tensor: Tensor, wanted: Any) -> Any:
    if len(tensor.shape) < 2:
        return gguf.GGMLQuantizationType.F32
    block, _ = gguf.GGML_QUANT_SIZES[wanted]
    return wanted if tensor.shape[-1] % block == 0 else getattr(gguf.GGMLQuantizationType, _FALLBACK)


def _add_header(writer: Any, header: Header, wanted: Any) -> None:
    if header.name:
        writer.add_name(header.name)
    if header.description:
        writer.add_description(header.description)
    if header.license:
        writer.add_license(header.license)
    writer.add_context_length(header.context)
    writer.add_embedding_length(header.width)
    writer.add_block_count(header.layers)
    writer.add_feed_forward_length(header.hidden)
    writer.add_head_count(header.heads)
    writer.add_head_count_kv(header.pairs)
    if header.head_size * header.heads != header.width:
        writer.add_key_length(header.head_size)
        writer.add_value_length(header.head_size)
    writer.add_rope_dimension_count(header.head_size)
    writer.add_rope_freq_base(header.rope_base)
    writer.add_layer_norm_rms_eps(header.epsilon)
    writer.add_vocab_size(header.vocabulary)
    name = wanted.name
    writer.add_file_type(
        gguf.LlamaFileType.ALL_F32 if name == "F32" else getattr(gguf.LlamaFileType, f"MOSTLY_{name}")
    )


def _add_vocabulary(writer: Any, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types(list(vocabulary.kinds))
    if vocabulary.model == "gpt2":
        writer.add_token_merges(list(vocabulary.merges))
    else:
        writer.add_token_scores(list(vocabulary.scores))
        writer.add_add_space_prefix(vocabulary.space_prefix)
    # llama.cpp takes token 11 for the beginning and the end where a file names none
    writer.add_bos_token_id(vocabulary.ends[0] if vocabulary.bos is None else vocabulary.bos)
    for add, number in zip(
        (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id),
        vocabulary.ends,
        strict=False,
    ):
        add(number)
    if vocabulary.pad is not None:
        writer.add_pad_token_id(vocabulary.pad)
    if vocabulary.unknown is not None:
        writer.add_unk_token_id(vocabulary.unknown)
    writer.add_add_bos_token(vocabulary.add_bos)
    if vocabulary.add_eos:
        writer.add_add_eos_token(True)
    if vocabulary.template:
        writer.add_chat_template(vocabulary.template)
