"""T33: a task over a text that is longer than the model's window."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lllm
from lllm import LLM, Agent, MemoryLog, ScriptedBackend, replay_session, step
from lllm.agents import ContextAgent
from lllm.backends.embedded import EmbeddedBackend
from lllm.core.envelope import open_event
from lllm.errors import ConfigError, ContextTooLong, ProviderFailed, ServerError, StageError
from lllm.ports import Request
from lllm.replay.resume import resume_session
from lllm.systems import Answer, ChainOfAgents
from tests.systems.test_cutting import TEXTS

TEXT = " ".join(f"Sentence number {n} is here." for n in range(300))
MODES = pytest.mark.parametrize("mode", ["sequential", "tree"])


def noting(request: Request) -> str:
    """Notes that say which part they are of, or the answer."""
    asked = request.messages[-1].text
    part = re.search(r"This is part (\d+)", asked)
    return f"notes of {part[1]}" if part else "merged" if "several parts" in asked else "the answer"


class Measured(ScriptedBackend):
    """Scripted replies, and the tokenizer and window of the embedded model."""

    def __init__(self, measures: EmbeddedBackend | None, replies: Any = noting) -> None:
        super().__init__(replies)
        self.measures = measures

    def prompt_size(self, request: Request) -> tuple[int, int]:
        assert self.measures is not None, "nothing is measured again"
        return self.measures.prompt_size(request)


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedBackend]:
    backend = EmbeddedBackend()
    yield backend
    lllm.run(backend.aclose())


def system(backend: Any, **more: Any) -> ChainOfAgents:
    return ChainOfAgents("reader", backend, **{"store": MemoryLog(), **more})


def read_in(requests: list[Request]) -> list[str]:
    """The parts of the text that requests have."""
    found = [
        re.search(r"<(part(?:-\d+)?)>\n(.*)\n</\1>", one.messages[-1].text, re.DOTALL) for one in requests
    ]
    return [match[2] for match in found if match]


# --- the run


async def test_the_snippet_of_the_documents() -> None:
    backend = ScriptedBackend(noting)
    chain_of_agents = ChainOfAgents(system_id="summariser", model=LLM(backend), budget=500, store=MemoryLog())
    summary = await chain_of_agents.run(initial_prompt="Summarise.", long_text=TEXT, temperature=0.1)
    assert summary == "the answer"
    assert isinstance(summary, str)
    assert read_in(backend.requests) == [part.text for part in summary.parts]
    assert "".join(read_in(backend.requests)) == TEXT
    assert [part.notes for part in summary.parts] == [f"notes of {n + 1}" for n in range(len(summary.parts))]
    assert "notes of 3" in backend.requests[3].messages[-1].text
    assert f"notes of {len(summary.parts)}" in backend.requests[-1].messages[-1].text
    assert {one.sampling["temperature"] for one in backend.requests} == {0.1}
    assert summary.stages.use.model_calls == len(backend.requests) == len(summary.parts) + 1


def test_a_tree_reads_side_by_side_and_merges_what_fits() -> None:
    backend = ScriptedBackend(lambda r: noting(r) + " and so on" * 12)
    answer = system(backend, budget=300, mode="tree")("Summarise.", TEXT)
    assert answer.startswith("the answer")
    assert "".join(part.text for part in answer.parts) == TEXT
    assert len(answer.parts) > 8
    assert len(answer.merged) >= 1
    sizes = [len(answer.parts), *map(len, answer.merged)]
    assert sizes == sorted(set(sizes), reverse=True)
    first = "".join(r.messages[-1].text for r in backend.requests if "several parts" in r.messages[-1].text)
    assert all(f"notes of {part.number} " in first for part in answer.parts)


def test_a_text_that_fits_is_asked_about_as_it_is() -> None:
    backend = ScriptedBackend(noting)
    answer = system(backend)("Summarise.", "It is short.")
    assert len(backend.requests) == 1
    assert "It is short." in backend.requests[0].messages[-1].text
    assert [part.text for part in answer.parts] == ["It is short."]
    assert system(ScriptedBackend(noting))("Summarise.", "") == "the answer"


@settings(max_examples=25)
@given(
    TEXTS.map(lambda text: text * (2500 // (len(text) + 1) + 1)),
    st.integers(260, 420),
    st.sampled_from(["sequential", "tree"]),
    st.text(max_size=300),
)
def test_no_rendered_prompt_is_above_its_budget(
    embedded: EmbeddedBackend, text: str, budget: int, mode: str, notes: str
) -> None:
    backend = Measured(embedded, lambda request: notes)
    answer = system(backend, budget=budget, mode=mode)("What is it about?", text)
    assert "".join(part.text for part in answer.parts) == text
    if len(answer.parts) > 1:
        assert sorted(read_in(backend.requests)) == sorted(part.text for part in answer.parts)
    assert all(embedded.prompt_size(request)[0] <= budget for request in backend.requests)


@MODES
def test_what_an_agent_adds_is_measured_too(embedded: EmbeddedBackend, mode: str) -> None:
    backend = Measured(embedded)
    agent = ContextAgent("reader", backend, "A glossary of many words. " * 12, system_prompt="You read. " * 9)
    answer = ChainOfAgents("reader", agent, budget=700, mode=mode, store=MemoryLog())(
        "What is it about?", TEXT
    )
    assert len(answer.parts) > 3
    assert all("glossary" in request.messages[-1].text for request in backend.requests)
    sizes = [embedded.prompt_size(request)[0] for request in backend.requests]
    assert max(sizes) <= 700
    assert sizes[0] > 650


def test_text_that_is_no_unicode_is_kept_whole(embedded: EmbeddedBackend) -> None:
    text = "x\ud800y. " * 900
    answer = system(Measured(embedded))("What\udc00?", text)
    assert len(answer.parts) > 3
    assert "".join(part.text for part in answer.parts) == text


def test_the_budget_is_the_window_without_the_reply(embedded: EmbeddedBackend) -> None:
    backend = Measured(embedded)
    system(backend, max_tokens=100)("What is it about?", TEXT)
    sizes = [embedded.prompt_size(request)[0] for request in backend.requests]
    assert max(sizes) <= 924
    assert sizes[0] > 850


def test_notes_that_are_too_long_are_shortened_and_the_log_says_so(embedded: EmbeddedBackend) -> None:
    backend, store = Measured(embedded, lambda request: "many words of notes. " * 60), MemoryLog()
    answer = system(backend, budget=400, store=store)("What is it about?", TEXT)
    assert all(embedded.prompt_size(request)[0] <= 400 for request in backend.requests)
    assert "more characters are left out" in backend.requests[2].messages[-1].text
    assert any(
        "notes were shortened" in event["data"].get("text", "") for event in events(store, answer.session)
    )


def events(store: MemoryLog, session: str) -> list[Any]:
    return [open_event(record.body) for record in store._sessions[session]]


# --- no room


@pytest.mark.parametrize(
    "more",
    [
        {"budget": 40},
        {"max_tokens": 1024},
        {"max_tokens": 5000},
        {"budget": 1024},
        {"budget": 80, "notes": 80},
    ],
)
@MODES
def test_a_prompt_that_leaves_no_room_is_an_error(
    embedded: EmbeddedBackend, more: dict[str, Any], mode: str
) -> None:
    backend = Measured(embedded)
    with pytest.raises(ContextTooLong, match=r"no room is left|leaves no room"):
        system(backend, mode=mode, **more)("What is " * 20, TEXT)
    assert backend.requests == []


@pytest.mark.parametrize(
    "more",
    [
        {"budget": 0},
        {"budget": "many"},
        {"notes": True},
        {"mode": "spiral"},
        {"errors": "drop"},
        {"limit": 0},
    ],
)
def test_settings_that_cannot_be(more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        system(ScriptedBackend(["x"]), **more)


@pytest.mark.parametrize("given_", [("x", 5), (5, "x"), ("x", b"text")])
def test_prompt_and_text_are_text(given_: tuple[Any, Any]) -> None:
    with pytest.raises(ConfigError, match="must be text"):
        system(ScriptedBackend(["x"]))(*given_)


# --- errors


def failing(*numbers: int) -> Callable[[Request], Any]:
    def reply(request: Request) -> Any:
        words = noting(request)
        if any(words == f"notes of {n}" for n in numbers):
            raise ServerError("down", status=500)
        return words

    return reply


@MODES
def test_a_chunk_that_fails_is_raised_with_its_number(mode: str) -> None:
    with pytest.raises(StageError) as caught:
        system(ScriptedBackend(failing(3)), budget=500, mode=mode, max_provider_retry=0)("Summarise.", TEXT)
    assert caught.value.index == 2
    assert caught.value.stage == "1/1/part 3"
    assert isinstance(caught.value.__cause__, ProviderFailed)


@MODES
@pytest.mark.parametrize("errors", ["skip", "keep"])
def test_a_chunk_that_fails_is_left_out_and_said(mode: str, errors: str) -> None:
    backend = ScriptedBackend(failing(2, 4))
    answer = system(backend, budget=500, mode=mode, errors=errors, max_provider_retry=0)("Summarise.", TEXT)
    assert answer == "the answer"
    assert answer.missing == (2, 4)
    assert "Parts 2, 4 of the text could not be read" in backend.requests[-1].messages[-1].text
    failed = [part for part in answer.parts if part.error is not None]
    assert [part.number for part in failed] == ([2, 4] if errors == "keep" else [])
    numbers = [part.number for part in answer.parts]
    assert (2 in numbers, 3 in numbers) == (errors == "keep", True)


@MODES
def test_nothing_is_answered_where_no_chunk_was_read(mode: str) -> None:
    def down(request: Request) -> str:
        raise ServerError("down", status=500)

    with pytest.raises(StageError):
        system(ScriptedBackend(down), budget=500, mode=mode, errors="skip", max_provider_retry=0)(
            "Summarise.", TEXT
        )


def test_an_answer_that_fails_is_an_error_of_the_call() -> None:
    def reply(request: Request) -> str:
        if noting(request) == "the answer":
            raise ServerError("down", status=500)
        return noting(request)

    with pytest.raises(ProviderFailed):
        system(ScriptedBackend(reply), budget=500, errors="skip", max_provider_retry=0)("Summarise.", TEXT)


# --- the session


class Asked:
    """A model that notes what it is asked."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def __call__(self, request: Request) -> str:
        self.parts.append(noting(request))
        return noting(request)


