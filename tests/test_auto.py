"""`auto`: the first model that is configured, why it is that one, and what a replay makes of it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lllm import LLM, Agent, ScriptedBackend, record
from lllm.cli.doctor import doctor
from lllm.config import load_config, load_project
from lllm.errors import ConfigError
from lllm.llm import connect, project
from lllm.llm.auto import KEYS, choose
from lllm.llm.build import agent_of, build_agent
from lllm.replay import replay_session, resume_session
from lllm.shipped import EXTRAS
from tests.servers.openai_server import OpenAIServer, Script

SECRET = "sk-canary-0123456789"
SYSTEM = "agent_configs: {assistant: {}}\n"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(connect, "_open", {})
    monkeypatch.setattr(project, "_stores", {})
    yield
    close_stores()


def close_stores() -> None:
    """Closes the stores that the test has opened. Python 3.13 warns of a SQLite connection that is dropped open."""
    for store in project._stores.values():
        store.close()
    project._stores.clear()


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    """An endpoint with one model."""
    with OpenAIServer() as one:
        models = json.dumps({"object": "list", "data": [{"id": "org/served", "object": "model"}]}).encode()
        one.forever = Script("Hello.")
        one.raws["/v1/models"] = models
        yield one


def write(text: str) -> None:
    Path("lllm.toml").write_text(text)


def chosen() -> tuple[str, str]:
    return choose(load_project())[:2]


def test_nothing_is_configured() -> None:
    assert chosen() == ("embedded", "nothing else is configured")


def test_the_order(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything at once; then the first is taken away, one after another."""
    write('[run]\nmodel = "openai/mine"\n[models.tiny]\npath = "tiny.gguf"\n')
    Path("tiny.gguf").touch()
    monkeypatch.setenv("API_URL", server.url)
    for variable, *_ in KEYS:
        monkeypatch.setenv(variable, SECRET)
    assert chosen() == ("openai/mine", "named by lllm.toml:2")
    write('[models.tiny]\npath = "tiny.gguf"\n')
    for variable, url, model in KEYS:
        choice = choose(load_project())
        assert (choice.model, choice.why) == (f"openai/{model}", f"{variable} is set")
        assert choice.options == {"base_url": url, "api_key": SECRET}
        monkeypatch.delenv(variable)
    choice = choose(load_project())
    assert choice[:2] == ("openai/org/served", "the endpoint of environment variable API_URL answers")
    assert choice.options == {"base_url": server.url}
    monkeypatch.delenv("API_URL")
    assert chosen() == ("tiny", "models.tiny is there (lllm.toml:1)")
    Path("tiny.gguf").unlink()
    assert choose(load_project()).passed == ("models.tiny: there is no tiny.gguf",)
    assert chosen() == ("embedded", "nothing else is configured")


def test_a_line_of_the_env_file_is_a_key() -> None:
    Path(".env").write_text(f"MISTRAL_API_KEY={SECRET}\n")
    assert chosen() == ("openai/mistral-small-latest", "MISTRAL_API_KEY is set")


def test_an_endpoint_that_does_not_answer_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("LLLM_BASE_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}/v1")
        choice = choose(load_project())
    assert choice.model == "embedded"
    assert choice.passed == ("the endpoint of environment variable LLLM_BASE_URL does not answer",)


