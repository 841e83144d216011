"""Random systems: agents, prompts, tools and a program around them, all of which follows from one number.

    system = System(17)
    recorded = system.record()              # runs it, in a log in memory
    system.replay(recorded)                 # and again, from the log alone

What the scripted model says follows from the request alone, so a run that is gone on with, or made again, ends as the first.
`print(System(17))` says what is in it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any, Final, NamedTuple
from unittest.mock import patch

from pydantic import BaseModel

import lllm.session
from lllm import Agent, AgentBase, LLMError, Prompt, ScriptedBackend, StreamWrapper, arecord, record
from lllm.config import load_config
from lllm.core import events as ev
from lllm.core.canonical import digest_of
from lllm.core.envelope import open_event
from lllm.core.jsonable import unicode_only
from lllm.errors import (
    AuthenticationError,
    CallError,
    ConnectionFailed,
    ParseError,
    RateLimitError,
    ServerError,
    StreamInterrupted,
)
from lllm.llm import connect
from lllm.log.memory import MemoryLog
from lllm.models.function import Function, ToolContext, tool
from lllm.models.message import FunctionCall, Message
from lllm.ports import LogStore, Request
from lllm.registry import registry
from lllm.replay import Report, replay_session
from lllm.replay.fork import Fork, fork_session
from lllm.replay.resume import Resumption, resume_session
from lllm.sync import run

TEXTS: Final = (
    "",
    "plain words",
    "ünïcödé – ßß",
    "日本語のテキスト",
    "\u202eright to left\u202c",
    "a null \x00 and a bell \x07",
    "{braces} {0} {task} %s ${HOME}",
    "<answer>a tag</answer> <answer>",
    '```json\n{"value": ',
    "a half pair \udc80",
    "\\ud800 \\n \\",
    "😀👩‍👩‍👧‍👦",
    "one\ntwo\r\nthree\u2028four\u0085",
    "\"quoted\" and 'quoted'",
    "\ufeffmark",
    "long " * 2000,
    "the key is sk-corpus-0123456789abcdef",
)
"""What people, models and tools say."""
SECRET: Final = ("CORPUS_API_KEY", "sk-corpus-0123456789abcdef")
WANTS: Final = ("text", "equals", "later", "xml", "md", "signal", "schema", "model", "explodes")
SCHEMA: Final = {
    "type": "object",
    "properties": {"value": {"type": "integer"}},
    "required": ["value"],
    "additionalProperties": False,
}


class Value(BaseModel):
    """A form of a reply."""

    value: int


class Asked(AssertionError):
    """A model was asked where nobody may ask one."""


class Recorded(NamedTuple):
    """A session, and what its program gave."""

    store: MemoryLog
    session: str
    outcome: Any

    def events(self) -> list[dict[str, Any]]:
        return [open_event(body) for body in self.store.read(self.session)]

    def cut(self, events: int) -> Recorded:
        """The log as a process leaves it that dies after so many events."""
        other = MemoryLog()
        other._sessions[self.session] = self.store._sessions[self.session][:events]
        other._blobs = dict(self.store._blobs)
        return self._replace(store=other)


class System:
    """A random system.

    Attributes:
        style: how its program is written: `async`, `sync`, `single` (one call, no session around it) or `configured`.
        steps: what the program does, by name.
        stops: whether something ends from outside what it does (a cancelled call, a stream closed early).
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        rng = Random(f"system {seed}")
        self.style = rng.choices(("async", "sync", "single", "configured"), (5, 2, 1, 2))[0]
        self.agents_count = rng.randint(1, 4)
        self.tools_count = rng.randint(0, 6)
        names = [name for name in STEPS for _ in range(STEPS[name][1])]
        self.steps = [rng.choice(names) for _ in range(rng.randint(1, 5))]
        if self.style == "single":
            self.steps = [rng.choice(("call", "prompt", "messages"))]
        self.ends = rng.choices(("returns", "raises", "exits"), (8, 1, 1))[0]
        self.faults = rng.random() < 0.4
        self.stop = asyncio.Event()
        self.failed: Counter[str] = Counter()

    def __repr__(self) -> str:
        parts = f"{self.agents_count} agents, {self.tools_count} tools, {self.steps}, {self.ends}"
        return f"System({self.seed}): {self.style}, {parts}"

    # --- what is done with it

    def timed(self) -> bool:
        """Whether its outcome depends on time, or on how often something was tried: a run that is gone on with may end
        otherwise."""
        limits = [self._settings(number) for number in range(self.agents_count)]
        if any(chosen.get("deadline", 5.0) < 1 for chosen in limits) or "leave" in self.steps:
            return True
        return self.faults

    def stopped_from_outside(self, kinds: Mapping[str, int]) -> bool:
        """Whether time, or somebody else, ended something: when it is made again that may come at another place."""
        return bool(
            kinds.get(ev.CANCELLED) or kinds.get(ev.LIMIT_REACHED) or "leave" in self.steps or self.timed()
        )

    def record(self) -> Recorded:
        """Runs it."""
        store = MemoryLog()
        with self._world() as backend:
            entry = self.entry(store, backend)
            with _Caught() as outcome:
                outcome.append(run(entry()) if asyncio.iscoroutinefunction(entry) else entry())
        (info,) = store.sessions()
        return Recorded(store, info.id, outcome[0])

    def replay(self, recorded: Recorded) -> Report:
        """Re-executes it. Whoever asks a model gets Asked."""
        with self._world(refuse=True) as backend:
            return replay_session(
                recorded.session, store=recorded.store, **self._again(recorded.store, backend)
            )

    def resume(self, recorded: Recorded, decide: Any = "retry") -> tuple[Any, Resumption | None]:
        """Goes on with it: the outcome, and how it went (None where the program raised)."""
        with self._world() as backend, _Caught() as outcome:
            done = resume_session(
                recorded.session, store=recorded.store, decide=decide, **self._again(recorded.store, backend)
            )
            return done.result, done
        return outcome[0], None

    def fork(self, recorded: Recorded, at: int | None = None, **more: Any) -> tuple[Any, Fork | None, int]:
        """Makes it again in a new session: the outcome, how it went, how many requests were sent."""
        with self._world() as backend:
            with _Caught() as outcome:
                done = fork_session(
                    recorded.session,
                    at=at,
                    store=recorded.store,
                    **more,
                    **self._again(recorded.store, backend),
                )
                return done.result, done, len(backend.requests)
            return outcome[0], None, len(backend.requests)

    def _again(self, store: LogStore, backend: ScriptedBackend) -> dict[str, Any]:
        if self.style == "configured":
            return {"config": self.config()}
        return {"entry": self.entry(store, backend)}

    @contextmanager
    def _world(self, refuse: bool = False) -> Iterator[ScriptedBackend]:
        """A time that passes evenly, a secret, a model by name, and a registry of its own."""
        self.failed.clear()
        ticks = iter(range(1_700_000_000_000_000, 1 << 62, 1000))
        backend = ScriptedBackend(_refuse if refuse else self.model, chunk=7, model="any")
        with (
            patch.object(lllm.clock.Clock, "__call__", lambda _: next(ticks)),
            patch.dict("os.environ", {SECRET[0]: SECRET[1]}),
            patch.dict(connect._open, {("scripted", "[]"): backend}, clear=True),
            registry.scope(),
        ):
            for made in self.tools(self.agents("scripted/any")):
                registry.add("tool", made.name, made, overwrite=True)
            for prompt in self.prompts():
                registry.add("prompt", prompt.path, prompt, overwrite=True)
            registry.add("agent", "corpus", self._system(), overwrite=True)
            yield backend

    # --- programs

    def entry(self, store: LogStore, backend: ScriptedBackend) -> Callable[[], Any]:
        """The program, as `lllm.replay_session(entry=...)` takes it."""
        name = f"corpus {self.seed}"

        async def asynchronous() -> Any:
            async with arecord(name, store=store, seed=self.seed):
                return await self._program(self.agents(backend))

        def blocking() -> Any:
            with record(name, store=store, seed=self.seed):
                return run(self._program(self.agents(backend)))

        async def single() -> Any:
            agents = self.agents(backend)
            for agent in agents:
                agent.store = store
            return await self._program(agents)

        async def configured() -> Any:
            return await registry.get("agent", "corpus")(self.config(), log_base=store).acall("the task")

        programs = {"async": asynchronous, "sync": blocking, "single": single, "configured": configured}
        return programs[self.style]

    def config(self) -> Any:
        """What the configured system is built from."""
        agents = {}
        for number in range(self.agents_count):
            settings = self._settings(number)
            agents[f"a{number}"] = {
                "model_name": "scripted/any",
                "system_prompt": f"You are a{number}.",
                "tools": [f"t{n}" for n in settings.pop("tools")],
                **settings,
            }
        return load_config({"agent_type": "corpus", "agent_configs": agents, "random_seed": self.seed})

    def _system(self) -> type[AgentBase]:
        outer = self

        if Random(f"kind {self.seed}").random() < 0.5:

            class Plain(AgentBase, register=False):
                agent_type = "corpus"

                def call(self, task: str, **more: Any) -> Any:
                    self.stream.write(task)
                    return run(outer._program(list(self.agents.values())))

            return Plain

        class Async(AgentBase, register=False):
            agent_type = "corpus"

            async def call(self, task: str, **more: Any) -> Any:
                with self.stream.status("working"):
                    return await outer._program(list(self.agents.values()))

        return Async

    async def _program(self, agents: list[Agent]) -> Any:
        out = []
        for number, name in enumerate(self.steps):
            rng = Random(f"step {self.seed} {number}")
            self.stop = asyncio.Event()
            try:
                out.append(await STEPS[name][0](self, rng, agents))
            except CallError as error:
                if self.style == "single":
                    raise
                out.append([type(error).__name__, error.reason])
        if self.ends == "raises":
            raise ValueError("the program is at its end")
        if self.ends == "exits":
            sys.exit(3)
        return out

    # --- agents, tools and prompts

    def agents(self, backend: ScriptedBackend | str) -> list[Agent]:
        """The agents: each has some of the tools, and may have those after it as tools."""
        made: list[Agent] = []
        for number in reversed(range(self.agents_count)):
            settings = self._settings(number)
            # a configuration does not say that agents are tools of others
            below = [
                agent
                for agent in (made if self.style != "configured" else ())
                if Random(f"below {self.seed} {number} {agent.name}").random() < 0.4
            ]
            tools = self.tools(made)
            own = [tools[n] for n in settings.pop("tools")]
            agent = Agent(
                f"a{number}",
                backend,
                f"You are a{number}.",
                tools=[*own, *below],
                approve=approve,
                **settings,
            )
            made.insert(0, agent)
        return made

    def _settings(self, number: int) -> dict[str, Any]:
        rng = Random(f"agent {self.seed} {number}")
        chosen: dict[str, Any] = {
            "tools": sorted(rng.sample(range(self.tools_count), rng.randint(0, self.tools_count))),
            "backoff_base": 0.0001,
            "backoff_cap": 0.001,
        }
        for name, chance, values in (
            ("max_exception_retry", 0.5, (0, 1, 2, 5)),
            ("max_interrupt_times", 0.5, (0, 1, 2, 8, None)),
            ("max_model_calls", 0.1, (1, 2, 5)),
            ("max_tokens_total", 0.1, (10, 500, 5000)),
            ("max_provider_retry", 0.3, (1, 2, 3)),
            ("max_llm_recall", 0.3, (1, 2)),
            ("deadline", 0.15, (0.004, 0.02, 5.0)),
            ("repeat_limit", 0.1, (20,)),
            ("temperature", 0.3, (0.0, 0.5)),
        ):
            if rng.random() < chance:
                chosen[name] = rng.choice(values)
        return chosen

    def tools(self, agents: list[Agent]) -> list[Function]:
        """The tools. Some ask one of `agents`."""
        return [self._tool(number, agents) for number in range(self.tools_count)]

    def _tool(self, number: int, agents: list[Agent]) -> Function:
        rng = Random(f"tool {self.seed} {number}")
        kind = rng.choice(list(TOOLS))
        options: dict[str, Any] = {
            "name": f"t{number}",
            "description": rng.choice(TEXTS)[:200].replace("\udc80", ""),
            "effect": rng.choice(("pure", "idempotent", "ask", "never")),
            "approval": rng.random() < 0.2,
            "concurrent": rng.random() < 0.7,
            "repeatable": rng.random() < 0.2,
            "timeout": 0.01 if kind == "hangs" else 60.0,
        }
        helper = rng.choice(agents) if agents else None
        shape = _shape(kind)
        made = replace(shape, call=TOOLS[kind](self, f"t{number}", helper), **options)
        made.__dict__["plan"] = shape.plan
        return made

    def prompts(self) -> list[Prompt]:
        """One prompt of every kind, with handlers."""
        return [self._prompt(want) for want in WANTS]

    def _prompt(self, want: str) -> Prompt:
        rng = Random(f"prompt {self.seed} {want}")
        handlers: dict[str, tuple[Any, ...]] = {
            "exception_prompt": (
                None,
                "Wrong: {errors}. Once more, {task}.",
                _handle,
                _handle_later,
                _handle_badly,
            ),
            "interrupt_prompt": (None, None, "They gave {results}", _handle),
            "final_prompt": (None, "The end, {task}.", _handle_later),
        }
        chosen: dict[str, Any] = {
            key: rng.choices(values, [3] * (len(values) - 1) + [1])[0] for key, values in handlers.items()
        }
        return Prompt(f"corpus/{want}", f"Do {{task}}. [want:{want}]", **chosen, **FORMS[want])

    # --- the model

    def model(self, request: Request) -> Any:
        """What the model says: it follows from the request, but for a fault that is there once."""
        key = digest_of(unicode_only([message.record() for message in request.messages]))
        rng = Random(f"reply {self.seed} {key} {len(request.tools)}")
        if self.faults and rng.random() < 0.25:
            fault = rng.choice(FAULTS)
            self.failed[key] += 1
            if self.failed[key] <= rng.randint(1, 2) or rng.random() < 0.1:
                return fault
        said = [message.text for message in request.messages]
        want = next(
            (text.rpartition("[want:")[2].partition("]")[0] for text in reversed(said) if "[want:" in text),
            "",
        )
        rounds = sum(1 for message in request.messages if message.tool_calls)
        if request.tools and rng.random() < 0.7 - 0.12 * rounds:
            names = [spec["function"]["name"] for spec in request.tools]
            calls = [_call(rng, names, rounds, n) for n in range(rng.choice((1, 1, 2, 3)))]
            return {"content": rng.choice(TEXTS[:4]), "tool_calls": calls}
        text = GOOD[want](rng) if rng.random() < 0.65 else rng.choice(TEXTS)
        reply: dict[str, Any] = {"content": text}
        if rng.random() < 0.1:
            reply["finish_reason"] = rng.choice(("length", "content_filter", "stop"))
        if rng.random() < 0.05:
            reply["refusal"] = "I would rather not"
        if rng.random() < 0.2:
            reply["thinking"] = rng.choice(TEXTS)
        if rng.random() < 0.2:
            reply["usage"] = {"prompt": rng.randint(0, 900), "completion": rng.randint(0, 99)}
            reply["model"] = "gpt-4o"
        if request.sampling.get("logprobs"):
            reply["logprobs"] = [
                {"token": "yes", "logprob": -0.25, "top": [{"token": "no", "logprob": -1.5}]}
            ]
        if rng.random() < 0.1:
            reply["token_ids"], reply["prompt_token_ids"] = [1, 2, 3], (4, 5)
        return reply


