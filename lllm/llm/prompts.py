"""Registered prompts, and what a text stands for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lllm.config.kinds import in_words
from lllm.errors import ConfigError, UnknownNameError
from lllm.models.message import Message
from lllm.models.prompt import Prompt


class Prompts(Mapping[str, Prompt]):
    """The registered prompts, all or those of one system: `Prompts("demo")("task_query")` is `demo/task_query`."""

    def __init__(self, root: str = "") -> None:
        self.root = root.strip("/")

    def __call__(self, path: str) -> Prompt:
        """The prompt of that path below the root. UnknownNameError with the nearest one."""
        return self[path]

    def __getitem__(self, path: str) -> Prompt:
        from lllm.registry import registry

        found: Prompt = registry.get("prompt", f"{self.root}/{path}" if self.root else path)
        return found

    def __iter__(self) -> Iterator[str]:
        from lllm.registry import registry

        prefix = f"{self.root}/" if self.root else ""
        return (name.removeprefix(prefix) for name in registry.names("prompt") if name.startswith(prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def system_prompt_of(name: str, value: str | Prompt | None) -> Prompt | None:
    if value is None or isinstance(value, Prompt):
        return value
    if not isinstance(value, str):
        raise ConfigError(
            f"the system prompt is {in_words(value)}; it is text, a Prompt, or the path of a registered one"
        )
    found = registered(value)
    return found if found is not None else Prompt(path=f"{name}/system", prompt=value, args=())


def prompt_or_text(value: str | Prompt, args: Mapping[str, Any] | None) -> Prompt | Message:
    """Text is text, unless it is the path of a registered prompt, or arguments say that it must be one."""
    if isinstance(value, Prompt):
        return value
    if args:
        return find_prompt(value)
    return registered(value) or Message("user", value)


def registered(path: str) -> Prompt | None:
    """The registered prompt of that path, or None. Text that cannot be a path is not looked up."""
    if len(path) > 200 or not path.strip() or any(char.isspace() for char in path):
        return None
    from lllm.registry import registry

    return registry.get("prompt", path) if registry.has("prompt", path) else None


def find_prompt(path: str) -> Prompt:
    """The registered prompt of that path. UnknownNameError with the nearest one."""
    from lllm.registry import registry

    try:
        found: Prompt = registry.get("prompt", path)
    except UnknownNameError as error:
        if "{" not in path:
            raise
        hint = f'Arguments go with a prompt. A template of your own is one: Prompt("name", {path[:60]!r}).'
        raise UnknownNameError("prompt", path[:60], registry.names("prompt"), hint=hint) from error
    return found