@MODES
def test_a_replay_asks_nothing_and_measures_nothing(mode: str, embedded: EmbeddedBackend) -> None:
    store, measured = MemoryLog(), Measured(embedded)
    more = {"budget": 400, "mode": mode, "store": store}
    answer = system(measured, **more)("Summarise.", TEXT)
    asked = Asked()

    def program() -> None:
        system(Measured(None, asked), **more)("Summarise.", TEXT)

    report = replay_session(answer.session, store=store, entry=program)
    assert report.verified, report.divergence
    assert asked.parts == []


@MODES
@pytest.mark.parametrize("share", [0.1, 0.4, 0.6, 0.95])
def test_an_interrupted_run_goes_on_at_its_chunk(mode: str, share: float) -> None:
    store = MemoryLog()
    more = {"budget": 500, "mode": mode, "limit": 1}
    answer = system(ScriptedBackend(noting), store=store, **more)("Summarise.", TEXT)
    cut = MemoryLog()
    cut._blobs = dict(store._blobs)
    bodies = store._sessions[answer.session]
    cut._sessions[answer.session] = bodies[: int(len(bodies) * share)]
    replied = sum(event["kind"] == "ModelReplied" for event in events(cut, answer.session))
    asked, again = Asked(), []

    def program() -> None:
        again.append(system(ScriptedBackend(asked), store=cut, **more)("Summarise.", TEXT))

    resume_session(answer.session, store=cut, entry=program)
    assert again == [answer]
    assert [part.text for part in again[0].parts] == [part.text for part in answer.parts]
    assert len(asked.parts) == len(answer.stages) - replied
    assert not set(asked.parts) & {f"notes of {n + 1}" for n in range(replied)} - {"the answer", "merged"}


