"""Steps in YAML: each form does what its Python does, and all that is wrong is said at once, with file and line."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import lllm
from lllm import MemoryLog, ScriptedBackend, build_agent, load_config, step
from lllm.config import read_config
from lllm.config.schemas import schema
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import ConfigError, LoopEnded, UnknownKeyError, UnknownNameError
from lllm.llm.build import check, examine
from lllm.llm.diagram import mermaid
from lllm.llm.overview import overview, tree
from lllm.registry import registry

KIT = '''\
from enum import Enum

tries = []


class Size(Enum):
    LONG = "long"


def clean(text: str) -> str:
    """Without spaces around it."""
    return text.strip()


def words(text: str) -> list:
    return text.split()


def count(text: str) -> int:
    return len(text.split())


def more(text: str) -> str:
    return text + "!"


def long(text: str) -> bool:
    return len(text) > 5


def size(text: str):
    return Size.LONG


def number(text: str) -> int:
    return 1


def fails(text: str) -> str:
    raise OSError("no disk")


def fails_once(text: str) -> str:
    tries.append(text)
    if len(tries) == 1:
        raise OSError("once")
    return text


def on_x(text: str) -> str:
    if text == "x":
        raise ValueError("x")
    return text


def together(found) -> str:
    return "|".join(map(str, found))


def both(a, b) -> str:
    return f"{a} and {b}"


class Thing:
    pass
'''


@pytest.fixture(autouse=True)
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("kit").mkdir()
    Path("kit/texts.py").write_text(KIT)
    Path("kit/broken.py").write_text("1 / 0\n")
    Path("kit/leaves.py").write_text("import sys\nsys.exit(3)\n")
    with registry.scope():
        yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "kit"]:
        del sys.modules[name]


AGENTS = """\
model: scripted
agent_configs:
  upper: {system_prompt: Shout.}
  asks: {prompt: "Say: {task}"}
