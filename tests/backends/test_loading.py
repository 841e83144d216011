"""From files to a model of torch: real weights, and everything that may be wrong with them."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from lllm.backends import devices
from lllm.backends.embedded import WEIGHTS
from lllm.backends.transformers import load as loading
from lllm.backends.transformers import template
from lllm.backends.transformers.load import Loaded, LoadOptions, load
from lllm.errors import (
    BadRequestError,
    ConfigError,
    DependencyError,
    LLMInitializationError,
    OutOfMemory,
    UnsupportedError,
)
from lllm.models.message import FunctionCall, Message
from training.embedded.forms import Forms

ROOT = Path(__file__).parents[2]
CALCULATE: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "calculate",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}},
    },
}
QUESTION = (Message("user", "What is 17 times 23?"),)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def loaded(forms: Forms) -> Loaded:
    return load(str(forms.folder), LoadOptions(device="cpu"))


@pytest.fixture
def copy(forms: Forms, tmp_path: Path) -> Path:
    """The folder, to be spoilt."""
    return Path(shutil.copytree(forms.folder, tmp_path / "spoilt"))


def logits(loaded: Loaded, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return loaded.model(torch.tensor([ids])).logits[0].float()


def greedy(loaded: Loaded, ids: list[int], count: int = 48) -> str:
    """The bare model's answer, without a cache."""
    answer: list[int] = []
    while len(answer) < count:
        best = int(logits(loaded, ids + answer)[-1].argmax())
        if best in loaded.eos:
            break
        answer.append(best)
    return str(loaded.tokenizer.decode(answer))


# --- what is loaded


def test_a_folder(loaded: Loaded, forms: Forms) -> None:
    info = loaded.info()
    assert (loaded.name, loaded.device, loaded.dtype) == (forms.folder.name, "cpu", "float32")
    assert (loaded.context, loaded.why) == (1024, "cpu was asked for")
    assert not loaded.model.training
    assert loaded.tokenizer.convert_ids_to_tokens(sorted(loaded.eos)) == ["<|im_end|>"]
    assert info["architecture"] == "LlamaForCausalLM"
    assert (info["parameters"], info["weight_bytes"]) == (3_475_712, 3_475_712 * 4)
    assert (info["quantization"], info["compile"], info["device"]) == ("none", "off", "cpu")
    assert info["torch"] == version("torch")
    assert info["transformers"][0].isdigit()
    json.dumps(info)
    said = greedy(loaded, template.render(loaded, QUESTION, (CALCULATE,)))
    assert said == '<tool_call>\n{"name": "calculate", "arguments": {"expression": "17 * 23"}}\n</tool_call>'


@pytest.mark.parametrize("form", ["gguf_f32", "gguf_q8", "shipped"])
def test_a_gguf_file_is_the_same_model(form: str, loaded: Loaded, forms: Forms) -> None:
    # beside the shipped one lies a tokenizer.json, which transformers prefers to what the file says
    path: Path = WEIGHTS if form == "shipped" else getattr(forms, form)
    other = load(str(path))
    assert other.name == path.name
    assert (other.eos, other.context, other.dtype) == (loaded.eos, loaded.context, "float32")
    assert other.tokenizer.chat_template
    assert other.tokenizer.eos_token == "<|im_end|>"
    assert other.tokenizer.pad_token == "<|endoftext|>"
    ids = template.render(loaded, QUESTION, (CALCULATE,))
    assert template.render(other, QUESTION, (CALCULATE,)) == ids
    assert torch.allclose(logits(other, ids), logits(loaded, ids), atol=1e-3)


