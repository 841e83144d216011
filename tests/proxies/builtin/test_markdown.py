"""HTML as Markdown: what a page says, without what nobody sees, in linear time."""

import time

import pytest

from lllm.proxies.builtin import markdown
from lllm.proxies.builtin.markdown import to_markdown

BASE = "https://example.com/docs/page.html"


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("", ""),
        ("plain &amp; simple &lt;b&gt; &copy; &bogus;", "plain & simple <b> \u00a9 &bogus;"),
        ("&#233;&#xe9; &#99999999999;", "\u00e9\u00e9 \ufffd"),
        ("<h1>A</h1><h2>B <b>c</b></h2>text<h3></h3>", "# A\n\n## B **c**\n\ntext"),
        ("<p>one<p>two<br>three<hr>four", "one\n\ntwo\nthree\n\n---\n\nfour"),
        ("<p>a <b>bold </b><i> it</i> <del>x</del></p>", "a **bold** *it* ~~x~~"),
        ("<p>white \n\t space&nbsp;here</p>", "white space here"),
        ("<ul><li>a<li>b<ol><li>c<li>d</ol></ul>", "- a\n- b\n  1. c\n  2. d"),
        ("<ol start=9><li>x<li><p>y<p>z</ol>", "9. x\n10. y\n\n    z"),
        ("<li>alone", "- alone"),
        ("<a href='../x?a=1#f'>l</a>", "[l](https://example.com/x?a=1#f)"),
        ("<a href='#x'>m</a> <a href='javascript:x()'>n</a> <a>o</a>", "m n o"),
        ("<a href='//other.com/a (b)'>l\n<h2>m</h2></a>", "[l m](https://other.com/a%20%28b%29)"),
        ("<img src=a.png alt='pic'><img src=b.png>", "![pic](https://example.com/docs/a.png)"),
        ("<img alt=x src='data:image/png;base64,AAAA'>", "x"),
        ("use <code>a|b</code> or <code>`x`</code>", "use `a|b` or `` `x` ``"),
        ("<pre><code class='language-py'>if x:\n    y &lt; 2\n</code></pre>", "```py\nif x:\n    y < 2\n```"),
        ("<pre>```\nx\n```</pre>", "````\n```\nx\n```\n````"),
        ("<pre>\n  a\n\n  b</pre>", "```\n  a\n\n  b\n```"),
        ("<blockquote><p>a<p>b<blockquote>c</blockquote></blockquote>", "> a\n>\n> b\n>\n> > c"),
        ("<dl><dt>t<dd>d</dl>", "t\n\n: d"),
        ("<table><tr><th>A<th>B<tr><td>1|2<td><p>x<p>y", "| A | B |\n| --- | --- |\n| 1\\|2 | x y |"),
        ("<table><tr><th>A<th>B<tr><td>3</table>", "| A | B |\n| --- | --- |\n| 3 |  |"),
        ("<table><thead><tr><th colspan=2>A</thead><tr><td>1<td>2</table>", "| A |  |\n| --- | --- |\n| 1 | 2 |"),
        ("<table><tr><td><h1>Layout</h1>text</td></tr></table>", "# Layout\n\ntext"),
        ("a < b <3 </> <!doctype html> <? x ?> <!-- c --> d", "a < b <3 d"),
        ("<!-- a > b --> c <!--> d <!---> e <!-- never ends", "c d e"),
        ("x <b y='1' z=\"2\" w=3 v>y</b> <b unfinished", "x **y**"),
        ("x <a href='never ends> y</a>", "x"),
        ("</p></b></ul>text</td></table>", "text"),
        ("<h1>a</h2>b", "# a\n\nb"),
        ("a\u200bb\u00ad\U000e0041\U000e0042c\x1b[2J\x02d\x03", "abc[2Jd"),
    ],
)  # fmt: skip
def test_markdown(html: str, text: str) -> None:
    assert to_markdown(html, BASE).text == text


