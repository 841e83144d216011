"""SentencePiece tokenizers in GGUF files: llama.cpp reads the tokens that transformers reads, or the file is not written."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaTokenizer, TokenizersBackend

from lllm import LLM, Agent
from lllm.backends.embedded import EmbeddedBackend
from lllm.backends.gguf_writer import write_gguf
from lllm.backends.gguf_writer.sentencepiece import SPACE
from lllm.backends.transformers.load import load
from lllm.backends.transformers.options import LoadOptions
from lllm.errors import ConfigError
from tests.backends.test_gguf_writer import TEXTS, llama_logits, logits_of, tiny, vocabulary_of

TEMPLATE = (
    "{{ bos_token }}{% for one in messages %}[{{ one.role }}] {{ one.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
SPECIAL = ("<unk>", "<s>", "</s>")
RUNS = (
    SPACE * 2,
    "--",
    SPACE * 4,
    "----",
    "==",
    SPACE * 8,
    "aa",
    "aaa",
    "aaaa",
    SPACE * 3,
    "abab",
    "ab",
    "====",
)
"""Tokens that repeat themselves, as llama-2's vocabulary has: there are several ways to merge them."""


@functools.cache
def trained() -> dict[str, Any]:
    """The model of a tokenizer.json, trained on words, with the pairs that the library has found, and no others."""
    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Split(SPACE, "merged_with_next")
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=[*SPECIAL, *(f"<0x{number:02X}>" for number in range(256))],
        show_progress=False,
    )
    texts = [path.read_text() for path in sorted(TEXTS.glob("*.md"))[:12]]
    texts.append("Grüße, 你好 世界! Ünïcödé 12345 don't WE'LL" * 2)
    made.train_from_iterator([SPACE + text.replace(" ", SPACE) for text in texts], trainer)
    model: dict[str, Any] = json.loads(made.to_str())["model"]
    return model


@functools.cache
def sentencepiece() -> dict[str, Any]:
    """The same, as SentencePiece does it: each pair whose text is a token is merged, and the token's score says when."""
    model = copy.deepcopy(trained())
    tokens = list(dict.fromkeys([*RUNS, *("".join(merge) for merge in model["merges"])]))
    for token in (*tokens, *"".join(tokens)):
        model["vocab"].setdefault(token, len(model["vocab"]))
    vocab = model["vocab"]
    model["merges"] = [
        [token[:cut], token[cut:]]
        for token in tokens
        for cut in range(1, len(token))
        if token[:cut] in vocab and token[cut:] in vocab
    ]
    return model


REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
PREPEND = {"type": "Prepend", "prepend": SPACE}


def metaspace(scheme: str, *, split: bool = False) -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": split}


SCHEMES: dict[str, dict[str, Any]] = {
    "each": {"normalizer": {"type": "Sequence", "normalizers": [PREPEND, REPLACE]}},
    "replaced": {"normalizer": REPLACE},
    "never": {"pre_tokenizer": metaspace("never")},
    "first": {"pre_tokenizer": metaspace("first")},
}


