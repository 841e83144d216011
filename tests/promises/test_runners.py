"""R35: the time limit of a runner's config is the backend's to keep, also while nothing comes from the model."""

from typing import Any

import pytest

from lllm import LLMRunnerFactory
from lllm.errors import ProviderTimeout
from lllm.ports import Timeouts


def test_the_time_limit_goes_with_every_request() -> None:
    runner: Any = LLMRunnerFactory.create_runner(
        {"backend": "scripted", "timeout": 2.5, "options": {"replies": ["a", "b", "c"]}}
    )
    runner.run("x")
    list(runner.generate_text_streaming("x"))
    runner.create_chat_completion([{"role": "user", "content": "x"}])
    assert [request.timeouts for request in runner._backend.requests] == [Timeouts(total=2.5)] * 3


def test_a_model_keeps_it_before_its_first_word() -> None:
    with LLMRunnerFactory.create_runner({"backend": "embedded", "timeout": 1e-6}) as runner:
        with pytest.raises(ProviderTimeout) as caught:
            runner.run("Hello, world!")
        assert caught.value.stage == "total"