@pytest.mark.parametrize(
    "html",
    [
        "<script>no('<p>')</script>",
        "<SCRIPT>no</sCrIpT >",
        "<script>no</scripty></script>",
        "<style>no{}</style>",
        "<template><p>no</template><noscript>no</noscript><textarea>no</textarea><iframe>no</iframe>",
        "<nav><ul><li>no<nav>no</nav></ul>no</nav>",
        "<div role=navigation>no</div>",
        "<svg><text>no</text></svg><button>no</button><select><option>no</select>",
        "<div hidden>no<div>no</div>no</div>",
        "<p hidden>no",
        "<span aria-hidden=true>no</span>",
        "<div style='color: red; DISPLAY : none'>no</div>",
        "<p style='visibility:hidden'>no",
        "<ul><li hidden>no<ul><li>no</ul>no</ul>",
        "<ul><li hidden>no<li></ul>",
        "<table><tr hidden><td>no<tr></table>",
        "<input hidden value=no><img hidden>",
        "<!-- no --><meta name=x content=no>",
        "<title>no</title>",
    ],
)
def test_what_nobody_sees_is_left_out(html: str) -> None:
    assert to_markdown(f"<p>yes{html}<p>again", BASE).text == "yes\n\nagain"


def test_what_a_page_says_about_itself() -> None:
    found = to_markdown(
        "<head><title> A \n title &amp; more</title><title>other</title><meta name=Description content='about'>"
        "<base href='/root/'></head><a href=x>y</a>",
        BASE,
    )
    assert found == ("A title & more", "[y](https://example.com/root/x)", "about", False, "")


@pytest.mark.parametrize(
    ("content", "url"),
    [
        ("0; url=other.html", "https://example.com/docs/other.html"),
        ("5;URL='https://a.test/x'", "https://a.test/x"),
        ("0", ""),
        ("0; url=javascript:x()", ""),
        ("url", ""),
        (" " * 4000 + "x", ""),
    ],
)
def test_a_page_that_leads_on(content: str, url: str) -> None:
    assert to_markdown(f'<meta http-equiv="Refresh" content="{content}">', BASE).refresh == url


def test_the_main_part_of_a_page_is_enough() -> None:
    long = "word " * 100
    found = to_markdown(f"<header>site</header><main><p>{long}</main><footer>legal</footer>", BASE)
    assert found.text == long.strip()
    assert to_markdown("<p>a<main>b</main>c", BASE).text == "a\n\nb\n\nc"


HOSTILE = {
    "div": "<div>", "list": "<ul><li>x", "bold": "<b>", "quote": '<a "', "unclosed": '<a href="x', "comment": "<!--",
    "declaration": "<!", "reference": "&#", "digits": "&#" + "9" * 5000 + ";", "less": "<", "end": "</p>",
    "blockquote": "<blockquote>x", "table": "<table><tr><td>x", "attributes": "<a " + "x " * 1000, "script": "<script>",
    "spaces": "<a" + " " * 1000, "hidden": "<div hidden>", "heading": "<h1>x", "style": "<p style='" + " " * 1000 + "'>",
    "pre": "<pre>`````\n", "white": "\n \n", "cells": "<tr><td>a<td>b", "link": "<a href=x>", "cdata": "<![CDATA[",
    "controls": "\x02\x03", "wide": "<td colspan=30>", "title": "<title>", "lang": "<pre class='lang" + "-" * 1000 + "'>",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_pages_take_linear_time(name: str) -> None:
    """Four times as much takes four times as long, more or less: not sixteen times."""
    took = []
    for size in (50_000, 200_000):
        page = (HOSTILE[name] * (size // len(HOSTILE[name]) + 1))[:size]
        began = time.process_time()
        to_markdown(page, BASE)
        took.append(time.process_time() - began)
    assert took[1] < 12 * took[0] + 0.5


CELLS = "<table><tr><td>a<td>b<tr><td>c<td>"
GROWING = {
    "wide table": "<table><tr>" + "<td colspan=30>x" * 500 + "<tr><td>x" * 2000,
    "long base": f"<base href='https://x.example/{'A' * 3900}/'>" + "<a href=a>b</a>" * 5000,
    "long images": f"<base href='https://x.example/{'A' * 3900}/'>" + "<img src=a alt=b>" * 5000,
    "pipes": CELLS * 29 + "|" * 100_000,
    "fences": "<pre>x<b>" * 29 + "`" * 100_000,
    "code": "<code>x" + "`" * 100_000 + "</code>",
    "lines": "<ul><li>" * 8 + "<pre>" + "x\n" * 50_000,
}


@pytest.mark.parametrize("name", sorted(GROWING))
def test_no_page_grows_far_beyond_its_size(name: str) -> None:
    page = GROWING[name]
    found = to_markdown(page, BASE)
    assert len(found.text) <= 4 * len(page) + 100_000
    assert found.text.strip()


def test_a_page_with_too_many_elements_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "TOKENS", 10)
    found = to_markdown("<p>x" * 100, BASE)
    assert found.cut
    assert found.text.count("x") == 5
