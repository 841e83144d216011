"""Every command, in a project that says its keys wherever it can; then a search for each of them in all that was written and
printed. The control is a text beside them, and a key that a file holds on purpose."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import web

from lllm.cli.app import BELOW, COMMANDS
from tests.cli.conftest import Terminal
from tests.servers.api import api
from tests.servers.collector import Collector
from tests.servers.openai_server import OpenAIServer

ENVIRONMENT = {
    "GATEWAY_API_KEY": "sk-environment/0+1==aa",
    "DB_PASS": "hunter2hunter2",
    "GITHUB_PAT": "pat-0123456789-pat",
    "APP_SIGNING_KEY": "signing-55aa55aa55aa",
    "API_KEY1": "numbered-1212121212",
    "SENTRY_DSN": "https://0123abcd@o1.ingest.example/7",
    "PIN_PASSWORD": "9182736455",
    "DATABASE_URL": "postgres://me:word-of-the-database@host/db",
    "https_proxy": "",
    "PLAIN_NAME": "configured-98989898",
    "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=collector-7878787878",
}
DOTENV = {
    "DOTENV_SECRET": "dotenv-34343434343",
    "PRIVATE_PEM": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\n-----END-----",
}
SHOWN = {"SHOP_VISITOR": "shown-to-an-api-60606060"}
"""A variable of `.env` whose name does not look secret: it is one because a proxy shows it."""
GIVEN = {"set": "override-56565656", "code": "in-the-code-77777777", "header": "gateway-header-2020"}
PLANTED = {
    **{name: value for name, value in ENVIRONMENT.items() if value and name != "OTEL_EXPORTER_OTLP_HEADERS"},
    **DOTENV,
    **GIVEN,
    "of DATABASE_URL": "word-of-the-database",
    "of OTEL_EXPORTER_OTLP_HEADERS": "collector-7878787878",
}
CONTROL = "control-text-424242"

SYSTEM = '''
import json, os
from lllm import Agent, AgentBase, Prompt, tool
from lllm.backends.openai import OpenAIBackend
from lllm.errors import ParseError

CODE = "in-the-code-77777777"
HEADER = %(header)r
URL = %(url)r

def secrets():
    return [value for name, value in os.environ.items() if name in NAMES] + [CODE, *HELD]

NAMES = %(names)r
HELD = []

@tool(effect="pure")
def environment(key: str = os.environ["GATEWAY_API_KEY"]) -> str:
    """Gives all of it."""
    return json.dumps(secrets() + [dict(os.environ)])

@tool(effect="pure")
def breaks(how: str = "") -> str:
    """Breaks."""
    raise RuntimeError(f"broken by {secrets()}")

def reads(text, **more):
    if "bad" in text:
        raise ParseError([f"not {secrets()}"])
    if "worse" in text:
        raise ValueError(f"no way with {secrets()}")
    return {"read": text, "keys": secrets()}

class Spy(AgentBase):
    """Spies."""
    agent_type = "spy"

    def call(self, task, **more):
        HELD[:] = [*map(self.config.settings.get, ("held", "more")), self.config.settings["headers"]["X-Own"], HEADER]
        Agent("inner", OpenAIBackend(URL, CODE, headers={"X-Gateway": HEADER})).call(f"{CODE} and {HEADER}")
        self.stream.write(secrets())
        self.session.save_artifact("keys.txt", " ".join(secrets()) + " %(control)s")
        self.session.save_artifact("keys.bin", b"\\xff\\xfe" + " ".join(secrets()).encode())
        agent = self.agents["spy"].with_(tools=[environment, breaks])
        prompt = Prompt("spy/ask", "Use {keys} for {task}. %(control)s", parser=reads)
        parsed = agent.call(prompt, {"keys": secrets(), "task": task}).parsed
        return {"result": parsed, "keys": secrets()}
'''


PROXY = '''
from lllm.proxies import BaseProxy, Basic, Bearer, Cookie, Header, Query

class Shop(BaseProxy):
    """Says what it was sent."""

    base_url = %(url)r
    auth = [
        Bearer(env="GATEWAY_API_KEY"), Header("X-Visitor", env="SHOP_VISITOR"), Query("key", env="API_KEY1"),
        Cookie("pass", env="DOTENV_SECRET"), Header("X-Code", value="none"),
    ]
    headers = {"X-Shop-Token": "in-the-code-77777777"}

    @BaseProxy.endpoint(endpoint="a", cache=600)
    def get(self, q: str = "x"):
        """Gives all of it."""

    @BaseProxy.endpoint(endpoint="denied", auth=Basic(user_env="SHOP_VISITOR", password_env="DB_PASS"))
    def denied(self, q: str = "x"):
        """Refuses."""

    @BaseProxy.endpoint(endpoint="moved")
    def moved(self):
        """Leads elsewhere."""
'''


async def echo(request: web.Request) -> web.Response:
    """Sends back all that it was sent."""
    sent = {"target": request.raw_path, "headers": dict(request.headers), "control": CONTROL}
    login = base64.b64decode(
        request.headers.get("Authorization", "").removeprefix("Basic ") + "==", validate=False
    )
    sent["login"] = login.decode("latin-1")
    status = {"/denied": 401, "/moved": 302}.get(request.path, 200)
    return web.json_response(
        sent, status=status, headers={"Location": f"https://example.org{request.raw_path}"}
    )


PROXIES = """
list proxies
list proxies --json
proxy
proxy show Shop
proxy show Shop --json
proxy search {control}
proxy call Shop.get q={control}
proxy call Shop.get q={control} --json
proxy call Shop.get q={secret}
proxy call Shop.denied
proxy call Shop.denied --json
proxy call Shop.moved
proxy test
proxy test --json
proxy export Shop --out shop.json
proxy export Shop
proxy import shop.json --out imported.py --name again --auth header:X-Key:GATEWAY_API_KEY
"""


ENVIRONMENT_TO_TRY = """
import os

