"""Measure the shipped GGUF through xllamacpp.

    python -m training.embedded evaluate

A tool call is *exact* if the reply is one well-formed call of an offered tool, with exactly the arguments of its
schema, and what it asks for has the right value. For a set of add/subtract/multiply/divide tools the calls are run
one after another, and the last result must be the right value. `strict` also wants the same expression, character by
character, and is counted for tools that take an expression. An answer is *right* if the final reply is, character by
character, the tool's result in the format asked for; it is counted over the questions whose calls were exact.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import formats, prompts, questions, tools, topics
from .arithmetic import Value, evaluate, same
from .engine import Engine
from .formats import Format
from .split import Source
from .tools import ToolSet
from .weights import GGUF_NAME, WEIGHTS

HERE = Path(__file__).parent
HAND_WRITTEN = HERE / "hand_written.jsonl"
RESULTS = HERE / "results.json"
ROUNDS = 6
"""Tool rounds after which a question is given up."""

SCAFFOLD = "You are a helpful assistant. Use the calculate tool for arithmetic and report its result."
HAND_FORMATS = {
    "sentence": Format(),
    "xml": Format(
        "xml", "Use the tools that you have. Give the final answer inside <answer> tags.", "answer"
    ),
    "json": Format(
        "json", 'Use the tools that you have. Reply with a JSON object: {"answer": number}', "answer"
    ),
}


@dataclass(frozen=True)
class Case:
    """One question to the model: what it sees, and what is right."""

    messages: tuple[dict[str, Any], ...]
    tool_set: ToolSet
    form: Format
    group: str
    value: Value = 0
    expression: str = ""
    reply: str | None = None
    """For questions that want no call: the reply. Otherwise None."""
    seed: int = 0


@dataclass
class Outcome:
    """What the model did."""

    case: Case
    exact: bool = False
    strict: bool = False
    answered: bool = False
    calls: list[str] = field(default_factory=list)
    final: str = ""


def _apply(tool_set: ToolSet, name: str, arguments: str) -> tuple[Value, str]:
    """The value of a call and its expression; ValueError if it is not a call of these tools."""
    try:
        given = json.loads(arguments)
    except json.JSONDecodeError as error:
        raise ValueError("arguments are not JSON") from error
    if not isinstance(given, dict):
        raise ValueError("arguments are not an object")
    if tool_set.expression is not None and name == tool_set.expression.name:
        if set(given) != set(tool_set.expression.arguments):
            raise ValueError("wrong arguments")
        text = given[tool_set.expression.arguments[0]]
        if not isinstance(text, str):
            raise ValueError("the expression is not a string")
        return evaluate(text), text
    for sign, tool in tool_set.operations.items():
        if tool.name == name and list(given) == list(tool.arguments):
            left, right = given.values()
            if any(type(side) not in (int, float) for side in (left, right)):
                raise ValueError("an operand is not a number")
            text = f"({left}) {sign} ({right})"
            return evaluate(text), text
    raise ValueError(f"unknown tool {name}")


def ask(engine: Engine, case: Case) -> Outcome:
    """Run one case to its final reply, with real tool results."""
    outcome = Outcome(case)
    messages = list(case.messages)
    offered = [tool.schema() for tool in case.tool_set.tools]
    literal: str | None = None
    rng = random.Random(case.seed)
    for _ in range(ROUNDS):
        message = engine.chat(messages, offered)["message"]
        calls = message.get("tool_calls") or []
        if not calls:
            outcome.final = message.get("content") or ""
            break
        if case.reply is not None:
            return outcome
        function = calls[0]["function"]
        outcome.calls.append(f"{function['name']} {function['arguments']}")
        if len(calls) > 1:
            return outcome
        try:
            value, text = _apply(case.tool_set, function["name"], function["arguments"])
        except (ValueError, ZeroDivisionError):
            outcome.exact = False
            return outcome
        outcome.exact = same(value, case.value) and (
            case.tool_set.expression is None or len(outcome.calls) == 1
        )
        outcome.strict = outcome.exact and text == case.expression
        literal = tools.shown_value(rng, value)
        call = {"id": f"call_{len(messages)}", "type": "function", "function": function}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        result = tools.result_text(rng, literal, text) if case.seed else literal
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
    if case.reply is not None:
        outcome.answered = outcome.final == case.reply
    elif literal is not None:
        outcome.answered = outcome.final == case.form.number(literal, text)
    return outcome


def _chat(system: str | None, user: str) -> tuple[dict[str, Any], ...]:
    messages = [{"role": "user", "content": user}]
    return tuple([{"role": "system", "content": system}, *messages] if system else messages)


def held_out(count: int, seed: int = 20, held: bool = True) -> list[Case]:
    """Generated questions with unseen numbers, phrasings, tool names, format wordings and system prompts.

    Without `held` only the numbers are unseen.
    """
    rng = Source(seed)
    cases = []
    while len(cases) < count:
        question = questions.ask(rng, held, unseen_numbers=True)
        tool_set = tools.expression_set(rng, held) if rng.random() < 0.85 else tools.operation_set(rng, held)
        if tool_set.expression is None and tools.steps(tool_set, question.expression) is None:
            continue
        form = formats.draw(rng, held)
        user = prompts.task(rng, question.text, form, held)
        system = prompts.system(rng, held)
        group = question.kind if tool_set.expression is not None else "operation tools"
        cases.append(
            Case(
                _chat(system, user),
                tool_set,
                form,
                group,
                question.value,
                question.expression,
                None,
                rng.randrange(1, 10**9),
            )
        )
    return cases


def no_tool(count: int, seed: int = 21) -> list[Case]:
    """Arithmetic without a tool for it."""
    rng = Source(seed)
    cases = []
    for _ in range(count):
        tool_set = tools.other_set(rng, True) if rng.random() < 0.3 else ToolSet(())
        form = formats.draw(rng, True)
        user = prompts.task(rng, questions.ask(rng, held=True).text, form, True)
        cases.append(
            Case(
                _chat(prompts.system(rng, True), user),
                tool_set,
                form,
                "no tool",
                reply=form.words(topics.NEED_TOOL_REPLY),
            )
        )
    return cases


def off_topic(count: int, seed: int = 22) -> list[Case]:
    """Questions about anything else, with and without a calculator on offer."""
    rng = Source(seed)
    cases = []
    for _ in range(count):
        tool_set = tools.expression_set(rng, True) if rng.random() < 0.5 else ToolSet(())
        form = Format() if rng.random() < 0.5 else formats.draw(rng, True)
        text, reply = topics.talk(rng, held=True, off_topic=True)
        user = prompts.task(rng, text, form, True)
        cases.append(
            Case(_chat(prompts.system(rng, True), user), tool_set, form, "off topic", reply=form.words(reply))
        )
    return cases


def repairs(count: int, seed: int = 23) -> list[Case]:
    """A reply in the wrong format was rejected; half of the cases with the tools withdrawn."""
    rng = Source(seed)
    cases = []
    while len(cases) < count:
        question = questions.ask(rng, held=True)
        tool_set = tools.expression_set(rng, True)
        form = formats.draw(rng, True, rng.choice(("xml", "json")))
        assert tool_set.expression is not None
        call = tool_set.call(question.expression)
        literal = tools.shown_value(rng, question.value)
        function = {"name": call.name, "arguments": call.arguments}
        messages = [
            *_chat(prompts.system(rng, True), prompts.task(rng, question.text, form, True)),
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "1", "type": "function", "function": function}],
            },
            {
                "role": "tool",
                "tool_call_id": "1",
                "content": tools.result_text(rng, literal, question.expression),
            },
        ]
        if len(cases) % 2:
            messages += [
                {"role": "assistant", "content": f"The answer is {literal}."},
                {"role": "user", "content": prompts.repair(rng, form)},
            ]
            group = "repair"
        else:
            messages.append({"role": "user", "content": prompts.WRAP_UP.items[0]})
            tool_set = ToolSet(())
            group = "wrap-up"
        cases.append(
            Case(tuple(messages), tool_set, form, group, reply=form.number(literal, question.expression))
        )
    return cases


def hand_written(half: str) -> list[Case]:
    """The hand-written questions, each in three formats, with the prompt and tool of a new project."""
    cases = []
    for line in HAND_WRITTEN.read_text().splitlines():
        row = json.loads(line)
        if half != "all" and (row["id"] % 2 == 1) != (half == "odd"):
            continue
        for form in HAND_FORMATS.values():
            user = f"{row['question']}\n\n{form.instruction}" if form.instruction else row["question"]
            messages = [
                {"role": "system", "content": SCAFFOLD},
                *row.get("history", ()),
                {"role": "user", "content": user},
            ]
            cases.append(Case(tuple(messages), tools.CALCULATE, form, row["kind"], row["value"]))
    return cases


def _share(outcomes: Iterable[Outcome], what: str) -> dict[str, float | int]:
    values = [getattr(outcome, what) for outcome in outcomes]
    return {
        "right": sum(values),
        "of": len(values),
        "percent": round(100 * sum(values) / len(values), 2) if values else 0.0,
    }


def _split(outcomes: list[Outcome], by: str, what: str) -> dict[str, Any]:
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.case.form.kind if by == "format" else outcome.case.group].append(outcome)
    return {name: _share(groups[name], what) for name in sorted(groups)}


def report(outcomes: list[Outcome]) -> dict[str, Any]:
    """The figures of one set of questions that want a call."""
    exact = [outcome for outcome in outcomes if outcome.exact]
    known = [o for o in outcomes if o.case.expression and o.case.tool_set.expression is not None]
    return {
        "exact_calls": _share(outcomes, "exact"),
        **({"strict_calls": _share(known, "strict")} if known else {}),
        "answers_that_copy_the_result": _share(exact, "answered"),
        "exact_calls_by_format": _split(outcomes, "format", "exact"),
        "answers_by_format": _split(exact, "format", "answered"),
        "exact_calls_by_kind": _split(outcomes, "kind", "exact"),
    }


def measure(engine: Engine, count: int, half: str, verbose: bool = False) -> dict[str, Any]:
    """All figures."""
    found: dict[str, Any] = {"model_sha256": hashlib.sha256(engine.path.read_bytes()).hexdigest()}
    failed: list[Outcome] = []

    def run(cases: list[Case]) -> list[Outcome]:
        outcomes: list[Outcome] = engine.map(lambda case: ask(engine, case), cases)
        failed.extend(o for o in outcomes if not (o.answered and (o.exact or o.case.reply is not None)))
        return outcomes

    if count:
        found["held_out"] = report(run(held_out(count)))
        found["unseen_numbers"] = report(run(held_out(count, 24, held=False)))
        found["says_it_needs_a_tool"] = _share(run(no_tool(max(1, count // 6))), "answered")
        found["says_it_only_does_arithmetic"] = _share(run(off_topic(max(1, count // 6))), "answered")
        found["repairs_and_wrap_ups"] = _split(run(repairs(max(2, count // 6))), "kind", "answered")
    if verbose:
        for outcome in failed:
            case = outcome.case
            print(
                json.dumps(
                    [
                        case.group,
                        case.form.kind,
                        case.messages[-1]["content"],
                        case.expression or case.reply,
                        outcome.calls,
                        outcome.final,
                    ],
                    ensure_ascii=False,
                )
            )
    for part in ("even", "odd") if half == "all" else (half,):
        if part != "none":
            found[f"hand_written_{part}"] = report(run(hand_written(part)))
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default=str(WEIGHTS / GGUF_NAME), help="the GGUF file")
    parser.add_argument("--count", type=int, default=1200, help="generated questions")
    parser.add_argument(
        "--half", choices=("even", "odd", "all", "none"), default="all", help="which hand-written questions"
    )
    parser.add_argument("--verbose", action="store_true", help="print the generated questions that failed")
    parser.add_argument("--write", action="store_true", help="write results.json")


def main(arguments: argparse.Namespace) -> None:
    engine = Engine(Path(arguments.model))
    found = measure(engine, arguments.count, arguments.half, arguments.verbose)
    text = json.dumps(found, indent=2) + "\n"
    if arguments.write:
        RESULTS.write_text(text)
    sys.stdout.write(text)
