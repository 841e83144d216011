"""Values that fit a JSON schema, for trying operations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

FORMATS = {
    "date": "2024-05-01",
    "date-time": "2024-05-01T10:00:00Z",
    "time": "10:00:00Z",
    "email": "a@example.com",
    "uri": "https://example.com/a",
    "url": "https://example.com/a",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "byte": "aGk=",
    "binary": "aGk=",
    "hostname": "example.com",
}


PATTERNS = (
    # texts that patterns of the documents are tried on; long ones last, for some patterns take for ever with them
    *("stable", "1.0", "a.json", "#fff", "A1", "12345"),
    *("/branches/stable/categories/guides/x", "/branches/stable/guides/x", "/branches/stable/apis/a.json"),
    *("/images/" + "a" * 24, "a" * 24),
)


def sample(schema: Any, whole: bool = False, depth: int = 0) -> Any:
    """A value that fits, for most schemas. `whole`: with the properties that are not required, too.

    `schema` has what it refers to in its own `$defs`, if `resolve` was used.
    """
    if not isinstance(schema, Mapping) or not schema:
        return "x"
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return next((one for one in schema["enum"] if one is not None), None)
    for key in ("oneOf", "anyOf"):
        if key in schema:
            rest = {name: item for name, item in schema.items() if name != key}
            branches = [one for one in schema[key] if one != {"type": "null"}]
            return sample(merged([rest, branches[0]]), whole, depth)
    if "allOf" in schema:
        rest = {name: item for name, item in schema.items() if name != "allOf"}
        return sample(merged([rest, *schema["allOf"]]), whole, depth)
    kind = schema.get(
        "type", "object" if "properties" in schema else "array" if "items" in schema else "string"
    )
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    match kind:
        case "object":
            names = schema.get("required", ())
            properties = schema.get("properties", {})
            wanted = [name for name in properties if name in names or (whole and depth < 2)]
            found = {name: sample(properties[name], whole, depth + 1) for name in wanted}
            found |= {name: "x" for name in names if name not in properties}
            return found or ({"a": "x"} if schema.get("minProperties") else {})
        case "array":
            if "prefixItems" in schema:
                return [sample(one, whole, depth + 1) for one in schema["prefixItems"]]
            count = max(schema.get("minItems", 0), 1)
            return [sample(schema.get("items", {}), whole, depth + 1)] * (
                1 if schema.get("uniqueItems") else count
            )
        case "integer":
            return int(
                max(
                    schema.get("minimum", 1),
                    schema.get("exclusiveMinimum", 0) + 1,
                    schema.get("multipleOf", 1),
                )
            )
        case "number":
            return max(
                schema.get("minimum", 1),
                schema.get("exclusiveMinimum", 0) + 0.5,
                schema.get("multipleOf", 0.5),
            )
        case "boolean":
            return True
        case "null":
            return None
    if "pattern" in schema:
        return next((text for text in PATTERNS if re.search(schema["pattern"], text)), "x")
    text = FORMATS.get(schema.get("format", ""), "x")
    return text if "format" in schema else (text * max(schema.get("minLength", 1), 1))


def merged(schemas: list[Any]) -> dict[str, Any]:
    """Schemas that must all hold, as one."""
    found: dict[str, Any] = {}
    for one in schemas:
        for key, item in one.items() if isinstance(one, Mapping) else ():
            if key == "properties":
                found[key] = {**found.get(key, {}), **item}
            elif key == "required":
                found[key] = [*found.get(key, []), *item]
            elif key == "allOf":
                found = merged([found, *item])
            else:
                found[key] = item
    return found


def resolve(schema: Any, shared: Mapping[str, Any], depth: int = 6) -> Any:
    """A schema with its references written out to some depth."""
    if isinstance(schema, Mapping):
        ref = schema.get("$ref")
        if isinstance(ref, str):
            rest = {key: item for key, item in schema.items() if key != "$ref"}
            if depth <= 0:
                return rest
            target = resolve(shared.get(ref.removeprefix("#/$defs/"), {}), shared, depth - 1)
            return merged([target, resolve(rest, shared, depth)]) if rest else target
        return {key: resolve(item, shared, depth) for key, item in schema.items()}
    if isinstance(schema, list):
        return [resolve(item, shared, depth) for item in schema]
    return schema
