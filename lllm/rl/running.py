"""Running one rollout: setup, the agent call (or several, where the environment answers), and the rewards."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from lllm.core.canonical import digest_of
from lllm.core.jsonable import jsonable
from lllm.core.use import NONE, Use
from lllm.errors import CallError, EffectTimeout, LLMError, text_of
from lllm.handles import capabilities
from lllm.llm.agent import Agent
from lllm.llm.dialog import Dialog
from lllm.models.message import Message
from lllm.models.reply import Reply
from lllm.ports import LogStore
from lllm.rl import tools
from lllm.rl.conversation import messages_digest, opened, reply_start, with_opening
from lllm.rl.isolation.processes import ProcessLost
from lllm.rl.isolation.remote import Remote
from lllm.rl.items import Item
from lllm.rl.own_code import Thread, call
from lllm.rl.rollout import CUT, DONE, MISSING, Rollout, outcome
from lllm.rl.scoring import score_one
from lllm.rl.settings import settings_digest
from lllm.rl.states import close, state_record
from lllm.rl.values import prompt_messages, values_of
from lllm.session import Session, current
from lllm.steps.base import Step
from lllm.sync import finish, is_async

if TYPE_CHECKING:
    from lllm.rl.binding import Hook
    from lllm.rl.environment import RLEnv
    from lllm.steps.running import Here


class Task(NamedTuple):
    """A rollout that is to be done: the row, the number of the sample, its seed, and the version of the policy."""

    item: Item
    sample: int = 0
    seed: int = 0
    policy: str | None = None


def seed_of(run: Any, step: int, item: Item, sample: int) -> int:
    """Returns the seed of a rollout, which depends only on run, policy step, row and sample."""
    return int(digest_of([str(run), step, item.key, sample]).removeprefix("sha256:")[:8], 16) >> 1


class RolloutStep(Step):
    """A step that does one rollout of a policy in an environment, so that many rollouts are a batch, each with a session."""

    kind: ClassVar[str] = "rollout"
    takes = Task

    def __init__(self, env: RLEnv, policy: Any, overrides: Mapping[str, Any] | None = None) -> None:
        self.env = env
        self.policy = policy.with_(**overrides) if overrides and isinstance(policy, Agent) else policy
        self.name = env.name
        self.settings = settings_digest(env, self.policy)
        """The values that a logged rollout must share with this one to be read instead of being done."""
        self.seeds = _seeded(policy) if env.seeds is None else env.seeds

    async def _run(self, value: Task, here: Here) -> Rollout:
        running = Running(self.env, self.policy, value, here, seeds=self.seeds)
        token = tools.state.set(tools.NO_STATE)
        try:
            return await running.all()
        finally:
            tools.state.reset(token)
            await running.close()

    def told(self, value: Any) -> Any:
        return self.rollout(value).record()

    def rollout(self, value: Any) -> Rollout:
        """Returns the Rollout in a result of this step."""
        found: Rollout = value
        return found

    def with_rollout(self, value: Any, rollout: Rollout) -> Any:
        """Returns a result of this step with another Rollout in it."""
        return rollout

    def again(self, rollout: Rollout, store: LogStore) -> Any:
        """Returns the result of this step for a Rollout that is logged in the store."""
        return rollout


_NO_STATE: Final = (
    "its state was in the process that did the first rollout: one that goes on from the middle of that has none. "
    "Fork it from event 0"
)


class _Lost(Exception):
    """Something outside of the policy failed, so the rollout is missing. Its arguments are reason and detail."""


class Running:
    """A running rollout."""

    def __init__(self, env: RLEnv, policy: Any, task: Task, here: Here, *, seeds: bool = False) -> None:
        self.env, self.policy, self.task, self.here = env, policy, task, here
        self.session: Session = here.session
        self.seeds = seeds
        self.state: Any = None
        self.reply: Reply | None = None
        self.prompt = prompt_messages(task.item)
        self.messages: tuple[Message, ...] = ()
        self.turns = 0
        self.remote = None if env.isolation is None else Remote(env, task.seed)
        self._threads: dict[str, Thread] = {}
        self._is_set_up = False
        self._digested: tuple[tuple[Message, ...], str] = (), ""

    async def all(self) -> Rollout:
        """Does the rollout and returns it with its scores."""
        began = time.monotonic()
        status, reason, detail = DONE, None, None
        state: Any = None
        try:
            await self._set_up()
            status, reason, detail = await self._talk()
            await self._fetch_state()
            state = await self._state()
        except _Lost as lost:
            status, reason, detail = MISSING, lost.args[0], lost.args[1]
        found = Rollout(
            self.task.item,
            self.task.sample,
            status,
            reason,
            detail,
            self._completion(),
            self.messages,
            self.reply,
            self.turns,
            session=self.session.id if self.session.logs else None,
            seed=self.task.seed,
            policy=self.task.policy,
            state=self.state,
            state_record=state,
            use=_used(),
            seconds=time.monotonic() - began,
        )
        return await score_one(self.env.rewards, found, self.session, self.env.limits.score)

    async def pretended(
        self,
        make: Callable[[Item, list[str], int], str],
        answers: list[str],
        place: int,
        *,
        reference: bool = False,
    ) -> Rollout:
        """Does and scores a rollout whose replies come from `make` instead of a policy, for `check`. `reference`: the replies
        come from the environment's own reference, where it has one."""
        token = tools.state.set(tools.NO_STATE)
        item = self.task.item
        found = Rollout(item, status=DONE, turns=1)
        try:
            await self._set_up()
            text = make(item, answers, place)
            if reference and self.env.reference_hook is not None:
                text = (
                    _text(await self._hook(self.env.reference_hook, self.env.limits.step), "reference") or ""
                )
            self.messages = (Message("assistant", text),)
            self.reply = Reply(content=text)
            await self._fetch_state()
            found = replace(
                found, completion=text, messages=self.messages, reply=self.reply, state=self.state
            )
        except _Lost as lost:
            return replace(found, status=MISSING, reason=lost.args[0], detail=lost.args[1])
        finally:
            tools.state.reset(token)
            await self.close()
        return await score_one(self.env.rewards, found, self.session, self.env.limits.score)

    # --- the parts

    async def _set_up(self) -> None:
        env = self.env
        if env.setup_hook is not None:
            await self._hook(env.setup_hook, env.limits.setup, keep=self._has)
        tools.state.set(
            self.remote or self.state
        )  # None in a replay: what the tools returned is in the record

    def _has(self, state: Any) -> None:
        self.state = state

    async def _talk(self) -> tuple[str, str | None, str | None]:
        env, opening = self.env, None
        if env.opening_hook is not None:
            opening = _text(await self._hook(env.opening_hook, env.limits.step), "opening")
        asked = with_opening(self.task.item.prompt, opening)
        dialog: Dialog | None = None
        while True:
            left = None if env.max_turns is None else env.max_turns - self.turns
            if left is not None and left <= 0:
                return CUT, "turns", f"{self.turns} turns are used up"
            try:
                dialog = await self._ask(asked, dialog, left)
            except _Lost:
                raise
            except CallError as error:
                self._count(error.messages)
                return outcome(error)
            except LLMError as error:
                return outcome(error)
            finish = None if self.reply is None else self.reply.finish_reason
            if finish == "length":
                return CUT, "length", "the last reply was cut off by max_tokens"
            calls = self.reply is not None and self.reply.tool_calls
            if env.step_hook is None or (calls and not env.auto_execute_tools):
                return DONE, None, None
            answer = _text(await self._hook(env.step_hook, env.limits.step), "step")
            if answer is None or await self._done():
                return DONE, None, None
            asked = answer

    async def _done(self) -> bool:
        hook = self.env.done_hook
        return hook is not None and bool(await self._hook(hook, self.env.limits.step))

    async def _ask(self, asked: Any, dialog: Dialog | None, left: int | None) -> Dialog | None:
        policy = self.policy
        if not isinstance(policy, Agent):
            if dialog is not None:
                raise _Lost("policy", "the environment answers, and a function cannot be asked again")
            try:
                with Session.outside():
                    value = await call(policy, asked)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                raise _Lost(
                    "policy", f"the policy raised {type(error).__name__}: {text_of(error)}"
                ) from error
            text = value.content if isinstance(value, Reply) else str(value)
            self.reply = value if isinstance(value, Reply) else Reply(content=text)
            self.turns += 1
            self.messages = (*self.messages, Message("assistant", text))
            return None
        if dialog is None:
            dialog = opened(policy, asked)
        else:
            dialog.append(Message("user", asked))
        more: dict[str, Any] = {}
        if left is not None:
            own = policy.limits.max_model_calls
            more["max_model_calls"] = left if own is None else min(left, own)
        if self.seeds:
            more["seed"] = (self.task.seed + self.turns) & 0x7FFFFFFF
        self.reply = reply = await policy.acall(dialog, **more)
        if reply.messages is not None:
            self._count(tuple(reply.messages))
        return dialog

    def _count(self, messages: tuple[Message, ...]) -> None:
        """Notes the current messages of the conversation."""
        start = reply_start(messages, self.prompt)
        self.messages = messages[start:]
        self.turns = sum(1 for one in self.messages if one.role == "assistant")

    def _completion(self) -> str:
        for one in reversed(self.messages):
            if one.role == "assistant":
                return one.text
        return "" if self.reply is None else self.reply.content

    # --- code of the environment

    def _after(self) -> str:
        """Returns a digest of what was said so far: code of the environment answers something else otherwise."""
        if self._digested[0] is not self.messages:
            self._digested = self.messages, messages_digest(self.messages)
        return self._digested[1]

    async def _fetch_state(self) -> None:
        """Fetches the state of an isolated environment, as JSON. Raises _Lost where its process is gone, since the results of
        tools after that are errors of the process and not of the policy."""
        if self.remote is None:
            return
        try:
            async with asyncio.timeout(self.env.limits.step):
                self.state = await self.remote.state()
        except (ProcessLost, TimeoutError) as error:
            raise _Lost("process", self.remote.lost or str(error)) from error

    async def _state(self) -> Any:
        """Returns the final state as JSON, for later rewards. Recorded, since a replay has no state."""
        if self.env.setup_hook is None:
            return None

        async def work() -> Any:
            if not self._is_set_up:
                raise RuntimeError(_NO_STATE)
            return state_record(self.state)

        request = {"row": self.task.item.key, "after": self._after()}
        try:
            return await self.session.effect("rollout.state", request, work, effect="pure")
        except LLMError:
            raise
        except Exception as error:
            raise _Lost("state", text_of(error)) from error

    def values(self) -> dict[str, Any]:
        """Returns the values that hooks and rewards can receive."""
        return values_of(
            self.task.item, self.state, self._completion(), self.messages, self.reply, self.turns
        )

    async def _hook(self, hook: Hook, limit: float | None, keep: Callable[[Any], Any] | None = None) -> Any:
        """Calls a hook, and records and returns its result. `keep`: receives a result that need not be JSON, and returns the
        value to record."""
        item = self.task.item
        known = {
            **self.values(),
            "rng": random.Random(self.task.seed),
            "seed": self.task.seed,
        }
        try:
            arguments = hook.arguments(known, item.columns)
        except KeyError as error:
            raise _Lost(
                hook.name, f"{hook.name} needs {error}, which row {item.index} does not have"
            ) from None

        function: Any = hook.function
        if self.remote is None and not is_async(function):
            function = Thread(function, self._late if keep is not None else _drop)
            self._threads[hook.name] = function

        async def work() -> Any:
            self._is_set_up = self._is_set_up or hook.name == "setup"
            if self.remote is not None:
                return await self.remote.hook(hook.name, arguments)
            value = await call(function, **arguments)
            return jsonable(value) if keep is None else keep(value)

        try:
            return await self.session.effect(
                f"rollout.{hook.name}",
                {"row": item.key, "turn": self.turns, "after": self._after()},
                work,
                effect="pure",
                timeout=limit,
            )
        except EffectTimeout as error:
            self._leave(hook.name, keep)
            raise _Lost(hook.name, f"{hook.name} did not return within {limit:g} s") from error
        except asyncio.CancelledError:
            self._leave(hook.name, keep)
            raise
        except ProcessLost as error:
            raise _Lost("process", error.message) from error
        except Exception as error:
            raise _Lost(hook.name, f"{hook.name} raised {type(error).__name__}: {text_of(error)}") from error

    def _leave(self, name: str, keep: Callable[[Any], Any] | None) -> None:
        """Abandons a hook. A state that it has made by now is closed with the rollout; one that it makes later is closed
        then."""
        thread = self._threads.get(name)
        if thread is not None and (value := thread.leave()) is not None and keep is not None:
            keep(value)

    def _late(self, state: Any) -> None:
        """Closes a state that was made after its rollout had ended. Runs in the thread of `setup`."""

        async def ending() -> None:
            if (wrong := await close(state, self.env.limits.teardown)) is not None:
                self.env.leaks.append(wrong)

        finish(ending())

    async def close(self) -> None:
        """Calls the `close` or `aclose` of the state, if it has one."""
        closing = (
            self.remote.close() if self.remote is not None else close(self.state, self.env.limits.teardown)
        )
        if (wrong := await closing) is not None:
            self.env.leaks.append(wrong)
        for name, thread in self._threads.items():
            if thread.running:
                self.env.leaks.append(
                    f"{name} still runs, in a thread, which cannot be stopped; a process can: isolated=True"
                )


def _drop(value: Any) -> None:
    """Ignores the result of a hook that comes too late."""


def _used() -> Use:
    """Returns the use of models by the running step: by the rollout's agent calls and all calls within them."""
    scope = current.get()
    return NONE if scope is None or scope.ledger is None else scope.ledger.total


def _seeded(policy: Any) -> bool:
    """Returns True if the rollout's seed is sent: to a model in this process that takes one."""
    if not isinstance(policy, Agent):
        return False
    found = capabilities(policy._settings.backend)
    return bool(found.seed and found.local)


def _text(value: Any, what: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise _Lost(what, f"{what} returned {type(value).__name__}, and must return a text or None")
