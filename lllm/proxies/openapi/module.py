"""Writes a module: a subclass of BaseProxy with a method for each operation.

All that comes from the document is a literal. `check_source` proves it of what was written: it allows names, literals and the
few calls of the notation, and nothing else.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from lllm.errors import LLMError
from lllm.proxies.openapi.declaration import entry, key_of, options
from lllm.proxies.openapi.identifiers import distinct, snake
from lllm.proxies.openapi.layout import Module
from lllm.proxies.openapi.literals import WIDTH, Name, literal, text_literal, width
from lllm.proxies.openapi.parts import Credential, Imported, Operation
from lllm.proxies.openapi.problems import Skipped
from lllm.proxies.openapi.schemas import LEAD
from lllm.proxies.openapi.texts import clean, cut

SHARED_USES: Final = 3
"""A parameter that so many operations of a module have is written once."""
LISTED: Final = 20
"""Skipped operations that the module's text lists."""
_PLAIN_DOC: Final = re.compile(r'\\|"""|\A"|\A[^\n]{0,100}"\Z')


def write_module(imported: Imported, module: Module) -> str:
    """The source of one module."""
    constants = _constants(module.operations, _class_name(module.path))
    roots = [one.schema for op in module.operations for one in op.arguments]
    schemas = _closure(imported.schemas, [*roots, *(op.response for op in module.operations)])
    blocks = [_docstring(_about(imported, module), 0)]
    blocks.append(f"from lllm.proxies import {', '.join(_imports(imported, module))}")
    for name, value in constants.values():
        blocks.append(f"{name}: dict[str, object] = {literal(value, 0, len(name) + 21)}")
    if schemas:
        blocks.append(f"SCHEMAS: dict[str, object] = {literal(dict(sorted(schemas.items())), 0, 29)}")
    variables = _variables(imported, module)
    if variables:
        blocks.append(f"SERVER_VARIABLES: dict[str, str | tuple[str, ...]] = {literal(variables, 0, 53)}")
    head = "\n\n".join(blocks)
    return f"{head}\n\n\n{_class(imported, module, constants, bool(schemas), bool(variables))}\n"


def _imports(imported: Imported, module: Module) -> list[str]:
    kinds = {one.kind for one in imported.auth}
    kinds |= {one.kind for operation in module.operations for one in operation.auth or ()}
    return sorted({"BaseProxy", "ProxyRegistrator", *kinds})


def _about(imported: Imported, module: Module) -> str:
    version = f", version {imported.version}" if imported.version else ""
    count = len(module.operations)
    text = (
        f"{module.title}{version}: {count} endpoint{'s' * (count != 1)}.\n\n"
        f"Written by `lllm proxy import` from {imported.source}. Texts are the document's, shortened."
    )
    if imported.others:
        text += "\n\nOther servers: " + ", ".join(clean(url) for url in imported.others[:5])
    if imported.skipped and module.path == imported.name:
        text += "\n\nNot imported:\n\n" + "\n".join(_skip_line(one) for one in imported.skipped[:LISTED])
        if len(imported.skipped) > LISTED:
            text += f"\n- and {len(imported.skipped) - LISTED} more"
    return text


def _skip_line(one: Skipped) -> str:
    return f"- {one.operation}: {cut(' '.join(clean(one.reason).split()), 300)}"


def _variables(imported: Imported, module: Module) -> dict[str, Any]:
    urls = [imported.base_url, *(one.base_url for one in module.operations)]
    return {
        name: value for name, value in imported.variables.items() if any(f"{{{name}}}" in url for url in urls)
    }


# --- the class


def _class(
    imported: Imported,
    module: Module,
    constants: Mapping[str, tuple[str, dict[str, Any]]],
    schemas: bool,
    variables: bool,
) -> str:
    registered = {"path": module.path, "name": module.title}
    lines = [
        f"@ProxyRegistrator{_arguments(registered, 0, 17)}",
        f"class {_class_name(module.path)}(BaseProxy):",
        _docstring(module.description, 4),
        "",
        f"    base_url = {literal(imported.base_url, 4, 11)}",
    ]
    if variables:
        lines.append("    server_variables = SERVER_VARIABLES")
    if imported.auth:
        lines.append(f"    auth = {_auth(imported.auth, 4, 11)}")
    lines.append(f"    source = {literal(imported.source, 4, 9)}")
    if schemas:
        lines.append("    schemas = SCHEMAS")
    for operation in module.operations:
        lines += ["", _method(operation, constants)]
    return "\n".join(lines)


