"""Code in the text of a reply: which block is to be run."""

from __future__ import annotations

import random
import time

import pytest

from lllm.core.code_text import Block, blocks, check_tags, fenced, is_python

TICKS = "```"


def codes(text: str, **more: object) -> list[tuple[str, str]]:
    return [(one.language, one.code) for one in blocks(text, **more)]  # type: ignore[arg-type]


def last(text: str, **more: object) -> str | None:
    found = codes(text, **more)
    return found[-1][1] if found else None


README = '''readme = """
# Title

```python
import x
```

```
plain
```
"""
open("README.md", "w").write(readme)'''

DOCSTRING = '''def f(x):
    """Doubles.

    ```
    f(2)
    ```

    ~~~
    more
    ~~~
    """
    return 2 * x'''


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("```python\nprint(1)\n```", "print(1)"),
        ("```python\nprint(1)\n```\n", "print(1)"),
        ("```py\nprint(1)\n```", "print(1)"),
        ("```Python\nprint(1)\n```", "print(1)"),
        ("```python3\nprint(1)\n```", "print(1)"),
        ("```{python}\nprint(1)\n```", "print(1)"),
        ("```{.python .numberLines}\nprint(1)\n```", "print(1)"),
        ('``` python title="x.py"\nprint(1)\n```', "print(1)"),
        ("~~~python\nprint(1)\n~~~", "print(1)"),
        ("~~~~python\nprint(1)\n~~~~~", "print(1)"),
        ("````python\nprint(1)\n````", "print(1)"),
        ("I look.\n\n```python\nprint(1)\n```\nThen I see.", "print(1)"),
        ("```python\r\na = 1\r\nprint(a)\r\n```\r\n", "a = 1\nprint(a)"),
        ("```python\nprint(1)", "print(1)"),
        ("```python\nprint(1)\n", "print(1)"),
        ("```python\nprint(1)```", "print(1)"),
        ("```python\nprint('#')```\nprose", "print('#')"),
        ("```python print(1)```", "print(1)"),
        ("```\nx = 1\nprint(x)\n```", "x = 1\nprint(x)"),
        ("```\nimport os\n```", "import os"),
        ("```\nprint('\\d \\w')\n```", "print('\\d \\w')"),
        ("1. Run:\n   ```python\n   for i in x:\n       print(i)\n   ```\n", "for i in x:\n    print(i)"),
        ("      ```python\n      x = 1\n      ```", "x = 1"),
        ("\t```python\n\tx = 1\n\t```", "x = 1"),
        ("  ```python\n  x = 1\n ```", "x = 1"),
        ("  ```python\nx = 1\n    y = 2\n  ```", "x = 1\n  y = 2"),
        ("<code>\nprint(1)\n</code>", "print(1)"),
        ("<code>print(1)</code>", "print(1)"),
        ("Thought: I look.\n<code>\nfor i in x:\n    print(i)\n</code>\nthen", "for i in x:\n    print(i)"),
        ("<code>\nprint(1)", "print(1)"),
        ("<code>\nprint(1)</code> done", "print(1)"),
        ("<code>\nprint('</code>')</code> done", "print('</code>')"),
        ("<code>\nprint('</code>')\n</code>", "print('</code>')"),
        ("<code>\nx = 1  # it's done</code>", "x = 1  # it's done"),
        ("```python\nprint(1)\n``` This prints 1.\nNow.", "print(1)"),
        ("```python\nprint(1)\n```text\n1\n```\n", "print(1)"),
        ("````python\nprint(1)\n```\nThis prints 1.", "print(1)"),
        ("Thought: I print.\nCode:\n```py\nprint(1)\n```<end_code>", "print(1)"),
        ("<|python|>x\n```python\nprint(1)\n```<|im_end|>", "print(1)"),
        ("Code:```py\nprint(1)\n```", "print(1)"),
        ("I run: ```python\nprint(1)\n```\nok", "print(1)"),
        ("Call `f` so: ```python\nf()\n```\nok", "f()"),
        ("```python\nprint('```')\n```", "print('```')"),
        ("```python\nx = '```'\ny = 2```\n", "x = '```'\ny = 2"),
        ("<code>\nprint(1)\n</code> done", "print(1)"),
        ("<code>\n```python\nprint(1)\n```\n</code>", "print(1)"),
        ("<code>\n\n```py\nprint(1)\n```\n", "print(1)"),
        ('<code>\nx = """\n<b>\n</code>\n"""\nprint(x)\n</code>', 'x = """\n<b>\n</code>\n"""\nprint(x)'),
        ('<code>\nx = """<i></code>\n"""\nprint(x)\n</code>', 'x = """<i></code>\n"""\nprint(x)'),
        (f"{TICKS}python\n{README}\n{TICKS}\nThat writes it.", README),
        (f"{TICKS}python\n{DOCSTRING}\n{TICKS}\nDone.", DOCSTRING),
        (f"{TICKS}python\n{README}", README),
        ("```python\ns = '''\n```\n'''\nprint(s)\n```", "s = '''\n```\n'''\nprint(s)"),
        (
            '```python\nx = 1  # isn\'t """ a string\nprint(x)\n```\ntext',
            'x = 1  # isn\'t """ a string\nprint(x)',
        ),
        ('```python\nx = \'"""\'\n```\ntext """\n```\n', 'x = \'"""\''),
        ('```python\nx = """never closed\n```\ntext', 'x = """never closed'),
        (
            "````python\nopen('a.md', 'w').write('''\n```\nx\n```\n''')\n````\n",
            "open('a.md', 'w').write('''\n```\nx\n```\n''')",
        ),
        (
            "```python\n%%writefile notes.md\n# Notes\n```python\nx\n```\nend\n```\nprose",
            "%%writefile notes.md\n# Notes\n```python\nx\n```\nend",
        ),
        ('```python\nx = f"""\n{y}\n```\n"""\n```', 'x = f"""\n{y}\n```\n"""'),
        ('```python\nx = """a \\""" b\n```\n"""\n```', 'x = """a \\""" b\n```\n"""'),
        ("```text\nnot closed\n```python\nprint(1)\n```", "print(1)"),
        ("```\nnot closed\n```python\nprint(1)\n```", "print(1)"),
        ("```\nnot closed\n<code>\nprint(1)\n</code>", "print(1)"),
        ("~~~text\nnot closed\n```python\nprint(1)\n```", "print(1)"),
        ("```python\na()\nb()\n```python\nc()\n```", "c()"),
        ("```python\nx = 1\n```\n```\n", "x = 1"),
        ("\ufeff\n```python\nx = 'ä\u2028ö\x0c'\n```", "x = 'ä\u2028ö\x0c'"),
        ("```python\n\n\n  \nx = 1\n\n```", "x = 1"),
    ],
)
def test_the_last_block_is_found(text: str, wanted: str) -> None:
    assert last(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The answer is 42.",
        "Use `print(1)` here.",
        "Use ```print(1)``` here.",
        "It is <code>x</code> in HTML.",
        "<code>x</code> is in HTML.",
        "See ```bash",
        "See `x` ```python",
        "```\n42\n```",
        '```\n{"a": 1}\n```',
        "```\na,b\n1,2\n```",
        "```\nhello\n```",
        "```\ntotal: int\n```",
        "```\nfor example in this case:\n```",
        "```\n$ python x.py\n```",
        "```\nTraceback (most recent call last):\n  File\n```",
        "```\n" + "(" * 5000 + "\n```",
        "```\nprint('\0')\n```",
        "```json\n[1]\n```",
        "```bash\nls\n```",
        "```js\nprint(1)\n```",
        "```pycon\n>>> 1\n```",
        "```python\n```",
        "```python\n\n   \n```",
        "```python",
        "<code></code>",
        "<code>\n</code>",
        "```markdown\n# Doc\n```python\nprint(1)\n```\nmore\n```",
        "````markdown\n```python\nprint(1)\n```\n````",
        "````text\n```python\nprint(1)\n```\n````",
        "~~~\n```python\nprint(1)\n```\n~~~",
    ],
)
def test_prose_data_and_other_languages_are_not_run(text: str) -> None:
    assert blocks(text) == []


