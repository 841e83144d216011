"""Prompt search: candidates are tried in an environment, and the best one is measured on rows that took no part in the
selection.

search = env >> PromptSearch("embedded", ["Be brief.", "Use the calculator for every sum."])
result = search.run()
print(result)
agent = result.agent
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from lllm.core.canonical import digest_of
from lllm.core.jsonable import jsonable
from lllm.errors import ConfigError
from lllm.llm.agent import Agent
from lllm.llm.checks import parse_count
from lllm.rl.evaluation import Evaluation
from lllm.rl.isolation.processes import SharedProcesses
from lllm.rl.items import Item
from lllm.rl.rollout import CUT
from lllm.rl.selection.best_of import BestOf, Chosen
from lllm.rl.selection.budget import Budget, most_calls
from lllm.rl.selection.candidates import AS_IT_IS, PLACES, Candidate, candidates_of, named
from lllm.rl.selection.proposals import propose
from lllm.rl.selection.result import SearchResult, Tried
from lllm.rl.selection.splits import splits_of
from lllm.sync import run as run_now

if TYPE_CHECKING:
    from lllm.rl.environment import RLEnv

_COVERED: Final = 0.9
"""The share of rollouts with a reward that a candidate must have to be compared, of those of the candidate with most."""
Proposer = Callable[[Sequence[Tried]], Iterable[str] | Awaitable[Iterable[str]]]


class PromptSearch:
    """A search for a prompt, without its environment: `env >> PromptSearch(model, prompts)` gives a Search.

    Args:
        model: the policy: the name of a model, an LLM, or an Agent.
        prompts: texts, Prompts or paths of registered ones; a mapping gives them names.
        templates, slots: further texts with places, and the values that fill these: every combination is tried.
        proposer: a function, plain or async, that gets the candidates tried so far (a list of `Tried`, the best first) and
            returns further texts; called `rounds` times.
        place: `system` or `prompt`, see PLACES.
        search, choice, held_out: rows of the three splits: numbers, or the rows. See `splits_of`.
        finalists: the number of the best candidates of the search that are tried on the rows of the choice; 3 by default.
        max_calls, max_cost: budgets of search and choice together, in model calls and in US dollars; None: no limit. The
            unchanged policy and the first candidates are tried first, so that an exhausted budget leaves out the last ones. The
            measurement on the held-out rows is not counted. `max_calls` is exact where rollouts have a limit of their own
            (`max_turns`); `max_cost` is judged by the cost of earlier candidates.
        best_of: True: the best of n is measured, too, with as many calls as the search took. `by`: selects it, see BestOf.
            `best_of_sampling`: its sampling settings, since greedy rollouts are all the same.
        samples: rollouts per row. seed: of all rollouts. run: a name under which an interrupted search is resumed without
            repeating what was finished.
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
        counts = {"finalists": finalists, "rounds": rounds, "samples": samples, "concurrency": concurrency}
        for name, value in counts.items():
            parse_count(name, value)
        if not isinstance(best_of, bool):
            raise ConfigError(
                f"best_of is {best_of!r:.60}; it is True or False: n follows from the calls of the search"
            )
        if proposer is not None and not callable(proposer):
            raise ConfigError(
                f"proposer is {type(proposer).__name__}, and must be a function of what was tried"
            )
        if best_of_sampling is not None and not isinstance(best_of_sampling, Mapping):
            raise ConfigError(
                f"best_of_sampling is {best_of_sampling!r:.60}, and must be settings: {{'temperature': 1}}"
            )
        Budget(max_calls, max_cost)  # raises for what is none
        self.model, self.place = model, place
        given = [templates] if isinstance(templates, str) else list(templates)
        self.candidates = candidates_of(prompts, given, slots or {}, place)
        if not self.candidates and proposer is None:
            raise ConfigError(
                "a search has nothing to try", hint="Give prompts=[...], templates with slots, or a proposer."
            )
        self.proposer, self.rounds = proposer, rounds if proposer is not None else 0
        self.search, self.choice, self.held_out = search, choice, held_out
        self.finalists, self.samples = finalists, samples
        self.max_calls, self.max_cost = max_calls, max_cost
        self.best_of = BestOf(model, 1, by) if best_of else None
        self.best_of_sampling = {"temperature": 1.0} if best_of_sampling is None else dict(best_of_sampling)
        self.seed, self.run, self.concurrency, self.store = seed, run, concurrency, store
        self.overrides = overrides

    def on_environment(self, env: RLEnv) -> Search:
        """Returns the Search of this spec in an environment: `env >> spec`."""
        return Search(env, self)


