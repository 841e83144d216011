"""What a reply may look like, as a llama.cpp grammar (GBNF): a JSON schema, or calls in the model's own form.

The JSON-schema converter is llama-cpp-python's. What it cannot hold a reply to is dropped before and named; what it writes
wrong (backslashes in literals, control characters within strings) is mended.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from lllm.backends.llama_cpp.grammar import express
from lllm.backends.local.formats import whole_schema
from lllm.errors import BadRequestError, UnsupportedError, listing, text_of
from lllm.ports import Request

_MENDED: Final = {
    "char": r'[^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F])',
    "number": '("-"? integral-part) ("." decimal-part)? ([eE] [-+]? [0-9] [0-9]?)? space',
}
"""Rules of the converter that allow what JSON does not: control characters in strings, exponents that no number has."""
_END_OF_CALL: Final = json.dumps("}\n</tool_call>")
_FAR: Final = 999_999_999_999_999
"""The bound of an expressed integer that has none on this side."""
_ANY: Final = ("object", "array", "string", "number", "boolean", "null")


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
    schema = whole_schema(request.format)
    if not chosen and schema is None:
        return None
    if schema is not None and tools and not calls:
        return None
    made = _Grammar()
    many = choice == "required" or not chosen
    try:
        ways = [made.calls(chosen or tools, many=many)] if tools and calls else []
        if not chosen and schema is not None:
            ways.append(made.schema(schema))
    except Exception as error:  # the converter asserts, indexes and recurses
        what = "tool's parameters have" if chosen else "format has"
        raise UnsupportedError(
            f"the {what} no grammar: {text_of(error)}"[:500],
            hint="Simplify the schema, or leave the format out and describe it in the prompt.",
        ) from error
    enforced = None
    if schema is not None and not chosen:
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
        expressed = express(schema)
        if expressed is None:
            raise ValueError("it refers to elsewhere, or no value fits it")
        self.dropped = set(expressed.dropped)
        plain = _ported(expressed.schema, mark, self.dropped)
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


def _ported(part: Any, mark: str, dropped: set[str]) -> Any:
    """An expressed schema (see grammar.py) as the converter of llama-cpp-python takes it, which is an older one: it has no
    bounds of integers and no idea of any value. References get names that no other schema of the grammar has."""
    if isinstance(part, list):
        return [_ported(item, mark, dropped) for item in part]
    if "$ref" in part:
        part = {**part, "$ref": part["$ref"].replace("#/$defs/", f"#/$defs/{mark}-")}
    elif not set(part) - {"description", "$defs"}:
        part = {**part, "anyOf": [{"type": kind} for kind in _ANY]}
    out = {key: value for key, value in part.items() if key != "description"}
    if out.get("type") == "integer":
        for key in ("minimum", "maximum"):
            if abs(out.pop(key, _FAR)) < _FAR:
                dropped.add(key)
    if "enum" in out:
        return out
    for key in ("anyOf", "items", "prefixItems", "additionalProperties"):
        if isinstance(out.get(key), list | Mapping):
            out[key] = _ported(out[key], mark, dropped)
    if "properties" in out:
        out["properties"] = {name: _ported(item, mark, dropped) for name, item in out["properties"].items()}
    if "$defs" in out:
        out["$defs"] = {f"{mark}-{name}": _ported(item, mark, dropped) for name, item in out["$defs"].items()}
    return out
