"""A session as one HTML file: nothing is loaded from anywhere, no script runs, and text is text.

Long texts, thinking, and what is known of each step beside its text are folded away. Images of messages, and kept files that
are images, are in the page as data. Light or dark, as the reader's system is.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any, Final

from lllm.errors import LogError, UnknownNameError
from lllm.log.cell_rows import CellRows
from lllm.log.export.source import Source
from lllm.log.layout import Layout
from lllm.log.transcript import Row
from lllm.log.views import saving

LONG: Final = 1500
"""Characters from which on a text is folded."""

HIDDEN: Final = frozenset(
    ("message", "verdict", "add", "arguments", "logprobs", "token_ids", "prompt_token_ids")
)
"""Details that are shown as the text, or that nobody reads."""

_DATA: Final = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+")
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")
_MAGIC: Final = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}


def write(source: Source) -> Iterator[str]:
    """The page in pieces: head, one per step, foot."""
    told = source.summary
    yield _HEAD.replace("{title}", _text(told.name))
    yield f"<h1>{_text(told.name)}</h1>\n<dl>{''.join(_facts(source))}</dl>\n<main>\n"
    layout = Layout()
    cells = CellRows(source.store.blob)
    for row in source.rows:
        placed = layout.place(cells.read(row))
        if not placed.hidden:
            yield _row(source, placed.row, min(placed.depth, 8), told.started, cells.images(row))
    if told.result is not None:
        result = told.result if isinstance(told.result, str) else json.dumps(told.result, ensure_ascii=False)
        yield f'<section class="done"><h2><b>result</b></h2>{_folded(result)}</section>\n'
    yield "</main>\n</body></html>\n"


def _facts(source: Source) -> Iterator[str]:
    told = source.summary
    tokens = f"{told.usage.get('prompt', 0)} in, {told.usage.get('completion', 0)} out"
    facts = {
        "session": told.session,
        "status": told.status + (f": {told.error}" if told.error else ""),
        "started": datetime.fromtimestamp(told.started / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "calls": f"{told.calls} agent, {told.model_calls} model, {told.tool_calls} tool",
        "tokens": tokens,
        "cost": "unknown" if told.cost is None else f"${told.cost}",
        "reused": saving(told) or "",
    }
    for name, value in facts.items():
        if value:
            yield f"<div><dt>{name}</dt><dd>{_text(value)}</dd></div>"


def _row(source: Source, row: Row, depth: int, started: int, pictures: Sequence[str]) -> str:
    bad = row.kind in ("rejected", "fault", "stop") or row.detail.get("verdict") == "rejected"
    bad = bad or (row.kind == "result" and not row.detail.get("ok", True))
    bad = bad or (row.kind == "stage" and row.detail.get("status", "done") != "done")
    marks = "bad" if bad else row.kind
    who = " ".join(filter(None, (row.call, row.who if row.who not in ("session", "frontend") else "")))
    note = " (rejected)" if row.detail.get("verdict") == "rejected" else ""
    note = " (given again)" if row.kind == "result" and "reused" in row.detail else note
    parts = [
        f'<section id="e{row.seq}" class="{marks} d{depth}">',
        f"<h2><b>{row.kind}</b>{note} {_text(who)} <small>{row.seq} · {(row.at - started) / 1_000_000:.3f} s</small></h2>",
    ]
    message = row.detail.get("message")
    record: Mapping[str, Any] = message if isinstance(message, Mapping) else {}
    if thinking := record.get("thinking"):
        parts.append(f"<details><summary>thinking</summary><pre>{_text(thinking)}</pre></details>")
    if row.text:
        parts.append(_folded(row.text))
    for content in (record.get("content"), row.detail.get("parts")):
        parts += [_image(source, url) for url in _images(content)]
    parts += [_image(source, digest) for digest in pictures]
    if row.kind == "artifact":
        parts.append(_image(source, str(row.detail.get("digest", ""))))
    if known := {key: value for key, value in row.detail.items() if key not in HIDDEN}:
        written = json.dumps(known, ensure_ascii=False, indent=1)
        parts.append(f'<details class="more"><summary>more</summary><pre>{_text(written)}</pre></details>')
    return "".join([*parts, "</section>\n"])


def _folded(text: str) -> str:
    shown = _text(text)
    if len(text) <= LONG and text.count("\n") <= 30:
        return f"<pre>{shown}</pre>"
    first = _text(" ".join(text[:120].split()))
    return f"<details><summary>{first} … ({len(text)} characters)</summary><pre>{shown}</pre></details>"


def _images(content: Any) -> Iterator[str]:
    for part in content if isinstance(content, list | tuple) else ():
        url = part.get("image_url") if isinstance(part, Mapping) else None
        url = url.get("url") if isinstance(url, Mapping) else url
        if isinstance(url, str):
            yield url


def _image(source: Source, url: str) -> str:
    """An image that is in the log; the address, as text, of one that is not: a page loads nothing."""
    if url.startswith("sha256:"):
        try:
            data = source.store.blob(url)
        except (UnknownNameError, LogError):
            return f"<p>image {_text(url)} is not in the log</p>"
        kind = next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)
        if kind is None:
            return ""
        url = f"data:image/{kind};base64,{b64encode(data).decode()}"
    if _DATA.fullmatch(url):
        return f'<p><img alt="" src="{url}"></p>'
    return f"<p>image: {_text(url[:500])}</p>" if url else ""


def _text(value: str) -> str:
    """Text for a page: markup is shown, and so are characters that do something or that no page may hold."""
    return escape(_CONTROLS.sub(lambda found: f"\\x{ord(found.group()):02x}", value))


_HEAD: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">
<style>
:root { color-scheme: light dark; --line: #d8d8d8; --soft: #6b6b6b; --back: #fff; --box: #f6f6f6; --text: #1d1d1f;
  --reply: #1a7f37; --tool: #0a6a8a; --bad: #c0262d; --prompt: #9a6700 }
@media (prefers-color-scheme: dark) { :root { --line: #3a3a3c; --soft: #a0a0a5; --back: #1b1b1d; --box: #262629;
  --text: #ececee; --reply: #57c273; --tool: #55b8d9; --bad: #ff7b72; --prompt: #d9a93f } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 62em; padding: 1.5em; color: var(--text);
  background: var(--back) }
dl { display: flex; flex-wrap: wrap; gap: .4em 2em } dt { color: var(--soft); font-size: .8em } dd { margin: 0 }
section { border-left: 3px solid var(--line); margin: .9em 0; padding: .1em 0 .1em .9em }
h2 { font-size: 1em; font-weight: normal; margin: 0 } small, summary { color: var(--soft) } summary { cursor: pointer }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--box); padding: .6em .8em; border-radius: 6px;
  margin: .4em 0; font: 13px/1.45 ui-monospace, monospace }
img { max-width: 100% } .more { font-size: .85em }
.reply, .done { border-color: var(--reply) } .reply b, .done b { color: var(--reply) }
.tool, .result { border-color: var(--tool) } .tool b, .result b { color: var(--tool) }
.stage { border-color: var(--soft) }
.prompt { border-color: var(--prompt) } .prompt b { color: var(--prompt) }
.bad { border-color: var(--bad) } .bad b { color: var(--bad) }
.d2 { margin-left: 1.5em } .d3 { margin-left: 3em } .d4 { margin-left: 4.5em } .d5 { margin-left: 6em }
.d6 { margin-left: 7.5em } .d7 { margin-left: 9em } .d8 { margin-left: 10.5em }
</style></head><body>
"""
