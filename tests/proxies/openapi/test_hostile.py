"""Documents that attack: nothing of them becomes code, and nothing is read or fetched for them."""

from __future__ import annotations

import ast
import copy
import importlib.util
import json
import random
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lllm.core.visible import visible
from lllm.errors import ConfigError
from lllm.proxies import Proxy
from lllm.proxies.openapi.exporter import export_proxy
from lllm.proxies.openapi.literals import literal
from lllm.proxies.openapi.module import ModuleUnsafe, check_source
from lllm.proxies.openapi.operations import named
from lllm.proxies.openapi.parts import Argument
from lllm.proxies.openapi.reading import read as read_text
from lllm.proxies.openapi.security import parse_auth
from tests.proxies.openapi.imports import (
    HARD,
    endpoints_by_id,
    loaded,
    proxy_of,
    raw,
    read,
    request_of,
    sources,
)

CODE = '"""\n__import__("os").abort()\n"""'
PIECES = (
    *(
        '"""',
        "'''",
        '"',
        "'",
        "\\",
        "\n",
        "\r\n",
        "\t",
        "\x00",
        "\x1b[31m",
        "\u2028",
        "\u202e",
        "\u200b",
        "\ufeff",
    ),
    *(
        "é",
        "数",
        "🎉",
        "{",
        "}",
        "${x}",
        "{{x}}",
        "%s",
        "#",
        " ",
        "a",
        "/",
        "*",
        ")",
        "]",
        ":",
        ";",
        "=",
        "\\N{DASH}",
    ),
    *(
        '");__import__("os").abort()#',
        "f'{1}'",
        "# noqa",
        "# type: ignore",
        "\\x41",
        "\x85",
        "\x0b",
        "\ud800",
        "..",
        "-",
    ),
)
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


SHARED = {"$ref": "#/components/schemas/S"}


def document(text: str) -> dict[str, Any]:
    """A document that has a text in every place where a text may be."""
    schema = {
        "type": "string",
        "title": text,
        "description": text,
        "default": text,
        "enum": [text, "other"],
        "example": text,
        text: text,
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": text, "version": text, "description": text},
        "servers": [{"url": "https://x.example/" + text, "description": text}, {"url": "https://x.example"}],
        "paths": {
            "/fixed/" + text: {"get": {"operationId": "fixed", "responses": {"200": {"description": "ok"}}}},
            "/x": {
                "post": {
                    "operationId": text,
                    "summary": text,
                    "description": text,
                    "tags": [text],
                    "parameters": [{"name": text, "in": "query", "description": text, "schema": schema}],
                    "requestBody": {
                        "description": text,
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "object",
                                    "properties": {text: schema, "a": SHARED},
                                },
                                "example": {text: text},
                            }
                        },
                    },
                    "responses": {
                        "200": {
                            "description": text,
                            "content": {"application/json": {"example": {text: text}}},
                        }
                    },
                    "x-github": {"subcategory": text},
                },
                "get": {"responses": {"200": {"description": "ok"}}},
            },
        },
        "components": {
            "schemas": {"S": {"type": "object", "description": text, "properties": {text: schema}}},
            "securitySchemes": {text: {"type": "apiKey", "in": "query", "name": text or "x"}},
        },
        "security": [{text: []}],
    }


@settings(max_examples=60)
@given(TEXTS)
def test_no_text_becomes_code(text: str) -> None:
    for value in sources(read(document(text), name="hostile")).values():
        check_source(value)
        assert value.encode().decode() == value
        with loaded(value) as proxy:
            for one in proxy().endpoints().values():
                assert one.key.isidentifier()
                assert one.key.isascii()


