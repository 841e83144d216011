"""What a runner does, on the model in this package: `python -m lllm.backends.runner.example [MODEL]`.

MODEL is the path of a GGUF file or of a model's folder; the embedded model is taken where none is given.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from lllm.backends.runner.base import BaseLLMRunner
from lllm.backends.runner.factory import LLMRunnerFactory
from lllm.core.visible import visible

MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is AI?"},
]


def basic(runner: BaseLLMRunner) -> Iterable[str]:
    """A text, and another with settings of its own."""
    yield runner.generate_text("Hello, world!")
    yield f"\n{runner.generate_text('Hello, world!', max_tokens=5, temperature=0)}"


def streaming(runner: BaseLLMRunner) -> Iterable[str]:
    """A text as it is made."""
    yield from runner.generate_text_streaming("Tell me a story:")


def chat(runner: BaseLLMRunner) -> Iterable[str]:
    """OpenAI's chat completion."""
    yield runner.create_chat_completion(MESSAGES)["choices"][0]["message"]["content"]


def looking(runner: BaseLLMRunner) -> Iterable[str]:
    """What is loaded, where, how large and how fast."""
    info, memory = runner.get_model_info(), runner.get_memory_usage()
    yield f"{info['model']} on {info['device']} ({info['device_reason']}), {memory['weight_bytes']:,} bytes of weights"


def main(arguments: Sequence[str] = ()) -> int:
    """Shows all of it, and gives the exit code."""
    settings = {"temperature": 0, "model_path": arguments[0] if arguments else None}
    with LLMRunnerFactory.create_runner(settings) as runner:
        for part in (basic, streaming, chat, looking):
            sys.stdout.write(f"# {part.__name__}\n")
            for piece in part(runner):
                sys.stdout.write(visible(piece))
                sys.stdout.flush()
            sys.stdout.write("\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
