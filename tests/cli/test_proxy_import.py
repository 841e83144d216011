"""`lllm proxy import` and `lllm proxy export`."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from lllm.errors import ConfigError
from lllm.proxies.openapi.fetching import fetch
from tests.cli.conftest import Terminal

HARD = Path(__file__).parents[1] / "proxies" / "openapi" / "hard"
PETS: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Pets", "description": "Animals."},
    "servers": [{"url": "https://pets.example/v1"}],
    "security": [{"key": []}],
    "paths": {
        "/pets": {
            "get": {"operationId": "listPets", "tags": ["read"], "responses": {"200": {"description": "ok"}}},
            "post": {"operationId": "addPet", "tags": ["write"], "requestBody": {"content": {"text/x": []}}},
        },
        "/pets/{id}": {"delete": {"operationId": "removePet", "tags": ["write"]}},
    },
    "components": {"securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-Key"}}},
}


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    file = tmp_path / "pets.json"
    file.write_text(json.dumps(PETS))
    return file


def test_writes_into_the_folder_of_the_project(lllm: Terminal, demo: Path, pets: Path) -> None:
    (demo / "lllm.toml").write_text(
        '[project]\nname = "demo"\n[discovery]\nproxies = ["system/proxy/modules"]\n'
    )
    result = lllm("proxy", "import", str(pets))
    assert result.code == 0, result.err
    assert result.out == "system/proxy/modules/pets.py\n"
    assert "2 endpoints imported, 1 operation skipped" in result.err
    assert (
        "skipped POST /pets (#/paths/~1pets/post): requestBody/content/text/x must be an object" in result.err
    )
    assert "https://pets.example/v1 is sent what these variables hold: PETS_API_KEY" in result.err
    shown = lllm("proxy", "show", "pets")
    assert "## pets.list_pets" in shown.out


def test_warns_of_what_will_not_work(lllm: Terminal, demo: Path, tmp_path: Path, pets: Path) -> None:
    (demo / "lllm.toml").write_text('[project]\nname = "demo"\n')
    plain = {**PETS, "servers": [{"url": "http://pets.example"}]}
    scheme = {
        "type": "oauth2",
        "flows": {"clientCredentials": {"tokenUrl": "https://pets.example/token", "scopes": {}}},
    }
    plain["components"] = {"securitySchemes": {"key": scheme}}
    pets.write_text(json.dumps(plain))
    result = lllm("proxy", "import", str(pets))
    assert "not encrypted" in result.err
    assert "[discovery] proxies" in result.err
    assert "PETS_TOKEN must hold an access token, from https://pets.example/token" in result.err


def test_says_all_as_json(lllm: Terminal, demo: Path, pets: Path) -> None:
    found = lllm("proxy", "import", str(pets), "--out", "made", "--json").json
    assert found["imported"] == 2
    assert [one["at"] for one in found["skipped"]] == ["#/paths/~1pets/post"]
    assert found["variables"] == ["PETS_API_KEY"]
    assert found["files"] == ["made/pets.py"]
    assert (demo / "made" / "pets.py").is_file()


def test_overwrites_only_by_force(lllm: Terminal, demo: Path, pets: Path) -> None:
    (demo / "mine.py").write_text("# mine\n")
    result = lllm("proxy", "import", str(pets), "--out", "mine.py")
    assert result.code == 2
    assert "--force" in result.err
    assert (demo / "mine.py").read_text() == "# mine\n"
    assert lllm("proxy", "import", str(pets), "--out", "mine.py", "--force").code == 0
    assert "class Pets(BaseProxy)" in (demo / "mine.py").read_text()


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (("--tag", "READ"), 1),
        (("--include", "remove*"), 1),
        (("--include", "DELETE *", "--include", "/pets"), 2),
        (("--exclude", "DELETE *"), 1),
    ],
)
def test_chooses_operations(
    lllm: Terminal, demo: Path, pets: Path, options: tuple[str, ...], count: int
) -> None:
    assert lllm("proxy", "import", str(pets), "--out", "x.py", "--json", *options).json["imported"] == count


def test_names_the_tags_that_there_are(lllm: Terminal, demo: Path, pets: Path) -> None:
    assert "Its tags: read, write." in lllm("proxy", "import", str(pets), "--tag", "reed").err


def test_nothing_is_left_of_what_cannot_be_written(lllm: Terminal, demo: Path, pets: Path) -> None:
    (demo / "file").write_text("")
    before = sorted(demo.rglob("*"))
    for words in (
        ("--out", "file/below"),
        ("--tag", "nowhere"),
        ("--name", "../up"),
        ("--server", "ftp://x.example"),
        ("--auth", "bearer:ghp_0123456789abcdefghij"),
    ):
        result = lllm("proxy", "import", str(pets), *words)
        assert result.code == 2, words
        assert "Traceback" not in result.err
        assert "0123456789abcdefghij" not in result.err
    assert lllm("proxy", "import", "nowhere.json").code == 2
    assert lllm("proxy", "import", str(HARD / "bad" / "swagger-2.0.yaml")).code == 2
    assert sorted(demo.rglob("*")) == before


def test_many_operations_become_a_folder(lllm: Terminal, demo: Path, tmp_path: Path) -> None:
    paths = {f"/{tag}/{n}": {"get": {"tags": [tag]}} for tag in ("red", "green thing") for n in range(80)}
    file = tmp_path / "big.json"
    file.write_text(
        json.dumps({"openapi": "3.0.3", "paths": paths, "servers": [{"url": "https://x.example"}]})
    )
    found = lllm("proxy", "import", str(file), "--name", "big", "--out", "proxies", "--json").json
    assert found["files"] == ["proxies/big/green_thing.py", "proxies/big/red.py"]
    assert found["proxies"] == ["big/green_thing", "big/red"]
    assert lllm("proxy", "import", str(file), "--name", "big", "--out", "one.py").code == 0


def test_a_document_without_a_server(lllm: Terminal, demo: Path) -> None:
    file = str(HARD / "servers-none-3.1.yaml")
    assert "names no server" in lllm("proxy", "import", file, "--out", "a.py").err
    result = lllm("proxy", "import", file, "--out", "b.py", "--server", "https://x.example")
    assert "names no server" not in result.err


def test_a_name_that_ships_is_not_taken(lllm: Terminal, demo: Path, pets: Path) -> None:
    result = lllm("proxy", "import", str(pets), "--name", "files", "--out", "a.py")
    assert result.code == 2
    assert "--name" in result.err


def test_export(lllm: Terminal, demo: Path, pets: Path) -> None:
    (demo / "lllm.toml").write_text('[project]\nname = "demo"\n[discovery]\nproxies = ["proxies"]\n')
    assert lllm("proxy", "import", str(pets)).code == 0
    document = lllm("proxy", "export", "pets").json
    assert sorted(document["paths"]) == ["/pets", "/pets/{id}"]
    assert lllm("proxy", "export", "pets", "--out", "pets.openapi.json").out == "pets.openapi.json\n"
    assert json.loads((demo / "pets.openapi.json").read_text()) == document
    assert lllm("proxy", "export", "nowhere").code == 2


# --- over HTTP


class Pages(BaseHTTPRequestHandler):
    pages: dict[str, tuple[int, dict[str, str], bytes]]

    def do_GET(self) -> None:
        status, headers, body = self.pages.get(self.path, (404, {}, b""))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    Pages.pages = {
        "/api/openapi.json": (200, {"Content-Type": "application/json"}, json.dumps(PETS).encode()),
        "/moved": (302, {"Location": "/api/openapi.json"}, b""),
        "/away": (302, {"Location": "http://example.com/openapi.json"}, b""),
        "/file": (302, {"Location": "file:///etc/passwd"}, b""),
        "/loop": (302, {"Location": "/loop"}, b""),
        "/large": (200, {}, b"x" * 5000),
        "/page": (200, {"Content-Type": "text/html"}, b"<html></html>"),
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_imports_from_an_address(lllm: Terminal, demo: Path, site: str) -> None:
    for n, path in enumerate(("/api/openapi.json", "/moved")):
        result = lllm("proxy", "import", site + path, "--out", f"pets{n}.py")
        assert result.code == 0, result.err
        assert f"{site}/api/openapi.json" in (demo / f"pets{n}.py").read_text()
    Pages.pages["/api/openapi.json?key=s3cret-of-a-url"] = Pages.pages["/api/openapi.json"]
    result = lllm("proxy", "import", f"{site}/api/openapi.json?key=s3cret-of-a-url", "--out", "keyed.py")
    assert result.code == 0
    assert "s3cret" not in (demo / "keyed.py").read_text() + result.out + result.err
    for path in ("/away", "/file", "/loop", "/page", "/nowhere"):
        result = lllm("proxy", "import", site + path, "--out", "none.py")
        assert result.code == 2, path
        assert not (demo / "none.py").exists()


def test_a_key_in_the_address_is_not_written(lllm: Terminal, demo: Path, site: str) -> None:
    query = "?api_key=hunter2hunter2#hunter2hunter2"
    Pages.pages["/api/openapi.json?api_key=hunter2hunter2"] = Pages.pages["/api/openapi.json"]
    result = lllm("proxy", "import", f"{site}/api/openapi.json{query}", "--out", "pets.py")
    assert result.code == 0, result.err
    assert f'source = "{site}/api/openapi.json"' in (demo / "pets.py").read_text()
    assert "hunter2" not in (demo / "pets.py").read_text()
    for address in (f"{site}/nowhere", f"{site}/loop", "http://example.com/x", "http://127.0.0.1:9/x"):
        result = lllm("proxy", "import", address + query, "--out", "none.py")
        assert result.code == 2
        assert "hunter2" not in result.out + result.err


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/openapi.json",
        "ftp://127.0.0.1/openapi.json",
        "file:///etc/passwd",
        "https://user:password@127.0.0.1/x",
        "https://",
        "http://[::1/x",
    ],
)
async def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ConfigError) as error:
        await fetch(url)
    assert "password@" not in str(error.value)


async def test_size_and_time_are_limited(site: str) -> None:
    with pytest.raises(ConfigError, match="more than 1,000 bytes"):
        await fetch(f"{site}/large", max_bytes=1000)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(ConfigError, match="did not answer"):
            await fetch(url, timeout=0.2)
