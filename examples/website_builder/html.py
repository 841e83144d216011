"""Builds a small website: a plan, then a task for each page, and the pages side by side.

    python examples/website_builder/html.py "A bakery in a small town"

The model is chosen as in examples/example.py. The pages are in examples/website_builder/generated_website/. The names of their
files come from the model, so they are checked, and of what it writes plain HTML is kept, with links to pages that are there.
"""

import os
import sys

if sys.path and os.path.abspath(sys.path[0]) == os.path.dirname(os.path.abspath(__file__)):
    sys.path.pop(0)  # this file has the name of a module of Python, which others import

import asyncio
import re
from dataclasses import dataclass
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from lllm import Agent, Prompt, arecord, map
from lllm.config import variable
from lllm.errors import ConfigError, RepairExhausted
from lllm.model import LLM, VLLMModel
from lllm.proxies.builtin.files import Files

SITE = Path(__file__).parent / "generated_website"
MOST = 12
TAGS = set(
    "h1 h2 h3 h4 p ul ol li a strong em b i br hr blockquote code pre section table tr th td dl dt dd".split()
)
ALONE = {"br", "hr"}
STYLE = "body { max-width: 42rem; margin: 2rem auto; font-family: sans-serif } nav a { margin-right: 1rem }\n"


@dataclass
class Page:
    file: str
    title: str
    about: str


@dataclass
class Plan:
    title: str
    pages: list[Page]


WITHOUT_A_PLAN = [
    Page("index.html", "Home", "who we are"),
    Page("products.html", "Products", "what we make"),
    Page("contact.html", "Contact", "where to find us"),
]
WRITE = Prompt(
    "website/page",
    "Write the page '{title}' of the website '{site}': {about}. Answer with HTML for its body alone: h2, p, ul, li, a. "
    "The website has the pages {files}; link to them by these names.",
)


def check_name(name: str, taken: set[str]) -> str:
    """The name of a page's file. ConfigError where it is none: with a folder, `..`, or characters that a link cannot have."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}\.html", name) or name.lower() in taken:
        raise ConfigError(
            f"{name[:80]!r} cannot be the name of a page", hint="As in about-us.html, and each once."
        )
    taken.add(name.lower())
    return name


def usable(pages: list[Page]) -> list[Page]:
    """The pages whose names can be used, the first of them as index.html where none is."""
    taken: set[str] = set()
    found = []
    for page in pages[:MOST]:
        try:
            check_name(page.file, taken)
            found.append(page)
        except ConfigError as error:
            print(f"left out: {error.message}")
    if found and "index.html" not in taken:
        found[0].file = "index.html"
    return found


class Plain(HTMLParser):
    """Writes HTML again with plain tags alone, and links to pages that are there."""

    def __init__(self, files: set[str]) -> None:
        super().__init__()
        self.files, self.out, self.open, self.hidden = files, list[str](), list[str](), 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden += tag in ("script", "style")
        link = dict(attrs).get("href") if tag == "a" else None
        if tag not in TAGS or self.hidden or (tag == "a" and link not in self.files):
            return
        self.out.append(f'<a href="{link}">' if tag == "a" else f"<{tag}>")
        if tag not in ALONE:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.hidden = max(self.hidden - (tag in ("script", "style")), 0)
        while tag in self.open:
            self.out.append(f"</{(last := self.open.pop())}>")
            if last == tag:
                break

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.out.append(escape(data))


def plain(text: str, files: set[str]) -> str:
    """What a model wrote, as plain HTML."""
    text = re.sub(r"^\s*```\w*\n(.*?)\n```\s*$", r"\1", text, flags=re.DOTALL)
    parser = Plain(files)
    parser.feed(text)
    parser.close()
    body = "".join(parser.out) + "".join(f"</{tag}>" for tag in reversed(parser.open))
    return body if "<" in body else f"<p>{body}</p>"


async def build(request: str, model: Any, folder: Path) -> list[Path]:
    """Builds the website, and gives its files."""
    planner = Agent("planner", model, "Plan a small website: its title, and its pages.", format=Plan)
    writer = Agent("writer", model, prompt=WRITE)
    async with arecord("website"):
        try:
            plan = (await planner.acall([{"role": "user", "content": request}])).parsed
        except RepairExhausted as error:
            print(f"the model gave no plan: {error.message}")
            plan = Plan(request, [])
        pages = usable(plan.pages) or [Page(page.file, page.title, page.about) for page in WITHOUT_A_PLAN]
        files = [page.file for page in pages]
        tasks = [
            {"title": page.title, "site": plan.title, "about": page.about, "files": ", ".join(files)}
            for page in pages
        ]
        bodies = await map(writer, limit=4).acall(tasks)
    site = site_in(folder)
    site.write("style.css", STYLE, overwrite=True)
    for page, body in zip(pages, bodies, strict=True):
        site.write(
            page.file, page_html(page, plan.title, pages, plain(body.content, set(files))), overwrite=True
        )
    return [folder / name for name in ("style.css", *files)]


def site_in(folder: Path) -> Files:
    """The files of a folder, which is made where it is missing. Nothing outside of it is written, and no link followed."""
    folder.mkdir(parents=True, exist_ok=True)
    return Files(root=folder, writable=True)


def page_html(page: Page, title: str, pages: list[Page], body: str) -> str:
    """A whole page: the body, with links to all the others."""
    links = "".join(f'<a href="{one.file}">{escape(one.title) or one.file}</a>' for one in pages)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{escape(page.title)} - {escape(title)}</title>'
        f'<link rel="stylesheet" href="style.css"></head>\n<body>\n<nav>{links}</nav>\n<h1>{escape(page.title)}</h1>\n'
        f"{body}\n</body>\n</html>\n"
    )


async def main() -> None:
    request = " ".join(sys.argv[1:]) or "A bakery in a small town"
    async with VLLMModel() if variable("API_URL") else LLM() as model:
        for path in await build(request, model, SITE):
            print(path)


if __name__ == "__main__":
    asyncio.run(main())
