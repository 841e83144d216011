"""Tools that are called by writing code: what is written into a request, and what is read from a reply."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lllm import Agent, FunctionCall, MemoryLog, Message, ScriptedBackend, tool
from lllm.core.code_tools import read, written
from lllm.errors import ConfigError
from lllm.models.parts import Image
from lllm.models.reply import Reply
from lllm.ports import Capabilities, Completed, TextDelta
from lllm.replay import replay_session

ran: list[str] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


@tool(effect="pure", concurrent=False, repeatable=True)
def python(code: str) -> str:
    """Runs Python code."""
    ran.append(code)
    if "fail" in code:
        raise ValueError("it failed")
    return f"{code!r} ran"


@tool(effect="pure", concurrent=False, repeatable=True)
def shell(command: str) -> str:
    """Runs commands."""
    ran.append(f"$ {command}")
    return f"{command} ran"


@tool(name="python", effect="pure")
def pythonic(script: str) -> str:
    """Runs a script."""
    return script


@tool(effect="pure")
def weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


def block(code: str, label: str = "python") -> str:
    return f"```{label}\n{code}\n```"


def code_agent(*replies: Any, tools: Any = (python, shell), **more: Any) -> tuple[Agent, ScriptedBackend]:
    backend = ScriptedBackend(list(replies))
    return Agent("coder", backend, tools=list(tools), tool_style="code", **more), backend


def test_a_block_is_a_call_and_its_output_comes_back() -> None:
    agent, backend = code_agent(
        f"I look.\n{block('x = 1')}\nNow I know.", f"{block('ls', 'bash')}", "It is 1."
    )
    assert agent("go").content == "It is 1."
    assert ran == ["x = 1", "$ ls"]
    first, second, third = backend.requests
    assert first.tools == second.tools == ()
    assert "# Code" in first.messages[0].text
    assert "Runs Python code." in first.messages[0].text
    assert "```bash" in first.messages[0].text
    assert [(m.role, m.text) for m in second.messages[1:]] == [
        ("user", "go"),
        ("assistant", f"I look.\n{block('x = 1')}"),
        ("user", "Output:\n'x = 1' ran"),
    ]
    assert third.messages[-1].text == "Output:\nls ran"


def test_only_the_last_block_is_run_and_the_model_is_told() -> None:
    agent, backend = code_agent(
        f"{block('a()')}\nthen\n{block('b()')}\nOutput: 5\n",
        f"{block('a()')}{chr(10) + block('b()') + chr(10) + block('c()')}",
        "done",
    )
    agent("go")
    assert ran == ["b()", "c()"]
    assert backend.requests[1].messages[-1].text == (
        "Output:\n[only the last block was run, the one before it was not]\n'b()' ran"
    )
    assert "the 2 before it were not" in backend.requests[2].messages[-1].text


def test_an_error_comes_back_and_code_that_cannot_be_compiled_is_run() -> None:
    agent, backend = code_agent(block("fail"), block("def f(:"), "done")
    agent("go")
    assert ran == ["fail", "def f(:"]
    assert "it failed" in backend.requests[1].messages[-1].text


def test_a_reply_without_a_block_is_the_answer() -> None:
    agent, _ = code_agent("It is `x`: <code>in prose</code>.")
    reply = agent("go")
    assert reply.content == "It is `x`: <code>in prose</code>."
    assert ran == []


def test_other_tools_are_called_between_tags() -> None:
    call = '<tool_call>{"name": "weather", "arguments": {"city": "Bern"}}</tool_call>'
    agent, backend = code_agent(call, block("x"), "rain", tools=(python, weather))
    assert agent("go").content == "rain"
    assert ran == ["x"]
    system = backend.requests[0].messages[0].text
    assert "<tools>" in system
    assert '"name": "python"' not in system
    assert "```bash" not in system
    assert "rain in Bern" in backend.requests[1].messages[-1].text


def test_shell_blocks_are_prose_without_the_tool() -> None:
    agent, _ = code_agent(block("ls", "bash"), tools=(python,))
    assert agent("go").content == block("ls", "bash")


def test_a_shell_of_another_kind_is_called_between_tags() -> None:
    @tool(name="shell", effect="pure")
    def other(where: str) -> str:
        """Opens a shell."""
        return where

    call = '<tool_call>{"name": "shell", "arguments": {"where": "here"}}</tool_call>'
    agent, backend = code_agent(call, block("ls", "bash"), tools=(python, other))
    assert agent("go").content == block("ls", "bash")
    assert '"name": "shell"' in backend.requests[0].messages[0].text
    assert backend.requests[1].messages[-1].text == '<tool_response name="shell">\nhere\n</tool_response>'


def test_other_tags() -> None:
    agent, backend = code_agent("<do>\nx = 1\n</do>", "done", code_tags=["<do>", "</do>"])
    agent("go")
    assert ran == ["x = 1"]
    assert "<do>\nprint(1 + 1)\n</do>" in backend.requests[0].messages[0].text
    assert backend.requests[1].messages[-2].text == "<do>\nx = 1\n</do>"


def test_a_block_that_was_cut_off_is_not_run() -> None:
    cut = Reply("I do.\n```python\nx = 1\ny = ", finish_reason="length")
    agent, backend = code_agent(cut, block("x = 1"), "done")
    assert agent("go").content == "done"
    assert ran == ["x = 1"]
    told = "\n".join(message.text for message in backend.requests[1].messages)
    assert "the code was not run: the reply was cut off by the token limit" in told


def test_a_block_that_ends_with_the_reply_is_run() -> None:
    agent, _ = code_agent("```python\nx = 1", "done")
    agent("go")
    assert ran == ["x = 1"]


def test_code_in_the_last_answer_is_a_part_of_it() -> None:
    agent, _ = code_agent(block("x"), f"Use this:\n{block('y')}", max_interrupt_times=1)
    assert agent("go").content == f"Use this:\n{block('y')}"
    assert ran == ["x"]


def test_people_see_all_that_is_written_also_in_a_replay() -> None:
    text = f"I look.\n{block('x = 1')}\nNow I know."
    log = MemoryLog()
    seen: list[str] = []

    def program() -> None:
        agent, _ = code_agent(text, "done")
        shown = []
        with agent.stream("go") as stream:
            for delta in stream:
                if isinstance(delta, TextDelta):
                    shown.append(delta.text)
                elif isinstance(delta, Completed):
                    shown.append("|")
        seen.append("".join(shown))

    import lllm

    with lllm.record("watched", store=log):
        program()
    assert seen == [f"{text}done|"]
    ran.clear()
    [session] = log.sessions(2)
    assert replay_session(session.id, store=log, entry=program).verified
    assert seen[1] == seen[0]
    assert ran == []


def test_the_record_names_the_form() -> None:
    def opening(**more: Any) -> dict[str, Any]:
        log = MemoryLog()
        agent, _ = code_agent("done", store=log, **more)
        agent("go")
        [session] = log.sessions(2)
        events = [json.loads(event) for event in log.read(session.id)]
        return next(event["data"] for event in events if event["kind"] == "CallStarted")

    assert opening()["text_tools"] == "code"
    assert "code_tags" not in opening()
    assert opening(code_tags=("<do>", "</do>"))["code_tags"] == ["<do>", "</do>"]


def test_images_come_behind_their_output() -> None:
    pixel = bytes.fromhex("89504e470d0a1a0a") + b"\0" * 20

    @tool(name="python", effect="pure")
    def plotting(code: str) -> list[Any]:
        """Runs code."""
        return ["a plot", Image(pixel, "image/png")]

    backend = ScriptedBackend([block("plot()"), "done"])
    backend.capabilities = Capabilities(tools=True, vision=True, tool_parts="tool")  # type: ignore[misc]
    Agent("coder", backend, tools=[plotting], tool_style="code")("go")
    output, image = backend.requests[1].messages[-2:]
    assert output.text.startswith("Output:\na plot")
    assert image.role == "user"
    assert not isinstance(image.content, str)
    assert any(part["type"] == "image_url" for part in image.content)


def test_calls_that_are_there_already_are_left_alone() -> None:
    reply = Reply(block("x"), tool_calls=(FunctionCall("1", "python", '{"code": "y"}'),))
    assert read(reply) is reply


def test_what_is_written_is_read_again() -> None:
    for code in ("x = 1", "s = '''\n```\n'''", "````", "print('ä')\n\nx"):
        call = FunctionCall("1", "python", json.dumps({"code": code}))
        [message] = written([Message("assistant", "I do.", tool_calls=(call,))], ())
        again = read(Reply(message.text))
        assert again.content == "I do."
        assert again.tool_calls[0].parsed() == {"code": code}


def test_a_forced_call_is_said_in_words() -> None:
    tools = [python.spec(), weather.spec()]
    assert "You must run code now." in written([], tools, "required")[0].text
    assert "You must call weather now." in written([], tools, "weather")[0].text
    assert "must" not in written([], tools, None)[0].text


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"tool_style": "codes"}, "tool_style must be one of auto, tags, code"),
        ({"tool_style": "code", "tools": [weather]}, "needs a tool named 'python'"),
        ({"tool_style": "code", "tools": [pythonic]}, "a tool 'python' that takes 'code'"),
        ({"tool_style": "code", "code_tags": "<x>"}, "code_tags must be two texts"),
        ({"tool_style": "code", "format": {"type": "object"}}, "cannot be used with an output schema"),
    ],
)
def test_what_cannot_be_is_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Agent("coder", ScriptedBackend([""]), **{"tools": [python], **more})("go")


def test_tags_can_be_asked_for() -> None:
    call = '<tool_call>{"name": "weather", "arguments": {"city": "Bern"}}</tool_call>'
    backend = ScriptedBackend([call, "rain"])
    assert Agent("a", backend, tools=[weather], tool_style="tags")("go").content == "rain"
    assert backend.requests[0].tools == ()


def test_a_call_can_have_another_style() -> None:
    backend = ScriptedBackend([block("x"), "done"])
    agent = Agent("a", backend, tools=[python])
    agent("go", tool_style="code")
    assert ran == ["x"]
