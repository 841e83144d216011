"""The GGUF writer: the file computes and tokenises as the folder does, in every engine; what it cannot hold is refused."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, TokenizersBackend

from lllm import LLM, Agent, tool
from lllm.backends.embedded import WEIGHTS, EmbeddedBackend
from lllm.backends.gguf_writer import write_gguf
from lllm.backends.gguf_writer.vocabulary import PRE
from lllm.backends.llama_cpp.llama_cpp_python import open_llama_cpp
from lllm.backends.transformers.load import load
from lllm.backends.transformers.options import LoadOptions
from lllm.errors import ConfigError, LLMInitializationError
from lllm.rl.trainers.models import open_model

LLAMA = open_llama_cpp("the tests")

TEXTS = Path(__file__).parents[2] / "docs" / "guides"


# --- real weights


@pytest.fixture(scope="module")
def perturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model as a folder, with weights that no shipped file has."""
    model, tokenizer = open_model("embedded")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for part in model.parameters():
            part += 0.002 * torch.randn(part.shape, generator=generator)
    folder = tmp_path_factory.mktemp("perturbed")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@tool
def calculator(expression: str) -> str:
    """Calculates.

    Args:
        expression: arithmetic.
    """
    return str(eval(expression, {"__builtins__": {}}))


QUESTIONS = (
    "What is 17 times 23?",
    "I have 12 apples and buy 30 more. How many are there?",
    "Take 9 from 100.",
    "Add 5, 6 and 7!",
)


def run(model: Any) -> list[Any]:
    """Token ids of all replies of greedy agent runs, the messages, and the log-probabilities."""
    found = []
    agent = Agent(
        model=model,
        tools=[calculator],
        temperature=0.0,
        max_tokens=48,
        token_ids=True,
        logprobs=True,
        name="sums",
    )
    for question in QUESTIONS:
        reply = agent(question)
        found.append(
            (
                [message.text for message in reply.messages],
                [
                    json.loads(call.arguments)
                    for message in reply.messages
                    for call in message.tool_calls or ()
                ],
                list(reply.token_ids),
                [token["logprob"] for token in reply.logprobs],
            )
        )
    return found


@pytest.mark.parametrize("engine", ["xllamacpp", "llama-cpp-python", "transformers"])
def test_an_f32_file_answers_as_its_folder(perturbed: Path, tmp_path: Path, engine: str) -> None:
    path = write_gguf(perturbed, tmp_path / "model.gguf", kind="F32")
    expected = run(LLM(f"transformers/{perturbed}"))
    assert any(calls for _, calls, _, _ in expected)
    found = run(LLM(EmbeddedBackend(path, engine=engine)))
    assert [one[:3] for one in found] == [one[:3] for one in expected]
    for (*_, own), (*_, theirs) in zip(found, expected, strict=True):
        assert np.allclose(own, theirs, atol=0.02)  # llama.cpp keeps keys and values in half precision


def test_the_shipped_file_is_written_again(tmp_path: Path) -> None:
    model, tokenizer = open_model("embedded")
    path = write_gguf(model, tmp_path / "again.gguf", tokenizer=tokenizer)
    shipped, written = gguf.GGUFReader(WEIGHTS), gguf.GGUFReader(path)
    assert {one.name for one in shipped.tensors} == {one.name for one in written.tensors}
    tensors = {one.name: one.data for one in written.tensors}
    assert all(np.array_equal(one.data, tensors[one.name]) for one in shipped.tensors)
    differing = {
        name
        for name, field in shipped.fields.items()
        if name not in written.fields or written.fields[name].contents() != field.contents()
    }
    assert differing == {"GGUF.kv_count", "general.name", "general.description", "general.license"}


def test_a_q8_file_is_near_its_folder(perturbed: Path, tmp_path: Path) -> None:
    path = write_gguf(perturbed, tmp_path / "model.gguf", kind="q8_0")
    model = AutoModelForCausalLM.from_pretrained(perturbed)
    ids = AutoTokenizer.from_pretrained(perturbed)("What is 17 times 23?")["input_ids"]
    exact, rounded = logits_of(model, ids), llama_logits(path, ids)
    assert 0 < float(np.abs(exact - rounded).mean()) < 0.1


# --- tiny models of many shapes


