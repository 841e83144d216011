"""F11, T7, T15: what a call says is what the endpoint is sent, and a slip is an error."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypedDict

import pytest
from pydantic import BaseModel

from lllm import LLM, Agent, Prompt, Reply, ScriptedBackend, build_agent, load_config, tool
from lllm.backends.openai import OpenAIBackend
from lllm.config import keys
from lllm.errors import ConfigError, LLMError, RepairExhausted
from lllm.llm.checks import OF_LIMITS, OF_SAMPLING, OF_TIMEOUTS
from lllm.ports import Request, Timeouts
from tests.servers.openai_server import OpenAIServer, Script, call


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        running.forever = Script('{"city": "Oslo", "degrees": 3}')
        yield running


def weather(city: str) -> str:
    """The weather of a city."""
    return city


SPEC = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}


class Model(BaseModel):
    city: str
    degrees: int


@dataclass
class Data:
    city: str
    degrees: int


class Typed(TypedDict):
    city: str
    degrees: int


# what the LLM below sends where a call says nothing
BODY: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Where?"}],
    "model": "test-model",
    "temperature": 0.7,
    "max_tokens": 9,
    "tools": [SPEC],
}


def llm_of(server: OpenAIServer, **more: Any) -> LLM:
    settings = {"temperature": 0.7, "max_tokens": 9, "tools": [weather]}
    return LLM("openai/test-model", base_url=server.url, **settings, **more)


def without(*keys: str, **more: Any) -> dict[str, Any]:
    return {key: value for key, value in BODY.items() if key not in keys} | more


OVERRIDES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, BODY),
    "temperature 0": ({"temperature": 0}, without(temperature=0)),
    "no temperature": ({"temperature": None}, without("temperature")),
    "no tools": ({"tools": []}, without("tools")),
    "tools": ({"tools": [weather, {**SPEC, "function": {**SPEC["function"], "name": "other"}}]}, {}),
    "max_tokens": ({"max_tokens": 50}, without(max_tokens=50)),
    "stop": ({"stop": ["."]}, without(stop=["."])),
    "seed, and more": ({"seed": 7, "top_p": 0.5, "top_k": 3}, without(seed=7, top_p=0.5, top_k=3)),
    "tool_choice": ({"tool_choice": "required"}, without(tool_choice="required")),
    "another model": ({"options": True}, without(model="other")),
    "system": (
        {"system": "Be brief."},
        without(messages=[{"role": "system", "content": "Be brief."}, *BODY["messages"]]),
    ),
    "model_args": ({"model_args": {"min_p": 0.1}}, without(min_p=0.1)),
    "the provider's own": ({"extra_body": {"best_of": 2}}, without(best_of=2)),
}


@pytest.mark.parametrize("name", OVERRIDES)
def test_the_body_on_the_wire(name: str, server: OpenAIServer) -> None:
    given, wanted = OVERRIDES[name]
    if "options" in given:
        given = {"model": "openai/other", "options": {"base_url": server.url}}
    llm = llm_of(server)
    llm("Where?", **given)
    llm("Where?")
    sent, after = [seen.json for seen in server.requests]
    if name == "tools":
        assert [tool["function"]["name"] for tool in sent["tools"]] == ["weather", "other"]
    else:
        assert sent == wanted
    assert after == BODY  # the next call knows nothing of it


@pytest.mark.parametrize(
    ("format", "value"),
    [
        (SCHEMA, {"city": "Oslo", "degrees": 3}),
        (Model, Model(city="Oslo", degrees=3)),
        (Data, Data("Oslo", 3)),
        (Typed, {"city": "Oslo", "degrees": 3}),
    ],
    ids=["schema", "pydantic", "dataclass", "TypedDict"],
)
def test_the_form_of_one_reply(format: Any, value: Any, server: OpenAIServer) -> None:
    llm = llm_of(server, system="s")
    reply = llm("Where?", format=format, tools=[])
    assert (reply.parsed, type(reply.parsed), reply.enforced) == (value, type(value), "provider")
    sent = server.requests[0].json
    form = sent.pop("response_format")
    assert form["type"] == "json_schema"
    schema = form["json_schema"]["schema"]
    assert {key: schema["properties"][key]["type"] for key in schema["properties"]} == {
        "city": "string",
        "degrees": "integer",
    }
    assert (schema["required"], schema["additionalProperties"]) == (["city", "degrees"], False)
    assert sent == without("tools", messages=[{"role": "system", "content": "s"}, *BODY["messages"]])
    assert isinstance(llm("Where?").parsed, str)


def test_a_reply_in_another_form_is_repaired_or_a_typed_error(server: OpenAIServer) -> None:
    server.say('{"city": "Oslo"}')
    reply = llm_of(server)("Where?", format=Model, tools=[])
    assert reply.parsed == Model(city="Oslo", degrees=3)
    assert len(server.requests) == 2
    server.forever = Script("Oslo")
    with pytest.raises(RepairExhausted) as failed:
        llm_of(server)("Where?", format=Model, tools=[], max_exception_retry=1)
    assert len(failed.value.attempts) == 2


def test_a_dialog_of_every_role_is_sent_as_it_is(server: OpenAIServer) -> None:
    dialog = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": None, "tool_calls": [call("weather", {"city": "Oslo"})]},
        {"role": "tool", "content": "3", "tool_call_id": "call_1"},
        {"role": "user", "content": [{"type": "text", "text": "So?"}]},
    ]
    llm_of(server, system="not this one")(dialog)
    sent = server.requests[0].json["messages"]
    assert [message["role"] for message in sent] == [message["role"] for message in dialog]
    assert sent[0] == dialog[0]
    assert sent[2]["tool_calls"][0]["function"]["name"] == "weather"
    assert sent[3] == dialog[3]


def test_tool_calls_are_given_back_and_not_run(server: OpenAIServer) -> None:
    server.say(None, tool_calls=[call("weather", {"city": "Oslo"})])
    reply = llm_of(server)("Where?")
    assert isinstance(reply, Reply)
    assert [(each.name, each.parsed()) for each in reply.tool_calls] == [("weather", {"city": "Oslo"})]
    assert len(server.requests) == 1


SLIPS: list[tuple[dict[str, Any], str]] = [
    ({"temprature": 0}, "Did you mean 'temperature'?"),
    ({"max_token": 5}, "Did you mean 'max_tokens'?"),
    ({"top_kk": 5}, "Did you mean 'top_k'?"),
    ({"maxTokens": 5}, "Did you mean 'max_tokens'?"),
    ({"TEMPERATURE": 0.7}, "Did you mean 'temperature'?"),
    ({"MODEL_NAME": "m"}, "Did you mean 'model'?"),
    ({"logprob": True}, "Did you mean 'logprobs'?"),
    ({"max_exception_retries": 0}, "Did you mean 'max_exception_retry'?"),
    ({"formats": {}}, "Did you mean 'format'?"),
    ({"tool": []}, "Did you mean 'tools'?"),
    ({"llm": LLM("scripted")}, "Did you mean 'model'?"),
    ({"engine": object()}, "is no sampling value"),
    ({"response_format": {}}, "Did you mean 'format'?"),
    ({"timeout": 3}, "Did you mean 'timeouts'?"),
    ({"timeouts": {"idel": 3}}, "Did you mean 'idle'?"),
    ({"base_url": "http://localhost"}, "option of the backend"),
    ({"apikey": "sk-x"}, "Did you mean 'api_key'? It is an option of the backend"),
    ({"API_KEY": "sk-x"}, "Did you mean 'api_key'?"),
    ({"api_url": "http://localhost"}, "Did you mean 'base_url'?"),
    ({"options": {"context": 9}}, "Give model="),
    ({"messages": []}, "the first argument"),
    ({"model_args": {"stream": True}}, "llm(..., stream=True)"),
    ({"repeat_limit": 1}, "2 or more"),
]


@pytest.mark.parametrize(("given", "hint"), SLIPS, ids=[next(iter(given)) for given, _ in SLIPS])
def test_a_slip_is_an_error_and_nothing_is_sent(given: dict[str, Any], hint: str) -> None:
    model = ScriptedBackend(lambda request: "no")
    with pytest.raises(LLMError) as failed:
        LLM(model)("x", **given)
    assert isinstance(failed.value, ConfigError)
    assert hint in str(failed.value)
    assert not model.requests


@pytest.mark.parametrize(
    "given", [given for given, _ in SLIPS if "options" not in given and "base_url" not in given]
)
def test_it_is_one_too_where_an_llm_or_an_agent_is_made(given: dict[str, Any]) -> None:
    for make in (LLM, lambda model, **more: Agent("a", model, **more)):
        with pytest.raises(ConfigError):
            make(ScriptedBackend(), **given)


WRONG: list[dict[str, Any]] = [
    *({"max_tokens": value} for value in (0, -1, 1.5, True, "9")),
    *({"max_completion_tokens": value} for value in (0, -1)),
    *({"temperature": value} for value in (float("nan"), float("inf"), -0.1, 2.1, True, "hot")),
    *({"top_p": value} for value in (-0.1, 1.1, float("nan"))),
    *({"stop": value} for value in ("", [""], [1], {"a": "b"}, 3)),
    *({"seed": value} for value in (1.5, True, "x")),
    *({key: float("inf")} for key in ("min_p", "presence_penalty", "frequency_penalty", "top_k")),
    *({"deadline": value} for value in (0, -1, float("nan"), True)),
    *({"max_cost": value} for value in (-1, "NaN", "Infinity", "much", True)),
    *({"max_model_calls": value} for value in (-1, 1.5, True)),
    {"max_exception_retry": None},
    *({"timeouts": value} for value in (0, -1, True, "soon", float("nan"))),
    *({"timeouts": {"idle": value}} for value in (0, -1, True, "soon", float("nan"))),
    {"timeouts": Timeouts(total=-1)},
]


@pytest.mark.parametrize("given", WRONG, ids=str)
def test_a_value_that_is_none_is_an_error_wherever_it_stands(given: dict[str, Any]) -> None:
    """In one call, where an LLM or an agent is made, in model_args and in a file: one table says what a value may be."""
    model = ScriptedBackend(lambda request: "no")
    ways: list[Callable[[], Any]] = [
        lambda: LLM(model)("x", **given),
        lambda: LLM(model, **given),
        lambda: Agent("a", model, **given),
        lambda: Agent("a", model)("x", **given),
    ]
    key = next(iter(given))
    if key in OF_SAMPLING:
        ways += [lambda: LLM(model, model_args=given), lambda: LLM(model)("x", model_args=given)]
        ways.append(lambda: build_agent({"agent_configs": {"a": {"model": "scripted", "model_args": given}}}))
    if key in keys.AGENT and (key, given[key]) not in (("timeouts", 0), ("timeouts", -1)):
        ways.append(lambda: load_config({"agent_configs": {"a": given}}))
    for way in ways:
        with pytest.raises(ConfigError, match="it wants"):
            way()
    assert not model.requests


OTHER: dict[str, tuple[Callable[[Any], Any], str]] = {
    "model_args": (lambda model: LLM(model, model_args=[1]), "model_args is .* it wants keys and values"),
    "of one call": (lambda model: LLM(model)("x", model_args="x"), "it wants keys and values"),
    "options": (lambda model: LLM("openai/x", options=["x"]), "options is .* it wants keys and values"),  # type: ignore[arg-type]
    "system": (lambda model: LLM(model, system=1), "the system prompt is 1 "),  # type: ignore[arg-type]
    "system of one call": (lambda model: LLM(model)("x", system=1.5), "the system prompt is 1.5 "),
    "system_prompt": (lambda model: LLM(model, system_prompt="x"), "Did you mean 'system'?"),
    "name": (lambda model: Agent(3, model), "the agent's name is 3 "),  # type: ignore[arg-type]
    "no name": (lambda model: Agent(" ", model), "the agent's name is ' ' "),
    "another name": (lambda model: Agent("a", model).with_(name=None), "the agent's name is null"),
    "classes": (lambda model: LLM(model).classify("x", "yes"), "Give a list of texts"),
    "texts": (lambda model: LLM(model).embed(3), "embed takes a list of texts"),  # type: ignore[arg-type]
    "what no table knows": (lambda model: LLM(model)("x", mirostat=float("nan")), "mirostat is nan"),
}


@pytest.mark.parametrize("what", OTHER)
def test_what_is_no_argument_is_an_error_of_ours(what: str) -> None:
    model = ScriptedBackend(lambda request: "no")
    way, message = OTHER[what]
    with pytest.raises(ConfigError, match=message):
        way(model)
    assert not model.requests


def test_what_a_file_may_say_may_be_said_in_a_call() -> None:
    tables = ((keys.SAMPLING, OF_SAMPLING), (keys.LIMITS, OF_LIMITS), (keys.TIMEOUTS, OF_TIMEOUTS))
    for files, calls in tables:
        for key, entry in files.items():
            assert isinstance(entry, keys.Key)
            assert calls[key] is entry.kind


def test_values_as_python_has_them() -> None:
    model = ScriptedBackend(lambda request: "ok")
    llm = LLM(model, stop=("\n", "."), max_cost=Decimal("0.5"), backoff_base=0)
    llm("x", top_p=1, temperature=0, timeouts=3)
    llm("x", stop=[], max_cost=1)
    assert dict(model.requests[0].sampling) == {"stop": ["\n", "."], "top_p": 1, "temperature": 0}
    assert model.requests[0].timeouts.total == 3
    assert dict(model.requests[1].sampling) == {}
    assert llm._agent.limits.max_cost == "0.5"


def test_none_takes_a_value_away() -> None:
    model = ScriptedBackend(lambda request: "ok")
    llm = LLM(model, temperature=0.7, max_tokens=9)
    llm("x", temperature=None)
    llm("x", model_args={"max_tokens": None})
    assert [dict(request.sampling) for request in model.requests] == [{"max_tokens": 9}, {"temperature": 0.7}]


def test_what_only_a_backend_knows_has_a_way_to_it() -> None:
    class Mine(ScriptedBackend):
        def check_request(self, request: Request) -> None:
            """It knows more than others."""

    model = Mine(lambda request: "ok")
    with pytest.raises(ConfigError, match=r"model_args=\{'top_a': \.\.\.\}"):
        LLM(model)("x", top_a=0.2)
    LLM(model)("x", model_args={"top_a": 0.2}, mirostat=2)
    assert dict(model.requests[0].sampling) == {"top_a": 0.2, "mirostat": 2}


@pytest.mark.parametrize("key", ["top_a", "num_ctx", "response_format", "n", "stream_options"])
def test_the_scripted_model_refuses_what_real_ones_refuse(key: str) -> None:
    model = ScriptedBackend(["ok"])
    said = []
    for backend in (model, OpenAIBackend("http://127.0.0.1:9/v1")):
        with pytest.raises(ConfigError) as caught:
            Agent("a", backend)("x", model_args={key: 1})
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert model.remaining == 1


def test_the_scripted_model_takes_what_any_real_one_takes() -> None:
    from lllm.backends.llama_cpp.body import SAMPLING as LLAMA
    from lllm.backends.openai.body import EXTENSIONS, SAMPLING
    from lllm.backends.transformers.backend import SAMPLING as TORCH

    backend = ScriptedBackend()
    for key in {*SAMPLING, *EXTENSIONS, *LLAMA, *TORCH, "extra_body"}:
        backend.check_request(Request("m", (), sampling={key: 1}))


async def test_a_stream_is_not_asked_for_among_the_settings() -> None:
    model = ScriptedBackend(lambda request: "ok")
    with pytest.raises(ConfigError, match=r"\.astream\(\.\.\.\) in async code"):
        await LLM(model).acall("x", stream=True)
    with pytest.raises(ConfigError, match=r"\.astream\(\.\.\.\) in async code"):
        await Agent("a", model).acall("x", stream=True)
    assert not model.requests


def test_a_system_prompt_for_one_call_of_an_agent() -> None:
    model = ScriptedBackend(lambda request: "ok")
    agent = Agent("a", model, "Be kind.")
    agent("x", system_prompt="Be brief.")
    agent("x")
    agent("x", system_prompt=None)
    assert [[message.text for message in request.messages] for request in model.requests] == [
        ["Be brief.", "x"],
        ["Be kind.", "x"],
        ["x"],
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_tags_that_a_prompt_declares_reach_its_parser(server: OpenAIServer, stream: bool) -> None:
    server.scripts.extend(
        [Script("<think>hm</think><reasoning>because</reasoning>\n<answer>4</answer>", piece=6)]
    )
    prompt = Prompt(path="t/reason", prompt="Why?", required_xml_tags=["reasoning", "answer"])
    agent = Agent("reasoner", "openai/test-model", options={"base_url": server.url})
    reply = agent.stream(prompt).collect() if stream else agent(prompt)
    assert reply.parsed.first("reasoning") == "because"
    assert reply.thinking == "hm"
    assert len(server.requests) == 1


def test_what_changes_sampling_and_limits_alone_is_bound_like_any_other() -> None:
    """The short way and the long one give the same call."""
    from lllm.llm.bind import Binding
    from lllm.llm.settings import recordable

    @tool
    def add(a: int) -> int:
        """Adds."""
        return a

    agent = Agent("a", ScriptedBackend(["x"]), "Count.", tools=[add], temperature=0.3, max_cost="2")
    prompt = Prompt(path="p/q", prompt="{x}?")
    cases: list[dict[str, Any]] = [
        {"seed": 3},
        {"temperature": None},
        {"temperature": 0.3},
        {"max_model_calls": 2, "top_p": 0.5},
        {"max_exception_retry": 0},
        {"max_result_chars": 2000},
        {"execute": False},
        {"format": {"type": "object"}, "seed": 1},
        {"tools": []},
    ]
    for changes in cases:
        for one in (None, prompt):
            _ = agent._binding(one, {})._plan.fixed  # computed for the one, and not for the other
            short = agent._binding(one, changes)
            made = agent._overridden(changes)
            long = Binding(made, one, agent._system)
            long = long.with_overrides(recordable(changes, made, agent._settings))
            assert short.settings == long.settings
            assert (short.opening, short.specs) == (long.opening, long.specs)
            plan, other = short._plan, long._plan
            assert (plan.sampling, plan.limits, plan.opening, plan.fixed) == (
                other.sampling,
                other.limits,
                other.opening,
                other.fixed,
            )
            assert (plan.spec_record, plan.rules, plan.execute) == (
                other.spec_record,
                other.rules,
                other.execute,
            )
    assert agent._binding(None, {"seed": 3}).tools is agent._binding(None, {"seed": 4}).tools
