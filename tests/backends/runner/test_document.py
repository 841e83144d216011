"""The snippets of the document, unchanged but for the package's name and the model's path: R13, R14, R18, R19, R25."""

from typing import Any

import pytest

DICTIONARY = """
from lllm import LLMRunnerFactory

# Dictionary configuration
config = {
    'llm': {
        'backend': 'llama.cpp',
        'model_path': '/path/to/model.gguf',
        'temperature': 0.8,
        'max_tokens': 1000,
    }
}

# Create runner
runner = LLMRunnerFactory.create_runner(config)

# Generate text
response = runner.generate_text("Hello, world!")
"""

TYPED = """
from lllm import ModelConfig, BackendType, DeviceType

config = ModelConfig(
    model_path='/path/to/model',
    backend=BackendType.TRANSFORMERS,
    device=DeviceType.AUTO,
    temperature=0.7,
    max_tokens=500
)

runner = LLMRunnerFactory.create_runner(config)
"""

STREAMING = """
# Streaming text generation
for chunk in runner.generate_text_streaming("Tell me a story:"):
    print(chunk, end='', flush=True)
"""

CHAT = """
messages = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is AI?"}
]

response = runner.create_chat_completion(messages)
print(response['choices'][0]['message']['content'])
"""

NEW = """
from lllm.backends.runner.base import BaseLLMRunner

class NewBackendRunner(BaseLLMRunner):
    def _initialize_model(self) -> None:
        # Initialize your backend
        pass

    def _run_streaming(self, prompt: str, max_tokens: int, temperature: float):
        # Implement streaming
        yield f"{prompt} {max_tokens} {temperature}"
"""


def play(*snippets: str, **names: Any) -> dict[str, Any]:
    for snippet in snippets:
        exec(compile(snippet, "llm-runner.txt", "exec"), names)
    return names


def test_a_new_backend_in_two_methods() -> None:
    """R25."""
    names = play(NEW)
    assert names["NewBackendRunner"]({"temperature": 0, "max_tokens": 3}).generate_text("hi") == "hi 3 0.0"


def test_the_module_names_of_the_document() -> None:
    """R28: each module of the list is there under its name."""
    from importlib import import_module

    for module in ("base", "config", "factory", "llama_cpp", "transformers"):
        assert import_module(f"lllm.backends.runner.{module}")


def test_the_dictionary_snippet(forms: Any) -> None:
    """R13."""
    names = play(DICTIONARY.replace("/path/to/model.gguf", str(forms.gguf_q8)))
    assert names["response"]
    assert names["runner"].get_model_info()["backend"] == "llama_cpp"
    names["runner"].close()


def test_the_typed_streaming_and_chat_snippets(forms: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """R14, R18, R19."""
    typed = TYPED.replace("/path/to/model", str(forms.folder))
    names = play("from lllm import LLMRunnerFactory", typed, STREAMING)
    assert capsys.readouterr().out
    play(CHAT, runner=names["runner"])
    assert capsys.readouterr().out.strip()
    assert names["runner"].get_model_info()["backend"] == "transformers"
    names["runner"].close()