def _refuse(request: Request) -> Any:
    raise Asked(f"a model was asked: {request.messages[-1].text[:200]}")


class _Caught(list[Any]):
    """What a program raises is its outcome, but for what lllm says of the log."""

    def __enter__(self) -> _Caught:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        told = isinstance(error, CallError | SystemExit) or (
            isinstance(error, ValueError) and not isinstance(error, LLMError)
        )
        if told:
            self.append([type(error).__name__, getattr(error, "reason", str(error))])
        return told


def approve(call: FunctionCall) -> Any:
    """Somebody who is asked."""
    chosen = Random(call.arguments).choice((True, True, True, False, "not today", ValueError("not there")))
    if isinstance(chosen, Exception):
        raise chosen
    return chosen


def _call(rng: Random, names: list[str], rounds: int, number: int) -> FunctionCall:
    name = rng.choice(names)
    given: dict[str, Any] = {"n": rng.randint(0, 5), "text": rng.choice(TEXTS[:-2])}
    if name.startswith("a"):
        given = {"task": f"{rng.choice(TEXTS[:4])} {rounds}"}
    arguments = json.dumps(given)
    if rng.random() < 0.08:
        arguments = rng.choice(("{", "[]", "", '{"n": "no number"}', '{"unknown": 1}'))
    if rng.random() < 0.04:
        name = "nobody"
    return FunctionCall(f"call_{rounds}_{number if rng.random() < 0.95 else 0}", name, arguments)


