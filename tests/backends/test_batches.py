"""Rows that are decoded together, driven turn by turn: each says what it says alone, whoever comes, goes and shares."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from lllm.backends.local.speech import Speech
from lllm.backends.transformers import TransformersBackend, batch
from lllm.backends.transformers.batch import Batcher
from lllm.backends.transformers.decode import Text
from lllm.backends.transformers.engine import Engine
from lllm.backends.transformers.room import GRAIN, Room, Shape
from lllm.backends.transformers.row import Mail, Row
from lllm.backends.transformers.sampling import Settings
from lllm.errors import OutOfMemory
from lllm.models.reply import Reply
from tests.backends.helpers import ask, reply
from training.embedded.forms import Forms


@pytest.fixture(scope="module")
def engine(forms: Forms) -> Iterator[Engine]:
    backend = TransformersBackend(device="cpu", dtype="float32", threads=1)
    yield backend.load(str(forms.folder))
    asyncio.run(backend.aclose())


def row(engine: Engine, prompt: Sequence[int], limit: int) -> Row:
    """A greedy one, which ends by its length alone."""
    speech = Speech(ask(), model="test", prompt=prompt)
    text = Text(engine.loaded.tokenizer)
    return Row(
        prompt, limit=limit, settings=Settings(), speech=speech, text=text, eos=frozenset(), mail=Mail()
    )


def rows(engine: Engine, chance: random.Random, count: int) -> list[Row]:
    """Short and long ones; most begin as others do."""

    def tokens(count: int) -> list[int]:
        return [chance.randrange(8, 1000) for _ in range(count)]

    stems = [tokens(chance.randrange(20, 260)) for _ in range(4)]
    made = []
    for _ in range(count):
        stem = chance.choice([*stems, []])
        stem = stem[: chance.choice([len(stem), chance.randrange(len(stem) + 1)])]
        prompt = [*stem, *tokens(chance.choice([1, 5, 20, 150]))]
        made.append(row(engine, prompt, chance.choice([1, 3, 10, 40])))
    return made


class Watched(Batcher):
    """Remembers from which logits each token was chosen."""

    def __init__(self, engine: Engine, **options: Any) -> None:
        assert engine.batcher is not None
        super().__init__(engine.loaded, engine.batcher._shapes, threads=1, **options)
        self.logits: dict[Row, list[torch.Tensor]] = {}

    def _choose(self, first: int, logits: torch.Tensor) -> None:
        for one, mine in zip(self._live[first:], logits, strict=True):
            self.logits.setdefault(one, []).append(mine.clone())
        super()._choose(first, logits)

    def under_way(self) -> list[Row]:
        return [*self._inbox, *self._waiting, *(self._fill.rows if self._fill else ()), *self._live]

    def turn(self) -> None:
        with torch.inference_mode():
            self._turn()
        lengths = [len(one.prompt) + len(one.reply) - 1 for one in self._live]
        assert self._room.lengths == lengths
        assert self._room.columns >= max(lengths, default=0)
        assert len(lengths) <= self._batch


def alone(engine: Engine, one: Row) -> torch.Tensor:
    """The logits of each token of its reply, computed in one piece and without a cache."""
    with torch.inference_mode():
        ids = torch.tensor([[*one.prompt, *one.reply]])
        out: torch.Tensor = engine.loaded.model(input_ids=ids, use_cache=False).logits[0]
    return out[len(one.prompt) - 1 : -1]


@pytest.mark.parametrize("seed", range(2))
async def test_whoever_comes_and_goes_each_says_what_it_says_alone(
    seed: int, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "CHUNK", 64)  # prompts are computed in pieces, while others decode
    drop = Room.drop

    def poison(room: Room, number: int) -> None:
        drop(room, number)
        for layer in room.layers:
            layer.keys[len(room.lengths) :] = layer.values[len(room.lengths) :] = float("nan")

    monkeypatch.setattr(Room, "drop", poison)
    chance = random.Random(seed)
    batcher = Watched(engine, batch=8, prefix_tokens=600)
    todo = rows(engine, chance, 60)
    done: list[Row] = []
    while todo or batcher.under_way():
        if todo and chance.random() < 0.2:
            for one in [todo.pop() for _ in range(min(len(todo), chance.randrange(1, 9)))]:
                batcher._inbox.append(one)
                done.append(one)
        if (under_way := batcher.under_way()) and chance.random() < 0.1:
            chance.choice(under_way).cancelled = True
        batcher.turn()
    assert batcher.speed()["cached_tokens"] > 1000
    assert batcher.speed()["most_rows"] == 8
    assert sum(one.cancelled and len(one.reply) < one.limit for one in done) > 5
    for one in done:
        if one.reply:
            wanted = alone(engine, one)
            got = torch.stack(batcher.logits[one])
            apart = (got - wanted).abs().amax(-1) / wanted.abs().max()
            assert apart.max() < 1e-3, (len(one.prompt), apart.tolist())


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6])
async def test_no_room_for_a_row_fails_it_and_nobody_waits_for_ever(
    at: int, forms: Forms, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = TransformersBackend(device="cpu", dtype="float32", threads=1)
    request = ask("Hi.", model=str(forms.folder), sampling={"temperature": 0, "max_tokens": 8})
    wanted = (await reply(backend, request)).content
    add, calls = Room.add, [0]

    def full(*args: Any) -> None:
        calls[0] += 1
        if calls[0] == at:
            raise MemoryError("no room")
        add(*args)

    monkeypatch.setattr(Room, "add", full)
    asked = asyncio.gather(*(reply(backend, request) for _ in range(3)), return_exceptions=True)
    got = await asyncio.wait_for(asked, 300)
    assert {one.content if isinstance(one, Reply) else type(one) for one in got} <= {wanted, OutOfMemory}
    assert any(isinstance(one, OutOfMemory) for one in got)
    assert (await reply(backend, request)).content == wanted
    await backend.aclose()


@pytest.mark.parametrize("left", [1, GRAIN - 1, GRAIN, GRAIN + 1, 100])
def test_a_room_that_shrinks_keeps_what_the_others_hold(left: int) -> None:
    room = Room([Shape(1, 2, 2)], "cpu", torch.float32, 1024)
    for length in (left, 700):
        pair = torch.rand(1, length, 2) + 1, torch.rand(1, length, 2) + 1
        room.add([[pair]], length)
        if length == left:
            keys, values = pair
    wide = room.columns
    room.drop(1)
    assert left < room.columns < wide / 2
    assert [tuple(map(torch.equal, pair, (keys, values))) for pair in room.row(0, left)] == [(True, True)]