def test_several_blocks_in_their_order() -> None:
    text = "```python\na()\n```\nand\n```bash\nls\n```\nand\n<code>\nb()\n</code>\n```\nOutput: 5\n```"
    assert codes(text) == [("python", "a()"), ("python", "b()")]
    assert codes(text, shell=True) == [("python", "a()"), ("shell", "ls"), ("python", "b()")]


def test_here_documents_hold_fences() -> None:
    code = "cat > README.md <<'EOF'\n```\ncode\n```\nEOF\nls"
    assert codes(f"```bash\n{code}\n```\ndone", shell=True) == [("shell", code)]
    magic = f"%%bash\n{code}"
    assert codes(f"```python\n{magic}\n```\ndone") == [("python", magic)]
    assert codes("```sh\ncat <<X\n```\ndone", shell=True) == [("shell", "cat <<X")]


def test_other_tags() -> None:
    tags = ("<execute>", "</execute>")
    assert last("I do.\n<execute>\nprint(1)\n</execute>\nNow.", tags=tags) == "print(1)"
    assert last("<code>\nprint(1)\n</code>", tags=tags) is None
    assert last("<execute>\nprint(1)\n", tags=tags) == "print(1)"
    assert last("```python\nprint(1)\n```", tags=tags) == "print(1)"


