"""Train the model on an endless stream of generated dialogues.

    python -m training.embedded train --run runs/first --tokens 12e6

A producer process generates and tokenises; this process steps. The learning rate follows a cosine over the tokens (or
over `--minutes`, whichever is further along). A run can be stopped and resumed; a new run can start from the weights
of an old one with `--start`.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import random
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Full
from typing import Any

import torch
from tokenizers import Tokenizer
from torch.nn import functional

from . import chat, dialogues, tokenizer
from .model import Model, Shape

BATCH_TOKENS = 8192
SHARD = 4000
OTHER_WEIGHT = 0.1
"""Weight in the loss of tokens that the model does not have to write."""


def encode(vocabulary: Tokenizer, dialogue: dialogues.Dialogue, limit: int) -> tuple[list[int], list[float]]:
    """Token ids of a dialogue and their weights in the loss, cut at `limit`."""
    ids: list[int] = []
    weights: list[float] = []
    pieces = chat.parts(dialogue)
    joined: list[tuple[str, bool]] = []
    for piece, trained in pieces:
        if joined and not trained and not joined[-1][1]:
            joined[-1] = (joined[-1][0] + piece, False)
        else:
            joined.append((piece, trained))
    for piece, trained in joined:
        part = vocabulary.encode(piece).ids
        ids += part
        weights += [1.0 if trained else OTHER_WEIGHT] * len(part)
    return ids[:limit], weights[:limit]


def shard(
    vocabulary: Tokenizer, seed: int, index: int, limit: int
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of dialogues of similar length, in random order."""
    rng = random.Random(f"{seed}/{index}")
    rows = sorted(
        (encode(vocabulary, dialogues.draw(rng), limit) for _ in range(SHARD)), key=lambda row: len(row[0])
    )
    batches = []
    start = 0
    while start < len(rows):
        stop, longest = start, 0
        while stop < len(rows) and max(longest, len(rows[stop][0])) * (stop + 1 - start) <= BATCH_TOKENS:
            longest = max(longest, len(rows[stop][0]))
            stop += 1
        ids = torch.full((stop - start, longest), tokenizer.PAD, dtype=torch.int32)
        weights = torch.zeros((stop - start, longest))
        for place, (row, row_weights) in enumerate(rows[start:stop]):
            ids[place, : len(row)] = torch.tensor(row)
            weights[place, : len(row)] = torch.tensor(row_weights)
        batches.append((ids, weights))
        start = stop
    rng.shuffle(batches)
    return batches


def _produce(queue: Any, folder: str, seed: int, index: int, limit: int, stop: Any) -> None:
    torch.set_num_threads(1)
    vocabulary = tokenizer.load(Path(folder))
    while not stop.is_set():
        made = [(ids.numpy(), weights.numpy()) for ids, weights in shard(vocabulary, seed, index, limit)]
        index += 1
        while not stop.is_set():
            try:
                queue.put((index, made), timeout=1)
                break
            except Full:
                continue


def stream(
    folder: Path, seed: int, index: int, limit: int
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Endless batches with the index of the shard to go on with."""
    context = multiprocessing.get_context("spawn")
    queue, stop = context.Queue(2), context.Event()
    worker = context.Process(
        target=_produce, args=(queue, str(folder), seed, index, limit, stop), daemon=True
    )
    worker.start()
    try:
        while True:
            after, made = queue.get()
            for ids, weights in made:
                yield after, torch.from_numpy(ids).long(), torch.from_numpy(weights)
    finally:
        stop.set()
        worker.terminate()


def rate(done: float, warm: float = 0.02, floor: float = 0.02) -> float:
    """Learning rate factor after a share `done` of the run."""
    if done < warm:
        return max(0.05, done / warm)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warm) / (1 - warm))))


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that a crash leaves the old or the new one."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def main(arguments: argparse.Namespace) -> None:
    """Train until the end of the schedule."""
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    run = Path(arguments.run)
    run.mkdir(parents=True, exist_ok=True)
    start = Path(arguments.start) if arguments.start else None
    if not (run / "tokenizer.json").exists():
        if start:
            (run / "tokenizer.json").write_bytes((start / "tokenizer.json").read_bytes())
        else:
            tokenizer.train(arguments.vocabulary, 12000).save(str(run / "tokenizer.json"))
    shape = Shape(vocabulary=arguments.vocabulary, layers=arguments.layers)
    (run / "shape.json").write_text(json.dumps(shape.__dict__, indent=2) + "\n")
    model = Model(shape)
    matrices = [
        p for name, p in model.named_parameters() if p.ndim == 2 and not name.startswith("token_embd")
    ]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or name.startswith("token_embd")]
    optimisers = [
        torch.optim.Muon(matrices, lr=arguments.rate * 10, weight_decay=0.1),
        torch.optim.AdamW(others, lr=arguments.rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    base = [arguments.rate * 10, arguments.rate]
    tokens = step = index = 0
    spent = 0.0
    checkpoint = run / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        tokens, step, index, spent = state["tokens"], state["step"], state["index"], state["spent"]
    elif start:
        model.load_state_dict(torch.load(start / "checkpoint.pt", weights_only=True)["model"])
    compiled = torch.compile(model, dynamic=True) if arguments.compile else model
    began = last_save = time.monotonic()
    mean = 0.0
    for after, ids, weights in stream(run, arguments.seed, index, shape.context):
        elapsed = spent + time.monotonic() - began
        done = max(tokens / arguments.tokens, elapsed / 60 / arguments.minutes)
        for optimiser, full in zip(optimisers, base, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = full * rate(done)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.bf16):
            logits = compiled(ids[:, :-1])
        losses = functional.cross_entropy(
            logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none"
        )
        share = weights[:, 1:].flatten()
        loss = (losses * share).sum() / share.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        tokens += int((weights > 0).sum())
        step += 1
        own = share == 1
        mean = (
            0.95 * mean + 0.05 * losses[own].mean().item() if step > 1 and mean else losses[own].mean().item()
        )
        if step % 20 == 0:
            line = {
                "step": step,
                "tokens": tokens,
                "seconds": round(elapsed),
                "done": round(done, 4),
                "loss": round(mean, 4),
            }
            with (run / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            print(line, flush=True)
        finished = done >= 1
        if finished or time.monotonic() - last_save > 60:
            last_save = time.monotonic()
            state = {
                "model": model.state_dict(),
                "optimisers": [optimiser.state_dict() for optimiser in optimisers],
            }
            save(checkpoint, state | {"tokens": tokens, "step": step, "index": after, "spent": elapsed})
        if finished:
            return


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", default="runs/embedded", help="folder for the checkpoint, tokenizer and log")
    parser.add_argument("--start", help="folder of a run whose weights and tokenizer to start from")
    parser.add_argument("--tokens", type=float, default=33e6, help="length of the run")
    parser.add_argument(
        "--minutes", type=float, default=1e9, help="end the schedule after this time at the latest"
    )
    parser.add_argument(
        "--rate", type=float, default=1.4e-3, help="AdamW learning rate; Muon gets ten times as much"
    )
    parser.add_argument("--vocabulary", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