def _method(operation: Operation, constants: Mapping[str, tuple[str, dict[str, Any]]]) -> str:
    given = options(operation)
    if "params" in given:
        given["params"] = {
            key_of(one): Name(constants[one.component][0])
            if one.component in constants
            else entry(one, operation.method)
            for one in operation.arguments
        }
    text = operation.description or operation.title or clean(f"{operation.method} {operation.path}")
    readable = text.isprintable() or all(char == "\n" or char.isprintable() for char in text)
    if not readable or _PLAIN_DOC.search(text):
        given = {"description": text, **given}
    if operation.auth is not None:
        given["auth"] = Name(_auth(operation.auth, 8, 13))
    lines = [f"    @BaseProxy.endpoint{_arguments(given, 4, 23)}"]
    if "description" in given:
        lines.append(f"    def {operation.key}(self) -> None: ...")
    else:
        lines += [f"    def {operation.key}(self) -> None:", _docstring(text, 8)]
    return "\n".join(lines)


def _arguments(given: Mapping[str, Any], indent: int, before: int) -> str:
    """`(name=value, ...)`, on one line where it fits."""
    short = ", ".join(f"{name}={literal(value, 0, 0, -(10**6))}" for name, value in given.items())
    if before + width(short) + 2 <= WIDTH and "\n" not in short:
        return f"({short})"
    inner = " " * (indent + 4)
    lines = [f"{inner}{name}={literal(value, indent + 4, len(name) + 1)}," for name, value in given.items()]
    return "\n".join(("(", *lines, f"{' ' * indent})"))


def _auth(auth: Iterable[Credential], indent: int, before: int) -> str:
    each = [_credential(one) for one in auth]
    short = each[0] if len(each) == 1 else f"({', '.join(each)})"
    if before + width(short) + 1 <= WIDTH:
        return short
    lead = " " * (indent + 4)
    each = [_credential(one, indent + 4 * (len(each) > 1)) for one in auth]
    return (
        each[0]
        if len(each) == 1
        else "\n".join(("(", *(f"{lead}{one}," for one in each), f"{' ' * indent})"))
    )


def _credential(one: Credential, indent: int | None = None) -> str:
    """`Header("X-Key", env="KEY")`; over several lines where an indent is given and one is not enough."""
    given: list[str] = [text_literal(one.name)] if one.name else []
    if one.kind == "Basic":
        given += [
            f"{key}={text_literal(name)}"
            for key, name in zip(("user_env", "password_env"), one.variables, strict=True)
        ]
    else:
        given.append(f"env={text_literal(one.variables[0])}")
    if one.prefix:
        given.append(f"prefix={text_literal(one.prefix)}")
    if one.optional:
        given.append("optional=True")
    short = f"{one.kind}({', '.join(given)})"
    if indent is None or indent + 8 + width(short) <= WIDTH:
        return short
    lead = " " * (indent + 4)
    return "\n".join((f"{one.kind}(", *(f"{lead}{item}," for item in given), f"{' ' * indent})"))


def _class_name(path: str) -> str:
    words = snake(path).split("_")
    name = "".join(word.capitalize() for word in words if word) or "Api"
    return (
        f"Api{name}" if name[0].isdigit() or name in ("True", "False", "None", "BaseProxy", *_KINDS) else name
    )


_KINDS: Final = ("ProxyRegistrator", "Header", "Query", "Cookie", "Bearer", "Basic")


# --- what is written once


