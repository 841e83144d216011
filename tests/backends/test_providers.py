"""Providers by their own names: where requests go, which key they carry, and what is said of other spellings."""

from __future__ import annotations

from typing import Any

import pytest

from lllm import LLM
from lllm.backends.openai import OpenAIBackend, providers
from lllm.errors import ConfigError
from lllm.llm.connect import connect
from lllm.providers import PROVIDERS, SPELLINGS
from lllm.registry import registry
from tests.backends.helpers import ask, reply
from tests.servers.openai_server import OpenAIServer, Script


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_is_a_backend_with_its_own_address_and_key(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai-key")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://elsewhere.example/v1")
    monkeypatch.setenv("API_KEY", "sk-generic-key")
    provider = PROVIDERS[name]
    backend: Any = registry.get("backend", name)()
    assert isinstance(backend, OpenAIBackend)
    assert backend.base_url == provider.url.rstrip("/")
    assert backend.capabilities.local == provider.local
    if provider.local:
        assert "Authorization" not in backend._prepare()[1]
        return
    with pytest.raises(ConfigError, match=rf"Set the environment variable {provider.keys[0]}"):
        backend._prepare()
    monkeypatch.setenv(provider.keys[0], "sk-their-own")
    assert backend._prepare()[1]["Authorization"] == "Bearer sk-their-own"


async def test_ollama_answers_where_its_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with OpenAIServer() as server:
        server.forever = Script("Hi.")
        host = server.url.removeprefix("http://").removesuffix("/v1")
        monkeypatch.setenv("OLLAMA_HOST", host.replace("127.0.0.1", "0.0.0.0"))
        backend = registry.get("backend", "ollama")()
        assert (await reply(backend, ask(model="llama3:8b"))).content == "Hi."
        await backend.aclose()
        got = LLM("ollama:llama3:8b")("Hello")
        assert (got.content, got.cost) == ("Hi.", 0)
        assert b'"llama3:8b"' in server.requests[-1].data


def test_a_colon_is_as_good_as_a_slash() -> None:
    _, name, asked = connect("openai:gpt-4o-mini")
    assert (name, asked) == ("openai/gpt-4o-mini", "gpt-4o-mini")
    _, name, asked = connect("ollama/llama3:8b")
    assert (name, asked) == ("ollama/llama3:8b", "llama3:8b")
    _, name, asked = connect("openrouter:meta-llama/llama-3:free")
    assert (name, asked) == ("openrouter/meta-llama/llama-3:free", "meta-llama/llama-3:free")


HINTS = [
    ("claude/claude-sonnet-4-5", "Here it is called 'anthropic': anthropic/claude-sonnet-4-5"),
    ("OpenAI/gpt-4o", "Here it is called 'openai': openai/gpt-4o"),
    ("hf/gpt2", "Here it is called 'transformers'"),
    ("meta-llama/Llama-3-8B", "openrouter/meta-llama/Llama-3-8B"),
    ("gpt-4o-mini", "Write openai/gpt-4o-mini"),
    ("claude-sonnet-4-5", "Write anthropic/claude-sonnet-4-5"),
    ("llama3:8b", "ollama/llama3:8b"),
    ("opnai/gpt-4o", "Did you mean 'openai'"),
    (":", "Write provider/model"),
]


@pytest.mark.parametrize(("model", "hint"), HINTS)
def test_other_spellings_lead_to_ours(model: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        connect(model)
    assert hint in str(caught.value)


def test_spellings_lead_somewhere() -> None:
    assert [name for name in SPELLINGS.values() if not registry.has("backend", name)] == []
    assert [name for name in SPELLINGS if registry.has("backend", name)] == []
    with pytest.raises(AttributeError):
        _ = providers.nobody
