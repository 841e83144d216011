"""Five tasks with files, and for each a model that solves it step by step, from what it has seen.

This module is also copied into the projects of the tests, where it is the backend `policy`.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lllm import FunctionCall, ScriptedBackend
from lllm.registry import registry

Policy = Callable[[int, str], "Python | Shell | str"]
"""What a model does next: for the number of steps before, and the text of the last result."""


class Python(NamedTuple):
    code: str


class Shell(NamedTuple):
    command: str


class Task(NamedTuple):
    words: str
    files: Mapping[str, str]
    policy: Policy


# --- a table is cleaned and summed up

SALES = """\
date, region ,amount
2026-01-03, North,"1,200.50"
2026-01-03, North,"1,200.50"
2026-01-04,south ,300
2026-01-05,SOUTH,
2026-01-06,north,99.5
,west,10
2026-01-09,West,0.25
"""


def clean(step: int, seen: str) -> Python | Shell | str:
    if step == 0:
        return Shell("ls -l data; head -n 3 data/sales.csv")
    if step == 1:
        assert "date, region ,amount" in seen
        return Python(
            """import csv, json
with open("data/sales.csv", newline="") as file:
    raw = [[cell.strip() for cell in row] for row in csv.reader(file)]
head, rows = raw[0], []
for date, region, amount in raw[1:]:
    row = (date, region.lower(), amount.replace(",", ""))
    if all(row) and row not in rows:
        rows.append(row)
print(len(raw) - 1, "rows,", len(rows), "are good")"""
        )
    if step == 2:
        assert "7 rows, 4 are good" in seen
        return Python(
            """with open("clean.csv", "w", newline="") as file:
    csv.writer(file).writerows([head, *rows])
totals = {}
for date, region, amount in rows:
    totals[region] = totals.get(region, 0) + float(amount)
with open("summary.json", "w") as file:
    json.dump({"rows": len(rows), "totals": totals}, file, indent=1)"""
        )
    if step == 3:
        return Python(
            """again = list(csv.DictReader(open("clean.csv")))
assert len(again) == len(rows)
assert abs(sum(float(row["amount"]) for row in again) - sum(totals.values())) < 1e-9
print("verified", totals)"""
        )
    assert "verified" in seen
    return "4 of 7 rows are good. They are in clean.csv, and the totals by region in summary.json."


# --- two tables are joined, and outliers found


def orders() -> dict[str, str]:
    drawn = random.Random(5)
    lines = ["order,customer,amount"]
    lines += [f"{n},{n % 7},{round(drawn.gauss(100, 5), 2)}" for n in range(60)]
    lines[20], lines[41] = "19,5,970.5", "40,5,3.25"
    people = ["id,name", *(f"{n},{name}" for n, name in enumerate(("Ann", "Bo", "Cy", "Di", "Ed", "Flo")))]
    return {"orders.csv": "\n".join(lines) + "\n", "customers.csv": "\n".join(people) + "\n"}


def join(step: int, seen: str) -> Python | Shell | str:
    if step == 0:
        return Python(
            """import csv
orders = list(csv.DictReader(open("data/orders.csv")))
names = {row["id"]: row["name"] for row in csv.DictReader(open("data/customers.csv"))}
print(len(orders), "orders,", sorted({row["customer"] for row in orders} - names.keys()), "have no name")"""
        )
    if step == 1:
        assert "60 orders, ['6'] have no name" in seen
        return Python(
            """from statistics import median
amounts = [float(row["amount"]) for row in orders]
middle = median(amounts)
spread = median(abs(amount - middle) for amount in amounts)
out = [
    {"order": row["order"], "name": names.get(row["customer"], "unknown"), "amount": row["amount"]}
    for row in orders if abs(float(row["amount"]) - middle) > 10 * spread
]
out"""
        )
    if step == 2:
        assert "970.5" in seen
        return Python(
            """with open("outliers.csv", "w", newline="") as file:
    writer = csv.DictWriter(file, ["order", "name", "amount"])
    writer.writeheader()
    writer.writerows(out)
