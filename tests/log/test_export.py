"""Sessions in the formats of other tools: each is what its reader takes, and holds what the session held."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionMessageParam
from pydantic import TypeAdapter

from lllm.backends.scripted import ScriptedBackend
from lllm.core.canonical import digest
from lllm.errors import (
    ConfigError,
    ConnectionFailed,
    LogCorrupt,
    ProviderError,
    UnknownKeyError,
    UnknownNameError,
)
from lllm.llm.agent import Agent
from lllm.llm.sessions import arecord, record
from lllm.log.copy import blobs_of, load_session, record_of
from lllm.log.export import FORMATS, Format, Source, conventions, export, format_of, pieces
from lllm.log.export.otlp import send
from lllm.log.memory import MemoryLog
from lllm.models.function import tool
from lllm.models.message import FunctionCall, Message
from lllm.session import Session
from tests.log.sessions import HOSTILE, PIXEL, full, talk
from tests.servers.collector import Collector

MESSAGES = TypeAdapter(list[ChatCompletionMessageParam])
TOOLS = TypeAdapter(list[ChatCompletionFunctionToolParam])


@pytest.fixture(scope="module")
def everything() -> tuple[MemoryLog, str]:
    store = MemoryLog()
    return store, full(store)


def lines(text: str) -> list[dict[str, Any]]:
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


# --- the table


def test_every_format_of_the_table_writes(everything: tuple[MemoryLog, str]) -> None:
    store, session = everything
    assert set(FORMATS) == set("markdown html notebook openai sharegpt hf trl otel bundle".split())
    for name in FORMATS:
        text = export(store, session, name)
        assert text == "".join(pieces(store, session, name)), "the same session is the same file"
        assert text.endswith("\n")


def test_what_is_not_there_is_said(everything: tuple[MemoryLog, str]) -> None:
    store, session = everything
    with pytest.raises(UnknownNameError, match="sharegtp"):
        export(store, session, "sharegtp")
    with pytest.raises(UnknownNameError, match="nobody"):
        pieces(store, "nobody", "html")
    with pytest.raises(UnknownKeyError, match="contents"):
        export(store, session, "otel", contents=True)
    with pytest.raises(UnknownKeyError, match="content"):
        export(store, session, "html", content=True)


def test_a_file_says_its_format() -> None:
    assert [format_of(name) for name in ("a.md", "b.html", "c.ipynb", "d.lllm")] == [
        "markdown", "html", "notebook", "bundle",
    ]  # fmt: skip
    for name in ("rows.jsonl", "rows.txt"):
        with pytest.raises(ConfigError, match=re.escape(name)):
            format_of(name)


def test_a_log_that_was_changed_is_not_exported() -> None:
    store = MemoryLog()
    session = talk(store, [["hi", "hello"]])
    records = store._sessions[session]
    index = next(n for n, record in enumerate(records) if b"hello" in record.body)
    records[index] = records[index]._replace(body=records[index].body.replace(b"hello", b"hullo"))
    with pytest.raises(LogCorrupt):
        export(store, session, "openai")


# --- dialogs: OpenAI, ShareGPT, TRL


def test_openai_is_what_openai_takes(everything: tuple[MemoryLog, str]) -> None:
    found = lines(export(*everything, "openai"))
    for row in found:
        MESSAGES.validate_python(row["messages"])
        if "tools" in row:
            TOOLS.validate_python(row["tools"])
    helper, main, failed = found
    assert [message["role"] for message in main["messages"]] == [
        "system", "user", "assistant", "tool", "tool", "assistant", "tool", "tool", "assistant", "user", "assistant",
    ]  # fmt: skip
    assert main["messages"][1]["content"][1]["image_url"]["url"] == PIXEL
    assert main["messages"][2]["tool_calls"][0]["function"] == {
        "name": "add",
        "arguments": '{"a": 1, "b": 2}',
    }
    assert main["messages"][-1]["content"] == "You are welcome."
    assert [spec["function"]["name"] for spec in main["tools"]] == ["add", "run_code", "helper"]
    assert [message["role"] for message in helper["messages"]] == ["user", "assistant", "tool", "assistant"]
    assert [message["content"] for message in failed["messages"]] == ["You fail.", "never"]


def test_sharegpt_takes_turns(everything: tuple[MemoryLog, str]) -> None:
    _, main = lines(export(*everything, "sharegpt"))
    turns = [(turn["from"], turn["value"]) for turn in main["conversations"]]
    assert [speaker for speaker, _ in turns] == [
        "system", "human", "gpt", "function_call", "observation", "function_call", "observation", "gpt", "human", "gpt",
    ]  # fmt: skip
    assert json.loads(turns[3][1])[0] == {"name": "add", "arguments": {"a": 1, "b": 2}}
    assert json.loads(turns[4][1])[0] == "3"
    assert [tool["name"] for tool in json.loads(main["tools"])] == ["add", "run_code", "helper"]


def test_trl_rows_without_tokens(everything: tuple[MemoryLog, str]) -> None:
    helper, main = lines(export(*everything, "trl"))  # the call that failed is no example
    assert [message["role"] for message in main["prompt"]] == ["system", "user"]
    assert main["completion"][0]["thinking"] == "Let me think."
    assert main["completion"][0]["tool_calls"][0]["function"]["arguments"] == '{"a": 1, "b": 2}', (
        "a JSON string"
    )
    assert main["completion"][-1]["content"] == "You are welcome."
    assert json.loads(main["tools"])[0]["function"]["name"] == "add"
    assert (main["call"], helper["call"], main["model"]) == ("c3", "c2", "ScriptedBackend")
    assert "input_ids" not in main


def token_reply(prompt: list[int], ids: list[int], content: Any, logprobs: bool = True) -> dict[str, Any]:
    reply: dict[str, Any] = {"prompt_token_ids": prompt, "token_ids": ids}
    if logprobs:
        reply["logprobs"] = [{"token": str(id), "logprob": -id / 10, "top": []} for id in ids]
    return reply | ({"content": content} if isinstance(content, str) else {"tool_calls": [content]})


def test_trl_rows_have_the_tokens_of_the_backend() -> None:
    store = MemoryLog()
    call = FunctionCall("t", "add", '{"a":1,"b":1}')
    session = talk(
        store,
        [
            ["1 + 1?", token_reply([1, 2], [3, 4], call), token_reply([1, 2, 3, 4, 5], [6], "two")],
            ["thanks", token_reply([1, 2, 3, 4, 5, 6, 7, 8], [9], "bye")],
        ],
    )
    (row,) = lines(export(store, session, "trl"))
    assert row["input_ids"] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert row["assistant_masks"] == [0, 0, 1, 1, 0, 1, 0, 0, 1]
    assert row["logprobs"] == [0, 0, -0.3, -0.4, 0, -0.6, 0, 0, -0.9]
    assert [message["role"] for message in row["completion"]] == [
        "assistant",
        "tool",
        "assistant",
        "user",
        "assistant",
    ]


def test_tokens_that_do_not_run_through_are_rows_of_their_own() -> None:
    store = MemoryLog()
    session = talk(
        store,
        [
            ["a", token_reply([1, 2], [3, 4], "one")],
            ["b", token_reply([1, 2, 4, 5], [6], "two", logprobs=False)],  # the template has dropped token 3
            ["c", token_reply([1, 2, 4, 5, 6, 7], [8], "three")],
        ],
    )
    first, second = lines(export(store, session, "trl"))
    assert (first["input_ids"], first["assistant_masks"]) == ([1, 2, 3, 4], [0, 0, 1, 1])
    assert [message["content"] for message in first["prompt"] + first["completion"]] == [
        "You talk.",
        "a",
        "one",
    ]
    assert (second["input_ids"], second["assistant_masks"]) == ([1, 2, 4, 5, 6, 7, 8], [0, 0, 0, 0, 1, 0, 1])
    assert second["logprobs"] is None, "a part of them would be zeros"
    assert [message["content"] for message in second["prompt"]] == ["You talk.", "a", "one", "b"]
    assert [message["content"] for message in second["completion"]] == ["two", "c", "three"]


def test_rows_of_the_embedded_model_run_through_its_turns() -> None:
    store = MemoryLog()
    sampling = {"token_ids": True, "logprobs": True, "max_tokens": 12, "temperature": 0}
    agent = Agent("a", "embedded", "Answer briefly.", model_args=sampling)
    with record("real", store=store) as session:
        dialog = agent.init_dialog()
        replies = [agent(dialog.append(words)) for words in ("Say hello.", "Again.")]
    (row,) = lines(export(store, session.id, "trl", tokens=True))
    written = [id for id, own in zip(row["input_ids"], row["assistant_masks"], strict=True) if own]
    assert written == [id for reply in replies for id in reply.token_ids or ()]
    last = replies[-1]
    assert row["input_ids"] == [*(last.prompt_token_ids or ()), *(last.token_ids or ())], (
        "one tokenised dialog"
    )
    weights = zip(row["logprobs"], row["assistant_masks"], strict=True)
    assert all(weight <= 0 if own else weight == 0 for weight, own in weights)
    assert row["completion"][-1]["content"] == last.content


def test_a_file_of_rows_has_one_kind_of_them() -> None:
    store = MemoryLog()
    with_ = talk(store, [["a", token_reply([1], [2], "one")]])
    without = talk(store, [["a", "one"]])
    assert "input_ids" in lines(export(store, with_, "trl", tokens=True))[0]
    assert "input_ids" not in lines(export(store, with_, "trl", tokens=False))[0]
    assert export(store, without, "trl", tokens=True) == ""
    assert export(store, without, "trl", tokens=False) == export(store, without, "trl")


# --- the Hub


def test_a_trace_of_the_hub(everything: tuple[MemoryLog, str]) -> None:
    store, session = everything
    header, *rest = lines(export(store, session, "hf"))
    assert header == {"type": "session", "harness": "lllm", "id": session, "name": "everything"}
    assert {row["type"] for row in rest} == {"message"}
    messages = [row["message"] for row in rest]
    assert {message["role"] for message in messages} == {"system", "user", "assistant", "tool"}
    assert all(isinstance(message["content"], str) for message in messages)
    asked = {call["id"]: call for message in messages for call in message.get("toolCalls", ())}
    assert json.loads(asked["t1"]["function"]["arguments"]) == {"a": 1, "b": 2}
    answered = {message["toolCallId"]: message["content"] for message in messages if "toolCallId" in message}
    assert answered["t1"] == "3"
    assert answered["t4"] == "Two."
    assert set(answered) == {"t1", "t2", "t4", "t5"}, "h1 is the helper's own affair"
    first = next(message for message in messages if message["role"] == "assistant")
    assert (first["reasoningContent"], first["model"]) == ("Let me think.", "tiny-1")
    times = [message["timestamp"] for message in messages]
    assert times == sorted(times)
    assert times[0] > 1_700_000_000_000


# --- pages


class Page(HTMLParser):
    """What a browser would do with a page."""

    VOID = ("meta", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.words += data


def test_html_loads_nothing_and_runs_nothing(everything: tuple[MemoryLog, str]) -> None:
    text = export(*everything, "html")
    page = Page(text)
    allowed = set(
        "html head meta title style body h1 dl div dt dd main section h2 b small pre details summary p img".split()
    )
    assert {tag for tag, _ in page.tags} <= allowed
    for tag, attrs in page.tags:
        assert not {name for name in attrs if name.startswith("on")}
        assert "href" not in attrs
        assert tag != "img" or (attrs["src"] or "").startswith("data:image/png;base64,")
    assert [attrs["src"] for tag, attrs in page.tags if tag == "img"] == [PIXEL]
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert '<script>alert(1)</script><img src="http://evil.example/x.png"' in page.words, "text is text"
    assert "\x1b" not in text
    for words in (
        "Let me think.",
        "asks for add(a=1, b=2)",
        "You are welcome.",
        "one and one",
        "write('working')",
    ):
        assert words in page.words


def test_html_folds_long_texts() -> None:
    store = MemoryLog()
    page = Page(export(store, talk(store, [["x" * 5000, "short"]]), "html"))
    assert "… (5000 characters)" in page.words
    assert page.words.count("x" * 5000) >= 1


def test_html_shows_images_that_are_blobs_and_no_others() -> None:
    store = MemoryLog()
    png = b"\x89PNG\r\n\x1a\n0000"
    svg = b"<svg onload='alert(1)'/>"

    async def main() -> str:
        session = Session(store, name="pictures")
        await session.start({"name": "pictures"})
        for name, data in (("a.png", png), ("b.svg", svg)):
            session.emit(
                "Artifact",
                {"name": name, "digest": session.keep(data), "media_type": "image/png", "size": len(data)},
            )
        session.emit(
            "Artifact", {"name": "c.png", "digest": digest(b"nowhere"), "media_type": "image/png", "size": 7}
        )
        await session.end("done")
        return session.id

    page = Page(export(store, asyncio.run(main()), "html"))
    assert [attrs["src"] for tag, attrs in page.tags if tag == "img"] == [
        "data:image/png;base64,iVBORw0KGgowMDAw"
    ]
    assert "is not in the log" in page.words


@pytest.mark.parametrize(
    "url", ["http://evil.example/x.png", 'data:image/png;base64,AA" onerror="x', "data:text/html;base64,AA=="]
)
def test_html_loads_no_image_from_elsewhere(url: str) -> None:
    store = MemoryLog()

    async def main() -> str:
        async with arecord("x", store=store) as session:
            image = {"type": "image_url", "image_url": {"url": url}}
            await Agent("a", ScriptedBackend(["ok"])).acall(
                Message("user", ({"type": "text", "text": "?"}, image))
            )
            return session.id

    page = Page(export(store, asyncio.run(main()), "html"))
    assert "img" not in {tag for tag, _ in page.tags}
    assert url in page.words


def test_a_notebook_is_one(everything: tuple[MemoryLog, str]) -> None:
    book = nbformat.reads(export(*everything, "notebook"), as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.source for cell in code] == ["print('hi')\nx = 1", "raise"]
    assert code[0].outputs[0].name == "stdout"
    assert code[0].outputs[0].text == f"ran 17 characters of {HOSTILE}"
    assert (code[1].outputs[0].name, code[1].outputs[0].text) == ("stderr", "error: it went wrong")
    words = [cell.source for cell in book.cells if cell.cell_type == "markdown"]
    assert words[0].startswith("# everything\n")
    assert any("add(a=1, b=2)" in text for text in words)
    assert not any("ran 17 characters" in text and "**result**" in text for text in words), "said once"
    assert len({cell.id for cell in book.cells}) == len(book.cells)


def test_the_name_of_a_session_is_no_markup() -> None:
    store = MemoryLog()
    session = talk(store, [["hi", "hello"]], name="a\n<img src=x> ![](http://evil.example) `b`")
    for name in ("markdown", "notebook"):
        text = export(store, session, name)
        head = text if name == "markdown" else nbformat.reads(text, 4).cells[0].source
        assert head.startswith("# a \\<img src=x\\> \\!\\[\\](http:\\//evil.example) \\`b\\`\n")


# --- OpenTelemetry


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    kinds = {"stringValue": str, "intValue": int, "doubleValue": float, "boolValue": bool}
    out = {}
    for item in span["attributes"]:
        ((kind, value),) = item["value"].items()
        out[item["key"]] = (
            [one["stringValue"] for one in value["values"]] if kind == "arrayValue" else kinds[kind](value)
        )
    return out


def document(text: str) -> list[dict[str, Any]]:
    """The spans of an OTLP document, which is checked to be one."""
    body = json.loads(text)
    (resource,) = body["resourceSpans"]
    (scope,) = resource["scopeSpans"]
    assert resource["schemaUrl"] == scope["schemaUrl"] == "https://opentelemetry.io/schemas/1.41.1"
    assert {"key": "service.name", "value": {"stringValue": "lllm"}} in resource["resource"]["attributes"]
    spans: list[dict[str, Any]] = scope["spans"]
    for span in spans:
        assert re.fullmatch("[0-9a-f]{32}", span["traceId"])
        assert re.fullmatch("[0-9a-f]{16}", span["spanId"])
        assert 0 < int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
    return spans


def test_spans_of_a_session(everything: tuple[MemoryLog, str]) -> None:
    spans = document(export(*everything, "otel"))
    by_id = {span["spanId"]: span for span in spans}
    assert len(by_id) == len(spans)
    assert len({span["traceId"] for span in spans}) == 1
    tree = [
        (span["name"], by_id[span["parentSpanId"]]["name"] if "parentSpanId" in span else None)
        for span in spans
    ]
    assert sorted(tree, key=str) == sorted(
        [
            ("invoke_workflow everything", None),
            *[("invoke_agent main", "invoke_workflow everything")] * 2,
            ("invoke_agent failing", "invoke_workflow everything"),
            ("invoke_agent helper", "execute_tool helper"),
            *[("chat ScriptedBackend", "invoke_agent main")] * 5,
            *[("chat ScriptedBackend", "invoke_agent helper")] * 2,
            ("chat ScriptedBackend", "invoke_agent failing"),
            ("execute_tool add", "invoke_agent main"),
            ("execute_tool add", "invoke_agent helper"),
            ("execute_tool helper", "invoke_agent main"),
            *[("execute_tool run_code", "invoke_agent main")] * 2,
        ],
        key=str,
    )
    for span in spans:
        has = attributes(span)
        assert has["gen_ai.operation.name"] == span["name"].split()[0]
        if span["name"].startswith(("chat", "invoke_agent")):
            assert has["gen_ai.provider.name"] == "ScriptedBackend"
            assert has["gen_ai.conversation.id"] == everything[1]
        parent = by_id.get(span.get("parentSpanId", ""), span)
        assert int(parent["startTimeUnixNano"]) <= int(span["startTimeUnixNano"])
        assert int(span["endTimeUnixNano"]) <= int(parent["endTimeUnixNano"])
    chat = next(attributes(span) for span in spans if span["name"].startswith("chat"))
    assert chat["gen_ai.response.model"] == "tiny-1"
    assert chat["gen_ai.request.temperature"] == 0.5
    assert chat["gen_ai.response.finish_reasons"] == ["tool_calls"]
    assert chat["gen_ai.usage.output_tokens"] > 0
    failed = {span["name"]: attributes(span)["error.type"] for span in spans if span["status"]}
    assert failed == {
        "execute_tool run_code": "ValueError",
        "chat ScriptedBackend": "ProviderError",
        "invoke_agent failing": "provider_failed",
    }
    assert all(span["status"] in ({}, {"code": 2}) for span in spans)


CONTENT = (
    "Let me think.",
    "1 + 2?",
    "You are welcome.",
    "You add.",
    "one and one",
    "secret words",
    "evil.example",
    "print('hi')",
    "Add two",
)


def test_content_is_off_until_asked_for(everything: tuple[MemoryLog, str]) -> None:
    without, with_ = export(*everything, "otel"), export(*everything, "otel", content=True)
    for words in CONTENT:
        assert words not in without
        assert words in with_


def test_content_is_written_once_and_in_the_form_of_the_conventions(
    everything: tuple[MemoryLog, str],
) -> None:
    spans = document(export(*everything, "otel", content=True))
    mine = {span["spanId"] for span in spans if span["name"] == "invoke_agent main"}
    chats = [
        attributes(span)
        for span in spans
        if span.get("parentSpanId") in mine and span["name"].startswith("chat")
    ]
    assert json.loads(chats[0][conventions.SYSTEM]) == [{"type": "text", "content": "You add."}]
    (asked,) = json.loads(chats[0][conventions.INPUT])
    assert asked["role"] == "user"
    assert asked["parts"][1] == {
        "type": "blob", "mime_type": "image/png", "modality": "image", "content": PIXEL.partition(",")[2],
    }  # fmt: skip
    (said,) = json.loads(chats[0][conventions.OUTPUT])
    assert said["finish_reason"] == "tool_call"
    assert [part["type"] for part in said["parts"]] == ["reasoning", "text", "tool_call", "tool_call"]
    assert said["parts"][2]["arguments"] == {"a": 1, "b": 2}
    results = json.loads(chats[1][conventions.INPUT])
    assert [(one["role"], one["parts"][0]["id"], one["parts"][0]["type"]) for one in results] == [
        ("tool", "t1", "tool_call_response"), ("tool", "t2", "tool_call_response"),
    ]  # fmt: skip
    assert results[0]["parts"][0]["response"] == "3"
    assert [one["role"] for one in json.loads(chats[2][conventions.INPUT])] == ["tool", "user"], "the repair"
    assert json.loads(chats[4][conventions.INPUT]) == [
        {"role": "user", "parts": [{"type": "text", "content": "Thanks!"}]}
    ]
    tools = [attributes(span) for span in spans if span["name"] == "execute_tool add"]
    assert {(one[conventions.ARGUMENTS], one[conventions.RESULT]) for one in tools} == {
        ('{"a":1,"b":2}', "3"),
        ('{"a":1,"b":1}', "2"),
    }


def test_a_session_that_was_cut_off_has_spans_too() -> None:
    store = MemoryLog()
    session = full(store)
    bodies = list(store.read(session))
    for count in range(1, len(bodies)):
        part = MemoryLog()
        asyncio.run(part.append([record_of(body) for body in bodies[:count]], dict(_blobs(store, bodies))))
        spans = document(export(part, session, "otel", content=True))
        assert len({span["spanId"] for span in spans}) == len(spans)
        assert sum("parentSpanId" not in span for span in spans) == 1
        for name in FORMATS:
            export(part, session, name)


def _blobs(store: MemoryLog, bodies: list[bytes]) -> Iterator[tuple[str, bytes]]:
    for name in blobs_of(store, bodies):
        yield name, store.blob(name)


def test_spans_reach_a_collector(everything: tuple[MemoryLog, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b,other=1")
    source = Source(*everything)
    with Collector() as collector:
        url, got = f"http://{collector.address}", collector.requests
        count = send(source, url)
        (request,) = got
        assert (request.path, request.headers["x-key"]) == ("/v1/traces", "a b")
        assert request.headers["Content-Type"] == "application/json"
        assert json.loads(request.body) == json.loads(export(*everything, "otel"))
        assert count == len(document(request.body.decode()))
        send(source, url + "/own/path", headers={})
        assert got[1].path == "/own/path"
        assert got[1].headers["x-key"] is None
        monkeypatch.setattr("lllm.log.export.otlp.PORTION", 500)
        got.clear()
        assert send(source, url) == count
        assert len(got) > 3
        collector.status, collector.answer = 503, b"no room"
        with pytest.raises(ProviderError, match="503: no room"):
            send(source, url)


def test_a_collector_that_is_not_there(everything: tuple[MemoryLog, str]) -> None:
    source = Source(*everything)
    with pytest.raises(ConfigError, match="localhost:4318"):
        send(source, "localhost:4318")
    with pytest.raises(ConnectionFailed, match="does not answer"):
        send(source, "http://127.0.0.1:9")


# --- bundles


def test_a_bundle_is_the_session(everything: tuple[MemoryLog, str], tmp_path: Path) -> None:
    store, session = everything
    (tmp_path / "a.lllm").write_bytes(export(store, session, "bundle").encode())
    other = MemoryLog()
    assert load_session(tmp_path / "a.lllm", other) == session
    assert list(other.read(session)) == list(store.read(session))
    for name in FORMATS:
        assert export(other, session, name) == export(store, session, name)


# --- secrets and size


def loud(format: Format) -> dict[str, bool]:
    """The options with which a format says most."""
    return {"content": True} if "content" in format.options else {}


def test_no_export_has_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-proj-0123456789abcdefghij"
    monkeypatch.setenv("OPENAI_API_KEY", key)

    @tool(effect="pure")
    def leak(code: str) -> str:
        """Leak."""
        return f"the key is {key}"

    async def main() -> str:
        backend = ScriptedBackend([FunctionCall("t", "leak", json.dumps({"code": key})), f"It is {key}."])
        async with arecord("leaky", store=store) as session:
            await Agent("a", backend, f"Never say {key}", tools=[leak], user=key).acall(f"say {key}")
            return session.id

    store = MemoryLog()
    session = asyncio.run(main())
    for name, format in FORMATS.items():
        text = export(store, session, name, **loud(format))
        assert key not in text
        assert "leak" in text


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_long_session_grows_with_its_turns(name: str) -> None:
    def size(turns: int) -> int:
        store = MemoryLog()
        session = talk(store, [[f"question {turn}", f"answer {turn}"] for turn in range(turns)])
        return len(export(store, session, name, **loud(FORMATS[name])))

    small, large = size(20), size(200)
    assert large < 11 * small


# --- any session

WORDS = st.text(max_size=20) | st.sampled_from([HOSTILE, "", "a\nb", "\x00", "\u2028", "```", "{}"])
CALL = st.builds(
    lambda id, a, b: FunctionCall(f"id{id}", "add", json.dumps({"a": a, "b": b})),
    st.integers(0, 3), st.integers(0, 3), st.integers(0, 3),
)  # fmt: skip
CODE = st.builds(
    lambda id, code: FunctionCall(f"code{id}", "run_code", json.dumps({"code": code})),
    st.integers(0, 3),
    WORDS,
)
ROUND = st.lists(CALL | CODE, min_size=1, max_size=3, unique_by=lambda call: call.id)
REPLY = st.fixed_dictionaries({"content": WORDS, "tool_calls": ROUND, "thinking": st.none() | WORDS})
TURN = st.builds(
    lambda asked, rounds, last: [asked, *rounds, last], WORDS, st.lists(REPLY, max_size=3), WORDS
)


@settings(max_examples=40, deadline=None)
@given(st.lists(TURN, min_size=1, max_size=4))
def test_any_session_is_in_every_format(script: list[list[Any]]) -> None:
    store = MemoryLog()
    session = talk(store, script)
    source = Source(store, session)
    (said,) = source.talks()
    wire = [message.to_dict() for message in said.messages]
    (row,) = lines(export(store, session, "openai"))
    assert row["messages"] == wire
    assert [Message.from_dict(message) for message in row["messages"]] == [
        Message.from_dict(message) for message in wire
    ]
    MESSAGES.validate_python(row["messages"])
    (row,) = lines(export(store, session, "trl"))
    assert row["prompt"] + row["completion"] == [message.record() for message in said.messages]
    _, *trace = lines(export(store, session, "hf"))
    assert [one["message"]["content"] for one in trace if one["message"]["role"] != "tool"] == [
        message.text for message in said.messages if message.role != "tool"
    ]
    book = nbformat.reads(export(store, session, "notebook"), as_version=4)
    nbformat.validate(book)
    Page(export(store, session, "html"))
    spans = document(export(store, session, "otel", content=True))
    replies = sum(message.role == "assistant" for message in said.messages)
    assert sum(span["name"].startswith("chat") for span in spans) == replies
    (row,) = lines(export(store, session, "sharegpt"))
    assert {turn["from"] for turn in row["conversations"]} <= {
        "system",
        "human",
        "gpt",
        "function_call",
        "observation",
    }