def tiny(vocabulary: int = 320, **more: Any) -> LlamaForCausalLM:
    torch.manual_seed(1)
    model = LlamaForCausalLM(
        LlamaConfig(
            **{
                "vocab_size": vocabulary,
                "hidden_size": 64,
                "intermediate_size": 96,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "max_position_embeddings": 256,
                "initializer_range": 0.3,
                "eos_token_id": 0,
                "bos_token_id": 0,
                **more,
            }
        )
    )
    with torch.no_grad():
        for name, part in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                part += 0.3 * torch.randn(part.shape)
    return model.eval()


@functools.cache
def bpe(*parts: Any, whole: bool = False, normalizer: Any = None) -> Tokenizer:
    made = Tokenizer(models.BPE(ignore_merges=whole))
    made.pre_tokenizer = pre_tokenizers.Sequence(list(parts)) if len(parts) > 1 else parts[0]
    made.decoder = decoders.ByteLevel()
    if normalizer is not None:
        made.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=["<|end|>", "<|start|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [path.read_text() for path in sorted(TEXTS.glob("*.md"))[:12]]
    made.train_from_iterator([*texts, "Grüße, 你好 世界! Ünïcödé 12345 ١٢٣ don't WE'LL"] * 2, trainer)
    return made


def fast(made: Tokenizer, **more: Any) -> Any:
    return TokenizersBackend(
        tokenizer_object=made, **{"eos_token": "<|end|>", "pad_token": "<|end|>", **more}
    )


@functools.cache
def gpt2() -> Any:
    return fast(bpe(pre_tokenizers.ByteLevel(add_prefix_space=False)))


def logits_of(model: Any, ids: list[int]) -> Any:
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].float().numpy()


def llama_logits(path: Path, ids: list[int]) -> Any:
    model = LLAMA.Llama(
        str(path),
        n_ctx=256,
        logits_all=True,
        verbose=False,
        n_threads=1,
        type_k=0,
        type_v=0,
        flash_attn=False,
    )
    model.eval(ids)
    found = np.array(model.scores[: len(ids)])
    model.close()
    return found


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
SHAPES: dict[str, dict[str, Any]] = {
    "grouped": {},
    "one key": {"num_key_value_heads": 1},
    "tied": {"tie_word_embeddings": True},
    "wide heads": {"head_dim": 32},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    "linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}},
    "llama3": {"rope_parameters": LLAMA3},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_computes_the_same(tmp_path: Path, shape: str) -> None:
    model = tiny(len(gpt2()), **SHAPES[shape])
    path = write_gguf(model, tmp_path / "model.gguf", kind="F32", tokenizer=gpt2())
    ids = torch.randint(0, len(gpt2()), (200,), generator=torch.Generator().manual_seed(2)).tolist()
    exact, found = logits_of(model, ids), llama_logits(path, ids)
    assert float(np.abs(exact).max()) > 1
    assert float(np.abs(exact - found).max()) < 2e-3


LEFT_OUT = {"biases": "its biases", "linear": "the factors of", "llama3": "the factors of"}


@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_computes_the_same_or_refuses(tmp_path: Path, shape: str) -> None:
    model = tiny(len(gpt2()), **SHAPES[shape])
    path = write_gguf(model, tmp_path / "model.gguf", kind="F32", tokenizer=gpt2())
    options = LoadOptions(device="cpu", dtype="float32")
    if shape in LEFT_OUT:
        with pytest.raises(LLMInitializationError, match=LEFT_OUT[shape]):
            load(str(path), options)
        return
    ids = torch.randint(0, len(gpt2()), (200,), generator=torch.Generator().manual_seed(2)).tolist()
    assert np.array_equal(logits_of(model, ids), logits_of(load(str(path), options).model, ids))


def test_rows_that_are_no_whole_blocks_are_kept_in_half_precision(tmp_path: Path) -> None:
    model = tiny(len(gpt2()), intermediate_size=80)
    path = write_gguf(model, tmp_path / "model.gguf", kind="Q8_0", tokenizer=gpt2())
    kinds = {one.name: one.tensor_type.name for one in gguf.GGUFReader(path).tensors}
    assert kinds["blk.0.ffn_down.weight"] == "F16"
    assert kinds["blk.0.ffn_up.weight"] == "Q8_0"
    ids = list(range(50))
    assert float(np.abs(logits_of(model, ids) - llama_logits(path, ids)).mean()) < 0.2


# --- tokenizers


def _patterns() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for signature, name in PRE.items():
        *parts, whole = signature
        made = []
        for kind, value in parts:
            if kind == "Split":
                made.append(pre_tokenizers.Split(Regex(value), "isolated"))
            elif kind == "Digits":
                made.append(pre_tokenizers.Digits(individual_digits=value))
            else:
                made.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=value))
        found[name] = functools.partial(bpe, *made, whole=whole)
    return found


