"""rl/code: functions to write, tested in the sandbox.

    env = Code(tries=2)
    env.held_out(agent)

A row asks for a function `solve(numbers)` and shows two examples. The code runs in a sandbox of its own on further inputs;
the values that are expected never enter it.
"""

from __future__ import annotations

import json
import random
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from lllm.errors import SandboxError
from lllm.rl.environments.base import ShippedEnv, whole
from lllm.rl.environments.splits import Problem
from lllm.rl.rewards import reward
from lllm.session import Session

if TYPE_CHECKING:
    from lllm.rl.checking import Check

_FENCED: Final = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL)
_TESTS: Final = 8
_SHOWN: Final = 2

KEEPS: Final[Mapping[str, str]] = {
    # words: condition on x; {k} is a number
    "all the numbers": "True",
    "the even numbers": "x % 2 == 0",
    "the odd numbers": "x % 2 == 1",
    "the numbers greater than {k}": "x > {k}",
    "the numbers less than {k}": "x < {k}",
    "the numbers that {d} divides": "x % {d} == 0",
    "the negative numbers": "x < 0",
}
CHANGES: Final[Mapping[str, str]] = {
    "take them as they are": "x",
    "add {m} to each": "x + {m}",
    "multiply each by {d}": "x * {d}",
    "square each": "x * x",
    "take {m} minus each": "{m} - x",
    "take the absolute value of each": "abs(x)",
}
RESULTS: Final[Mapping[str, str]] = {
    "return their sum": "sum(found)",
    "return the largest, or 0 if there is none": "max(found, default=0)",
    "return the smallest, or 0 if there is none": "min(found, default=0)",
    "return how many different values there are": "len(set(found))",
    "return them as a list": "found",
    "return them as a list, sorted": "sorted(found)",
    "return them as a list, backwards": "found[::-1]",
    "return the last one, or 0 if there is none": "found[-1] if found else 0",
}


class Code(ShippedEnv):
    """Functions to write, tested in the sandbox. The reward is 1 where all tests pass.

    Options:
        tries: the number of replies that the policy has. After one that fails the examples, the next prompt has the problem.
        seconds: that the code may take on all tests.
    """

    name = "rl/code"
    max_turns = 12
    OPTIONS: ClassVar[Mapping[str, Any]] = {"tries": 1, "seconds": 10}

    def checked(self, options: dict[str, Any]) -> dict[str, Any]:
        """See ShippedEnv."""
        whole(options, "tries", 1, 10)
        whole(options, "seconds", 1, 600)
        return options

    def draw(self, rng: random.Random) -> Problem:
        """See ShippedEnv."""
        values = {"k": rng.randint(-5, 20), "d": rng.randint(2, 9), "m": rng.randint(1, 30)}
        parts = [rng.choice(list(table.items())) for table in (KEEPS, CHANGES, RESULTS)]
        keep, change, result = (words.format(**values) for words, _ in parts)
        condition, expression, value = (code.format(**values) for _, code in parts)
        code = f"def solve(numbers):\n    found = [{expression} for x in numbers if {condition}]\n    return {value}\n"
        inputs = [[rng.randint(-30, 60) for _ in range(rng.randint(3, 9))] for _ in range(_TESTS - 1)]
        inputs.append([])
        wanted = [_expected(condition, expression, value, one) for one in inputs]
        shown = "\n".join(
            f"solve({given}) == {there}"
            for given, there in zip(inputs[:_SHOWN], wanted[:_SHOWN], strict=True)
        )
        prompt = (
            f"Write a Python function solve(numbers) for a list of integers: of {keep}, {change}, and {result}.\n\n"
            f"Examples:\n{shown}\n\nReply with the code alone, in a code block."
        )
        row = {"prompt": prompt, "answer": f"```python\n{code}```", "inputs": inputs, "wanted": wanted}
        return Problem(code, row)

    async def acheck(self, *, first: int = 5, store: Any = None) -> Check:
        """See RLEnv; on fewer rows, since each is tested in a sandbox."""
        return await super().acheck(first=first, store=store)

    def setup(self) -> dict[str, Any]:
        """The state at the beginning."""
        return {"tries": self.options["tries"]}

    async def step(self, state: dict[str, Any], completion: str, inputs: Any, wanted: Any) -> str | None:
        """Returns the problem with a reply that fails, while tries are left; else None."""
        state["tries"] -= 1
        if state["tries"] <= 0:
            return None
        told, _ = await tried(completion, inputs[:_SHOWN], wanted[:_SHOWN], self.options["seconds"])
        return None if told is None else f"{told}\n\nReply with the whole code, mended."

    @reward
    async def passed(self, completion: str, inputs: Any, wanted: Any) -> float:
        """1 if the function passes all tests, else 0. Missing where the sandbox failed."""
        _, share = await tried(completion, inputs, wanted, self.options["seconds"])
        return float(share == 1)


