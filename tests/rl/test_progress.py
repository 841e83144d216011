"""Lines of a training, and its samples."""

from __future__ import annotations

import math

from lllm.models.message import FunctionCall, Message
from lllm.rl import Item, Rollout
from lllm.rl.rewards import Score
from lllm.rl.trainers.progress import line
from lllm.rl.trainers.reports import sample


def test_a_line() -> None:
    metrics = {
        "reward": "0.5",
        "rewards/right/mean": "0.4",
        "rewards/right/missing": "0",
        "rewards/short/mean": 0.9,
        "rollouts/missing": 0,
        "rollouts/cut": 0.25,
        "kl": math.nan,
        "loss": "-0.01",
        "clip_ratio/low_mean": 0,
    }
    assert line(3, 60, metrics) == "step 3/60  reward 0.500 (right 0.400, short 0.900)  cut 25%  loss -0.0100"
    assert line(3, 0, {"reward": 1, "rewards/right/mean": 1}) == "step 3  reward 1.000"
    assert line(3, 60, {"train_runtime": 5}) is None


def test_lines_are_visible_and_a_stream_that_is_closed_ends_nothing() -> None:
    import io
    from types import SimpleNamespace

    from lllm.rl.trainers.progress import Progress

    state = SimpleNamespace(global_step=1, max_steps=2)
    stream = io.StringIO()
    metrics = {"reward": 1, "rewards/a\x1b[31m/mean": 1, "rewards/b/mean": 0}
    Progress(stream).on_log(None, state, None, metrics)
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().startswith("step 1/2  reward 1.000 (a")
    stream.close()
    Progress(stream).on_log(None, state, None, metrics)


def test_a_sample_cannot_leave_its_fence() -> None:
    messages = (
        Message("assistant", "", tool_calls=(FunctionCall("1", "f", "{}"),)),
        Message("assistant", "```\n# not a heading\n````"),
    )
    text = sample(
        Rollout(Item(2, "asked"), 1, "cut", "turns", messages=messages, scores={"r": Score(None, "x")})
    )
    assert text.startswith("## Row 2, sample 1: reward none\n\ncut (turns); r -\n")
    assert "f({})" in text
    assert "`````text\n```\n# not a heading\n````\n`````" in text
