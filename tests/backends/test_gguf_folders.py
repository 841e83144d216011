"""`lllm models convert` on folders of all kinds: written as they are, or refused with what is wrong; nothing is made up."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import IA3Config, LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from lllm import cli
from lllm.backends.gguf_writer import write_gguf
from lllm.backends.transformers.load import load
from lllm.errors import ConfigError, LLMInitializationError
from tests.backends.test_gguf_writer import gpt2, llama_logits, logits_of, tiny

IDS = list(range(3, 60))
PADDED = 7
"""Rows of the embeddings behind the tokens of the tokenizer."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that save_pretrained wrote."""
    folder = tmp_path_factory.mktemp("model")
    made = tiny(len(gpt2()) + PADDED)
    made.save_pretrained(folder)
    gpt2().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(model, tmp_path / "folder"))


def difference(folder: Path, path: Path) -> float:
    whole = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return float(np.abs(logits_of(whole, IDS) - llama_logits(path, IDS)).max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shards", ["1GB", "100KB"])
def test_weights_of_each_type_and_in_shards_are_exact(tmp_path: Path, dtype: Any, shards: str) -> None:
    made = tiny(len(gpt2()) + PADDED).to(dtype)
    made.save_pretrained(tmp_path / "folder", max_shard_size=shards)
    gpt2().save_pretrained(tmp_path / "folder")
    assert (len(list((tmp_path / "folder").glob("*.safetensors"))) > 1) is (shards == "100KB")
    path = write_gguf(tmp_path / "folder", tmp_path / "model.gguf", kind="F32")
    assert difference(tmp_path / "folder", path) < 2e-3


def edited(name: str, **keys: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))

    return change


def tensors(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        (path,) = folder.glob("*.safetensors")
        found = load_file(path)
        change(found)
        save_file(found, path, metadata={"format": "pt"})

    return changed


def cut(name: str, size: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[:size])

    return change


def without(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


UP = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("config.json"), "holds no config.json"),
        (without("model.safetensors"), "no file named model.safetensors"),
        (without("tokenizer.json"), "folder has no tokenizer"),
        (cut("tokenizer.json", 100), "the tokenizer of folder cannot be read"),
        (cut("config.json", 10), "config.json is not JSON"),
        (cut("model.safetensors", 5), "is no safetensors file"),
        (cut("model.safetensors", 5000), "could not load folder"),
        (tensors(lambda found: found.pop(UP)), f"folder lacks 1 tensor that its config.json asks for: {UP}"),
        (
            edited("config.json", num_hidden_layers=3),
            "lacks 9 tensors that its config.json asks for: .* and 6 more",
        ),
        (edited("config.json", attention_bias=True), "lacks 8 tensors"),
        (
            edited("config.json", intermediate_size=128),
            "6 tensors of other shapes .* is 64 x 96, and must be 64 x 128",
        ),
        (edited("config.json", num_hidden_layers=1), "holds 9 tensors that its config.json has no place for"),
        (
            tensors(lambda found: found.update(odd=torch.ones(2))),
            "holds 1 tensor that its config.json has no place for",
        ),
        (
            tensors(lambda found: found[UP].fill_(float("nan"))),
            "'blk.0.ffn_up.weight' has values that are no numbers",
        ),
        (
            edited("config.json", architectures=["MistralForCausalLM"], model_type="mistral"),
            "is not written as GGUF",
        ),
    ],
    ids=lambda value: value[-24:] if isinstance(value, str) else "",
)
def test_a_folder_that_is_no_whole_model_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, words: str
) -> None:
    change(folder)
    out = tmp_path / "model.gguf"
    out.write_bytes(b"old")
    assert cli.main(["models", "convert", str(folder), str(out), "--kind", "F32"]) != 0
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert "Error:" not in said.err.partition("\n")[0]
    assert re.search(words, said.err), said.err
    assert "LOAD REPORT" not in said.err
    assert out.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "model.gguf"]


def test_no_backend_answers_with_weights_that_are_made_up(folder: Path) -> None:
    assert load(str(folder)).unused == ()
    tensors(lambda found: found.pop(UP))(folder)
    with pytest.raises(LLMInitializationError, match="lacks 1 tensor"):
        load(str(folder))


