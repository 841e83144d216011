"""Prompt files: Markdown with front matter, or YAML, with the keys of `lllm.models.Prompt`.

    ---
    xml_tags: [reasoning]
    required_xml_tags: [answer]
    functions: [tools.search:web, reader/news]
    ---
    You answer questions about {topic}.

In Markdown the body is the prompt. A YAML file holds one mapping, or a list of them. `path` defaults to the file's
place below the prompt folder without its suffix; in a list each prompt names its own. `parser`, `format` and
`functions` name Python objects as `module:name`; `format` and `functions` also take schemas, `functions` the names of
registered tools. Handlers are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import yaml

from lllm.errors import ConfigError, LLMError, UnknownKeyError, not_yet
from lllm.models.function import MCP
from lllm.models.prompt import LATER, Prompt

KEYS: Final = tuple(item.name for item in fields(Prompt))
MARKDOWN: Final = (".md", ".markdown")
YAML: Final = (".yaml", ".yml")
_TEXTS: Final = (
    "path",
    "prompt",
    "parser",
    "exception_prompt",
    "interrupt_prompt",
    "final_prompt",
    "description",
)


def load_prompt_file(path: str | Path, *, root: str | Path | None = None) -> list[Prompt]:
    """The prompts of one file. `root` is the prompt folder, from which a prompt's default path is taken.

    Raises:
        ConfigError: with file and line: not readable, not YAML, an unknown key, a value of the wrong type, a name that
            cannot be imported.
    """
    path = Path(path)
    if path.suffix not in (*MARKDOWN, *YAML):
        raise ConfigError(f"'{path}' is not a prompt file", hint=f"Known: {', '.join((*MARKDOWN, *YAML))}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path)) from error
    name = path.relative_to(root) if root is not None and path.is_relative_to(root) else Path(path.name)
    return parse_prompt_text(
        text, str(path), name.with_suffix("").as_posix(), markdown=path.suffix in MARKDOWN
    )


def parse_prompt_text(text: str, where: str, default_path: str, *, markdown: bool) -> list[Prompt]:
    """The prompts of a file's text. `where` is the file's name for messages."""
    if not markdown:
        node = _compose(text, where, 0)
        if isinstance(node, yaml.SequenceNode):
            return [_prompt(item, where, 0, None, None) for item in node.value]
        return [_prompt(node, where, 0, default_path, None)]
    head, body, offset = _front_matter(text, where)
    return [_prompt(_compose(head, where, offset), where, offset, default_path, body.strip())]


def inline_prompt(value: str | Mapping[str, Any], path: str) -> Prompt:
    """A prompt that is written in place: its text, or a mapping with the keys of a prompt file. ConfigError, UnknownKeyError as
    for a file, without a place."""
    values = {"prompt": value} if isinstance(value, str) else dict(value)
    try:
        (made,) = parse_prompt_text(yaml.safe_dump(values), _INLINE, path, markdown=False)
    except ConfigError as error:
        error.message = re.sub(rf"^{_INLINE}(:\d+)?: ", "", error.message)
        error.args, error.where = (error.message,), None
        raise
    return made


def is_inline(value: str | Mapping[str, Any] | None) -> bool:
    """Whether a configured prompt is written in place: paths have neither spaces nor braces."""
    return isinstance(value, Mapping) or (value is not None and bool(re.search(r"[\s{]", value)))


_INLINE: Final = "prompt"


def _front_matter(text: str, where: str) -> tuple[str, str, int]:
    """Front matter, body, and how many lines stand before the front matter."""
    lines = text.splitlines(keepends=True)
    if not lines or lines[0].rstrip() != "---":
        return "", text, 0
    for index, line in enumerate(lines[1:], 1):
        if line.rstrip() in ("---", "..."):
            return "".join(lines[1:index]), "".join(lines[index + 1 :]), 1
    raise ConfigError(
        "the front matter is never closed", hint="End it with a line '---'.", where=f"{where}:1"
    )


def _compose(text: str, where: str, offset: int) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1 + offset}" if mark else ""
        raise ConfigError(f"not YAML: {error.problem or error}", where=f"{where}{line}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {error}", where=where) from error
    except RecursionError:
        raise ConfigError("nested too deeply", where=where) from None


def _prompt(
    node: yaml.Node | None, where: str, offset: int, default_path: str | None, body: str | None
) -> Prompt:
    """One mapping as a Prompt. `body` is the text of a Markdown file."""
    start = f"{where}:{node.start_mark.line + 1 + offset}" if node is not None else where
    values: dict[str, Any] = {}
    lines: dict[str, str] = {}
    if node is not None and not (isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null")):
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError("a prompt is a mapping of keys", hint=f"Keys: {', '.join(KEYS)}.", where=start)
        for key_node, value_node in node.value:
            key = str(key_node.value)
            at = lines[key] = f"{where}:{key_node.start_mark.line + 1 + offset}"
            if key not in KEYS:
                raise UnknownKeyError(key, KEYS, where=at)
            if key in values:
                raise ConfigError(f"the key '{key}' is given twice", where=at)
            values[key] = _value(key, _construct(value_node, at), at)
    if body is not None:
        if "prompt" in values:
            raise ConfigError(
                "a Markdown file's prompt is its body", hint="Remove the key 'prompt'.", where=lines["prompt"]
            )
        values["prompt"] = body
    if default_path is not None:
        values.setdefault("path", default_path)
    for key, hint in LATER.items():
        if values.get(key):
            raise ConfigError(not_yet(key), hint=hint, where=lines[key])
    for key in ("path", "prompt"):
        if not values.get(key):
            raise ConfigError(f"a prompt has no {key}", where=start)
    try:
        return Prompt(**values)
    except ConfigError as error:
        raise ConfigError(error.message, hint=error.hint, where=start) from error


def _construct(node: yaml.Node, where: str) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {error}", where=where) from error
    except RecursionError:
        raise ConfigError("nested too deeply", where=where) from None
    finally:
        loader.dispose()


def _value(key: str, value: Any, where: str) -> Any:
    """A key's value as Prompt takes it; null is the key's default."""
    if value is None:
        return next(item.default for item in fields(Prompt) if item.name == key)
    if key in _TEXTS:
        if not isinstance(value, str):
            raise ConfigError(f"{key} is {type(value).__name__}; it is text", where=where)
        return _reference(value, key, where) if key == "parser" else value
    if key == "format":
        if isinstance(value, str):
            return _reference(value, key, where)
        return _mapping(key, value, where)
    if key == "computer_use_config":
        return _mapping(key, value, where)
    if key == "allow_web_search":
        if not isinstance(value, bool):
            raise ConfigError(f"{key} is {value!r}; it is true or false", where=where)
        return value
    if not isinstance(value, list):
        raise ConfigError(f"{key} is {value!r}; it is a list", hint=f"Write {key}: [...].", where=where)
    if key == "mcp_servers":
        return [_server(item, where) for item in value]
    if key == "functions":
        return [_reference(i, key, where) if isinstance(i, str) and ":" in i else i for i in value]
    _all_texts(key, value, where)
    return value


def _all_texts(key: str, values: Iterable[Any], where: str) -> None:
    for value in values:
        if not isinstance(value, str):
            raise ConfigError(f"{key} holds {value!r}, which is not text", hint="Quote it.", where=where)


def _mapping(key: str, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key} is {value!r}; it is a mapping", where=where)
    return value


def _server(value: Any, where: str) -> MCP:
    declared = _mapping("an MCP server", value, where)
    try:
        return MCP.from_dict(declared, where=where)
    except UnknownKeyError:
        raise
    except ConfigError as error:
        raise ConfigError(error.message, hint=error.hint, where=where) from None


def _reference(value: str, key: str, where: str) -> Any:
    """The Python object that `module:name` names."""
    module, colon, name = value.partition(":")
    if not colon or not module or not name:
        raise ConfigError(f"{key} is '{value}'; a Python object is named 'module:name'", where=where)
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{key}: '{value}' cannot be imported: {error}", where=where) from error
    except LLMError:
        raise
    except Exception as error:  # the module itself fails
        raise ConfigError(f"{key}: '{module}' fails: {type(error).__name__}: {error}", where=where) from error
    return found
