"""Asks a model for replies of random schemas, and says what became of each.

python -m tests.structured.run --all                  all 500 schemas on every local backend
python -m tests.structured.run embedded --count 50    the first 50 on one

Ends with 1 when a reply was neither valid nor a typed error, or when a backend said of one that it was held to its schema and
it was not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema_rs

from lllm import Agent, MemoryLog
from lllm.core.events import MODEL_REPLIED
from lllm.errors import CallError
from lllm.llm.connect import connect
from lllm.ports import Backend
from lllm.tools.formats import Format
from tests.structured.schemas import COUNT, schema
from training.embedded import forms
from training.embedded.forms import Forms

ENFORCED = ("grammar", "validation")
TOKENS = 200
TOGETHER = 8


class Outcome(NamedTuple):
    """What became of one schema.

    Attributes:
        seed: of the schema.
        ending: `valid`, or the name of the typed error.
        enforced: what the log's ModelReplied event says, or None where there is no such event.
        finish: why the model stopped.
        fault: what must not be: an untyped error, an unconstrained success, a false claim of the backend; or None.
    """

    seed: int
    ending: str
    enforced: str | None
    finish: str | None
    fault: str | None = None


async def check(
    model: str | Backend, seeds: Iterable[int], options: Mapping[str, Any] | None = None
) -> list[Outcome]:
    """One outcome per seed, in order. No repairs: every first reply counts. `options` are the backend's."""
    limit = asyncio.Semaphore(TOGETHER)
    store = MemoryLog()

    async def one(seed: int) -> Outcome:
        async with limit:
            return await _one(model, options, store, seed)

    return list(await asyncio.gather(*(one(seed) for seed in seeds)))


async def checked(model: str, options: Mapping[str, Any], seeds: Iterable[int]) -> list[Outcome]:
    """`check`, and the model is given back."""
    try:
        return await check(model, seeds, options)
    finally:
        await connect(model, options)[0].aclose()


async def _one(
    model: str | Backend, options: Mapping[str, Any] | None, store: MemoryLog, seed: int
) -> Outcome:
    wanted = schema(seed)
    agent = Agent(
        "structured", model, options=options, format=wanted, store=store, max_exception_retry=0, max_llm_recall=0,
        temperature=0.8, seed=seed, max_tokens=TOKENS,
    )  # fmt: skip
    try:
        reply = await agent.acall(f"Question {seed}: give me an example.")
    except CallError as error:
        said = _said(store, error.session)
        return _failed(seed, error, said, wanted)
    except Exception as error:
        return Outcome(seed, type(error).__name__, None, None, f"untyped: {error!r}")
    said = _said(store, reply.session)
    enforced, finish = said.get("enforced"), said.get("finish")
    return Outcome(seed, "valid", enforced, finish, _of_success(wanted, reply, enforced))


def _of_success(wanted: Mapping[str, Any], reply: Any, enforced: str | None) -> str | None:
    if not jsonschema_rs.is_valid(wanted, reply.parsed):
        return f"taken and not valid: {reply.content!r}"
    if enforced is None or not enforced.startswith(ENFORCED):
        return f"the log says that it was held by {enforced!r}"
    if reply.enforced != enforced:
        return f"the reply says {reply.enforced!r} and the log {enforced!r}"
    return None


def _failed(seed: int, error: CallError, said: Mapping[str, Any], wanted: Mapping[str, Any]) -> Outcome:
    enforced, finish = said.get("enforced"), said.get("finish")
    fault = None
    if said and enforced is None:
        fault = "the log does not say how it was held"
    elif said and finish == "stop" and enforced and enforced.startswith("grammar"):
        fault = _false_claim(str((said.get("message") or {}).get("content")), enforced, wanted)
        if fault is None and enforced == "grammar":
            fault = "refused, although all of the schema was enforced"
    elif not said:
        fault = f"no reply: {error}"
    return Outcome(seed, type(error).__name__, enforced, finish, fault)


def _false_claim(text: str, enforced: str, wanted: Mapping[str, Any]) -> str | None:
    """What a whole reply broke although the backend said that this was enforced."""
    form = Format.of(wanted)
    assert form is not None
    sent = form.asked()
    excepted = set(enforced.removeprefix("grammar").removeprefix(" except ").split(", ")) - {""}
    try:
        value = json.loads(text)
    except ValueError:
        return f"{enforced}: no JSON: {text!r}"
    for problem in jsonschema_rs.iter_errors(sent.get("whole", sent["schema"]), value):
        path = {str(part) for part in problem.schema_path}
        # an alternative of a union may have failed by a keyword that was left out
        if not path & excepted and not (excepted and path & {"anyOf", "oneOf"}):
            return f"{enforced}: {problem.message} ({'/'.join(map(str, problem.schema_path))}): {text!r}"
    return None


def _said(store: MemoryLog, session: str | None) -> Mapping[str, Any]:
    """The data of the session's last ModelReplied event; empty where the model did not answer."""
    found: Mapping[str, Any] = {}
    for body in store.read(session) if session is not None else ():
        event = json.loads(body)
        if event["kind"] == MODEL_REPLIED:
            found = event["data"]
    return found


def table(name: str, outcomes: list[Outcome], seconds: float | None = None) -> str:
    """What became of them, in lines."""
    endings = Counter(outcome.ending for outcome in outcomes)
    finishes = Counter(
        f"{outcome.ending} ({outcome.finish})" for outcome in outcomes if outcome.ending != "valid"
    )
    enforced = Counter(str(outcome.enforced) for outcome in outcomes)
    took = "" if seconds is None else f" in {seconds:.1f} s"
    lines = [
        f"{name}: {len(outcomes)} schemas{took}, {endings['valid']} valid,"
        f" {len(outcomes) - endings['valid']} typed errors, {sum(o.fault is not None for o in outcomes)} faults",
        f"  errors:   {', '.join(f'{count} {what}' for what, count in finishes.most_common()) or 'none'}",
        f"  enforced: {', '.join(f'{count} {what}' for what, count in enforced.most_common())}",
        *(f"  FAULT seed {outcome.seed}: {outcome.fault}" for outcome in outcomes if outcome.fault),
    ]
    return "\n".join(lines)


def models(made: Forms) -> dict[str, tuple[str, dict[str, Any]]]:
    """The local backends on the embedded model: name -> model, and the options of the backend."""
    return {
        "embedded": ("embedded", {}),
        "xllamacpp": (f"llama_cpp/{made.gguf_q8}", {"engine": "xllamacpp"}),
        "llama-cpp-python": (f"llama_cpp/{made.gguf_q8}", {"engine": "llama-cpp-python"}),
        "transformers": (f"transformers/{made.folder}", {"device": "cpu", "threads": 1}),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.structured.run", description=__doc__.split("\n")[0]
    )
    parser.add_argument("names", nargs="*", help="embedded, xllamacpp, llama-cpp-python, transformers")
    parser.add_argument("--all", action="store_true", help="every local backend")
    parser.add_argument("--count", type=int, default=COUNT, help=f"how many schemas ({COUNT})")
    given = parser.parse_args(argv)
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        known = models(forms.make(Path(folder) / "forms"))
        for name in known if given.all else given.names or ["embedded"]:
            started = time.monotonic()
            outcomes = asyncio.run(checked(*known[name], range(given.count)))
            print(table(name, outcomes, time.monotonic() - started), flush=True)
            faults += sum(outcome.fault is not None for outcome in outcomes)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
