# ruff: noqa: E501
"""Sets of tools that a user may offer, the calls they want, and what they return."""

from __future__ import annotations

import ast
import json
import random
from dataclasses import dataclass, field

from .arithmetic import Value, evaluate
from .identifiers import identifier
from .split import Pool

EXPRESSION_NAMES = Pool(
    "calculate calculator evaluate compute math calc eval arithmetic do_math solve evaluate_expression calculate_expression "
    "math_eval run_calculation compute_expression calculator_tool math_tool simple_calculator solve_math python_eval "
    "arithmetic_eval eval_expression eval_math basic_calculator pocket_calculator calculate_result get_result my_calculator "
    "calc_tool expression_evaluator number_cruncher execute_calculation perform_calculation crunch abacus Calculator "
    "calculateExpression mathSolver eval_expr calculator.evaluate math-calc calculator_v2 safe_eval solve_expression".split()
)

EXPRESSION_ARGUMENTS = Pool(
    "expression expr formula query input text equation math_expression problem e calculation q math exp value statement term code string question".split()
)

ADD = Pool("add addition plus sum add_numbers add_two sum_numbers math_add adder do_add".split())
SUBTRACT = Pool(
    "subtract subtraction minus difference subtract_numbers sub math_subtract do_subtract".split()
)
MULTIPLY = Pool(
    "multiply multiplication times product multiply_numbers mul math_multiply mult do_multiply".split()
)
DIVIDE = Pool("divide division quotient divide_numbers div math_divide do_divide divide_by".split())
ARGUMENT_PAIRS = Pool(
    [
        "a b",
        "x y",
        "left right",
        "first second",
        "num1 num2",
        "n1 n2",
        "number1 number2",
        "lhs rhs",
        "a1 a2",
        "arg1 arg2",
        "first_number second_number",
        "op1 op2",
        "m n",
        "p q",
        "value1 value2",
    ]
)

DISTRACTORS = Pool(
    "get_weather(city) weather(location) get_time(timezone) current_time() search(query) web_search(query) send_email(to, subject, body) "
    "translate(text, language) read_file(path) write_file(path, content) run_sql(query) get_stock_price(symbol) list_files(folder) lookup(word) "
    "get_news(topic) convert_currency(amount, from, to) set_timer(minutes) book_flight(origin, destination) wikipedia(title) open_url(url) "
    "create_event(title, date) get_user(id) random_fact() define(word) play_music(song) remember(note)".replace(
        ", ", ","
    ).split()
)

_STEMS = ("calc", "math", "eval", "compute", "arith", "solve", "calculator", "calculate")
_ARGUMENT_STEMS = ("expr", "expression", "formula", "equation", "calculation")

_OPERATIONS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


@dataclass(frozen=True)
class Tool:
    """A tool as the prompt shows it."""

    name: str
    arguments: tuple[str, ...]

    @property
    def signature(self) -> str:
        return f"{self.name}({', '.join(self.arguments)})"

    def schema(self) -> dict[str, object]:
        """The tool as an OpenAI tool definition."""
        kind = "string" if len(self.arguments) == 1 else "number"
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": "",
                "parameters": {
                    "type": "object",
                    "properties": {name: {"type": kind} for name in self.arguments},
                    "required": list(self.arguments),
                },
            },
        }


@dataclass(frozen=True)
class Call:
    """One call: its arguments as the JSON text that the model writes, and what it evaluates to."""

    name: str
    arguments: str
    value: Value

    @property
    def text(self) -> str:
        return (
            f'<tool_call>\n{{"name": {json.dumps(self.name)}, "arguments": {self.arguments}}}\n</tool_call>'
        )


@dataclass(frozen=True)
class ToolSet:
    """Tools that can do arithmetic, among others.

    `expression` is the tool that takes whole expressions; otherwise `operations` maps + - * / to tools of two numbers.
    """

    tools: tuple[Tool, ...]
    expression: Tool | None = None
    operations: dict[str, Tool] = field(default_factory=dict)

    def call(self, expression: str) -> Call:
        """The call of the expression tool."""
        assert self.expression is not None
        return Call(
            self.expression.name, json.dumps({self.expression.arguments[0]: expression}), evaluate(expression)
        )


CALCULATE = ToolSet((Tool("calculate", ("expression",)),), Tool("calculate", ("expression",)))
"""What a new project has."""


def expression_set(rng: random.Random, held: bool = False) -> ToolSet:
    """One expression tool, sometimes with distractors."""
    chance = rng.random()
    if chance < 0.3:
        tool = Tool("calculate", ("expression",))
    else:
        name = identifier(rng, *_STEMS) if rng.random() < 0.3 else EXPRESSION_NAMES.pick(rng, held)
        argument = (
            identifier(rng, *_ARGUMENT_STEMS) if rng.random() < 0.45 else EXPRESSION_ARGUMENTS.pick(rng, held)
        )
        tool = Tool(name, (argument,))
    telling = any(stem in tool.signature.lower() for stem in _STEMS + _ARGUMENT_STEMS)
    return ToolSet(_mixed(rng, [tool], held) if telling else (tool,), expression=tool)


