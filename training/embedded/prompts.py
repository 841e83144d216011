"""The text around a question: system prompts, wrappers, and the notes that a runtime sends."""

from __future__ import annotations

import random

from .formats import Format
from .split import Pool, expand

SYSTEM = Pool(
    [
        "You are a helpful assistant. Use the calculate tool for arithmetic and report its result.",
        "You are a helpful assistant.",
        "You are a helpful assistant. Use the calculator for arithmetic.",
        "You are a helpful assistant. Use the tools that you have.",
        "You are a helpful assistant with access to tools.",
        "You are a helpful AI assistant.",
        "You are a calculator assistant.",
        "You are a careful assistant that never does arithmetic in its head.",
        "You are a math tutor. Use the calculator for every computation.",
        "You are a friendly math assistant.",
        "You are an expert in arithmetic.",
        "You are a precise assistant. Always use tools for numbers.",
        "You are an accountant. Use the calculator.",
        "You are a small agent that solves word problems with a calculator.",
        "You are an agent. Solve the task with the tools.",
        "You solve arithmetic problems with tools.",
        "You answer questions about numbers. Use the tool, then answer.",
        "You are a bot for maths questions.",
        "You are an assistant that answers briefly.",
        "You are Ada, a helpful assistant.",
        "You are the solver. Work out the task that the user gives you.",
        "Use the calculator for all arithmetic. Report the result.",
        "Use the available tools to answer.",
        "Use tools whenever you need to compute something.",
        "Always use the tool to compute, never guess.",
        "Never calculate yourself. Call the tool and copy its result.",
        "Answer the user's question. Call a tool if it helps.",
        "Answer questions using the tools provided.",
        "Help the user with calculations.",
        "Help the user. Be brief.",
        "Be concise.",
        "Be helpful and honest.",
        "Solve the problem step by step with the tool.",
        "Please solve the math problem below.",
        "Your task is to answer arithmetic questions.",
        "Your job is to solve the user's problem using the calculator tool.",
        "The user asks arithmetic questions. Use the tool to find the answer.",
        "Think carefully, use the calculator, and give the final answer.",
        "Do what the user asks.",
        "Keep your answers short. Use tools for math.",
        "Assistant for arithmetic.",
        "Translate the question into an expression, call the tool, and report the number.",
        "First call the tool. Then report what it returned.",
        "You work in a team of agents. Solve your part and report the result.",
        "You are given a question. Find the answer with the tools that you have.",
        "You are a shop assistant who adds up bills.",
        "You are a data analyst with a calculator.",
    ]
)

WRAPPERS = Pool(
    [
        "Question: {q}",
        "Question:\n{q}",
        "Q: {q}",
        "Task: {q}",
        "Task:\n{q}",
        "The task: {q}",
        "Problem: {q}",
        "Problem:\n{q}",
        "User question: {q}",
        "Here is the question: {q}",
        "Here is my question:\n{q}",
        "Here is a problem for you. {q}",
        "Please solve this problem.\n{q}",
        "Please solve the following problem:\n\n{q}",
        "Please answer the question.\n\n{q}",
        "Answer the following question: {q}",
        "Answer this question.\n{q}",
        "Solve the following task.\n\n{q}",
        "Solve this word problem: {q}",
        "Input: {q}",
        "# Task\n{q}",
        "## Question\n\n{q}",
        "<question>{q}</question>",
        "<task>\n{q}\n</task>",
        "The user asks: {q}",
        "A user wrote: {q}",
        "I have a question. {q}",
        "Can you help me with this? {q}",
        "Help me with this one: {q}",
        "Hello! {q}",
        "Hi, {q}",
        "Next question: {q}",
        "Now this one: {q}",
        '"{q}"',
        "Exercise 3: {q}",
        "1. {q}",
        "Use the tools that you have. {q}",
        "Work on this: {q}",
        "{q}\nThanks!",
        "{q} Thank you.",
        "{q} Please use the calculator.",
        "{q} Use the tool.",
        "{q}\n\nUse the tools that you have.",
        "{q}\n\nThink step by step.",
        "{q} Do not guess.",
    ]
)

REPAIRS = Pool(
    [
        "Your last reply could not be used:\n{e}\nAnswer again, in the format asked for.",
        "Your reply was not accepted: {e}. Try again.",
        "I could not parse your answer: {e}",
        "Error: {e}. Please answer again in the right format.",
        "The format is wrong ({e}). Please fix it.",
        "{e}\nPlease correct your answer.",
        "That is not the format that I asked for.",
        "Wrong format. Answer again.",
        "Please use the format that I asked for.",
        "Your answer has errors:\n- {e}\nSend it again.",
        "Parsing failed: {e}. Repeat your answer in the requested format.",
        "Invalid reply: {e}. Please retry.",
    ]
)

