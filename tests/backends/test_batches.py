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
from lllm.backends.transformers.sampling import Settings, draw
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


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6, 7])
async def test_no_room_for_a_row_fails_it_and_nobody_waits_for_ever(
    at: int, forms: Forms, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = TransformersBackend(device="cpu", dtype="float32", threads=1)
    requests = [
        ask(text, model=str(forms.folder), sampling={"temperature": 0, "max_tokens": 8})
        for text in ("Hi.", "Hi.", "What is 2 + 2?", "Bye.")
    ]
    wanted = [(await reply(backend, one)).content for one in requests]
    add, calls = Room.add, [0]

    def full(*args: Any) -> None:
        calls[0] += 1
        if calls[0] == at:
            raise MemoryError("no room")
        add(*args)

    monkeypatch.setattr(Room, "add", full)
    asked = asyncio.gather(*(reply(backend, one) for one in requests), return_exceptions=True)
    got = await asyncio.wait_for(asked, 300)
    for one, right in zip(got, wanted, strict=True):
        assert isinstance(one, OutOfMemory) or (isinstance(one, Reply) and one.content == right)
    assert any(isinstance(one, OutOfMemory) for one in got)
    assert (await reply(backend, requests[0])).content == wanted[0]
    await backend.aclose()


def count_tokens(batcher: Batcher, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shape (rows, tokens of each) of every pass of the model from now on."""
    forward, given = batcher._model, list[tuple[int, ...]]()

    def counted(ids: torch.Tensor, room: Room, keep: Any) -> torch.Tensor:
        given.append(tuple(ids.shape))
        return forward(ids, room, keep)

    monkeypatch.setattr(batcher, "_forward", counted)
    return given


async def test_a_prompt_that_is_sampled_often_is_computed_once_and_all_decode_together(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = Watched(engine, batch=32, prefix_tokens=0)
    given = count_tokens(batcher, monkeypatch)
    stem = [9 + place for place in range(40)]
    prompts = [[*stem, 100 + kind] for kind in (0, 1) for _ in range(8)]
    made = [row(engine, prompt, 3) for prompt in prompts]
    batcher._inbox.extend(made)
    batcher.turn()
    assert given == [(1, 41), (1, 1), (16, 1)]  # the first prompt, what the second has beside it, a step
    assert [len(one.reply) for one in made] == [2] * 16
    assert [one.speech.cached for one in made] == [0, *[40] * 15]
    assert batcher.speed()["cached_tokens"] == 15 * 40
    batcher.turn()
    for one in made:
        apart = (torch.stack(batcher.logits[one]) - alone(engine, one)).abs().max()
        assert apart < 1e-3


async def test_rows_that_come_do_not_keep_those_that_decode_from_their_next_step(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "CHUNK", 50)
    batcher = Watched(engine, batch=32, prefix_tokens=0)
    computed = count_tokens(batcher, monkeypatch)
    first = row(engine, [9, 10, 11], 40)
    batcher._inbox.append(first)
    batcher.turn()
    batcher._inbox.extend(row(engine, [20 + many] * 45, 3) for many in range(9))
    for turns in range(2, 12):
        before = len(computed)
        batcher.turn()
        assert len(first.reply) == turns + 1
        assert sum(rows * width for rows, width in computed[before:-1]) < 2 * 50
    assert not batcher._waiting


@pytest.mark.parametrize("size", [2, 7, 1024, 32_003])
def test_a_row_draws_what_it_draws_alone_with_its_own_numbers(size: int) -> None:
    odds = torch.softmax(3 * torch.randn(5, size, generator=torch.Generator().manual_seed(size)), -1)
    odds[0, 1:] = 0
    odds[0, 0] = 1
    own = [torch.Generator().manual_seed(seed) for seed in range(5)]
    one = [torch.Generator().manual_seed(seed) for seed in range(5)]
    for _ in range(50):
        together = draw(odds, own)
        assert together == [
            int(torch.multinomial(row, 1, generator=numbers)) for row, numbers in zip(odds, one, strict=True)
        ]
    assert all(torch.equal(a.get_state(), b.get_state()) for a, b in zip(own, one, strict=True))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -0.5])
def test_odds_that_are_none_are_an_error(wrong: float, count: int) -> None:
    odds = torch.full((count, 4), 0.25)
    odds[-1, 2] = wrong
    with pytest.raises(RuntimeError, match="inf"):
        draw(odds, [None] * count)


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
