"""A proxy as an OpenAPI 3.1 document. An endpoint that is plain Python is a POST of its arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from lllm.proxies.base import BaseProxy
from lllm.proxies.credentials import Auth
from lllm.proxies.endpoint import Endpoint
from lllm.proxies.openapi.document import escaped
from lllm.proxies.openapi.identifiers import mark
from lllm.proxies.parameters import Parameter
from lllm.proxies.shared_schemas import LEAD

VERSION: Final = "3.1.0"
COMPONENTS: Final = "#/components/schemas/"
_OTHER: Final = re.compile(r"[^A-Za-z0-9._-]")


def export_proxy(proxy: BaseProxy) -> dict[str, Any]:
    """The document of a proxy's endpoints. Credentials are in it by what carries them, never by what they hold."""
    return _Exporter(proxy).document()


class _Exporter:
    def __init__(self, proxy: BaseProxy) -> None:
        self.proxy = proxy
        self.schemas: dict[str, Any] = {}
        self.schemes: dict[str, Any] = {}
        self.names: dict[str, str] = {}

    def document(self) -> dict[str, Any]:
        proxy = self.proxy
        paths: dict[str, Any] = {}
        for one in proxy.endpoints().values():
            path, server = self._path(one)
            method = (one.method or "POST").lower()
            if method in paths.get(path, {}):
                path = f"{path}#{one.key}"  # a second endpoint of one request: the fragment is not sent
            operation = self._operation(one)
            if server is not None:
                operation["servers"] = [server]
            paths.setdefault(path, {})[method] = operation
        info = {"title": proxy.title(), "version": "1"}
        if about := proxy.description():
            info["description"] = about
        found: dict[str, Any] = {
            "openapi": VERSION,
            "info": info,
            "servers": [self._server(proxy.base_url or "/")],
        }
        if security := self._security(proxy.auth, proxy):
            found["security"] = security
        found["paths"] = paths
        components = {"schemas": self.schemas, "securitySchemes": self.schemes}
        if any(components.values()):
            found["components"] = {key: value for key, value in components.items() if value}
        return found

    # --- where

    def _path(self, one: Endpoint) -> tuple[str, dict[str, Any] | None]:
        """The path of an endpoint, and its own server if it has one."""
        if one.local:
            return f"/{one.key}", None
        if "://" in one.path.partition("?")[0]:
            parts = urlsplit(one.path)
            query = f"?{parts.query}" if parts.query else ""
            return f"{parts.path or '/'}{query}", {"url": f"{parts.scheme}://{parts.netloc}"}
        own = one.options.get("base_url")
        return f"/{one.path.lstrip('/')}", self._server(own) if own else None

    def _server(self, url: str) -> dict[str, Any]:
        declared: Mapping[str, Any] = getattr(self.proxy, "server_variables", {})
        variables: dict[str, Any] = {}
        for name in re.findall(r"\{([^{}]+)\}", url):
            value = declared.get(name)
            if isinstance(value, str):
                variables[name] = {"default": value}
            elif value:
                variables[name] = {"default": value[0], "enum": list(value)}
        return {"url": url, **({"variables": variables} if variables else {})}

    # --- one operation

    def _operation(self, one: Endpoint) -> dict[str, Any]:
        found: dict[str, Any] = {"operationId": one.options.get("operation") or one.key}
        if one.title and one.title != one.key.replace("_", " "):
            found["summary"] = one.title
        if one.description:
            found["description"] = one.description
        if one.description.startswith("Deprecated."):
            found["deprecated"] = True
        if one.category:
            found["tags"] = [one.category]
        if one.local:
            found["x-lllm-local"] = True
        if "auth" in one.options:
            found["security"] = self._security(one.options["auth"], self.proxy)
        inline = [
            param for param in one.parameters if param.place not in ("body", "content") and not one.local
        ]
        if inline:
            found["parameters"] = [self._parameter(param) for param in inline]
        if body := self._body(one):
            found["requestBody"] = body
        found["responses"] = {"200": self._answer(one)}
        return found

    def _parameter(self, one: Parameter) -> dict[str, Any]:
        schema = self._schema(one.schema)
        found: dict[str, Any] = {"name": one.wire, "in": one.place}
        if one.required or one.place == "path":
            found["required"] = True
        for key in ("description", "deprecated"):
            if key in schema:
                found[key] = schema.pop(key)
        examples = schema.pop("examples", None)
        if one.style == "content":
            return {**found, "content": {"application/json": {"schema": schema}}}
        if one.style:
            found["style"] = one.style
        if one.explode is not None:
            found["explode"] = one.explode
        if getattr(one, "allow_reserved", False):
            found["allowReserved"] = True
        found["schema"] = schema
        if examples:
            found["example"] = examples[0]
        return found

    def _body(self, one: Endpoint) -> dict[str, Any] | None:
        whole = next((param for param in one.parameters if param.place == "content"), None)
        if whole is not None:
            return {
                **({"required": True} if whole.required else {}),
                "content": {one.content: {"schema": self._schema(whole.schema)}},
            }
        fields = [param for param in one.parameters if param.place == "body" or one.local]
        if not fields:
            return None
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {param.wire: self._schema(param.schema) for param in fields},
        }
        required = [param.wire for param in fields if param.required]
        if required:
            schema["required"] = required
        media: dict[str, Any] = {"schema": schema}
        if encoding := {param.wire: how for param in fields if (how := _encoding(param))}:
            media["encoding"] = encoding
        must = bool(required) or (one.options.get("empty_body", True) and one.content == "application/json")
        return {**({"required": True} if must else {}), "content": {one.content: media}}

    def _answer(self, one: Endpoint) -> dict[str, Any]:
        media: dict[str, Any] = {}
        if one.response_schema is not None:
            media["schema"] = self._schema(one.response_schema)
        if one.response is not None:
            media["example"] = one.response
        found: dict[str, Any] = {"description": "The answer."}
        if media or one.accept != "application/json":
            found["content"] = {one.accept: media}
        paginate = one.options.get("paginate") or getattr(one, "paginate", None)
        if paginate == "link" or getattr(paginate, "kind", "") == "link":
            found["headers"] = {"Link": {"schema": {"type": "string"}}}
        return found

    # --- schemas and credentials

    def _schema(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """A schema whose definitions are components."""
        own = dict(schema.get("$defs", {}))
        known = {**self.proxy.schemas, **own}
        names: dict[str, str] = {}
        open_ = list(_refs(schema))
        while open_:
            name = open_.pop()
            if name in names or name not in known:
                continue
            names[name] = self._component(name, known[name])
            open_ += _refs(known[name])
        for name, component in names.items():
            self.schemas[component] = _rewritten(known[name], names)
        found: dict[str, Any] = _rewritten(
            {key: item for key, item in schema.items() if key != "$defs"}, names
        )
        return found

    def _component(self, name: str, value: Any) -> str:
        """The name of a component: another one where two differ."""
        plain = _OTHER.sub("_", name) or "schema"
        for component in (plain, f"{plain}_{mark(repr(value))}"):
            if self.names.setdefault(component, repr(value)) == repr(value):
                return component
        return component

    def _security(self, auth: Any, proxy: BaseProxy) -> list[dict[str, list[str]]]:
        each: list[Auth] = [auth] if isinstance(auth, Auth) else list(auth)
        wanted: dict[str, list[str]] = {}
        optional = False
        for one in each:
            if not one.variables:
                continue  # what is no secret: it is no credential of others
            name, scheme = _scheme(one)
            while self.schemes.setdefault(name, scheme) != scheme:
                name += "_"
            wanted[name] = []
            optional = optional or one.optional
        return [*([{}] if optional else []), *([wanted] if wanted else [])]


def _scheme(one: Auth) -> tuple[str, dict[str, Any]]:
    if one.user_env or one.password_env:
        return "basic", {"type": "http", "scheme": "basic"}
    if one.place == "header" and one.name.lower() == "authorization" and one.prefix == "Bearer ":
        return "bearer", {"type": "http", "scheme": "bearer"}
    return _OTHER.sub("_", one.name), {"type": "apiKey", "in": one.place, "name": one.name}


def _encoding(one: Parameter) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if one.media_type:
        found["contentType"] = one.media_type
    if one.style:
        found["style"] = one.style
    if one.explode is not None:
        found["explode"] = one.explode
    return found


def _refs(schema: Any) -> Iterator[str]:
    open_: list[Any] = [schema]
    while open_:
        item = open_.pop()
        if isinstance(item, Mapping):
            ref = item.get("$ref")
            if isinstance(ref, str) and ref.startswith(LEAD):
                yield ref[len(LEAD) :].replace("~1", "/").replace("~0", "~")
            open_ += item.values()
        elif isinstance(item, list | tuple):
            open_ += item


def _rewritten(schema: Any, names: Mapping[str, str]) -> Any:
    if isinstance(schema, Mapping):
        found = {key: _rewritten(item, names) for key, item in schema.items()}
        ref = schema.get("$ref")
        if isinstance(ref, str) and ref.startswith(LEAD):
            name = ref[len(LEAD) :].replace("~1", "/").replace("~0", "~")
            if name in names:
                found["$ref"] = COMPONENTS + escaped(names[name])
        return found
    if isinstance(schema, list | tuple):
        return [_rewritten(item, names) for item in schema]
    return schema
