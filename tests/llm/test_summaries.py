"""`window="summarise"`: what is left out of requests is summed up by the model, once, and stands in its place."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lllm import Agent, Dialog, MemoryLog, Message, fitting, pinned, record
from lllm.core import events as ev
from lllm.errors import ProviderFailed
from lllm.llm.summaries import _pieces
from lllm.log.views import load
from lllm.ports import Request
from lllm.replay import fork_session, replay_session
from lllm.replay.resume import resume_session
from tests.llm.test_window import SAYS, Narrow, notes, words
from tests.replay.test_resume import cut

POLICY = {"policy": "summarise", "reserve": 10}


@pytest.fixture(autouse=True)
def _nothing_learnt() -> None:
    fitting.learnt.clear()


def is_summary(request: Request) -> bool:
    return request.messages[0].text.startswith("You sum up conversations.")


def answer(request: Request) -> str:
    """Sums up by the numbers of the questions."""
    if not is_summary(request):
        return "ok"
    text = request.messages[-1].text
    return "They asked " + " ".join(sorted({word for word in text.split() if word.startswith("#")}))


def model_of(window: int = 160, **more: Any) -> Narrow:
    return Narrow(window, **{"answer": answer, **more})


def agent_of(model: Any, **more: Any) -> Agent:
    return Agent("a", model, "Be kind.", **{"window": POLICY, "memory": True, "store": MemoryLog(), **more})


def asked(model: Narrow) -> list[list[str]]:
    return [[m.text for m in request.messages] for request in model.requests if not is_summary(request)]


def summaries(model: Narrow) -> list[str]:
    return [request.messages[-1].text for request in model.requests if is_summary(request)]


def test_a_summary_stands_for_what_is_left_out_and_the_log_keeps_all() -> None:
    model = model_of()
    agent = agent_of(model)
    for n in range(12):
        agent(f"#{n} {words(20)}")
    assert model.refused == 0
    last = asked(model)[-1]
    assert "<summary>\nThey asked #0 #1" in last[0]
    assert last[-1].startswith("#11")
    told = " ".join(last)
    for n in range(12):
        assert f"#{n}" in told, "nothing is forgotten"
    assert [m.text.split()[0] for m in agent.history if m.role == "user"] == [f"#{n}" for n in range(12)]
    started = [e["data"] for info in agent.store.sessions() for e in load(agent.store, info.id)]  # type: ignore[union-attr, arg-type]
    made = {data["summary"]["messages"] for data in started if "summary" in data}
    assert 1 < len(made) < 8, "it is not made anew for every question"
    assert "Summary so far" in summaries(model)[-1]
    assert notes(agent.store)[-1]["left_out"] > 0  # type: ignore[arg-type]


def test_nothing_is_summed_up_that_fits() -> None:
    model = model_of(10_000)
    agent = agent_of(model)
    for n in range(5):
        agent(f"#{n} {words(20)}")
    assert summaries(model) == []


def test_pinned_messages_stay_as_they_are() -> None:
    model = model_of()
    agent = agent_of(model)
    agent(pinned("My name is Bob."))
    for n in range(10):
        agent(f"#{n} {words(20)}")
    assert sum("My name is Bob." in text for text in asked(model)[-1]) == 1
    assert not any("Bob" in text for text in summaries(model))


def test_a_long_past_is_summed_up_in_steps() -> None:
    model = model_of()
    dialog = Dialog(
        [Message(role, f"#{n} {words(30)}") for n in range(20) for role in ("user", "assistant")]
        + [Message("user", "And now?")]
    )
    agent_of(model)(dialog)
    assert model.refused == 0
    assert len(summaries(model)) > 3
    assert all(f"#{n}" in " ".join(asked(model)[-1]) for n in range(20))
    before = len(summaries(model))
    agent_of(model)(dialog.append("Once more."))
    assert len(summaries(model)) == before, "the dialog knows its summary"
    twin = dialog.fork()
    agent_of(model)(twin.append("In a fork."))
    assert len(summaries(model)) == before


def test_a_summary_that_fails_is_said_and_the_oldest_left_out() -> None:
    def fails(request: Request) -> Any:
        if is_summary(request):
            raise ProviderFailed("no")
        return "ok"

    model = model_of(answer=fails)
    agent = agent_of(model, max_provider_retry=0)
    for n in range(8):
        assert agent(f"#{n} {words(20)}").content == "ok"
    found = [note["text"] for note in notes(agent.store)]  # type: ignore[arg-type]
    assert any("could not be summed up" in text for text in found)
    assert "are left out here.]" in asked(model)[-1][0]


def test_where_nothing_helps() -> None:
    model = model_of(60)
    with pytest.raises(ProviderFailed, match="cannot be left out"):
        agent_of(model)(words(100))
    assert model.requests == []


def test_an_endpoint_whose_window_is_not_known() -> None:
    model = model_of(measures=False, says=SAYS)
    agent = agent_of(model)
    for n in range(12):
        agent(f"#{n} {words(20)}")
    assert model.refused == 1, "it is mended by leaving out, and known from then on"
    assert len(summaries(model)) >= 1


def test_calls_without_a_dialog() -> None:
    model = model_of()
    past = [Message(role, f"#{n} {words(20)}") for n in range(8) for role in ("user", "assistant")]
    Agent("a", model, window=POLICY, store=MemoryLog())([*past, Message("user", "x")])
    assert "<summary>" in " ".join(asked(model)[-1])


def program(store: MemoryLog, model: Narrow) -> Any:
    def main() -> str:
        agent = Agent("a", model, "Be kind.", window=POLICY, memory="session")
        with record("x", store=store):
            return "".join(agent(f"#{n} {words(20)}").content for n in range(7))

    return main


def test_it_is_replayed_resumed_and_forked() -> None:
    store, model = MemoryLog(), model_of()
    result = program(store, model)()
    (session,) = [info.id for info in store.sessions()]
    count = len(model.requests)
    assert len(summaries(model)) >= 1
    report = replay_session(session, store=store, entry=program(store, model))
    assert report.verified, report.divergence
    assert len(model.requests) == count, "a replay measures nothing and asks nobody"
    started = [e["data"] for e in load(store, session) if e["kind"] == ev.CALL_STARTED]
    assert {data["agent"] for data in started} == {"a", "a/summary"}
    for at in range(1, len(list(store.read(session)))):
        there, fresh = cut(store, session, at), model_of()
        assert resume_session(session, store=there, entry=program(there, fresh)).result == result
        report = replay_session(session, store=there, entry=program(there, fresh))
        assert report.verified, (at, report.divergence)
    fork = fork_session(session, store=store, into=MemoryLog(), entry=program(store, model))
    assert (fork.result, fork.changed, fork.new) == (result, 0, 0)


def test_a_session_of_a_single_call_is_replayed() -> None:
    store, model = MemoryLog(), model_of()
    agent = agent_of(model, store=store)
    for n in range(7):
        agent(f"#{n} {words(20)}")
    for info in store.sessions():
        report = replay_session(info.id, store=store)
        assert report.divergence is None, report.divergence
    last = max(store.sessions(), key=lambda info: info.started).id
    task = f"#6 {words(20)}"
    report = replay_session(last, store=store, entry=lambda: agent_of(model, store=store)(task))
    assert report.verified, report.divergence


@given(st.lists(st.text(), max_size=6), st.integers(64, 200))
def test_pieces_are_the_whole_text(texts: list[str], size: int) -> None:
    messages = [Message("user", text) for text in texts]
    found = list(_pieces(messages, size))
    assert "".join(found) == "".join(f"user: {text}\n" for text in texts).encode("utf-8", "replace").decode()
    assert all(len(piece.encode()) <= size for piece in found)
