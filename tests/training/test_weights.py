"""The weights that ship: their checksums, what they say about themselves, and a gate on how well they answer."""

import json
import struct
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from training.embedded import evaluate, weights
from training.embedded.chat import text
from training.embedded.dialogues import Dialogue, Message
from training.embedded.tools import Call, Tool

GGUF = weights.WEIGHTS / weights.GGUF_NAME
LIMIT = 8_000_000
CALCULATOR = Tool("calculate", ("expression",))
ADDER = Tool("add", ("a", "b"))
GATE = 0.58
"""Share of exact calls in the sample below: somewhat under what results.json says of the whole set."""


def metadata(path: Path) -> dict[str, Any]:
    """The key-value header of a GGUF file."""
    data = memoryview(path.read_bytes())
    place = 0
    scalars = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

    def scalar(kind: int) -> Any:
        nonlocal place
        if kind == 8:
            size = scalar(10)
            place += size
            return bytes(data[place - size : place]).decode()
        if kind == 9:
            inner, size = scalar(4), scalar(10)
            return [scalar(inner) for _ in range(size)]
        (value,) = struct.unpack_from("<" + scalars[kind], data, place)
        place += struct.calcsize("<" + scalars[kind])
        return value

    assert bytes(data[:4]) == b"GGUF"
    place = 8
    _, count = scalar(10), scalar(10)
    found: dict[str, Any] = {}
    for _ in range(count):
        name = scalar(8)
        found[name] = scalar(scalar(4))
    return found


def test_checksums_match() -> None:
    assert (weights.WEIGHTS / weights.SUMS).read_text() == weights.checksums(weights.WEIGHTS)


def test_the_folder_fits_into_the_wheel() -> None:
    assert sum(path.stat().st_size for path in weights.WEIGHTS.iterdir()) < LIMIT


def test_the_file_carries_its_tokenizer_and_template() -> None:
    found = metadata(GGUF)
    assert found["general.architecture"] == "llama"
    assert found["tokenizer.chat_template"] == weights.TEMPLATE.read_text()
    assert found["tokenizer.ggml.add_bos_token"] is False
    tokens = found["tokenizer.ggml.tokens"]
    assert tokens[found["tokenizer.ggml.eos_token_id"]] == "<|im_end|>"
    vocabulary = json.loads((weights.WEIGHTS / "tokenizer.json").read_text())
    assert all(tokens[place] == token for token, place in vocabulary["model"]["vocab"].items())
    assert [token["content"] for token in vocabulary["added_tokens"]][-2:] == ["<tool_call>", "</tool_call>"]


def test_results_are_of_these_weights() -> None:
    found = json.loads(evaluate.RESULTS.read_text())
    assert found["model_sha256"] in (weights.WEIGHTS / weights.SUMS).read_text()
    assert found["held_out"]["exact_calls"]["of"] >= 1000


@pytest.fixture(scope="module")
def engine() -> Any:
    pytest.importorskip("xllamacpp")
    from training.embedded.engine import Engine

    return Engine(GGUF)


@pytest.mark.parametrize("system", ["", "Be brief."])
@pytest.mark.parametrize("offered", [(), (CALCULATOR,), (CALCULATOR, ADDER)])
def test_the_template_writes_what_the_model_was_trained_on(
    engine: Any, system: str, offered: tuple[Tool, ...]
) -> None:
    call = Call("calculate", '{"expression": "17 * 23"}', 391)
    messages = [Message("system", system)] if system else []
    messages += [
        Message("user", "17 x 23?"),
        Message("assistant", calls=(call,)),
        Message("tool", "391"),
        Message("assistant", "<answer>391</answer>"),
        Message("user", "Now double it."),
    ]
    plain: list[dict[str, Any]] = [{"role": message.role, "content": message.content} for message in messages]
    for message, shown in zip(messages, plain, strict=True):
        if message.calls:
            function = {"name": call.name, "arguments": call.arguments}
            shown |= {"content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]}
    body = {"messages": plain} | ({"tools": [each.schema() for each in offered]} if offered else {})
    request = urllib.request.Request(
        f"{engine.server.listening_address}/apply-template",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
        prompt = json.load(response)["prompt"]
    assert prompt == text(Dialogue(offered, messages)) + "<|im_start|>assistant\n"


def test_the_engine_parses_native_tool_calls(engine: Any) -> None:
    choice = engine.chat([{"role": "user", "content": "What is 17 times 23?"}], [CALCULATOR.schema()])
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "calculate"
    assert json.loads(call["function"]["arguments"]) == {"expression": "17 * 23"}


def test_accuracy_gate(engine: Any) -> None:
    outcomes = engine.map(lambda case: evaluate.ask(engine, case), evaluate.held_out(80, seed=77))
    exact = [outcome for outcome in outcomes if outcome.exact]
    assert len(exact) >= GATE * len(outcomes)
    assert sum(outcome.answered for outcome in exact) >= 0.95 * len(exact)


@pytest.mark.parametrize(
    ("cases", "least"),
    [(evaluate.no_tool(30), 0.75), (evaluate.off_topic(30), 0.7), (evaluate.repairs(30), 0.95)],
)
def test_honesty_gate(engine: Any, cases: list[evaluate.Case], least: float) -> None:
    outcomes = engine.map(lambda case: evaluate.ask(engine, case), cases)
    assert sum(outcome.answered for outcome in outcomes) >= least * len(outcomes)
