"""Rows of environments: what they may be, and what is wrong with those that are not."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from lllm.errors import ConfigError
from lllm.rl.items import Item, Items, item_of


def rows(count: int = 3) -> list[dict[str, Any]]:
    return [{"prompt": f"{n}?", "answer": n, "level": n % 2} for n in range(count)]


def test_a_list_a_dataset_and_a_file_are_the_same(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows())) + "\n\n")
    datasets = pytest.importorskip("datasets")
    forms = [rows(), iter(rows()), datasets.Dataset.from_list(rows()), file, str(file)]
    found = [Items(form).first() for form in forms]
    assert all(one == found[0] for one in found)
    assert found[0][1] == Item(1, "1?", 1, {}, {"level": 1})
    assert [one.key for one in found[0]] == [one.key for one in found[3]]


def test_an_endless_iterable_is_read_as_far_as_it_is_needed() -> None:
    read = []

    def endless() -> Any:
        for number in itertools.count():
            read.append(number)
            yield {"prompt": str(number)}

    items = Items(endless())
    assert [one.prompt for one in items.first(3)] == ["0", "1", "2"]
    assert items[1].prompt == "1"
    assert len(read) == 3


def test_messages_are_gone_on_with() -> None:
    asked = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello?"}]
    for name in ("prompt", "messages"):
        item = item_of({name: asked, "info": '{"a": 1}'}, 0)
        assert item.asked == asked
        assert item.text == "Hello?"
        assert item.info == {"a": 1}


def test_the_key_is_that_of_the_content() -> None:
    one, other = item_of(rows()[1], 0), item_of(rows()[1], 7)
    assert one.key == other.key
    assert item_of({**rows()[1], "answer": 2}, 0).key != one.key


WRONG: list[tuple[Any, str]] = [
    ([{"answer": 1}], "row 0 of the dataset has neither 'prompt' nor 'messages'; it has answer"),
    ([{"prompt": "x"}, {"prompt": "  "}], "row 1 of the dataset has an empty prompt"),
    ([{"prompt": "x", "messages": [{"role": "user", "content": "x"}]}], "both 'prompt' and 'messages'"),
    (["text"], "row 0 of the dataset is str"),
    ([{"prompt": 5}], "prompt is int, and must be a text or messages"),
    ([{"prompt": []}], "prompt is an empty list"),
    ([{"prompt": [{"role": "nobody", "content": "x"}]}], "prompt is no list of messages"),
    ([{"prompt": "x", "info": "{"}], "info is a text that is not JSON"),
    ([{"prompt": "x", "info": 3}], "info is int"),
    ({"prompt": "x"}, "an environment's dataset is dict"),
    (5, "an environment's dataset is int"),
    ("nowhere.jsonl", "the dataset nowhere.jsonl cannot be read"),
]


@pytest.mark.parametrize(("given", "words"), WRONG)
def test_what_is_no_dataset_says_why(given: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Items(given).first()
    assert words in str(caught.value)


def test_a_line_that_is_no_json_has_its_number(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "x"}\n{"prompt": \n')
    with pytest.raises(ConfigError, match=r"rows.jsonl, line 2, is not JSON"):
        Items(file).first()