FAULTS: Final = (
    RateLimitError("too many", status=429, retry_after=0.0),
    ServerError("it broke", status=503, body="<html>"),
    ConnectionFailed("reset"),
    StreamInterrupted("dropped", partial="half a rep"),
    AuthenticationError("no key sk-corpus-0123456789abcdef", status=401),
    ValueError("a backend that breaks its contract"),
)

GOOD: Final[Mapping[str, Callable[[Random], str]]] = {
    "": lambda rng: rng.choice(TEXTS),
    "text": lambda rng: rng.choice(TEXTS),
    "equals": lambda rng: f"answer = {rng.choice(TEXTS)}",
    "later": lambda rng: f"answer = {rng.randint(0, 9)}",
    "xml": lambda rng: f"So <answer>{rng.choice(TEXTS)}</answer>",
    "md": lambda rng: f"So\n```python\n{rng.randint(0, 9)}\n```\n",
    "signal": lambda rng: rng.choice(("<done>", "nothing", "<done/> yes")),
    "schema": lambda rng: json.dumps({"value": rng.randint(0, 9)}),
    "model": lambda rng: f'```json\n{{"value": {rng.randint(0, 9)}}}\n```',
    "explodes": lambda rng: rng.choice(("fine", "bang")),
}
"""A reply that a prompt of each kind takes."""