def test_one_that_takes_connections_and_says_nothing_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("API_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        choice = choose(load_project())
    assert choice.model == "embedded"
    assert choice.passed == ("the endpoint of environment variable API_URL names no models",)


def test_the_key_of_another_endpoint_does_not_lead_to_openai(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    choice = choose(load_project())
    assert choice[:2] == ("openai/org/served", "the endpoint of environment variable OPENAI_BASE_URL answers")
    assert choice.options == {"base_url": server.url, "api_key": SECRET}


def test_a_file_whose_backend_is_not_installed_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    write('[models.tiny]\npath = "tiny.gguf"\n[models.big]\npath = "big"\n')
    Path("tiny.gguf").touch()
    Path("big").mkdir()
    for extra in ("local", "llama-cpp"):
        monkeypatch.setitem(EXTRAS, extra, ("no_such_package",))
    choice = choose(load_project())
    assert choice.model == "big"
    assert choice.passed == ("models.tiny: llama_cpp needs the package 'no_such_package'",)


def test_what_was_chosen_is_asked(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_URL", server.url)
    llm = LLM()
    assert llm.model == "openai/org/served"
    assert llm("Hi.").content == "Hello."
    assert server.requests[-1].json["model"] == "org/served"
    config = load_config({"agent_configs": {"a": {"temperature": 0}}})
    agent = agent_of(config.agent("a"), config)
    assert agent("Hi.").content == "Hello."
    assert agent.why == "the endpoint of environment variable API_URL answers"


def test_the_reason_is_in_the_log_and_a_replay_keeps_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("system.yaml").write_text(SYSTEM)
    write('[run]\ndefault = "system.yaml"\n')
    system = build_agent("system.yaml")
    system("What is 2 plus 3?")
    before = list(system.store.read(system.session.id))
    started = json.loads(before[0])["data"]
    assert started["entry"]["models"] == {"assistant": "embedded"}
    assert started["entry"]["why"] == {"assistant": "nothing else is configured"}
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    report = replay_session(system.session.id, store=system.store)
    assert (report.verified, report.divergence) == (True, None)
    assert list(system.store.read(system.session.id)) == before


def test_a_program_without_a_system_replays_with_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def program() -> str:
        return LLM()("What is 2 plus 3?").session

    session = program()
    store = project.default_store()
    started = json.loads(next(iter(store.read(session))))["data"]
    assert started["entry"] == {"kind": "agent", "agent": "llm", "why": "nothing else is configured"}
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    report = replay_session(session, store=store, entry=program)
    assert (report.verified, report.divergence) == (True, None)


def test_a_copy_takes_what_auto_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent("a", "scripted/x", temperature=0)
    assert agent.why is None
    copy = agent.with_(model="auto")
    assert (copy.model, copy.why) == ("embedded", "nothing else is configured")
    assert copy.with_(temperature=1).why == "nothing else is configured"
    assert copy.with_(model="scripted/x").why is None
    monkeypatch.setenv("GROQ_API_KEY", SECRET)
    other = agent.with_(model="auto", options={"base_url": "http://127.0.0.1:9/v1"})
    assert (other.model, other.why) == ("openai/llama-3.3-70b-versatile", "GROQ_API_KEY is set")
    backend: Any = other._settings.backend
    assert SECRET in backend.secrets
    opened = [options for provider, options in connect._open if provider == "openai"]
    assert "http://127.0.0.1:9/v1" in opened[-1]  # options that are given win over those that were found
    assert SECRET not in repr(other)


def test_one_call_takes_what_auto_chooses(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_URL", server.url)
    llm = LLM(ScriptedBackend(["From the script."]))
    assert llm("Hi.").content == "From the script."
    assert llm("Hi.", model="auto").content == "Hello."
    assert server.requests[-1].json["model"] == "org/served"


@pytest.mark.parametrize("now", ["as it was", "a key more"])
def test_of_several_models_a_replay_takes_the_one_that_was_chosen(
    monkeypatch: pytest.MonkeyPatch, now: str
) -> None:
    """One agent, with a model that is named and with what auto chose."""

    def program() -> str:
        agent = Agent("a", ScriptedBackend(["From the script."]))
        with record("two models") as session:
            agent("Hi.")
            agent("What is 2 plus 3?", model="auto", max_tokens=4)
        return session.id

    session = program()
    store = project.default_store()
    if now == "a key more":
        monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    report = replay_session(session, store=store, entry=program)
    assert (report.verified, report.divergence) == (True, None)


def test_the_key_is_never_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", SECRET)
    doctor()
    doctor(json=True)
    said = capsys.readouterr()
    assert "GROQ_API_KEY is set" in said.out
    assert SECRET not in said.out + said.err
    assert SECRET not in repr(LLM())


def test_doctor_says_what_was_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    write('[models.tiny]\npath = "tiny.gguf"\n')
    doctor()
    said = capsys.readouterr().out
    assert "embedded: nothing else is configured (passed over: models.tiny: there is no tiny.gguf)" in said
    Path("tiny.gguf").touch()
    doctor()
    assert "tiny: models.tiny is there (lllm.toml:1)" in capsys.readouterr().out


def interrupted(session: str) -> None:
    """As if the process had died before the session's end."""
    import sqlite3

    with closing(sqlite3.connect(".lllm/sessions.db")) as log, log:
        key = log.execute("SELECT key FROM sessions WHERE id = ?", (session,)).fetchone()[0]
        log.execute("DELETE FROM appends WHERE session = ? AND seq > 1", (key,))
        log.execute("UPDATE sessions SET ended = NULL, status = NULL WHERE key = ?", (key,))


def test_a_session_is_gone_on_with_on_the_model_that_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    write('[run]\ndefault = "system.yaml"\n')
    Path("system.yaml").write_text(SYSTEM)
    system = build_agent()
    result = system("hello")
    session = system.session.id
    close_stores()
    interrupted(session)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    done = resume_session(session)
    assert done.asked >= 1
    assert done.result == result
    assert replay_session(session).verified


def test_a_model_that_is_gone_is_said_and_not_replaced(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write('[run]\ndefault = "system.yaml"\n')
    Path("system.yaml").write_text(SYSTEM)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    system = build_agent()
    system("hello")
    session = system.session.id
    close_stores()
    interrupted(session)
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(ConfigError, match=r"(?s)had the model 'openai/org/served'.*lllm fork"):
        resume_session(session)
