"""Function, tool, as_function, MCP: values that stand for tools."""

from __future__ import annotations

import pickle
import subprocess
import sys
from copy import deepcopy
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from lllm.errors import ConfigError, NameTakenError, ToolError, UnknownKeyError
from lllm.models.function import MCP, Function, ToolContext, as_function, as_functions, tool


@tool
def add(a: int, b: int = 1) -> int:
    """Adds two numbers."""
    return a + b


def test_a_tool_is_still_the_function() -> None:
    assert add(2, 3) == 5
    assert add(2, b=5) == 7
    assert isinstance(add, Function)
    assert (add.name, add.description, add.effect, add.timeout) == ("add", "Adds two numbers.", "ask", 60.0)


def test_spec_is_made_once() -> None:
    assert add.spec() is add.spec()
    assert add.spec() == {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Adds two numbers.",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"type": "integer", "default": 1}},
                "required": ["a"],
                "additionalProperties": False,
            },
        },
    }
    assert add.schema_hash.startswith("sha256:")
    assert add.with_(timeout=1).schema_hash == add.schema_hash
    assert add.with_(description="").schema_hash != add.schema_hash


def test_options() -> None:
    @tool(
        name="sum-1",
        description="  Sums.\n  Well. ",
        effect="pure",
        timeout=None,
        approval=True,
        concurrent=False,
    )
    def total(xs: list[int]) -> int:
        return sum(xs)

    assert total.spec()["function"]["name"] == "sum-1"
    assert total.description == "Sums.\nWell."
    assert (total.effect, total.timeout, total.approval, total.concurrent) == ("pure", None, True, False)


def test_equality_is_by_value() -> None:
    schema = {"name": "f", "parameters": {"type": "object", "properties": {"x": {}}}}
    assert as_function(schema) == as_function(schema)
    assert hash(as_function(schema)) == hash(as_function(schema))
    assert as_function(schema) != as_function({**schema, "description": "other"})
    assert len({add, add.with_(timeout=5), add.with_()}) == 2
    with pytest.raises(FrozenInstanceError):
        add.name = "x"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["", "a b", "a.b", "ü", "x" * 65, "a\n", None])
