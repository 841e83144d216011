"""Sinks: steps that write what passes to a file, a database or a function, and give it on unchanged.

    chain = step(clean) >> agent >> to_jsonl("answers.jsonl")

Each value that passes is one row. A row is an effect of its session, known by a key, so it is written once, also where the
session is resumed; a replay writes nothing.
"""

from __future__ import annotations

from lllm.steps.sinks.step import Sink as Sink
from lllm.steps.sinks.step import sink as sink
from lllm.steps.sinks.step import to_jsonl as to_jsonl
from lllm.steps.sinks.step import to_parquet as to_parquet
from lllm.steps.sinks.step import to_sqlite as to_sqlite

__all__ = ["Sink", "sink", "to_jsonl", "to_parquet", "to_sqlite"]