def operation_set(rng: random.Random, held: bool = False) -> ToolSet:
    """Tools for + - * /, sometimes with distractors."""
    if rng.random() < 0.5:
        pair = rng.choice((("a", "b"), ("x", "y"), ("left", "right")))
    else:
        first, second = ARGUMENT_PAIRS.pick(rng, held).split()
        if rng.random() < 0.4:
            first, second = identifier(rng), identifier(rng)
            second += "_2" if first == second else ""
        pair = (first, second)
    if rng.random() < 0.5:
        names = ["add", "subtract", "multiply", "divide"]
    else:
        names = [pool.pick(rng, held) for pool in (ADD, SUBTRACT, MULTIPLY, DIVIDE)]
    operations = {sign: Tool(name, pair) for sign, name in zip("+-*/", names, strict=True)}
    return ToolSet(_mixed(rng, list(operations.values()), held), operations=operations)


def other_set(rng: random.Random, held: bool = False) -> ToolSet:
    """Only tools that cannot do arithmetic."""
    return ToolSet(_mixed(rng, [], held, least=1))


def _mixed(rng: random.Random, tools: list[Tool], held: bool, least: int = 0) -> tuple[Tool, ...]:
    extra = max(least, rng.choice((0, 0, 0, 0, 1, 1, 2, 3)))
    while extra > 0:
        extra -= 1
        name, _, rest = DISTRACTORS.pick(rng, held).partition("(")
        if rng.random() < 0.4:
            name, rest = (
                identifier(rng),
                ",".join(identifier(rng) for _ in range(rng.choice((0, 1, 1, 2, 2, 3)))),
            )
            if any(stem in (name + rest).lower() for stem in _STEMS + _ARGUMENT_STEMS):
                continue
        if name not in [tool.name for tool in tools]:
            tools.append(Tool(name, tuple(part for part in rest.rstrip(")").split(",") if part)))
    if rng.random() < 0.6:
        rng.shuffle(tools)
    return tuple(tools)


def steps(tool_set: ToolSet, expression: str) -> list[tuple[str, str, str]] | None:
    """The expression as (sign, left, right) steps for tools of two numbers, or None if they cannot do it.

    An operand `#k` stands for the result of step k.
    """
    found: list[tuple[str, str, str]] = []

    def operand(node: ast.expr) -> str | None:
        if isinstance(node, ast.Constant):
            return ast.get_source_segment(expression, node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
            inner = operand(node.operand)
            return None if inner is None else "-" + inner
        if not isinstance(node, ast.BinOp):
            return None
        if isinstance(node.op, ast.Pow) and isinstance(node.right, ast.Constant) and node.right.value == 2:
            left = operand(node.left)
            if left is None:
                return None
            found.append(("*", left, left))
            return f"#{len(found) - 1}"
        left, right = operand(node.left), operand(node.right)
        if left is None or right is None or type(node.op) not in _OPERATIONS:
            return None
        found.append((_OPERATIONS[type(node.op)], left, right))
        return f"#{len(found) - 1}"

    if operand(ast.parse(expression, mode="eval").body) is None or not found or len(found) > 4:
        return None
    return found


def shown_value(rng: random.Random, value: Value) -> str:
    """A value as some tool may print it."""
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 1e15:
            return str(int(value)) if rng.random() < 0.5 else str(value)
        if rng.random() < 0.6:
            return str(round(value, rng.choice((2, 3, 4, 6))))
        return repr(value)
    return f"{value}.0" if rng.random() < 0.08 else str(value)


def result_text(rng: random.Random, literal: str, expression: str) -> str:
    """What the tool returns, in one of the usual shapes; it always holds `literal`."""
    chance = rng.random()
    if chance < 0.5:
        return literal
    shapes = (
        f'{{"result": {literal}}}', f'{{"result": {literal}}}', f'{{"value": {literal}}}', f'{{"answer": {literal}}}', f'{{"output": {literal}}}',
        f'{{"result": "{literal}"}}', f'{{"ok": true, "result": {literal}}}', f'{{"status": "ok", "value": {literal}}}', f'{{"value": {literal}, "unit": null}}',
        f'{{"expression": "{expression}", "result": {literal}}}', f'{{"result": {literal}, "expression": "{expression}"}}', f'{{"value": {literal}, "error": null}}',
        f"The result is {literal}", f"The result is {literal}.", f"Result: {literal}", f"result = {literal}", f"= {literal}", f"{expression} = {literal}",
        f"Answer: {literal}", f"The value is {literal}.", f"{literal}\n", f'"{literal}"', f"ok: {literal}", f"Done. The result is {literal}.", f"[{literal}]",
        f'{{"type": "text", "text": "{literal}"}}', f"Output: {literal}", f"float({literal})", f"<result>{literal}</result>",
    )  # fmt: skip
    return rng.choice(shapes)
