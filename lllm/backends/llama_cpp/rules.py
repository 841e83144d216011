"""What a reply may look like, as a llama.cpp grammar (GBNF): a JSON schema, or calls in the model's own form.

The JSON-schema converter is llama-cpp-python's. It drops keywords silently, so what it drops is worked out here, and what
it gets wrong (names that clash, control characters within strings) is mended.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from lllm.backends.llama_cpp.pattern import translate
from lllm.errors import BadRequestError, UnsupportedError, listing, text_of
from lllm.ports import Request

_NOTES: Final = frozenset(
    "$anchor $comment $defs $id $schema default definitions deprecated description discriminator examples readOnly title "
    "writeOnly".split()
)
"""Keywords that say nothing about a value."""
_DATES: Final = ("date", "time", "date-time")
_MENDED: Final = {
    "char": r'[^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F])',
    "number": '("-"? integral-part) ("." decimal-part)? ([eE] [-+]? [0-9] [0-9]?)? space',
}
"""Rules of the converter that allow what JSON does not: control characters in strings, exponents that no number has."""
_END_OF_CALL: Final = json.dumps("}\n</tool_call>")
_LONGEST: Final = 500
"""Repetitions that a grammar counts: more of them nest too deep for the library's parser."""
_ANY: Final = ("object", "array", "string", "number", "boolean", "null")
_OF: Final[Mapping[str, str]] = {
    **dict.fromkeys(("minLength", "maxLength", "pattern", "format", "contentEncoding"), "string"),
    **dict.fromkeys(("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"), "array"),
    **dict.fromkeys(("minContains", "maxContains", "unevaluatedItems", "additionalItems"), "array"),
    **dict.fromkeys(("properties", "required", "additionalProperties", "patternProperties"), "object"),
    **dict.fromkeys(("minProperties", "maxProperties", "propertyNames", "unevaluatedProperties"), "object"),
    **dict.fromkeys(("dependentRequired", "dependentSchemas", "dependencies"), "object"),
    **dict.fromkeys(("minimum", "maximum", "multipleOf"), "number"),
    **dict.fromkeys(("exclusiveMinimum", "exclusiveMaximum"), "number"),
}
"""The type that a keyword is about: to values of other types it says nothing."""


class Rules(NamedTuple):
    """Attributes: grammar: GBNF with the rule `root`. enforced: see `Reply.enforced`; None where the grammar is for calls."""

    grammar: str
    enforced: str | None


def offered(request: Request) -> tuple[Mapping[str, Any], ...]:
    """The tools that the model is told of."""
    return () if request.sampling.get("tool_choice") == "none" else tuple(request.tools)


def rules(request: Request, *, calls: bool, name: str) -> Rules | None:
    """The rules of a request, or None where the model may write what it likes.

    Args:
        request: its `format`, `tools` and `sampling["tool_choice"]` count. Tools and a format together allow both.
        calls: whether the model writes calls as `<tool_call>{"name": ..., "arguments": ...}</tool_call>`.
        name: the model's file name, for messages.

    Raises UnsupportedError for a schema that has no grammar and for forced calls of a model with another form of calls,
    BadRequestError for a tool_choice that means nothing.
    """
    tools = offered(request)
    choice = request.sampling.get("tool_choice")
    chosen = _chosen(tools, choice)
    if chosen and not calls:
        raise UnsupportedError(
            f"{name} cannot be made to call a tool: its chat template has no <tool_call> of JSON",
            hint="Leave tool_choice out, or give 'auto' or 'none'.",
        )
    if not chosen and request.format is None:
        return None
    if request.format is not None and tools and not calls:
        return None
    made = _Grammar()
    many = choice == "required" or not chosen
    try:
        ways = [made.calls(chosen or tools, many=many)] if tools and calls else []
        if not chosen and request.format is not None:
            ways.append(made.schema(request.format["schema"]))
    except Exception as error:  # the converter asserts, indexes and recurses
        what = "tool's parameters have" if chosen else "format has"
        raise UnsupportedError(
            f"the {what} no grammar: {text_of(error)}"[:500],
            hint="Simplify the schema, or leave the format out and describe it in the prompt.",
        ) from error
    enforced = None
    if request.format is not None and not chosen:
        left = sorted(made.dropped)
        enforced = f"grammar except {', '.join(left)}" if left else "grammar"
    return Rules(made.text(ways), enforced)