def test_python_as_a_summary() -> None:
    (text,) = sources(read(document(CODE), name="hostile")).values()
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    assert {ast.unparse(node.func) for node in calls} == {"ProxyRegistrator", "BaseProxy.endpoint", "Query"}
    with loaded(text) as proxy:
        endpoint = next(one for one in proxy().endpoints().values() if one.method == "POST")
        wires = {one.wire for one in endpoint.parameters}
        assert CODE in wires  # as it stands in the document
        assert endpoint.parameters[0].schema["enum"] == [CODE, "other"]


def test_texts_are_sent_as_they_stand_in_the_document() -> None:
    with proxy_of(HARD / "injection-3.1.json", name="injection") as proxy:
        whole = json.loads((HARD / "injection-3.1.json").read_text())
        declared = {item["get"]["operationId"]: item["get"] for item in whole["paths"].values()}
        for operation, endpoint in endpoints_by_id(proxy).items():
            if operation.startswith("op_") and operation != "op_sur":  # that one has what cannot be sent
                enum = declared[operation]["parameters"][0]["schema"]["enum"]
                assert endpoint.parameters[0].schema["enum"] == enum


def test_catalogues_have_no_control_characters() -> None:
    with proxy_of(HARD / "injection-3.1.json", name="injection") as proxy:
        runtime = Proxy([proxy])
        for text in (
            runtime.api_catalog(),
            runtime.api_directory(),
            runtime.retrieve_api_docs(),
            runtime.overview(),
        ):
            assert visible(text) == text


def test_importing_a_module_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = sources(read(HARD / "injection-3.1.json", name="injection")).values()
    file = tmp_path / "imported_for_a_test.py"
    file.write_text(text, "utf-8")
    ran: list[str] = []
    monkeypatch.setattr("os.system", ran.append)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, file.stem, module)
    with loaded(text):
        pass
    assert ran == []


@pytest.mark.parametrize(
    "text",
    [
        "import os",
        "from os import system",
        'X: dict[str, object] = {"a": __import__("os")}',
        "X: dict[str, object] = {**{}}",
        'X: dict[str, object] = {"a": f"{1}"}',
        "print(1)",
        "class A(BaseProxy):\n    x = open('x')",
        "class A(BaseProxy):\n    @BaseProxy.endpoint(endpoint=open('x'))\n    def a(self) -> None: ...",
        "class A(BaseProxy):\n    def a(self, x=open('x')) -> None: ...",
        "class A(BaseProxy):\n    def a(self) -> None:\n        return 1",
        "class A(open('x')):\n    pass",
        "class A(BaseProxy, metaclass=x):\n    pass",
        "@evil\nclass A(BaseProxy):\n    pass",
        "def f(): ...",
        "x = lambda: 1",
        "if True:\n    pass",
    ],
)
def test_what_is_not_notation_is_not_written(text: str) -> None:
    with pytest.raises(ModuleUnsafe):
        check_source(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=80)
@given(VALUES, st.integers(0, 10))
def test_literals_are_what_they_stand_for(value: Any, indent: int) -> None:
    assert ast.literal_eval(literal(value, indent * 4)) == value


@settings(max_examples=150)
@given(
    st.lists(
        st.sampled_from(
            (*PIECES, "openapi: 3.1.0\n", "paths: ", "&a ", "*a", "<<: ", "- ", "? ", "!!python/x ", "[", ",")
        )
    ).map("".join)
)
def test_other_documents_are_refused(text: str) -> None:
    for name in ("x.yaml", "x.json"):
        with suppress(ConfigError):  # and nothing else is raised
            read_text(text.encode("utf-8", "surrogatepass"), name)


def test_a_long_chain_of_all_of_is_imported() -> None:
    """Each schema extends the next one: a parent of a parent, two thousand times."""
    schemas: dict[str, Any] = {
        f"S{n}": {
            "allOf": [
                {"$ref": f"#/components/schemas/S{n + 1}"},
                {"type": "object", "properties": {f"p{n}": {"type": "string"}}},
            ]
        }
        for n in range(2000)
    }
    schemas["S2000"] = {"type": "object", "properties": {"last": {"type": "string"}}}
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/S0"}}}}
    whole = {**document("x"), "components": {"schemas": schemas}, "security": []}
    whole["paths"] = {"/x": {"post": {"requestBody": body}, "get": {}}}
    found = read(whole)
    assert len(found.operations) + len(found.skipped) == 2
    for value in sources(found).values():
        check_source(value)


