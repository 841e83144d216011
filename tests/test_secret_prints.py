"""Printed, saved, exported or sent data outside of a session is free of secrets, too."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from lllm import Agent, Dialog, Message, build_agent, load_config, record
from lllm.backends.openai import OpenAIBackend
from lllm.backends.scripted import ScriptedBackend
from lllm.cli import output
from lllm.config.overrides import given_again
from lllm.discovery import Report, _logged
from lllm.errors import ConfigError, ProviderError
from lllm.log.export import Source, export
from lllm.log.export.otlp import send
from lllm.log.memory import MemoryLog
from lllm.replay import fork_session, replay_session, resume_session
from lllm.session import Session
from tests.servers.collector import Collector

KEY = "sk-canary-0123456789abcdef"
NUMBER = "9182736455"


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", KEY)
    monkeypatch.setenv("DB_PASS", NUMBER)


@pytest.mark.holds_secrets  # pytest shows what is logged before any handler of lllm sees it
@pytest.mark.usefixtures("known")
def test_every_way_to_print(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    output.begin(debug=True, json=False)
    output.data({KEY: [KEY, int(NUMBER), object()], "n": 1})
    said = json.loads(capsys.readouterr().out)
    assert said["[redacted:THE_KEY]"][:2] == ["[redacted:THE_KEY]", "[redacted:DB_PASS]"]
    output.text(KEY)
    output.say(KEY)
    output.warn(KEY, KEY)
    output.piece(KEY)
    output.table(("A", "B"), [(KEY, None), (1, f"x {KEY}")], cut=("B",))
    output.failure(ConfigError(KEY, hint=KEY, where=KEY))
    output.failure(RuntimeError(KEY))
    output.listen()
    logging.getLogger("lllm.x").warning("it is %s", KEY)
    both = capsys.readouterr()
    assert KEY not in both.out + both.err
    assert (both.out + both.err).count("[redacted:THE_KEY]") > 8


@pytest.mark.holds_secrets
def test_what_a_configuration_holds_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    output.begin(debug=False, json=False)
    load_config({"settings": {"headers": {"X-Any": KEY}, "db": {"url": "postgres://u:longpassword1@h/d"}}})
    output.say(f"{KEY} longpassword1")
    assert capsys.readouterr().err == "[redacted:configuration] [redacted:configuration]\n"
    output.begin(debug=False, json=False)
    output.say(KEY)
    assert capsys.readouterr().err == f"{KEY}\n", "another command knows nothing of it"


@pytest.mark.usefixtures("known")
def test_discovery_logs_no_key(caplog: pytest.LogCaptureFixture) -> None:
    from lllm.config.problems import Problem

    _logged(Report(problems=[Problem(ConfigError(f"does not import: KeyError: {KEY}"))]))
    assert "[redacted:THE_KEY]" in caplog.text
    assert KEY not in caplog.text


def test_saved_dialogs(tmp_path: Path) -> None:
    """The key is in no variable: a backend that was used here knows it."""
    backend = ScriptedBackend(["yes"])
    backend.secrets = (KEY,)  # type: ignore[attr-defined]
    Agent("a", backend, store=MemoryLog()).call("Hi.")
    dialog = Dialog([Message("user", f"use {KEY}")], name=KEY)
    dialog.save(tmp_path / "d.json")
    assert KEY not in (tmp_path / "d.json").read_text()
    assert "[redacted:backend]" in (tmp_path / "d.json").read_text()
    assert KEY not in dialog.markdown()


@pytest.mark.parametrize(
    "format", ["markdown", "html", "notebook", "openai", "sharegpt", "hf", "trl", "otel"]
)
def test_exports_of_a_log_that_holds_a_key(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was written before the key was known to be one."""
    store = MemoryLog()
    agent = Agent("a", ScriptedBackend([f"it is {KEY}"]))
    with record("old", store=store, meta={"task": KEY}) as session:
        agent.call(f"use {KEY}")
    more = {"content": True} if format == "otel" else {}
    assert KEY in export(store, session.id, format, **more)
    monkeypatch.setenv("THE_KEY", KEY)
    text = export(store, session.id, format, **more)
    assert KEY not in text
    assert "[redacted:THE_KEY]" in text