with open("report.md", "w") as file:
    print(f"# Outliers\\n\\n{len(out)} of {len(orders)} orders, around {middle:.2f}.", file=file)
!cat report.md"""
        )
    assert "report.md" in seen
    return "Two orders of Flo are outliers: outliers.csv, with a report in report.md."


# --- a log becomes JSON; the first attempt fails, and its traceback says why


def log(missing: str) -> str:
    lines = []
    for n in range(40):
        took = missing if n % 9 == 4 else str(n * 3)
        lines.append(f"2026-11-30T10:00:{n:02d} {'ERROR' if n % 10 == 0 else 'INFO'} GET /item/{n} {took}")
        if n % 20 == 0:
            lines += ["  Traceback (most recent call last):", "  KeyError: 'x'"]
    return "\n".join(lines) + "\n"


PARSE = """import json
events = []
for line in open("data/server.log"):
    if line.startswith(" "):
        events[-1].setdefault("trace", []).append(line.strip())
        continue
    time, level, method, path, took = line.split()
    events.append({"time": time, "level": level, "path": path, "ms": {MS}})
print(len(events), "events")"""


def parse(step: int, seen: str) -> Python | Shell | str:
    if step == 0:
        return Python(PARSE.replace("{MS}", "int(took)"))
    if step == 1:
        found = re.search(r"invalid literal for int\(\) with base 10: ('[^']*')", seen)
        assert found is not None, seen
        assert "Cell In[1], line 8" in seen
        return Python(PARSE.replace("{MS}", f"None if took == {found[1]} else int(took)"))
    if step == 2:
        assert "40 events" in seen, seen
        return Python(
            """from collections import Counter
levels = Counter(event["level"] for event in events)
with open("events.json", "w") as file:
    json.dump({"levels": levels, "events": events}, file)
assert json.load(open("events.json"))["levels"] == dict(levels)
levels"""
        )
    return f"40 events, in events.json. {seen.splitlines()[0]}"


# --- a line is fitted and plotted


def points() -> str:
    drawn = random.Random(3)
    return "x,y\n" + "".join(f"{x},{2.5 * x + 1 + drawn.gauss(0, 0.2):.4f}\n" for x in range(30))


def fit(step: int, seen: str) -> Python | Shell | str:
    if step == 0:
        return Python(
            """import json
import numpy as np
x, y = np.loadtxt("data/points.csv", delimiter=",", skiprows=1, unpack=True)
slope, intercept = np.polyfit(x, y, 1)
print(len(x), "points:", round(slope, 2), round(intercept, 2))"""
        )
    if step == 1:
        assert "30 points: 2.49" in seen
        return Python(
            """import matplotlib.pyplot as plt
figure, axes = plt.subplots(figsize=(6, 4), dpi=100)
axes.plot(x, y, "o", color="blue")
axes.plot(x, slope * x + intercept, color="red", linewidth=3)
axes.set_xlabel("x")
figure.savefig("fit.png")
with open("fit.json", "w") as file:
    json.dump({"slope": float(slope), "intercept": float(intercept)}, file)"""
        )
    if step == 2:
        return Python(
            """residuals = y - (slope * x + intercept)
assert abs(residuals).max() < 1
print("the largest residual is", round(float(abs(residuals).max()), 3))"""
        )
    assert "the largest residual is 0." in seen
    return "The slope is 2.49: fit.json and fit.png."


# --- a program with tests, which fail at first

ROMAN = """def roman(number):
    out = ""
    for value, letters in [{TABLE}]:
        while number >= value:
            out, number = out + letters, number - value
    return out
"""
SIMPLE = '(10, "X"), (5, "V"), (1, "I")'
FULL = '(10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")'
TESTS = """import unittest
from roman import roman

class Roman(unittest.TestCase):
    def test_ones(self):
        self.assertEqual([roman(n) for n in (1, 3)], ["I", "III"])
    def test_four_and_nine(self):
        self.assertEqual(roman(4), "IV")
        self.assertEqual(roman(9), "IX")
    def test_tens(self):
        self.assertEqual(roman(38), "XXXVIII")
