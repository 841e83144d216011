"""F1, F3, F7, T29: what an LLM takes, opens and closes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from lllm import LLM, Agent, Dialog, MemoryLog, Message, Prompt, Reply, ScriptedBackend, replay_session
from lllm.errors import ConfigError, UnsupportedError
from lllm.llm.model import shape
from lllm.models.function import as_function
from lllm.ports import Capabilities, Completed, Delta, Request
from lllm.registry import registry
from training.embedded.forms import Forms

USER = {"role": "user", "content": "a"}
ASKED = Message("user", "a")

SHAPES: list[tuple[Any, str]] = [
    ("a", "one"),
    (" ", "one"),
    (ASKED, "one"),
    (Dialog([USER]), "one"),
    ([USER], "one"),
    ((USER,), "one"),
    ([ASKED], "one"),
    ([USER, ASKED], "one"),
    ([{"role": "system", "content": "s"}, USER], "one"),
    (["a"], "batch"),
    (("a", "b"), "batch"),
    ([[USER]], "batch"),
    ([[USER], [ASKED, USER]], "batch"),
    (([USER], (ASKED,)), "batch"),
    ("", "empty text"),
    ([], "an empty list"),
    ((), "an empty list"),
    ([[]], "holds list"),
    ([[USER], []], "holds list"),
    (["a", USER], "a mixed list"),
    (["a", [USER]], "a mixed list"),
    ([USER, [USER]], "a mixed list"),
    ([["a"]], "holds list"),
    ([["a", USER]], "holds list"),
    ([[[USER]]], "holds list"),
    ([1], "holds int"),
    ([None], "holds NoneType"),
    ([b"a"], "holds bytes"),
    (b"a", "with bytes"),
    (USER, "with dict"),
    ({"a"}, "with set"),
    (None, "with NoneType"),
    (3, "with int"),
    (iter(["a"]), "with list_iterator"),
    ([{"role": "nobody", "content": "a"}], "nobody"),
    ([[USER], [{"role": "nobody", "content": "a"}]], "nobody"),
    ([{"role": "user", "content": 3}], "content"),
]


@pytest.mark.parametrize(
    ("given", "wanted"), SHAPES, ids=[str(given)[:60].partition(" object at")[0] for given, _ in SHAPES]
)
def test_what_is_given_decides_what_comes_back(given: Any, wanted: str) -> None:
    model = ScriptedBackend(lambda request: request.messages[-1].text)
    llm = LLM(model)
    if wanted in ("one", "batch"):
        assert shape(given) == wanted
        got = llm(given)
        assert isinstance(got, list) == (wanted == "batch")
        assert len(got if isinstance(got, list) else [got]) == len(model.requests)
        assert all(isinstance(each, Reply) for each in (got if isinstance(got, list) else [got]))
        return
    with pytest.raises(ConfigError) as failed:
        llm(given)
    assert wanted in failed.value.message
    assert "Valid inputs of an LLM" in str(failed.value)
    assert not model.requests


# --- f(x) equals await f.acall(x) ---------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["a", [USER], ["a", "b"], [[USER], [USER]]])
async def test_calling_and_awaiting_are_the_same(given: Any) -> None:
    llm = LLM(ScriptedBackend(lambda request: request.messages[-1].text))

    def plain(got: Any) -> Any:
        return [reply.with_(session=None, call=None) for reply in (got if isinstance(got, list) else [got])]

    assert plain(llm(given)) == plain(await llm.acall(given))


async def test_every_blocking_method_has_its_twin() -> None:
    own = {LLM: "stream classify embed close", Agent: "call stream classify binary_classify"}
    for kind, names in own.items():
        assert all(
            callable(getattr(kind, name)) and callable(getattr(kind, f"a{name}")) for name in names.split()
        )
    tops = [{"token": "yes", "logprob": -0.1}]
    llm = LLM(Vectors(lambda request: {"content": "yes", "logprobs": [{**tops[0], "top": tops}]}))
    assert llm.classify("x", ["yes", "no"]) == await llm.aclassify("x", ["yes", "no"]) == {"yes": 1, "no": 0}
    assert llm.embed(["a"]) == await llm.aembed(["a"])


def test_a_tool_is_a_function_too() -> None:
    def add(a: int, b: int = 2) -> int:
        """Add."""
        return a + b

    tool = as_function(add)
    assert tool(1) == tool(a=1) == add(1) == 3


# --- vectors ------------------------------------------------------------------------------------------------


class Vectors(ScriptedBackend):
    """Gives vectors too, and counts how often it is closed."""

    name, model = "vectors/tiny", "tiny"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.asked: list[tuple[str, list[str]]] = []
        self.closed = 0

    async def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        self.asked.append((model, list(texts)))
        return [[float(len(text))] for text in texts]

    async def aclose(self) -> None:
        self.closed += 1


def test_vectors() -> None:
    model = Vectors()
    assert LLM(model).embed(["a", "bb"]) == [[1.0], [2.0]]
    assert LLM(model).embed([]) == []
    assert model.asked == [("tiny", ["a", "bb"])]


def test_a_backend_without_vectors() -> None:
    with pytest.raises(UnsupportedError, match="gives no vectors"):
        LLM(ScriptedBackend()).embed(["a"])


@pytest.mark.parametrize("texts", ["a", [1], [["a"]], [None]])
def test_vectors_of_a_list_of_texts(texts: Any) -> None:
    with pytest.raises(ConfigError, match="a list of texts"):
        LLM(Vectors()).embed(texts)


# --- opening and closing ------------------------------------------------------------------------------------


def test_options_reach_the_constructor() -> None:
    class Local(ScriptedBackend):
        def __init__(self, context: int = 0, threads: int = 0, device: str = "auto") -> None:
            super().__init__(lambda request: f"{context} {threads} {device} {request.model}")

    with registry.scope():
        registry.add("backend", "local", Local)
        llm = LLM("local/tiny.gguf", options={"context": 512, "threads": 2, "device": "cpu"})
        assert str(llm("x")) == "512 2 cpu tiny.gguf"
        assert str(llm("x", model="local/other", options={"threads": 1})) == "0 1 auto other"
        assert str(llm("x")) == "512 2 cpu tiny.gguf"
        with pytest.raises(ConfigError, match="contxt"):
            LLM("local/tiny.gguf", options={"contxt": 512})


async def test_closing_twice_is_closing_once() -> None:
    model = Vectors(lambda request: "ok")
    async with LLM(model) as llm:
        assert str(await llm.acall("x")) == "ok"
    await llm.aclose()
    assert model.closed == 1
    assert str(await llm.acall("x")) == "ok"  # it is open again
    await llm.aclose()
    assert model.closed == 2
    with pytest.raises(ZeroDivisionError):
        async with LLM(model):
            raise ZeroDivisionError
    assert model.closed == 3


def test_closing_in_blocking_code() -> None:
    model = Vectors(lambda request: "ok")
    with LLM(model) as llm:
        llm("x")
    llm.close()
    llm.close()
    assert model.closed == 1


class Bare:
    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        yield Completed(Reply("ok"))


def test_a_backend_that_cannot_be_closed_is_not() -> None:
    with LLM(Bare()) as llm:
        assert str(llm("x")) == "ok"


# --- how a form was held to ---------------------------------------------------------------------------------

FORM = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


class Graded(Bare):
    capabilities = Capabilities(grammar=True)

    def __init__(self, enforced: str | None) -> None:
        self.enforced = enforced

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        await asyncio.sleep(0)
        yield Completed(Reply('{"n": 1}', enforced=self.enforced))


@pytest.mark.parametrize("told", ["grammar", "grammar except minimum", "provider", None])
def test_a_reply_says_how_it_was_held_to_its_form(told: str | None) -> None:
    store = MemoryLog()
    agent = Agent("a", Graded(told), format=FORM, store=store)
    reply = agent("x")
    wanted = told or "validation"
    assert (reply.enforced, reply["enforced"], reply.parsed) == (wanted, wanted, {"n": 1})
    assert reply.session is not None
    assert f'"enforced":"{wanted}"'.encode() in b"\n".join(store.read(reply.session))
    replayed: list[Reply] = []
    report = replay_session(reply.session, store=store, entry=lambda: replayed.append(agent("x")))
    assert report.verified
    assert [again.enforced for again in replayed] == [wanted]


async def test_where_no_form_was_asked_it_says_nothing() -> None:
    assert LLM(ScriptedBackend(["yes"]))("x").enforced is None
    prompt = Prompt("p", "Say it.", format=FORM)
    assert Agent("a", ScriptedBackend(['{"n": 1}']))(prompt).enforced == "validation"
    stream = LLM(ScriptedBackend(['{"n": 1}'])).astream("x", format=FORM)
    assert (await stream.acollect()).enforced == "validation"


# --- with real weights --------------------------------------------------------------------------------------

LOCAL: dict[str, tuple[str, dict[str, Any]]] = {
    "llama_cpp": ("gguf_q8", {"context": 1024, "threads": 1}),
    "transformers": ("folder", {}),
}


@pytest.mark.parametrize("name", LOCAL)
def test_a_local_model_answers_gives_vectors_and_is_closed(name: str, forms: Forms) -> None:
    form, options = LOCAL[name]
    with LLM(f"{name}/{getattr(forms, form)}", options=options, max_tokens=8, temperature=0) as llm:
        one, *others = llm(["Hello.", "Hello.", "What is 2 + 2?"])
        assert isinstance(one, Reply)
        assert str(one) == str(others[0]) != str(others[1])
        stream = llm("Hello.", stream=True)
        assert "".join(stream.text()) == str(one)
        assert (stream.reply and stream.reply.finish_reason) == one.finish_reason
        for _ in llm("Hello.", stream=True, max_tokens=200):
            break
        vectors = llm.embed(["Hello.", "Hello.", "What is 2 + 2?"])
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-4)
    assert vectors[0] != pytest.approx(vectors[2], abs=1e-2)
    assert len({len(vector) for vector in vectors}) == 1
    with llm:
        assert str(llm("Hello.")) == str(one)  # it is open again