def tokenizer_of(
    model: dict[str, Any] | None = None, *, template: str | None = TEMPLATE, **parts: Any
) -> Any:
    """A tokenizer of transformers."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    whole = {
        "version": "1.0",
        "added_tokens": [{"id": number, "content": text, **plain} for number, text in enumerate(SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {**REPLACE, "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": sentencepiece() if model is None else model,
        **parts,
    }
    found = TokenizersBackend(
        tokenizer_object=Tokenizer.from_str(json.dumps(whole)),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )
    found.chat_template = template
    return found


def scheme_of(name: str) -> Any:
    if name == "class":  # as transformers opens a llama-2 folder
        model = sentencepiece()
        made = LlamaTokenizer(vocab=model["vocab"], merges=[tuple(one) for one in model["merges"]])
        made.chat_template = TEMPLATE
    else:
        made = tokenizer_of(**SCHEMES[name])
    made.add_tokens(
        [AddedToken("<tool>", normalized=False), AddedToken("<|im|>", special=True, normalized=False)]
    )
    return made


WORDS = st.sampled_from(
    [
        *(
            "don't",
            " WE'LL",
            "  ",
            "\n\n",
            "\r\n",
            "12345",
            "<tool>",
            "<|im|>",
            "<s>",
            "</s>",
            "<unk>",
            "é",
            "你好",
        ),
        *(
            "🙂",
            "\t",
            SPACE,
            SPACE * 3,
            "<0x41>",
            "hello",
            " the",
            " " * 17,
            "aaaaa",
            "abababa",
            "------",
            "=====",
        ),
        *("\u200d", "e\u0301", "\ufeff", "\x01", "한", "𝄞", "x=1;", "lllm.toml"),
    ]
)


@pytest.mark.parametrize("name", [*SCHEMES, "class"])
def test_tokens_are_the_same(name: str, tmp_path: Path) -> None:
    tokenizer = scheme_of(name)
    path = write_gguf(tiny(len(tokenizer) + 3), tmp_path / "model.gguf", kind="F16", tokenizer=tokenizer)
    fields = gguf.GGUFReader(path).fields
    assert str(fields["tokenizer.ggml.model"].contents()) == "llama"
    assert "tokenizer.ggml.merges" not in fields
    begins = (
        "<s>" if name in ("first", "class") else ""
    )  # of these, the texts that begin with a special token

    def same(text: str) -> None:
        expected = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert llama.tokenize(text.encode(), add_bos=False, special=True) == expected, text

    @settings(max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.one_of(st.text(max_size=12), WORDS), max_size=8).map("".join))
    def same_for_all(text: str) -> None:
        same(begins + text.replace("\0", ""))

    with vocabulary_of(path) as llama:
        same_for_all()
        for guide in sorted(TEXTS.glob("*.md"))[:30]:
            same(begins + guide.read_text()[:4000])
        for number in range(40):
            same(f"{begins}a{' ' * number}b{'-' * number}{'a' * number}{'ab' * number}")
        dialog = [
            {"role": "user", "content": "Grüße,  you 🙂\n\nthere"},
            {"role": "assistant", "content": " x"},
        ]
        same(tokenizer.apply_chat_template(dialog, tokenize=False, add_generation_prompt=True))


@pytest.mark.parametrize("name", ["each", "first"])
def test_it_computes_and_answers_as_its_folder(name: str, tmp_path: Path) -> None:
    tokenizer = scheme_of(name)
    model = tiny(len(tokenizer) + 3, initializer_range=0.6, eos_token_id=2, bos_token_id=1)
    model.save_pretrained(tmp_path / "folder")
    tokenizer.save_pretrained(tmp_path / "folder")
    path = write_gguf(tmp_path / "folder", tmp_path / "model.gguf", kind="F32")
    ids = tokenizer("<s>What is 17 times 23?\n  é 🙂")["input_ids"]
    assert float(np.abs(logits_of(model, ids) - llama_logits(path, ids)).max()) < 5e-3

    def replies(model: Any) -> list[list[int]]:
        agent = Agent("a", model, temperature=0.0, max_tokens=8, token_ids=True)
        return [list(agent(text).token_ids or ()) for text in ("Hello there.", "  é 🙂\n\nlist", "17 + 4")]

    expected = replies(LLM(f"transformers/{tmp_path / 'folder'}"))
    assert len({tuple(one) for one in expected}) == 3
    for engine in ("xllamacpp", "llama-cpp-python", "transformers"):
        assert replies(LLM(EmbeddedBackend(path, engine=engine))) == expected, engine


@pytest.mark.parametrize("name", ["each", "never"])
def test_transformers_reads_the_file_as_llama_cpp_does(name: str, tmp_path: Path) -> None:
    tokenizer = scheme_of(name)
    path = write_gguf(tiny(len(tokenizer)), tmp_path / "model.gguf", kind="F16", tokenizer=tokenizer)
    read = load(str(path), LoadOptions(device="cpu")).tokenizer
    for text in ("hello there", " hello", "<s>hello", "<s> a</s>b  c", "é🙂\n\n你", "[user] x<tool>y"):
        expected = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert read(text, add_special_tokens=False)["input_ids"] == expected, text


def test_nothing_is_put_before_what_a_template_wrote(tmp_path: Path) -> None:
    made = scheme_of("class")
    made.add_bos_token = True
    made.update_post_processor()
    assert made("a")["input_ids"][0] == 1
    for template, adds in ((TEMPLATE, True), (TEMPLATE.replace("{{ bos_token }}", "<tool>"), False)):
        made.chat_template = template
        path = write_gguf(tiny(len(made)), tmp_path / f"{adds}.gguf", kind="F16", tokenizer=made)
        assert bool(gguf.GGUFReader(path).fields["tokenizer.ggml.add_bos_token"].contents()) is adds


def without(*names: str) -> dict[str, Any]:
    model = copy.deepcopy(sentencepiece())
    for name in names:
        del model["vocab"][name]
    return model


def interleaved() -> dict[str, Any]:
    model = copy.deepcopy(sentencepiece())
    place = model["merges"].index(["aa", "aa"])
    model["merges"].append(model["merges"].pop(place))
    return model


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (
            lambda: tokenizer_of(trained(), **SCHEMES["never"]),
            "llama.cpp would merge .* and the tokenizer does not",
        ),
        (lambda: tokenizer_of(interleaved(), **SCHEMES["never"]), "'aaaa' is merged of 'aa' and 'aa' later"),
        (lambda: tokenizer_of(without("<0x41>"), **SCHEMES["never"]), "no token for 1 of the 256 bytes"),
        (
            lambda: tokenizer_of({**sentencepiece(), "ignore_merges": True}, **SCHEMES["never"]),
            "ignore_merges",
        ),
        (lambda: tokenizer_of(pre_tokenizer=metaspace("always")), "prepend_scheme 'always'"),
        (lambda: tokenizer_of(pre_tokenizer=metaspace("never", split=True)), "splits words"),
        (lambda: tokenizer_of(normalizer={"type": "NFKC"}, **SCHEMES["never"]), "its normalizer is NFKC"),
        (lambda: tokenizer_of(pre_tokenizer={"type": "Whitespace"}), "no pre-tokenizer Whitespace"),
        (lambda: tokenizer_of(), "does not write spaces as"),
        (lambda: tokenizer_of(template=None, **SCHEMES["first"]), "not known to begin with a special token"),
        (
            lambda: tokenizer_of(template="Q: {{ messages[0].content }}", **SCHEMES["first"]),
            "begin with a text",
        ),
        (
            lambda: tokenizer_of(template="{{ raise_exception('x') }}", **SCHEMES["first"]),
            "not known to begin",
        ),
    ],
    ids=lambda value: value[-24:] if isinstance(value, str) else "",
)
def test_what_llama_cpp_would_read_otherwise_is_refused(tmp_path: Path, make: Any, match: str) -> None:
    tokenizer = make()
    with pytest.raises(ConfigError, match=match):
        write_gguf(tiny(len(tokenizer) + 1), tmp_path / "model.gguf", tokenizer=tokenizer)
    assert not list(tmp_path.iterdir())


def test_added_tokens_found_elsewhere_are_refused(tmp_path: Path) -> None:
    made = tokenizer_of(**SCHEMES["each"])
    made.add_tokens([AddedToken("<tool>", normalized=True)])
    with pytest.raises(ConfigError, match="'<tool>' is looked for in normalized texts"):
        write_gguf(tiny(len(made)), tmp_path / "model.gguf", tokenizer=made)
    made = tokenizer_of(**SCHEMES["never"])
    made.add_tokens(["[a", "a]long"])
    with pytest.raises(ConfigError, match=r"'\[a' ends as 'a\]long' begins"):
        write_gguf(tiny(len(made)), tmp_path / "model.gguf", tokenizer=made)