def _constants(operations: Iterable[Operation], taken: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Parameters that several operations have: by component, a constant's name and its value."""
    counted: Counter[str] = Counter()
    values: dict[str, dict[str, Any]] = {}
    differ: set[str] = set()
    for operation in operations:
        for one in operation.arguments:
            if not one.component:
                continue
            value = entry(one, operation.method)
            if values.setdefault(one.component, value) != value:
                differ.add(one.component)
            counted[one.component] += 1
    wanted = {
        component: snake(component).upper() or "PARAMETER"
        for component, count in counted.items()
        if count >= SHARED_USES and component not in differ and values[component]
    }
    names = distinct(
        wanted, ("SCHEMAS", "SERVER_VARIABLES", taken), exact=lambda whole, name: whole == name.lower()
    )
    return {
        component: (f"P_{name}" if name[:1].isdigit() else name, values[component])
        for component, name in sorted(names.items(), key=lambda item: item[1])
    }


def _closure(schemas: Mapping[str, Any], roots: Iterable[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    open_: list[Any] = list(roots)
    while open_:
        item = open_.pop()
        if isinstance(item, dict):
            ref = item.get("$ref")
            if isinstance(ref, str) and ref.startswith(LEAD):
                name = ref[len(LEAD) :]
                if name in schemas and name not in found:
                    found[name] = schemas[name]
                    open_.append(found[name])
            open_ += item.values()
        elif isinstance(item, list):
            open_ += item
    return found


# --- texts


def _docstring(text: str, indent: int) -> str:
    """A text as a docstring, filled; as one literal where it has characters that must be escaped."""
    lead = " " * indent
    if _PLAIN_DOC.search(text) or any(char != "\n" and not char.isprintable() for char in text):
        text = " ".join(text.replace("\\", "/").replace('"', "'").split())
        text = "".join(char if char.isprintable() else "?" for char in text)
    lines: list[str] = []
    for paragraph in text.split("\n"):
        room = 106 - indent
        kept = len(paragraph) - len(paragraph.lstrip())
        lines += textwrap.wrap(
            paragraph,
            room if paragraph.isascii() else room // 2 if width(paragraph) > len(paragraph) else room,
            subsequent_indent=" " * min(kept, 20),
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
    if len(lines) == 1:
        return f'{lead}"""{lines[0].strip()}"""'
    body = [lines[0].strip(), *(f"{lead}{line}".rstrip() for line in lines[1:])]
    return f'{lead}"""' + "\n".join(body) + f'\n{lead}"""'


# --- the proof


class ModuleUnsafe(LLMError):
    """A module that was about to be written holds something else than the notation: a mistake of ours."""


def check_source(source: str) -> None:
    """Raises ModuleUnsafe where a module holds anything but imports from lllm, literals, and classes of endpoints."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ModuleUnsafe(f"the module would not be Python: {error}") from None
    for node in tree.body:
        if not _is_allowed(node):
            raise ModuleUnsafe(f"line {node.lineno} of the module is neither a literal nor an endpoint")


def _is_allowed(node: ast.stmt) -> bool:
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
        case ast.ImportFrom(module="lllm.proxies", level=0):
            return True
        case ast.AnnAssign(value=value) if value is not None:
            return _is_literal(value)
        case ast.ClassDef(bases=[ast.Name(id="BaseProxy")], keywords=[]):
            return all(map(_is_call, node.decorator_list)) and all(map(_is_member, node.body))
    return False


def _is_member(node: ast.stmt) -> bool:
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
        case ast.Assign(targets=[ast.Name()], value=value):
            return _is_literal(value) or _is_call(value)
        case ast.FunctionDef(
            body=[ast.Expr(value=ast.Constant())], args=ast.arguments(defaults=[], kw_defaults=[])
        ):
            return all(map(_is_call, node.decorator_list))
    return False


def _is_call(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Name() | ast.Attribute(value=ast.Name(id="BaseProxy"), attr="endpoint")):
            if isinstance(node.func, ast.Name) and node.func.id not in _KINDS:
                return False
            return all(map(_is_literal, (*node.args, *(one.value for one in node.keywords))))
        case ast.Tuple(elts=elts):
            return all(map(_is_call, elts))
    return False


def _is_literal(node: ast.expr | None) -> bool:
    match node:
        case ast.Constant():
            return True
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant()):
            return True
        case ast.Name(id=name):
            return name.isupper() or name == "SCHEMAS"
        case ast.Dict(keys=keys, values=values):
            return all(map(_is_literal, (*keys, *values)))
        case ast.List(elts=elts) | ast.Tuple(elts=elts):
            return all(_is_literal(one) or _is_call(one) for one in elts)
        case ast.Call():
            return _is_call(node)
    return False
