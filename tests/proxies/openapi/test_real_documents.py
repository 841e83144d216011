"""Documents of others, whole: GitHub's, and the examples of ReadMe."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lllm.errors import ConfigError
from lllm.proxies.endpoint_tools import tool_name
from lllm.proxies.openapi.document import Document
from lllm.proxies.openapi.importer import import_document
from lllm.proxies.openapi.layout import modules
from lllm.proxies.openapi.module import check_source, write_module
from lllm.proxies.openapi.parts import Imported
from tests.proxies.openapi.documents import examples, github_bytes
from tests.proxies.openapi.imports import sources
from tests.proxies.openapi.test_import_hard import lint

REFUSED = {
    # what none of these can be called by
    "2.0/json/petstore.json": "Swagger 2.0",
    "3.0/json/response-http-behavior.json": "not declared",
    "3.0/json/openapi-workshop/title.json": "no operation",
    "3.1/json/webhooks.json": "webhooks only",
}
DIFFERENT = ("3.1/json/parameters-style.json",)
"""An operation of it is a GET in JSON and a POST in YAML."""


@pytest.fixture(scope="module")
def github() -> Imported:
    address = "https://example.com/api.github.com.json"
    return import_document(Document.parse(github_bytes(), address), name="github")


def test_all_of_github_is_imported(github: Imported, tmp_path: Path) -> None:
    assert len(github.operations) == 1223
    assert github.skipped == []
    files = modules(github)
    assert sum(len(one.operations) for one in files) == 1223
    texts = {one.path: write_module(github, one) for one in files}
    assert {re.sub("[^/a-z_]", "", path) for path in texts} >= {
        "github/repos",
        "github/pulls",
        "github/issues",
    }
    for text in texts.values():
        check_source(text)
    assert sum(len(text) for text in texts.values()) < 3_000_000
    assert sum(one.response is not None for one in github.operations) >= 925
    assert "#/$defs/gist-simple_answer" in texts["github/gists"]
    for path in ("github/pulls", "github/gists", "github/code_scanning", "github/search"):
        (tmp_path / f"{path.partition('/')[2]}.py").write_text(texts[path], "utf-8")
    lint(tmp_path)


def test_names_of_github(github: Imported) -> None:
    named = {(one.path, op.key): op for one in modules(github) for op in one.operations}
    assert len(named) == 1223
    about = {one.path: one.description for one in modules(github)}
    assert about["github/gists"] == "View, modify your gists."
    assert named["github/pulls", "list_requested_reviewers"].id == "pulls/list-requested-reviewers"
    tools = {tool_name(path, key) for path, key in named}
    assert len(tools) == 1223
    assert all(re.fullmatch("[A-Za-z0-9_-]{1,64}", name) for name in tools)


@pytest.mark.parametrize("version", ["3.0", "3.1"])
def test_examples_are_imported_from_json_and_yaml_alike(version: str, tmp_path: Path) -> None:
    count = 0
    for name, data in examples().items():
        twin = name.replace("/json/", "/yaml/").removesuffix(".json") + ".yaml"
        if not name.startswith(f"{version}/json/") or name in REFUSED:
            continue
        found = sources(import_document(Document.parse(data, "document"), name="example"))
        if twin in examples():
            other = sources(import_document(Document.parse(examples()[twin], "document"), name="example"))
            assert (found == other) is (name not in DIFFERENT), name
        for text in found.values():
            count += 1
            (tmp_path / f"{re.sub('[^a-z0-9]', '_', name)}.py").write_text(text, "utf-8")
    assert count >= 10
    lint(tmp_path)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=REFUSED[name]):
        import_document(Document.parse(examples()[name], name))