def test_an_operation_with_very_many_parameters() -> None:
    """Twice as many take twice as long: not four times."""
    arguments = tuple(Argument(f"p{number}", "query", {}) for number in range(20_000))
    began = time.process_time()
    assert [one.name for one in named(arguments)] == [one.wire for one in arguments]
    assert time.process_time() - began < 8


def test_bombs_end_quickly() -> None:
    bombs = {
        "deep.json": b'{"a":' * 100_000,
        "deep.yaml": b"[" * 100_000,
        "deeper.yaml": b"\n".join(b" " * n + b"a:" for n in range(2000)),
        "digits.json": b'{"a": ' + b"9" * 10_000 + b"}",
        "digits.yaml": b"a: " + b"9" * 10_000,
        "infinite.json": b'{"a": 1e999}',
        "twice.json": b'{"a": 1, "a": 2}',
        "merge.yaml": b"a: &a {<<: *a}",
    }
    for name, data in bombs.items():
        with pytest.raises(ConfigError):
            read_text(data, name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bearer",
        "bearer:",
        "bearer:ghp_0123456789abcdef",
        "header:X:sk-0123456789abcdef",
        "header:X-K",
        "cookie:a b:K",
        "token:X",
        "basic:U",
        "bearer:A B",
    ],
)
def test_auth_takes_names_only(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_auth(text)
    assert "0123456789abcdef" not in str(error.value)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"type": "string"}')
    folder = tmp_path / "api"
    folder.mkdir()
    (folder / "inside.json").symlink_to(secret)
    body = {"content": {"application/json": {"schema": {"$ref": "inside.json"}}}}
    whole = {
        "openapi": "3.1.0",
        "paths": {"/x": {"post": {"requestBody": body}, "get": {}}},
        "servers": [{"url": "https://x.example"}],
    }
    file = folder / "openapi.json"
    file.write_text(json.dumps(whole))
    (skipped,) = read(file).skipped
    assert "folder" in skipped.reason


JUNK: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        -1,
        1.5,
        10**30,
        "",
        "x",
        "#",
        "#/",
        "#/components/schemas/A",
        "https://x.example",
        "//h/x",
    ),
    *(
        [],
        {},
        [1],
        ["x"],
        [{}],
        [None],
        {"a": 1},
        {"$ref": "#/paths"},
        {"$ref": 5},
        {"in": []},
        {"schema": {}},
    ),
    *({"type": ["string", "null"]}, {"name": "x", "in": "path"}, {"url": "https://e.example"}),
)
KEYS = """
    $ref type in name schema allOf oneOf discriminator required properties items enum content parameters security servers
    nullable style explode deprecated readOnly
""".split()


@pytest.mark.parametrize("seed", range(8))
def test_a_document_with_anything_anywhere(seed: int) -> None:
    """Whatever stands wherever: operations are imported or skipped, or the document is refused; no other exception."""
    rng = random.Random(seed)
    for name in sorted(file.name for file in HARD.glob("*.yaml")):
        value = raw(name)
        for _ in range(rng.choice((1, 2, 3))):
            spoil(value, rng)
        with suppress(ConfigError):
            for text in sources(read(value, name="spoiled")).values():
                with loaded(text) as proxy:
                    json.dumps(export_proxy(proxy()))