"""

REPEATABLE = """sed -E 's, in [0-9.]+s,,; s,File "/.*/,File ",'"""
"""Takes times, and the folder that has another name in each sandbox of the tier `process`, out of a report: a cell that runs
again must write the same."""


def program(step: int, seen: str) -> Python | Shell | str:
    if step == 0:
        return Shell(
            f"cat > roman.py <<'END'\n{ROMAN.replace('{TABLE}', SIMPLE)}END\n"
            f"cat > test_roman.py <<'END'\n{TESTS}END\nls *.py"
        )
    if step == 1:
        assert "test_roman.py" in seen
        return Shell(f"python -m unittest 2>&1 | {REPEATABLE} | tee report.txt | tail -n 20")
    if step == 2:
        assert "'IIII' != 'IV'" in seen, seen
        return Python(
            f"""%%writefile roman.py
{ROMAN.replace("{TABLE}", FULL)}"""
        )
    if step == 3:
        return Shell(f"python -m unittest 2>&1 | {REPEATABLE} | tee report.txt")
    assert "Ran 3 tests" in seen
    assert "OK" in seen
    return "roman.py passes its three tests."


def tasks(missing: str = "n/a") -> dict[str, Task]:
    """The tasks by name. `missing`: what the log has where a time is not known."""
    return {
        "clean": Task("Clean the sales and sum them up by region.", {"sales.csv": SALES}, clean),
        "join": Task("Which orders are outliers, and whose?", orders(), join),
        "parse": Task("Make JSON of the server's log.", {"server.log": log(missing)}, parse),
        "fit": Task("Fit a line to the points, and plot it.", {"points.csv": points()}, fit),
        "program": Task("Write roman.py with tests.", {"README": "Roman numbers.\n"}, program),
    }


# --- the models


def steps_of(messages: Sequence[Any]) -> list[Any]:
    """The results that a model has seen."""
    return [message for message in messages if message.role == "tool" or message.text.startswith("Output:")]


class Model:
    """A policy as the replies of a model, in one of the two styles. When a result says that variables are gone, the cells
    before run again at first, as one."""

    def __init__(self, style: str, policies: Mapping[str, Policy] | None = None) -> None:
        self.style = style
        self.policies = policies or {task.words: task.policy for task in tasks().values()}
        self.done: list[str] = []
        self.repaired = 0

    def __call__(self, request: Any) -> Any:
        words = next(message.text for message in request.messages if message.role == "user")
        seen = steps_of(request.messages)
        before(len(seen))
        policy = self.policies[words]
        at = 0
        ran: list[str] = []
        again = False
        last = ""
        for result in seen:
            text = result.text.removeprefix("Output:\n")
            if again:
                again = False
            else:
                step = policy(at, last)
                assert not isinstance(step, str)
                if isinstance(step, Python) and "Error" not in text:
                    ran.append(step.code)
                at, last = at + 1, text
            if "variables are gone" in text and isinstance(policy(at, last) if at else "", Python) and ran:
                again = True
        if again:
            return self._said(Python("\n".join(code for code in ran if not code.startswith("%%"))))
        return self._said(policy(at, last))

    def _said(self, step: Python | Shell | str) -> Any:
        if isinstance(step, str):
            return step
        if self.style == "code":
            label = "python" if isinstance(step, Python) else "bash"
            return f"I go on.\n\n```{label}\n{step[0]}\n```"
        name, key = ("python", "code") if isinstance(step, Python) else ("shell", "command")
        return FunctionCall("", name, json.dumps({key: step[0]}))


def before(step: int) -> None:
    """What happens before a step: in a test that kills the program, its death, once."""
    if os.environ.get("DIES_AT") == str(step) and not Path("died").exists():
        Path("died").touch()
        os.kill(os.getpid(), signal.SIGKILL)


def install() -> None:
    """Registers the backend, with its styles as models."""
    registry.add("backend", "policy", lambda **options: ScriptedBackend(lambda request: MODEL(request)))


MODEL = Model(os.environ.get("STYLE", "tools"))
