"""Pairs of answers: what is compared with what, what is left out, and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lllm import Agent, ScriptedBackend, fork_session, record, tool
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import ConfigError, UnknownNameError
from lllm.log.memory import MemoryLog
from lllm.rl import RLEnv
from lllm.rl.preferences import pair_choices, pair_forks, pair_samples
from lllm.rl.rows import TokenRow
from lllm.rl.samples import Sample, read_sample, samples_of
from lllm.rl.training_data import TrainingData


def sample(reward: float | None, item: str = "a", place: int = 0, prompt: tuple[int, ...] = (1, 2)) -> Sample:
    """A sample whose completion is its place."""
    row = TokenRow(prompt, (10 + place, 0), (1, 1), None, f"s{place}")
    return Sample(
        [{"role": "user", "content": item}],
        [{"role": "assistant", "content": str(place)}],
        rows=(row,),
        reward=reward,
        session=f"s{place}",
        head=f"sha256:{place}",
        item=item,
        sample=place,
    )


def test_the_best_is_preferred_to_the_worst() -> None:
    data = pair_samples([sample(reward, place=place) for place, reward in enumerate([0.5, 0.1, 0.9, 0.3])])
    (row,) = data.rows
    assert row["sessions"] == ["s2", "s1"]
    assert row["scores"] == [0.9, 0.1]
    assert (row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]) == ([1, 2], [12, 0], [11, 0])
    assert row["prompt"] == [{"role": "user", "content": "a"}]
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("2", "1")
    assert data.sessions == {"s1": "sha256:1", "s2": "sha256:2"}
    two = pair_samples(
        [sample(reward, place=place) for place, reward in enumerate([0.5, 0.1, 0.9, 0.3])], pairs=9
    )
    assert [row["sessions"] for row in two] == [["s2", "s1"], ["s0", "s3"]]


@pytest.mark.parametrize(
    ("rewards", "margin", "pairs", "dropped"),
    [
        ([1.0, 1.0, 1.0], 0.0, 0, {"tie": 1}),
        ([1.0, 0.0, None], 0.0, 1, {"no reward": 1}),
        ([1.0, None], 0.0, 0, {"no reward": 1, "alone": 1}),
        ([0.6, 0.4], 0.2, 1, {}),
        ([0.6, 0.4], 0.21, 0, {"tie": 1}),
    ],
)
def test_ties_and_what_has_no_reward_are_left_out(
    rewards: list[float | None], margin: float, pairs: int, dropped: dict[str, int]
) -> None:
    data = pair_samples([sample(one, place=place) for place, one in enumerate(rewards)], margin=margin)
    assert len(data) == pairs
    assert data.dropped == dropped


def test_pairs_are_the_same_for_a_seed() -> None:
    samples = [sample(float(place % 2), item, place) for item in "abcdef" for place in range(6)]

    def chosen(seed: int) -> list[Any]:
        return [row["sessions"] for row in pair_samples(samples, seed=seed)]

    assert chosen(1) == chosen(1)
    assert len({json.dumps(chosen(seed)) for seed in range(5)}) > 1


def test_a_pair_compares_one_row_with_one_after_the_same_prompt() -> None:
    branched = replace(sample(1.0), rows=sample(1.0).rows * 2)
    assert pair_samples([branched, sample(0.0, place=1)]).dropped == {"several rows": 1, "alone": 1}
    (row,) = pair_samples(
        [branched, sample(0.0, place=1), sample(0.5, place=2)]
    )  # the others are still paired
    assert row["sessions"] == ["s2", "s1"]
    assert pair_samples([sample(1.0, prompt=(9,)), sample(0.0, place=1)]).dropped == {"other prompt": 1}
    assert pair_samples([sample(1.0), sample(0.0)]).dropped == {"identical": 1}


@tool
def look(place: str) -> str:
    """Looks.

    Args:
        place: where.
    """
    return f"seen {place}"


def replies(texts: dict[str, list[str]]) -> Callable[[Any], Any]:
    """A model that looks once, and then says one of the texts after another, with tokens; a prompt's tokens are those of what
    was said before."""
    left = {asked: iter(words) for asked, words in texts.items()}

    def answer(request: Any) -> Any:
        asked = request.messages[0].text
        ids = [ord(char) for message in request.messages for char in f"{message.role[0]}{message.text}"]
        if request.messages[-1].role == "user":
            call = [{"name": "look", "arguments": {"place": asked}}]
            # its tokens are those that the next prompt has for it
            return {"tool_calls": call, "token_ids": [ord("a")], "prompt_token_ids": ids}
        text = next(left[asked])
        return {"content": text, "token_ids": [ord("a"), *map(ord, text)], "prompt_token_ids": ids}

    return answer


def rollouts(store: Any, texts: dict[str, list[str]], samples: int) -> Any:
    env = RLEnv(
        [{"prompt": one, "answer": "yes"} for one in texts],
        lambda completion, answer: completion == answer,
        name="looking",
    )
    agent = Agent("looks", ScriptedBackend(replies(texts)), tools=[look], token_ids=True)
    return env(agent, samples=samples, store=store, limit=1)


def test_pairs_of_rollouts_have_their_tokens_and_their_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryLog()
    found = rollouts(store, {"x": ["yes", "no", "yes"], "y": ["no", "no", "no"]}, 3)
    data = pair_samples(found, store=store)
    (row,) = data.rows
    assert row["sessions"][1] == found[1].session
    assert bytes(row["prompt_ids"]).decode() == "ux"
    assert bytes(row["chosen_ids"]).decode() == "atseen xayes"
    assert row["chosen_mask"] == [1, *[0] * len("tseen x"), *[1] * len("ayes")]
    assert bytes(row["rejected_ids"]).decode() == "atseen xano"
    assert row["chosen"][0]["tool_calls"][0]["function"]["arguments"] == '{"place":"x"}'
    assert json.loads(row["tools"])[0]["function"]["name"] == "look"
    assert data.environments == ["looking"]
    assert data.dropped == {"tie": 1}
    for session, head in data.sessions.items():
        assert open_event(list(store.read(session))[-1])["hash"] == head
    # written and read back, also by `datasets`
    folder = data.save(tmp_path / "pairs")
    assert TrainingData.load(folder) == data
    assert TrainingData.load(folder / "data.jsonl").rows == data.rows
    from datasets import load_dataset

    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)  # else it counts its uses over the network
    read = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))["train"]
    assert read["chosen_ids"][0] == row["chosen_ids"]
    assert read["chosen"][0][0]["tool_calls"][0]["function"]["arguments"] == '{"place":"x"}'
    assert data.dataset()["scores"][0] == [1.0, 0.0]
    card = (folder / "README.md").read_text()
    for words in (*data.sessions, *data.sessions.values(), "looking", "| tie | 1 |", "margin 0"):
        assert words.replace("-", "\\-") in card or words in card


def test_what_ran_into_a_limit_is_an_outcome() -> None:
    """Rollouts whose call failed are rejected ones, with what they wrote."""
    from tests.rl.test_rows import reply

    store = MemoryLog()
    replies = [
        *(reply([1], [2], "no JSON"), reply([1, 2, 4], [5, 5], "again no JSON")),  # repairs are used up
        *(reply([1], [2], "no JSON"), reply([1, 2, 4], [6], '{"a": 1}')),
    ]
    agent = Agent(
        "a", ScriptedBackend(replies), format={"type": "object"}, token_ids=True, max_exception_retry=1
    )
    env = RLEnv([{"prompt": "x"}], lambda reply: 0.0 if reply is None else 1.0)
    found = env(agent, samples=2, store=store, limit=1)
    assert [one.status for one in found] == ["cut", "done"]
    (row,) = pair_samples([replace(found[0], reward=0.0), found[1]], store=store).rows
    assert row["sessions"] == [found[1].session, found[0].session]
    assert (row["rejected_ids"], row["rejected_mask"]) == ([2, 4, 5, 5], [0, 0, 1, 1])
    assert (row["chosen_ids"], row["chosen_mask"]) == ([2, 4, 6], [0, 0, 1])
    turns = RLEnv([{"prompt": "x"}], lambda: 0.0, tools=[look], max_turns=1)
    cut = turns(Agent("b", ScriptedBackend(replies_of_looking), token_ids=True), store=store)[0]
    assert (cut.status, cut.reason) == ("cut", "turns")
    sample = read_sample(store, cut.session or "")
    assert sample.completion[0]["role"] == "assistant"
    assert sample.rows[0].loss_tokens == 1


def replies_of_looking(request: Any) -> Any:
    call = [{"name": "look", "arguments": {"place": "there"}}]
    return {"tool_calls": call, "token_ids": [7], "prompt_token_ids": [1] * len(request.messages)}


def test_a_newer_reward_decides() -> None:
    store = MemoryLog()
    found = rollouts(store, {"x": ["yes", "no"]}, 2)
    env = RLEnv([{"prompt": "x", "answer": "yes"}], lambda completion: completion == "no")
    again = env.score([one.session for one in found], store=store)
    (row,) = pair_samples(again, store=store).rows
    assert row["sessions"] == [found[1].session, found[0].session]


def forked(store: Any, words: list[str], at: str | None = None, edit: str | None = None) -> tuple[str, str]:
    """A session and a fork of it from its last reply on."""
    agent = Agent("looks", ScriptedBackend(replies({"x": words})), tools=[look], token_ids=True)

    def main() -> Any:
        with record(store=store) as session:
            agent("x")
        return session.id

    first = main()
    events = [open_event(one) for one in store.read(first)]
    place = [one["seq"] for one in events if one["kind"] == (at or ev.MODEL_REPLIED)][-1]
    return first, fork_session(first, at=place, edit=edit, store=store, entry=lambda: agent("x")).session


def length(one: Sample) -> float:
    return float(len(one.completion[-1]["content"]))


def test_what_a_fork_shares_with_its_parent_carries_no_loss() -> None:
    store = MemoryLog()
    parent, fork = forked(store, ["short", "a longer one"])
    data = pair_forks([parent, fork], score=length, store=store)
    (row,) = data.rows
    assert row["sessions"] == [fork, parent]
    assert [one["role"] for one in row["prompt"]] == ["user", "assistant", "tool"]
    assert bytes(row["prompt_ids"]).decode() == "uxatseen x"
    assert (bytes(row["chosen_ids"]).decode(), row["chosen_mask"]) == ("aa longer one", [1] * 13)
    assert (bytes(row["rejected_ids"]).decode(), row["rejected_mask"]) == ("ashort", [1] * 6)
    assert pair_forks([parent, fork], store=store).dropped == {"no reward": 1}
    assert pair_forks([fork], score=lambda one: 1.0, store=store).dropped == {"tie": 1}


def test_forks_are_scored_in_an_environment() -> None:
    store = MemoryLog()
    parent, fork = forked(store, ["short", "a longer one"])
    env = RLEnv([{"prompt": "x", "answer": "short"}], lambda completion, answer: completion == answer)
    (row,) = pair_forks([fork], score=env, store=store).rows
    assert row["sessions"] == [parent, fork]
    assert row["scores"] == [1.0, 0.0]
    other = RLEnv([{"prompt": "y", "answer": "short"}], lambda completion, answer: completion == answer)
    assert pair_forks([fork], score=other, store=store).dropped == {"no reward": 1}


def test_a_fork_that_saw_something_else_is_no_pair() -> None:
    store = MemoryLog()
    parent, fork = forked(store, ["short", "a longer one"], ev.TOOL_RETURNED, "seen another")
    assert pair_forks([parent, fork], score=length, store=store).dropped == {"other prompt": 1}


def test_people_choose(tmp_path: Path) -> None:
    store = MemoryLog()
    found = rollouts(store, {"x": ["one", "two", "three", "four"], "y": ["five", "six", "seven", "eight"]}, 4)
    ids = [one.session for one in found]
    file = tmp_path / "choices.jsonl"
    lines = [
        {"chosen": ids[0], "rejected": ids[1]},
        {"sessions": [ids[2], ids[3]], "verdict": "Second"},
        {"sessions": [ids[0], ids[3]], "verdict": "tie"},
        {"session": ids[4], "verdict": "bad"},
        {"session": ids[5], "verdict": "good"},
        {"session": ids[6], "verdict": ""},
    ]
    file.write_text("".join(json.dumps(one) + "\n" for one in lines))
    data = pair_choices(file, store=store)
    assert [row["sessions"] for row in data] == [[ids[0], ids[1]], [ids[3], ids[2]], [ids[5], ids[4]]]
    assert data.dropped == {"verdict": 2}
    assert set(data.sessions) == set(ids[:6])
    # a fork that was preferred to its parent is compared from where they part
    parent, fork = forked(store, ["short", "a longer one"])
    (row,) = pair_choices([{"chosen": parent, "rejected": fork}], store=store).rows
    assert bytes(row["prompt_ids"]).decode() == "uxatseen x"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"session": "a", "verdict": "fine"}, "has the verdict 'fine'"),
        ({"verdict": "good"}, "is not a verdict: it has verdict"),
        ({"chosen": "a"}, "does not compare two sessions"),
        ({"sessions": ["a", "a"], "verdict": "first"}, "does not compare two sessions"),
        ([1], "is list, and must be an object"),
    ],
)
def test_a_line_that_is_no_verdict_is_named(tmp_path: Path, line: Any, words: str) -> None:
    file = tmp_path / "choices.jsonl"
    file.write_text(json.dumps(line))
    with pytest.raises(ConfigError, match=f"choices.jsonl, line 1, {words}"):
        pair_choices(file, store=MemoryLog())


def test_verdicts_that_contradict_each_other_are_an_error() -> None:
    both = [{"session": "a", "verdict": "good"}, {"session": "a", "verdict": "bad"}]
    with pytest.raises(ConfigError, match="verdict 1 contradicts"):
        pair_choices(both, store=MemoryLog())
    with pytest.raises(UnknownNameError):
        pair_choices([{"chosen": "a", "rejected": "b"}], store=MemoryLog())


def test_a_session_without_a_reply_is_no_sample() -> None:
    store = MemoryLog()
    with record(store=store) as session:
        pass
    with pytest.raises(ConfigError, match="no agent call of session"):
        read_sample(store, session.id)
    assert samples_of([], store) == []
    with pytest.raises(ConfigError, match="sessions are a list of ids"):
        samples_of(session.id, store)
