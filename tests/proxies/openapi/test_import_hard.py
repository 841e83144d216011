"""The hard documents: how many operations are imported, what is skipped and why, what a call of each sends, and what fits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lllm.errors import ConfigError, ToolError
from lllm.models.function import ToolContext
from lllm.proxies import Proxy
from lllm.proxies.base import BaseProxy
from lllm.proxies.credentials import Bearer, show
from lllm.proxies.endpoint_tools import tool_name
from lllm.proxies.request import RequestPlan
from tests.proxies.openapi.hard_documents import Hard, hard
from tests.proxies.openapi.imports import (
    HARD,
    by_wire,
    endpoints_by_id,
    proxy_of,
    raw,
    read,
    request_of,
    sources,
)

CASES = hard()
FINE = [one for one in CASES if one.refused is None]
ROOT = Path(__file__).parents[3]


def operations(value: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        one["operationId"]: one
        for item in value["paths"].values()
        for one in item.values()
        if isinstance(one, dict) and "operationId" in one
    }


@pytest.mark.parametrize("case", FINE, ids=lambda case: case.file.name)
def test_imports_and_skips(case: Hard) -> None:
    found = read(case.file)
    assert {one.at: one.reason for one in found.skipped} == {
        one["at"]: ContainsText(one["because"]) for one in case.skipped
    }
    assert len(found.operations) == case.imported
    assert all(sources(found).values())


class ContainsText(str):
    def __eq__(self, other: object) -> bool:
        return str(self) in str(other)

    __hash__ = str.__hash__


@pytest.mark.parametrize(
    "case", [one for one in CASES if one.refused is not None], ids=lambda case: case.file.name
)
def test_refuses(case: Hard) -> None:
    with pytest.raises(ConfigError) as error:
        read(case.file)
    assert case.refused is not None
    assert case.refused in str(error.value)


def test_modules_pass_the_linters(tmp_path: Path) -> None:
    for case in FINE:
        for text in sources(read(case.file)).values():
            (tmp_path / f"{case.file.stem.replace('.', '_').replace('-', '_')}.py").write_text(text, "utf-8")
    lint(tmp_path)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        str(ROOT / "pyproject.toml"),
        *map(str, tmp_path.glob("*.py")),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def lint(folder: Path) -> None:
    for words in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        command = [
            sys.executable,
            "-m",
            "ruff",
            *words,
            "--config",
            str(ROOT / "pyproject.toml"),
            str(folder),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["styles-3.0.yaml", "styles-3.1.yaml"])
def test_styles_on_the_wire(name: str) -> None:
    with proxy_of(HARD / name) as proxy:
        endpoints = endpoints_by_id(proxy)
        for key, one in operations(raw(name)).items():
            wire, endpoint = dict(one["x-wire"]), endpoints[key]
            arguments = by_wire(endpoint, one["x-args"])
            if wire.get("refused"):
                with pytest.raises(ToolError):
                    RequestPlan(proxy(), endpoint).build(arguments)
                continue
            request = request_of(proxy, endpoint, arguments)
            got: dict[str, Any] = {"target": request.target}
            if "header" in wire:
                got["header"] = {header: request.headers.get(header) for header in wire["header"]}
            if "Cookie" in request.headers:
                got["cookie"] = request.headers["Cookie"]
            assert got == wire, key


def test_bodies_on_the_wire() -> None:
    with proxy_of(HARD / "bodies-3.0.yaml") as proxy:
        endpoints = endpoints_by_id(proxy)
        for key, one in operations(raw("bodies-3.0.yaml")).items():
            body, endpoint = one["x-wire"]["body"], endpoints[key]
            value = json.loads(body)
            whole = any(param.place == "content" for param in endpoint.parameters)
            request = request_of(proxy, endpoint, {"body": value} if whole else value)
            assert request.body == body.encode(), key
        nothing = request_of(proxy, endpoints["plain"], {})
        assert not nothing.body
        assert "Content-Type" not in nothing.headers


def test_a_required_body_without_properties_is_sent() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    post = {
        "operationId": "x",
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
    }
    whole = {
        "openapi": "3.1.0",
        "info": {"title": "T"},
        "servers": [{"url": "https://t.example"}],
        "paths": {"/x": {"post": post}},
    }
    with proxy_of(whole) as proxy:
        assert request_of(proxy, endpoints_by_id(proxy)["x"], {}).body == b"{}"


_HELD = {"query": "query", "cookie": "cookies"}


def test_credentials_that_are_sent() -> None:
    with proxy_of(HARD / "security-3.1.yaml") as proxy:
        declared = operations(raw("security-3.1.yaml"))
        for key, endpoint in endpoints_by_id(proxy).items():
            auth = endpoint.options.get("auth", proxy.auth)
            each = auth if isinstance(auth, tuple) else (auth,)
            variables = [name for one in each for name in one.variables]
            shown = show(auth, ["s3cret-value"] * len(variables), "security")
            sent = [f"header {name}" for name in shown.headers]
            sent += [
                f"{place} {text.partition('=')[0]}"
                for place in ("query", "cookie")
                if (text := getattr(shown, _HELD[place]))
            ]
            assert sorted(sent) == sorted(declared[key]["x-sends"]), key
            if sent and key != "optional":
                with pytest.raises(ConfigError, match="SECURITY_"):
                    show(auth, [""] * len(variables), "security")
        assert endpoints_by_id(proxy)["sameHeader"].parameters == ()


# --- what fits


def problems(proxy: type[BaseProxy], operation: str, **arguments: Any) -> list[str]:
    found: list[str] = endpoints_by_id(proxy)[operation].checker.validate(arguments)
    return found


def test_all_of() -> None:
    with proxy_of(HARD / "allof-3.0.yaml") as proxy:
        endpoint = endpoints_by_id(proxy)["createUser"]
        assert sorted(one.name for one in endpoint.parameters) == ["email", "name", "password", "tags"]
        assert sorted(one.name for one in endpoint.parameters if one.required) == ["email", "name"]
        for name, fits in (("ab", False), ("abc", True), ("a" * 20, True), ("a" * 21, False)):
            assert (problems(proxy, "createUser", name=name, email="a@b.c") == []) is fits
        assert "password" not in str(endpoint.response_schema)


@pytest.mark.parametrize("version", ["3.0", "3.1"])
def test_discriminators(version: str) -> None:
    with proxy_of(HARD / f"oneof-discriminator-{version}.yaml") as proxy:
        assert problems(proxy, "addPet", body={"petType": "cat", "lives": 9}) == []
        assert problems(proxy, "addPet", body={"petType": "puppy", "bark": "wow"}) == []
        (problem,) = problems(proxy, "addPet", body={"petType": "cat"})
        assert "lives" in problem
        assert "bark" not in problem
        (problem,) = problems(proxy, "addPet", body={"petType": "fish"})
        assert all(name in problem for name in ("cat", "dog", "puppy"))
        assert problems(proxy, "addVehicle", body={"kind": "Car", "doors": 4}) == []
        assert problems(proxy, "addShape", body={"type": "Circle", "radius": 1}) == []
        assert problems(proxy, "addShape", body={"type": "Circle"})


def test_null() -> None:
    with proxy_of(HARD / "nullable-3.0.yaml") as proxy:
        for name in ("text", "colour", "owner", "anything"):
            assert problems(proxy, "save", **{"text": "t", name: None}) == []
        for ratio, fits in ((0.5, True), (0, False), (1, False)):
            assert (problems(proxy, "save", text="t", ratio=ratio) == []) is fits
        assert problems(proxy, "save", text="t", colour="purple")
        endpoint = endpoints_by_id(proxy)["save"]
        request = request_of(proxy, endpoint, {"text": None, "colour": None, "owner": None, "limit": None})
        assert json.loads(request.body or b"") == {"text": None, "colour": None, "owner": None}
        assert request.target == "/save"


TYPES: dict[str, tuple[Any, ...]] = {
    # property: a value that fits, one that does not
    "text": (None, 5),
    "fixed": (7, 8),
    "nothing": (None, 0),
    "point": ([1, 2], [1, 2, 3]),
    "above": (0.1, 0),
    "any": ({},),
    "mixed": (None, 2),
    "codes": ({"x-a": 1}, {"y": 1}),
    "names": ({"a": 1}, {"A": 1}),
    "file": ("aGk=", 5),
    "card": ({}, {"number": "1"}),
    "either": ({"a": 1}, {"a": 1, "c": 1}),
    "wind": ({"unit": "bft", "force": 3}, {"unit": "bft", "force": 13}),
    "some": (["ok", "ok"], ["ok"]),
    "level": (5, 6),
}


def test_keywords_of_2020() -> None:
    with proxy_of(HARD / "types-3.1.yaml") as proxy:
        for name, (good, *bad) in TYPES.items():
            assert problems(proxy, "types", **{name: good}) == [], name
            assert all(problems(proxy, "types", **{name: value}) for value in bad), name
        assert problems(proxy, "types", never=1)
        assert "How loud." in str(endpoints_by_id(proxy)["types"].schema)


def test_recursion() -> None:
    with proxy_of(HARD / "recursion-3.0.yaml") as proxy:
        deep: dict[str, Any] = {"name": "leaf", "parent": None}
        leaf = deep
        for _ in range(5):
            deep = {"name": "branch", "children": [deep]}
        assert problems(proxy, "addTree", **deep) == []
        leaf["parent"] = 5
        assert problems(proxy, "addTree", **deep)
        assert problems(proxy, "replaceForest", body=[[{"name": "a"}]]) == []
        assert problems(proxy, "addPerson", friends=[{"employer": {"staff": [{}]}}]) == []
        assert problems(proxy, "addPerson", friends=[{"employer": {"staff": [5]}}])
    with proxy_of(HARD / "recursion-3.1.yaml") as proxy:
        assert problems(proxy, "evaluate", body={"plus": [1, {"plus": [2, 3]}]}) == []
        assert problems(proxy, "explain", body={"plus": [1, {"plus": [2]}]})
        assert problems(proxy, "pairs", body=[1, 2]) == []
        assert problems(proxy, "pairs", body=[1, 2, 3])


def test_depth() -> None:
    value: Any = {"a": 1}
    with proxy_of(HARD / "deep-3.0.json") as proxy:
        name = endpoints_by_id(proxy)["deep"].parameters[0].name
        value = "wrong"
        for _ in range(150):
            value = {"a": value}
        assert problems(proxy, "deep", **{name: value})


# --- names


def test_one_name_in_five_places() -> None:
    with proxy_of(HARD / "names-3.1.yaml") as proxy:
        endpoint = endpoints_by_id(proxy)["update"]
        value = {"path": "p", "query": "q", "header": "h", "cookie": "c", "body": "b"}
        arguments = {one.name: value[one.place] for one in endpoint.parameters if one.wire == "id"}
        request = request_of(proxy, endpoint, arguments)
        assert request.target == "/things/p?id=q"
        assert (request.headers["id"], request.headers["Cookie"]) == ("h", "id=c")
        assert json.loads(request.body or b"") == {"id": "b"}


def test_odd_names_can_all_be_given() -> None:
    with proxy_of(HARD / "names-3.1.yaml") as proxy:
        endpoint = endpoints_by_id(proxy)["odd"]
        for one in endpoint.parameters:
            assert one.name.isidentifier()
            assert one.name.isascii()
            assert len(one.name) <= 64
        wires = [one.wire for one in endpoint.parameters]
        declared = [one["name"] for one in operations(raw("names-3.1.yaml"))["odd"]["parameters"]]
        assert wires == [
            name for name in declared if name.lower() not in ("accept", "content-type", "authorization")
        ]
        examples = {"string": "x", "integer": 1, "boolean": True, "array": [1]}
        arguments = {one.name: examples[one.schema["type"]] for one in endpoint.parameters}
        assert "%24top=1" in request_of(proxy, endpoint, arguments).target
        (tool,) = Proxy([proxy]).tools("names.odd")
        assert sorted(tool.parameters["properties"]) == sorted(arguments)


def test_ids_become_stable_addresses() -> None:
    whole = raw("ids-3.0.yaml")
    turned = {**whole, "paths": dict(reversed(whole["paths"].items()))}
    found = []
    for value in (whole, turned):
        with proxy_of(value) as proxy:
            endpoints = proxy().endpoints()
            found.append({(one.method, one.path): key for key, one in endpoints.items()})
            for key in endpoints:
                assert key.isidentifier()
                assert not hasattr(BaseProxy, key)
                assert len(tool_name("ids", key)) <= 64
    assert found[0] == found[1]
    assert len(set(found[0].values())) == 24
    assert found[0]["GET", "/f"] == "import_"


def test_adding_paths_renames_nothing_else() -> None:
    whole = raw("ids-3.0.yaml")
    kept = dict(list(whole["paths"].items())[10:])
    names = []
    for paths in (whole["paths"], kept):
        with proxy_of({**whole, "paths": paths}) as proxy:
            names.append({(one.method, one.path): key for key, one in proxy().endpoints().items()})
    assert {key: names[0][key] for key in names[1]} == names[1]


# --- forms, bytes, servers, YAML


def test_multipart() -> None:
    with proxy_of(HARD / "multipart-3.1.yaml", name="uploads") as proxy:
        endpoints = endpoints_by_id(proxy)
        request = request_of(
            proxy, endpoints["upload"], {"file": "AAEC", "meta": {"title": "t"}, "note": "n", "id": 5}
        )
        body = request.body or b""
        assert b'name="file"; filename="file"\r\n' in body
        assert b"\x00\x01\x02" in body
        assert b'name="meta"\r\nContent-Type: application/json\r\n\r\n{"title":"t"}' in body
        assert b'name="note"\r\nContent-Type: text/plain' in body
        many = request_of(proxy, endpoints["many"], {"files": ["AAEC", "AAEC"], "tags": ["a"]}).body or b""
        assert many.count(b'name="files"; filename=') == 2
        form = request_of(proxy, endpoints["form"], {"a": [1, 2], "address": {"city": "Oslo"}, "s": "x"})
        assert form.body == b"a=1&a=2&address%5Bcity%5D=Oslo&s=x"
        assert request_of(proxy, endpoints["both"], {"code": "c"}).body == b'{"code":"c"}'


@pytest.mark.parametrize("version", ["3.0", "3.1"])
def test_bytes(version: str) -> None:
    with proxy_of(HARD / f"binary-{version}.yaml") as proxy:
        endpoint = endpoints_by_id(proxy)["put"]
        request = RequestPlan(proxy(), endpoint).build({"key": "k", "body": b"\x00\xff"})
        assert (request.body, request.headers["Content-Type"]) == (b"\x00\xff", "application/octet-stream")
        assert endpoints_by_id(proxy)["get"].accept == "image/png"
        assert endpoints_by_id(proxy)["csv"].accept == "text/csv"


def test_servers() -> None:
    declared = operations(raw("servers-3.0.yaml"))
    with proxy_of(HARD / "servers-3.0.yaml", "https://docs.example/api/openapi.yaml") as proxy:
        for key, endpoint in endpoints_by_id(proxy).items():
            assert request_of(proxy, endpoint, {}).url == declared[key]["x-wire"]["url"]
        other = proxy(region="us")
        assert (
            RequestPlan(other, endpoints_by_id(proxy)["top"]).build({}).origin
            == "https://us.api.example:8443"
        )
        with pytest.raises(ConfigError, match="region"):
            RequestPlan(proxy(region="mars"), endpoints_by_id(proxy)["top"])
    with proxy_of(HARD / "servers-none-3.1.yaml", "https://docs.example/api/openapi.yaml") as proxy:
        assert request_of(proxy, endpoints_by_id(proxy)["x"], {}).url == "https://docs.example/x"
    with proxy_of(HARD / "servers-none-3.1.yaml") as proxy, pytest.raises(ConfigError, match="base_url"):
        RequestPlan(proxy(), endpoints_by_id(proxy)["x"])
    with proxy_of(HARD / "servers-none-3.1.yaml", server="https://by.hand/v1") as proxy:
        assert request_of(proxy, endpoints_by_id(proxy)["x"], {}).url == "https://by.hand/v1/x"


def test_yaml_texts() -> None:
    with proxy_of(HARD / "yaml-3.1.yaml") as proxy:
        a, b = endpoints_by_id(proxy)["a"], endpoints_by_id(proxy)["b"]
        assert a.parameters[0].schema["enum"] == ["NO", "off", "2024-01-01", "1_000", "12:30:00"]
        assert [one.wire for one in a.parameters] == ["country", "on", "2024-01-01"]
        assert [one.wire for one in b.parameters] == ["on", "no", "null", "2024-01-01", "1.0", "12:30"]
        assert a.description == "From an anchor."


def test_media_types() -> None:
    with proxy_of(HARD / "media-types-3.1.yaml") as proxy:
        endpoints = endpoints_by_id(proxy)
        assert endpoints["json"].content == "application/json; charset=utf-8"
        assert endpoints["vendor"].content == "application/vnd.things.v2+json"
        assert endpoints["vendor"].accept == "application/hal+json"
        assert endpoints["xmlOut"].accept == "application/xml"
        text = request_of(proxy, endpoints["text"], {"body": "# x"})
        assert text.body == b"# x"


def test_path_parameters_and_notes() -> None:
    found = read(HARD / "paths-3.1.yaml")
    texts = " ".join(one.text for one in found.notes)
    assert "webhooks" in texts
    assert "callbacks" in texts
    with proxy_of(HARD / "paths-3.1.yaml") as proxy:
        endpoints = endpoints_by_id(proxy)
        assert sorted(one.name for one in endpoints["shared"].parameters) == ["id", "verbose"]
        assert problems(proxy, "replaced", id=5) == []
        assert problems(proxy, "replaced", id="x")


def test_a_key_by_hand() -> None:
    from lllm.proxies.openapi.security import parse_auth

    with proxy_of(HARD / "security-none-3.0.yaml") as proxy:
        assert proxy.auth == ()
    given = [parse_auth("header:Authorization:Bearer:GITHUB_TOKEN")]
    with proxy_of(HARD / "security-none-3.0.yaml", auth=given) as proxy:
        assert proxy.auth == Bearer(env="GITHUB_TOKEN")


async def test_arguments_named_as_ours() -> None:
    names = ("context", "self", "params", "address", "endpoint", "arguments", "lllm")
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
    post = {"operationId": "x", "requestBody": {"content": {"application/json": {"schema": schema}}}}
    with proxy_of(
        {"openapi": "3.1.0", "servers": [{"url": "https://t.example"}], "paths": {"/x": {"post": post}}}
    ) as proxy:
        runtime = Proxy([proxy])
        seen: list[Any] = []

        async def perform(endpoint: Any, arguments: Any, context: Any) -> None:
            seen.append(dict(arguments))

        runtime.perform = perform  # type: ignore[method-assign]
        (tool,) = runtime.tools("api.x")
        given = dict.fromkeys(names, "v")
        await tool.invoke(given, ToolContext())
        assert seen == [given]


def test_objects_that_allow_no_others_are_one_in_all_of() -> None:
    """As .NET writes inheritance: each part alone would refuse the properties of the others."""
    closed = {"additionalProperties": False, "type": "object"}
    schemas = {
        "Base": {**closed, "properties": {"id": {"type": "integer"}}, "required": ["id"]},
        "Car": {
            "allOf": [
                {"$ref": "#/components/schemas/Base"},
                {**closed, "properties": {"doors": {"type": "integer"}}},
            ]
        },
        "Fleet": {
            "type": "object",
            "properties": {"cars": {"type": "array", "items": {"$ref": "#/components/schemas/Car"}}},
        },
    }
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Fleet"}}}}
    paths = {"/x": {"post": {"operationId": "x", "requestBody": body}}}
    whole = {
        "openapi": "3.0.3",
        "servers": [{"url": "https://t.example"}],
        "paths": paths,
        "components": {"schemas": schemas},
    }
    with proxy_of(whole, name="fleet") as proxy:
        assert problems(proxy, "x", cars=[{"id": 1, "doors": 4}]) == []
        assert problems(proxy, "x", cars=[{"doors": 4}])
        assert problems(proxy, "x", cars=[{"id": 1, "wings": 2}])


def test_a_path_item_beside_its_reference() -> None:
    items = {"Ping": {"get": {"operationId": "ping"}}}
    paths = {"/x": {"$ref": "#/components/pathItems/Ping", "post": {"operationId": "pong"}}}
    found = read({"openapi": "3.1.0", "paths": paths, "components": {"pathItems": items}})
    assert sorted(one.id for one in found.operations) == ["ping", "pong"]


@pytest.mark.parametrize(
    ("offered", "sent"),
    [
        (("text/json", "application/*+json", "application/json"), "application/json"),
        (("text/json",), "application/json"),
        (("application/*+json",), "application/json"),
        (("*/*",), "application/json"),
        (("application/xml", "Application/JSON; charset=utf-8"), "Application/JSON; charset=utf-8"),
        (
            ("text/xml", "application/x-www-form-urlencoded; charset=utf-8"),
            "application/x-www-form-urlencoded; charset=utf-8",
        ),
        (("application/octet-stream", "multipart/form-data"), "multipart/form-data"),
        (("multipart/mixed", "application/xml"), None),
    ],
)
def test_which_media_type_is_sent(offered: tuple[str, ...], sent: str | None) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    body = {"required": True, "content": {name: {"schema": schema} for name in offered}}
    paths = {"/x": {"post": {"operationId": "x", "requestBody": body}, "get": {"operationId": "y"}}}
    with proxy_of({"openapi": "3.1.0", "servers": [{"url": "https://t.example"}], "paths": paths}) as proxy:
        endpoint = endpoints_by_id(proxy).get("x")
        assert (endpoint.content if endpoint is not None else None) == sent
        if endpoint is not None:
            request = request_of(proxy, endpoint, {"a": 1})
            assert request.headers["Content-Type"].startswith(sent or "")
            assert request.body
