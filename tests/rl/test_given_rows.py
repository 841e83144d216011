"""Rows that people give to a trainer: what is wrong with them is said before a model is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lllm import DPO, KTO, SFT, RLEnv
from lllm.errors import ConfigError

PAIR: dict[str, Any] = {"prompt": "What is 6 times 7?", "chosen": "It is 42.", "rejected": "It is 41."}
TOKENS = {"input_ids": [1, 2, 3], "assistant_masks": [0, 1, 1]}


def data(kind: Any, given: Any, folder: Path, **more: Any) -> Any:
    env = RLEnv([{"prompt": "x", "answer": "y"}], lambda completion, answer: completion == answer)
    return (env >> kind("embedded", data=given, output_dir=str(folder), tokenize=True, **more)).data


WRONG: list[tuple[Any, Any, str]] = [
    (DPO, [{**PAIR, "prompt": None}], "row 0 has no prompt"),
    (DPO, [{"chosen": "a", "rejected": "b"}], "row 0 has no prompt"),
    (DPO, [{**PAIR, "tools": "{"}], "row 0 of data= has tools that are neither"),
    (DPO, [{**PAIR, "tools": [{"name": "f"}]}], "row 0 of data= has tools that are neither"),
    (DPO, [{**PAIR, "tools": 5}], "row 0 of data= has tools that are neither"),
    (DPO, [PAIR, {**PAIR, "chosen": 5}], "row 1 of data= has chosen that is neither"),
    (DPO, [{**PAIR, "rejected": PAIR["chosen"]}], "no row is left to train on: 1 identical"),
    (
        SFT,
        [TOKENS, {**TOKENS, "assistant_masks": [0, 0, 0]}],
        "row 1 of data= has assistant_masks without a 1",
    ),
    (SFT, [{"input_ids": [], "assistant_masks": []}], "assistant_masks without a 1"),
    (SFT, [{**TOKENS, "assistant_masks": [0, 1]}], "one for each of input_ids"),
    (SFT, PAIR, "data= is dict"),
    (KTO, [{"prompt": "a", "completion": "b", "label": "yes"}], "has the label 'yes'"),
]


@pytest.mark.parametrize(("kind", "given", "words"), WRONG)
def test_a_row_that_cannot_be_trained_on_is_named(kind: Any, given: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        _ = data(kind, given, tmp_path)


def test_pairs_of_the_same_text_are_left_out(tmp_path: Path) -> None:
    found = data(DPO, [PAIR, {**PAIR, "rejected": PAIR["chosen"]}], tmp_path)
    assert (len(found), found.dropped) == (1, {"identical": 1})


def test_tools_of_a_row_are_seen_by_the_template(tmp_path: Path) -> None:
    tool = {
        "type": "function",
        "function": {"name": "f", "description": "d", "parameters": {"type": "object"}},
    }
    plain, with_tools = data(DPO, [PAIR, {**PAIR, "tools": [tool]}], tmp_path)
    assert len(with_tools["prompt_ids"]) > len(plain["prompt_ids"])
