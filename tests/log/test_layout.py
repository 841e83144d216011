"""Stages in what people read: `lllm show`, Markdown, HTML, a notebook."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

import lllm
from lllm import Agent, MemoryLog, ScriptedBackend, fallback, join, parallel, step
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.log import views
from lllm.log.export import pieces
from lllm.log.layout import Layout, used_in_words
from lllm.models import FunctionCall


def clean(text: str) -> str:
    return text.strip()


def both(a: str, b: str) -> str:
    return a + b


def again(text: str) -> str:
    return str((step(clean) >> str.title)(text))


def fails(text: str) -> str:
    raise ValueError("no <b>luck</b>")


def writer() -> Agent:
    return Agent("writer", ScriptedBackend(lambda request: request.messages[-1].text.upper()))


def session(made: Any) -> tuple[MemoryLog, str]:
    store = MemoryLog()
    with contextlib.suppress(ValueError):
        made.run(" x ", store=store)
    return store, store.sessions()[0].id


def lines(store: MemoryLog, id: str) -> list[str]:
    """What is shown, without times."""
    layout = Layout()
    found = [layout.place(row) for row in views.transcript(views.load(store, id))]
    return [
        f"{'  ' * one.depth}{one.row.kind} {one.row.who}: {re.sub(r'[0-9.]+ s', 'T', one.row.text)}"
        for one in found
        if not one.hidden
    ]


def test_what_is_within_a_stage_is_indented() -> None:
    store, id = session(step(clean) >> parallel(a=writer(), b=again) >> join(both))
    found = [line for line in lines(store, id) if "writer" not in line or line.lstrip().startswith("call")]
    assert sorted(found[1:-1]) == sorted(
        [
            "stage clean: 1/1 (function)",
            "stage clean: 1/1 done in T",
            "stage parallel: 1/2",
            "    call writer: writer ScriptedBackend",
            "    message user: x",
            "  stage again: 1/2/b (function)",
            "    stage clean: 1/2/b:1/1 (function)",
            "    stage clean: 1/2/b:1/1 done in T",
            "    stage title: 1/2/b:1/2 (function)",
            "    stage title: 1/2/b:1/2 done in T",
            "  stage again: 1/2/b done in T",
            "stage parallel: 1/2 done in T, 1 request, 2 tokens, cost unknown",
            "stage both: 1/3 (join)",
            "stage both: 1/3 done in T",
        ]
    )
    assert "  stage writer: 1/2/a (agent)" in lines(store, id)


def test_an_error_is_said_where_it_was_raised() -> None:
    store, id = session(step(clean) >> fallback(fails, fails))
    found = lines(store, id)
    assert "  stage fails: 1/2/1 failed after T: ValueError: no <b>luck</b>" in found
    assert "stage fallback(fails, fails): 1/2 failed after T" in found


def test_pages_have_a_heading_for_each_stage() -> None:
    store, id = session(step(clean) >> parallel(a=writer(), b=fails))
    page = views.markdown(views.load(store, id))
    assert "\n\n## clean · 1/1 (function)\n\n" in page
    assert "\n\n### writer · 1/2/a (agent)\n\n" in page
    assert re.search(r"\*\*stage\*\* · clean · 1/1 done in [0-9.]+ s\n", page)
    assert "ValueError: no \\<b\\>luck\\</b\\>" in page
    html = "".join(pieces(store, id, "html"))
    assert "<b>luck" not in html
    assert re.search(r'class="bad d1"><h2><b>stage</b> fails', html)
    notebook = json.loads("".join(pieces(store, id, "notebook")))
    assert any("".join(cell["source"]).startswith("### writer") for cell in notebook["cells"])


def test_the_rows_of_a_program_are_as_they_were() -> None:
    store, id = session(step(clean))
    rows = [row for row in views.transcript(views.load(store, id)) if row.kind == "stage"]
    assert [(row.who, row.text) for row in rows] == [("clean", "stage 1/1"), ("session", "stage 1/1 done")]
    assert {row.kind for row in rows} <= set(views.ROWS)


def test_what_was_used_in_words() -> None:
    assert used_in_words(None) == ""
    assert used_in_words({"model_calls": 1, "tokens": 1, "cost": "0.10"}) == "1 request, 1 token, $0.10"
    assert used_in_words({"model_calls": 2, "tokens": None, "cost": None}) == "2 requests, cost unknown"
    assert used_in_words({"model_calls": 2, "tokens": 0, "cost": "0"}) == "2 requests, 0 tokens"


# --- the places of runs


def places(store: MemoryLog, id: str) -> list[str]:
    events = [open_event(record) for record in store.read(id)]
    return [event["data"]["stage"] for event in events if event["kind"] == ev.STAGE_STARTED]


def test_chains_that_branches_run_themselves_replay_in_any_order() -> None:
    import threading

    order = [threading.Event(), threading.Event()]

    def first(text: str) -> str:
        order[0].wait(5)
        done = str((step(clean) >> str.upper)(text))
        order[1].set()
        return done

    def second(text: str) -> str:
        order[1].wait(5)
        done = str((step(str.lower) >> str.title)(text))
        order[0].set()
        return done

    store = MemoryLog()

    def program() -> Any:
        return parallel(first, second).run(" x ", store=store)

    order[0].set()
    id = program().session
    assert sorted(places(store, id)) == [
        "1/1",
        "1/1/0",
        "1/1/0:1/1",
        "1/1/0:1/2",
        "1/1/1",
        "1/1/1:1/1",
        "1/1/1:1/2",
    ]
    order[0].clear(), order[1].set()  # the other one is faster
    report = lllm.replay_session(id, store=store, entry=program)
    assert report.verified, report.divergence


def test_a_chain_in_a_tool_is_replayed_with_the_chain_around() -> None:
    @lllm.tool(effect="pure")
    def shout(text: str) -> str:
        """Shouts."""
        return str((step(clean) >> str.upper)(text))

    def model(request: Any) -> Any:
        last = request.messages[-1]
        return f"done: {last.text}" if last.role == "tool" else FunctionCall("x", "shout", '{"text": " hi "}')

    store = MemoryLog()

    def program() -> Any:
        return (step(Agent("a", ScriptedBackend(model), tools=[shout])) >> again).run("go", store=store)

    result = program()
    assert result.value == "Done: Hi"
    assert places(store, result.session) == ["1/1", "c1.x:1/1", "c1.x:1/2", "1/2", "1/2:1/1", "1/2:1/2"]
    report = lllm.replay_session(result.session, store=store, entry=program)
    assert report.verified, report.divergence
    assert "    stage clean: c1.x:1/1 (function)" in lines(store, result.session)
