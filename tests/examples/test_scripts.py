"""T17, T21, T26, T46, R40: the scripts in examples/ run as the documents type them, and write where these say."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lllm import LLM, MemoryLog, ScriptedBackend, record
from lllm.core.canonical import encode
from lllm.errors import ConfigError, EndpointDenied
from tests.pages.blocks import ROOT
from tests.servers.openai_server import OpenAIServer, Script

SCRIPTS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "examples").rglob("*.py"))
BUILDER = "examples/website_builder/html.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the scripts alone."""
    for script in SCRIPTS:
        (tmp_path / script).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / script, tmp_path / script)
    return tmp_path


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        running.answer = answered
        yield running


def answered(body: Any) -> Script:
    """What a model says to the scripts."""
    asked = body["messages"][-1]["content"]
    if "response_format" in body:
        return Script(
            encode(PLAN if "Plan" in str(body["messages"]) else {"name": "Ada", "amount": 12}).decode()
        )
    if body.get("tools") and body["messages"][-1]["role"] == "user":
        return Script(None, tool_calls=[CALL])
    return Script(PAGE if "HTML" in asked else f"a reply to {len(asked)} characters")


CALL = {"id": "c1", "type": "function", "function": {"name": "multiply", "arguments": '{"a": 17, "b": 23}'}}
PLAN = {
    "title": "Bread & <More>",
    "pages": [
        {"file": "home.html", "title": "Home", "about": "who we are"},
        {"file": "../../escaped.html", "title": "Evil", "about": "leads out"},
        {"file": "bread.html", "title": "Our <b>bread</b>", "about": "what we bake"},
        {"file": "/tmp/absolute.html", "title": "Evil", "about": "leads out"},
        {"file": "Bread.html", "title": "Twice", "about": "the same on some systems"},
    ],
}
PAGE = """```html
<h2>Fresh</h2><script>alert(1)</script><p onclick="x()">See <a href="bread.html">bread</a>, <a href="gone.html">what is
gone</a>, <a href="javascript:alert(1)">this</a>, <a href="home.html#x">and this</a> &amp; <img src="none.png"> <b>more
```"""


def run_script(folder: Path, script: str, *args: str, env: dict[str, str] | None = None) -> str:
    """Runs a script as the documents type it, and gives what it prints."""
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, script, *args],
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def configured(server: OpenAIServer) -> dict[str, str]:
    return {"API_URL": server.url, "API_KEY": "sk-key-of-the-test", "MODEL_NAME": "m"}


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- all of them


@pytest.mark.parametrize("script", SCRIPTS)
def test_it_runs_on_the_model_in_the_package(script: str, folder: Path) -> None:
    assert run_script(folder, script)


@pytest.mark.parametrize("script", SCRIPTS)
def test_it_runs_on_the_endpoint_of_the_environment(script: str, folder: Path, server: OpenAIServer) -> None:
    assert run_script(folder, script, env=configured(server))
    assert server.requests
    assert all(seen.json["model"] == "m" for seen in server.requests)


def test_each_is_on_the_page_about_them() -> None:
    page = (ROOT / "docs" / "guides" / "examples.md").read_text()
    assert [script for script in SCRIPTS if script not in page] == []


def test_the_endpoint_may_be_in_a_dotenv_file(folder: Path, server: OpenAIServer) -> None:
    lines = [f'{key}="{value}"' for key, value in configured(server).items()]
    (folder / ".env").write_text("\n".join([*lines, "TEMPERATURE=0.3"]))
    run_script(folder, "examples/extraction.py")
    assert server.requests[0].json["temperature"] == 0.3


def test_the_example_of_the_settings_has_all_of_them() -> None:
    from lllm.llm.vllm import VARIABLES

    lines = (ROOT / ".env.example").read_text().splitlines()
    assert {line.partition("=")[0] for line in lines if not line.startswith("#")} == set(VARIABLES.values())


# --- example.py


def test_it_writes_where_the_documents_say_and_makes_its_input(folder: Path, server: OpenAIServer) -> None:
    printed = run_script(folder, "examples/example.py", env=configured(server))
    outputs = files(folder / "examples" / "example_outputs")
    assert {"basic_agent.txt", "context_agent.txt", "chain_of_agents.txt"} < set(outputs)
    assert [name for name in outputs if name.startswith("multi_call")] == [
        f"multi_call/ship_{n}.txt" for n in (1, 2, 3)
    ]
    assert "a reply to" in printed
    assert "38 metres" in (folder / "examples" / "context.txt").read_text()
    assert "38 metres" in server.requests[1].json["messages"][-1]["content"]
    assert (folder / "examples" / "longtext.txt").exists()


def test_input_that_is_there_is_read_and_kept(folder: Path, server: OpenAIServer) -> None:
    (folder / "examples" / "context.txt").write_text("My own context.")
    (folder / "examples" / "longtext.txt").write_text("My own long text.")
    run_script(folder, "examples/example.py", env=configured(server))
    asked = [seen.json["messages"][-1]["content"] for seen in server.requests]
    assert "My own context." in asked[1]
    assert "My own long text." in asked[2]
    assert (folder / "examples" / "context.txt").read_text() == "My own context."


