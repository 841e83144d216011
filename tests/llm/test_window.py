"""Requests that are longer than the model's window: what is left out, what is said of it, and where it is an error."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lllm import LLM, Agent, Dialog, MemoryLog, Message, build_agent, const, fitting, pinned, record, tool
from lllm.config import load_config
from lllm.core import events as ev
from lllm.errors import ConfigError, ContextLengthError, ProviderFailed, UnknownKeyError
from lllm.llm.measuring import estimate
from lllm.log.views import load
from lllm.models.message import FunctionCall
from lllm.models.reply import Reply
from lllm.ports import Capabilities, Completed, Delta, Request, TextDelta
from lllm.replay import fork_session, replay_session
from lllm.replay.resume import resume_session
from tests.replay.test_resume import cut


class Narrow:
    """A model with a window: each word is a token, and each message one more. `says` is how it refuses what is too long."""

    capabilities = Capabilities(grammar=True, seed=True)
    name = "narrow"

    def __init__(
        self, window: int = 40, *, measures: bool = True, says: str = "", answer: Any = "ok"
    ) -> None:
        self.window, self.says, self.answer = window, says, answer
        self.requests: list[Request] = []
        self.refused = 0
        if measures:
            self.prompt_size = lambda request: (self.size(request), self.window)

    def size(self, request: Request) -> int:
        words = sum(len(message.text.split()) + 1 for message in request.messages)
        return words + sum(len(str(tool).split()) for tool in request.tools)

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        if (size := self.size(request)) > self.window:
            self.refused += 1
            raise ContextLengthError(self.says.format(self.window, size) or "too long", status=400)
        self.requests.append(request)
        answer = self.answer(request) if callable(self.answer) else self.answer
        if isinstance(answer, FunctionCall):
            yield Completed(Reply("", tool_calls=(answer,)))
            return
        yield TextDelta(answer)
        yield Completed(Reply(answer))

    async def aclose(self) -> None:
        """Nothing is open."""


SAYS = "This model's maximum context length is {0} tokens. However, your messages resulted in {1} tokens."
DROP = {"policy": "drop", "reserve": 5}


@pytest.fixture(autouse=True)
def _nothing_learnt() -> None:
    fitting.learnt.clear()


def agent_of(model: Any, **more: Any) -> Agent:
    return Agent("a", model, "Be kind.", **{"window": DROP, "memory": True, "store": MemoryLog(), **more})


def words(number: int, of: str = "word") -> str:
    return " ".join([of] * number)


def sent(model: Narrow, request: int = -1) -> list[str]:
    return [message.text for message in model.requests[request].messages]


def notes(store: MemoryLog) -> list[dict[str, Any]]:
    return [
        event["data"]
        for info in sorted(store.sessions(), key=lambda info: info.started)
        for event in load(store, info.id)
        if event["kind"] == ev.NOTE and event["data"].get("of") == "window"
    ]


def test_the_oldest_turns_are_left_out_and_the_log_keeps_all() -> None:
    model = Narrow()
    agent = agent_of(model)
    for n in range(6):
        agent(f"{n} {words(7)}")
    assert model.refused == 0
    assert sent(model)[0] == "Be kind.\n\n[8 earlier messages of this conversation are left out here.]"
    assert [text.split()[0] for text in sent(model)[1:]] == ["4", "ok", "5"]
    assert [text.split()[0] for text in (m.text for m in agent.history) if text[0].isdigit()] == list(
        "012345"
    )
    found = notes(agent.store)  # type: ignore[arg-type]
    assert found[-1]["left_out"] == 8
    assert found[-1]["tokens"] <= found[-1]["limit"] - 5 == 35
    assert found[-1]["exact"] is True
    assert "8 of 12 messages were left out of a request" in found[-1]["text"]
    assert "mended" not in found[-1]


def test_without_a_policy_it_is_the_provider_s_error() -> None:
    model = Narrow(says=SAYS)
    with pytest.raises(ProviderFailed) as caught:
        agent_of(model, window=None)(words(50))
    assert isinstance(caught.value.__cause__, ContextLengthError)
    assert model.refused == 1


@pytest.mark.parametrize("stream", [False, True])
def test_an_endpoint_s_own_limit_is_found_and_the_request_mended_once(stream: bool) -> None:
    model = Narrow(measures=False, says=SAYS)
    agent = agent_of(model, window={"reserve": 0})
    for n in range(4):
        agent(f"{n} {words(7)}")
    assert model.refused == 1
    if stream:
        assert list(agent.stream(f"4 {words(7)}").text()) == ["ok"]
    else:
        agent(f"4 {words(7)}")
    assert model.refused == 1, "the limit is known by now"
    mended = [note for note in notes(agent.store) if note.get("mended")]  # type: ignore[arg-type]
    assert [note["limit"] for note in mended] == [40]
    assert "(estimated)" in mended[0]["text"]
    assert sent(model)[-1].startswith("4")


def test_an_endpoint_that_names_no_limit() -> None:
    model = Narrow(measures=False)
    agent = agent_of(model)
    for n in range(4):
        agent(f"{n} {words(7)}")
    assert model.refused == 1
    assert notes(agent.store)[0]["limit"] is None  # type: ignore[arg-type]


def test_what_is_refused_twice_is_an_error() -> None:
    class Never(Narrow):
        def size(self, request: Request) -> int:
            return 1000

    model = Never(measures=False)
    agent = agent_of(model)
    dialog = Dialog([Message("user", words(200)), Message("assistant", "1"), Message("user", "two")])
    with pytest.raises(ProviderFailed):
        agent(dialog)
    assert model.refused == 2


@pytest.mark.parametrize("measures", [True, False])
def test_nothing_can_be_left_out(measures: bool) -> None:
    model = Narrow(measures=measures, says=SAYS)
    agent = agent_of(model)
    agent("one")
    before = agent.history
    with pytest.raises(ProviderFailed) as caught:
        agent(words(60))
    assert isinstance(caught.value.__cause__, ContextLengthError)
    if measures:
        assert model.refused == 0, "it is not sent"
        assert "cannot be left out" in str(caught.value)
        assert "window of 'narrow' has 40, and 35 are left" in str(caught.value)
    assert agent.history == before


def test_a_reply_that_takes_the_whole_window() -> None:
    with pytest.raises(ProviderFailed, match="and 0 are left for the request"):
        agent_of(Narrow(), window="drop", max_tokens=100)("x")


def test_pinned_messages_stay() -> None:
    model = Narrow()
    agent = agent_of(model)
    agent(pinned("My name is Bob."))
    for n in range(5):
        agent(f"{n} {words(7)}")
    assert sum("My name is Bob." in text for text in sent(model)) == 1
    assert "0" not in "".join(sent(model))
    with pytest.raises(ProviderFailed, match="cannot be left out"):
        agent_of(Narrow())(Dialog([pinned(words(40)), Message("assistant", "ok"), Message("user", "x")]))
    with pytest.raises(ConfigError):
        pinned(3)  # type: ignore[arg-type]


def test_tool_rounds_of_one_call_are_left_out_too() -> None:
    @tool(effect="pure", repeatable=True)
    def look(n: int) -> str:
        """Look."""
        return f"result {n} " + words(20)

    def answer(request: Request) -> Any:
        count = (
            int(seen[-1].split()[1]) + 1
            if (seen := [m.text for m in request.messages if m.role == "tool"])
            else 0
        )
        return FunctionCall(f"t{count}", "look", f'{{"n": {count}}}') if count < 4 else "done"

    model = Narrow(100, answer=answer)
    agent = agent_of(model, tools=[look])
    reply = agent("go")
    assert reply.content == "done"
    assert [m.text.split()[1] for m in reply.messages if m.role == "tool"] == list("0123")
    assert model.refused == 0
    assert sum(m.role == "tool" for m in model.requests[-1].messages) < 4
    assert sent(model)[1].startswith("go")


def test_the_window_that_is_set_is_stronger() -> None:
    model = Narrow(1000)
    agent = agent_of(model, window={"tokens": 40, "reserve": 5})
    for n in range(6):
        agent(f"{n} {words(7)}")
    assert len(sent(model)) == 4


def test_model_cards_are_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    card = const.ModelCard(const.Providers.OPENAI, 90)
    monkeypatch.setattr(const, "MODEL_CARDS", {"narrow": card})
    model = Narrow(10_000, measures=False)
    agent = agent_of(model)
    for n in range(6):
        agent(f"{n} {words(7)}")
    assert model.refused == 0
    assert 2 < len(sent(model)) < 12
    assert estimate(model.requests[-1], None) <= 85


@pytest.mark.parametrize("style", ["auto", "tags"])
def test_an_embedded_model_s_own_count(style: str) -> None:
    @tool(effect="pure")
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    agent = Agent(
        "a", "embedded", "Be brief.", tools=[add], tool_style=style, max_tokens=8, window="drop", memory=True,
        max_exception_retry=0, max_interrupt_times=None, store=MemoryLog(),
    )  # fmt: skip
    backend: Any = agent._settings.backend
    seen: list[tuple[int, int]] = []
    measure = backend.prompt_size
    backend.prompt_size = lambda request: seen.append(size := measure(request)) or size
    try:
        for n in range(8):
            reply = agent(f"Say {n}. " + "The quick brown fox jumps over the lazy dog. " * 12, tools=[])
            assert seen[-1][1] == 1024
            assert reply.usage is not None
            assert any(tokens == reply.usage.prompt for tokens, _ in seen), "counted as the model reads it"
            assert reply.usage.prompt <= 1024 - 8
    finally:
        del backend.prompt_size
    assert notes(agent.store)[-1]["limit"] == 1024  # type: ignore[arg-type]


def program(store: MemoryLog, model: Narrow) -> Any:
    def main() -> str:
        agent = Agent("a", model, "Be kind.", window=DROP, memory="session")
        with record("x", store=store):
            return "".join(agent(f"{n} {words(7)}").content for n in range(5))

    return main


def test_it_is_replayed_resumed_and_forked() -> None:
    store, model = MemoryLog(), Narrow()
    result = program(store, model)()
    (session,) = [info.id for info in store.sessions()]
    asked = len(model.requests)
    assert replay_session(session, store=store, entry=program(store, model)).verified
    assert len(model.requests) == asked
    for at in range(1, len(list(store.read(session)))):
        there = cut(store, session, at)
        assert resume_session(session, store=there, entry=program(there, Narrow())).result == result
        assert replay_session(session, store=there, entry=program(there, Narrow())).verified
    fork = fork_session(session, store=store, into=MemoryLog(), entry=program(store, model))
    assert (fork.reused, fork.new, fork.changed) == (5, 0, 0)


def test_another_policy_is_another_request() -> None:
    store, model = MemoryLog(), Narrow(1000)

    def main(window: Any = DROP) -> str:
        with record("x", store=store):
            return Agent("a", model, window=window)("x").content

    main()
    (session,) = [info.id for info in store.sessions()]
    report = replay_session(session, store=store, entry=lambda: main({"tokens": 50}))
    assert report.divergence is not None


def test_from_yaml_and_for_one_call(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(
        "name: x\nstart: b\nwindow: {tokens: 40, reserve: 5}\nagent_configs:\n  a: {memory: true, window: drop}\n  b: {}\n"
    )
    config = load_config(file)
    system = build_agent(config, model=Narrow(), log_base=MemoryLog())
    assert system.agents["a"]._settings.window == system.agents["b"]._settings.window._replace(
        tokens=None, reserve=None
    )
    assert system.agents["b"]._settings.window.tokens == 40
    model = Narrow(1000)
    llm = LLM(model)
    dialog = [Message("user", words(30)), Message("assistant", "ok"), Message("user", "x")]
    llm(dialog, window={"tokens": 20, "reserve": 5})
    assert len(sent(model)) == 1
    llm(dialog)
    assert len(sent(model)) == 3


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        ("cut", ConfigError, "must be 'drop'"),
        (3, ConfigError, "must be 'drop'"),
        (True, ConfigError, "must be 'drop'"),
        ({"size": 3}, UnknownKeyError, "window.size"),
        ({"tokens": 0}, ConfigError, r"window\.tokens must be a whole number >= 1"),
        ({"reserve": "x"}, ConfigError, r"window\.reserve"),
    ],
)
def test_what_is_no_policy(value: Any, error: type[Exception], said: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=said):
        agent_of(Narrow(), window=value)
    if isinstance(value, dict):
        file = tmp_path / "a.yaml"
        file.write_text(f"name: x\nagent_configs:\n  a:\n    window: {value}\n")
        with pytest.raises(ConfigError, match=r"a\.yaml:4"):
            build_agent(load_config(file), model=Narrow())