# --- parsers and handlers


def _equals(content: str) -> str:
    if "=" not in content:
        raise ParseError(f"no equals sign in {content[:50]!r}")
    return content.partition("=")[2].strip()


async def _later(content: str, task: str) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"task": task[:20], "value": _equals(content)}


def _explodes(content: str) -> str:
    if "bang" in content:
        raise ZeroDivisionError(content)
    return content


def _handle(context: Any) -> str:
    return f"{context.kind} {context.attempt}: {len(context.errors)} {len(context.results)}"


async def _handle_later(context: Any) -> str:
    await asyncio.sleep(0)
    return f"later, {_handle(context)}"


def _handle_badly(context: Any) -> str:
    raise LookupError("a handler that fails")


FORMS: Final[Mapping[str, dict[str, Any]]] = {
    "text": {},
    "equals": {"parser": _equals},
    "later": {"parser": _later},
    "xml": {"required_xml_tags": ("answer",), "xml_tags": ("note",)},
    "md": {"required_md_tags": ("python",)},
    "signal": {"signal_tags": ("done",)},
    "schema": {"format": SCHEMA},
    "model": {"format": Value},
    "explodes": {"parser": _explodes},
}


# --- tools


def _plain(system: System, name: str, helper: Agent | None) -> Any:
    def work(n: int, text: str = "") -> str:
        return f"{name} {n} {text}"

    return work