def test_a_path_may_be_relative(forms: Forms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(forms.folder.parent)
    assert load(forms.folder.name).name == forms.folder.name
    monkeypatch.setenv("HOME", str(forms.folder.parent))
    assert load(f"~/{forms.folder.name}").name == forms.folder.name


@pytest.mark.parametrize(("dtype", "size"), [("bfloat16", 2), ("float16", 2), ("float32", 4)])
def test_half_precision_is_what_the_weights_are(dtype: str, size: int, forms: Forms) -> None:
    half = load(str(forms.folder), LoadOptions(dtype=dtype))
    assert (half.dtype, half.model.dtype) == (dtype, getattr(torch, dtype))
    assert half.info()["weight_bytes"] == 3_475_712 * size


def test_int8_weights_answer_at_a_third_of_the_size(loaded: Loaded, forms: Forms) -> None:
    small = load(str(forms.folder), LoadOptions(quantization="int8"))
    info = small.info()
    assert (info["quantization"], info["parameters"]) == ("int8", 3_475_712)
    assert info["weight_bytes"] < loaded.info()["weight_bytes"] / 3
    said = greedy(small, template.render(small, QUESTION, (CALCULATE,)))
    assert said.startswith('<tool_call>\n{"name": "calculate"')


def test_load_options_reach_the_library_and_the_model(forms: Forms, copy: Path) -> None:
    model = load(str(copy), LoadOptions(attn="eager", threads=1, model_args={"max_position_embeddings": 512}))
    assert (model.info()["attention"], model.context, torch.get_num_threads()) == ("eager", 512, 1)


def test_all_tokens_that_end_a_turn_are_known(copy: Path) -> None:
    (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 2]}))
    assert load(str(copy)).eos == {0, 2}
    # published with the end of text alone, though every turn of its template ends with another token
    (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}))
    for name, key, value in (
        ("config.json", "eos_token_id", 0),
        ("tokenizer_config.json", "eos_token", "<|endoftext|>"),
    ):
        told = json.loads((copy / name).read_text())
        (copy / name).write_text(json.dumps({**told, key: value}))
    assert load(str(copy)).eos == {0, 2}
    assert load(str(copy), LoadOptions(chat_template="{{ messages }}")).eos == {0}


def test_loading_writes_nothing_to_the_terminal(forms: Forms, capfd: pytest.CaptureFixture[str]) -> None:
    load(str(forms.gguf_q8))
    load(str(forms.folder))
    assert capfd.readouterr() == ("", "")


# --- what may be wrong


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(LLMInitializationError) as caught:
        load("models/tiny")
    assert "'models/tiny'" in caught.value.message
    assert caught.value.hint == "Type: lllm models pull models/tiny"
    with pytest.raises(LLMInitializationError) as caught:
        load(str(tmp_path / "nothing.gguf"))
    assert "nothing.gguf" in caught.value.message
    assert str(tmp_path) not in str(caught.value)


def test_a_name_of_the_hub_is_looked_up_in_the_cache_alone(
    forms: Forms, nobodys_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    cache = nobodys_machine / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(cache))
    commit = "0" * 40
    place = cache / "models--someone--tiny"
    shutil.copytree(forms.folder, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    assert load("someone/tiny").name == "tiny"
    with pytest.raises(LLMInitializationError, match="no model of that name is in the local cache"):
        load("someone/tiny", LoadOptions(revision="other"))


def test_a_folder_without_a_model(tmp_path: Path, forms: Forms) -> None:
    with pytest.raises(LLMInitializationError, match=r"config\.json is missing"):
        load(str(tmp_path))
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(LLMInitializationError) as caught:
        load(str(tmp_path))
    assert caught.value.hint is not None
    assert "a.gguf" in caught.value.hint
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(LLMInitializationError, match="loads a folder"):
        load(str(tmp_path / "weights.bin"))


def _cut_weights(folder: Path) -> None:
    (weights,) = folder.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])


def _no_weights(folder: Path) -> None:
    (weights,) = folder.glob("*.safetensors")
    weights.unlink()


def _torn_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": ')


def _strange_kind(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "frobnicator"}')