_TAG_ERRORS = (
    "missing required tag <{k}>",
    "missing required tag <{k}>",
    "missing required tag: {k}",
    "required tag <{k}> not found",
    "no <{k}> tag in the reply",
    "the reply has no <{k}>...</{k}>",
    "tag <{k}> is missing",
    "expected exactly one <{k}> tag, found 0",
)

_JSON_ERRORS = (
    "not valid JSON: Expecting value: line 1 column 1 (char 0)",
    "not valid JSON: Expecting value: line 1 column 1 (char 0)",
    "not valid JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
    "not valid JSON",
    "no JSON object found",
    "'{k}' is a required property",
    "{k}: Field required",
    "missing key {k}",
    "the reply is not a JSON object",
    "$: '{k}' is a required property",
)

WRAP_UP = Pool(
    [
        "No more tool calls are possible. Answer now from what you have.",
        "No more tool calls are allowed. Give your final answer now.",
        "You have used all your tool calls. Answer now.",
        "The tools are gone. Please answer with what you know.",
        "Stop calling tools and answer.",
        "Please give the final answer now.",
        "Tool limit reached. Give the answer from the results so far.",
        "You cannot use tools any more. What is the answer?",
    ]
)

ERRORS = Pool(
    [
        "error: invalid syntax",
        "error: invalid expression",
        "error: could not parse the expression",
        "error: unexpected character",
        "error: unbalanced parentheses",
        "Error: invalid syntax (line 1)",
        "SyntaxError: invalid syntax",
        "ValueError: invalid expression",
        '{"error": "invalid expression"}',
        '{"error": "syntax error"}',
        "The expression is not valid.",
        "error: only numbers and operators are allowed",
        "Invalid input. Please correct the expression.",
    ]
)
"""What a tool says about a malformed expression; the model then sends a corrected one."""

FAILURES = Pool(
    [
        "error: division by zero",
        "ZeroDivisionError: division by zero",
        "error: timeout",
        "error: the tool timed out after 10 seconds",
        "error: connection refused",
        "error: service unavailable",
        '{"error": "internal server error"}',
        '{"error": "division by zero"}',
        "error: permission denied",
        "error: the tool was denied by the user",
        "Error: tool failed",
        "error: number too large",
        "TimeoutError",
        "The tool is not available at the moment.",
        "error: rate limit exceeded",
        "error: 500",
        "RuntimeError: something went wrong",
    ]
)
"""What a tool says when trying again is of no use."""

FAILED_REPLY = "The tool reported an error, so I cannot answer."


def system(rng: random.Random, held: bool = False) -> str | None:
    """A system prompt, or None."""
    chance = rng.random()
    if chance < 0.3:
        return None
    if chance < 0.45:
        return "You are a helpful assistant. Use the calculate tool for arithmetic and report its result."
    return SYSTEM.pick(rng, held)


def task(rng: random.Random, question: str, form: Format, held: bool = False) -> str:
    """The user's message: the question with its wording around it and the format asked for."""
    if rng.random() < 0.2:
        question = WRAPPERS.pick(rng, held).replace("{q}", question)
    if not form.instruction:
        return question
    instruction = form.instruction
    if form.kind != "sentence" and rng.random() < 0.15:
        hint = rng.choice(
            (
                "Use the tools that you have.",
                "Use the tools that you have.",
                "Use the calculator.",
                "Use your tools.",
                "Think step by step.",
            )
        )
        instruction = f"{hint} {instruction}"
    chance = rng.random()
    if chance < 0.45:
        return f"{question}\n\n{instruction}"
    if chance < 0.7:
        return f"{question} {instruction}"
    if chance < 0.8:
        return f"{question}\n{instruction}"
    if chance < 0.9:
        return f"{instruction}\n\n{question}"
    return f"{instruction} {question}"


def repair(rng: random.Random, form: Format, held: bool = False) -> str:
    """The message that rejects a reply which was not in the format asked for."""
    if form.kind in ("json", "json_two"):
        error = rng.choice(_JSON_ERRORS)
    elif form.kind in ("xml", "xml_two"):
        error = rng.choice(_TAG_ERRORS)
    elif form.kind == "block":
        error = rng.choice(
            ("missing required block ```{k}```", "missing required md tag {k}", "no {k} block found")
        )
    else:
        error = "the reply does not have the right format"
    frame = REPAIRS.items[0] if rng.random() < 0.55 else REPAIRS.pick(rng, held)
    return expand(rng, frame).replace("{e}", error.replace("{k}", form.key))