def _async(system: System, name: str, helper: Agent | None) -> Any:
    async def work(n: int, text: str = "") -> dict[str, Any]:
        await asyncio.sleep(0.0005 * n)
        return {"n": n, "text": text, "more": [1.5, None, True]}

    return work


def _raising(system: System, name: str, helper: Agent | None) -> Any:
    def work(n: int, text: str = "") -> int:
        if n == 0:
            sys.exit(text)
        if n == 1:
            raise asyncio.CancelledError
        raise ValueError(text)

    return work


def _hangs(system: System, name: str, helper: Agent | None) -> Any:
    async def work(n: int, text: str = "") -> None:
        await asyncio.sleep(60 if n % 2 else 0)

    return work


def _says(system: System, name: str, helper: Agent | None) -> Any:
    def work(n: int, text: str = "") -> str:
        return TEXTS[n]

    return work


def _large(system: System, name: str, helper: Agent | None) -> Any:
    def work(n: int, text: str = "") -> str:
        return f"{n} {text} " * 3000

    return work


def _keyed(system: System, name: str, helper: Agent | None) -> Any:
    async def work(n: int, context: ToolContext, text: str = "") -> str:
        return f"done under {str(context.idempotency_key).partition('/')[2]}"

    return work


def _shows(system: System, name: str, helper: Agent | None) -> Any:
    def work(n: int, text: str = "") -> str:
        stream = StreamWrapper()
        with stream.spinner(name) as spinner:
            spinner.write(n, text)
        return "shown"

    return work


