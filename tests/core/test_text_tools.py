"""Tool calls in text: what is written into a request, and what is read from a reply."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lllm import Agent, FunctionCall, MemoryLog, Message, ScriptedBackend, tool
from lllm.core.text_tools import Held, read, written
from lllm.models.reply import Reply
from lllm.ports import Capabilities, Restart, TextDelta
from lllm.replay import replay_session

NONE = Capabilities(tools=False)
CITY = {"name": "weather", "arguments": {"city": "Bern"}}


@tool(effect="pure")
def weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


def calls(content: str) -> list[tuple[str, Any]]:
    out: list[tuple[str, Any]] = []
    for one in read(Reply(content)).tool_calls:
        try:
            out.append((one.name, one.parsed()))
        except ValueError:
            out.append((one.name, one.arguments))
    return out


@pytest.mark.parametrize(
    "content",
    [
        "<tool_call><function=weather>",
        "<tool_call>\n<function=weather>\n<parameter=city>\nBe",
        "<tool_call><function=weather><parameter=city>Bern</parameter>",
        '<tool_call>{"name": "weather", "arguments": {"city": "Be',
        '<tool_call>{"name": "weather"',
        "<tool_call><function=weather><parameter=city>Bern</parameter></function></tool_call><tool_call>"
        "<function=weather>",
    ],
)
def test_a_call_that_was_cut_off_is_not_run(content: str) -> None:
    got = read(Reply(content, finish_reason="length"))
    *_, last = got.tool_calls
    assert (last.name, got.finish_reason) == ("weather", "length")
    with pytest.raises(ValueError, match=r"\S"):
        last.parsed()
    for whole in got.tool_calls[:-1]:
        assert whole.parsed() == {"city": "Bern"}


WEATHER = [("weather", {"city": "Bern"})]
JSON = json.dumps(CITY)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (f"<tool_call>{JSON}</tool_call>", WEATHER),
        (f"<tool_call>\n{JSON}\n</tool_call>\n", WEATHER),
        (f"I look.\n<tool_call>\n{JSON}", WEATHER),
        (f"<tool_call>{JSON}<tool_call>{JSON}</tool_call>", WEATHER * 2),
        (f"<tool_call>{JSON}</tool_call> <tool_call>{JSON}</tool_call>", WEATHER * 2),
        (f"<tool_call>[{JSON}, {JSON}]</tool_call>", WEATHER * 2),
        (f"<tool_call>{JSON}\n{JSON}</tool_call>", WEATHER * 2),
        (f"<tool_call>```json\n{JSON}\n```</tool_call>", WEATHER),
        ('<tool_call>{"name": "weather", "parameters": {"city": "Bern"}}</tool_call>', WEATHER),
        (
            f"<tool_call>{json.dumps({**CITY, 'arguments': json.dumps(CITY['arguments'])})}</tool_call>",
            WEATHER,
        ),
        (f'<tool_call>{{"type": "function", "function": {JSON}}}</tool_call>', WEATHER),
        (
            "<tool_call><function=weather>\n<parameter=city>\nBern\n</parameter>\n</function></tool_call>",
            WEATHER,
        ),
        ('<tool_call><function=weather>{"city": "Bern"}</function></tool_call>', WEATHER),
        ('<tool_call>{"name": "weather"}</tool_call>', [("weather", {})]),
        (
            '<tool_call>{"name": "weather", "arguments": {"city": "Be</tool_call>',
            [("weather", '{"name": "weather", "arguments": {"city": "Be')],
        ),
        ("<tool_call>weather(Bern)</tool_call>", [("", "weather(Bern)")]),
        ("<tool_call></tool_call>", []),
        ("No call at all.", []),
    ],
)
def test_calls_are_read(content: str, wanted: list[Any]) -> None:
    assert calls(content) == wanted


def test_what_stands_before_a_call_is_the_content() -> None:
    found = read(Reply(f"I look.\n<tool_call>{JSON}</tool_call>"))
    assert (found.content, found.finish_reason) == ("I look.", "tool_calls")
    assert found.raw == f"I look.\n<tool_call>{JSON}</tool_call>"


def test_a_dialog_is_written_as_text() -> None:
    dialog = [
        Message("system", "Be kind."),
        Message("user", "And in Bern?"),
        Message("assistant", "I look.", tool_calls=(FunctionCall("1", "weather", '{"city": "Bern"}'),)),
        Message("tool", "rain", tool_call_id="1"),
    ]
    system, user, asked, result = written(dialog, [weather.spec()], "required")
    assert system.text.startswith("Be kind.\n\n# Tools")
    assert '{"name": "weather", "description": "The weather of a city."' in system.text
    assert system.text.endswith("You must call a function now.")
    assert user == dialog[1]
    assert (
        asked.text == 'I look.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'
    )
    assert not asked.tool_calls
    assert (result.role, result.text) == ("user", '<tool_response name="weather">\nrain\n</tool_response>')


def test_an_agent_calls_tools_in_text() -> None:
    store = MemoryLog()
    backend = ScriptedBackend([f"<tool_call>{JSON}</tool_call>", "It rains."], capabilities=NONE)
    reply = Agent("a", backend, tools=[weather], store=store).call("How is Bern?")
    assert reply.content == "It rains."
    assert [message.role for message in reply.messages] == ["user", "assistant", "tool", "assistant"]
    assert backend.requests[0].tools == ()
    assert (
        backend.requests[1].messages[-1].text
        == '<tool_response name="weather">\nrain in Bern\n</tool_response>'
    )
    assert reply.session is not None
    assert replay_session(reply.session, store=store).verified


def test_a_call_that_cannot_be_read_is_repaired() -> None:
    broken = '<tool_call>{"name": "weather", "arguments": {"city": "Be</tool_call>'
    script = [broken, f"<tool_call>{JSON}</tool_call>", "It rains."]
    backend = ScriptedBackend(script, capabilities=NONE)
    reply = Agent("a", backend, tools=[weather], store=MemoryLog()).call("How is Bern?")
    assert reply.content == "It rains."
    assert "not a JSON object" in "".join(message.text for message in backend.requests[1].messages)


def test_a_stream_shows_no_tags() -> None:
    script = [f"I look. <tool_call>{JSON}</tool_call>", "It <tool rains."]
    backend = ScriptedBackend(script, capabilities=NONE, chunk=3)
    agent = Agent("a", backend, tools=[weather], store=MemoryLog())
    texts = [delta.text for delta in agent.stream("How is Bern?") if isinstance(delta, TextDelta)]
    assert "".join(texts) == "I look. It <tool rains."


def test_what_was_held_back_is_shown_when_it_was_no_tag() -> None:
    held = Held()
    assert held.visible(TextDelta("a <tool")) == TextDelta("a ")
    assert held.visible(TextDelta("_c")) is None
    assert held.rest() == "<tool_c"
    assert held.visible(Restart("again")) == Restart("again")
    assert held.visible(TextDelta("<tool_call>{}")) is None
    assert held.visible(TextDelta("more")) is None
