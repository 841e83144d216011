"""The shipped weights in other forms: GGUF in F32 and F16, and a folder that transformers loads.

    python -m training.embedded forms FOLDER

The weights are those of the shipped file: its 8-bit numbers, written out. F32 and the folder hold them exactly, F16
rounds them to half precision. Needs gguf, numpy and safetensors; no torch.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np

from . import tokenizer
from .weights import GGUF_NAME, TEMPLATE, WEIGHTS

HALVES = {"F32": np.float32, "F16": np.float16}

RENAMED = {
    # GGUF's names of a layer's tensors -> those of transformers
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class Forms(NamedTuple):
    """The same weights, four times."""

    gguf_q8: Path
    gguf_f16: Path
    gguf_f32: Path
    folder: Path


def make(out: Path) -> Forms:
    """Writes the forms to a folder, or finds them there. Several processes may do it at once: the folder appears whole."""
    forms = Forms(
        out / GGUF_NAME, out / "embedded-f16.gguf", out / "embedded-f32.gguf", out / "embedded-transformers"
    )
    if out.is_dir():
        return forms
    out.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        shutil.copyfile(WEIGHTS / GGUF_NAME, made / GGUF_NAME)
        reader = gguf.GGUFReader(made / GGUF_NAME)
        tensors = {tensor.name: _values(tensor) for tensor in reader.tensors}
        write_gguf(made / forms.gguf_f16.name, reader, tensors, "F16")
        write_gguf(made / forms.gguf_f32.name, reader, tensors, "F32")
        write_folder(made / forms.folder.name, reader, tensors)
        os.rename(made, out)
    except OSError:
        if not out.is_dir():  # else another process was first
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return forms


def _values(tensor: gguf.ReaderTensor) -> np.ndarray:
    values: np.ndarray = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    return values


def write_gguf(path: Path, reader: gguf.GGUFReader, tensors: dict[str, np.ndarray], kind: str) -> None:
    """A GGUF file with the metadata of another and matrices in F32 or F16. Vectors stay F32, as llama.cpp wants them."""
    writer = gguf.GGUFWriter(path, "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        inner = field.types[-1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], inner)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32 if kind == "F32" else gguf.LlamaFileType.MOSTLY_F16)
    for name, values in tensors.items():
        writer.add_tensor(name, values.astype(HALVES[kind] if values.ndim == 2 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_folder(folder: Path, reader: gguf.GGUFReader, tensors: dict[str, np.ndarray]) -> None:
    """A folder for `AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained`."""
    from safetensors.numpy import save_file

    folder.mkdir()
    shape = {key: reader.fields[f"llama.{key}"].contents() for key in _SHAPE}
    heads = shape["attention.head_count"]
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape["rope.freq_base"]},
        "head_dim": shape["embedding_length"] // heads,
        "bos_token_id": None,
        "eos_token_id": tokenizer.EOS,
        "pad_token_id": tokenizer.PAD,
        **{name: shape[key] for key, name in _SHAPE.items() if name},
    }
    _write(folder / "config.json", config)
    save_file(
        {_name(name): np.ascontiguousarray(_rows(name, values, heads)) for name, values in tensors.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    _write(
        folder / "generation_config.json",
        {"do_sample": False, "eos_token_id": tokenizer.EOS, "pad_token_id": tokenizer.PAD},
    )
    shutil.copyfile(WEIGHTS / "tokenizer.json", folder / "tokenizer.json")
    pad, _, eos = tokenizer.CONTROL
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": shape["context_length"],
            "clean_up_tokenization_spaces": False,
            "eos_token": eos,
            "pad_token": pad,
            "chat_template": TEMPLATE.read_text(encoding="utf-8"),
        },
    )


_SHAPE = {
    # GGUF's key -> the key in config.json
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "",
}


def _name(name: str) -> str:
    if not name.startswith("blk."):
        return {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}[
            name
        ]
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{RENAMED[part]}.weight"


def _rows(name: str, values: np.ndarray, heads: int) -> np.ndarray:
    """transformers turns the first half of a head against the second, GGUF's llama adjacent rows."""
    if ".attn_q." not in name and ".attn_k." not in name:
        return values
    size, width = values.shape
    return values.reshape(heads, size // heads // 2, 2, width).swapaxes(1, 2).reshape(size, width)


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", help="folder for the files; what is there already is kept")


def main(arguments: argparse.Namespace) -> None:
    for path in make(Path(arguments.out)):
        files = [path] if path.is_file() else path.iterdir()
        print(f"{path}: {sum(file.stat().st_size for file in files):,} bytes")
