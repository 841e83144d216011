"""Prompts that are tried: from a list, from templates, from a proposer."""

from __future__ import annotations

import itertools
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
    """A prompt that is tried; `text` is None for the policy as it is. `name`: in tables."""

    name: str
    text: str | None

    @property
    def key(self) -> str:
        """A digest of the text: names what is logged of it."""
        return "as-it-is" if self.text is None else digest_of(self.text).removeprefix("sha256:")[:10]

    def of(self, agent: Agent, place: str) -> Agent:
        """The agent with this prompt."""
        if self.text is None:
            return agent
        made = Prompt(path=f"candidate/{self.name}", prompt=self.text, args=None if place == "prompt" else ())
        if place == "system":
            return agent.with_(system_prompt=made)
        twin = agent.with_()
        twin._prompt = made
        return twin


AS_IT_IS: Final = Candidate("as it is", None)


def candidates_of(
    prompts: Any, templates: Iterable[str], slots: Mapping[str, Sequence[str]], place: str
) -> list[Candidate]:
    """The candidates, without those whose text came before. ConfigError for what is no prompt.

    Args:
        prompts: texts, Prompts or paths of registered ones; a mapping gives them names. templates: texts with places, each of
            which is filled with each value that `slots` has for it.
    """
    given = prompts.items() if isinstance(prompts, Mapping) else ((None, one) for one in _listed(prompts))
    found = [(name, _text(one)) for name, one in given]
    for template in templates:
        found += [(None, text) for text in filled(template, slots)]
    return named(found, place, [])


def named(
    texts: Iterable[tuple[str | None, str]], place: str, before: Sequence[Candidate]
) -> list[Candidate]:
    """Candidates of texts, with names, without those that were there before."""
    known = {one.text for one in before}
    count = sum(1 for one in before if one.text is not None)
    found: list[Candidate] = []
    for name, text in texts:
        if text in known:
            continue
        known.add(text)
        count += 1
        made = Candidate(name or f"prompt {count}", text)
        if place == "prompt":
            _require_one_place(made)
        found.append(made)
    return found


def filled(template: str, slots: Mapping[str, Sequence[str]]) -> list[str]:
    """A template with each combination of the values for its places. Other braces stay."""
    if not isinstance(template, str):
        raise ConfigError(f"a template is {type(template).__name__}, and must be a text")
    places = [name for name in slots if f"{{{name}}}" in template]
    found = []
    for values in itertools.product(*(slots[name] for name in places)):
        text = template
        for name, value in zip(places, values, strict=True):
            text = text.replace(f"{{{name}}}", str(value))
        found.append(text)
    return found


def _require_one_place(candidate: Candidate) -> None:
    try:
        names = Prompt(path="candidate", prompt=candidate.text or "").variables
    except PromptError as error:
        raise ConfigError(f"{candidate.name} is no prompt: {error.message}") from error
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