"""


def model(request: Any) -> str:
    return str(request.messages[-1].text).upper()


def system_of(steps: str, **more: Any) -> Any:
    Path("a.yaml").write_text(f"name: made\n{AGENTS}steps:\n{steps}")
    return build_agent("a.yaml", model=ScriptedBackend(model), log_base=MemoryLog(), **more)


FORMS = [
    # the stages, what "a b" becomes
    ("- kit.texts:clean\n", "a b"),
    ("- upper\n", "A B"),
    ("- asks\n", "SAY: A B"),
    ("- upper\n- kit.texts:more\n", "A B!"),
    ("- [upper, kit.texts:more]\n- kit.texts:more\n", "A B!!"),
    ("- parallel: [upper, kit.texts:more]\n", ["A B", "a b!"]),
    ("- parallel: {x: upper, y: kit.texts:count}\n", {"x": "A B", "y": 2}),
    ("- parallel: {a: upper, b: kit.texts:more}\n- join: kit.texts:both\n", "A B and a b!"),
    ("- parallel: {a: kit.texts:fails, b: kit.texts:more}\n  errors: drop\n- join:\n", {"b": "a b!"}),
    ("- parallel: [upper]\n- join:\n", ["A B"]),
    ("- kit.texts:words\n- map: upper\n- join: kit.texts:together\n", "A|B"),
    ("- kit.texts:words\n- map: [upper, kit.texts:more]\n", ["A!", "B!"]),
    ("- kit.texts:words\n- map: {step: upper, limit: 1}\n", ["A", "B"]),
    ("- kit.texts:words\n- map: {parallel: [upper, kit.texts:more]}\n", [["A", "a!"], ["B", "b!"]]),
    ("- route: {choose: kit.texts:long, routes: {'true': upper}, default: kit.texts:more}\n", "a b!"),
    ("- route: {choose: kit.texts:long, routes: {'false': upper}}\n", "A B"),
    ("- route: {choose: kit.texts:size, routes: {long: upper}}\n", "A B"),
    ("- route: {choose: kit.texts:number, routes: {'1': upper}}\n", "A B"),
    ("- route: {choose: upper, routes: {A B: kit.texts:more}}\n", "a b!"),
    ("- loop: {step: kit.texts:more, until: kit.texts:long, times: 9}\n", "a b!!!"),
    ("- loop: {step: kit.texts:more, times: 2}\n", "a b!!"),
    ("- retry: {step: kit.texts:fails_once, on: OSError, times: 2}\n", "a b"),
    ("- retry: {step: kit.texts:fails_once, on: [ValueError, 'builtins:OSError'], wait: 0.001}\n", "a b"),
    ("- retry: upper\n", "A B"),
    ("- fallback: [kit.texts:fails, upper]\n", "A B"),
    ("- {step: upper, name: loud}\n", "A B"),
    ("- 'builtins:len'\n", 3),
]


@pytest.mark.parametrize(("steps", "result"), FORMS)
def test_each_form_does_what_it_says(steps: str, result: Any) -> None:
    assert system_of(steps)("a b") == result


@pytest.mark.parametrize("steps", [steps for steps, _ in FORMS])
def test_the_schema_allows_each_form(steps: str) -> None:
    system = system_of(steps)
    jsonschema.validate({"steps": system.config.get("steps")}, schema())


@pytest.mark.parametrize("steps", [steps for steps, _ in FORMS])
def test_each_form_has_a_diagram_and_a_tree(steps: str) -> None:
    system_of(steps)
    problems, team = examine(load_config("a.yaml"), model=ScriptedBackend(model))
    assert team is not None
    assert not [one for one in problems if one.severity == "error"]
    view = json.loads(json.dumps(overview(team)))
    drawn = mermaid(view)
    assert drawn.count("subgraph ") == len(re.findall(r"^ +end$", drawn, re.M))
    assert 'task(("task")) --> s1' in drawn
    assert tree(view).startswith("made\n└─ 1: ") or tree(view).startswith("made\n├─ 1: ")


def test_kept_errors_are_in_the_result() -> None:
    made = system_of("- kit.texts:words\n- map: {step: kit.texts:on_x, errors: keep}\n")
    found = made("a x")
    assert found[0] == "a"
    assert "ValueError: x" in found[1]["error"]


def test_a_loop_that_is_not_done_raises_where_it_says_so() -> None:
    made = system_of("- loop: {step: kit.texts:more, until: kit.texts:long, times: 1, at_most: raise}\n")
    with pytest.raises(LoopEnded):
        made("a")


def test_the_limit_of_a_map_holds() -> None:
    made = system_of("- kit.texts:words\n- map: {step: upper, limit: 3}\n")
    assert made.chain.stages[1].limit == 3


def test_it_is_an_ordinary_system() -> None:
    made = system_of("- kit.texts:clean\n- upper\n- {step: kit.texts:more, name: last}\n")
    assert made(" a ") == "A!"
    store = made.store
    id = store.sessions()[0].id
    events = [open_event(record) for record in store.read(id)]
    assert events[0]["data"]["entry"]["kind"] == "system"
    assert events[0]["data"]["entry"]["type"] == "steps"
    assert events[0]["data"]["name"] == "made"
    stages = [event["data"] for event in events if event["kind"] == ev.STAGE_STARTED]
    assert [(stage["stage"], stage["name"]) for stage in stages] == [
        ("1/1", "clean"),
        ("1/2", "upper"),
        ("1/3", "last"),
    ]
    assert lllm.replay_session(id, store=store).verified
    Path("a.yaml").write_text(Path("a.yaml").read_text().replace("kit.texts:clean", "kit.texts:more"))
    report = lllm.replay_session(id, store=store)
    assert not report.verified


def test_a_registered_step_and_a_profile() -> None:
    registry.add("step", "twice", step(lambda text: text * 2))
    Path("lllm.toml").write_text('[profiles.other]\nsteps = ["twice", "upper"]\n')
    Path("a.yaml").write_text(f"{AGENTS}start: asks\n")
    config = load_config("a.yaml", profile="other")
    assert build_agent(config, model=ScriptedBackend(model), log_base=MemoryLog())("ab") == "ABAB"
    with pytest.raises(UnknownKeyError):
        build_agent(config, model=ScriptedBackend(model), log_base=MemoryLog())("ab", loud=True)


def test_discovery_finds_steps() -> None:
    Path("lllm.toml").write_text('[discovery]\ntools = ["found"]\n')
    Path("found").mkdir()
    Path("found/mine.py").write_text(
        "from lllm import chain, step\n\n@step\ndef softly(text: str) -> str:\n    '''Says it softly.'''\n"
        "    return text.lower()\n\nplain = lambda text: text\nboth = step(plain) >> softly\n"
        "named = chain(softly, softly, name='softer')\n"
    )
    lllm.auto_discover(".")
    assert [entry.name for entry in registry.entries("step")] == [">>", "softer", "softly"]
    Path("a.yaml").write_text("steps: [softly, softer]\n")
    assert build_agent("a.yaml", log_base=MemoryLog())("HI") == "hi"


def test_interpolated_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANY", "3")
    monkeypatch.setenv("WHO", "upper")
    made = system_of("- loop:\n    step: ${WHO}\n    times: ${MANY}\n")
    assert made.chain.stages[0].times == 3
    assert made.chain.stages[0].step.name == "upper"


def test_a_part_called_like_a_secret_is_no_secret() -> None:
    made = system_of("- parallel: {token: upper, password: kit.texts:clean}\n")
    assert made("a") == {"token": "A", "password": "a"}
    assert not made.config.notes


# --- what is wrong

REFUSED = [
    # the stages (line 7 is the first), where, what is said
    ("[]", 6, "steps has no stages"),
    ("\n- uper", 7, "no agent or step named 'uper' (steps.0)\n  Did you mean 'upper'?"),
    ("\n- kit.texst:clean", 7, "no module named 'kit.texst' (steps.0)\n  Did you mean 'kit.texts'?"),
    ("\n- kt.texts:clean", 7, "no module named 'kt' (steps.0)\n  Did you mean 'kit'?"),
    ("\n- kit.texts:claen", 7, "no function of kit.texts named 'claen' (steps.0)\n  Did you mean 'clean'?"),
    ("\n- kit.texts.clean", 7, "A function is written kit.texts:clean."),
    ("\n- 'kit.texts:'", 7, "'kit.texts:' is no function (steps.0)\n  Write module:function"),
    ("\n- 'kit texts:a b'", 7, "is no function"),
    ("\n- kit.broken:f", 7, "ZeroDivisionError: division by zero (steps.0)"),
    ("\n- kit.leaves:f", 7, "SystemExit: 3 (steps.0)"),
    ("\n- kit.texts:Thing", 7, "the class Thing cannot be a stage of a chain (steps.0)"),
    ("\n- kit.texts:tries", 7, "list [] cannot be a stage of a chain (steps.0)"),
    ("\n- kit.texts:both", 7, "it is called with one value, and is both(a, b)"),
    ("\n- 5", 7, "steps.0 is 5 (a whole number); it wants a stage"),
    ("\n- true", 7, "steps.0 is true (a truth value); it wants a stage"),
    ("\n-", 7, "steps.0 is null (nothing); it wants a stage"),
    ("\n- ''", 7, "steps.0 is '' (text); it wants a stage"),
    ("\n- []", 7, "steps.0 is empty; it wants a stage"),
    ("\n- {}", 7, "steps.0 is empty; it wants a stage"),
    ("\n- [upper, [nope]]", 7, "no agent or step named 'nope' (steps.0.1.0)"),
    ("\n- paralel: [upper]", 7, "unknown key 'steps.0.paralel'\n  Did you mean 'parallel'?"),
    ("\n- map: upper\n  join: kit.texts:together", 7, "steps.0 is map and join at once"),
    ("\n- parallel: {}", 7, "steps.0.parallel is empty; it wants stages by name, or a list of stages"),
    ("\n- parallel: []", 7, "steps.0.parallel is empty; it wants stages by name, or a list of stages"),
    ("\n- parallel: upper", 7, "steps.0.parallel is 'upper' (text); it wants stages by name"),
    ("\n- parallel: {a/b: upper}", 7, "a branch cannot be called 'a/b' (steps.0.parallel)"),
    ("\n- parallel:\n    a: nope", 8, "no agent or step named 'nope' (steps.0.parallel.a)"),
    ("\n- parallel: [upper]\n  errors: ignore", 8, "it wants one of raise, keep, drop"),
    ("\n- parallel: [upper]\n  eror: keep", 8, "unknown key 'steps.0.eror'\n  Did you mean 'errors'?"),
    ("\n- join: upper", 7, "join takes a function of the results, and 'upper' is an agent (steps.0.join)"),
    ("\n- join: [kit.texts:both]", 7, "it wants module:function"),
    ("\n- map: {step: upper, limt: 2}", 7, "unknown key 'steps.0.map.limt'\n  Did you mean 'limit'?"),
    ("\n- map: {step: upper, limit: 0}", 7, "steps.0.map.limit is 0 (a whole number); it wants"),
    ("\n- map: {step: upper, limit: true}", 7, "steps.0.map.limit is true (a truth value)"),
    ("\n- map: {limit: 2}", 7, "map has no 'step' (steps.0.map)"),
    ("\n- map: 5", 7, "steps.0.map is 5 (a whole number); it wants keys and values"),
    ("\n- map: upper\n  limit: 3", 8, "Write map: {step: ..., limit: ...}."),
    ("\n- route: {routes: {a: upper}}", 7, "route has no 'choose' (steps.0.route)"),
    ("\n- route: {choose: upper}", 7, "route has no 'routes' (steps.0.route)"),
    ("\n- route: {choose: upper, routes: {}}", 7, "steps.0.route.routes is empty"),
    ("\n- route: {choose: upper, routes: [upper]}", 7, "it wants stages by what `choose` gives"),
    ("\n- loop: {step: upper}", 7, "loop has no 'times' (steps.0.loop)"),
    ("\n- loop: upper", 7, "steps.0.loop is 'upper' (text); it wants keys and values: step, until, times"),
    ("\n- loop: {step: upper, times: 2, at_most: stop}", 7, "it wants one of give, raise"),
    (
        "\n- budget: {step: upper}",
        7,
        "budget limits nothing (steps.0.budget)\n  Write budget: {step: ..., max_cost",
    ),
    ("\n- budget: upper", 7, "it wants keys and values: step, max_cost, max_tokens_total, max_model_calls"),
    ("[upper]\nbudget: 5", 7, "budget is 5 (a whole number); it wants keys and values: deadline, max_cost"),
    ("\n- to_csv: a.csv", 7, "sink, step, to_jsonl, to_parquet, to_sqlite"),
    (
        "\n- retry: {step: upper, on: OsError}",
        7,
        "no exception named 'OsError' (steps.0.retry.on)\n  Did you",
    ),
    ("\n- retry: {step: upper, on: 'kit.texts:Thing'}", 7, "is no class of exceptions"),
    ("\n- retry: {step: upper, on: KeyboardInterrupt}", 7, "no exception named 'KeyboardInterrupt'"),
    ("\n- retry: {step: upper, on: []}", 7, "it wants the name of an exception"),
    ("\n- retry: {step: upper, wait: -1}", 7, "it wants a number of seconds of 0 or more"),
    ("\n- retry: {step: upper, wait: .nan}", 7, "steps.0.retry.wait is nan"),
    ("\n- fallback: upper", 7, "steps.0.fallback is 'upper' (text); it wants a list of stages"),
    ("\n- fallback: []", 7, "steps.0.fallback is empty; it wants a list of stages"),
    ("\n- step: upper", 7, "step has no 'name' (steps.0)"),
    ("\n- map", 7, "To use map as a form: map: ..."),
    (
        "\n- kit.texts:count\n- upper",
        8,
        "stage 2 'upper' takes text, a prompt, a dialog or messages, and stage 1 'count' gives int (steps.1)",
    ),
    (
        "\n- parallel:\n    a:\n    - kit.texts:count\n    - upper",
        10,
        "stage 2 'upper' takes text, a prompt, a dialog or messages, and stage 1 'count' gives int",
    ),
    ("upper", 6, "steps is 'upper' (text); it wants a list of stages"),
    ("{a: upper}", 6, "it wants a list of stages"),
    ("\n- " + "[" * 60 + "upper" + "]" * 60, 7, "nested more than 50 deep"),
]


def said(text: str) -> list[str]:
    Path("a.yaml").write_text(text)
    loaded, problems = read_config("a.yaml", partly=True)
    found = [str(one) for one in problems]
    if loaded is not None:
        found += [str(one) for one in check(loaded, partly=bool(found))]
    return [one for one in dict.fromkeys(found) if one.startswith("error: ")]


@pytest.mark.parametrize(("steps", "line", "words"), REFUSED)
def test_what_is_wrong_is_said_with_its_line(steps: str, line: int, words: str) -> None:
    found = said(f"# \n{AGENTS}steps: {steps}\n")
    assert len(found) == 1, found
    assert found[0].startswith(f"error: a.yaml:{line}: "), found
    assert words in found[0]
    with pytest.raises(ConfigError) as raised:
        build_agent("a.yaml")
    assert words in str(raised.value)


def test_all_of_it_is_said_at_once() -> None:
    text = f"name: 5\n{AGENTS}  bad: {{temprature: 1}}\n  lost: {{system_prompt_path: nowhere}}\nsteps:\n"
    wanted = ["temprature", "nowhere", "name is 5"]
    for steps, _, words in REFUSED:
        if steps.startswith("\n- ") and "\n- " not in steps[1:]:
            text += steps[1:] + "\n"
            wanted.append(re.escape(words).replace("steps\\.0", r"steps\.\d+"))
    found = said(text)
    for words in wanted:
        assert any(re.search(words, one) for one in found), words


def test_a_key_that_is_no_text() -> None:
    found = said(f"{AGENTS}steps:\n- route: {{choose: upper, routes: {{true: upper}}}}\n")
    assert found[0] == "error: a.yaml:6: a key is text; got true\n  Put it in quotes: 'true'"


def test_the_first_stage_takes_a_text() -> None:
    found = said(f"{AGENTS}steps: ['kit.texts:together', {{join: }}]\n")
    assert not found
    Path("kit/numbers.py").write_text("def half(number: int) -> float:\n    return number / 2\n")
    assert (
        "stage 1 'half' takes int, and is given the task, which is a text"
        in said("steps: ['kit.numbers:half']\n")[0]
    )
    found = said("model: scripted\nagent_configs:\n  a: {prompt: '{x} of {y}'}\nsteps: [a]\n")
    assert "the agent 'a' is given the task only" in found[0]
    assert found[0].startswith("error: a.yaml:4: ")


def test_steps_beside_another_way_to_say_it() -> None:
    assert "say the same thing in two ways" in said(f"{AGENTS}start: upper\nsteps: [upper]\n")[0]

    class Own(lllm.AgentBase):
        agent_type = "own"

    found = said(f"{AGENTS}agent_type: own\nsteps: [upper]\n")
    assert "the system 'own' has code of its own, so steps have no effect" in found[0]
    assert "steps has no stages" in said(f"{AGENTS}agent_type: steps\n")[0]


def test_a_name_that_two_things_have() -> None:
    registry.add("step", "upper", step(str.upper))
    assert "'upper' is an agent of this file and a registered step" in said(f"{AGENTS}steps: [upper]\n")[0]


def test_an_agent_that_nothing_reaches_is_warned_of() -> None:
    Path("a.yaml").write_text(f"{AGENTS}steps: [upper]\n")
    found = [str(one) for one in check(load_config("a.yaml"))]
    assert found == [
        "warning: a.yaml:4: nothing reaches the agent 'asks' (agent_configs.asks)\n"
        "  Name it in steps:, or in tools: or handoffs: of another, or remove it."
    ]


def test_a_mapping_of_a_program() -> None:
    with pytest.raises(ConfigError, match="it wants a stage"):
        build_agent({"steps": [str.upper]}, log_base=MemoryLog())
    assert build_agent({"steps": ("builtins:len",)}, log_base=MemoryLog())("abc") == 3
    with pytest.raises(UnknownNameError, match="no agent or step named 'x'"):
        build_agent({"steps": ["x"]}, log_base=MemoryLog())
