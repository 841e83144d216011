"""Prompt: a template, the form of the reply, the tools, and what is said when something goes wrong."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar, Final

from lllm.core import handlers, template
from lllm.core.canonical import digest, digest_of
from lllm.core.jsonable import unicode_only
from lllm.core.parsing import Tags, check_tag_names, parse_tags
from lllm.errors import ConfigError, not_yet
from lllm.models.function import MCP, Function, as_function, as_functions, tools_in

_TAGS: Final = ("xml_tags", "md_tags", "signal_tags", "required_xml_tags", "required_md_tags")
_HANDLERS: Final = ("exception_prompt", "interrupt_prompt", "final_prompt")
_LISTS: Final = (*_TAGS, "functions", "mcp_servers")
LATER: Final = {
    "mcp_servers": "Pass the tools themselves: functions=[...].",
    "allow_web_search": "A provider's own search is a setting of the model: model_args={'web_search_options': {...}}.",
    "computer_use_config": "Leave it out.",
}
"""Fields that this version does not support (they must be empty), and what to use instead."""


@dataclass(frozen=True)
class Prompt:
    """The texts that an agent sends, and the expected form of its reply. A value; registered by its `path`.

    Attributes:
        path: its name in the registry, e.g. `analyst/report`.
        prompt: the template; `{name}` is a placeholder for an argument. `lllm.core.template` has the rules.
        format: the type or JSON schema of the reply. Cannot be combined with tags.
        parser: receives the reply's text (after the tags were checked) and, by name, the arguments that its signature
        names;
            returns the payload, or raises ParseError. May be async.
        xml_tags, md_tags, signal_tags: tags that the reply may hold. `lllm.core.parsing` has the rules.
        required_xml_tags, required_md_tags: tags that the reply must hold.
        functions: tools: functions, Functions, schemas, or registered names (`reader/news`).
        mcp_servers, allow_web_search, computer_use_config: not supported in this version; must be empty.
        exception_prompt: sent after a reply that could not be used; text with {errors}, or a function.
        interrupt_prompt: sent after a round of tools; text with {results}, or a function. None: nothing is sent.
        final_prompt: sent when no more tool calls are possible; text, or a function.
        args: the names of the required arguments; None means the placeholders of the texts.
        description: what the prompt is for, for human readers.
    """

    __lllm_kind__: ClassVar[str] = "prompt"

    path: str
    prompt: str
    format: Any = None
    parser: Callable[..., Any] | None = None
    xml_tags: Sequence[str] = ()
    md_tags: Sequence[str] = ()
    signal_tags: Sequence[str] = ()
    required_xml_tags: Sequence[str] = ()
    required_md_tags: Sequence[str] = ()
    functions: Sequence[Any] = ()
    mcp_servers: Sequence[MCP] = ()
    exception_prompt: str | Callable[..., Any] | None = None
    interrupt_prompt: str | Callable[..., Any] | None = None
    final_prompt: str | Callable[..., Any] | None = None
    allow_web_search: bool = False
    computer_use_config: Mapping[str, Any] | None = None
    args: Sequence[str] | None = None
    description: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.path, str) or not self.path.strip():
            raise ConfigError(f"a prompt's path is {self.path!r}; it is a name like 'analyst/report'")
        what = f"prompt '{self.path}'"
        if not isinstance(self.prompt, str):
            raise ConfigError(f"{what}: prompt is {type(self.prompt).__name__}; it is text")
        for key in _LISTS if self.args is None else (*_LISTS, "args"):
            value = getattr(self, key)
            if isinstance(value, str | Mapping) or not isinstance(value, Sequence | set | frozenset):
                raise ConfigError(f"{what}: {key} is {value!r}; it is a list", hint=f"Write {key}=[...].")
            object.__setattr__(
                self, key, tuple(sorted(value) if isinstance(value, set | frozenset) else value)
            )
        try:
            check_tag_names((*self.xml_tags, *self.required_xml_tags, *self.signal_tags))
            check_tag_names(md=(*self.md_tags, *self.required_md_tags))
        except ConfigError as error:
            raise ConfigError(f"{what}: {error.message}", hint=error.hint) from None
        for key in ("parser", *_HANDLERS):
            value = getattr(self, key)
            if not (value is None or callable(value) or (key in _HANDLERS and isinstance(value, str))):
                words = "a function" if key == "parser" else "text or a function"
                raise ConfigError(f"{what}: {key} is {value!r}; it is {words}")
        for server in self.mcp_servers:
            if not isinstance(server, MCP):
                raise ConfigError(
                    f"{what}: {server!r} is not an MCP server", hint="Write MCP(name=..., command=...)."
                )
        for key, hint in LATER.items():
            if getattr(self, key):
                raise ConfigError(not_yet(f"{what}: {key}"), hint=hint)
        for name in self.args or ():
            if not isinstance(name, str) or not name.isidentifier():
                raise ConfigError(f"{what}: {name!r} is not an argument's name")
        if self.format is not None and self.has_tags:
            raise ConfigError(f"{what}: a reply cannot have both a format and tags", hint="Keep one of them.")

    def __hash__(self) -> int:
        return hash((self.path, self.prompt))

    def __getstate__(self) -> dict[str, Any]:
        return {
            item.name: getattr(self, item.name) for item in fields(self)
        }  # what was computed stays behind

    # --- the text ----------------------------------------------------------------------------------------------------

    def render(self, args: Mapping[str, Any] | None = None) -> str:
        """The text with its arguments. PromptError when one is missing, unknown or None; all are named at once."""
        args = args or {}
        template.check(self.variables, self.places, args)
        return template.fill(self.prompt, args)

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """The names of the arguments that must be given."""
        if self.args is not None:
            return tuple(self.args)
        names = dict.fromkeys(template.variables(self.prompt))
        for text in self._handler_texts:
            names.update(dict.fromkeys(n for n in template.variables(text) if n not in handlers.BUILTINS))
        return tuple(names)

    @cached_property
    def places(self) -> tuple[str, ...]:
        """The names that may be given: places of the texts, and what the parser's signature names."""
        names = [name for text in (self.prompt, *self._handler_texts) for name in template.places(text)]
        return (*names, *self.parser_args)

    @property
    def _handler_texts(self) -> list[str]:
        return [text for key in _HANDLERS if isinstance(text := getattr(self, key), str)]

    @cached_property
    def parser_args(self) -> tuple[str, ...]:
        """The arguments that the parser's signature names, besides the reply's text."""
        if self.parser is None:
            return ()
        try:
            parameters = list(inspect.signature(self.parser).parameters.values())[1:]
        except (TypeError, ValueError):
            return ()
        return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))

    # --- the reply ---------------------------------------------------------------------------------------------------

    @cached_property
    def literal_tags(self) -> tuple[str, ...]:
        """Names of the XML tags that a reply may contain: a backend leaves them in the text."""
        return tuple(dict.fromkeys((*self.xml_tags, *self.required_xml_tags, *self.signal_tags)))

    @cached_property
    def has_tags(self) -> bool:
        """Whether any tag is declared."""
        return any(getattr(self, key) for key in _TAGS)

    @property
    def has_parser(self) -> bool:
        """Whether a reply is read by anything: a parser, tags, or a format."""
        return self.parser is not None or self.format is not None or self.has_tags

    def parse(self, content: str) -> Tags | str:
        """The tags of a reply where any are declared, else the reply as it is. ParseError with all problems.

        The prompt's own `parser` is not called: it is the project's code, and runs as an effect."""
        if not self.has_tags:
            return content
        return parse_tags(content, **self._tags)

    @cached_property
    def _tags(self) -> Mapping[str, tuple[str, ...]]:
        return {key: getattr(self, key) for key in _TAGS}

    @cached_property
    def reply_format(self) -> Any:
        """The `format` as a `lllm.tools.formats.Format`, or None. ConfigError when it is not one."""
        if self.format is None:
            return None
        return import_module("lllm.tools.formats").Format.of(self.format)

    # --- tools -------------------------------------------------------------------------------------------------------

    @cached_property
    def tools(self) -> tuple[Function, ...]:
        """The `functions` as Functions. ConfigError when one is only a name: see `tools_with`."""
        return self.tools_with(None)

    def tools_with(self, lookup: Callable[[str], Any] | None) -> tuple[Function, ...]:
        """The `functions` as Functions; `lookup` finds those that are given by name, and may find several for one."""
        found = []
        for item in self.functions:
            if isinstance(item, str):
                if lookup is None:
                    raise ConfigError(
                        f"prompt '{self.path}': '{item}' is a tool's name, and nothing looks names up here",
                        hint="Give the function itself, or use the prompt through an agent.",
                    )
                item = lookup(item)
            found.append(item)
        return as_functions(found)

    # --- identity ----------------------------------------------------------------------------------------------------

    def with_(self, **changes: Any) -> Prompt:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def fingerprint(self) -> dict[str, str]:
        """A hash of each part that can change what a call does, by which a replay names the cause of a divergence."""
        return dict(self._fingerprint)

    @cached_property
    def _fingerprint(self) -> dict[str, str]:
        told = [item if isinstance(item, str) else item.schema_hash for item in self._told()]
        return {
            "template": digest_of(
                unicode_only([self.prompt, None if self.args is None else list(self.args)])
            ),
            "tags": digest_of({key: list(getattr(self, key)) for key in _TAGS}),
            "format": digest_of(None if self.format is None else self.reply_format.wire()),
            "functions": digest_of(
                [told, [server.record() for server in self.mcp_servers], self.allow_web_search]
            ),
            "handlers": digest_of(unicode_only([code_hash(getattr(self, key)) for key in _HANDLERS])),
            "parser": digest_of(code_hash(self.parser)),
        }

    def _told(self) -> list[str | Function]:
        """The functions; those that are given by name as their names."""
        items = tools_in(list(self.functions)) or ()
        return [item if isinstance(item, str) else as_function(item) for item in items]


def code_hash(value: Any) -> Any:
    """What stands for a handler or parser in a fingerprint: text itself; of a function its name and a hash of its
    source, where Python has it."""
    if value is None or isinstance(value, str):
        return value
    inner = inspect.unwrap(getattr(value, "func", value))
    name = f"{getattr(inner, '__module__', '')}:{getattr(inner, '__qualname__', type(inner).__name__)}"
    try:
        # reads the source file, once for each prompt: the only way to see that code has changed
        source = inspect.getsource(
            inner if inspect.isroutine(inner) or inspect.isclass(inner) else type(inner)
        )
    except (OSError, TypeError):
        return name
    return f"{name} {digest(source.encode())}"


def load_prompt_file(path: Any, *, root: Any = None) -> list[Prompt]:
    """The prompts of a Markdown or YAML file. See `lllm.tools.prompt_files`, which reads it."""
    prompts: list[Prompt] = import_module("lllm.tools.prompt_files").load_prompt_file(path, root=root)
    return prompts
