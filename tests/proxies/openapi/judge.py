"""A server on this machine that judges requests by an OpenAPI document, with `openapi-core`, and answers as it says."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from tests.proxies.openapi.samples import sample

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


class Judge:
    """Judges what is sent, and what it answers itself."""

    def __init__(self, document: Mapping[str, Any], base_url: str) -> None:
        from openapi_core import Config, OpenAPI

        self.document = judged_copy(document, base_url)
        self.base_url = base_url
        kinds = {
            name: json.loads for name in media_types(document) if name.endswith("+json") and "*" not in name
        }
        config = Config(spec_validator_cls=None, extra_media_type_deserializers=kinds)
        self.api = OpenAPI.from_dict(self.document, config=config)
        self.operations = dict(operations(document))
        self.problems: list[str] = []
        self.served = self.answered = 0
        self.last: Any = None
        """The body of the last answer; None where it had none."""

    async def handle(self, request: web.Request) -> web.Response:
        from openapi_core.testing import MockRequest, MockResponse
        from werkzeug.datastructures import MultiDict

        path, _, query = request.raw_path.partition("?")
        data = await request.read()
        asked = MockRequest(
            self.base_url,
            request.method.lower(),
            path,
            args=MultiDict(parse_qsl(query, keep_blank_values=True)),
            headers=dict(request.headers),
            cookies=dict(request.cookies),
            data=data,
            content_type=request.headers.get("Content-Type", ""),
        )
        self.served += 1
        found = self.api.unmarshal_request(asked)
        for error in found.errors:
            cause = error.__cause__
            details = [one.message for one in getattr(cause, "schema_errors", ())] or [str(cause or "")]
            self.problems.append(
                f"{request.method} {request.raw_path} {data[:200]!r}: {error}: {'; '.join(details)[:200]}"
            )
        for status, kind, body in self.answers(request):
            text = json.dumps(body).encode()
            judged = self.api.unmarshal_response(
                asked, MockResponse(text, status_code=status, content_type=kind)
            )
            if not judged.errors:
                self.answered += 1
                self.last = body
                return web.Response(status=status, body=text, content_type=kind)
        self.last = None
        return web.Response(status=204)

    def answers(self, request: web.Request) -> Iterator[tuple[int, str, Any]]:
        """Status, media type and body of possible answers: the document's example, and a value made for its schema."""
        responses = self.operations[request.headers["X-Operation"]].get("responses") or {}
        for code in sorted(str(one) for one in responses if str(one)[:1] == "2" and str(one).isdigit()):
            one = follow(self.document, responses[code])
            for kind, media in (one.get("content") or {}).items():
                if not kind.endswith("json"):
                    continue
                for example in (media.get("examples") or {}).values():
                    yield int(code), kind, follow(self.document, example).get("value")
                if "schema" in media:
                    yield int(code), kind, sample(written_out(self.document, media["schema"]))


@asynccontextmanager
async def judging(document: Mapping[str, Any]) -> AsyncIterator[Judge]:
    """A running judge."""
    app = web.Application(client_max_size=2**26)
    judges: list[Judge] = []

    async def handle(request: web.Request) -> web.Response:
        return await judges[0].handle(request)

    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    judges.append(Judge(document, f"http://127.0.0.1:{port}"))
    try:
        yield judges[0]
    finally:
        await runner.cleanup()


def operations(document: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Operations by their pointer."""
    return [
        (f"#/paths/{path.replace('~', '~0').replace('/', '~1')}/{method}", item[method])
        for path, given in document["paths"].items()
        for item in [follow(document, given)]
        for method in METHODS
        if method in item
    ]


def follow(document: Mapping[str, Any], value: Any) -> Any:
    for _ in range(10):
        if not (isinstance(value, Mapping) and "$ref" in value):
            break
        found: Any = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part.replace("~1", "/").replace("~0", "~")]
        value = found
    return value


def written_out(document: Mapping[str, Any], schema: Any, depth: int = 4) -> Any:
    """A schema with its references written out; what only requests have is left out."""
    if isinstance(schema, Mapping):
        if "$ref" in schema:
            return written_out(document, follow(document, schema), depth - 1) if depth else {}
        return {
            key: written_out(document, item, depth)
            for key, item in schema.items()
            if key not in ("example", "examples")
        }
    return [written_out(document, item, depth) for item in schema] if isinstance(schema, list) else schema


def media_types(document: Any) -> set[str]:
    found: set[str] = set()
    open_: list[Any] = [document]
    while open_:
        item = open_.pop()
        if isinstance(item, Mapping):
            if isinstance(item.get("content"), Mapping):
                found |= set(item["content"])
            open_ += item.values()
        elif isinstance(item, list):
            open_ += item
    return found


def judged_copy(document: Mapping[str, Any], base_url: str) -> dict[str, Any]:
    """The document as this judge can use it: it compares whole addresses, and cannot judge bytes."""
    found: dict[str, Any] = copy.deepcopy(dict(document))
    open_: list[Any] = [found]
    while open_:
        item = open_.pop()
        if isinstance(item, dict):
            if isinstance(item.get("deprecated"), bool):
                del item["deprecated"]  # the judge warns of it, and a warning is an error here
            if "type" in item and item["type"] != "oauth2":
                item.pop("default", None)  # the judge takes it for sent
            if item.get("type") in ("oauth2", "openIdConnect"):
                item.clear()
                item |= {"type": "http", "scheme": "bearer"}  # what a token is shown by
            if "in" in item and isinstance(item.get("schema"), dict) and "$ref" in item["schema"]:
                item["schema"] = {**follow(found, item["schema"])}  # GitHub has parameters that are readOnly
                item["schema"].pop("readOnly", None)
            if isinstance(item.get("servers"), list):
                item["servers"] = [{"url": base_url}]
            if item.get("format") == "binary" or (
                "contentMediaType" in item and "contentEncoding" not in item
            ):
                item.clear()
            open_ += item.values()
        elif isinstance(item, list):
            open_ += item
    found["servers"] = [{"url": base_url}]
    return found
