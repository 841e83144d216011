"""Watches a model of transformers: what each row attends to, read from the keys and values that the pass is given, and what is
drawn from its logits."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import torch

from benchmarks.exactness.requests import Requests
from lllm.backends.transformers import batch

CLOSE = 1e-6
"""How far the logits that a token is drawn from may be from those of the pass."""


class Tokens:
    """Token ids from the first on, each known by what stands before it: a tree."""

    def __init__(self) -> None:
        self._parents: list[tuple[int, int, int]] = [(-1, -1, 0)]  # parent, token, length
        self._children: dict[tuple[int, int], int] = {}

    def after(self, node: int, token: int) -> int:
        found = self._children.get((node, token))
        if found is None:
            found = self._children[node, token] = len(self._parents)
            self._parents.append((node, token, self._parents[node][2] + 1))
        return found

    def parent(self, node: int) -> int:
        return self._parents[node][0]

    def ids(self, node: int) -> list[int]:
        found = []
        while node:
            node, token, _ = self._parents[node]
            found.append(token)
        return found[::-1]


class Watch:
    """What passes of a model attend to.

    The last layer's keys and values at a position depend on all tokens up to there, and on the weights. So their bits say
    which tokens were computed, wherever they are copied to. Those of a column that no pass has computed are unknown.

    Attributes:
        reused: columns that were there before a request's first pass. loaded: none here. most: rows at once.
        version: of the weights. Columns that were computed under another are a fault.
    """

    def __init__(self, requests: Requests) -> None:
        self.reused = self.loaded = self.most = self.version = 0
        self._requests = requests
        self._tokens = Tokens()
        self._columns: dict[int, tuple[int, int]] = {}  # by bits: the tokens up to there, and the version
        self._passes: deque[tuple[list[int], torch.Tensor]] = deque(maxlen=64)
        self._factors: Any = None

    def follow(self, earlier: Watch) -> None:
        """The weights have changed since `earlier` watched: its columns are known, and a fault where they are attended to."""
        self.version, self._tokens, self._columns = earlier.version + 1, earlier._tokens, earlier._columns
        self._factors = earlier._factors

    def forward(self, _: Any, args: Any, given: dict[str, Any], output: Any) -> None:
        """After a pass: `given` are its arguments."""
        try:
            self._forward(given, output.logits)
        except Exception as error:
            self._requests.problems.append(f"forward: {error!r}")

    def _forward(self, given: dict[str, Any], logits: torch.Tensor) -> None:
        ids, mask = given["input_ids"], given["attention_mask"]
        rows, width = ids.shape
        starts = given["position_ids"][:, 0].tolist()
        cache = given.get("cache", given.get("past_key_values"))
        layer = cache.layers[-1]
        bits = self._bits(layer.keys[:rows], layer.values[:rows])
        keep = given["logits_to_keep"]
        places = keep.tolist() if isinstance(keep, torch.Tensor) else list(range(width - keep, width))
        self.most = max(self.most, rows)
        ends: list[int] = []
        for row in range(rows):
            start, node = starts[row], 0
            for column in range(start):  # what was there before
                found, version = self._columns.get(int(bits[row, column]), (-1, -1))
                assert found >= 0, "a row attends to what no pass computed"
                assert self._tokens.parent(found) == node, (
                    "a row attends to what was computed after other tokens"
                )
                assert version == self.version, "a row attends to what other weights computed"
                node = found
            nodes = []
            for place, token in enumerate(ids[row].tolist()):
                node = self._tokens.after(node, token)
                known = self._columns.setdefault(int(bits[row, start + place]), (node, self.version))
                assert known[0] == node, "other tokens were computed with the same result"
                assert known[1] == self.version, "a pass computed with older weights"
                nodes.append(node)
            if width > 1:
                self.reused += start
            for place in places:
                seen = self._visible(mask, row, place)
                assert seen is None or seen == list(range(start + place + 1)), (
                    "a row attends to another's columns"
                )
                ends.append(nodes[place])
        self._passes.append((ends, logits.reshape(len(ends), -1).float().clone()))

    def _visible(self, mask: torch.Tensor | None, row: int, place: int) -> list[int] | None:
        """The columns that a token attends to; None: all before it, and itself."""
        return None if mask is None else (mask[row, 0, place] == 0).nonzero()[:, 0].tolist()

    def _bits(self, keys: torch.Tensor, values: torch.Tensor) -> Any:
        """A number for each row and column, of all the bits there."""
        both = torch.cat((keys, values), -1).transpose(1, 2).flatten(2).contiguous()
        whole = both.view(torch.int32).numpy().astype(numpy.int64)
        if self._factors is None:
            self._factors = numpy.random.default_rng(0).integers(-(2**62), 2**62, whole.shape[-1]) | 1
        return (whole * self._factors).sum(-1)

    def draw(self, logits: torch.Tensor, token: int) -> int:
        """A token was drawn from `logits`: of which pass they are, and after which tokens, they say themselves."""
        for ends, known in reversed(self._passes):
            distance = (known - logits).abs().amax(-1)
            nearest = int(distance.argmin())
            if distance[nearest] < CLOSE:
                return self._requests.draw(self._tokens.ids(ends[nearest]), token)
        self._requests.problems.append("a token was drawn from logits that no pass gave")
        return token


@contextmanager
def watched(model: Any, requests: Requests) -> Iterator[Watch]:
    """The draws of a model go to `requests`."""
    watch = Watch(requests)
    own = batch.choose

    def choose(logits: torch.Tensor, *more: Any) -> list[int]:
        before = logits.clone()  # it is written to
        drawn = own(logits, *more)
        return [watch.draw(row, token) for row, token in zip(before, drawn, strict=True)]

    hook = model.register_forward_hook(watch.forward, with_kwargs=True)
    batch.choose = choose
    try:
        yield watch
    finally:
        hook.remove()
        batch.choose = own
