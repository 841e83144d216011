"""Runners as somebody else would write them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from lllm import BaseLLMRunner


class Model:
    """Weights that can be watched by a weak reference."""

    def __init__(self, name: str) -> None:
        self.name = name


class Echo(BaseLLMRunner):
    """Says what it was asked, word by word."""

    loads = 0
    fail: Any = None

    def _initialize_model(self) -> None:
        type(self).loads += 1
        if self.fail is not None:
            raise self.fail
        self.model = Model(str(self.config.model_path))

    def _run_streaming(self, prompt: str, max_tokens: int, temperature: float) -> Iterator[str]:
        words = f"{self.model.name} {temperature:g} {prompt}".split()
        for number, word in enumerate(words[:max_tokens]):
            yield word if number == 0 else f" {word}"


class Gate(Echo):
    """Says one word, then waits for `go`; remembers when it was closed."""

    def _initialize_model(self) -> None:
        super()._initialize_model()
        self.go = threading.Event()
        self.closed = threading.Event()

    def _run_streaming(self, prompt: str, max_tokens: int, temperature: float) -> Iterator[str]:
        go, closed = self.go, self.closed
        try:
            yield "first"
            if not go.wait(120):
                raise AssertionError("whoever listens waits for the end before taking the first piece")
            yield " last"
        finally:
            closed.set()
