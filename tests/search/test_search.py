"""Finding tools by what they do."""

from __future__ import annotations

from importlib import resources

import pytest

from lllm.models.function import Function
from lllm.search import Described, Index
from lllm.search.asked import Asked, _marks, asked
from lllm.search.query import LONGEST, read
from lllm.search.synonyms import parsed, thesaurus
from lllm.search.words import stem, terms
from lllm.tools.search import Index as Tools
from tests.search.operations import documentation, questions, recall, tools


@pytest.fixture(scope="module")
def github() -> Tools:
    return Tools(list(tools().values()))


@pytest.mark.parametrize(("which", "least"), [("tune", 23), ("validation", 73), ("development", 410)])
def test_users_find_operations_in_their_words(github: Tools, which: str, least: int) -> None:
    assert recall(github, questions(which)) >= least


def test_users_find_operations_of_another_api() -> None:
    among = documentation()
    assert recall(Tools(list(among.values())), questions("documentation"), among=among) >= 24


def index(*texts: str) -> Index[str]:
    return Index(texts, lambda text: Described(text.partition("|")[0], text.partition("|")[2]))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("drop the customer", "Delete a customer"),  # a verb of the same meaning
        ("give the money back", "Create a refund"),  # a phrase
        ("hand this big old project over to anna", "Transfer a repository"),  # a verb and its particle
        ("switch the alarm off", "Disable an alarm"),
        ("I no longer want to follow bob", "Unfollow a user"),  # the opposite
        ("change the color of a label", "Update a label"),
        ("organisations that I belong to", "List organizations"),  # British
        (
            "open a ticket about the refund that never came",
            "Create an issue",
        ),  # content is not what is asked for
        ("what is in notes/todo.md", "Get repository content"),  # how a thing looks
    ],
)
def test_queries_are_understood(query: str, found: str) -> None:
    texts = (
        "Delete a customer",
        "List customers",
        "Create a refund",
        "List payments",
        "Transfer a repository",
        "Delete a repository",
        "Get repository content",
        "Disable an alarm",
        "Enable an alarm",
        "Follow a user",
        "Unfollow a user",
        "Update a label",
        "Delete a label",
        "List organizations",
        "Create an issue",
        "List issues",
    )
    assert index(*(f"x|{text}" for text in texts)).search(query, 1) == [f"x|{found}"]


def test_names_are_read_in_each_spelling() -> None:
    for name in ("getInvoice", "get_invoice", "api__get-invoice"):
        assert index(f"{name}|", "listCustomers|").search("invoice", 1) == [f"{name}|"]


def test_plain_tools_come_before_special_and_old_ones() -> None:
    found = index(
        "a|Create an issue field value of a project",
        "issues-create-legacy|Create an issue",
        "b|Create an issue",
    ).search("new issue", 3)
    assert found[0] == "b|Create an issue"


@pytest.mark.parametrize("query", ["", "   ", "the of and", "qzxv", "\U0001f680", "12 7", "((", "\x00"])
def test_nothing_is_found_where_no_word_means_anything(query: str) -> None:
    assert index("a|Create an issue", "b|List labels").search(query, 5) == []


def test_tools_that_are_only_a_verb_are_found() -> None:
    calculator = index("add|Adds.", "multiply|Multiplies.", "round_off|Rounds.")
    for query in ("add two and two", "sum these up", "adding things"):
        assert calculator.search(query, 1) == ["add|Adds."]
    assert calculator.search("rounding", 1) == ["round_off|Rounds."]


def test_a_question_leads_to_what_others_asked_for_with_the_like() -> None:
    texts = ("List users", "List repositories", "List repository contributors", "List team members")
    # none of these words is in the title
    assert index(*(f"x|{text}" for text in texts)).search("I'd thank everybody who helped", 1) == [
        f"x|{texts[2]}"
    ]


