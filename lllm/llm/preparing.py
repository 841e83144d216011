"""From what an agent is called with to the messages of the call, and how its settings are bound for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lllm.errors import ConfigError
from lllm.llm.bind import Binding, Bindings
from lllm.llm.dialog import Dialog, Turn, as_message
from lllm.llm.inputs import check_arguments, check_prompt
from lllm.llm.prompts import prompt_or_text
from lllm.llm.settings import Settings, override, recordable
from lllm.models.message import Message
from lllm.models.prompt import Prompt

if TYPE_CHECKING:
    from typing import Self

    from lllm.llm.agent import Input
    from lllm.llm.context import Context
    from lllm.llm.proxies import Access
    from lllm.session import Session


class Prepares:
    """The part of an Agent that makes messages of what it is called with."""

    _settings: Settings
    _bindings: Bindings
    _system: Prompt | None
    _prompt: Prompt | None
    _prompts: tuple[Prompt, ...]
    _access: Access | None
    _said: tuple[Prompt, Message] | None
    _context: Context | None = None  # a text that every conversation has in it

    if TYPE_CHECKING:

        @property
        def name(self) -> str: ...
        def with_(self, **changes: Any) -> Self: ...

    # --- dialogs

    def init_dialog(self, args: Mapping[str, Any] | None = None, *, session: Session | None = None) -> Dialog:
        """A dialog that begins with the system prompt."""
        dialog = Dialog(self._opening(args or {}), name=self.name)
        if session is not None:
            dialog.id = session.new_dialog()
        return dialog

    def send_message(
        self, dialog: Dialog, prompt: str | Prompt, args: Mapping[str, Any] | None = None
    ) -> Dialog:
        """Puts a rendered prompt at the end of a dialog. The next `call(dialog)` parses the reply with it."""
        found = prompt_or_text(prompt, args)
        if isinstance(found, Prompt):
            dialog.append(Message("user", found.render({**self._texts(found, args or {}), **(args or {})})))
            dialog.prompt, dialog.args = found, dict(args or {})
        else:
            dialog.append(found)
        return dialog

    def _opening(self, args: Mapping[str, Any]) -> list[Message]:
        system = self._system
        if system is None:
            return []
        wanted = {name: value for name, value in args.items() if name in system.variables}
        if not wanted and self._said is not None and self._said[0] is system:
            return [self._said[1]]
        texts = self._texts(system, args)
        said = Message("system", system.render({**texts, **wanted}))
        if not wanted:  # the same message in all dialogs: it is encoded once
            self._said = system, said
        return [said]

    def _texts(self, prompt: Prompt | None, args: Mapping[str, Any]) -> Mapping[str, str]:
        """What the agent itself says in the places of a prompt: about its proxies."""
        if self._access is None or prompt is None:
            return {}
        return self._access.texts(prompt.places, args)

    # --- inside

    def _prepare(
        self,
        input: Input | Turn,
        args: Mapping[str, Any],
        overrides: Mapping[str, Any],
        *,
        opened: bool = False,
    ) -> tuple[Binding, Any, Sequence[Message], Mapping[str, Any]]:
        """Returns the binding, base dialog, new messages and prompt arguments. `opened`: the messages are said in a dialog that
        has begun already, with its system prompt."""
        binding, base, add, arguments = self._prepared(input, args, overrides, opened=opened)
        if self._context is not None and not opened:
            add = self._context.placed(base, add)
        return binding, base, add, arguments

    def _prepared(
        self,
        input: Input | Turn,
        args: Mapping[str, Any],
        overrides: Mapping[str, Any],
        *,
        opened: bool,
    ) -> tuple[Binding, Any, Sequence[Message], Mapping[str, Any]]:
        if "system_prompt" in overrides:
            rest = dict(overrides)
            return self.with_(system_prompt=rest.pop("system_prompt"))._prepared(
                input, args, rest, opened=opened
            )
        if isinstance(input, Turn):
            if self._prompts and input.prompt is not None:
                check_prompt(self.name, input.prompt, (self._prompt, *self._prompts))
            if input.head is None and not input.sent:
                raise ConfigError(
                    f"agent '{self.name}' was called with an empty dialog",
                    hint="dialog.append(TEXT) says something.",
                )
            if args:
                prompt = input.prompt
                check_arguments(
                    self.name, args, () if prompt is None else (*prompt.variables, *prompt.places)
                )
            return (
                self._binding(input.prompt, overrides),
                input.head,
                input.sent,
                {**input.args, **args},
            )
        if input is None:
            if self._prompt is None:
                raise ConfigError(
                    f"agent '{self.name}' was called with nothing", hint="Give text, a prompt or a dialog."
                )
            input = self._prompt
        if isinstance(input, str):
            input = prompt_or_text(input, args)
        if isinstance(input, Prompt):
            if self._prompts:
                check_prompt(self.name, input, (self._prompt, *self._prompts))
            system = [] if opened else self._opening(args)
            own = args if self._system is None else {
                key: value for key, value in args.items()
                if key in input.variables or key not in self._system.variables
            }  # fmt: skip
            return (
                self._binding(input, overrides),
                None,
                (*system, Message("user", input.render({**self._texts(input, own), **own}))),
                args,
            )
        messages = (
            [as_message(input)]
            if isinstance(input, Message | Mapping)
            else [as_message(item) for item in input]
        )
        if not messages:
            raise ConfigError(
                f"agent '{self.name}' was called with an empty list", hint="Give at least one message."
            )
        if args:
            check_arguments(self.name, args, () if self._system is None else self._system.variables)
        if not opened and not any(message.role in ("system", "developer") for message in messages):
            messages = [*self._opening(args), *messages]
        return self._binding(None, overrides), None, messages, args

    def _binding(self, prompt: Prompt | None, overrides: Mapping[str, Any]) -> Binding:
        if overrides:
            changed, read = self._overridden(overrides), overrides.get("read")
            found = None if read is not None else self._binding(prompt, {}).resampled(changed)
            if found is None:
                found = Binding(changed, prompt, self._system, read)
            return found.with_overrides(recordable(overrides, changed, self._settings))
        bindings, settings = self._bindings, self._settings  # in this order: others may change both meanwhile
        found = bindings.get(prompt)
        if found is None:
            found = Binding(settings, prompt, self._system)
            bindings.keep(found)
        return found

    def _overridden(self, changes: Mapping[str, Any]) -> Settings:
        return override(self._settings, changes)
