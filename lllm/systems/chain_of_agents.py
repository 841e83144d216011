"""ChainOfAgents: a task over a text that is longer than the model's window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from lllm.core.canonical import digest
from lllm.core.fence import fenced_data, shortened
from lllm.core.jsonable import unicode_only
from lllm.errors import ConfigError, ContextTooLong, StageError
from lllm.llm.agent import Agent
from lllm.llm.checks import parse_count
from lllm.steps.results import Stages
from lllm.steps.running import failed
from lllm.steps.side_by_side import checked
from lllm.sync import in_thread, run
from lllm.systems.answer import Answer, Part
from lllm.systems.base import Call, Ruler, System, all_calls
from lllm.systems.cutting import LongText

if TYPE_CHECKING:
    from lllm.steps.running import Here

MODES: Final = ("sequential", "tree")
ERRORS: Final = ("raise", "skip", "keep")
BUDGET: Final = 4096
"""Tokens of a prompt where neither a budget is given nor the model's window known."""
_REPLY: Final = 4
"""The share of the window that is left for the reply, and that of a prompt which is kept for notes: one of so many."""
_WORDS: Final = 0.5
"""Words of notes that are asked for, per token that they may have."""


@dataclass(frozen=True)
class LongTask:
    """The input of a ChainOfAgents: a task, a text, and settings of the calls."""

    prompt: str
    text: str
    settings: Mapping[str, Any]


class ChainOfAgents(System):
    """Does a task over a text of any length, chunk by chunk.

        system = ChainOfAgents("reader", model)
        answer = await system.run("Who is the murderer?", book)     # blocking: system("Who is the murderer?", book)

    The text is cut into chunks, together all of it, each as long as fits: behind a sentence, else a line, a word, a character.
    Sequentially, the model reads one chunk after the other and keeps notes of what matters for the task; in a tree it reads all
    chunks side by side, and the notes are merged. It answers from the notes. A text that fits is asked about as it is.

    Every prompt is measured as the model reads it: by its own tokenizer and template where it runs here, else estimated. The
    run is a session: an interrupted one goes on with the chunk at which it stopped.

    Args:
        system_id: its name. model: as for Agent; or an Agent.
        mode: `sequential` or `tree`.
        budget: tokens that a rendered prompt may have. By default the model's window without room for the reply (`max_tokens`,
            else a quarter); 4096 where the window is not known.
        notes: tokens that notes may have in a prompt; by default a quarter of the budget. Longer ones are shortened there, and
            the log says so.
        errors: where a chunk fails: `raise` a StageError with its `index`; `skip` it, telling the model that a part is missing;
            `keep` it in `parts` with its error too.
        limit: chunks that are read at once in a tree.
        prompt: the task where only a text is given, as to a stage of a chain.
        settings: everything else of Agent: temperature, max_tokens, ...
    """

    gives = str

    def __init__(
        self,
        system_id: str,
        model: Any = None,
        *,
        mode: str = "sequential",
        budget: int | None = None,
        notes: int | None = None,
        errors: str = "raise",
        limit: int = 16,
        prompt: str = "Summarise this text.",
        **settings: Any,
    ) -> None:
        super().__init__(system_id, model, **settings)
        self.mode = checked(mode, MODES, "mode")
        self.budget = None if budget is None else parse_count("budget", budget)
        self.notes = None if notes is None else parse_count("notes", notes)
        self.errors = checked(errors, ERRORS, "errors")
        self.limit = parse_count("limit", limit)
        self.prompt = prompt

    async def run(self, initial_prompt: str, long_text: str, **kwargs: Any) -> Answer:  # type: ignore[override]
        """The answer to a task over a text: a `str`, with `.parts`, `.stages` and `.session`.

        Args:
            kwargs: settings of the calls: temperature, max_tokens, ...

        Raises:
            ContextTooLong: the prompt leaves no room for any text. StageError: a chunk failed, and `errors` is `raise`.
            CallError: the answer itself failed.
        """
        answer: Answer = await self._result(_task(initial_prompt, long_text, kwargs))
        return answer

    def __call__(self, value: Any, long_text: str | None = None, **more: Any) -> Any:
        """`run` for blocking code. Called with one value, it is a step: with a text, a dict of both, or a list of them."""
        return run(self.acall(value, long_text, **more))

    async def acall(self, value: Any, long_text: str | None = None, **more: Any) -> Any:
        """`__call__` for async code."""
        if long_text is None:
            return await super().acall(value, **more)
        return await self.run(value, long_text, **more)

    async def chunks(self, initial_prompt: str, long_text: str, **kwargs: Any) -> list[str]:
        """The chunks that a run would read, without asking the model."""
        task = _task(initial_prompt, long_text, kwargs)
        work = _Work(self, task, self._with(kwargs))
        await work.set_budget()
        return [task.text[start:end] for start, end in await work.cut()]

    def receive(self, value: Any) -> LongTask:
        if isinstance(value, LongTask):
            return value
        value = getattr(value, "content", value)
        if isinstance(value, Mapping):
            known = {"initial_prompt": self.prompt, **value}
            if known.keys() == {"initial_prompt", "long_text"}:
                return _task(known["initial_prompt"], known["long_text"], {})
        elif isinstance(value, str):
            return _task(self.prompt, value, {})
        raise ConfigError(
            f"'{self.name}' was given {'nothing (None)' if value is None else type(value).__name__}, and takes a text",
            hint="Give it a text, or a dict with initial_prompt and long_text.",
        )

    async def _run(self, value: LongTask, here: Here) -> Answer:
        work = _Work(self, value, self._with(value.settings), here)
        return await work.answer()


