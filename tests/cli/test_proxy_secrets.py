"""No credential of a proxy is in anything that lllm writes or prints, whatever the API sends back. A planted one is found."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lllm.models import FunctionCall
from tests.cli.conftest import Terminal
from tests.cli.test_byte_search import leaks
from tests.servers.api import Api, api

KEYS = {
    "HEADER_KEY": "header-key-7f3a/+=&91",
    "QUERY_KEY": "query key&5521?x=y/z",
    "BASIC_PASSWORD": "pass:word-66%20ab",
    "BEARER_ELSEWHERE": "bearer.token~of_the_other_name",
    "OPTIONAL_COOKIE": "cookie-value-4410-abcd",
    "PLAIN_LOGIN": "a-login-without-a-telling-name",
}
USER = "user-of-basic"

MODULE = '''
import os

from lllm.proxies import BaseProxy, Basic, Bearer, Cookie, Header, Query


class Api(BaseProxy):
    """Shows every kind of credential. {{"braces": 1}}"""

    base_url = "{url}"
    auth = (Header("X-Key", env="HEADER_KEY"), Query("key", env="QUERY_KEY"))

    @BaseProxy.endpoint(params={{"n": {{"example": 1}}}}, cache=3600)
    def both(self, n: int):
        """Header and query."""

    @BaseProxy.endpoint(auth=Basic(user_env="BASIC_USER", password_env="BASIC_PASSWORD"))
    def basic(self):
        """Basic."""

    @BaseProxy.endpoint(auth=[Bearer(env="BEARER"), Cookie("c", env="OPTIONAL_COOKIE", optional=True)])
    def bearer(self):
        """Bearer."""

    @BaseProxy.endpoint(auth=Header("X-Login", env="PLAIN_LOGIN"), method="POST")
    def login(self, text: str = "x"):
        """A header whose variable has no telling name."""


class Local(BaseProxy):
    @BaseProxy.endpoint(effect="pure")
    def leak(self) -> str:
        """Raises what it must not."""
        raise ValueError(" ".join(os.environ[name] for name in ("HEADER_KEY", "QUERY_KEY")))
'''
SYSTEM = """
from lllm import AgentBase


class Spy(AgentBase):
    agent_type = "spy"

    def call(self, task: str, **more):
        found = [str(self.proxy("Api.both", n=2)), str(self.proxy("Api.login"))]
        for address in ("Api.basic", "Local.leak"):
            try:
                found.append(str(self.proxy(address)))
            except Exception as error:
                found.append(repr(error))
        return [self.agents["spy"].call(task).content, *found]
"""
YAML = """
agent_type: spy
activate_proxies: [Api, Local]
proxy_options: {Api: {env: {BEARER: BEARER_ELSEWHERE}}}
agent_configs:
  spy:
    model_name: good/model
    system_prompt: "{api_docs}"
    tools: [Api.bearer, Api.both, Local.leak]
"""


@pytest.fixture
def server() -> Iterator[Api]:
    with api() as one:
        yield one


@pytest.fixture
def project(server: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "system").mkdir()
    (tmp_path / "system" / "api.py").write_text(MODULE.format(url=server.url))
    (tmp_path / "system" / "spy.py").write_text(SYSTEM)
    (tmp_path / "spy.yaml").write_text(YAML)
    (tmp_path / "lllm.toml").write_text(
        '[run]\ndefault = "spy.yaml"\n[discovery]\nproxies = ["system/api.py"]\nagents = ["system/spy.py"]\n'
        '[log]\ndir = "log"\n[cache]\ndir = "cache"\n'
    )
    for name, value in {**KEYS, "BASIC_USER": USER}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def model() -> list[Any]:
    return [
        [
            FunctionCall("1", "Api__bearer", "{}"),
            FunctionCall("2", "Api__both", '{"n": 3}'),
            FunctionCall("3", "Local__leak", "{}"),
        ],
        "Done.",
    ]


LOOKS = """
list proxies
list proxies --json
proxy
proxy --json
proxy show Api Local
proxy show Api --json
proxy test --all
proxy test --all --json
check
check --json
proxy call Api.both n=4
proxy call Api.both n=4 --json
proxy call Api.basic
proxy call Api.bearer --json
proxy call Api.login text=hello
proxy call Local.leak
--debug proxy call Local.leak
proxy export Api
sessions --json
"""
LOOKS_AT = """
show {id} --events
show {id} --full
show {id} --json
replay {id}
export {id} --format markdown
export {id} --format html --out {id}.html
export {id} --format bundle --out {id}.lllm
fork {id} --fresh
test keep {id} --name kept
"""


def places(root: Path, said: dict[str, bytes]) -> dict[str, bytes]:
    files = {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}
    return {**said, **{name: data for name, data in files.items() if "__pycache__" not in name}}


async def refusing(request: Any) -> Any:
    """Sends everything back in the words of an error."""
    from aiohttp import web

    return web.Response(status=401, text=f"bad key: {request.raw_path} {dict(request.headers)}")


def test_no_credential_of_a_proxy_is_in_anything(project: Path, server: Api, lllm: Terminal) -> None:
    lllm.scripts = {"good": model}
    said: dict[str, bytes] = {}

    def run(*words: str) -> Any:
        result = lllm(*words)
        said[f"{len(said)}: lllm {' '.join(words)}"] = f"{result.out}\n{result.err}".encode()
        return result

    done = run("run", "go", "--json")
    assert done.code == 0, done.err
    shown = {name for one in server.asked for name in KEYS if KEYS[name] in str(one.headers) + str(one.pairs)}
    assert {"HEADER_KEY", "QUERY_KEY", "BEARER_ELSEWHERE", "OPTIONAL_COOKIE", "PLAIN_LOGIN"} <= shown
    for line in LOOKS.strip().splitlines():
        run(*line.split())
    server.answer = refusing
    for address in ("Api.basic", "Api.bearer", "Api.login"):
        assert run("proxy", "call", address).code == 1
    assert run("proxy", "test").code == 1
    run("run", "again", "--json")
    for line in LOOKS_AT.strip().splitlines():
        run(*line.format(id=done.json["session"]).split())
    assert leaks(places(project, said), {**KEYS, "BASIC": f"{USER}:{KEYS['BASIC_PASSWORD']}"}) == []
    (project / "planted.txt").write_text(KEYS["QUERY_KEY"])
    assert leaks(places(project, said), KEYS) != []
