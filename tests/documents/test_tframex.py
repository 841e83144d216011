"""Every snippet of the tframex document, as it stands there but for the import root, against an OpenAI-compatible server.

Its examples are commands: tests/examples/test_scripts.py types them.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Iterator
from importlib import import_module
from pathlib import Path

import pytest

import lllm
from lllm.errors import (
    AuthenticationError,
    ConnectionFailed,
    LLMError,
    ModelNotFoundError,
    StreamInterrupted,
)
from tests.documents.snippets import play
from tests.servers.openai_server import OpenAIServer, Script

IMPORTS = """
from tframex.model import VLLMModel
from tframex.agents import BasicAgent, ContextAgent
from tframex.systems import ChainOfAgents, MultiCallSystem

# Initialize the model
model = VLLMModel(model_name="...", api_url="...", api_key="...")

# Initialize agents/systems
agent = BasicAgent(agent_id="my_agent", model=model)
# ... rest of your code
"""
INLINE = (
    "from tframex.model import VLLMModel",
    "from tframex.agents import BasicAgent",
    "from tframex.systems import ChainOfAgents",
)
DOTENV = """
API_URL="https://your-vllm-or-openai-compatible-url/v1"
API_KEY="your_actual_api_key"
MODEL_NAME="Qwen/Qwen3-30B-A3B-FP8" # Or your target model
MAX_TOKENS=32000
TEMPERATURE=0.7
"""
SIGNATURES = {
    # of the key components: the parameters by their names, in order; `**kwargs` are settings of the call
    "tframex.model.VLLMModel": "model_name, api_url, api_key",
    "tframex.model.VLLMModel.call_stream": "messages, **kwargs",
    "tframex.model.VLLMModel.close_client": "",
    "tframex.agents.BaseAgent": "agent_id, model",
    "tframex.agents.BasicAgent": "agent_id, model",
    "tframex.agents.BasicAgent.run": "prompt, **kwargs",
    "tframex.agents.ContextAgent": "agent_id, model, context",
    "tframex.agents.ContextAgent.run": "prompt, **kwargs",
    "tframex.systems.ChainOfAgents": "system_id, model",
    "tframex.systems.ChainOfAgents.run": "initial_prompt, long_text, **kwargs",
    "tframex.systems.MultiCallSystem": "system_id, model",
    "tframex.systems.MultiCallSystem.run": "prompt, num_calls, **kwargs",
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[OpenAIServer]:
    monkeypatch.chdir(tmp_path)  # sessions are kept there
    for name in ("API_URL", "API_KEY", "MODEL_NAME", "MAX_TOKENS", "TEMPERATURE"):
        monkeypatch.delenv(name, raising=False)
    with OpenAIServer() as running:
        yield running


async def test_the_import_style_and_the_rest_of_the_code(server: OpenAIServer, tmp_path: Path) -> None:
    server.answer = lambda body: Script(f"<{body['messages'][-1]['content'][-6:]}>")
    rest = """
async def rest():
    found["basic"] = await agent.run("Hello!", max_tokens=5)
    found["context"] = await ContextAgent(agent_id="c", model=model, context="The sky is green.").run("Which?")
    found["chain"] = await ChainOfAgents(system_id="s", model=model).run("Which?", "The sky is green. " * 9)
    found["calls"] = await MultiCallSystem(system_id="m", model=model).run(prompt="Drafts", num_calls=2, output_dir="drafts")
    await model.close_client()
