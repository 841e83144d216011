"""The system, with a model that reads from a script: no key, no network, the same every time. The code really runs."""

import json
from pathlib import Path

from lllm import FunctionCall, MemoryLog, ScriptedBackend, build_agent

ROOT = Path(__file__).resolve().parents[1]
CODE = """\
import csv
sums = {}
for row in csv.DictReader(open("data/orders.csv")):
    sums[row["customer"]] = sums.get(row["customer"], 0) + float(row["amount"])
best = max(sums, key=sums.get)
with open("best.txt", "w") as file:
    file.write(best)
print(best, sums[best])"""


def solve(tmp_path, *replies, **settings):
    """Runs the system on these replies of a model. Returns it, its answer, and the model."""
    model = ScriptedBackend(list(replies))
    settings = {"sandbox.dir": str(tmp_path), **settings}
    config = ROOT / "config" / "%%name%%" / "default.yaml"
    system = build_agent(config, model=model, log_base=MemoryLog(), overrides=settings)
    return system, system("Which customer spent the most?"), model


def test_it_runs_code_and_leaves_a_notebook(tmp_path):
    call = FunctionCall("", "python", json.dumps({"code": CODE}))
    system, answer, model = solve(tmp_path, call, "Cy did: 310.25.")
    assert answer == "Cy did: 310.25."
    assert (
        "Cy 310.25" in model.requests[1].messages[-1].text
    )  # what the cell printed, on its way to the model
    folder = tmp_path / system.session.id
    assert (folder / "files" / "best.txt").read_text() == "Cy"
    [cell] = json.loads((folder / "coder.ipynb").read_text())["cells"]
    assert "".join(cell["source"]) == CODE


def test_a_model_may_write_code_in_its_text(tmp_path):
    _, answer, model = solve(
        tmp_path, f"I sum them up.\n```python\n{CODE}\n```", "Cy did.", tool_style="code"
    )
    assert answer == "Cy did."
    assert model.requests[1].messages[-1].text.startswith("Output:\nCy 310.25")