def _expected(condition: str, expression: str, value: str, numbers: Sequence[int]) -> Any:
    """Returns the results of the reference. Its code consists of texts of this module, and is safe to run here."""
    code = f"[{expression} for x in numbers if {condition}]"
    found = eval(code, {"numbers": numbers, "abs": abs})  # noqa: S307
    return eval(value, {"found": found})  # noqa: S307


def code_in(text: str) -> str:
    """Returns the code of a reply: its last code block, else all of it."""
    found = _FENCED.findall(text)
    return str(found[-1] if found else text)


async def tried(
    completion: str, inputs: Sequence[Any], wanted: Sequence[Any], seconds: float
) -> tuple[str | None, float]:
    """Returns the problem with the code of a reply (None where there is none), and the share of tests that it passes.

    Raises SandboxError: the sandbox failed, and the code is not known to be the cause.
    """
    code = code_in(completion)
    if "solve" not in code:
        return "There is no function solve.", 0.0
    with Session.outside():
        text, results = await _ran(code, inputs, seconds)
        if (
            text == _DIED
        ):  # the code's doing, or the machine's? Whose it is shows where other code runs, and it fails again
            await _ran("def solve(numbers):\n    return 0\n", [[]], seconds, must=True)
            text, results = await _ran(code, inputs, seconds)
    if results is None:
        return text, 0.0
    pairs = list(zip(inputs, wanted, results, strict=True))
    wrong = [(given, there, found) for given, there, found in pairs if found != there]
    if not wrong:
        return None, 1.0
    given, there, found = wrong[0]
    return f"solve({given}) gives {found!r:.200}, and should give {there}.", 1 - len(wrong) / len(pairs)


_DIED: Final = "The code ended the process that it ran in."


async def _ran(
    code: str, inputs: Sequence[Any], seconds: float, *, must: bool = False
) -> tuple[str, list[Any] | None]:
    """Runs the function on each input in a new sandbox. Returns the results, or a problem and None. `must`: a problem is an
    error of the sandbox."""
    from lllm.sandbox import JupyterSession

    mark = secrets.token_hex(8)
    ask = _CALLS.format(inputs=json.dumps(inputs), mark=mark)
    async with JupyterSession("code", limits={"cell_seconds": seconds, "memory_bytes": 1 << 30}) as notebook:
        first = await notebook.arun_cell(notebook.append_code_cell(code))
        result = first if not first else await notebook.arun_cell(notebook.append_code_cell(ask))
    if result.status == "interrupted" or (must and not result):
        raise SandboxError(f"the sandbox did not run the code: {result.text[-300:]}")
    if result.status == "died":
        return _DIED, None
    line = next((one for one in reversed(result.text.splitlines()) if one.startswith(mark)), None)
    if not result or line is None:
        return f"The code failed:\n{result.text[-1000:]}", None
    try:
        values = json.loads(line.removeprefix(mark))
    except (ValueError, RecursionError):  # the code may print what it likes there
        return "The values cannot be read.", None
    return "", values if isinstance(values, list) and len(values) == len(inputs) else None


_CALLS: Final = """
import json as _json
def _value(given):
    try:
        return solve(given)
    except Exception as error:
        return f"{{type(error).__name__}}: {{error}}"
print("{mark}" + _json.dumps([_value(one) for one in _json.loads('{inputs}')], default=repr))
"""