"""
    snippet = IMPORTS.replace('api_url="..."', f'api_url="{server.url}"')
    names = play(f"{snippet}\n{rest}", found={})
    await names["rest"]()
    found = names["found"]
    assert (found["basic"], found["context"]) == ("<Hello!>", "<Which?>")
    assert isinstance(found["chain"], str)
    assert sorted(found["calls"]) == ["call_1", "call_2"]
    assert {Path(path).read_text() for path in found["calls"].values()} == {"<Drafts>"}
    assert all(seen.json["model"] == "..." for seen in server.requests)
    assert server.requests[0].json["max_tokens"] == 5
    assert server.requests[0].headers["Authorization"] == "Bearer ..."


@pytest.mark.parametrize("line", INLINE)
def test_an_import_of_the_text(line: str) -> None:
    play(line)


async def test_the_dotenv_file(server: OpenAIServer) -> None:
    Path(".env").write_text(DOTENV)
    model = lllm.VLLMModel()
    assert (model.model_name, model.api_url) == (
        "Qwen/Qwen3-30B-A3B-FP8",
        "https://your-vllm-or-openai-compatible-url/v1",
    )
    Path(".env").write_text(DOTENV.replace("https://your-vllm-or-openai-compatible-url/v1", server.url))
    server.say("Hello.")
    async with lllm.VLLMModel() as model:
        assert (await model.acall("Hello")).content == "Hello."
    [seen] = server.requests
    assert (seen.json["max_tokens"], seen.json["temperature"]) == (32000, 0.7)
    assert seen.headers["Authorization"] == "Bearer your_actual_api_key"


@pytest.mark.parametrize("path", SIGNATURES)
def test_a_signature(path: str) -> None:
    """The parameters of the document come first; others that follow may be left out."""
    module, kind, *method = path.replace("tframex", "lllm", 1).rsplit(".", path.count(".") - 1)
    found = getattr(import_module(module), kind)
    for name in method:
        found = getattr(found, name)
    parameters = [one for one in inspect.signature(found).parameters.values() if one.name != "self"]
    wanted = [name for name in SIGNATURES[path].split(", ") if name]
    settings = wanted[-1:] == ["**kwargs"]
    assert [one.name for one in parameters][: len(wanted) - settings] == wanted[: len(wanted) - settings]
    assert not [
        one.name
        for one in parameters[len(wanted) - settings :]
        if one.default is one.empty and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    ]
    assert not settings or parameters[-1].kind is inspect.Parameter.VAR_KEYWORD


async def test_what_it_returns(server: OpenAIServer) -> None:
    model = lllm.VLLMModel("m", server.url)
    pieces = model.call_stream([{"role": "user", "content": "x"}])
    assert isinstance(pieces, AsyncGenerator)
    server.say("Hello.")
    assert all([isinstance(piece, str) async for piece in pieces])
    await model.close_client()
    await model.close_client()


# --- troubleshooting: what is to be seen of each fault


FAULTS: dict[str, tuple[Script | None, type[LLMError], str]] = {
    "incomplete chunked read": (
        Script("Hello, how are you?", drop="middle"),
        StreamInterrupted,
        "concurrency",
    ),
    "401 Unauthorized": (
        Script(status=401, raw=b'{"error": {"message": "no"}}'),
        AuthenticationError,
        "The key came from api_key",
    ),
    "404 Not Found": (
        Script(status=404, raw=b'{"error": {"message": "no model"}}'),
        ModelNotFoundError,
        "model",
    ),
    "ConnectError": (None, ConnectionFailed, "Is the server running"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_troubleshooting(server: OpenAIServer, fault: str) -> None:
    script, error, words = FAULTS[fault]
    server.forever = script
    url = server.url if script is not None else "http://127.0.0.1:9/v1"
    async with lllm.VLLMModel("m", url, "sk-key-of-the-test", backoff_base=0, max_provider_retry=0) as model:
        with pytest.raises(LLMError) as caught:
            await model.acall("Hello")
    kinds = type(caught.value), type(caught.value.__cause__)
    assert error in kinds, kinds
    assert words in str(caught.value)


async def test_reasoning_tags_and_repetition(server: OpenAIServer) -> None:
    async with lllm.VLLMModel("m", server.url) as model:
        server.say("<think>Hm.</think>Hello.")
        reply = await model.acall("Hello")
        assert (reply["think"], reply["content"]) == ("Hm.", "Hello.")
        server.say("Hello.")
        await model.acall("Hello", temperature=0.2, repetition_penalty=1.1, max_tokens=9)
    assert server.requests[-1].json["repetition_penalty"] == 1.1
