"""R33, T40: an environment that lacks one engine's packages works with the others, and names the extra that is missing.

The packages are hidden from the import system of a new process, before anything of ours is imported: what is left is what
an environment without them has.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from training.embedded.forms import Forms

HIDING = """
import json, sys
from importlib.machinery import PathFinder

hidden, names = set(sys.argv[1].split(",")), sys.argv[2:]
find = PathFinder.find_spec
hide = lambda name, *more: None if name.partition(".")[0] in hidden else find(name, *more)
PathFinder.find_spec = staticmethod(hide)  # it is called on the class, and on instances

"""
ASKING = """
from lllm import LLM
from lllm.errors import DependencyError

told = {}
for name in names:
    try:
        told[name] = LLM(name, temperature=0, max_tokens=4)("Hello, world!").content
    except DependencyError as error:
        told[name] = f"{error.extra}: {error}"
print(json.dumps(told))
"""

CHOOSING = """
from lllm import LLMRunnerFactory

both = {"backend": ["llama_cpp", "transformers"], "model_path": names[0], "temperature": 0, "max_tokens": 4}
runner = LLMRunnerFactory.create_runner(both)
said = runner.generate_text("Hello, world!")
print(json.dumps([runner.name, said, runner.get_model_info()["passed_over"]]))
"""

LLAMA = ("xllamacpp", "llama_cpp")
TORCH = ("torch", "transformers", "accelerate", "llguidance")


CASES = [
    # what is hidden: what answers, and what names its extra
    (("xllamacpp",), ("embedded", "llama_cpp"), ()),
    (LLAMA, ("embedded", "transformers"), ("llama_cpp",)),
    (TORCH, ("embedded", "llama_cpp"), ("transformers",)),
    ((*LLAMA, *TORCH), (), ("embedded", "llama_cpp", "transformers")),
]
EXTRA = {"embedded": "local", "llama_cpp": "local", "transformers": "transformers"}


def play(program: str, hidden: tuple[str, ...], *names: str) -> Any:
    """What a program says in a process without these packages."""
    done = subprocess.run(
        [sys.executable, "-c", HIDING + program, ",".join(hidden), *names],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("hidden", "works", "lacks"), CASES, ids=["one engine", "torch alone", "llama.cpp alone", "nothing"]
)
def test_what_is_there_works_and_what_is_not_names_its_extra(
    hidden: tuple[str, ...], works: tuple[str, ...], lacks: tuple[str, ...], forms: Forms
) -> None:
    names = {name: name if name == "embedded" else f"{name}/{forms.gguf_q8}" for name in (*works, *lacks)}
    told = play(ASKING, hidden, *names.values())
    for backend in works:
        assert told[names[backend]].startswith("Hello"), told
    for backend in lacks:
        words = told[names[backend]]
        assert words.startswith(f"{EXTRA[backend]}: "), words
        assert f"The extra lllm[{EXTRA[backend]}] brings it. Type: pip install " in words


def test_the_next_backend_answers_and_it_says_so(forms: Forms) -> None:
    name, said, passed_over = play(CHOOSING, LLAMA, str(forms.gguf_q8))
    assert name == "transformers"
    assert said.startswith("Hello")
    assert passed_over == ["the backend 'llama_cpp' needs the package 'xllamacpp', which is not installed"]