def test_where_a_block_begins_and_whether_it_is_closed() -> None:
    text = "ä\r\n```python\r\nx = 1\r\n```\r\n<code>\ny()"
    first, second = blocks(text)
    assert first == Block("python", "x = 1", 3, True)
    assert text[second.begin :] == "<code>\ny()"
    assert not second.closed


def test_a_block_as_it_is_written_is_read_again() -> None:
    drawn = random.Random(4)
    pieces = [
        "x = 1",
        "```",
        "````",
        '"""',
        "'''",
        "~~~",
        "print(1)",
        "",
        "    y",
        "# ```",
        "<code>",
        "</code>",
    ]
    for _ in range(300):
        code = "\n".join(drawn.choice(pieces) for _ in range(drawn.randrange(1, 9))) + "\nlast()"
        code = code.lstrip("\n \t")
        found = blocks(f"before\n{fenced(code, 'python')}")
        # a fence within an open string is the one thing that may go on to the end: it is the same then but for the fence
        assert found
        assert found[-1].code.startswith(code) or found[-1].code == code


HOSTILE = {
    "open fences": "```\n",
    "labelled fences": "```python\n",
    "other fences": "~~~a\n",
    "long and short fences": "````text\n```x\n",
    "strings that stay open": '```python\nx = """\n```\n',
    "strings of both kinds": "```python\nx = '''\n```\ny = \"\"\"\n",
    "tags": "<code>\n",
    "tags in strings": "<code>\nx = '''\n</code>\n",
    "closing tags": "</code>\n",
    "quotes": '"""\n',
    "backslashes": "```python\n" + "\\" * 50 + "\n",
    "here-documents": "```bash\ncat <<EOF\n```\n",
    "markdown": "```markdown\n```x\n",
    "backticks": "`" * 60 + "\n",
    "small blocks": "```\nx = 1\n```\n",
    "late fences": "text ```python\n",
    "short fences": "````python\n```\n",
    "text behind fences": "```python\n``` text\n",
    "blank lines": "```python\n\n\n\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_huge_texts_take_time_linear_in_their_length(name: str) -> None:
    def cost(size: int) -> float:
        text = (HOSTILE[name] * (size // len(HOSTILE[name]) + 1))[:size]
        begin = time.process_time()
        blocks(text, shell=True)
        return time.process_time() - begin

    small = min(cost(50_000) for _ in range(2))
    assert cost(400_000) < 40 * max(small, 0.01)  # 8 times the text; a square would be 64 times


def test_one_huge_line() -> None:
    for line in (
        "x" * 1_000_000,
        '"' * 1_000_000,
        "\\" * 1_000_000,
        "`" * 1_000_000,
        "'a\\" * 300_000,
        "a```" * 250_000,
    ):
        begin = time.process_time()
        blocks(f"```python\n{line}\n```", shell=True)
        assert time.process_time() - begin < 5


def test_any_text_can_be_read() -> None:
    drawn = random.Random(7)
    pieces = [*HOSTILE.values(), "x", "\n", "\r", "print(1)\n", "'", '"', "#", "\\", " ", "\t", "EOF\n"]
    for _ in range(500):
        text = "".join(drawn.choice(pieces) for _ in range(drawn.randrange(30)))
        for one in blocks(text, shell=True):
            assert 0 <= one.begin < len(text)
            assert one.code.strip()


def test_is_python() -> None:
    assert is_python("await f()")
    assert is_python("x: int = 1")
    assert not is_python("x: int")
    assert not is_python("x" * 200_000)


@pytest.mark.parametrize(
    "given",
    [
        "<code>",
        ["<a>"],
        ["", "</a>"],
        ["<a>", "<a>"],
        ["<a> ", "</a>"],
        ["```python", "```"],
        [1, 2],
        None,
        ["a\nb", "c"],
    ],
)
def test_tags_that_cannot_be(given: object) -> None:
    with pytest.raises(ValueError, match="code_tags"):
        check_tags(given)


def test_tags_that_can_be() -> None:
    assert check_tags(["<execute>", "</execute>"]) == ("<execute>", "</execute>")