def test_who_says_what_a_tool_is_called_finds_it_whatever_others_ask_for(github: Tools) -> None:
    things = "customer order invoice refund coupon product shelf basket".split()
    titles = [f"{verb} a {thing}" for thing in things for verb in ("List", "Create", "Delete", "Update")]
    shop = index(*(f"x|{title}" for title in titles))
    assert [title for title in titles if shop.search(title.lower(), 1) != [f"x|{title}"]] == []
    named = [one.description.partition("\n")[0] for one in list(tools().values())[::12]]
    firsts = {
        title: [one.description.partition("\n")[0] for one in github.search(title, 5)] for title in named
    }
    assert [title for title, found in firsts.items() if title not in found] == []


def test_questions_are_alike_by_words_and_their_order() -> None:
    some = Asked("# not read\n\nPay a bill | settle what I owe; pay them\nList bills | what do I owe\n")
    assert [title.verb for title in some.titles] == ["pay", "list"]
    assert [number for _, number in some.nearest("what do I owe?")] == [1, 0]
    assert some.nearest("what do I owe?")[0][0] == pytest.approx(1)
    for nothing in ("", "the of and", "12 7", "who", "zebra"):
        assert some.nearest(nothing) == []
    assert Asked("").nearest("what do I owe") == []
    # the order of marks is that of the words, or sums would differ from process to process
    assert list(_marks("zebras eat tall grass")) == [
        "zebra",
        "eat",
        "tall",
        "grass",
        "zebra eat",
        "eat tall",
        "tall grass",
    ]


def test_examples_do_not_hold_what_the_search_is_judged_by() -> None:
    text = resources.files("lllm.search").joinpath("asked.txt").read_text("utf-8")
    lines = [line.partition(" | ") for line in text.splitlines() if line.strip() and line[0] != "#"]
    assert len({title for title, _, _ in lines}) == len(lines) == len(asked().titles)
    known = {one.strip() for _, _, said in lines for one in said.split(";")}
    assert all(known)
    judged = [one for which in ("tune", "held_out", "validation") for one, _ in questions(which)]
    assert not any(one.replace(";", ",") in known for one in judged)


def test_what_is_said_of_parameters_counts() -> None:
    first = Function(
        "a", "Set a value", {"type": "object", "properties": {"x": {"description": "How loud it is."}}}
    )
    second = Function(
        "b", "Set a value", {"type": "object", "properties": {"x": {"description": 7}, "y": True}}
    )
    assert Tools([second, first]).search("make it less loud", 1) == [first]


def test_an_empty_index_finds_nothing() -> None:
    assert index().search("issue", 5) == []


def test_only_the_beginning_of_a_long_query_is_read() -> None:
    assert len(read("ticket invoice " * 10_000).concepts) <= LONGEST
    for word in ("a", "a.", "/", "A_", "1.", "@", "f"):
        read(word * 200_000)  # ends at once


def test_a_tool_without_words_does_no_harm() -> None:
    assert (
        Tools([Function("x", "", {}), Function("weather", "", {})]).search("weather", 5)[0].name == "weather"
    )


def test_equal_tools_keep_their_order() -> None:
    same = [f"{n}|List labels" for n in range(9)]
    assert index(*same).search("labels", 9) == same


def test_stems() -> None:
    assert [
        stem(word) for word in ("tickets", "deleting", "policies", "boxes", "status", "news", "organisation")
    ] == [
        *("ticket", "delet", "policy", "box", "status", "news", "organize"[:-1]),
    ]
    assert terms("What's the company's list of users?") == ["company", "list", "user"]


def test_the_thesaurus_is_well_formed() -> None:
    known = thesaurus()
    assert len(known.verbs) > 50
    assert len(known.nouns) > 300
    for line in (*known.verbs, *known.nouns):
        assert all(line.terms)
        assert line.said
        assert all(phrase and phrase == phrase.lower() for phrase, _ in line.said)
    assert parsed("[nouns]\nbill, invoice | money due, owed~, maybe~~").nouns[0] == (
        ("bill", "invoice"),
        (("money due", 1.0), ("owed", 0.5), ("maybe", 0.25)),
    )
