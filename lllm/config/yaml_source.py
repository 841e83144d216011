"""YAML -> plain values with line numbers.

YAML 1.2's core types, so `no`, `on`, `1:30` and `2026-01-01` are texts and `1e-3` is a number. Duplicate keys,
own tags and aliases that expand without end are errors.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lllm.config.layer import BROKEN, Keys, Layer, shown
from lllm.config.problems import Problems
from lllm.errors import ConfigError

if TYPE_CHECKING:
    import yaml

MOST_VALUES: Final = 100_000  # nobody writes that many; nested aliases ("billion laughs") reach it at once

_CORE: Final = (
    # type, what it looks like, its first characters
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+.0123456789"),
    ),
    ("merge", r"^(?:<<)$", ["<"]),
)


def _whole(text: str) -> int:
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


_READ: Final[Mapping[str, Callable[[str], Any]]] = {
    "tag:yaml.org,2002:str": str,
    "tag:yaml.org,2002:null": lambda text: None,
    "tag:yaml.org,2002:bool": lambda text: text.lower() == "true",
    "tag:yaml.org,2002:int": _whole,
    "tag:yaml.org,2002:float": lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
}


def read_yaml(path: Path, problems: Problems) -> Layer:
    """Reads a file whose root is a mapping. What is wrong goes to `problems`; what can be read is in the layer."""
    name = shown(path)
    layer = Layer(name, {}, path.parent)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        problems.add(ConfigError(f"not UTF-8: {error.reason} at byte {error.start}", where=name))
        return layer
    except OSError as error:
        problems.add(ConfigError(f"cannot be read: {error.strerror or error}", where=name))
        return layer
    value = parse(text, layer, problems)
    if isinstance(value, dict):
        layer.data = value
    elif value is not None:
        message = (
            f"holds {'a list' if isinstance(value, list) else 'a single value'}; it wants keys and values"
        )
        problems.add(ConfigError(message, where=f"{name}:1"))
    return layer


def parse(text: str, layer: Layer, problems: Problems) -> Any:
    """The value of a YAML text. Notes in `layer` where each key stands."""
    import yaml

    try:
        root = _nodes(text)
        return None if root is None else _Walk(layer, problems).value(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{layer.name}:{mark.line + 1}" if mark else layer.name
        said = ", ".join(filter(None, (error.problem, error.context)))
        lines = text.splitlines()
        hint = (
            "Within [ ] and { }, ${NAME} needs quotes."
            if mark and "${" in "".join(lines[mark.line : mark.line + 1])
            else None
        )
        problems.add(ConfigError(f"not valid YAML: {said}", hint=hint, where=place))
    except yaml.YAMLError as error:  # a character that YAML does not allow
        line = 1 + text.count("\n", 0, getattr(error, "position", 0) or 0)
        said = getattr(error, "reason", str(error))
        problems.add(ConfigError(f"not valid YAML: {said}", where=f"{layer.name}:{line}"))
    except RecursionError:
        problems.add(ConfigError("nested too deeply", where=layer.name))
    return None


def scalar(text: str) -> Any:
    """What a YAML file would make of this text: a number, truth value, list, ...; the text itself if nothing."""
    problems = Problems()
    value = parse(text, Layer("", {}, Path()), problems)
    if any(problems) or (isinstance(value, str) and text.lstrip()[:1] not in ("'", '"')):
        return text  # as it is, also with a ` # ` in it
    return value


def resolve(text: str) -> Any:
    """A text that stands without quotes, as a number, truth value or null, if it looks like one."""
    kind = next((kind for kind, pattern, _ in _CORE if re.match(pattern, text)), "str")
    return _READ[f"tag:yaml.org,2002:{kind}"](text) if kind != "merge" else text


class _Walk:
    """Turns nodes into values."""

    def __init__(self, layer: Layer, problems: Problems) -> None:
        self.layer = layer
        self.problems = problems
        self.count = 0
        self.open: set[int] = set()

    def value(self, node: yaml.Node, path: Keys) -> Any:
        import yaml

        self.count += 1
        if self.count > MOST_VALUES:
            raise yaml.MarkedYAMLError(problem=f"it expands to more than {MOST_VALUES:,} values")
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, path)
        if id(node) in self.open:
            raise yaml.MarkedYAMLError(
                problem="an alias stands within its own anchor", problem_mark=node.start_mark
            )
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                self.plain_tag(node, "seq")
                for index, item in enumerate(node.value):
                    self.layer.where.setdefault((*path, str(index)), self.line(item))
                return [self.value(item, (*path, str(index))) for index, item in enumerate(node.value)]
            assert isinstance(node, yaml.MappingNode)
            self.plain_tag(node, "map")
            return self.mapping(node, path)
        finally:
            self.open.discard(id(node))

    def scalar(self, node: yaml.ScalarNode, path: Keys) -> Any:
        self.layer.where.setdefault(path, self.line(node))
        read = _READ.get(node.tag)
        if node.tag == "tag:yaml.org,2002:merge":
            return str(node.value)
        if read is None:
            self.plain_tag(node, "str")
            return BROKEN
        if node.style is None:
            self.layer.plain.add(path)
        try:
            return read(node.value)
        except ValueError:  # `!!int x`, or thousands of digits
            tag = node.tag.rpartition(":")[2]
            self.problems.add(ConfigError(f"{node.value[:40]!r} is not a {tag}", where=self.line(node)))
            return BROKEN

    def mapping(self, node: yaml.MappingNode, path: Keys) -> dict[str, Any]:
        import yaml

        out: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        lines: dict[str, str] = {}
        for key_node, value_node in node.value:
            where = self.line(key_node)
            if key_node.tag == "tag:yaml.org,2002:merge":
                sources = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for source in sources:
                    value = self.value(source, path)
                    if isinstance(value, dict):
                        merged = {**value, **merged}  # of several, the first wins
                    else:
                        self.problems.add(
                            ConfigError("'<<' takes a mapping or a list of mappings", where=where)
                        )
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                given = key_node.value if isinstance(key_node, yaml.ScalarNode) else "a list or mapping"
                hint = f"Put it in quotes: '{given}'" if isinstance(key_node, yaml.ScalarNode) else None
                self.problems.add(ConfigError(f"a key is text; got {given}", hint=hint, where=where))
                continue
            key = str(key_node.value)
            if key in lines:
                message = f"'{'.'.join((*path, key))}' is given twice, here and in line {lines[key].rpartition(':')[2]}"
                self.problems.add(ConfigError(message, where=where))
                continue
            lines[key] = where
            self.layer.where[*path, key] = where
            out[key] = self.value(value_node, (*path, key))
        return {**merged, **out}

    def plain_tag(self, node: yaml.Node, tag: str) -> None:
        if node.tag != f"tag:yaml.org,2002:{tag}":
            self.problems.add(ConfigError(f"the tag '{node.tag}' is not known here", where=self.line(node)))

    def line(self, node: yaml.Node) -> str:
        return f"{self.layer.name}:{node.start_mark.line + 1}"


@functools.lru_cache(maxsize=8)
def _nodes(text: str) -> yaml.Node | None:
    """Returns the root node of a YAML text. Most of the time that a configuration takes is spent here, and a command
    reads the same file two or three times."""
    loader = _loader()(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


@functools.cache
def _loader() -> type[yaml.SafeLoader]:
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: Any = {}  # noqa: RUF012 - that is how PyYAML keeps them

    for kind, pattern, first in _CORE:
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(pattern), first)
    return Loader
