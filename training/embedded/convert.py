"""Write a trained model as one GGUF file with its tokenizer and chat template.

    python -m training.embedded convert --run runs/first --out lllm/backends/weights

The output folder gets embedded-q8_0.gguf, tokenizer.json and SHA256SUMS; chat_template.jinja and MODEL_CARD.md are
kept there by hand and are listed in SHA256SUMS as well.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from lllm.backends.gguf_writer.file import Header, Tensor, write_file
from lllm.backends.gguf_writer.vocabulary import vocabulary_of

from . import tokenizer
from .model import Shape
from .weights import GGUF_NAME, SUMS, TEMPLATE, WEIGHTS, checksums


def convert(run: Path, out: Path, kind: str = "Q8_0") -> Path:
    """Quantises the checkpoint of a run; returns the path of the GGUF file."""
    shape = Shape(**json.loads((run / "shape.json").read_text()))
    weights = torch.load(run / "checkpoint.pt", weights_only=True)["model"]
    text = (run / "tokenizer.json").read_text()
    out.mkdir(parents=True, exist_ok=True)
    (out / "tokenizer.json").write_text(text)
    header = Header(
        context=shape.context,
        width=shape.width,
        layers=shape.layers,
        hidden=shape.hidden,
        heads=shape.heads,
        pairs=shape.heads,
        head_size=shape.width // shape.heads,
        rope_base=shape.rope_base,
        epsilon=shape.epsilon,
        vocabulary=shape.vocabulary,
        name="lllm embedded arithmetic demo",
        description="Turns arithmetic in English into calculator tool calls, and nothing else.",
        license="MIT",
    )
    vocabulary = vocabulary_of(
        json.loads(text),
        shape.vocabulary,
        ends=[tokenizer.EOS],
        bos=tokenizer.PAD,
        pad=tokenizer.PAD,
        template=TEMPLATE.read_text(),
    )
    # names and order of rows are llama.cpp's own already
    tensors = [Tensor(name, tuple(one.shape), one.float().numpy) for name, one in weights.items()]
    return write_file(out / GGUF_NAME, header, vocabulary, tensors, kind)


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
