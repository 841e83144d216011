"""Candidates of a prompt search: prompts from a list, from templates and from a proposer."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from lllm.core.canonical import digest_of
from lllm.errors import ConfigError, PromptError, listing
from lllm.llm.agent import Agent
from lllm.llm.prompts import registered
from lllm.models.prompt import Prompt

PLACES: Final = {
    "system": "the system prompt",
    "prompt": "the prompt around the row's text, with one place for it, as {task}",
}


class Candidate(NamedTuple):
    """A prompt that is tried; `text` is None for the unchanged policy. `name`: in tables."""

    name: str
    text: str | None

    @property
    def key(self) -> str:
        """A digest of the text, for the names of sessions."""
        return "as-it-is" if self.text is None else digest_of(self.text).removeprefix("sha256:")[:10]

    def of(self, agent: Agent, place: str) -> Agent:
        """Returns the agent with this prompt."""
        if self.text is None:
            return agent
        made = Prompt(path=f"candidate/{self.name}", prompt=self.text, args=None if place == "prompt" else ())
        if place == "system":
            return agent.with_(system_prompt=made)
        twin = agent.with_()
        twin._prompt = made
        return twin


_PLACE: Final = re.compile(r"(?<!\{)\{([^\W\d]\w*)\}(?!\})")
AS_IT_IS: Final = Candidate("as it is", None)


def candidates_of(
    prompts: Any, templates: Iterable[str], slots: Mapping[str, Sequence[str]], place: str
) -> list[Candidate]:
    """Returns the candidates, without repeated texts. Raises ConfigError for a value that is not a prompt.

    Args:
        prompts: texts, Prompts or paths of registered ones; a mapping gives them names. templates: texts with places, each of
            which is filled with each value that `slots` has for it.
    """
    given = prompts.items() if isinstance(prompts, Mapping) else ((None, one) for one in _listed(prompts))
    found = [(name, _text(one)) for name, one in given]
    templates = _listed(templates)
    _check_slots(templates, slots, place)
    for template in templates:
        found += [(None, text) for text in filled(template, slots)]
    return named(found, place, [])


def _check_slots(templates: Sequence[Any], slots: Mapping[str, Any], place: str) -> None:
    """Raises ConfigError for a slot without values or without a place in a template, and for a place without a slot. With
    `place="prompt"`, one place is left for the row's text."""
    if not isinstance(slots, Mapping):
        raise ConfigError(
            f"slots are {type(slots).__name__}, and must be a mapping of names to lists of values"
        )
    if wrong := [one for one in templates if not isinstance(one, str)]:
        raise ConfigError(f"a template is {type(wrong[0]).__name__}, and must be a text")
    for name, values in slots.items():
        if isinstance(values, str | Mapping) or not isinstance(values, Iterable) or not list(values):
            raise ConfigError(
                f"slots[{name!r}] is {values!r:.60}, and must be a list of values",
                hint=f"Write slots={{{name!r}: [...]}}.",
            )
        if not any(f"{{{name}}}" in template for template in templates):
            places = {one for template in templates for one in _PLACE.findall(template)}
            raise ConfigError(f"no template has the place {{{name}}}; there are {listing(places)}")
    for template in templates if place == "system" else ():
        if left := [one for one in _PLACE.findall(template) if one not in slots]:
            raise ConfigError(
                f"the template {template!r:.60} has places without values: {listing(left)}",
                hint=f"Give slots={{{left[0]!r}: [...]}}. A text with braces of its own goes into prompts=[...].",
            )


def named(
    texts: Iterable[tuple[str | None, str]],
    place: str,
    before: Sequence[Candidate],
    refused: list[str] | None = None,
) -> list[Candidate]:
    """Returns candidates of texts, with names, without those that exist already.

    Args:
        refused: takes what is wrong with texts that cannot be prompts, which are left out; None: that is a ConfigError.
    """
    known = {one.text for one in before}
    count = sum(1 for one in before if one.text is not None)
    found: list[Candidate] = []
    for name, text in texts:
        if text in known:
            continue
        known.add(text)
        count += 1
        made = Candidate(name or f"prompt {count}", text)
        try:
            if place == "prompt":
                _require_one_place(made)
        except ConfigError as error:
            if refused is None:
                raise
            refused.append(error.message)
            continue
        found.append(made)
    return found


def filled(template: str, slots: Mapping[str, Sequence[str]]) -> list[str]:
    """Returns a template with each combination of values in its places. Other braces stay, also those in values."""
    places = [name for name in slots if f"{{{name}}}" in template]
    if not places:
        return [template]
    pattern = re.compile("|".join(re.escape(f"{{{name}}}") for name in places))
    found = []
    for combination in itertools.product(*(slots[name] for name in places)):
        values = {f"{{{name}}}": str(value) for name, value in zip(places, combination, strict=True)}
        found.append(pattern.sub(lambda place, values=values: values[place[0]], template))  # type: ignore[misc]
    return found


def _require_one_place(candidate: Candidate) -> None:
    try:
        names = Prompt(path="candidate", prompt=candidate.text or "").variables
    except PromptError as error:
        raise ConfigError(f"{candidate.name} is not a prompt: {error.message}") from error
    if len(names) != 1:
        what = listing(names) if names else "none"
        raise ConfigError(
            f"{candidate.name} must have one place for the row's text; it has {what}: {candidate.text!r:.80}"
        )


def _listed(values: Any) -> list[Any]:
    if isinstance(values, str | Prompt):
        return [values]
    if not isinstance(values, Iterable):
        raise ConfigError(f"prompts are {type(values).__name__}, and must be a list of texts")
    return list(values)


def _text(value: Any) -> str:
    if isinstance(value, Prompt):
        return value.prompt
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(
            f"a prompt is {value!r:.60}, and must be a text, a Prompt, or the path of a registered one"
        )
    found = registered(value)
    return value if found is None else found.prompt
