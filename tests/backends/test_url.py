import pytest

from lllm.backends.openai import OpenAIBackend
from lllm.backends.openai.url import endpoint
from lllm.errors import ConfigError

RULE = [
    ("https://api.openai.com", "https://api.openai.com/v1"),
    ("https://api.openai.com/", "https://api.openai.com/v1"),
    ("https://api.openai.com/v1", "https://api.openai.com/v1"),
    ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
    ("HTTPS://API.OpenAI.com", "https://api.openai.com/v1"),
    ("http://localhost:8000", "http://localhost:8000/v1"),
    ("http://localhost:11434/v1", "http://localhost:11434/v1"),
    ("localhost:8000", "http://localhost:8000/v1"),
    ("127.0.0.1:8080/", "http://127.0.0.1:8080/v1"),
    ("http://[::1]:8080", "http://[::1]:8080/v1"),
    ("http://10.1.2.3:8000", "http://10.1.2.3:8000/v1"),
    ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1"),
    ("https://api.groq.com/openai/v1/", "https://api.groq.com/openai/v1"),
    (
        "https://generativelanguage.googleapis.com/v1beta/openai/",
        "https://generativelanguage.googleapis.com/v1beta/openai",
    ),
    ("https://gateway.example/llm", "https://gateway.example/llm"),
    ("https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1"),
    ("http://localhost:8000/chat/completions", "http://localhost:8000/v1"),
    ("https://me.openai.azure.com", "https://me.openai.azure.com/openai/v1"),
    (
        "https://me.openai.azure.com/openai/deployments/four",
        "https://me.openai.azure.com/openai/deployments/four",
    ),
    ("  https://api.deepseek.com  ", "https://api.deepseek.com/v1"),
]


@pytest.mark.parametrize(("given", "root"), RULE)
def test_the_path_is_kept_and_only_a_bare_host_gets_v1(given: str, root: str) -> None:
    assert endpoint(given).root == root


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("api.openai.com/v1", "https://api.openai.com/v1"),
        ("ftp://api.openai.com", "scheme"),
        ("https://", "host"),
        ("https://user:password@host/v1", "api_key"),
        ("http://host:port/v1", "not a URL"),
    ],
)
def test_what_cannot_be_a_base_url_says_so(given: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        endpoint(given)
    assert words in str(caught.value)
    assert "password@" not in str(caught.value)


def test_query_options_are_repeated_with_every_request() -> None:
    place = endpoint("https://me.openai.azure.com/openai/deployments/four?api-version=2024-06-01")
    assert place.at("/chat/completions") == (
        "https://me.openai.azure.com/openai/deployments/four/chat/completions?api-version=2024-06-01"
    )
    assert place.with_query("api-version", "preview").query == "api-version=preview"


@pytest.mark.parametrize(
    ("argument", "openai", "api", "root"),
    [
        ("http://localhost:1", "http://localhost:2", "http://localhost:3", "http://localhost:1/v1"),
        (None, "http://localhost:2", "http://localhost:3", "http://localhost:2/v1"),
        (None, None, "http://localhost:3", "http://localhost:3/v1"),
        (None, None, None, "https://api.openai.com/v1"),
        (None, "", "http://localhost:3", "http://localhost:3/v1"),
    ],
)
def test_argument_before_openai_variable_before_the_short_one(
    argument: str | None, openai: str | None, api: str | None, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("OPENAI_BASE_URL", openai), ("API_URL", api)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert OpenAIBackend(argument).base_url == root