@pytest.mark.parametrize("spoil", [_cut_weights, _no_weights, _torn_config, _strange_kind])
def test_broken_files_say_which_model_backend_device_and_versions(
    spoil: Callable[[Path], None], copy: Path
) -> None:
    spoil(copy)
    with pytest.raises(LLMInitializationError) as caught:
        load(str(copy), LoadOptions(device="cpu"))
    for part in ("transformers could not load spoilt on cpu", f"torch {version('torch')}", "transformers 5"):
        assert part in caught.value.message
    assert str(copy.parent) not in str(caught.value)


def test_a_broken_gguf_file(forms: Forms, tmp_path: Path) -> None:
    broken = tmp_path / "cut.gguf"
    broken.write_bytes(forms.gguf_q8.read_bytes()[:5000])
    with pytest.raises(LLMInitializationError, match=r"could not load cut\.gguf") as caught:
        load(str(broken))
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    "fault",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    ],
)
def test_out_of_memory_says_what_to_do(
    fault: Exception, forms: Forms, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise fault

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", full)
    with pytest.raises(OutOfMemory, match="out of memory") as caught:
        load(str(forms.folder))
    assert caught.value.hint is not None
    assert "dtype='bfloat16'" in caught.value.hint
    assert caught.value.__cause__ is fault


def test_a_device_that_is_missing(forms: Forms, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = functools.partial(devices.resolve, available=lambda: {"cpu": 1})
    monkeypatch.setattr(loading, "resolve", nothing)
    with pytest.raises(LLMInitializationError, match="available: cpu"):
        load(str(forms.folder), LoadOptions(device="cuda"))


@pytest.mark.parametrize(
    ("options", "package"),
    [
        (LoadOptions(quantization="4bit"), "bitsandbytes"),
        (LoadOptions(quantization="8bit"), "bitsandbytes"),
        (LoadOptions(lora="adapter"), "peft"),
        (LoadOptions(), "transformers"),
        (LoadOptions(), "torch"),
    ],
)
def test_a_missing_package_is_named(
    options: LoadOptions, package: str, forms: Forms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DependencyError) as caught:
        load(str(forms.folder), options)
    assert caught.value.package == package
    assert caught.value.hint is not None
    assert re.search(rf"Type: pip install .*\b{package}\b", caught.value.hint)


def test_a_gguf_file_needs_its_reader(forms: Forms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(DependencyError, match="gguf"):
        load(str(forms.gguf_q8))


# --- options


def test_all_problems_of_the_options_in_one_error() -> None:
    with pytest.raises(ConfigError) as caught:
        LoadOptions.of(
            {
                "devise": "cpu",
                "device": "gpu0",
                "dtype": "bfloat",
                "quantization": "int9",
                "attn": 3,
                "threads": True,
                "compile": "yes",
                "lora": "",
                "model_args": {"temperature": 0.5, "torch_dtype": "auto"},
            }
        )
    told = str(caught.value)
    assert "10 problems" in told
    for part in (
        "unknown key 'devise'", "'device'", "device is 'gpu0'", "Did you mean 'bfloat16'?", "'int8'", "attn is 3",
        "threads is True", "compile is 'yes'", "lora is ''", "belongs to a request", "Give the option 'dtype' instead",
    ):  # fmt: skip
        assert part in told


def test_one_problem_is_its_own_error() -> None:
    with pytest.raises(ConfigError, match="threads is 0"):
        load("nowhere", LoadOptions(threads=0))
    assert LoadOptions.of({"device": "cpu", "threads": 2}) == LoadOptions(device="cpu", threads=2)


def test_options_are_checked_before_torch_is_imported() -> None:
    program = (
        "import sys\n"
        "from lllm.backends.transformers.load import load, LoadOptions\n"
        "try:\n    load('x', LoadOptions(dtype='half'))\nexcept ValueError:\n    pass\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


# --- compiling


def test_compiling_is_taken_back(forms: Forms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    model = load(str(forms.folder), LoadOptions(compile=True))
    ids = template.render(model, QUESTION)
    assert model.info()["compile"] == "on"
    compiled = logits(model, ids)
    assert "forward" in vars(model.model)
    model.decompile()
    assert model.info()["compile"] == "off"
    assert "forward" not in vars(model.model)
    assert torch.allclose(compiled, logits(model, ids), atol=1e-4)


def test_what_is_compiled_is_what_generates(forms: Forms, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(str(forms.folder))
    runs = 0

    def compiler(forward: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        @functools.wraps(forward)
        def counted(*args: Any, **more: Any) -> Any:
            nonlocal runs
            runs += 1
            return forward(*args, **more)

        return counted

    monkeypatch.setattr(torch, "compile", compiler)
    assert model.compile()
    runs = 0
    ids = torch.tensor([template.render(model, QUESTION)])
    model.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, min_new_tokens=4)
    assert runs == 4


def test_a_compiler_that_fails_leaves_the_model_as_it_was(
    forms: Forms, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_compiler(*_: Any, **__: Any) -> None:
        raise RuntimeError("no C++ compiler\nand a long story")

    monkeypatch.setattr(torch, "compile", no_compiler)
    model = load(str(forms.folder), LoadOptions(compile=True))
    assert model.info()["compile"] == "failed: no C++ compiler"
    assert greedy(model, template.render(model, QUESTION), 4)


# --- the template


def test_a_dialog_with_tools_as_the_model_was_trained_on(loaded: Loaded) -> None:
    call = FunctionCall("c1", "calculate", '{"expression":"17 * 23"}')
    dialog = (
        Message("developer", "Be short."),
        *QUESTION,
        Message("assistant", "", tool_calls=(call,), thinking="hm"),
        Message("tool", "391", tool_call_id="c1", name="calculate"),
        Message("user", ({"type": "text", "text": "And"}, {"type": "text", "text": " half of it?"})),
    )
    assert template.text(loaded, dialog, (CALCULATE,)) == (
        "<|im_start|>system\nBe short.\n\nTools: calculate(expression)<|im_end|>\n"
        "<|im_start|>user\nWhat is 17 times 23?<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>\n{"name": "calculate", "arguments": {"expression": "17 * 23"}}\n'
        "</tool_call><|im_end|>\n<|im_start|>tool\n391<|im_end|>\n"
        "<|im_start|>user\nAnd half of it?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_arguments_reach_a_template_as_a_mapping_where_they_are_one(copy: Path) -> None:
    jinja = (
        "{% for m in messages %}{% for c in m.tool_calls or [] %}"
        "{{ c.function.arguments if c.function.arguments is string else c.function.arguments.items() | list }}"
        "{% endfor %}{{ m.reasoning_content or '' }}{% endfor %}"
    )
    model = load(str(copy), LoadOptions(chat_template=jinja))
    calls = tuple(FunctionCall("c", "f", written) for written in ('{"a": 1}', "", "not JSON", "[1]"))
    written = template.text(model, [Message("assistant", "", tool_calls=calls, thinking="so")])
    assert written == "[('a', 1)][]not JSON[1]so"


def test_what_a_template_cannot_take(loaded: Loaded, copy: Path) -> None:
    picture = Message("user", ({"type": "image_url", "image_url": {"url": "data:"}},))
    with pytest.raises(UnsupportedError, match="text only"):
        template.render(loaded, [picture])
    refusing = load(str(copy), LoadOptions(chat_template="{{ raise_exception('no system message') }}"))
    with pytest.raises(BadRequestError, match="refused the dialog: no system message"):
        template.render(refusing, QUESTION)
    refusing.tokenizer.chat_template = None
    with pytest.raises(UnsupportedError, match="no chat template") as caught:
        template.render(refusing, QUESTION)
    assert caught.value.hint is not None
    assert "chat_template" in caught.value.hint
