"""The embedded model's converter writes the shipped file, byte for byte, of a checkpoint with its numbers."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import gguf
import torch

from training.embedded.convert import convert
from training.embedded.model import Shape
from training.embedded.weights import GGUF_NAME, WEIGHTS


def test_the_shipped_file_is_written_of_its_own_numbers(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shipped = gguf.GGUFReader(WEIGHTS / GGUF_NAME)
    weights = {
        one.name: torch.from_numpy(gguf.quants.dequantize(one.data, one.tensor_type).copy())
        for one in shipped.tensors
    }
    torch.save({"model": weights}, run / "checkpoint.pt")
    (run / "shape.json").write_text(json.dumps(asdict(Shape())))
    (run / "tokenizer.json").write_bytes((WEIGHTS / "tokenizer.json").read_bytes())
    path = convert(run, tmp_path / "out")
    assert path.read_bytes() == (WEIGHTS / GGUF_NAME).read_bytes()
