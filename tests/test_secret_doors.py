"""Every path by which data reaches a log is free of secrets, whatever wrote the data."""

from __future__ import annotations

import pickle
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from lllm import Agent, FunctionCall, LLMError, LocalFileLog, Prompt, Reply, SQLiteLog, arecord, tool
from lllm.backends.scripted import ScriptedBackend
from lllm.errors import ParseError
from lllm.log import ReplayableLogBase
from lllm.ports import Completed, TextDelta
from lllm.replay import areplay_session
from lllm.session import Session
from lllm.utils import StreamWrapper

KEY = "sk-canary-0123456789abcdef"
CONTROL = "control-9876543210"


def asks(name: str, arguments: str = "{}") -> Reply:
    return Reply("", tool_calls=(FunctionCall("t1", name, arguments),), finish_reason="tool_calls")


def agent(*replies: Any, name: str = "a", **more: Any) -> Agent:
    return Agent(name, ScriptedBackend(list(replies)), **more)


def refuses(text: str, **more: Any) -> Any:
    raise ParseError([f"not with {KEY}"])


def breaks(text: str, **more: Any) -> Any:
    raise RuntimeError(f"no way with {KEY}") from KeyError(KEY)


def breaking_handler(context: Any) -> str:
    raise RuntimeError(f"no handler for {KEY}")


def schema() -> Any:
    def fetch(url: str, key: str = KEY) -> str:
        """Fetches."""
        return url

    return tool()(fetch)


@tool(approval=True)
def approved() -> str:
    """Does it."""
    return "done"


@tool()
def leaks() -> str:
    """Gives too much."""
    return f"it is {KEY}"


async def parser_raises(session: Session) -> None:
    await agent("text").acall(Prompt("d/p", "Say.", parser=breaks))


async def parser_refuses(session: Session) -> None:
    await agent(*["text"] * 9).acall(Prompt("d/r", "Say.", parser=refuses))


async def handler_raises(session: Session) -> None:
    await agent("text").acall(Prompt("d/h", "Say.", parser=refuses, exception_prompt=breaking_handler))


async def parsed_value(session: Session) -> None:
    await agent("text").acall(Prompt("d/v", "Say.", parser=lambda text, **_: {KEY: [KEY]}))


async def tool_schema(session: Session) -> None:
    backend = ScriptedBackend(["x"])
    await Agent("a", backend, tools=[schema()]).acall("Hi.")
    assert KEY not in str(backend.requests)  # the model is told no more than the log


async def reply_schema(session: Session) -> None:
    backend = ScriptedBackend(['{"key": "x"}'])
    form = {"type": "object", "properties": {"key": {"type": "string", "description": f"not {KEY}"}}}
    await Agent("a", backend, format=form).acall("Hi.")
    assert KEY not in str(backend.requests)


async def agent_name(session: Session) -> None:
    await agent("x", name=f"agent {KEY}").acall("Hi.")


async def unknown_tool(session: Session) -> None:
    await agent(asks(KEY), "x", tools=[leaks]).acall("Hi.")


async def wrong_arguments(session: Session) -> None:
    await agent(asks("leaks", f'{{"{KEY}": 1}}'), "x", tools=[leaks]).acall("Hi.")


async def tool_result(session: Session) -> None:
    await agent(asks("leaks"), "x", tools=[leaks]).acall("Hi.")


async def denial(session: Session) -> None:
    await agent(asks("approved"), "x", tools=[approved], approve=lambda call: f"not with {KEY}").acall("Hi.")


async def model_reply(session: Session) -> None:
    await agent(Reply(f"it is {KEY}", thinking=f"say {KEY}?")).acall("Hi.")


async def model_fault(session: Session) -> None:
    failing = ConnectionError(f"no way to https://me:{KEY}@host")
    failing.add_note(f"with {KEY}")
    await agent(failing).acall("Hi.")


async def arguments(session: Session) -> None:
    await agent("x").acall(Prompt("d/a", "Use {key}."), {"key": KEY})


async def sampling(session: Session) -> None:
    await agent("x", model_args={"extra_headers": {"X-Key": KEY}}).acall("Hi.")


async def streamed(session: Session) -> None:
    seen: list[str] = []

    def follow(call: str, delta: Any) -> None:
        if isinstance(delta, TextDelta):
            seen.append(delta.text)
        elif isinstance(delta, Completed):
            seen.append(delta.reply.content)
        session.emit("Frontend", {"method": "write", "args": list(seen), "kwargs": {}})

    await Agent("a", ScriptedBackend([f"it is {KEY}, yes"], chunk=3)).acall("Hi.", follow=follow)
    assert "".join(seen) == "it is [redacted:THE_KEY], yes" * 2


