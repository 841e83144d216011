"""The grammars of transformers alone, without an agent: what is sampled to its end is valid, to the last keyword."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import jsonschema_rs
import pytest
import torch

from lllm.backends.transformers.constrained import Grammars
from lllm.backends.transformers.load import Loaded, LoadOptions, load
from lllm.errors import UnsupportedError
from tests.backends.test_constrained import sample
from tests.structured.schemas import COUNT, schema
from training.embedded.forms import Forms

EACH = 10
"""Every tenth schema: a reply takes a second where the cores are busy."""


@pytest.fixture(scope="module")
def loaded(forms: Forms) -> Iterator[Loaded]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load(str(forms.folder), LoadOptions(device="cpu"))
    torch.set_num_threads(before)


def test_what_is_sampled_to_its_end_is_valid(loaded: Loaded) -> None:
    grammars = Grammars(loaded)
    endings: Counter[str] = Counter()
    for seed in range(0, COUNT, EACH):
        wanted = schema(seed)
        try:
            matcher = grammars.compile(wanted)
        except UnsupportedError:
            assert grammars.unenforced(wanted)
            endings["refused"] += 1
            continue
        written, ended = sample(loaded, matcher, seed=seed, count=120)
        if ended:
            jsonschema_rs.validate(wanted, json.loads(written))
        endings["valid" if ended else "cut off"] += 1
    assert endings["valid"] > 0.6 * COUNT / EACH
    assert 0 < endings["refused"] < 0.15 * COUNT / EACH
