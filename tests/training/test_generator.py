"""The generator of the embedded model's corpus: held-out phrasings stay out, and every call computes its answer."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.embedded import (
    activities,
    arithmetic,
    chat,
    dialogues,
    formats,
    numerals,
    phrases,
    prompts,
    questions,
    stories,
    tools,
    topics,
)
from training.embedded.split import Pool, Source, expand, is_held

POOLS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": pool
    for module in (activities, formats, phrases, prompts, stories, tools, topics)
    for name, pool in vars(module).items()
    if isinstance(pool, Pool)
}


@pytest.mark.parametrize("name", POOLS)
def test_trained_and_held_out_templates_are_disjoint(name: str) -> None:
    pool = POOLS[name]
    trained = {Pool.key(item) for item in pool.trained}
    held = {Pool.key(item) for item in pool.held}
    assert trained
    assert not trained & held
    assert len(trained) + len(held) == len(pool.items)


def test_training_never_draws_a_held_out_template_or_expression() -> None:
    rng = Source(5)
    for _ in range(500):
        expression = questions.ask(rng).expression
        assert expression in questions.CONSTANTS or not is_held(expression)
        dialogues.draw(rng)
    assert rng.unseen == 0


def test_held_out_questions_have_unseen_phrases_and_numbers() -> None:
    rng = Source(6)
    for asked in range(1, 200):
        assert is_held(questions.ask(rng, held=True).expression)
        assert rng.unseen >= asked


def test_a_tenth_or_so_of_all_templates_is_held_out() -> None:
    everything = sum(len(pool.items) for pool in POOLS.values())
    assert 0.06 < sum(len(pool.held) for pool in POOLS.values()) / everything < 0.11


@pytest.mark.parametrize("kind", questions.KINDS)
def test_every_question_evaluates_to_its_value(kind: str) -> None:
    rng = random.Random(kind)
    for _ in range(150):
        question = questions.ask(rng, kind=kind)
        assert arithmetic.evaluate(question.expression) == question.value
        assert "{" not in question.text
        assert "[" not in question.text


def test_every_call_of_every_dialogue_is_valid_and_answered() -> None:
    rng = random.Random(7)
    calls = 0
    for _ in range(800):
        dialogue = dialogues.draw(rng)
        offered = {tool.name: tool for tool in dialogue.tools}
        for place, message in enumerate(dialogue.messages):
            if not message.calls:
                continue
            (call,) = message.calls
            arguments = json.loads(call.arguments)
            if message.trained:
                calls += 1
                assert tuple(arguments) == offered[call.name].arguments
            if place + 1 == len(dialogue.messages):
                continue
            result = dialogue.messages[place + 1]
            assert result.role == "tool"
            reply = dialogue.messages[place + 2]
            if (
                message.trained
                and reply.trained
                and reply.content == f"The answer is {result.content.strip()}."
            ):
                assert arithmetic.same(float(result.content), call.value) or "." in result.content
    assert calls > 400


def test_the_same_seed_gives_the_same_corpus() -> None:
    first, second = (
        [chat.text(dialogues.draw(rng)) for _ in range(100)] for rng in (random.Random(3), random.Random(3))
    )
    assert first == second


@given(st.integers(0, 999_999), st.booleans(), st.booleans())
def test_number_words_read_back(value: int, joined: bool, hyphen: bool) -> None:
    ones = {numerals.words(number): number for number in range(20)}
    tens = {numerals.words(number): number for number in range(20, 100, 10)}
    total = group = 0
    for word in (
        numerals.words(value, joined=joined, hyphen=hyphen).replace("-", " ").replace(" and ", " ").split()
    ):
        if word == "hundred":
            group *= 100
        elif word == "thousand":
            total, group = group * 1000, 0
        else:
            group += ones.get(word, tens.get(word, 0))
    assert total + group == value


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("17 * 23", 391),
        ("(2 + 3) * 4 - 5", 15),
        ("-4 ** 2", -16),
        ("15 * 80 / 100", 12),
        ("17 % 5", 2),
        ("16 ** 0.5", 4),
    ],
)
def test_evaluate(expression: str, value: float) -> None:
    assert arithmetic.evaluate(expression) == value


@pytest.mark.parametrize(
    "expression",
    ["", "x", "1 +", "__import__('os')", "2 ** 999", "(-8) ** 0.5", "'a' * 3", "True + 1", "1 < 2"],
)
def test_evaluate_refuses(expression: str) -> None:
    with pytest.raises(ValueError):
        arithmetic.evaluate(expression)


def test_steps_compute_the_whole_expression() -> None:
    rng = random.Random(8)
    for _ in range(200):
        tool_set = tools.operation_set(rng)
        question = questions.ask(rng)
        found = tools.steps(tool_set, question.expression)
        if found is None:
            continue
        results: list[float] = []
        for sign, left, right in found:
            sides = [
                results[int(side[1:])] if side.startswith("#") else float(side) for side in (left, right)
            ]
            results.append(arithmetic.evaluate(f"({sides[0]!r}) {sign} ({sides[1]!r})"))
        assert arithmetic.same(results[-1], question.value)


def test_formats_write_what_they_ask_for() -> None:
    rng = random.Random(9)
    for _ in range(300):
        form = formats.draw(rng)
        reply = form.number("391", "17 * 23")
        assert "391" in reply
        if form.kind in ("json", "json_two"):
            assert json.loads(reply)[form.key] == 391
        if form.kind in ("xml", "xml_two"):
            assert f"<{form.key}>391</{form.key}>" in reply


def test_alternatives_expand() -> None:
    rng = random.Random(1)
    assert {expand(rng, "[a|b]c[|d]") for _ in range(60)} == {"ac", "bc", "acd", "bcd"}
