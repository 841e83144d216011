"""Prompt search: candidates are tried in an environment, and the best is measured on rows that chose nothing.

search = env >> PromptSearch("embedded", ["Be brief.", "Use the calculator for every sum."])
result = search.run()
print(result)
agent = result.agent
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import ConfigError, UnknownNameError
from lllm.llm.agent import Agent
from lllm.llm.project import default_store
from lllm.llm.sessions import fail, open_session
from lllm.rl.evaluation import Evaluation
from lllm.rl.isolation.processes import processes_of
from lllm.rl.rewards import number_of
from lllm.rl.selection.best_of import BestOf, Chosen, calls_of
from lllm.rl.selection.candidates import AS_IT_IS, PLACES, Candidate, candidates_of, named
from lllm.rl.selection.result import SearchResult, Tried
from lllm.rl.selection.splits import splits_of
from lllm.sync import maybe_async
from lllm.sync import run as run_now

if TYPE_CHECKING:
    from lllm.rl.environment import RLEnv

Proposer = Callable[[Sequence[Tried]], Iterable[str] | Awaitable[Iterable[str]]]


class PromptSearch:
    """A search for a prompt, without its environment: `env >> PromptSearch(model, prompts)` gives a Search.

    Args:
        model: the policy: the name of a model, an LLM, or an Agent.
        prompts: texts, Prompts or paths of registered ones; a mapping gives them names.
        templates, slots: further texts with places, and the values that fill these: every combination is tried.
        proposer: a function of what was tried so far (`Tried`, the best first) that gives further texts, plain or async; asked
            `rounds` times.
        place: `system` or `prompt`, see PLACES.
        search, choice, held_out: rows of the three splits: numbers, or the rows. See `splits_of`.
        finalists: so many of the best on the search's rows are tried on the rows of the choice.
        max_calls, max_cost: of search and choice together, in replies of models and in US dollars. The policy as it is and the
            first candidates come first, so that a budget that is used up leaves out the last ones. The measurement on the rows
            held out is not in it.
        best_of: whether the best of n is measured, with as many calls as the search took; `by`: how it is chosen, see BestOf;
            `best_of_sampling`: its sampling, since greedy rollouts are all the same.
        samples: rollouts per row. seed: of all rollouts. run: a name under which the search goes on where it was interrupted:
            nothing that was finished is asked again.
        concurrency, store: of the rollouts. overrides: settings of the agent for all rollouts.
    """

    def __init__(
        self,
        model: Any = "embedded",
        prompts: Any = (),
        *,
        templates: str | Iterable[str] = (),
        slots: Mapping[str, Sequence[str]] | None = None,
        proposer: Proposer | None = None,
        rounds: int = 1,
        place: str = "system",
        search: Any = None,
        choice: Any = None,
        held_out: Any = None,
        finalists: int = 3,
        max_calls: int | None = None,
        max_cost: float | None = None,
        best_of: bool = True,
        by: Any = "vote",
        best_of_sampling: Mapping[str, Any] | None = None,
        samples: int = 1,
        seed: Any = 0,
        run: str | None = None,
        concurrency: int = 16,
        store: Any = None,
        **overrides: Any,
    ) -> None:
        if place not in PLACES:
            raise ConfigError(f"place is {place!r}; it is {' or '.join(PLACES)}")
        for name, value in (("finalists", finalists), ("rounds", rounds), ("samples", samples)):
            if type(value) is not int or value < 1:
                raise ConfigError(f"{name} is {value!r}; it is a whole number from 1 on")
        if max_calls is not None and (type(max_calls) is not int or max_calls < 1):
            raise ConfigError(f"max_calls is {max_calls!r}; it is a whole number from 1 on, or None")
        self.max_cost = None if max_cost is None else Decimal(str(number_of(max_cost, "max_cost")))
        self.model, self.place = model, place
        given = [templates] if isinstance(templates, str) else list(templates)
        self.candidates = candidates_of(prompts, given, slots or {}, place)
        if not self.candidates and proposer is None:
            raise ConfigError(
                "a search has nothing to try", hint="Give prompts=[...], templates with slots, or a proposer."
            )
        self.proposer, self.rounds = proposer, rounds if proposer is not None else 0
        self.search, self.choice, self.held_out = search, choice, held_out
        self.finalists, self.max_calls, self.samples = finalists, max_calls, samples
        self.best_of = BestOf(model, 1, by) if best_of else None
        self.best_of_sampling = {"temperature": 1.0} if best_of_sampling is None else dict(best_of_sampling)
        self.seed, self.run, self.concurrency, self.store = seed, run, concurrency, store
        self.overrides = overrides

    def on_environment(self, env: RLEnv) -> Search:
        """The Search of this in an environment: `env >> spec`."""
        return Search(env, self)


class Search:
    """What `env >> PromptSearch(...)` makes."""

    def __init__(self, env: RLEnv, spec: PromptSearch) -> None:
        self.env, self.spec = env, spec
        agent = env.policy(spec.model)
        if not isinstance(agent, Agent):
            raise ConfigError("a search needs a model or an agent: a function has no prompt")
        self.agent = agent
        self.splits = splits_of(env, spec.search, spec.choice, spec.held_out)
        self.calls: dict[str, int] = {}
        self.cost: Decimal | None = Decimal(0)
        self.stopped: str | None = None
        self._tried = 0

    def run(self) -> SearchResult:
        """`arun` for blocking code."""
        found: SearchResult = run_now(self.arun())
        return found

    async def arun(self) -> SearchResult:
        """Searches, chooses, and measures the winner."""
        async with processes_of(self.env):
            return await self._found()

    async def _found(self) -> SearchResult:
        spec = self.spec
        self.calls, self.cost, self.stopped, self._tried = {}, Decimal(0), None, 0
        tried = [Tried(one) for one in (AS_IT_IS, *spec.candidates)]
        within = await self._try(tried)
        for number in range(spec.rounds):
            if not within:
                break
            texts = await self._proposed(number, _ranked(tried))
            new = named(((None, one) for one in texts), spec.place, [one.candidate for one in tried])
            more = [Tried(one) for one in new]
            tried += more
            within = await self._try(more)
        ranked = _ranked(tried)
        finalists = [one for one in ranked if one.reward is not None][: spec.finalists]
        if not finalists:
            raise ConfigError(
                f"no candidate has a reward on the {len(self.splits.search)} rows of the search: "
                f"{tried[0].search or 'none was tried'}"
            )
        for one in finalists:
            one.choice = await self._evaluate(one.candidate, "choice")
        winner = max(finalists, key=lambda one: _value(one.choice)).candidate
        return await self._measured(ranked, winner)

    async def _try(self, tried: Sequence[Tried]) -> bool:
        """Tries candidates on the rows of the search, as far as the budgets go. Returns whether they went so far."""
        for place, one in enumerate(tried):
            if self.stopped is None:
                self.stopped = self._exhausted(len(tried) - place)
            if self.stopped is None:
                one.search = await self._evaluate(one.candidate, "search")
        return self.stopped is None

    def _exhausted(self, left: int) -> str | None:
        """Which budget does not suffice for a further candidate and for the choice; None where all do."""
        calls, spec = self.calls.get("search", 0), self.spec
        if not calls:
            return None
        done = self._tried
        # a candidate takes as much as those before it did; the choice is that much for each finalist, by its rows
        share = len(self.splits.choice) / len(self.splits.search) * min(spec.finalists, done + 1)
        needed = 1 + share
        if spec.max_calls is not None and calls + math.ceil(calls / done * needed) > spec.max_calls:
            return f"max_calls={spec.max_calls}: {left} candidates were not tried"
        if spec.max_cost is not None and self.cost is None:
            return f"max_cost={spec.max_cost}: the price of the model is not known; {left} candidates were not tried"
        if spec.max_cost is not None and self.cost is not None:
            cost = self.cost + self.cost / done * Decimal(str(needed))
            if cost > spec.max_cost:
                return f"max_cost={spec.max_cost}: {left} candidates were not tried"
        return None

    async def _evaluate(self, candidate: Candidate, stage: str, split: str | None = None) -> Evaluation:
        spec = self.spec
        found = await self.env.arollouts(
            candidate.of(self.agent, spec.place),
            getattr(self.splits, split or stage),
            samples=spec.samples,
            **self._more(stage, candidate),
            **spec.overrides,
        )
        if stage == "search":
            self._tried += 1
        self._count(found, stage)
        return found

    def _more(self, stage: str, candidate: Candidate) -> dict[str, Any]:
        spec = self.spec
        return {
            "limit": spec.concurrency,
            "seed": f"{spec.seed}/{stage}",
            "version": candidate.key,
            "run": None if spec.run is None else f"{spec.run}-{stage}-{candidate.key}",
            "store": spec.store,
            "name": f"{self.env.name}-{stage}",
        }

    def _count(self, found: Evaluation, stage: str) -> None:
        self.calls[stage] = self.calls.get(stage, 0) + calls_of(found)
        for one in found.tried if isinstance(found, Chosen) else found:
            self.cost = None if self.cost is None or one.use.cost is None else self.cost + one.use.cost

    async def _measured(self, tried: Sequence[Tried], winner: Candidate) -> SearchResult:
        """The winner on the rows held out, once, beside the policy as it is and its best of n."""
        baseline = await self._evaluate(AS_IT_IS, "baseline", "held_out")
        held_out = baseline
        if winner.text is not None:
            held_out = await self._evaluate(winner, "held_out")
        best: Chosen | None = None
        if self.spec.best_of is not None:
            spent = self.calls["search"] + self.calls["choice"]
            n = max(1, round(spent * self.spec.samples / max(1, self.calls["baseline"])))
            policy = BestOf(self.agent, n, self.spec.best_of.by)
            more = {**self._more("best_of", AS_IT_IS), **self.spec.overrides, **self.spec.best_of_sampling}
            best = await policy.rollouts(self.env, self.splits.held_out, **more)
            self._count(best, "best_of")
        return SearchResult(
            tried,
            winner,
            held_out,
            baseline,
            held_out.against(baseline),
            best,
            dict(self.calls),
            self.cost,
            self.stopped,
            winner.of(self.agent, self.spec.place),
        )

    # --- proposals

    async def _proposed(self, number: int, tried: Sequence[Tried]) -> list[str]:
        """What the proposer gives; of a run that goes on, what it gave then."""
        spec = self.spec
        assert spec.proposer is not None
        if spec.run is None:
            return _texts(await maybe_async(spec.proposer, tried))
        store = default_store() if spec.store is None else spec.store
        id = f"{spec.run}-proposals-{number}"
        if (known := _ended(store, id)) is not None:
            return known
        live = open_session(f"{self.env.name}-proposals", store=store, id=_free(store, id))
        await live.start({"name": f"{self.env.name}-proposals"})
        try:
            found = _texts(await maybe_async(spec.proposer, tried))
        except BaseException as error:
            await fail(live, error)
            raise
        await live.end("done", result={"prompts": found})
        return found


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        value = [value]
    try:
        found = list(value)
    except TypeError:
        found = [value]
    if wrong := [one for one in found if not isinstance(one, str) or not one.strip()]:
        raise ConfigError(f"the proposer gave {wrong[0]!r:.60}, and must give texts")
    return found


def _value(found: Evaluation | None) -> float:
    return -math.inf if found is None or found.reward is None else found.reward


def _ranked(tried: Sequence[Tried]) -> list[Tried]:
    """The best on the search's rows first; equal ones in their order."""
    return sorted(tried, key=lambda one: -_value(one.search))


def _events(store: Any, id: str) -> list[Mapping[str, Any]]:
    try:
        return [open_event(body) for body in store.read(id)]
    except UnknownNameError:
        return []


def _ended(store: Any, id: str) -> list[str] | None:
    """The prompts that a session gave, or a later try of it."""
    number, name = 1, id
    while events := _events(store, name):
        last = events[-1]
        if last["kind"] == ev.SESSION_ENDED and last["data"].get("status") == "done":
            return list(last["data"]["result"]["prompts"])
        number += 1
        name = f"{id}~{number}"
    return None


def _free(store: Any, id: str) -> str:
    number, name = 1, id
    while _events(store, name):
        number += 1
        name = f"{id}~{number}"
    return name