class Search:
    """A search in an environment: the result of `env >> PromptSearch(...)`."""

    def __init__(self, env: RLEnv, spec: PromptSearch) -> None:
        self.env, self.spec = env, spec
        agent = env.policy(spec.model)
        if not isinstance(agent, Agent):
            raise ConfigError("a search needs a model or an agent: a function has no prompt")
        self.agent = agent
        for settings in (spec.overrides, {**spec.overrides, **spec.best_of_sampling}):
            agent.with_(**settings)  # raises for what is no setting, before any call
        self.splits = splits_of(env, spec.search, spec.choice, spec.held_out)
        self.budget = Budget(spec.max_calls, spec.max_cost)
        self.budget.require((len(self.splits.search) + len(self.splits.choice)) * spec.samples)
        self.stopped: str | None = None
        self.notes: list[str] = []

    def run(self) -> SearchResult:
        """`arun` for blocking code."""
        found: SearchResult = run_now(self.arun())
        return found

    async def arun(self) -> SearchResult:
        """Searches, chooses, and measures the winner."""
        async with SharedProcesses(self.env):
            return await self._found()

    async def _found(self) -> SearchResult:
        spec = self.spec
        self.budget.begin()
        self.stopped, self.notes = None, []
        tried = [Tried(one) for one in (AS_IT_IS, *spec.candidates)]
        within = await self._try(tried)
        for number in range(spec.rounds):
            if not within:
                break
            texts = await propose(
                spec.proposer,
                _ranked(tried),
                id=None if spec.run is None else f"{spec.run}-{self._policy}-proposals-{number}",
                name=f"{self.env.name}-proposals",
                store=spec.store,
            )
            before = [one.candidate for one in tried]
            refused: list[str] = []
            new = named(((None, one) for one in texts), spec.place, before, refused)
            self.notes += [f"a proposal was left out: {one}" for one in refused]
            more = [Tried(one) for one in new]
            tried += more
            within = await self._try(more)
        ranked = _ranked(tried)
        finalists = self._comparable(ranked, "search")[: spec.finalists]
        if not finalists:
            raise ConfigError(
                f"no candidate has a reward on the {len(self.splits.search)} rows of the search: "
                f"{tried[0].search or self.stopped or 'none was tried'}"
            )
        for one in finalists:
            one.choice = await self._evaluate(one.candidate, "choice")
            if one.choice is None:
                self._stop(one.candidate, "had no calls left for the rows of the choice")
        chosen = self._comparable(finalists, "choice")
        # of equal ones the first, which earned more on the rows of the search
        winner = max(chosen, key=lambda one: _value(one.choice)).candidate if chosen else AS_IT_IS
        return await self._measured(ranked, winner)

    async def _try(self, tried: Sequence[Tried]) -> bool:
        """Tries candidates on the rows of the search, as far as the budgets allow. Returns True if all were tried."""
        for place, one in enumerate(tried):
            left = len(tried) - place
            if self.stopped is None:
                self.stopped = self.budget.exhausted(left, self._share)
            if self.stopped is None:
                one.search = await self._evaluate(one.candidate, "search")
                if one.search is None:
                    self._stop(
                        one.candidate,
                        f"took more calls than were left; {left - 1} further ones were not tried",
                    )
                else:
                    self.budget.tried += 1
        return self.stopped is None

    def _stop(self, candidate: Candidate, words: str) -> None:
        told = f"max_calls={self.budget.max_calls}: '{candidate.name}' {words}"
        self.stopped = told if self.stopped is None else f"{self.stopped}; '{candidate.name}' {words}"

    def _comparable(self, tried: Sequence[Tried], stage: str) -> list[Tried]:
        """Returns the candidates that have a reward on about as many rows as the others: the mean over a few lucky rows cannot
        be compared."""
        found = [(one, getattr(one, stage)) for one in tried if _value(getattr(one, stage)) != -math.inf]
        most = max((len(rollouts.scored) for _, rollouts in found), default=0)
        kept = []
        for one, rollouts in found:
            if len(rollouts.scored) >= _COVERED * most:
                kept.append(one)
                continue
            self.notes.append(
                f"'{one.candidate.name}' was not compared: {len(rollouts.scored)} of its {len(rollouts)} rollouts "
                f"on the rows of the {stage} have a reward"
            )
        return kept

    @property
    def _share(self) -> float:
        """Returns the ratio of the calls of the choice to those of one candidate in the search."""
        rows = len(self.splits.choice) / len(self.splits.search)
        return rows * min(self.spec.finalists, self.budget.tried + 1)

    async def _evaluate(self, candidate: Candidate, stage: str) -> Evaluation | None:
        """Returns the rollouts of a candidate on the rows of a stage; None where max_calls does not suffice. Close to
        max_calls, rows are done in small groups for which the remaining calls suffice."""
        items: list[Item] = getattr(self.splits, stage)
        most = most_calls(self.env, self.agent)
        if self.budget.max_calls is None or most is None or any(one.many for one in self.env.rewards):
            return await self._roll_out(candidate, stage, items)
        samples, rollouts, leaks = self.spec.samples, [], []
        reserve = self._reserve() if stage == "search" else 0
        while items:
            left = self.budget.left - reserve
            count, each = min(len(items), left // (most * samples)), None
            if count < 1:
                count, each = 1, left // samples
                if each < 1:
                    return None
            found = await self._roll_out(candidate, stage, items[:count], each)
            if each is not None and any(one.status == CUT and one.use.model_calls >= each for one in found):
                return None
            rollouts += found.rollouts
            leaks += found.leaks
            items = items[count:]
        return Evaluation(rollouts, leaks)

    def _reserve(self) -> int:
        """Returns the number of calls to reserve for the choice."""
        if not self.budget.tried:
            return len(self.splits.choice) * self.spec.samples
        return math.ceil(self.budget.calls.get("search", 0) / self.budget.tried * self._share)

    async def _roll_out(
        self, candidate: Candidate, stage: str, items: list[Item], most: int | None = None
    ) -> Evaluation:
        """Does rollouts on rows and counts them. `most`: calls of each. Where these are fewer than the policy may take, the
        rollouts get another version, so that a later run with a larger budget does not reuse them."""
        more = {**self._more(stage, candidate), **self.spec.overrides}
        if most is not None:
            own = more.get("max_model_calls")
            more["max_model_calls"] = most if own is None else min(most, own)
            more["version"] = f"{more['version']}-{most}"
        found = await self.env.arollouts(
            candidate.of(self.agent, self.spec.place), items, samples=self.spec.samples, **more
        )
        self.budget.count(found, stage)
        return found

    def _more(self, stage: str, candidate: Candidate) -> dict[str, Any]:
        spec = self.spec
        return {
            "limit": spec.concurrency,
            "seed": f"{spec.seed}/{stage}",
            "version": f"{candidate.key}-{self._policy}",
            "run": None if spec.run is None else f"{spec.run}-{stage}-{candidate.key}",
            "store": spec.store,
            "name": f"{self.env.name}-{stage}",
        }

    @cached_property
    def _policy(self) -> str:
        """A digest of the unchanged policy, so that a resumed search does not reuse the rollouts of another policy."""
        agent, system = self.agent, self.agent.system_prompt
        made = [
            agent.model,
            None if system is None else system.prompt,
            dict(agent._settings.sampling),
            sorted(one.name for one in agent.tools),
            self.spec.overrides,
        ]
        return digest_of(jsonable(made)).removeprefix("sha256:")[:8]

    async def _measured(self, tried: Sequence[Tried], winner: Candidate) -> SearchResult:
        """Measures the winner on the held-out rows, once, beside the unchanged policy and its best of n."""
        rows, calls = self.splits.held_out, self.budget.calls
        baseline = await self._roll_out(AS_IT_IS, "baseline", rows)
        held_out = baseline
        if winner.text is not None:
            held_out = await self._roll_out(winner, "held_out", rows)
        best: Chosen | None = None
        if self.spec.best_of is not None and calls["baseline"]:
            spent = calls["search"] + calls.get("choice", 0)
            n = max(1, round(spent * self.spec.samples / calls["baseline"]))
            policy = BestOf(self.agent, n, self.spec.best_of.by)
            more = {**self._more("best_of", AS_IT_IS), **self.spec.overrides, **self.spec.best_of_sampling}
            best = await policy.rollouts(self.env, rows, **more)
            self.budget.count(best, "best_of")
        return SearchResult(
            tried,
            winner,
            held_out,
            baseline,
            held_out.against(baseline),
            best,
            dict(calls),
            self.budget.cost,
            self.stopped,
            winner.of(self.agent, self.spec.place),
            self.notes,
        )


def _value(found: Evaluation | None) -> float:
    return -math.inf if found is None or found.reward is None else found.reward


def _ranked(tried: Sequence[Tried]) -> list[Tried]:
    """Sorts candidates by their reward on the rows of the search, best first; equal ones keep their order."""
    return sorted(tried, key=lambda one: -_value(one.search))
