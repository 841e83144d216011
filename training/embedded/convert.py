"""Write a trained model as one GGUF file with its tokenizer and chat template.

    python -m training.embedded convert --run runs/first --out lllm/backends/weights

The output folder gets embedded-q8_0.gguf, tokenizer.json and SHA256SUMS; chat_template.jinja and MODEL_CARD.md are
kept there by hand and are listed in SHA256SUMS as well.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import torch

from . import tokenizer
from .model import Shape
from .weights import GGUF_NAME, SUMS, TEMPLATE, WEIGHTS, checksums


def convert(run: Path, out: Path, kind: str = "Q8_0") -> Path:
    """Quantise the checkpoint of a run; returns the path of the GGUF file."""
    shape = Shape(**json.loads((run / "shape.json").read_text()))
    weights = torch.load(run / "checkpoint.pt", weights_only=True)["model"]
    out.mkdir(parents=True, exist_ok=True)
    vocabulary = json.loads((run / "tokenizer.json").read_text())
    (out / "tokenizer.json").write_text((run / "tokenizer.json").read_text())
    path = out / GGUF_NAME
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("lllm embedded arithmetic demo")
    writer.add_description("Turns arithmetic in English into calculator tool calls, and nothing else.")
    writer.add_license("MIT")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_vocab_size(shape.vocabulary)
    quantisation = getattr(gguf.GGMLQuantizationType, kind)
    writer.add_file_type(getattr(gguf.LlamaFileType, f"MOSTLY_{kind}"))
    _add_tokenizer(writer, vocabulary, shape)
    for name, tensor in weights.items():
        array = tensor.float().numpy()
        if array.ndim == 2:
            writer.add_tensor(name, gguf.quants.quantize(array, quantisation), raw_dtype=quantisation)
        else:
            writer.add_tensor(name, array.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: gguf.GGUFWriter, vocabulary: dict[str, object], shape: Shape) -> None:
    model = vocabulary["model"]
    assert isinstance(model, dict)
    entries: dict[int, str] = {place: text for text, place in model["vocab"].items()}
    added = vocabulary["added_tokens"]
    assert isinstance(added, list)
    entries |= {token["id"]: token["content"] for token in added}
    tokens = [entries[place] for place in range(shape.vocabulary)]
    kinds = [gguf.TokenType.NORMAL] * len(tokens)
    for token in added:
        kinds[token["id"]] = gguf.TokenType.CONTROL if token["special"] else gguf.TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(
        [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    )
    writer.add_bos_token_id(tokenizer.PAD)
    writer.add_eos_token_id(tokenizer.EOS)
    writer.add_pad_token_id(tokenizer.PAD)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE.read_text())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", default="runs/embedded", help="folder of the training run")
    parser.add_argument("--out", default=str(WEIGHTS), help="folder for the weights")


def main(arguments: argparse.Namespace) -> None:
    out = Path(arguments.out)
    path = convert(Path(arguments.run), out)
    if not (out / "chat_template.jinja").exists():
        (out / "chat_template.jinja").write_text(TEMPLATE.read_text())
    (out / SUMS).write_text(checksums(out))
    print(f"{path}: {path.stat().st_size:,} bytes")
