"""Counting tokens: exact for OpenAI's models and for local ones, else an estimate that says so; never a download."""

from __future__ import annotations

import base64
import builtins
import hashlib
import lzma
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lllm import LLM, TokenCount, count_tokens, tokens
from lllm.errors import ConfigError
from lllm.tokens import vocabulary_of

HASHES = {  # of the files that OpenAI serves, in tiktoken_ext/openai_public.py
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}


@pytest.mark.parametrize("name", HASHES)
def test_the_vocabularies_are_those_of_openai(name: str) -> None:
    data = lzma.decompress((resources.files("lllm") / "vocabularies" / f"{name}.xz").read_bytes())
    lines, at = [], 0
    while at < len(data):
        end = at + 1 + data[at]
        lines.append(base64.b64encode(data[at + 1 : end]) + b" %d\n" % len(lines))
        at = end
    assert hashlib.sha256(b"".join(lines)).hexdigest() == HASHES[name]


KNOWN = [
    # counted by OpenAI's own encodings
    ("Hello, world!", "gpt-4o", 4),
    ("Hello, world!", "gpt-4", 4),
    ("antidisestablishmentarianism", "gpt-4o", 6),
    ("2 + 2 = 4", "gpt-4", 7),
    ("", "gpt-5", 0),
]


@pytest.mark.parametrize(("text", "model", "count"), KNOWN)
def test_openai_models_are_counted_exactly(text: str, model: str, count: int) -> None:
    got = count_tokens(text, f"openai/{model}")
    assert (got, got.exact) == (count, True)
    assert tokens.count_tokens(text, model) == count


@pytest.mark.parametrize("name", HASHES)
def test_the_patterns_are_those_of_tiktoken(name: str) -> None:
    import inspect

    import tiktoken_ext.openai_public as public

    source = inspect.getsource(getattr(public, name))
    assert all(part in source for part in tokens._PATTERNS[name].split("|")[-4:])


@given(st.text())
def test_any_text_is_encoded_and_decoded(text: str) -> None:
    encoding = tokens._encoding("o200k_base")
    assert encoding.decode(encoding.encode_ordinary(text)) == text


def test_text_that_looks_like_a_special_token_is_text() -> None:
    assert count_tokens("<|endoftext|>", "openai/gpt-4o") > 1


def test_a_local_model_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "What is 17 times 23?"
    whole = count_tokens(text, "embedded")
    assert whole.exact
    assert whole.by == "embedded"
    assert LLM("embedded").count_tokens(text) == whole
    reply = LLM("embedded", token_ids=True, max_tokens=1)(text)
    assert reply.prompt_token_ids is not None
    assert 0 < whole < len(reply.prompt_token_ids)


@pytest.mark.parametrize("model", ["scripted", "ollama/gpt-4o", "anthropic/claude-sonnet-4-5"])
def test_an_estimate_says_that_it_is_one(model: str) -> None:
    got = count_tokens("four bytes are a token", model)
    assert (got, got.exact, got.by) == (6, False, "4 bytes per token")
    assert repr(got) == "TokenCount(6, exact=False, by='4 bytes per token')"


def test_without_tiktoken_it_is_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **more: Any) -> Any:
        if name == "tiktoken":
            raise ImportError(name)
        return real(name, *args, **more)

    tokens._encoding.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    assert not count_tokens("Hello, world!", "openai/gpt-4o").exact
    monkeypatch.undo()
    tokens._encoding.cache_clear()
    assert count_tokens("Hello, world!", "openai/gpt-4o").exact


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refused(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refused)


@pytest.mark.usefixtures("no_sockets")
def test_nothing_is_downloaded() -> None:
    tokens._encoding.cache_clear()
    assert count_tokens("x", "openai/gpt-4") == 1


def test_names_of_models() -> None:
    names = ("gpt-4o", "gpt-4-turbo", "azure/gpt-35-turbo", "o3-mini", "ft:gpt-4o-mini:acme", "gpt-oss-20b")
    found = [vocabulary_of(name) for name in names]
    assert found == ["o200k_base", "cl100k_base", "cl100k_base", "o200k_base", "o200k_base", "o200k_base"]
    assert vocabulary_of("claude-sonnet-4-5") is None


def test_other_values_are_refused() -> None:
    with pytest.raises(ConfigError, match="count_tokens needs text, got list"):
        count_tokens(["x"], "openai/gpt-4o")  # type: ignore[arg-type]
    assert TokenCount(3, exact=True, by="x") + 1 == 4
