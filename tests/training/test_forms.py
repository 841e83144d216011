"""The embedded model's other forms hold the shipped weights."""

import json
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file

from training.embedded import forms as maker
from training.embedded.forms import Forms


def test_f32_holds_the_shipped_numbers_and_metadata(forms: Forms) -> None:
    shipped, written = gguf.GGUFReader(forms.gguf_q8), gguf.GGUFReader(forms.gguf_f32)
    for before, after in zip(shipped.tensors, written.tensors, strict=True):
        assert before.name == after.name
        assert np.array_equal(gguf.quants.dequantize(before.data, before.tensor_type), after.data)
    differing = {
        name
        for name, field in shipped.fields.items()
        if name not in written.fields or written.fields[name].contents() != field.contents()
    }
    assert differing == {"general.file_type"}


def test_f16_is_within_half_precision(forms: Forms) -> None:
    exact, rounded = gguf.GGUFReader(forms.gguf_f32), gguf.GGUFReader(forms.gguf_f16)
    for before, after in zip(exact.tensors, rounded.tensors, strict=True):
        assert np.allclose(before.data, after.data.astype(np.float32), rtol=2**-10, atol=1e-7)


def test_the_folder_names_every_tensor(forms: Forms) -> None:
    config = json.loads((forms.folder / "config.json").read_text())
    tensors = load_file(forms.folder / "model.safetensors")
    assert len(tensors) == len(gguf.GGUFReader(forms.gguf_q8).tensors)
    assert tensors["model.embed_tokens.weight"].shape == (config["vocab_size"], config["hidden_size"])
    assert {str(values.dtype) for values in tensors.values()} == {"float32"}


def test_made_twice_is_made_once(forms: Forms, tmp_path: Path) -> None:
    first = maker.make(tmp_path / "out")
    stamp = first.gguf_f32.stat().st_mtime_ns
    assert maker.make(tmp_path / "out") == first
    assert first.gguf_f32.stat().st_mtime_ns == stamp
    assert first.gguf_f16.read_bytes() == forms.gguf_f16.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
