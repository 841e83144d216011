"""Steps: whatever is called with one value and gives one, and what they make together.

    chain = step(clean) >> agent >> parse         # each stage gets what the one before it gave
    chain("text")                                 # one item
    chain.batch(["a", "b"])                       # several, side by side
    chain.stream("text")                          # with the deltas of the last stage that streams

Any callable joins a chain: functions (`step(f)` where it stands first), models, agents, systems, other steps.
"""

from __future__ import annotations

from lllm.steps.base import Step as Step
from lllm.steps.branches import Parallel as Parallel
from lllm.steps.branches import Route as Route
from lllm.steps.branches import parallel as parallel
from lllm.steps.branches import route as route
from lllm.steps.chains import Chain as Chain
from lllm.steps.chains import chain as chain
from lllm.steps.coercing import step as step
from lllm.steps.each import Map as Map
from lllm.steps.each import map as map
from lllm.steps.joins import join as join
from lllm.steps.repeats import Fallback as Fallback
from lllm.steps.repeats import Loop as Loop
from lllm.steps.repeats import Retry as Retry
from lllm.steps.repeats import fallback as fallback
from lllm.steps.repeats import loop as loop
from lllm.steps.repeats import retry as retry
from lllm.steps.results import Result as Result
from lllm.steps.results import StageResult as StageResult
from lllm.steps.sinks import Sink as Sink
from lllm.steps.sinks import sink as sink
from lllm.steps.sinks import to_jsonl as to_jsonl
from lllm.steps.sinks import to_parquet as to_parquet
from lllm.steps.sinks import to_sqlite as to_sqlite
from lllm.steps.streams import Piece as Piece
from lllm.steps.streams import StepStream as StepStream

__all__ = [
    "Chain",
    "Fallback",
    "Loop",
    "Map",
    "Parallel",
    "Piece",
    "Result",
    "Retry",
    "Route",
    "Sink",
    "StageResult",
    "Step",
    "StepStream",
    "chain",
    "fallback",
    "join",
    "loop",
    "map",
    "parallel",
    "retry",
    "route",
    "sink",
    "step",
    "to_jsonl",
    "to_parquet",
    "to_sqlite",
]
