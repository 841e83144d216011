"""F17, F22, T27: an Agent wraps any LLM, and takes what it was made with; a list of questions is a batch."""

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest

from lllm import (
    LLM,
    Agent,
    Dialog,
    FunctionCall,
    MemoryLog,
    Message,
    Prompt,
    ScriptedBackend,
    VLLMModel,
    build_agent,
    tool,
)
from lllm.errors import ConfigError, LLMError, PromptError, ProviderFailed, ServerError
from lllm.llm.dialog import as_message
from lllm.registry import registry
from tests.servers.openai_server import OpenAIServer, Script


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        running.forever = Script("from the server")
        yield running


@tool
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


WHO = Prompt("who/system", "You are {who}.")
ADDING = (FunctionCall("", "add", '{"a": 1, "b": 2}'), "3")


# --- a model that is made already


def test_an_agent_wraps_an_llm_in_a_tool_loop() -> None:
    model = ScriptedBackend(ADDING)
    agent = Agent(LLM(model), tools=[add], store=MemoryLog())
    assert (agent.name, agent("1 + 2?").content) == ("agent", "3")
    assert model.requests[1].messages[-1].text == "3"


def test_the_embedded_model_as_an_llm() -> None:
    agent = Agent("a", LLM("embedded", max_tokens=4), store=MemoryLog())
    assert agent.model == "embedded"
    assert agent("2+2?").usage is not None


def test_an_agent_on_a_vllm_model(server: OpenAIServer) -> None:
    model = VLLMModel("m", server.url, default_temperature=0.25, default_max_tokens=9)
    agent = Agent("a", model, "Be brief.", store=MemoryLog())
    assert agent.model == "openai/m"
    assert agent("hi").content == "from the server"
    body = server.requests[-1].json
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0.25, 9)
    assert agent("hi", temperature=0).content == "from the server"
    assert server.requests[-1].json["temperature"] == 0
    del agent, model
    gc.collect()  # nothing complains


def test_an_agent_takes_what_its_llm_was_made_with() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    llm = LLM(
        ScriptedBackend(['{"n": 1}'] * 9), system="You count.", temperature=0.5, stop=["X"], max_model_calls=3,
        tools=[add], format=schema, timeouts=7,
    )  # fmt: skip
    taken = Agent("a", llm)
    assert taken.system_prompt is not None
    assert taken.system_prompt.prompt == "You count."
    settings = taken._settings
    assert (settings.sampling, settings.limits.max_model_calls) == ({"temperature": 0.5, "stop": ["X"]}, 3)
    assert (settings.format, settings.timeouts.total, taken.tools, settings.execute) == (
        schema,
        7,
        (add,),
        True,
    )
    own = Agent("a", llm, "You add.", temperature=0, max_model_calls=4, tools=[], timeouts={"total": 8})
    assert own.system_prompt is not None
    assert own.system_prompt.prompt == "You add."
    assert (own._settings.sampling["temperature"], own.limits.max_model_calls) == (0, 4)
    assert (own.tools, own._settings.timeouts.total) == ((), 8)


