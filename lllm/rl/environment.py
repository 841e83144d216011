"""RLEnv: an environment to try and train a policy in, made of a dataset, rewards, tools and a turn limit.

env = RLEnv(rows, rewards=[correct], tools=[calculator], max_turns=4)
env("embedded")              # all rows: an Evaluation
env(agent, "What is 3*4?")   # one rollout of an agent as it is deployed
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from lllm.errors import ConfigError, listing
from lllm.llm.agent import Agent
from lllm.llm.checks import parse_count
from lllm.llm.model import LLM
from lllm.llm.project import default_store
from lllm.models.function import Function
from lllm.rl.batches import roll_out
from lllm.rl.binding import Hook, hook
from lllm.rl.evaluation import Evaluation
from lllm.rl.isolation.plan import Plan, plan_of
from lllm.rl.isolation.processes import SharedProcesses
from lllm.rl.isolation.remote import remote_tools
from lllm.rl.items import Item, Items, select_items
from lllm.rl.programs import describe
from lllm.rl.reading import read_rollout, rollout_sessions
from lllm.rl.rewards import bind, methods_of, number_of, rewards_of
from lllm.rl.rollout import Rollout
from lllm.rl.running import RolloutStep, Task, seed_of
from lllm.rl.scoring import rescored
from lllm.rl.selection.best_of import BestOf
from lllm.rl.tools import check_names, tools_of
from lllm.rl.values import HOOKS
from lllm.sync import run as run_now

if TYPE_CHECKING:
    from lllm.rl.checking import Check


class StageLimits(NamedTuple):
    """Time limits in seconds for the code of an environment; None for no limit. A rollout whose `setup` or `step` takes longer
    is missing."""

    setup: float | None = 60.0
    step: float | None = 60.0
    score: float | None = 60.0
    teardown: float | None = 30.0


CUTS = {
    "score": "a rollout that ran into a limit is scored like any other",
    "mask": "it is scored, and no training row is made of it",
}


OF_CLASS: Final[Any] = type("OfClass", (), {"__repr__": lambda _: "what the class says"})()
"""Stands for an argument that was not given, where None has a meaning."""


class RLEnv:
    """An environment: rows with prompts for a policy, and rewards for its rollouts.

    A rollout is the agent call of deployment: the same machine, tools, repairs and log. It has a session of its own.

    Args:
        dataset: a list of dicts, a `Dataset` of Hugging Face, an iterable, or the path of a JSONL file; see Items. The policy
            sees only `prompt` (or `messages`).
        rewards: functions whose parameters name the values that they get; see `lllm.rl.rewards`. Methods of a subclass that
            `@reward` marks come after them.
        weights: of the rewards, as a list in their order or as a mapping by name; 1.0 by default.
        tools: functions, Functions and proxies' endpoints. A model has these tools, an agent has them beside its own. See
            `lllm.rl.tools`.
        system_prompt: for policies that are models; an agent keeps its own.
        max_turns: the largest number of the policy's replies in a rollout, 8 by default; a rollout that has used them up is
            cut. None: no limit. The limits of an agent apply, too.
        auto_execute_tools: False: a reply that calls tools ends the rollout, and the tools do not run.
        setup: a function or a class, called once per rollout; its result is the state of the rollout.
        opening: a function that returns a text, which is added to the prompt.
        step: a function that is called at the end of each agent call, with its last reply. The text that it returns is the
            environment's answer, to which the policy replies; None ends the rollout.
        done: a function that is called after a `step` with an answer; True ends the rollout without asking the policy again.
        reference: a function that returns the last reply of a correct rollout, and changes the state as such a rollout does;
            by default the row's answer. Used by `check`.
        cut: `score` (the default) or `mask`, see CUTS.
        limits: time limits in seconds, see StageLimits.
        isolated: True: setup, opening, step, done, reference and tools run in one process per rollout, which is killed when it
            exceeds a time limit. That process must find them by their names. Otherwise `package.module:name` of an RLEnv, a
            subclass, or a function without arguments that makes the environment. Rewards get the state as JSON.
        seeds: True: the rollout's seed is sent with its requests. None: to models that take one.
        name: in logs and lists.

    Raises ConfigError, before any rollout: a parameter of a reward or a hook for which there is no value; a wrong argument.
    """

    __lllm_kind__: ClassVar[str] = "environment"

    # what a subclass may set: the arguments that are not given
    dataset: Any = None
    rewards: Any = ()
    weights: Any = None
    tools: Any = ()
    system_prompt: str | None = None
    max_turns: int | None = 8
    auto_execute_tools: bool = True
    cut: str = "score"
    limits: Any = None
    isolated: bool | str = False
    seeds: bool | None = None
    name: str = ""

    def __init__(
        self,
        dataset: Any = None,
        rewards: Any = None,
        *,
        weights: Sequence[float] | Mapping[str, float] | None = None,
        tools: Iterable[Any] | None = None,
        system_prompt: str | None = None,
        max_turns: int | None = OF_CLASS,
        auto_execute_tools: bool = OF_CLASS,
        setup: Callable[..., Any] | None = None,
        opening: Callable[..., Any] | None = None,
        step: Callable[..., Any] | None = None,
        done: Callable[..., Any] | None = None,
        reference: Callable[..., Any] | None = None,
        cut: str = OF_CLASS,
        limits: StageLimits | Mapping[str, float | None] | None = None,
        isolated: bool | str = OF_CLASS,
        seeds: bool | None = OF_CLASS,
        name: str | None = None,
    ) -> None:
        kind = type(self)
        self.name = name or vars(kind).get("name") or (kind.__name__ if kind is not RLEnv else "environment")
        if not isinstance(self.name, str):
            raise ConfigError(f"the name of an environment must be a text, got {self.name!r}")
        rows = _class_rows(kind) if dataset is None else dataset
        self.items = Items(() if rows is None else rows)
        given = kind.rewards if rewards is None else rewards
        self.rewards = rewards_of(
            [*_listed(given), *methods_of(self)], kind.weights if weights is None else weights
        )
        given_tools = [*_listed(kind.tools if tools is None else tools), *_tool_methods(self)]
        self.local_tools: tuple[Function, ...] = tools_of(given_tools)
        """The tools as they run in this process."""
        check_names(self.local_tools)
        self.system_prompt = kind.system_prompt if system_prompt is None else system_prompt
        self.max_turns = kind.max_turns if max_turns is OF_CLASS else max_turns
        if self.max_turns is not None:
            parse_count("max_turns", self.max_turns)
        self.cut = kind.cut if cut is OF_CLASS else cut
        if self.cut not in CUTS:
            raise ConfigError(f"cut is {self.cut!r}; it is {' or '.join(CUTS)}")
        self.auto_execute_tools = (
            kind.auto_execute_tools if auto_execute_tools is OF_CLASS else auto_execute_tools
        )
        self.limits = _limits(kind.limits if limits is None else limits)
        self.seeds = kind.seeds if seeds is OF_CLASS else seeds
        for what, value, known in (
            ("auto_execute_tools", self.auto_execute_tools, (True, False)),
            ("seeds", self.seeds, (True, False, None)),
        ):
            if not any(value is one for one in known):
                raise ConfigError(f"{what} must be {' or '.join(map(str, known))}, got {value!r}")
        self.leaks: list[str] = []
        """Problems when rollouts were closed, one text each."""
        hooks = {"setup": setup, "opening": opening, "step": step, "done": done, "reference": reference}
        self.setup_hook: Hook | None
        self.opening_hook: Hook | None
        self.step_hook: Hook | None
        self.done_hook: Hook | None
        self.reference_hook: Hook | None
        self.items.bound(lambda columns: self._bind(hooks, columns))
        if self.done_hook is not None and self.step_hook is None:
            raise ConfigError(
                "done needs step: it is called where step has returned an answer",
                hint="Give step=, which returns the environment's next message, or None to end the rollout.",
            )
        isolated = kind.isolated if isolated is OF_CLASS else isolated
        self.isolation: Plan | None = plan_of(self, isolated, given_tools) if isolated is not False else None
        """The plan by which a process makes the environment; None where it is not isolated."""
        self.tools = self.local_tools if self.isolation is None else remote_tools(self.local_tools)

    def _bind(self, hooks: Mapping[str, Any], columns: frozenset[str] | None) -> None:
        """Binds hooks and rewards to the values of rows with these columns. Raises ConfigError for a parameter without a
        value."""
        for name, given in hooks.items():
            setattr(self, f"{name}_hook", self._own_hook(name, given, columns))
        bind(self.rewards, columns)

    def remade(self) -> dict[str, Any]:
        """Returns the arguments with which another process makes an environment with the same hooks and tools of this class.
        Used only for an isolated environment whose hooks and tools are its methods."""
        return {}

    def _own_hook(self, name: str, given: Any, columns: Any) -> Hook | None:
        """Returns the given hook, else a subclass's method of this name."""
        if given is None and getattr(type(self), name, None) is not None:
            given = getattr(self, name)
        return hook(name, given, HOOKS, columns)

    # --- rollouts

    def __call__(self, policy: Any, rows: Any = None, **more: Any) -> Any:
        """`acall` for blocking code."""
        return run_now(self.acall(policy, rows, **more))

    async def acall(self, policy: Any, rows: Any = None, **more: Any) -> Evaluation | Rollout:
        """Tries a policy: on all rows of the dataset, on one (a text or a dict: its Rollout is returned), or on several.

        Args:
            policy: an Agent, an LLM, the name of a model, a function of the prompt, or a BestOf of one of these.
            rows: None, a text, a row (a dict or an Item), or a list of them.
            more: see `arollouts`.

        Returns an Evaluation; for one row with one sample, its Rollout. Raises what `arollouts` raises.
        """
        if isinstance(rows, str | Mapping | Item):
            found = await self.arollouts(policy, [rows], **more)
            return found if more.get("samples", 1) > 1 else found[0]
        return await self.arollouts(policy, rows, **more)

    def rollouts(self, policy: Any, rows: Iterable[Any] | None = None, **more: Any) -> Evaluation:
        """`arollouts` for blocking code."""
        return run_now(self.arollouts(policy, rows, **more))

    async def arollouts(
        self,
        policy: Any,
        rows: Iterable[Any] | None = None,
        *,
        samples: int = 1,
        first: int | None = None,
        limit: int = 16,
        seed: Any = 0,
        policy_step: int = 0,
        version: str | None = None,
        run: str | None = None,
        store: Any = None,
        name: str | None = None,
        progress: Any = None,
        policy_entry: Mapping[str, Any] | None = None,
        **overrides: Any,
    ) -> Evaluation:
        """Tries a policy on rows, concurrently. Each rollout has a session, and so has the batch.

        Args:
            policy: see `acall`.
            rows: texts and rows; None: those of the dataset. first: use at most this number of them.
            samples: rollouts per row. limit: the largest number of rollouts that run at once.
            seed, policy_step: the seed of each rollout is made of these, the row and the number of the sample.
            version: of the policy, noted on every rollout.
            run: a name that makes this resumable: rollouts that were finished under it with the same version, seed and
                settings are read from their logs, and not done again.
            store, name: of the sessions; by default the configured store, and the name of the environment.
            progress: see `Step.batch`.
            policy_entry: `{agent, config}`, by which a terminal finds the policy again; not needed for the name of a model.
            overrides: settings of the agent for these rollouts: temperature, max_tokens, ...

        Returns the rollouts in the order of rows and samples. A rollout that fails is one of them: see `Rollout.status`.

        Raises ConfigError: no rows, a wrong argument, a policy that does not fit, a reward parameter without a value.
        """
        if isinstance(policy, BestOf):
            more = {"limit": limit, "seed": seed, "policy_step": policy_step, "version": version, "run": run}
            more |= {"store": store, "name": name, "progress": progress, "first": first, "samples": samples}
            return await policy.rollouts(self, rows, **more, **overrides)
        parse_count("samples", samples)
        parse_count("limit", limit)
        if first is not None:
            parse_count("first", first)
        _check_run(run)
        items = select_items(self.items, rows, first)
        if not items:
            raise ConfigError(
                f"the environment '{self.name}' has no rows", hint="Give it a dataset, or the call a row."
            )
        bind(self.rewards, {name for item in items for name in item.columns})
        acting = self.policy(policy)
        if overrides and not isinstance(acting, Agent):
            raise ConfigError(
                f"a policy that is a function has no settings: {listing(overrides)}",
                hint="Let the function use them itself, or give a model or an agent.",
            )
        step = RolloutStep(self, acting, overrides)
        tasks = [
            Task(item, sample, seed_of(seed, policy_step, item, sample), version)
            for item in items
            for sample in range(samples)
        ]
        self.leaks = []
        arguments = {
            "samples": samples,
            "first": first,
            "limit": limit,
            "seed": seed,
            "policy_step": policy_step,
            "version": version,
            "run": run,
            "name": name or self.name,
        }
        if policy_entry is None and isinstance(policy, str):
            policy_entry = {"model": policy}
        if policy_entry is not None:  # a replay opens no model, and cannot ask it
            step.seeds = bool(policy_entry.get("seeds", step.seeds))
            policy_entry = {**policy_entry, "seeds": step.seeds}
        return await roll_out(
            step,
            tasks,
            run=run,
            limit=limit,
            store=store,
            name=name or self.name,
            progress=progress,
            made_of=describe(self, policy_entry, None if rows is None else items, arguments, overrides),
        )

    def best_of(self, policy: Any, n: int, rows: Any = None, *, by: Any = "vote", **more: Any) -> Evaluation:
        """Tries a policy n times on each row and keeps one rollout; see BestOf. `.tried` has all of them."""
        return self.rollouts(BestOf(policy, n, by), rows, **more)

    def policy(self, policy: Any) -> Any:
        """Returns the policy of rollouts: an agent with the tools of the environment, or a function."""
        if isinstance(policy, str):
            policy = LLM(policy)
        if isinstance(policy, LLM):
            agent = policy._agent.with_(
                name="policy", execute=self.auto_execute_tools, max_interrupt_times=None
            )
            if self.system_prompt is not None:
                agent = agent.with_(system_prompt=self.system_prompt)
        elif isinstance(policy, Agent):
            agent = policy.with_(memory=False) if policy.memory is not None else policy
            agent = agent if self.auto_execute_tools else agent.with_(execute=False)
        elif callable(policy):
            if self.tools:
                raise ConfigError(
                    f"the environment '{self.name}' has tools, and a function cannot call any",
                    hint="Give it a model or an agent.",
                )
            return policy
        else:
            raise ConfigError(
                f"a policy is {type(policy).__name__}",
                hint="Give an Agent, an LLM, the name of a model, or a function of the prompt.",
            )
        if self.tools:
            own = {one.name for one in agent.tools}
            agent = agent.with_(tools=[*agent.tools, *(one for one in self.tools if one.name not in own)])
        return agent

    # --- rewards without a policy

    def score(self, sessions: Any, **more: Any) -> Evaluation:
        """`ascore` for blocking code."""
        found: Evaluation = run_now(self.ascore(sessions, **more))
        return found

    async def ascore(self, sessions: Any, *, store: Any = None, rewards: Any = None) -> Evaluation:
        """Scores logged rollouts again, without a policy, with the rewards of this environment or with others. The scores are
        events of a new session; the logs of the rollouts do not change.

        Args:
            sessions: of rollouts that have ended; of batches, whose rollouts are taken that have ended; or Rollouts. Their rows
                are among those of this environment. store: that has them.
        """
        if store is None:
            store = default_store()
        found = [read_rollout(store, one, self.items) for one in rollout_sessions(store, sessions)]
        used = self.rewards if rewards is None else rewards_of(rewards)
        bind(used, {name for one in found for name in one.item.columns} | self.items.columns)
        rollouts, _ = await rescored(used, found, self.limits.score, store=store, name=f"{self.name}-scores")
        return Evaluation(rollouts)

    def check(self, **more: Any) -> Check:
        """`acheck` for blocking code."""
        found: Check = run_now(self.acheck(**more))
        return found

    async def acheck(self, *, first: int = 20, store: Any = None) -> Check:
        """Checks the rewards before a training, without a policy: on the first rows, the reference answer must earn most, and
        replies that do not solve the task little. See `lllm.rl.checking`."""
        from lllm.rl.checking import check

        async with SharedProcesses(self):
            return await check(self, first, store=store)

    # --- as a part of others

    def __rshift__(self, other: Any) -> Any:
        """`env >> trainer`: a spec (GRPO(model)), or a built GRPOTrainer of TRL whose settings an environment can take over."""
        if isinstance(other, type):
            raise ConfigError(
                f"the class {other.__name__} was given, and an environment is followed by one of it",
                hint=f"Write env >> {other.__name__}(model).",
            )
        take = getattr(other, "on_environment", None)
        if take is None and type(other).__name__.endswith("Trainer"):
            from lllm.rl.trainers.adapting import adapt, is_trl

            if is_trl(other):
                take = adapt(other, self).on_environment
        if take is None:
            raise ConfigError(
                f"an environment cannot be followed by {type(other).__name__}",
                hint="env >> GRPO(model) trains in it, env(model) tries a model.",
            )
        return take(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, rewards: {listing(one.name for one in self.rewards)})"