def test_bad_names(name: Any) -> None:
    with pytest.raises(ConfigError, match="is not a tool name"):
        Function(name=name)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"effect": "maybe"}, "unknown effect 'maybe'"),
        ({"timeout": 0}, "timeout is 0"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"parameters": {"type": "array"}}, "not the JSON schema of an object"),
        ({"parameters": []}, "not the JSON schema of an object"),
    ],
)
def test_bad_fields(options: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        Function(name="f", **options)


def test_what_stands_for_a_tool() -> None:
    parameters = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    forms = [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": parameters}},
        {"type": "function", "name": "f", "description": "d", "parameters": parameters},
        {"name": "f", "description": "d", "input_schema": parameters},
        {"name": "f", "description": "d", "inputSchema": parameters, "annotations": {}},  # of an MCP server
    ]
    assert {as_function(form) for form in forms} == {Function("f", "d", parameters)}
    assert as_function(add) is add
    assert as_function(add.call).spec() == add.spec()
    for bad in (3, "name", None, {"type": "function"}, {"function": 3}):
        with pytest.raises(ConfigError):
            as_function(bad)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (
            {"name": "f", "paramters": {"type": "object"}},
            "unknown key 'paramters'\n  Did you mean 'parameters'?",
        ),
        ({"type": "function", "function": {"name": "f", "descripton": "x"}}, "Did you mean 'description'?"),
        (
            {"type": "function", "function": {"name": "f"}, "strict": True},
            "the tool 'f': unknown key 'strict'",
        ),
        (
            {"name": "f", "parameters": {"a": 1}, "input_schema": {"b": 1}},
            "has two schemas for its arguments",
        ),
    ],
)
def test_a_key_of_a_schema_that_nothing_reads_is_refused(schema: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        as_function(schema)
    assert words in str(caught.value)


def test_a_declared_tool_checks_arguments_and_is_not_called() -> None:
    declared = as_function({"name": "f", "parameters": {"type": "object", "required": ["x"]}})
    assert declared.validate({}) == ['$: missing "x"']
    assert declared.coerce({"x": [1]}) == {"x": [1]}
    for call in (declared, lambda: declared.invoke({"x": 1})):
        with pytest.raises(ToolError, match="only declared"):
            call()


def test_a_function_with_a_given_schema_gets_json() -> None:
    def call(x: Any, context: ToolContext, /, **rest: Any) -> Any:
        return x, context.call, rest

    made = Function("f", parameters={"properties": {"x": {"type": "integer"}}}, call=call)
    assert made.invoke({"x": 1, "y": "z"}, ToolContext(call="c")) == (1, "c", {"y": "z"})
    with pytest.raises(ToolError, match=r"\$\.x: \"1\" is not an integer"):
        made.invoke({"x": "1"})


def test_a_bad_schema_is_found_on_first_use() -> None:
    made = Function("f", parameters={"type": "object", "properties": {"x": {"type": "int"}}})
    with pytest.raises(ConfigError, match="tool 'f': not a JSON schema"):
        made.validate({})


def test_a_schema_fetches_nothing() -> None:
    for reference in ("http://127.0.0.1:1/schema.json", "file:///etc/hostname", "schema.json"):
        made = Function("f", parameters={"type": "object", "properties": {"x": {"$ref": reference}}})
        with pytest.raises(ConfigError, match="not a JSON schema"):
            made.validate({"x": 1})


def test_methods_are_bound_to_their_instance() -> None:
    class Counter:
        def __init__(self, start: int) -> None:
            self.count = start

        @tool
        def up(self, by: int = 1) -> int:
            """Counts up."""
            self.count += by
            return self.count

    one, two = Counter(0), Counter(10)
    assert list(one.up.parameters["properties"]) == ["by"]
    assert (one.up.invoke({"by": 2}), two.up.invoke({}), one.up(by=1)) == (2, 11, 3)
    assert one.up == one.up
    assert Counter.up.name == "up"


def test_pickling() -> None:
    assert add.validate({"a": 1}) == []
    assert pickle.loads(pickle.dumps(add)) is add
    changed = pickle.loads(pickle.dumps(Function("f", parameters=add.parameters, call=len, timeout=1)))
    assert (changed.timeout, changed.call, changed.validate({"a": "x"})) == (
        1,
        len,
        ['$.a: "x" is not an integer'],
    )
    assert deepcopy(add.with_(timeout=2)) == add.with_(timeout=2)


def test_two_tools_with_one_name() -> None:
    with pytest.raises(NameTakenError, match="two tools are named 'add'"):
        as_functions([add, {"name": "add"}])
    assert [f.name for f in as_functions([add, {"name": "sub"}])] == ["add", "sub"]


def test_mcp() -> None:
    server = MCP("files", command="npx", args=["-y", "server"], env=["HOME"], tools=["read"])  # type: ignore[arg-type]
    assert server.record() == {
        "name": "files",
        "command": "npx",
        "args": ["-y", "server"],
        "env": ["HOME"],
        "tools": ["read"],
    }
    assert MCP.from_dict(server.record()) == server
    assert MCP("web", url="https://example.org/mcp").record() == {
        "name": "web",
        "url": "https://example.org/mcp",
    }
    with pytest.raises(ConfigError, match="either a command or a url"):
        MCP("x")
    with pytest.raises(ConfigError, match="either a command or a url"):
        MCP("x", command="a", url="http://b")
    with pytest.raises(ConfigError, match="not a http"):
        MCP("x", url="ftp://b")
    with pytest.raises(ConfigError, match="env must be a list of names"):
        MCP("x", command="a", env={"KEY": "secret"})  # type: ignore[arg-type]
    with pytest.raises(UnknownKeyError, match="comand"):
        MCP.from_dict({"name": "x", "comand": "a"})


def test_models_load_no_third_party_package() -> None:
    code = (
        "import sys, lllm.models.function, lllm.models.prompt, lllm.models.render\n"
        "bad = {'pydantic', 'jsonschema_rs', 'docstring_parser', 'yaml', 'asyncio'} & set(sys.modules)\n"
        "sys.exit(', '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# --- what strangers declare ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"description": 5}, "description must be a text, got 5"),
        ({"timeout": "5"}, "timeout is '5'"),
        ({"timeout": True}, "timeout is True"),
        ({"approval": "no"}, "approval must be True or False, got 'no'"),
        ({"agent": 5}, "agent must be a name or None, got 5"),
        ({"call": 5}, "call must be a function, got 5"),
        ({"effect": []}, "unknown effect"),
        ({"parameters": []}, "parameters is not the JSON schema of an object"),
    ],
    ids=str,
)
def test_a_field_of_the_wrong_type(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Function("t", **fields)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (
            {"parameters": {"type": "object", "properties": 3}},
            r"tool 't': not a JSON schema: \$\.properties: 3 is not",
        ),
        ({"parameters": {"properties": {"a": {"$ref": "#/$defs/a"}}}}, "which does not exist in the schema"),
        ({"parameters": {"properties": {"a": {"$ref": "http://127.0.0.1:1/a"}}}}, "outside the schema"),
        ({"parameters": "x"}, "parameters is not the JSON schema of an object"),
        ({"parameters": []}, "parameters is not the JSON schema of an object"),
        ({"description": ["x"]}, "description must be a text"),
        ({"strict": "no"}, "strict must be True or False"),
    ],
    ids=str,
)
def test_a_declared_tool_is_checked_when_it_is_made(declared: dict[str, Any], message: str) -> None:
    for form in ({"name": "t", **declared}, {"type": "function", "function": {"name": "t", **declared}}):
        with pytest.raises(ConfigError, match=message):
            as_function(form)
    with pytest.raises(ConfigError, match="not a JSON schema"):
        as_function(Function("t", parameters={"type": "object", "required": 3}))