def test_places_that_are_no_texts() -> None:
    scheme = {"type": "apiKey", "in": [], "name": "x"}
    paths = {
        "/a": {"get": {"parameters": [{"name": "x", "in": []}], "security": []}},
        "/b": {"get": {}},
        "/c": {"get": {"security": []}},
    }
    whole = {
        "openapi": "3.1.0",
        "paths": paths,
        "security": [{"k": []}],
        "components": {"securitySchemes": {"k": scheme}},
    }
    found = read(whole)
    assert [one.at for one in found.skipped] == ["#/paths/~1a/get", "#/paths/~1b/get"]


def spoil(value: dict[str, Any], rng: random.Random) -> None:
    """Puts junk somewhere into a document."""
    holder: Any = value
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            return
        key = rng.choice(keys)
        if not isinstance(holder[key], dict | list) or rng.random() < 0.25:
            break
        holder = holder[key]
    if isinstance(holder, dict) and rng.random() < 0.2:
        key = rng.choice(KEYS)
    holder[key] = copy.deepcopy(rng.choice(JUNK))


def test_a_path_leads_to_no_other_server() -> None:
    paths = {
        "https://evil.example/x": {"get": {}},
        "//evil.example/y": {"get": {"operationId": "y"}},
        "/z": {"get": {}},
    }
    whole = {"openapi": "3.1.0", "servers": [{"url": "https://good.example"}], "paths": paths}
    assert [one.reason for one in read(whole).skipped] == ["its path is an address of its own"]
    with proxy_of(whole) as proxy:
        for endpoint in proxy().endpoints().values():
            assert request_of(proxy, endpoint, {}).origin == "https://good.example"


def test_values_that_are_nested_deep() -> None:
    deep: Any = "x"
    for _ in range(250):
        deep = [deep]
    schema = {"type": "array", "default": deep, "example": deep}
    response = {"200": {"description": "ok", "content": {"application/json": {"example": deep}}}}
    paths = {
        "/a": {
            "get": {
                "parameters": [{"name": "x", "in": "query", "schema": schema, "example": deep}],
                "responses": response,
            }
        },
        "/b": {"get": {"parameters": [{"name": "x", "in": "query", "schema": {"enum": [deep]}}]}},
        "/c": {"get": {"parameters": [{"name": "x", "in": "query", "schema": {"const": deep}}]}},
    }
    found = read({"openapi": "3.1.0", "paths": paths})
    assert [one.path for one in found.operations] == ["/a"]
    assert [one.operation for one in found.skipped] == ["GET /b", "GET /c"]
    assert all(sources(found).values())


def test_schemas_that_are_nested_deep() -> None:
    for keyword in ("allOf", "anyOf", "items", "not", "properties"):
        schema: Any = {"type": "object", "properties": {"a": {"type": "string"}}}
        for _ in range(150):
            schema = {
                keyword: {"a": schema}
                if keyword == "properties"
                else schema
                if keyword in ("items", "not")
                else [schema]
            }
        body = {"content": {"application/json": {"schema": schema}}}
        found = read({"openapi": "3.1.0", "paths": {"/a": {"post": {"requestBody": body}, "get": {}}}})
        assert found.operations
        assert all(sources(found).values())


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
def test_schemas_that_double_each_time(keyword: str) -> None:
    """What leads to 2^60 schemas is read in no time, and no value is judged by them."""
    schemas: dict[str, Any] = {
        f"A{n}": {keyword: [{"$ref": f"#/components/schemas/A{n + 1}"}] * 2} for n in range(60)
    }
    schemas["A60"] = {"type": "object", "properties": {"a": {"type": "string"}}}
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/A0"}}}}
    paths = {"/a": {"post": {"requestBody": body}, "get": {}}, "/b": {"post": {"requestBody": body}}}
    found = read({"openapi": "3.1.0", "paths": paths, "components": {"schemas": schemas}})
    if keyword == "allOf":
        assert found.skipped == []
    else:
        assert [one.at for one in found.skipped] == ["#/paths/~1a/post", "#/paths/~1b/post"]
        assert "alternatives" in found.skipped[0].reason