def _asks(system: System, name: str, helper: Agent | None) -> Any:
    async def work(n: int, text: str = "") -> str:
        if helper is None:
            return "nobody is there"
        return (await helper.acall(f"{name} asks {n}")).content

    return work


def _asks_blocking(system: System, name: str, helper: Agent | None) -> Any:
    def work(n: int, text: str = "") -> str:
        if helper is None:
            return "nobody is there"
        return helper.call("corpus/equals", {"task": f"{name} asks {n}"}).content

    return work


def _asks_twice(system: System, name: str, helper: Agent | None) -> Any:
    async def work(n: int, text: str = "") -> str:
        if helper is None:
            return "nobody is there"
        both = await asyncio.gather(
            helper.acall(f"left {n}"), helper.acall(f"right {n}"), return_exceptions=True
        )
        return " ".join(type(one).__name__ for one in both)

    return work


def _stops(system: System, name: str, helper: Agent | None) -> Any:
    async def work(n: int, text: str = "") -> str:
        if n < 3:
            return "it goes on"
        system.stop.set()
        for _ in range(50):  # turns, and not a time alone: whoever stops it needs some
            await asyncio.sleep(0.001)
        return "nobody stopped it"

    return work


TOOLS: Final[Mapping[str, Callable[[System, str, Agent | None], Any]]] = {
    "plain": _plain,
    "async": _async,
    "raising": _raising,
    "hangs": _hangs,
    "says": _says,
    "large": _large,
    "keyed": _keyed,
    "shows": _shows,
    "asks": _asks,
    "asks blocking": _asks_blocking,
    "asks twice": _asks_twice,
    "stops": _stops,
}


@cache
def _shape(kind: str) -> Function:
    """A tool of a kind, whose signature is read once."""
    made: Function = tool(TOOLS[kind](System(0), kind, None))
    return made


# --- steps of a program


def _task(rng: Random) -> dict[str, Any]:
    return {"task": rng.choice(TEXTS)}


def _path(rng: Random) -> str:
    return f"corpus/{rng.choice(WANTS)}"


async def _step_call(system: System, rng: Random, agents: list[Agent]) -> Any:
    return (await rng.choice(agents).acall(rng.choice(TEXTS[1:]))).content


async def _step_prompt(system: System, rng: Random, agents: list[Agent]) -> Any:
    reply = await rng.choice(agents).acall(_path(rng), _task(rng))
    return [reply.content, repr(reply.parsed)]


async def _step_override(system: System, rng: Random, agents: list[Agent]) -> Any:
    more: dict[str, Any] = rng.choice(
        ({"temperature": 0.1}, {"tools": []}, {"max_exception_retry": 0}, {"system_prompt": "You are b."})
    )
    return (await rng.choice(agents).acall(_path(rng), _task(rng), **more)).content


async def _step_messages(system: System, rng: Random, agents: list[Agent]) -> Any:
    given = [
        Message("user", rng.choice(TEXTS)),
        Message("assistant", "yes?"),
        Message("user", rng.choice(TEXTS)),
    ]
    return (await rng.choice(agents).acall(given)).content


