"""Checks that the questions for judging the search over operations are fair: they must not quote what they look for."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from tests.proxies.openapi.documents import github

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
FILE = json.loads((Path(__file__).parent / "github_questions.json").read_text("utf-8"))
QUESTIONS: list[dict[str, Any]] = FILE["questions"]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower().replace("'", ""))


def contains(text: list[str], phrase: list[str]) -> bool:
    return any(text[start : start + len(phrase)] == phrase for start in range(len(text) - len(phrase) + 1))


@pytest.fixture(scope="module")
def summaries() -> dict[str, str]:
    return {
        operation["operationId"]: operation["summary"]
        for path in github()["paths"].values()
        for method, operation in path.items()
        if method in METHODS
    }


def test_half_of_the_questions_are_held_out() -> None:
    held_out = set(random.Random(FILE["seed"]).sample(range(50), 25))
    assert [one["set"] for one in QUESTIONS] == ["held_out" if i in held_out else "tune" for i in range(50)]
    assert len({one["question"] for one in QUESTIONS}) == 50


def test_right_operations_exist(summaries: dict[str, str]) -> None:
    assert len(summaries) == 1223
    assert all(one["right"] for one in QUESTIONS)
    assert [name for one in QUESTIONS for name in one["right"] if name not in summaries] == []


def test_no_question_quotes_a_summary_or_id(summaries: dict[str, str]) -> None:
    quotes = []
    for one in QUESTIONS:
        question = words(one["question"])
        for name in one["right"]:
            summary = words(summaries[name])
            phrases = [summary[start : start + 3] for start in range(len(summary) - 2)] or [summary]
            phrases += [words(name), words(name.rpartition("/")[2])]
            quotes += [(one["question"], name, phrase) for phrase in phrases if contains(question, phrase)]
            if name in one["question"]:
                quotes.append((one["question"], name, [name]))
    assert quotes == []
