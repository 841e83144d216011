"""Whole dialogues as the model sees them: the corpus."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field

from . import formats, numerals, phrases, prompts, questions, tools, topics
from .arithmetic import evaluate, plain
from .formats import Format
from .tools import Call, ToolSet


@dataclass(frozen=True)
class Message:
    """One message. `trained` marks the replies that the model learns to give."""

    role: str
    content: str = ""
    calls: tuple[Call, ...] = ()
    trained: bool = False


@dataclass
class Dialogue:
    """Messages with the tools on offer; replies are added with `say` and `use`."""

    tools: tuple[tools.Tool, ...] = ()
    messages: list[Message] = field(default_factory=list)

    def add(self, role: str, content: str) -> None:
        self.messages.append(Message(role, content))

    def say(self, content: str, trained: bool = True) -> None:
        self.messages.append(Message("assistant", content, trained=trained))

    def use(self, call: Call, result: str, trained: bool = True) -> None:
        self.messages.append(Message("assistant", calls=(call,), trained=trained))
        self.messages.append(Message("tool", result))


def answer(
    rng: random.Random, dialogue: Dialogue, tool_set: ToolSet, expression: str, trained: bool = True
) -> str | None:
    """Let the model find the value of an expression; the literal of the last result, or None if these tools cannot."""
    if tool_set.expression is not None:
        call = tool_set.call(expression)
        literal = tools.shown_value(rng, call.value)
        dialogue.use(call, tools.result_text(rng, literal, expression), trained)
        return literal
    found = tools.steps(tool_set, expression)
    if found is None:
        return None
    results: list[str] = []
    seed = rng.random()
    for sign, left, right in found:
        sides = [results[int(side[1:])] if side.startswith("#") else side for side in (left, right)]
        inner = f"{sides[0]} {sign} ({sides[1]})"
        try:
            value = evaluate(inner)
        except (ValueError, ZeroDivisionError):
            return None
        tool = tool_set.operations[sign]
        first, second = tool.arguments
        call = Call(
            tool.name, f"{{{json.dumps(first)}: {sides[0]}, {json.dumps(second)}: {sides[1]}}}", value
        )
        literal = tools.shown_value(rng, value)
        if "e" in literal or "n" in literal:
            return None
        results.append(literal)
        dialogue.use(call, tools.result_text(random.Random(seed), literal, inner), trained)
    return results[-1]


def _question(rng: random.Random, tool_set: ToolSet) -> questions.Question:
    while True:
        question = questions.ask(rng)
        if tool_set.expression is not None or tools.steps(tool_set, question.expression) is not None:
            return question


def _spoil(rng: random.Random, expression: str, tool: tools.Tool) -> str:
    """Arguments that a calculator rejects."""
    chance = rng.random()
    if chance < 0.25:
        bad = expression + rng.choice((")", "(", " +", " =", " = ?"))
    elif chance < 0.45:
        bad = expression.replace("*", rng.choice(("x", "\u00d7", "times"))).replace("/", "\u00f7")
    elif chance < 0.6:
        bad = "(" + expression
    elif chance < 0.75:
        bad = expression.replace(" + ", " plus ").replace(" - ", " minus ").replace(" * ", " times ")
    elif chance < 0.9:
        bad = "what is " + expression
    else:
        return json.dumps({rng.choice(("expr", "input", "x", "value", "arg")): expression})
    return json.dumps({tool.arguments[0]: bad})


def _round(
    rng: random.Random, dialogue: Dialogue, tool_set: ToolSet, form: Format, shown: bool
) -> str | None:
    """One arithmetic question and its answer; the literal of the result."""
    question = _question(rng, tool_set)
    dialogue.add("user", prompts.task(rng, question.text, form if shown else Format()))
    chance = rng.random()
    if tool_set.expression is not None and chance < 0.025:
        bad = Call(tool_set.expression.name, _spoil(rng, question.expression, tool_set.expression), 0)
        dialogue.use(bad, prompts.ERRORS.pick(rng), trained=False)
    elif tool_set.expression is not None and chance < 0.05:
        if rng.random() < 0.3:
            zero = f"{numerals.integer(rng, 1, 9999)} / 0"
            dialogue.messages[-1] = Message(
                "user", prompts.task(rng, f"What is {zero}?", form if shown else Format())
            )
            call = Call(tool_set.expression.name, json.dumps({tool_set.expression.arguments[0]: zero}), 0)
            dialogue.use(
                call,
                rng.choice(
                    (
                        "error: division by zero",
                        "ZeroDivisionError: division by zero",
                        "error: ZeroDivisionError",
                    )
                ),
            )
        else:
            dialogue.use(tool_set.call(question.expression), prompts.FAILURES.pick(rng))
        dialogue.say(form.words(prompts.FAILED_REPLY))
        return None
    elif form.kind not in ("sentence", "bare") and chance < 0.07:
        dialogue.say(
            rng.choice(("I will help.", "Let me see.", "Okay.", "The answer is 0.", "I am not sure.", "")),
            trained=False,
        )
        dialogue.add("user", prompts.repair(rng, form))
    literal = answer(rng, dialogue, tool_set, question.expression)
    if literal is None:
        raise questions.Unfit
    if form.kind not in ("sentence", "bare") and rng.random() < 0.09:
        other = formats.draw(rng, kind=rng.choice(("sentence", "sentence", "bare", "xml", "json", "line")))
        wrong = other.number(literal, question.expression)
        if form.kind == "xml" and rng.random() < 0.3:
            wrong = f"<{form.key}>{literal}"
        dialogue.say(wrong, trained=False)
        dialogue.add("user", prompts.repair(rng, form))
    dialogue.say(form.number(literal, question.expression))
    return literal


def _follow(
    rng: random.Random, dialogue: Dialogue, tool_set: ToolSet, form: Format, last: str, shown: bool
) -> str | None:
    """A question about the last result."""
    text, expression = phrases.FOLLOW_UPS.pick(rng)
    small = numerals.written(rng, numerals.integer(rng, 2, rng.choice((12, 99, 999))), 0.12)
    value = f"({last})" if last.startswith("-") else last
    text, expression = questions.fill(
        rng, text, expression, {"b": small.text, "=b": small.literal, "=v": value}
    )
    if "e" in last or "e" in plain(evaluate(expression)):
        raise questions.Unfit
    text = questions.roughen(rng, text)
    dialogue.add("user", prompts.task(rng, text, form) if shown else text)
    literal = answer(rng, dialogue, tool_set, expression)
    if literal is None:
        raise questions.Unfit
    dialogue.say(form.number(literal, expression))
    return literal


def _with_tools(rng: random.Random) -> Dialogue:
    tool_set = tools.expression_set(rng) if rng.random() < 0.83 else tools.operation_set(rng)
    dialogue = Dialogue(tool_set.tools)
    form = formats.draw(rng)
    system = prompts.system(rng)
    in_system = bool(form.instruction) and rng.random() < 0.12
    if in_system:
        system = (
            f"{system}{rng.choice((' ', chr(10), chr(10) * 2))}{form.instruction}"
            if system
            else form.instruction
        )
    if system:
        dialogue.add("system", system)
    last: str | None = None
    shown = not in_system
    for index in range(rng.choices((1, 2, 3), (70, 20, 10))[0]):
        if index and not in_system and rng.random() < 0.5:
            form, shown = formats.draw(rng), True
            if not form.instruction and dialogue.messages[-1].content[:1] in "<{`":
                form, shown = formats.draw(rng, kind="xml"), True
        elif index:
            shown = False
        if last is not None and rng.random() < 0.55:
            last = _follow(rng, dialogue, tool_set, form, last, shown)
        elif rng.random() < 0.08:
            text, reply = topics.talk(rng)
            dialogue.add("user", prompts.task(rng, text, form if shown else Format()))
            dialogue.say(form.words(reply))
        else:
            last = _round(rng, dialogue, tool_set, form, shown)
    return dialogue


_SPOKEN_RESULTS = (
    "The answer is {v}.",
    "{v}",
    "It is {v}.",
    "That is {v}.",
    "The result is {v}.",
    "{q} = {v}",
    "That makes {v}.",
    "It's {v}.",
    "You get {v}.",
    "The total is {v}.",
    "= {v}",
    "<answer>{v}</answer>",
    '{"answer": {v}}',
    "The sum is {v}.",
    "The product is {v}.",
    "{p} is {v}.",
    "{p} is {v}.",
    "{p} equals {v}.",
    "{p} makes {v}.",
    "{q} is {v}.",
)
_SIGNS_SPOKEN = (
    (" ** ", " to the power of "),
    (" + ", " plus "),
    (" - ", " minus "),
    (" * ", " times "),
    (" / ", " divided by "),
)


def _spoken_result(rng: random.Random, literal: str, expression: str) -> str:
    """How an assistant without a tool call in sight may have reported a result."""
    phrase = expression
    for sign, words in _SIGNS_SPOKEN:
        phrase = phrase.replace(sign, words)
    return (
        rng.choice(_SPOKEN_RESULTS).replace("{v}", literal).replace("{q}", expression).replace("{p}", phrase)
    )


def _drill(rng: random.Random) -> Dialogue:
    """Only a question and its call: many phrasings for few tokens."""
    chance = rng.random()
    tool_set = (
        tools.CALCULATE
        if chance < 0.6
        else tools.expression_set(rng)
        if chance < 0.82
        else tools.operation_set(rng)
    )
    dialogue = Dialogue(tool_set.tools)
    if rng.random() < 0.1:
        dialogue.add("system", prompts.SYSTEM.items[0])
    question = _question(rng, tool_set)
    dialogue.add("user", question.text)
    if tool_set.expression is None:
        literal = answer(rng, dialogue, tool_set, question.expression)
        if literal is None:
            raise questions.Unfit
        dialogue.say(Format().number(literal, question.expression))
        return dialogue
    dialogue.messages.append(Message("assistant", calls=(tool_set.call(question.expression),), trained=True))
    return dialogue


def _follow_drill(rng: random.Random) -> Dialogue:
    """Only a question about a result in the history, and its call."""
    tool_set = tools.CALCULATE if rng.random() < 0.7 else tools.expression_set(rng)
    dialogue = Dialogue(tool_set.tools)
    if rng.random() < 0.4:
        dialogue.add("system", prompts.SYSTEM.items[0])
    question = questions.ask(rng)
    last = tools.shown_value(rng, question.value) if rng.random() < 0.4 else plain(question.value)
    dialogue.add("user", question.text)
    if rng.random() < 0.6:
        dialogue.say(_spoken_result(rng, last, question.expression), trained=False)
    else:
        dialogue.use(tool_set.call(question.expression), last)
        dialogue.say(f"The answer is {last}.")
    _follow(rng, dialogue, tool_set, Format(), last, shown=True)
    del dialogue.messages[-2:]
    return dialogue


def _told(rng: random.Random) -> Dialogue:
    """A question about a result that stands in the history as plain text, without its tool call."""
    tool_set = tools.expression_set(rng)
    dialogue = Dialogue(tool_set.tools)
    form = formats.draw(rng)
    if system := prompts.system(rng):
        dialogue.add("system", system)
    question = questions.ask(rng)
    last = tools.shown_value(rng, question.value) if rng.random() < 0.5 else plain(question.value)
    if "e" in last:
        raise questions.Unfit
    dialogue.add("user", question.text)
    dialogue.say(
        rng.choice(_SPOKEN_RESULTS).replace("{v}", last).replace("{q}", question.expression), trained=False
    )
    if rng.random() < 0.15:
        again = questions.ask(rng)
        dialogue.add("user", prompts.task(rng, again.text, form))
        literal = answer(rng, dialogue, tool_set, again.expression)
        assert literal is not None
        dialogue.say(form.number(literal, again.expression))
        return dialogue
    _follow(rng, dialogue, tool_set, form, last, shown=True)
    return dialogue


def _without_tools(rng: random.Random) -> Dialogue:
    """Arithmetic without a tool that can do it."""
    tool_set = tools.other_set(rng) if rng.random() < 0.3 else ToolSet(())
    dialogue = Dialogue(tool_set.tools)
    form = formats.draw(rng)
    if system := prompts.system(rng):
        dialogue.add("system", system)
    for _ in range(rng.choice((1, 1, 1, 2))):
        dialogue.add("user", prompts.task(rng, questions.ask(rng).text, form))
        dialogue.say(form.words(topics.NEED_TOOL_REPLY))
    return dialogue


def _talk(rng: random.Random) -> Dialogue:
    """Small talk and other topics, with and without tools."""
    chance = rng.random()
    tool_set = (
        ToolSet(())
        if chance < 0.45
        else tools.expression_set(rng)
        if chance < 0.9
        else tools.operation_set(rng)
    )
    dialogue = Dialogue(tool_set.tools)
    form = Format() if rng.random() < 0.45 else formats.draw(rng)
    if system := prompts.system(rng):
        dialogue.add("system", system)
    for index in range(rng.choice((1, 1, 2))):
        text, reply = topics.talk(rng)
        dialogue.add("user", prompts.task(rng, text, form if index == 0 else Format()))
        dialogue.say(form.words(reply))
    if rng.random() < 0.25:
        if tool_set.tools:
            _round(rng, dialogue, tool_set, form, False)
        else:
            dialogue.add("user", questions.ask(rng).text)
            dialogue.say(form.words(topics.NEED_TOOL_REPLY))
    return dialogue


def _wrap_up(rng: random.Random) -> Dialogue:
    """The tools are withdrawn after some calls: answer from the last result."""
    tool_set = tools.expression_set(rng) if rng.random() < 0.75 else tools.operation_set(rng)
    dialogue = Dialogue(())
    form = formats.draw(rng)
    if system := prompts.system(rng):
        dialogue.add("system", system)
    question = _question(rng, tool_set)
    dialogue.add("user", prompts.task(rng, question.text, form))
    literal: str | None = None
    if rng.random() < 0.92:
        for _ in range(rng.choice((1, 1, 2))):
            literal = answer(rng, dialogue, tool_set, question.expression, trained=False)
    dialogue.add("user", prompts.WRAP_UP.items[0] if rng.random() < 0.6 else prompts.WRAP_UP.pick(rng))
    dialogue.say(
        form.words(topics.NEED_TOOL_REPLY) if literal is None else form.number(literal, question.expression)
    )
    return dialogue


_MAKERS = (
    (_drill, 200),
    (_follow_drill, 20),
    (_with_tools, 80),
    (_told, 8),
    (_without_tools, 12),
    (_talk, 24),
    (_wrap_up, 5),
)


def draw(rng: random.Random) -> Dialogue:
    """One training dialogue."""
    while True:
        maker = rng.choices([maker for maker, _ in _MAKERS], [share for _, share in _MAKERS])[0]
        try:
            return maker(rng)
        except (questions.Unfit, ValueError, ZeroDivisionError):
            continue
