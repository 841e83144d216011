"""Tools that return images and files: in the log, in what models are sent, and in all that is made of a log."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lllm
from lllm import (
    Agent,
    File,
    FunctionCall,
    Image,
    MemoryLog,
    Message,
    NoLog,
    Prompt,
    ScriptedBackend,
    SQLiteLog,
    tool,
)
from lllm.backends.openai import OpenAIBackend
from lllm.core import events as ev
from lllm.errors import ConfigError, LogCorrupt, ProviderFailed
from lllm.log import views
from lllm.log.copy import read_session, save_session
from lllm.log.export import FORMATS, export
from lllm.log.proof import prove
from lllm.log.prune import Limits, prune
from lllm.models.parts import LARGEST, BlobRef
from lllm.ports import Capabilities, LogStore
from lllm.replay import replay_session
from lllm.replay.fork import fork_session
from lllm.replay.resume import resume_session
from tests.servers.openai_server import OpenAIServer, call

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000002000001e221bc33"
    "0000000049454e44ae426082"
)
JPEG = b"\xff\xd8\xff\xe0" + b"\x01" * 40
PDF = b"%PDF-1.7 \xff\xfe"
URL = f"data:image/png;base64,{b64encode(PNG).decode()}"


@tool(effect="pure")
def shot(n: int = 1) -> Any:
    """Takes a screenshot."""
    return ["Two pictures:", Image(PNG), Image(JPEG)]


@tool(effect="pure")
async def report() -> File:
    """Writes a report."""
    return File(PDF, "report.pdf")


@tool(effect="pure")
def table() -> File:
    """Writes a table."""
    return File(b"a,b\n1,2\n", "table.csv")


CALLS = [[FunctionCall("1", "shot", "{}"), FunctionCall("2", "report"), FunctionCall("3", "table")], "done"]
TOOLS = [shot, report, table]


def made(capabilities: Capabilities | None = None, **more: Any) -> ScriptedBackend:
    return ScriptedBackend(list(CALLS), capabilities=capabilities, **more)


def asked(store: LogStore, backend: Any = None) -> tuple[str, ScriptedBackend]:
    backend = made() if backend is None else backend
    reply = Agent("a", backend, tools=TOOLS, store=store).call("go")
    return str(reply.session), backend


def sent(capabilities: Capabilities, model: str = "m") -> list[Message]:
    """The messages behind the tool calls, as a backend with these capabilities gets them."""
    backend = made(capabilities)
    backend.model = model  # type: ignore[attr-defined]
    asked(MemoryLog(), backend)
    return list(backend.requests[-1].messages[2:])


# --- what a model gets


def test_where_tools_may_return_parts() -> None:
    first, second, third = sent(Capabilities(vision=True, files=True, tool_parts="tool"))
    assert first.content == (
        {"type": "text", "text": "Two pictures:"},
        {"type": "image_url", "image_url": {"url": URL}},
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{b64encode(JPEG).decode()}"}},
    )
    pdf = f"data:application/pdf;base64,{b64encode(PDF).decode()}"
    assert second.content == ({"type": "file", "file": {"file_data": pdf, "filename": "report.pdf"}},)
    assert [m.tool_call_id for m in (first, second, third)] == ["1", "2", "3"]


def test_images_follow_in_a_message_of_the_user() -> None:
    first, second, third, user = sent(Capabilities(vision=True))
    assert first.content == (
        "Two pictures:\n"
        "[image/png, 67 bytes: image 1 of the result of 'shot', in the next message from the user]\n"
        "[image/jpeg, 44 bytes: image 2 of the result of 'shot', in the next message from the user]"
    )
    assert second.content == (
        "[report.pdf, application/pdf, 11 bytes: left out, because this model takes no files from a tool]"
    )
    assert third.content == "[table.csv, text/csv, 8 bytes]\na,b\n1,2\n"
    assert user.role == "user"
    assert [part.get("text") or part["type"] for part in user.content] == [
        "Image 1 of the result of 'shot':",
        "image_url",
        "Image 2 of the result of 'shot':",
        "image_url",
    ]
    assert user.content[1] == {"type": "image_url", "image_url": {"url": URL}}


def test_a_model_without_images_is_told_what_is_left_out() -> None:
    first, second, third = sent(Capabilities())
    assert first.content == (
        "Two pictures:\n[image/png, 67 bytes: left out, because this model takes no images from a tool]\n"
        "[image/jpeg, 44 bytes: left out, because this model takes no images from a tool]"
    )
    assert all(isinstance(m.content, str) for m in (first, second, third))
    # the endpoint takes images, but this model is known to read text alone
    assert sent(Capabilities(vision=True), "o3-mini") == [first, second, third]
    assert len(sent(Capabilities(vision=True), "gpt-4o")) == 4
    assert sent(Capabilities(vision=True, tool_parts="")) == [first, second, third]


def test_images_that_no_model_takes() -> None:
    """Each further request of the dialog would be refused."""

    @tool(effect="pure")
    def draw() -> Any:
        """Draws."""
        return [Image(b"<svg/>", "image/svg+xml"), Image(b"BM" + b"\0" * 20)]

    for where in ("tool", "user", ""):
        backend = ScriptedBackend(
            [[FunctionCall("1", "draw")], "done"], capabilities=Capabilities(vision=True, tool_parts=where)
        )
        Agent("a", backend, tools=[draw], store=MemoryLog()).call("go")
        assert backend.requests[-1].messages[2:] == (
            Message(
                "tool",
                "[image/svg+xml, 6 bytes]\n<svg/>\n"
                "[image/bmp, 22 bytes: left out, because this model takes no image/bmp from a tool]",
                tool_call_id="1",
            ),
        )


def test_a_backend_that_says_something_else() -> None:
    backend = made(Capabilities(vision=True, tool_parts="anywhere"))
    with pytest.raises(ConfigError, match="tool_parts must be 'tool', 'user' or '', got 'anywhere'"):
        asked(MemoryLog(), backend)


def test_results_of_several_rounds_stay_in_their_places() -> None:
    replies = [[FunctionCall("1", "shot", '{"n":1}')], [FunctionCall("1", "shot", '{"n":2}')], "done"]
    backend = ScriptedBackend(replies, capabilities=Capabilities(vision=True))
    Agent("a", backend, tools=[shot], store=MemoryLog()).call("go")
    roles = [message.role for message in backend.requests[-1].messages]
    assert roles == ["user", "assistant", "tool", "user", "assistant", "tool", "user"]


def test_a_handler_reads_text() -> None:
    seen: list[Any] = []

    def handler(context: Any) -> str:
        seen.append(context.results[0]["content"])
        return "What do you see?"

    prompt = Prompt("p", "go", functions=[table], interrupt_prompt=handler)
    backend = ScriptedBackend([[FunctionCall("1", "table")], "done"])
    Agent("a", backend, prompt=prompt, store=MemoryLog()).call()
    assert seen == ["[table.csv, text/csv, 8 bytes]"]


async def test_chat_completions_on_the_wire() -> None:
    with OpenAIServer() as server:
        server.say(tool_calls=[call("shot", "{}")])
        server.say("done")
        backend = OpenAIBackend(server.url, "k")
        await Agent("a", backend, tools=[shot], store=MemoryLog()).acall("go")
        await backend.aclose()
        messages = server.requests[-1].json["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "user"]
    assert isinstance(messages[2]["content"], str)
    assert messages[3]["content"][1] == {"type": "image_url", "image_url": {"url": URL}}


def test_the_responses_api_takes_parts() -> None:
    from lllm.backends.openai.responses import input_items

    backend = OpenAIBackend("http://localhost:1/v1", "k", api="responses")
    assert backend.capabilities.tool_parts == "tool"
    message = sent(Capabilities(vision=True, files=True, tool_parts="tool"))[0]
    (item,) = input_items([message])
    assert item["output"][:2] == [
        {"type": "input_text", "text": "Two pictures:"},
        {"type": "input_image", "image_url": URL, "detail": "auto"},
    ]


def test_mistral_gets_no_user_behind_a_tool() -> None:
    assert OpenAIBackend("https://api.mistral.ai/v1", "k").capabilities.tool_parts == ""
    assert OpenAIBackend("https://api.openai.com/v1", "k").capabilities.tool_parts == "user"


def test_a_message_of_the_user_takes_them_too() -> None:
    message = Message("user", [{"type": "text", "text": "What is this?"}, Image(PNG), File(PDF, "a.pdf")])
    assert message.content[1] == {"type": "image_url", "image_url": {"url": URL}}
    assert message.content[2]["file"]["filename"] == "a.pdf"


# --- the log


def test_bytes_are_blobs() -> None:
    store = MemoryLog()
    session, _ = asked(store)
    bodies = b"".join(store.read(session))
    assert b64encode(PNG[:30]) not in bodies
    returned = [event["data"] for event in views.load(store, session) if event["kind"] == ev.TOOL_RETURNED]
    returned.sort(key=lambda data: data["id"])
    assert returned[0]["content"] == "Two pictures:\n[image/png, 67 bytes]\n[image/jpeg, 44 bytes]"
    image = returned[0]["parts"][1]["image_url"]
    assert {key: image[key] for key in ("media_type", "size")} == {"media_type": "image/png", "size": 67}
    assert store.blob(image["url"]) == PNG
    prove(store, session)
    del store._blobs[image["url"]]
    with pytest.raises(LogCorrupt, match=r"\(ToolReturned\) names the blob .* which is missing"):
        prove(store, session)


def test_a_dialog_grows_by_a_name_per_turn() -> None:
    sizes = []
    for size in (10, 100_000):
        data = PNG + b"\0" * size
        big = tool(effect="pure", name="big")(lambda: Image(data))  # noqa: B023
        store = MemoryLog()
        backend = ScriptedBackend([[FunctionCall("1", "big")], "done"])
        session = Agent("a", backend, tools=[big], store=store).call("go").session
        sizes.append(len(b"".join(store.read(str(session)))))
    assert sizes[1] - sizes[0] < 50


def test_without_a_log() -> None:
    _session, backend = asked(NoLog())
    assert backend.requests[-1].messages[2].content[1] == {"type": "image_url", "image_url": {"url": URL}}


def test_secrets_are_kept_out(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "sk-1234567890abcdef"
    monkeypatch.setenv("SERVICE_API_KEY", secret)

    @tool(effect="pure")
    def leaks() -> Any:
        """Leaks."""
        return [
            f"the key is {secret}",
            Image(PNG + secret.encode()),
            File(f"key={secret}".encode(), "env.txt"),
        ]

    store = MemoryLog()
    backend = ScriptedBackend([[FunctionCall("1", "leaks")], "done"], capabilities=Capabilities(vision=True))
    session = str(Agent("a", backend, tools=[leaks], store=store).call("go").session)
    everything = b"".join([*store.read(session), *store._blobs.values()])
    assert secret.encode() not in everything
    assert b64encode(secret.encode())[:16] not in everything
    tool_message, user = backend.requests[-1].messages[2:]
    assert secret not in str(tool_message.content)
    assert "key=[redacted:SERVICE_API_KEY]" in tool_message.content
    masked = b64encode(PNG + b"*" * len(secret)).decode()
    assert user.content[1]["image_url"]["url"] == f"data:image/png;base64,{masked}"
    entry = lambda: Agent("a", backend, tools=[leaks], store=store).call("go")  # noqa: E731
    assert replay_session(session, store=store, entry=entry, raises=True).verified


# --- run again


def program(store: LogStore) -> Callable[[], Any]:
    def main() -> str:
        return Agent("a", made(Capabilities(vision=True)), tools=TOOLS, store=store).call("go").content

    return main


def test_a_replay_verifies() -> None:
    store = MemoryLog()
    session, _ = asked(store, made(Capabilities(vision=True)))
    assert replay_session(session, store=store, entry=program(store), raises=True).verified


def test_a_session_cut_off_anywhere_is_resumed() -> None:
    store = MemoryLog()
    session, _ = asked(store, made(Capabilities(vision=True)))
    for events in range(2, len(list(store.read(session))) - 1):
        broken = MemoryLog()
        broken._sessions[session] = store._sessions[session][:events]
        named = {
            digest
            for digest in store._blobs
            if any(digest.encode() in b.body for b in broken._sessions[session])
        }
        broken._blobs = {digest: store._blobs[digest] for digest in named}
        replies: list[Any] = list(CALLS)
        done = sum(b'"kind":"ModelReplied"' in b.body for b in broken._sessions[session])
        backend = ScriptedBackend(replies[done:], capabilities=Capabilities(vision=True))
        entry = lambda: Agent("a", backend, tools=TOOLS, store=broken).call("go")  # noqa: B023, E731
        assert resume_session(session, store=broken, entry=entry).result.content == "done"
        prove(broken, session)
        assert replay_session(session, store=broken, entry=entry, raises=True).verified
        if backend.requests:
            assert backend.requests[-1].messages[-1].content[1]["image_url"]["url"] == URL


def test_a_fork_takes_the_bytes_with_it(tmp_path: Path) -> None:
    store = MemoryLog()
    session, _ = asked(store, made(Capabilities(vision=True)))
    with SQLiteLog(tmp_path / "other.db") as other:
        backend = made(Capabilities(vision=True))
        entry = lambda: Agent("a", backend, tools=TOOLS, store=other).call("go")  # noqa: E731
        fork = fork_session(session, store=store, into=other, entry=entry)
        assert (fork.tools_reused, fork.reused) == (3, 2)
        prove(other, fork.session)
        # a request that is sent again has the images
        last = max(
            event["seq"] for event in views.load(store, session) if event["kind"] == ev.MODEL_REQUESTED
        )
        backend = ScriptedBackend(["again"], capabilities=Capabilities(vision=True))
        fork = fork_session(session, store=store, into=other, at=last, entry=entry)
        assert fork.result.content == "again"
        assert backend.requests[0].messages[-1].content[1]["image_url"]["url"] == URL


def test_an_edited_result_is_text() -> None:
    store = MemoryLog()
    session, _ = asked(store, made(Capabilities(vision=True)))
    at = next(
        event["seq"]
        for event in views.load(store, session)
        if event["kind"] == ev.TOOL_RETURNED and event["data"]["id"] == "1"
    )
    backend = ScriptedBackend(["seen"], capabilities=Capabilities(vision=True))
    entry = lambda: Agent("a", backend, tools=TOOLS, store=store).call("go")  # noqa: E731
    assert fork_session(session, store=store, at=at, edit="no picture", entry=entry).result.content == "seen"
    assert backend.requests[0].messages[2].content == "no picture"


def test_a_recorded_session_answers() -> None:
    store = MemoryLog()
    session, _ = asked(store)
    again = Agent("a", f"replay/{session}", options={"store": store}, tools=TOOLS, store=MemoryLog())
    assert again.call("go").content == "done"


def test_a_result_that_is_given_again() -> None:
    store = MemoryLog()
    replies = [
        [FunctionCall("1", "shot", "{}")],
        [FunctionCall("2", "shot", "{}"), FunctionCall("3", "shot", "{}")],
        "done",
    ]
    backend = ScriptedBackend(replies)
    reply = Agent("a", backend, tools=[shot], store=store).call("go")
    again = backend.requests[-1].messages[4].content
    assert again[1] == {"type": "image_url", "image_url": {"url": URL}}
    assert "was not run again" in again[3]["text"]
    entry = lambda: Agent("a", ScriptedBackend(replies), tools=[shot], store=store).call("go")  # noqa: E731
    assert replay_session(str(reply.session), store=store, entry=entry, raises=True).verified


def test_a_result_that_comes_late() -> None:
    gate: list[Any] = []

    @tool(effect="never", timeout=0.05)
    async def slow() -> Image:
        """Is slow."""
        gate.append(1)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return Image(PNG)
        raise AssertionError

    store = MemoryLog()
    backend = ScriptedBackend([[FunctionCall("1", "slow")], "done"])
    session = str(Agent("a", backend, tools=[slow], store=store).call("go").session)
    returned = next(event for event in views.load(store, session) if event["kind"] == ev.TOOL_RETURNED)
    assert returned["data"]["content"] == "[image/png, 67 bytes]"
    prove(store, session)


async def test_a_dialog_that_goes_on_elsewhere() -> None:
    """Its images go with it into the log of the new session."""
    one, two = MemoryLog(), MemoryLog()
    agent = Agent("a", made(), tools=TOOLS, store=one)
    dialog = agent.init_dialog()
    dialog.append("go")
    await agent.acall(dialog)
    backend = ScriptedBackend(["seen"])
    other = Agent("b", backend, store=two)
    dialog.append("And?")
    reply = await other.acall(dialog)
    assert backend.requests[0].messages[2].content[1]["image_url"]["url"] == URL
    prove(two, str(reply.session))
    assert len(two._blobs) == 4
    # a dialog that was read from a log holds digests alone
    plain = views.fold_session(views.load(two, str(reply.session))).calls["c1"].trunk
    assert plain is not None
    assert not isinstance(plain.messages()[2].content[1]["image_url"]["url"], BlobRef)
    backend = ScriptedBackend(["seen", "seen"])
    assert (await Agent("c", backend, store=two).acall(list(plain.messages()))).content == "seen"
    assert backend.requests[0].messages[2].content[1]["image_url"]["url"] == URL
    with pytest.raises(ConfigError, match="no blob named"):
        await Agent("c", backend, store=MemoryLog()).acall(list(plain.messages()))


# --- what is made of a log


def test_it_is_saved_pruned_and_read(tmp_path: Path) -> None:
    store = MemoryLog()
    session, _ = asked(store)
    save_session(store, session, tmp_path / "s.lllm")
    read, id = read_session(tmp_path / "s.lllm")
    prove(read, id)
    assert len(read._blobs) == 5  # with the schemas
    other, _ = asked(store)
    prune(store, Limits(keep=1), now=2**60)
    assert [info.id for info in store.sessions()] == [other]
    prove(store, other)


@pytest.mark.parametrize("format", FORMATS)
def test_every_export(format: str) -> None:
    store = MemoryLog()
    session, _ = asked(store)
    text = export(store, session, format, **({"content": True} if format == "otel" else {}))
    if format == "html":
        assert f'<img alt="" src="{URL}">' in text
    elif format == "openai":
        messages = json.loads(text)["messages"]
        assert [message["role"] for message in messages][2:6] == ["tool", "tool", "tool", "user"]
        assert messages[5]["content"][1]["image_url"]["url"] == URL
    elif format != "bundle":
        assert "[image/png, 67 bytes]" in text
        assert "sha256:" not in text.replace("\\", "") or format in ("markdown", "notebook", "trl")


def test_show_says_what_a_part_is() -> None:
    store = MemoryLog()
    session, _ = asked(store)
    texts = [row.text for row in views.transcript(views.load(store, session)) if row.kind == "result"]
    assert sorted(texts) == [
        "Two pictures:\n[image/png, 67 bytes]\n[image/jpeg, 44 bytes]",
        "[report.pdf, application/pdf, 11 bytes]",
        "[table.csv, text/csv, 8 bytes]",
    ]
    picture = Message("user", [{"type": "text", "text": "Look."}, Image(PNG)])
    reply = Agent("a", ScriptedBackend(["yes"]), store=store).call([picture])
    rows = views.transcript(views.load(store, str(reply.session)))
    assert [row.text for row in rows if row.kind == "message"] == ["Look.\n[image/png, 67 bytes]"]


# --- refusals


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            lambda: Image(PNG + b"\0" * LARGEST),
            "the tool returned 21.0 MB of images and files; at most 21.0 MB",
        ),
        (lambda: [Image(PNG + b"\0" * (LARGEST // 2))] * 3, "the tool returned 31.5 MB of images and files"),
        (lambda: {"picture": Image(PNG)}, "the tool returned Image within other values; return it alone"),
        (lambda: [[Image(PNG)]], "the tool returned Image within other values"),
        (lambda: [Image(PNG), object()], "has no text of its own"),
        (
            lambda: PNG,
            "the tool returned binary data; return text, lllm.Image(data) or lllm.File(data, name)",
        ),
        (lambda: Image(b""), "data of an Image is empty"),
        (lambda: Image(b"nothing known"), "are of no known format, and its media_type was not given"),
        (lambda: Image("a.png"), "data of an Image must be bytes, got text"),  # type: ignore[arg-type]
        (lambda: Image(PNG, "text/plain"), "media_type of an Image must be image/..., got 'text/plain'"),
        (lambda: File(b"x", "a", "nonsense"), "media_type of a File must be like image/png"),
        (lambda: File(b"x", " "), "name of a File must be text of 1 to 255 characters"),
    ],
)
def test_a_result_that_cannot_be_taken_is_an_error(value: Callable[[], Any], words: str) -> None:
    @tool(effect="pure")
    def returns() -> Any:
        """Returns."""
        return value()

    backend = ScriptedBackend([[FunctionCall("1", "returns")], "done"])
    store = MemoryLog()
    session = str(Agent("a", backend, tools=[returns], store=store).call("go").session)
    returned = next(
        event["data"] for event in views.load(store, session) if event["kind"] == ev.TOOL_RETURNED
    )
    assert returned["ok"] is False
    assert words in returned["content"]
    assert words in backend.requests[-1].messages[-1].text


def test_lists_of_texts_stay_json() -> None:
    @tool(effect="pure")
    def names() -> Any:
        """Names."""
        return ["a", {"type": "image_url", "image_url": {"url": "x"}}]

    backend = ScriptedBackend([[FunctionCall("1", "names")], "done"])
    Agent("a", backend, tools=[names], store=MemoryLog()).call("go")
    assert backend.requests[-1].messages[-1].content == '["a",{"type":"image_url","image_url":{"url":"x"}}]'


def test_bytes_that_are_gone_are_a_fault() -> None:
    gone = Message(
        "tool", [{"type": "image_url", "image_url": {"url": "sha256:" + "0" * 64}}], tool_call_id="1"
    )
    before = Message("assistant", "", tool_calls=[FunctionCall("1", "shot")])
    with pytest.raises((ConfigError, ProviderFailed), match="no blob named"):
        Agent("a", ScriptedBackend(["x"]), store=MemoryLog()).call([before, gone])


# --- effects


@lllm.activity(effect="pure")
async def render(page: int) -> Any:
    """Returns pictures within JSON."""
    DONE.append(page)
    return {"page": page, "pictures": (Image(PNG), File(PDF, "a.pdf"))}


DONE: list[int] = []


@pytest.fixture
def done() -> list[int]:
    DONE.clear()
    return DONE


def renders(store: LogStore) -> Callable[[], Any]:
    async def main() -> Any:
        async with lllm.arecord("p", store=store):
            first = await render(1)
            await Agent("a", ScriptedBackend(lambda request: "x")).acall("one")
            return first, await render(2)

    return main


VALUE = (
    {"page": 1, "pictures": (Image(PNG), File(PDF, "a.pdf"))},
    {"page": 2, "pictures": (Image(PNG), File(PDF, "a.pdf"))},
)


def test_an_activity_returns_images(done: list[int], tmp_path: Path) -> None:
    store = MemoryLog()
    assert asyncio.run(renders(store)()) == VALUE
    session = store.sessions(1)[0].id
    assert len(store._blobs) == 2
    returned = [event["data"] for event in views.load(store, session) if event["kind"] == ev.EFFECT_RETURNED]
    assert len(returned[0]["blobs"]) == 2
    assert replay_session(session, store=store, entry=renders(store), raises=True).verified
    assert done == [1, 2]
    texts = [row.text for row in views.transcript(views.load(store, session)) if row.kind == "outcome"]
    assert "[image/png, 67 bytes]" in texts[0]
    with SQLiteLog(tmp_path / "other.db") as other:
        fork = fork_session(session, store=store, into=other, entry=renders(other))
        assert fork.result == VALUE
        prove(other, fork.session)
    assert done == [1, 2]
    for events in range(2, len(list(store.read(session))) - 1):
        broken = MemoryLog()
        broken._sessions[session] = store._sessions[session][:events]
        broken._blobs = (
            dict(store._blobs) if b"blobs" in b"".join(b.body for b in broken._sessions[session]) else {}
        )
        assert resume_session(session, store=broken, entry=renders(broken)).result == VALUE
        prove(broken, session)
        assert replay_session(session, store=broken, entry=renders(broken), raises=True).verified
    assert asyncio.run(renders(NoLog())()) == VALUE


def test_a_resumed_session_keeps_new_blobs() -> None:
    """Large values that come after the end of the record."""

    @lllm.activity(effect="pure")
    async def large(n: int) -> Any:
        return "x" * 30_000 if n == 1 else b"\0\xff" * 10

    def main(store: LogStore) -> Callable[[], Any]:
        async def run() -> Any:
            async with lllm.arecord("p", store=store):
                await Agent("a", ScriptedBackend(lambda request: "x")).acall("one")
                return await large(1), await large(2)

        return run

    store = MemoryLog()
    expected = asyncio.run(main(store)())
    session = store.sessions(1)[0].id
    broken = MemoryLog()
    broken._sessions[session] = store._sessions[session][:3]
    assert resume_session(session, store=broken, entry=main(broken)).result == expected
    prove(broken, session)
    assert replay_session(session, store=broken, entry=main(broken), raises=True).verified