def _class_rows(kind: type[RLEnv]) -> Any:
    """Returns the rows of a class. An iterator gives its rows once: all instances share what is read of it."""
    if isinstance(kind.dataset, Iterator):
        owner = next(one for one in kind.__mro__ if "dataset" in vars(one))
        owner.dataset = Items(kind.dataset)  # type: ignore[attr-defined]
    return kind.dataset


def _listed(values: Any) -> list[Any]:
    if values is None:
        return []
    return list(values) if isinstance(values, list | tuple) else [values]


def _tool_methods(env: RLEnv) -> list[Any]:
    """Returns the methods of a subclass that `@tool` marks."""
    found: dict[str, Any] = {}
    for one in reversed(type(env).__mro__):
        for attribute, value in vars(one).items():
            if isinstance(value, Function):
                found[attribute] = getattr(env, attribute)
    return list(found.values())


def _check_run(run: Any) -> None:
    """Raises ConfigError for the name of a run that cannot be a part of session ids."""
    if run is not None and (
        not isinstance(run, str) or not run.strip() or not run.isprintable() or len(run) > 200
    ):
        raise ConfigError(
            f"run must be a text of 1 to 200 printable characters, which name sessions, got {run!r:.80}"
        )


def _limits(value: Any) -> StageLimits:
    if value is None:
        return StageLimits()
    if isinstance(value, StageLimits):
        value = value._asdict()
    if not isinstance(value, Mapping) or (unknown := value.keys() - set(StageLimits._fields)):
        what = listing(map(str, unknown)) if isinstance(value, Mapping) else repr(value)
        raise ConfigError(f"limits: {what}", hint=f"It is a mapping of {', '.join(StageLimits._fields)}.")
    found = {name: None if one is None else number_of(one, f"limits.{name}") for name, one in value.items()}
    for name, seconds in found.items():
        if seconds is not None and seconds <= 0:
            raise ConfigError(f"limits.{name} must be seconds above 0, or None for no limit, got {seconds:g}")
    return StageLimits(**found)


__all__ = ["CUTS", "RLEnv", "StageLimits"]