def _chosen(tools: tuple[Mapping[str, Any], ...], choice: Any) -> tuple[Mapping[str, Any], ...]:
    """The tools of which one must be called."""
    if not tools or choice in (None, "auto", "none"):
        return ()
    if choice == "required":
        return tools
    name = (choice.get("function") or choice).get("name") if isinstance(choice, Mapping) else None
    if name is None:
        raise BadRequestError(
            f"tool_choice is {choice!r}; it is 'auto', 'none', 'required' or "
            '{"type": "function", "function": {"name": ...}}'
        )
    found = tuple(tool for tool in tools if _function(tool)["name"] == name)
    if not found:
        names = listing(_function(tool)["name"] for tool in tools)
        raise BadRequestError(f"tool_choice names '{name}', which is not among the tools: {names}")
    return found


def _function(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    function: Mapping[str, Any] = tool.get("function") or tool
    return function


class _Grammar:
    """A grammar that is being written."""

    def __init__(self) -> None:
        from llama_cpp.llama_grammar import SchemaConverter

        self._converter: Any = SchemaConverter(
            prop_order={}, allow_fetch=False, dotall=False, raw_pattern=False
        )
        self._converter._format_literal = _literal
        self._count = 0
        self.dropped: set[str] = set()
        """The keywords of the last schema that the grammar does not hold a reply to."""

    def schema(self, schema: Mapping[str, Any]) -> str:
        """The name of the rule for a value of this schema."""
        self._count += 1
        mark = f"lllm-{self._count}"
        plain, left = _plain(schema, mark)
        self.dropped = left | _dropped(plain)
        return str(self._converter.visit(self._converter.resolve_refs(plain, mark), mark))

    def calls(self, tools: tuple[Mapping[str, Any], ...], *, many: bool) -> str:
        """The name of the rule for one or more calls in the model's own form."""
        ways = []
        for tool in tools:
            function = _function(tool)
            value = self.schema(function.get("parameters") or {"type": "object", "properties": {}})
            head = json.dumps(f'<tool_call>\n{{"name": {json.dumps(function["name"])}, "arguments": ')
            ways.append(f"{head} {value} {_END_OF_CALL}")
        rule = self._converter._add_rule
        one = rule("lllm-call", " | ".join(ways))
        return str(rule("lllm-calls", f'{one} ("\\n" {one})*' if many else one))

    def text(self, ways: list[str]) -> str:
        rules = self._converter._rules
        for name, rule in _MENDED.items():
            if name in rules:
                rules[name] = rule
        rules["root"] = " | ".join(ways)
        return str(self._converter.format_grammar())


def _literal(text: str) -> str:
    """A JSON text as a GBNF literal; the converter's own leaves backslashes as they are."""
    return json.dumps(json.dumps(json.loads(text), ensure_ascii=False), ensure_ascii=False)


def _plain(schema: Any, mark: str) -> tuple[Any, set[str]]:
    """A copy that the converter reads as it is meant.

    - What is referred to stands under a name of its own: the converter knows a definition by the last word of its path,
      and takes another rule of this name for it.
    - `true`, `{}`, several types, and `allOf` of one are written out: it has a narrow or no idea of them.
    - Repetitions that are too many to count and patterns that a grammar does not express are gone; their keywords come
      beside the copy.

    ValueError for a schema that no value fits.
    """
    names: dict[str, str] = {}
    left: set[str] = set()

    def copy(value: Any) -> Any:
        if value is True:
            value = {}
        if not isinstance(value, Mapping):
            raise ValueError(f"{json.dumps(value)} stands where a schema is due, or forbids every value")
        if isinstance(ref := value.get("$ref"), str):
            name = names.setdefault(ref, f"{mark}-ref-{len(names)}")
            return {
                **{key: item for key, item in value.items() if key not in _NOTES},
                "$ref": f"#/$defs/{name}",
            }
        out = {key: item for key, item in value.items() if key not in _NOTES}
        if set(out) == {"allOf"} and len(out["allOf"]) == 1:
            return copy(out["allOf"][0])
        for key in ("enum", "oneOf", "anyOf"):
            if key in out and not out[key]:
                raise ValueError(f"no value fits an empty {key}")
        if not set(out) & {"oneOf", "anyOf", "allOf", "const", "enum", "not", "if"}:
            kinds = out.get("type")
            if kinds is None:
                about = {_OF[key] for key in out if key in _OF}
                # the converter takes a schema that speaks of one type for one of this type
                kinds = [*about] if about else [*_ANY]
            if isinstance(kinds, list) and len(kinds) > 1:
                rest = {key: item for key, item in out.items() if key != "type"}
                return {"anyOf": [copy({**_about(rest, kind), "type": kind}) for kind in kinds]}
            out["type"] = kinds[0] if isinstance(kinds, list) else kinds
            out = _about(out, out["type"])
            for key in ("minLength", "maxLength", "minItems", "maxItems"):
                if out.get(key, 0) > _LONGEST:
                    left.add(key)
                    del out[key]
            if "pattern" in out:
                written = translate(out.pop("pattern"))
                if written is None:
                    left.add("pattern")
                else:
                    out["pattern"] = written
        for key in ("oneOf", "anyOf", "allOf", "prefixItems"):
            if key in out:
                out[key] = [copy(item) for item in out[key]]
        if "properties" in out:
            out["properties"] = {name: copy(item) for name, item in out["properties"].items()}
        for key in ("items", "additionalProperties"):
            if out.get(key) is not None and out[key] is not False:
                out[key] = [copy(item) for item in out[key]] if isinstance(out[key], list) else copy(out[key])
        return out

    out = copy(schema)
    defs: dict[str, Any] = {}
    while missing := [ref for ref in names if names[ref] not in defs]:
        for ref in missing:
            defs[names[ref]] = copy(_target(schema, ref))
    if defs:
        out = {**out, "$defs": defs}
    return out, left


def _about(part: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A schema without what it says of values of other types."""
    kind = "number" if kind == "integer" else kind
    return {key: item for key, item in part.items() if _OF.get(key, kind) == kind}


def _target(schema: Any, ref: str) -> Any:
    """What a local reference stands for. ValueError for one that leads nowhere or elsewhere."""
    if not ref.startswith("#"):
        raise ValueError(f"$ref '{ref}' is not in the schema")
    found = schema
    for step in filter(None, ref[1:].split("/")):
        step = step.replace("~1", "/").replace("~0", "~")
        try:
            found = found[int(step)] if isinstance(found, list) else found[step]
        except (LookupError, TypeError, ValueError):
            raise ValueError(f"$ref '{ref}' leads nowhere") from None
    return found


def _dropped(plain: Mapping[str, Any]) -> set[str]:
    """The keywords of a plain schema that its grammar does not hold a reply to."""
    out: set[str] = set()
    todo: list[Any] = [plain, *plain.get("$defs", {}).values()]
    while todo:
        part = todo.pop()
        if not isinstance(part, Mapping):
            continue
        held = {"$ref"} if "$ref" in part else set(_held(part))
        out |= set(part) - _NOTES - held
        for key in (held & {"prefixItems", "items"}) | {"oneOf", "anyOf"}:
            inner = part.get(key, ())
            todo += inner if isinstance(inner, list) else [inner]
        if "properties" in held:
            todo += [*part.get("properties", {}).values(), part.get("additionalProperties")]
    return out


def _held(part: Mapping[str, Any]) -> Iterator[str]:
    """The keywords that the converter looks at, in its own order: the first that it finds decides."""
    kind = part.get("type")
    if union := next((key for key in ("oneOf", "anyOf") if key in part), None):
        if union == "anyOf" or _apart(part[union]):
            yield union
        return
    yield "type"
    if first := next((key for key in ("const", "enum") if key in part), None):
        yield first
    elif kind == "object" and ("properties" in part or "additionalProperties" in part):
        yield "properties"
        if set(part.get("required", ())) <= set(part.get("properties", ())):
            yield "required"
        if not (
            part.get("additionalProperties") and part.get("properties")
        ):  # a declared name may come again
            yield "additionalProperties"
    elif kind == "array" and ("items" in part or "prefixItems" in part):
        if isinstance(part.get("items") or part.get("prefixItems"), list):
            count = len(part.get("items") or part["prefixItems"])  # all of them are written, and no more
            yield from ("prefixItems", "items")
            yield from (
                key
                for key, fits in (("minItems", int.__le__), ("maxItems", int.__ge__))
                if fits(part.get(key, count), count)
            )
        else:
            yield from ("items", "minItems", "maxItems")
    elif kind == "string" and "pattern" in part:
        yield "pattern"
    elif kind == "string" and "format" in part and _written(part["format"]):
        yield "format"
    elif kind == "string":
        yield from ("minLength", "maxLength")


def _apart(ways: Sequence[Any]) -> bool:
    """Whether no value can be of two of these schemas, by their types."""
    kinds = ["number" if way.get("type") == "integer" else way.get("type") for way in ways]
    return None not in kinds and len(set(kinds)) == len(kinds)


def _written(form: Any) -> bool:
    """Whether the converter has a rule for this format."""
    return form in _DATES or bool(re.fullmatch("uuid[1-5]?", str(form)))
