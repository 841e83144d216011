"""L16: a classification reads the log-probabilities of one token, whatever the tokenizer makes of the classes."""

from __future__ import annotations

import math
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lllm import LLM, Agent, MemoryLog, Reply, ScriptedBackend, VLLMModel
from lllm.errors import ConfigError, RepairExhausted, UnsupportedError
from lllm.log.views import load
from lllm.ports import Capabilities, Completed, Delta, Request
from tests.servers.openai_server import OpenAIServer, Script


def answer(**tokens: float) -> dict[str, Any]:
    """A reply of one token, with the probabilities of that and of its rivals; `_yes` is `yes` with a space before it."""
    tops = [
        {"token": token.replace("_", " "), "logprob": math.log(chance)} for token, chance in tokens.items()
    ]
    return {"content": tops[0]["token"], "logprobs": [{**tops[0], "top": tops}], "finish_reason": "length"}


def judge(*replies: Any, **more: Any) -> Agent:
    return Agent("judge", ScriptedBackend(list(replies)), store=MemoryLog(), **more)


@pytest.mark.parametrize(
    ("tokens", "classes", "wanted"),
    [
        ({"yes": 0.6, "no": 0.2}, ["yes", "no"], [0.75, 0.25]),
        ({"_yes": 0.6, "_no": 0.2}, ["yes", "no"], [0.75, 0.25]),
        ({"_Yes": 0.3, "yes": 0.2, "YES": 0.1, "No": 0.1, "_no": 0.1}, ["no", "yes"], [0.25, 0.75]),
        ({"pos": 0.6, "neg": 0.2, "well": 0.2}, ["positive", "negative"], [0.75, 0.25]),
        ({"a": 0.5}, ["a", "b"], [1, 0]),
        ({"north": 0.5, "east": 0.5}, ["north", "northwest", "east"], [0.5, 0, 0.5]),
        ({"_1": 0.2, "2": 0.6, "": 0.1, "_": 0.1}, ["1", "2"], [0.25, 0.75]),
    ],
)
def test_probabilities_over_the_classes(tokens: Any, classes: list[str], wanted: list[float]) -> None:
    found = judge(answer(**tokens)).classify("Is it?", classes)
    assert list(found) == classes
    assert list(found.values()) == pytest.approx(wanted)


@given(st.lists(st.floats(-30, 0), min_size=3, max_size=3))
def test_they_add_up_to_one(chances: list[float]) -> None:
    tops = [{"token": name, "logprob": chance} for name, chance in zip("abc", chances, strict=True)]
    reply = {"content": "a", "logprobs": [{**tops[0], "top": tops}]}
    found = judge(reply).classify("Which?", ["a", "b", "c"])
    total = sum(map(math.exp, chances))
    assert list(found.values()) == pytest.approx([math.exp(chance) / total for chance in chances])


def test_a_reply_that_names_no_class_is_asked_for_again() -> None:
    agent = judge(answer(well=1), {"content": "yes"}, answer(no=0.5, yes=0.5))
    assert agent.classify("Is it?", ["yes", "no"]) == {"yes": pytest.approx(0.5), "no": pytest.approx(0.5)}
    backend: Any = agent._settings.backend
    assert len(backend.requests) == 3
    assert "one of: yes, no" in backend.requests[1].messages[-1].text
    store: Any = agent.store
    (session,) = store.sessions()
    kinds = [event["kind"] for event in load(store, session.id)]
    assert (kinds.count("ModelReplied"), kinds.count("ReplyRejected")) == (3, 2)


@pytest.mark.parametrize(
    ("tokens", "classes"), [({"well": 1}, ["yes", "no"]), ({"nor": 1}, ["north", "northwest"])]
)
def test_one_that_never_does_is_a_typed_error(tokens: Any, classes: list[str]) -> None:
    agent = judge(*[answer(**tokens)] * 3, max_exception_retry=2)
    with pytest.raises(RepairExhausted):
        agent.classify("Is it?", classes)


class Plain:
    """A backend without log-probabilities."""

    capabilities = Capabilities()
    asked = 0

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        self.asked += 1
        yield Completed(Reply("yes"))


def test_a_model_without_them_is_a_clear_error() -> None:
    backend = Plain()
    with pytest.raises(
        UnsupportedError, match=r"(?s)gives no log-probabilities.*Classify with a backend that does"
    ):
        Agent("judge", backend).classify("Is it?", ["yes", "no"])
    assert backend.asked == 0


@pytest.mark.parametrize("classes", [[], ["yes"], ["yes", "Yes "], ["yes", 3], "yes"])
def test_classes_that_are_none(classes: Any) -> None:
    with pytest.raises(ConfigError, match="classes are"):
        judge().classify("Is it?", classes)


def test_yes_or_no() -> None:
    assert judge(answer(yes=0.8, no=0.2)).binary_classify("Is it?") == pytest.approx(0.8)
    assert judge(answer(good=0.8, bad=0.2)).binary_classify("?", "bad", "good") == pytest.approx(0.2)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[OpenAIServer]:
    monkeypatch.chdir(tmp_path)  # sessions are kept there
    with OpenAIServer() as running:
        yield running


async def test_on_an_endpoint_without_a_tokenizer(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tiktoken", "tokenizers", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    tops = [
        {"token": " Yes", "logprob": math.log(0.6), "bytes": None},
        {"token": "no", "logprob": math.log(0.2), "bytes": None},
    ]
    server.forever = Script(" Yes", logprobs=[{**tops[0], "top_logprobs": tops}], finish="length")
    async with VLLMModel("m", server.url) as model:
        for asks in (Agent("judge", model, "Be strict."), LLM(model._backend)):
            found = await asks.aclassify("Is it?", ["yes", "no"])
            assert found == {"yes": pytest.approx(0.75), "no": pytest.approx(0.25)}
    body = server.requests[0].json
    assert (body["max_tokens"], body["logprobs"], body["top_logprobs"], body["temperature"]) == (
        1,
        True,
        20,
        0,
    )
