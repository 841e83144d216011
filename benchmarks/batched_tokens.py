"""Measures the effect of batching on greedy decoding: the same prompts one by one, again, and as a batch.

    python -m benchmarks.batched_tokens [--quick] [FOLDER]

FOLDER is where the forms of the embedded model are written; by default a temporary one. Takes about a minute.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from lllm import LLM, Reply
from lllm.models.message import Message

ENGINES: Final[Mapping[str, tuple[str, str, Mapping[str, Any]]]] = {
    # engine and weights: prefix of the model, form, options
    "xllamacpp Q8_0": ("llama_cpp", "gguf_q8", {}),
    "xllamacpp F32": ("llama_cpp", "gguf_f32", {}),
    "llama-cpp-python Q8_0": ("llama_cpp", "gguf_q8", {"engine": "llama-cpp-python"}),
    "transformers float32": ("transformers", "folder", {"device": "cpu"}),
    "transformers bfloat16": ("transformers", "folder", {"device": "cpu", "dtype": "bfloat16"}),
}


class Split(NamedTuple):
    """The first difference of two replies to the same prompt.

    Attributes:
        position: the first token that differs. one, other: the tokens there.
        gap: how much more likely the best token was than the second, as logarithms: the smaller of both replies' gaps.
    """

    position: int
    one: str
    other: str
    gap: float


class Compared(NamedTuple):
    """Replies compared with others to the same prompts. `drift`: the largest difference of a log-probability."""

    tokens: int
    drift: float
    splits: tuple[Split, ...]


def gap(entry: Mapping[str, Any]) -> float:
    """Returns the log-probability of the best token at a position, less that of the second."""
    best, second = sorted((top["logprob"] for top in entry["top"]), reverse=True)[:2]
    return float(best - second)


def split(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> Split | None:
    """Returns the first place at which two lists of log-probabilities differ; None where they name the same tokens. A list
    may end earlier: a model that stops has chosen a token that is not in the list, and how close that was is not known."""
    for position, (here, there) in enumerate(zip(one, other, strict=False)):
        if here["token"] != there["token"]:
            return Split(position, here["token"], there["token"], min(gap(here), gap(there)))
    if len(one) != len(other):
        position = min(len(one), len(other))
        last = one[position] if len(one) > len(other) else other[position]
        left, right = (last["token"], "") if len(one) > len(other) else ("", last["token"])
        return Split(position, left, right, gap(last))
    return None


def compare(ones: Sequence[Reply], others: Sequence[Reply]) -> Compared:
    """Compares the tokens of replies, and their log-probabilities as far as the tokens are the same."""
    tokens, drift, splits = 0, 0.0, []
    for one, other in zip(ones, others, strict=True):
        here, there = one.logprobs or [], other.logprobs or []
        found = split(here, there)
        same = min(len(here), len(there)) if found is None else found.position
        tokens += same
        drift = max(
            [drift, *(abs(a["logprob"] - b["logprob"]) for a, b in zip(here[:same], there, strict=False))]
        )
        if found is not None:
            splits.append(found)
    return Compared(tokens, drift, tuple(splits))


def model(engine: str, forms: Any) -> LLM:
    """The embedded model in one of its forms, decoded greedily, with the two most likely tokens at each position."""
    prefix, form, options = ENGINES[engine]
    return LLM(
        f"{prefix}/{getattr(forms, form)}", options=options, temperature=0, max_tokens=24, logprobs=True, top_logprobs=2
    )  # fmt: skip


def prompts(count: int = 64) -> list[list[Message]]:
    """Dialogs that the embedded model was not trained on."""
    from training.embedded import evaluate

    cases = [
        *evaluate.hand_written("all")[:24],
        *evaluate.off_topic(10),
        *evaluate.no_tool(10),
        *evaluate.repairs(20),
    ]
    step = max(1, len(cases) // count)
    return [[Message.from_dict(message) for message in case.messages] for case in cases[::step]][:count]


def measure(llm: LLM, asked: Sequence[Any], limit: int = 16) -> tuple[Compared, Compared]:
    """One by one against one by one again, and against a batch."""
    ones = [llm(dialog) for dialog in asked]
    again = [llm(dialog) for dialog in asked]
    return compare(ones, again), compare(ones, llm.batch(asked, limit=limit))


def rows(forms: Any, count: int = 64) -> Iterator[tuple[str, Compared, Compared]]:
    for engine in ENGINES:
        yield engine, *measure(model(engine, forms), prompts(count))


def main() -> None:
    from training.embedded import forms as made

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="where the forms of the model are kept")
    parser.add_argument("--quick", action="store_true", help="twelve prompts")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    print(
        "| Engine, weights | tokens | differ one by one | drift | differ in a batch | drift | gap where they part |"
    )
    print("|---|---|---|---|---|---|---|")
    for engine, again, batch in rows(made.make(folder), 12 if options.quick else 64):
        gaps = ", ".join(f"{one.gap:.4f}" for one in batch.splits) or "-"
        print(
            f"| {engine} | {again.tokens} | {len(again.splits)} | {again.drift:.1e} | {len(batch.splits)} | "
            f"{batch.drift:.1e} | {gaps} |"
        )


if __name__ == "__main__":
    main()