async def _step_dialog(system: System, rng: Random, agents: list[Agent]) -> Any:
    agent = rng.choice(agents)
    dialog = agent.init_dialog()
    out: list[Any] = []
    for turn in range(rng.randint(2, 4)):
        agent.send_message(dialog, _path(rng), _task(rng))
        try:
            out.append((await agent.acall(dialog)).content)
        except CallError as error:
            out.append(error.reason)
            dialog = dialog.fork()
            dialog.unsent, dialog.prompt = [], None
            if turn == 0:
                dialog = agent.init_dialog()
    return out


async def _step_forks(system: System, rng: Random, agents: list[Agent]) -> Any:
    agent, other = rng.choice(agents), rng.choice(agents)
    dialog = agent.init_dialog().append("begin")
    await agent.acall(dialog)
    left, right = dialog.fork().append("left"), dialog.fork().append("right")
    return await _both(agent.acall(left), other.acall(right))


async def _step_gather(system: System, rng: Random, agents: list[Agent]) -> Any:
    calls = [
        rng.choice(agents).acall(_path(rng), {"task": rng.choice(("same", "other"))})
        for _ in range(rng.randint(2, 4))
    ]
    return await _both(*calls)


async def _both(*calls: Awaitable[Any]) -> Any:
    out = await asyncio.gather(*calls, return_exceptions=True)
    for one in out:
        if isinstance(one, BaseException) and not isinstance(one, CallError):
            raise one
    return [getattr(one, "reason", None) or getattr(one, "content", "") for one in out]


async def _step_stream(system: System, rng: Random, agents: list[Agent]) -> Any:
    last: Any = None
    async for piece in rng.choice(agents).astream(_path(rng), _task(rng)):
        last = piece
    return last.reply.content


async def _step_leave(system: System, rng: Random, agents: list[Agent]) -> Any:
    async with aclosing(rng.choice(agents).astream(_path(rng), _task(rng))) as pieces:
        async for _ in pieces:
            break


async def _step_follow(system: System, rng: Random, agents: list[Agent]) -> Any:
    seen: list[Any] = []
    reply = await rng.choice(agents).acall(
        _path(rng), _task(rng), follow=lambda call, delta: seen.append(delta)
    )
    return reply.content


async def _step_show(system: System, rng: Random, agents: list[Agent]) -> Any:
    stream = StreamWrapper()
    stream.write(rng.choice(TEXTS), {"a": [1, 2]})
    with stream.expander("more") as more:
        more.code("x = 1", language="python")
        stream.progress(0.5)
    left, right = stream.columns(2)
    left.markdown("**left**")
    right.metric("m", 3)


async def _step_thread(system: System, rng: Random, agents: list[Agent]) -> Any:
    agent, path, task = rng.choice(agents), _path(rng), _task(rng)
    return (await asyncio.to_thread(agent.call, path, task)).content


async def _step_classify(system: System, rng: Random, agents: list[Agent]) -> Any:
    return await rng.choice(agents).aclassify(rng.choice(TEXTS[1:]), ["yes", "no"])


async def _step_cancel(system: System, rng: Random, agents: list[Agent]) -> Any:
    agent = rng.choice(agents)
    work = asyncio.ensure_future(agent.acall(rng.choice(TEXTS[1:])))
    stop = asyncio.ensure_future(system.stop.wait())
    await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
    work.cancel()
    stop.cancel()
    await asyncio.wait((work, stop))
    if work.cancelled():
        return "cancelled"
    if isinstance(error := work.exception(), CallError):
        return error.reason
    return work.result().content


STEPS: Final[Mapping[str, tuple[Callable[[System, Random, list[Agent]], Awaitable[Any]], int]]] = {
    "call": (_step_call, 2),
    "prompt": (_step_prompt, 4),
    "override": (_step_override, 1),
    "messages": (_step_messages, 1),
    "dialog": (_step_dialog, 2),
    "forks": (_step_forks, 1),
    "gather": (_step_gather, 2),
    "stream": (_step_stream, 1),
    "leave": (_step_leave, 1),
    "follow": (_step_follow, 1),
    "show": (_step_show, 1),
    "thread": (_step_thread, 1),
    "classify": (_step_classify, 1),
    "cancel": (_step_cancel, 1),
}
"""What a program may do, and how often beside the others."""
