"""Layers with weights that are laid out beforehand: the same numbers, of the weights as they are, and nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from lllm.backends.local import fast_path
from lllm.backends.transformers.packed import SIZES, packed


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    fast_path.forget()
    yield
    fast_path.forget()


class Other(torch.nn.Linear):
    """A layer of somebody else's."""


@pytest.fixture
def model() -> Any:
    torch.manual_seed(3)
    return torch.nn.ModuleDict(
        {
            "first": torch.nn.Linear(48, 33),
            "second": torch.nn.Linear(33, 20, bias=False),
            "other": Other(20, 5),
            "coarse": torch.nn.Linear(5, 5).to(torch.bfloat16),
        }
    )


def through(model: Any, given: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = model["other"](torch.relu(model["second"](torch.relu(model["first"](given)))))
    return out


def is_packed(layer: Any) -> bool:
    return "forward" in vars(layer)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 15, 200, 256, 257, 600])
def test_the_numbers_are_those_of_the_library(model: Any, rows: int) -> None:
    given = torch.randn(rows, 1, 48)
    with torch.inference_mode():
        wanted = through(model, given)
        with packed(model):
            assert [name for name, layer in model.items() if is_packed(layer)] == ["first", "second"]
            got = through(model, given)
    assert got.shape == wanted.shape
    assert (got - wanted).abs().max() < 1e-5
    assert fast_path.losses() == []


def test_the_library_meets_few_counts_of_tokens(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    product, met = torch.ops.mkldnn._linear_pointwise, set[int]()

    def counted(given: torch.Tensor, *rest: Any) -> torch.Tensor:
        met.add(given.shape[0])
        out: torch.Tensor = product(given, *rest)
        return out

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", counted)
    with packed(model), torch.inference_mode():
        for count in range(1, 600):
            assert model["first"](torch.ones(count, 1, 48)).shape == (count, 1, 33)
    assert met == set(SIZES)


def test_nothing_is_left_and_the_next_time_the_weights_are_those_of_then(model: Any) -> None:
    given = torch.randn(8, 48)
    with pytest.raises(KeyError), packed(model), packed(model):  # the inner one finds nothing to do
        raise KeyError
    assert not any(is_packed(layer) for layer in model.values())
    with torch.no_grad():
        with packed(model):
            before = through(model, given)
        model["first"].weight.mul_(2)
        with packed(model):
            after = through(model, given)
        wanted = through(model, given)
    assert (after - before).abs().max() > 0.1
    assert (after - wanted).abs().max() < 1e-5


def test_gradients_are_the_layers_own(model: Any) -> None:
    with packed(model):
        through(model, torch.randn(8, 48)).sum().backward()
    assert model["first"].weight.grad.abs().sum() > 0


def test_a_layer_that_was_changed_stays_so(model: Any) -> None:
    model["first"].forward = lambda given: given[..., :33] * 0 + 7
    with packed(model), torch.no_grad():
        assert model["first"](torch.randn(8, 48)).unique().tolist() == [7]
        assert is_packed(model["second"])
    assert is_packed(model["first"])


def test_who_asks_torch_for_coarser_products_gets_them(model: Any) -> None:
    torch.set_float32_matmul_precision("medium")
    try:
        with packed(model):
            assert not any(is_packed(layer) for layer in model.values())
    finally:
        torch.set_float32_matmul_precision("highest")


def lacks(*_: Any) -> Any:
    raise RuntimeError("no such operator")


def other_numbers(given: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.zeros(*given.shape[:-1], 33)


@pytest.mark.parametrize(
    ("broken", "said"), [(lacks, "no such operator"), (other_numbers, "gave other numbers")]
)
def test_a_torch_without_the_parts_is_reported_once(
    model: Any, broken: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", broken)
    for _ in range(2):
        with packed(model), torch.no_grad():
            assert not any(is_packed(layer) for layer in model.values())
            through(model, torch.randn(8, 48))
    (loss,) = fast_path.losses()
    assert said in loss
