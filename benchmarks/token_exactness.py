"""Compares training rows with the tokens that the model read and wrote: rollouts of every kind, many at once, on transformers
and llama.cpp.

    python -m benchmarks.token_exactness [--rollouts 1000] [--at-once 16] [--backend transformers]
    python -m benchmarks.token_exactness --quick

The model is watched from outside: what each row of a pass attends to (read from the keys and values themselves), what each
sequence of llama.cpp holds at which position, and which token is drawn after it. From these alone, without any code of
`lllm.rl.rows`, rows and masks are computed again, and held against the rows that a trainer would be given; the log says only
which replies were rejected. Others are asked beside them, and given up in their middle. Then the weights change, and the same
rows are asked again.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.exactness.expected import Row, expected_rows, rejections
from benchmarks.exactness.interrupted import interrupting
from benchmarks.exactness.requests import Requests
from benchmarks.exactness.situations import INTERRUPTED, SITUATIONS, TOKENS, Scripts, agent, environment
from lllm.backends.embedded import WEIGHTS, EmbeddedBackend
from lllm.log.memory import MemoryLog
from lllm.rl.rows import TokenRow, recorded, rows_of
from lllm.rl.trainers.rollouts import SAMPLED

TEMPERATURE = 1.2
Phase = Callable[[Requests], AbstractContextManager[tuple[Any, Any, str]]]
"""A backend that is watched, with what watches it, and the version of its weights."""


@contextmanager
def on_transformers(at_once: int) -> Iterator[list[Phase]]:
    """The policy in training, before and after its weights have changed."""
    import torch

    from benchmarks.exactness.torch_model import watched
    from lllm.rl.policy import PolicyBackend
    from lllm.rl.trainers.models import open_model

    model, tokenizer = open_model("embedded")
    backend = PolicyBackend(model.eval(), tokenizer, batch=max(1, at_once * 3 // 4))

    @contextmanager
    def before(requests: Requests) -> Iterator[Any]:
        with backend.answering(), watched(model, requests) as watch:
            watches.append(watch)
            yield backend, watch, backend.version

    @contextmanager
    def after(requests: Requests) -> Iterator[Any]:
        with torch.no_grad():
            for layer in model.model.modules():
                if isinstance(layer, torch.nn.Linear):  # what is laid out for the CPU must be laid out again
                    layer.weight.mul_(1 + 0.002 * torch.randn_like(layer.weight))
        backend.updated(1)
        with backend.answering(), watched(model, requests) as watch:
            watch.follow(watches[0])
            yield backend, watch, backend.version

    watches: list[Any] = []
    yield [before, after]


def on_llama(engine: str) -> Callable[[int], AbstractContextManager[list[Phase]]]:
    @contextmanager
    def phases(at_once: int) -> Iterator[list[Phase]]:
        with tempfile.TemporaryDirectory() as folder:
            other = Path(folder) / WEIGHTS.name
            changed(other)
            yield [_phase(engine, at_once, WEIGHTS), _phase(engine, at_once, other)]

    return phases


def _phase(engine: str, at_once: int, weights: Path) -> Phase:
    @contextmanager
    def phase(requests: Requests) -> Iterator[Any]:
        from benchmarks.exactness import llama_python, llama_server

        # beginnings are set aside, and found again: by the server, which has fewer slots than rollouts, or into a slot
        slots = max(1, at_once // 2) if engine == "xllamacpp" else 2 * at_once
        backend = EmbeddedBackend(weights, slots=slots, engine=engine)
        backend.load()
        watched = llama_server.watched if engine == "xllamacpp" else llama_python.watched
        with watched(requests) as watch:
            yield backend, watch, weights.parent.name

    return phase


def changed(path: Path) -> None:
    """A copy of the embedded model whose weights are a little different."""
    from gguf import GGUFReader

    shutil.copyfile(WEIGHTS, path)
    for tensor in GGUFReader(path, "r+").tensors:
        if tensor.tensor_type.name == "Q8_0":
            tensor.data[..., 2::34] ^= 1  # the lowest bit of the first weight of each block


BACKENDS: dict[str, Callable[[int], AbstractContextManager[list[Phase]]]] = {
    "transformers": on_transformers,
    "xllamacpp": on_llama("xllamacpp"),
    "llama-cpp-python": on_llama("llama-cpp-python"),
}


def compare(kind: str, count: int, at_once: int = 16) -> Counter[str]:
    """Does rollouts on a backend, and compares. Returns the counts."""
    counts: Counter[str] = Counter()
    began = time.monotonic()
    with BACKENDS[kind](at_once) as phases:
        for phase in phases:
            scripts = Scripts(held=kind == "xllamacpp")
            requests = Requests(scripts)
            env, store = environment(count // len(phases)), MemoryLog()
            settings = {**SAMPLED, "temperature": TEMPERATURE, "max_tokens": TOKENS}
            if kind != "transformers":
                settings |= {"repetition_penalty": 1.0}
            # others wait, leave in their middle, and have their beginnings kept
            with phase(requests) as (backend, watch, version), interrupting(backend) as given_up:
                found = env(agent(backend), store=store, limit=at_once, version=version, **settings)
            requests.check()
            _count(counts, found, requests, scripts, store)
            counts["given up beside them"] += len(given_up)
            counts["tokens reused"] += watch.reused
            counts["states loaded"] += watch.loaded
            counts["rows at once"] = max(counts["rows at once"], watch.most)
    counts["seconds"] = round(time.monotonic() - began)
    return counts


def _count(counts: Counter[str], found: Any, requests: Requests, scripts: Scripts, store: Any) -> None:
    asked: dict[str, list[Any]] = {}
    for one in requests.found:
        asked.setdefault(scripts.question(one.prompt), []).append(one)
    for one in found:
        seen = asked.pop(one.item.prompt, [])
        rejected = rejections(store, one.session)
        assert len(rejected) == len(seen), (one.item.columns, len(rejected), len(seen))
        expected = sorted(expected_rows(seen, rejected))
        given = sorted(whole(row) for row in rows_of(recorded(store, one.session).segments(), one.session))
        counts["rollouts"] += 1
        counts["equal ids"] += [ids for ids, _ in given] == [ids for ids, _ in expected]
        counts["equal masks"] += given == expected
        kept = sum(len(request.reply) for request, no in zip(seen, rejected, strict=True) if not no)
        counts["once"] += sum(sum(mask) for _, mask in given) == kept
        counts["replies"] += len(seen)
        counts["dropped"] += sum(rejected)
        counts["several rows"] += len(expected) > 1
        counts["tokens"] += sum(len(ids) for ids, _ in expected)
        counts["with loss"] += kept
        counts["several calls"] += sum(len(message.tool_calls) > 1 for message in one.messages)
        counts["tool errors"] += sum(
            message.role == "tool" and message.text.startswith("error") for message in one.messages
        )
        counts[one.status] += 1
        if one.reason:
            counts[f"{one.status}: {one.reason}"] += 1
    asked.pop(INTERRUPTED, None)
    assert not asked, "requests of no rollout"


def whole(row: TokenRow) -> Row:
    return list(row.ids), [*[0] * len(row.prompt), *row.mask]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rollouts", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--backend", choices=tuple(BACKENDS))
    parser.add_argument("--quick", action="store_true", help="a few rollouts of each kind")
    options = parser.parse_args()
    count = 4 * len(SITUATIONS) if options.quick else options.rollouts
    for kind in BACKENDS if options.backend is None else (options.backend,):
        counts = compare(kind, count, options.at_once)
        print(f"{kind}: " + ", ".join(f"{count} {name}" for name, count in counts.items() if count))


if __name__ == "__main__":
    main()