def _task(prompt: Any, text: Any, settings: Mapping[str, Any]) -> LongTask:
    for name, given in (("initial_prompt", prompt), ("long_text", text)):
        if not isinstance(given, str):
            raise ConfigError(f"{name} must be text, got {type(given).__name__}")
    return LongTask(prompt, text, dict(settings))


class _Work:
    """One run."""

    def __init__(self, system: ChainOfAgents, task: LongTask, agent: Agent, here: Here | None = None) -> None:
        self.system = system
        self.task = task
        self.agent = agent
        self._here = here
        self.ruler = Ruler(agent)
        self.budget = self.kept = 0
        self.missing: list[int] = []

    @property
    def here(self) -> Here:
        assert self._here is not None
        return self._here

    # --- the run

    async def answer(self) -> Answer:
        ends = await self._learn(
            "chunks", {"text": _digest(self.task.text), "prompt": self.task.prompt}, self._plan
        )
        self.budget, self.kept, whole, offsets = ends
        if whole:
            reply = await self._ask(self._whole(), "answer", 0)
            part = Part(1, 0, len(self.task.text), self.task.text)
            return Answer.made(reply, self._stages(), self.here.session.id, (part,))
        parts = tuple(Part(n, a, b, self.task.text[a:b]) for n, (a, b) in enumerate(offsets, 1))
        merged: tuple[tuple[str, ...], ...] = ()
        if self.system.mode == "tree":
            parts = await self._side_by_side(parts)
            notes, merged = await self._merge([part.notes for part in parts if part.notes is not None])
        else:
            parts, notes = await self._one_by_one(parts)
        if len(self.missing) == len(parts):
            raise next(part.error for part in parts if part.error is not None)
        prompt = await self._fitted("answer", notes, lambda notes: self._last(notes, len(parts)))
        reply = await self._ask(prompt, "answer", len(parts))
        kept = tuple(part for part in parts if part.error is None or self.system.errors == "keep")
        return Answer.made(reply, self._stages(), self.here.session.id, kept, tuple(self.missing), merged)

    async def _one_by_one(self, parts: tuple[Part, ...]) -> tuple[tuple[Part, ...], str]:
        done: list[Part] = []
        notes = ""
        for part in parts:
            prompt = await self._fitted(
                f"part {part.number}",
                notes,
                lambda notes, part=part: self._part(part.number, part.text, notes),
            )
            try:
                notes = await self._ask(prompt, f"part {part.number}", part.number - 1)
                done.append(replace(part, notes=notes))
            except StageError as error:
                done.append(self._without(part, error))
        return tuple(done), notes

    async def _side_by_side(self, parts: tuple[Part, ...]) -> tuple[Part, ...]:
        jobs = [
            (f"part {part.number}", Call(self.agent), self._part(part.number, part.text, ""))
            for part in parts
        ]
        errors = "raise" if self.system.errors == "raise" else "keep"
        found = [one for _, one in await all_calls(self.here, jobs, errors=errors, limit=self.system.limit)]
        return tuple(
            self._without(part, one) if isinstance(one, StageError) else replace(part, notes=one.content)
            for part, one in zip(parts, found, strict=True)
        )

    def _without(self, part: Part, error: StageError) -> Part:
        if self.system.errors == "raise":
            raise error
        self.missing.append(part.number)
        self.here.session.note(f"'{self.system.name}' goes on without part {part.number}: {error.message}")
        return replace(part, error=error)

    async def _merge(self, notes: list[str]) -> tuple[str, tuple[tuple[str, ...], ...]]:
        """Merges notes, as many at a time as fit, until they fit into one prompt."""
        levels: list[tuple[str, ...]] = []
        while len(notes) > 1:
            request = {"level": len(levels) + 1, "notes": [_digest(one) for one in notes]}
            groups = await self._learn("merge", request, partial(self._grouped, notes))
            if len(groups) == 1:
                return groups[0], tuple(levels)
            level = len(levels) + 1
            jobs = [
                (f"merge {level}.{n}", Call(self.agent), self._merging(group))
                for n, group in enumerate(groups, 1)
            ]
            replies = await all_calls(self.here, jobs, errors="raise", limit=self.system.limit)
            notes = [reply.content for _, reply in replies]
            levels.append(tuple(notes))
        return "".join(notes), tuple(levels)

    async def _grouped(self, notes: list[str]) -> list[str]:
        """The notes in groups of two at least, each short enough for a prompt."""
        groups: list[str] = []
        rest = list(notes)
        while rest:
            group = rest.pop(0)
            if rest and not await self._fits(self._merging(_joined(group, rest[0]))):
                both = [group, rest.pop(0)]
                size = max(map(len, both))
                while size and not await self._fits(self._merging(_joined(*both))):
                    size -= 1 + size // 8
                    short = partial(_is_short, size)
                    both = [shortened(one, short) or "" for one in both]
                    if not any(both):
                        raise self._no_room("notes", await self._size(self._merging("")))
                self.here.session.note(f"'{self.system.name}': notes were shortened to be merged")
                group = _joined(*both)
            while rest and await self._fits(self._merging(longer := _joined(group, rest[0]))):
                group = longer
                rest.pop(0)
            groups.append(group)
        return groups

    async def _ask(self, prompt: str, place: str, index: int) -> str:
        try:
            reply = await self.here.stage(Call(self.agent), prompt, place, follow=place == "answer")
        except Exception as error:
            if place == "answer":
                raise
            raise failed(error, index, self.here.session.id) from error
        return str(reply.content)

    def _stages(self) -> Stages:
        return Stages(self.here.results)

    # --- measures

    async def set_budget(self) -> None:
        """Finds out how long prompts may be."""
        system = self.system
        size = await self.ruler.size(self._whole(""))
        if system.budget is not None:
            self.budget = system.budget
            if size.limit is not None and size.limit <= self.budget:
                raise ContextTooLong(
                    f"'{system.name}': a prompt of budget={self.budget:,} tokens leaves no room for the reply: the window of "
                    f"'{self.ruler.model}' has {size.limit:,}",
                    hint="Lower budget=, or leave it out: then it is the window without room for the reply.",
                )
        elif size.limit is None:
            self.budget = BUDGET
        else:
            self.budget = size.limit - (self.ruler.reply or size.limit // _REPLY)
        self.kept = min(system.notes or self.budget // _REPLY, self.budget)
        if size.tokens >= self.budget:
            raise self._no_room("text", size.tokens)

    async def _plan(self) -> list[Any]:
        await self.set_budget()
        if await self._fits(self._whole()):
            return [self.budget, self.kept, True, [[0, len(self.task.text)]]]
        return [self.budget, self.kept, False, [list(one) for one in await self.cut()]]

    async def cut(self) -> list[tuple[int, int]]:
        """The offsets of the chunks."""
        text = self.task.text
        if await self._fits(self._whole()):
            return [(0, len(text))] if text else []
        tree = self.system.mode == "tree"

        async def fits(number: int, start: int, end: int) -> bool:
            room = self.budget if tree or number == 1 else self.budget - self.kept
            return await self._size(self._part(number, text[start:end], "")) <= room

        found = await LongText(text).chunks(fits)
        if isinstance(found, list):
            return found
        raise self._no_room("text", await self._size(self._part(2, "", "")), kept=not tree)

    async def _fitted(self, place: str, notes: str, render: Any) -> str:
        """A prompt with as much of the notes as there is room for."""
        if self.missing:
            parts = ", ".join(map(str, self.missing))
            which = f"Part {parts}" if len(self.missing) == 1 else f"Parts {parts}"
            notes = f"({which} of the text could not be read.)\n{notes}"

        async def fit() -> str | None:
            if await self._fits(render(notes)):
                return None
            found = await in_thread(shortened, notes, lambda some: run(self._fits(render(some)))) or ""
            if not found and not await self._fits(render("")):
                raise self._no_room("notes", await self._size(render("")))
            self.here.session.note(
                f"'{self.system.name}': notes were shortened from {len(notes):,} characters for '{place}'"
            )
            return found

        short = await self._learn("notes", {"place": place, "notes": _digest(notes)}, fit)
        return str(render(notes if short is None else short))

    async def _size(self, prompt: str) -> int:
        return (await self.ruler.size(prompt)).tokens

    async def _fits(self, prompt: str) -> bool:
        return await self._size(prompt) <= self.budget

    async def _learn(self, kind: str, request: Mapping[str, Any], find: Any) -> Any:
        """Returns the result of the tokenizer, which is recorded, so that a replay needs none."""
        system = self.system
        settings = [system.mode, system.budget, system.notes, self.ruler.reply]
        told = {"name": system.name, "model": self.ruler.model, "settings": settings, **request}
        return await self.here.session.effect(
            kind, unicode_only(told), find, effect="pure", key=self.here.path
        )

    def _no_room(self, what: str, size: int, *, kept: bool = False) -> ContextTooLong:
        given = "" if self.system.budget is None else " (budget=)"
        return ContextTooLong(
            f"'{self.system.name}': no room is left for {what}: the prompt has {size:,} tokens without it, and may have "
            f"{self.budget:,}{given}" + (f", of which {self.kept:,} are kept for notes" if kept else ""),
            hint="Shorten initial_prompt or the system prompt, raise budget=, lower notes= or max_tokens, or take a model with "
            "a longer context.",
        )

    # --- words

    def _whole(self, text: str | None = None) -> str:
        return f"{self.task.prompt}\n\n{fenced_data(self.task.text if text is None else text, 'text')}"

    def _part(self, number: int, text: str, notes: str) -> str:
        before = ""
        if number > 1 and self.system.mode != "tree":
            before = f"\n\nNotes of the parts before it:\n{fenced_data(notes, 'notes')}"
        words = max(int(self.kept * _WORDS), 1)
        return (
            f"The task, for later: {self.task.prompt}\n\nThis is part {number} of a long text.{before}\n\n"
            f"{fenced_data(text, 'part')}\n\n"
            f"Do not do the task yet. Write notes for it, in at most {words} words: "
            + ("the notes so far, and " if before else "")
            + "whatever in this part matters for the task."
        )

    def _merging(self, notes: str) -> str:
        words = max(int(self.kept * _WORDS), 1)
        return (
            f"The task, for later: {self.task.prompt}\n\nThese are notes of several parts of a long text, in order.\n\n"
            f"{fenced_data(notes, 'notes')}\n\n"
            f"Do not do the task yet. Write them together, in at most {words} words, with whatever matters for the task."
        )

    def _last(self, notes: str, parts: int) -> str:
        return (
            f"{self.task.prompt}\n\nThe text is too long to be shown. These are notes of all of its {parts} parts.\n\n"
            f"{fenced_data(notes, 'notes')}"
        )


def _is_short(most: int, text: str) -> bool:
    return len(text) <= most


def _joined(*notes: str) -> str:
    return "\n\n".join(one for one in notes if one)


def _digest(text: str) -> str:
    return digest(text.encode("utf-8", "surrogatepass"))