PATTERNS = _patterns()


@contextmanager
def vocabulary_of(path: Path) -> Iterator[Any]:
    """llama.cpp's tokenizer of a file."""
    llama = LLAMA.Llama(str(path), vocab_only=True, verbose=False)
    try:
        yield llama
    finally:
        llama.close()


def tokenizer_and_file(name: str, folder: Path) -> tuple[Any, Path]:
    """A tokenizer of transformers, and the file that was written of it."""
    tokenizer = fast(PATTERNS[name](), additional_special_tokens=["<|start|>"])
    tokenizer.add_tokens(["<tool>", "tool"])
    model = tiny(len(tokenizer) + 3)
    path = write_gguf(model, folder / "model.gguf", kind="F16", tokenizer=tokenizer)
    assert str(gguf.GGUFReader(path).fields["tokenizer.ggml.pre"].contents()) == name
    return tokenizer, path


WORDS = st.sampled_from(
    [
        "don't",
        " WE'LL",
        "  ",
        "\n\n",
        "\r\n",
        "12345",
        "x=1;",
        "<tool>",
        "<|start|>",
        "é",
        "你好",
        "🙂",
        " \t",
        "ſ",
        "K",
    ]
)


@pytest.mark.parametrize("name", PATTERNS)
def test_tokens_are_the_same(name: str, tmp_path: Path) -> None:
    tokenizer, path = tokenizer_and_file(name, tmp_path)

    @settings(max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.one_of(st.text(max_size=12), WORDS), max_size=8).map("".join))
    def same(text: str) -> None:
        text = text.replace("\0", "")
        expected = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert llama.tokenize(text.encode(), add_bos=False, special=True) == expected

    with vocabulary_of(path) as llama:
        same()


def test_a_beginning_that_the_tokenizer_adds_is_added(tmp_path: Path) -> None:
    made = Tokenizer.from_str(bpe(pre_tokenizers.ByteLevel(add_prefix_space=False)).to_str())
    made.post_processor = processors.TemplateProcessing(
        single="<|start|> $A", pair="<|start|> $A <|start|> $B", special_tokens=[("<|start|>", 1)]
    )
    tokenizer = fast(made, bos_token="<|start|>")
    path = write_gguf(tiny(len(tokenizer)), tmp_path / "model.gguf", tokenizer=tokenizer)
    with vocabulary_of(path) as llama:
        assert llama.tokenize(b"some text", add_bos=True) == tokenizer("some text")["input_ids"]
        assert llama.tokenize(b"some text")[0] == 1


def test_each_token_that_ends_a_turn_is_named(tmp_path: Path) -> None:
    tokenizer = fast(bpe(pre_tokenizers.ByteLevel(add_prefix_space=False)))
    tokenizer.add_tokens(["<stop>", "<halt>", "<quit>"], special_tokens=True)
    stop, halt, over = tokenizer.convert_tokens_to_ids(["<stop>", "<halt>", "<quit>"])
    model = tiny(len(tokenizer))
    model.generation_config.eos_token_id = [0, stop, halt]
    path = write_gguf(model, tmp_path / "model.gguf", tokenizer=tokenizer)
    fields = gguf.GGUFReader(path).fields
    named = [int(fields[f"tokenizer.ggml.{one}_token_id"].contents()) for one in ("eos", "eot", "eom")]
    assert named == [0, stop, halt]
    with vocabulary_of(path) as llama:
        vocab = LLAMA.llama_model_get_vocab(llama.model)
        assert all(LLAMA.llama_vocab_is_eog(vocab, one) for one in named)
    model.generation_config.eos_token_id = [0, stop, halt, over]
    with pytest.raises(ConfigError, match="4 tokens end a turn"):
        write_gguf(model, tmp_path / "more.gguf", tokenizer=tokenizer)