from lllm import RLEnv


def breaks(completion):
    raise ValueError(f"{completion} {os.environ['DB_PASS']}")


ENV = RLEnv([{"prompt": os.environ["DB_PASS"] + " in a row"}], [breaks], name="keys")
"""
TRIALS = """
rl
rl --json
rl check task:ENV
rl run task:ENV --agent spy --json
rl run task:ENV --agent spy --run night
rl score task:ENV
rl score task:ENV --last --json
train --config train.yaml --set seed={secret}
train --config train.yaml --dry-run
models convert nowhere {secret}.gguf
"""


LOOKS = """
create --name demo
check
check --json
check --set api_keyx={set}
doctor
doctor --json
schema
totals
totals --by agent --json
sessions
sessions --text {control}
sessions artifacts {first}
sessions artifacts {first} --save artifacts
list models
list agents --json
models
models show embedded
models bench openai/test-model --json
models pull nobody/nothing
compare {first} {last}
compare {first} {last} --html c.html --json
test keep {second} --name spy
test
test --json
show {first} --events
show {first} --json
show {first} --markdown
show {last} --json
replay {first} --json
resume {first}
export {first}
"""


def forms(secret: str) -> set[bytes]:
    """A secret as it may travel."""
    data = secret.encode()
    escaped = json.dumps(secret)[1:-1]
    found = {data, escaped.encode(), json.dumps(escaped)[1:-1].encode(), repr(secret)[1:-1].encode()}
    found |= {quote(secret).encode(), quote(secret, safe="").encode(), secret.encode("utf-16-le")}
    for shift, edge in enumerate((0, 2, 3)):
        whole = base64.b64encode(b"\0" * shift + data).rstrip(b"=")
        found.add(whole[edge : len(whole) - 1])
    return found


def leaks(places: dict[str, bytes], planted: dict[str, str]) -> list[str]:
    return [
        f"{name} in {place}: ...{content[max(0, at - 100) : at + 40]!r}"
        for name, secret in planted.items()
        for form in forms(secret)
        for place, content in places.items()
        if (at := content.find(form)) >= 0
    ]


@pytest.fixture
def project(nobodys_machine: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    here = nobodys_machine
    with OpenAIServer() as server, api() as shop:
        shop.answer = echo
        names = {"names": [*ENVIRONMENT], "control": CONTROL, "url": server.url, "header": GIVEN["header"]}
        (here / "system.py").write_text(SYSTEM % names)
        (here / "lllm.toml").write_text(
            '[run]\ndefault = "spy.yaml"\n[discovery]\nagents = ["system.py"]\nproxies = ["shop.py"]\n[log]\ndir = "log"\n'
            '[cache]\nenabled = true\ndir = "cache"\n'
        )
        (here / "task.py").write_text(ENVIRONMENT_TO_TRY)
        (here / "train.yaml").write_text("environment: task:ENV\nmodel: nowhere\ntrainer: grpo\n")
        (here / "shop.py").write_text(PROXY % {"url": shop.url})
        (here / ".env").write_text("".join(f'{name}="{value}"\n' for name, value in (DOTENV | SHOWN).items()))
        (here / "spy.yaml").write_text(
            f"name: spy\nagent_type: spy\nmodel: openai/test-model\nbase_url: {server.url}\napi_key: ${{PLAIN_NAME}}\n"
            "agent_configs: {spy: {}}\nsettings: {held: '${DOTENV_SECRET}', more: '${PRIVATE_PEM}', headers: {X-Own: none}}\n"
        )
        yield server


def test_no_key_is_in_anything(project: OpenAIServer, lllm: Terminal, nobodys_machine: Path) -> None:
    here, server = nobodys_machine, project
    said: dict[str, bytes] = {}
    codes: dict[str, int] = {}

    def run(*words: str, stdin: str = "") -> str:
        result = lllm(*words, stdin=stdin)
        name = f"{len(said)}: lllm {' '.join(words)}"
        said[name] = f"{result.out}\n{result.err}".encode()
        codes[name] = result.code
        return result.out

    everything = " and ".join(PLANTED.values())
    known = " and ".join(value for value in PLANTED.values() if value not in GIVEN.values())

    def answers(*texts: str) -> None:
        for text in texts:
            server.say(text)

    call = {"id": "t1", "type": "function", "function": {"name": "environment", "arguments": "{}"}}
    breaks = {
        "id": "t2",
        "type": "function",
        "function": {"name": "breaks", "arguments": json.dumps({"how": everything})},
    }
    answers(everything)
    server.say("", tool_calls=[call, breaks])
    answers(f"bad {everything}", f"it is {everything} {CONTROL}")
    task = f"Say {known} and {GIVEN['set']}. {CONTROL}"  # what the code gives is known once it has given it
    done = run("run", task, "--json", "--set", f"settings.headers.X-Own={GIVEN['set']}")
    first = json.loads(done)["session"]
    answers(known, f"it is {known} {CONTROL}")
    second = json.loads(run("run", f"{known}. {CONTROL}", "--json"))["session"]
    answers("", "worse")
    run("--debug", "run", known, "--no-stdin")
    answers("")
    server.fault(401, f"Incorrect API key provided: {known}")
    run("run", "Hi.", "--json")
    answers("")
    server.fault(400, known)
    run("run", "Again.", "--stream")
    answers(f"Hello, {known}", "Bye.")
    run("chat", stdin=f"use {known}\n/exit\n")
    ids = [item["session"] for item in json.loads(run("sessions", "--json"))]
    assert len(ids) == 6
    for line in PROXIES.strip().splitlines():
        run(*line.format(control=CONTROL, secret=SHOWN["SHOP_VISITOR"]).split())
    calls = [item["session"] for item in json.loads(run("sessions", "--json"))][: -len(ids)]
    assert len(calls) == 6
    for id in calls:
        run("show", id)
        run("show", id, "--json")
        run("replay", id)
        run("export", id, "--format", "markdown")
    for line in LOOKS.strip().splitlines():
        run(*line.format(first=first, second=second, last=ids[0], set=GIVEN["set"], control=CONTROL).split())
    answers(f"tried {known}", f"tried {known}")
    for line in TRIALS.strip().splitlines():
        run(*line.format(secret=ENVIRONMENT["DB_PASS"]).split())
    assert all(codes[name] == 0 for name in codes if ": lllm rl run" in name), said
    for id in ids:
        run("replay", id)
        run("show", id)
    for format in ("markdown", "html", "notebook", "openai", "sharegpt", "hf", "trl", "otel", "bundle"):
        run("export", first, "--format", format, "--out", f"out.{format}")
    with Collector(400, None) as collector:
        for scheme in ("http", "ftp"):
            address = f"{scheme}://me:{GIVEN['code']}@{collector.address}"
            run("export", first, "--endpoint", address, "--content")
    (here / "messages.jsonl").write_text(
        json.dumps({"messages": [{"role": "user", "content": f"{CONTROL} imported"}]})
    )
    run("import", "messages.jsonl")
    run("fork", first, "--fresh", "--json")  # its header is needed, and in no log
    answers("", f"other {known} {CONTROL}", "", f"other {known} {CONTROL}", "", f"what {known} {CONTROL}")
    run("fork", first, "--set", f"settings.headers.X-Own={GIVEN['set']}", "--set", "temperature=0.5")
    run("fork", second, "--at", "0", "--json")
    run("whatif", second, "--set", "temperature=0.7", "--html", "w.html")
    run("resume")
    (here / "system.py").write_text((here / "system.py").read_text().replace("Use {keys}", "Take {keys}"))
    run("replay", first)
    run("replay", first, "--json")
    run("test")
    answers(f"accepted {known}")
    run("test", "accept", "spy")
    run("sessions", "copy", "--all", "--to", "localfile:copied")
    run("sessions", "prune", "--older-than", "90d")
    run("nonsense", known)
    run("run", "--nonsense", known)

    typed = [name.split("lllm ", 1)[1] for name in codes]
    every = {(name,) for name in COMMANDS} | {
        (name, below) for name, belows in BELOW.items() for below in belows
    }
    assert not [
        words
        for words in every
        if not any(line.removeprefix("--debug ").startswith(" ".join(words)) for line in typed)
    ]
    assert all(codes[name] == 0 for name in codes if ": lllm show" in name or "--out" in name), codes

    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/sessions"], capture_output=True, timeout=240,
    )  # fmt: skip
    said["pytest"] = tests.stdout + tests.stderr
    on_purpose = {here / ".env", here / "system.py", here / "spy.yaml", here / "shop.py"}
    files = {
        str(file.relative_to(here)): file.read_bytes() + str(file).encode()
        for file in here.rglob("*")
        if file.is_file() and file not in on_purpose and "__pycache__" not in file.parts
    }
    assert leaks(said | files, PLANTED | SHOWN) == []
    # the search finds what is there: a text beside the keys in each kind of thing, and a key where it is on purpose
    found = " ".join(leaks(said | files, {"control": CONTROL}))
    for place in (
        "lllm show",
        "lllm export",
        "log/",
        "cache/",
        "artifacts",
        "c.html",
        "w.html",
        ".bundle",
        "tests/sessions/spy",
        "lllm proxy call",
        "endpoints.sqlite",
    ):
        assert place in found, place
    assert leaks({".env": (here / ".env").read_bytes()}, PLANTED)
    marks = sum(content.count(b"[redacted:") for content in (said | files).values())
    assert marks > 1000
