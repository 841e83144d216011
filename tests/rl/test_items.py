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
    ([{"prompt": [{"role": "nobody", "content": "x"}]}], "prompt is not a list of messages"),
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


def broken() -> Any:
    yield {"prompt": "a"}
    raise OSError("the disk is gone")


def test_rows_after_a_wrong_one_are_never_taken_for_all(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "a"}\n{"prompt"\n{"prompt": "c"}\n')
    wrong: list[tuple[Any, str]] = [
        ([{"prompt": "a"}, {"answer": 1}, {"prompt": "c"}], "row 1 of the dataset has neither"),
        (file, "rows.jsonl, line 2, is not JSON"),
        (broken(), "the dataset raised OSError after 1 rows: the disk is gone"),
    ]
    for form, words in wrong:
        items = Items(form)
        assert [one.prompt for one in items.first(1)] == ["a"]
        for _ in range(3):
            with pytest.raises(ConfigError) as caught:
                Items(items).first()
            assert words in str(caught.value)


def test_columns_that_later_rows_have() -> None:
    from lllm.rl import RLEnv

    def deep(completion: str, level: int) -> float:
        return level

    later = [{"prompt": "a"}, {"prompt": "b", "level": 2}]
    assert RLEnv(later, deep, setup=lambda level: level).setup_hook is not None
    for form in (later[:1], iter(later)):  # a generator may have no end, and is not read to find them
        with pytest.raises(ConfigError, match="'level'"):
            RLEnv(form, deep)


def test_new_names_of_columns(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "a", "prompt": "old", "level": 1}\n{"level": 2}\n')
    items = Items(file, {"prompt": "question"})
    assert items.ends
    assert items.first(1) == [Item(0, "a", None, {}, {"level": 1})]
    with pytest.raises(ConfigError, match=r"row 1 of rows.jsonl has no column 'question'; it has level"):
        items.first()


def test_rows_are_found_by_key_and_place() -> None:
    items = Items([{"prompt": "a"}, {"prompt": "b"}, {"prompt": "a"}])
    first, second, third = items.first()
    assert first.key == third.key
    assert items.find(first.key, 2) is third
    assert items.find(first.key, 9) is first
    assert items.find(second.key, 0) is second
    assert items.find("none", 0) is None


def test_rows_without_an_end_are_searched_as_far_as_the_place() -> None:
    read = []

    def endless() -> Any:
        for number in itertools.count():
            read.append(number)
            yield {"prompt": str(number)}

    items = Items(endless())
    assert not items.ends
    assert items.find(item_of({"prompt": "2"}, 0).key, 2) is items.first(3)[2]
    assert items.find("none", 4) is None
    assert len(read) == 5


def test_the_key_is_that_of_the_row_as_it_was_read() -> None:
    row = {"prompt": "a", "board": [1]}
    items = Items([row])
    key = items[0].key
    row["board"].append(2)  # type: ignore[attr-defined]
    assert items[0].key == key


@pytest.mark.parametrize("count", [-1, "2", True, 1.0])
def test_a_number_of_rows_that_is_none(count: Any) -> None:
    with pytest.raises(ConfigError, match="the number of rows must be"):
        Items(rows()).first(count)


def test_a_file_with_brackets_says_what_to_write(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text('[{"prompt": "x"}]')
    with pytest.raises(ConfigError, match="Write one row a line"):
        Items(file).first()


def test_a_dataset_of_splits_names_one() -> None:
    datasets = pytest.importorskip("datasets")
    both = datasets.DatasetDict({"train": datasets.Dataset.from_list(rows())})
    with pytest.raises(ConfigError, match=r"Choose one of its splits: dataset\['train'\]"):
        Items(both)


@pytest.mark.parametrize("form", [iter, lambda given: map(dict, given), lambda given: (one for one in given)])
def test_an_iterator_that_is_given_twice_is_read_once(form: Any) -> None:
    given = form(rows())
    first, second = Items(given), Items(given)
    assert [one.prompt for one in first.first(1)] == ["0?"]
    assert [one.prompt for one in second] == [one.prompt for one in first] == ["0?", "1?", "2?"]


def test_instances_share_the_iterator_of_their_class() -> None:
    from lllm.rl import RLEnv

    class Once(RLEnv):
        dataset = (one for one in rows())
        rewards = (lambda completion: 1,)

    class Further(Once):
        pass

    assert [len(kind().items) for kind in (Once, Further, Once)] == [3, 3, 3]