# --- adapters


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # of peft, at transformers
def test_an_adapter_is_merged_into_a_copy(tmp_path: Path) -> None:
    model = tiny(len(gpt2()))
    plain = write_gguf(model, tmp_path / "plain.gguf", kind="F32", tokenizer=gpt2())
    model.save_pretrained(tmp_path / "base")
    gpt2().save_pretrained(tmp_path / "base")
    adapted = get_peft_model(
        model,
        LoraConfig(task_type="CAUSAL_LM", r=4, init_lora_weights=False, target_modules=["q_proj", "up_proj"]),
    ).eval()
    before = {name: part.clone() for name, part in adapted.state_dict().items()}
    ids = list(range(3, 60))
    expected = logits_of(adapted, ids)
    path = write_gguf(adapted, tmp_path / "merged.gguf", kind="F32", tokenizer=gpt2())
    assert float(np.abs(expected - llama_logits(path, ids)).max()) < 2e-3
    assert float(np.abs(expected - llama_logits(plain, ids)).max()) > 0.1
    after = adapted.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(part, after[name]) for name, part in before.items())

    adapted.save_pretrained(tmp_path / "adapter")
    again = write_gguf(tmp_path / "base", tmp_path / "again.gguf", kind="F32", lora=tmp_path / "adapter")
    assert float(np.abs(expected - llama_logits(again, ids)).max()) < 2e-3
    with pytest.raises(ConfigError, match="names no base model"):
        write_gguf(tmp_path / "adapter", tmp_path / "no.gguf")
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(
        json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": str(tmp_path / "base")})
    )
    alone = write_gguf(tmp_path / "adapter", tmp_path / "alone.gguf", kind="F32")
    assert alone.read_bytes()[-10_000:] == again.read_bytes()[-10_000:]


# --- refusals


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"rope_parameters": {**LLAMA3, "rope_type": "yarn"}}, "kind 'yarn'"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "kind 'dynamic'"),
        ({"hidden_act": "gelu"}, "activation 'gelu'"),
    ],
    ids=["yarn", "dynamic", "gelu"],
)
def test_a_model_that_the_file_cannot_hold_is_refused(tmp_path: Path, change: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        write_gguf(tiny(len(gpt2()), **change), tmp_path / "model.gguf", tokenizer=gpt2())
    assert not list(tmp_path.iterdir())


def test_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(gpt2()), n_embd=32, n_layer=1, n_head=2, eos_token_id=0)
    )
    with pytest.raises(ConfigError, match=r"gpt2.* is not written as GGUF: only LlamaForCausalLM is"):
        write_gguf(model, tmp_path / "model.gguf", tokenizer=gpt2())


def _bytelevel() -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: bpe(pre_tokenizers.Whitespace(), _bytelevel()), "no pre-tokenizer like Whitespace"),
        (lambda: bpe(pre_tokenizers.ByteLevel(add_prefix_space=True)), "no pre-tokenizer like"),
        (lambda: bpe(_bytelevel(), normalizer=normalizers.NFC()), "changes texts before it splits them .NFC"),
        (lambda: Tokenizer(models.WordLevel({"<|end|>": 0, "a": 1}, unk_token="a")), "WordLevel, not BPE"),
        (lambda: Tokenizer(models.BPE({"<|end|>": 0}, [], byte_fallback=True)), "does not write spaces as"),
    ],
    ids=["whitespace", "prefix", "normalizer", "words", "sentencepiece"],
)
def test_a_tokenizer_that_llama_cpp_lacks_is_refused(tmp_path: Path, make: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        write_gguf(tiny(1000), tmp_path / "model.gguf", tokenizer=fast(make()))


def test_a_slip_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kind is 'Q2_K'"):
        write_gguf(tmp_path, tmp_path / "model.gguf", kind="Q2_K")
    with pytest.raises(ConfigError, match="needs its tokenizer"):
        write_gguf(tiny(), tmp_path / "model.gguf")
    with pytest.raises(ConfigError, match="dict cannot be written"):
        write_gguf({}, tmp_path / "model.gguf")
    with pytest.raises(ConfigError, match=r"token \d+, and the model has 320 tokens"):
        write_gguf(tiny(), tmp_path / "model.gguf", tokenizer=gpt2())
    odd = fast(bpe(_bytelevel()), mask_token="<mask>")
    odd.add_tokens([__import__("tokenizers").AddedToken("<odd>", lstrip=True)])
    with pytest.raises(ConfigError, match="'<odd>' has lstrip"):
        write_gguf(tiny(len(odd)), tmp_path / "model.gguf", tokenizer=odd)


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"old")
    from lllm.backends.gguf_writer import convert

    def broken(array: Any, heads: int) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(convert, "interleaved", broken)
    with pytest.raises(KeyboardInterrupt):
        write_gguf(tiny(len(gpt2())), path, tokenizer=gpt2())
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["model.gguf"]
