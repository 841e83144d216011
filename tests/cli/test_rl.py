"""`lllm rl`, and environments in `lllm list`, `lllm check` and `lllm schema`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from tests.cli.conftest import Terminal
from tests.rl.project import QUESTIONS, make_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(make_project(tmp_path / "project"))
    return tmp_path / "project"


def test_environments_of_a_project_are_listed(lllm: Terminal, project: Path) -> None:
    rows = {row["name"]: row for row in lllm("list", "environments", "--json").json}
    own = {name: row["source"] for name, row in rows.items() if row["source"].startswith("envs/")}
    assert own == {
        "rl/needy": "envs/sums.py:34",
        "rl/products": "envs/sums.py:23",
        "rl/questions": "envs/questions.yaml:1",
        "sums": "envs/sums.py:20",
    }
    assert rows["rl/products"]["summary"] == "Multiplications."
    assert rows["rl/questions"]["summary"] == "Questions from a file."
    assert "rl/arithmetic" in rows


def test_rows_rewards_and_tools_are_listed(lllm: Terminal, project: Path) -> None:
    rows = {row["name"]: row for row in lllm("rl", "--json").json}
    assert rows["rl/questions"]["rows"] == 2
    assert rows["rl/questions"]["rewards"] == [
        {"name": "right", "weight": 1.0},
        {"name": "brief", "weight": 0.2},
        {"name": "hard", "weight": 1.0},
    ]
    assert rows["rl/arithmetic"]["tools"] == ["calculate"]
    assert "needs arguments (size)" in rows["rl/needy"]["problem"]
    assert "rl/questions" in lllm("rl").out


def test_a_model_is_tried_and_its_rollouts_scored_again(lllm: Terminal, project: Path) -> None:
    made = lllm("rl", "run", "sums", "--model", "embedded", "--samples", "2", "--first", "3", "--json")
    told = made.json
    assert (told["environment"], told["policy"], told["rollouts"]) == ("sums", "embedded", 6)
    assert [(one["row"], one["sample"]) for one in told["sessions"]] == [
        (row, sample) for row in range(3) for sample in range(2)
    ]
    again = lllm("rl", "score", "sums", "--json").json
    assert again["sessions"] == told["sessions"]
    other = 'from lllm.rl.named import environment; environment("sums")("embedded", "What is 40 plus 1?")'
    subprocess.run([sys.executable, "-c", other], check=True, cwd=project)  # a row that it does not have
    assert lllm("rl", "score", "sums", "--last", "--json").json["sessions"] == told["sessions"]
    one = told["sessions"][3]
    alone = lllm("rl", "score", "sums", one["session"], "--json").json
    assert alone["sessions"] == [one]


def test_a_run_goes_on(lllm: Terminal, project: Path) -> None:
    first = lllm("rl", "run", "sums", "--model", "embedded", "--first", "2", "--run", "monday", "--json").json
    more = lllm("rl", "run", "sums", "--model", "embedded", "--first", "4", "--run", "monday", "--json").json
    assert more["sessions"][:2] == first["sessions"]
    assert len(more["sessions"]) == 4


def test_an_agent_is_tried_as_it_is_deployed(lllm: Terminal, project: Path) -> None:
    (project / "system.yaml").write_text(
        "agent_configs:\n  sums:\n    model_name: embedded\n    system_prompt: Answer in one word.\n"
    )
    told = lllm("rl", "run", "sums", "--agent", "sums", "-c", "system.yaml", "--first", "1", "--json").json
    assert told["policy"] == "sums"
    shown = lllm("show", told["sessions"][0]["session"], "--full").out
    assert "Answer in one word." in shown
    assert "no agent named 'sun'" in lllm("rl", "run", "sums", "--agent", "sun").err


def test_rewards_are_checked(lllm: Terminal, project: Path) -> None:
    found = lllm("rl", "check", "rl/questions", "--json")
    assert found.code == 2
    told = json.loads(found.out)
    assert told["means"]["reference"] == pytest.approx(1.0 + 0.2 + 0.5)
    assert any("all the answers" in one for one in told["problems"])
    assert lllm("rl", "check", "rl/arithmetic", "--first", "5").code == 0


def test_unknown_names_have_near_ones(lllm: Terminal, project: Path) -> None:
    said = lllm("rl", "check", "rl/question").err
    assert said.count("Did you mean 'rl/questions'?") == 1
    assert "there are no rollouts of 'rl/products'" in lllm("rl", "score", "rl/products").err
    assert "has no splits" in lllm("rl", "run", "sums", "--split", "held_out").err


def test_check_lists_what_is_wrong_with_lines(lllm: Terminal, project: Path) -> None:
    (project / "envs" / "sums.py").write_text(
        (project / "envs" / "sums.py").read_text().partition("class Needy")[0]
    )
    assert lllm("check").code == 0
    (project / "envs" / "bad.yaml").write_text(
        "rewards:\n"
        "  - envs.sums:rigth\n"
        "  - {function: envs.sums:right, wieght: 2}\n"
        "  - {function: envs.sums:short, weight: heavy}\n"
        "  - envs.sums:hard\n"
        "  - envs.sums:right\n"
        "max_turns: 0\n"
        "datasets: x\n"
        "dataset: questions.jsonl\n"
        "columns: {prompt: questio}\n"
        "limits: {score: -1}\n"
        "tools: [nothing]\n"
        "step: envs.sums:sums.nothing\n"
    )
    (project / "envs" / "unbound.py").write_text(
        "from lllm.rl import RLEnv\n\n\ndef odd(completion, wrong):\n    return 0\n\n\n"
        "class Odd(RLEnv):\n    dataset = [{'prompt': 'x'}]\n    rewards = (odd,)\n"
    )
    found = lllm("check", "--json")
    assert found.code == 2
    problems = {(one["file"], one["line"]): one["message"] for one in json.loads(found.out)["problems"]}
    assert len(problems) == len(json.loads(found.out)["problems"])
    expected = {
        2: "rigth",
        3: "wieght",
        4: "weight is 'heavy'",
        7: "max_turns is 0",
        8: "datasets",
        9: "no column 'questio'",
        11: "limits.score is -1",
        12: "nothing",
        13: "nothing",
    }
    for line, words in expected.items():
        assert words in problems["envs/bad.yaml", line], line
    assert "'odd' has the parameter 'wrong'" in problems["envs/unbound.py", 8]
    assert len(problems) == len(expected) + 1


def test_a_reward_that_wants_what_there_is_not_is_named_with_its_line(lllm: Terminal, project: Path) -> None:
    (project / "envs" / "more.yaml").write_text(
        "rewards:\n  - envs.sums:right\n  - envs.sums:hard\ndataset: envs.sums:ROWS\n"
    )
    said = lllm("rl", "check", "more").err
    assert (
        "envs/more.yaml:3: rewards have parameters that nothing provides: 'hard' has the parameter 'level'"
        in said
    )


def test_the_schema_takes_what_is_right(lllm: Terminal, project: Path) -> None:
    schema = lllm("schema", "--environment").json
    good = yaml.safe_load(QUESTIONS)
    jsonschema_rs.validate(schema, good)
    for wrong in ({"max_turns": 0}, {"reward": []}, {"rewards": [{"weight": 1}]}, {"cut": "off"}):
        with pytest.raises(jsonschema_rs.ValidationError):
            jsonschema_rs.validate(schema, {**good, **wrong})
    train = lllm("schema", "--train").json
    jsonschema_rs.validate(train, {"environment": "rl/x", "config": {"max_steps": 3}, "lora": {"r": 8}})
    assert "choose one" in lllm("schema", "--train", "--toml").err


def test_rollouts_are_replayed_from_the_command_line(lllm: Terminal, project: Path) -> None:
    (project / "system.yaml").write_text(
        "agent_configs:\n  sums: {model_name: embedded, system_prompt: Answer.}\n"
    )
    ways = (
        ("sums", "--model", "embedded", "--temperature", "0.7", "--samples", "2", "--first", "2"),
        ("sums", "--agent", "sums", "-c", "system.yaml", "--run", "monday", "--first", "2"),
        ("rl/arithmetic", "--model", "embedded", "--split", "held_out", "--first", "2"),
        ("rl/questions", "--model", "embedded"),
    )
    for words in ways:
        made = lllm("rl", "run", *words, "--json").json
        kids = {one["session"] for one in made["sessions"]}
        parent = next(one["session"] for one in lllm("sessions", "--json").json if one["session"] not in kids)
        for session in (parent, made["sessions"][1]["session"]):
            found = lllm("replay", session, "--json")
            assert found.code == 0, (words, session, found.out, found.err)
            assert found.json["verified"], (words, session)
            assert found.json["whole"], (words, session)

    for file in (project / "envs").iterdir():
        if file.is_file():
            file.unlink()
    found = lllm("replay", made["sessions"][1]["session"], "--json").json  # of questions, which are gone
    assert (found["verified"], found["whole"]) == (True, False)


def test_a_killed_run_is_resumed_and_forked_from_the_command_line(lllm: Terminal, project: Path) -> None:
    words = [sys.executable, "-m", "lllm", "rl", "run", "rl/arithmetic", "--model", "embedded"]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [*words, "--first", "200", "--limit", "1", "--json"], env=environ, stdout=subprocess.DEVNULL
    )
    ended: list[str] = []
    while len(ended) < 3:
        assert process.poll() is None
        time.sleep(0.05)
        if (project / ".lllm").exists():
            ended = [one["session"] for one in lllm("sessions", "--json").json if one["status"] == "done"]
    process.kill()
    process.wait()
    rows = {one["session"]: one for one in lllm("sessions", "--json").json}
    batch = min(rows, key=len)
    assert rows[batch]["status"] == "interrupted"
    before = {id: lllm("show", id, "--events", "--json").out for id in ended}
    found = lllm("resume", batch, "--json")
    assert found.code == 0, found.err
    assert found.json["result"]["rollouts"] == 200
    assert {id: lllm("show", id, "--events", "--json").out for id in ended} == before
    assert lllm("replay", batch, "--json").json["verified"]
    forked = lllm("fork", batch, "--json")
    assert forked.code == 0, forked.err


MORE = """
from lllm.rl import RLEnv