def test_numbers_that_f16_has_no_room_for_are_refused(folder: Path, tmp_path: Path) -> None:
    tensors(lambda found: found[UP].mul_(1e6))(folder)
    with pytest.raises(ConfigError, match="F16 has none above 65504"):
        write_gguf(folder, tmp_path / "model.gguf", kind="F16")
    write_gguf(folder, tmp_path / "model.gguf", kind="BF16")


# --- adapters

LORA: dict[str, Any] = {"r": 4, "init_lora_weights": False, "target_modules": ["q_proj", "up_proj"]}


def adapter_of(model: Path, folder: Path, config: Any, base: str | None = "") -> Any:
    """Writes an adapter; returns the model with it."""
    made = get_peft_model(LlamaForCausalLM.from_pretrained(model), config).eval()
    made.save_pretrained(folder)
    edited("adapter_config.json", base_model_name_or_path=str(model) if base == "" else base)(folder)
    return made


@pytest.mark.filterwarnings("ignore")  # of peft, at transformers
@pytest.mark.parametrize(
    "more", [{}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"use_rslora": True}], ids=str
)
def test_an_adapter_is_merged_into_the_base_that_it_names(model: Path, tmp_path: Path, more: Any) -> None:
    made = adapter_of(model, tmp_path / "adapter", LoraConfig(task_type="CAUSAL_LM", **LORA, **more))
    out = tmp_path / "model.gguf"
    assert cli.main(["models", "convert", str(tmp_path / "adapter"), str(out), "--kind", "F32"]) == 0
    assert float(np.abs(logits_of(made, IDS) - llama_logits(out, IDS)).max()) < 2e-3
    assert difference(model, out) > 0.1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            edited("adapter_config.json", base_model_name_or_path="a/b"),
            "its base model 'a/b' is no folder here",
        ),
        (
            edited("adapter_config.json", base_model_name_or_path=None),
            "is an adapter, and names no base model",
        ),
        (cut("adapter_config.json", 3), "adapter_config.json of the adapter adapter cannot be read"),
        (
            lambda folder: (folder / "adapter_config.json").write_text("[]"),
            "is a list, and must be an object",
        ),
        (without("adapter_model.safetensors"), "the adapter adapter has no weights"),
        (cut("adapter_model.safetensors", 900), "cannot be put into the model"),
        (edited("adapter_config.json", r=8), "cannot be put into the model .*: size mismatch"),
        (edited("adapter_config.json", target_modules=["foo"]), "cannot be put into the model"),
        (edited("adapter_config.json", target_modules=["q_proj"]), "does not have the tensors that its"),
        (
            edited("adapter_config.json", target_modules=["q_proj", "up_proj", "o_proj"]),
            "the first one .*o_proj",
        ),
    ],
    ids=lambda value: value[-24:] if isinstance(value, str) else "",
)
def test_an_adapter_that_does_not_fit_is_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, words: str
) -> None:
    adapter_of(model, tmp_path / "adapter", LoraConfig(task_type="CAUSAL_LM", **LORA))
    change(tmp_path / "adapter")
    capsys.readouterr()
    out = tmp_path / "model.gguf"
    assert cli.main(["models", "convert", str(tmp_path / "adapter"), str(out)]) == 2
    said = capsys.readouterr().err
    assert re.search(words, said), said
    assert not out.exists()
    if "base model" in words:
        assert f"lllm models convert BASE OUT.gguf --lora {tmp_path / 'adapter'}" in said


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_that_is_no_change_of_weights_is_refused(model: Path, tmp_path: Path) -> None:
    adapter_of(model, tmp_path / "soft", PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    with pytest.raises(ConfigError, match="of the kind PROMPT_TUNING cannot be merged"):
        write_gguf(tmp_path / "soft", tmp_path / "model.gguf")
    made = adapter_of(model, tmp_path / "ia3", IA3Config(task_type="CAUSAL_LM", init_ia3_weights=False))
    path = write_gguf(tmp_path / "ia3", tmp_path / "model.gguf", kind="F32")
    assert float(np.abs(logits_of(made, IDS) - llama_logits(path, IDS)).max()) < 2e-3