def test_an_llm_stands_wherever_a_model_may() -> None:
    first, second = ScriptedBackend(lambda request: "first"), ScriptedBackend(lambda request: "second")
    agent, other = Agent("a", LLM(first), store=MemoryLog()), LLM(second, temperature=0.5, timeouts=9)
    assert [agent("x").content, agent("x", model=other).content] == ["first", "second"]
    assert second.requests[-1].sampling == {"temperature": 0.5}
    assert second.requests[-1].timeouts.total == 9
    assert agent("x", model=other, temperature=0).content == "second"
    assert second.requests[-1].sampling == {"temperature": 0}
    assert agent.with_(model=other)("x").content == "second"
    assert LLM(other)("x").content == "second"
    assert LLM(first)("x", model=other).content == "second"
    system: Any = build_agent({"agent_configs": {"a": {"temperature": 1}}}, model=other, log_base=MemoryLog())  # type: ignore[arg-type]
    assert system("x") == "second"
    assert second.requests[-1].sampling == {"temperature": 1}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Agent("a", Agent("b", "scripted")), "Agent is not a model"),  # type: ignore[arg-type]
        (lambda: Agent("a", ScriptedBackend), "ScriptedBackend is a class, not a model"),  # type: ignore[arg-type]
        (lambda: Agent("a", 3), "int is not a model"),  # type: ignore[arg-type]
        (lambda: Agent(LLM("scripted"), "scripted"), "an agent has one model, got two"),
        (lambda: Agent(3), "the agent's name is 3"),  # type: ignore[arg-type]
        (lambda: Agent("a", LLM("scripted"), options={"slots": 2}), "this LLM already exists"),
        (lambda: LLM(ScriptedBackend(), base_url="http://x"), "this ScriptedBackend already exists"),
        (lambda: LLM("scripted", prompt="x"), "an LLM has no 'prompt'"),
        (lambda: LLM("scripted", description="x"), "an LLM has no 'description'"),
        (lambda: LLM("scripted", name="x"), "an LLM has no 'name'"),
        (lambda: LLM("scripted", approve=print), "an LLM has no 'approve'"),
        (
            lambda: build_agent(build_agent({"agent_configs": {"a": {}}}).config, overrides=["model=x"]),
            "already loaded",
        ),
    ],
)
def test_what_nothing_would_read_is_refused(make: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert words in str(caught.value)


# --- what an agent is called with


def agent_of(*replies: Any, **more: Any) -> tuple[Agent, ScriptedBackend]:
    model = ScriptedBackend(replies[0] if callable(replies[0]) else replies)
    return Agent("a", model, store=MemoryLog(), **more), model


def test_a_list_of_questions_is_a_batch() -> None:
    def answer(request: Any) -> Any:
        text = request.messages[-1].text
        return ServerError("down", status=500) if text == "2" else f"got {text}"

    agent, model = agent_of(answer, system_prompt=WHO, max_provider_retry=0)
    replies = agent([[Message("user", text)] for text in ("1", "2", "3")], {"who": "kind"})
    assert [str(reply) for reply in (replies[0], replies[2])] == ["got 1", "got 3"]
    assert isinstance(replies[1], ProviderFailed)
    assert {request.messages[0].text for request in model.requests} == {"You are kind."}
    plain = agent.with_(system_prompt="Be kind.")
    assert asyncio.run(plain.acall(["4"]))[0].content == "got 4"  # type: ignore[union-attr]
    assert [
        str(reply)
        for reply in agent.call([[{"role": "user", "content": "5"}], [Message("user", "6")]], {"who": "x"})
    ] == [
        "got 5",
        "got 6",
    ]


def test_a_batch_of_dialogs_moves_each_of_them_on() -> None:
    agent, _ = agent_of(lambda request: f"got {request.messages[-1].text}")
    dialogs = [agent.init_dialog().append(text) for text in ("1", "2")]
    assert [str(reply) for reply in agent(dialogs)] == ["got 1", "got 2"]
    assert [dialog.messages[-1].text for dialog in dialogs] == ["got 1", "got 2"]


def test_a_batch_has_workers_and_the_settings_of_a_call() -> None:
    busy = peak = 0

    async def answer(request: Any) -> str:
        nonlocal busy, peak
        busy += 1
        peak = max(peak, busy)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        busy -= 1
        return "ok"

    agent, model = agent_of(answer)
    agent([str(number) for number in range(12)], workers=3, temperature=0.5)
    assert peak == 3
    assert {request.sampling["temperature"] for request in model.requests} == {0.5}


def test_what_is_wrong_with_one_of_a_batch_is_said_before_any_is_asked() -> None:
    agent, model = agent_of("x", system_prompt=WHO)
    with pytest.raises(PromptError, match="missing argument who"):
        agent(["1", "2"])
    with pytest.raises(ConfigError, match="no prompt named '1'"):
        agent(["1", "2"], {"who": "x"})  # arguments go with prompts, in a batch as for one
    for wrong, words in {
        (("1", "2"), "workers"): "workers must be a whole number >= 1, got 0",
        (("1",), "temprature"): "Did you mean 'temperature'?",
    }.items():
        with pytest.raises(ConfigError) as caught:
            agent([[Message("user", text)] for text in wrong[0]], {"who": "x"}, **{wrong[1]: 0})
        assert words in str(caught.value)
    assert not model.requests


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (3, "the agent 'a' was called with int"),
        (2.5, "was called with float"),
        (b"x", "was called with bytes"),
        ({"q1", "q2"}, "was called with set"),
        (object(), "was called with object"),
        ([], "was called with an empty list"),
        (Dialog(), "was called with an empty dialog"),
        ([1], "a list that holds int"),
        (["x", {"role": "user", "content": "x"}], "was called with a mixed list"),
        (["x", None], "a list that holds NoneType"),
        ([[]], "a list that holds list"),
        ([["x"]], "a list that holds list"),
        ([{"role": "nobody", "content": "x"}], "nobody"),
        (iter(["x"]), "was called with list_iterator"),
    ],
)
def test_an_agent_says_what_it_can_be_called_with(given: Any, words: str) -> None:
    agent, model = agent_of("x")
    for call in (agent, agent.call, lambda given: asyncio.run(agent.acall(given))):
        with pytest.raises(ConfigError) as caught:
            call(given)
        assert words in str(caught.value)
    assert not model.requests