def test_the_ways_to_declare_parameters() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    for key in ("parameters", "input_schema", "inputSchema"):
        assert (
            as_function({"name": "t", key: schema, "description": None, "strict": None}).parameters == schema
        )
    assert as_function({"name": "t", "parameters": {}}).parameters == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("parameters", "sent"),
    [
        ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}}),
        (
            {"$ref": "#/definitions/A", "definitions": {"A": {"type": "object", "required": ["a"]}}},
            {"type": "object", "required": ["a"]},
        ),
        (
            {"anyOf": [{"$ref": "#/$defs/A"}], "$defs": {"A": {"required": ["a"]}, "unused": {}}},
            {"type": "object", "anyOf": [{"$ref": "#/$defs/A"}], "$defs": {"A": {"required": ["a"]}}},
        ),
        (
            {"properties": {"a": {"$ref": "#"}}},
            {
                "type": "object",
                "properties": {"a": {"$ref": "#/$defs/reply"}},
                "$defs": {"reply": {"properties": {"a": {"$ref": "#/$defs/reply"}}}},
            },
        ),
        ({"properties": {"a": {"$ref": "https://json-schema.org/draft/2020-12/schema"}}}, {"type": "object"}),
    ],
    ids=str,
)
def test_parameters_are_sent_as_those_of_an_object(parameters: dict[str, Any], sent: dict[str, Any]) -> None:
    made = as_function({"name": "t", "parameters": parameters})
    assert made.spec()["function"]["parameters"] == sent
    assert made.parameters == parameters
    again = as_function(made.spec())  # as a replay reads it from a log
    assert again.spec() == made.spec()


@pytest.mark.parametrize(
    ("parameters", "sent", "strict"),
    [
        (
            {"type": "object", "properties": {"a": {"type": "string", "minLength": 3}}},
            {
                "type": "object",
                "properties": {"a": {"type": "string"}},
                "required": ["a"],
                "additionalProperties": False,
            },
            True,
        ),
        (
            {"type": "object", "additionalProperties": True},
            {"type": "object", "additionalProperties": True},
            False,
        ),
        (
            {"type": "object", "anyOf": [{"required": ["a"]}]},
            {"type": "object", "anyOf": [{"required": ["a"]}]},
            False,
        ),
    ],
    ids=str,
)
def test_strict_mode_of_a_declared_tool(
    parameters: dict[str, Any], sent: dict[str, Any], strict: bool
) -> None:
    made = as_function({"name": "t", "parameters": parameters, "strict": True})
    assert made.spec()["function"]["parameters"] == sent
    assert made.spec()["function"].get("strict", False) is strict
    assert as_function(made.spec()).spec() == made.spec()


@pytest.mark.parametrize(
    "value",
    [
        5,
        {},
        {"command": "x"},
        {"name": "m", "url": 5},
        {"name": "m", "command": ["x"]},
        {"name": "m", "command": "x", "args": 5},
        {"name": "m", "command": "x", "args": [5]},
        {"name": "m", "command": "x", "tools": 5},
        {"name": "m", "command": "x", "env": {"KEY": "secret-value"}},
    ],
    ids=str,
)
def test_a_malformed_server_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        MCP.from_dict(value)
    assert "secret-value" not in str(caught.value)
