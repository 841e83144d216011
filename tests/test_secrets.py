"""L19, for what there is: no key reaches a log, a message, a repr or a screen."""

from __future__ import annotations

import base64
import json
import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from lllm import Agent, LLMError, LocalFileLog, Prompt, SQLiteLog, arecord, build_agent, load_config
from lllm.backends.openai import OpenAIBackend
from lllm.cli import main
from lllm.log import ReplayableLogBase
from lllm.replay import areplay_session, replay_session
from tests.servers.openai_server import OpenAIServer, Script, call

CANARIES = {
    "environment": "sk-proj/env+KEY==0123456789",
    "token": 'tok"en\\with é 987654321',
    "header": "hdr-canary-55aa55aa55",
    "argument": "sk-arg-77cc77cc77cc",
    "yaml": "yaml-canary-31313131",
}

KNOWN = {name: secret for name, secret in CANARIES.items() if name != "yaml"}
"""What the agents of a program know to be secret; the last one is only known to a configuration."""


def forms(secret: str) -> set[bytes]:
    """A secret as it may travel: as it is, escaped, quoted, encoded (as a whole, or somewhere within a longer text)."""
    data = secret.encode()
    found = {data, quote(secret).encode(), quote_plus(secret).encode(), quote(secret, safe="").encode()}
    for ascii_only in (True, False):
        escaped = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        found |= {escaped.encode(), json.dumps(escaped, ensure_ascii=ascii_only)[1:-1].encode()}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            whole = encode(b"\0" * shift + data).rstrip(b"=")
            found.add(whole[(0, 2, 3)[shift] : len(whole) - 1])
    return found


class Net:
    """Everything that was written or said, to be searched."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def take(self, *things: Any) -> None:
        for thing in things:
            if isinstance(thing, BaseException):
                self.texts += traceback.format_exception(thing)
                chained: BaseException | None = thing
                while chained is not None:
                    self.texts += [str(chained), repr(chained), repr(chained.args), repr(vars(chained))]
                    chained = chained.__cause__ or chained.__context__
            else:
                self.texts += [repr(thing), str(thing)]

    def search(self, *folders: Path) -> None:
        places = {f"text {number}": text.encode() for number, text in enumerate(self.texts)}
        for folder in folders:
            places |= {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        assert len(places) > 10
        leaks = [
            f"{name} in {place}: ...{data[max(0, at - 80) : at + 40]!r}"
            for name, secret in CANARIES.items()
            for form in forms(secret)
            for place, data in places.items()
            if (at := data.find(form)) >= 0
        ]
        assert leaks == []


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Net:
    monkeypatch.setenv("OPENAI_API_KEY", CANARIES["environment"])
    monkeypatch.setenv("MY_TOKEN", CANARIES["token"])
    return Net()


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running


def environment() -> dict[str, str]:
    """Gives the environment."""
    return dict(os.environ)


def encoded() -> str:
    """Gives the secrets as headers and URLs have them."""
    said = []
    for secret in KNOWN.values():
        said.append("Basic " + base64.b64encode(f"user:{secret}".encode()).decode())
        said.append("https://x/?key=" + quote(secret, safe=""))
        said.append(json.dumps({"inner": json.dumps({"key": secret})}))
    return "\n".join(said)


def fails() -> None:
    """Fails, and says too much."""
    raise RuntimeError(f"refused {CANARIES['argument']} and {CANARIES['token']} and {CANARIES['header']}")


STORES = {"sqlite": lambda folder: SQLiteLog(folder / "sessions.db"), "files": LocalFileLog}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", STORES)
async def test_no_key_is_written_or_said(
    kind: str, stream: bool, net: Net, server: OpenAIServer, tmp_path: Path
) -> None:
    store: ReplayableLogBase = STORES[kind](tmp_path / "logs")
    backend = OpenAIBackend(
        server.url, CANARIES["argument"], headers={"X-Gateway": f"Bearer {CANARIES['header']}"}
    )
    plain = OpenAIBackend(server.url)  # its key is the environment's
    prompt = Prompt("secrets/ask", "Use {key} and {other}.", functions=[environment, encoded, fails])
    agent = Agent("spy", backend, "You spy.", max_llm_recall=0)
    follow = (lambda call, delta: None) if stream else None
    keys = {"key": CANARIES["argument"], "other": CANARIES["token"]}
    names = ("environment", "encoded", "fails")
    async with arecord("secrets", store=store, meta={"task": "no secret"}) as session:
        server.scripts.append(Script(tool_calls=[call(name, "{}", f"c{name}") for name in names]))
        server.say(" and ".join(KNOWN.values()))  # a model that says it all again
        await agent.acall(prompt, keys, follow=follow)
        assert len(server.requests) == 2
        assert "Use [redacted:" in server.requests[0].data.decode()  # the model is told no more than the log
        net.take(agent, backend, session, *(request.data for request in server.requests))
        for one in (agent, agent.with_(model=plain)):
            for status in (401, 400):
                said = " ".join(KNOWN.values())
                server.fault(status, f"Incorrect API key provided: {said}")
                with pytest.raises(LLMError) as caught:
                    await one.acall(prompt, keys, follow=follow)
                net.take(*([caught.value] if one is agent else [str(caught.value)]))
    await backend.aclose()
    await plain.aclose()
    report = await areplay_session(session.id, store=store)
    assert report.verified, report
    net.take(report, *(body.decode() for body in store.read(session.id)))
    store.verify(session.id)
    store.close()
    net.search(tmp_path)


@pytest.mark.parametrize("log", ["sqlite", "localfile"])
def test_a_configured_key_reaches_no_log_and_no_screen(
    log: str, net: Net, server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("A_PLAIN_NAME", CANARIES["yaml"])
    (tmp_path / "lllm.toml").write_text('[run]\ndefault = "default.yaml"\n')
    (tmp_path / "default.yaml").write_text(
        f"name: spy\nlog_type: {log}\nlog_dir: logs\nmodel: openai/test-model\n"
        f"base_url: {server.url}\napi_key: ${{A_PLAIN_NAME}}\nagent_configs: {{spy: {{}}}}\n"
    )
    monkeypatch.chdir(tmp_path)
    config = load_config(tmp_path / "default.yaml")
    net.take(config, config.agents if hasattr(config, "agents") else "")
    system = build_agent(config)
    server.say(f"Your key is {CANARIES['yaml']}, they say, or {CANARIES['environment']}.")
    system(f"Is {CANARIES['yaml']} or {CANARIES['token']} a good key?")
    assert server.requests[0].headers["Authorization"] == f"Bearer {CANARIES['yaml']}"
    server.fault(401, f"Incorrect API key provided: {CANARIES['yaml']}")
    with pytest.raises(LLMError) as caught:
        system("Hi.")
    net.take(caught.value, system, system.session, *system.agents.values())
    infos = system.store.sessions()
    assert len(infos) == 2
    for info in infos:
        for command in (["show", info.id], ["show", info.id, "--json"], ["show", info.id, "--events"],
                        ["replay", info.id], ["replay", info.id, "--json"]):  # fmt: skip
            capsys.readouterr()
            code = main(command)
            said = capsys.readouterr()
            net.texts += [said.out, said.err]
            assert code == 0, (command, said.out, said.err)
    for command in (["check"], ["doctor"], ["sessions", "--json"], ["list", "models"]):
        main(command)
        said = capsys.readouterr()
        net.texts += [said.out, said.err]
    assert all(replay_session(info.id, store=system.store).verified for info in infos)
    system.store.close()
    net.search(tmp_path / "logs")
