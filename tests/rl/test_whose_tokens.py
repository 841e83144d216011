"""Rows are of the policy's own tokens: not of those that other models wrote in its rollout, nor of other rollouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lllm import LLM, Agent, RLEnv, ScriptedBackend, record, tool
from lllm.log.memory import MemoryLog
from lllm.rl.rows import recorded, rows_of
from lllm.rl.samples import read_sample
from tests.rl.test_grpo import training


class Other(ScriptedBackend):
    """Another model than the policy."""

    only_model = "other"


def said(text: str, ids: list[int], prompt: list[int], **more: Any) -> dict[str, Any]:
    entry = {"token": "x", "logprob": -1.0, "drawn": -0.5, "top": []}
    tokens = {"token_ids": ids, "prompt_token_ids": prompt, "logprobs": [entry] * len(ids)}
    return {"content": text, **tokens, **more}


def asking(helper: Any) -> Any:
    @tool
    async def ask(question: str) -> str:
        """Asks a helper.

        Args:
            question: for it.
        """
        return str((await helper.acall(question)).content)

    return ask


def test_what_a_helper_of_a_tool_wrote_carries_no_loss() -> None:
    helper = Agent("helper", Other([said("forty-two", [91, 92], [90])]), token_ids=True)
    call = {"id": "1", "type": "function", "function": {"name": "ask", "arguments": '{"question": "?"}'}}
    store = MemoryLog()
    env = RLEnv([{"prompt": "x"}], lambda completion: 1.0, tools=[asking(helper)])
    backend = ScriptedBackend(
        [said("", [3, 4], [1, 2], tool_calls=[call]), said("It is 42.", [6, 7], [1, 2, 3, 4, 5])]
    )
    (rollout,) = env(Agent("policy", backend, token_ids=True, logprobs=True), store=store)
    session = rollout.session or ""
    (row,) = rows_of(recorded(store, session).segments(), session)
    assert (row.prompt, row.completion, row.mask) == ((1, 2), (3, 4, 5, 6, 7), (1, 1, 0, 1, 1))
    assert read_sample(store, session).rows == (row,)


def test_a_helper_without_token_ids_is_no_error() -> None:
    """The rows are those of the policy, whichever model helps it."""
    helper = Agent("helper", Other(["forty-two"]))
    call = {"id": "1", "type": "function", "function": {"name": "ask", "arguments": '{"question": "?"}'}}
    store = MemoryLog()
    env = RLEnv([{"prompt": "x"}], lambda completion: 1.0, tools=[asking(helper)])
    backend = ScriptedBackend([said("", [3], [1], tool_calls=[call]), said("42", [5], [1, 3, 4])])
    (rollout,) = env(Agent("policy", backend, token_ids=True, logprobs=True), store=store)
    assert [row.ids for row in read_sample(store, rollout.session or "").rows] == [(1, 3, 4, 5)]


def test_a_helper_in_a_training(tmp_path: Path) -> None:
    """In a training the helper is the model as it is deployed, not the policy: it would be trained towards itself."""
    helper = LLM("embedded", temperature=0, max_tokens=12, token_ids=True, logprobs=True)
    asked: list[Any] = []

    @tool
    async def calculator(expression: str) -> str:
        """Calculates.

        Args:
            expression: arithmetic.
        """
        reply = await helper.acall("Hello!")
        asked.append(reply.token_ids)
        return str(reply.content)

    more: dict[str, Any] = {"num_generations": 2, "per_device_train_batch_size": 2}
    made = training(tmp_path, store="none", force=True, **more)
    made.env.tools = [calculator]
    made.train()
    assert asked
    for one in made.trainer.last:
        (row,) = one.rows
        text = made.parts[1].decode([id for id, own in zip(row.completion, row.mask, strict=True) if own])
        assert text.startswith("<tool_call>")


def test_a_training_in_a_running_session_has_the_rows_of_each_rollout(tmp_path: Path) -> None:
    store = MemoryLog()
    more: dict[str, Any] = {"num_generations": 2, "per_device_train_batch_size": 4}
    made = training(tmp_path, store=store, **more)
    with record("notebook", store=MemoryLog()):
        made.train()
    rollouts = made.trainer.last
    assert len({one.rollout.session for one in rollouts}) == 4
    for one in rollouts:
        assert one.rows == tuple(
            rows_of(recorded(store, one.rollout.session or "").segments(), one.rollout.session)
        )
        assert sum(row.loss_tokens for row in one.rows) < 33 * one.rollout.turns
