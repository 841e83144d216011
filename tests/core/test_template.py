"""Templates: what is replaced, what stays, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lllm.core.template import fill, places, render, variables
from lllm.errors import PromptError


@pytest.mark.parametrize(
    ("template", "args", "expected"),
    [
        ("Hello {name}!", {"name": "Ada"}, "Hello Ada!"),
        ("{a}{b}{a}", {"a": 1, "b": 2.5}, "12.51"),
        ("no places", {}, "no places"),
        ('{"user": {name}, "n": {}}', {"name": "Ada"}, '{"user": Ada, "n": {}}'),
        ('{"user": {"id": {name}}}', {"name": 7}, '{"user": {"id": 7}}'),
        ("{ name } {name.x} {name[0]} {name!r} {name:>3} {0} {}", {}, None),
        ("{{name}}", {}, None),
        ("{{{name}}}", {}, None),
        ("{{name}} {name}", {"name": "x"}, "{{name}} x"),
        ("{{a}, {b}}", {"a": 1, "b": 2}, "{1, 2}"),
        ("\\boxed{answer} and {return}", {}, None),
        ("{größe} {名前}", {"größe": 1, "名前": 2}, "1 2"),
        ("{a}", {"a": "{b} {{c}} \\1 {a}"}, "{b} {{c}} \\1 {a}"),
        ("", {}, ""),
    ],
)
def test_only_places_change(template: str, args: dict[str, object], expected: str | None) -> None:
    assert render(template, args) == (template if expected is None else expected)


def test_braces_are_the_same_with_and_without_arguments() -> None:
    literal = '{{x}} {"a": {{}}} f"{{y}}" {{ z }}'
    assert render(literal) == literal
    assert render(f"{literal} {{name}}", {"name": "n"}) == f"{literal} n"


def test_places_and_wanted_names_come_in_order() -> None:
    text = "{b} {a} {b} {{c}} {class} \\frac{x}{y} {_z}"
    assert variables(text) == ("b", "a", "y", "_z")
    assert places(text) == ("b", "a", "class", "x", "y", "_z")


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(PromptError) as caught:
        render("{topic} {style} {words}", {"topc": "x", "words": None})
    assert caught.value.message == (
        "missing arguments topic, style; unknown argument topc (did you mean topic?); "
        "argument words is None (give '' for nothing). Wanted: topic, style, words. Given: topc, words"
    )
    assert "{{name}}" in str(caught.value)


def test_declared_names_are_wanted_and_nothing_else() -> None:
    assert render("{a} {b}", {"a": 1}, declared=["a"]) == "1 {b}"
    assert render("{a} {b}", {"a": 1, "b": 2}, declared=["a"]) == "1 2"
    assert render("{a}", {}, declared=[]) == "{a}"
    assert render("no place", {"a": 1}, declared=["a"]) == "no place"
    with pytest.raises(PromptError, match="missing argument b"):
        render("{a}", {"a": 1}, declared=["a", "b"])


def test_latex_and_keywords_are_filled_when_given() -> None:
    assert render("\\boxed{answer}", {"answer": 42}) == "\\boxed42"


def test_extra_arguments_pass_only_when_asked() -> None:
    assert render("x", {"extra": 1}, strict=False) == "x"
    with pytest.raises(PromptError, match="unknown argument extra"):
        render("x", {"extra": 1})


def test_fill_leaves_what_has_no_argument() -> None:
    assert fill("{a} {b}", {"b": 1}) == "{a} 1"


@given(st.text(alphabet="{}ab\\ \n\"'$"))
def test_without_arguments_a_text_is_unchanged(text: str) -> None:
    assert render(text, {}, declared=()) == text


@given(st.text(alphabet="{}a ", max_size=30), st.text(max_size=20))
def test_a_value_stands_in_every_place(text: str, value: str) -> None:
    args = {"a": value} if "a" in places(text) else {}
    rendered = render(text, args, declared=tuple(args))
    # splitting at the places is an independent way to the same text
    expected, index = "", 0
    while index < len(text):
        doubled = text[index - 1 : index] == "{" and text[index + 3 : index + 4] == "}"
        if text.startswith("{a}", index) and not doubled:
            expected, index = expected + value, index + 3
        else:
            expected, index = expected + text[index], index + 1
    assert rendered == expected