def test_what_a_collector_says_again(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryLog()
    with record("spans", store=store) as session:
        Agent("a", ScriptedBackend(["x"])).call("Hi.")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"x-tenant={KEY},x-other=abc%20longvalue")
    for given in ({}, {"headers": {"x-mine": f"Bearer {KEY}"}}):
        with Collector(400, None) as collector, pytest.raises(ProviderError) as caught:
            send(Source(store, session.id), f"http://me:longpassword1@{collector.address}", **given)  # type: ignore[arg-type]
        text = f"{caught.value} {vars(caught.value)}"
        assert "Basic [redacted:" in text
        for secret in (KEY, "longvalue", "longpassword1"):
            assert secret not in text
    with pytest.raises(ConfigError) as wrong:
        send(Source(store, session.id), "ftp://me:longpassword1@127.0.0.1:9")
    assert "longpassword1" not in str(wrong.value)


# --- overrides


def run_with(folder: Path, *overrides: str, store: MemoryLog) -> str:
    (folder / "lllm.toml").write_text('[run]\ndefault = "a.yaml"\n')
    (folder / "a.yaml").write_text(
        "model: embedded\nagent_configs: {a: {}}\nsettings: {headers: {X-Any: none}}\n"
    )
    system = build_agent(load_config(overrides=overrides), model=ScriptedBackend(["x"]), log_base=store)
    system.overrides = list(overrides)
    system("Hi.")
    return str(system.session.id)


def test_the_value_of_an_override_is_in_no_log(nobodys_machine: Path) -> None:
    store = MemoryLog()
    session = run_with(
        nobodys_machine,
        f"settings.headers.X-Any={KEY}",
        f"api_key={KEY[:-1]}",
        "temperature=0.5",
        store=store,
    )
    assert not [body for body in store.read(session) if KEY[:-1].encode() in body]
    assert replay_session(session, store=store).verified, "a replay needs none of them"
    with pytest.raises(ConfigError, match=r"--set settings\.headers\.X-Any=\.\.\.") as caught:
        fork_session(session, store=store)
    assert "--set settings.headers.X-Any=VALUE" in str(caught.value)


def test_it_comes_from_the_variable_that_held_it(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = ["a.b=[redacted:THE_KEY]", "c=Bearer [redacted:THE_KEY]", "d=1", "e=[redacted:DATABASE_URL]"]
    monkeypatch.setenv("DATABASE_URL", "postgres://me:longpassword1@host/db")
    assert given_again(recorded, needed=False) == ["d=1"]
    monkeypatch.setenv("THE_KEY", KEY)
    assert given_again(recorded, needed=False) == [f"a.b={KEY}", f"c=Bearer {KEY}", "d=1"]
    with pytest.raises(ConfigError, match="--set e="):
        given_again(recorded, needed=True)
    assert given_again(recorded, ["e=new"], needed=True) == [f"a.b={KEY}", f"c=Bearer {KEY}", "d=1"]


def test_proxies_and_headers_of_a_backend_are_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = OpenAIBackend("http://host.test:9", KEY, headers={"X-Any": "value-of-a-header"},
                            proxy="http://me:word-of-proxy@127.0.0.1:9")  # fmt: skip
    assert {KEY, "value-of-a-header", "word-of-proxy"} <= set(backend.secrets)
    for text in (repr(backend), repr(backend.secrets), str(vars(backend)["_given_headers"])):
        for secret in (KEY, "value-of-a-header", "word-of-proxy"):
            assert secret not in text


def test_a_resumption_of_a_session_with_a_secret_override_says_what_is_missing(nobodys_machine: Path) -> None:
    store = MemoryLog()
    session = run_with(nobodys_machine, f"settings.headers.X-Any={KEY}", store=store)
    store._sessions[session] = store._sessions[session][:3]
    with pytest.raises(ConfigError, match="so the log does not hold it"):
        resume_session(session, store=store)
    assert Session(store).redactor


def test_a_service_with_a_key_for_each_user_stays_quick() -> None:
    from lllm.config.environ import latest

    for number in range(200):
        backend = ScriptedBackend([f"it is key-of-user-{number:04}"])
        backend.secrets = (f"key-of-user-{number:04}",)  # type: ignore[attr-defined]
        assert Agent("a", backend, store=MemoryLog()).call("Hi.").content == "it is [redacted:backend]"
    assert len(latest().forms) < 64 * 20
