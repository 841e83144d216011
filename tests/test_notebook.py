"""Notebook output: sessions as tables, replies as one line, errors without foreign code."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from lllm import Agent, LLMError, Prompt, Reply, ScriptedBackend, record
from lllm.errors import ConfigError, HandlerFailed, ServerError
from lllm.log import MemoryLog, SQLiteLog
from lllm.models import FunctionCall
from lllm.session import Session

EVIL = "<script>alert(1)</script> \x1b[31m \u202e &amp;"


def test_a_session_is_a_table(tmp_path: Path) -> None:
    store = SQLiteLog(tmp_path / "log")
    with record(EVIL, store=store) as session:
        assert repr(session) == f"Session('{session.id}', running)"
        agent = Agent("talker", ScriptedBackend(["no", f"<a>{EVIL}</a>"]))
        agent(Prompt(path="ask", prompt=f"Say {{x}} {EVIL}".replace("{x}", "it"), required_xml_tags=["a"]))
    shown = session._repr_html_()
    store.close()
    assert shown is not None
    assert "<script" not in shown
    assert not re.search("[\x1b\u202e]", shown)
    text = html.unescape(shown)
    for words in (
        "talker",
        "(rejected)",
        "missing required tag",
        "1 agent, 2 model, 0 tool calls",
        "\\u202e",
    ):
        assert words in text
    assert repr(session).endswith("ended)")


def test_a_long_session_is_cut(tmp_path: Path) -> None:
    store = MemoryLog()
    with record("long", store=store) as session:
        agent = Agent("a", ScriptedBackend(lambda request: "x" * 5000))
        for _ in range(80):
            agent("hi")
    shown = session._repr_html_()
    assert shown is not None
    assert len(shown) < 300_000
    assert "rows are left out" in shown
    assert "more characters)" in shown


def test_a_session_without_a_log_has_its_repr() -> None:
    class Foreign:
        async def append(self, *_: object) -> None: ...

    session = Session(Foreign())  # type: ignore[arg-type]
    assert session._repr_html_() is None
    assert "not begun" in repr(session)


@pytest.mark.parametrize(
    ("reply", "shown"),
    [
        (Reply("391"), "Reply('391')"),
        (Reply("a\nb", model="m"), r"Reply('a\nb', model='m')"),
        (Reply("", tool_calls=(FunctionCall("1", "add", "{}"),), finish_reason="tool_calls"),
         "Reply('', tool_calls=[add], finish_reason='tool_calls')"),
        (Reply("x", thinking="hm", refusal="no", parsed={"a": 1}),
         "Reply('x', thinking='hm', refusal='no', parsed={'a': 1})"),
        (Reply("x", logprobs=[{"token": "x"}] * 1000, token_ids=[1] * 1000, raw="r" * 1000), "Reply('x')"),
    ],
)  # fmt: skip
def test_a_reply_is_one_short_line(reply: Reply, shown: str) -> None:
    assert repr(reply) == shown


def test_a_long_reply_is_cut() -> None:
    shown = repr(Reply("y" * 10_000, thinking="t" * 10_000, parsed=["z" * 10_000]))
    assert len(shown) < 600
    assert "\n" not in shown


def shown(error: LLMError) -> str:
    return "\n".join(error._render_traceback_())


def test_an_error_shows_the_users_code_alone() -> None:
    def mine() -> None:
        Agent("x", ScriptedBackend([ServerError("boom \x1b[2J", retryable=False)]))("hi")

    with pytest.raises(LLMError) as raised:
        mine()
    text = shown(raised.value)
    assert len(text.splitlines()) <= 12
    assert "in mine" in text
    assert 'ScriptedBackend([ServerError("boom' in text
    assert "ProviderFailed: agent 'x': boom \\x1b[2J" in text
    assert "lllm/runtime.py" not in text
    assert "\x1b" not in text


def test_an_error_in_the_users_parser_shows_where() -> None:
    def parser(text: str) -> None:
        raise KeyError("mine")

    with pytest.raises(HandlerFailed) as raised:
        Agent("x", ScriptedBackend(["hi"]))(Prompt(path="p", prompt="x", parser=parser))
    text = shown(raised.value)
    assert text.index("in parser") < text.index("KeyError: 'mine'") < text.index("HandlerFailed: agent 'x'")


def test_all_of_it_is_shown_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LLMError, "full_traceback", True)
    with pytest.raises(ConfigError) as raised:
        Agent("x", "embedded")("hi", nope=1)
    assert "lllm/llm" in shown(raised.value)


def test_a_hint_is_shown() -> None:
    assert "  Set it." in shown(ConfigError("no such thing", hint="Set it."))