# --- as a step


def test_it_stands_in_chains_and_batches() -> None:
    reader = ChainOfAgents("reader", ScriptedBackend(noting), budget=500, prompt="Summarise.")
    upper = Agent("upper", ScriptedBackend(lambda request: request.messages[-1].text.upper()))
    chain = step(lambda text: text * 2, name="twice") >> reader >> upper
    store = MemoryLog()
    result = chain.run(TEXT, store=store)
    assert str(result.value) == "THE ANSWER"
    assert "".join(part.text for part in result.stages[1].value.parts) == TEXT * 2
    assert replay_session(result.session, store=store, entry=lambda: chain.run(TEXT, store=store)).verified
    both = reader.batch([TEXT, {"initial_prompt": "Who?", "long_text": TEXT}], store=MemoryLog())
    assert both == ["the answer", "the answer"]
    assert isinstance(both[0], Answer)
    assert "".join(reader.stream(TEXT, store=MemoryLog()).text()) == "the answer"
    with pytest.raises(ConfigError, match="takes a text"):
        reader(5)


async def test_chunks_asks_nothing() -> None:
    backend = ScriptedBackend(noting)
    reader = system(backend, budget=500)
    chunks = await reader.chunks("Summarise.", TEXT)
    assert backend.requests == []
    assert chunks == [part.text for part in (await reader.run("Summarise.", TEXT)).parts]
