"""An agent that searches the web, reads pages and looks into documents: recorded, and replayed without any of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from lllm import MemoryLog
from lllm.llm.agent import Agent
from lllm.ports import Request
from lllm.proxies import Proxy
from lllm.replay import replay_session
from tests.proxies.builtin.test_agent import PNG, calls, results, scripted
from tests.servers.api import Api, api


@pytest.fixture
def server() -> Iterator[Api]:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/search":
            found = [{"url": f"http://{request.host}/long", "title": "Long", "content": "A page"}]
            return web.json_response({"results": found})
        if request.path == "/logo":
            return web.Response(body=PNG, content_type="image/png")
        text = "".join(f"<p>Paragraph {number}.</p>" for number in range(2000))
        return web.Response(text=f"<title>T</title>{text}", content_type="text/html")

    with api() as one:
        one.answer = answer
        yield one


def test_an_agent_searches_reads_and_pages(server: Api, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "guide.md").write_text("# Guide\n\nPaper goes into the tray.\n")
    port = urlsplit(server.url).port
    proxy = Proxy(
        ["fetch", "search", "knowledge"],
        options={
            "fetch": {"allow_private": [f"127.0.0.1:{port}"]},
            "search": {"provider": "searxng", "base_url": server.url},
            "knowledge": {"root": tmp_path / "docs", "index": tmp_path / "index.db"},
        },
    )
    seen: list[list[str]] = []

    def reads_on(request: Request) -> Any:
        text = results(request)[0]
        name = text.partition('result="')[2][:8]
        return calls(("read_result", {"result": name, "offset": 20_000, "length": 100}))

    def last(request: Request) -> str:
        seen.append(results(request))
        return "done"

    def script() -> list[Any]:
        return [
            calls(
                ("fetch__page", {"url": f"{server.url}/long"}),
                ("fetch__page", {"url": f"{server.url}/logo"}),
                ("fetch__page", {"url": "http://169.254.169.254/"}),
                ("search__web", {"query": "long page"}),
                ("knowledge__search", {"query": "paper"}),
            ),
            reads_on,
            last,
        ]

    store = MemoryLog()
    clerk = Agent("clerk", scripted(*script()), tools=[*proxy.tools()], store=store, max_result_chars=2000)
    assert clerk("Look.").text == "done"
    page, logo, refused, found, passages, more = seen[0]
    assert page.startswith('{"source":"http://127.0.0.1:')
    assert "characters are left out" in page
    assert "Paragraph" in more
    assert logo.startswith("Source: ")
    assert "is not allowed" in refused
    assert '"title":"Long"' in found
    assert '"cite":"guide.md:1-3"' in passages

    asked = len(server.asked)
    (tmp_path / "docs" / "guide.md").unlink()
    report = replay_session(store.sessions(1)[0].id, store=store)
    assert not report.unrecorded
    assert len(server.asked) == asked
