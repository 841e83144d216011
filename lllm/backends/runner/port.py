"""A runner as a backend of the port: what `LLM("name/model")` talks to."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any, ClassVar, Final

from lllm.backends.runner import faults
from lllm.backends.runner.base import BaseLLMRunner
from lllm.backends.runner.generation import Generation
from lllm.errors import ConfigError, LLMError, ProviderError
from lllm.ports import Capabilities, Completed, Delta, Request
from lllm.sync import in_thread, spawn

_END: Final = object()


class RunnerBackend:
    """A `lllm.ports.Backend` of a runner's class: one runner per model, each loaded at its first request.

        class EchoBackend(RunnerBackend, runner=Echo):
            pass

    Args:
        options: settings of the ModelConfig of every model.
    """

    runner: ClassVar[type[BaseLLMRunner]]
    capabilities = Capabilities(tools=False)

    def __init_subclass__(cls, runner: type[BaseLLMRunner] | None = None, **more: Any) -> None:
        super().__init_subclass__(**more)
        if runner is not None:
            cls.runner = runner

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._runners: dict[str, BaseLLMRunner] = {}

    def of(self, model: str) -> BaseLLMRunner:
        """The runner of a model."""
        with self._lock:
            if model not in self._runners:
                self._runners[model] = self.runner({"model_path": model, **self._options})
            return self._runners[model]

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """See `lllm.ports.Backend`."""
        runner = self.of(request.model)
        made: list[Generation] = []
        left = threading.Event()

        def begin() -> Generation:
            made.append(runner.begin(request))
            if left.is_set():  # while the model was being loaded
                made[0].close()
            return made[0]

        try:
            generation = await in_thread(begin)
            while (delta := await in_thread(next, generation, _END)) is not _END:
                if request.stream or isinstance(delta, Completed):
                    yield delta
        except (ConfigError, ProviderError):
            raise
        except LLMError as error:
            raise ProviderError(error.message, hint=error.hint) from error
        finally:
            left.set()
            for generation in made:
                if not generation.over:
                    # not awaited: whoever closes this stream early need not wait for the model's next piece
                    why = faults.cancelled(runner.about(), "nobody follows any more")
                    spawn(partial(generation.stop, why))

    async def aclose(self) -> None:
        """Closes all runners. The next request makes another."""
        with self._lock:
            runners, self._runners = list(self._runners.values()), {}
        for runner in runners:
            await in_thread(runner.close)
