"""Every component on local models, decoded greedily: the ways to call it are equal, and where a batch parts from single calls,
that was a near tie."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest

from benchmarks.batched_tokens import ENGINES, Split, compare, measure, model, prompts, split
from lllm import LLM, Agent, MemoryLog, Reply, ScriptedBackend, step
from lllm.log.views import load
from tests.steps.components import COMPONENTS, value
from training.embedded.forms import Forms

ITEMS = ["Hello there, how are you?", "a question about 12 plus 30"]
TIE = 0.01
"""The largest lead of the best token over the second, in log-probability, where a batch takes another one."""
DRIFT: Final[Mapping[str, float]] = {
    "xllamacpp Q8_0": 1e-2,
    "xllamacpp F32": 1e-3,
    "llama-cpp-python Q8_0": 1e-3,
    "transformers float32": 1e-4,
    "transformers bfloat16": 0.1,
}
"""By how much batching may change a log-probability; what was measured stands in the guide on local models."""


@pytest.fixture(scope="module")
def models(forms: Forms) -> Mapping[str, LLM]:
    """The same LLM for all tests: its engine is loaded once."""
    greedy: dict[str, Any] = {"temperature": 0, "max_tokens": 48, "logprobs": True, "top_logprobs": 2}
    return {
        "llama.cpp": LLM("embedded", **greedy),
        "transformers": LLM(f"transformers/{forms.folder}", options={"device": "cpu"}, **greedy),
    }


def replies(store: MemoryLog, among: str) -> list[list[dict[str, Any]]]:
    """The log-probabilities of the replies of sessions whose ids begin so, in order."""
    found = sorted(info.id for info in store.sessions(prefix=among))
    events = [event for id in found for event in load(store, id) if event["kind"] == "ModelReplied"]
    return [event["data"].get("logprobs") or [] for event in events]


def parted(singles: Sequence[MemoryLog], batch: MemoryLog) -> list[Split]:
    """Returns the places at which the items of a batch differ from single calls: each at its first reply that does, as later
    ones may be asked something else."""
    found = []
    (name,) = {
        info.id.rpartition("-")[0] for info in batch.sessions() if info.meta["entry"]["kind"] != "batch"
    }
    for number, single in enumerate(singles):
        pairs = zip(replies(single, ""), replies(batch, f"{name}-{number}"), strict=False)
        found += [one for one in (split(*pair) for pair in pairs) if one is not None][:1]
    return found


@pytest.mark.parametrize("engine", ["llama.cpp", "transformers"])
@pytest.mark.parametrize("kind", COMPONENTS)
def test_the_ways_to_call_a_component_are_equal(
    kind: str, engine: str, models: Mapping[str, LLM], record_property: Any
) -> None:
    made = COMPONENTS[kind](models[engine])
    stage = step(made)

    async def one_by_one() -> list[Any]:
        return [
            value((await stage.arun(item, store=store)).value)
            for item, store in zip(ITEMS, stores, strict=True)
        ]

    stores = [MemoryLog() for _ in ITEMS]
    found = asyncio.run(one_by_one())
    assert [value(made(item)) for item in ITEMS] == found
    assert [value(stage.stream(item, store=MemoryLog()).collect()) for item in ITEMS] == found
    store = MemoryLog()
    if value(stage.batch(ITEMS, store=store)) != found:
        splits = parted(stores, store)
        record_property("splits", str(splits))
        assert splits, "a batch has another result, and the same replies"
        assert_near_ties(f"{kind} on {engine}", splits)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_batch_takes_another_token_at_near_ties_only(
    engine: str, forms: Forms, record_property: Any
) -> None:
    again, batch = measure(model(engine, forms), prompts(32))
    for name, found in (("again", again), ("batch", batch)):
        record_property(name, str(found))
        assert found.tokens > 300
        assert found.drift <= DRIFT[engine], f"{engine}, {name}: log-probabilities differ by {found.drift}"
        assert_near_ties(engine, found.splits)


def assert_near_ties(engine: str, splits: Sequence[Split]) -> None:
    for one in splits:
        assert one.gap < TIE, f"{engine}: another token where it was no near tie: {one}"


def reply(*entries: tuple[str, float, float]) -> Reply:
    tokens = [{"token": name, "logprob": best, "top": [{"token": name, "logprob": best}, {"token": "?", "logprob": second}]}
              for name, best, second in entries]  # fmt: skip
    return Reply("".join(name for name, *_ in entries), logprobs=tokens)


def test_what_is_no_near_tie_is_found() -> None:
    same = reply(("a", -0.1, -3.0), ("b", -0.2, -2.0))
    drifted = reply(("a", -0.4, -3.0), ("b", -0.2, -2.0))
    whole = compare([same], [drifted])
    assert (whole.tokens, whole.splits, round(whole.drift, 9)) == (2, (), 0.3)
    far = reply(("a", -0.1, -3.0), ("c", -0.2, -2.0))
    found = compare([same, same], [far, same])
    assert (found.tokens, len(found.splits), found.splits[0].position) == (3, 1, 1)
    with pytest.raises(AssertionError, match="no near tie"):
        assert_near_ties("x", found.splits)
    near = compare([same], [reply(("a", -0.1, -3.0), ("c", -0.693, -0.694))])
    assert_near_ties("x", near.splits)
    longer = split(same.logprobs or [], (same.logprobs or [])[:1])
    assert longer is not None
    assert (longer.position, longer.one, longer.other) == (1, "b", "")


def test_replies_of_a_batch_are_compared_with_those_of_single_calls() -> None:
    together = False

    def answer(request: Any) -> Reply:
        second = request.messages[-1].text == "second"
        return reply(("a", -0.1, -3.0), ("c" if together and second else "b", -0.2, -2.0))

    stage = step(Agent("a", ScriptedBackend(answer), logprobs=True, top_logprobs=2))
    singles = [MemoryLog(), MemoryLog()]
    for text, single in zip(("first", "second"), singles, strict=True):
        asyncio.run(stage.arun(text, store=single))
    together, batch = True, MemoryLog()
    stage.batch(["first", "second"], store=batch)
    assert [(one.position, one.one, one.other) for one in parted(singles, batch)] == [(1, "b", "c")]
