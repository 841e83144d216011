"""Training rows: each token that was written carries loss once, whatever became of its conversation."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lllm import LLM, Agent, ScriptedBackend
from lllm.backends.embedded import EmbeddedBackend
from lllm.core.envelope import open_event
from lllm.errors import ConfigError
from lllm.log.memory import MemoryLog
from lllm.models.function import as_function
from lllm.rl import RLEnv
from lllm.rl.rows import Segment, TokenRow, recorded, rows_of
from lllm.rl.trainers.rollouts import SAMPLED


def segment(prompt: Any, tokens: Any, accepted: bool = True, logprob: float | None = -0.5) -> Segment:
    drawn = None if logprob is None else tuple([logprob] * len(tokens))
    return Segment("c", tuple(prompt), tuple(tokens), drawn, accepted)


def test_turns_that_go_on_are_one_row() -> None:
    (row,) = rows_of([segment([1, 2], [3, 4]), segment([1, 2, 3, 4, 9, 9], [5])], "s")
    assert row.prompt == (1, 2)
    assert row.completion == (3, 4, 9, 9, 5)
    assert row.mask == (1, 1, 0, 0, 1)
    assert row.logprobs == (-0.5, -0.5, 0.0, 0.0, -0.5)
    assert (row.session, row.loss_tokens) == ("s", 3)


def test_a_dropped_repair_carries_no_loss_and_what_repaired_it_does() -> None:
    bad = segment([1], [7, 7], accepted=False)
    mended = segment([1, 7, 7, 8], [3])
    after = segment([1, 3, 9], [4])
    first, second = rows_of([bad, mended, after])
    assert (first.ids, first.mask) == ((1, 7, 7, 8, 3), (0, 0, 0, 1))
    assert (second.ids, second.mask) == ((1, 3, 9, 4), (1,))
    with_loss = rows_of([bad, mended, after], dropped=True)
    assert with_loss[0].mask == (1, 1, 0, 1)
    assert not rows_of([bad])


def test_a_prompt_that_does_not_go_on_begins_a_row() -> None:
    rows = rows_of([segment([1, 2], [3]), segment([1, 2, 9], [4]), segment([1, 2, 3, 5], [6])])
    assert [row.ids for row in rows] == [(1, 2, 3, 5, 6), (1, 2, 9, 4)]
    assert [row.mask for row in rows] == [(1, 0, 1), (1,)]


def test_unknown_probabilities_are_unknown_for_the_whole_row() -> None:
    (row,) = rows_of([segment([1], [2]), segment([1, 2, 3], [4], logprob=None)])
    assert row.logprobs is None


@settings(max_examples=200)
@given(st.integers(0, 2**32))
def test_each_written_token_carries_loss_once(seed: int) -> None:
    """Random trees of conversations: the number of tokens with loss is the number that was written, and every row is what some
    reply had before it and wrote."""
    rng = random.Random(seed)
    texts: list[tuple[int, ...]] = [(0,)]
    segments = []
    for number in range(rng.randint(1, 8)):
        before = rng.choice(texts)
        prompt = (*before, *(rng.randrange(1, 4) for _ in range(rng.randrange(3))))
        tokens = tuple(100 * (number + 1) + place for place in range(rng.randint(1, 3)))
        accepted = rng.random() < 0.8
        segments.append(segment(prompt, tokens, accepted))
        texts.append((*prompt, *tokens))
    rows = rows_of(segments)
    with_loss = [token for row in rows for token, mask in zip(row.completion, row.mask, strict=True) if mask]
    assert sorted(with_loss) == sorted(token for one in segments if one.accepted for token in one.tokens)
    for row in rows:
        for place, mask in enumerate(row.mask):
            if mask:
                (own,) = [one for one in segments if row.completion[place] in one.tokens]
                assert row.ids[: len(own.prompt) + len(own.tokens)] == (*own.prompt, *own.tokens)


def reply(prompt: list[int], tokens: list[int], content: str) -> dict[str, Any]:
    return {
        "content": content,
        "token_ids": tokens,
        "prompt_token_ids": prompt,
        "logprobs": [{"token": "t", "logprob": -1.0, "top": []} for _ in tokens],
    }


def test_a_log_has_what_was_written_and_what_was_rejected() -> None:
    store = MemoryLog()
    replies = [reply([1], [2, 3], "no JSON"), reply([1, 2, 3, 4], [5], '{"a": 1}')]
    agent = Agent("a", ScriptedBackend(replies), format={"type": "object"}, token_ids=True, logprobs=True)
    found = RLEnv([{"prompt": "x"}], lambda: 1)(agent, store=store)[0]
    segments = recorded(store, found.session).segments()
    assert [(one.tokens, one.accepted) for one in segments] == [((2, 3), False), ((5,), True)]
    (row,) = rows_of(segments, found.session)
    assert row.mask == (0, 0, 0, 1)
    assert all(event > 0 for event in row.events)


@pytest.mark.parametrize(
    ("sampling", "drawn", "expected"),
    [
        ({"temperature": 1, "top_p": 1, "top_k": 0, "min_p": 0}, None, -1.0),
        ({"temperature": 1, "top_p": 1, "top_k": 0, "min_p": 0}, -0.3, -0.3),
        ({"temperature": 1.3, "top_p": 1, "top_k": 0, "min_p": 0}, None, None),
        ({"temperature": 1.3}, -0.7, -0.7),
        ({"temperature": 1}, None, None),
        ({}, None, None),
    ],
)
def test_only_probabilities_that_were_drawn_from_count(sampling: Any, drawn: Any, expected: Any) -> None:
    store = MemoryLog()
    said = reply([1], [2, 3], "x")
    if drawn is not None:
        said["logprobs"] = [{**one, "drawn": drawn} for one in said["logprobs"]]
    agent = Agent("a", ScriptedBackend([said]), token_ids=True, logprobs=True, **sampling)
    found = RLEnv([{"prompt": "x"}], lambda: 1)(agent, store=store)[0]
    (segment,) = recorded(store, found.session).segments()
    assert segment.logprobs == (None if expected is None else (expected, expected))


def test_without_ids_there_is_no_row() -> None:
    store = MemoryLog()
    found = RLEnv([{"prompt": "x"}], lambda: 1)(LLM(ScriptedBackend(["y"])), store=store)[0]
    with pytest.raises(ConfigError, match="has no token ids"):
        recorded(store, found.session).segments()


def test_what_other_agents_wrote_is_read_not_trained() -> None:
    """An agent that sums up, or is a tool, is asked as ever: its replies have no token ids, and are in no row."""
    store = MemoryLog()
    agent = Agent(
        "a",
        EmbeddedBackend(),
        window={"policy": "summarise", "tokens": 160, "reserve": 32},
        max_exception_retry=0,
    )
    env = RLEnv(
        [{"prompt": "What is 7 times 8?"}],
        lambda: 1,
        step=lambda turns: (
            "And 3 times 9, please, again and again and again, with care?" if turns < 8 else None
        ),
        max_turns=None,
    )
    (found,) = env(agent, store=store, **SAMPLED, temperature=1.0, max_tokens=24, seed=3)
    events = [open_event(body) for body in store.read(found.session)]
    assert {one["data"]["agent"] for one in events if one["kind"] == "CallStarted"} == {"a", "a/summary"}
    replied = [one["data"] for one in events if one["kind"] == "ModelReplied"]
    own = [one for one in replied if "token_ids" in one]
    recorder = recorded(store, found.session)
    assert recorder.complete
    segments = recorder.segments()
    assert [list(one.tokens) for one in segments] == [one["token_ids"] for one in own]
    assert 3 < len(own) < len(replied)
    assert sum(row.loss_tokens for row in rows_of(segments)) == sum(len(one.tokens) for one in segments)


def test_a_log_without_ids_is_an_error() -> None:
    store = MemoryLog()
    (found,) = RLEnv([{"prompt": "Hello!"}], lambda: 1)(LLM("embedded"), store=store)
    recorder = recorded(store, found.session)
    assert not recorder.complete
    with pytest.raises(ConfigError, match="no token ids"):
        recorder.segments()


SCHEMA = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}


@pytest.mark.parametrize(
    ("engine", "known"), [("transformers", True), ("xllamacpp", False), ("llama-cpp-python", False)]
)
def test_probabilities_under_a_grammar_are_not_those_of_the_model(engine: str, known: bool) -> None:
    """At temperature 1 the model's own distribution is the one that tokens are drawn from, unless a grammar holds them."""
    backend, store = EmbeddedBackend(engine=engine), MemoryLog()
    plain = {**SAMPLED, "temperature": 1.0, "max_tokens": 24, "seed": 3}

    def row(**more: Any) -> TokenRow:
        agent = Agent("a", backend, max_exception_retry=0, **more)
        (found,) = RLEnv([{"prompt": "What is 3 times 4?"}], lambda: 1)(agent, store=store, **plain)
        return rows_of(recorded(store, found.session).segments())[0]

    assert row().logprobs is not None
    held = row(format=SCHEMA)
    assert (held.logprobs is not None) is known
    if held.logprobs is not None:
        assert max(held.logprobs) == 0.0  # the grammar had left one token
    called = row(tools=[as_function(calculate)])
    assert (called.logprobs is None) is (engine == "xllamacpp")


def calculate(expression: str) -> str:
    """Gives the value of an arithmetic expression."""
    return expression
