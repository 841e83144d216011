"""MultiCallSystem: the same prompt, asked several times at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lllm.core.use import Use
from lllm.errors import ConfigError, StageError
from lllm.llm.agent import Agent
from lllm.llm.checks import parse_count
from lllm.models.message import Message
from lllm.models.reply import Reply
from lllm.ports import Delta, Restart, TextDelta
from lllm.steps.results import Stages, Text
from lllm.steps.side_by_side import ERRORS, checked
from lllm.steps.streams import shown_by
from lllm.sync import run
from lllm.systems.base import Call, System, all_calls, no_other_names
from lllm.systems.output_files import OutputFile, make_folder, parse_name

if TYPE_CHECKING:
    from lllm.steps.running import Here


class Calls(dict[str, Any]):
    """The results of several calls, as `{"call_1": ...}`: the path of each reply's file, or its text where no `output_dir` was
    given; a StageError where a call failed.

    Attributes:
        replies: the replies, by the same names; also of a call whose file could not be written. failed: the errors.
        picked: the text that `pick` chose, or None. stages: the calls, in order; `use` is what they used together.
        session: the id of the session.
    """

    def __init__(
        self, items: Mapping[str, Any], replies: Mapping[str, Reply], picked: str | None, here: Here
    ) -> None:
        super().__init__(items)
        self.replies = dict(replies)
        self.picked = picked
        self.stages = Stages(here.results)
        self.session = here.session.id

    @property
    def failed(self) -> dict[str, StageError]:
        return {name: item for name, item in self.items() if isinstance(item, StageError)}

    @property
    def texts(self) -> list[str]:
        """The texts of the replies."""
        return [reply.content for reply in self.replies.values()]

    @property
    def use(self) -> Use:
        return self.stages.use


@dataclass(frozen=True)
class _Task:
    prompt: str
    count: int
    output_dir: str | None
    base_filename: str
    settings: Mapping[str, Any]
    whole: bool
    """Whether the result is Calls; else, as for the next stage of a chain, a text."""


class MultiCallSystem(System):
    """Asks a model the same thing several times at once, and keeps all replies.

        system = MultiCallSystem("drafts", model)
        files = await system.run("Write a poem.", 5, output_dir="poems", base_filename="poem")
        # {"call_1": "poems/poem_1.txt", ...}; blocking: system("Write a poem.", 5, ...)

    Each reply is written as it comes, and has its name once it is whole; no file is ever overwritten. A call that fails, or
    whose file cannot be written, is a StageError in its place with its `index`, and the others finish. A `seed` is another one
    for each call: seed, seed + 1, ...

    In a chain it asks `num_calls` times, and gives what `pick` chose, else all replies as one text.

    Args:
        system_id: its name. model: as for Agent; or an Agent.
        limit: calls that are under way at once.
        errors: as of `parallel`: `keep`, `raise`, `drop`.
        pick: chooses one of the texts: `vote()`, `best_of(score)`, or a function of the list; its result is `.picked`.
        num_calls, output_dir, base_filename: what `run` is given where it says nothing, and in a chain.
        settings: everything else of Agent: temperature, max_tokens, ...
    """

    gives = str

    def __init__(
        self,
        system_id: str,
        model: Any = None,
        *,
        limit: int = 16,
        errors: str = "keep",
        pick: Callable[[list[str]], Any] | None = None,
        num_calls: int = 3,
        output_dir: str | Path | None = None,
        base_filename: str = "output",
        **settings: Any,
    ) -> None:
        super().__init__(system_id, model, **settings)
        self.limit = parse_count("limit", limit)
        self.errors = checked(errors, ERRORS, "errors")
        if pick is not None and not callable(pick):
            raise ConfigError(f"pick must be a function of the texts, got {type(pick).__name__}")
        self.pick = pick
        self.num_calls = parse_count("num_calls", num_calls)
        self.output_dir = output_dir
        self.base_filename = base_filename
        parse_name(base_filename)

    async def run(  # type: ignore[override]
        self,
        prompt: str,
        num_calls: int | None = None,
        output_dir: str | Path | None = None,
        base_filename: str | None = None,
        **kwargs: Any,
    ) -> Calls:
        """The replies to a prompt: a dict, `{"call_1": path or text, ...}`, with `.replies`, `.failed` and `.picked`.

        Args:
            num_calls: how often it is asked. output_dir: a folder for the replies, made if it is missing; without one the
                dict has the texts. base_filename: `poem` makes `poem_1.txt`, `poem.md` makes `poem_1.md`; a name that exists
                gets a number.
            kwargs: settings of the calls: temperature, max_tokens, ...

        Raises:
            ConfigError: a value that cannot be; nothing has been asked then. StageError: `errors` is `raise`.
        """
        task = self._task(prompt, num_calls, output_dir, base_filename, kwargs, whole=True)
        calls: Calls = await self._result(task)
        return calls

    def __call__(self, value: Any, *args: Any, **more: Any) -> Any:
        """`run` for blocking code. Called with one value, it is a step: with a prompt, or a list of them."""
        return run(self.acall(value, *args, **more))

    async def acall(self, value: Any, *args: Any, **more: Any) -> Any:
        """`__call__` for async code."""
        if args or "num_calls" in more:
            return await self.run(value, *args, **more)
        return await super().acall(value, **more)

    def receive(self, value: Any) -> _Task:
        if isinstance(value, _Task):
            return value
        return self._task(getattr(value, "content", value), None, None, None, {}, whole=False)

    def _task(
        self, prompt: Any, count: Any, folder: Any, base: Any, settings: Mapping[str, Any], *, whole: bool
    ) -> _Task:
        no_other_names(type(self), settings)  # before anything is asked
        if not isinstance(prompt, str):
            raise ConfigError(f"'{self.name}' takes a prompt that is text, got {type(prompt).__name__}")
        base = self.base_filename if base is None else base
        parse_name(base)
        folder = self.output_dir if folder is None else folder
        if folder is not None and not isinstance(folder, str | Path):
            raise ConfigError(f"output_dir must be a path, got {type(folder).__name__}")
        count = parse_count("num_calls", self.num_calls if count is None else count)
        return _Task(prompt, count, None if folder is None else str(folder), base, dict(settings), whole)

    async def _run(self, value: _Task, here: Here) -> Any:
        if value.output_dir is not None and here.session.acts:
            make_folder(Path(value.output_dir))
        steps = [_Draft(self._of_call(value, n), n, value) for n in range(value.count)]
        jobs = [(f"call {n}", step, value.prompt) for n, step in enumerate(steps, 1)]
        results = dict(await all_calls(here, jobs, errors=self.errors, limit=self.limit))
        items = {place.replace(" ", "_"): result for place, result in results.items()}
        replies = {f"call_{n}": step.reply for n, step in enumerate(steps, 1) if step.reply is not None}
        picked = None
        if self.pick is not None:
            if not replies:
                raise next(item for item in items.values() if isinstance(item, StageError))
            picked = await self._picked([reply.content for reply in replies.values()], here)
        calls = Calls(items, replies, picked, here)
        if value.whole:
            return calls
        if not replies and items:
            raise next(iter(calls.failed.values()))
        return Text.of(_together(calls.texts) if picked is None else picked, calls.stages)

    async def _picked(self, texts: list[str], here: Here) -> str:
        from lllm.steps.joins import Join

        found = await here.stage(Join(self.pick, name="pick"), texts, "pick", follow=False)
        return str(getattr(found, "content", found))

    def _of_call(self, task: _Task, number: int) -> Agent:
        settings = dict(task.settings)
        seed = settings.get("seed", self._agent._settings.sampling.get("seed"))
        if isinstance(seed, int) and not isinstance(seed, bool):
            settings["seed"] = seed + number
        return self._with(settings)


def _together(texts: list[str]) -> str:
    return "\n\n".join(f"{n}.\n{text}" for n, text in enumerate(texts, 1))


class _Draft(Call):
    """One of the calls, and its file."""

    def __init__(self, agent: Agent, index: int, task: _Task) -> None:
        super().__init__(agent)
        self.index = index
        self.reply: Reply | None = None
        self._task = task

    async def _asked_for(self, value: Any, here: Here) -> Any:
        if self._task.output_dir is None:
            self.reply = await self._reply(value, here, None)
            return self.reply.content
        stem, suffix = parse_name(self._task.base_filename)
        name = f"{stem}_{self.index + 1}"
        file = OutputFile(Path(self._task.output_dir), name, suffix)
        session = here.session
        try:
            self.reply = reply = await self._reply(value, here, file)
            put = partial(file.put, reply.content, again=session.rerun)
            asked = {"folder": self._task.output_dir, "name": f"{name}{suffix}"}
            return await session.effect(
                "write_file", asked, lambda: put(), effect="idempotent", key=here.path
            )
        finally:
            file.discard()

    async def _reply(self, value: Any, here: Here, file: OutputFile | None) -> Reply:
        shown = None if here.follow is None else shown_by(here.follow, here.path, self.name)
        follow: Callable[[str, Delta], None] | None = shown
        if file is not None:

            def follow(call: str, delta: Delta) -> None:
                if shown is not None:
                    shown(call, delta)
                if not here.session.acts:
                    return
                if isinstance(delta, TextDelta):
                    file.write(delta.text)
                elif isinstance(delta, Restart):
                    file.restart()

        more: dict[str, Any] = {} if follow is None else {"follow": follow}
        reply: Reply = await self.model.acall(Message("user", value), key=here.path, **more)
        return reply
