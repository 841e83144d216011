"""Every snippet of the flowgen document, as it stands there, against an OpenAI-compatible server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lllm import DPO, GRPO, LLM, Agent, Reply, RLEnv, step
from lllm.errors import LaterImport, UnsupportedError
from tests.documents.snippets import play
from tests.servers.openai_server import OpenAIServer, Script

SINGLE = "llm(string)"
BATCH = "llm([strings])"
OVERRIDES = "llm(text, tools=[...], format=schema)"
CHAINED = "agent >> chain"
PIPELINE = "agent1 >> agent2 >> agent3  # Pipeline"
WORKFLOW = """
pipeline = step1 >> step2 >> step3
result = pipeline(input_data)
"""
PROCESSOR = """
processor = DataProcessor(transforms=[clean, tokenize])
result = processor(dataset)  # Auto-batch
"""
EVALUATOR = """
evaluator = Evaluator(metrics=[accuracy, f1])
scores = evaluator(model, test_data)
"""
ENVIRONMENT = "env(llm)"
TRAINING = "result = (env >> trainer).train()"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[OpenAIServer]:
    monkeypatch.chdir(tmp_path)  # sessions are kept there
    with OpenAIServer() as running:
        running.answer = lambda body: Script(f"<{body['messages'][-1]['content']}>")
        yield running


@pytest.fixture
def llm(server: OpenAIServer) -> LLM:
    return LLM("openai/m", options={"base_url": server.url, "api_key": "sk-key-of-the-test"})


def lookup(word: str) -> str:
    """Looks a word up."""
    return f"{word} is a fruit"


def clean(text: str) -> str:
    return text.strip().lower()


def tokenize(text: str) -> list[str]:
    return text.split()


# --- llm


def test_one_inference(server: OpenAIServer, llm: LLM) -> None:
    reply = play(SINGLE, llm=llm, string="Hello")["_"]
    assert isinstance(reply, Reply)
    assert reply["content"] == "<Hello>"


def test_a_batch(server: OpenAIServer, llm: LLM) -> None:
    assert [str(reply) for reply in play(BATCH, llm=llm, strings="a")["_"]] == ["<a>"]
    several = BATCH.replace("[strings]", "strings")
    assert [str(reply) for reply in play(several, llm=llm, strings=["a", "b"])["_"]] == ["<a>", "<b>"]


def test_overrides_of_one_call(server: OpenAIServer, llm: LLM) -> None:
    server.answer = lambda body: Script('{"fruit": "fig"}')
    schema = {"type": "object", "properties": {"fruit": {"type": "string"}}, "required": ["fruit"]}
    snippet = OVERRIDES.replace("...", "lookup")
    reply = play(snippet, llm=llm, text="Name a fruit.", schema=schema, lookup=lookup)["_"]
    assert reply.parsed == {"fruit": "fig"}
    [seen] = server.requests
    assert [one["function"]["name"] for one in seen.json["tools"]] == ["lookup"]
    assert seen.json["response_format"]["json_schema"]["schema"]["required"] == ["fruit"]


# --- chains


def test_a_chain_of_an_agent_and_a_chain(server: OpenAIServer, llm: LLM) -> None:
    made = play(CHAINED, agent=Agent("first", llm), chain=Agent("second", llm) >> clean)["_"]
    assert [stage.name for stage in made] == ["first", "second", "clean"]
    assert made("Hi") == "<<hi>>"


def test_a_pipeline_of_agents(server: OpenAIServer, llm: LLM) -> None:
    pipeline = play(PIPELINE, **{f"agent{n}": Agent(f"agent{n}", llm) for n in (1, 2, 3)})["_"]
    assert len(pipeline) == 3
    assert str(pipeline("x")) == "<<<x>>>"
    assert [seen.json["messages"][-1]["content"] for seen in server.requests] == ["x", "<x>", "<<x>>"]


@pytest.mark.parametrize("place", [1, 2, 3])
def test_a_workflow_of_functions_agents_and_chains(llm: LLM, place: int) -> None:
    steps: dict[str, Any] = {f"step{n}": step(clean) for n in (1, 2, 3)}
    steps[f"step{place}"] = Agent("asks", llm)
    assert str(play(WORKFLOW, **steps, input_data=" X ")["result"]) == ("< x >" if place == 1 else "<x>")


def test_a_workflow_over_several_inputs(server: OpenAIServer, llm: LLM) -> None:
    steps = {"step1": step(clean), "step2": Agent("asks", llm), "step3": tokenize}
    assert play(WORKFLOW, **steps, input_data=["A b", "C"])["result"] == [["<a", "b>"], ["<c>"]]


# --- environments


def test_an_environment(llm: LLM) -> None:
    def in_brackets(completion: str, answer: str) -> bool:
        return completion == answer

    env = RLEnv([{"prompt": "a", "answer": "<a>"}, {"prompt": "b", "answer": "b"}], in_brackets)
    found = play(ENVIRONMENT, env=env, llm=llm)["_"]
    assert [one.reward for one in found] == [1.0, 0.0]


def test_a_training(tmp_path: Path) -> None:
    env = RLEnv(
        [{"prompt": "What is 6 times 7?", "answer": "42"}] * 2,
        lambda completion, answer: answer in completion,
    )
    trainer = GRPO(
        "embedded",
        output_dir=tmp_path / "run",
        max_steps=1,
        num_generations=2,
        per_device_train_batch_size=2,
        max_completion_length=8,
        store="none",
    )
    result = play(TRAINING, env=env, trainer=trainer)["result"]
    assert result.global_step == 1
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_a_training_on_preferences(tmp_path: Path) -> None:
    pair = {"prompt": "What is 6 times 7?", "chosen": "It is 42.", "rejected": "It is 41."}
    env = RLEnv(
        [{"prompt": "What is 6 times 7?", "answer": "42"}], lambda completion, answer: answer in completion
    )
    trainer = DPO(
        "embedded",
        data=[pair],
        tokenize=True,
        output_dir=tmp_path / "run",
        max_steps=1,
        per_device_train_batch_size=1,
    )
    result = play(TRAINING, env=env, trainer=trainer)["result"]
    assert result.global_step == 1
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_ppo_says_what_there_is_instead() -> None:
    with pytest.raises(UnsupportedError, match="TRL removed it") as caught:
        play(f"from lllm import PPO\ntrainer = PPO('embedded')\n{TRAINING}", env=None)
    assert "GRPO('embedded', num_iterations=2)" in str(caught.value.hint)


# --- what comes later says so, and what its error says to do instead does it


@pytest.mark.parametrize(("name", "snippet"), [("DataProcessor", PROCESSOR), ("Evaluator", EVALUATOR)])
def test_what_comes_later(name: str, snippet: str) -> None:
    with pytest.raises(LaterImport, match=f"lllm.{name} is not in this version"):
        play(f"from lllm import {name}\n{snippet}")


def test_instead_of_a_data_processor() -> None:
    names = {"step": step, "clean": clean, "tokenize": tokenize, "dataset": [" A b", "C "]}
    with pytest.raises(LaterImport) as caught:
        play("from lllm import DataProcessor")
    code = str(caught.value.hint).partition(": ")[2].rstrip(".")
    assert play(code, **names)["_"] == [["a", "b"], ["c"]]


def test_instead_of_an_evaluator(server: OpenAIServer, llm: LLM) -> None:
    with pytest.raises(LaterImport) as caught:
        play("from lllm import Evaluator")
    assert "llm([text, ...])" in str(caught.value.hint)
    rows = [("a", "<a>"), ("b", "b")]
    replies = llm([text for text, _ in rows])
    assert [str(reply) == wanted for reply, (_, wanted) in zip(replies, rows, strict=True)] == [True, False]