def test_the_tool_is_used_and_the_passage_found(folder: Path, server: OpenAIServer) -> None:
    assert "391" in run_script(folder, "examples/tool_agent.py")
    run_script(folder, "examples/rag.py", env=configured(server))
    assert "Ink is replaced from above" in server.requests[0].json["messages"][-1]["content"]


def test_a_folder_and_a_question_of_ones_own(folder: Path, server: OpenAIServer) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "cats.md").write_text("# Cats\n\nCats sleep all day.\n")
    printed = run_script(folder, "examples/rag.py", "mine", "What do cats do?", env=configured(server))
    assert "cats.md" in printed


# --- the website builder


class Links(HTMLParser):
    """The links of a page, and the places in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links, self.tags = list[str](), list[str]()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert all(name in ("href", "rel", "lang", "charset") for name, _ in attrs), attrs
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]


def check_site(site: Path) -> None:
    """No broken link, nothing but pages and their style, each reached from index.html."""
    names = files(site)
    assert "index.html" in names
    assert "style.css" in names
    pages = [name for name in names if name != "style.css"]
    for name in pages:
        page = Links(site / name)
        assert [link for link in page.links if link not in names] == [], name
        assert not {"script", "img", "iframe", "style"} & set(page.tags)
        assert set(pages) <= set(page.links)


def test_the_website_has_no_broken_link(folder: Path, server: OpenAIServer) -> None:
    before = files(folder)
    printed = run_script(folder, BUILDER, "A bakery", env=configured(server))
    site = folder / "examples" / "website_builder" / "generated_website"
    check_site(site)
    assert files(site) == ["bread.html", "index.html", "style.css"]
    assert [
        name
        for name in files(folder)
        if name not in before and "generated_website" not in name and ".lllm" not in name
    ] == []
    assert not (folder / "examples" / "escaped.html").exists()
    assert all(name in printed for name in ("'../../escaped.html'", "'/tmp/absolute.html'", "'Bread.html'"))
    text = (site / "bread.html").read_text()
    assert "<title>Our &lt;b&gt;bread&lt;/b&gt; - Bread &amp; &lt;More&gt;</title>" in text
    assert "alert" not in text
    assert 'See <a href="bread.html">bread</a>, what is\ngone, this, and this &amp;' in text


def test_a_website_without_a_plan_is_built_all_the_same(folder: Path) -> None:
    run_script(folder, BUILDER)
    check_site(folder / "examples" / "website_builder" / "generated_website")


@pytest.mark.skipif(
    shutil.which("chromium") is None, reason="Chromium is not installed: the pages are only parsed"
)
def test_the_pages_open_in_a_browser(folder: Path, server: OpenAIServer, tmp_path: Path) -> None:
    run_script(folder, BUILDER, env=configured(server))
    site = folder / "examples" / "website_builder" / "generated_website"

    def opened(page: str) -> Links:
        """A page as the browser reads it, without a network."""
        command = [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
        ]
        cut = "--host-resolver-rules=MAP * ~NOTFOUND"
        done = subprocess.run(
            [*command, cut, "--dump-dom", (site / page).as_uri()], capture_output=True, text=True, timeout=60
        )
        (tmp_path / "dom.html").write_text(done.stdout)
        return Links(tmp_path / "dom.html")

    seen: dict[str, Links] = {}
    coming = ["index.html"]
    while coming:
        page = coming.pop()
        seen[page] = opened(page)
        assert "nav" in seen[page].tags, f"{page} does not open"
        coming += [
            link for link in seen[page].links if link not in seen and link not in (*coming, "style.css")
        ]
    assert sorted(seen) == [name for name in files(site) if name != "style.css"]


def test_text_without_tags_is_a_paragraph() -> None:
    assert builder().plain("1 < 2 & so", set()) == "<p>1 &lt; 2 &amp; so</p>"


def builder() -> Any:
    spec = importlib.util.spec_from_file_location("website_builder", ROOT / BUILDER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["website_builder"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name",
    [
        "../up.html", "a/../../b.html", "/etc/passwd", "/a.html", "a/b.html", "..", "", "a", "a.txt", ".hidden.html",
        "a b.html", "a\n.html", "a\0.html", "a?.html", "a#b.html", "a%2f.html", "C:\\a.html", "a\\b.html", "\u202ea.html",
        "ä.html", "-a.html", "x" * 200 + ".html", "a.html\n",
    ],
)  # fmt: skip
def test_names_of_pages_that_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a page"):
        builder().check_name(name, set())


async def test_a_link_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").symlink_to(tmp_path / "mine.txt")
    replies = [encode(PLAN).decode(), *["<p>x"] * 9]
    with record(store=MemoryLog()), pytest.raises(EndpointDenied):
        await builder().build("A bakery", LLM(ScriptedBackend(replies)), site)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_plan_of_many_pages_is_cut() -> None:
    module = builder()
    pages = [module.Page(f"p{n}.html", "x", "y") for n in range(50)]
    assert len(module.usable(pages)) == module.MOST
    assert pages[0].file == "index.html"
