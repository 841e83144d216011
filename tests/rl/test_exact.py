"""A sample of `benchmarks/token_exactness.py`: rows are what the model was seen to read and write."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.exactness.requests import Requests
from benchmarks.exactness.situations import SITUATIONS, calculator
from benchmarks.token_exactness import BACKENDS, TEMPERATURE, compare
from lllm import LLM, RLEnv
from lllm.backends.transformers.prefix import Prefixes
from lllm.log.memory import MemoryLog
from lllm.rl import rows
from lllm.rl.rows import recorded
from lllm.rl.trainers.rollouts import SAMPLED

ALL = 2 * len(SITUATIONS)  # one of each kind under each version of the weights
HAPPENED = (
    "several rows",
    "dropped",
    "several calls",
    "tool errors",
    "cut: repairs",
    "cut: length",
    "cut: context",
    "given up beside them",
    "tokens reused",
)


@pytest.mark.parametrize(
    ("backend", "at_once", "together"),
    [("transformers", 16, 12), ("xllamacpp", 16, 8), ("llama-cpp-python", 8, 1)],
)
def test_rows_are_what_was_read_and_written(backend: str, at_once: int, together: int) -> None:
    found = compare(backend, ALL, at_once)
    assert (found["rollouts"], found["missing"]) == (ALL, 0)
    assert (found["equal ids"], found["equal masks"], found["once"]) == (ALL, ALL, ALL)
    assert not [what for what in HAPPENED if not found[what]]
    assert together // 2 <= found["rows at once"] <= together
    assert (found["states loaded"] > 0) == (backend != "transformers")


@pytest.mark.parametrize("backend", list(BACKENDS))
def test_many_rollouts_of_one_row(backend: str) -> None:
    """Equal prompts side by side: what was seen cannot say whose a reply is, but it says which there were."""
    requests, store = Requests(), MemoryLog()
    env = RLEnv(
        [{"prompt": "A purple tram ate 3 hats and 中文 → é?"}], lambda: 0.0, tools=[calculator], max_turns=4
    )
    with BACKENDS[backend](8) as phases, phases[0](requests) as (model, _, _):
        found = env(LLM(model), samples=12, store=store, **SAMPLED, temperature=TEMPERATURE, max_tokens=48)
    requests.check()
    logged = [one for rollout in found for one in recorded(store, rollout.session or "").segments()]
    assert len(found) == 12
    assert len({one.tokens for one in logged}) > 6
    seen = Counter((one.prompt, tuple(one.reply)) for one in requests.found)
    assert seen == Counter((one.prompt, one.tokens) for one in logged)


def test_what_older_weights_computed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Prefixes, "clear", lambda self: None)
    with pytest.raises(AssertionError, match="other weights"):
        compare("transformers", 8, 4)


def test_a_mask_that_is_wrong_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    add = rows._Growing.add
    monkeypatch.setattr(rows._Growing, "add", lambda self, segment, counts: add(self, segment, True))
    found = compare("llama-cpp-python", ALL)
    assert found["equal masks"] < found["rollouts"]
    assert found["once"] < found["rollouts"]