async def broken_follower(session: Session) -> None:
    def follow(call: str, delta: Any) -> None:
        raise RuntimeError(f"cannot show {KEY}")

    await agent("x").acall("Hi.", follow=follow)


async def frontend(session: Session) -> None:
    StreamWrapper().write(KEY, {KEY: 1}, mode=KEY)


async def artifact_text(session: Session) -> None:
    session.save_artifact(f"{KEY}.md", f"key {KEY}")


async def artifact_json(session: Session) -> None:
    session.save_artifact("a.json", {KEY: [KEY]})


async def artifact_bytes(session: Session) -> None:
    session.save_artifact("a.pickle", pickle.dumps({"key": KEY, "n": 200}, protocol=4))
    session.save_artifact("a.bin", b"\x00\xff" + KEY.encode("utf-16-le") + b"\x01\xfe")


async def note(session: Session) -> None:
    session.note(KEY, of=KEY)


async def event(session: Session) -> None:
    session.emit("Note", {"text": KEY, "more": {KEY: KEY}})


async def program_fails(session: Session) -> None:
    raise RuntimeError(f"the program fails with {KEY}")


DOORS: list[Callable[[Session], Awaitable[None]]] = [
    parser_raises, parser_refuses, handler_raises, parsed_value, tool_schema, reply_schema, agent_name, unknown_tool,
    wrong_arguments, tool_result, denial, model_reply, model_fault, arguments, sampling, streamed, broken_follower,
    frontend, artifact_text, artifact_json, artifact_bytes, note, event, program_fails,
]  # fmt: skip
STORES: dict[str, Callable[[Path], ReplayableLogBase]] = {
    "sqlite": lambda folder: SQLiteLog(folder / "sessions.db"),
    "files": LocalFileLog,
}


def found(folder: Path, text: str) -> list[str]:
    """Finds a text in names and contents of files, in the encodings that the tests use."""
    forms = {text.encode(), text.encode("utf-16-le"), text.lower().encode()}
    return [
        str(file)
        for file in folder.rglob("*")
        if any(form in str(file.relative_to(folder)).encode() for form in forms)
        or (file.is_file() and any(form in file.read_bytes() for form in forms))
    ]


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
async def test_nothing_passes(
    door: Callable[[Session], Awaitable[None]],
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("THE_KEY", KEY)
    store = STORES[kind](tmp_path / KEY[:6])
    error: BaseException | None = None
    try:
        async with arecord("doors", store=store, meta={"task": CONTROL}) as session:
            await door(session)
    except (LLMError, RuntimeError) as raised:
        error = raised
    chain: BaseException | None = error
    while chain is not None and door is not program_fails:  # that one is the program's own
        assert KEY not in f"{chain} {chain!r} {getattr(chain, '__notes__', '')} {vars(chain)}"
        chain = chain.__cause__ or chain.__context__
    assert KEY not in caplog.text
    assert (await areplay_session(session.id, store=store)).verified
    store.close()
    assert found(tmp_path / KEY[:6], KEY) == []
    assert found(tmp_path / KEY[:6], CONTROL)


async def test_a_session_is_not_named_by_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", KEY)
    store = LocalFileLog(tmp_path / "log")
    async with arecord(f"run with {KEY}", store=store, meta={KEY: {"x": KEY}}) as session:
        pass
    assert "canary" not in session.id
    store.close()
    assert found(tmp_path, KEY) == []


async def test_keys_given_in_code(tmp_path: Path) -> None:
    """Not in any variable: the backend knows them. They are known from the name of the agent's own session on."""
    backend = ScriptedBackend([f"it is {KEY}"])
    backend.secrets = (KEY,)  # type: ignore[attr-defined]
    store = LocalFileLog(tmp_path / "log")
    reply = await Agent(f"a {KEY}", backend, store=store).acall(f"use {KEY}")
    assert reply.content == "it is [redacted:backend]"
    assert reply.session is not None
    assert "canary" not in reply.session
    assert (await areplay_session(reply.session, store=store)).verified
    store.close()
    assert found(tmp_path, KEY) == []


def test_a_session_alone_knows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from lllm.log.memory import MemoryLog

    monkeypatch.setenv("THE_KEY", KEY)
    session = Session(MemoryLog())
    assert session.emit("Note", {"text": KEY}).data == {"text": "[redacted:THE_KEY]"}


async def test_a_variable_that_the_program_sets_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalFileLog(tmp_path / "log")
    async with arecord("later", store=store):
        await agent("before").acall("Hi.")
        monkeypatch.setenv("LATER_TOKEN", KEY)
        await agent(f"it is {KEY}").acall(f"use {KEY}")
    store.close()
    assert found(tmp_path, KEY) == []
