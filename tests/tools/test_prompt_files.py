"""Prompts in Markdown and YAML files."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from lllm.errors import ConfigError, UnknownKeyError
from lllm.models.prompt import Prompt, load_prompt_file
from lllm.tools.prompt_files import KEYS, parse_prompt_text


def markdown(text: str) -> Prompt:
    (prompt,) = parse_prompt_text(dedent(text), "p.md", "folder/p", markdown=True)
    return prompt


def yaml(text: str) -> list[Prompt]:
    return parse_prompt_text(dedent(text), "p.yaml", "folder/p", markdown=False)


def test_markdown() -> None:
    prompt = markdown(
        """\
        ---
        # a comment
        xml_tags: [reasoning]
        required_xml_tags:
          - answer
        parser: json:loads
        functions: [math:sqrt, reader/news]
        mcp_servers: []
        exception_prompt: |
          Wrong: {errors}
        args: [topic]
        allow_web_search: false
        ---

        You know {topic}.

        ---
        A rule above.
        """
    )
    import json
    import math

    assert prompt == Prompt(
        path="folder/p",
        prompt="You know {topic}.\n\n---\nA rule above.",
        xml_tags=("reasoning",),
        required_xml_tags=("answer",),
        parser=json.loads,
        functions=(math.sqrt, "reader/news"),
        exception_prompt="Wrong: {errors}\n",
        args=("topic",),
    )


@pytest.mark.parametrize(
    "text", ["Only text {x}.", "---\n---\nOnly text {x}.", "---\n# none\n---\nOnly text {x}.\n"]
)
def test_markdown_without_keys(text: str) -> None:
    assert parse_prompt_text(text, "p.md", "p", markdown=True) == [Prompt("p", "Only text {x}.")]


def test_yaml() -> None:
    assert yaml("prompt: Hi {x}\nformat: {type: object}\n") == [
        Prompt("folder/p", "Hi {x}", format={"type": "object"})
    ]
    assert yaml("- {path: a, prompt: A}\n- {path: b, prompt: B, args:}") == [
        Prompt("a", "A"),
        Prompt("b", "B"),
    ]
    assert yaml("path: own\nprompt: A\nformat: pathlib:Path\n")[0].path == "own"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("prompt: x\nxml_tgas: [a]\n", "p.yaml:2: unknown key 'xml_tgas'\n  Did you mean 'xml_tags'?"),
        ("prompt: x\nprompt: y\n", "p.yaml:2: the key 'prompt' is given twice"),
        ("prompt: [x\n", "p.yaml:2: not YAML"),
        ("prompt: !!python/object:os.system x\n", "p.yaml:1: not YAML"),
        ("prompt: 3\n", "p.yaml:1: prompt is int; it is text"),
        ("prompt: x\nxml_tags: answer\n", "p.yaml:2: xml_tags is 'answer'; it is a list"),
        ("prompt: x\nxml_tags: [yes]\n", "p.yaml:2: xml_tags holds True, which is not text"),
        (
            "prompt: x\nallow_web_search: often\n",
            "p.yaml:2: allow_web_search is 'often'; it is true or false",
        ),
        ("prompt: x\nformat: 3\n", "p.yaml:2: format is 3; it is a mapping"),
        ("prompt: x\nparser: loads\n", "p.yaml:2: parser is 'loads'; a Python object is named 'module:name'"),
        ("prompt: x\nparser: no_such_module:f\n", "p.yaml:2: parser: 'no_such_module:f' cannot be imported"),
        ("prompt: x\nparser: json:no_such\n", "p.yaml:2: parser: 'json:no_such' cannot be imported"),
        ("prompt: x\nmcp_servers: [{name: a}]\n", "p.yaml:2: MCP server 'a': give either a command or a url"),
        ("prompt: x\nmcp_servers: [{name: a, comand: b}]\n", "p.yaml:2: unknown key 'comand'"),
        ("prompt: x\nmcp_servers: [{command: b}]\n", "p.yaml:2: an MCP server has no name"),
        ("prompt: x\nmcp_servers: [b]\n", "p.yaml:2: an MCP server is 'b'; it is a mapping"),
        (
            "prompt: x\nmcp_servers: [{name: a, command: b}]\n",
            "p.yaml:2: mcp_servers is not supported in this version of lllm, so it would have no effect\n  Pass the tools",
        ),
        (
            "prompt: x\nallow_web_search: true\n",
            "p.yaml:2: allow_web_search is not supported in this version of lllm",
        ),
        (
            "prompt: x\ncomputer_use_config: {a: 1}\n",
            "p.yaml:2: computer_use_config is not supported in this version",
        ),
        ("- just text\n", "p.yaml:1: a prompt is a mapping of keys"),
        ("- {path: a, prompt: x}\n- {prompt: y}\n", "p.yaml:2: a prompt has no path"),
        ("path: x\n", "p.yaml:1: a prompt has no prompt"),
        ("", "p.yaml: a prompt has no prompt"),
        ("prompt: x\nxml_tags: [a b]\n", "p.yaml:1: prompt 'folder/p': 'a b' is not a tag name"),
    ],
)
def test_yaml_errors_name_file_and_line(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        yaml(text)
    assert str(caught.value).startswith(error)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("---\nxml_tags: [a]\n", "p.md:1: the front matter is never closed"),
        ("---\na: 1\n---\nx", "p.md:2: unknown key 'a'"),
        ("---\n\nprompt: x\n---\nx", "p.md:3: a Markdown file's prompt is its body"),
        ("---\nxml_tags: [\n---\nx", "p.md:3: not YAML"),
        ("---\nxml_tags: [a]\n---\n\n", "p.md:2: a prompt has no prompt"),
    ],
)
def test_markdown_errors_name_file_and_line(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_prompt_text(text, "p.md", "p", markdown=True)
    assert str(caught.value).startswith(error)


def test_files(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    file = tmp_path / "a" / "b" / "report.md"
    file.write_bytes("\ufeffÜber {x}\r\nzwei\r\n".encode())
    assert load_prompt_file(file, root=tmp_path) == [Prompt("a/b/report", "Über {x}\nzwei")]
    assert load_prompt_file(str(file)) == [Prompt("report", "Über {x}\nzwei")]
    (tmp_path / "p.yml").write_text("prompt: x")
    assert load_prompt_file(tmp_path / "p.yml") == [Prompt("p", "x")]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a prompt file"):
        load_prompt_file(tmp_path / "p.txt")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_prompt_file(tmp_path / "p.md")
    (tmp_path / "p.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_prompt_file(tmp_path / "p.md")


def test_every_key_of_a_prompt_can_stand_in_a_file() -> None:
    values: dict[str, Any] = {
        "path": "x", "prompt": "x", "format": "builtins:int", "parser": "json:loads", "xml_tags": "[]", "md_tags": "[]",
        "signal_tags": "[a]", "required_xml_tags": "[]", "required_md_tags": "[]", "functions": "[]",
        "mcp_servers": "[]", "exception_prompt": "x", "interrupt_prompt": "x", "final_prompt": "x",
        "allow_web_search": "false", "computer_use_config": "{}", "args": "[]", "description": "x",
    }  # fmt: skip
    assert set(values) == set(KEYS)
    del values["signal_tags"]  # not together with a format
    (prompt,) = yaml("".join(f"{key}: {value}\n" for key, value in values.items()))
    assert prompt.format is int
    (empty,) = yaml("".join(f"{key}:\n" for key in values if key not in ("path", "prompt")) + "prompt: x")
    assert empty == Prompt("folder/p", "x")
    with pytest.raises(UnknownKeyError):
        yaml("prompt: x\nother: y")
