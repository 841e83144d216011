"""Prompt: a value that renders, parses, and knows what it is made of."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest

from lllm.core import handlers
from lllm.errors import ConfigError, NameTakenError, ParseError, PromptError
from lllm.models import MCP, Message, Prompt, Reply, tool
from lllm.ports import HandlerContext


@dataclass
class Answer:
    text: str


@tool
def look(place: str) -> str:
    """Looks."""
    return place


def test_a_value() -> None:
    one = Prompt("a/b", "Hi {name}", xml_tags=["x"], functions=[look])
    assert one == Prompt("a/b", "Hi {name}", xml_tags=("x",), functions=(look,))
    assert hash(one) == hash(one.with_())
    assert one.xml_tags == ("x",)
    assert Prompt.__lllm_kind__ == "prompt"
    with pytest.raises(FrozenInstanceError):
        one.path = "c"  # type: ignore[misc]


def test_rendering() -> None:
    prompt = Prompt("p", 'Say {word} as {"json": {{}}}.')
    assert prompt.render({"word": "hi"}) == 'Say hi as {"json": {{}}}.'
    assert prompt.variables == ("word",)
    with pytest.raises(PromptError, match="missing argument word"):
        prompt.render()
    with pytest.raises(PromptError, match=r"unknown argument wrod \(did you mean word\?\)"):
        prompt.render({"word": "x", "wrod": "y"})


def test_declared_arguments() -> None:
    prompt = Prompt("p", "def f({x}): return {word}", args=["word"])
    assert prompt.variables == ("word",)
    assert prompt.render({"word": 1}) == "def f({x}): return 1"


def test_handlers_and_parser_have_arguments_too() -> None:
    def parser(content: str, limit: int, *, mode: str = "x", **rest: Any) -> str:
        return content

    prompt = Prompt("p", "{a}", parser=parser, exception_prompt="{errors} {b}", final_prompt="{results} {a}")
    assert prompt.variables == ("a", "b")
    assert prompt.parser_args == ("limit", "mode")
    assert prompt.render({"a": 1, "b": 2, "limit": 3}) == "1"
    with pytest.raises(PromptError, match="missing argument b"):
        prompt.render({"a": 1})


def test_pickling() -> None:
    prompt = Prompt("p", "{x}", format=Answer, functions=[look])
    assert prompt.tools == (look,)
    assert prompt.reply_format.load('{"text": "a"}') == Answer("a")
    prompt.fingerprint()
    again = pickle.loads(pickle.dumps(prompt))
    assert again == prompt
    assert again.fingerprint() == prompt.fingerprint()
    assert pickle.loads(pickle.dumps(prompt.reply_format)) == prompt.reply_format


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"path": ""}, "a prompt's path is ''"),
        ({"path": None}, "a prompt's path is None"),
        ({"prompt": None}, "prompt 'p': prompt is NoneType; it is text"),
        ({"xml_tags": "answer"}, "xml_tags is 'answer'; it is a list"),
        ({"xml_tags": ["<a>"]}, "prompt 'p': '<a>' is not a tag name"),
        ({"signal_tags": ["a b"]}, "'a b' is not a tag name"),
        ({"required_md_tags": ["a b"]}, "'a b' is not a code block's name"),
        ({"functions": look}, "functions is Function"),
        ({"parser": "tags"}, "parser is 'tags'; it is a function"),
        ({"final_prompt": 3}, "final_prompt is 3; it is text or a function"),
        ({"mcp_servers": ["x"]}, "'x' is not an MCP server"),
        (
            {"mcp_servers": [MCP("m", command="c")]},
            "prompt 'p': mcp_servers is not supported in this version of lllm",
        ),
        ({"allow_web_search": True}, "prompt 'p': allow_web_search is not supported in this version of lllm"),
        (
            {"computer_use_config": {"a": 1}},
            "prompt 'p': computer_use_config is not supported in this version of lllm",
        ),
        ({"args": ["a-b"]}, "'a-b' is not an argument's name"),
        ({"format": Answer, "md_tags": ["json"]}, "both a format and tags"),
    ],
)
def test_refused(fields: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Prompt(**{"path": "p", "prompt": "", **fields})
    assert error in str(caught.value)


def test_what_is_not_in_this_version_may_be_empty() -> None:
    assert Prompt("p", "", mcp_servers=[], allow_web_search=False, computer_use_config=None) == Prompt(
        "p", ""
    )
    assert Prompt("p", "", computer_use_config={}).prompt == ""


def test_parsing() -> None:
    plain = Prompt("p", "")
    assert not plain.has_parser
    assert plain.parse("as it is") == "as it is"
    tagged = Prompt("p", "", xml_tags=["a"], required_xml_tags=["b"], signal_tags=["done"])
    assert tagged.has_parser
    found = tagged.parse("<b>1</b><done/>")
    assert found == {
        "raw": "<b>1</b><done/>",
        "xml_tags": {"a": [], "b": ["1"]},
        "md_tags": {},
        "signal_tags": {"done": True},
    }
    with pytest.raises(ParseError) as caught:
        tagged.parse("<a>1")
    assert caught.value.errors == ["tag <a> is opened and never closed", "missing required tag <b>"]


def test_format() -> None:
    prompt = Prompt("p", "", format=Answer)
    assert prompt.has_parser
    assert prompt.reply_format.load('{"text": "x"}') == Answer("x")
    assert Prompt("p", "").reply_format is None
    with pytest.raises(ConfigError):
        _ = Prompt("p", "", format=3).reply_format


def test_tools() -> None:
    def plain(x: int) -> int:
        return x

    assert [f.name for f in Prompt("p", "", functions=[look, plain]).tools] == ["look", "plain"]
    named = Prompt("p", "", functions=["reader/news", look])
    with pytest.raises(ConfigError, match="'reader/news' is a tool's name"):
        _ = named.tools
    assert [f.name for f in named.tools_with(lambda name: {"name": name.replace("/", "_")})] == [
        "reader_news",
        "look",
    ]
    with pytest.raises(NameTakenError):
        _ = Prompt("p", "", functions=[look, look]).tools


def parser_one(content: str) -> str:
    return content


def parser_two(content: str) -> str:
    return content.strip()


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"prompt": "other"}, {"template"}),
        ({"args": ()}, {"template"}),
        ({"xml_tags": ("x",)}, {"tags"}),
        ({"format": {"type": "object"}}, {"format"}),
        ({"functions": (look,)}, {"functions"}),
        ({"functions": ("named",)}, {"functions"}),
        ({"final_prompt": "stop"}, {"handlers"}),
        ({"exception_prompt": parser_one}, {"handlers"}),
        ({"parser": parser_two}, {"parser"}),
        ({"path": "q", "description": "d"}, set()),
    ],
)
def test_a_fingerprint_names_what_changed(change: dict[str, Any], parts: set[str]) -> None:
    before = Prompt("p", "text", parser=parser_one)
    after = before.with_(**change)
    one, two = before.fingerprint(), after.fingerprint()
    assert list(one) == ["template", "tags", "format", "functions", "handlers", "parser"]
    assert {key for key in one if one[key] != two[key]} == parts
    assert before.fingerprint() == Prompt("p", "text", parser=parser_one).fingerprint()


# --- handlers --------------------------------------------------------------------------------------------------------


def context(**changes: Any) -> HandlerContext:
    values: dict[str, Any] = {
        "kind": "exception",
        "errors": ["missing required tag <a>"],
        "reply": Reply("bad"),
        "results": [{"name": "add", "arguments": '{"a":1}', "content": "2", "ok": True}],
        "args": {"topic": "tides", "errors": "mine"},
        "attempt": 2,
    }
    return HandlerContext(**{**values, **changes})


def test_default_texts() -> None:
    assert handlers.exception_message(None, context()) == (
        Message(
            "user",
            "Your last reply could not be used:\nmissing required tag <a>\nAnswer again, in the format asked for.",
        ),
    )
    assert handlers.interrupt_message(None, context()) == ()
    assert handlers.final_message(None, context()) == (Message("user", handlers.FINAL_PROMPT),)


def test_handler_templates() -> None:
    text = "{topic} {attempt} {error_message} {errors} {results} {call_results} {content} {other} {{errors}}"
    (message,) = handlers.interrupt_message(text, context(errors=["a {topic}", "b"]))  # type: ignore[misc]
    assert message.text == (
        'tides 2 - a {topic}\n- b - a {topic}\n- b add({"a":1}) -> 2 add({"a":1}) -> 2 bad {other} {{errors}}'
    )


async def test_handler_functions() -> None:
    assert handlers.final_message(lambda c: f"{c.kind} {c.attempt}", context()) == (
        Message("user", "exception 2"),
    )
    two = [Message("system", "s"), "u", {"role": "user", "content": "d"}]
    assert handlers.final_message(lambda c: two, context()) == (
        Message("system", "s"),
        Message("user", "u"),
        Message("user", "d"),
    )
    assert handlers.final_message(lambda c: None, context()) == ()

    async def later(told: HandlerContext) -> str:
        return told.errors[0]

    awaitable = handlers.exception_message(later, context())
    assert handlers.messages(await awaitable) == (Message("user", "missing required tag <a>"),)  # type: ignore[misc]
    with pytest.raises(ConfigError, match="a handler returned int"):
        handlers.final_message(lambda c: 3, context())