def noisy(completion):
    print("noise of the project")
    return 1


def endless():
    n = 0
    while True:
        yield {"prompt": f"What is {n} plus 1?", "answer": str(n + 1)}
        n += 1


class Mislaid(RLEnv):
    dataset = [{"prompt": "x"}, {"answer": "no prompt"}]
    rewards = (noisy,)


without_end = RLEnv(endless(), [noisy], name="without_end")
slow = RLEnv([{"prompt": "x"}], [noisy], setup=lambda: 1 / 0, name="slow")
"""


def test_rows_without_an_end_are_listed_tried_and_scored(lllm: Terminal, project: Path) -> None:
    (project / "envs" / "more.py").write_text(MORE)
    rows = {row["name"]: row for row in lllm("rl", "--json").json}
    assert rows["without_end"]["rows"] is None
    assert rows["sums"]["rows"] == 5
    assert "row 1 of the dataset has neither" in rows["Mislaid"]["problem"]
    made = lllm("rl", "run", "without_end", "--model", "embedded", "--first", "2", "--json").json
    assert lllm("rl", "score", "without_end", "--json").json["sessions"] == made["sessions"]
    assert lllm("rl", "check", "without_end", "--first", "3", "--json").json["rows"] == 3


def test_json_is_all_there_is_on_stdout(lllm: Terminal, project: Path) -> None:
    (project / "envs" / "more.py").write_text(MORE)
    for words in (("run", "--model", "embedded", "--first", "1"), ("check", "--first", "2"), ("score",)):
        done = lllm("rl", words[0], "without_end", *words[1:], "--json")
        assert json.loads(done.out)
        assert "noise of the project" in done.err


def test_why_rollouts_are_missing_is_said(lllm: Terminal, project: Path) -> None:
    (project / "envs" / "more.py").write_text(MORE)
    done = lllm("rl", "run", "slow", "--model", "embedded")
    assert "not done: 1 setup" in done.out
    assert "setup: setup raised ZeroDivisionError: division by zero" in done.err


def test_check_reads_each_row(lllm: Terminal, project: Path) -> None:
    (project / "envs" / "questions.jsonl").write_text(
        '{"question": "a", "solution": "b", "level": 1}\n{"question": \n'
    )
    (project / "envs" / "more.py").write_text(MORE)
    found = [one["message"] for one in json.loads(lllm("check", "--json").out)["problems"]]
    assert any("questions.jsonl, line 2, is not JSON" in one for one in found)
    assert any("row 1 of the dataset has neither" in one for one in found)


def test_a_session_that_is_gone_on_with_is_the_batch(lllm: Terminal, project: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "lllm",
        "rl",
        "run",
        "rl/arithmetic",
        "--model",
        "embedded",
        "--run",
        "monday",
    ]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [*words, "--first", "200", "--limit", "1"], env=environ, stdout=subprocess.DEVNULL
    )
    ended: list[str] = []
    while len(ended) < 3:
        assert process.poll() is None
        time.sleep(0.05)
        if (project / ".lllm").exists():
            ended = [one["session"] for one in lllm("sessions", "--json").json if one["status"] == "done"]
    process.kill()
    process.wait()
    done = lllm("resume")
    assert done.code == 0, done.err
    assert "-arithmetic-" in done.err.partition("going on with ")[2].split()[0]
    assert done.err.count("Interrupted were also") == 0