@pytest.mark.parametrize("key", ["mcp_servers", "allow_web_search", "computer_use_config"])
def test_what_is_not_in_this_version_may_be_empty(key: str) -> None:
    agent, model = agent_of("x", "x")
    Agent("a", model, store=MemoryLog(), **{key: None})("hi", **{key: []})
    for call in (
        lambda: Agent("a", model, **{key: ["x"]}),
        lambda: agent("hi", **{key: True}),
        lambda: LLM(model, **{key: "x"}),
    ):
        with pytest.raises(ConfigError, match="not supported in this version"):
            call()
    assert [dict(request.sampling) for request in model.requests] == [{}]


def test_a_batch_is_not_streamed_or_classified() -> None:
    agent, model = agent_of("x")
    for call in (lambda: list(agent.stream(["1", "2"])), lambda: agent.classify(["1", "2"], ["a", "b"])):
        with pytest.raises(LLMError, match="a batch cannot be"):
            call()
    assert not model.requests


def test_arguments_that_nothing_takes_are_refused() -> None:
    agent, model = agent_of("x", "x", system_prompt=WHO)
    dialog = agent.init_dialog({"who": "kind"})
    agent.send_message(dialog, Prompt("p", "{task}"), {"task": "x"})
    message = [{"role": "user", "content": "x"}]
    for call in (
        lambda: agent(message, {"who": "kind", "wh": 1}),
        lambda: agent(message, {"who": "kind"}, parser_args={"a": 1}),
        lambda: agent(dialog, {"tsk": 1}),
        lambda: agent(Dialog(message), {"who": 1}),
        lambda: LLM(model)("x", args={"a": 1}),
        lambda: LLM(model)("x", parser_args={"a": 1}),
        lambda: LLM(model)("x", workers=2),
        lambda: agent(message, {"who": "kind"}, workers=2),
    ):
        with pytest.raises(ConfigError):
            call()
    assert not model.requests
    assert agent(dialog, {"task": "y"}).content == "x"


@pytest.mark.parametrize(
    "messages",
    [["x"], "x", 3, None, {"role": "user", "content": "x"}, [3], [None], Message("user", "x"), [b"x"]],
)
def test_a_dialog_is_made_of_messages(messages: Any) -> None:
    with pytest.raises(ConfigError, match="or a Message"):
        Dialog(messages)
    if not isinstance(messages, str | dict | Message):
        with pytest.raises(ConfigError):
            Dialog().append(messages)


def test_an_unregistered_text_is_a_question_also_in_a_batch() -> None:
    with registry.scope():
        registry.add("prompt", "p/x", Prompt("p/x", "What of {n}?"))
        agent, model = agent_of("1", "2")
        with pytest.raises(PromptError):
            agent(["p/x"])
        agent(["p/x"], {"n": 3})
        assert model.requests[0].messages[-1].text == "What of 3?"
    assert as_message({"role": "user", "content": "x"}).text == "x"
